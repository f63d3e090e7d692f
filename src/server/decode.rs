//! Values from clients: parameters and COPY FROM STDIN to Arrow.
//!
//! In: text or binary bytes of a declared SQL type. Out: Arrow columns of `SqlType::arrow()`, or PostgreSQL's error for
//! that type. Invariant: bytes are checked before they are believed (lengths, UTF-8, NUL). Deliberately absent: the
//! catalog; a regclass by name is looked up through [`Input::reg_oids`].

pub mod array;
pub mod datetime;
pub mod interval;
pub mod text;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder,
    Int64Builder, IntervalMonthDayNanoBuilder, LargeBinaryBuilder, ListArray, StringBuilder, StructArray, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::{RegKind, SqlType};

use crate::decode::datetime::Clock;
use crate::encode::datetime::{EPOCH_DAYS, EPOCH_US};
use crate::encode::interval::Parts;

/// Finds the oid behind a name.
pub type RegOids = Arc<dyn Fn(RegKind, &str) -> Result<u32> + Send + Sync>;

/// What reading values depends on.
#[derive(Clone)]
pub struct Input {
    /// Zone, order of day and month, and the time now.
    pub clock: Clock,
    /// Names to oids; without it only numbers are taken.
    pub reg_oids: Option<RegOids>,
}

enum Store {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Bytes(LargeBinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    List { field: Arc<Field>, lengths: Vec<usize>, valid: Vec<bool>, items: Box<ColumnReader> },
    Struct { fields: Fields, columns: Vec<ColumnReader>, valid: Vec<bool> },
    Null(usize),
}

/// Reads the values of one column.
pub struct ColumnReader {
    ty: SqlType,
    store: Store,
}

fn no_input(ty: &SqlType) -> Error {
    Error::unsupported(format!("cannot accept a value of type {}", ty.name()))
}

/// The bytes as text: UTF-8 without NUL.
pub fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        let shown: Vec<String> = bytes[at..].iter().take(e.error_len().unwrap_or(1)).map(|b| format!("0x{b:02x}")).collect();
        Error::new(Kind::InvalidEncoding, format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
    })?;
    if text.as_bytes().contains(&0) {
        return Err(Error::new(Kind::InvalidEncoding, "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    Ok(text)
}

/// Exactly N bytes, or the error of a binary parameter of the wrong size.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        let what = if bytes.len() < N { "insufficient data left in message" } else { "incorrect binary data format" };
        Error::new(if bytes.len() < N { Kind::ProtocolViolation } else { Kind::InvalidBinary }, what)
    })
}

