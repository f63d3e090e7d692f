//! The data directory: making it, owning it, syncing it, sweeping it.
//!
//! In: a directory. Out: a lock that lives as long as its owner. Invariants: one process at a time owns a data directory,
//! and the second one is told the pid of the first; a sweep removes only files that nothing names.
//! Deliberately absent: what the files hold.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use squilla_core::error::{Error, Kind, Result};

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

/// Removes files below `directory` (`<table>/<transaction>/<file>`) that `kept` does not name, and directories left
/// empty: the files removed. What cannot be removed is left for the next time.
pub fn sweep(directory: &Path, kept: &HashSet<String>) -> usize {
    let mut removed = 0;
    for table in entries(directory) {
        for transaction in entries(&table) {
            for file in entries(&transaction) {
                let name = file.strip_prefix(directory).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
                if !kept.contains(&name) && std::fs::remove_file(&file).is_ok() {
                    removed += 1;
                }
            }
            // Only empty ones go.
            let _ = std::fs::remove_dir(&transaction);
        }
        let _ = std::fs::remove_dir(&table);
    }
    removed
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        let error = DirectoryLock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.sqlstate(), "55000");
        assert!(error.message.contains(&std::process::id().to_string()), "{}", error.message);
        drop(lock);
        DirectoryLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn orphans_go_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (t, f) in [("a", "1"), ("a", "2"), ("b", "1")] {
            std::fs::create_dir_all(dir.path().join(t).join("x")).unwrap();
            std::fs::write(dir.path().join(t).join("x").join(f), "").unwrap();
        }
        assert_eq!(sweep(dir.path(), &HashSet::from(["a/x/1".to_owned()])), 2);
        assert!(dir.path().join("a/x/1").exists() && !dir.path().join("a/x/2").exists() && !dir.path().join("b").exists());
    }
}
