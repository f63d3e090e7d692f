//! Arithmetic over times and intervals, and the functions that take them apart.
//!
//! In: times, dates, timestamps, intervals. Out: the same. Invariant: the difference of two timestamps has days and a
//! rest of less than a day, a time of day stays within its day, months of an interval count 30 days where they must be
//! compared or cut. Deliberately absent: infinity, years before Christ.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, IntervalMonthDayNanoArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::scalar::{Args, Scalar, Shape, cast, untyped};

/// `date + time`.
pub const AT: &str = "squilla_date_time";
/// `timestamp - timestamp`, `time - time`.
pub const BETWEEN: &str = "squilla_time_between";
/// `time + interval`.
pub const LATER: &str = "squilla_time_later";
/// `time - interval`.
pub const EARLIER: &str = "squilla_time_earlier";
/// `interval * number`.
pub const SCALED: &str = "squilla_interval_times";
/// `interval / number`.
pub const PART: &str = "squilla_interval_part";
/// The length of an interval as one number.
pub const SPAN: &str = "squilla_interval_span";

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

fn interval(ty: &DataType) -> bool {
    matches!(ty, DataType::Interval(_) | DataType::Duration(_))
}

fn of(ty: &SqlType) -> Field {
    ty.field("")
}

/// Values of an interval column.
pub fn intervals(column: &ArrayRef) -> Result<IntervalMonthDayNanoArray> {
    Ok(cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?.as_primitive::<IntervalMonthDayNanoType>().clone())
}

/// Microseconds of a timestamp or date column, clocks of UTC.
pub fn micros(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let ty = match column.data_type() {
        DataType::Timestamp(_, Some(zone)) => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(zone))),
        _ => DataType::Timestamp(TimeUnit::Microsecond, None),
    };
    Ok(cast(column, &ty)?.as_primitive::<TimestampMicrosecondType>().clone())
}

fn date_time(args: &Args<'_>) -> Result<ArrayRef> {
    let (dates, times) = (cast(args.column(0)?, &DataType::Date32)?, cast(args.column(1)?, &SqlType::Time.arrow())?);
    let (dates, times) = (dates.as_primitive::<Date32Type>(), times.as_primitive::<Time64MicrosecondType>());
    let values = dates.iter().zip(times.iter()).map(|pair| match pair {
        (Some(day), Some(time)) => Some(i64::from(day) * DAY + time),
        _ => None,
    });
    Ok(Arc::new(values.collect::<TimestampMicrosecondArray>()))
}

