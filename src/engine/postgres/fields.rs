//! Fields of dates, times and intervals: `extract`, `date_part`, `date_trunc`.
//!
//! In: the name of a field, a value. Out: a number, or the value with everything below the field cut off. Invariant: a field
//! that a type does not have is 0A000, one that nothing has 22023; `extract` gives numeric with the scale of the field,
//! `date_part` double precision. Deliberately absent: infinity.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, IntervalMonthDayNanoArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Time64MicrosecondType};
use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::scalar::{Args, Scalar, Shape, cast, untyped};
use crate::postgres::time::{DAY, intervals, micros};

/// `EXTRACT(field FROM value)`.
pub const EXTRACT: &str = "squilla_extract";

/// The field that a name means.
fn canonical(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    match lower.as_str() {
        "years" | "yr" | "yrs" | "y" => "year",
        "months" | "mon" | "mons" => "month",
        "days" | "d" => "day",
        "hours" | "hr" | "hrs" | "h" => "hour",
        "minutes" | "min" | "mins" | "m" => "minute",
        "seconds" | "sec" | "secs" | "s" => "second",
        "millisecond" | "msec" | "msecs" | "ms" => "milliseconds",
        "microsecond" | "usec" | "usecs" | "us" => "microseconds",
        "weeks" | "w" => "week",
        "decades" | "dec" | "decs" => "decade",
        "centuries" | "cent" | "c" => "century",
        "millennia" | "millenium" | "mil" | "mils" => "millennium",
        "qtr" => "quarter",
        other => other,
    }
    .to_owned()
}

/// Digits after the point of a field.
fn scale(field: &str) -> i8 {
    match field {
        "second" | "epoch" => 6,
        "milliseconds" => 3,
        "julian" => 20,
        _ => 0,
    }
}

fn unknown(field: &str, ty: &SqlType) -> Error {
    Error::new(Kind::InvalidArgument, format!("unit \"{field}\" not recognized for type {}", ty.name()))
}

fn unsupported(field: &str, ty: &SqlType) -> Error {
    Error::unsupported(format!("unit \"{field}\" not supported for type {}", ty.name()))
}

const FIELDS: &[&str] = &[
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "milliseconds",
    "microseconds",
    "week",
    "decade",
    "century",
    "millennium",
    "quarter",
    "dow",
    "isodow",
    "doy",
    "isoyear",
    "epoch",
    "julian",
    "timezone",
    "timezone_hour",
    "timezone_minute",
];

/// Microseconds of a second and its fields, as numbers of scale 6.
fn of_clock(field: &str, micros: i64) -> Option<i128> {
    let second = i128::from(micros % 60_000_000);
    Some(match field {
        "hour" => i128::from(micros / 3_600_000_000) * 1_000_000,
        "minute" => i128::from(micros / 60_000_000 % 60) * 1_000_000,
        "second" => second,
        "milliseconds" => second * 1000,
        "microseconds" => second * 1_000_000,
        _ => return None,
    })
}

/// A field of a date with its clock, as a number of scale 6.
fn of_moment(field: &str, at: NaiveDateTime) -> Option<i128> {
    let clock = i64::from(at.time().num_seconds_from_midnight()) * 1_000_000 + i64::from(at.and_utc().timestamp_subsec_micros());
    if let Some(value) = of_clock(field, clock) {
        return Some(value);
    }
    let year = i128::from(at.year());
    let whole = match field {
        "year" => year,
        "month" => i128::from(at.month()),
        "day" => i128::from(at.day()),
        "quarter" => i128::from(at.month().div_ceil(3)),
        "dow" => i128::from(at.weekday().num_days_from_sunday()),
        "isodow" => i128::from(at.weekday().number_from_monday()),
        "doy" => i128::from(at.ordinal()),
        "week" => i128::from(at.iso_week().week()),
        "isoyear" => i128::from(at.iso_week().year()),
        "decade" => year.div_euclid(10),
        "century" => (year + 99).div_euclid(100),
        "millennium" => (year + 999).div_euclid(1000),
        "julian" => {
            let day = i128::from(at.num_days_from_ce()) + 1_721_425;
            return Some(day * 1_000_000 + i128::from(clock) * 1_000_000 / i128::from(DAY));
        }
        _ => return None,
    };
    Some(whole * 1_000_000)
}

