//! Dates, times and timestamps from text.
//!
//! In: what people and drivers write: ISO 8601, `12/31/2024`, `Jan 5, 2024`, `now`, `infinity`, zones as offsets or
//! names. Out: days or microseconds since 1970. Invariant: everything that the encoder prints in any DateStyle reads back.
//! Deliberately absent: `to_timestamp` patterns.

use squilla_core::error::{Error, Kind, Result};

use crate::encode::datetime::{civil, days_of};
use crate::encode::zone::Zone;

/// What the meaning of a date depends on.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Zone of timestamptz values written without one.
    pub zone: Zone,
    /// 31/12 rather than 12/31.
    pub day_first: bool,
    /// Microseconds since 1970 UTC at the start of the statement.
    pub now_us: i64,
}

const SECOND: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
const MONTHS: [&str; 12] = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

#[derive(Debug, Default)]
struct Found {
    date: Option<i64>,
    time_us: Option<i64>,
    offset_s: Option<i64>,
    zone: Option<Zone>,
}

enum Moment {
    Infinite(bool),
    Found(Found),
}

fn bad(ty: &str, text: &str) -> Error {
    Error::new(Kind::InvalidDatetime, format!("invalid input syntax for type {ty}: \"{text}\""))
}

fn range(text: &str) -> Error {
    Error::new(Kind::InvalidDatetime, format!("date/time field value out of range: \"{text}\""))
}

/// date, in days since 1970-01-01.
pub fn date(text: &str, clock: &Clock) -> Result<i32> {
    match moment("date", text, clock)? {
        Moment::Infinite(positive) => Ok(if positive { i32::MAX } else { i32::MIN }),
        Moment::Found(f) => f.date.and_then(|d| i32::try_from(d).ok()).ok_or_else(|| bad("date", text)),
    }
}

/// timestamp, in microseconds since 1970; a zone in the text is ignored.
pub fn timestamp(text: &str, clock: &Clock) -> Result<i64> {
    match moment("timestamp", text, clock)? {
        Moment::Infinite(positive) => Ok(if positive { i64::MAX } else { i64::MIN }),
        Moment::Found(f) => local_us(&f, text, "timestamp"),
    }
}

/// timestamptz, in microseconds since 1970 UTC.
pub fn timestamptz(text: &str, clock: &Clock) -> Result<i64> {
    let ty = "timestamp with time zone";
    match moment(ty, text, clock)? {
        Moment::Infinite(positive) => Ok(if positive { i64::MAX } else { i64::MIN }),
        Moment::Found(f) => {
            let local = local_us(&f, text, ty)?;
            let utc_s = match (f.offset_s, &f.zone) {
                (Some(offset), _) => local.div_euclid(SECOND) - offset,
                (None, Some(zone)) => zone.to_utc_s(local.div_euclid(SECOND)),
                (None, None) => clock.zone.to_utc_s(local.div_euclid(SECOND)),
            };
            utc_s.checked_mul(SECOND).and_then(|us| us.checked_add(local.rem_euclid(SECOND))).ok_or_else(|| range(text))
        }
    }
}

/// time of day, in microseconds since midnight.
pub fn time(text: &str, clock: &Clock) -> Result<i64> {
    match moment("time", text, clock)? {
        Moment::Found(Found { time_us: Some(us), .. }) => Ok(us),
        _ => Err(bad("time", text)),
    }
}

fn local_us(f: &Found, text: &str, ty: &str) -> Result<i64> {
    let days = f.date.ok_or_else(|| bad(ty, text))?;
    days.checked_mul(DAY_S * SECOND).and_then(|us| us.checked_add(f.time_us.unwrap_or(0))).ok_or_else(|| range(text))
}

fn moment(ty: &str, text: &str, clock: &Clock) -> Result<Moment> {
    let lower = text.trim().to_ascii_lowercase();
    let local_now = || {
        let s = clock.now_us.div_euclid(SECOND);
        clock.now_us + i64::from(clock.zone.offset_s(&crate::encode::zone::OffsetCache::default(), s)) * SECOND
    };
    let day = |shift: i64| Found { date: Some(local_now().div_euclid(DAY_S * SECOND) + shift), ..Found::default() };
    let found = match lower.as_str() {
        "infinity" | "+infinity" => return Ok(Moment::Infinite(true)),
        "-infinity" => return Ok(Moment::Infinite(false)),
        "epoch" => Found { date: Some(0), time_us: Some(0), offset_s: Some(0), zone: None },
        "now" => Found { time_us: Some(local_now().rem_euclid(DAY_S * SECOND)), ..day(0) },
        "today" => day(0),
        "tomorrow" => day(1),
        "yesterday" => day(-1),
        _ => Scanner { ty, text, clock, numbers: Vec::new(), month: None, found: Found::default(), bc: false, pm: None }.run(&lower)?,
    };
    Ok(Moment::Found(found))
}

