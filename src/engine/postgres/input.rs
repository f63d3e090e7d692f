//! Text to values: the input functions of the types that Arrow's own cast does not read as PostgreSQL does.
//!
//! In: a column of text, or of numbers, and a type. Out: a column of the type. Invariant: text that does not spell a value
//! is 22P02 with PostgreSQL's message; nothing becomes NULL by being wrong. Deliberately absent: output (`output`).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Array, FixedSizeBinaryBuilder, Float32Builder, IntervalMonthDayNanoBuilder, LargeBinaryBuilder,
    ListArray, ListBuilder, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Date32Type, IntervalMonthDayNano};
use squilla_core::columns::Output;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::parse_bool;
use squilla_core::types::SqlType;
use squilla_core::values::Tensor;

use crate::postgres::{datetime, interval};

fn invalid(ty: &SqlType, text: &str) -> Error {
    Error::new(Kind::InvalidText, format!("invalid input syntax for type {}: \"{text}\"", ty.name()))
}

/// The error of text that is no value of a type of numbers or times: 22003 for a number that is too large, else 22P02.
fn unread(ty: &SqlType, text: &str) -> Error {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    match ty {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Error::new(Kind::OutOfRange, format!("value \"{text}\" is out of range for type {}", ty.name()))
        }
        SqlType::Numeric(_) if trimmed.parse::<f64>().is_ok_and(f64::is_finite) => Error::new(Kind::OutOfRange, "numeric field overflow"),
        _ => invalid(ty, text),
    }
}

/// `source` as a column of `ty`; `dimensions` is the n of `vector(n)`. Times without a zone are UTC.
pub fn convert(source: &ArrayRef, ty: &SqlType, dimensions: Option<usize>) -> Result<ArrayRef> {
    convert_in(source, ty, dimensions, "UTC")
}

/// [`convert`] where timestamptz values without a zone are of `zone`.
pub fn convert_in(source: &ArrayRef, ty: &SqlType, dimensions: Option<usize>, zone: &str) -> Result<ArrayRef> {
    let column = match source.data_type() {
        DataType::Null => new_null_array(&ty.arrow(), source.len()),
        DataType::Utf8 => from_text(source.as_string::<i32>(), ty, zone)?,
        DataType::LargeUtf8 | DataType::Utf8View => from_text(plain(source, &DataType::Utf8, ty)?.as_string::<i32>(), ty, zone)?,
        given if *given == ty.arrow() => Arc::clone(source),
        given => {
            let from = SqlType::of_arrow(given);
            let allowed = matches!(
                (&from, ty),
                (SqlType::Array(_), SqlType::Vector | SqlType::Array(_)) | (SqlType::Bytea, SqlType::Uuid | SqlType::Bit | SqlType::Bytea)
            ) || !matches!(
                ty,
                SqlType::Vector
                    | SqlType::Array(_)
                    | SqlType::File
                    | SqlType::Image
                    | SqlType::Audio
                    | SqlType::Tensor
                    | SqlType::Box2d
                    | SqlType::Json
                    | SqlType::Jsonb
                    | SqlType::Uuid
            );
            if !allowed {
                return Err(Error::new(Kind::CannotCoerce, format!("cannot cast type {} to {}", from.name(), ty.name())));
            }
            plain(source, &ty.arrow(), ty)?
        }
    };
    if let (SqlType::Vector, Some(wanted)) = (ty, dimensions) {
        let list = column.as_list::<i32>();
        if let Some(row) = (0..list.len()).find(|row| list.is_valid(*row) && list.value_length(*row) as usize != wanted) {
            return Err(Error::new(Kind::InvalidArgument, format!("expected {wanted} dimensions, not {}", list.value_length(row))));
        }
    }
    Ok(column)
}

fn plain(source: &ArrayRef, target: &DataType, ty: &SqlType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(source, target, &options).map_err(|e| match crate::error::from_arrow(e) {
        error if error.kind == Kind::Internal => {
            Error::new(Kind::CannotCoerce, format!("cannot cast type {} to {}", SqlType::of_arrow(source.data_type()).name(), ty.name()))
        }
        error => error,
    })
}

