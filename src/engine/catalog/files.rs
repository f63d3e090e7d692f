//! The contents of managed tables: which files, which of their rows are deleted.
//!
//! Invariants: a file never changes under its path; a file that no committed snapshot names is removed with the last
//! value that names it, so a transaction that ends badly leaves nothing behind. Deliberately absent: reading and writing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::Statistics;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_store::bitmap::Deleted;
use squilla_store::rows::FileRow;
use squilla_store::sums::Sums;

use crate::error::from_arrow;

/// A path that goes when nobody needs it.
#[derive(Debug)]
pub struct OnDisk {
    path: Option<PathBuf>,
    committed: AtomicBool,
    /// What its footer says of its columns, as some schema names them: a file never changes.
    statistics: Mutex<Option<(SchemaRef, Arc<Statistics>)>>,
}

impl OnDisk {
    /// A file that no snapshot names yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path: Some(path), committed: AtomicBool::new(false), statistics: Mutex::default() }
    }

    /// Nothing, or something that stays.
    pub fn kept() -> Self {
        Self { path: None, committed: AtomicBool::new(true), statistics: Mutex::default() }
    }

    /// The statistics of these columns, where they are known.
    pub fn statistics(&self, columns: &SchemaRef) -> Option<Arc<Statistics>> {
        let known = self.statistics.lock();
        let (schema, statistics) = known.as_ref()?;
        (schema == columns).then(|| Arc::clone(statistics))
    }

    /// Remembers the statistics of these columns.
    pub fn set_statistics(&self, columns: &SchemaRef, statistics: &Arc<Statistics>) {
        *self.statistics.lock() = Some((Arc::clone(columns), Arc::clone(statistics)));
    }

    /// A snapshot names it from now on.
    pub fn commit(&self) {
        self.committed.store(true, Ordering::Release);
    }
}

/// Who holds a file, by its id: VACUUM leaves those alone that a plan or a transaction still reads.
static HELD: Mutex<BTreeMap<u64, Vec<Weak<OnDisk>>>> = Mutex::new(BTreeMap::new());

/// Remembers a holder of a file.
pub fn hold(id: u64, disk: &Arc<OnDisk>) {
    let mut held = HELD.lock();
    let holders = held.entry(id).or_default();
    holders.retain(|h| h.strong_count() > 0);
    holders.push(Arc::downgrade(disk));
}

/// Whether anybody holds a file.
pub fn in_use(id: u64) -> bool {
    let mut held = HELD.lock();
    held.retain(|_, holders| holders.iter().any(|h| h.strong_count() > 0));
    held.contains_key(&id)
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        if !self.committed.load(Ordering::Acquire)
            && let Some(path) = &self.path
        {
            remove(path);
        }
    }
}

/// Removes a file and the directories that it leaves empty.
pub fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
    for directory in path.ancestors().skip(1).take(2) {
        // Only an empty one goes.
        if std::fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Rows that are in the catalog itself.
#[derive(Clone, Debug)]
pub struct Inline {
    /// Columns under their physical names.
    pub batch: RecordBatch,
    /// The same as an Arrow IPC stream.
    pub bytes: Arc<Vec<u8>>,
}

impl Inline {
    /// Rows for the catalog.
    pub fn new(batch: RecordBatch) -> Result<Self> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(from_arrow)?;
        writer.write(&batch).map_err(from_arrow)?;
        let bytes = writer.into_inner().map_err(from_arrow)?;
        Ok(Self { batch, bytes: Arc::new(bytes) })
    }

    /// Rows from the catalog. XX001 when they cannot be read.
    pub fn read(bytes: Vec<u8>) -> Result<Self> {
        let damaged = |e| Error::new(Kind::DataCorrupted, "the catalog has rows that cannot be read").detail(format!("{}.", from_arrow(e).message));
        let mut reader = StreamReader::try_new(bytes.as_slice(), None).map_err(damaged)?;
        let batch = reader.next().transpose().map_err(damaged)?;
        let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(reader.schema()));
        Ok(Self { batch, bytes: Arc::new(bytes) })
    }
}

/// A part of a table's contents.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Unique for ever.
    pub id: u64,
    /// Below the directory of data; None for rows in the catalog.
    pub path: Option<String>,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Rows in the catalog.
    pub inline: Option<Inline>,
    /// Deleted rows.
    pub deleted: Option<Arc<Deleted>>,
    /// Checksums of the file, or of the rows in the catalog; None for those written before there were any.
    pub sums: Option<Arc<Sums>>,
    /// Keeps the file.
    pub disk: Arc<OnDisk>,
}

