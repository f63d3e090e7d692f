//! `to_char`, and its inverses `to_date`, `to_timestamp` and `to_number`.
//!
//! In: a time, an interval or a number, and a template; or text and a template. Out: text; or the value. Invariant: words of
//! a template that are no pattern stand as they are. Deliberately absent: what the two modules of templates leave out.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, Date32Array, StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::{from_arrow, to_datafusion};
use crate::postgres::datetime::Moment;
use crate::postgres::scalar::{Args, Scalar, Shape, untyped};
use crate::postgres::{input, number_format, output, time, time_template};

#[derive(Debug)]
struct ToChar {
    /// All names of DataFusion's function: it would come back under the one that it kept.
    aliases: Vec<String>,
    signature: Signature,
}

impl PartialEq for ToChar {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ToChar {}

impl Hash for ToChar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        "to_char".hash(state);
    }
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match types.first() {
            Some(DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 | DataType::Null) => Ok(DataType::Utf8),
            Some(ty) if ty.is_numeric() || matches!(ty, DataType::Interval(_) | DataType::Time64(_)) => Ok(DataType::Utf8),
            Some(other) => Err(to_datafusion(Error::unsupported(format!("to_char({}, text) is not supported", SqlType::of_arrow(other).name())))),
            None => Err(to_datafusion(Error::new(Kind::UndefinedFunction, "function to_char() does not exist"))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        match arrays.as_slice() {
            [numbers, templates] if numbers.data_type().is_numeric() => {
                numbers_by(numbers, &args.arg_fields[0], templates, zone).map(ColumnarValue::Array).map_err(to_datafusion)
            }
            [steps, templates] if matches!(steps.data_type(), DataType::Interval(_) | DataType::Time64(_)) => {
                intervals_by(steps, templates).map(ColumnarValue::Array).map_err(to_datafusion)
            }
            [times, templates] => format_all(times, templates, zone).map(ColumnarValue::Array).map_err(to_datafusion),
            _ => Err(to_datafusion(Error::internal("to_char takes two arguments"))),
        }
    }
}

fn format_all(times: &ArrayRef, templates: &ArrayRef, zone: &str) -> Result<ArrayRef> {
    let aware = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let target = DataType::Timestamp(TimeUnit::Microsecond, aware.then(|| "UTC".into()));
    let micros = cast(times, &target).map_err(from_arrow)?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    let templates = cast(templates, &DataType::Utf8).map_err(from_arrow)?;
    let templates = templates.as_string::<i32>();
    let zone: Tz = zone.parse().map_err(|_| Error::invalid_argument(format!("time zone \"{zone}\" not recognized")))?;
    let mut builder = StringBuilder::new();
    for row in 0..micros.len() {
        if micros.is_null(row) || templates.is_null(row) {
            builder.append_null();
            continue;
        }
        let utc = DateTime::from_timestamp_micros(micros.value(row)).ok_or_else(|| Error::new(Kind::OutOfRange, "timestamp out of range"))?;
        let offset = if aware { zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc() } else { 0 };
        let local = utc.naive_utc() + TimeDelta::seconds(i64::from(offset));
        builder.append_value(format(local, aware.then_some(offset), templates.value(row)));
    }
    Ok(Arc::new(builder.finish()))
}

fn numbers_by(numbers: &ArrayRef, field: &FieldRef, templates: &ArrayRef, zone: &str) -> Result<ArrayRef> {
    let templates = cast(templates, &DataType::Utf8).map_err(from_arrow)?;
    let templates = templates.as_string::<i32>();
    let ty = SqlType::of_field(field);
    let mut builder = StringBuilder::new();
    for row in 0..numbers.len() {
        let text = output::text(numbers, row, &ty, zone)?.filter(|_| templates.is_valid(row));
        // Floats are spelled without an exponent.
        let text = text.map(|t| match t.contains('e') {
            true => t.parse::<f64>().map_or(t, |v| format!("{v}")),
            false => t,
        });
        builder.append_option(text.map(|t| number_format::format(&t, templates.value(row))));
    }
    Ok(Arc::new(builder.finish()))
}

