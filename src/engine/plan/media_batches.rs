//! Keeps operators of DataFusion from collecting media.
//!
//! In: a physical plan. Out: the same plan, in which no operator gathers pixels, samples or files' bytes by thousands of
//! rows. Why: DataFusion makes batches of 8,192 rows after a filter and after a round robin, which is right for numbers; of
//! pictures that many are gigabytes. Invariant: the rows are the same; operators over numbers and texts stay as they are.
//! Deliberately absent: joins and hash partitions, whose rows must meet.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use squilla_core::types::SqlType;

use crate::exec::expand::ExpandExec;
use crate::exec::pack::PackExec;

/// Rows that a filter over media gathers before it hands them on.
const FILTERED_ROWS: usize = 4;

/// The plan with small batches of media.
pub fn small(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
            && matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_))
            && gathers(repartition.input())
        {
            // Calls are made side by side whatever the partitions are: what is left above them is cheap.
            return Ok(Transformed::yes(Arc::clone(repartition.input())));
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>()
            && gathers(filter.input())
        {
            return Ok(Transformed::yes(Arc::new(filter.with_batch_size(FILTERED_ROWS)?)));
        }
        Ok(Transformed::no(plan))
    })
    .data()
}

/// Whether rows with media of our calls come out of this plan.
fn gathers(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let media = |ty: &SqlType| matches!(ty, SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Bytea);
    plan.schema().fields().iter().any(|field| media(&SqlType::of_field(field))) && calls(plan)
}

fn calls(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<PackExec>() || plan.is::<ExpandExec>() || plan.children().into_iter().any(calls)
}
