//! Values to text: what `x::text` gives for types that Arrow's own cast prints in another way than PostgreSQL.
//!
//! In: a column, its type, and the session's time zone. Out: a column of text. Invariant: the text reads back to the value
//! where the type has an input form. Deliberately absent: the wire formats (the server), DateStyle and IntervalStyle.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Decimal256Type, Float32Type, Float64Type, IntervalMonthDayNanoType, TimeUnit};
use chrono::{DateTime, Offset, TimeZone, Utc};
use squilla_core::columns::{self, Arg};
use squilla_core::error::{Error, Result};
use squilla_core::numeric;
use squilla_core::types::SqlType;
use squilla_core::values::AudioView;

/// Every value of a column as text.
pub fn texts(source: &ArrayRef, ty: &SqlType, zone: &str) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    for row in 0..source.len() {
        builder.append_option(text(source, row, ty, zone)?);
    }
    Ok(Arc::new(builder.finish()))
}

fn cast(source: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    arrow::compute::cast(source, target).map_err(crate::error::from_arrow)
}

/// One value as text; None for NULL.
pub fn text(source: &ArrayRef, row: usize, ty: &SqlType, zone: &str) -> Result<Option<String>> {
    if source.is_null(row) || source.data_type() == &DataType::Null {
        return Ok(None);
    }
    let one = || source.slice(row, 1);
    Ok(Some(match ty {
        SqlType::Bool => source.as_boolean().value(row).to_string(),
        SqlType::Float4 => float(f64::from(cast(&one(), &DataType::Float32)?.as_primitive::<Float32Type>().value(0)), true),
        SqlType::Float8 => float(cast(&one(), &DataType::Float64)?.as_primitive::<Float64Type>().value(0), false),
        SqlType::Numeric(_) if numeric::style(source.data_type()) != numeric::Style::Exact => {
            let wide = cast(&one(), &DataType::Decimal256(76, decimal_scale(source.data_type())))?;
            numeric::text(
                &wide.as_primitive::<Decimal256Type>().value(0).to_string(),
                decimal_scale(source.data_type()),
                numeric::style(source.data_type()),
            )
        }
        SqlType::Bytea => format!("\\x{}", hex(cast(&one(), &DataType::LargeBinary)?.as_binary::<i64>().value(0))),
        SqlType::Bit => cast(&one(), &DataType::LargeBinary)?.as_binary::<i64>().value(0).iter().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:08b}");
            out
        }),
        SqlType::Uuid => match source.data_type() {
            DataType::FixedSizeBinary(16) => {
                uuid::Uuid::from_slice(source.as_fixed_size_binary().value(row)).map(|u| u.to_string()).unwrap_or_default()
            }
            _ => plain(&one())?,
        },
        SqlType::Timestamp | SqlType::Timestamptz => timestamp(&one(), matches!(ty, SqlType::Timestamptz), zone)?,
        SqlType::Interval => interval(&one())?,
        SqlType::Vector => {
            let values = cast(&one(), &SqlType::Vector.arrow())?;
            let values = values.as_list::<i32>().value(0);
            let items: Vec<String> =
                values.as_primitive::<Float32Type>().iter().map(|v| v.map_or_else(|| "NULL".into(), |v| float(f64::from(v), true))).collect();
            format!("[{}]", items.join(","))
        }
        SqlType::Int2Vector | SqlType::OidVector => {
            let values = cast(&one(), &DataType::List(Arc::new(arrow::datatypes::Field::new("item", DataType::Int64, true))))?;
            let values = values.as_list::<i32>().value(0);
            let items: Vec<String> = values.as_primitive::<arrow::datatypes::Int64Type>().values().iter().map(i64::to_string).collect();
            items.join(" ")
        }
        SqlType::Array(element) => {
            let values = match source.data_type() {
                DataType::List(_) => source.as_list::<i32>().value(row),
                DataType::LargeList(_) => source.as_list::<i64>().value(row),
                DataType::FixedSizeList(_, _) => source.as_fixed_size_list().value(row),
                other => return Err(Error::internal(format!("an array of Arrow type {other}"))),
            };
            array(&values, element, zone)?
        }
        SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Box2d if source.as_struct_opt().is_some() => media(&one(), ty)?,
        SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d | SqlType::Record(_) => composite(source, row, zone)?,
        _ => plain(&one())?,
    }))
}

