//! One Arrow column to wire values: the type is looked at once a column, never once a row.
//!
//! In: an array in any Arrow encoding of its SQL type. Out: one value a row in [`Cells`], text or binary.
//! Invariant: exactly `array.len()` values are appended, or an error is returned.
//! Deliberately absent: arrays and records (nested), media (media), the layout of messages.

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, BinaryViewArray, FixedSizeBinaryArray, GenericBinaryArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::numeric;
use squilla_core::types::{RegKind, SqlType};
use std::sync::Arc;

use crate::encode::cells::Cells;
use crate::encode::interval::Parts;
use crate::encode::style::Style;
use crate::encode::zone::OffsetCache;
use crate::encode::{datetime, interval, media, nested, number};

/// Appends every value of `array` to `cells`.
pub fn column(cells: &mut Cells, array: &ArrayRef, ty: &SqlType, binary: bool, style: &Style) -> Result<()> {
    match array.data_type() {
        DataType::Null => {
            (0..array.len()).for_each(|_| cells.null());
            return Ok(());
        }
        DataType::Dictionary(_, values) => return column(cells, &to(array, values)?, ty, binary, style),
        DataType::RunEndEncoded(_, values) => return column(cells, &to(array, values.data_type())?, ty, binary, style),
        _ => {}
    }
    match ty {
        SqlType::Bool => booleans(cells, array, binary),
        SqlType::Int2 => ints::<Int16Type, 2>(cells, array, binary, i16::to_be_bytes),
        SqlType::Int4 => ints::<Int32Type, 4>(cells, array, binary, i32::to_be_bytes),
        SqlType::Int8 => ints::<Int64Type, 8>(cells, array, binary, i64::to_be_bytes),
        SqlType::Oid => oids(cells, array, None, binary, style),
        SqlType::Reg(kind) => oids(cells, array, Some(*kind), binary, style),
        SqlType::Float4 | SqlType::Float8 => floats(cells, array, ty, binary, style.extra_float_digits),
        SqlType::Numeric(_) => numerics(cells, array, binary),
        SqlType::Char(Some(width)) => padded(cells, array, *width as usize),
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(None) | SqlType::Name => texts(cells, array),
        SqlType::SingleChar => single_chars(cells, array, binary),
        SqlType::Json => json(cells, array, false),
        SqlType::Jsonb => json(cells, array, binary),
        SqlType::Bytea => bytea(cells, array, binary, style),
        SqlType::Bit => bits(cells, array, binary),
        SqlType::Uuid => uuids(cells, array, binary),
        SqlType::Date => dates(cells, array, binary, style),
        SqlType::Time => times(cells, array, binary),
        SqlType::Timestamp | SqlType::Timestamptz => timestamps(cells, array, matches!(ty, SqlType::Timestamptz), binary, style),
        SqlType::Interval => intervals(cells, array, binary, style),
        SqlType::Vector => media::vectors(cells, array, binary),
        SqlType::File => media::files(cells, array),
        SqlType::Image => media::images(cells, array, binary, style),
        SqlType::Audio => media::audios(cells, array),
        SqlType::Tensor => media::tensors(cells, array, binary),
        SqlType::Box2d => media::boxes(cells, array, binary),
        SqlType::Array(element) => nested::lists(cells, array, element, binary, style),
        SqlType::Int2Vector => nested::numbers(cells, array, &SqlType::Int2, binary),
        SqlType::OidVector => nested::numbers(cells, array, &SqlType::Oid, binary),
        SqlType::Record(fields) => nested::records(cells, array, fields, binary, style),
        SqlType::Void => {
            (0..array.len()).for_each(|_| cells.push(b""));
            Ok(())
        }
        SqlType::Any | SqlType::Unknown => match SqlType::of_arrow(array.data_type()) {
            SqlType::Any | SqlType::Unknown => texts(cells, array),
            known => column(cells, array, &known, binary, style),
        },
    }
}

/// Casts, and turns a refusal into our bug: the binder promised this type.
pub fn to(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    cast(array, wanted).map_err(|e| Error::internal(format!("a result column of Arrow type {} cannot be sent: {e}", array.data_type())))
}

/// Appends what `write` makes of each value, and NULL for nulls.
#[inline]
pub fn each<A: ArrayAccessor>(cells: &mut Cells, array: A, mut write: impl FnMut(&mut Vec<u8>, A::Item)) {
    cells.reserve(array.len(), 12);
    if array.null_count() == 0 {
        for i in 0..array.len() {
            cells.write(|out| write(out, array.value(i)));
        }
    } else {
        for i in 0..array.len() {
            if array.is_null(i) {
                cells.null();
            } else {
                cells.write(|out| write(out, array.value(i)));
            }
        }
    }
}

