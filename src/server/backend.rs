//! The engine's session as the state machine sees it.
//!
//! In: statements, parameters, settings by name. Out: what the protocol needs of them. Invariant: everything that can take
//! time runs on the engine's threads; the session is locked by one piece of work at a time. This is the only file that
//! calls the engine's session. Deliberately absent: messages.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::ArrayRef;
use futures::FutureExt;
use parking_lot::Mutex;
use pgwire::messages::response::TransactionStatus as WireStatus;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Settings;
use squilla_core::types::SqlType;
use squilla_engine::postgres::names;
use squilla_engine::session::parameters;
use squilla_engine::session::shared::Notification;
use squilla_engine::session::view::SessionView;
use squilla_engine::session::{Execution, OutputStyle, Prepared, ResultField, RowStream, Session, TransactionStatus};
use squilla_engine::statement::{Statement, StatementKind};
use squilla_engine::system::view::{SystemView, ViewSource};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::decode::{self, Input, RegOids, datetime::Clock};
use crate::encode::OutputColumn;
use crate::encode::style::{ImageEncoder, RegNames, Style};
use crate::encode::zone::Zone;
use crate::frontend::Bind;

/// Text longer than this is parsed on the engine's threads.
const SHORT_TEXT: usize = 16 << 10;

/// A prepared statement and what Describe says of it.
pub struct Described {
    prepared: Prepared,
    /// Types of $1, $2, ...
    pub parameters: Vec<SqlType>,
    /// Columns; None for statements without rows.
    pub fields: Option<Vec<ResultField>>,
}

impl Described {
    fn new(prepared: Prepared) -> Self {
        let parameters = prepared.parameter_types().to_vec();
        let fields = prepared.fields().map(<[ResultField]>::to_vec);
        Self { prepared, parameters, fields }
    }

    /// The cursor that FETCH, MOVE or CLOSE names.
    pub fn cursor_name(&self) -> Option<&str> {
        match &*self.prepared.statement.kind {
            StatementKind::Fetch(fetch) => Some(&fetch.name),
            StatementKind::Close(name) => name.as_deref(),
            _ => None,
        }
    }

    /// Its text.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.prepared.statement.text)
    }
}

/// What ReadyForQuery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No transaction.
    Idle,
    /// In a transaction.
    Open,
    /// In a transaction that only ROLLBACK can end.
    Failed,
}

impl Status {
    /// The byte on the wire.
    pub fn wire(self) -> WireStatus {
        match self {
            Status::Idle => WireStatus::Idle,
            Status::Open => WireStatus::Transaction,
            Status::Failed => WireStatus::Error,
        }
    }
}

/// Who may be cancelled: the secret of each session, and the token of the statement that it runs.
#[derive(Clone, Default)]
pub struct CancelKeys {
    keys: Arc<Mutex<HashMap<i32, (i32, StatementToken)>>>,
}

/// The token of the statement that a session runs; replaced at every statement.
type StatementToken = Arc<Mutex<CancellationToken>>;

impl CancelKeys {
    /// Stops the statement of a session; a wrong secret does nothing.
    pub fn cancel(&self, pid: i32, secret: i32) {
        if let Some((known, token)) = self.keys.lock().get(&pid)
            && *known == secret
        {
            token.lock().cancel();
        }
    }
}

/// A session and the threads it works on.
pub struct Backend {
    session: Arc<Session>,
    engine: tokio::runtime::Handle,
    image_encoder: Option<ImageEncoder>,
    keys: CancelKeys,
    cancel: StatementToken,
    deadline: Option<Instant>,
    begun: std::time::Instant,
    /// How values are printed under a generation of settings, names of reg* values apart.
    plain: Mutex<Option<(u64, Arc<Style>)>>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.session.close();
        self.keys.keys.lock().remove(&self.session.backend_pid());
    }
}

/// A panic inside the future becomes an error of the statement.
pub async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(Error::internal("the statement failed in an unexpected way")))
}

impl Backend {
    /// Wraps a session, which from now on can be cancelled by its key.
    pub fn new(session: Session, engine: tokio::runtime::Handle, keys: CancelKeys, image_encoder: Option<ImageEncoder>) -> Self {
        let cancel = Arc::new(Mutex::new(CancellationToken::new()));
        keys.keys.lock().insert(session.backend_pid(), (session.secret(), Arc::clone(&cancel)));
        Self {
            session: Arc::new(session),
            engine,
            image_encoder,
            keys,
            cancel,
            deadline: None,
            begun: std::time::Instant::now(),
            plain: Mutex::default(),
        }
    }