impl ColumnReader {
    /// A reader of values of `ty`.
    pub fn new(ty: &SqlType) -> Result<Self> {
        let store = match ty {
            SqlType::Bool => Store::Bool(BooleanBuilder::new()),
            SqlType::Int2 => Store::Int2(Int16Builder::new()),
            SqlType::Int4 => Store::Int4(Int32Builder::new()),
            SqlType::Int8 | SqlType::Oid | SqlType::Reg(_) => Store::Int8(Int64Builder::new()),
            SqlType::Float4 => Store::Float4(Float32Builder::new()),
            SqlType::Float8 => Store::Float8(Float64Builder::new()),
            SqlType::Numeric(_) => match ty.arrow() {
                DataType::Decimal128(p, s) => Store::Numeric(Decimal128Builder::new().with_data_type(DataType::Decimal128(p, s)), p, s),
                _ => return Err(no_input(ty)),
            },
            SqlType::Text
            | SqlType::Varchar(_)
            | SqlType::Char(_)
            | SqlType::Name
            | SqlType::SingleChar
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Any
            | SqlType::Unknown => Store::Text(StringBuilder::new()),
            SqlType::Bytea | SqlType::Bit => Store::Bytes(LargeBinaryBuilder::new()),
            SqlType::Uuid => Store::Uuid(FixedSizeBinaryBuilder::new(16)),
            SqlType::Date => Store::Date(Date32Builder::new()),
            SqlType::Time => Store::Time(Time64MicrosecondBuilder::new()),
            SqlType::Timestamp | SqlType::Timestamptz => Store::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(ty.arrow())),
            SqlType::Interval => Store::Interval(IntervalMonthDayNanoBuilder::new()),
            SqlType::Vector => list(SqlType::Vector.arrow(), &SqlType::Float4)?,
            SqlType::Array(element) => list(ty.arrow(), element)?,
            SqlType::Int2Vector => list(ty.arrow(), &SqlType::Int2)?,
            SqlType::OidVector => list(ty.arrow(), &SqlType::Oid)?,
            SqlType::File => structure(ty, &[SqlType::Text, SqlType::Int8, SqlType::Text, SqlType::Timestamptz, SqlType::Text])?,
            SqlType::Box2d => structure(ty, &[SqlType::Float4, SqlType::Float4, SqlType::Float4, SqlType::Float4])?,
            SqlType::Void => Store::Null(0),
            SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Record(_) => return Err(no_input(ty)),
        };
        Ok(Self { ty: ty.clone(), store })
    }

    /// Appends NULL.
    pub fn null(&mut self) {
        match &mut self.store {
            Store::Bool(b) => b.append_null(),
            Store::Int2(b) => b.append_null(),
            Store::Int4(b) => b.append_null(),
            Store::Int8(b) => b.append_null(),
            Store::Float4(b) => b.append_null(),
            Store::Float8(b) => b.append_null(),
            Store::Numeric(b, _, _) => b.append_null(),
            Store::Text(b) => b.append_null(),
            Store::Bytes(b) => b.append_null(),
            Store::Uuid(b) => b.append_null(),
            Store::Date(b) => b.append_null(),
            Store::Time(b) => b.append_null(),
            Store::Timestamp(b) => b.append_null(),
            Store::Interval(b) => b.append_null(),
            Store::List { lengths, valid, .. } => {
                lengths.push(0);
                valid.push(false);
            }
            Store::Struct { columns, valid, .. } => {
                columns.iter_mut().for_each(ColumnReader::null);
                valid.push(false);
            }
            Store::Null(rows) => *rows += 1,
        }
    }

    /// Appends the value written as `value`.
    pub fn text(&mut self, value: &str, input: &Input) -> Result<()> {
        match &mut self.store {
            Store::Bool(b) => b.append_value(text::boolean(value)?),
            Store::Int2(b) => b.append_value(text::int("smallint", value)?),
            Store::Int4(b) => b.append_value(text::int("integer", value)?),
            Store::Int8(b) => b.append_value(match &self.ty {
                SqlType::Int8 => text::int("bigint", value)?,
                SqlType::Reg(kind) => reg(*kind, value, input)?,
                _ => i64::from(text::int::<u32>("oid", value)?),
            }),
            Store::Float4(b) => b.append_value(text::float4(value)?),
            Store::Float8(b) => b.append_value(text::float8(value)?),
            Store::Numeric(b, precision, scale) => b.append_value(fit(text::numeric(value)?, *precision, *scale)?),
            Store::Text(b) => b.append_value(check_text(&self.ty, value)?),
            Store::Bytes(b) if self.ty == SqlType::Bit => b.append_value(text::bits(value)?),
            Store::Bytes(b) => b.append_value(text::bytea(value)?),
            Store::Uuid(b) => b.append_value(text::uuid(value)?).map_err(|e| Error::internal(e.to_string()))?,
            Store::Date(b) => b.append_value(datetime::date(value, &input.clock)?),
            Store::Time(b) => b.append_value(datetime::time(value, &input.clock)?),
            Store::Timestamp(b) if self.ty == SqlType::Timestamp => b.append_value(datetime::timestamp(value, &input.clock)?),
            Store::Timestamp(b) => b.append_value(datetime::timestamptz(value, &input.clock)?),
            Store::Interval(b) => b.append_value(nanos(interval::interval(value)?, value)?),
            Store::List { lengths, valid, items, .. } if self.ty == SqlType::Vector => floats(items, lengths, valid, &text::vector(value)?),
            Store::List { lengths, valid, items, .. } => {
                let pieces = array::from_text(value)?;
                one_dimension(&pieces)?;
                for element in &pieces.elements {
                    match element {
                        Some(bytes) => items.text(utf8(bytes)?, input)?,
                        None => items.null(),
                    }
                }
                lengths.push(pieces.elements.len());
                valid.push(true);
            }
            Store::Struct { columns, valid, .. } => {
                if self.ty == SqlType::File {
                    let (uri, rest) = columns.split_at_mut(1);
                    uri.iter_mut().try_for_each(|c| c.text(value, input))?;
                    rest.iter_mut().for_each(ColumnReader::null);
                } else {
                    let corners = text::box2d(value)?;
                    columns.iter_mut().zip(corners).for_each(|(c, v)| c.float4(v));
                }
                valid.push(true);
            }
            Store::Null(rows) => *rows += 1,
        }
        Ok(())
    }

    /// Appends the value whose binary form is `bytes`.
    pub fn binary(&mut self, bytes: &[u8], input: &Input) -> Result<()> {
        match &mut self.store {
            Store::Bool(b) => b.append_value(exactly::<1>(bytes)?[0] != 0),
            Store::Int2(b) => b.append_value(i16::from_be_bytes(exactly(bytes)?)),
            Store::Int4(b) => b.append_value(i32::from_be_bytes(exactly(bytes)?)),
            Store::Int8(b) if self.ty == SqlType::Int8 => b.append_value(i64::from_be_bytes(exactly(bytes)?)),
            Store::Int8(b) => b.append_value(i64::from(u32::from_be_bytes(exactly(bytes)?))),
            Store::Float4(b) => b.append_value(f32::from_be_bytes(exactly(bytes)?)),
            Store::Float8(b) => b.append_value(f64::from_be_bytes(exactly(bytes)?)),
            Store::Numeric(..) => return self.text(&text::numeric_from_binary(bytes)?, input),
            Store::Text(_) if self.ty == SqlType::Jsonb => {
                return match bytes.split_first() {
                    Some((1, rest)) => self.text(utf8(rest)?, input),
                    _ => Err(Error::new(Kind::InvalidBinary, "unsupported jsonb version number")),
                };
            }
            // An empty "char" is the byte zero.
            Store::Text(_) if self.ty == SqlType::SingleChar && bytes == [0] => return self.text("", input),
            Store::Text(_) | Store::Null(_) => return self.text(utf8(bytes)?, input),
            Store::Bytes(b) if self.ty == SqlType::Bit => {
                let bits = bytes.get(..4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).unwrap_or(u32::MAX);
                if bits as usize != (bytes.len() - bytes.len().min(4)) * 8 {
                    return Err(Error::new(Kind::InvalidBinary, "invalid length in external bit string"));
                }
                b.append_value(&bytes[4..]);
            }
            Store::Bytes(b) => b.append_value(bytes),
            Store::Uuid(b) => b.append_value(exactly::<16>(bytes)?).map_err(|e| Error::internal(e.to_string()))?,
            Store::Date(b) => b.append_value(match i32::from_be_bytes(exactly(bytes)?) {
                extreme @ (i32::MIN | i32::MAX) => extreme,
                days => days.checked_add(EPOCH_DAYS).ok_or_else(|| Error::new(Kind::InvalidDatetime, "date out of range"))?,
            }),
            Store::Time(b) => b.append_value(match i64::from_be_bytes(exactly(bytes)?) {
                us @ 0..=86_400_000_000 => us,
                _ => return Err(Error::new(Kind::InvalidDatetime, "time out of range")),
            }),
            Store::Timestamp(b) => b.append_value(match i64::from_be_bytes(exactly(bytes)?) {
                extreme @ (i64::MIN | i64::MAX) => extreme,
                us => us.checked_add(EPOCH_US).ok_or_else(|| Error::new(Kind::InvalidDatetime, "timestamp out of range"))?,
            }),
            Store::Interval(b) => {
                let all: [u8; 16] = exactly(bytes)?;
                let [u0, u1, u2, u3, u4, u5, u6, u7, d0, d1, d2, d3, m0, m1, m2, m3] = all;
                let us = i64::from_be_bytes([u0, u1, u2, u3, u4, u5, u6, u7]);
                let parts = Parts { months: i32::from_be_bytes([m0, m1, m2, m3]), days: i32::from_be_bytes([d0, d1, d2, d3]), us };
                b.append_value(nanos(parts, "binary value")?);
            }
            Store::List { lengths, valid, items, .. } if self.ty == SqlType::Vector => {
                let count = bytes.get(..2).map_or(usize::MAX, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                if bytes.len() < 4 || bytes.len() - 4 != count.saturating_mul(4) {
                    return Err(Error::new(Kind::InvalidBinary, "invalid binary vector value"));
                }
                let values: Vec<f32> = bytes[4..].chunks_exact(4).map(|b| f32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
                floats(items, lengths, valid, &values);
            }
            Store::List { lengths, valid, items, .. } => {
                let pieces = array::from_binary(bytes)?;
                one_dimension(&pieces)?;
                for element in &pieces.elements {
                    match element {
                        Some(bytes) => items.binary(bytes, input)?,
                        None => items.null(),
                    }
                }
                lengths.push(pieces.elements.len());
                valid.push(true);
            }
            Store::Struct { columns, valid, .. } => {
                if self.ty == SqlType::File {
                    return self.text(utf8(bytes)?, input);
                }
                let all: [u8; 32] = exactly(bytes)?;
                for (column, b) in columns.iter_mut().zip(all.chunks_exact(8)) {
                    column.float4(f64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32);
                }
                valid.push(true);
            }
        }
        Ok(())
    }

    fn float4(&mut self, value: f32) {
        if let Store::Float4(b) = &mut self.store {
            b.append_value(value);
        }
    }

    /// The column; the reader is empty afterwards.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let bad = |e: arrow::error::ArrowError| Error::internal(e.to_string());
        Ok(match &mut self.store {
            Store::Bool(b) => Arc::new(b.finish()),
            Store::Int2(b) => Arc::new(b.finish()),
            Store::Int4(b) => Arc::new(b.finish()),
            Store::Int8(b) => Arc::new(b.finish()),
            Store::Float4(b) => Arc::new(b.finish()),
            Store::Float8(b) => Arc::new(b.finish()),
            Store::Numeric(b, _, _) => Arc::new(b.finish()),
            Store::Text(b) => Arc::new(b.finish()),
            Store::Bytes(b) => Arc::new(b.finish()),
            Store::Uuid(b) => Arc::new(b.finish()),
            Store::Date(b) => Arc::new(b.finish()),
            Store::Time(b) => Arc::new(b.finish()),
            Store::Timestamp(b) => Arc::new(b.finish()),
            Store::Interval(b) => Arc::new(b.finish()),
            Store::List { field, lengths, valid, items } => {
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                let nulls = NullBuffer::from(std::mem::take(valid));
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, items.finish()?, Some(nulls)).map_err(bad)?)
            }
            Store::Struct { fields, columns, valid } => {
                let columns = columns.iter_mut().map(ColumnReader::finish).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(fields.clone(), columns, Some(NullBuffer::from(std::mem::take(valid)))).map_err(bad)?)
            }
            Store::Null(rows) => new_null_array(&DataType::Null, std::mem::take(rows)),
        })
    }
}