fn booleans(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    let array = to(array, &DataType::Boolean)?;
    let (yes, no) = if binary { (1, 0) } else { (b't', b'f') };
    each(cells, array.as_boolean(), |out, v| out.push(if v { yes } else { no }));
    Ok(())
}

/// "char" is one byte; in binary the empty value is the byte zero.
fn single_chars(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    if !binary {
        return texts(cells, array);
    }
    let array = to(array, &DataType::Utf8)?;
    each(cells, array.as_string::<i32>(), |out, v| out.push(v.as_bytes().first().copied().unwrap_or(0)));
    Ok(())
}

fn ints<T: ArrowPrimitiveType, const N: usize>(cells: &mut Cells, array: &ArrayRef, binary: bool, bytes: fn(T::Native) -> [u8; N]) -> Result<()>
where
    T::Native: itoa::Integer,
{
    let array = to(array, &T::DATA_TYPE)?;
    let array = array.as_primitive::<T>();
    if binary {
        each(cells, array, |out, v| out.extend_from_slice(&bytes(v)));
    } else {
        each(cells, array, number::int);
    }
    Ok(())
}

fn oids(cells: &mut Cells, array: &ArrayRef, kind: Option<RegKind>, binary: bool, style: &Style) -> Result<()> {
    if !binary && matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return texts(cells, array);
    }
    let array = to(array, &DataType::Int64)?;
    let array = array.as_primitive::<Int64Type>();
    each(cells, array, |out, v| {
        let oid = v as u32; // oids are unsigned and 32 bits wide; the wider column holds them without sign
        if binary {
            return out.extend_from_slice(&oid.to_be_bytes());
        }
        match kind {
            Some(_) if oid == 0 => out.push(b'-'),
            Some(kind) => match style.reg_names.as_ref().and_then(|names| names(kind, oid)) {
                Some(name) => out.extend_from_slice(name.as_bytes()),
                None => number::int(out, oid),
            },
            None => number::int(out, oid),
        }
    });
    Ok(())
}

fn floats(cells: &mut Cells, array: &ArrayRef, ty: &SqlType, binary: bool, digits: i32) -> Result<()> {
    if matches!(ty, SqlType::Float4) {
        let array = to(array, &DataType::Float32)?;
        let array = array.as_primitive::<Float32Type>();
        match binary {
            true => each(cells, array, |out, v| out.extend_from_slice(&v.to_be_bytes())),
            false => each(cells, array, |out, v| number::float4(out, v, digits)),
        }
    } else {
        let array = to(array, &DataType::Float64)?;
        let array = array.as_primitive::<Float64Type>();
        match binary {
            true => each(cells, array, |out, v| out.extend_from_slice(&v.to_be_bytes())),
            false => each(cells, array, |out, v| number::float8(out, v, digits)),
        }
    }
    Ok(())
}

fn numerics(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    let mut scratch = Vec::with_capacity(48);
    let mut finish = |out: &mut Vec<u8>, write: &dyn Fn(&mut Vec<u8>)| {
        if binary {
            scratch.clear();
            write(&mut scratch);
            number::numeric_binary(out, &scratch);
        } else {
            write(out);
        }
    };
    let style = numeric::style(array.data_type());
    match array.data_type() {
        DataType::Decimal128(_, scale) if style != numeric::Style::Exact => {
            let scale = *scale;
            let shown = |v: i128| numeric::text(&v.to_string(), scale, style);
            each(cells, array.as_primitive::<Decimal128Type>(), |out, v| finish(out, &|o| o.extend_from_slice(shown(v).as_bytes())));
        }
        DataType::Decimal256(_, scale) if style != numeric::Style::Exact => {
            let scale = *scale;
            each(cells, array.as_primitive::<Decimal256Type>(), |out, v| {
                finish(out, &|o| o.extend_from_slice(numeric::text(&v.to_string(), scale, style).as_bytes()));
            });
        }
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            each(cells, array.as_primitive::<Decimal128Type>(), |out, v| finish(out, &|o| number::decimal(o, v, scale)));
        }
        DataType::Decimal32(p, scale) | DataType::Decimal64(p, scale) => {
            return numerics(cells, &to(array, &DataType::Decimal128(*p, *scale))?, binary);
        }
        DataType::Decimal256(_, scale) => {
            let scale = *scale;
            each(cells, array.as_primitive::<Decimal256Type>(), |out, v| finish(out, &|o| number::decimal_text(o, &v.to_string(), scale)));
        }
        DataType::Float32 | DataType::Float64 => {
            let array = to(array, &DataType::Float64)?;
            each(cells, array.as_primitive::<Float64Type>(), |out, v| {
                finish(out, &|o| {
                    if v.is_finite() { o.extend_from_slice(v.to_string().as_bytes()) } else { number::float8(o, v, 1) }
                });
            });
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let array = to(array, &DataType::LargeUtf8)?;
            each(cells, array.as_string::<i64>(), |out, v| finish(out, &|o| o.extend_from_slice(v.as_bytes())));
        }
        _ => {
            let array = to(array, &DataType::Decimal128(38, 0))?;
            each(cells, array.as_primitive::<Decimal128Type>(), |out, v| finish(out, &|o| number::decimal(o, v, 0)));
        }
    }
    Ok(())
}

