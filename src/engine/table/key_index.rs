//! Where the keys of a file are: so that a row is found by its primary key without reading a column.
//!
//! In: the filters of a scan, and the unique constraints of its table. Out: the rows of each file that may match: those
//! whose key has the same hash. Invariants: a row that matches is always among them, one that is may not match (the
//! filter above decides); an index belongs to a file, which never changes, so it is never wrong. Bounded: indexes are made
//! at the second question, and those that were not asked for longest go first. Deliberately absent: keys over floating point
//! numbers, whose equality is not that of their bits; indexes on disk.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};

use super::fit::scan_field;
use crate::catalog::data::ColumnEntry;
use crate::error::{from_arrow, from_datafusion};
use crate::sink::parquet::from_parquet;
use crate::source::files::blocking;

/// Bytes of all indexes.
const CACHE_BYTES: usize = 256 << 20;
/// What the cache needs for an index beside its rows: files of one row are many.
const ENTRY_BYTES: usize = 512;
/// Keys that one scan looks for at most.
const KEYS_MAX: usize = 256;
/// Files that are remembered as asked about.
const ASKED_MAX: usize = 4096;
/// Hashes must be the same in a file and in a question.
const SEED: RandomState = RandomState::with_seed(0);

/// The rows of a file by the hash of their key: hash above, row below, in order.
#[derive(Debug)]
struct KeyIndex(Box<[u64]>);

impl KeyIndex {
    fn rows(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        let from = self.0.partition_point(|entry| (entry >> 32) < u64::from(hash));
        let entries = self.0.get(from..).unwrap_or_default();
        entries.iter().take_while(move |entry| (**entry >> 32) == u64::from(hash)).map(|entry| *entry as u32)
    }

    fn bytes(&self) -> usize {
        self.0.len() * 8 + ENTRY_BYTES
    }
}

/// An index is of a file and of columns: their numbers and types, which hashes depend on.
type Id = (u64, Vec<(u32, String)>);

#[derive(Debug, Default)]
struct Cache {
    indexes: HashMap<Id, (Arc<KeyIndex>, u64)>,
    /// When each was asked for last.
    order: BTreeMap<u64, Id>,
    asked: HashMap<Id, ()>,
    bytes: usize,
    clock: u64,
}

/// The indexes of all tables.
#[derive(Debug, Default)]
pub struct KeyIndexes(Mutex<Cache>);

impl Cache {
    fn get(&mut self, id: &Id) -> Option<Arc<KeyIndex>> {
        self.clock += 1;
        let (index, at) = self.indexes.get_mut(id)?;
        self.order.remove(at);
        *at = self.clock;
        self.order.insert(self.clock, id.clone());
        Some(Arc::clone(index))
    }

    /// Whether the file was asked about before.
    fn ask(&mut self, id: &Id) -> bool {
        if self.asked.len() >= ASKED_MAX {
            self.asked.clear();
        }
        self.asked.insert(id.clone(), ()).is_some()
    }

    fn put(&mut self, id: Id, index: &Arc<KeyIndex>) {
        self.clock += 1;
        self.bytes += index.bytes();
        if let Some((old, at)) = self.indexes.insert(id.clone(), (Arc::clone(index), self.clock)) {
            self.bytes -= old.bytes();
            self.order.remove(&at);
        }
        self.order.insert(self.clock, id);
        while self.bytes > CACHE_BYTES
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((gone, _)) = self.indexes.remove(&oldest) {
                self.bytes -= gone.bytes();
            }
        }
    }
}

/// Keys that a scan looks for: the columns, and the hash of each key.
#[derive(Debug)]
pub struct Wanted {
    columns: Vec<ColumnEntry>,
    hashes: Vec<u32>,
}

/// What filters want of the first constraint that they name a key of; `constraints` are positions of columns.
pub fn wanted(filters: &[Expr], columns: &[ColumnEntry], constraints: &[Vec<usize>]) -> Result<Option<Wanted>> {
    for positions in constraints {
        let key: Vec<&ColumnEntry> = positions.iter().filter_map(|p| columns.get(*p)).collect();
        let found = key.iter().map(|column| filters.iter().find_map(|f| values(f, &column.name))).collect::<Option<Vec<_>>>();
        let Some(found) = found else { continue };
        let count = found.iter().map(Vec::len).try_fold(1_usize, usize::checked_mul).unwrap_or(usize::MAX);
        if key.is_empty() || count == 0 || count > KEYS_MAX {
            continue;
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(key.len());
        let mut repeat = count;
        for (column, values) in key.iter().zip(&found) {
            let ty = scan_field(column)?.data_type().clone();
            if !hashable(&ty) {
                break;
            }
            // All combinations: a value of this column for each of the later ones.
            repeat /= values.len();
            let each = (0..count).map(|i| values.get(i / repeat % values.len()).cloned().unwrap_or(ScalarValue::Null));
            let Some(array) = each.map(|v| v.cast_to(&ty).ok()).collect::<Option<Vec<_>>>() else { break };
            arrays.push(ScalarValue::iter_to_array(array).map_err(from_datafusion)?);
        }
        if arrays.len() == key.len() {
            let hashes = hashes(&arrays, count)?;
            return Ok(Some(Wanted { columns: key.into_iter().cloned().collect(), hashes }));
        }
    }
    Ok(None)
}

/// Types whose equal values have equal bytes.
fn hashable(ty: &DataType) -> bool {
    ty.is_integer()
        || matches!(
            ty,
            DataType::Utf8View
                | DataType::BinaryView
                | DataType::Date32
                | DataType::Timestamp(..)
                | DataType::Decimal128(..)
                | DataType::FixedSizeBinary(_)
        )
}

/// The values that a filter allows for a column; None when it does not say, or allows others, too.
fn values(filter: &Expr, name: &str) -> Option<Vec<ScalarValue>> {
    let is_column = |e: &Expr| matches!(e, Expr::Column(c) if c.name == name);
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
            (column, Expr::Literal(value, _)) | (Expr::Literal(value, _), column) if is_column(column) => Some(vec![value.clone()]),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut all = values(left, name)?;
            all.extend(values(right, name)?);
            (all.len() <= KEYS_MAX).then_some(all)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr) && list.len() <= KEYS_MAX => {
            let value = |e: &Expr| if let Expr::Literal(value, _) = e { Some(value.clone()) } else { None };
            list.iter().map(value).collect()
        }
        _ => None,
    }
}

