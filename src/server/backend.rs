//! The engine's session as the state machine sees it.
//!
//! In: statements, parameters, settings by name. Out: what the protocol needs of them. Invariant: everything that can take
//! time runs on the engine's threads; the session is locked by one piece of work at a time. This is the only file that
//! calls the engine's session. Deliberately absent: messages.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use futures::stream::BoxStream;
use pgwire::messages::response::TransactionStatus as WireStatus;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use squilla_engine::session::{Execution, OutputStyle, Prepared, ResultField, RowsTag, Session, TransactionStatus};
use squilla_engine::statement::Statement;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::decode::{self, Input, datetime::Clock};
use crate::encode::style::{ImageEncoder, Style};
use crate::encode::zone::Zone;
use crate::frontend::Bind;

/// A prepared statement and what Describe says of it.
pub struct Described {
    prepared: Prepared,
    /// Types of $1, $2, ...
    pub parameters: Vec<SqlType>,
    /// Columns; None for statements without rows.
    pub fields: Option<Vec<ResultField>>,
}

/// A statement that has begun.
pub enum Started {
    /// It is over already.
    Done(String),
    /// It gives rows.
    Rows {
        /// The rows.
        stream: BoxStream<'static, Result<RecordBatch>>,
        /// What the command tag says before the number of rows.
        tag: String,
    },
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

/// A session and the threads it works on.
pub struct Backend {
    session: Arc<Mutex<Session>>,
    engine: tokio::runtime::Handle,
    image_encoder: Option<ImageEncoder>,
    cancel: CancellationToken,
    deadline: Option<Instant>,
}

impl Backend {
    /// Wraps a session.
    pub fn new(session: Session, engine: tokio::runtime::Handle, image_encoder: Option<ImageEncoder>) -> Self {
        Self { session: Arc::new(Mutex::new(session)), engine, image_encoder, cancel: CancellationToken::new(), deadline: None }
    }

    /// Runs work on the engine's threads.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.engine.spawn(work)
    }

    /// A new statement begins: what was cancelled before does not concern it, and its time starts now.
    pub async fn begin_statement(&mut self) {
        let mut session = self.session.lock().await;
        self.cancel = session.begin_statement();
        self.deadline = session.statement_timeout().map(|limit| Instant::now() + limit);
    }

    /// Fires when the statement is to stop.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// When the statement has to be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the client may say nothing.
    pub async fn idle_limit(&self, status: Status) -> Option<Duration> {
        self.session.lock().await.idle_timeout(status != Status::Idle)
    }

    /// Fires when another session terminates this one.
    pub async fn terminated(&self) {
        let token = self.session.lock().await.terminated();
        token.cancelled().await;
    }

    /// SQL text to statements.
    pub fn parse(&self, text: String) -> impl Future<Output = Result<Vec<Statement>>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        async move { session.lock().await.parse(&text) }
    }

    /// A statement to its plan.
    pub fn prepare(&self, statement: Statement, types: Vec<Option<SqlType>>) -> impl Future<Output = Result<Described>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        async move {
            let prepared = session.lock().await.prepare(&statement, &types).await?;
            let parameters = prepared.parameter_types().to_vec();
            let fields = prepared.fields().map(<[ResultField]>::to_vec);
            Ok(Described { prepared, parameters, fields })
        }
    }

    /// Begins to execute.
    pub fn start(&self, described: Arc<Described>, parameters: Vec<ArrayRef>) -> impl Future<Output = Result<Started>> + Send + 'static + use<> {
        let session = Arc::clone(&self.session);
        async move {
            let values = parameters.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect::<std::result::Result<Vec<_>, _>>();
            let values = values.map_err(|e| Error::internal(format!("a parameter cannot be used: {e}")))?;
            let execution = session.lock().await.execute(&described.prepared, values).await?;
            Ok(match execution {
                Execution::Done { tag } => Started::Done(tag),
                Execution::Rows { stream, tag, .. } => Started::Rows { stream, tag: word(&tag) },
            })
        }
    }

    /// The values of a Bind message.
    pub async fn decode(&self, types: &[SqlType], bind: &Bind) -> Result<Vec<ArrayRef>> {
        let style = self.session.lock().await.output_style();
        let input = Input {
            clock: Clock {
                zone: zone(&style),
                day_first: style.date_style.to_ascii_lowercase().contains("dmy"),
                now_us: chrono::Utc::now().timestamp_micros(),
            },
            reg_oids: None,
        };
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

    /// How values are printed now.
    pub async fn style(&self) -> Arc<Style> {
        let output = self.session.lock().await.output_style();
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
        Arc::new(style)
    }

    /// Notices since the last call: error, severity, SQLSTATE.
    pub async fn notices(&self) -> Vec<(Error, String, String)> {
        let notices = self.session.lock().await.take_notices();
        notices.into_iter().map(|n| (n.error, n.severity.to_string(), n.code)).collect()
    }

    /// Settings that clients follow and that have changed since the last call.
    pub async fn changed_parameters(&self) -> Vec<(String, String)> {
        self.session.lock().await.changed_parameters()
    }

    /// All settings that clients follow.
    pub async fn reported_parameters(&self) -> Vec<(String, String)> {
        self.session.lock().await.reported_parameters()
    }

    /// The state of the transaction.
    pub async fn status(&self) -> Status {
        match self.session.lock().await.transaction_status() {
            TransactionStatus::Idle => Status::Idle,
            TransactionStatus::InTransaction => Status::Open,
            TransactionStatus::Failed => Status::Failed,
        }
    }

    /// A statement failed: an open transaction is lost.
    pub async fn fail(&self) {
        self.session.lock().await.fail_transaction();
    }

    /// Several statements in one message are one transaction.
    pub async fn begin_implicit(&self) {
        self.session.lock().await.simple_query_begin();
    }

    /// Their end.
    pub async fn commit_implicit(&self) -> Result<()> {
        self.session.lock().await.simple_query_commit().await
    }
}

fn word(tag: &RowsTag) -> String {
    tag.word().to_owned()
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
        "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "name", "\"char\"", "oid", "regclass", "regproc",
        "regtype", "regnamespace", "regrole", "bytea", "date", "time", "timestamp", "timestamptz", "interval", "uuid", "json", "jsonb", "bit", "vector",
        "file", "image", "audio", "tensor", "box2d", "void", "anyelement", "unknown",
    ];
    SCALARS
        .iter()
        .filter_map(|name| SqlType::parse(name))
        .find_map(|ty| if ty.oid() == oid { Some(ty) } else if ty.array_oid() == oid { Some(SqlType::Array(Box::new(ty))) } else { None })
        .map(Some)
        .ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type with OID {oid} does not exist")))
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