fn rows<'a>(source: &'a StringArray) -> impl Iterator<Item = Option<&'a str>> + 'a {
    source.iter()
}

fn from_text(source: &StringArray, ty: &SqlType, zone: &str) -> Result<ArrayRef> {
    Ok(match ty {
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name | SqlType::SingleChar | SqlType::Any | SqlType::Unknown => {
            Arc::new(source.clone())
        }
        SqlType::Vector => vectors(source)?,
        SqlType::Array(element) => arrays(source, element, zone)?,
        SqlType::Bool => {
            let mut builder = BooleanBuilder::new();
            for text in rows(source) {
                builder.append_option(text.map(|t| parse_bool(t.trim()).ok_or_else(|| invalid(ty, t))).transpose()?);
            }
            Arc::new(builder.finish())
        }
        SqlType::Uuid => uuids(source)?,
        SqlType::Json => {
            for text in rows(source).flatten() {
                serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| invalid(ty, text).detail(format!("{e}.")))?;
            }
            Arc::new(source.clone())
        }
        SqlType::Jsonb => {
            let mut builder = StringBuilder::new();
            for text in rows(source) {
                let value =
                    text.map(|t| serde_json::from_str::<serde_json::Value>(t).map_err(|e| invalid(ty, t).detail(format!("{e}.")))).transpose()?;
                builder.append_option(value.map(|v| {
                    let mut out = String::new();
                    jsonb(&v, &mut out);
                    out
                }));
            }
            Arc::new(builder.finish())
        }
        SqlType::Bytea => {
            let mut builder = LargeBinaryBuilder::new();
            for text in rows(source) {
                builder.append_option(text.map(bytea).transpose()?);
            }
            Arc::new(builder.finish())
        }
        SqlType::Bit => {
            let mut builder = LargeBinaryBuilder::new();
            for text in rows(source) {
                builder.append_option(text.map(bits).transpose()?);
            }
            Arc::new(builder.finish())
        }
        SqlType::Interval => {
            let mut builder = IntervalMonthDayNanoBuilder::new();
            for text in rows(source) {
                let parts = text.map(|t| interval::parse(t, None)).transpose()?;
                builder.append_option(parts.map(|p| IntervalMonthDayNano::new(p.months, p.days, p.nanos)));
            }
            Arc::new(builder.finish())
        }
        SqlType::Date => {
            let days = |t: &str| Ok(Date32Type::from_naive_date(datetime::read(t, ty)?.local.date()));
            Arc::new(rows(source).map(|t| t.map(days).transpose()).collect::<Result<Date32Array>>()?)
        }
        SqlType::Timestamp => {
            let micros = |t: &str| Ok(datetime::read(t, ty)?.local.and_utc().timestamp_micros());
            Arc::new(rows(source).map(|t| t.map(micros).transpose()).collect::<Result<TimestampMicrosecondArray>>()?)
        }
        SqlType::Timestamptz => {
            let micros = |t: &str| datetime::read(t, ty)?.instant(zone);
            let column = rows(source).map(|t| t.map(micros).transpose()).collect::<Result<TimestampMicrosecondArray>>()?;
            Arc::new(column.with_timezone("UTC"))
        }
        SqlType::File => files(source, ty)?,
        SqlType::Box2d => boxes(source, ty)?,
        SqlType::Tensor => tensors(source)?,
        SqlType::Image | SqlType::Audio | SqlType::Record(_) => {
            return Err(Error::new(Kind::CannotCoerce, format!("cannot cast type text to {}", ty.name())));
        }
        _ => {
            // Numbers and times: surrounding blanks are allowed.
            let trimmed: StringArray = rows(source).map(|t| t.map(str::trim)).collect();
            let options = CastOptions { safe: true, ..Default::default() };
            let column = cast_with_options(&trimmed, &ty.arrow(), &options).map_err(crate::error::from_arrow)?;
            if let Some(row) = (0..source.len()).find(|row| source.is_valid(*row) && column.is_null(*row)) {
                return Err(unread(ty, source.value(row)));
            }
            column
        }
    })
}