fn hashes(arrays: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
    let mut all = vec![0; rows];
    create_hashes(arrays, &SEED, &mut all).map_err(from_datafusion)?;
    Ok(all.into_iter().map(|hash| (hash >> 32) as u32).collect())
}

impl KeyIndexes {
    /// The rows of a file that may have one of the keys, in order; None when the file has to be read to know.
    pub async fn rows(&self, file: u64, rows: u64, path: &Path, wanted: &Wanted) -> Result<Option<Vec<u32>>> {
        let id = (file, wanted.columns.iter().map(|c| (c.id, c.ty.clone())).collect::<Vec<_>>());
        let known = self.0.lock().get(&id);
        let index = match known {
            Some(index) => index,
            None => {
                // One question is no reason to read all keys, nor is a file whose index would drive all others out.
                if rows > (CACHE_BYTES / 32) as u64 || !self.0.lock().ask(&id) {
                    return Ok(None);
                }
                let (path, columns) = (path.to_owned(), wanted.columns.clone());
                let Some(made) = blocking(move || build(path, &columns)).await? else { return Ok(None) };
                let made = Arc::new(made);
                self.0.lock().put(id, &made);
                made
            }
        };
        let mut found: Vec<u32> = wanted.hashes.iter().flat_map(|hash| index.rows(*hash)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(Some(found))
    }
}

/// Reads the keys of a file; None when it is older than one of the columns.
fn build(path: PathBuf, columns: &[ColumnEntry]) -> Result<Option<KeyIndex>> {
    let damaged = |e: &dyn std::fmt::Display| Error::new(Kind::DataCorrupted, format!("could not read \"{}\": {e}", path.display()));
    let file = std::fs::File::open(&path).map_err(|e| Error::io(format!("could not open \"{}\"", path.display()), e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(from_parquet)?;
    let names: Vec<&str> = columns.iter().map(ColumnEntry::physical).collect();
    if names.iter().any(|name| reader.schema().index_of(name).is_err()) {
        return Ok(None);
    }
    let mask = ProjectionMask::columns(reader.parquet_schema(), names.iter().copied());
    let reader = reader.with_projection(mask).with_batch_size(8192).build().map_err(from_parquet)?;
    let types = columns.iter().map(|c| Ok(scan_field(c)?.data_type().clone())).collect::<Result<Vec<_>>>()?;
    let mut entries: Vec<u64> = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(&e))?;
        let mut arrays = Vec::with_capacity(names.len());
        for (name, ty) in names.iter().zip(&types) {
            let Some(array) = batch.column_by_name(name) else { return Ok(None) };
            arrays.push(if array.data_type() == ty { Arc::clone(array) } else { cast(array, ty).map_err(from_arrow)? });
        }
        let first = entries.len() as u64;
        let hashes = hashes(&arrays, batch.num_rows())?;
        entries.extend(hashes.into_iter().enumerate().map(|(i, hash)| u64::from(hash) << 32 | (first + i as u64)));
    }
    entries.sort_unstable();
    Ok(Some(KeyIndex(entries.into_boxed_slice())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::logical_expr::{col, lit};
    use squilla_core::types::SqlType;

    use super::*;

    #[test]
    fn filters_that_name_a_whole_key_are_wanted() {
        let columns = [ColumnEntry::new("a", &SqlType::Int4), ColumnEntry::new("b", &SqlType::Text), ColumnEntry::new("c", &SqlType::Float8)];
        let count = |filters: &[Expr], key: &[usize]| wanted(filters, &columns, &[key.to_vec()]).unwrap().map(|w| w.hashes.len());
        assert_eq!(count(&[col("a").eq(lit(1))], &[0]), Some(1));
        assert_eq!(count(&[col("a").eq(lit(1_i64)).or(col("a").eq(lit(2)))], &[0]), Some(2));
        assert_eq!(count(&[col("a").in_list(vec![lit(1), lit(2), lit(3)], false), col("b").eq(lit("x"))], &[0, 1]), Some(3));
        assert_eq!(count(&[col("a").eq(lit(1))], &[0, 1]), None);
        assert_eq!(count(&[col("a").gt(lit(1))], &[0]), None);
        assert_eq!(count(&[col("c").eq(lit(1.0))], &[2]), None);
    }

    #[test]
    fn an_index_gives_all_rows_of_a_hash() {
        let index = KeyIndex(vec![1 << 32 | 7, 2 << 32 | 3, 2 << 32 | 9, 5 << 32].into_boxed_slice());
        assert_eq!(index.rows(2).collect::<Vec<_>>(), [3, 9]);
        assert_eq!(index.rows(5).collect::<Vec<_>>(), [0]);
        assert!(index.rows(3).next().is_none() && index.rows(9).next().is_none());
    }
}
