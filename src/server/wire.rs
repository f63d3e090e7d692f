//! One client's socket: frames in, messages out, and whether the client is still there.
//!
//! In: bytes of a TCP, TLS or Unix socket. Out: frames with their length checked; a write buffer flushed by bytes.
//! Invariant: memory for a frame grows with the bytes that arrive, never with the length that a client claims; while a
//! statement runs at most `AHEAD_BYTES` of what follows it are read. Deliberately absent: the meaning of messages.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::ParameterStatus;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::frontend::{Frontend, body_max, is_extended, parse};
use squilla_core::error::{Error, Kind};

/// How much of a pipeline is read while a statement runs.
const AHEAD_BYTES: usize = 64 << 10;
/// Bytes collected before they are written to the socket.
const FLUSH_BYTES: usize = 32 << 10;
/// A buffer that a big message made larger than this is given back.
const KEEP_BYTES: usize = 64 << 10;
/// How often a client that has stopped sending is asked whether it still listens.
const PROBE: Duration = Duration::from_millis(250);

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why no message came.
#[derive(Debug)]
pub enum Broken {
    /// The client closed the connection, or the network did.
    Gone,
    /// The stream is out of step: answer with this error and close.
    Fatal(Error),
    /// One message was malformed; the stream is still in step. The flag says whether to skip to the next Sync.
    Message(Error, bool),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Broken::Gone
    }
}

/// Reading half, writing half, and their buffers.
pub struct Wire {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    /// Messages not yet written.
    pub output: BytesMut,
    ended: bool,
    probes: u32,
    message_bytes_max: usize,
}

impl Wire {
    /// Wraps a stream; `input` is what was already read from it.
    pub fn new(stream: Box<dyn Stream>, input: BytesMut, message_bytes_max: usize) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader, writer, input, output: BytesMut::with_capacity(4 << 10), ended: false, probes: 0, message_bytes_max }
    }

    /// The next message. Waits for it; cancel-safe.
    pub async fn next(&mut self) -> Result<Frontend, Broken> {
        loop {
            if let Some((kind, body)) = self.frame(false)? {
                return parse(kind, body).map_err(|e| match kind {
                    // A password message after start-up and a Terminate with a body are out of step by themselves.
                    b'p' | b'X' => Broken::Fatal(e),
                    _ => Broken::Message(e, is_extended(kind)),
                });
            }
            if self.ended || self.fill().await? == 0 {
                return Err(Broken::Gone);
            }
        }
    }

    /// The body of the next password message, at most `bytes_max` long.
    pub async fn password(&mut self, bytes_max: usize) -> Result<Bytes, Broken> {
        loop {
            if self.input.first().is_some_and(|kind| *kind != b'p') {
                return Err(Broken::Fatal(Error::new(
                    Kind::ProtocolViolation,
                    format!("expected password response, got message type {}", self.input[0]),
                )));
            }
            let claimed = self.input.get(1..5).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
            if claimed.is_some_and(|length| !(4..=bytes_max + 4).contains(&length)) {
                return Err(Broken::Fatal(Error::new(Kind::ProtocolViolation, "invalid password packet size")));
            }
            if let Some((_, body)) = self.frame(true)? {
                return Ok(body);
            }
            if self.fill().await? == 0 {
                return Err(Broken::Gone);
            }
        }
    }

    fn frame(&mut self, password: bool) -> Result<Option<(u8, Bytes)>, Broken> {
        let Some(&kind) = self.input.first() else { return Ok(None) };
        let fatal = |message: String| Broken::Fatal(Error::new(Kind::ProtocolViolation, message));
        let max = if password { Some(usize::MAX - 4) } else { body_max(kind, self.message_bytes_max) };
        let max = max.ok_or_else(|| fatal(format!("invalid frontend message type {kind}")))?;
        let Some(length) = self.input.get(1..5).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize) else { return Ok(None) };
        if length < 4 || length - 4 > max {
            return Err(fatal(format!("invalid message length {length} for message type \"{}\"", char::from(kind).escape_default())));
        }
        if self.input.len() < length + 1 {
            return Ok(None);
        }
        self.input.advance(5);
        let body = self.input.split_to(length - 4).freeze();
        if self.input.is_empty() && self.input.capacity() > KEEP_BYTES {
            self.input = BytesMut::new();
        }
        Ok(Some((kind, body)))
    }

    /// Reads what there is; 0 at the end of the stream.
    async fn fill(&mut self) -> io::Result<usize> {
        if self.input.capacity() - self.input.len() < 2048 {
            self.input.reserve(8192);
        }
        let read = self.reader.read_buf(&mut self.input).await?;
        self.ended |= read == 0;
        Ok(read)
    }

    /// Exactly `count` bytes of the start-up phase.
    pub async fn exact(&mut self, count: usize) -> Result<Bytes, Broken> {
        while self.input.len() < count {
            if self.fill().await? == 0 {
                return Err(Broken::Gone);
            }
        }
        Ok(self.input.split_to(count).freeze())
    }

    /// Whether bytes of the client wait unread in the buffer.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The stream again, for TLS to take over.
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.reader.unsplit(self.writer)
    }

    /// Completes when the client is gone. A client that only stopped sending may still be listening, so it is sent a
    /// message that means nothing to it: a closed socket answers that with a reset.
    pub async fn gone(&mut self) {
        while !self.ended {
            if self.input.len() >= AHEAD_BYTES {
                // A long pipeline waits unread: the end of the stream cannot be seen behind it.
                return std::future::pending().await;
            }
            if self.fill().await.is_err() {
                return;
            }
        }
        loop {
            // Once the stream has ended, reading tells nothing more: only writing meets the reset of a closed socket.
            if self.put_probe().await.is_err() {
                return;
            }
            tokio::time::sleep(if self.probes < 4 { PROBE } else { PROBE * 20 }).await;
        }
    }

    async fn put_probe(&mut self) -> io::Result<()> {
        self.probes = self.probes.saturating_add(1);
        self.put(PgWireBackendMessage::ParameterStatus(ParameterStatus::new("in_hot_standby".into(), "off".into())));
        self.flush().await
    }

    /// Whether the client has closed its sending side.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Appends a message.
    pub fn put(&mut self, message: PgWireBackendMessage) {
        // Encoding fails only for messages beyond their maximal length; nothing was appended but a type byte then.
        let before = self.output.len();
        if message.encode(&mut self.output).is_err() {
            self.output.truncate(before);
        }
    }

    /// Whether the buffer is worth a write.
    pub fn is_full(&self) -> bool {
        self.output.len() >= FLUSH_BYTES
    }

    /// Writes the buffer if it is full enough.
    pub async fn drain(&mut self) -> io::Result<()> {
        if self.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Writes everything. Cancel-safe: what was written has left the buffer.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let written = self.writer.write(&self.output).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.output.advance(written);
        }
        if self.output.capacity() > KEEP_BYTES {
            self.output = BytesMut::with_capacity(4 << 10);
        }
        self.writer.flush().await
    }

    /// Writes bytes past the buffer.
    pub async fn write_now(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    /// Reads and forgets until the client closes.
    pub async fn discard(&mut self) {
        self.input.clear();
        while !self.ended && self.fill().await.is_ok() {
            self.input.clear();
        }
    }

    /// Tells the client that nothing more comes.
    pub async fn close(&mut self) {
        // The client may have gone first; there is nobody left to tell.
        let _ = self.writer.shutdown().await;
    }
}
