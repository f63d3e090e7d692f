//! What a transaction means to the session itself: settings, role, cursors, notifications and locks that end with it.
//!
//! In: BEGIN, COMMIT, ROLLBACK, savepoints, and the ends of messages. Out: a session as it was, or as it was left.
//! Invariant: ROLLBACK brings back the settings and the role of BEGIN; SET LOCAL ends with its transaction whatever its
//! end. Deliberately absent: tables and definitions (`session::transaction`).

use chrono::{DateTime, Utc};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::{Settings, Source};

use crate::session::identity::Identity;
use crate::session::notify::Pending;
use crate::session::{Inner, Session, TransactionStatus};

/// Settings and role at one moment.
#[derive(Clone)]
pub struct Scope {
    /// Settings.
    pub settings: Settings,
    /// Roles.
    pub identity: Identity,
}

/// What a transaction keeps.
pub struct Block {
    /// When it began: what `now()` tells.
    pub began: DateTime<Utc>,
    /// For ROLLBACK.
    begin: Scope,
    /// For COMMIT: without what SET LOCAL set.
    pub lasting: Scope,
    /// Whether a query has run: its isolation can no longer change.
    pub queried: bool,
    /// Notifications and LISTENs that wait for the commit.
    pub pending: Pending,
}

/// A savepoint.
pub struct Savepoint {
    /// Name.
    pub name: String,
    now: Scope,
    lasting: Scope,
    pending: Pending,
}

/// The settings of a transaction and what they begin with.
const MODES: [(&str, &str); 3] = [
    ("transaction_isolation", "default_transaction_isolation"),
    ("transaction_read_only", "default_transaction_read_only"),
    ("transaction_deferrable", "default_transaction_deferrable"),
];

/// Refuses to change a mode of a transaction that has begun to work.
pub(super) fn check_mode(inner: &Inner, name: &str, value: &str) -> Result<()> {
    let queried = inner.block.as_ref().is_some_and(|t| t.queried) && inner.in_block();
    let changes = queried && squilla_core::settings::find(name).is_some_and(|s| s.check(value).is_ok_and(|v| v != inner.settings.get(s.name)));
    let message = match name.to_ascii_lowercase().as_str() {
        "transaction_isolation" if changes => "SET TRANSACTION ISOLATION LEVEL must be called before any query",
        "transaction_read_only" if changes && inner.settings.is_on("transaction_read_only") => {
            "transaction read-write mode must be set before any query"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::ActiveTransaction, message))
}

impl Inner {
    fn scope(&self) -> Scope {
        Scope { settings: self.settings.clone(), identity: self.identity.clone() }
    }

    /// Keeps what the transaction may have to go back to.
    pub(super) fn keep(&mut self) {
        if self.block.is_none() {
            let now = self.scope();
            self.block = Some(Block { began: Utc::now(), begin: now.clone(), lasting: now, queried: false, pending: Pending::default() });
        }
    }

    /// The modes of the next transaction are the defaults.
    pub fn default_modes(&mut self) {
        for (mode, default) in MODES {
            let value = self.settings.get(default).to_owned();
            if self.settings.get(mode) != value {
                // Both have the same values.
                let _ = self.settings.set(mode, &value, Source::Session, true);
            }
        }
    }

    fn go_back(&mut self, scope: Scope) {
        let before = std::mem::replace(&mut self.settings, scope.settings);
        self.identity = scope.identity;
        self.report_changes(&before);
    }
}

impl Session {
    /// BEGIN; false when a block was open already.
    pub fn begin_block(&self) -> bool {
        let mut inner = self.inner.lock();
        if inner.status != TransactionStatus::Idle {
            return false;
        }
        inner.keep();
        inner.status = TransactionStatus::InTransaction;
        true
    }

    /// The end of a transaction, by statement or by message. Locks and cursors of the transaction go; notifications leave
    /// with a commit.
    pub fn end_block(&self, commit: bool) {
        let mut inner = self.inner.lock();
        let commit = commit && inner.status != TransactionStatus::Failed;
        inner.status = TransactionStatus::Idle;
        inner.savepoints.clear();
        // What was committed is no longer here.
        inner.transactions.abandon();
        let mut pending = Pending::default();
        if let Some(transaction) = inner.block.take() {
            inner.go_back(if commit { transaction.lasting } else { transaction.begin });
            inner.default_modes();
            self.refresh_superuser(&inner.identity);
            pending = transaction.pending;
        }
        let mut closed = Vec::new();
        inner.cursors.retain(|_, cursor| {
            let stays = cursor.hold && (commit || !cursor.fresh);
            if !stays {
                closed.push(std::sync::Arc::clone(&cursor.rows));
            }
            cursor.fresh = false;
            stays
        });
        if inner.implicit {
            inner.keep();
        }
        drop(inner);
        drop(closed);
        self.database.advisory.release_transaction(self.shared.pid);
        if commit {
            self.database.channels.commit(&self.shared, pending);
        }
    }