/// Collects the pieces of a date and time in whatever order they come.
struct Scanner<'a> {
    ty: &'a str,
    text: &'a str,
    clock: &'a Clock,
    /// Numbers of the date, with how many digits each had.
    numbers: Vec<(i64, usize)>,
    month: Option<u32>,
    found: Found,
    bc: bool,
    pm: Option<bool>,
}

impl Scanner<'_> {
    fn bad(&self) -> Error {
        bad(self.ty, self.text)
    }

    fn run(mut self, lower: &str) -> Result<Found> {
        let mut rest = lower;
        while let Some(c) = rest.chars().next() {
            let after = match c {
                '0'..='9' => self.digits(rest)?,
                'a'..='z' => self.word(rest)?,
                '+' | '-' if self.found.time_us.is_some() => self.offset(rest)?,
                ' ' | ',' | '/' | '-' | '.' | '\t' => &rest[1..],
                _ => return Err(self.bad()),
            };
            rest = after;
        }
        self.finish()
    }

    fn digits<'t>(&mut self, rest: &'t str) -> Result<&'t str> {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let after = &rest[end..];
        if after.starts_with(':') && self.found.time_us.is_none() {
            return self.clock_time(rest);
        }
        let number: i64 = rest[..end].parse().map_err(|_| self.bad())?;
        let date_is_known = self.numbers.len() == 3 || self.found.date.is_some();
        if end >= 8 && self.numbers.is_empty() && self.month.is_none() && self.found.date.is_none() {
            let day = checked_day(number / 10_000, (number / 100 % 100) as u32, (number % 100) as u32).ok_or_else(|| range(self.text))?;
            self.found.date = Some(day);
        } else if date_is_known && end == 6 && self.found.time_us.is_none() {
            self.found.time_us = Some((number / 10_000 * 3600 + number / 100 % 100 * 60 + number % 100) * SECOND);
        } else {
            self.numbers.push((number, end));
        }
        Ok(after)
    }

    /// hh:mm[:ss[.ffffff]]
    fn clock_time<'t>(&mut self, rest: &'t str) -> Result<&'t str> {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
        let mut parts = rest[..end].split(':');
        let hour: i64 = parts.next().and_then(|p| p.parse().ok()).ok_or_else(|| self.bad())?;
        let minute: i64 = parts.next().and_then(|p| p.parse().ok()).ok_or_else(|| self.bad())?;
        let seconds = parts.next().unwrap_or("0");
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        let second: i64 = whole.parse().map_err(|_| self.bad())?;
        let micros = micros(fraction).ok_or_else(|| self.bad())?;
        if parts.next().is_some() || hour > 24 || minute > 59 || second > 60 {
            return Err(range(self.text));
        }
        let us = (hour * 3600 + minute * 60 + second) * SECOND + micros;
        if us > DAY_S * SECOND {
            return Err(range(self.text));
        }
        self.found.time_us = Some(us);
        Ok(&rest[end..])
    }

    /// ±hh, ±hhmm, ±hh:mm, ±hh:mm:ss
    fn offset<'t>(&mut self, rest: &'t str) -> Result<&'t str> {
        let sign = if rest.starts_with('-') { -1 } else { 1 };
        let body = &rest[1..];
        let end = body.find(|c: char| !(c.is_ascii_digit() || c == ':')).unwrap_or(body.len());
        let digits = &body[..end];
        let number = |t: &str| t.parse::<i64>().map_err(|_| self.bad());
        let seconds = if digits.contains(':') {
            let mut total = 0;
            for (part, unit) in digits.split(':').zip([3600, 60, 1]) {
                total += number(part)? * unit;
            }
            total
        } else if digits.len() > 2 {
            let n = number(digits)?;
            n / 100 * 3600 + n % 100 * 60
        } else {
            number(digits)? * 3600
        };
        if seconds > 16 * 3600 {
            return Err(Error::new(Kind::InvalidDatetime, format!("time zone displacement out of range: \"{}\"", self.text)));
        }
        self.found.offset_s = Some(sign * seconds);
        Ok(&body[end..])
    }

    fn word<'t>(&mut self, rest: &'t str) -> Result<&'t str> {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let word = &rest[..end];
        let prefix_of = |names: &[&str]| (word.len() >= 3).then(|| names.iter().position(|n| n.starts_with(word))).flatten();
        match word {
            "t" if !self.numbers.is_empty() || self.found.date.is_some() => return Ok(&rest[end..]),
            "bc" => self.bc = true,
            "ad" => {}
            "am" => self.pm = Some(false),
            "pm" => self.pm = Some(true),
            "z" | "zulu" | "utc" | "gmt" => self.found.offset_s = Some(0),
            _ if prefix_of(&MONTHS).is_some() => self.month = prefix_of(&MONTHS).map(|m| m as u32 + 1),
            _ if prefix_of(&WEEKDAYS).is_some() => {}
            _ => {
                // Zone names hold slashes, underscores and digits.
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+'))).unwrap_or(rest.len());
                let zone = self
                    .own_abbreviation(&rest[..end])
                    .or_else(|| abbreviation(&rest[..end]))
                    .map(|s| Found { offset_s: Some(s), ..Found::default() });
                match zone {
                    Some(f) => self.found.offset_s = f.offset_s,
                    None => match Zone::parse(&rest[..end]) {
                        Some(zone) if self.found.time_us.is_some() => self.found.zone = Some(zone),
                        _ if rest[..end].contains('/') => {
                            return Err(Error::new(Kind::InvalidArgument, format!("time zone \"{}\" not recognized", &rest[..end])));
                        }
                        _ => return Err(self.bad()),
                    },
                }
                return Ok(&rest[end..]);
            }
        }
        Ok(&rest[end..])
    }

    /// The session's zone knows its own abbreviations best: IST is India's there, Israel's or Ireland's elsewhere.
    fn own_abbreviation(&self, word: &str) -> Option<i64> {
        let now_s = self.clock.now_us.div_euclid(SECOND);
        [now_s, now_s + 182 * DAY_S].into_iter().find_map(|at| {
            let known = self.clock.zone.abbreviation(at)?;
            known.eq_ignore_ascii_case(word).then(|| i64::from(self.clock.zone.offset_s(&crate::encode::zone::OffsetCache::default(), at)))
        })
    }

    fn finish(mut self) -> Result<Found> {
        if let Some(pm) = self.pm {
            let us = self.found.time_us.ok_or_else(|| self.bad())?;
            let hour = us / (3600 * SECOND);
            if !(1..=12).contains(&hour) {
                return Err(range(self.text));
            }
            let shift = match (pm, hour) {
                (true, 12) => 0,
                (true, _) => 12,
                (false, 12) => -12,
                (false, _) => 0,
            };
            self.found.time_us = Some(us + shift * 3600 * SECOND);
        }
        if self.found.date.is_none() && (!self.numbers.is_empty() || self.month.is_some()) {
            let (year, month, day) = self.year_month_day()?;
            let year = if self.bc { 1 - year } else { year };
            self.found.date = Some(checked_day(year, month, day).ok_or_else(|| range(self.text))?);
        }
        if self.found.date.is_none() && self.found.time_us.is_none() {
            return Err(self.bad());
        }
        Ok(self.found)
    }

    fn year_month_day(&self) -> Result<(i64, u32, u32)> {
        let year = |(value, digits): (i64, usize)| if digits <= 2 { if value < 70 { value + 2000 } else { value + 1900 } } else { value };
        let small = |value: i64| u32::try_from(value).map_err(|_| range(self.text));
        match (self.month, self.numbers.as_slice()) {
            (Some(month), [a, b]) if a.1 > 2 => Ok((year(*a), month, small(b.0)?)),
            (Some(month), [a, b]) => Ok((year(*b), month, small(a.0)?)),
            (None, [a, b, c]) if a.1 > 2 => Ok((year(*a), small(b.0)?, small(c.0)?)),
            (None, [a, b, c]) if self.clock.day_first || self.text.contains('.') && !self.text.contains(':') => {
                Ok((year(*c), small(b.0)?, small(a.0)?))
            }
            (None, [a, b, c]) => Ok((year(*c), small(a.0)?, small(b.0)?)),
            // A julian day of the year: 2024.366 and such are not worth their ambiguity.
            _ => Err(self.bad()),
        }
    }
}

