//! COPY in both directions.
//!
//! In: a parsed COPY. Out: rows for the client, rows into files, or a [`CopyIn`] into which the server puts the rows that
//! a client or a file holds. Invariant: rows of a COPY are visible when all of them are good and stored, or not at all.
//! Deliberately absent: the text, CSV and binary formats themselves, which the server reads and writes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use sqlparser::ast;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::FileRef;
use tokio::sync::mpsc;

use crate::catalog::data::{ColumnEntry, Relation};
use crate::command::data::start;
use crate::command::done;
use crate::command::insert::{arranged, insert_columns};
use crate::command::write::{Target, append};
use crate::error::{from_datafusion, to_datafusion};
use crate::session::query::sendable;
use crate::session::{CopyIn, Execution, Session};
use crate::statement::copy::{Copy, CopyOption, CopySource, CopyTarget};
use crate::statement::{Statement, ident_text};

/// The plan of a COPY's source.
async fn copy_plan(session: &Arc<Session>, copy: &Copy, statement: &Statement) -> Result<LogicalPlan> {
    let query = match &copy.source {
        CopySource::Query(query) => query.clone(),
        CopySource::Table { name, columns } => crate::bind::relation::table_query(name, columns)?,
    };
    session.plan_query(ast::Statement::Query(query), &statement.source, &[]).await
}

fn superuser(session: &Session) -> Result<()> {
    if session.superuser() {
        return Ok(());
    }
    Err(Error::new(Kind::InsufficientPrivilege, "must be superuser to COPY to or from a file")
        .hint("Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone."))
}

/// COPY ... TO 'location'
pub async fn copy_to(session: &Arc<Session>, copy: &Copy, location: &str, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    superuser(session)?;
    let plan = copy_plan(session, copy, statement).await?;
    let fields = session.result_fields(&plan);
    let running = start(session, plan, &statement.text, parameters).await?;
    let stream = sendable(running.stream, told(&running.schema, &fields));
    let rows = running.frame.stop.guard(crate::sink::copy::copy_to(stream, location, &copy.options, &session.database.files)).await?;
    done(format!("COPY {rows}"))
}