fn uuids(source: &StringArray) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::new(16);
    for text in rows(source) {
        match text {
            Some(t) => {
                let id = uuid::Uuid::parse_str(t.trim()).map_err(|_| invalid(&SqlType::Uuid, t))?;
                builder.append_value(id.as_bytes()).map_err(|e| Error::internal(e.to_string()))?;
            }
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The text of a jsonb value: keys once, by length and then by bytes, a blank after `:` and `,`.
pub fn jsonb(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<(&String, &serde_json::Value)> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
            out.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push_str(": ");
                jsonb(value, out);
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                jsonb(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `\x..` in hexadecimal, or the escape format.
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    let bad = || Error::new(Kind::InvalidText, "invalid input syntax for type bytea");
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        if !digits.len().is_multiple_of(2) {
            return Err(Error::invalid_argument("invalid hexadecimal data: odd number of digits"));
        }
        let digit = |b: u8| (b as char).to_digit(16).ok_or_else(|| Error::invalid_argument(format!("invalid hexadecimal digit: \"{}\"", b as char)));
        return digits.chunks(2).map(|pair| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'\\' {
            out.push(bytes[i]);
            i += 1;
        } else if bytes.get(i + 1) == Some(&b'\\') {
            out.push(b'\\');
            i += 2;
        } else {
            let octal = text.get(i + 1..i + 4).and_then(|d| u8::from_str_radix(d, 8).ok()).ok_or_else(bad)?;
            out.push(octal);
            i += 4;
        }
    }
    Ok(out)
}

fn bits(text: &str) -> Result<Vec<u8>> {
    if !text.len().is_multiple_of(8) {
        return Err(Error::new(Kind::InvalidText, format!("bit string length {} is not a multiple of 8", text.len())));
    }
    let bit = |b: &u8| match b {
        b'0' => Ok(0u8),
        b'1' => Ok(1),
        other => Err(Error::new(Kind::InvalidText, format!("\"{}\" is not a valid binary digit", *other as char))),
    };
    text.as_bytes().chunks(8).map(|chunk| chunk.iter().try_fold(0u8, |byte, b| Ok(byte << 1 | bit(b)?))).collect()
}

fn vectors(source: &StringArray) -> Result<ArrayRef> {
    let mut builder = ListBuilder::new(Float32Builder::new());
    for text in rows(source) {
        match text {
            Some(t) => {
                let body = t
                    .trim()
                    .strip_prefix('[')
                    .and_then(|b| b.strip_suffix(']'))
                    .ok_or_else(|| invalid(&SqlType::Vector, t).detail("Vector contents must start with \"[\" and end with \"]\".".to_owned()))?;
                for item in body.split(',') {
                    let value: f32 = item.trim().parse().map_err(|_| invalid(&SqlType::Vector, t))?;
                    if !value.is_finite() {
                        return Err(Error::new(Kind::OutOfRange, format!("\"{}\" is out of range for type vector", item.trim())));
                    }
                    builder.values().append_value(value);
                }
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The elements of an array literal, flattened over its dimensions.
pub fn array_elements(text: &str) -> Result<Vec<Option<String>>> {
    let bad = |why: &str| Error::new(Kind::InvalidText, format!("malformed array literal: \"{text}\"")).detail(why.to_owned());
    let body = text.trim();
    // Explicit lower bounds: [0:1]={..}
    let body = if body.starts_with('[') { body.split_once('=').map_or(body, |(_, rest)| rest.trim_start()) } else { body };
    let body = body.strip_prefix('{').ok_or_else(|| bad("Array value must start with \"{\" or dimension information."))?;
    let mut elements = Vec::new();
    let mut depth = 1;
    let mut current = String::new();
    let mut quoted = false;
    let mut any = false;
    let mut chars = body.chars();
    let finish = |current: &mut String, quoted: &mut bool, any: &mut bool, elements: &mut Vec<Option<String>>| {
        if *any {
            let value = if *quoted { std::mem::take(current) } else { std::mem::take(current).trim().to_owned() };
            elements.push(if !*quoted && value.eq_ignore_ascii_case("null") { None } else { Some(value) });
        }
        (*quoted, *any) = (false, false);
    };
    while let Some(c) = chars.next() {
        match c {
            '{' if !any => depth += 1,
            '}' => {
                finish(&mut current, &mut quoted, &mut any, &mut elements);
                depth -= 1;
                if depth == 0 {
                    return if chars.all(char::is_whitespace) { Ok(elements) } else { Err(bad("Junk after closing right brace.")) };
                }
            }
            ',' => finish(&mut current, &mut quoted, &mut any, &mut elements),
            '"' => {
                (quoted, any) = (true, true);
                current.clear();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => current.extend(chars.next()),
                        Some(c) => current.push(c),
                        None => return Err(bad("Unexpected end of input.")),
                    }
                }
            }
            '\\' => {
                any = true;
                current.extend(chars.next());
            }
            c if c.is_whitespace() && !any => {}
            c if quoted => {
                if !c.is_whitespace() {
                    return Err(bad("Incorrectly quoted array element."));
                }
            }
            c => {
                any = true;
                current.push(c);
            }
        }
    }
    Err(bad("Unexpected end of input."))
}

fn arrays(source: &StringArray, element: &SqlType, zone: &str) -> Result<ArrayRef> {
    let mut values = StringBuilder::new();
    let mut lengths = Vec::with_capacity(source.len());
    for text in rows(source) {
        let elements = text.map(array_elements).transpose()?.unwrap_or_default();
        lengths.push(elements.len());
        elements.iter().for_each(|e| values.append_option(e.as_deref()));
    }
    let values = from_text(&values.finish(), element, zone)?;
    list(values, lengths, source.nulls().cloned(), element)
}

fn list(values: ArrayRef, lengths: Vec<usize>, nulls: Option<NullBuffer>, element: &SqlType) -> Result<ArrayRef> {
    let list = ListArray::try_new(Arc::new(element.field("item")), OffsetBuffer::from_lengths(lengths), values, nulls);
    Ok(Arc::new(list.map_err(|e| Error::internal(format!("array input: {e}")))?))
}

fn files(source: &StringArray, ty: &SqlType) -> Result<ArrayRef> {
    let DataType::Struct(fields) = ty.arrow() else { return Err(Error::internal("file is no struct")) };
    let mut columns: Vec<ArrayRef> = vec![Arc::new(source.clone())];
    columns.extend(fields.iter().skip(1).map(|f| new_null_array(f.data_type(), source.len())));
    let files = StructArray::try_new(fields, columns, source.nulls().cloned());
    Ok(Arc::new(files.map_err(|e| Error::internal(format!("file input: {e}")))?))
}

/// `{"shape":[2,3],"dtype":"f32","data":[...]}`: as many numbers as the shape has places.
fn tensors(source: &StringArray) -> Result<ArrayRef> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Spelled {
        shape: Vec<i32>,
        #[serde(default)]
        dtype: Option<String>,
        data: Vec<f32>,
    }
    let one = |t: &str| {
        let spelled: Spelled = serde_json::from_str(t).map_err(|e| invalid(&SqlType::Tensor, t).detail(format!("{e}.")))?;
        if spelled.dtype.as_deref().is_some_and(|d| d != "f32") {
            return Err(invalid(&SqlType::Tensor, t).detail("The dtype of a tensor is f32."));
        }
        let shape = spelled.shape.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<usize>>>();
        let places = |shape: &Vec<usize>| shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match shape.filter(|s| places(s) == Some(spelled.data.len())) {
            Some(shape) => Ok(Tensor { data: spelled.data, shape }),
            None => Err(invalid(&SqlType::Tensor, t).detail("The shape does not fit the number of values.")),
        }
    };
    Tensor::build(rows(source).map(|t| t.map(one).transpose()).collect::<Result<Vec<_>>>()?)
}

/// `(x1,y1),(x2,y2)`, `[x1,y1,x2,y2]` or four numbers between commas.
fn boxes(source: &StringArray, ty: &SqlType) -> Result<ArrayRef> {
    let DataType::Struct(fields) = ty.arrow() else { return Err(Error::internal("box2d is no struct")) };
    let mut corners: [Float32Builder; 4] = std::array::from_fn(|_| Float32Builder::new());
    for text in rows(source) {
        let numbers: Option<Vec<f32>> = match text {
            Some(t) => {
                let bare: String = t.chars().filter(|c| !"()[]".contains(*c)).collect();
                let numbers: Vec<f32> = bare.split(',').map(|n| n.trim().parse::<f32>().map_err(|_| invalid(ty, t))).collect::<Result<_>>()?;
                if numbers.len() != 4 {
                    return Err(invalid(ty, t));
                }
                Some(numbers)
            }
            None => None,
        };
        for (i, builder) in corners.iter_mut().enumerate() {
            builder.append_option(numbers.as_ref().map(|n| n[i]));
        }
    }
    let columns = corners.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
    let boxes = StructArray::try_new(fields, columns, source.nulls().cloned());
    Ok(Arc::new(boxes.map_err(|e| Error::internal(format!("box2d input: {e}")))?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, ty: &str) -> Result<ArrayRef> {
        convert(&(Arc::new(StringArray::from(vec![Some(text), None])) as ArrayRef), &SqlType::parse(ty).unwrap(), None)
    }

    #[test]
    fn text_is_read_as_postgresql_reads_it() {
        let vector = read("[1, 2.5,-3]", "vector").unwrap();
        assert_eq!(vector.as_list::<i32>().value(0).as_primitive::<arrow::datatypes::Float32Type>().values(), &[1.0, 2.5, -3.0]);
        assert!(vector.is_null(1));
        let array = read("{1,NULL, 3}", "int4[]").unwrap();
        assert_eq!(array.data_type(), &SqlType::parse("int4[]").unwrap().arrow());
        assert!(array.as_list::<i32>().value(0).is_null(1));
        let quoted = array_elements("{\"a,b\",\"c\\\"d\",e f,null,\"null\",{x}}").unwrap();
        assert_eq!(quoted, [Some("a,b"), Some("c\"d"), Some("e f"), None, Some("null"), Some("x")].map(|o| o.map(str::to_owned)));
        assert!(array_elements("{}").unwrap().is_empty());
        assert_eq!(bytea("\\x00fF").unwrap(), [0, 255]);
        assert_eq!(bytea("a\\000\\\\b").unwrap(), [b'a', 0, b'\\', b'b']);
        assert_eq!(read("01000001", "bit").unwrap().as_binary::<i64>().value(0), b"A");
        assert!(read("yes", "boolean").unwrap().as_boolean().value(0));
        assert_eq!(read("file:///a.jpg", "file").unwrap().data_type(), &SqlType::File.arrow());
        assert!(read("(1,2),(3,4)", "box2d").unwrap().is_valid(0));
        assert!(read("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "uuid").unwrap().is_valid(0));
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        for (text, ty) in [
            ("1,2", "vector"),
            ("[1,x]", "vector"),
            ("{1", "int[]"),
            ("{a}", "int[]"),
            ("x", "integer"),
            ("{", "jsonb"),
            ("zz", "uuid"),
            ("1,2,3", "box2d"),
            ("maybe", "boolean"),
            ("012", "bit"),
        ] {
            assert_eq!(read(text, ty).unwrap_err().kind, Kind::InvalidText, "{text} as {ty}");
        }
        assert_eq!(read("x", "image").unwrap_err().kind, Kind::CannotCoerce);
        let three = Arc::new(StringArray::from(vec!["[1,2,3]"])) as ArrayRef;
        assert!(convert(&three, &SqlType::Vector, Some(3)).is_ok() && convert(&three, &SqlType::Vector, Some(4)).is_err());
        let numbers = Arc::new(arrow::array::Int32Array::from(vec![1])) as ArrayRef;
        assert_eq!(convert(&numbers, &SqlType::Vector, None).unwrap_err().kind, Kind::CannotCoerce);
    }
}
