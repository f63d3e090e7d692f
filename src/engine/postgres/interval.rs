//! PostgreSQL's spellings of an interval.
//!
//! In: text such as `1 day 2 hours`, `0.4 s`, `1-2`, `P1Y2M`, `01:02:03.5`. Out: months, days and nanoseconds.
//! Invariant: fractions go down to the next smaller unit as in PostgreSQL (0.5 months are 15 days, 0.5 days 12 hours).
//! Deliberately absent: output (the server's encoder).

use squilla_core::error::{Error, Kind, Result};

/// Months, days and nanoseconds: Arrow's MonthDayNano.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Nanoseconds.
    pub nanos: i64,
}

#[derive(Default)]
struct Sum {
    months: f64,
    days: f64,
    nanos: f64,
}

const SECOND: f64 = 1e9;
const DAY: f64 = 86_400.0 * SECOND;

impl Sum {
    fn add(&mut self, amount: f64, unit: &str) -> Option<()> {
        let whole = amount.trunc();
        let fraction = amount - whole;
        let months = |sum: &mut Sum, per: f64| {
            let exact = amount * per;
            // A fraction of a month becomes days, at 30 a month.
            sum.months += exact.trunc();
            if per == 1.0 {
                sum.add_days(fraction * 30.0);
            }
        };
        match unit {
            "millennium" | "millennia" | "millenniums" | "mil" | "mils" => months(self, 12_000.0),
            "century" | "centuries" | "cent" | "c" => months(self, 1200.0),
            "decade" | "decades" | "dec" | "decs" => months(self, 120.0),
            "year" | "years" | "yr" | "yrs" | "y" => months(self, 12.0),
            "month" | "months" | "mon" | "mons" => months(self, 1.0),
            "week" | "weeks" | "w" => self.add_days(amount * 7.0),
            "day" | "days" | "d" => self.add_days(amount),
            "hour" | "hours" | "hr" | "hrs" | "h" => self.nanos += amount * 3600.0 * SECOND,
            "minute" | "minutes" | "min" | "mins" | "m" => self.nanos += amount * 60.0 * SECOND,
            "second" | "seconds" | "sec" | "secs" | "s" => self.nanos += amount * SECOND,
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => self.nanos += amount * 1e6,
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => self.nanos += amount * 1e3,
            _ => return None,
        }
        Some(())
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc();
        self.nanos += (days - days.trunc()) * DAY;
    }
}

/// Reads an interval. `unit` is the one named after the literal (`INTERVAL '5' DAY`), for a number without its own.
pub fn parse(input: &str, unit: Option<&str>) -> Result<Parts> {
    let bad = || Error::new(Kind::InvalidDatetime, format!("invalid input syntax for type interval: \"{input}\""));
    let text = input.trim().to_lowercase();
    let sum = if text.starts_with('p') { iso(&text) } else { words(&text, unit.unwrap_or("second")) }.ok_or_else(bad)?;
    let out = || Error::new(Kind::OutOfRange, "interval out of range");
    let whole = |v: f64| if v.abs() <= f64::from(i32::MAX) { Ok(v as i32) } else { Err(out()) };
    if sum.nanos.abs() >= i64::MAX as f64 {
        return Err(out());
    }
    // Microseconds, as PostgreSQL keeps them.
    Ok(Parts { months: whole(sum.months)?, days: whole(sum.days)?, nanos: (sum.nanos / 1e3).round() as i64 * 1000 })
}

