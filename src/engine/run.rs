//! The seam between one process and a cluster: who executes a physical plan.
//!
//! In: an optimized physical plan and its task context. Out: one stream of batches. Invariant: dropping the stream stops
//! all work for it. Deliberately absent: anything distributed; the `cluster` crate will bring a second implementation.

use std::sync::Arc;

use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use squilla_core::error::Result;

use crate::error::from_datafusion;

/// Executes physical plans.
pub trait Runner: Send + Sync {
    /// Starts the plan.
    fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream>;
}

/// Executes in this process.
#[derive(Debug, Default)]
pub struct LocalRunner;

impl Runner for LocalRunner {
    fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        execute_stream(plan, context).map_err(from_datafusion)
    }
}
