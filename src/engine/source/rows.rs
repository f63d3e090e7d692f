//! A leaf of a physical plan that makes rows itself: listings and lines of text.
//!
//! In: a [`RowSource`]. Out: its batches, counted for EXPLAIN ANALYZE. Invariant: nothing is read before `execute`, and
//! dropping the stream stops the reading. Deliberately absent: filters and projection; a source applies its own.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties};
use futures::StreamExt;
use futures::stream::BoxStream;

/// Makes rows.
pub trait RowSource: std::any::Any + fmt::Debug + Send + Sync {
    /// The line in EXPLAIN after the name of the node.
    fn describe(&self) -> String;
    /// Columns of every batch.
    fn schema(&self) -> SchemaRef;
    /// Streams that can run at the same time.
    fn partitions(&self) -> usize;
    /// The rows of one partition.
    fn rows(&self, partition: usize, context: &Arc<TaskContext>) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

/// The node.
#[derive(Debug)]
pub struct RowsExec {
    name: &'static str,
    source: Arc<dyn RowSource>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RowsExec {
    /// A node that shows as `name` in EXPLAIN.
    pub fn new(name: &'static str, source: Arc<dyn RowSource>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(source.schema()),
            Partitioning::UnknownPartitioning(source.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { name, source, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl RowsExec {
    /// What makes the rows.
    pub fn source(&self) -> &dyn std::any::Any {
        self.source.as_ref()
    }
}

impl DisplayAs for RowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.source.describe())
    }
}

impl ExecutionPlan for RowsExec {
    fn name(&self) -> &str {
        self.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.source.rows(partition, &context)?;
        let counted = rows.map(move |batch| batch.map(|batch| batch.record_output(&metrics)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.source.schema(), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
