//! Rows of a table by their key, without a plan.
//!
//! In: a table in one state, a value for each column of a key, perhaps values of further columns. Out: the rows, as the scan
//! of the same columns would give them. Invariants: rows that the state has as deleted are never given; a row is given only
//! when its values are compared equal, whatever its hash; without an index of each file there is no answer. Deliberately
//! absent: making indexes (`key_index`: the scan does, at the second question), conditions other than equality.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, Scalar};
use datafusion::arrow::compute::kernels::cmp;
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use squilla_core::error::Result;

use super::Tables;
use super::hot::{self, Held, Stored};
use super::key_index::KeyColumns;
use crate::catalog::data::ColumnEntry;
use crate::catalog::files::{DataFile, Files};
use crate::error::from_arrow;

/// More rows in the catalog than this are looked through by a plan.
const INLINE_ROWS_MAX: u64 = 32_768;

/// What is asked.
pub struct Question<'a> {
    /// The columns that are read, and their Arrow schema.
    pub columns: &'a [ColumnEntry],
    /// Of these columns, as they are read.
    pub schema: &'a SchemaRef,
    /// The key.
    pub key: &'a KeyColumns,
    /// The hash of its values.
    pub hash: u32,
    /// Values that rows must have: the column's place among `columns`, and an array of one value of its type. The key's are
    /// among them.
    pub equal: &'a [(usize, ArrayRef)],
}

/// A row of a table.
struct Place<'a> {
    file: &'a Arc<DataFile>,
    row: u32,
}

impl Tables {
    /// The rows; None when only a plan can tell, or when something has to be read from files and `may_read` is false.
    pub fn rows_by_key(&self, files: &Files, question: &Question<'_>, may_read: bool) -> Result<Option<RecordBatch>> {
        let mut places = Vec::new();
        let mut inline_rows = 0;
        for file in files.iter() {
            if file.path.is_none() {
                inline_rows += file.rows;
                if inline_rows > INLINE_ROWS_MAX {
                    return Ok(None);
                }
                inline_places(file, question, &mut places)?;
                continue;
            }
            let Some(rows) = self.keys.known(file.id, question.key, question.hash) else { return Ok(None) };
            let live = |row: &u32| file.deleted.as_ref().is_none_or(|d| !d.contains(*row));
            places.extend(rows.into_iter().filter(live).map(|row| Place { file, row }));
        }
        let mut arrays = Vec::with_capacity(question.columns.len());
        for (column, field) in question.columns.iter().zip(question.schema.fields()) {
            let mut values: Vec<Held> = Vec::with_capacity(places.len());
            for place in &places {
                let Some(held) = self.held(place, column, may_read)? else { return Ok(None) };
                values.push(held);
            }
            arrays.push(hot::gathered(&values, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let found = RecordBatch::try_new_with_options(Arc::clone(question.schema), arrays, &options).map_err(from_arrow)?;
        equal_rows(found, question.equal).map(Some)
    }

    fn held(&self, place: &Place<'_>, column: &ColumnEntry, may_read: bool) -> Result<Option<Held>> {
        let Some(path) = &place.file.path else {
            let array = place.file.inline.as_ref().and_then(|inline| inline.batch.column_by_name(column.physical()));
            return Ok(Some(array.map(|array| (Arc::clone(array), place.row as usize))));
        };
        if may_read {
            let stored = Stored { id: place.file.id, path: &self.directory.join(path), sums: place.file.sums.as_ref() };
            return self.hot.read(stored, column, place.row).map(Some);
        }
        Ok(self.hot.get(place.file.id, column, place.row))
    }
}

/// The rows of a part in the catalog that may be wanted: those with the first of the values.
fn inline_places<'a>(file: &'a Arc<DataFile>, question: &Question<'_>, out: &mut Vec<Place<'a>>) -> Result<()> {
    let Some(inline) = &file.inline else { return Ok(()) };
    let Some((column, value)) = question.equal.first() else { return Ok(()) };
    let Some(array) = question.columns.get(*column).and_then(|c| inline.batch.column_by_name(c.physical())) else { return Ok(()) };
    let array = if array.data_type() == value.data_type() { Arc::clone(array) } else { cast(array, value.data_type()).map_err(from_arrow)? };
    let live = |row: &usize| file.deleted.as_ref().is_none_or(|d| !d.contains(*row as u32));
    let mut add = |row: usize| out.push(Place { file, row: row as u32 });
    // Most parts are of few rows: no kernel for the usual keys.
    match value.data_type() {
        DataType::Int32 => {
            let (array, value) = (array.as_primitive::<Int32Type>(), value.as_primitive::<Int32Type>().value(0));
            (0..array.len()).filter(|i| array.value(*i) == value && array.is_valid(*i)).filter(live).for_each(&mut add);
        }
        DataType::Int64 => {
            let (array, value) = (array.as_primitive::<Int64Type>(), value.as_primitive::<Int64Type>().value(0));
            (0..array.len()).filter(|i| array.value(*i) == value && array.is_valid(*i)).filter(live).for_each(&mut add);
        }
        _ => {
            let same = equal(&array, value)?;
            (0..same.len()).filter(|i| same.is_valid(*i) && same.value(*i)).filter(live).for_each(&mut add);
        }
    }
    Ok(())
}

fn equal(array: &ArrayRef, value: &ArrayRef) -> Result<BooleanArray> {
    cmp::eq(array, &Scalar::new(Arc::clone(value))).map_err(from_arrow)
}

/// The rows that have all of these values.
fn equal_rows(rows: RecordBatch, values: &[(usize, ArrayRef)]) -> Result<RecordBatch> {
    let mut kept = rows;
    for (column, value) in values {
        let Some(array) = kept.columns().get(*column) else { continue };
        let same = equal(array, value)?;
        if same.true_count() < kept.num_rows() {
            kept = filter_record_batch(&kept, &same).map_err(from_arrow)?;
        }
    }
    Ok(kept)
}
