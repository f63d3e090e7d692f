//! The Compute operator: rows in packs through a chain of calls.
//!
//! In: batches of any size. Out: the same rows in the same order with one more column per output step. A batch is cut
//! into packs bounded by bytes and rows; several packs are under way at once, so fetch, decode and inference overlap.
//! Values of steps that are not output (bytes, pixels) live only inside their pack. Invariant: order is kept; dropping
//! the stream aborts all packs. Deliberately absent: batching for devices (the model batcher does that over all packs).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use squilla_core::columns::{self, Arg};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::Kernel;
use squilla_core::types::SqlType;

use crate::error::{from_datafusion, to_datafusion};
use crate::exec::conform::conform;
use crate::exec::env::StatementEnv;
use crate::exec::invoke::{self, CallSpec};
use crate::exec::measure::Measure;

/// One step: a call whose arguments are expressions over the input columns and the steps before it.
#[derive(Clone)]
pub struct Step {
    /// Name and type of the result.
    pub field: Arc<Field>,
    /// The call.
    pub call: CallSpec,
    /// Arguments over the extended schema.
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    /// The call is made only for rows where this is true (a branch of CASE, the right side of AND).
    pub guard: Option<Arc<dyn PhysicalExpr>>,
    /// Whether the result leaves the operator.
    pub output: bool,
}

