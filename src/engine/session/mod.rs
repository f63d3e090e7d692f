//! One client's session: settings, transaction status, prepared statements, notices, and the way of a statement.
//!
//! In: statements and parameters. Out: [`Execution`]s. Invariant: a session runs one statement at a time (the server
//! sees to that); what other sessions may touch (cancel, activity) is in [`SessionShared`].
//! Deliberately absent: the protocol.

pub mod admin;
pub mod advisory;
pub mod block;
pub mod cursor;
pub mod identity;
pub mod lease;
pub mod notify;
pub mod origin;
pub mod output_types;
pub mod parameters;
pub mod planning;
pub mod progress;
pub mod query;
pub mod relations;
pub mod sequences;
pub mod shared;
mod short;
mod short_plan;
pub mod sql_functions;
pub mod state;
pub mod stream;
pub mod task;
mod texts;
pub mod transaction;
pub mod versions;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::{Settings, Source};
use squilla_core::types::SqlType;
use tokio::sync::mpsc;

use crate::database::Database;
use crate::session::block::Block;
use crate::session::cursor::Cursor;
use crate::session::identity::Identity;
use crate::session::shared::{Notification, SessionShared};
use crate::statement::Statement;
use crate::statement::copy::CopyOption;

/// What a client says when it connects.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// application_name
    pub application_name: String,
    /// Address of the client, for pg_stat_activity.
    pub client_addr: Option<std::net::SocketAddr>,
    /// Settings of the startup message.
    pub startup: Vec<(String, String)>,
}

/// The status byte of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// I
    Idle,
    /// T
    InTransaction,
    /// E
    Failed,
}

/// A message beside the result.
#[derive(Clone, Debug)]
pub struct Notice {
    /// NOTICE, WARNING, INFO, ...
    pub severity: &'static str,
    /// SQLSTATE: 00000 for notices, 01000 for warnings, or more special.
    pub code: &'static str,
    /// Message, detail, hint.
    pub error: Error,
}

