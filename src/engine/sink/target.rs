//! Files and objects that appear whole or not at all.
//!
//! In: a location. Out: a writer, and a commit. Invariants: before `commit` nothing is visible at the location and what
//! was there stays; a target dropped without commit removes its temporary file or aborts its upload. A local file is
//! written under a hidden name beside the target, synced, and renamed over it. Deliberately absent: several files at once.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use squilla_core::error::{Error, Kind, Result};
use squilla_store::disk::sync_directory;
use tokio::task::JoinSet;

use super::encode::SharedBuffer;
use crate::source::files::{FileAccess, blocking, remote_error};
use crate::source::location::Location;

/// Parts of an upload; the least that S3 takes is 5 MiB, and there may be 10,000 of them.
const PART_BYTES: usize = 16 << 20;
const PARTS_AT_A_TIME: usize = 4;
/// A plain HTTP server takes an object in one piece, which is held in memory.
const HTTP_BYTES_MAX: usize = 512 << 20;

/// Where an encoder writes.
#[derive(Debug)]
pub struct Target(Place);

#[derive(Debug)]
enum Place {
    Local(LocalFile),
    Upload(Upload),
    Http { location: Location, store: Arc<dyn ObjectStore>, buffer: SharedBuffer, bytes: Vec<u8> },
}

/// A file under a temporary name, gone when dropped.
#[derive(Debug)]
pub struct LocalFile {
    hidden: Option<PathBuf>,
    file: Arc<File>,
    shown: PathBuf,
    created_directory: Option<PathBuf>,
}

#[derive(Debug)]
struct Upload {
    location: Location,
    buffer: SharedBuffer,
    upload: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
}

impl Target {
    /// Begins to write at a location. A local location that is a directory or ends with a slash, and an object location
    /// that ends with a slash, gets the file `part-0.<extension>`. 58P01 when the parent directory is missing, 42501.
    pub async fn create(text: &str, extension: &str, access: &Arc<FileAccess>) -> Result<(Target, Box<dyn Write + Send>)> {
        let whole = if text.ends_with('/') { format!("{text}part-0.{extension}") } else { text.to_owned() };
        match Location::parse(&whole)? {
            Location::Local(path) => {
                let (directory, extension) = (text.ends_with('/'), extension.to_owned());
                let file = blocking(move || {
                    if !directory && path.is_dir() {
                        return LocalFile::create(&path.join(format!("part-0.{extension}")), false);
                    }
                    LocalFile::create(&path, directory)
                })
                .await?;
                let writer = BufWriter::with_capacity(1 << 20, ArcFile(Arc::clone(&file.file)));
                Ok((Target(Place::Local(file)), Box::new(writer)))
            }
            location @ Location::Object { .. } => {
                let (store, path) = access.store(&location).await?;
                let upload = access.in_time(&location, store.put_multipart(&path)).await?.map_err(|e| remote_error(&location, e))?;
                let buffer = SharedBuffer::default();
                let upload = Upload { location, buffer: buffer.clone(), upload: Some(upload), parts: JoinSet::new() };
                Ok((Target(Place::Upload(upload)), Box::new(buffer)))
            }
            location @ Location::Http(_) => {
                let (store, _) = access.store(&location).await?;
                let buffer = SharedBuffer::default();
                Ok((Target(Place::Http { location, store, buffer: buffer.clone(), bytes: Vec::new() }), Box::new(buffer)))
            }
        }
    }

    /// A local file that was begun elsewhere.
    pub fn local(file: LocalFile) -> Self {
        Target(Place::Local(file))
    }

    /// Sends on what was written so far. Waits while enough is under way.
    pub async fn advance(&mut self) -> Result<()> {
        match &mut self.0 {
            Place::Local(_) => Ok(()),
            Place::Upload(upload) => upload.advance(PART_BYTES).await,
            Place::Http { location, buffer, bytes, .. } => {
                bytes.extend(buffer.take(1).unwrap_or_default());
                if bytes.len() > HTTP_BYTES_MAX {
                    return Err(Error::new(Kind::LimitExceeded, format!("more than {HTTP_BYTES_MAX} bytes for \"{}\"", location.shown()))
                        .hint("An HTTP server takes an object in one piece. Write to S3 or to a local file instead."));
                }
                Ok(())
            }
        }
    }

    /// Sends on all that was written, so that nothing but the commit is left and no bytes are held.
    pub async fn drain(&mut self) -> Result<()> {
        match &mut self.0 {
            Place::Upload(upload) => {
                upload.advance(1).await?;
                while !upload.parts.is_empty() {
                    upload.wait().await?;
                }
                Ok(())
            }
            _ => self.advance().await,
        }
    }

