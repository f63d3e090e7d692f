//! A Parquet file of a table as the reader without a runtime takes it.
//!
//! In: a path, and the checksums of the file where it has any. Out: its bytes. Invariant: bytes with checksums are those
//! that were written, or the read fails. Deliberately absent: caching; a page is read once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use squilla_core::error::{Error, Result};
use squilla_store::sums::Sums;

/// Bytes that are read at a time where the reader does not say how many it wants.
const AHEAD_BYTES: u64 = 64 << 10;

/// The file.
pub struct Checked {
    file: Arc<File>,
    path: PathBuf,
    size: u64,
    sums: Option<Arc<Sums>>,
}

impl Checked {
    /// Opens it. 58P01, 58030.
    pub fn open(path: &Path, sums: Option<Arc<Sums>>) -> Result<Self> {
        let io = |e| Error::io(format!("could not open \"{}\"", path.display()), e);
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        Ok(Self { file: Arc::new(file), path: path.to_owned(), size, sums })
    }
}

impl Length for Checked {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Checked {
    type T = Rest;

    fn get_read(&self, start: u64) -> datafusion::parquet::errors::Result<Rest> {
        let (file, path, sums) = (Arc::clone(&self.file), self.path.clone(), self.sums.clone());
        let rest = Checked { file, path, sums, ..*self };
        Ok(Rest { file: rest, at: start, ahead: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> datafusion::parquet::errors::Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let range = start..start.saturating_add(length as u64);
        match &self.sums {
            Some(sums) => sums.read(&self.file, &self.path, &range).map_err(|e| ParquetError::External(Box::new(e))),
            None => {
                let mut bytes = vec![0; length];
                self.file.read_exact_at(&mut bytes, start).map_err(|e| ParquetError::External(Box::new(e)))?;
                Ok(Bytes::from(bytes))
            }
        }
    }
}

/// The bytes from a place on.
pub struct Rest {
    file: Checked,
    at: u64,
    ahead: Bytes,
}

impl Read for Rest {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.ahead.is_empty() && !into.is_empty() {
            let length = AHEAD_BYTES.min(self.file.size.saturating_sub(self.at));
            self.ahead = self.file.get_bytes(self.at, length as usize).map_err(std::io::Error::other)?;
            self.at += length;
        }
        let count = into.len().min(self.ahead.len());
        self.ahead.copy_to_slice(into.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
