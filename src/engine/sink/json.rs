//! Batches to JSON, one object a line.
//!
//! In: batches. Out: lines with every column, NULL as null. Invariants: json and jsonb values stand as JSON, not as
//! strings; bytea, uuid, interval and bit in their text form; a file is its URI; lists and structs nest.
//! Deliberately absent: one array around all rows (readers would have to hold it whole).

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{
    Encoder as ValueEncoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, Writer, WriterBuilder,
};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use super::csv::{texts, uris};
use super::encode::Encoder;
use crate::error::from_arrow;

/// Writes one file of JSON lines.
pub struct JsonEncoder<W: Write + Send> {
    writer: Writer<W, LineDelimited>,
    schema: SchemaRef,
}

impl<W: Write + Send> JsonEncoder<W> {
    /// A file of these columns.
    pub fn new(writer: W, schema: &Schema) -> Self {
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|f| if as_text(&SqlType::of_field(f)) { SqlType::Text.field(f.name()) } else { f.as_ref().clone().with_nullable(true) })
            .collect();
        let writer = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(RawJson)).build(writer);
        Self { writer, schema: Arc::new(Schema::new(fields)) }
    }
}

fn as_text(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Bytea | SqlType::Uuid | SqlType::Interval | SqlType::Bit | SqlType::File)
}

impl<W: Write + Send> Encoder for JsonEncoder<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
            Ok(match SqlType::of_field(field) {
                SqlType::File => uris(column)?,
                ty if as_text(&ty) => Arc::new(texts(column, &ty)?) as ArrayRef,
                _ => Arc::clone(column),
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(from_arrow)?;
        self.writer.write(&batch).map_err(from_arrow)
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.finish().map_err(from_arrow)?;
        self.writer.get_mut().flush().map_err(|e| Error::io("could not write a JSON file", e))
    }
}

/// Writes values of json and jsonb as they are.
#[derive(Debug)]
struct RawJson;

impl EncoderFactory for RawJson {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !matches!(SqlType::of_field(field), SqlType::Json | SqlType::Jsonb) {
            return Ok(None);
        }
        let Some(values) = array.as_any().downcast_ref::<StringArray>() else { return Ok(None) };
        Ok(Some(NullableEncoder::new(Box::new(Raw(values)), values.nulls().cloned())))
    }
}

struct Raw<'a>(&'a StringArray);

impl ValueEncoder for Raw<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        // One object is one line: line ends can only stand between tokens of JSON, where a space does as well.
        out.extend(self.0.value(row).bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::array::{Int64Array, LargeBinaryArray};

    use super::*;
    use crate::source::read_files::files_array;

    #[test]
    fn values_nest_and_files_are_uris() {
        let schema =
            Arc::new(Schema::new(vec![SqlType::Int8.field("n"), SqlType::Jsonb.field("j"), SqlType::Bytea.field("b"), SqlType::File.field("f")]));
        let file = squilla_core::values::FileRef { uri: "/a/b".into(), ..Default::default() };
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("{\"a\":\n[1]}"), None])),
                Arc::new(LargeBinaryArray::from(vec![Some(&[1_u8, 2][..]), None])),
                files_array(&[file.clone(), file]).unwrap(),
            ],
        )
        .unwrap();
        let mut out = Vec::new();
        let mut encoder = JsonEncoder::new(&mut out, &schema);
        encoder.write(&batch).unwrap();
        encoder.finish().unwrap();
        drop(encoder);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"n\":1,\"j\":{\"a\": [1]},\"b\":\"\\\\x0102\",\"f\":\"/a/b\"}\n{\"n\":null,\"j\":null,\"b\":null,\"f\":\"/a/b\"}\n"
        );
    }
}
