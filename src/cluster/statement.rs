//! One run of a statement on the workers: told to each of them first, followed while it runs, asked for the rest at its end.
//!
//! In: the workers that it may use and what they must know. Out: row errors of all of them in the statement's own account,
//! and the first loss or spent budget as an error. Invariant: dropping it stops the statement's work on every worker.
//! Deliberately absent: plans and rows.

use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use squilla_core::error::{Error, Result};
use squilla_engine::exec::row_errors::StatementErrors;
use squilla_engine::run::ShuffleRow;
use squilla_engine::session::task::Facts;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Streaming;
use url::Url;

use crate::channels::{Channels, address};
use crate::control::{Begin, ControlClient, News};
use crate::members::Ready;

/// Shuffles that `squilla.shuffles` remembers.
const SHUFFLES_MAX: usize = 10_000;

/// What stages moved lately, of all statements.
#[derive(Default)]
pub struct Shuffles(Mutex<std::collections::VecDeque<ShuffleRow>>);

impl Shuffles {
    fn push(&self, query_id: i64, worker: &Url, news: &News) {
        let mut all = self.0.lock();
        let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for o in &news.shuffles {
            if all.len() >= SHUFFLES_MAX {
                all.pop_front();
            }
            all.push_back(ShuffleRow {
                query_id,
                worker: address(worker),
                stage: int(o.stage),
                task: int(o.task),
                wire_bytes: int(o.wire_bytes),
                memory_bytes: int(o.memory_bytes),
                spilled_bytes: int(o.spilled_bytes),
                at_us: o.at_us,
            });
        }
    }

    /// A copy, oldest first.
    pub fn rows(&self) -> Vec<ShuffleRow> {
        self.0.lock().iter().cloned().collect()
    }
}

/// Where news of a statement go.
#[derive(Clone)]
struct Account {
    query_id: i64,
    errors: Arc<StatementErrors>,
    shuffles: Arc<Shuffles>,
}

impl Account {
    fn take(&self, worker: &Url, news: News) -> Result<()> {
        self.shuffles.push(self.query_id, worker, &news);
        self.errors.absorb(news.rows)
    }
}

/// A statement on the workers.
pub struct Running {
    key: String,
    workers: Vec<(Url, ControlClient)>,
    channels: Arc<Channels>,
    account: Account,
    followers: Vec<AbortHandle>,
    failure: watch::Receiver<Option<Error>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.followers.iter().for_each(AbortHandle::abort);
    }
}

impl Running {
    /// Tells the workers. Fails with SQ004 when one of them is not there any more.
    pub async fn begin(
        key: &str,
        ready: &[Ready],
        channels: &Arc<Channels>,
        facts: &Facts,
        errors: &Arc<StatementErrors>,
        shuffles: &Arc<Shuffles>,
    ) -> Result<Self> {
        let one = |url: Url| async move {
            let client = ControlClient(channels.channel(&url)?);
            let begun = client.begin(Begin { version: crate::VERSION.to_owned(), key: key.to_owned(), facts: facts.clone() }).await;
            let begun = begun.map_err(|s| channels.failure(&url, &s))?;
            Ok::<_, Error>((url, client, begun))
        };
        let begun = join_all(ready.iter().map(|r| one(r.url.clone()))).await.into_iter().collect::<Result<Vec<_>>>()?;
        let (failed, failure) = watch::channel(None);
        let failed = Arc::new(failed);
        let account = Account { query_id: facts.query_id, errors: Arc::clone(errors), shuffles: Arc::clone(shuffles) };
        let mut running = Self { key: key.to_owned(), workers: Vec::new(), channels: Arc::clone(channels), account, followers: Vec::new(), failure };
        for (url, client, news) in begun {
            let follow = follow(url.clone(), news, running.account.clone(), Arc::clone(channels), Arc::clone(&failed));
            running.followers.push(channels.sockets().spawn(follow).abort_handle());
            running.workers.push((url, client));
        }
        Ok(running)
    }

    /// Ends with an error when a worker is lost or the budget of failed rows is spent; else never.
    pub fn failed(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut failure = self.failure.clone();
        async move {
            loop {
                if let Some(error) = failure.borrow_and_update().clone() {
                    return error;
                }
                if failure.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Why it has failed, if it has.
    pub fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    /// The last news of all workers, after the last row.
    pub async fn finish(&self) -> Result<()> {
        let one = |url: &Url, client: &ControlClient| {
            let (url, client) = (url.clone(), client.clone());
            async move { client.finish(&self.key).await.map(|news| (url.clone(), news)).map_err(|s| self.channels.failure(&url, &s)) }
        };
        for answer in join_all(self.workers.iter().map(|(u, c)| one(u, c))).await {
            let (url, news) = answer?;
            self.account.take(&url, news)?;
        }
        Ok(())
    }
}

async fn follow(url: Url, mut news: Streaming<News>, account: Account, channels: Arc<Channels>, failed: Arc<watch::Sender<Option<Error>>>) {
    let error = loop {
        match news.message().await {
            Ok(Some(told)) => {
                if let Err(error) = account.take(&url, told) {
                    break error;
                }
            }
            // The worker ended the statement by itself: it is stopping.
            Ok(None) => break channels.failure(&url, &tonic::Status::unavailable("the worker is stopping")),
            Err(status) => break channels.failure(&url, &status),
        }
    };
    failed.send_if_modified(|first| {
        let new = first.is_none();
        if new {
            *first = Some(error);
        }
        new
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::control::TaskOutput;

    /// Resident bytes of this process.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    #[test]
    fn a_shuffle_between_4096_and_4096_tasks_takes_no_more_memory_than_a_small_one() {
        let (shuffles, url) = (Shuffles::default(), Url::parse("http://10.0.0.1:50051").unwrap());
        let mut after_a_few = 0;
        for producer in 0..4096u64 {
            let one = |reader: u64| TaskOutput { stage: 1, task: producer, wire_bytes: reader, ..TaskOutput::default() };
            shuffles.push(1, &url, &News { shuffles: (0..4096).map(one).collect(), ..News::default() });
            if producer == 16 {
                after_a_few = resident();
            }
        }
        let rows = shuffles.rows();
        assert_eq!(rows.len(), SHUFFLES_MAX);
        assert!(rows.last().is_some_and(|r| r.task == 4095 && r.wire_bytes == 4095));
        let grown = resident().saturating_sub(after_a_few);
        assert!(grown < 16 << 20, "{grown} bytes more");
    }
}
