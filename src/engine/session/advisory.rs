//! Advisory locks: numbers that sessions of one process agree on.
//!
//! In: keys, asked for by sessions. Out: who holds what. Invariant: an exclusive lock has one holder; a session that holds a
//! lock gets it again at once and gives it back as often; locks of a transaction end with it, all others with the session.
//! A wait ends with the lock, a cancel, `lock_timeout`, or a deadlock, which is found by the one who closes the circle.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use squilla_core::error::{Error, Kind, Result};

use crate::session::Session;

/// What a lock is about: one 64-bit number, or two of 32 bits, which are another space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `pg_advisory_lock(bigint)`
    One(i64),
    /// `pg_advisory_lock(integer, integer)`
    Two(i32, i32),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The lock.
    pub key: Key,
    /// Together with others who share it.
    pub shared: bool,
    /// Until the transaction ends, rather than until it is given back.
    pub transaction: bool,
}

/// How often a waiter looks whether it is cancelled.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Default)]
struct Held {
    /// Exclusive and shared, each by session and by transaction.
    counts: [[u32; 2]; 2],
}

impl Held {
    fn any(self, shared: bool) -> bool {
        self.counts[usize::from(shared)].iter().any(|n| *n > 0)
    }

    fn none(self) -> bool {
        !self.any(false) && !self.any(true)
    }
}

#[derive(Default)]
struct Table {
    locks: HashMap<Key, HashMap<i32, Held>>,
    /// What each waiting session waits for.
    waiting: HashMap<i32, Request>,
}

impl Table {
    /// The sessions that keep this one from the lock.
    fn blockers(&self, pid: i32, request: Request) -> Vec<i32> {
        let holders = self.locks.get(&request.key);
        let blocks = |held: &Held| held.any(false) || (!request.shared && held.any(true));
        holders.map(|h| h.iter().filter(|(holder, held)| **holder != pid && blocks(held)).map(|(holder, _)| *holder).collect()).unwrap_or_default()
    }

    fn take(&mut self, pid: i32, request: Request) -> bool {
        if !self.blockers(pid, request).is_empty() {
            return false;
        }
        let held = self.locks.entry(request.key).or_default().entry(pid).or_default();
        held.counts[usize::from(request.shared)][usize::from(request.transaction)] += 1;
        true
    }

    /// Whether waiting for these leads back to the one who waits.
    fn circle(&self, pid: i32, request: Request) -> bool {
        let mut seen = Vec::new();
        let mut next = self.blockers(pid, request);
        while let Some(blocker) = next.pop() {
            if blocker == pid {
                return true;
            }
            if seen.contains(&blocker) {
                continue;
            }
            seen.push(blocker);
            if let Some(wanted) = self.waiting.get(&blocker) {
                // For the blocker this session is in the way like any other.
                next.extend(self.blockers(blocker, *wanted));
            }
        }
        false
    }

    fn tidy(&mut self) {
        self.locks.retain(|_, holders| {
            holders.retain(|_, held| !held.none());
            !holders.is_empty()
        });
    }
}

/// The advisory locks of the process.
#[derive(Default)]
pub struct AdvisoryLocks {
    table: Mutex<Table>,
    changed: Condvar,
}

/// One lock that a session holds or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// Session.
    pub pid: i32,
    /// Lock.
    pub key: Key,
    /// Shared rather than exclusive.
    pub shared: bool,
    /// Held rather than waited for.
    pub granted: bool,
}

impl AdvisoryLocks {
    /// Takes the lock if nobody is in the way.
    pub fn try_lock(&self, pid: i32, request: Request) -> bool {
        self.table.lock().take(pid, request)
    }

    /// Takes the lock, waiting as long as `timeout` (none: for ever) and as `cancelled` says no. Blocks the thread.
    ///
    /// # Errors
    /// 55P03 after the timeout, 40P01 for a deadlock, 57014 when cancelled.
    pub fn lock(&self, pid: i32, request: Request, timeout: Option<Duration>, cancelled: impl Fn() -> bool) -> Result<()> {
        let until = timeout.map(|t| Instant::now() + t);
        let mut table = self.table.lock();
        let done = loop {
            if table.take(pid, request) {
                break Ok(());
            }
            if table.circle(pid, request) {
                break Err(Error::new(Kind::Deadlock, "deadlock detected").hint("See server log for query details."));
            }
            if cancelled() {
                break Err(Error::new(Kind::Cancelled, "canceling statement due to user request"));
            }
            if until.is_some_and(|at| Instant::now() >= at) {
                break Err(Error::new(Kind::LockNotAvailable, "canceling statement due to lock timeout"));
            }
            table.waiting.insert(pid, request);
            let left = until.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
            self.changed.wait_for(&mut table, left);
        };
        table.waiting.remove(&pid);
        done
    }