fn list(ty: DataType, element: &SqlType) -> Result<Store> {
    let DataType::List(field) = ty else { return Err(Error::internal("an array type is no list")) };
    Ok(Store::List { field, lengths: Vec::new(), valid: Vec::new(), items: Box::new(ColumnReader::new(element)?) })
}

fn structure(ty: &SqlType, columns: &[SqlType]) -> Result<Store> {
    let DataType::Struct(fields) = ty.arrow() else { return Err(Error::internal("a composite type is no struct")) };
    Ok(Store::Struct { fields, columns: columns.iter().map(ColumnReader::new).collect::<Result<_>>()?, valid: Vec::new() })
}

fn floats(items: &mut ColumnReader, lengths: &mut Vec<usize>, valid: &mut Vec<bool>, values: &[f32]) {
    values.iter().for_each(|v| items.float4(*v));
    lengths.push(values.len());
    valid.push(true);
}

fn one_dimension(pieces: &array::Pieces<'_>) -> Result<()> {
    if pieces.sizes.len() > 1 {
        return Err(Error::unsupported("arrays of more than one dimension cannot be stored in a column of this type"));
    }
    Ok(())
}

fn reg(kind: RegKind, value: &str, input: &Input) -> Result<i64> {
    match (value.trim().parse::<u32>(), value.trim(), &input.reg_oids) {
        (Ok(oid), _, _) => Ok(i64::from(oid)),
        (_, "-", _) => Ok(0),
        (_, name, Some(names)) => names(kind, name).map(i64::from),
        _ => Err(text::bad(&SqlType::Reg(kind).name(), value)),
    }
}