    /// Gives up. Dropping does the same, but an upload is then aborted behind the caller's back.
    pub async fn abort(self) {
        if let Place::Upload(mut upload) = self.0 {
            upload.parts.shutdown().await;
            if let Some(mut begun) = upload.upload.take()
                && let Err(error) = begun.abort().await
            {
                tracing::warn!(location = upload.location.shown(), %error, "could not abort an upload");
            }
        }
    }

    /// Makes the file or object visible.
    pub async fn commit(mut self) -> Result<()> {
        self.advance().await?;
        match self.0 {
            Place::Local(file) => blocking(move || file.commit()).await,
            Place::Upload(upload) => upload.commit().await,
            Place::Http { location, store, bytes, .. } => {
                // The URL is the store's base: the path in it is empty.
                let path = object_store::path::Path::default();
                store.put(&path, PutPayload::from(bytes)).await.map(|_| ()).map_err(|e| write_error(&location, e))
            }
        }
    }
}

fn write_error(location: &Location, error: object_store::Error) -> Error {
    let error = remote_error(location, error);
    let message = error.message.replacen("could not read", "could not write", 1).replacen("could not open", "could not write", 1);
    Error { message, ..error }
}

impl Upload {
    /// Uploads what is there, in parts, once it is `least` bytes.
    async fn advance(&mut self, least: usize) -> Result<()> {
        let Some(bytes) = self.buffer.take(least) else { return Ok(()) };
        let mut bytes = bytes::Bytes::from(bytes);
        while !bytes.is_empty() {
            // All parts but the last must be of one size for some stores, and of 5 MiB at least for all.
            let most = if bytes.len() < 2 * PART_BYTES { bytes.len() } else { PART_BYTES };
            let part = bytes.split_to(most);
            while self.parts.len() >= PARTS_AT_A_TIME {
                self.wait().await?;
            }
            if let Some(upload) = &mut self.upload {
                self.parts.spawn(upload.put_part(PutPayload::from(part)));
            }
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        match self.parts.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result.map_err(|e| write_error(&self.location, e)),
            Some(Err(e)) => Err(Error::internal(format!("an upload failed: {e}"))),
        }
    }

    async fn commit(mut self) -> Result<()> {
        self.advance(1).await?;
        while !self.parts.is_empty() {
            self.wait().await?;
        }
        let Some(upload) = &mut self.upload else { return Err(Error::internal("an upload was committed twice")) };
        upload.complete().await.map_err(|e| write_error(&self.location, e))?;
        self.upload = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Parts of an unfinished upload would be kept, and paid for, until somebody aborts it.
        if let (Some(mut upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            let mut parts = std::mem::take(&mut self.parts);
            let shown = self.location.shown();
            runtime.spawn(async move {
                parts.shutdown().await;
                if let Err(error) = upload.abort().await {
                    tracing::warn!(location = shown, %error, "could not abort an upload");
                }
            });
        }
    }
}

impl LocalFile {
    /// Begins `path` under a hidden name beside it.
    pub fn create(path: &Path, make_directory: bool) -> Result<Self> {
        let io = |e| Error::io(format!("could not create \"{}\"", path.display()), e);
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid_argument(format!("\"{}\" is not the name of a file", path.display())));
        };
        let mut created_directory = None;
        if make_directory && !directory.exists() {
            std::fs::create_dir_all(directory).map_err(io)?;
            created_directory = Some(directory.to_owned());
        }
        let hidden = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), uuid::Uuid::new_v4().simple()));
        match File::create_new(&hidden) {
            Ok(file) => Ok(Self { hidden: Some(hidden), file: Arc::new(file), shown: path.to_owned(), created_directory }),
            Err(e) => {
                if let Some(directory) = created_directory {
                    let _ = std::fs::remove_dir(directory);
                }
                Err(io(e))
            }
        }
    }

    /// The file to write to.
    pub fn writer(&self) -> impl Write + Send + 'static {
        BufWriter::with_capacity(1 << 20, ArcFile(Arc::clone(&self.file)))
    }

    /// Syncs and renames. What was written must have been flushed.
    pub fn commit(mut self) -> Result<()> {
        let io = |e| Error::io(format!("could not write \"{}\"", self.shown.display()), e);
        self.file.sync_all().map_err(io)?;
        if let Some(hidden) = &self.hidden {
            std::fs::rename(hidden, &self.shown).map_err(io)?;
        }
        if let Some(directory) = self.shown.parent() {
            sync_directory(directory).map_err(io)?;
        }
        self.hidden = None;
        Ok(())
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = std::fs::remove_file(hidden);
            if let Some(directory) = &self.created_directory {
                // Not when somebody else has put something there.
                let _ = std::fs::remove_dir(directory);
            }
        }
    }
}

struct ArcFile(Arc<File>);

impl Write for ArcFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        (&*self.0).flush()
    }
}