    /// Gives a lock of the session back once; false when it is not held so.
    pub fn unlock(&self, pid: i32, key: Key, shared: bool) -> bool {
        let mut table = self.table.lock();
        let held = table.locks.get_mut(&key).and_then(|h| h.get_mut(&pid));
        let Some(count) = held.map(|h| &mut h.counts[usize::from(shared)][0]).filter(|count| **count > 0) else { return false };
        *count -= 1;
        table.tidy();
        self.changed.notify_all();
        true
    }

    /// Gives all locks of the session back that are not a transaction's.
    pub fn unlock_all(&self, pid: i32) {
        self.release(pid, &[0]);
    }

    /// The transaction of the session has ended.
    pub fn release_transaction(&self, pid: i32) {
        self.release(pid, &[1]);
    }

    /// The session has ended.
    pub fn release_all(&self, pid: i32) {
        self.release(pid, &[0, 1]);
    }

    fn release(&self, pid: i32, sorts: &[usize]) {
        let mut table = self.table.lock();
        if table.locks.is_empty() {
            return;
        }
        for held in table.locks.values_mut().filter_map(|holders| holders.get_mut(&pid)) {
            for sort in sorts {
                held.counts.iter_mut().for_each(|counts| counts[*sort] = 0);
            }
        }
        table.tidy();
        self.changed.notify_all();
    }

    /// Who holds and who waits, for `pg_locks`.
    pub fn rows(&self) -> Vec<LockRow> {
        let table = self.table.lock();
        let mut rows: Vec<LockRow> =
            table.waiting.iter().map(|(pid, r)| LockRow { pid: *pid, key: r.key, shared: r.shared, granted: false }).collect();
        for (key, holders) in &table.locks {
            for (pid, held) in holders {
                let kinds = [false, true].into_iter().filter(|shared| held.any(*shared));
                rows.extend(kinds.map(|shared| LockRow { pid: *pid, key: *key, shared, granted: true }));
            }
        }
        rows.sort_by_key(|r| (r.key, r.pid, r.shared));
        rows
    }
}

impl Session {
    /// Takes an advisory lock, waiting for it. Blocks the thread, which must be one of the statement threads.
    pub fn advisory_lock(&self, request: Request) -> Result<()> {
        let timeout = Some(self.settings().duration("lock_timeout")).filter(|t| !t.is_zero());
        let wait = || self.database.advisory.lock(self.shared.pid, request, timeout, || self.shared.is_cancelled());
        match tokio::runtime::Handle::try_current().map(|h| h.runtime_flavor()) {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    fn exclusive(n: i64) -> Request {
        Request { key: Key::One(n), shared: false, transaction: false }
    }

    #[test]
    fn sharing_and_excluding() {
        let locks = AdvisoryLocks::default();
        let shared = Request { shared: true, ..exclusive(1) };
        assert!(locks.try_lock(1, shared) && locks.try_lock(2, shared) && !locks.try_lock(3, exclusive(1)));
        assert!(locks.unlock(2, Key::One(1), true) && locks.try_lock(1, exclusive(1)) && !locks.try_lock(2, shared));
        assert!(!locks.unlock(2, Key::One(1), true));
        locks.release_all(1);
        assert!(locks.try_lock(2, Request { transaction: true, ..exclusive(1) }));
        assert!(!locks.unlock(2, Key::One(1), false));
        locks.release_transaction(2);
        assert!(locks.rows().is_empty());
    }

    #[test]
    fn waiting_ends() {
        let locks = Arc::new(AdvisoryLocks::default());
        assert!(locks.try_lock(1, exclusive(1)) && locks.try_lock(2, exclusive(2)));
        let short = Some(Duration::from_millis(20));
        assert_eq!(locks.lock(2, exclusive(1), short, || false).unwrap_err().sqlstate(), "55P03");
        assert_eq!(locks.lock(2, exclusive(1), None, || true).unwrap_err().sqlstate(), "57014");
        let other = Arc::clone(&locks);
        let waiter = std::thread::spawn(move || other.lock(2, exclusive(1), None, || false));
        while !locks.rows().iter().any(|r| !r.granted) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(locks.lock(1, exclusive(2), None, || false).unwrap_err().sqlstate(), "40P01");
        locks.release_all(1);
        waiter.join().unwrap().unwrap();
    }
}
