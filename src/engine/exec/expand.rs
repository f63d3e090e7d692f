//! The Expand operator: each input row to the rows of a set-returning call.
//!
//! In: batches. Out: input columns repeated, then the call's columns, in the order of the input rows. Several input rows
//! expand at once, each on its own blocking thread behind a channel of two batches, so memory is bounded and order is
//! kept. Cheap calls take a whole batch and expand it where the reader stands. One generated column more than the call
//! has is WITH ORDINALITY. Invariant: with `outer`, a row without results comes out once with NULLs; dropping the stream
//! stops decoding.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, ReplaceChildrenOptions,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use squilla_core::columns::Arg;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, NumberedRows, guarded};
use tokio::sync::mpsc;

use crate::error::{from_arrow, to_datafusion};
use crate::exec::conform::conform;
use crate::exec::env::StatementEnv;
use crate::exec::invoke::{self, CallSpec};
use crate::exec::measure::Measure;
use crate::exec::pack::{Ramp, bytes_of, carried_order, evaluate, sources};
use crate::exec::row_errors::OnError;

/// Batches of one row's results that may wait for the reader.
const CHANNEL_BATCHES: usize = 2;
/// Input rows whose list-valued call is made at once.
const LIST_ROWS_MAX: usize = 64;

/// A batch in pieces of at most as many rows as `rows_max` says of each.
fn pieces(batch: &RecordBatch, rows_max: &impl Fn() -> usize) -> Vec<DfResult<RecordBatch>> {
    let (mut out, mut start) = (Vec::new(), 0);
    while start < batch.num_rows() {
        let rows = rows_max().clamp(1, batch.num_rows() - start);
        out.push(Ok(batch.slice(start, rows)));
        start += rows;
    }
    out
}

/// The operator.
pub struct ExpandExec {
    input: Arc<dyn ExecutionPlan>,
    call: CallSpec,
    args: Vec<Arc<dyn PhysicalExpr>>,
    generated: Arc<Vec<Arc<Field>>>,
    outer: bool,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExpandExec {
    /// An operator over `input`; `generated` are the call's columns under their output names.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        call: CallSpec,
        args: Vec<Arc<dyn PhysicalExpr>>,
        generated: Arc<Vec<Arc<Field>>>,
        outer: bool,
    ) -> Self {
        let fields: Vec<Arc<Field>> = input.schema().fields().iter().chain(generated.iter()).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            carried_order(&input, &schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            input.boundedness(),
        );
        Self { input, call, args, generated, outer, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl ExpandExec {
    /// The call and its arguments over the input.
    pub fn call(&self) -> (&CallSpec, &[Arc<dyn PhysicalExpr>]) {
        (&self.call, &self.args)
    }

    /// Columns of the call under their output names, and whether a row without results comes out once.
    pub fn shape(&self) -> (&Arc<Vec<Arc<Field>>>, bool) {
        (&self.generated, self.outer)
    }
}

impl fmt::Debug for ExpandExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for ExpandExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(ToString::to_string).filter(|a| a != "NULL").collect();
        write!(f, "Expand: {}({}){}", self.call.entry.declaration.name, args.join(", "), if self.outer { " outer" } else { "" })
    }
}

impl ExecutionPlan for ExpandExec {
    fn name(&self) -> &str {
        "Expand"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        for expr in &self.args {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("Expand has one input".into()))?;
        Ok(Arc::new(ExpandExec::new(input, self.call.clone(), self.args.clone(), Arc::clone(&self.generated), self.outer)))
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
        let in_flight = statement.packs_in_flight.max(1);
        let work = Arc::new(Work {
            call: self.call.clone(),
            args: self.args.clone(),
            generated: Arc::clone(&self.generated),
            outer: self.outer,
            schema: Arc::clone(&self.schema),
            measure: Measure::new(&self.metrics, partition, &statement),
            statement,
        });
        let measured = Arc::clone(&work);
        let lazy = matches!(self.call.entry.function.kernel, Kernel::Expand(_));
        let cheap = matches!(self.call.entry.function.kernel, Kernel::Rows(_));
        let ramp = Ramp::default();
        let rows_max = move || match (lazy, cheap) {
            (true, _) => 1,
            (_, true) => usize::MAX,
            _ => ramp.next(LIST_ROWS_MAX),
        };
        let out = work
            .measure
            .waiting(input)
            .flat_map(move |batch| stream::iter(batch.map_or_else(|e| vec![Err(e)], |batch| pieces(&batch, &rows_max))))
            .map(move |rows| {
                let work = Arc::clone(&work);
                async move {
                    match rows {
                        Ok(rows) if lazy => work.start(rows).unwrap_or_else(failed),
                        Ok(rows) if cheap => work.numbered(rows).unwrap_or_else(failed),
                        Ok(rows) => match SpawnedTask::spawn(async move { work.list(rows).await }).await {
                            Ok(Ok(batch)) => stream::iter([Ok(batch)]).boxed(),
                            Ok(Err(e)) => failed(e),
                            Err(e) => stream::iter([Err(DataFusionError::ExecutionJoin(Box::new(e)))]).boxed(),
                        },
                        Err(e) => stream::iter([Err(e)]).boxed(),
                    }
                }
            })
            // The futures of a lazy call start its thread and give its stream at once: that many files expand ahead.
            .buffered(in_flight)
            .flatten()
            .inspect_ok(move |batch| measured.measure.output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), out)))
    }
}

