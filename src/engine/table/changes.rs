//! `table_changes`: the rows that came to a table and left it between two versions.
//!
//! In: a table and two versions. Out: for each commit between them the rows that it added and removed, with its number and
//! time; a changed row is one removed and one added. Invariants: putting parts of a table together is no change; a range that
//! is not kept in full is an error. Deliberately absent: which old row a new one replaces.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlanBuilder};
use squilla_core::error::Result;
use squilla_core::types::SqlType;
use squilla_store::rows::Event;

use super::Tables;
use super::scan::FILE;
use crate::catalog::data::Relation;
use crate::catalog::files::{DataFile, Files};
use crate::error::{from_arrow, from_datafusion};
use crate::exec::conform::conform;

/// The column that joins events with their rows.
const EVENT: &str = "$event";

/// Columns beside those of the table.
pub fn columns() -> Vec<(&'static str, SqlType)> {
    vec![("version", SqlType::Int8), ("committed_at", SqlType::Timestamptz), ("change", SqlType::Text)]
}

/// The rows of these events, under the columns that the table has now.
pub fn provider(tables: &Arc<Tables>, relation: &Relation, events: Vec<Event>) -> Result<Arc<dyn TableProvider>> {
    let told = told(&events)?;
    let mut parts = Vec::with_capacity(events.len());
    for (number, event) in events.into_iter().enumerate() {
        // A file may be in several events: each is a part of its own.
        let file = DataFile::from_row(event.file, Some(event.others))?;
        parts.push(Arc::new(DataFile { id: number as u64, ..file }));
    }
    let mut rows = relation.clone();
    // Numbers of events are no numbers of files: nothing may be looked for by key.
    rows.constraints.clear();
    rows.files_mut().into_iter().for_each(|files| *files = Files::new(std::mem::take(&mut parts)));
    let column = |table: &str, name: &str| Expr::Column(Column::new(Some(table), name));
    let beside = columns().into_iter().map(|(name, _)| column("events", name));
    let of_table = relation.columns.iter().map(|c| column("rows", &c.name));
    let events = LogicalPlanBuilder::scan("events", provider_as_source(told), None).map_err(from_datafusion)?.build().map_err(from_datafusion)?;
    let plan = LogicalPlanBuilder::scan("rows", provider_as_source(tables.scan_positions(&rows)?), None)
        .and_then(|rows| {
            let keys = (vec![Column::new(Some("rows"), FILE)], vec![Column::new(Some("events"), EVENT)]);
            rows.join(events, JoinType::Inner, keys, None)
        })
        .and_then(|joined| joined.project(beside.chain(of_table)))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The events as a table.
fn told(events: &[Event]) -> Result<Arc<dyn TableProvider>> {
    let mut fields = vec![Field::new(EVENT, arrow::datatypes::DataType::Int64, true)];
    fields.extend(columns().into_iter().map(|(name, ty)| ty.field(name)));
    let schema = Arc::new(Schema::new(fields));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..events.len() as i64)),
        Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.snapshot.id as i64))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.snapshot.at_us)).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(events.iter().map(|e| if e.removed { "delete" } else { "insert" }))),
    ];
    let arrays = arrays.iter().zip(schema.fields()).map(|(a, f)| conform(a, f.data_type())).collect::<Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(from_arrow)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]]).map_err(from_datafusion)?))
}