fn of_interval(field: &str, step: IntervalMonthDayNano) -> Option<i128> {
    let micros = step.nanoseconds / 1000;
    if let Some(value) = of_clock(field, micros) {
        return Some(value);
    }
    let (years, months) = (i128::from(step.months / 12), i128::from(step.months % 12));
    let whole = match field {
        "year" => years,
        "month" => months,
        "day" => i128::from(step.days),
        "quarter" => months / 3 + 1,
        "decade" => years / 10,
        "century" => years / 100,
        "millennium" => years / 1000,
        "epoch" => {
            // A year has 365.25 days here.
            let days = years * 36_525 * 86_400 / 100 + (months * 30 + i128::from(step.days)) * 86_400;
            return Some(days * 1_000_000 + i128::from(micros));
        }
        _ => return None,
    };
    Some(whole * 1_000_000)
}

fn local(micros: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()).ok_or_else(|| Error::new(Kind::DatetimeOverflow, "timestamp out of range"))
}

/// The zone of this name.
///
/// # Errors
/// 22023 for an unknown one.
pub fn zone_of(name: &str) -> Result<Tz> {
    name.trim().parse().map_err(|_| Error::invalid_argument(format!("time zone \"{name}\" not recognized")))
}

fn offset(zone: &Tz, micros: i64) -> Result<i64> {
    Ok(i64::from(zone.offset_from_utc_datetime(&local(micros)?).fix().local_minus_utc()))
}

/// The values of a field, as numbers of scale 6.
fn values(args: &Args<'_>) -> Result<Vec<Option<i128>>> {
    let names = args.texts(0)?;
    let column = args.column(1)?;
    let ty = args.ty(1);
    let field = |row: usize| names.is_valid(row).then(|| canonical(names.value(row)));
    let missing = |field: &str| if FIELDS.contains(&field) { unsupported(field, &ty) } else { unknown(field, &ty) };
    let rows = 0..args.rows;
    match column.data_type() {
        DataType::Interval(_) | DataType::Duration(_) => {
            let steps = intervals(column)?;
            let one = |row: usize| match field(row).filter(|_| steps.is_valid(row)) {
                Some(field) => of_interval(&field, steps.value(row)).map(Some).ok_or_else(|| missing(&field)),
                None => Ok(None),
            };
            rows.map(one).collect()
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let times = cast(column, &SqlType::Time.arrow())?;
            let times = times.as_primitive::<Time64MicrosecondType>();
            let one = |row: usize| match field(row).filter(|_| times.is_valid(row)) {
                Some(field) if field == "epoch" => Ok(Some(i128::from(times.value(row)))),
                Some(field) => of_clock(&field, times.value(row)).map(Some).ok_or_else(|| missing(&field)),
                None => Ok(None),
            };
            rows.map(one).collect()
        }
        _ => {
            let aware = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
            let date = matches!(column.data_type(), DataType::Date32 | DataType::Date64);
            let zone = zone_of(args.zone)?;
            let times = micros(column)?;
            let one = |row: usize| -> Result<Option<i128>> {
                let Some(field) = field(row).filter(|_| times.is_valid(row)) else { return Ok(None) };
                let instant = times.value(row);
                let offset = if aware { offset(&zone, instant)? } else { 0 };
                let clock = ["hour", "minute", "second", "milliseconds", "microseconds", "timezone", "timezone_hour", "timezone_minute"];
                if date && clock.contains(&field.as_str()) {
                    return Err(missing(&field));
                }
                let value = match field.as_str() {
                    "epoch" => Some(i128::from(instant)),
                    "timezone" if aware => Some(i128::from(offset) * 1_000_000),
                    "timezone_hour" if aware => Some(i128::from(offset / 3600) * 1_000_000),
                    "timezone_minute" if aware => Some(i128::from(offset / 60 % 60) * 1_000_000),
                    _ => of_moment(&field, local(instant + offset * 1_000_000)?),
                };
                value.map(Some).ok_or_else(|| missing(&field))
            };
            rows.map(one).collect()
        }
    }
}

