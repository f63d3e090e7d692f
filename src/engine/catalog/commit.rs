//! Commits: one thread writes those of all sessions, several at a time.
//!
//! In: transactions. Out: the newest state, once it is on disk. Invariants: commits are serial; those that wait together
//! share one write and one sync; a state is published only after it is on disk, so what a reader sees a crash does not
//! take back (with `synchronous_commit = off` a crash of the machine may). Deliberately absent: what changed (`merge`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::{Mutex, RwLock};
use squilla_core::error::{Error, Kind, Result};
use squilla_store::fault;
use squilla_store::ledger::Ledger;
use squilla_store::rows::{COMPACTION, Commit};
use tokio::sync::oneshot;

use super::data::CatalogData;
use super::files::DataFile;
use super::keys::{NewKeys, RecentKeys};
use super::merge;

/// Commits written together at most.
const TOGETHER_MAX: usize = 512;

/// A transaction that wants to be part of the catalog.
#[derive(Debug)]
pub struct Pending {
    /// What it began with.
    pub base: Arc<CatalogData>,
    /// What it made of it.
    pub ours: Arc<CatalogData>,
    /// Keys that it added.
    pub keys: Vec<NewKeys>,
    /// Whether to wait for the disk.
    pub durable: bool,
    /// It writes the same rows anew: no change that anybody made.
    pub compaction: bool,
}

struct Request {
    pending: Pending,
    reply: oneshot::Sender<Result<Arc<CatalogData>>>,
}

struct Writer {
    current: Arc<RwLock<Arc<CatalogData>>>,
    ledger: Arc<Mutex<Ledger>>,
    recent: RecentKeys,
}

/// The thread that commits.
#[derive(Debug)]
pub struct Committer {
    requests: Option<Sender<Request>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    pub fn start(current: Arc<RwLock<Arc<CatalogData>>>, ledger: Arc<Mutex<Ledger>>) -> Result<Self> {
        let (requests, receiver) = channel();
        let writer = Writer { current, ledger, recent: RecentKeys::default() };
        let thread = std::thread::Builder::new().name("commit".into()).spawn(move || writer.run(&receiver));
        let thread = thread.map_err(|e| Error::io("could not start the commit thread", e))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Hands a transaction over; the answer is the state with it.
    pub fn submit(&self, pending: Pending) -> oneshot::Receiver<Result<Arc<CatalogData>>> {
        let (reply, answer) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // A thread that has ended drops the reply, which the waiter sees.
            let _ = requests.send(Request { pending, reply });
        }
        answer
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // What was handed over is written before the owner lets go of the directory.
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The error of a waiter whose commit thread is gone.
pub fn closed() -> Error {
    Error::new(Kind::AdminShutdown, "the database is closed")
}

struct Accepted {
    reply: oneshot::Sender<Result<Arc<CatalogData>>>,
    state: Arc<CatalogData>,
    keys: Vec<NewKeys>,
    files: Vec<Arc<DataFile>>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut together = vec![first];
            while together.len() < TOGETHER_MAX
                && let Ok(next) = requests.try_recv()
            {
                together.push(next);
            }
            self.commit(together);
        }
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let mut state = Arc::clone(&self.current.read());
        let (mut accepted, mut commits, mut durable) = (Vec::new(), Vec::new(), false);
        for Request { pending, reply } in requests {
            match self.prepare(&pending, &state, &accepted) {
                Ok((next, files, commit)) => {
                    if commit.changes.is_empty() {
                        let _ = reply.send(Ok(Arc::clone(&state)));
                        continue;
                    }
                    state = Arc::new(next);
                    durable |= pending.durable;
                    commits.push(commit);
                    accepted.push(Accepted { reply, state: Arc::clone(&state), keys: pending.keys, files });
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            }
        }
        if commits.is_empty() {
            return;
        }
        let counters = &state.counters;
        let counters = [("oid", counters.oid.load(Ordering::Acquire)), ("file", counters.file.load(Ordering::Acquire))];
        let written = self.ledger.lock().commit(&commits, &counters, durable);
        match written {
            Ok(_) => {
                accepted.iter().flat_map(|a| &a.files).for_each(|f| f.disk.commit());
                *self.current.write() = state;
                fault::reach("commit_published");
                for done in accepted {
                    self.recent.add(done.state.snapshot, done.keys);
                    let _ = done.reply.send(Ok(done.state));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                accepted.into_iter().for_each(|a| drop(a.reply.send(Err(error.clone()))));
            }
        }
    }

    fn prepare(&self, pending: &Pending, state: &CatalogData, before: &[Accepted]) -> Result<(CatalogData, Vec<Arc<DataFile>>, Commit)> {
        self.recent.check(pending.base.snapshot, &pending.keys)?;
        let mut together = RecentKeys::default();
        before.iter().for_each(|a| together.add(a.state.snapshot, a.keys.clone()));
        together.check(pending.base.snapshot, &pending.keys)?;
        let mut next = merge::merge(&pending.base, &pending.ours, state)?;
        next.snapshot = state.snapshot + 1;
        let (changes, files) = merge::changes(&merge::difference(state, &next), &next)?;
        let sort = if pending.compaction { COMPACTION } else { "" };
        Ok((next, files, Commit { transaction: format!("{sort}{}", uuid::Uuid::now_v7()), changes }))
    }
}
