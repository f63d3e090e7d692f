//! System relations as DataFusion tables.
//!
//! In: a [`Shape`] and the source of the picture. Out: a `TableProvider`. Invariant: rows are made when the scan runs, not
//! when it is planned, so that a prepared statement sees the catalog of its execution. A relation that is always empty
//! is planned as an empty relation, which lets the optimizer drop the joins and subqueries around it.
//! Deliberately absent: filter pushdown; the relations are small.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ToDFSchema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use squilla_core::error::{Error, Result};

use crate::error::to_datafusion;
use crate::system::relation::{Fill, Rows, Shape};
use crate::system::shapes;
use crate::system::view::{SystemView, ViewSource};

/// One system relation.
#[derive(Debug)]
pub struct SystemTable {
    shape: &'static Shape,
    schema: SchemaRef,
    source: Arc<dyn ViewSource>,
    fill: Option<Fill>,
    empty: Option<LogicalPlan>,
}

impl SystemTable {
    /// The relation of this name, or None.
    pub fn new(schema: &str, name: &str, source: Arc<dyn ViewSource>) -> Option<Self> {
        let shape = shapes::find(schema, name)?;
        let fill = shapes::fill(shape);
        let schema = shape.schema();
        let empty = match fill {
            None => {
                Arc::clone(&schema).to_dfschema_ref().ok().map(|schema| LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema }))
            }
            Some(_) => None,
        };
        Some(Self { shape, schema, source, fill, empty })
    }

    /// Names of the relations of one schema.
    pub fn names(schema: &str) -> Vec<String> {
        shapes::all().filter(|s| s.schema == schema).map(|s| s.name.to_owned()).collect()
    }
}

/// All rows of a relation, as one batch.
pub fn batch(shape: &Shape, view: &SystemView) -> Result<RecordBatch> {
    if shapes::kept(shape) { view.kept.get(shape.oid, || made(shape, view)) } else { made(shape, view) }
}

fn made(shape: &Shape, view: &SystemView) -> Result<RecordBatch> {
    let mut rows = Rows::new(shape);
    if let Some(fill) = shapes::fill(shape) {
        fill(view, &mut rows)?;
    }
    RecordBatch::try_new(shape.schema(), rows.finish()?).map_err(|e| Error::internal(format!("system relation {}: {e}", shape.name)))
}

/// Whether a plan reads system relations and nothing else.
pub fn alone(plan: &LogicalPlan) -> bool {
    let mut system = false;
    let others = plan.apply_with_subqueries(|node| {
        let provider = match node {
            LogicalPlan::TableScan(scan) => source_as_provider(&scan.source),
            LogicalPlan::Extension(_) => return Ok(TreeNodeRecursion::Stop),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        match provider {
            Ok(provider) if provider.downcast_ref::<SystemTable>().is_some() => {
                system = true;
                Ok(TreeNodeRecursion::Continue)
            }
            _ => Ok(TreeNodeRecursion::Stop),
        }
    });
    system && matches!(others, Ok(TreeNodeRecursion::Continue))
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.shape.kind == "v" { TableType::View } else { TableType::Base }
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.empty.as_ref().map(Cow::Borrowed)
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let partition = Arc::new(Scan { shape: self.shape, schema: Arc::clone(&self.schema), source: Arc::clone(&self.source) });
        debug_assert!(self.fill.is_some() || self.empty.is_some());
        let exec = StreamingTableExec::try_new(Arc::clone(&self.schema), vec![partition], projection, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

#[derive(Debug)]
struct Scan {
    shape: &'static Shape,
    schema: SchemaRef,
    source: Arc<dyn ViewSource>,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (shape, source) = (self.shape, Arc::clone(&self.source));
        let stream = futures::stream::once(async move { batch(shape, &source.view()).map_err(to_datafusion) });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}
