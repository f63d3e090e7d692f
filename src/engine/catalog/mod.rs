//! The catalog: which schemas, relations, models and roles exist, and which files are a table.
//!
//! In: transactions, as a changed copy of the state they began with. Out: immutable states. Invariants: a state is on disk
//! before it is visible, so a change that fails leaves no trace; one process at a time owns a data directory. Deliberately
//! absent: table contents (`table`), name resolution in queries (the binder), system views.

pub mod commit;
pub mod data;
pub mod files;
pub mod functions;
pub mod keys;
pub mod load;
pub mod merge;
pub mod objects;
pub mod relations;
pub mod roles;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, RwLock};
use squilla_core::error::{Error, Kind, Result};
use squilla_store::disk::{self, DirectoryLock};
use squilla_store::ledger::Ledger;

use self::commit::{Committer, Pending};
use self::data::CatalogData;

/// Values of a sequence that are remembered on disk at a time: so many are lost by a crash at most.
const SEQUENCE_RANGE: i64 = 64;

/// A sequence in use: the next value, and the one from which on the disk has to be asked.
#[derive(Clone, Copy, Debug)]
struct Position {
    next: i64,
    until: i64,
}

/// The catalog of one server. Cheap to share; readers never wait for writers.
#[derive(Debug)]
pub struct Catalog {
    directory: Option<PathBuf>,
    data: PathBuf,
    current: Arc<RwLock<Arc<CatalogData>>>,
    ledger: Arc<Mutex<Ledger>>,
    sequences: Mutex<HashMap<u32, Position>>,
    committer: Committer,
    _temporary: Option<tempfile::TempDir>,
    // Last: it is given up when all else is closed.
    _lock: Option<DirectoryLock>,
}

impl Catalog {
    /// Opens or creates the catalog below a directory, locks the directory for this process, and removes files that no
    /// snapshot names.
    ///
    /// Fails with 55000 naming the owner's pid when another process has it, with XX001 when the catalog is damaged.
    pub fn open(directory: &Path) -> Result<Arc<Catalog>> {
        disk::create_directory(directory)?;
        // Plans name files by their whole path, wherever they run.
        let directory = std::path::absolute(directory).map_err(|e| Error::io(format!("could not find \"{}\"", directory.display()), e))?;
        let lock = DirectoryLock::acquire(&directory)?;
        Self::start(Some(&directory), directory.join("data"), None, Some(lock))
    }

    /// A catalog that is gone with the process. XX000 when there is no room for temporary files.
    pub fn in_memory() -> Result<Arc<Catalog>> {
        let made = tempfile::Builder::new().prefix("squilla-").tempdir().map_err(|e| Error::io("could not create a temporary directory", e))?;
        Self::start(None, made.path().to_owned(), Some(made), None)
    }

    fn start(directory: Option<&Path>, data: PathBuf, temporary: Option<tempfile::TempDir>, lock: Option<DirectoryLock>) -> Result<Arc<Catalog>> {
        disk::create_directory(&data)?;
        let ledger = Ledger::open(directory)?;
        let kept: HashSet<String> = ledger.paths()?.into_iter().collect();
        let removed = disk::sweep(&data, &kept);
        if removed > 0 {
            tracing::info!(removed, "removed files that no transaction committed");
        }
        let (head, counters) = (ledger.head().id, Arc::new(load::counters(&ledger)?));
        let state = load::data(ledger.load(None)?, head, Arc::clone(&counters))?;
        let fresh = state.schemas.is_empty() && state.roles.is_empty();
        let sequences = ledger.sequences()?.into_iter().map(|(oid, next)| (oid, Position { next, until: next })).collect();
        let current = Arc::new(RwLock::new(Arc::new(state)));
        let ledger = Arc::new(Mutex::new(ledger));
        let committer = Committer::start(Arc::clone(&current), Arc::clone(&ledger))?;
        let catalog = Catalog {
            directory: directory.map(Path::to_owned),
            data,
            current,
            ledger,
            sequences: Mutex::new(sequences),
            committer,
            _temporary: temporary,
            _lock: lock,
        };
        if fresh {
            let begin = CatalogData { counters, ..CatalogData::default() };
            catalog.update(|data| {
                data.schemas.clone_from(&begin.schemas);
                data.roles.clone_from(&begin.roles);
                Ok(())
            })?;
        }
        Ok(Arc::new(catalog))
    }