/// The operator.
pub struct PackExec {
    input: Arc<dyn ExecutionPlan>,
    steps: Arc<Vec<Step>>,
    /// Input columns and all steps.
    extended: SchemaRef,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Rows of one pack when its calls handle media or files.
const MEDIA_ROWS_MAX: usize = 32;
/// Rows of one pack of text and numbers.
const PLAIN_ROWS_MAX: usize = 512;
/// A row of an unknown file counts as this many bytes.
const FILE_BYTES_GUESS: usize = 256 << 10;

/// The first packs of an operator are small, so that who wants one row does not wait for the work on many.
#[derive(Default)]
pub(super) struct Ramp(AtomicUsize);

impl Ramp {
    /// Rows of the next pack: twice those of the one before, up to `rows_max`.
    pub(super) fn next(&self, rows_max: usize) -> usize {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        1usize.checked_shl(u32::try_from(before).unwrap_or(u32::MAX)).unwrap_or(rows_max).min(rows_max)
    }
}

impl PackExec {
    /// An operator over `input`; `extended` is the schema that the expressions were made for.
    pub fn new(input: Arc<dyn ExecutionPlan>, steps: Arc<Vec<Step>>) -> Self {
        let mut fields: Vec<Arc<Field>> = input.schema().fields().iter().cloned().collect();
        let output: Vec<Arc<Field>> = fields.iter().cloned().chain(steps.iter().filter(|s| s.output).map(|s| Arc::clone(&s.field))).collect();
        fields.extend(steps.iter().map(|s| Arc::clone(&s.field)));
        let schema = Arc::new(Schema::new(output));
        let properties =
            PlanProperties::new(carried_order(&input, &schema), input.output_partitioning().clone(), EmissionType::Incremental, input.boundedness());
        Self {
            input,
            steps,
            extended: Arc::new(Schema::new(fields)),
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl PackExec {
    /// Its calls.
    pub fn steps(&self) -> &Arc<Vec<Step>> {
        &self.steps
    }

    /// The columns that arguments are over: the input's, then one a step.
    pub fn extended(&self) -> &SchemaRef {
        &self.extended
    }
}

impl fmt::Debug for PackExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for PackExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<String> = self.steps.iter().map(describe).collect();
        write!(f, "Compute: {}", calls.join(", "))
    }
}

fn describe(step: &Step) -> String {
    let args: Vec<String> = step.args.iter().map(ToString::to_string).filter(|a| a != "NULL").collect();
    format!("{}={}({})", step.field.name(), step.call.entry.declaration.name, args.join(", "))
}

impl ExecutionPlan for PackExec {
    fn name(&self) -> &str {
        "Compute"
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

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    /// As many rows come out as go in: a LIMIT may stand below, where it stops the source.
    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        for step in self.steps.iter() {
            for expr in step.args.iter().chain(step.guard.iter()) {
                if f(expr)? == TreeNodeRecursion::Stop {
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("Compute has one input".into()))?;
        Ok(Arc::new(PackExec::new(input, Arc::clone(&self.steps))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let statement = StatementEnv::of(&context).map_err(to_datafusion)?;
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let work = Arc::new(Work {
            steps: Arc::clone(&self.steps),
            extended: Arc::clone(&self.extended),
            schema: Arc::clone(&self.schema),
            inputs: self.input.schema().fields().len(),
            started: Ramp::default(),
            measure: Measure::new(&self.metrics, partition, &statement),
            statement,
        });
        let measured = Arc::clone(&work);
        let in_flight = work.statement.packs_in_flight.max(1);
        let cutter = Arc::clone(&work);
        let out = packs(work.measure.waiting(input), cutter)
            .map(move |pack| {
                let work = Arc::clone(&work);
                async move {
                    let pack = pack?;
                    let task = SpawnedTask::spawn(async move { work.run(pack).await });
                    task.await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?.map_err(to_datafusion)
                }
            })
            .buffered(in_flight)
            .inspect_ok(move |batch| measured.measure.output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), out)))
    }
}

/// Cuts batches into packs.
fn packs(input: impl Stream<Item = DfResult<RecordBatch>> + Send, work: Arc<Work>) -> impl Stream<Item = DfResult<RecordBatch>> + Send {
    input.flat_map(move |batch| match batch {
        Ok(batch) => stream::iter(work.cut(&batch)).left_stream(),
        Err(e) => stream::iter([Err(e)]).right_stream(),
    })
}

struct Work {
    steps: Arc<Vec<Step>>,
    extended: SchemaRef,
    schema: SchemaRef,
    inputs: usize,
    /// Packs cut so far.
    started: Ramp,
    measure: Measure,
    statement: Arc<StatementEnv>,
}

impl Work {
    /// Packs bounded by rows and by the bytes their rows hold or will fetch.
    fn cut(&self, batch: &RecordBatch) -> Vec<DfResult<RecordBatch>> {
        let media = self.steps.iter().any(|s| !matches!(s.call.entry.function.kernel, Kernel::Model(_) | Kernel::Scalar(_)));
        let rows_max = if media { MEDIA_ROWS_MAX } else { PLAIN_ROWS_MAX };
        let files = batch.schema().fields().iter().position(|f| SqlType::of_field(f) == SqlType::File);
        let fetches = self.steps.iter().any(|s| matches!(s.call.entry.function.kernel, Kernel::Fetch(_)));
        let flat = batch.get_array_memory_size() / batch.num_rows().max(1);
        let mut out = Vec::new();
        let (mut start, mut bytes) = (0, 0usize);
        let mut most = self.started.next(rows_max);
        for row in 0..batch.num_rows() {
            let size = match files.filter(|_| fetches) {
                Some(column) => file_bytes(batch.column(column), row),
                None => flat,
            };
            if row > start && (row - start >= most || bytes + size > self.statement.pack_bytes) {
                out.push(Ok(batch.slice(start, row - start)));
                (start, bytes) = (row, 0);
                most = self.started.next(rows_max);
            }
            bytes += size;
        }
        if start < batch.num_rows() {
            out.push(Ok(batch.slice(start, batch.num_rows() - start)));
        }
        out
    }