fn fit((value, from): (i128, i8), precision: u8, scale: i8) -> Result<i128> {
    let limit = 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    text::rescale(value, from, scale).filter(|v| v.unsigned_abs() < limit.unsigned_abs()).ok_or_else(|| {
        Error::new(Kind::OutOfRange, "numeric field overflow").detail(format!(
            "A field with precision {precision}, scale {scale} holds at most {} digits before the point.",
            i16::from(precision) - i16::from(scale)
        ))
    })
}

fn nanos(parts: Parts, text: &str) -> Result<IntervalMonthDayNano> {
    let ns = parts.us.checked_mul(1000).ok_or_else(|| Error::new(Kind::InvalidDatetime, format!("interval field value out of range: \"{text}\"")))?;
    Ok(IntervalMonthDayNano::new(parts.months, parts.days, ns))
}

fn check_text<'a>(ty: &SqlType, value: &'a str) -> Result<&'a str> {
    match ty {
        SqlType::Varchar(Some(n)) | SqlType::Char(Some(n)) => {
            let length = *n as usize;
            match value.char_indices().nth(length) {
                Some((at, _)) if value[at..].trim_end_matches(' ').is_empty() => Ok(&value[..at]),
                Some(_) => Err(Error::new(Kind::StringTooLong, format!("value too long for type {}({length})", ty.name()))),
                None => Ok(value),
            }
        }
        SqlType::Json | SqlType::Jsonb => match serde_json::from_str::<serde_json::Value>(value) {
            Ok(_) => Ok(value),
            Err(e) => Err(Error::new(Kind::InvalidText, "invalid input syntax for type json").detail(format!("{e}."))),
        },
        _ => Ok(value),
    }
}

