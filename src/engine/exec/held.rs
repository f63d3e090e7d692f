//! Rows that a statement keeps: what RETURNING reads, what parts of a WITH give each other, what is sent after the commit.
//!
//! In: batches of one schema. Out: the same rows in order, as often as they are asked for. Invariants: those in memory are
//! reserved from the pool and at most `MEMORY_BYTES`; all beyond that are in one spill file, which goes with the value.
//! Deliberately absent: rows by their number (cursors have that).

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt, stream};
use squilla_core::error::{Error, Result};

use crate::error::{from_arrow, from_datafusion, to_datafusion};
use crate::session::RowStream;

/// Bytes of rows in memory at most.
const MEMORY_BYTES: usize = 32 << 20;

/// Appends a batch to a spill file; None ends the file. (DataFusion's type of an open one cannot be named.)
type InProgress = Box<dyn FnMut(Option<&RecordBatch>) -> Result<Option<Arc<dyn SpillFile>>> + Send>;

fn begin(manager: &SpillManager) -> Result<InProgress> {
    let mut file = manager.create_in_progress_file("rows of a statement").map_err(from_datafusion)?;
    Ok(Box::new(move |batch| match batch {
        Some(batch) => file.append_batch(batch).map(|_| None).map_err(from_datafusion),
        None => file.finish().map_err(from_datafusion),
    }))
}

/// Takes rows.
pub struct Holder {
    env: Arc<RuntimeEnv>,
    reservation: MemoryReservation,
    schema: Option<SchemaRef>,
    memory: Vec<RecordBatch>,
    /// Once it is there, all rows go to it.
    spill: Option<InProgress>,
}

impl Holder {
    /// Without rows.
    pub fn new(env: &Arc<RuntimeEnv>) -> Self {
        let reservation = MemoryConsumer::new("rows of the statement").with_can_spill(true).register(&env.memory_pool);
        Self { env: Arc::clone(env), reservation, schema: None, memory: Vec::new(), spill: None }
    }

    /// Adds rows. 53100 when the disk for spill files is full.
    pub fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let schema = Arc::clone(self.schema.get_or_insert_with(|| batch.schema()));
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.spill.is_none() {
            let bytes = batch.get_array_memory_size();
            if self.reservation.size().saturating_add(bytes) <= MEMORY_BYTES && self.reservation.try_grow(bytes).is_ok() {
                self.memory.push(batch);
                return Ok(());
            }
        }
        let file = match &mut self.spill {
            Some(file) => file,
            None => self.spill.insert(begin(&manager(&self.env, schema))?),
        };
        for batch in self.memory.drain(..).chain([batch]) {
            file(Some(&batch))?;
        }
        self.reservation.free();
        Ok(())
    }

    /// All rows have come.
    pub fn finish(mut self) -> Result<Held> {
        let spilled = match self.spill.take() {
            Some(mut file) => file(None)?,
            None => None,
        };
        let rows = Rows { env: self.env, _reservation: self.reservation, schema: self.schema, memory: self.memory, spilled };
        Ok(Held(Arc::new(rows)))
    }
}

fn manager(env: &Arc<RuntimeEnv>, schema: SchemaRef) -> SpillManager {
    SpillManager::new(Arc::clone(env), SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0), schema)
}

struct Rows {
    env: Arc<RuntimeEnv>,
    _reservation: MemoryReservation,
    schema: Option<SchemaRef>,
    memory: Vec<RecordBatch>,
    /// Then there are none in memory.
    spilled: Option<Arc<dyn SpillFile>>,
}

/// Rows that are kept. Cheap to clone.
#[derive(Clone)]
pub struct Held(Arc<Rows>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} batches{}", self.0.memory.len(), if self.0.spilled.is_some() { " and a file" } else { "" })
    }
}

impl Held {
    /// All rows of a stream.
    pub async fn all(env: &Arc<RuntimeEnv>, mut stream: RowStream) -> Result<Self> {
        let mut holder = Holder::new(env);
        while let Some(batch) = stream.next().await {
            holder.push(batch?)?;
        }
        holder.finish()
    }

    /// Their columns; None where no batch has come.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.0.schema.as_ref()
    }

    /// The rows.
    pub fn stream(&self) -> RowStream {
        let (Some(schema), Some(file)) = (&self.0.schema, &self.0.spilled) else {
            let rows = self.clone();
            return stream::iter(0..self.0.memory.len()).filter_map(move |i| std::future::ready(rows.0.memory.get(i).cloned().map(Ok))).boxed();
        };
        let (schema, file, held) = (Arc::clone(schema), Arc::clone(file), self.clone());
        // The file is opened when the first row is asked for.
        let opened = async move {
            let rows = manager(&held.0.env, schema).read_spill_as_stream(file, None).map_err(from_datafusion)?;
            Ok::<_, Error>(rows.map_err(from_datafusion).inspect(move |_| drop(held.clone())))
        };
        stream::once(opened).try_flatten().boxed()
    }

    /// The rows as a table with columns of these names and types.
    pub fn table(&self, schema: SchemaRef) -> Result<Arc<dyn TableProvider>> {
        if self.0.spilled.is_some() {
            return beside_each_other(vec![self.clone()], schema);
        }
        let batches = self.0.memory.iter().map(|batch| shaped(&[batch], &schema)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(MemTable::try_new(schema, vec![batches]).map_err(from_datafusion)?))
    }
}