/// Intervals show their fields: hours go on beyond a day, days beyond a month.
fn intervals_by(steps: &ArrayRef, templates: &ArrayRef) -> Result<ArrayRef> {
    let steps = time::intervals(&match steps.data_type() {
        DataType::Time64(_) => cast(steps, &DataType::Duration(TimeUnit::Microsecond)).map_err(from_arrow)?,
        _ => Arc::clone(steps),
    })?;
    let templates = cast(templates, &DataType::Utf8).map_err(from_arrow)?;
    let templates = templates.as_string::<i32>();
    let mut builder = StringBuilder::new();
    for (step, template) in steps.iter().zip(templates.iter()) {
        let (Some(step), Some(template)) = (step, template) else {
            builder.append_null();
            continue;
        };
        let micros = step.nanoseconds / 1000;
        let number = |value: i64, width: usize, fill: bool| if fill { format!("{value:0width$}") } else { value.to_string() };
        let piece = |pattern: &str, fill: bool| -> Option<String> {
            Some(match pattern {
                "YYYY" => number(i64::from(step.months / 12), 4, fill),
                "MM" => number(i64::from(step.months % 12), 2, fill),
                "DD" => number(i64::from(step.days), 2, fill),
                "HH24" => number(micros / 3_600_000_000, 2, fill),
                "HH12" | "HH" => number((micros / 3_600_000_000 + 11) % 12 + 1, 2, fill),
                "MI" => number(micros / 60_000_000 % 60, 2, fill),
                "SS" => number(micros / 1_000_000 % 60, 2, fill),
                "MS" => format!("{:03}", micros % 1_000_000 / 1000),
                "US" => format!("{:06}", micros % 1_000_000),
                _ => return None,
            })
        };
        builder.append_value(by_pieces(template, piece));
    }
    Ok(Arc::new(builder.finish()))
}

/// A template with its patterns put in; None of `piece` leaves a pattern as it is written.
fn by_pieces(template: &str, piece: impl Fn(&str, bool) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = template;
    let mut fill = true;
    while let Some(c) = rest.chars().next() {
        if rest.get(..2).is_some_and(|t| t.eq_ignore_ascii_case("FM")) {
            fill = false;
            rest = rest.get(2..).unwrap_or("");
            continue;
        }
        let known = PATTERNS.iter().find(|p| rest.get(..p.len()).is_some_and(|t| t.eq_ignore_ascii_case(p)));
        let length = known.map_or(c.len_utf8(), |p| p.len());
        let written = rest.get(..length).unwrap_or("");
        out.push_str(&known.and_then(|p| piece(p, fill)).unwrap_or_else(|| written.to_owned()));
        if known.is_some() {
            fill = true;
        }
        rest = rest.get(length..).unwrap_or("");
    }
    out
}

/// `to_date(text, template)`, `to_timestamp(text, template)`.
fn by_template(args: &Args<'_>) -> Result<ArrayRef> {
    let (texts, templates) = (args.texts(0)?, args.texts(1)?);
    let rows = (0..args.rows).map(|row| {
        if texts.is_null(row) || templates.is_null(row) {
            return Ok(None);
        }
        time_template::read(texts.value(row), templates.value(row)).map(Some)
    });
    let moments = rows.collect::<Result<Vec<_>>>()?;
    if *args.returns == DataType::Date32 {
        return Ok(Arc::new(moments.into_iter().map(|m| m.map(|m| Date32Type::from_naive_date(m.date()))).collect::<Date32Array>()));
    }
    let instants = moments.into_iter().map(|m| m.map(|m| Moment { local: m, offset: None }.instant(args.zone)).transpose());
    Ok(Arc::new(instants.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("UTC")))
}

