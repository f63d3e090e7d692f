//! Frames between the server and a decoder child: a JSON header and raw bytes, each with its length in front.
//!
//! In and out: `[u32 header bytes][u64 data bytes][header][data]`, little endian, over a Unix socket. Invariant: the two
//! ends are the same binary, so there is no version; lengths are bounded all the same. Deliberately absent: time-outs,
//! which belong to the reader that is handed in.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind};

use crate::sandbox::job::MEMORY_BYTES_MAX;

/// A header longer than this is a broken stream.
const HEADER_BYTES_MAX: u32 = 16 << 20;

/// What the server says to a child.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// First frame: the address space the child may use, in bytes.
    Configure {
        /// Bytes of address space.
        memory_bytes: u64,
    },
    /// A job; its payload is the data of the frame unless `path` is given.
    Run {
        /// `Job::NAME`.
        job: String,
        /// The job itself.
        args: serde_json::Value,
        /// A local file to work on.
        path: Option<String>,
    },
    /// The consumer has enough of the running job.
    Stop,
}

/// What a child says to the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// One chunk; its bytes are the data of the frame.
    Chunk(serde_json::Value),
    /// The job is over.
    End,
    /// The job failed.
    Failed(WireError),
}

/// An error that crosses the process boundary.
#[derive(Debug, Serialize, Deserialize)]
pub struct WireError {
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Detail sentence.
    pub detail: Option<String>,
    /// Hint sentence.
    pub hint: Option<String>,
}

impl From<&Error> for WireError {
    fn from(error: &Error) -> Self {
        Self { code: error.sqlstate().to_owned(), message: error.message.clone(), detail: error.detail.clone(), hint: error.hint.clone() }
    }
}

impl From<WireError> for Error {
    fn from(wire: WireError) -> Self {
        let mut error = Error::new(Kind::from_sqlstate(&wire.code).unwrap_or(Kind::Internal), wire.message);
        error.detail = wire.detail;
        error.hint = wire.hint;
        error
    }
}

/// Writes one frame and flushes nothing: give a socket or a flushed writer.
pub fn write_frame(to: &mut impl Write, header: &impl Serialize, data: &[u8]) -> io::Result<()> {
    write_head(to, header, data.len() as u64)?;
    to.write_all(data)
}

/// Writes a frame's lengths and header; the caller writes `data_bytes` bytes after it.
pub fn write_head(to: &mut impl Write, header: &impl Serialize, data_bytes: u64) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let mut head = Vec::with_capacity(12 + header.len());
    head.extend_from_slice(&(header.len() as u32).to_le_bytes());
    head.extend_from_slice(&data_bytes.to_le_bytes());
    head.extend_from_slice(&header);
    to.write_all(&head)
}

/// Reads a frame's header and the number of data bytes that follow it; `None` at a clean end of the stream.
pub fn read_head<H: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(H, u64)>> {
    let mut lengths = [0_u8; 12];
    let got = from.read(&mut lengths)?;
    if got == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lengths[got..])?;
    let [a, b, c, d, data @ ..] = lengths;
    let header_bytes = u32::from_le_bytes([a, b, c, d]);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame header too long"));
    }
    let mut header = vec![0; header_bytes as usize];
    from.read_exact(&mut header)?;
    Ok(Some((serde_json::from_slice(&header)?, u64::from_le_bytes(data))))
}

/// Reads the data of a frame into memory. The vector grows with what arrives, so a false length costs nothing.
pub fn read_data(from: &mut impl Read, data_bytes: u64) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(data_bytes.min(MEMORY_BYTES_MAX) as usize);
    let got = from.take(data_bytes).read_to_end(&mut data)? as u64;
    if got == data_bytes { Ok(data) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &Reply::Chunk(serde_json::json!({"page": 1})), b"abc").unwrap();
        write_frame(&mut bytes, &Reply::End, b"").unwrap();
        let mut from = &bytes[..];
        let (header, length) = read_head::<Reply>(&mut from).unwrap().unwrap();
        assert!(matches!(header, Reply::Chunk(meta) if meta["page"] == 1));
        assert_eq!(read_data(&mut from, length).unwrap(), b"abc");
        assert!(matches!(read_head::<Reply>(&mut from).unwrap().unwrap(), (Reply::End, 0)));
        assert!(read_head::<Reply>(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_cut_frame_is_an_error() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &Reply::End, b"abcdef").unwrap();
        let (_, length) = read_head::<Reply>(&mut &bytes[..]).unwrap().unwrap();
        let rest = bytes.len() - 3;
        let mut from = &bytes[12..rest];
        assert!(read_data(&mut from, length + 100).is_err());
        assert!(read_head::<Reply>(&mut &bytes[..5]).is_err());
    }

    #[test]
    fn errors_keep_their_code() {
        let error = Error::limit("too many pages", "squilla.max_pdf_pages").detail("There are 7.");
        let back = Error::from(serde_json::from_str::<WireError>(&serde_json::to_string(&WireError::from(&error)).unwrap()).unwrap());
        assert_eq!((back.kind, back.message, back.detail, back.hint), (error.kind, error.message, error.detail, error.hint));
    }
}
