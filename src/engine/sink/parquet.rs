//! Batches to Parquet.
//!
//! In: batches of any columns of ours. Out: a file that carries their Arrow schema, so that reading it gives the same
//! types. Invariants: a row group is bounded by bytes as well as rows, so wide rows of media do not pile up; columns of
//! media and bytea have no dictionary and no statistics, which would copy their values into the footer.
//! Deliberately absent: encryption, bloom filters, sort orders.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use super::encode::Encoder;
use crate::error::from_arrow;

/// How a file is written.
#[derive(Clone, Debug)]
pub struct ParquetOptions {
    /// Of pages.
    pub compression: Compression,
    /// Rows of a row group at most.
    pub group_rows: usize,
    /// Bytes of a row group, about.
    pub group_bytes: usize,
    /// Rows of a page at most: who looks for one row reads a page of each column.
    pub page_rows: usize,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        // Level 1: the higher ones cost several times as much for a few per cent.
        let compression = ZstdLevel::try_new(1).map_or(Compression::UNCOMPRESSED, Compression::ZSTD);
        Self { compression, group_rows: 1 << 20, group_bytes: 128 << 20, page_rows: 20_000 }
    }
}

/// The rows that the writer takes at a time hold at most about so many bytes.
const SLICE_BYTES: usize = 16 << 20;

/// Bytes of a dictionary at most. A column of many values gains nothing from one, and who looks for a single row has to
/// read all of it first.
const DICTIONARY_BYTES: usize = 128 << 10;

/// Writes one Parquet file.
pub struct ParquetEncoder<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
}

impl<W: Write + Send> ParquetEncoder<W> {
    /// A file of these columns.
    pub fn new(writer: W, schema: &Schema, options: &ParquetOptions) -> Result<Self> {
        let schema = Arc::new(Schema::new(schema.fields().iter().map(|f| stored_field(f)).collect::<Vec<_>>()));
        let mut properties = WriterProperties::builder()
            .set_compression(options.compression)
            .set_max_row_group_row_count(Some(options.group_rows))
            .set_max_row_group_bytes(Some(options.group_bytes))
            .set_data_page_row_count_limit(options.page_rows)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_created_by(concat!("squilla ", env!("CARGO_PKG_VERSION")).to_owned());
        for field in schema.fields() {
            let mut path = vec![field.name().clone()];
            for path in large_columns(field, false, &mut path) {
                let path = ColumnPath::new(path);
                properties =
                    properties.set_column_dictionary_enabled(path.clone(), false).set_column_statistics_enabled(path, EnabledStatistics::None);
            }
        }
        let writer = ArrowWriter::try_new(writer, Arc::clone(&schema), Some(properties.build())).map_err(from_parquet)?;
        Ok(Self { writer, schema })
    }
}

impl<W: Write + Send> Encoder for ParquetEncoder<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| stored(column, field)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(from_arrow)?;
        let rows = batch.num_rows();
        // The writer knows the size of rows only after it has taken some.
        let bytes = batch.get_array_memory_size().max(1);
        let step = (rows * SLICE_BYTES / bytes).clamp(1, rows.max(1));
        for start in (0..rows).step_by(step) {
            self.writer.write(&batch.slice(start, step.min(rows - start))).map_err(from_parquet)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.finish().map_err(from_parquet)?;
        self.writer.inner_mut().flush().map_err(|e| Error::io("could not write a Parquet file", e))
    }
}

/// A failure of the writer: mostly of what it writes to.
pub fn from_parquet(error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(io) => Error::io("could not write a Parquet file", *io),
            Err(other) => Error::new(Kind::Io, format!("could not write a Parquet file: {other}")),
        },
        ParquetError::NYI(what) => Error::unsupported(format!("Parquet cannot hold this column: {what}")),
        other => Error::new(Kind::Io, format!("could not write a Parquet file: {other}")),
    }
}

/// The field in the file: Parquet has no interval of months, days and nanoseconds, and no column without a type.
pub fn stored_field(field: &Field) -> Field {
    let text = matches!(field.data_type(), DataType::Interval(IntervalUnit::MonthDayNano) | DataType::Null | DataType::Duration(_));
    let marks: HashMap<String, String> = field
        .metadata()
        .iter()
        .filter(|(k, _)| k.starts_with("ARROW:extension:") || k.starts_with("squilla."))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let ty = if text { DataType::Utf8 } else { field.data_type().clone() };
    Field::new(field.name(), ty, true).with_metadata(marks)
}

fn stored(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    match column.data_type() {
        // Text of an interval (`14 mons 1 days 5.5 secs`) is what Arrow reads back, and PostgreSQL, too.
        have if have != field.data_type() => datafusion::arrow::compute::cast(column, field.data_type()).map_err(from_arrow),
        _ => Ok(Arc::clone(column)),
    }
}

/// The leaf columns of media and bytes; `inside` is below such a column.
fn large_columns(field: &Field, inside: bool, path: &mut Vec<String>) -> Vec<Vec<String>> {
    let media = inside || matches!(SqlType::of_field(field), SqlType::Bytea | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Vector);
    let children: Vec<(Vec<&str>, &Field)> = match field.data_type() {
        DataType::Struct(fields) => fields.iter().map(|f| (vec![f.name().as_str()], f.as_ref())).collect(),
        // Parquet's names of a list: a group `list` with the element in it.
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            vec![(vec!["list", item.name().as_str()], item.as_ref())]
        }
        DataType::LargeBinary | DataType::Binary | DataType::BinaryView | DataType::Float32 if media => return vec![path.clone()],
        _ => return Vec::new(),
    };
    let mut out = Vec::new();
    for (names, child) in children {
        path.extend(names.iter().map(|n| (*n).to_owned()));
        out.extend(large_columns(child, media, path));
        path.truncate(path.len() - names.len());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn media_columns_are_found() {
        let paths =
            |ty: SqlType| large_columns(&ty.field("x"), false, &mut vec!["x".to_owned()]).into_iter().map(|p| p.join(".")).collect::<Vec<_>>();
        assert_eq!(paths(SqlType::Bytea), ["x"]);
        assert_eq!(paths(SqlType::Image), ["x.data"]);
        assert_eq!(paths(SqlType::Vector), ["x.list.item"]);
        assert_eq!(paths(SqlType::Audio), ["x.samples.list.item"]);
        assert!(paths(SqlType::Text).is_empty() && paths(SqlType::File).is_empty());
    }

    #[test]
    fn row_groups_are_bounded_by_bytes() {
        use datafusion::arrow::array::LargeBinaryArray;
        let schema = Schema::new(vec![SqlType::Bytea.field("b")]);
        let mut file = Vec::new();
        let options = ParquetOptions { group_bytes: 4 << 20, ..ParquetOptions::default() };
        let mut encoder = ParquetEncoder::new(&mut file, &schema, &options).unwrap();
        let value: Vec<u8> = (0..1_000_000).map(|_| rand::random()).collect();
        let batch =
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(LargeBinaryArray::from_iter_values(std::iter::repeat_n(&value, 40)))]).unwrap();
        encoder.write(&batch).unwrap();
        encoder.finish().unwrap();
        drop(encoder);
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        assert!(reader.metadata().num_row_groups() >= 3, "{}", reader.metadata().num_row_groups());
        assert!(reader.metadata().row_group(0).column(0).statistics().is_none());
    }
}