fn abbreviation(word: &str) -> Option<i64> {
    let hours = match word {
        "est" => -5,
        "edt" | "ast" => -4,
        "cst" => -6,
        "cdt" => -5,
        "mst" => -7,
        "mdt" => -6,
        "pst" => -8,
        "pdt" => -7,
        "cet" | "bst" | "met" => 1,
        "cest" | "eet" | "sast" => 2,
        "eest" | "msk" => 3,
        "jst" | "kst" => 9,
        "aest" => 10,
        "aedt" => 11,
        _ => return None,
    };
    Some(hours * 3600)
}

/// `ffffff` as microseconds, rounded.
fn micros(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let round = i64::from(fraction.as_bytes().get(6).is_some_and(|d| *d >= b'5'));
    digits.parse::<i64>().ok().map(|n| n + round)
}

fn checked_day(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(-4712..=5_874_897).contains(&year) {
        return None;
    }
    let days = days_of(year, month, day);
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::encode::style::Style;

    fn clock(zone: &str) -> Clock {
        Clock { zone: Zone::parse(zone).unwrap(), day_first: false, now_us: 1_700_000_000_000_000 }
    }

    #[test]
    fn dates_in_many_spellings() {
        let c = clock("UTC");
        for text in ["2024-02-29", "20240229", "02/29/2024", "Feb 29, 2024", "29 February 2024", "2024/2/29", "29.02.2024", "2024-02-29 10:00"] {
            assert_eq!(date(text, &c).unwrap(), 19_782, "{text}");
        }
        assert_eq!(date("29/02/2024", &Clock { day_first: true, ..c.clone() }).unwrap(), 19_782);
        assert_eq!(date("0001-12-31 BC", &c).unwrap(), -719_163);
        assert_eq!(date("infinity", &c).unwrap(), i32::MAX);
        assert_eq!(date("today", &c).unwrap(), 19_675);
        assert_eq!(date("2023-02-29", &c).unwrap_err().message, "date/time field value out of range: \"2023-02-29\"");
        assert_eq!(date("hello", &c).unwrap_err().message, "invalid input syntax for type date: \"hello\"");
        assert!(date("", &c).is_err() && date("13:00", &c).is_err());
    }

    #[test]
    fn timestamps_with_and_without_zones() {
        let c = clock("Europe/Paris");
        assert_eq!(timestamp("2023-11-14 22:13:20.5", &c).unwrap(), 1_700_000_000_500_000);
        assert_eq!(timestamp("2023-11-14T22:13:20.1234567", &c).unwrap(), 1_700_000_000_123_457);
        for text in [
            "2023-11-14 22:13:20+00",
            "2023-11-14T22:13:20Z",
            "2023-11-14 23:13:20",
            "2023-11-14 17:13:20 America/New_York",
            "2023-11-15 03:43:20+05:30",
            "2023-11-14 17:13:20-0500",
            "Tue Nov 14 23:13:20 2023 CET",
        ] {
            assert_eq!(timestamptz(text, &c).unwrap(), 1_700_000_000_000_000, "{text}");
        }
        assert_eq!(timestamptz("now", &c).unwrap(), c.now_us);
        assert_eq!(time("1:02:03 PM", &c).unwrap(), 46_923_000_000);
        assert!(timestamp("2024-01-01 25:00:00", &c).is_err());
    }

    #[test]
    fn every_style_reads_back() {
        let at = 1_700_000_000_123_456;
        for date_style in ["ISO", "SQL, MDY", "Postgres, MDY", "German"] {
            let mut style = Style { zone: Zone::parse("America/New_York").unwrap(), ..Style::default() };
            style.set_date_style(date_style);
            let mut out = Vec::new();
            crate::encode::datetime::timestamptz(&mut out, &style, &Default::default(), at);
            let text = String::from_utf8(out).unwrap();
            let c = Clock { zone: style.zone.clone(), day_first: style.day_first, now_us: 0 };
            assert_eq!(timestamptz(&text, &c).unwrap(), at, "{text}");
        }
    }
}
