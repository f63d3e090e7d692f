//! Work of the engine in flight, watched from the connection.
//!
//! In: a future of the engine. Out: its result, or the reason it was stopped: cancelled by request, timed out, the client
//! gone, a panic. Invariant: the work runs on the engine's threads, never on the connection's, so that a busy query never
//! delays another connection or its own cancellation; a watcher that is dropped stops its work. Deliberately absent:
//! what the work is.

use futures::FutureExt;
use std::panic::AssertUnwindSafe;

use squilla_core::error::{Error, Kind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::stream::{Piece, Pumped, Source};
use crate::wire::Wire;

/// Why work did not end well.
#[derive(Debug)]
pub enum Stop {
    /// The statement failed; the session goes on.
    Failed(Error),
    /// The session ends with this error.
    Fatal(Error),
    /// The client is gone.
    Gone,
}

/// Work on the engine's threads; stopped when dropped.
pub struct Running<T> {
    task: JoinHandle<Result<T>>,
    pieces: Option<mpsc::Receiver<Piece>>,
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A panic inside the future becomes an error of the statement.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::internal(format!("the statement hit a defect: {}", text.unwrap_or_else(|| "unknown panic".into()))))
    })
}

impl<T: Send + 'static> Running<T> {
    /// Starts work without rows.
    pub fn work(backend: &Backend, work: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self { task: backend.spawn(caught(work)), pieces: None }
    }

    /// Waits for the result.
    pub async fn finish(mut self, wire: &mut Wire, backend: &Backend) -> std::result::Result<T, Stop> {
        let (cancel, deadline) = (backend.cancelled(), backend.deadline());
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Stop::Failed(cancelled())),
                () = until(deadline) => return Err(Stop::Failed(timed_out())),
                piece = next(&mut self.pieces) => match piece {
                    Some(piece) => self.put(piece, wire, &cancel, deadline).await?,
                    None => self.pieces = None,
                },
                done = &mut self.task, if self.pieces.is_none() => return match done {
                    Ok(result) => result.map_err(Stop::Failed),
                    Err(e) if e.is_panic() => Err(Stop::Failed(Error::internal("the statement hit a defect"))),
                    Err(_) => Err(Stop::Failed(cancelled())),
                },
                () = wire.gone() => return Err(Stop::Gone),
            }
        }
    }

    /// Writes a piece; a slow reader holds up the work, not the watch over it.
    async fn put(&self, piece: Piece, wire: &mut Wire, cancel: &CancellationToken, deadline: Option<Instant>) -> std::result::Result<(), Stop> {
        if wire.output.is_empty() {
            wire.output = piece.bytes;
        } else {
            wire.output.extend_from_slice(&piece.bytes);
        }
        if !piece.urgent && !wire.is_full() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Stop::Failed(cancelled())),
            () = until(deadline) => Err(Stop::Failed(timed_out())),
            written = wire.flush() => written.map_err(|_| Stop::Gone),
        }
    }
}

impl Running<Pumped> {
    /// Starts sending rows of a source.
    pub fn pump(backend: &Backend, source: Source, rows_max: usize) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        Self { task: backend.spawn(caught(source.pump(rows_max, sender))), pieces: Some(pieces) }
    }

    /// Writes the rows as they come and waits for the end.
    pub async fn deliver(self, wire: &mut Wire, backend: &Backend) -> std::result::Result<Pumped, Stop> {
        self.finish(wire, backend).await
    }
}

async fn next(pieces: &mut Option<mpsc::Receiver<Piece>>) -> Option<Piece> {
    match pieces {
        Some(pieces) => pieces.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The error of a statement stopped by its user.
pub fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "canceling statement due to user request")
}

fn timed_out() -> Error {
    Error::new(Kind::Cancelled, "canceling statement due to statement timeout")
}
