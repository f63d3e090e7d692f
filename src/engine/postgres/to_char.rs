//! `to_char` of dates and times.
//!
//! In: a timestamp, a timestamptz or a date, and a template. Out: text. Invariant: words of the template that are no
//! pattern stand as they are. Deliberately absent: templates of numbers and intervals (0A000), ordinals (TH).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::{from_arrow, to_datafusion};

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
            Some(other) => Err(to_datafusion(Error::unsupported(format!("to_char({}, text) is not supported", SqlType::of_arrow(other).name())))),
            None => Err(to_datafusion(Error::new(Kind::UndefinedFunction, "function to_char() does not exist"))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        match arrays.as_slice() {
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

/// Longest first: MONTH is not MON and TH.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "MONTH", "IYYY", "YYYY", "DAY", "DDD", "IDDD", "MON", "YYY", "HH", "MI", "MM", "MS", "SS", "US", "AM", "PM", "DD", "DY", "ID",
    "IW", "IY", "WW", "YY", "TZ", "OF", "CC", "Q", "W", "Y", "D", "J",
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
