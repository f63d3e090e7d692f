//! Transactions of a session: what it sees, what it changed, when that becomes part of the catalog.
//!
//! In: edits of the catalog's state. Out: the state that statements see: the snapshot that the transaction began with and
//! its own changes. Invariants: every edit happens in a transaction, of a block or of one statement; nothing is visible to
//! others before it commits; a savepoint is a state to go back to. The snapshot is taken by the first statement of a block.
//! Deliberately absent: which statements begin and end a block (`command::sessions`); locks, of which there are none.

use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result};

use crate::catalog::Catalog;
use crate::catalog::commit::Pending;
use crate::catalog::data::{CatalogData, OnCommit, Relation, RelationKind, SchemaEntry, TEMPORARY};
use crate::catalog::keys::NewKeys;
use crate::session::{Inner, Session, TransactionStatus};

/// How often a statement is repeated when other sessions are faster.
const REPEAT_MAX: usize = 64;

/// An open transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    base: Arc<CatalogData>,
    current: Arc<CatalogData>,
    keys: Vec<NewKeys>,
}

/// A state to go back to; without one the transaction had not begun to see anything.
#[derive(Clone, Debug)]
pub(crate) struct Savepoint {
    state: Option<Transaction>,
}

/// What of a session's state concerns transactions.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: Option<Transaction>,
    temporary: Option<Arc<SchemaEntry>>,
    /// The newest state with the temporary schema in it, and the stamp of the state without.
    combined: Option<(u64, Arc<CatalogData>)>,
    pub savepoints: Vec<Savepoint>,
    /// Tables that got rows.
    written: Vec<u32>,
}

impl Transactions {
    /// The newest committed state, with the session's temporary tables.
    fn newest(&mut self, catalog: &Catalog, pid: i32) -> Arc<CatalogData> {
        let now = catalog.snapshot();
        let Some(temporary) = &self.temporary else { return now };
        if let Some((stamp, combined)) = &self.combined
            && *stamp == now.stamp
        {
            return Arc::clone(combined);
        }
        let mut data = CatalogData::clone(&now);
        data.schemas.insert(temporary_schema(pid), Arc::clone(temporary));
        data.touch();
        let combined = Arc::new(data);
        self.combined = Some((now.stamp, Arc::clone(&combined)));
        combined
    }

    fn see(&mut self, catalog: &Catalog, pid: i32) -> &mut Transaction {
        if self.open.is_none() {
            let base = self.newest(catalog, pid);
            self.open = Some(Transaction { current: Arc::clone(&base), base, keys: Vec::new() });
        }
        // Just made when it was not there.
        self.open.get_or_insert_with(|| {
            let base = catalog.snapshot();
            Transaction { current: Arc::clone(&base), base, keys: Vec::new() }
        })
    }

    /// Remembers the state of now.
    pub fn save(&mut self) {
        self.savepoints.push(Savepoint { state: self.open.clone() });
    }

    /// Goes back to a savepoint, which stays.
    pub fn go_back(&mut self, index: usize) {
        if let Some(savepoint) = self.savepoints.get(index) {
            self.open = savepoint.state.clone();
        }
        self.savepoints.truncate(index + 1);
    }

    /// Drops the temporary tables.
    pub fn drop_temporary(&mut self) {
        self.temporary = None;
        self.combined = None;
    }

    /// Gives up what the transaction changed.
    pub fn abandon(&mut self) {
        self.open = None;
        self.savepoints.clear();
        self.written.clear();
    }
}

/// Temporary tables after a commit: ON COMMIT DROP and DELETE ROWS have happened.
fn settled(schema: &Arc<SchemaEntry>) -> Arc<SchemaEntry> {
    let action = |relation: &Relation| match &relation.kind {
        RelationKind::Table { on_commit, .. } => *on_commit,
        _ => None,
    };
    if schema.relations.values().all(|r| action(r).is_none()) {
        return Arc::clone(schema);
    }
    let mut settled = SchemaEntry::clone(schema);
    let dropped: Vec<u32> = settled.relations.values().filter(|r| action(r) == Some(OnCommit::Drop)).map(|r| r.oid).collect();
    let goes = |r: &Relation| match &r.kind {
        // With the table its sequences, and the views on it.
        RelationKind::Sequence(s) => s.owned_by.is_some_and(|(table, _)| dropped.contains(&table)),
        _ => dropped.contains(&r.oid) || r.depends_on().iter().any(|on| dropped.contains(on)),
    };
    settled.relations.retain(|_, r| !goes(r));
    for relation in settled.relations.values_mut() {
        if action(relation) == Some(OnCommit::DeleteRows)
            && let Some(files) = Arc::make_mut(relation).files_mut()
        {
            files.clear();
        }
    }
    Arc::new(settled)
}

/// The name of a session's schema of temporary tables.
pub fn temporary_schema(pid: i32) -> String {
    format!("{TEMPORARY}{pid}")
}

