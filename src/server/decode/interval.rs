//! Intervals from text.
//!
//! In: `1 year 2 mons -3 days 04:05:06.7`, `@ 1 day ago`, `P1Y2M3DT4H`, `1-2`, `1 12:00:00`. Out: months, days and
//! microseconds. Invariant: every IntervalStyle that the encoder prints reads back; a fraction of a unit spills into the
//! smaller ones (a month has 30 days, a day 24 hours). Deliberately absent: `interval(p)` and field restrictions.

use squilla_core::error::{Error, Kind, Result};

use crate::encode::interval::Parts;

#[derive(Default)]
struct Sum {
    months: f64,
    days: f64,
    us: f64,
}

impl Sum {
    fn add(&mut self, amount: f64, unit: &str) -> Option<()> {
        let us = |sum: &mut Self, scale: f64| sum.us += (amount * scale).round();
        match unit {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" => us(self, 1.0),
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => us(self, 1e3),
            "second" | "seconds" | "sec" | "secs" | "s" => us(self, 1e6),
            "minute" | "minutes" | "min" | "mins" | "m" => us(self, 6e7),
            "hour" | "hours" | "hr" | "hrs" | "h" => us(self, 3.6e9),
            "day" | "days" | "d" => self.add_days(amount),
            "week" | "weeks" | "w" => self.add_days(amount * 7.0),
            "month" | "months" | "mon" | "mons" => self.add_months(amount),
            "year" | "years" | "yr" | "yrs" | "y" => self.months += (amount * 12.0).round(),
            "decade" | "decades" => self.months += (amount * 120.0).round(),
            "century" | "centuries" => self.months += (amount * 1200.0).round(),
            "millennium" | "millennia" | "mil" => self.months += (amount * 12_000.0).round(),
            _ => return None,
        }
        Some(())
    }

    fn add_days(&mut self, amount: f64) {
        self.days += amount.trunc();
        self.us += (amount.fract() * 8.64e10).round();
    }

    fn add_months(&mut self, amount: f64) {
        self.months += amount.trunc();
        self.add_days((amount.fract() * 30.0 * 1e9).round() / 1e9);
    }

    fn finish(self, sign: f64, text: &str) -> Result<Parts> {
        let out = || Error::new(Kind::InvalidDatetime, format!("interval field value out of range: \"{text}\""));
        let int = |v: f64| if v.abs() <= f64::from(i32::MAX) { Ok((v * sign) as i32) } else { Err(out()) };
        if self.us.abs() > 9.2e18 {
            return Err(out());
        }
        Ok(Parts { months: int(self.months)?, days: int(self.days)?, us: (self.us * sign) as i64 })
    }
}

fn bad(text: &str) -> Error {
    Error::new(Kind::InvalidDatetime, format!("invalid input syntax for type interval: \"{text}\""))
}

/// interval.
pub fn interval(text: &str) -> Result<Parts> {
    let lower = text.trim().to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix('p') {
        return iso(rest, text);
    }
    let mut words: Vec<&str> = lower.strip_prefix('@').unwrap_or(&lower).split_ascii_whitespace().collect();
    let ago = words.last() == Some(&"ago");
    if ago {
        words.pop();
    }
    if words.is_empty() {
        return Err(bad(text));
    }
    // `-1-2` and `-1 2:03:04` in SQL-standard form: a leading minus holds for all that has no sign of its own.
    let standard = !words.iter().any(|w| w.contains(|c: char| c.is_ascii_alphabetic()));
    let all_negative = standard && words[0].starts_with('-') && words[1..].iter().all(|w| !w.starts_with(['+', '-']));
    let mut sum = Sum::default();
    let mut i = 0;
    while i < words.len() {
        let word = words[i];
        i += 1;
        let negative = word.starts_with('-') || (all_negative && i > 1);
        let body = word.trim_start_matches(['+', '-']);
        let sign = if negative { -1.0 } else { 1.0 };
        if body.contains(':') {
            sum.us += sign * clock(body).ok_or_else(|| bad(text))?;
            continue;
        }
        if let Some((years, months)) = body.split_once('-') {
            let number = |t: &str| t.parse::<u32>().map(f64::from).map_err(|_| bad(text));
            sum.months += sign * (number(years)? * 12.0 + number(months)?);
            continue;
        }
        let end = body.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(body.len());
        let amount: f64 = body[..end].parse().map_err(|_| bad(text))?;
        let unit = match (&body[end..], words.get(i)) {
            ("", Some(next)) if next.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                i += 1;
                next
            }
            // `1 12:00:00`: a bare number before a time is days; alone it is seconds.
            ("", Some(next)) if next.contains(':') => "day",
            ("", None) => "second",
            ("", Some(_)) => return Err(bad(text)),
            (unit, _) => unit,
        };
        sum.add(sign * amount, unit).ok_or_else(|| bad(text))?;
    }
    sum.finish(if ago { -1.0 } else { 1.0 }, text)
}

