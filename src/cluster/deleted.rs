//! Deleted rows of managed tables, beside the scans that leave them out.
//!
//! A scan holds which rows of its files are wanted where DataFusion's encoding does not look. In: a plan. Out: the same plan
//! with a node above each such scan that carries the rows across and hangs them on the scan's files again. Invariant: a
//! scan whose rows cannot be carried does not leave the process. Deliberately absent: what is deleted (the store's).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetRowSelection};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};

use crate::spread::scan;

/// Runs of rows of one file: how many, and whether they are wanted.
pub type Runs = Vec<(u64, bool)>;

/// The rows of a scan, by the paths of its files.
#[derive(Debug)]
pub struct SelectedExec {
    input: Arc<dyn ExecutionPlan>,
    selected: Arc<HashMap<String, Runs>>,
}

impl SelectedExec {
    /// Over a scan without its rows: hangs them on.
    pub fn restored(input: &Arc<dyn ExecutionPlan>, selected: HashMap<String, Runs>) -> DfResult<Self> {
        let source = scan(input).ok_or_else(|| DataFusionError::Internal("selected rows without their scan".into()))?;
        let groups = source.file_groups.iter().map(|group| {
            let files = group.files().iter().map(|file| match selected.get(file.object_meta.location.as_ref()) {
                Some(runs) => file.clone().with_extension(ParquetRowSelection::new(selection(runs))),
                None => file.clone(),
            });
            FileGroup::new(files.collect())
        });
        let groups: Vec<FileGroup> = groups.collect();
        let config = FileScanConfigBuilder::from(source.clone()).with_file_groups(groups).build();
        Ok(Self { input: DataSourceExec::from_data_source(config), selected: Arc::new(selected) })
    }

    /// What is carried.
    pub fn selected(&self) -> &HashMap<String, Runs> {
        &self.selected
    }
}

fn selection(runs: &Runs) -> RowSelection {
    let selectors: Vec<RowSelector> =
        runs.iter().map(|(rows, wanted)| if *wanted { RowSelector::select(*rows as usize) } else { RowSelector::skip(*rows as usize) }).collect();
    RowSelection::from(selectors)
}

/// Whether the scan's rows can be carried: not where it counts rows, or was given a plan of its own.
pub fn can_be_carried(leaf: &Arc<dyn ExecutionPlan>) -> bool {
    let Some(scan) = scan(leaf) else { return true };
    let plain = scan.file_source().table_schema().virtual_columns().is_empty();
    plain && scan.file_groups.iter().flat_map(|g| g.files()).all(|f| f.extension::<ParquetAccessPlan>().is_none())
}

/// The plan with a carrier above each scan that leaves rows out.
pub fn carried(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(scan) = scan(&node) else { return Ok(Transformed::no(node)) };
        let files = scan.file_groups.iter().flat_map(|g| g.files());
        let selected: HashMap<String, Runs> = files
            .filter_map(|file| {
                let rows = file.extension::<ParquetRowSelection>()?;
                let runs = rows.selection().iter().map(|s| (s.row_count as u64, !s.skip)).collect();
                Some((file.object_meta.location.as_ref().to_owned(), runs))
            })
            .collect();
        if selected.is_empty() {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(Arc::new(SelectedExec { input: node, selected: Arc::new(selected) }) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

impl DisplayAs for SelectedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SelectedExec: files={}", self.selected.len())
    }
}

impl ExecutionPlan for SelectedExec {
    fn name(&self) -> &str {
        "SelectedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
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
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("Selected has one input".into()))?;
        Ok(Arc::new(Self { input, selected: Arc::clone(&self.selected) }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