    async fn run(&self, pack: RecordBatch) -> Result<RecordBatch> {
        let started = Instant::now();
        let rows = pack.num_rows();
        let sources = sources(&pack);
        let mut columns: Vec<ArrayRef> = pack.columns().to_vec();
        for (index, step) in self.steps.iter().enumerate() {
            let batch = self.extend(&columns, rows)?;
            let guard = step.guard.as_ref().map(|g| boolean(g, &batch)).transpose()?;
            let args = step.args.iter().map(|a| evaluate(a, &batch)).collect::<Result<Vec<_>>>()?;
            drop(batch);
            let (array, failed) =
                invoke::run(&step.call, args, rows, guard.as_ref(), &self.statement, &self.measure.env, |row| sources.get(row).cloned().flatten())
                    .await?;
            columns.push(conform(&array, step.field.data_type())?);
            self.measure.call(rows, failed);
            self.release(&mut columns, index, rows);
        }
        self.measure.pack(rows, bytes_of(&pack), started.elapsed());
        let mut output: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (index, column) in columns.into_iter().enumerate() {
            if index < self.inputs || self.steps.get(index - self.inputs).is_some_and(|s| s.output) {
                output.push(column);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), output, &options).map_err(crate::error::from_arrow)
    }

    /// The columns so far as a batch of the extended schema; later steps are NULL columns that nothing reads yet.
    fn extend(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let mut all = columns.to_vec();
        for field in self.extended.fields().iter().skip(columns.len()) {
            all.push(new_null_array(field.data_type(), rows));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.extended), all, &options).map_err(crate::error::from_arrow)
    }

    /// Frees inner values (bytes, pixels) that no later step reads.
    fn release(&self, columns: &mut [ArrayRef], done: usize, rows: usize) {
        for (index, step) in self.steps.iter().enumerate().take(done + 1) {
            let position = self.inputs + index;
            let read_later = self.steps.iter().skip(done + 1).any(|later| later.args.iter().chain(later.guard.iter()).any(|e| reads(e, position)));
            if !step.output
                && !read_later
                && let Some(column) = columns.get_mut(position)
            {
                *column = new_null_array(column.data_type(), rows);
            }
        }
    }
}

fn reads(expr: &Arc<dyn PhysicalExpr>, position: usize) -> bool {
    datafusion::physical_expr::utils::collect_columns(expr).iter().any(|c| c.index() == position)
}

/// The order of the input, which stands in the first columns of `schema`: an operator that keeps the order of its rows must
/// say so, or a sort that was moved below it counts for nothing.
pub fn carried_order(input: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> EquivalenceProperties {
    EquivalenceProperties::new_with_orderings(Arc::clone(schema), input.output_ordering().cloned())
}

/// Bytes of the rows of a batch, which may be a part of larger buffers.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

fn file_bytes(column: &ArrayRef, row: usize) -> usize {
    let arg = Arg { array: Arc::clone(column), constant: false };
    columns::file(&arg, row).ok().flatten().and_then(|f| f.size).map_or(FILE_BYTES_GUESS, |s| s.max(0) as usize)
}

/// The URI of each row: from a file column, else from a text column that is named like one.
pub fn sources(batch: &RecordBatch) -> Vec<Option<String>> {
    let schema = batch.schema();
    let file = schema.fields().iter().position(|f| SqlType::of_field(f) == SqlType::File);
    let named = || ["uri", "path", "url", "file", "name"].iter().find_map(|n| schema.fields().iter().position(|f| f.name() == n));
    let Some(index) = file.or_else(named) else { return Vec::new() };
    let arg = Arg { array: Arc::clone(batch.column(index)), constant: false };
    (0..batch.num_rows()).map(|row| columns::file(&arg, row).ok().flatten().map(|f| f.uri)).collect()
}

/// An argument over a batch.
pub fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<Arg> {
    match expr.evaluate(batch).map_err(from_datafusion)? {
        ColumnarValue::Array(array) => Ok(Arg { array, constant: false }),
        ColumnarValue::Scalar(scalar) => Ok(Arg { array: scalar.to_array().map_err(from_datafusion)?, constant: true }),
    }
}

fn boolean(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let value = expr.evaluate(batch).map_err(from_datafusion)?.into_array(batch.num_rows()).map_err(from_datafusion)?;
    value.as_any().downcast_ref::<BooleanArray>().cloned().ok_or_else(|| Error::internal("a guard is not boolean"))
}