/// The columns of several sets of equally many rows beside each other, as a table with columns of these names and types.
pub fn beside_each_other(parts: Vec<Held>, schema: SchemaRef) -> Result<Arc<dyn TableProvider>> {
    let stream: Arc<dyn PartitionStream> = Arc::new(Beside { parts, schema: Arc::clone(&schema) });
    Ok(Arc::new(StreamingTable::try_new(schema, vec![stream]).map_err(from_datafusion)?))
}

/// The columns of batches of equally many rows under other names.
fn shaped(parts: &[&RecordBatch], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = parts.iter().flat_map(|batch| batch.columns().iter().cloned()).collect();
    let options = RecordBatchOptions::new().with_row_count(parts.first().map(|batch| batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(from_arrow)
}

#[derive(Debug)]
struct Beside {
    parts: Vec<Held>,
    schema: SchemaRef,
}

/// A stream and what was read of it but not given on.
struct Part {
    stream: RowStream,
    left: Option<RecordBatch>,
}

impl PartitionStream for Beside {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let parts: Vec<Part> = self.parts.iter().map(|held| Part { stream: held.stream(), left: None }).collect();
        let schema = Arc::clone(&self.schema);
        let rows = stream::try_unfold(parts, move |mut parts| {
            let schema = Arc::clone(&schema);
            async move {
                let next = next(&mut parts, &schema).await.map_err(to_datafusion)?;
                Ok(next.map(|batch| (batch, parts)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// As many rows as all parts have at hand; None at the end.
async fn next(parts: &mut [Part], schema: &SchemaRef) -> Result<Option<RecordBatch>> {
    for part in parts.iter_mut() {
        while part.left.as_ref().is_none_or(|batch| batch.num_rows() == 0) {
            match part.stream.next().await {
                Some(batch) => part.left = Some(batch?),
                None => return Ok(None),
            }
        }
    }
    let rows = parts.iter().filter_map(|p| p.left.as_ref()).map(RecordBatch::num_rows).min().unwrap_or(0);
    let mut now = Vec::with_capacity(parts.len());
    for part in parts.iter_mut() {
        let Some(batch) = part.left.take() else { continue };
        now.push(batch.slice(0, rows));
        part.left = Some(batch.slice(rows, batch.num_rows() - rows));
    }
    shaped(&now.iter().collect::<Vec<_>>(), schema).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)]).unwrap()
    }

    async fn values(mut rows: impl futures::Stream<Item = std::result::Result<RecordBatch, impl fmt::Debug>> + Unpin) -> Vec<i64> {
        let mut out = Vec::new();
        while let Some(batch) = rows.next().await {
            let batch = batch.unwrap();
            out.extend(batch.columns().last().unwrap().as_primitive::<Int64Type>().values());
        }
        out
    }

    #[tokio::test]
    async fn rows_beyond_the_pool_are_on_disk_and_come_in_order() {
        let pool = Arc::new(GreedyMemoryPool::new(100_000));
        let env = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool) as _).build_arc().unwrap();
        for (count, spilled) in [(10, false), (60, true)] {
            let mut holder = Holder::new(&env);
            (0..count).for_each(|i| holder.push(batch(i * 1000..(i + 1) * 1000)).unwrap());
            let held = holder.finish().unwrap();
            assert_eq!(held.0.spilled.is_some(), spilled);
            for _ in 0..2 {
                assert_eq!(values(held.stream()).await, (0..count * 1000).collect::<Vec<_>>());
            }
            let mut other = Holder::new(&env);
            (0..count * 4).for_each(|i| other.push(batch(i * 250..(i + 1) * 250)).unwrap());
            let fields: Vec<_> = ["a", "b"].iter().map(|n| batch(0..0).schema().field(0).clone().with_name(*n)).collect();
            let beside = Beside { parts: vec![held, other.finish().unwrap()], schema: Arc::new(datafusion::arrow::datatypes::Schema::new(fields)) };
            assert_eq!(values(beside.execute(Arc::new(TaskContext::default()))).await, (0..count * 1000).collect::<Vec<_>>());
        }
        assert_eq!(datafusion::execution::memory_pool::MemoryPool::reserved(pool.as_ref()), 0);
    }
}
