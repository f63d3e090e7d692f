//! Leaving deleted rows out of batches.
//!
//! In: rows with the file that they are in and their place in it ([`FILE`](super::scan::FILE), [`ROW`](super::scan::ROW)), and
//! the deleted rows of each file. Out: the rows that are left, in order, with the columns that are wanted of them. Invariant: the deleted rows are those of one state of
//! the catalog. Why not the reader: it takes rows to be left out as a list of runs, and walks that list several times for
//! each scan, which costs more than reading when the runs are short. Deliberately absent: a form for the wire: plans that
//! leave the process give the reader its list.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions, StatisticsArgs,
};
use futures::StreamExt;
use squilla_store::bitmap::Deleted;

/// The deleted rows of files, by the number of the file.
pub type DeletedRows = Arc<HashMap<i64, Arc<Deleted>>>;

/// Rows that are not deleted. The last two columns of its input are the file and the row.
#[derive(Debug)]
pub struct LiveExec {
    input: Arc<dyn ExecutionPlan>,
    deleted: DeletedRows,
    /// So many columns of the input are given on: all others are only looked at.
    width: usize,
    /// Of the rows that are left.
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
}

impl LiveExec {
    /// The first `width` columns of a scan with positions.
    pub fn new(input: Arc<dyn ExecutionPlan>, deleted: DeletedRows, width: usize, statistics: Arc<Statistics>) -> DfResult<Self> {
        let schema = Arc::new(input.schema().project(&(0..width).collect::<Vec<_>>())?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, kept_order(&input, width)),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self { input, deleted, width, statistics, properties: Arc::new(properties) })
    }
}

/// The order of the input as far as it is one of the first `width` columns: a sort may have been moved below.
fn kept_order(input: &Arc<dyn ExecutionPlan>, width: usize) -> Option<LexOrdering> {
    let given = |sort: &&PhysicalSortExpr| collect_columns(&sort.expr).iter().all(|column| column.index() < width);
    LexOrdering::new(input.output_ordering()?.iter().take_while(given).cloned())
}

/// The rows of a batch that are left, with its first `given` columns.
fn live(batch: &RecordBatch, deleted: &HashMap<i64, Arc<Deleted>>, given: usize) -> DfResult<RecordBatch> {
    let width = batch.num_columns();
    let column = |from_end: usize| width.checked_sub(from_end).and_then(|i| batch.columns().get(i)?.as_primitive_opt::<Int64Type>());
    let Some((files, rows)) = column(2).zip(column(1)) else { return Err(DataFusionError::Internal("rows without positions".into())) };
    let (files, rows) = (files.values(), rows.values());
    let mut kept = BooleanBufferBuilder::new(rows.len());
    kept.append_n(rows.len(), true);
    let (mut start, mut any) = (0, false);
    for group in files.chunk_by(|a, b| a == b) {
        let end = start + group.len();
        if let (Some(file), Some(rows)) = (group.first(), rows.get(start..end))
            && let Some(gone) = deleted.get(file)
        {
            any |= mark(gone, rows, start, &mut kept);
        }
        start = end;
    }
    let batch = batch.project(&(0..given).collect::<Vec<_>>())?;
    if !any {
        return Ok(batch);
    }
    Ok(filter_record_batch(&batch, &BooleanArray::new(kept.finish(), None))?)
}

/// Clears the bits of rows that are gone; `start` is the bit of the first of `rows`. Whether there was one.
fn mark(gone: &Deleted, rows: &[i64], start: usize, kept: &mut BooleanBufferBuilder) -> bool {
    let mut any = false;
    let (Some(first), Some(last)) = (rows.first().copied(), rows.last().copied()) else { return any };
    if last - first + 1 == rows.len() as i64 {
        // The reader gives rows in order: the usual case is one look at a part of the set.
        for row in gone.between(first as u32, last as u32) {
            kept.set_bit(start + (i64::from(row) - first) as usize, false);
            any = true;
        }
        return any;
    }
    for (i, _) in rows.iter().enumerate().filter(|(_, row)| gone.contains(**row as u32)) {
        kept.set_bit(start + i, false);
        any = true;
    }
    any
}

impl DisplayAs for LiveExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveExec: files={}", self.deleted.len())
    }
}

impl ExecutionPlan for LiveExec {
    fn name(&self) -> &str {
        "LiveExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("live rows have one input".into()))?;
        Ok(Arc::new(Self::new(input, Arc::clone(&self.deleted), self.width, Arc::clone(&self.statistics))?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> DfResult<Arc<Statistics>> {
        match (args.partition(), inputs.first()) {
            (Some(_), Some(part)) => {
                let mut part = Statistics::clone(part).to_inexact();
                part.column_statistics.truncate(self.width);
                Ok(Arc::new(part))
            }
            _ => Ok(Arc::clone(&self.statistics)),
        }
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parents: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DfResult<FilterDescription> {
        // The reader may skip what no filter wants: a row that is gone is no loss.
        FilterDescription::from_children(parents, &self.children())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (deleted, width) = (Arc::clone(&self.deleted), self.width);
        let schema = self.schema();
        let left = rows.map(move |batch| live(&batch?, &deleted, width)).filter(|batch| {
            let empty = batch.as_ref().is_ok_and(|b| b.num_rows() == 0);
            std::future::ready(!empty)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, left)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array};

    use super::*;

    #[test]
    fn rows_of_several_files_are_left_out_by_their_own_sets() {
        let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let values: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 3, 4, 5, 6]));
        let batch =
            RecordBatch::try_from_iter([("v", values), ("$file", column(vec![7, 7, 7, 8, 8, 9, 9])), ("$row", column(vec![10, 11, 12, 0, 4, 0, 1]))])
                .unwrap();
        let set = |rows: &[u32]| Arc::new(rows.iter().copied().collect::<Deleted>());
        let deleted = HashMap::from([(7, set(&[11, 400])), (8, set(&[1, 2, 4]))]);
        let left = live(&batch, &deleted, 1).unwrap();
        assert_eq!(left.num_columns(), 1);
        assert_eq!(left.column(0).as_primitive::<datafusion::arrow::datatypes::Int32Type>().values(), &[0, 2, 3, 5, 6]);
        assert_eq!(live(&batch, &HashMap::new(), 3).unwrap().num_rows(), 7);
        assert_eq!(live(&batch, &deleted, 0).unwrap().num_rows(), 5);
    }
}
