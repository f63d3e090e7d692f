//! Rows as the columns of a table take them.
//!
//! In: batches of an INSERT, UPDATE or COPY. Out: batches of exactly the table's types, under the table's column names.
//! Invariants: text is read as the type's literals are; a value that does not fit is an error, never NULL or cut;
//! NULL in a NOT NULL column is 23502. Deliberately absent: constraints over several columns (`check`, `unique`).

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::ColumnEntry;
use crate::error::from_arrow;
use crate::exec::conform::conform;
use crate::postgres::input;

/// The columns as they are written.
pub fn stored_schema(columns: &[ColumnEntry]) -> Result<SchemaRef> {
    Ok(Arc::new(Schema::new(columns.iter().map(|c| Ok(c.sql_type()?.field(&c.name))).collect::<Result<Vec<_>>>()?)))
}

/// The columns as they are read: text and bytea without a copy of every value.
pub fn scan_schema(columns: &[ColumnEntry]) -> Result<SchemaRef> {
    Ok(Arc::new(Schema::new(columns.iter().map(scan_field).collect::<Result<Vec<_>>>()?)))
}

/// A column as it is read.
pub fn scan_field(column: &ColumnEntry) -> Result<Field> {
    let field = column.sql_type()?.field(&column.name);
    let ty = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::LargeBinary => DataType::BinaryView,
        other => other.clone(),
    };
    Ok(Field::new(&column.name, ty, true).with_metadata(field.metadata().clone()))
}

/// Brings batches to the shape of a table.
#[derive(Debug)]
pub struct Fit {
    table: String,
    columns: Vec<ColumnEntry>,
    schema: SchemaRef,
    zone: String,
}

impl Fit {
    /// For a table of this name and these columns; timestamps without a zone are of `zone`.
    pub fn new(table: &str, columns: &[ColumnEntry], zone: &str) -> Result<Self> {
        Ok(Self { table: table.to_owned(), columns: columns.to_vec(), schema: stored_schema(columns)?, zone: zone.to_owned() })
    }

    /// The shape.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A batch in that shape: 42804 for a wrong number of columns, 22003 and 22P02 for values, 23502 for NULL.
    pub fn batch(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::new(
                Kind::DatatypeMismatch,
                format!("table \"{}\" has {} columns but {} were given", self.table, self.columns.len(), batch.num_columns()),
            ));
        }
        let mut columns = Vec::with_capacity(batch.num_columns());
        for ((given, field), column) in batch.columns().iter().zip(self.schema.fields()).zip(&self.columns) {
            columns.push(fit_column(given, field, column, &self.zone)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let fitted = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(from_arrow)?;
        for (array, column) in fitted.columns().iter().zip(&self.columns) {
            if column.not_null
                && array.logical_null_count() > 0
                && let Some(row) = (0..fitted.num_rows()).find(|r| array.logical_nulls().is_some_and(|n| n.is_null(*r)))
            {
                return Err(Error::new(
                    Kind::NotNullViolation,
                    format!("null value in column \"{}\" of relation \"{}\" violates not-null constraint", column.name, self.table),
                )
                .detail(failing_row(&fitted, row)));
            }
        }
        Ok(fitted)
    }
}

/// `Failing row contains (1, null, a).`
pub fn failing_row(batch: &RecordBatch, row: usize) -> String {
    let values: Vec<String> = batch.columns().iter().map(|c| value_text(c, row).unwrap_or_else(|| "null".into())).collect();
    format!("Failing row contains ({}).", values.join(", "))
}

/// The text of one value, as messages show it; None is NULL.
pub fn value_text(array: &ArrayRef, row: usize) -> Option<String> {
    if array.logical_nulls().is_some_and(|n| n.is_null(row)) {
        return None;
    }
    if let Some(values) = array.as_boolean_opt() {
        return Some(if values.value(row) { "t" } else { "f" }.into());
    }
    let options = FormatOptions::default().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let text = ArrayFormatter::try_new(array.as_ref(), &options).map(|f| f.value(row).to_string()).unwrap_or_default();
    // PostgreSQL cuts long values here, too.
    Some(text.chars().take(64).collect())
}