type Batches = BoxStream<'static, DfResult<RecordBatch>>;

fn failed(error: Error) -> Batches {
    stream::iter([Err(to_datafusion(error))]).boxed()
}

struct Work {
    call: CallSpec,
    args: Vec<Arc<dyn PhysicalExpr>>,
    generated: Arc<Vec<Arc<Field>>>,
    outer: bool,
    schema: SchemaRef,
    measure: Measure,
    statement: Arc<StatementEnv>,
}

impl Work {
    /// A list-valued call over a few rows, unnested.
    async fn list(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let args = self.args.iter().map(|a| evaluate(a, &rows)).collect::<Result<Vec<_>>>()?;
        let uris = sources(&rows);
        let started = Instant::now();
        let uri = |row: usize| uris.get(row).cloned().flatten();
        let (lists, failed) = invoke::run(&self.call, args, rows.num_rows(), None, &self.statement, &self.measure.env, uri).await?;
        self.measure.call(rows.num_rows(), failed);
        self.measure.pack(rows.num_rows(), bytes_of(&rows), started.elapsed());
        let lists = lists.as_list_opt::<i32>().ok_or_else(|| Error::internal("a list-valued call gave no list"))?;
        let mut left = Vec::new();
        let mut right = Vec::new();
        for row in 0..lists.len() {
            let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
            if lists.is_null(row) || start == end {
                if self.outer {
                    left.push(row as u32);
                    right.push(None);
                }
                continue;
            }
            for index in start..end {
                left.push(row as u32);
                right.push(Some(index as u32));
            }
        }
        let values = lists.values().as_struct_opt().ok_or_else(|| Error::internal("a list-valued call gave no structs"))?;
        let right = UInt32Array::from(right);
        let generated = values.columns().iter().map(|c| take(c, &right, None).map_err(from_arrow)).collect::<Result<Vec<_>>>()?;
        self.combine(&rows, &UInt32Array::from(left), generated, &mut Ordinal::default(), Some(&right))
    }

    /// A cheap call over a whole batch.
    fn numbered(self: &Arc<Self>, rows: RecordBatch) -> Result<Batches> {
        let Kernel::Rows(kernel) = self.call.entry.function.kernel else {
            return Err(Error::internal("not a cheap set-returning call"));
        };
        let call = Call {
            function: Arc::clone(&self.call.entry.declaration),
            signature: self.call.signature,
            args: self.args.iter().map(|a| evaluate(a, &rows)).collect::<Result<Vec<_>>>()?,
            rows: rows.num_rows(),
            env: Arc::clone(&self.statement.env),
        };
        let pieces = kernel(Arc::new(call))?;
        let numbered = Numbered { work: Arc::clone(self), rows, pieces, ordinal: Ordinal::default(), seen: 0, ended: false };
        Ok(stream::iter(numbered.map(|batch| batch.map_err(to_datafusion))).boxed())
    }