fn extract(args: &Args<'_>) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = args.returns else { return Err(Error::internal("extract gives numeric")) };
    let values = values(args)?.into_iter().map(|v| {
        v.map(|v| if *scale >= 6 { v * 10i128.pow(u32::from(scale.unsigned_abs()) - 6) } else { v / 10i128.pow(6 - u32::from(scale.unsigned_abs())) })
    });
    Ok(Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale).map_err(crate::error::from_arrow)?))
}

fn date_part(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(values(args)?.into_iter().map(|v| v.map(|v| v as f64 / 1e6)).collect::<Float64Array>()))
}

fn extract_type(shape: &Shape<'_>) -> Option<Field> {
    let field = shape.constants.first().copied().flatten().and_then(|v| v.try_as_str().flatten().map(canonical));
    let date = matches!(shape.ty(1), SqlType::Date);
    let scale = match field {
        // Seconds of a date are whole.
        Some(field) if date && (field == "epoch" || field == "julian") => 0,
        Some(field) => scale(&field).min(6),
        None => 6,
    };
    Some(Field::new("", DataType::Decimal128(30, scale), true))
}

fn of_field(types: &[DataType]) -> Option<Vec<DataType>> {
    let [field, value] = types else { return None };
    let fits = value.is_temporal() || matches!(value, DataType::Interval(_) | DataType::Duration(_));
    let value = if *value == DataType::Null { SqlType::Timestamp.arrow() } else { value.clone() };
    (untyped(field) && (fits || value == SqlType::Timestamp.arrow())).then(|| vec![DataType::Utf8, value])
}

/// A moment with everything below a field cut off.
fn cut(field: &str, at: NaiveDateTime) -> Option<NaiveDateTime> {
    let date = at.date();
    let first = |year: i32, month: u32| NaiveDate::from_ymd_opt(year, month, 1);
    let year = date.year();
    let day = match field {
        "millennium" => first((year - 1).div_euclid(1000) * 1000 + 1, 1)?,
        "century" => first((year - 1).div_euclid(100) * 100 + 1, 1)?,
        "decade" => first(year.div_euclid(10) * 10, 1)?,
        "year" => first(year, 1)?,
        "quarter" => first(year, (date.month() - 1) / 3 * 3 + 1)?,
        "month" => first(year, date.month())?,
        "week" => date - Duration::days(i64::from(date.weekday().num_days_from_monday())),
        "day" => date,
        _ => {
            let micros = at.and_utc().timestamp_micros();
            let unit = match field {
                "hour" => 3_600_000_000,
                "minute" => 60_000_000,
                "second" => 1_000_000,
                "milliseconds" => 1000,
                "microseconds" => 1,
                _ => return None,
            };
            return DateTime::from_timestamp_micros(micros.div_euclid(unit) * unit).map(|t| t.naive_utc());
        }
    };
    Some(day.and_time(NaiveTime::MIN))
}

fn cut_interval(field: &str, step: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let years = |n: i32| IntervalMonthDayNano::new(step.months / (12 * n) * 12 * n, 0, 0);
    let rest = |unit: i64| IntervalMonthDayNano::new(step.months, step.days, step.nanoseconds / unit * unit);
    Some(match field {
        "millennium" => years(1000),
        "century" => years(100),
        "decade" => years(10),
        "year" => years(1),
        "quarter" => IntervalMonthDayNano::new(step.months / 3 * 3, 0, 0),
        "month" => IntervalMonthDayNano::new(step.months, 0, 0),
        "day" => IntervalMonthDayNano::new(step.months, step.days, 0),
        "hour" => rest(3_600_000_000_000),
        "minute" => rest(60_000_000_000),
        "second" => rest(1_000_000_000),
        "milliseconds" => rest(1_000_000),
        "microseconds" => rest(1000),
        _ => return None,
    })
}

