//! The bodies of messages that a client sends, read strictly.
//!
//! In: the type byte and body of one frame. Out: a [`Frontend`] message, or a protocol violation that names what is wrong.
//! Invariant: no count or length from the wire is believed before the bytes are there, and no byte may be left over.
//! Deliberately absent: framing (wire) and the untyped messages of the start-up phase (startup).

use bytes::{Buf, Bytes};
use squilla_core::error::{Error, Kind, Result};

use crate::decode::utf8;

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// The content of a Bind message.
#[derive(Debug)]
pub struct Bind {
    /// Name of the portal to make; empty is the unnamed one.
    pub portal: String,
    /// Name of the statement; empty is the unnamed one.
    pub statement: String,
    /// Format codes of the parameters: none, one for all, or one each.
    pub formats: Vec<i16>,
    /// NULL where None.
    pub parameters: Vec<Option<Bytes>>,
    /// Format codes of the result columns: none, one for all, or one each.
    pub result_formats: Vec<i16>,
}

/// A message of the client after start-up.
#[derive(Debug)]
pub enum Frontend {
    /// Q
    Query(String),
    /// P
    Parse {
        /// Name of the statement to make.
        name: String,
        /// SQL text.
        query: String,
        /// Types of the parameters; 0 leaves one open.
        types: Vec<u32>,
    },
    /// B
    Bind(Bind),
    /// D
    Describe(Target, String),
    /// E
    Execute {
        /// Name of the portal.
        portal: String,
        /// Rows wanted; 0 is all.
        rows_max: usize,
    },
    /// C
    Close(Target, String),
    /// H
    Flush,
    /// S
    Sync,
    /// X
    Terminate,
    /// F
    FunctionCall,
    /// d
    CopyData(Bytes),
    /// c
    CopyDone,
    /// f
    CopyFail(String),
    /// p
    Password(Bytes),
}

/// Whether a frame of this type exists, and the most bytes its body may hold.
pub fn body_max(kind: u8, large: usize) -> Option<usize> {
    match kind {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(large),
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(10_000),
        _ => None,
    }
}

/// Whether an error in this message makes the server skip to the next Sync.
pub fn is_extended(kind: u8) -> bool {
    matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
}

fn violation(message: impl Into<String>) -> Error {
    Error::new(Kind::ProtocolViolation, message)
}

struct Body(Bytes);

impl Body {
    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(|| violation("invalid string in message"))?;
        let bytes = self.0.split_to(end);
        self.0.advance(1);
        utf8(&bytes).map(str::to_owned)
    }

    fn need(&self, bytes: usize) -> Result<()> {
        if self.0.len() < bytes { Err(violation("insufficient data left in message")) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    fn u16(&mut self) -> Result<usize> {
        self.need(2)?;
        Ok(usize::from(self.0.get_u16()))
    }

    fn i32(&mut self) -> Result<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    fn formats(&mut self) -> Result<Vec<i16>> {
        let count = self.u16()?;
        self.need(count * 2)?;
        Ok((0..count).map(|_| self.0.get_i16()).collect())
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(violation("invalid message format")) }
    }

    fn target(&mut self, message: &str) -> Result<Target> {
        match self.u8()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(violation(format!("invalid {message} message subtype {other}"))),
        }
    }
}

/// Reads one message. A query text with bytes after its NUL, or without one, is a violation.
pub fn parse(kind: u8, body: Bytes) -> Result<Frontend> {
    let mut body = Body(body);
    let message = match kind {
        b'Q' => Frontend::Query(body.text()?),
        b'P' => {
            let (name, query) = (body.text()?, body.text()?);
            let count = body.u16()?;
            body.need(count * 4)?;
            Frontend::Parse { name, query, types: (0..count).map(|_| body.0.get_u32()).collect() }
        }
        b'B' => Frontend::Bind(bind(&mut body)?),
        b'D' => Frontend::Describe(body.target("DESCRIBE")?, body.text()?),
        b'E' => {
            let portal = body.text()?;
            // A negative count means all rows, as in PostgreSQL.
            Frontend::Execute { portal, rows_max: usize::try_from(body.i32()?).unwrap_or(0) }
        }
        b'C' => Frontend::Close(body.target("CLOSE")?, body.text()?),
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => return Ok(Frontend::Terminate),
        b'F' => return Ok(Frontend::FunctionCall),
        b'd' => return Ok(Frontend::CopyData(body.0)),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(body.text()?),
        b'p' => return Ok(Frontend::Password(body.0)),
        other => return Err(violation(format!("invalid frontend message type {other}"))),
    };
    body.end()?;
    Ok(message)
}

fn bind(body: &mut Body) -> Result<Bind> {
    let (portal, statement, formats) = (body.text()?, body.text()?, body.formats()?);
    let count = body.u16()?;
    body.need(count * 4)?;
    let mut parameters = Vec::with_capacity(count);
    for _ in 0..count {
        parameters.push(match body.i32()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| violation("invalid message format"))?;
                body.need(length)?;
                Some(body.0.split_to(length))
            }
        });
    }
    if formats.len() > 1 && formats.len() != count {
        return Err(violation(format!("bind message has {} parameter formats but {count} parameters", formats.len())));
    }
    Ok(Bind { portal, statement, formats, parameters, result_formats: body.formats()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn whole_messages_are_read() {
        match parse(b'B', Bytes::from_static(b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0")).unwrap() {
            Frontend::Bind(b) => {
                assert_eq!((b.portal.as_str(), b.statement.as_str(), b.formats.as_slice()), ("p", "s", &[1i16][..]));
                assert_eq!(b.parameters, [Some(Bytes::from_static(b"x")), None]);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse(b'Q', Bytes::from_static(b"SELECT 1\0")).unwrap(), Frontend::Query(q) if q == "SELECT 1"));
        assert!(matches!(parse(b'E', Bytes::from_static(b"\0\xff\xff\xff\xff")).unwrap(), Frontend::Execute { rows_max: 0, .. }));
    }

    #[test]
    fn broken_messages_are_refused() {
        for (kind, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"SELECT 1\0SELECT 2\0"),
            (b'P', b"\0SELECT 1\0\0\x05"),
            (b'B', b""),
            (b'B', b"\0\0\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x64x\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xffx\0\0"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0junk"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\xff\xff"),
            (b'B', b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\x01x\0\0"),
            (b'D', b"?x\0"),
            (b'C', b"?x\0"),
            (b'E', b"\0\0"),
            (b'S', b"x"),
            (b'z', b""),
        ] {
            assert_eq!(parse(kind, Bytes::copy_from_slice(body)).unwrap_err().kind, Kind::ProtocolViolation, "{kind} {body:?}");
        }
        assert_eq!(parse(b'Q', Bytes::from_static(b"\xff\0")).unwrap_err().kind, Kind::InvalidEncoding);
    }
}