fn decimal_scale(ty: &DataType) -> i8 {
    match ty {
        DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => *s,
        _ => 0,
    }
}

fn plain(one: &ArrayRef) -> Result<String> {
    Ok(cast(one, &DataType::Utf8)?.as_string::<i32>().value(0).to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The shortest text that reads back, with an exponent where PostgreSQL has one.
pub fn float(value: f64, single: bool) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let scientific = if single { format!("{:e}", value as f32) } else { format!("{value:e}") };
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = if single { 6 } else { 15 };
    if value != 0.0 && (exponent < -4 || exponent >= limit) {
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    if single { format!("{}", value as f32) } else { format!("{value}") }
}

fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}").trim_end_matches('0').to_owned() }
}

fn timestamp(one: &ArrayRef, zoned: bool, zone: &str) -> Result<String> {
    let micros = cast(&cast(one, &DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into())))?, &DataType::Int64)?;
    let micros = micros.as_primitive::<arrow::datatypes::Int64Type>().value(0);
    let utc: DateTime<Utc> =
        DateTime::from_timestamp_micros(micros).ok_or_else(|| Error::new(squilla_core::error::Kind::OutOfRange, "timestamp out of range"))?;
    let body = |at: chrono::NaiveDateTime| format!("{}{}", at.format("%Y-%m-%d %H:%M:%S"), fraction(at.and_utc().timestamp_subsec_micros()));
    if !zoned {
        return Ok(body(utc.naive_utc()));
    }
    let zone: Tz = zone.parse().map_err(|_| Error::invalid_argument(format!("time zone \"{zone}\" not recognized")))?;
    let offset = zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
    let local = utc.naive_utc() + chrono::TimeDelta::seconds(i64::from(offset));
    let (sign, absolute) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    let minutes = if absolute % 3600 == 0 { String::new() } else { format!(":{:02}", absolute / 60 % 60) };
    Ok(format!("{}{sign}{:02}{minutes}", body(local), absolute / 3600))
}

fn interval(one: &ArrayRef) -> Result<String> {
    let value = cast(one, &SqlType::Interval.arrow())?;
    let value = value.as_primitive::<IntervalMonthDayNanoType>().value(0);
    let mut parts = Vec::new();
    let mut push = |amount: i64, unit: &str| {
        if amount != 0 {
            parts.push(format!("{amount} {unit}{}", if amount == 1 { "" } else { "s" }));
        }
    };
    push(i64::from(value.months / 12), "year");
    push(i64::from(value.months % 12), "mon");
    push(i64::from(value.days), "day");
    if value.nanoseconds != 0 || parts.is_empty() {
        let micros = (value.nanoseconds / 1000).unsigned_abs();
        let seconds = micros / 1_000_000;
        let sign = if value.nanoseconds < 0 { "-" } else { "" };
        parts.push(format!("{sign}{:02}:{:02}:{:02}{}", seconds / 3600, seconds / 60 % 60, seconds % 60, fraction((micros % 1_000_000) as u32)));
    }
    Ok(parts.join(" "))
}