/// `to_timestamp(seconds since 1970)`.
fn since_epoch(args: &Args<'_>) -> Result<ArrayRef> {
    if args.columns.len() > 1 {
        return by_template(args);
    }
    let seconds = args.floats(0)?;
    let rows = seconds.iter().map(|s| {
        s.map(|s| {
            let micros = (s * 1e6).round();
            if micros.abs() < 9.2e18 {
                Ok(micros as i64)
            } else {
                Err(Error::new(Kind::DatetimeOverflow, format!("timestamp out of range: \"{s}\"")))
            }
        })
        .transpose()
    });
    Ok(Arc::new(rows.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("UTC")))
}

fn to_number(args: &Args<'_>) -> Result<ArrayRef> {
    let (texts, templates) = (args.texts(0)?, args.texts(1)?);
    let rows = (0..args.rows).map(|row| {
        let known = texts.is_valid(row) && templates.is_valid(row);
        known.then(|| number_format::number(texts.value(row), templates.value(row))).transpose()
    });
    let numbers = rows.collect::<Result<StringArray>>()?;
    input::convert(&(Arc::new(numbers) as ArrayRef), &SqlType::Numeric(None), None)
}

fn two_texts(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == 2 && types.iter().all(untyped)).then(|| vec![DataType::Utf8; 2])
}

/// The inverses.
pub fn inverses() -> Vec<ScalarUDF> {
    let make = |name, takes, returns, run| Scalar { name, aliases: &[], volatility: Volatility::Stable, takes, returns, run };
    [
        make("to_date", two_texts, |_: &Shape<'_>| Some(SqlType::Date.field("")), by_template),
        make(
            "to_timestamp",
            |types: &[DataType]| match types {
                [ty] if ty.is_numeric() || untyped(ty) => Some(vec![DataType::Float64]),
                other => two_texts(other),
            },
            |_: &Shape<'_>| Some(SqlType::Timestamptz.field("")),
            since_epoch,
        ),
        make("to_number", two_texts, |_: &Shape<'_>| Some(SqlType::Numeric(None).field("")), to_number),
    ]
    .map(Scalar::udf)
    .into()
}

/// Longest first: MONTH is not MON and TH.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "MONTH", "IYYY", "YYYY", "IDDD", "SSSSS", "SSSS", "DAY", "DDD", "MON", "YYY", "HH", "MI", "MM", "MS", "SS", "US", "AM", "PM",
    "DD", "DY", "ID", "IW", "IY", "WW", "YY", "TZ", "OF", "CC", "Q", "W", "Y", "D", "J",
];

fn format(at: NaiveDateTime, offset: Option<i32>, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    let mut fill = true;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push_str(quoted.get(..end).unwrap_or(""));
            rest = quoted.get(end + 1..).unwrap_or("");
            continue;
        }
        if rest.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("fm")) {
            fill = false;
            rest = rest.get(2..).unwrap_or("");
            continue;
        }
        let known = PATTERNS.iter().find(|p| rest.get(..p.len()).is_some_and(|head| head.eq_ignore_ascii_case(p)));
        match known {
            Some(pattern) => {
                let (head, tail) = rest.split_at(pattern.len());
                out.push_str(&piece(at, offset, pattern, head, fill));
                (rest, fill) = (tail, true);
            }
            None => {
                out.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or("");
            }
        }
    }
    out
}

/// A word in the case of the pattern: MON, Mon, mon.
fn cased(word: &str, written: &str) -> String {
    let mut letters = written.chars();
    match (letters.next(), letters.next()) {
        (Some(first), _) if first.is_lowercase() => word.to_lowercase(),
        (_, Some(second)) if second.is_lowercase() => word.to_owned(),
        _ => word.to_uppercase(),
    }
}