fn fit_column(given: &ArrayRef, field: &Field, column: &ColumnEntry, zone: &str) -> Result<ArrayRef> {
    let (have, want) = (given.data_type(), field.data_type());
    let ty = SqlType::of_field(field);
    if let SqlType::Varchar(Some(length)) | SqlType::Char(Some(length)) = ty {
        let text = cast_with_options(given, want, &CastOptions::default()).map_err(from_arrow)?;
        return within(&text, length as usize, &ty);
    }
    let fitted = typed(given, have, want, &ty, zone)?;
    if let Some(dimensions) = column.dimensions {
        same_dimensions(&fitted, dimensions)?;
    }
    Ok(fitted)
}

fn typed(given: &ArrayRef, have: &DataType, want: &DataType, ty: &SqlType, zone: &str) -> Result<ArrayRef> {
    // Text is read as the type's literals are; JSON is looked at even where it is stored as it comes.
    if matches!(have, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        && (want != &DataType::Utf8 || matches!(ty, SqlType::Json | SqlType::Jsonb))
    {
        return conform(&input::convert_in(given, ty, None, zone)?, want);
    }
    if have == want {
        return Ok(Arc::clone(given));
    }
    if matches!((have, want), (DataType::Struct(_), DataType::Struct(_)) | (DataType::List(_), DataType::List(_))) {
        return conform(given, want);
    }
    // Not "safe": a value that does not fit is an error, never NULL.
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let rounded = if want.is_integer() { rounded(given)? } else { None };
    let cast = cast_with_options(rounded.as_ref().unwrap_or(given), want, &strict).map_err(from_arrow)?;
    conform(&cast, want)
}

/// Fractions on their way into an integer: those of numerics are rounded half away from zero, of floats half to even.
fn rounded(given: &ArrayRef) -> Result<Option<ArrayRef>> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let whole = |ty: DataType| cast_with_options(given, &ty, &strict).map(Some).map_err(from_arrow);
    match given.data_type() {
        DataType::Decimal128(_, scale) if *scale > 0 => whole(DataType::Decimal128(38, 0)),
        DataType::Decimal256(_, scale) if *scale > 0 => whole(DataType::Decimal256(76, 0)),
        DataType::Float32 => {
            Ok(given.as_primitive_opt::<Float32Type>().map(|f| Arc::new(f.unary::<_, Float32Type>(f32::round_ties_even)) as ArrayRef))
        }
        DataType::Float64 => {
            Ok(given.as_primitive_opt::<Float64Type>().map(|f| Arc::new(f.unary::<_, Float64Type>(f64::round_ties_even)) as ArrayRef))
        }
        _ => Ok(None),
    }
}

/// Vectors of the declared length, or 22000.
fn same_dimensions(array: &ArrayRef, dimensions: u32) -> Result<()> {
    let wrong = |found: usize| Error::new(Kind::DataException, format!("expected {dimensions} dimensions, not {found}"));
    let lengths: Vec<usize> = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (0..list.len()).filter(|r| !list.is_null(*r)).map(|r| list.value_length(r) as usize).collect()
        }
        DataType::FixedSizeList(_, n) if array.len() > array.null_count() => vec![*n as usize],
        _ => Vec::new(),
    };
    lengths.into_iter().find(|n| *n != dimensions as usize).map_or(Ok(()), |n| Err(wrong(n)))
}

/// Text of at most `length` characters; blanks beyond it are cut, anything else there is 22001.
fn within(column: &ArrayRef, length: usize, ty: &SqlType) -> Result<ArrayRef> {
    let Some(texts) = column.as_string_opt::<i32>() else { return Err(Error::internal("a varchar column that is no text")) };
    if texts.iter().flatten().all(|t| t.len() <= length) {
        return Ok(Arc::clone(column));
    }
    let cut = |text: &str| match text.char_indices().nth(length) {
        None => Ok(text.to_owned()),
        Some((end, _)) if text.get(end..).is_some_and(|rest| rest.chars().all(|c| c == ' ')) => Ok(text.get(..end).unwrap_or("").to_owned()),
        Some(_) => Err(Error::new(Kind::StringTooLong, format!("value too long for type {}({length})", ty.name()))),
    };
    Ok(Arc::new(texts.iter().map(|t| t.map(cut).transpose()).collect::<Result<StringArray>>()?))
}