fn array(values: &ArrayRef, element: &SqlType, zone: &str) -> Result<String> {
    let mut out = String::from("{");
    for i in 0..values.len() {
        if i > 0 {
            out.push(',');
        }
        match text(values, i, element, zone)? {
            None => out.push_str("NULL"),
            Some(text) if matches!(element, SqlType::Bool) => out.push_str(text.get(..1).unwrap_or("f")),
            Some(text) => {
                let quote =
                    text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(|c: char| "{},\"\\".contains(c) || c.is_whitespace());
                if quote && !matches!(values.data_type(), DataType::List(_)) {
                    let _ = write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
                } else {
                    out.push_str(&text);
                }
            }
        }
    }
    out.push('}');
    Ok(out)
}

/// A value of one of our own types, as clients see it: the URI of a file, a placeholder for pixels and samples.
fn media(one: &ArrayRef, ty: &SqlType) -> Result<String> {
    let arg = Arg { array: Arc::clone(one), constant: true };
    let read = match ty {
        SqlType::File => columns::file(&arg, 0)?.map(|file| file.uri),
        SqlType::Image => columns::image(&arg, 0)?.map(|image| image.placeholder()),
        SqlType::Audio => columns::audio(&arg, 0)?.map(|audio| AudioView::placeholder(audio.samples.len(), audio.sample_rate, audio.channels)),
        _ => columns::bounding_box(&arg, 0)?.map(|b| {
            let [x1, y1, x2, y2] = [b.x1, b.y1, b.x2, b.y2].map(|v| float(f64::from(v), true));
            format!("({x1},{y1}),({x2},{y2})")
        }),
    };
    read.ok_or_else(|| Error::internal(format!("a {} without a value", ty.name())))
}

fn composite(source: &ArrayRef, row: usize, zone: &str) -> Result<String> {
    let Some(fields) = source.as_struct_opt() else { return plain(&source.slice(row, 1)) };
    let mut out = String::from("(");
    for (i, (column, field)) in fields.columns().iter().zip(fields.fields()).enumerate() {
        if i > 0 {
            out.push(',');
        }
        if let Some(text) = text(column, row, &SqlType::of_field(field), zone)? {
            if text.is_empty() || text.contains(|c: char| "(),\"\\".contains(c) || c.is_whitespace()) {
                let _ = write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""));
            } else {
                out.push_str(&text);
            }
        }
    }
    out.push(')');
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::postgres::input::convert;
    use arrow::array::StringArray;

    #[test]
    fn text_goes_in_and_comes_out() {
        for (ty, text_form) in [
            ("int4[]", "{1,NULL,3}"),
            ("text[]", "{a,\"b c\",\"\",\"NULL\",\"q\\\"\"}"),
            ("vector", "[1,2.5,-3]"),
            ("bytea", "\\x00ff"),
            ("bit", "01000001"),
            ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("interval", "1 year 2 mons 3 days 04:05:06.7"),
            ("interval", "-00:00:01"),
            ("interval", "00:00:00"),
            ("bool[]", "{t,f}"),
            ("timestamp", "2024-02-29 13:14:15.5"),
        ] {
            let ty = SqlType::parse(ty).unwrap();
            let source = Arc::new(StringArray::from(vec![text_form])) as ArrayRef;
            let value = convert(&source, &ty, None).unwrap();
            assert_eq!(text(&value, 0, &ty, "UTC").unwrap().unwrap(), text_form, "{}", ty.name());
        }
    }

    #[test]
    fn floats_and_zones() {
        for (value, text) in [
            (1.0, "1"),
            (1e20, "1e+20"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (0.1, "0.1"),
            (0.0, "0"),
        ] {
            assert_eq!(float(value, false), text);
        }
        assert_eq!(float(f64::from(0.1f32), true), "0.1");
        assert_eq!(float(1_000_000.0, true), "1e+06");
        let at = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")) as ArrayRef;
        assert_eq!(text(&at, 0, &SqlType::Timestamptz, "UTC").unwrap().unwrap(), "1970-01-01 00:00:00+00");
        assert_eq!(text(&at, 0, &SqlType::Timestamptz, "+05:30").unwrap().unwrap(), "1970-01-01 05:30:00+05:30");
    }
}