    /// `right` tells which rows are results where some are there for `outer` only.
    fn combine(
        &self,
        rows: &RecordBatch,
        left: &UInt32Array,
        mut generated: Vec<ArrayRef>,
        ordinal: &mut Ordinal,
        right: Option<&UInt32Array>,
    ) -> Result<RecordBatch> {
        if generated.len() < self.generated.len() {
            generated.push(ordinal.number(left, right));
        }
        let mut columns = rows.columns().iter().map(|c| take(c, left, None).map_err(from_arrow)).collect::<Result<Vec<_>>>()?;
        for (column, field) in generated.iter().zip(self.generated.iter()) {
            columns.push(conform(column, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(left.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(from_arrow)
    }

    /// Starts the expansion of one row on a blocking thread.
    fn start(self: &Arc<Self>, row: RecordBatch) -> Result<Batches> {
        let args = self.args.iter().map(|a| evaluate(a, &row)).collect::<Result<Vec<_>>>()?;
        let uri = sources(&row).into_iter().next().flatten();
        let (sender, receiver) = mpsc::channel(CHANNEL_BATCHES);
        let work = Arc::clone(self);
        // The thread is detached on purpose: when the receiver goes, its next send fails and the iterator is dropped.
        let task = SpawnedTask::spawn_blocking(move || {
            if let Err(error) = work.feed(&row, args, uri, &sender) {
                let _ = sender.blocking_send(Err(to_datafusion(error)));
            }
        });
        let batches = stream::unfold((receiver, Some(task)), |(mut receiver, task)| async move {
            match receiver.recv().await {
                Some(batch) => Some((batch, (receiver, task))),
                None => match task?.await {
                    Ok(()) => None,
                    Err(e) => Some((Err(DataFusionError::ExecutionJoin(Box::new(e))), (receiver, None))),
                },
            }
        });
        Ok(batches.boxed())
    }

    fn feed(&self, row: &RecordBatch, args: Vec<Arg>, uri: Option<String>, sender: &mpsc::Sender<DfResult<RecordBatch>>) -> Result<()> {
        let started = Instant::now();
        let result = self.feed_rows(row, args, uri, sender);
        self.measure.pack(1, bytes_of(row), started.elapsed());
        result
    }

    fn feed_rows(&self, row: &RecordBatch, args: Vec<Arg>, uri: Option<String>, sender: &mpsc::Sender<DfResult<RecordBatch>>) -> Result<()> {
        let Kernel::Expand(kernel) = self.call.entry.function.kernel else {
            return Err(Error::internal("not a lazy set-returning call"));
        };
        let signature = self.call.entry.declaration.signatures.get(self.call.signature).ok_or_else(|| Error::internal("no such overload"))?;
        let null = signature.strict && args.iter().zip(&signature.arguments).any(|(arg, declared)| declared.strict() && arg.is_null(0));
        let mut sent = false;
        let mut ordinal = Ordinal::default();
        if !null {
            let call = Arc::new(Call {
                function: Arc::clone(&self.call.entry.declaration),
                signature: self.call.signature,
                args,
                rows: 1,
                env: Arc::clone(&self.measure.env),
            });
            let mut failure = None;
            match guarded(|| kernel(call)) {
                Ok(mut iterator) => loop {
                    self.statement.env.cancel.check()?;
                    match guarded(|| iterator.next().transpose()) {
                        Ok(Some(batch)) if batch.num_rows() == 0 => {}
                        Ok(Some(batch)) => {
                            let left = UInt32Array::from(vec![0u32; batch.num_rows()]);
                            let batch = self.combine(row, &left, batch.columns().to_vec(), &mut ordinal, None)?;
                            sent = true;
                            if sender.blocking_send(Ok(batch)).is_err() {
                                return Ok(());
                            }
                        }
                        Ok(None) => break,
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                },
                Err(error) => failure = Some(error),
            }
            self.settle(failure, uri)?;
        }
        if self.outer && !sent {
            let generated = self.generated.iter().map(|f| new_null_array(f.data_type(), 1)).collect();
            let batch = self.combine(row, &UInt32Array::from(vec![0u32]), generated, &mut ordinal, None)?;
            let _ = sender.blocking_send(Ok(batch));
        }
        Ok(())
    }

    /// One row was expanded: counts it, and its failure under the policy.
    fn settle(&self, failure: Option<Error>, uri: Option<String>) -> Result<()> {
        let name = &self.call.entry.declaration.name;
        match failure {
            None => {
                self.measure.call(1, 0);
                self.statement.errors.record(name, 1, &[])
            }
            Some(error) if !error.is_row_error() || self.call.on_error == OnError::Raise => Err(invoke::of_file(error, uri)),
            Some(error) => {
                self.measure.call(1, 1);
                self.statement.errors.record(name, 1, &[(uri, error)])
            }
        }
    }
}

/// The numbers of WITH ORDINALITY: results of one input row count from 1.
#[derive(Default)]
struct Ordinal {
    row: u32,
    count: i64,
}

impl Ordinal {
    fn number(&mut self, left: &UInt32Array, right: Option<&UInt32Array>) -> ArrayRef {
        let numbers = left.values().iter().enumerate().map(|(at, row)| {
            if *row != self.row {
                (self.row, self.count) = (*row, 0);
            }
            if right.is_some_and(|right| right.is_null(at)) {
                return None;
            }
            self.count += 1;
            Some(self.count)
        });
        Arc::new(numbers.collect::<Int64Array>())
    }
}

/// The pieces of a cheap call as batches.
struct Numbered {
    work: Arc<Work>,
    rows: RecordBatch,
    pieces: NumberedRows,
    ordinal: Ordinal,
    /// Input rows below this one have come out.
    seen: u32,
    ended: bool,
}

impl Numbered {
    /// With `outer`: the rows of a piece and, among them, input rows that had no result.
    fn filled(&mut self, left: &UInt32Array, end: u32) -> (UInt32Array, UInt32Array) {
        let (mut rows, mut right) = (Vec::with_capacity(left.len()), Vec::with_capacity(left.len()));
        for (at, row) in left.values().iter().enumerate() {
            for missing in self.seen..*row {
                rows.push(missing);
                right.push(None);
            }
            rows.push(*row);
            right.push(Some(at as u32));
            self.seen = self.seen.max(*row + 1);
        }
        for missing in self.seen..end {
            rows.push(missing);
            right.push(None);
        }
        self.seen = self.seen.max(end);
        (UInt32Array::from(rows), UInt32Array::from(right))
    }

    fn batch(&mut self, piece: Option<(UInt32Array, Vec<ArrayRef>)>) -> Result<RecordBatch> {
        self.work.statement.env.cancel.check()?;
        let end = if piece.is_some() { 0 } else { self.rows.num_rows() as u32 };
        let (left, columns) = match piece {
            Some(piece) => piece,
            None => (UInt32Array::from(Vec::<u32>::new()), Vec::new()),
        };
        if !self.work.outer {
            return self.work.combine(&self.rows, &left, columns, &mut self.ordinal, None);
        }
        let (left, right) = self.filled(&left, end);
        let columns = match columns.is_empty() {
            true => self.work.generated.iter().map(|f| new_null_array(f.data_type(), left.len())).collect(),
            false => columns.iter().map(|c| take(c, &right, None).map_err(from_arrow)).collect::<Result<Vec<_>>>()?,
        };
        self.work.combine(&self.rows, &left, columns, &mut self.ordinal, Some(&right))
    }
}

impl Iterator for Numbered {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.pieces.next() {
            Some(Ok(piece)) => Some(self.batch(Some(piece))),
            Some(Err(error)) => {
                self.ended = true;
                Some(Err(error))
            }
            None => {
                self.ended = true;
                self.work.outer.then(|| self.batch(None))
            }
        }
    }
}