fn texts(cells: &mut Cells, array: &ArrayRef) -> Result<()> {
    match array.data_type() {
        DataType::Utf8 => each(cells, array.as_string::<i32>(), |out, v| out.extend_from_slice(v.as_bytes())),
        DataType::LargeUtf8 => each(cells, array.as_string::<i64>(), |out, v| out.extend_from_slice(v.as_bytes())),
        DataType::Utf8View => {
            let array: &StringViewArray = array.as_string_view();
            each(cells, array, |out, v| out.extend_from_slice(v.as_bytes()));
        }
        _ => {
            let array = to(array, &DataType::LargeUtf8)?;
            each(cells, array.as_string::<i64>(), |out, v| out.extend_from_slice(v.as_bytes()));
        }
    }
    Ok(())
}

fn padded(cells: &mut Cells, array: &ArrayRef, width: usize) -> Result<()> {
    let array = to(array, &DataType::LargeUtf8)?;
    each(cells, array.as_string::<i64>(), |out, v| {
        out.extend_from_slice(v.as_bytes());
        let blanks = width.saturating_sub(v.chars().count());
        out.resize(out.len() + blanks, b' ');
    });
    Ok(())
}

/// `versioned` puts the version byte of jsonb's binary form in front.
fn json(cells: &mut Cells, array: &ArrayRef, versioned: bool) -> Result<()> {
    let version: &[u8] = if versioned { &[1] } else { &[] };
    if matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::LargeBinary) {
        let array = to(array, &DataType::LargeUtf8)?;
        each(cells, array.as_string::<i64>(), |out, v| {
            out.extend_from_slice(version);
            out.extend_from_slice(v.as_bytes());
        });
        return Ok(());
    }
    let field = Arc::new(Field::new("value", array.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, array, &options)
        .map_err(|e| Error::unsupported(format!("a value of Arrow type {} has no JSON form: {e}", array.data_type())))?;
    for row in 0..array.len() {
        if encoder.is_null(row) {
            cells.null();
        } else {
            cells.write(|out| {
                out.extend_from_slice(version);
                encoder.encode(row, out);
            });
        }
    }
    Ok(())
}

/// Calls `write` with the bytes of each value of any binary encoding.
fn each_bytes(cells: &mut Cells, array: &ArrayRef, write: impl FnMut(&mut Vec<u8>, &[u8])) -> Result<()> {
    match array.data_type() {
        DataType::Binary => each(cells, array.as_binary::<i32>() as &GenericBinaryArray<i32>, write),
        DataType::LargeBinary => each(cells, array.as_binary::<i64>() as &GenericBinaryArray<i64>, write),
        DataType::BinaryView => each(cells, array.as_binary_view() as &BinaryViewArray, write),
        DataType::FixedSizeBinary(_) => each(cells, array.as_fixed_size_binary() as &FixedSizeBinaryArray, write),
        _ => each(cells, to(array, &DataType::LargeBinary)?.as_binary::<i64>() as &GenericBinaryArray<i64>, write),
    }
    Ok(())
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `\x` and two digits a byte, or the octets with backslashes where they do not print.
pub fn bytea_text(out: &mut Vec<u8>, bytes: &[u8], hex: bool) {
    if hex {
        out.reserve(2 + bytes.len() * 2);
        out.extend_from_slice(b"\\x");
        for byte in bytes {
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        return;
    }
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(*byte),
            _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
        }
    }
}

fn bytea(cells: &mut Cells, array: &ArrayRef, binary: bool, style: &Style) -> Result<()> {
    if binary {
        return each_bytes(cells, array, |out, v| out.extend_from_slice(v));
    }
    let longest = i32::MAX as usize / 2 - 16;
    let mut too_long = false;
    each_bytes(cells, array, |out, v| {
        if v.len() < longest {
            bytea_text(out, v, style.bytea_hex);
        } else {
            too_long = true;
        }
    })?;
    if too_long {
        return Err(Error::new(Kind::LimitExceeded, "bytea value is too large for the text format")
            .hint("Fetch it in the binary format, or store it with COPY."));
    }
    Ok(())
}

