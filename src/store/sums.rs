//! Checksums of what is on disk, so that changed bytes are noticed.
//!
//! In: bytes as they are written, or a part of a file that is read. Out: a CRC-32 of each block of the file; an error when
//! a block is not what was written. Invariants: a file has at most `BLOCKS_MAX` blocks, so what is kept of it stays
//! small: blocks double with its size; a part is checked in whole blocks. Deliberately absent: mending.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};

/// Bytes of a block of a small file.
const BLOCK_BYTES: u64 = 64 << 10;
/// Blocks of a file at most.
const BLOCKS_MAX: usize = 1024;

/// The checksums of a file that does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    block: u64,
    size: u64,
    crcs: Vec<u32>,
}

impl Sums {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut summer = Summer::default();
        summer.add(bytes);
        summer.end()
    }

    /// As the catalog keeps them: the size of a block and the CRC-32 of each, all of 4 bytes, little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        let block = u32::try_from(self.block).unwrap_or(u32::MAX);
        std::iter::once(&block).chain(&self.crcs).flat_map(|n| n.to_le_bytes()).collect()
    }

    /// The inverse of [`Sums::bytes`] for a file of so many bytes. XX001 for others.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Result<Self> {
        let damaged = || Error::new(Kind::DataCorrupted, "the catalog has damaged checksums");
        let (numbers, rest) = bytes.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|n| u32::from_le_bytes(*n));
        let block = numbers.next().filter(|b| *b > 0 && rest.is_empty()).map(u64::from).ok_or_else(damaged)?;
        let crcs: Vec<u32> = numbers.collect();
        if crcs.len() as u64 != size.div_ceil(block) {
            return Err(damaged());
        }
        Ok(Self { block, size, crcs })
    }

    /// The whole blocks around a range.
    fn around(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start / self.block * self.block;
        let end = range.end.div_ceil(self.block).saturating_mul(self.block).min(self.size);
        start..end.max(start)
    }

    /// The first block that is not what was written; `start` is where a block begins, and the bytes are whole blocks.
    fn wrong(&self, start: u64, bytes: &[u8]) -> Option<Range<u64>> {
        let first = usize::try_from(start / self.block).unwrap_or(usize::MAX);
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let wrong = bytes.chunks(block).enumerate().find(|(i, part)| self.crcs.get(first.saturating_add(*i)) != Some(&crc32fast::hash(part)))?.0;
        let at = start + wrong as u64 * self.block;
        Some(at..(at + self.block).min(self.size))
    }

    /// Whether these are the bytes that were written.
    pub fn fit(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.size && self.wrong(0, bytes).is_none()
    }

    /// Reads a part of the file. XX001 when its bytes are not those that were written, or are not there.
    pub fn read(&self, file: &File, path: &Path, range: &Range<u64>) -> Result<Bytes> {
        let damaged = |detail: String| {
            Error::new(Kind::DataCorrupted, format!("the file \"{}\" is damaged", path.display()))
                .detail(detail)
                .hint("Restore the file from a backup. The rows of other files can be read.")
        };
        let whole = self.around(range);
        if range.end > whole.end.max(range.start) {
            return Err(damaged(format!("It is said to have bytes up to {}, but was written with {}.", range.end, self.size)));
        }
        let mut bytes = vec![0; usize::try_from(whole.end - whole.start).unwrap_or(0)];
        file.read_exact_at(&mut bytes, whole.start).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(format!("It was written with {} bytes and is shorter now.", self.size)),
            _ => Error::io(format!("could not read \"{}\"", path.display()), e),
        })?;
        if let Some(wrong) = self.wrong(whole.start, &bytes) {
            return Err(damaged(format!("Its bytes {} to {} are not those that were written.", wrong.start, wrong.end)));
        }
        let skip = usize::try_from(range.start - whole.start).unwrap_or(0);
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        Ok(Bytes::from(bytes).slice(skip..skip + length))
    }
}

/// Makes checksums of bytes as they come.
#[derive(Debug)]
pub struct Summer {
    block: u64,
    size: u64,
    crcs: Vec<u32>,
    /// Of the block that is not full yet, and its bytes.
    open: (Hasher, u64),
}

impl Default for Summer {
    fn default() -> Self {
        Self { block: BLOCK_BYTES, size: 0, crcs: Vec::new(), open: (Hasher::new(), 0) }
    }
}

impl Summer {
    /// The next bytes.
    pub fn add(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(self.block - self.open.1).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.0.update(now);
            self.open.1 += now.len() as u64;
            bytes = later;
            if self.open.1 == self.block {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let (full, _) = std::mem::replace(&mut self.open, (Hasher::new(), 0));
        self.crcs.push(full.finalize());
        if self.crcs.len() == BLOCKS_MAX {
            let both = |pair: &[u32; 2]| {
                let mut first = Hasher::new_with_initial_len(pair[0], self.block);
                first.combine(&Hasher::new_with_initial_len(pair[1], self.block));
                first.finalize()
            };
            self.crcs = self.crcs.as_chunks::<2>().0.iter().map(both).collect();
            self.block *= 2;
        }
    }

    /// All bytes have come.
    pub fn end(mut self) -> Sums {
        if self.open.1 > 0 {
            let (last, _) = std::mem::replace(&mut self.open, (Hasher::new(), 0));
            self.crcs.push(last.finalize());
        }
        Sums { block: self.block, size: self.size, crcs: self.crcs }
    }
}

/// A writer whose bytes are summed.
pub struct Summing<W> {
    inner: W,
    summer: Arc<Mutex<Summer>>,
}

impl<W: Write> Summing<W> {
    /// Over a writer; the other handle has the sums when all is written.
    pub fn new(inner: W) -> (Self, Arc<Mutex<Summer>>) {
        let summer = Arc::new(Mutex::new(Summer::default()));
        (Self { inner, summer: Arc::clone(&summer) }, summer)
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.summer.lock().add(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn sums_of_parts_are_those_of_the_whole() {
        for length in [0, 1, BLOCK_BYTES as usize, BLOCK_BYTES as usize * BLOCKS_MAX + 5] {
            let bytes = pattern(length);
            let (mut writer, summer) = Summing::new(Vec::new());
            bytes.chunks(100_003).for_each(|part| writer.write_all(part).unwrap());
            let sums = std::mem::take(&mut *summer.lock()).end();
            assert_eq!(sums, Sums::of(&bytes));
            assert!(sums.fit(&bytes) && sums.crcs.len() < BLOCKS_MAX);
            assert_eq!(Sums::from_bytes(&sums.bytes(), length as u64).unwrap(), sums);
            if length > 0 {
                assert!(Sums::from_bytes(&sums.bytes(), 0).is_err());
            }
        }
    }

    #[test]
    fn a_changed_byte_is_found_where_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut bytes = pattern(200_000);
        let sums = Sums::of(&bytes);
        std::fs::write(&path, &bytes).unwrap();
        let read = |range: Range<u64>| sums.read(&File::open(&path).unwrap(), &path, &range);
        assert_eq!(read(65_000..140_000).unwrap(), &bytes[65_000..140_000]);
        assert_eq!(read(199_999..200_000).unwrap().len(), 1);
        assert_eq!(read(5..5).unwrap().len(), 0);
        assert!(read(199_999..200_001).is_err());
        bytes[150_000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(0..65_536).is_ok());
        assert_eq!(read(140_000..140_001).unwrap_err().sqlstate(), "XX001");
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert_eq!(read(0..10).unwrap_err().sqlstate(), "XX001");
    }
}
