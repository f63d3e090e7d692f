//! One client's session: settings, transaction status, prepared statements, notices, and the way of a statement.
//!
//! In: statements and parameters. Out: [`Execution`]s. Invariant: a session runs one statement at a time (the server
//! sees to that); what other sessions may touch (cancel, activity) is in [`SessionShared`].
//! Deliberately absent: the protocol.

pub mod admin;
pub mod parameters;
pub mod query;
pub mod relations;
pub mod sequences;
pub mod state;
pub mod stream;
pub mod task;
pub mod transaction;
pub mod versions;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::CancelFlag;
use squilla_core::settings::{Settings, Source};
use squilla_core::types::SqlType;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::statement::Statement;

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

/// What pg_stat_activity shows, and the way to stop a statement.
pub struct SessionShared {
    /// pg_backend_pid()
    pub pid: i32,
    /// Secret of the cancel key.
    pub secret: i32,
    /// Role.
    pub user: String,
    /// Address of the client.
    pub client_addr: Option<std::net::SocketAddr>,
    /// When the session started, microseconds since 1970.
    pub started_us: i64,
    activity: Mutex<Activity>,
    terminated: AtomicBool,
}

/// The state of a session, as others see it.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// application_name
    pub application_name: String,
    /// Text of the current or last statement.
    pub query: String,
    /// Its query id.
    pub query_id: i64,
    /// active | idle | idle in transaction | idle in transaction (aborted)
    pub state: &'static str,
    /// When the statement started, microseconds since 1970.
    pub query_start_us: i64,
    running: Option<Running>,
}

#[derive(Clone, Debug)]
struct Running {
    flag: CancelFlag,
    token: CancellationToken,
}

impl SessionShared {
    /// The shared part of a session.
    pub fn new(pid: i32, secret: i32, options: &SessionOptions) -> Self {
        let activity = Activity { application_name: options.application_name.clone(), state: "idle", ..Activity::default() };
        Self {
            pid,
            secret,
            user: options.user.clone(),
            client_addr: options.client_addr,
            started_us: chrono::Utc::now().timestamp_micros(),
            activity: Mutex::new(activity),
            terminated: AtomicBool::new(false),
        }
    }

    /// Stops the running statement.
    pub fn cancel(&self) {
        if let Some(running) = &self.activity.lock().running {
            running.flag.cancel();
            running.token.cancel();
        }
    }

    /// Stops the running statement and asks the server to close the connection.
    pub fn terminate(&self) {
        self.terminated.store(true, Ordering::Relaxed);
        self.cancel();
    }

    /// Whether `terminate` was called.
    pub fn is_terminated(&self) -> bool {
        self.terminated.load(Ordering::Relaxed)
    }

    /// What others see.
    pub fn activity(&self) -> Activity {
        self.activity.lock().clone()
    }

    fn start(&self, text: &str, query_id: i64) -> (CancelFlag, CancellationToken) {
        let running = Running { flag: CancelFlag::default(), token: CancellationToken::new() };
        let mut activity = self.activity.lock();
        activity.query = text.chars().take(1024).collect();
        activity.query_id = query_id;
        activity.state = "active";
        activity.query_start_us = chrono::Utc::now().timestamp_micros();
        activity.running = Some(running.clone());
        (running.flag, running.token)
    }

    /// The flag and token of the statement that runs.
    fn running(&self) -> Option<(i64, CancelFlag, CancellationToken)> {
        let activity = self.activity.lock();
        activity.running.as_ref().map(|r| (activity.query_id, r.flag.clone(), r.token.clone()))
    }

    fn finish(&self, status: TransactionStatus) {
        let mut activity = self.activity.lock();
        activity.running = None;
        activity.state = match status {
            TransactionStatus::Idle => "idle",
            TransactionStatus::InTransaction => "idle in transaction",
            TransactionStatus::Failed => "idle in transaction (aborted)",
        };
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
    pub(crate) catalog_version: u64,
    fields: Option<Arc<Vec<ResultField>>>,
    parameters: Vec<SqlType>,
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
    Fetch,
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
            RowsTag::Fetch => format!("FETCH {rows}"),
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
        options: Vec<(String, crate::statement::CopyOption)>,
    },
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
    /// Whether its role is a superuser.
    pub superuser: bool,
    pub(crate) inner: Mutex<Inner>,
    pub(crate) state: std::sync::OnceLock<datafusion::execution::session_state::SessionState>,
}

/// The mutable part of a session.
pub(crate) struct Inner {
    pub settings: Settings,
    /// What RESET goes back to.
    pub base: Settings,
    /// Values before SET LOCAL, restored at the end of the transaction.
    pub before_local: Option<Settings>,
    pub status: TransactionStatus,
    pub notices: Vec<Notice>,
    pub changed: Vec<(String, String)>,
    pub prepared: HashMap<String, Prepared>,
    pub transactions: transaction::Transactions,
    /// What sequences gave.
    pub given: sequences::Given,
}

impl Session {
    pub(crate) fn new(database: Arc<Database>, shared: Arc<SessionShared>, settings: Settings, superuser: bool) -> Self {
        let inner = Inner {
            base: settings.clone(),
            settings,
            before_local: None,
            status: TransactionStatus::Idle,
            notices: Vec::new(),
            changed: Vec::new(),
            prepared: HashMap::new(),
            transactions: transaction::Transactions::default(),
            given: sequences::Given::default(),
        };
        Self { database, shared, superuser, inner: Mutex::new(inner), state: std::sync::OnceLock::new() }
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

    /// A statement failed: an open transaction is aborted.
    pub fn fail_transaction(&self) {
        let mut inner = self.inner.lock();
        if inner.status == TransactionStatus::InTransaction {
            inner.status = TransactionStatus::Failed;
        }
        let status = inner.status;
        drop(inner);
        self.shared.finish(status);
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
        if local && inner.status == TransactionStatus::Idle {
            inner.notices.push(Notice::warning("25P01", Error::new(Kind::Internal, "SET LOCAL can only be used in transaction blocks")));
            return Ok(());
        }
        if local && inner.before_local.is_none() {
            inner.before_local = Some(inner.settings.clone());
        }
        let canonical = inner.settings.set(name, value, Source::Session, self.superuser)?;
        inner.report(&canonical);
        if canonical == "application_name" {
            self.shared.activity.lock().application_name = value.to_owned();
        }
        Ok(())
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

    /// The end of a transaction: SET LOCAL is undone.
    pub fn end_transaction(&mut self) {
        self.status = TransactionStatus::Idle;
        self.transactions.abandon();
        if let Some(before) = self.before_local.take() {
            let changed: Vec<&'static str> = REPORTED.iter().copied().filter(|n| before.get(n) != self.settings.get(n)).collect();
            self.settings = before;
            changed.into_iter().for_each(|n| self.report(n));
        }
    }
}

/// Parameters of a statement.
pub type Parameters = Vec<ScalarValue>;