fn bits(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    each_bytes(cells, array, |out, v| {
        if binary {
            out.extend_from_slice(&(v.len() as i32 * 8).to_be_bytes());
            out.extend_from_slice(v);
        } else {
            out.extend(v.iter().flat_map(|byte| (0..8).rev().map(move |bit| b'0' + (byte >> bit & 1))));
        }
    })
}

fn uuids(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    if matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        if !binary {
            return texts(cells, array);
        }
        let array = to(array, &DataType::LargeUtf8)?;
        each(cells, array.as_string::<i64>(), |out, v| {
            let digits: Vec<u8> = v.bytes().filter_map(|b| (b as char).to_digit(16).map(|d| d as u8)).collect();
            out.extend(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
        });
        return Ok(());
    }
    each_bytes(cells, array, |out, v| {
        if binary {
            return out.extend_from_slice(v);
        }
        for (i, byte) in v.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                out.push(b'-');
            }
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    })
}

fn dates(cells: &mut Cells, array: &ArrayRef, binary: bool, style: &Style) -> Result<()> {
    let array = to(array, &DataType::Date32)?;
    let array = array.as_primitive::<Date32Type>();
    match binary {
        true => each(cells, array, |out, v| out.extend_from_slice(&datetime::date_binary(v))),
        false => each(cells, array, |out, v| datetime::date(out, style, v)),
    }
    Ok(())
}

fn times(cells: &mut Cells, array: &ArrayRef, binary: bool) -> Result<()> {
    let array = to(array, &DataType::Time64(TimeUnit::Microsecond))?;
    let array = array.as_primitive::<Time64MicrosecondType>();
    match binary {
        true => each(cells, array, |out, v| out.extend_from_slice(&v.to_be_bytes())),
        false => each(cells, array, datetime::time),
    }
    Ok(())
}

fn timestamps(cells: &mut Cells, array: &ArrayRef, zoned: bool, binary: bool, style: &Style) -> Result<()> {
    let cache = OffsetCache::default();
    let write = |out: &mut Vec<u8>, us: i64| match (binary, zoned) {
        (true, _) => out.extend_from_slice(&datetime::timestamp_binary(us)),
        (false, true) => datetime::timestamptz(out, style, &cache, us),
        (false, false) => datetime::timestamp(out, style, us),
    };
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => each(cells, array.as_primitive::<TimestampMicrosecondType>(), write),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            each(cells, array.as_primitive::<TimestampNanosecondType>(), |out, v| write(out, v.div_euclid(1000)))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            each(cells, array.as_primitive::<TimestampMillisecondType>(), |out, v| write(out, v.saturating_mul(1000)))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            each(cells, array.as_primitive::<TimestampSecondType>(), |out, v| write(out, v.saturating_mul(1_000_000)))
        }
        _ => each(cells, to(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?.as_primitive::<TimestampMicrosecondType>(), write),
    }
    Ok(())
}

fn intervals(cells: &mut Cells, array: &ArrayRef, binary: bool, style: &Style) -> Result<()> {
    let write = |out: &mut Vec<u8>, parts: Parts| match binary {
        true => out.extend_from_slice(&parts.binary()),
        false => interval::interval(out, style.interval_style, parts),
    };
    match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            each(cells, array.as_primitive::<IntervalMonthDayNanoType>(), |out, v| {
                write(out, Parts { months: v.months, days: v.days, us: v.nanoseconds / 1000 })
            });
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            each(cells, array.as_primitive::<IntervalYearMonthType>(), |out, v| write(out, Parts { months: v, days: 0, us: 0 }));
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            each(cells, array.as_primitive::<IntervalDayTimeType>(), |out, v| {
                write(out, Parts { months: 0, days: v.days, us: i64::from(v.milliseconds) * 1000 })
            });
        }
        DataType::Duration(TimeUnit::Second) => {
            each(cells, array.as_primitive::<DurationSecondType>(), |out, v| write(out, Parts::of_span(v.saturating_mul(1_000_000))))
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            each(cells, array.as_primitive::<DurationMillisecondType>(), |out, v| write(out, Parts::of_span(v.saturating_mul(1000))))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            each(cells, array.as_primitive::<DurationMicrosecondType>(), |out, v| write(out, Parts::of_span(v)))
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            each(cells, array.as_primitive::<DurationNanosecondType>(), |out, v| write(out, Parts::of_span(v / 1000)))
        }
        other => return Err(Error::internal(format!("Arrow type {other} is not an interval"))),
    }
    Ok(())
}