impl Session {
    /// Begins to see one state, for statements that are one transaction without a block.
    pub(super) fn open_transaction(&self) {
        self.inner.lock().transactions.see(&self.database.catalog, self.shared.pid);
    }

    /// What the session sees now.
    pub fn snapshot(&self) -> Arc<CatalogData> {
        let mut inner = self.inner.lock();
        let block = inner.status != TransactionStatus::Idle;
        let Inner { transactions, .. } = &mut *inner;
        if block || transactions.open.is_some() {
            return Arc::clone(&transactions.see(&self.database.catalog, self.shared.pid).current);
        }
        transactions.newest(&self.database.catalog, self.shared.pid)
    }

    /// Changes what the session sees, as part of its transaction. Outside of any it is a transaction of its own, and this
    /// blocks until it is on disk.
    pub fn edit<T>(&self, change: impl FnOnce(&mut CatalogData) -> Result<T>) -> Result<T> {
        let alone = {
            let mut inner = self.inner.lock();
            let alone = inner.status == TransactionStatus::Idle && inner.transactions.open.is_none();
            inner.transactions.see(&self.database.catalog, self.shared.pid);
            alone
        };
        let result = self.edit_open(change);
        if !alone {
            return result;
        }
        match result {
            Ok(value) => futures::executor::block_on(self.commit_transaction()).map(|()| value),
            Err(error) => {
                self.inner.lock().transactions.abandon();
                Err(error)
            }
        }
    }

    fn edit_open<T>(&self, change: impl FnOnce(&mut CatalogData) -> Result<T>) -> Result<T> {
        let current = self.snapshot();
        // Not under the lock: a change may notify.
        let mut next = CatalogData::clone(&current);
        let value = change(&mut next)?;
        next.touch();
        let mut inner = self.inner.lock();
        inner.transactions.see(&self.database.catalog, self.shared.pid).current = Arc::new(next);
        Ok(value)
    }

    /// The transaction adds rows to a table.
    pub(crate) fn wrote(&self, oid: u32) {
        let mut inner = self.inner.lock();
        if !inner.transactions.written.contains(&oid) {
            inner.transactions.written.push(oid);
        }
    }

    /// Keys that the transaction added.
    pub(crate) fn add_keys(&self, keys: Vec<NewKeys>) {
        let mut inner = self.inner.lock();
        inner.transactions.see(&self.database.catalog, self.shared.pid).keys.extend(keys);
    }

    /// Makes the transaction's changes part of the catalog. It is over, whatever comes back: 40001, 42P07, 53100, ...
    pub(crate) async fn commit_transaction(&self) -> Result<()> {
        let (transaction, durable) = {
            let mut inner = self.inner.lock();
            inner.transactions.savepoints.clear();
            (inner.transactions.open.take(), inner.settings.get("synchronous_commit") != "off")
        };
        let Some(Transaction { base, current, keys }) = transaction else { return Ok(()) };
        if base.stamp == current.stamp {
            return Ok(());
        }
        let written = std::mem::take(&mut self.inner.lock().transactions.written);
        let temporary = current.schemas.get(&temporary_schema(self.shared.pid)).map(settled);
        self.database.catalog.commit(Pending { base, ours: current, keys, durable, compaction: false }).await?;
        {
            let mut inner = self.inner.lock();
            inner.transactions.temporary = temporary;
            inner.transactions.combined = None;
        }
        crate::table::compact::after_commit(&self.database, written);
        Ok(())
    }

    /// Runs a statement that writes: in the open block, or as a transaction of its own that is repeated when another
    /// session was faster.
    pub(crate) async fn writing<T, F: Future<Output = Result<T>>>(&self, mut work: impl FnMut() -> F) -> Result<T> {
        let nested = {
            let inner = self.inner.lock();
            inner.status != TransactionStatus::Idle || inner.transactions.open.is_some()
        };
        if nested {
            return work().await;
        }
        for round in 0.. {
            self.inner.lock().transactions.see(&self.database.catalog, self.shared.pid);
            let done = match work().await {
                Ok(value) => self.commit_transaction().await.map(|()| value),
                Err(error) => {
                    self.inner.lock().transactions.abandon();
                    Err(error)
                }
            };
            match done {
                Err(error) if error.kind == Kind::SerializationFailure && round < REPEAT_MAX => {
                    // Not all of them at the same moment again.
                    let pause = rand::random_range(0..=(1 << round.min(6)));
                    tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
                }
                other => return other,
            }
        }
        Err(Error::internal("a loop without an end ended"))
    }

    /// 25006 when the transaction is read only. `command` is the word of the statement.
    pub(crate) fn may_write(&self, command: &str) -> Result<()> {
        let inner = self.inner.lock();
        let block = inner.status != TransactionStatus::Idle;
        let setting = if block { "transaction_read_only" } else { "default_transaction_read_only" };
        if inner.settings.get(setting) == "on" || !inner.settings.get("squilla.snapshot").is_empty() {
            return Err(Error::new(Kind::ReadOnlyTransaction, format!("cannot execute {command} in a read-only transaction")));
        }
        Ok(())
    }
}