    /// Runs work on the engine's threads.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.engine.spawn(work)
    }

    /// A new statement begins: what was cancelled before does not concern it, and its time starts now.
    pub fn begin_statement(&mut self) {
        *self.cancel.lock() = CancellationToken::new();
        self.begun = std::time::Instant::now();
        self.deadline = limit(&self.session.settings(), "statement_timeout").map(|limit| Instant::now() + limit);
    }

    /// Fires when the statement is to stop.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.lock().clone()
    }

    /// When the statement has to be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the client may say nothing.
    pub fn idle_limit(&self, status: Status) -> Option<Duration> {
        limit(&self.session.settings(), if status == Status::Idle { "idle_session_timeout" } else { "idle_in_transaction_session_timeout" })
    }

    /// How many prepared statements the session may hold.
    pub fn prepared_max(&self) -> usize {
        usize::try_from(self.session.settings().int("squilla.max_prepared_statements")).unwrap_or(usize::MAX).max(1)
    }

    /// Whether another session has ended this one.
    pub fn is_terminated(&self) -> bool {
        self.session.is_terminated()
    }

    /// SQL text to statements.
    pub fn parse(&self, text: String) -> impl Future<Output = Result<Vec<Statement>>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        let engine = (text.len() > SHORT_TEXT).then(|| self.engine.clone());
        async move {
            match engine {
                None => session.parse(&text),
                Some(engine) => engine
                    .spawn(async move { session.parse(&text) })
                    .await
                    .unwrap_or_else(|e| Err(Error::internal(format!("the parser failed: {e}")))),
            }
        }
    }

    /// Answers a text that the session has answered before without a plan; None when it has not.
    pub fn answer_known(&self, text: &str) -> impl Future<Output = Result<Option<Execution>>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        let text = text.to_owned();
        async move { session.answer_known(&text).await }
    }

    /// The statement of a Parse message that the session has prepared before; None when it has not.
    pub fn prepared_known(&self, text: &str, types: &[Option<SqlType>]) -> impl Future<Output = Result<Option<Described>>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        let (text, types) = (text.to_owned(), types.to_vec());
        async move { Ok(session.prepared_known(&text, &types).await.map(Described::new)) }
    }

    /// A statement to its plan.
    pub fn prepare(&self, statement: Statement, types: Vec<Option<SqlType>>) -> impl Future<Output = Result<Described>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        async move { session.prepare(&statement, &types).await.map(Described::new) }
    }

    /// Keeps a statement under its name, where SQL finds it too; its serial number.
    pub fn name_statement(&self, name: &str, described: &Described) -> u64 {
        self.session.name_statement(name, described.prepared.clone())
    }

    /// The serial number of the statement that has this name now.
    pub fn named_serial(&self, name: &str) -> Option<u64> {
        self.session.named_serial(name)
    }

    /// The statement that has this name now, made by a Parse message or by PREPARE.
    pub fn named(&self, name: &str) -> Option<Described> {
        self.session.named(name).map(Described::new)
    }

    /// Forgets a name; one that is not there is as well.
    pub fn forget_statement(&self, name: &str) {
        self.session.forget_statement(name);
    }

    /// How many statements have names.
    pub fn named_count(&self) -> usize {
        self.session.named_count()
    }

    /// A cursor of SQL: its columns, and whether it is binary.
    pub fn cursor(&self, name: &str) -> Option<(Arc<Vec<ResultField>>, bool)> {
        self.session.cursor(name)
    }

    /// The next rows of a cursor of SQL; 0 is all.
    pub fn read_cursor(&self, name: &str, most: usize) -> Result<RowStream> {
        self.session.read_cursor(name, most as u64)
    }

    /// Makes a portal a cursor of SQL.
    pub fn adopt_cursor(&self, name: &str, described: &Described, fields: Arc<Vec<ResultField>>, rows: RowStream, position: u64) {
        self.session.adopt_cursor(name, described.text(), fields, rows, position);
    }

    /// Closes a cursor of SQL, if it is there.
    pub fn close_cursor(&self, name: &str) {
        self.session.close_cursor(name);
    }

    /// Several statements came in one message.
    pub fn begin_implicit(&self) {
        self.session.begin_implicit();
    }

    /// That message has been answered.
    pub fn end_implicit(&self, well: bool) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        async move { session.end_implicit(well).await }
    }

    /// Completes when the session is to end or, where `listening`, when there are notifications.
    pub fn woken(&self, listening: bool) -> impl Future<Output = ()> + Send + 'static + use<> {
        let shared = Arc::clone(&self.session.shared);
        async move { shared.woken(listening).await }
    }

    /// Notifications that the client may hear now.
    pub fn notifications(&self) -> Vec<Notification> {
        self.session.take_notifications()
    }

    /// log_min_duration_statement, after a statement.
    pub fn log_duration(&self, text: &str) {
        let settings = self.session.settings();
        let least = settings.int("log_min_duration_statement");
        let took = self.begun.elapsed();
        if least >= 0 && took.as_millis() as i64 >= least {
            tracing::info!(
                query_id = self.session.query_id(),
                pid = self.session.backend_pid(),
                duration_ms = took.as_secs_f64() * 1000.0,
                statement = text,
                "duration"
            );
        }
    }

    /// A statement failed: what the log says of it.
    pub fn log_error(&self, error: &Error) {
        let (query_id, pid) = (self.session.query_id(), self.session.backend_pid());
        if error.kind == Kind::Internal {
            tracing::error!(query_id, pid, sqlstate = error.sqlstate(), source = ?error.source, "{}", error.message);
        } else {
            tracing::debug!(query_id, pid, sqlstate = error.sqlstate(), "{}", error.message);
        }
    }

    /// Begins to execute.
    pub fn start(&self, described: Arc<Described>, parameters: Vec<ArrayRef>) -> impl Future<Output = Result<Execution>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        async move { session.execute(&described.prepared, parameters::values(&parameters)?).await }
    }

    /// What reading values depends on now.
    pub fn input(&self) -> Input {
        input(&self.session)
    }

    /// The values of a Bind message.
    pub fn decode(&self, types: &[SqlType], bind: &Bind) -> Result<Vec<ArrayRef>> {
        let input = self.input();
        let format = |i: usize| bind.formats.get(if bind.formats.len() == 1 { 0 } else { i }).copied().unwrap_or(0);
        let mut values = Vec::with_capacity(types.len());
        for (i, (ty, bytes)) in types.iter().zip(&bind.parameters).enumerate() {
            let binary = match format(i) {
                0 => false,
                1 => true,
                other => return Err(Error::invalid_argument(format!("unsupported format code: {other}"))),
            };
            values.push(decode::value(ty, bytes.as_deref(), binary, &input)?);
        }
        Ok(values)
    }

    /// How values of these columns are printed now.
    pub fn style(&self, columns: &[OutputColumn]) -> Arc<Style> {
        let generation = self.session.settings().generation();
        let mut plain = self.plain.lock();
        let known = plain.as_ref().filter(|(of, _)| *of == generation).map(|(_, style)| Arc::clone(style));
        let style = known.unwrap_or_else(|| {
            let made = Arc::new(self.plain_style());
            *plain = Some((generation, Arc::clone(&made)));
            made
        });
        let names = |c: &OutputColumn| matches!(c.ty, SqlType::Reg(_) | SqlType::Array(_) | SqlType::Record(_) | SqlType::Any | SqlType::Unknown);
        if !columns.iter().any(names) {
            return style;
        }
        // Names are those of the catalog of now.
        Arc::new(Style { reg_names: Some(self.names()), ..Style::clone(&style) })
    }

    fn plain_style(&self) -> Style {
        let output = self.session.output_style();
        let mut style = Style {
            zone: zone(&output),
            bytea_hex: !output.bytea_output.eq_ignore_ascii_case("escape"),
            extra_float_digits: output.extra_float_digits,
            image_encoder: self.image_encoder,
            ..Style::default()
        };
        style.set_date_style(&output.date_style);
        style.set_interval_style(&output.interval_style);
        style.set_image_output(&output.image_output);
        style
    }

    fn names(&self) -> RegNames {
        reg_names(&self.session)
    }

    /// Notices since the last call that the client wants to see: error, severity, SQLSTATE.
    pub fn notices(&self) -> Vec<(Error, &'static str, &'static str)> {
        let notices = self.session.take_notices();
        if notices.is_empty() {
            return Vec::new();
        }
        let least = rank(self.session.settings().get("client_min_messages"));
        // INFO is always sent.
        notices.into_iter().filter(|n| n.severity == "INFO" || rank(n.severity) >= least).map(|n| (n.error, n.severity, n.code)).collect()
    }

    /// Settings that clients follow and that have changed since the last call.
    pub fn changed_parameters(&self) -> Vec<(String, String)> {
        self.session.changed_parameters()
    }

    /// All settings that clients follow.
    pub fn reported_parameters(&self) -> Vec<(String, String)> {
        self.session.reported_parameters()
    }

    /// The state of the transaction.
    pub fn status(&self) -> Status {
        match self.session.transaction_status() {
            TransactionStatus::Idle => Status::Idle,
            TransactionStatus::InTransaction => Status::Open,
            TransactionStatus::Failed => Status::Failed,
        }
    }

    /// A statement failed: its work ends, and an open transaction is lost.
    pub fn fail(&self) {
        self.session.cancel();
        self.session.fail_transaction();
    }

    /// The session waits for its client again.
    pub fn finish(&self) {
        self.session.finish_statement();
    }
}