/// The columns as a client would be told them: names without the marks of repeated ones, and types that constants and
/// functions have forgotten on their way through the plan.
fn told(schema: &SchemaRef, results: &[crate::session::ResultField]) -> SchemaRef {
    let field = |(i, field): (usize, &arrow::datatypes::FieldRef)| {
        let mut field = field.as_ref().clone().with_name(crate::postgres::column_names::shown(field.name()));
        if let Some(known) = results.get(i).map(|r| r.ty.field(field.name())).filter(|k| k.data_type() == field.data_type()) {
            let mut marks = field.metadata().clone();
            marks.extend(known.metadata().clone());
            field.set_metadata(marks);
        }
        field
    };
    let fields: Vec<_> = schema.fields().iter().enumerate().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// COPY ... TO STDOUT
pub async fn copy_out(session: &Arc<Session>, copy: &Copy, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let plan = copy_plan(session, copy, statement).await?;
    let fields = Arc::new(session.result_fields(&plan));
    let running = start(session, plan, &statement.text, parameters).await?;
    Ok(Execution::CopyOut { fields, stream: running.stream, options: copy.options.clone() })
}

/// COPY table FROM: rows of the client or of one file in the formats of the protocol, or else INSERT of a scan.
pub async fn copy_from(session: &Arc<Session>, copy: &Copy, statement: &Statement) -> Result<Execution> {
    let CopySource::Table { name, columns } = &copy.source else { return Err(Error::new(Kind::Syntax, "COPY FROM takes a table")) };
    if copy.condition.is_some() {
        return Err(Error::unsupported("COPY FROM with WHERE is not supported yet").hint("Copy into a table of its own and select from it."));
    }
    let location = match &copy.target {
        CopyTarget::Location(location) => Some(location.as_str()),
        _ => None,
    };
    if location.is_some() {
        superuser(session)?;
    }
    let target = Target::find(session, name, None, "copy to")?;
    let named: Vec<String> = columns.iter().map(ident_text).collect();
    let positions = insert_columns(&target.relation, &named, &target.name)?;
    let place = Place { target, positions };
    match location {
        None => incoming(session, copy, None, place, statement).await,
        Some(location) if is_plain(copy, location) => {
            let file = FileRef { uri: location.to_owned(), size: None, etag: None, last_modified_us: None, content_type: None };
            let bytes = session.database.files.stream(&file).await?;
            incoming(session, copy, Some(bytes), place, statement).await
        }
        Some(location) => scanned(session, copy, location, &place, statement).await,
    }
}

/// Where the rows go.
struct Place {
    target: Target,
    /// Columns given, in the order of the data.
    positions: Vec<usize>,
}

/// Whether the location is one file in text, CSV or binary, whose bytes mean what a client's would.
fn is_plain(copy: &Copy, location: &str) -> bool {
    let named = copy.options.iter().find(|(n, _)| n == "format").map(|(_, v)| match v {
        CopyOption::Value(v) => v.to_lowercase(),
        _ => String::new(),
    });
    let suffix = location.rsplit_once('.').map_or(String::new(), |(_, s)| s.to_lowercase());
    let one = !location.contains(['*', '?', '[', '{']) && !location.ends_with('/');
    one && match named.as_deref() {
        Some("text" | "csv" | "binary") => !matches!(suffix.as_str(), "gz" | "zst" | "bz2" | "xz"),
        Some(_) => false,
        None => !matches!(suffix.as_str(), "parquet" | "pq" | "json" | "ndjson" | "jsonl" | "gz" | "zst" | "bz2" | "xz"),
    }
}

/// A COPY whose rows the server reads and sends here; they are stored when the sender is done, and only then.
async fn incoming(
    session: &Arc<Session>,
    copy: &Copy,
    file: Option<BoxStream<'static, Result<Bytes>>>,
    place: Place,
    statement: &Statement,
) -> Result<Execution> {
    let given: Vec<&ColumnEntry> = place.positions.iter().filter_map(|p| place.target.relation.columns.get(*p)).collect();
    let columns = given.iter().map(|c| Ok((c.name.clone(), c.sql_type()?))).collect::<Result<Vec<_>>>()?;
    let schema: SchemaRef = Arc::new(Schema::new(columns.iter().map(|(name, ty)| ty.field(name)).collect::<Vec<_>>()));
    let (batches, receiver) = mpsc::channel(COPY_BATCHES);
    let source = Arc::new(Incoming { schema: Arc::clone(&schema), receiver: Mutex::new(Some(receiver)) });
    let provider = StreamingTable::try_new(schema, vec![source]).map_err(from_datafusion)?;
    let scan = LogicalPlanBuilder::scan("copy", provider_as_source(Arc::new(provider)), None);
    let plan = scan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
    let plan = arranged(session, plan, &place.target.relation, &place.positions, false).await?;
    let mut options = copy.options.clone();
    let csv = |location: &str| location.to_lowercase().ends_with(".csv");
    if matches!(&copy.target, CopyTarget::Location(l) if csv(l)) && !options.iter().any(|(n, _)| n == "format") {
        options.insert(0, ("format".into(), CopyOption::Value("csv".into())));
    }
    let (session, text) = (Arc::clone(session), Arc::clone(&statement.text));
    let table = place.target.name.clone();
    let rows = async move {
        // The rows come once: what another session was faster with cannot be tried again.
        let mut once = Some((plan, place));
        let writer = Arc::clone(&session);
        writer
            .writing(move || {
                let (session, text, once) = (Arc::clone(&session), Arc::clone(&text), once.take());
                async move {
                    let late = || Error::new(Kind::SerializationFailure, "could not serialize access due to concurrent update");
                    let (plan, place) = once.ok_or_else(late)?;
                    let running = start(&session, plan, &text, Vec::new()).await?;
                    let stream = sendable(running.stream, running.schema);
                    running.frame.stop.guard(append(&session, &place.target, stream)).await
                }
            })
            .await
    };
    Ok(Execution::CopyIn(Box::new(CopyIn { table, columns, options, file, batches, rows: Box::pin(rows) })))
}

/// Batches between the reader of a COPY and the store.
const COPY_BATCHES: usize = 2;

/// The rows of one COPY as a table that can be read once.
struct Incoming {
    schema: SchemaRef,
    receiver: Mutex<Option<mpsc::Receiver<Result<RecordBatch>>>>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

impl PartitionStream for Incoming {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = match self.receiver.lock().take() {
            Some(receiver) => {
                stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|batch| (batch.map_err(to_datafusion), receiver)) })
                    .boxed()
            }
            None => stream::iter([Err(to_datafusion(Error::internal("the rows of a COPY are read twice")))]).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// COPY of files that a source reads: Parquet, JSON, compressed CSV, several files.
async fn scanned(session: &Arc<Session>, copy: &Copy, location: &str, place: &Place, statement: &Statement) -> Result<Execution> {
    let call = source_call(copy, location, &place.target.relation, &place.positions)?;
    let frame = session.frame(&statement.text)?;
    let provider = crate::source::tables::resolve(&call, &session.database.files, &*frame.state).await?;
    let provider = provider.ok_or_else(|| Error::internal("no reader for COPY"))?;
    let scan = LogicalPlanBuilder::scan(place.target.name.clone(), provider_as_source(provider), None);
    let plan = scan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
    let plan = arranged(session, plan, &place.target.relation, &place.positions, false).await?;
    let running = start(session, plan, &statement.text, Vec::new()).await?;
    let stream = sendable(running.stream, running.schema);
    let rows = running.frame.stop.guard(append(session, &place.target, stream)).await?;
    done(format!("COPY {rows}"))
}

/// The reader of a scan: its format from the option, else from the file's name.
fn source_call(copy: &Copy, location: &str, relation: &Relation, positions: &[usize]) -> Result<crate::source::options::SourceCall> {
    let option = |name: &str| copy.options.iter().find(|(n, _)| n == name).map(|(_, v)| v);
    let text = |value: &CopyOption| match value {
        CopyOption::Value(v) => v.clone(),
        CopyOption::Flag => "true".into(),
        CopyOption::List(list) => list.join(","),
    };
    let format = option("format").map(text).map(|f| f.to_lowercase());
    let format = format.unwrap_or_else(|| location.rsplit('.').next().unwrap_or("").to_lowercase());
    let mut named: Vec<(String, ScalarValue)> = Vec::new();
    let name = match format.as_str() {
        "parquet" => "read_parquet",
        "json" | "ndjson" | "jsonl" => "read_json",
        "csv" => {
            let header = option("header").map(text).is_some_and(|h| squilla_core::settings::parse_bool(&h).unwrap_or(true));
            named.push(("header".into(), ScalarValue::Boolean(Some(header))));
            for key in ["delimiter", "quote", "null"] {
                named.extend(option(key).map(|v| (key.to_owned(), ScalarValue::Utf8(Some(text(v))))));
            }
            let columns: Vec<&ColumnEntry> = positions.iter().filter_map(|p| relation.columns.get(*p)).collect();
            let schema: Vec<String> = columns.iter().map(|c| format!("\"{}\" {}", c.name.replace('"', "\"\""), c.ty)).collect();
            named.push(("schema".into(), ScalarValue::Utf8(Some(schema.join(", ")))));
            "read_csv"
        }
        other => return Err(Error::unsupported(format!("COPY FROM does not read the format \"{other}\"")).hint("Formats are parquet, csv and json.")),
    };
    Ok(crate::source::options::SourceCall { name: name.into(), positional: vec![ScalarValue::Utf8(Some(location.to_owned()))], named })
}
