//! What a decoder that may hang or abort plugs into: one `Job` per kind of work.
//!
//! In: the job's own fields (serde) and a payload, bytes or a local path. Out: a stream of chunks, each a small JSON
//! header and raw bytes. Invariant: a job behaves the same in process and in a child, so it never relies on globals of
//! the server. Deliberately absent: how the bytes travel (`wire.rs`) and who runs the child (`pool.rs`).
//!
//! # Adding a job
//! ```ignore
//! #[derive(Serialize, Deserialize)]
//! pub struct PdfText { pub pages_max: u64 }              // everything the job needs, limits included
//!
//! impl Job for PdfText {
//!     const NAME: &'static str = "pdf_text";
//!     fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
//!         for page in open(&payload.bytes()?)? {
//!             let chunk = Chunk::new(&PageHeader { number: page.number }, page.text.into_bytes())?;
//!             if !emit(chunk)? { break; }               // the consumer has enough: stop
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//! Then name the type in the `jobs!` list of `worker.rs`. The caller side is one call:
//! ```ignore
//! sandbox::pool::run(&PdfText { pages_max: 10 }, &Payload::borrowed(bytes), limits.deadline(), &mut |chunk| {
//!     let header: PageHeader = chunk.header()?;
//!     pages.push((header.number, chunk.data));
//!     Ok(true)
//! })?;
//! ```
//! A row error is returned from `run` as any `Error`; its kind, message, detail and hint survive the process boundary.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use squilla_core::error::{Error, Result};

/// Receives the chunks of a job; `Ok(false)` asks the job to stop early.
pub type Emit<'a> = dyn FnMut(Chunk) -> Result<bool> + 'a;

/// Work that may run in a child process.
pub trait Job: Serialize + DeserializeOwned {
    /// The name on the wire; unique among jobs.
    const NAME: &'static str;

    /// Does the work, handing out chunks as they come. Stops without error once `emit` says `false`.
    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()>;
}

/// One piece of a job's output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// A small JSON value, whatever the job says it is.
    pub meta: serde_json::Value,
    /// Raw bytes: pixels, samples, text.
    pub data: Vec<u8>,
}

impl Chunk {
    /// A chunk whose header is `header` as JSON.
    pub fn new(header: &impl Serialize, data: Vec<u8>) -> Result<Self> {
        let meta = serde_json::to_value(header).map_err(|e| Error::internal(format!("chunk header: {e}")))?;
        Ok(Self { meta, data })
    }

    /// The header as the type it was made from.
    pub fn header<H: DeserializeOwned>(&self) -> Result<H> {
        H::deserialize(&self.meta).map_err(|e| Error::internal(format!("chunk header: {e}")))
    }
}

/// The bytes a job works on.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In memory.
    Bytes(Cow<'a, [u8]>),
    /// In a file without a name (a large payload that came through the socket).
    File(File),
    /// In a local file.
    Path(PathBuf),
}

impl<'a> Payload<'a> {
    /// Bytes that stay with the caller.
    pub fn borrowed(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }

    /// A local file, opened where the job runs.
    pub fn path(path: impl Into<PathBuf>) -> Payload<'static> {
        Payload::Path(path.into())
    }

    /// The whole payload in memory; borrowed when it already is.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Payload::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Payload::Path(path) => std::fs::read(path).map(Cow::Owned).map_err(|e| Error::io(format_args!("could not read {}", path.display()), e)),
            Payload::File(file) => {
                let fail = |e| Error::io("could not read the payload", e);
                let mut file = file.try_clone().map_err(fail)?;
                file.seek(SeekFrom::Start(0)).map_err(fail)?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(fail)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// The payload as something with a path, for libraries that seek in files. The path is good while the guard lives.
    pub fn file(&self) -> Result<PayloadFile> {
        let fail = |e| Error::io("could not store the payload", e);
        match self {
            Payload::Path(path) => Ok(PayloadFile { path: path.clone(), _keep: None }),
            Payload::File(file) => PayloadFile::of(file.try_clone().map_err(fail)?),
            Payload::Bytes(bytes) => {
                let mut file = scratch_file(bytes.len() as u64)?;
                file.write_all(bytes).map_err(fail)?;
                PayloadFile::of(file)
            }
        }
    }
}

/// A payload that can be opened by path.
#[derive(Debug)]
pub struct PayloadFile {
    path: PathBuf,
    _keep: Option<File>,
}

impl PayloadFile {
    fn of(file: File) -> Result<Self> {
        // Opening the link gives a new description with its own offset, so several readers do not disturb each other.
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), _keep: Some(file) })
    }

    /// Where to open it, in this process only.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Payloads above this size go to a temporary file rather than to memory.
pub const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// An unnamed file for `bytes` bytes: in memory when small, else in the temporary directory.
pub fn scratch_file(bytes: u64) -> Result<File> {
    if bytes <= MEMORY_BYTES_MAX {
        rustix::fs::memfd_create("squilla-payload", rustix::fs::MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(|e| Error::io("could not create a memory file", e.into()))
    } else {
        tempfile::tempfile().map_err(|e| Error::io("could not create a temporary file", e))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_payload_gives_the_same_bytes_and_a_path() {
        let bytes = b"hello".to_vec();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let mut unnamed = scratch_file(5).unwrap();
        unnamed.write_all(&bytes).unwrap();
        for payload in [Payload::borrowed(&bytes), Payload::path(file.path()), Payload::File(unnamed)] {
            assert_eq!(&*payload.bytes().unwrap(), &bytes[..]);
            let file = payload.file().unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap(), bytes);
            assert_eq!(std::fs::read(file.path()).unwrap(), bytes, "a second reader starts at the beginning");
        }
    }
}
