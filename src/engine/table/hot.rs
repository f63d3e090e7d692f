//! Pieces of tables' files, decoded: so that a row is read without opening its file and decoding its pages again.
//!
//! In: a file of a table, a column, a row. Out: the array that has the row, and its place in it. Invariants: a file never
//! changes, so a piece is never wrong; the bytes of all pieces and footers stay below the limit and are taken from the
//! memory of statements, what gets none is not kept; what was not asked for longest goes first. A piece is at most a few
//! thousand rows of one column, fewer where values are large. Deliberately absent: which rows are wanted (`point`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, new_empty_array, new_null_array};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::DataType;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection};
use datafusion::parquet::file::metadata::PageIndexPolicy;
use parking_lot::RwLock;
use squilla_core::error::{Error, Kind, Result};
use squilla_store::sums::Sums;

use super::checked::Checked;
use super::fit::scan_field;
use crate::catalog::data::ColumnEntry;
use crate::error::from_arrow;
use crate::sink::parquet::from_parquet;

/// Rows of a piece at most, as a power of two.
const PIECE_ROWS_LOG2: u32 = 14;
/// Bytes that a piece aims at.
const PIECE_BYTES: u64 = 256 << 10;
/// A piece larger than this part of the cache is not kept.
const PIECE_SHARE: usize = 8;

/// A value: the array that has it and its place there. None where the file is older than the column.
pub type Held = Option<(ArrayRef, usize)>;

/// A file on disk.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub path: &'a Path,
    /// What its bytes must be, where that is known.
    pub sums: Option<&'a Arc<Sums>>,
}

impl Stored<'_> {
    fn open(self) -> Result<Checked> {
        Checked::open(self.path, self.sums.cloned())
    }
}

/// What is known of a file.
#[derive(Debug)]
struct OpenFile {
    metadata: ArrowReaderMetadata,
    /// By physical name.
    columns: HashMap<String, Root>,
    /// First row of each row group, and the number of rows at the end.
    groups: Vec<u64>,
    bytes: usize,
    used: AtomicU64,
}

/// A column of a file.
#[derive(Clone, Copy, Debug)]
struct Root {
    index: usize,
    /// A piece has two to this power of rows.
    log2: u32,
}

#[derive(Debug)]
struct Slot {
    array: ArrayRef,
    bytes: usize,
    used: AtomicU64,
}

/// File, column of it, piece of that.
type PieceId = (u64, usize, u32);

#[derive(Debug, Default)]
struct State {
    files: HashMap<u64, Arc<OpenFile>>,
    pieces: HashMap<PieceId, Slot>,
    bytes: usize,
}

/// The pieces of all tables.
#[derive(Debug)]
pub struct HotRows {
    state: RwLock<State>,
    bytes_max: usize,
    memory: MemoryReservation,
    clock: AtomicU64,
}