/// hh:mm[:ss[.f]], in microseconds.
fn clock(body: &str) -> Option<f64> {
    let parts: Vec<&str> = body.split(':').collect();
    let number = |t: &str| t.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
    match parts.as_slice() {
        [minutes, seconds] if seconds.contains('.') => Some(number(minutes)? * 6e7 + (number(seconds)? * 1e6).round()),
        [hours, minutes] => Some(number(hours)? * 3.6e9 + number(minutes)? * 6e7),
        [hours, minutes, seconds] => Some(number(hours)? * 3.6e9 + number(minutes)? * 6e7 + (number(seconds)? * 1e6).round()),
        _ => None,
    }
}

/// What follows the P of ISO 8601.
fn iso(rest: &str, text: &str) -> Result<Parts> {
    let (date, time) = rest.split_once('t').unwrap_or((rest, ""));
    if date.is_empty() && time.is_empty() {
        return Err(bad(text));
    }
    let mut sum = Sum::default();
    for (part, units) in
        [(date, [('y', "year"), ('m', "month"), ('w', "week"), ('d', "day")]), (time, [('h', "hour"), ('m', "minute"), ('s', "second"), ('\0', "")])]
    {
        let mut left = part;
        while !left.is_empty() {
            let end = left.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| bad(text))?;
            let amount: f64 = left[..end].parse().map_err(|_| bad(text))?;
            let letter = left[end..].chars().next();
            let unit = units.iter().find(|(l, _)| Some(*l) == letter).map(|(_, unit)| *unit).ok_or_else(|| bad(text))?;
            sum.add(amount, unit).ok_or_else(|| bad(text))?;
            left = &left[end + 1..];
        }
    }
    sum.finish(1.0, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::encode::style::IntervalStyle;

    fn parts(text: &str) -> (i32, i32, i64) {
        let p = interval(text).unwrap();
        (p.months, p.days, p.us)
    }

    #[test]
    fn spellings() {
        assert_eq!(parts("1 year 2 mons 3 days 04:05:06.789"), (14, 3, 14_706_789_000));
        assert_eq!(parts("0.4 s"), (0, 0, 400_000));
        assert_eq!(parts("1.5 days"), (0, 1, 43_200_000_000));
        assert_eq!(parts("1.5 months"), (1, 15, 0));
        assert_eq!(parts("2 weeks ago"), (0, -14, 0));
        assert_eq!(parts("P1Y2M3DT4H5M6.789S"), (14, 3, 14_706_789_000));
        assert_eq!(parts("PT-1.5S"), (0, 0, -1_500_000));
        assert_eq!(parts("1-2"), (14, 0, 0));
        assert_eq!(parts("90"), (0, 0, 90_000_000));
        assert!(interval("x").is_err() && interval("").is_err() && interval("1 parsec").is_err() && interval("P").is_err());
    }

    #[test]
    fn every_style_reads_back() {
        for wanted in [(14, 3, 14_706_789_000), (0, 0, 0), (0, -1, 7_200_000_000), (-14, 0, 0), (0, 1, 0), (0, 0, -1_500_000), (-2, 5, -1)] {
            for style in [IntervalStyle::Postgres, IntervalStyle::PostgresVerbose, IntervalStyle::SqlStandard, IntervalStyle::Iso8601] {
                let mut out = Vec::new();
                crate::encode::interval::interval(&mut out, style, Parts { months: wanted.0, days: wanted.1, us: wanted.2 });
                let text = String::from_utf8(out).unwrap();
                assert_eq!(parts(&text), wanted, "{text}");
            }
        }
    }
}
