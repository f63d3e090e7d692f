//! The state machine of a session: one for the simple and the extended protocol.
//!
//! In: messages of the client. Out: answers in the order of the messages. Invariant: after an error in an extended
//! message everything up to the next Sync is ignored; every Query and every Sync is answered by exactly one
//! ReadyForQuery; a result is never held in memory. Deliberately absent: how rows are encoded (stream), SQL (engine).

mod copying;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, NotificationResponse, ReadyForQuery};
use pgwire::messages::startup::ParameterStatus;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use squilla_engine::session::{Execution, RowsTag};
use squilla_engine::statement::Statement;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Described, Status};
use crate::describe::{outputs, row_description};
use crate::encode::{OutputColumn, RowEncoder};
use crate::frontend::{Bind, Frontend, Target};
use crate::report::{self, Severity};
use crate::running::{Stop, deliver, put_notices, watch};
use crate::stream::Source;
use crate::wire::{Broken, Wire};

/// Portals one session may hold.
const PORTALS_MAX: usize = 10_000;
/// A statement prepared by Parse. None is the empty query.
type Prepared = Option<Arc<Described>>;

/// A portal made by Bind.
struct Portal {
    statement: Prepared,
    parameters: Vec<arrow::array::ArrayRef>,
    columns: Vec<OutputColumn>,
    state: PortalState,
    /// Rows given so far.
    given: u64,
}

enum PortalState {
    Ready,
    Open {
        source: Box<Source>,
        tag: RowsTag,
    },
    /// SQL has named the portal: its rows are those of the cursor of that name.
    Cursor,
    /// Rows have been; another Execute gives none.
    Ended {
        tag: Option<RowsTag>,
    },
}

/// One session.
pub struct Conversation {
    wire: Wire,
    backend: Backend,
    /// The unnamed statement, and named ones with the serial number that the session knows them by.
    statements: HashMap<String, (u64, Prepared)>,
    portals: HashMap<String, Portal>,
    skipping: bool,
    last_status: Status,
}

/// How a message ended, when not well.
type Done = std::result::Result<(), Stop>;

impl Conversation {
    /// A session on a socket; everything up to the first ReadyForQuery has been written to the buffer.
    pub fn new(wire: Wire, backend: Backend) -> Self {
        Self { wire, backend, statements: HashMap::new(), portals: HashMap::new(), skipping: false, last_status: Status::Idle }
    }