impl HotRows {
    /// Nothing yet; `bytes_max` 0 keeps nothing ever.
    pub fn new(bytes_max: usize, pool: &Arc<dyn MemoryPool>) -> Self {
        let memory = MemoryConsumer::new("row cache").register(pool);
        Self { state: RwLock::default(), bytes_max, memory, clock: AtomicU64::new(1) }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// The value of a column in a row; None when it has to be read.
    pub fn get(&self, file: u64, column: &ColumnEntry, row: u32) -> Option<Held> {
        let state = self.state.read();
        let open = state.files.get(&file)?;
        let Some(root) = open.columns.get(column.physical()) else { return Some(None) };
        let slot = state.pieces.get(&(file, root.index, row >> root.log2))?;
        let now = self.tick();
        slot.used.store(now, Ordering::Relaxed);
        open.used.store(now, Ordering::Relaxed);
        let place = (row - (row >> root.log2 << root.log2)) as usize;
        (place < slot.array.len()).then(|| Some((Arc::clone(&slot.array), place)))
    }

    /// The same, read where it is not here. XX001, 58030, 58P01 when the file cannot be read. Blocks.
    pub fn read(&self, from: Stored<'_>, column: &ColumnEntry, row: u32) -> Result<Held> {
        let file = from.id;
        if let Some(held) = self.get(file, column, row) {
            return Ok(held);
        }
        let known = self.state.read().files.get(&file).cloned();
        let open = match known {
            Some(open) => open,
            None => {
                let open = Arc::new(open(from)?);
                self.keep_file(file, &open);
                open
            }
        };
        let Some(root) = open.columns.get(column.physical()) else { return Ok(None) };
        let piece = row >> root.log2;
        let (array, place) = decode(&open, from, *root, row, scan_field(column)?.data_type())?;
        self.keep_piece((file, root.index, piece), &array);
        Ok(Some((array, place)))
    }

    fn keep_file(&self, file: u64, open: &Arc<OpenFile>) {
        let mut state = self.state.write();
        if state.files.contains_key(&file) || !self.make_room(&mut state, open.bytes) {
            return;
        }
        open.used.store(self.tick(), Ordering::Relaxed);
        state.bytes += open.bytes;
        state.files.insert(file, Arc::clone(open));
    }

    fn keep_piece(&self, id: PieceId, array: &ArrayRef) {
        let bytes = array.get_array_memory_size() + size_of::<Slot>() + size_of::<PieceId>();
        let mut state = self.state.write();
        // Without its footer a piece is not found.
        if state.pieces.contains_key(&id) || !state.files.contains_key(&id.0) || !self.make_room(&mut state, bytes) {
            return;
        }
        state.bytes += bytes;
        state.pieces.insert(id, Slot { array: Arc::clone(array), bytes, used: AtomicU64::new(self.tick()) });
    }

    /// Whether so many bytes may be kept; they are reserved then, and others have gone for them.
    fn make_room(&self, state: &mut State, bytes: usize) -> bool {
        if bytes > self.bytes_max / PIECE_SHARE {
            return false;
        }
        if state.bytes + bytes > self.bytes_max {
            self.forget(state, (self.bytes_max / 8 * 7).saturating_sub(bytes));
        }
        self.memory.try_grow(bytes).is_ok()
    }

    /// Leaves at most so many bytes.
    fn forget(&self, state: &mut State, most: usize) {
        let mut order: Vec<(u64, PieceId)> = state.pieces.iter().map(|(id, slot)| (slot.used.load(Ordering::Relaxed), *id)).collect();
        order.sort_unstable();
        let before = state.bytes;
        for (_, id) in order {
            if state.bytes <= most {
                break;
            }
            state.bytes -= state.pieces.remove(&id).map_or(0, |slot| slot.bytes);
        }
        // Footers go after the pieces: nothing is found without them.
        let mut files: Vec<(u64, u64)> = state.files.iter().map(|(id, open)| (open.used.load(Ordering::Relaxed), *id)).collect();
        files.sort_unstable();
        for (_, id) in files {
            if state.bytes <= most {
                break;
            }
            state.bytes -= state.files.remove(&id).map_or(0, |open| open.bytes);
        }
        self.memory.shrink(before - state.bytes);
    }
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::DataCorrupted, format!("could not read \"{}\": {why}", path.display()))
}

fn open(from: Stored<'_>) -> Result<OpenFile> {
    let (path, file) = (from.path, from.open()?);
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(|e| damaged(path, &e))?;
    let (footer, schema) = (metadata.metadata(), metadata.parquet_schema());
    let mut groups = vec![0_u64];
    for group in footer.row_groups() {
        groups.push(groups.last().copied().unwrap_or(0) + u64::try_from(group.num_rows()).unwrap_or(0));
    }
    let rows = groups.last().copied().unwrap_or(0).max(1);
    let mut bytes = vec![0_u64; metadata.schema().fields().len()];
    for group in footer.row_groups() {
        for (leaf, chunk) in group.columns().iter().enumerate() {
            if let Some(sum) = bytes.get_mut(schema.get_column_root_idx(leaf)) {
                *sum += u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
            }
        }
    }
    let root = |(index, field): (usize, &Arc<datafusion::arrow::datatypes::Field>)| {
        let each = bytes.get(index).map_or(1, |b| b / rows).max(1);
        let log2 = (PIECE_BYTES / each).max(1).ilog2().min(PIECE_ROWS_LOG2);
        (field.name().clone(), Root { index, log2 })
    };
    let columns = metadata.schema().fields().iter().enumerate().map(root).collect();
    let size = footer.memory_size() + size_of::<OpenFile>() + metadata.schema().fields().len() * 128;
    Ok(OpenFile { columns, groups, bytes: size, used: AtomicU64::new(0), metadata })
}