/// The catalog as a session sees it, made when it is first needed.
fn view(session: &Arc<Session>) -> impl Fn() -> Arc<SystemView> + Send + Sync + 'static + use<> {
    let source = SessionView(Arc::downgrade(session));
    let made = OnceLock::new();
    move || Arc::clone(made.get_or_init(|| source.view()))
}

/// What reading values depends on in a session, now.
pub fn input(session: &Arc<Session>) -> Input {
    let style = session.output_style();
    let view = view(session);
    let oids: RegOids = Arc::new(move |kind, name| names::resolve(&view(), kind, name));
    Input {
        clock: Clock {
            zone: zone(&style),
            day_first: style.date_style.to_ascii_lowercase().contains("dmy"),
            now_us: chrono::Utc::now().timestamp_micros(),
        },
        reg_oids: Some(oids),
    }
}

/// The order of message severities.
fn rank(severity: &str) -> u8 {
    match severity.to_ascii_lowercase().as_str() {
        "notice" => 2,
        "warning" => 3,
        "error" => 4,
        "log" => 1,
        _ => 0,
    }
}

/// A time limit; zero is none.
fn limit(settings: &Settings, name: &str) -> Option<Duration> {
    Some(settings.duration(name)).filter(|limit| !limit.is_zero())
}

fn zone(style: &OutputStyle) -> Zone {
    Zone::parse(&style.time_zone).unwrap_or_else(Zone::utc)
}