impl Notice {
    /// A NOTICE.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { severity: "NOTICE", code: "00000", error: Error::new(Kind::Internal, message) }
    }

    /// A WARNING.
    pub fn warning(code: &'static str, error: Error) -> Self {
        Self { severity: "WARNING", code, error }
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultField {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: SqlType,
    /// OID of the table it comes from, or 0.
    pub table_oid: u32,
    /// Number of the column in that table, or 0.
    pub column_number: i16,
}

/// A planned statement.
#[derive(Clone)]
pub struct Prepared {
    /// The statement.
    pub statement: Statement,
    pub(crate) plan: Option<Arc<LogicalPlan>>,
    pub(crate) catalog_version: Option<u64>,
    fields: Option<Arc<Vec<ResultField>>>,
    parameters: Vec<SqlType>,
    memo: Arc<short::Memo>,
}

impl Prepared {
    /// Types of `$1`, `$2`, ...
    pub fn parameter_types(&self) -> &[SqlType] {
        &self.parameters
    }

    /// Columns of the result; None for a statement without rows.
    pub fn fields(&self) -> Option<&[ResultField]> {
        self.fields.as_deref().map(Vec::as_slice)
    }
}

/// The end of a statement with rows: how its command tag is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsTag {
    /// `SELECT n`
    Select,
    /// `FETCH n`
    Fetch {
        /// Whether a client that names no formats gets binary values.
        binary: bool,
    },
    /// `INSERT 0 n`, `UPDATE n`, `DELETE n` with RETURNING: the words before the number.
    Changed(&'static str),
    /// A fixed tag (SHOW, EXPLAIN).
    Plain(&'static str),
}

impl RowsTag {
    /// The tag after this many rows.
    pub fn text(self, rows: u64) -> String {
        match self {
            RowsTag::Select => format!("SELECT {rows}"),
            RowsTag::Fetch { .. } => format!("FETCH {rows}"),
            RowsTag::Changed(words) => format!("{words} {rows}"),
            RowsTag::Plain(tag) => tag.to_owned(),
        }
    }
}

/// Batches of rows; dropping it stops the statement.
pub type RowStream = BoxStream<'static, Result<RecordBatch>>;

/// What executing a statement gives.
pub enum Execution {
    /// Rows.
    Rows {
        /// Columns.
        fields: Arc<Vec<ResultField>>,
        /// Batches.
        stream: RowStream,
        /// Command tag.
        tag: RowsTag,
    },
    /// No rows.
    Done {
        /// Command tag.
        tag: String,
    },
    /// COPY ... TO STDOUT
    CopyOut {
        /// Columns.
        fields: Arc<Vec<ResultField>>,
        /// Batches.
        stream: RowStream,
        /// Options, names in lower case.
        options: Vec<(String, CopyOption)>,
    },
    /// COPY ... FROM STDIN, or from a file in a format of the protocol.
    CopyIn(Box<CopyIn>),
}

/// A COPY that waits for its rows.
pub struct CopyIn {
    /// Name of the table, for messages.
    pub table: String,
    /// Columns that each row has.
    pub columns: Vec<(String, SqlType)>,
    /// Options, names in lower case.
    pub options: Vec<(String, CopyOption)>,
    /// The data, where they are not the client's to send.
    pub file: Option<BoxStream<'static, Result<Bytes>>>,
    /// Where the rows go. Dropping it ends the data; an error makes all of them void.
    pub batches: mpsc::Sender<Result<RecordBatch>>,
    /// Stores the rows while they come; the number of rows once they are stored. Dropping it stores nothing.
    pub rows: BoxFuture<'static, Result<u64>>,
}

/// Text forms of values, from the session's settings.
#[derive(Clone, Debug)]
pub struct OutputStyle {
    /// TimeZone
    pub time_zone: String,
    /// DateStyle
    pub date_style: String,
    /// IntervalStyle
    pub interval_style: String,
    /// bytea_output
    pub bytea_output: String,
    /// extra_float_digits
    pub extra_float_digits: i32,
    /// squilla.image_output
    pub image_output: String,
}

/// Settings whose change the client is told of.
const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "timezone",
    "standard_conforming_strings",
    "is_superuser",
    "session_authorization",
    "default_transaction_read_only",
    "in_hot_standby",
];

/// A session.
pub struct Session {
    /// The database.
    pub database: Arc<Database>,
    /// What others may touch.
    pub shared: Arc<SessionShared>,
    superuser: AtomicBool,
    pub(crate) inner: Mutex<Inner>,
    pub(crate) states: Arc<lease::States>,
    texts: Mutex<texts::Texts>,
}

/// The mutable part of a session.
pub(crate) struct Inner {
    pub settings: Settings,
    /// What RESET goes back to.
    pub base: Settings,
    pub identity: Identity,
    pub status: TransactionStatus,
    /// What a transaction keeps to undo; None outside of one.
    pub block: Option<Block>,
    /// Several statements of one message, or of one pipeline, are a transaction of their own.
    pub implicit: bool,
    pub notices: Vec<Notice>,
    pub changed: Vec<(String, String)>,
    /// Tables and definitions as the transaction sees them.
    pub transactions: transaction::Transactions,
    /// What sequences gave.
    pub given: sequences::Given,
    pub prepared: HashMap<String, NamedStatement>,
    pub cursors: HashMap<String, Cursor>,
    pub savepoints: Vec<block::Savepoint>,
    pub query_id: i64,
    /// The statement that runs puts rows where they become visible at its end.
    pub writes: bool,
    /// Results of parts of the statement that runs, as tables for its other parts.
    pub beside: Vec<(String, Arc<dyn datafusion::catalog::TableProvider>)>,
    /// What the statement that runs reads, where it is not what it has made so far.
    pub reads: Option<Arc<crate::catalog::data::CatalogData>>,
}

/// A prepared statement with a name, by PREPARE or by a Parse message.
#[derive(Clone)]
pub struct NamedStatement {
    /// The plan.
    pub prepared: Prepared,
    /// Its text, with PREPARE where SQL made it.
    pub text: Arc<str>,
    /// Made by PREPARE.
    pub from_sql: bool,
    /// Microseconds since 1970.
    pub prepared_us: i64,
    /// Tells two statements of one name apart.
    pub serial: u64,
}

/// Serial numbers of prepared statements.
static SERIAL: AtomicU64 = AtomicU64::new(1);

impl NamedStatement {
    /// A statement prepared now.
    pub fn new(prepared: Prepared, text: Arc<str>, from_sql: bool) -> Self {
        let prepared_us = chrono::Utc::now().timestamp_micros();
        Self { prepared, text, from_sql, prepared_us, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Session {
    pub(crate) fn new(database: Arc<Database>, shared: Arc<SessionShared>, settings: Settings, superuser: bool) -> Self {
        let inner = Inner {
            base: settings.clone(),
            settings,
            identity: Identity::new(&shared.user),
            status: TransactionStatus::Idle,
            block: None,
            implicit: false,
            notices: Vec::new(),
            changed: Vec::new(),
            prepared: HashMap::new(),
            transactions: transaction::Transactions::default(),
            given: sequences::Given::default(),
            cursors: HashMap::new(),
            savepoints: Vec::new(),
            query_id: 0,
            writes: false,
            beside: Vec::new(),
            reads: None,
        };
        Self { database, shared, superuser: AtomicBool::new(superuser), inner: Mutex::new(inner), states: Arc::default(), texts: Mutex::default() }
    }

    /// Whether the current role is a superuser.
    pub fn superuser(&self) -> bool {
        self.superuser.load(Ordering::Relaxed)
    }

    /// The session ends: what it holds of itself and of others is let go.
    pub fn close(&self) {
        self.cancel();
        self.database.advisory.release_all(self.shared.pid);
        self.database.channels.leave(self.shared.pid);
        let mut inner = self.inner.lock();
        inner.notices.clear();
        inner.prepared.clear();
        let cursors = std::mem::take(&mut inner.cursors);
        drop(inner);
        drop(cursors);
    }

    /// pg_backend_pid()
    pub fn backend_pid(&self) -> i32 {
        self.shared.pid
    }

    /// Secret of the cancel key.
    pub fn secret(&self) -> i32 {
        self.shared.secret
    }

    /// A copy of the settings.
    pub fn settings(&self) -> Settings {
        self.inner.lock().settings.clone()
    }

    /// Parses the text of a query.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        let depth = self.inner.lock().settings.int("squilla.max_statement_depth").max(16) as usize;
        let sql = sql.to_owned();
        // The parser recurses with the depth of the statement; the caller's stack may be small.
        stacker::maybe_grow(1 << 20, depth.saturating_mul(32 << 10).clamp(4 << 20, 512 << 20), || crate::statement::parse(&sql, depth))
    }

    /// The transaction status.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.inner.lock().status
    }

    /// Notices since the last call.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.inner.lock().notices)
    }

    /// Reported settings that changed since the last call.
    pub fn changed_parameters(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.inner.lock().changed)
    }

    /// Adds a notice.
    pub fn notify(&self, notice: Notice) {
        self.inner.lock().notices.push(notice);
    }

    /// Text forms of values.
    pub fn output_style(&self) -> OutputStyle {
        let inner = self.inner.lock();
        let s = &inner.settings;
        OutputStyle {
            time_zone: s.get("timezone").to_owned(),
            date_style: s.get("datestyle").to_owned(),
            interval_style: s.get("intervalstyle").to_owned(),
            bytea_output: s.get("bytea_output").to_owned(),
            extra_float_digits: s.int("extra_float_digits") as i32,
            image_output: s.get("squilla.image_output").to_owned(),
        }
    }

    /// The settings that a client is told of when it connects.
    pub fn reported_parameters(&self) -> Vec<(String, String)> {
        let inner = self.inner.lock();
        let mut all: Vec<(String, String)> = REPORTED.iter().map(|n| (display_name(n), inner.settings.get(n).to_owned())).collect();
        for name in ["server_version", "server_encoding", "integer_datetimes"] {
            all.push((name.to_owned(), inner.settings.get(name).to_owned()));
        }
        all
    }

    /// SET, from SQL or set_config.
    pub fn set(&self, name: &str, value: &str, local: bool) -> Result<()> {
        let mut inner = self.inner.lock();
        if local && !inner.in_block() {
            inner.notices.push(Notice::warning("25P01", Error::new(Kind::Internal, "SET LOCAL can only be used in transaction blocks")));
            return Ok(());
        }
        let superuser = self.superuser();
        block::check_mode(&inner, name, value)?;
        let canonical = inner.settings.set(name, value, Source::Session, superuser)?;
        if !inner.in_block() {
            // Outside of a transaction its modes are those of the next one.
            inner.default_modes();
        }
        if !local && let Some(transaction) = &mut inner.block {
            transaction.lasting.settings.set(name, value, Source::Session, superuser)?;
        }
        inner.report(&canonical);
        if canonical == "application_name" {
            self.shared.rename(value);
        }
        Ok(())
    }

    /// RESET of one setting.
    pub fn reset(&self, name: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        let base = inner.base.clone();
        inner.settings.reset(name, &base)?;
        if let Some(transaction) = &mut inner.block {
            transaction.lasting.settings.reset(name, &base)?;
        }
        if let Some(setting) = squilla_core::settings::find(name) {
            inner.report(setting.name);
            if setting.name == "application_name" {
                self.shared.rename(inner.settings.get("application_name"));
            }
        }
        Ok(())
    }

    /// RESET ALL
    pub fn reset_all(&self) {
        let mut inner = self.inner.lock();
        let before = std::mem::take(&mut inner.settings);
        inner.settings = inner.base.clone();
        for name in ["session_authorization", "is_superuser", "transaction_isolation", "transaction_read_only", "transaction_deferrable"] {
            // An error would mean that the setting does not exist.
            let _ = inner.settings.reset(name, &before);
        }
        let settings = inner.settings.clone();
        if let Some(transaction) = &mut inner.block {
            transaction.lasting.settings = settings;
        }
        inner.report_changes(&before);
        self.shared.rename(inner.settings.get("application_name"));
    }

    /// Keeps a statement of the protocol under its name; its serial number.
    pub fn name_statement(&self, name: &str, prepared: Prepared) -> u64 {
        let text = Arc::clone(&prepared.statement.text);
        let named = NamedStatement::new(prepared, text, false);
        let serial = named.serial;
        self.inner.lock().prepared.insert(name.to_owned(), named);
        serial
    }

    /// The serial number of the statement that has this name.
    pub fn named_serial(&self, name: &str) -> Option<u64> {
        self.inner.lock().prepared.get(name).map(|named| named.serial)
    }

    /// The statement that has this name.
    pub fn named(&self, name: &str) -> Option<Prepared> {
        self.inner.lock().prepared.get(name).map(|named| named.prepared.clone())
    }

    /// Forgets a name.
    pub fn forget_statement(&self, name: &str) {
        self.inner.lock().prepared.remove(name);
    }

    /// How many statements have names.
    pub fn named_count(&self) -> usize {
        self.inner.lock().prepared.len()
    }

    /// Notifications for the client, while no transaction is open.
    pub fn take_notifications(&self) -> Vec<Notification> {
        if self.inner.lock().status == TransactionStatus::Idle { self.shared.take_notifications() } else { Vec::new() }
    }

    /// Whether the connection must be closed.
    pub fn is_terminated(&self) -> bool {
        self.shared.is_terminated()
    }

    /// The flag of the statement that runs now, for a server that sees its client vanish.
    pub fn cancel(&self) {
        self.shared.cancel();
    }
}

/// PostgreSQL's spelling of a reported setting.
fn display_name(name: &str) -> String {
    match name {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        other => other,
    }
    .to_owned()
}

impl Inner {
    /// Remembers that a reported setting changed.
    pub fn report(&mut self, name: &str) {
        if REPORTED.contains(&name) {
            let value = self.settings.get(name).to_owned();
            self.changed.push((display_name(name), value));
        }
    }

    /// Tells the client of reported settings that are not what they were.
    pub fn report_changes(&mut self, before: &Settings) {
        let changed: Vec<&'static str> = REPORTED.iter().copied().filter(|n| before.get(n) != self.settings.get(n)).collect();
        changed.into_iter().for_each(|n| self.report(n));
    }

    /// Whether statements are in a transaction block, the client's or that of one message.
    pub fn in_block(&self) -> bool {
        self.status != TransactionStatus::Idle || self.implicit
    }
}

/// Parameters of a statement.
pub type Parameters = Vec<ScalarValue>;
