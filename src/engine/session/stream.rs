//! A running statement as a stream of batches.
//!
//! In: a physical plan. Out: a stream fed from the statement threads through a short channel, so that a slow reader holds
//! the plan back. Invariant: the stream ends with an error when the statement is cancelled, its time is up or it panics;
//! dropping it aborts the plan. Row-error warnings are pushed before the end is seen.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, stream};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::CancelFlag;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::database::Database;
use crate::error::from_datafusion;
use crate::exec::row_errors::StatementErrors;
use crate::session::{Notice, RowStream, Session};

/// Batches between the plan and its reader.
const CHANNEL_BATCHES: usize = 2;

/// How a statement can be stopped.
#[derive(Clone)]
pub struct Stop {
    /// Seen by kernels.
    pub flag: CancelFlag,
    /// Seen by the stream.
    pub token: CancellationToken,
    /// statement_timeout
    pub deadline: Option<tokio::time::Instant>,
}

impl Stop {
    /// A deadline after `timeout`; none when it is zero.
    pub fn deadline(timeout: Duration) -> Option<tokio::time::Instant> {
        (!timeout.is_zero()).then(|| tokio::time::Instant::now() + timeout)
    }

    /// Runs `work` until it ends or the statement is stopped.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let timer = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.token.cancelled() => Err(Error::new(Kind::Cancelled, "canceling statement due to user request")),
            () = timer => {
                self.flag.cancel();
                Err(Error::new(Kind::Cancelled, "canceling statement due to statement timeout"))
            }
            result = work => result,
        }
    }
}

/// Cancels kernels, the plan and its progress messages when the reader goes away.
struct OnDrop(CancelFlag, [Option<tokio::task::AbortHandle>; 2]);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
        self.1.iter().flatten().for_each(tokio::task::AbortHandle::abort);
    }
}

/// A statement that takes longer says how far it is.
const PROGRESS_AFTER: Duration = Duration::from_secs(10);
/// And again after each of these.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Whether the client is told how far a statement is: always, never, or when a person sits at psql.
fn tells_progress(session: &Session) -> bool {
    match session.settings().get("squilla.progress") {
        "notice" => true,
        "auto" => session.shared.activity().application_name == "psql",
        _ => false,
    }
}

async fn tell_progress(session: Arc<Session>) {
    tokio::time::sleep(PROGRESS_AFTER).await;
    while let Some(progress) = session.shared.progress() {
        session.notify(Notice::plain(progress.text()));
        tokio::time::sleep(PROGRESS_EVERY).await;
    }
}

/// Starts `plan` and gives its batches.
pub fn start(
    database: &Arc<Database>,
    session: &Arc<Session>,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    errors: Arc<StatementErrors>,
    stop: Stop,
) -> Result<RowStream> {
    let (sender, receiver) = mpsc::channel::<Result<RecordBatch>>(CHANNEL_BATCHES);
    let runner = Arc::clone(&database.runner);
    let flag = stop.flag.clone();
    let teller = match tells_progress(session) {
        true => Some(database.runtime()?.spawn(tell_progress(Arc::clone(session))).abort_handle()),
        false => None,
    };
    let session = Arc::clone(session);
    let task = database.runtime()?.spawn(
        async move {
            let work = std::panic::AssertUnwindSafe(pump(runner.run(plan, context), &sender, &stop));
            let result = match futures::FutureExt::catch_unwind(work).await {
                Ok(result) => result.and_then(|()| errors.check_end()),
                Err(_) => Err(Error::internal("the statement failed in an unexpected way")),
            };
            if let Some(warning) = errors.warning() {
                session.notify(Notice::warning("01000", warning));
            }
            if let Err(error) = result {
                let _ = sender.send(Err(error)).await;
            }
        }
        .instrument(tracing::Span::current()),
    );
    let guard = OnDrop(flag, [Some(task.abort_handle()), teller]);
    let batches = stream::unfold((receiver, Some(task), guard), |(mut receiver, task, guard)| async move {
        match receiver.recv().await {
            Some(batch) => Some((batch, (receiver, task, guard))),
            None => match task?.await {
                Ok(()) => None,
                Err(e) if e.is_cancelled() => {
                    Some((Err(Error::new(Kind::Cancelled, "canceling statement due to user request")), (receiver, None, guard)))
                }
                Err(e) => Some((Err(Error::internal(format!("the statement failed: {e}"))), (receiver, None, guard))),
            },
        }
    });
    Ok(batches.boxed())
}

async fn pump(stream: Result<SendableRecordBatchStream>, sender: &mpsc::Sender<Result<RecordBatch>>, stop: &Stop) -> Result<()> {
    let mut stream = stream?;
    loop {
        let next = stop.guard(async { stream.next().await.transpose().map_err(from_datafusion) }).await?;
        let Some(batch) = next else { return Ok(()) };
        // The reader may be slow: its time counts too, and a cancel must reach a statement that waits for it.
        stop.guard(async { sender.send(Ok(batch)).await.map_err(|_| Error::new(Kind::Cancelled, "the reader went away")) }).await?;
    }
}
