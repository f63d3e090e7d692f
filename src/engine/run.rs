//! The seam between one process and a cluster: who executes a physical plan.
//!
//! In: an optimized physical plan and its task context. Out: one stream of batches. Invariant: dropping the stream stops
//! all work for it. Deliberately absent: anything distributed; the `cluster` crate brings the second implementation.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use squilla_core::error::Result;

use crate::error::from_datafusion;
use crate::exec::cancel;
use crate::exec::env::StatementEnv;

/// Executes physical plans.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Options that plans must be made under, so that this runner can execute them.
    fn configure(&self, _: &mut ConfigOptions) {}

    /// Whether plans may leave the process: then their task contexts need the functions that they are made of.
    fn sends_plans(&self) -> bool {
        true
    }

    /// The plan as it will be executed: which part where. For EXPLAIN; `run` takes plans with and without it.
    async fn place(&self, plan: Arc<dyn ExecutionPlan>, _: &Arc<TaskContext>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan)
    }

    /// A placed plan after it ran, with the counters of all its parts. For EXPLAIN ANALYZE.
    async fn counted(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan)
    }

    /// Starts the plan.
    fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream>;

    /// The statement's rows are written and visible.
    fn committed(&self, _: i64) {}

    /// The workers, for `squilla.workers` and `squilla.devices`.
    fn workers(&self) -> Vec<WorkerRow> {
        Vec::new()
    }

    /// What stages have moved between processes lately, for `squilla.shuffles`.
    fn shuffles(&self) -> Vec<ShuffleRow> {
        Vec::new()
    }
}

/// A worker as the coordinator sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerRow {
    /// `host:port`
    pub address: String,
    /// `ready`, `draining`, `version differs`, `unreachable`
    pub state: String,
    /// Version of the program.
    pub version: String,
    /// Labels, `name=value`.
    pub labels: Vec<String>,
    /// Device of its models: cpu, cuda:0.
    pub device: String,
    /// Cores.
    pub cores: i64,
    /// Bytes that its statements may use.
    pub memory_limit: i64,
    /// Bytes that they use now.
    pub memory_used: i64,
    /// Bytes of spill files now.
    pub spilled: i64,
    /// Statements that it works on.
    pub statements: i64,
    /// Models that it has loaded since it started.
    pub models_loaded: i64,
    /// When it was seen first and last, microseconds since 1970.
    pub joined_us: i64,
    /// When it answered last.
    pub seen_us: i64,
    /// Why it is not ready.
    pub error: Option<String>,
}

/// What one stage of a statement sent to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShuffleRow {
    /// Statement.
    pub query_id: i64,
    /// Worker that made the rows.
    pub worker: String,
    /// Stage and task.
    pub stage: i64,
    /// Task of the stage.
    pub task: i64,
    /// Bytes on the wire.
    pub wire_bytes: i64,
    /// Most bytes that waited in memory.
    pub memory_bytes: i64,
    /// Bytes that went through files.
    pub spilled_bytes: i64,
    /// When the task ended, microseconds since 1970.
    pub at_us: i64,
}

/// Executes in this process.
#[derive(Debug, Default)]
pub struct LocalRunner;

impl Runner for LocalRunner {
    fn sends_plans(&self) -> bool {
        false
    }

    fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let statement = StatementEnv::of(&context)?;
        let plan = cancel::watch(plan, &statement.env.cancel).map_err(from_datafusion)?;
        execute_stream(plan, context).map_err(from_datafusion)
    }
}