impl DataFile {
    /// Rows that are there.
    pub fn live_rows(&self) -> u64 {
        self.rows.saturating_sub(self.deleted.as_ref().map_or(0, |d| d.len()))
    }

    /// Whether the deleted rows are the same.
    pub fn same_deleted(&self, other: &DataFile) -> bool {
        match (&self.deleted, &other.deleted) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }

    /// The row of the catalog.
    pub fn row(&self, table: u32) -> FileRow {
        let inline = self.inline.as_ref().map(|i| i.bytes.as_ref().clone());
        let sums = self.sums.as_ref().map(|s| s.bytes());
        FileRow { id: self.id, table, path: self.path.clone(), rows: self.rows, bytes: self.bytes, inline, sums }
    }

    /// From the row of the catalog. XX001 when rows in it are not those that were written.
    pub fn from_row(row: FileRow, deleted: Option<Deleted>) -> Result<Self> {
        let sums = row.sums.as_ref().map(|sums| Sums::from_bytes(sums, row.bytes)).transpose()?.map(Arc::new);
        if let (Some(rows), Some(sums)) = (&row.inline, &sums)
            && !sums.fit(rows)
        {
            return Err(Error::new(Kind::DataCorrupted, "the catalog has rows that are not those that were written"));
        }
        let inline = row.inline.map(Inline::read).transpose()?;
        let (id, path, rows, bytes) = (row.id, row.path, row.rows, row.bytes);
        let disk = Arc::new(OnDisk::kept());
        if path.is_some() {
            hold(id, &disk);
        }
        Ok(Self { id, path, rows, bytes, inline, deleted: deleted.map(Arc::new), sums, disk })
    }
}

/// The contents of a table, in the order in which its parts were added.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Vec<Arc<DataFile>>>);

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || (self.0.len() == other.0.len() && self.iter().zip(other.iter()).all(|(a, b)| a.id == b.id && a.same_deleted(b)))
    }
}

impl Files {
    /// These parts.
    pub fn new(files: Vec<Arc<DataFile>>) -> Self {
        Self(Arc::new(files))
    }

    /// Whether the two are one value, without a look at the parts.
    pub fn same(&self, other: &Files) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.is_empty() && other.0.is_empty())
    }

    /// The parts.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<DataFile>> {
        self.0.iter()
    }

    /// How many parts at the beginning are the same values as in the other: what came later is behind them.
    pub fn common(&self, other: &Files) -> usize {
        self.iter().zip(other.iter()).take_while(|(a, b)| Arc::ptr_eq(a, b)).count()
    }

    /// The parts from a place on.
    pub fn from(&self, first: usize) -> &[Arc<DataFile>] {
        self.0.get(first..).unwrap_or_default()
    }

    /// A part by its id.
    pub fn get(&self, id: u64) -> Option<&Arc<DataFile>> {
        self.0.iter().find(|f| f.id == id)
    }

    /// Number of parts.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no part.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rows that are there.
    pub fn live_rows(&self) -> u64 {
        self.0.iter().map(|f| f.live_rows()).sum()
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|f| f.bytes).sum()
    }

    /// Adds parts.
    pub fn add(&mut self, more: impl IntoIterator<Item = Arc<DataFile>>) {
        Arc::make_mut(&mut self.0).extend(more);
    }

    /// Removes all parts.
    pub fn clear(&mut self) {
        self.0 = Arc::default();
    }

    /// Removes these parts.
    pub fn remove(&mut self, ids: &[u64]) {
        Arc::make_mut(&mut self.0).retain(|f| !ids.contains(&f.id));
    }

    /// Marks rows as deleted, beside those that are: a part without rows left goes.
    pub fn delete(&mut self, id: u64, rows: &Deleted) {
        let files = Arc::make_mut(&mut self.0);
        for file in files.iter_mut().filter(|f| f.id == id) {
            let all = file.deleted.as_ref().map_or_else(|| rows.clone(), |d| d.union(rows));
            *file = Arc::new(DataFile { deleted: Some(Arc::new(all)), ..file.as_ref().clone() });
        }
        files.retain(|f| f.id != id || f.live_rows() > 0);
    }

    /// Replaces a part by one of the same id.
    pub fn replace(&mut self, file: Arc<DataFile>) {
        for slot in Arc::make_mut(&mut self.0).iter_mut().filter(|f| f.id == file.id) {
            *slot = Arc::clone(&file);
        }
    }
}