    /// The data directory; None in memory.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Where the files of tables are.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// What exists now. Later changes do not show in it.
    pub fn snapshot(&self) -> Arc<CatalogData> {
        Arc::clone(&self.current.read())
    }

    /// The catalog on disk, for its history.
    pub fn ledger(&self) -> &Mutex<Ledger> {
        &self.ledger
    }

    /// The number of a new file.
    pub fn next_file(&self) -> u64 {
        self.current.read().counters.file.fetch_add(1, Ordering::Relaxed)
    }

    /// Commits a transaction: the state with it. 40001 and kin when others were faster.
    pub async fn commit(&self, pending: Pending) -> Result<Arc<CatalogData>> {
        self.committer.submit(pending).await.unwrap_or_else(|_| Err(commit::closed()))
    }

    /// A transaction of one change, outside of those of sessions. Blocks until it is on disk. 40001 when another one
    /// changed the same object at the same moment.
    pub fn update<T>(&self, change: impl FnOnce(&mut CatalogData) -> Result<T>) -> Result<T> {
        let base = self.snapshot();
        let mut next = CatalogData::clone(&base);
        let result = change(&mut next)?;
        next.touch();
        let pending = Pending { base, ours: Arc::new(next), keys: Vec::new(), durable: true, compaction: false };
        // Not the receiver's own blocking wait, which panics on the threads of a runtime.
        let answer = futures::executor::block_on(self.committer.submit(pending));
        answer.unwrap_or_else(|_| Err(commit::closed())).map(|_| result)
    }

    /// The next values of a sequence. 2200H at its end.
    pub fn next_values(&self, oid: u32, name: &str, sequence: &data::SequenceEntry, count: usize) -> Result<Vec<i64>> {
        let mut all = self.sequences.lock();
        let position = all.entry(oid).or_insert(Position { next: sequence.start, until: sequence.start });
        let mut values = Vec::with_capacity(count);
        let mut next = position.next;
        for _ in 0..count {
            if next > sequence.max || next < sequence.min {
                let (bound, limit) = if next > sequence.max { ("maximum", sequence.max) } else { ("minimum", sequence.min) };
                return Err(Error::new(Kind::SequenceLimit, format!("nextval: reached {bound} value of sequence \"{name}\" ({limit})")));
            }
            values.push(next);
            next = advance(next, sequence);
        }
        let covered = if sequence.increment > 0 { next <= position.until } else { next >= position.until };
        if !covered || sequence.cycle {
            let ahead = sequence.increment.saturating_mul(SEQUENCE_RANGE);
            let until = if sequence.cycle { next } else { next.saturating_add(ahead) };
            self.ledger.lock().set_sequence(oid, until)?;
            position.until = until;
        }
        position.next = next;
        Ok(values)
    }

    /// setval(): the next value.
    pub fn set_value(&self, oid: u32, next: i64) -> Result<()> {
        let mut all = self.sequences.lock();
        self.ledger.lock().set_sequence(oid, next)?;
        all.insert(oid, Position { next, until: next });
        Ok(())
    }

    /// The value that comes next; None for a sequence that was never asked.
    pub fn position(&self, oid: u32) -> Option<i64> {
        self.sequences.lock().get(&oid).map(|p| p.next)
    }
}

fn advance(value: i64, sequence: &data::SequenceEntry) -> i64 {
    match value.checked_add(sequence.increment) {
        Some(next) if next > sequence.max && sequence.cycle => sequence.min,
        Some(next) if next < sequence.min && sequence.cycle => sequence.max,
        Some(next) => next,
        None if sequence.increment > 0 => i64::MAX,
        None => i64::MIN,
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