/// The piece of a column that has a row, and the place of the row in it.
fn decode(open: &OpenFile, from: Stored<'_>, root: Root, row: u32, ty: &DataType) -> Result<(ArrayRef, usize)> {
    let rows = open.groups.last().copied().unwrap_or(0);
    let start = u64::from(row >> root.log2 << root.log2);
    let end = (start + (1 << root.log2)).min(rows);
    if u64::from(row) >= end {
        return Err(damaged(from.path, &"it has fewer rows than it should"));
    }
    // The row groups that the piece is in, usually one.
    let within = open.groups.windows(2).enumerate().filter_map(|(i, w)| match w {
        [from, to] if *from < end && *to > start => Some((i, *from, *to)),
        _ => None,
    });
    let within: Vec<(usize, u64, u64)> = within.collect();
    let (base, limit) = (within.first().map_or(0, |w| w.1), within.last().map_or(0, |w| w.2));
    let range = (start - base) as usize..(end - base) as usize;
    let count = range.len();
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(from.open()?, open.metadata.clone());
    let mask = ProjectionMask::roots(reader.parquet_schema(), [root.index]);
    let reader = reader
        .with_projection(mask)
        .with_row_groups(within.iter().map(|w| w.0).collect())
        .with_row_selection(RowSelection::from_consecutive_ranges(std::iter::once(range), (limit - base) as usize))
        .with_batch_size(count)
        .build()
        .map_err(from_parquet)?;
    let mut parts: Vec<ArrayRef> = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(from.path, &e))?;
        let Some(array) = batch.columns().first() else { return Err(damaged(from.path, &"a column is missing")) };
        parts.push(if array.data_type() == ty { Arc::clone(array) } else { cast(array, ty).map_err(from_arrow)? });
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let whole = match parts.as_slice() {
        [] => new_empty_array(ty),
        parts => concat(parts).map_err(from_arrow)?,
    };
    if whole.len() != count {
        return Err(damaged(from.path, &"it has fewer rows than it should"));
    }
    Ok((whole, row as usize - start as usize))
}

/// Values of one column, of this type, as an array.
pub fn gathered(values: &[Held], ty: &DataType) -> Result<ArrayRef> {
    let one = |held: &Held| match held {
        None => Ok(new_null_array(ty, 1)),
        Some((array, place)) => {
            let value = array.slice(*place, 1);
            // A type that was widened since the piece was read.
            if value.data_type() == ty { Ok(value) } else { cast(&value, ty).map_err(from_arrow) }
        }
    };
    match values {
        [] => Ok(new_empty_array(ty)),
        [value] => one(value),
        values => {
            let parts = values.iter().map(one).collect::<Result<Vec<_>>>()?;
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            concat(&parts).map_err(from_arrow)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{Field, Int64Type, Schema};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};
    use squilla_core::types::SqlType;

    use super::*;
    use crate::sink::encode::Encoder;
    use crate::sink::parquet::{ParquetEncoder, ParquetOptions};

    const ROWS: u32 = 100_000;

    fn written(directory: &Path) -> std::path::PathBuf {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]));
        let path = directory.join("1.parquet");
        let options = ParquetOptions { group_rows: 30_001, ..ParquetOptions::default() };
        let mut encoder = ParquetEncoder::new(std::fs::File::create(&path).unwrap(), &schema, &options).unwrap();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| i64::from(i) * 3)));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| format!("{i}-{}", "x".repeat(200)))));
        encoder.write(&RecordBatch::try_new(schema, vec![numbers, texts]).unwrap()).unwrap();
        encoder.finish().unwrap();
        path
    }

    fn column(name: &str, ty: &SqlType) -> ColumnEntry {
        ColumnEntry::new(name, ty)
    }

    #[test]
    fn rows_come_from_pieces_and_memory_stays_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let stored = Stored { id: 7, path: &path, sums: None };
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let hot = HotRows::new(4 << 20, &pool);
        let (n, t) = (column("n", &SqlType::Int8), column("t", &SqlType::Text));
        for row in (0..ROWS).step_by(997).chain([30_000, 30_001, ROWS - 1]) {
            let (array, place) = hot.read(stored, &n, row).unwrap().unwrap();
            assert_eq!(array.as_primitive::<Int64Type>().value(place), i64::from(row) * 3);
            let text = gathered(&[hot.read(stored, &t, row).unwrap()], &DataType::Utf8View).unwrap();
            assert!(text.as_string_view().value(0).starts_with(&format!("{row}-x")));
            let state = hot.state.read();
            assert!(state.bytes <= 4 << 20 && state.bytes == hot.memory.size(), "{}", state.bytes);
        }
        assert!(hot.get(7, &n, ROWS - 1).unwrap().is_some());
        assert!(hot.get(7, &column("later", &SqlType::Int4), 1).unwrap().is_none());
        assert!(hot.get(8, &n, 1).is_none());
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let stored = Stored { id: 7, path: &path, sums: None };
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        for hot in [HotRows::new(4 << 20, &pool), HotRows::new(0, &pool)] {
            let n = column("n", &SqlType::Int8);
            let (array, place) = hot.read(stored, &n, 5).unwrap().unwrap();
            assert_eq!(array.as_primitive::<Int64Type>().value(place), 15);
            assert!(hot.get(7, &n, 5).is_none());
        }
    }
}
