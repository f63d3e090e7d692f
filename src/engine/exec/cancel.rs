//! Joins that notice a cancel.
//!
//! DataFusion's nested-loop join works through all pairs of a batch without giving way. Its condition is evaluated again
//! and again while it does, so the condition is where a cancelled statement can stop it. Invariant: values are unchanged.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use squilla_core::kernel::CancelFlag;

use crate::error::to_datafusion;

/// `plan` with conditions of nested-loop joins that fail once `flag` is set.
pub fn watch(plan: Arc<dyn ExecutionPlan>, flag: &CancelFlag) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if node.downcast_ref::<CrossJoinExec>().is_some() {
            // One batch of its right side makes batches without end: it must give way between them.
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>));
        }
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
        let Some(join) = watched(join, flag)? else { return Ok(Transformed::no(node)) };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(Arc::new(join))) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// The same without other nodes, so that the plan keeps its shape: for tasks of a statement of another process.
pub fn watch_conditions(plan: Arc<dyn ExecutionPlan>, flag: &CancelFlag) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
        Ok(match watched(join, flag)? {
            Some(join) => Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(node),
        })
    })
    .data()
}

fn watched(join: &NestedLoopJoinExec, flag: &CancelFlag) -> DfResult<Option<NestedLoopJoinExec>> {
    let Some(filter) = join.filter() else { return Ok(None) };
    let watched = Arc::new(Watched { inner: Arc::clone(filter.expression()), flag: flag.clone() });
    let filter = JoinFilter::new(watched, filter.column_indices().to_vec(), Arc::clone(filter.schema()));
    NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build().map(Some)
}

#[derive(Debug, Clone)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    flag: CancelFlag,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> DfResult<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> DfResult<bool> {
        self.inner.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> DfResult<FieldRef> {
        self.inner.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        self.flag.check().map_err(to_datafusion)?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(match children.pop() {
            Some(inner) => Arc::new(Watched { inner, flag: self.flag.clone() }),
            None => self,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
