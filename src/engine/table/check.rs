//! CHECK constraints.
//!
//! In: rows in the table's shape. Out: the same rows, or 23514 at the first that a check refuses (NULL passes). Invariant:
//! checks are planned as a query over the rows, so they mean what they mean in a SELECT. Deliberately absent: checks over
//! several rows or tables, which PostgreSQL does not have either.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};

use super::fit::failing_row;
use crate::catalog::data::{ConstraintKind, Relation};
use crate::error::{from_arrow, from_datafusion, to_datafusion};
use crate::session::Session;
use crate::session::query::sendable;
use crate::statement::{StatementKind, quoted};

/// A stream that can be read once, as a table.
struct Once {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = self.stream.lock().take();
        stream.unwrap_or_else(|| {
            let again = futures::stream::iter([Err(to_datafusion(Error::internal("rows were read twice")))]);
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), again))
        })
    }
}

/// A stream as a table of one partition that can be scanned once.
pub fn once(stream: SendableRecordBatchStream) -> Result<Arc<dyn TableProvider>> {
    let schema = stream.schema();
    let partition = Once { schema: Arc::clone(&schema), stream: Mutex::new(Some(stream)) };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(partition)]).map_err(from_datafusion)?))
}

/// The stream with its rows checked; `table` is the name that messages show.
pub async fn checked(
    session: &Arc<Session>,
    relation: &Relation,
    table: &str,
    stream: SendableRecordBatchStream,
) -> Result<SendableRecordBatchStream> {
    let checks: Vec<(String, String)> = relation
        .constraints
        .iter()
        .filter_map(|c| match &c.kind {
            ConstraintKind::Check { expression } => Some((c.name.clone(), expression.clone())),
            _ => None,
        })
        .collect();
    if checks.is_empty() {
        return Ok(stream);
    }
    let schema = stream.schema();
    let items: Vec<String> = checks.iter().enumerate().map(|(i, (_, sql))| format!("({sql})::boolean AS \"$check{i}\"")).collect();
    let text = format!("SELECT {}.*, {} FROM \"$rows\" AS {}", quoted(table), items.join(", "), quoted(table));
    let parsed = session.parse(&text)?;
    let Some(StatementKind::Sql(sql)) = parsed.into_iter().next().map(|s| (*s.kind).clone()) else {
        return Err(Error::internal("a check that is no expression"));
    };
    let plan = session.plan_query_over(*sql, &text, &[], vec![("$rows".into(), once(stream)?)]).await?;
    // In order: other columns of the same rows may stand beside them.
    let rows = session.run_in_order(plan).await?;
    let (shape, table) = (Arc::clone(&schema), table.to_owned());
    let verified = rows.map(move |batch| verify(&batch?, &shape, &checks, &table));
    Ok(sendable(verified.boxed(), schema))
}

fn verify(batch: &RecordBatch, schema: &SchemaRef, checks: &[(String, String)], table: &str) -> Result<RecordBatch> {
    let width = schema.fields().len();
    let rows = batch.project(&(0..width).collect::<Vec<_>>()).map_err(from_arrow)?;
    for ((name, _), verdict) in checks.iter().zip(batch.columns().iter().skip(width)) {
        let Some(verdict) = verdict.as_boolean_opt() else { return Err(Error::internal("a check that is not boolean")) };
        if let Some(row) = (0..verdict.len()).find(|r| verdict.is_valid(*r) && !verdict.value(*r)) {
            return Err(Error::new(Kind::CheckViolation, format!("new row for relation \"{table}\" violates check constraint \"{name}\""))
                .detail(failing_row(&rows, row)));
        }
    }
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), rows.columns().to_vec(), &options).map_err(from_arrow)
}