fn between(args: &Args<'_>) -> Result<ArrayRef> {
    let time = matches!(args.column(0)?.data_type(), DataType::Time64(_) | DataType::Time32(_));
    let values = |at: usize| -> Result<Vec<Option<i64>>> {
        if time {
            let column = cast(args.column(at)?, &SqlType::Time.arrow())?;
            return Ok(column.as_primitive::<Time64MicrosecondType>().iter().collect());
        }
        Ok(micros(args.column(at)?)?.iter().collect())
    };
    let rows = values(0)?.into_iter().zip(values(1)?).map(|pair| match pair {
        (Some(left), Some(right)) => {
            let micros = left.checked_sub(right).ok_or_else(|| Error::new(Kind::DatetimeOverflow, "interval out of range"))?;
            let days = if time { 0 } else { micros / DAY };
            Ok(Some(IntervalMonthDayNano::new(0, days as i32, (micros - days * DAY) * 1000)))
        }
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

fn moved(args: &Args<'_>, sign: i64) -> Result<ArrayRef> {
    let (times, steps) = (cast(args.column(0)?, &SqlType::Time.arrow())?, intervals(args.column(1)?)?);
    let rows = times.as_primitive::<Time64MicrosecondType>().iter().zip(steps.iter()).map(|pair| match pair {
        (Some(time), Some(step)) => Some((time + sign * (step.nanoseconds / 1000 % DAY)).rem_euclid(DAY)),
        _ => None,
    });
    Ok(Arc::new(rows.collect::<Time64MicrosecondArray>()))
}

/// An interval times a factor: parts of months become days, parts of days time, as PostgreSQL hands them down.
fn times(step: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
    let out = || Error::new(Kind::DatetimeOverflow, "interval out of range");
    let whole = |v: f64| if v.is_finite() && v.abs() <= f64::from(i32::MAX) { Ok(v as i32) } else { Err(out()) };
    let months = f64::from(step.months) * factor;
    let days = f64::from(step.days) * factor;
    let month_days = ((months - months.trunc()) * 30.0 * 1e6).round() / 1e6;
    let mut seconds = ((days - days.trunc() + month_days - month_days.trunc()) * 86_400.0 * 1e6).round() / 1e6;
    let mut extra = month_days.trunc();
    // A day of seconds is a day.
    if seconds.abs() >= 86_400.0 {
        extra += (seconds / 86_400.0).trunc();
        seconds -= (seconds / 86_400.0).trunc() * 86_400.0;
    }
    let micros = (step.nanoseconds as f64 / 1000.0 * factor + seconds * 1e6).round_ties_even();
    if !micros.is_finite() || micros.abs() > 9.2e15 {
        return Err(out());
    }
    Ok(IntervalMonthDayNano::new(whole(months.trunc())?, whole(days.trunc() + extra)?, micros as i64 * 1000))
}

fn scaled(args: &Args<'_>, divide: bool) -> Result<ArrayRef> {
    let (steps, factors) = (intervals(args.column(0)?)?, args.floats(1)?);
    let rows = steps.iter().zip(factors.iter()).map(|pair| match pair {
        (Some(_), Some(0.0)) if divide => Err(Error::new(Kind::DivisionByZero, "division by zero")),
        (Some(step), Some(factor)) => times(step, if divide { 1.0 / factor } else { factor }).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

fn span(args: &Args<'_>) -> Result<ArrayRef> {
    let steps = intervals(args.column(0)?)?;
    let rows = steps
        .iter()
        .map(|step| step.map(|s| ((i128::from(s.months) * 30 + i128::from(s.days)) * i128::from(DAY)) + i128::from(s.nanoseconds / 1000)));
    Ok(Arc::new(rows.collect::<Decimal128Array>().with_precision_and_scale(38, 0).map_err(crate::error::from_arrow)?))
}

/// `justify_hours`, `justify_days`, `justify_interval`.
fn justified(args: &Args<'_>, hours: bool, days: bool) -> Result<ArrayRef> {
    let rows = intervals(args.column(0)?)?;
    let rows = rows.iter().map(|step| {
        step.map(|s| {
            let (mut months, mut own, mut micros) = (i64::from(s.months), i64::from(s.days), s.nanoseconds / 1000);
            if hours {
                own += micros / DAY;
                micros %= DAY;
            }
            if days {
                months += own / 30;
                own %= 30;
            }
            if hours && days {
                if months > 0 && (own < 0 || (own == 0 && micros < 0)) {
                    (months, own) = (months - 1, own + 30);
                } else if months < 0 && (own > 0 || (own == 0 && micros > 0)) {
                    (months, own) = (months + 1, own - 30);
                }
            }
            if hours && own > 0 && micros < 0 {
                (own, micros) = (own - 1, micros + DAY);
            } else if hours && own < 0 && micros > 0 {
                (own, micros) = (own + 1, micros - DAY);
            } else if days && !hours && months > 0 && own < 0 {
                (months, own) = (months - 1, own + 30);
            } else if days && !hours && months < 0 && own > 0 {
                (months, own) = (months + 1, own - 30);
            }
            IntervalMonthDayNano::new(months as i32, own as i32, micros * 1000)
        })
    });
    Ok(Arc::new(rows.collect::<IntervalMonthDayNanoArray>()))
}

fn local(micros: i64) -> Result<NaiveDateTime> {
    let out = || Error::new(Kind::DatetimeOverflow, "timestamp out of range");
    chrono::DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()).ok_or_else(out)
}

fn days_in_month(year: i32, month: u32) -> i64 {
    let next = if month == 12 { NaiveDate::from_ymd_opt(year + 1, 1, 1) } else { NaiveDate::from_ymd_opt(year, month + 1, 1) };
    next.and_then(|n| n.pred_opt()).map_or(30, |d| i64::from(d.day()))
}

/// `age(later, earlier)`: years, months and days by the calendar.
fn calendar_age(later: NaiveDateTime, earlier: NaiveDateTime) -> IntervalMonthDayNano {
    let negative = later < earlier;
    let (to, from) = if negative { (earlier, later) } else { (later, earlier) };
    let of_day = |t: NaiveDateTime| (t - t.date().and_time(NaiveTime::MIN)).num_microseconds().unwrap_or(0);
    let mut micros = of_day(to) - of_day(from);
    let mut days = i64::from(to.day()) - i64::from(from.day());
    let mut months = i64::from(to.year() - from.year()) * 12 + i64::from(to.month()) - i64::from(from.month());
    if micros < 0 {
        (micros, days) = (micros + DAY, days - 1);
    }
    if days < 0 {
        // Days of the month that the span began in, whichever way it ran.
        (days, months) = (days + days_in_month(from.year(), from.month()), months - 1);
    }
    let sign = if negative { -1 } else { 1 };
    IntervalMonthDayNano::new((sign * months) as i32, (sign * days) as i32, sign * micros * 1000)
}

fn age(args: &Args<'_>) -> Result<ArrayRef> {
    let later = micros(args.column(0)?)?;
    let earlier = if args.columns.len() > 1 { Some(micros(args.column(1)?)?) } else { None };
    let today = chrono::Utc::now().date_naive().and_time(NaiveTime::MIN);
    let rows = (0..args.rows).map(|row| {
        if later.is_null(row) || earlier.as_ref().is_some_and(|e| e.is_null(row)) {
            return Ok(None);
        }
        let own = local(later.value(row))?;
        Ok(Some(match &earlier {
            Some(earlier) => calendar_age(own, local(earlier.value(row))?),
            None => calendar_age(today, own),
        }))
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

/// `make_interval(years, months, weeks, days, hours, mins, secs)`.
fn make_interval(args: &Args<'_>) -> Result<ArrayRef> {
    let numbers = (0..args.columns.len()).map(|at| args.floats(at)).collect::<Result<Vec<_>>>()?;
    let rows = (0..args.rows).map(|row| {
        if numbers.iter().any(|n| n.is_null(row)) {
            return Ok(None);
        }
        let at = |i: usize| numbers.get(i).map_or(0.0, |n| n.value(row));
        let out = || Error::new(Kind::DatetimeOverflow, "interval out of range");
        let whole = |v: f64| if v.abs() <= f64::from(i32::MAX) { Ok(v as i32) } else { Err(out()) };
        let micros = (at(4) * 3600.0 + at(5) * 60.0) * 1e6 + (at(6) * 1e6).round();
        Ok(Some(IntervalMonthDayNano::new(whole(at(0) * 12.0 + at(1))?, whole(at(2) * 7.0 + at(3))?, micros as i64 * 1000)))
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

fn date_parts(year: i64, month: i64, day: i64) -> Result<NaiveDate> {
    let out = || Error::new(Kind::DatetimeOverflow, format!("date field value out of range: {year}-{month:02}-{day:02}"));
    let (y, m, d) = (i32::try_from(year), u32::try_from(month), u32::try_from(day));
    match (y, m, d) {
        (Ok(y), Ok(m), Ok(d)) if y != 0 => NaiveDate::from_ymd_opt(y, m, d).ok_or_else(out),
        _ => Err(out()),
    }
}

fn time_parts(hour: i64, minute: i64, second: f64) -> Result<i64> {
    let micros = (second * 1e6).round() as i64;
    let fits = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0..=60_000_000).contains(&micros);
    let total = (hour * 3600 + minute * 60) * 1_000_000 + micros;
    if !fits || total > DAY {
        return Err(Error::new(Kind::DatetimeOverflow, format!("time field value out of range: {hour}:{minute:02}:{second}")));
    }
    Ok(total)
}

/// `make_date`, `make_time`, `make_timestamp`, `make_timestamptz`.
fn made(args: &Args<'_>) -> Result<ArrayRef> {
    let zone = (args.columns.len() == 7).then(|| args.texts(6)).transpose()?;
    let numbers = (0..args.columns.len().min(6)).map(|at| args.floats(at)).collect::<Result<Vec<_>>>()?;
    let missing = |row: usize| numbers.iter().any(|n| n.is_null(row)) || zone.as_ref().is_some_and(|z| z.is_null(row));
    let at = |i: usize, row: usize| numbers.get(i).map_or(0.0, |n| n.value(row));
    let whole = |i: usize, row: usize| at(i, row) as i64;
    Ok(match args.returns {
        DataType::Date32 => {
            let day = |row: usize| date_parts(whole(0, row), whole(1, row), whole(2, row)).map(|d| Some(Date32Type::from_naive_date(d)));
            Arc::new((0..args.rows).map(|row| if missing(row) { Ok(None) } else { day(row) }).collect::<Result<Date32Array>>()?)
        }
        DataType::Time64(_) => {
            let time = |row: usize| time_parts(whole(0, row), whole(1, row), at(2, row)).map(Some);
            Arc::new((0..args.rows).map(|row| if missing(row) { Ok(None) } else { time(row) }).collect::<Result<Time64MicrosecondArray>>()?)
        }
        DataType::Timestamp(_, own) => {
            let moment = |row: usize| -> Result<Option<i64>> {
                let day = date_parts(whole(0, row), whole(1, row), whole(2, row))?;
                let micros = time_parts(whole(3, row), whole(4, row), at(5, row))?;
                let clock = i64::from(Date32Type::from_naive_date(day)) * DAY + micros;
                if own.is_none() {
                    return Ok(Some(clock));
                }
                let zone = zone.as_ref().map_or(args.zone, |z| z.value(row));
                crate::postgres::datetime::Moment { local: local(clock)?, offset: None }.instant(zone).map(Some)
            };
            let values = (0..args.rows).map(|row| if missing(row) { Ok(None) } else { moment(row) });
            Arc::new(values.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone_opt(own.clone()))
        }
        other => return Err(Error::internal(format!("{other} is no time"))),
    })
}

/// `(a, b) OVERLAPS (c, d)`.
fn overlaps(args: &Args<'_>) -> Result<ArrayRef> {
    let ends = (0..4).map(|at| micros(args.column(at)?)).collect::<Result<Vec<_>>>()?;
    let rows = (0..args.rows).map(|row| {
        let at = |i: usize| ends.get(i).filter(|e| e.is_valid(row)).map(|e| e.value(row));
        let (a, b, c, d) = (at(0)?, at(1)?, at(2)?, at(3)?);
        let ((s1, e1), (s2, e2)) = ((a.min(b), a.max(b)), (c.min(d), c.max(d)));
        Some(if s1 == s2 {
            true
        } else if s1 > s2 {
            s1 < e2
        } else {
            s2 < e1
        })
    });
    Ok(Arc::new(rows.collect::<arrow::array::BooleanArray>()))
}

fn two(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == 2).then(|| types.to_vec())
}

fn one_interval(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [ty] if interval(ty) || untyped(ty) => Some(vec![SqlType::Interval.arrow()]),
        _ => None,
    }
}

fn moments(types: &[DataType], counts: std::ops::RangeInclusive<usize>) -> Option<Vec<DataType>> {
    let fits = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) || untyped(t);
    let one = |t: &DataType| match t {
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz.arrow(),
        _ => SqlType::Timestamp.arrow(),
    };
    (counts.contains(&types.len()) && types.iter().all(fits)).then(|| types.iter().map(one).collect())
}

fn numbers(types: &[DataType], counts: std::ops::RangeInclusive<usize>) -> Option<Vec<DataType>> {
    let fits = counts.contains(&types.len()) && types.iter().take(6).all(|t| t.is_numeric() || untyped(t));
    fits.then(|| types.iter().enumerate().map(|(i, _)| if i == 6 { DataType::Utf8 } else { DataType::Float64 }).collect())
}

fn sevens(types: &[DataType]) -> Option<Vec<DataType>> {
    let fits = types.len() <= 7 && types.iter().all(|t| t.is_numeric() || untyped(t));
    fits.then(|| vec![DataType::Float64; types.len()])
}

fn an_interval(_: &Shape<'_>) -> Option<Field> {
    Some(of(&SqlType::Interval))
}

const IMMUTABLE: Volatility = Volatility::Immutable;
const STABLE: Volatility = Volatility::Stable;

/// The functions behind operators.
pub fn operators() -> Vec<ScalarUDF> {
    let make = |name, returns, run| Scalar { name, aliases: &[], volatility: IMMUTABLE, takes: two, returns, run };
    let number = |_: &Shape<'_>| Some(Field::new("", DataType::Decimal128(38, 0), true));
    [
        make(AT, |_: &Shape<'_>| Some(of(&SqlType::Timestamp)), date_time),
        make(BETWEEN, an_interval, between),
        make(LATER, |_: &Shape<'_>| Some(of(&SqlType::Time)), |a| moved(a, 1)),
        make(EARLIER, |_: &Shape<'_>| Some(of(&SqlType::Time)), |a| moved(a, -1)),
        make(SCALED, an_interval, |a| scaled(a, false)),
        make(PART, an_interval, |a| scaled(a, true)),
        Scalar { name: SPAN, aliases: &[], volatility: IMMUTABLE, takes: one_interval, returns: number, run: span },
    ]
    .map(Scalar::udf)
    .into()
}

/// The functions that are called by name.
pub fn udfs() -> Vec<ScalarUDF> {
    let justify = |name, run| Scalar { name, aliases: &[], volatility: IMMUTABLE, takes: one_interval, returns: an_interval, run };
    let make = |name, takes, returns, run| Scalar { name, aliases: &[], volatility: STABLE, takes, returns, run };
    [
        justify("justify_hours", |a| justified(a, true, false)),
        justify("justify_days", |a| justified(a, false, true)),
        justify("justify_interval", |a| justified(a, true, true)),
        make("age", |t| moments(t, 1..=2), an_interval, age),
        make("make_interval", sevens, an_interval, make_interval),
        make("make_date", |t| numbers(t, 3..=3), |_: &Shape<'_>| Some(of(&SqlType::Date)), made),
        make("make_time", |t| numbers(t, 3..=3), |_: &Shape<'_>| Some(of(&SqlType::Time)), made),
        make("make_timestamp", |t| numbers(t, 6..=6), |_: &Shape<'_>| Some(of(&SqlType::Timestamp)), made),
        make("make_timestamptz", |t| numbers(t, 6..=7), |_: &Shape<'_>| Some(of(&SqlType::Timestamptz)), made),
        make("overlaps", |t| moments(t, 4..=4), |_: &Shape<'_>| Some(of(&SqlType::Bool)), overlaps),
    ]
    .map(Scalar::udf)
    .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap().and_time(NaiveTime::MIN)
    }

    #[test]
    fn ages_go_by_the_calendar() {
        let age = calendar_age(at("2001-04-10"), at("1957-06-13"));
        assert_eq!((age.months, age.days), (43 * 12 + 9, 27));
        let age = calendar_age(at("2020-02-28"), at("2020-03-01"));
        assert_eq!((age.months, age.days), (0, -2));
    }

    #[test]
    fn parts_of_months_and_days_go_down() {
        let month = IntervalMonthDayNano::new(1, 0, 0);
        assert_eq!(times(month, 1.5).unwrap(), IntervalMonthDayNano::new(1, 15, 0));
        let day = IntervalMonthDayNano::new(0, 1, 0);
        assert_eq!(times(day, 0.5).unwrap(), IntervalMonthDayNano::new(0, 0, 43_200_000_000_000));
    }
}