/// The type behind an oid that a client declares for a parameter; 0 and unknown leave it open.
pub fn type_of(oid: u32) -> Result<Option<SqlType>> {
    if matches!(oid, 0 | 705) {
        return Ok(None);
    }
    const SCALARS: [&str; 37] = [
        "bool",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "numeric",
        "text",
        "varchar",
        "bpchar",
        "name",
        "\"char\"",
        "oid",
        "regclass",
        "regproc",
        "regtype",
        "regnamespace",
        "regrole",
        "bytea",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "uuid",
        "json",
        "jsonb",
        "bit",
        "vector",
        "file",
        "image",
        "audio",
        "tensor",
        "box2d",
        "void",
        "anyelement",
        "unknown",
    ];
    SCALARS
        .iter()
        .filter_map(|name| SqlType::parse(name))
        .find_map(|ty| {
            if ty.oid() == oid {
                Some(ty)
            } else if ty.array_oid() == oid {
                Some(SqlType::Array(Box::new(ty)))
            } else {
                None
            }
        })
        .map(Some)
        .ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type with OID {oid} does not exist")))
}

/// How a session's results name what reg* values mean.
pub fn reg_names(session: &Arc<Session>) -> RegNames {
    let view = view(session);
    Arc::new(move |kind, oid| Some(names::print(&view(), kind, oid)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn oids_lead_to_types() {
        assert_eq!(type_of(23).unwrap(), Some(SqlType::Int4));
        assert_eq!(type_of(1007).unwrap(), Some(SqlType::Array(Box::new(SqlType::Int4))));
        assert_eq!(type_of(0).unwrap(), None);
        assert_eq!(type_of(16385).unwrap(), Some(SqlType::Vector));
        assert_eq!(type_of(99).unwrap_err().kind, Kind::UndefinedObject);
    }
}