    /// Several statements come in one message: they are one transaction unless they say otherwise.
    pub fn begin_implicit(&self) {
        let mut inner = self.inner.lock();
        inner.implicit = true;
        inner.keep();
        drop(inner);
        self.open_transaction();
    }

    /// The message is over: what it changed becomes part of the catalog, or is undone.
    pub async fn end_implicit(&self, well: bool) -> Result<()> {
        let idle = {
            let mut inner = self.inner.lock();
            inner.implicit = false;
            inner.status == TransactionStatus::Idle
        };
        if !idle {
            return Ok(());
        }
        let committed = if well { self.commit_transaction().await } else { Ok(()) };
        self.end_block(well && committed.is_ok());
        committed
    }

    /// A statement failed: an open transaction is aborted, what had no block is undone.
    pub fn fail_transaction(&self) {
        let mut inner = self.inner.lock();
        if inner.status == TransactionStatus::InTransaction {
            inner.status = TransactionStatus::Failed;
        }
        let status = inner.status;
        let undo = status == TransactionStatus::Idle && inner.block.is_some();
        inner.implicit = false;
        drop(inner);
        if undo {
            self.end_block(false);
        }
        self.shared.finish(status);
    }

    /// The statement ended: what others see of the session is idle again, and without a block its transaction is over.
    pub fn finish_statement(&self) {
        let status = self.transaction_status();
        if status == TransactionStatus::Idle && !self.inner.lock().implicit {
            self.end_block(true);
        }
        self.shared.finish(status);
    }

    /// SAVEPOINT
    pub fn savepoint(&self, name: String) -> Result<()> {
        let mut inner = self.inner.lock();
        if inner.status == TransactionStatus::Idle {
            return Err(Error::new(Kind::NoActiveTransaction, "SAVEPOINT can only be used in transaction blocks"));
        }
        let now = inner.scope();
        let (lasting, pending) = inner.block.as_ref().map_or_else(|| (now.clone(), Pending::default()), |t| (t.lasting.clone(), t.pending.clone()));
        inner.transactions.save();
        inner.savepoints.push(Savepoint { name, now, lasting, pending });
        Ok(())
    }

    /// RELEASE SAVEPOINT
    pub fn release_savepoint(&self, name: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        let index = inner.find_savepoint(name, "RELEASE SAVEPOINT")?;
        inner.savepoints.truncate(index);
        inner.transactions.savepoints.truncate(index);
        inner.cursors.values_mut().for_each(|c| c.savepoints = c.savepoints.min(index));
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT
    pub fn rollback_to_savepoint(&self, name: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        let index = inner.find_savepoint(name, "ROLLBACK TO SAVEPOINT")?;
        inner.savepoints.truncate(index + 1);
        inner.transactions.go_back(index);
        let Some(savepoint) = inner.savepoints.last() else { return Ok(()) };
        let (now, lasting, pending) = (savepoint.now.clone(), savepoint.lasting.clone(), savepoint.pending.clone());
        inner.status = TransactionStatus::InTransaction;
        inner.go_back(now);
        if let Some(transaction) = &mut inner.block {
            transaction.lasting = lasting;
            transaction.pending = pending;
        }
        let mut closed = Vec::new();
        inner.cursors.retain(|_, cursor| {
            let stays = cursor.savepoints <= index || !cursor.fresh;
            if !stays {
                closed.push(std::sync::Arc::clone(&cursor.rows));
            }
            stays
        });
        self.refresh_superuser(&inner.identity);
        drop(inner);
        drop(closed);
        Ok(())
    }
}

impl Inner {
    fn find_savepoint(&self, name: &str, command: &str) -> Result<usize> {
        if self.status == TransactionStatus::Idle {
            return Err(Error::new(Kind::NoActiveTransaction, format!("{command} can only be used in transaction blocks")));
        }
        let index = self.savepoints.iter().rposition(|s| s.name == name);
        index.ok_or_else(|| Error::new(Kind::UndefinedSavepoint, format!("savepoint \"{name}\" does not exist")))
    }
}