/// One value as an array of length 1. Arrays of more than one dimension become lists of lists, and a numeric without
/// declared precision keeps the scale it was written with.
pub fn value(ty: &SqlType, bytes: Option<&[u8]>, binary: bool, input: &Input) -> Result<ArrayRef> {
    let Some(bytes) = bytes else { return Ok(new_null_array(&ty.arrow(), 1)) };
    let ty = match ty {
        SqlType::Numeric(None) => {
            let written = if binary { text::numeric_from_binary(bytes)? } else { utf8(bytes)?.to_owned() };
            let (_, scale) = text::numeric(&written)?;
            &SqlType::Numeric(Some((38, scale)))
        }
        SqlType::Array(element) => {
            let pieces = if binary { array::from_binary(bytes)? } else { array::from_text(utf8(bytes)?)? };
            if pieces.sizes.len() > 1 {
                return matrix(element, &pieces, binary, input);
            }
            ty
        }
        // A value nobody could type is its text.
        SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Record(_) => return Err(no_input(ty)),
        _ => ty,
    };
    let mut reader = ColumnReader::new(ty)?;
    if binary {
        reader.binary(bytes, input)?
    } else {
        reader.text(utf8(bytes)?, input)?
    }
    reader.finish()
}

fn matrix(element: &SqlType, pieces: &array::Pieces<'_>, binary: bool, input: &Input) -> Result<ArrayRef> {
    let mut items = ColumnReader::new(element)?;
    for piece in &pieces.elements {
        match piece {
            Some(bytes) if binary => items.binary(bytes, input)?,
            Some(bytes) => items.text(utf8(bytes)?, input)?,
            None => items.null(),
        }
    }
    let mut array = items.finish()?;
    let mut field = element.field("item");
    for size in pieces.sizes.iter().rev() {
        let count = array.len() / (*size).max(1);
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(*size, count));
        let list = ListArray::try_new(Arc::new(field), offsets, array, None).map_err(|e| Error::internal(e.to_string()))?;
        array = Arc::new(list);
        field = Field::new("item", array.data_type().clone(), true);
    }
    Ok(array)
}

#[cfg(test)]
mod tests;
