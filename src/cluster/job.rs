//! Who works on a named job, and what becomes of its folder.
//!
//! In: the workers of now, again and again. Out: a crew that each knows the statement, and the job's folder, claimed while
//! the statement runs and removed when it is committed. Invariant: a worker that is lost leaves the crew and nothing else
//! ends. Deliberately absent: the leases (`lease`).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::exec::row_errors::StatementErrors;
use squilla_engine::session::task::Facts;
use url::Url;

use crate::channels::Channels;
use crate::lease::claim;
use crate::members::{Members, Ready};
use crate::statement::{Running, Shuffles};

/// The folders of all jobs of a server.
pub struct Jobs {
    /// Where they are; None where the server keeps nothing.
    pub root: Option<PathBuf>,
    claimed: Mutex<HashSet<PathBuf>>,
    /// Of statements that have run to their end and are not committed yet.
    by_statement: Mutex<HashMap<i64, PathBuf>>,
}

impl Jobs {
    /// Jobs under this folder.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root, claimed: Mutex::default(), by_statement: Mutex::default() }
    }

    /// Takes a folder for one statement.
    pub fn claim(self: &Arc<Self>, folder: PathBuf) -> Result<Claim> {
        claim(&folder, &self.claimed)?;
        Ok(Claim { jobs: Arc::clone(self), folder })
    }

    /// The statement's rows are where they belong: what its leases gave is not needed again.
    pub fn committed(&self, query_id: i64) {
        if let Some(folder) = self.by_statement.lock().remove(&query_id)
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "the folder of a finished job could not be removed");
        }
    }
}

/// A folder while a statement works on it.
pub struct Claim {
    jobs: Arc<Jobs>,
    folder: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.jobs.claimed.lock().remove(&self.folder);
    }
}

/// Which of the workers can do something.
pub type Choice = dyn Fn(&[Ready]) -> Result<Vec<Ready>> + Send + Sync;

/// The workers of one job.
pub struct Crew {
    /// Who there is.
    pub members: Arc<Members>,
    /// Connections.
    pub channels: Arc<Channels>,
    /// What they must know.
    pub facts: Arc<Facts>,
    /// The statement's account.
    pub errors: Arc<StatementErrors>,
    /// What they move.
    pub shuffles: Arc<Shuffles>,
    /// Which workers can do it.
    pub fits: Box<Choice>,
    /// How long to wait for one.
    pub patience: Duration,
    /// Those that know the statement.
    pub begun: tokio::sync::Mutex<HashMap<Url, (String, Running)>>,
    /// The job's folder.
    pub claim: Claim,
}

impl Crew {
    /// Those that can take leases now, each with the key by which it knows the statement.
    pub async fn now(&self) -> Result<Vec<(Url, String)>> {
        let mut ready = self.members.ready();
        if ready.is_empty() {
            ready = self.members.ready_after_news(self.patience).await;
        }
        if ready.is_empty() {
            return Err(self.members.nobody());
        }
        let ready = (self.fits)(&ready)?;
        let mut begun = self.begun.lock().await;
        for (_, running) in begun.values() {
            if let Some(error) = running.failure().filter(|e| e.kind != Kind::WorkerLost) {
                return Err(error);
            }
        }
        begun.retain(|url, (_, running)| running.failure().is_none() && ready.iter().any(|r| r.url == *url));
        for worker in &ready {
            if begun.contains_key(&worker.url) {
                continue;
            }
            let key = uuid::Uuid::new_v4().simple().to_string();
            let one = std::slice::from_ref(worker);
            match Running::begin(&key, one, &self.channels, &self.facts, &self.errors, &self.shuffles).await {
                Ok(running) => drop(begun.insert(worker.url.clone(), (key, running))),
                Err(error) if error.kind == Kind::WorkerLost => {}
                Err(error) => return Err(error),
            }
        }
        if begun.is_empty() {
            return Err(self.members.nobody());
        }
        Ok(begun.iter().map(|(url, (key, _))| (url.clone(), key.clone())).collect())
    }

    /// After the last row: the last news, and the folder waits for the commit.
    pub async fn finish(&self) -> Result<()> {
        for (_, running) in self.begun.lock().await.values() {
            match running.finish().await {
                // Its leases are made: what it still had to tell is lost with it.
                Err(error) if error.kind == Kind::WorkerLost => {}
                result => result?,
            }
        }
        self.claim.jobs.by_statement.lock().insert(self.facts.query_id, self.claim.folder.clone());
        Ok(())
    }
}

/// What a statement is told that cannot be done in leases.
pub fn not_in_leases() -> Error {
    Error::unsupported("only a statement whose media and model calls read one listing can be a named job")
        .hint("Write what read_files gives with COPY, INSERT or CREATE TABLE AS, or reset squilla.resume.")
}
