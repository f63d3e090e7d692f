//! Text functions that PostgreSQL also has for bytea, and conversions between bytes and text.
//!
//! In: bytes or text. Out: parts, lengths, text in an encoding. Invariant: for text the functions are DataFusion's own;
//! lengths and positions of bytea count bytes. Deliberately absent: encodings other than UTF8, LATIN1 and SQL_ASCII.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Builder, LargeBinaryBuilder, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions::{string, unicode};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};

use crate::error::{from_arrow, to_datafusion};
use crate::postgres::input;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Part,
    Length,
    Octets,
    ConvertFrom,
    ConvertTo,
}

#[derive(Debug)]
struct Bytes {
    work: Work,
    /// The function for text.
    text: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.work == other.work
    }
}

impl Eq for Bytes {}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.work.hash(state);
    }
}

fn bytes(ty: &DataType) -> bool {
    matches!(ty, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

impl Bytes {
    fn of_text(&self, first: Option<&DataType>) -> Option<&Arc<ScalarUDF>> {
        self.text.as_ref().filter(|_| !first.is_some_and(bytes))
    }

    fn result(&self) -> DataType {
        match self.work {
            Work::Part | Work::ConvertTo => DataType::LargeBinary,
            Work::Length | Work::Octets => DataType::Int32,
            Work::ConvertFrom => DataType::Utf8,
        }
    }
}

impl ScalarUDFImpl for Bytes {
    fn name(&self) -> &str {
        match self.work {
            Work::Part => "substr",
            Work::Length => "character_length",
            Work::Octets => "octet_length",
            Work::ConvertFrom => "convert_from",
            Work::ConvertTo => "convert_to",
        }
    }

    fn aliases(&self) -> &[String] {
        self.text.as_ref().map_or(&[], |udf| udf.aliases())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        if let Some(text) = self.of_text(types.first()) {
            let fields: Vec<FieldRef> = types.iter().map(|ty| Arc::new(Field::new("", ty.clone(), true))).collect();
            return Ok(fields_with_udf(&fields, text.as_ref())?.iter().map(|f| f.data_type().clone()).collect());
        }
        let wanted: &[DataType] = match (self.work, types.len()) {
            (Work::Part, 2) => &[DataType::LargeBinary, DataType::Int64],
            (Work::Part, 3) => &[DataType::LargeBinary, DataType::Int64, DataType::Int64],
            (Work::Length | Work::Octets, 1) => &[DataType::LargeBinary],
            // An untyped literal spells bytes.
            (Work::ConvertFrom, 2) if matches!(types, [DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, _]) => {
                &[DataType::Utf8, DataType::Utf8]
            }
            (Work::ConvertFrom, 2) => &[DataType::LargeBinary, DataType::Utf8],
            (Work::ConvertTo, 2) => &[DataType::Utf8, DataType::Utf8],
            _ => return plan_err!("No function matches the given name and argument types '{}'", self.name()),
        };
        Ok(wanted.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match self.of_text(types.first()) {
            Some(text) => text.return_type(types),
            None => Ok(self.result()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        match self.of_text(args.arg_fields.first().map(|f| f.data_type())) {
            Some(text) => text.return_field_from_args(args),
            None => Ok(Arc::new(Field::new(self.name(), self.result(), true))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        if let Some(text) = self.of_text(args.args.first().map(ColumnarValue::data_type).as_ref()) {
            return text.invoke_with_args(args);
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        self.call(&arrays).map(ColumnarValue::Array).map_err(to_datafusion)
    }
}

impl Bytes {
    fn call(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        match (self.work, arrays) {
            (Work::Part, [values, rest @ ..]) => part(values, rest),
            (Work::Length | Work::Octets, [values]) => {
                let values = cast(values, &DataType::LargeBinary).map_err(from_arrow)?;
                let mut builder = Int32Builder::new();
                values.as_binary::<i64>().iter().for_each(|v| builder.append_option(v.and_then(|v| i32::try_from(v.len()).ok())));
                Ok(Arc::new(builder.finish()))
            }
            (Work::ConvertFrom, [values, encodings]) => convert_from(values, encodings),
            (Work::ConvertTo, [values, encodings]) => convert_to(values, encodings),
            _ => Err(Error::internal("wrong number of arguments")),
        }
    }
}

/// `substring(bytes FROM start FOR count)`: positions start at 1; what lies before 1 counts but gives nothing.
fn part(values: &ArrayRef, rest: &[ArrayRef]) -> Result<ArrayRef> {
    let values = cast(values, &DataType::LargeBinary).map_err(from_arrow)?;
    let values = values.as_binary::<i64>();
    let rest = rest.iter().map(|a| cast(a, &DataType::Int64).map_err(from_arrow)).collect::<Result<Vec<_>>>()?;
    let mut builder = LargeBinaryBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) || rest.iter().any(|a| a.is_null(row)) {
            builder.append_null();
            continue;
        }
        let number = |i: usize| rest.get(i).map(|a| a.as_primitive::<Int64Type>().value(row));
        let value = values.value(row);
        let start = number(0).unwrap_or(1);
        let end = match number(1) {
            Some(count) if count < 0 => return Err(Error::new(Kind::InvalidArgument, "negative substring length not allowed")),
            Some(count) => start.saturating_add(count),
            None => i64::MAX,
        };
        let place = |at: i64| usize::try_from(at.max(1) - 1).unwrap_or(usize::MAX).min(value.len());
        builder.append_value(value.get(place(start)..place(end)).unwrap_or_default());
    }
    Ok(Arc::new(builder.finish()))
}

#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Latin1,
    Ascii,
}

fn encoding(name: &str) -> Result<Encoding> {
    match name.to_uppercase().replace(['-', '_'], "").as_str() {
        "UTF8" | "UNICODE" => Ok(Encoding::Utf8),
        "LATIN1" | "ISO88591" => Ok(Encoding::Latin1),
        "SQLASCII" => Ok(Encoding::Ascii),
        _ => Err(Error::new(Kind::InvalidArgument, format!("invalid encoding name \"{name}\""))),
    }
}

fn convert_from(values: &ArrayRef, encodings: &ArrayRef) -> Result<ArrayRef> {
    let spelled = values.data_type() == &DataType::Utf8;
    let encodings = encodings.as_string::<i32>();
    let mut builder = StringBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) || encodings.is_null(row) {
            builder.append_null();
            continue;
        }
        let read = if spelled { Some(input::bytea(values.as_string::<i32>().value(row))?) } else { None };
        let value = read.as_deref().unwrap_or_else(|| if spelled { &[] } else { values.as_binary::<i64>().value(row) });
        match encoding(encodings.value(row))? {
            Encoding::Latin1 => builder.append_value(value.iter().map(|b| char::from(*b)).collect::<String>()),
            Encoding::Utf8 | Encoding::Ascii => {
                let text = std::str::from_utf8(value).map_err(|e| {
                    let bytes: Vec<String> = value.iter().skip(e.valid_up_to()).take(4).map(|b| format!("0x{b:02x}")).collect();
                    Error::new(Kind::InvalidEncoding, format!("invalid byte sequence for encoding \"UTF8\": {}", bytes.join(" ")))
                })?;
                builder.append_value(text);
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn convert_to(values: &ArrayRef, encodings: &ArrayRef) -> Result<ArrayRef> {
    let (values, encodings) = (values.as_string::<i32>(), encodings.as_string::<i32>());
    let mut builder = LargeBinaryBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) || encodings.is_null(row) {
            builder.append_null();
            continue;
        }
        let text = values.value(row);
        match encoding(encodings.value(row))? {
            Encoding::Utf8 | Encoding::Ascii => builder.append_value(text.as_bytes()),
            Encoding::Latin1 => {
                let foreign = |c: char| {
                    let message = format!("character \"{c}\" of encoding \"UTF8\" has no equivalent in encoding \"LATIN1\"");
                    Error::new(Kind::InvalidEncoding, message)
                };
                builder.append_value(text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| foreign(c))).collect::<Result<Vec<u8>>>()?);
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let all = [
        (Work::Part, Some(unicode::substr())),
        (Work::Length, Some(unicode::character_length())),
        (Work::Octets, Some(string::octet_length())),
        (Work::ConvertFrom, None),
        (Work::ConvertTo, None),
    ];
    all.map(|(work, text)| ScalarUDF::new_from_impl(Bytes { work, text, signature: Signature::user_defined(Volatility::Immutable) }))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{Int64Array, LargeBinaryArray, StringArray};

    #[test]
    fn parts_of_bytes_start_at_one() {
        let value = Arc::new(LargeBinaryArray::from_vec(vec![b"abcdef"])) as ArrayRef;
        let part_of = |start: i64, count: i64| {
            let rest: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![start])), Arc::new(Int64Array::from(vec![count]))];
            part(&value, &rest).map(|a| a.as_binary::<i64>().value(0).to_vec())
        };
        assert_eq!(part_of(1, 4).unwrap(), b"abcd");
        assert_eq!(part_of(-1, 4).unwrap(), b"ab");
        assert_eq!(part_of(5, 10).unwrap(), b"ef");
        assert_eq!(part_of(9, 1).unwrap(), b"");
        assert!(part_of(1, -1).is_err());
    }

    #[test]
    fn text_is_decoded_or_refused() {
        let name = |n: &str| Arc::new(StringArray::from(vec![n])) as ArrayRef;
        let value = Arc::new(LargeBinaryArray::from_vec(vec![b"\xe9"])) as ArrayRef;
        assert_eq!(convert_from(&value, &name("latin1")).unwrap().as_string::<i32>().value(0), "é");
        assert_eq!(convert_from(&value, &name("UTF8")).unwrap_err().kind, Kind::InvalidEncoding);
        assert_eq!(convert_to(&name("é"), &name("LATIN1")).unwrap().as_binary::<i64>().value(0), b"\xe9");
    }
}