    /// Talks until the client leaves or `shutdown` fires between two statements.
    pub async fn run(mut self, shutdown: CancellationToken) {
        if self.ready().await.is_err() {
            return;
        }
        loop {
            let idle = self.backend.idle_limit(self.last_status);
            let woken = self.backend.woken(self.last_status == Status::Idle);
            let message = tokio::select! {
                biased;
                message = self.wire.next() => message,
                () = shutdown.cancelled() => Err(Broken::Fatal(Error::new(Kind::AdminShutdown, "terminating connection due to administrator command"))),
                () = woken => {
                    if !self.backend.is_terminated() {
                        self.put_notifications();
                        if self.wire.flush().await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Err(Broken::Fatal(Error::new(Kind::AdminShutdown, "terminating connection due to administrator command")))
                }
                () = sleep(idle) => Err(Broken::Fatal(idle_error(self.last_status))),
            };
            let done = match message {
                Ok(Frontend::Terminate) | Err(Broken::Gone) => return,
                Ok(message) => self.answer(message).await,
                Err(Broken::Fatal(e)) => Err(Stop::Fatal(e)),
                Err(Broken::Message(e, extended)) => self.failed(e, extended).await,
            };
            match done {
                Ok(()) => {}
                Err(Stop::Gone) => return,
                Err(Stop::Fatal(e) | Stop::Failed(e)) => {
                    self.wire.put(report::error(&e, Severity::Fatal));
                    // The client may be gone already.
                    let _ = tokio::time::timeout(Duration::from_secs(5), self.wire.flush()).await;
                    self.wire.close().await;
                    return;
                }
            }
        }
    }

    async fn answer(&mut self, message: Frontend) -> Done {
        if self.skipping && !matches!(message, Frontend::Sync) {
            return Ok(());
        }
        let done = match message {
            Frontend::Query(text) => return self.query(text).await,
            Frontend::Sync => return self.sync().await,
            Frontend::Parse { name, query, types } => self.parse(name, query, &types).await,
            Frontend::Bind(bind) => self.bind(bind).await,
            Frontend::Describe(target, name) => self.describe(target, &name),
            Frontend::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Frontend::Close(target, name) => {
                match target {
                    Target::Statement => {
                        self.statements.remove(&name);
                        self.backend.forget_statement(&name);
                    }
                    Target::Portal => {
                        self.portals.remove(&name);
                        self.backend.close_cursor(&name);
                    }
                }
                self.wire.put(PgWireBackendMessage::CloseComplete(CloseComplete::new()));
                Ok(())
            }
            Frontend::Flush => return self.wire.flush().await.map_err(|_| Stop::Gone),
            Frontend::FunctionCall => {
                let refused = Error::unsupported("function calls by the fast-path protocol are not supported").hint("Call the function in a SELECT.");
                return self.failed(refused, false).await;
            }
            Frontend::Terminate | Frontend::Password(_) => return Err(Stop::Gone),
            // Left over from a COPY that failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => return Ok(()),
        };
        match done {
            Err(Stop::Failed(e)) => self.failed(e, true).await,
            Ok(()) => self.wire.drain().await.map_err(|_| Stop::Gone),
            other => other,
        }
    }

    /// Reports an error of one statement or message.
    async fn failed(&mut self, error: Error, extended: bool) -> Done {
        if self.skipping {
            return Ok(());
        }
        self.backend.log_error(&error);
        self.wire.put(report::error(&error, Severity::Error));
        // The client learns of it now: a cancelled plan may hold the session for a moment more.
        self.wire.flush().await.map_err(|_| Stop::Gone)?;
        self.backend.fail();
        self.portals.retain(|_, p| !matches!(p.state, PortalState::Open { .. }));
        if extended {
            self.skipping = true;
            Ok(())
        } else {
            self.ready().await
        }
    }

    async fn sync(&mut self) -> Done {
        self.skipping = false;
        self.ready().await
    }

    /// ReadyForQuery, with everything that goes in front of it.
    async fn ready(&mut self) -> Done {
        self.backend.finish();
        put_notices(&mut self.wire, &self.backend);
        for (name, value) in self.backend.changed_parameters() {
            self.wire.put(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value)));
        }
        self.put_notifications();
        let status = self.backend.status();
        if status == Status::Idle {
            // Portals live as long as their transaction.
            self.portals.clear();
        }
        self.last_status = status;
        self.wire.put(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status.wire())));
        self.wire.flush().await.map_err(|_| Stop::Gone)
    }

    fn put_notifications(&mut self) {
        for n in self.backend.notifications() {
            self.wire.put(PgWireBackendMessage::NotificationResponse(NotificationResponse::new(n.pid, n.channel, n.payload)));
        }
    }

    fn complete(&mut self, tag: String) {
        put_notices(&mut self.wire, &self.backend);
        self.wire.put(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)));
    }

    // ---- simple protocol

    async fn query(&mut self, text: String) -> Done {
        self.statements.remove("");
        self.portals.remove("");
        match self.statements_of(text).await {
            Err(Stop::Failed(e)) => self.failed(e, false).await,
            Ok(()) => self.ready().await,
            other => other,
        }
    }

    async fn statements_of(&mut self, text: String) -> Done {
        self.backend.begin_statement();
        if self.known(&text).await? {
            return Ok(());
        }
        let statements = self.running(self.backend.parse(text)).await?;
        if statements.is_empty() {
            self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
            return Ok(());
        }
        if statements.len() == 1 {
            return self.simple(statements).await;
        }
        self.backend.begin_implicit();
        let done = self.simple(statements).await;
        let well = done.is_ok();
        let ended = self.running(self.backend.end_implicit(well)).await;
        done.and(ended)
    }

    /// Answers a text that the session knows the answer's way of.
    async fn known(&mut self, text: &str) -> std::result::Result<bool, Stop> {
        let Some(Execution::Rows { fields, stream, tag }) = self.running(self.backend.answer_known(text)).await? else { return Ok(false) };
        let columns = outputs(&fields, &[])?;
        self.wire.put(row_description(&fields, &columns));
        let style = self.backend.style(&columns);
        let pumped = deliver(Source::new(stream, RowEncoder::new(columns, style), None), 0, &mut self.wire, &self.backend).await?;
        self.complete(tag.text(pumped.rows));
        self.backend.log_duration(text);
        Ok(true)
    }

    async fn simple(&mut self, statements: Vec<Statement>) -> Done {
        for statement in statements {
            let described = Arc::new(self.running(self.backend.prepare(statement, Vec::new())).await?);
            if !described.parameters.is_empty() {
                return Err(Stop::Failed(Error::new(Kind::UndefinedParameter, "there is no parameter $1")));
            }
            let text = described.text();
            let mut portal = Portal { statement: Some(described), parameters: Vec::new(), columns: Vec::new(), state: PortalState::Ready, given: 0 };
            self.advance(&mut portal, 0, true).await?;
            self.backend.log_duration(&text);
        }
        Ok(())
    }

    // ---- extended protocol

    async fn parse(&mut self, name: String, text: String, types: &[u32]) -> Done {
        if !name.is_empty() && self.statement(&name).is_some() {
            return Err(Stop::Failed(Error::new(Kind::DuplicatePrepared, format!("prepared statement \"{name}\" already exists"))));
        }
        if name.is_empty() {
            self.statements.remove("");
        }
        if !name.is_empty() && self.backend.named_count() >= self.backend.prepared_max() {
            let error = Error::new(Kind::ConfigurationLimit, "too many prepared statements");
            return Err(Stop::Failed(error.hint("The limit is the setting squilla.max_prepared_statements.")));
        }
        self.backend.begin_statement();
        let types = types.iter().map(|oid| crate::backend::type_of(*oid)).collect::<Result<Vec<_>>>().map_err(Stop::Failed)?;
        let prepared = match self.running(self.backend.prepared_known(&text, &types)).await? {
            Some(known) => Some(Arc::new(known)),
            None => self.prepared(text, types).await?,
        };
        let serial = match &prepared {
            Some(described) if !name.is_empty() => self.backend.name_statement(&name, described),
            _ => 0,
        };
        self.statements.insert(name, (serial, prepared));
        self.wire.put(PgWireBackendMessage::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    /// The statement of a text, planned.
    async fn prepared(&mut self, text: String, types: Vec<Option<SqlType>>) -> std::result::Result<Prepared, Stop> {
        let mut statements = self.running(self.backend.parse(text)).await?;
        if statements.len() > 1 {
            return Err(Stop::Failed(Error::new(Kind::Syntax, "cannot insert multiple commands into a prepared statement")));
        }
        Ok(match statements.pop() {
            None => None,
            Some(statement) => Some(Arc::new(self.running(self.backend.prepare(statement, types)).await?)),
        })
    }

    /// The statement of this name. SQL may have dropped or made it meanwhile: the session knows.
    fn statement(&mut self, name: &str) -> Option<Prepared> {
        let known = self.statements.get(name);
        if let Some((0, prepared)) = known {
            return Some(prepared.clone());
        }
        let Some(serial) = self.backend.named_serial(name) else {
            self.statements.remove(name);
            return None;
        };
        if let Some((_, prepared)) = known.filter(|(s, _)| *s == serial) {
            return Some(prepared.clone());
        }
        let prepared = Some(Arc::new(self.backend.named(name)?));
        self.statements.insert(name.to_owned(), (serial, prepared.clone()));
        Some(prepared)
    }

    async fn bind(&mut self, bind: Bind) -> Done {
        let Some(prepared) = self.statement(&bind.statement) else {
            return Err(Stop::Failed(no_statement(&bind.statement)));
        };
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Stop::Failed(Error::new(Kind::DuplicateCursor, format!("cursor \"{}\" already exists", bind.portal))));
        }
        if self.portals.len() >= PORTALS_MAX {
            let error = Error::new(Kind::ConfigurationLimit, "too many portals in one transaction");
            return Err(Stop::Failed(error.detail(format!("There may be {PORTALS_MAX} at most."))));
        }
        let wanted = prepared.as_ref().map_or(0, |p| p.parameters.len());
        if wanted != bind.parameters.len() {
            return Err(Stop::Failed(Error::new(
                Kind::ProtocolViolation,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {wanted}",
                    bind.parameters.len(),
                    bind.statement
                ),
            )));
        }
        let fields = prepared.as_ref().and_then(|p| p.fields.as_deref()).unwrap_or(&[]);
        let columns = outputs(fields, &bind.result_formats)?;
        let parameters = match &prepared {
            Some(p) if wanted > 0 => self.backend.decode(&p.parameters, &bind).map_err(Stop::Failed)?,
            _ => Vec::new(),
        };
        self.portals.insert(bind.portal, Portal { statement: prepared, parameters, columns, state: PortalState::Ready, given: 0 });
        self.wire.put(PgWireBackendMessage::BindComplete(BindComplete::new()));
        Ok(())
    }

    fn describe(&mut self, target: Target, name: &str) -> Done {
        let description = match target {
            Target::Statement => {
                let prepared = self.statement(name).ok_or_else(|| Stop::Failed(no_statement(name)))?;
                let types = prepared.as_ref().map_or(Vec::new(), |p| p.parameters.iter().map(SqlType::oid).collect());
                self.wire.put(PgWireBackendMessage::ParameterDescription(ParameterDescription::new(types)));
                match prepared.as_ref().and_then(|p| p.fields.as_deref()) {
                    Some(fields) => Some(row_description(fields, &outputs(fields, &[])?)),
                    None => None,
                }
            }
            Target::Portal => {
                let Some(portal) = self.portals.get(name) else {
                    let (fields, binary) = self.backend.cursor(name).ok_or_else(|| Stop::Failed(no_portal(name)))?;
                    let columns = outputs(&fields, if binary { &[1] } else { &[] })?;
                    self.wire.put(row_description(&fields, &columns));
                    return Ok(());
                };
                portal.statement.as_ref().and_then(|p| p.fields.as_deref()).map(|fields| row_description(fields, &portal.columns))
            }
        };
        self.wire.put(description.unwrap_or(PgWireBackendMessage::NoData(NoData::new())));
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: usize) -> Done {
        // Taken out while it runs: an error drops it with its stream.
        let mut portal = match self.portals.remove(name) {
            Some(portal) => portal,
            None => {
                let (fields, binary) = self.backend.cursor(name).ok_or_else(|| Stop::Failed(no_portal(name)))?;
                let columns = outputs(&fields, if binary { &[1] } else { &[] })?;
                Portal { statement: None, parameters: Vec::new(), columns, state: PortalState::Cursor, given: 0 }
            }
        };
        self.backend.begin_statement();
        let done = if matches!(portal.state, PortalState::Cursor) {
            self.read_cursor(name, portal.columns.clone(), rows_max).await
        } else {
            self.advance(&mut portal, rows_max, false).await
        };
        let status = self.backend.status();
        if done.is_ok() && status == Status::Idle && self.last_status != Status::Idle {
            self.portals.clear();
        }
        self.last_status = status;
        if done.is_ok()
            && let Some(described) = &portal.statement
        {
            self.backend.log_duration(&described.text());
        }
        // A cursor that SQL declared is no portal: it is looked up again.
        if done.is_ok() && !(portal.statement.is_none() && matches!(portal.state, PortalState::Cursor)) {
            self.portals.insert(name.to_owned(), portal);
        }
        done
    }

    /// Execute of a cursor of SQL.
    async fn read_cursor(&mut self, name: &str, columns: Vec<OutputColumn>, rows_max: usize) -> Done {
        let rows = self.backend.read_cursor(name, rows_max).map_err(Stop::Failed)?;
        let style = self.backend.style(&columns);
        let source = Source::new(rows, RowEncoder::new(columns, style), None);
        let pumped = deliver(source, 0, &mut self.wire, &self.backend).await?;
        if rows_max > 0 && pumped.rows == rows_max as u64 {
            self.wire.put(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()));
        } else {
            self.complete(RowsTag::Select.text(pumped.rows));
        }
        Ok(())
    }

    /// FETCH, MOVE or CLOSE may name a portal: it becomes a cursor of SQL first.
    async fn adopt(&mut self, described: &Described) -> Done {
        let Some(name) = described.cursor_name().map(str::to_owned) else { return Ok(()) };
        let Some(mut portal) = self.portals.remove(&name) else { return Ok(()) };
        if let Some(statement) = portal.statement.clone() {
            let rows = match std::mem::replace(&mut portal.state, PortalState::Cursor) {
                PortalState::Cursor => None,
                PortalState::Ended { .. } => Some(futures::stream::empty().boxed()),
                PortalState::Open { source, .. } => Some(source.into_rows()),
                PortalState::Ready => {
                    let parameters = std::mem::take(&mut portal.parameters);
                    match self.running(self.backend.start(Arc::clone(&statement), parameters)).await? {
                        Execution::Rows { stream, .. } => Some(stream),
                        _ => return Err(Stop::Failed(Error::new(Kind::InvalidCursorState, format!("portal \"{name}\" has no rows")))),
                    }
                }
            };
            if let Some(rows) = rows {
                let fields = Arc::new(statement.fields.clone().unwrap_or_default());
                self.backend.adopt_cursor(&name, &statement, fields, rows, portal.given);
            }
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    // ---- both

    /// Runs a portal, from its start or from where it was suspended.
    async fn advance(&mut self, portal: &mut Portal, rows_max: usize, simple: bool) -> Done {
        let (source, tag) = match std::mem::replace(&mut portal.state, PortalState::Ended { tag: None }) {
            PortalState::Open { source, tag } => (*source, tag),
            PortalState::Cursor => return Err(Stop::Failed(Error::internal("a cursor is read as a portal"))),
            PortalState::Ended { tag: Some(tag) } => {
                self.complete(tag.text(0));
                portal.state = PortalState::Ended { tag: Some(tag) };
                return Ok(());
            }
            PortalState::Ended { tag: None } => {
                return Err(Stop::Failed(Error::new(Kind::NotInPrerequisiteState, "portal cannot be run a second time")));
            }
            PortalState::Ready => {
                let Some(described) = portal.statement.clone() else {
                    self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
                    portal.state = PortalState::Ready;
                    return Ok(());
                };
                self.adopt(&described).await?;
                let parameters = std::mem::take(&mut portal.parameters);
                match self.running(self.backend.start(described, parameters)).await? {
                    Execution::Done { tag } => {
                        if matches!(tag.as_str(), "DEALLOCATE ALL" | "DISCARD ALL") {
                            // An empty statement with a name is known here only.
                            self.statements.retain(|name, _| name.is_empty());
                        }
                        self.complete(tag);
                        return Ok(());
                    }
                    Execution::Rows { fields, stream, tag } => {
                        if simple || portal.columns.len() != fields.len() {
                            // Nobody has asked for formats: text. Only now is it known for SQL's own EXECUTE and FETCH.
                            let binary = simple && matches!(tag, RowsTag::Fetch { binary: true });
                            portal.columns = outputs(&fields, if binary { &[1] } else { &[] })?;
                        }
                        if simple {
                            self.wire.put(row_description(&fields, &portal.columns));
                        }
                        let style = self.backend.style(&portal.columns);
                        (Source::new(stream, RowEncoder::new(portal.columns.clone(), style), None), tag)
                    }
                    Execution::CopyOut { fields, stream, options } => return self.copy_out(&fields, stream, &options).await,
                    Execution::CopyIn(copy) => return self.copy_in(*copy).await,
                }
            }
        };
        let pumped = deliver(source, rows_max, &mut self.wire, &self.backend).await?;
        portal.given += pumped.rows;
        if pumped.finished {
            self.complete(tag.text(pumped.rows));
            portal.state = PortalState::Ended { tag: (!simple).then_some(tag) };
        } else {
            self.wire.put(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()));
            portal.state = PortalState::Open { source: Box::new(pumped.source), tag };
        }
        Ok(())
    }

    /// Runs work of the engine while watching for cancellation, time-out and the client.
    async fn running<T>(&mut self, work: impl Future<Output = Result<T>>) -> std::result::Result<T, Stop> {
        watch(work, &mut self.wire, &self.backend).await
    }
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn idle_error(status: Status) -> Error {
    match status {
        Status::Idle => Error::new(Kind::IdleTimeout, "terminating connection due to idle-session timeout"),
        _ => Error::new(Kind::IdleInTransactionTimeout, "terminating connection due to idle-in-transaction timeout"),
    }
}

fn no_statement(name: &str) -> Error {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{name}\" does not exist")
    };
    Error::new(Kind::UndefinedPrepared, message)
}

fn no_portal(name: &str) -> Error {
    Error::new(Kind::UndefinedCursor, format!("portal \"{name}\" does not exist"))
}
