//! Batches to CSV, as PostgreSQL's COPY writes it.
//!
//! In: batches. Out: lines. Invariants: NULL is the null string unquoted, and a value that looks like it is quoted, so
//! both come back; values are in the text form of their type; a file is its URI.
//! Deliberately absent: other encodings than UTF-8.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use super::encode::Encoder;
use crate::error::from_arrow;
use crate::postgres::output;

/// How a file is written.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// A first line with the names.
    pub header: bool,
    /// Between values.
    pub delimiter: u8,
    /// Around values.
    pub quote: u8,
    /// Before a quote inside a value.
    pub escape: u8,
    /// What stands for NULL.
    pub null: String,
    /// Columns whose values are always quoted; `*` is all.
    pub force_quote: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { header: false, delimiter: b',', quote: b'"', escape: b'"', null: String::new(), force_quote: Vec::new() }
    }
}

/// Writes one CSV file.
pub struct CsvEncoder<W: Write + Send> {
    writer: W,
    schema: SchemaRef,
    options: CsvOptions,
    forced: Vec<bool>,
    line: Vec<u8>,
}

impl<W: Write + Send> CsvEncoder<W> {
    /// A file of these columns; the header is written at once.
    pub fn new(writer: W, schema: &SchemaRef, options: CsvOptions) -> Result<Self> {
        let forced = schema.fields().iter().map(|f| options.force_quote.iter().any(|name| name == "*" || name == f.name())).collect();
        let mut encoder = Self { writer, schema: Arc::clone(schema), options, forced, line: Vec::new() };
        if encoder.options.header {
            for i in 0..schema.fields().len() {
                encoder.separate(i);
                encoder.value(schema.field(i).name(), false);
            }
            encoder.end_line()?;
        }
        Ok(encoder)
    }

    fn separate(&mut self, column: usize) {
        if column > 0 {
            self.line.push(self.options.delimiter);
        }
    }

    fn value(&mut self, value: &str, forced: bool) {
        let (delimiter, quote, escape) = (self.options.delimiter, self.options.quote, self.options.escape);
        let special = |b: &u8| *b == delimiter || *b == quote || matches!(*b, b'\n' | b'\r');
        // A lone \. would end the data for readers of old.
        if !forced && value != self.options.null && value != "\\." && !value.as_bytes().iter().any(special) {
            self.line.extend_from_slice(value.as_bytes());
            return;
        }
        self.line.push(quote);
        for byte in value.bytes() {
            if byte == quote || byte == escape {
                self.line.push(escape);
            }
            self.line.push(byte);
        }
        self.line.push(quote);
    }

    fn end_line(&mut self) -> Result<()> {
        self.line.push(b'\n');
        let written = self.writer.write_all(&self.line);
        self.line.clear();
        written.map_err(|e| Error::io("could not write a CSV file", e))
    }
}

impl<W: Write + Send> Encoder for CsvEncoder<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| texts(column, &SqlType::of_field(field)))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                self.separate(i);
                if column.is_null(row) {
                    self.line.extend_from_slice(self.options.null.as_bytes());
                } else {
                    let forced = self.forced.get(i).copied().unwrap_or(false);
                    self.value(column.value(row), forced);
                }
            }
            self.end_line()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| Error::io("could not write a CSV file", e))
    }
}

/// The text form of every value of a column; a file is its URI.
pub fn texts(column: &ArrayRef, ty: &SqlType) -> Result<StringArray> {
    let text = match ty {
        // Arrow prints these as PostgreSQL does, and a whole column at a time.
        SqlType::Int2
        | SqlType::Int4
        | SqlType::Int8
        | SqlType::Oid
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Name
        | SqlType::Json
        | SqlType::Jsonb
        | SqlType::Date
        | SqlType::Numeric(_)
        | SqlType::Unknown => cast(column, &DataType::Utf8).map_err(from_arrow)?,
        SqlType::Bool => Arc::new(column.as_boolean().iter().map(|v| v.map(|v| if v { "t" } else { "f" })).collect::<StringArray>()),
        SqlType::File => uris(column)?,
        _ => output::texts(column, ty, "UTC")?,
    };
    Ok(text.as_string::<i32>().clone())
}

/// The URIs of a column of files.
pub fn uris(column: &ArrayRef) -> Result<ArrayRef> {
    let files = column.as_struct_opt().ok_or_else(|| Error::internal("a file column is not a struct"))?;
    let uri = files.column_by_name("uri").ok_or_else(|| Error::internal("a file column has no uri"))?;
    let uri = cast(uri, &DataType::Utf8).map_err(from_arrow)?;
    let nulls = datafusion::arrow::buffer::NullBuffer::union(uri.nulls(), files.nulls());
    let data = uri.to_data().into_builder().nulls(nulls).build().map_err(from_arrow)?;
    Ok(datafusion::arrow::array::make_array(data))
}

/// Column names of a schema, for checks of options.
pub fn has_column(schema: &Schema, name: &str) -> bool {
    schema.fields().iter().any(|f| f.name() == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::array::{BooleanArray, Int64Array, LargeBinaryArray, TimestampMicrosecondArray};

    use super::*;

    fn encode(options: CsvOptions) -> String {
        let schema = Arc::new(Schema::new(vec![
            SqlType::Int8.field("n"),
            SqlType::Text.field("t"),
            SqlType::Bool.field("b"),
            SqlType::Bytea.field("y"),
            SqlType::Timestamptz.field("ts"),
        ]));
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
                Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), Some(""), None])),
                Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
                Arc::new(LargeBinaryArray::from(vec![Some(&[1_u8, 255][..]), None, None])),
                Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None, None]).with_timezone("UTC")),
            ],
        )
        .unwrap();
        let mut out = Vec::new();
        let mut encoder = CsvEncoder::new(&mut out, &schema, options).unwrap();
        encoder.write(&batch).unwrap();
        encoder.finish().unwrap();
        drop(encoder);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_postgresql_writes_it() {
        let text = encode(CsvOptions { header: true, ..CsvOptions::default() });
        assert_eq!(text, "n,t,b,y,ts\n1,\"a,\"\"b\"\"\n\",t,\\x01ff,1970-01-01 00:00:01.5+00\n,\"\",f,,\n3,,,,\n");
        let text = encode(CsvOptions { null: "NULL".into(), delimiter: b';', force_quote: vec!["n".into()], ..CsvOptions::default() });
        assert_eq!(text, "\"1\";\"a,\"\"b\"\"\n\";t;\\x01ff;1970-01-01 00:00:01.5+00\nNULL;;f;NULL;NULL\n\"3\";NULL;NULL;NULL;NULL\n");
    }
}
