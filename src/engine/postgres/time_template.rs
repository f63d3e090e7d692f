//! Dates and times from text by a template: `to_date`, `to_timestamp`.
//!
//! In: text, a template of PostgreSQL. Out: a date and a time of day. Invariant: blanks and separators of text and template
//! need not agree; text that has no number where the template wants one is 22007, a field out of range 22008.
//! Deliberately absent: time zones in templates, Julian days, years before Christ.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Weekday};
use squilla_core::error::{Error, Kind, Result};

#[derive(Default)]
struct Read {
    year: Option<i32>,
    iso_year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    week: Option<u32>,
    iso_week: Option<u32>,
    weekday: Option<u32>,
    hour: u32,
    half_day: bool,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    micros: u32,
}

/// Longest first.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "MONTH", "Y,YYY", "IYYY", "YYYY", "SSSSS", "SSSS", "A.M.", "P.M.", "DAY", "DDD", "MON", "YYY", "HH", "MI", "MM", "MS", "SS",
    "US", "AM", "PM", "DD", "DY", "ID", "IW", "IY", "WW", "YY", "FM", "FX", "TH", "Y", "D", "Q", "J",
];

const MONTHS: [&str; 12] = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];

fn separator(c: char) -> bool {
    !c.is_alphanumeric()
}

fn bad(text: &str, pattern: &str) -> Error {
    let shown: String = text.chars().take(pattern.len().max(1)).collect();
    Error::new(Kind::InvalidDatetime, format!("invalid value \"{shown}\" for \"{pattern}\"")).detail("Value must be an integer.")
}

/// A number of at most `width` digits at the start of `text`.
fn number<'a>(text: &'a str, width: usize, pattern: &str) -> Result<(i64, usize, &'a str)> {
    let text = text.trim_start();
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let count = body.bytes().take(width).take_while(u8::is_ascii_digit).count();
    let value: i64 = body.get(..count).and_then(|d| d.parse().ok()).ok_or_else(|| bad(text, pattern))?;
    Ok((sign * value, count, body.get(count..).unwrap_or("")))
}

/// The pattern at the start of a template.
fn pattern_at(template: &str) -> Option<&'static str> {
    PATTERNS.iter().copied().find(|p| template.get(..p.len()).is_some_and(|t| t.eq_ignore_ascii_case(p)))
}

fn year(value: i64, digits: usize) -> i32 {
    let value = value as i32;
    match digits {
        1 | 2 if value < 70 => 2000 + value,
        1 | 2 => 1900 + value,
        3 if value < 100 => 2000 + value,
        3 => 1000 + value,
        _ => value,
    }
}