fn words(text: &str, default_unit: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim();
    let mut ago = false;
    let mut seen = false;
    while !rest.is_empty() {
        if rest == "ago" && seen {
            ago = true;
            break;
        }
        let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:+-".contains(c))).unwrap_or(rest.len());
        let mut number = rest.get(..end)?;
        // Scientific notation: 1e3 seconds.
        let mut after = rest.get(end..)?;
        if after.starts_with('e') && after.get(1..).is_some_and(|a| a.starts_with(|c: char| c.is_ascii_digit() || c == '-')) {
            let more = after.get(1..)?.find(|c: char| !(c.is_ascii_digit() || c == '-')).map_or(after.len(), |n| n + 1);
            number = rest.get(..end + more)?;
            after = after.get(more..)?;
        }
        if number.is_empty() {
            return None;
        }
        seen = true;
        after = after.trim_start();
        if number.contains(':') {
            sum.nanos += clock(number)?;
            rest = after;
            continue;
        }
        let body = number.trim_start_matches(['+', '-']);
        if let Some((years, months)) = body.split_once('-') {
            let sign = if number.starts_with('-') { -1.0 } else { 1.0 };
            sum.months += sign * (years.parse::<f64>().ok()? * 12.0 + months.parse::<f64>().ok()?);
            rest = after;
            continue;
        }
        let amount: f64 = number.parse().ok()?;
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let word = after.get(..end)?;
        if word.is_empty() {
            // A bare number in front of a time is days: '1 12:00'.
            let unit = if after.contains(':') { "day" } else { default_unit };
            sum.add(amount, unit)?;
            rest = after;
        } else if word == "ago" {
            sum.add(amount, default_unit)?;
            rest = after;
        } else {
            sum.add(amount, word)?;
            rest = after.get(end..)?.trim_start();
        }
    }
    if !seen {
        return None;
    }
    Some(if ago { Sum { months: -sum.months, days: -sum.days, nanos: -sum.nanos } } else { sum })
}

/// `[-]hh:mm[:ss[.fff]]`, in nanoseconds.
fn clock(text: &str) -> Option<f64> {
    let negative = text.starts_with('-');
    let parts: Vec<&str> = text.trim_start_matches(['+', '-']).split(':').collect();
    let number = |s: &str| s.parse::<f64>().ok().filter(|v| *v >= 0.0);
    let seconds = match parts.as_slice() {
        [h, m] => number(h)? * 3600.0 + number(m)? * 60.0,
        [h, m, s] => number(h)? * 3600.0 + number(m)? * 60.0 + number(s)?,
        _ => return None,
    };
    Some(if negative { -seconds } else { seconds } * SECOND)
}

/// ISO 8601: `p1y2m3dt4h5m6.7s`, lower case.
fn iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut time = false;
    let mut rest = text.strip_prefix('p')?;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('t') {
            time = true;
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))?;
        let amount: f64 = rest.get(..end)?.parse().ok()?;
        let unit = match (rest.get(end..end + 1)?, time) {
            ("y", false) => "year",
            ("m", false) => "month",
            ("w", false) => "week",
            ("d", false) => "day",
            ("h", true) => "hour",
            ("m", true) => "minute",
            ("s", true) => "second",
            _ => return None,
        };
        sum.add(amount, unit)?;
        rest = rest.get(end + 1..)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spellings_agree_with_postgresql() {
        let s = 1_000_000_000;
        for (text, months, days, nanos) in [
            ("0.4 s", 0, 0, 400_000_000),
            ("1 day 2 hours", 0, 1, 7200 * s),
            ("1 year 2 mons", 14, 0, 0),
            ("1-2", 14, 0, 0),
            ("1 12:30:01.5", 0, 1, 45_001_500_000_000),
            ("-01:30", 0, 0, -5400 * s),
            ("1.5 months", 1, 15, 0),
            ("1.5 days", 0, 1, 43_200 * s),
            ("1.5 years", 18, 0, 0),
            ("2 weeks", 0, 14, 0),
            ("3 days ago", 0, -3, 0),
            ("P1Y2M3DT4H5M6.7S", 14, 3, 14_706_700_000_000),
            ("100ms", 0, 0, 100_000_000),
            ("1e3 ms", 0, 0, s),
            ("5", 0, 0, 5 * s),
            ("@ 1 minute", 0, 0, 60 * s),
        ] {
            assert_eq!(parse(text, None).unwrap(), Parts { months, days, nanos }, "{text}");
        }
        assert_eq!(parse("5", Some("day")).unwrap(), Parts { months: 0, days: 5, nanos: 0 });
        for text in ["", "abc", "1 fortnight", "P", "1:2:3:4", "ago"] {
            assert_eq!(parse(text, None).unwrap_err().kind, Kind::InvalidDatetime, "{text}");
        }
    }
}
