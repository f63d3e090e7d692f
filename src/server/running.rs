//! Work of the engine in flight, watched from the connection.
//!
//! In: a future of the engine. Out: its result, or the reason it was stopped: cancelled by request, timed out, the client
//! gone, a panic. Invariant: work that can take long runs on the engine's threads, never on the connection's, so that a busy
//! query never delays another connection or its own cancellation; what is polled here before is a single step; a watcher that
//! is dropped stops its work. Deliberately absent: what the work is.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use squilla_core::error::{Error, Kind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, caught};
use crate::report;
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

/// How often messages of a running statement (progress, warnings) are passed on.
const NOTICES: Duration = Duration::from_secs(1);

/// Passes on the messages of the statement so far.
pub fn put_notices(wire: &mut Wire, backend: &Backend) -> bool {
    let notices = backend.notices();
    for (error, severity, code) in &notices {
        wire.put(report::notice(error, severity, code));
    }
    !notices.is_empty()
}

/// Waits for work of the engine.
pub async fn watch<T>(work: impl Future<Output = Result<T>>, wire: &mut Wire, backend: &Backend) -> std::result::Result<T, Stop> {
    let cancel = backend.cancelled();
    let mut work = pin!(caught(work));
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Stop::Failed(cancelled())),
            () = until(backend.deadline()) => return Err(Stop::Failed(timed_out())),
            done = &mut work => return done.map_err(Stop::Failed),
            () = wire.gone() => return Err(Stop::Gone),
            () = tokio::time::sleep(NOTICES) => if put_notices(wire, backend) {
                wire.flush().await.map_err(|_| Stop::Gone)?;
            },
        }
    }
}

/// Rows under way; their source stops when this is dropped.
struct Running {
    task: JoinHandle<Result<Pumped>>,
    pieces: mpsc::Receiver<Piece>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends at most `rows_max` rows of a source (0: all) and gives it back.
pub async fn deliver(source: Source, rows_max: usize, wire: &mut Wire, backend: &Backend) -> std::result::Result<Pumped, Stop> {
    let (sender, mut pieces) = mpsc::channel(2);
    let (cancel, deadline) = (backend.cancelled(), backend.deadline());
    let mut pump = Box::pin(caught(source.pump(rows_max, sender)));
    // A result that is here already, and small, is written without a change of threads.
    if let Poll::Ready(pumped) = futures::poll!(&mut pump) {
        while let Ok(piece) = pieces.try_recv() {
            put(piece, wire, &cancel, deadline).await?;
        }
        return pumped.map_err(Stop::Failed);
    }
    let mut running = Running { task: backend.spawn(pump), pieces };
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Stop::Failed(cancelled())),
            () = until(deadline) => return Err(Stop::Failed(timed_out())),
            piece = running.pieces.recv() => match piece {
                Some(piece) => put(piece, wire, &cancel, deadline).await?,
                None => break,
            },
            () = wire.gone() => return Err(Stop::Gone),
            () = tokio::time::sleep(NOTICES) => if put_notices(wire, backend) {
                wire.flush().await.map_err(|_| Stop::Gone)?;
            },
        }
    }
    // The channel closes when the source has ended: this does not wait.
    match (&mut running.task).await {
        Ok(result) => result.map_err(Stop::Failed),
        Err(e) => Err(Stop::Failed(Error::internal(format!("the statement failed: {e}")))),
    }
}

/// Writes a piece; a slow reader holds up the work, not the watch over it.
async fn put(piece: Piece, wire: &mut Wire, cancel: &CancellationToken, deadline: Option<Instant>) -> std::result::Result<(), Stop> {
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

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Completes when the statement is cancelled or its time is up.
pub async fn stopped(cancel: CancellationToken, deadline: Option<Instant>) -> Stop {
    tokio::select! {
        () = cancel.cancelled() => Stop::Failed(cancelled()),
        () = until(deadline) => Stop::Failed(timed_out()),
    }
}

/// The error of a statement stopped by its user.
fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "canceling statement due to user request")
}

fn timed_out() -> Error {
    Error::new(Kind::Cancelled, "canceling statement due to statement timeout")
}