fn date_trunc(args: &Args<'_>) -> Result<ArrayRef> {
    let names = args.texts(0)?;
    let ty = args.ty(1);
    let missing = |field: &str| if FIELDS.contains(&field) { unsupported(field, &ty) } else { unknown(field, &ty) };
    if matches!(args.returns, DataType::Interval(_)) {
        let steps = intervals(args.column(1)?)?;
        let one = |row: usize| match names.is_valid(row) && steps.is_valid(row) {
            true => {
                let field = canonical(names.value(row));
                cut_interval(&field, steps.value(row)).map(Some).ok_or_else(|| missing(&field))
            }
            false => Ok(None),
        };
        return Ok(Arc::new((0..args.rows).map(one).collect::<Result<IntervalMonthDayNanoArray>>()?));
    }
    let zones = if args.columns.len() > 2 { Some(args.texts(2)?) } else { None };
    let DataType::Timestamp(_, own) = args.returns else { return Err(Error::internal("date_trunc gives a timestamp")) };
    let times = micros(&cast(args.column(1)?, args.returns)?)?;
    let one = |row: usize| -> Result<Option<i64>> {
        if names.is_null(row) || times.is_null(row) || zones.as_ref().is_some_and(|z| z.is_null(row)) {
            return Ok(None);
        }
        let field = canonical(names.value(row));
        let zone = zone_of(zones.as_ref().map_or(args.zone, |z| z.value(row)))?;
        let shift = if own.is_some() { offset(&zone, times.value(row))? * 1_000_000 } else { 0 };
        let at = cut(&field, local(times.value(row) + shift)?).ok_or_else(|| missing(&field))?;
        if own.is_none() {
            return Ok(Some(at.and_utc().timestamp_micros()));
        }
        let name = zones.as_ref().map_or(args.zone, |z| z.value(row));
        crate::postgres::datetime::Moment { local: at, offset: None }.instant(name).map(Some)
    };
    let values = (0..args.rows).map(one).collect::<Result<TimestampMicrosecondArray>>()?;
    Ok(Arc::new(values.with_timezone_opt(own.clone())))
}

fn truncatable(types: &[DataType]) -> Option<Vec<DataType>> {
    let [field, value, rest @ ..] = types else { return None };
    let value = match value {
        DataType::Timestamp(_, None) if rest.is_empty() => SqlType::Timestamp.arrow(),
        // A date becomes a timestamptz.
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => SqlType::Timestamptz.arrow(),
        DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval.arrow(),
        ty if untyped(ty) => SqlType::Timestamptz.arrow(),
        _ => return None,
    };
    match rest {
        [] if untyped(field) => Some(vec![DataType::Utf8, value]),
        [zone] if untyped(field) && untyped(zone) => Some(vec![DataType::Utf8, value, DataType::Utf8]),
        _ => None,
    }
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let stable = |name, takes, returns, run| Scalar { name, aliases: &[], volatility: Volatility::Stable, takes, returns, run };
    let float = |_: &Shape<'_>| Some(Field::new("", DataType::Float64, true));
    let second = |shape: &Shape<'_>| shape.fields.get(1).map(|f| Field::new("", f.data_type().clone(), true));
    [
        stable(EXTRACT, of_field, extract_type, extract),
        Scalar { aliases: &["datepart"], ..stable("date_part", of_field, float, date_part) },
        Scalar { aliases: &["datetrunc"], ..stable("date_trunc", truncatable, second, date_trunc) },
    ]
    .map(Scalar::udf)
    .into()
}