fn piece(at: NaiveDateTime, offset: Option<i32>, pattern: &str, written: &str, fill: bool) -> String {
    let number = |n: i64, width: usize| if fill { format!("{n:0width$}") } else { n.to_string() };
    let word = |w: String, width: usize| {
        let w = cased(&w, written);
        if fill { format!("{w:<width$}") } else { w }
    };
    let short = |w: String| cased(&w, written);
    let (year, hour) = (i64::from(at.year()), i64::from(at.hour()));
    let weekday = i64::from(at.weekday().num_days_from_sunday());
    match pattern {
        "YYYY" => number(year, 4),
        "YYY" => number(year % 1000, 3),
        "YY" => number(year % 100, 2),
        "Y" => (year % 10).to_string(),
        "IYYY" => number(i64::from(at.iso_week().year()), 4),
        "IY" => number(i64::from(at.iso_week().year()) % 100, 2),
        "CC" => number((year + 99) / 100, 2),
        "Q" => at.month().div_ceil(3).to_string(),
        "MONTH" => word(at.format("%B").to_string(), 9),
        "MON" => short(at.format("%b").to_string()),
        "MM" => number(i64::from(at.month()), 2),
        "WW" => number(i64::from((at.ordinal() - 1) / 7 + 1), 2),
        "IW" => number(i64::from(at.iso_week().week()), 2),
        "W" => ((at.day() - 1) / 7 + 1).to_string(),
        "DAY" => word(at.format("%A").to_string(), 9),
        "DY" => short(at.format("%a").to_string()),
        "DDD" => number(i64::from(at.ordinal()), 3),
        "IDDD" => number(i64::from((at.iso_week().week() - 1) * 7 + at.weekday().number_from_monday()), 3),
        "DD" => number(i64::from(at.day()), 2),
        "D" => (weekday + 1).to_string(),
        "ID" => at.weekday().number_from_monday().to_string(),
        "J" => (i64::from(at.date().num_days_from_ce()) + 1_721_425).to_string(),
        "HH24" => number(hour, 2),
        "HH12" | "HH" => number((hour + 11) % 12 + 1, 2),
        "MI" => number(i64::from(at.minute()), 2),
        "SS" => number(i64::from(at.second()), 2),
        "MS" => format!("{:03}", at.nanosecond() / 1_000_000),
        "US" => format!("{:06}", at.nanosecond() / 1000),
        "SSSS" | "SSSSS" => at.num_seconds_from_midnight().to_string(),
        "AM" | "PM" => {
            let half = if hour < 12 { "AM" } else { "PM" };
            if written.starts_with(char::is_lowercase) { half.to_lowercase() } else { half.to_owned() }
        }
        "TZ" | "OF" => offset.map_or_else(String::new, |o| zone(o, pattern == "TZ", written)),
        _ => written.to_owned(),
    }
}

fn zone(offset: i32, name: bool, written: &str) -> String {
    if name && offset == 0 {
        return cased("UTC", written);
    }
    let (sign, absolute) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    let minutes = if absolute % 3600 == 0 { String::new() } else { format!(":{:02}", absolute / 60 % 60) };
    format!("{sign}{:02}{minutes}", absolute / 3600)
}

/// `to_char(time, template)`.
pub fn udf() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToChar { aliases: vec!["date_format".into()], signature: Signature::any(2, Volatility::Stable) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_are_postgresqls() {
        let at = chrono::NaiveDate::from_ymd_opt(2026, 11, 5).unwrap().and_hms_micro_opt(13, 4, 5, 60_700).unwrap();
        for (template, text) in [
            ("YYYY-MM-DD HH24:MI:SS", "2026-11-05 13:04:05"),
            ("Mon DD, YYYY", "Nov 05, 2026"),
            ("FMDay FMDD FMMonth", "Thursday 5 November"),
            ("Month|", "November |"),
            ("HH:MI am", "01:04 pm"),
            ("DY Q D J", "THU 4 5 2461350"),
            ("IYYY-\"W\"IW-ID", "2026-W45-4"),
            ("SS.MS SS.US", "05.060 05.060700"),
        ] {
            assert_eq!(format(at, None, template), text, "{template}");
        }
        assert_eq!(format(at, Some(19_800), "OF"), "+05:30");
    }
}
