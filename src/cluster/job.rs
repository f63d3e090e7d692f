//! Who works on the leases of a statement, and what becomes of their folder.
//!
//! In: the workers of now, again and again. Out: a crew that each knows the statement, and a folder: a named job's, claimed
//! while the statement runs and removed when it is committed, or one of the statement's own that goes with it. Invariants: a
//! worker that is lost leaves the crew and nothing else ends; one that is stopping takes no more leases and is let go when it
//! has none. Deliberately absent: the leases (`lease`).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::exec::row_errors::StatementErrors;
use squilla_engine::session::task::Facts;
use url::Url;

use crate::channels::Channels;
use crate::lease::Hand;
use crate::members::{Members, Ready};
use crate::statement::{Running, Shuffles};

/// The folder of statements without a name: no role has this name there.
const UNNAMED: &str = ".unnamed";
/// Leases that one worker has at a time: two, so that one is under way while the other is sent, and one a core.
const ROOM: std::ops::RangeInclusive<u64> = 2..=16;
/// How long a worker that is let go has to tell the last of what happened.
const FAREWELL: Duration = Duration::from_secs(1);

/// The folders of all jobs of a server.
pub struct Jobs {
    /// Where they are; None where the server keeps nothing.
    pub root: Option<PathBuf>,
    claimed: Mutex<HashSet<PathBuf>>,
    /// Of statements that have run to their end and are not committed yet.
    by_statement: Mutex<HashMap<i64, PathBuf>>,
}

impl Jobs {
    /// Jobs under this folder. What statements without a name left there when the server was killed is removed.
    pub fn new(root: Option<PathBuf>) -> Self {
        if let Some(left) = root.as_ref().map(|root| root.join(UNNAMED)).filter(|left| left.exists()) {
            remove(&left);
        }
        Self { root, claimed: Mutex::default(), by_statement: Mutex::default() }
    }

    /// Takes the folder of a named job for one statement.
    pub fn claim(self: &Arc<Self>, folder: PathBuf) -> Result<Claim> {
        if self.claimed.lock().insert(folder.clone()) {
            return Ok(Claim { jobs: Arc::clone(self), folder, keeps: true });
        }
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Err(Error::new(Kind::NotInPrerequisiteState, format!("the job \"{name}\" is being worked on by another statement")))
    }

    /// A folder for a statement without a name.
    pub fn unnamed(self: &Arc<Self>) -> Option<Claim> {
        let folder = self.root.as_ref()?.join(UNNAMED).join(uuid::Uuid::new_v4().simple().to_string());
        Some(Claim { jobs: Arc::clone(self), folder, keeps: false })
    }

    /// The statement's rows are where they belong: what its leases gave is not needed again.
    pub fn committed(&self, query_id: i64) {
        if let Some(folder) = self.by_statement.lock().remove(&query_id) {
            remove(&folder);
        }
    }
}

fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "the folder of a finished job could not be removed");
        }
        _ => {}
    }
}

/// A folder while a statement works on it.
pub struct Claim {
    jobs: Arc<Jobs>,
    /// Where.
    pub folder: PathBuf,
    /// Whether what is in it stays until the statement is committed.
    pub keeps: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.jobs.claimed.lock().remove(&self.folder);
        if !self.keeps {
            remove(&self.folder);
        }
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
    /// Those that can take leases now. `busy` are those that have some: while there are such, an empty crew is no error.
    pub async fn now(&self, busy: &HashSet<Url>) -> Result<Vec<Hand>> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let hands = match self.look(busy).await {
                // Nobody has the device: it may come back to a job that has begun, not to one that has not.
                Err(error) if error.kind == Kind::DeviceLost && !self.begun.lock().await.is_empty() => Vec::new(),
                hands => hands?,
            };
            if !hands.is_empty() || !busy.is_empty() {
                return Ok(hands);
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Err(self.members.nobody());
            }
            self.members.ready_after_news(left).await;
        }
    }

    async fn look(&self, busy: &HashSet<Url>) -> Result<Vec<Hand>> {
        let mut ready = self.members.ready();
        if !ready.is_empty() {
            ready = (self.fits)(&ready)?;
        }
        let mut begun = self.begun.lock().await;
        for (_, running) in begun.values() {
            if let Some(error) = running.failure().filter(|e| e.kind != Kind::WorkerLost) {
                return Err(error);
            }
        }
        let stays = |url: &Url, running: &Running| running.failure().is_none() && (busy.contains(url) || ready.iter().any(|r| r.url == *url));
        let leave: Vec<Url> = begun.iter().filter(|(url, (_, running))| !stays(url, running)).map(|(url, _)| url.clone()).collect();
        for (_, running) in leave.iter().filter_map(|url| begun.remove(url)) {
            if running.failure().is_none() {
                let _ = tokio::time::timeout(FAREWELL, running.finish()).await;
            }
        }
        for worker in ready.iter().filter(|r| !begun.contains_key(&r.url)).collect::<Vec<_>>() {
            let key = uuid::Uuid::new_v4().simple().to_string();
            let one = std::slice::from_ref(worker);
            match Running::begin(&key, one, &self.channels, &self.facts, &self.errors, &self.shuffles).await {
                Ok(running) => drop(begun.insert(worker.url.clone(), (key, running))),
                Err(error) if error.kind == Kind::WorkerLost => {}
                Err(error) => return Err(error),
            }
        }
        let hand = |r: &Ready| {
            let (key, _) = begun.get(&r.url)?;
            Some(Hand { url: r.url.clone(), key: key.clone(), room: r.info.cores.clamp(*ROOM.start(), *ROOM.end()) as usize })
        };
        Ok(ready.iter().filter_map(hand).collect())
    }

    /// After the last row: the last news, and the folder of a named job waits for the commit.
    pub async fn finish(&self) -> Result<()> {
        for (_, running) in self.begun.lock().await.values() {
            match running.finish().await {
                // Its leases are made: what it still had to tell is lost with it.
                Err(error) if error.kind == Kind::WorkerLost => {}
                result => result?,
            }
        }
        if self.claim.keeps {
            self.claim.jobs.by_statement.lock().insert(self.facts.query_id, self.claim.folder.clone());
        }
        Ok(())
    }
}
