//! The catalog file and the lock of the data directory.
//!
//! In: [`CatalogData`]. Out: `<directory>/catalog.json`, replaced whole: written beside, synced, renamed, directory
//! synced. Invariant: after a crash the file is the old or the new catalog, never a part of one.
//! Deliberately absent: history; the transactional store brings its own log.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use squilla_core::error::{Error, Kind, Result};

use super::data::{CatalogData, FORMAT};

const FILE: &str = "catalog.json";
const LOCK: &str = "squilla.pid";

/// Creates the data directory, readable by its owner only.
pub fn create_directory(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|e| Error::io(format!("could not create the data directory \"{}\"", directory.display()), e))
}

/// The catalog on disk; None when there is none yet.
pub fn load(directory: &Path) -> Result<Option<CatalogData>> {
    let path = directory.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("could not read \"{}\"", path.display()), e)),
    };
    let data: CatalogData = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Kind::DataCorrupted, format!("the catalog \"{}\" is damaged", path.display()))
            .detail(format!("{e}."))
            .hint("Restore the file from a backup, or move it away to start with an empty catalog.")
    })?;
    if data.format > FORMAT {
        return Err(Error::new(
            Kind::NotInPrerequisiteState,
            format!("the catalog \"{}\" was written by a newer version of squilla", path.display()),
        )
        .detail(format!("Its format is {}; this version reads up to {FORMAT}.", data.format)));
    }
    Ok(Some(data))
}

/// Replaces the catalog on disk.
pub fn save(directory: &Path, data: &CatalogData) -> Result<()> {
    let path = directory.join(FILE);
    let beside = directory.join(".catalog.json.new");
    let text = serde_json::to_vec_pretty(data).map_err(|e| Error::internal(format!("the catalog does not serialize: {e}")))?;
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        sync_directory(directory)
    };
    write().map_err(|e| Error::io(format!("could not write the catalog \"{}\"", path.display()), e))
}

/// Makes renames and removals in `directory` last.
pub fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The data directory belongs to this process while this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock, or fails with 55000 naming the owner.
    pub fn acquire(directory: &Path) -> Result<Self> {
        let path = directory.join(LOCK);
        let io = |e| Error::io(format!("could not lock the data directory \"{}\"", directory.display()), e);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message: without it the owner is unknown, which is still an owner.
                let _ = file.read_to_string(&mut pid);
                let owner = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
                return Err(Error::new(
                    Kind::NotInPrerequisiteState,
                    format!("the data directory \"{}\" is in use by another server{owner}", directory.display()),
                )
                .hint("Stop that server, or give this one another --data-dir."));
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}
