//! Cursors of SQL: rows of a query, taken a few at a time and in any direction.
//!
//! In: a stream of batches and where to go. Out: the rows on the way. Invariant: rows stay in memory up to a bound; beyond
//! it a SCROLL cursor keeps them in a spill file, and another forgets the oldest and then only goes forward. A cursor
//! reads its query once, whatever its directions. Deliberately absent: changes under the cursor; it never sees them.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SpillFile;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use futures::{StreamExt, TryStreamExt, stream};
use squilla_core::error::{Error, Kind, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::error::{from_arrow, from_datafusion};
use crate::session::stream::Stop;
use crate::session::{ResultField, RowStream};
use crate::statement::cursor::Direction;

/// How long a FETCH waits for another one on the same cursor.
const BUSY: std::time::Duration = std::time::Duration::from_secs(2);

/// An open cursor.
#[derive(Clone)]
pub struct Cursor {
    /// The statement that declared it.
    pub text: Arc<str>,
    /// Columns.
    pub fields: Arc<Vec<ResultField>>,
    /// WITH HOLD
    pub hold: bool,
    /// BINARY
    pub binary: bool,
    /// Whether it may go back.
    pub scroll: bool,
    /// Microseconds since 1970.
    pub created_us: i64,
    /// Savepoints that were open when it was declared.
    pub savepoints: usize,
    /// Declared in the transaction that is open now.
    pub fresh: bool,
    /// Its rows.
    pub rows: Arc<Mutex<Rows>>,
}

/// Rows that a cursor has read and keeps.
enum Data {
    Memory(RecordBatch),
    Disk(Arc<dyn SpillFile>),
}

struct Segment {
    /// Number of the first row, from 1.
    first: u64,
    rows: u64,
    data: Data,
}

/// The rows of a cursor and where it stands among them.
pub struct Rows {
    source: Option<RowStream>,
    failed: bool,
    schema: Option<SchemaRef>,
    kept: VecDeque<Segment>,
    /// The segment on disk that was read last.
    read_back: Option<(u64, RecordBatch)>,
    /// Rows read from the source.
    read: u64,
    /// 0 is before the first row; one more than the last is behind it.
    position: u64,
    bytes: usize,
    bytes_max: usize,
    scroll: Option<bool>,
    spill: Arc<RuntimeEnv>,
}

impl Rows {
    /// Rows still in `source`. `scroll` is SCROLL, NO SCROLL or neither.
    pub fn new(source: RowStream, scroll: Option<bool>, bytes_max: usize, spill: Arc<RuntimeEnv>) -> Self {
        Self {
            source: Some(source),
            failed: false,
            schema: None,
            kept: VecDeque::new(),
            read_back: None,
            read: 0,
            position: 0,
            bytes: 0,
            bytes_max,
            scroll,
            spill,
        }
    }

    /// Rows of a portal of the protocol that has given `position` rows already, which it does not keep.
    pub fn adopted(source: RowStream, position: u64, bytes_max: usize, spill: Arc<RuntimeEnv>) -> Self {
        Self { read: position, position, ..Self::new(source, None, bytes_max, spill) }
    }

    /// One more batch from the source; false at its end.
    async fn read_on(&mut self) -> Result<bool> {
        loop {
            let Some(source) = &mut self.source else { return Ok(false) };
            match source.next().await {
                None => {
                    self.source = None;
                    return Ok(false);
                }
                Some(Err(e)) => {
                    self.source = None;
                    self.failed = true;
                    return Err(e);
                }
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => {
                    self.keep(batch).await?;
                    return Ok(true);
                }
            }
        }
    }

    async fn keep(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows() as u64;
        self.schema.get_or_insert_with(|| batch.schema());
        self.bytes += batch.get_array_memory_size();
        self.kept.push_back(Segment { first: self.read + 1, rows, data: Data::Memory(batch) });
        self.read += rows;
        match self.scroll {
            Some(true) if self.bytes > self.bytes_max => self.spill().await,
            Some(true) => Ok(()),
            scroll => {
                // Never the segment that holds the current row, which FETCH RELATIVE 0 may ask for, nor the newest.
                while self.kept.len() > 1
                    && (scroll == Some(false) || self.bytes > self.bytes_max)
                    && self.kept.front().is_some_and(|s| s.first + s.rows <= self.position)
                {
                    if let Some(Segment { data: Data::Memory(batch), .. }) = self.kept.pop_front() {
                        self.bytes = self.bytes.saturating_sub(batch.get_array_memory_size());
                    }
                }
                Ok(())
            }
        }
    }

    /// Moves the rows in memory to disk, as one segment.
    async fn spill(&mut self) -> Result<()> {
        let mut batches = Vec::new();
        let mut first = None;
        while matches!(self.kept.back(), Some(Segment { data: Data::Memory(_), .. })) {
            if let Some(Segment { first: at, data: Data::Memory(batch), .. }) = self.kept.pop_back() {
                first = Some(at);
                batches.insert(0, batch);
            }
        }
        let (Some(first), Some(schema)) = (first, self.schema.clone()) else { return Ok(()) };
        let manager = manager(&self.spill, schema);
        let written = tokio::task::spawn_blocking(move || {
            let rows = batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
            manager.spill_record_batch_and_finish(&batches, "a cursor").map(|file| (file, rows))
        });
        let written = written.await.map_err(|e| Error::internal(format!("a cursor's rows could not be written: {e}")))?;
        let (file, rows) = written.map_err(from_datafusion)?;
        let file = file.ok_or_else(|| Error::internal("a cursor's rows were not written"))?;
        self.kept.push_back(Segment { first, rows, data: Data::Disk(file) });
        self.bytes = 0;
        Ok(())
    }

    /// The kept segment with this row, and the row's place in it; None when the cursor has forgotten it.
    async fn segment(&mut self, row: u64) -> Result<Option<(RecordBatch, usize)>> {
        let Some(segment) = self.kept.iter().find(|s| s.first <= row && row < s.first + s.rows) else { return Ok(None) };
        let at = (row - segment.first) as usize;
        match &segment.data {
            Data::Memory(batch) => Ok(Some((batch.clone(), at))),
            Data::Disk(file) => {
                if let Some((first, batch)) = &self.read_back
                    && *first == segment.first
                {
                    return Ok(Some((batch.clone(), at)));
                }
                let first = segment.first;
                let schema = self.schema.clone().ok_or_else(|| Error::internal("a cursor without columns"))?;
                let stream = manager(&self.spill, Arc::clone(&schema)).read_spill_as_stream(Arc::clone(file), None).map_err(from_datafusion)?;
                let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(from_datafusion)?;
                let batch = concat_batches(&schema, &batches).map_err(from_arrow)?;
                self.read_back = Some((first, batch.clone()));
                Ok(Some((batch, at)))
            }
        }
    }

    /// The next rows, at most `most`; None at the end, behind which the cursor then stands.
    async fn forward(&mut self, most: u64) -> Result<Option<RecordBatch>> {
        let wanted = self.position + 1;
        if wanted > self.read && !self.read_on().await? {
            self.position = self.read + 1;
            return Ok(None);
        }
        let Some((batch, at)) = self.segment(wanted).await? else { return Err(only_forward()) };
        let count = (batch.num_rows() - at).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.position += count as u64;
        Ok(Some(batch.slice(at, count)))
    }

    /// The rows before, the nearest first; None at the start, before which the cursor then stands.
    async fn backward(&mut self, most: u64) -> Result<Option<RecordBatch>> {
        if self.position <= 1 {
            self.position = 0;
            return Ok(None);
        }
        let Some((batch, at)) = self.segment(self.position - 1).await? else { return Err(only_forward()) };
        let count = (at + 1).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.position -= count as u64;
        let indices = UInt32Array::from_iter_values((at + 1 - count..=at).rev().map(|i| i as u32));
        take_record_batch(&batch, &indices).map(Some).map_err(from_arrow)
    }

    /// Goes to a row without giving any; behind the last one when there are not so many.
    async fn go_to(&mut self, row: u64) -> Result<()> {
        while self.read < row && self.read_on().await? {
            // Rows that are passed need not be kept where nobody can go back.
            self.position = self.position.max(self.read.min(row.saturating_sub(1)));
        }
        self.position = row.min(self.read + 1);
        Ok(())
    }

    async fn go_to_end(&mut self) -> Result<()> {
        while self.read_on().await? {
            self.position = self.position.max(self.read.saturating_sub(1));
        }
        Ok(())
    }

    /// What the cursor has to do for a direction, once it stands where the way begins.
    async fn prepare(&mut self, direction: Direction) -> Result<Way> {
        if self.failed {
            return Err(Error::new(Kind::NotInPrerequisiteState, "the cursor cannot be read after its query failed"));
        }
        let back = |count: u64| Way { back: true, most: count };
        let way = match direction {
            Direction::Forward(0) | Direction::Relative(0) => {
                let on_row = self.position > 0 && self.position <= self.read;
                if on_row {
                    self.may_go_back()?;
                    self.position -= 1;
                }
                Way { back: false, most: u64::from(on_row) }
            }
            Direction::Forward(count) if count > 0 => Way { back: false, most: count as u64 },
            Direction::Forward(count) => back(count.unsigned_abs()),
            Direction::ForwardAll => Way { back: false, most: u64::MAX },
            Direction::BackwardAll => back(u64::MAX),
            Direction::Absolute(row) => {
                let target = if row >= 0 {
                    row as u64
                } else {
                    self.go_to_end().await?;
                    (self.read + 1).saturating_sub(row.unsigned_abs())
                };
                if target <= self.position && !(target == 0 && self.position == 0) {
                    self.may_go_back()?;
                }
                self.go_to(target.saturating_sub(1)).await?;
                if target == 0 {
                    self.position = 0;
                }
                Way { back: false, most: u64::from(target > 0) }
            }
            Direction::Relative(distance) if distance > 0 => {
                self.go_to(self.position.saturating_add(distance as u64 - 1)).await?;
                Way { back: false, most: 1 }
            }
            Direction::Relative(distance) => {
                self.may_go_back()?;
                let target = self.position.saturating_sub(distance.unsigned_abs());
                self.position = target.saturating_sub(1);
                Way { back: false, most: u64::from(target > 0) }
            }
        };
        if way.back {
            self.may_go_back()?;
        }
        Ok(way)
    }

    fn may_go_back(&self) -> Result<()> {
        if self.scroll == Some(false) { Err(only_forward()) } else { Ok(()) }
    }

    async fn step(&mut self, way: Way) -> Result<Option<RecordBatch>> {
        if way.back { self.backward(way.most).await } else { self.forward(way.most).await }
    }
}

/// A direction and how many rows are still wanted.
#[derive(Clone, Copy)]
struct Way {
    back: bool,
    most: u64,
}

fn manager(spill: &Arc<RuntimeEnv>, schema: SchemaRef) -> SpillManager {
    SpillManager::new(Arc::clone(spill), SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0), schema)
}