fn word<'a>(text: &'a str, names: &[&str], short: bool, pattern: &str) -> Result<(usize, &'a str)> {
    let text = text.trim_start();
    let lower = text.to_lowercase();
    for (at, name) in names.iter().enumerate() {
        let name = if short { name.get(..3).unwrap_or(name) } else { name };
        if lower.starts_with(name) {
            return Ok((at, text.get(name.len()..).unwrap_or("")));
        }
    }
    let shown: String = text.chars().take(pattern.len()).collect();
    Err(Error::new(Kind::InvalidDatetime, format!("invalid value \"{shown}\" for \"{pattern}\""))
        .detail("The given value did not match any of the allowed values for this field."))
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Read {
    /// Reads what one pattern stands for; gives the rest of the text.
    fn take<'a>(&mut self, pattern: &'static str, text: &'a str, tight: bool) -> Result<&'a str> {
        // Where patterns follow one another without a separator, each has its width.
        let width = |own: usize| if tight { own } else { own.max(9) };
        let unsigned = |width: usize| number(text, width, pattern).map(|(v, n, rest)| (v.unsigned_abs() as u32, n, rest));
        Ok(match pattern {
            "YYYY" | "IYYY" | "Y,YYY" => {
                let (value, digits, rest) = number(text, width(4), pattern)?;
                let value = if digits < 4 && pattern != "Y,YYY" { year(value, digits) } else { value as i32 };
                *(if pattern == "IYYY" { &mut self.iso_year } else { &mut self.year }) = Some(value);
                rest
            }
            "YYY" | "YY" | "Y" | "IY" => {
                let (value, digits, rest) = number(text, width(pattern.len()), pattern)?;
                *(if pattern == "IY" { &mut self.iso_year } else { &mut self.year }) = Some(year(value, digits));
                rest
            }
            "MONTH" => {
                let (at, rest) = word(text, &MONTHS, false, pattern).or_else(|_| word(text, &MONTHS, true, pattern))?;
                self.month = Some(at as u32 + 1);
                rest
            }
            "MON" => {
                let (at, rest) = word(text, &MONTHS, true, pattern)?;
                self.month = Some(at as u32 + 1);
                rest
            }
            "DAY" => word(text, &DAYS, false, pattern)?.1,
            "DY" => word(text, &DAYS, true, pattern)?.1,
            "AM" | "PM" | "A.M." | "P.M." => {
                let trimmed = text.trim_start();
                let lower = trimmed.to_lowercase().replace('.', "");
                self.afternoon = Some(match lower.get(..2) {
                    Some("am") => false,
                    Some("pm") => true,
                    _ => return Err(bad(trimmed, pattern)),
                });
                trimmed.get(pattern.len()..).unwrap_or("")
            }
            "US" | "MS" => {
                let own = if pattern == "US" { 6 } else { 3 };
                let (value, digits, rest) = unsigned(own)?;
                self.micros = value * 10u32.pow(6 - digits.min(6) as u32);
                rest
            }
            "FM" | "FX" => text,
            "TH" => text.get(2..).unwrap_or(""),
            _ => {
                let own = if pattern == "DDD" {
                    3
                } else if pattern.starts_with("SSSS") {
                    5
                } else {
                    pattern.len().min(2)
                };
                let (value, _, rest) = unsigned(width(own))?;
                match pattern {
                    "MM" => self.month = Some(value),
                    "DD" => self.day = Some(value),
                    "DDD" => self.day_of_year = Some(value),
                    "WW" => self.week = Some(value),
                    "IW" => self.iso_week = Some(value),
                    "ID" => self.weekday = Some(value),
                    "HH24" => self.hour = value,
                    "HH12" | "HH" => (self.hour, self.half_day) = (value, true),
                    "MI" => self.minute = value,
                    "SS" => self.second = value,
                    "SSSS" | "SSSSS" => (self.hour, self.minute, self.second) = (value / 3600, value / 60 % 60, value % 60),
                    _ => {}
                }
                rest
            }
        })
    }

    fn moment(&self, text: &str) -> Result<NaiveDateTime> {
        let out = || Error::new(Kind::DatetimeOverflow, format!("date/time field value out of range: \"{text}\""));
        let year = self.year.unwrap_or(1);
        let date = if let (Some(year), Some(week)) = (self.iso_year, self.iso_week) {
            let weekday = Weekday::try_from((self.weekday.unwrap_or(1).clamp(1, 7) - 1) as u8).map_err(|_| out())?;
            NaiveDate::from_isoywd_opt(year, week, weekday)
        } else if let Some(day) = self.day_of_year {
            NaiveDate::from_yo_opt(year, day)
        } else if let Some(week) = self.week.filter(|_| self.month.is_none()) {
            NaiveDate::from_yo_opt(year, (week.max(1) - 1) * 7 + 1)
        } else {
            NaiveDate::from_ymd_opt(self.iso_year.or(self.year).unwrap_or(1), self.month.unwrap_or(1), self.day.unwrap_or(1))
        };
        let date = date.ok_or_else(out)?;
        let mut hour = self.hour;
        if self.half_day || self.afternoon.is_some() {
            if !(1..=12).contains(&hour) {
                return Err(Error::new(Kind::InvalidDatetime, format!("hour \"{hour}\" is invalid for the 12-hour clock"))
                    .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            hour = hour % 12 + if self.afternoon == Some(true) { 12 } else { 0 };
        }
        let time = NaiveTime::from_hms_micro_opt(hour, self.minute, self.second, self.micros).ok_or_else(out)?;
        let _ = date.year();
        Ok(date.and_time(time))
    }
}

/// The moment that `text` spells by `template`.
///
/// # Errors
/// 22007 and 22008.
pub fn read(text: &str, template: &str) -> Result<NaiveDateTime> {
    let mut read = Read::default();
    let mut rest = text.trim_start();
    let mut pattern = template;
    while let Some(c) = pattern.chars().next() {
        if let Some(quoted) = pattern.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            let skipped = quoted.get(..end).unwrap_or("").chars().count();
            rest = rest.char_indices().nth(skipped).map_or("", |(at, _)| rest.get(at..).unwrap_or(""));
            pattern = quoted.get(end + 1..).unwrap_or("");
        } else if let Some(known) = pattern_at(pattern) {
            pattern = pattern.get(known.len()..).unwrap_or("");
            if rest.is_empty() {
                break;
            }
            let tight = pattern_at(pattern).is_some_and(|p| p != "TH");
            rest = read.take(known, rest, tight)?;
        } else {
            pattern = pattern.get(c.len_utf8()..).unwrap_or("");
            if separator(c) {
                rest = rest.trim_start_matches(|c: char| separator(c) && c != '-' && c != '+').trim_start();
                rest = if rest.starts_with(['-', '+']) && c != ' ' { rest.get(1..).unwrap_or("") } else { rest };
            } else {
                rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or("");
            }
        }
    }
    read.moment(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_are_read() {
        for (text, template, moment) in [
            ("17 May 2020", "DD Mon YYYY", "2020-05-17 00:00:00"),
            ("2020-05-17", "YYYY-MM-DD", "2020-05-17 00:00:00"),
            ("20200517", "YYYYMMDD", "2020-05-17 00:00:00"),
            ("2020-05-17 10:20", "YYYY-MM-DD HH24:MI", "2020-05-17 10:20:00"),
            ("05/17/20 01:02:03 PM", "MM/DD/YY HH12:MI:SS PM", "2020-05-17 13:02:03"),
            ("2020 136", "YYYY DDD", "2020-05-15 00:00:00"),
        ] {
            assert_eq!(read(text, template).unwrap().format("%Y-%m-%d %H:%M:%S").to_string(), moment, "{text}");
        }
        assert_eq!(read("xx", "YYYY").unwrap_err().kind, Kind::InvalidDatetime);
        assert_eq!(read("2020-13-01", "YYYY-MM-DD").unwrap_err().kind, Kind::DatetimeOverflow);
    }
}