fn only_forward() -> Error {
    Error::new(Kind::NotInPrerequisiteState, "cursor can only scan forward").hint("Declare it with SCROLL option to enable backward scan.")
}

struct Fetching {
    rows: OwnedMutexGuard<Rows>,
    way: Way,
    stop: Stop,
}

/// The rows on the way, as they are read. The cursor moves as they are taken.
pub fn fetch(rows: Arc<Mutex<Rows>>, direction: Direction, stop: Stop) -> RowStream {
    let started = async move {
        // A portal that was suspended in the middle of a FETCH still has them.
        let held = tokio::time::timeout(BUSY, rows.lock_owned()).await;
        let mut rows = held.map_err(|_| Error::new(Kind::ObjectInUse, "the cursor is being read by another portal"))?;
        let way = stop.guard(rows.prepare(direction)).await?;
        Ok::<_, Error>(Fetching { rows, way, stop })
    };
    let batches = |fetching: Fetching| {
        stream::try_unfold(fetching, |mut f| async move {
            if f.way.most == 0 {
                return Ok(None);
            }
            let way = f.way;
            let batch = f.stop.guard(f.rows.step(way)).await?;
            Ok(batch.map(|batch| {
                f.way.most -= batch.num_rows() as u64;
                (batch, f)
            }))
        })
    };
    stream::once(started).map_ok(batches).try_flatten().boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{ArrayRef, AsArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use squilla_core::kernel::CancelFlag;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn cursor(count: i32, scroll: Option<bool>, bytes_max: usize) -> Arc<Mutex<Rows>> {
        let batch = |from: i32| {
            let values = Arc::new(Int32Array::from_iter_values(from..(from + 3).min(count + 1))) as ArrayRef;
            Ok(RecordBatch::try_from_iter([("n", values)]).unwrap())
        };
        let batches: Vec<Result<RecordBatch>> = (1..=count).step_by(3).map(batch).collect();
        Arc::new(Mutex::new(Rows::new(stream::iter(batches).boxed(), scroll, bytes_max, Arc::new(RuntimeEnv::default()))))
    }

    async fn take(rows: &Arc<Mutex<Rows>>, direction: Direction) -> Result<Vec<i32>> {
        let stop = Stop { flag: CancelFlag::default(), token: CancellationToken::new(), deadline: None };
        let batches: Vec<RecordBatch> = fetch(Arc::clone(rows), direction, stop).try_collect().await?;
        Ok(batches.iter().flat_map(|b| b.column(0).as_primitive::<Int32Type>().values().to_vec()).collect())
    }

    #[tokio::test]
    async fn every_direction() {
        for bytes_max in [1, usize::MAX] {
            let c = cursor(10, Some(true), bytes_max);
            for (direction, wanted) in [
                (Direction::Forward(4), vec![1, 2, 3, 4]),
                (Direction::Forward(-2), vec![3, 2]),
                (Direction::Forward(0), vec![2]),
                (Direction::Relative(3), vec![5]),
                (Direction::Relative(-1), vec![4]),
                (Direction::Absolute(-1), vec![10]),
                (Direction::Absolute(-3), vec![8]),
                (Direction::Absolute(2), vec![2]),
                (Direction::ForwardAll, (3..=10).collect()),
                (Direction::Forward(1), vec![]),
                (Direction::Forward(-1), vec![10]),
                (Direction::BackwardAll, (1..=9).rev().collect()),
                (Direction::Forward(-1), vec![]),
                (Direction::Forward(1), vec![1]),
                (Direction::Absolute(99), vec![]),
                (Direction::Relative(0), vec![]),
                (Direction::Absolute(0), vec![]),
                (Direction::Absolute(-99), vec![]),
                (Direction::Forward(2), vec![1, 2]),
            ] {
                assert_eq!(take(&c, direction).await.unwrap(), wanted, "{direction:?} {bytes_max}");
            }
        }
    }

    #[tokio::test]
    async fn forward_only() {
        let c = cursor(10, Some(false), usize::MAX);
        assert_eq!(take(&c, Direction::Forward(5)).await.unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(take(&c, Direction::Absolute(8)).await.unwrap(), [8]);
        for direction in [Direction::Forward(-1), Direction::Absolute(3), Direction::Relative(-1), Direction::Forward(0), Direction::BackwardAll] {
            assert_eq!(take(&c, direction).await.unwrap_err().sqlstate(), "55000", "{direction:?}");
        }
        assert_eq!(take(&c, Direction::ForwardAll).await.unwrap(), [9, 10]);
        // Without either word a cursor goes back as far as it remembers.
        let c = cursor(30, None, 1);
        assert_eq!(take(&c, Direction::Forward(29)).await.unwrap().len(), 29);
        assert_eq!(take(&c, Direction::Forward(-1)).await.unwrap(), [28]);
        assert_eq!(take(&c, Direction::Absolute(1)).await.unwrap_err().sqlstate(), "55000");
    }
}
