//! Dates and times from text.
//!
//! In: what people write in a literal: ISO 8601, `12/31/2024`, `Jan 5, 2024`, a zone as offset or name, `today`, `epoch`.
//! Out: a day, a time of day, an offset. Invariant: what is no date is 22007, a day or hour that does not exist is 22008.
//! Deliberately absent: years before Christ, infinity, and DateStyle: 1/2/2024 is the second of January.

use arrow::array::timezone::Tz;
use chrono::{Duration, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Utc};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Clocks where it was written.
    pub local: NaiveDateTime,
    /// Seconds east of Greenwich, where the text has a zone.
    pub offset: Option<i32>,
}

impl Moment {
    /// Microseconds since 1970 UTC; `zone` holds where the text has none.
    pub fn instant(&self, zone: &str) -> Result<i64> {
        let offset = match self.offset {
            Some(offset) => offset,
            None => offset_of(zone, self.local)?,
        };
        Ok(self.local.and_utc().timestamp_micros() - i64::from(offset) * 1_000_000)
    }
}

/// Hours east of Greenwich of the abbreviations that PostgreSQL knows by default, those in wide use.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("akst", -9),
    ("hst", -10),
    ("wet", 0),
    ("bst", 1),
    ("cet", 1),
    ("cest", 2),
    ("eet", 2),
    ("eest", 3),
    ("msk", 3),
    ("jst", 9),
    ("kst", 9),
    ("aest", 10),
    ("nzst", 12),
];

/// The name of a zone as the data on zones spells it: `utc`, `europe/berlin`, `5` and `-7` are taken as well.
pub fn zone_name(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(hours) = text.parse::<i32>() {
        return (-15..=15).contains(&hours).then(|| format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs()));
    }
    let titled = |text: &str| text.split('/').map(|part| part.split('_').map(capital).collect::<Vec<_>>().join("_")).collect::<Vec<_>>().join("/");
    let spellings = [text.to_owned(), text.to_uppercase(), titled(&text.to_lowercase())];
    spellings.into_iter().find(|name| name.parse::<Tz>().is_ok())
}

fn offset_of(zone: &str, local: NaiveDateTime) -> Result<i32> {
    let zone: Tz = zone.parse().map_err(|_| Error::invalid_argument(format!("time zone \"{zone}\" not recognized")))?;
    Ok(match zone.offset_from_local_datetime(&local) {
        chrono::LocalResult::Single(offset) | chrono::LocalResult::Ambiguous(_, offset) => offset.fix().local_minus_utc(),
        chrono::LocalResult::None => zone.offset_from_utc_datetime(&local).fix().local_minus_utc(),
    })
}

#[derive(Default)]
struct Pieces {
    numbers: Vec<(i64, usize)>,
    /// Month by name, and how many numbers stood before it.
    month: Option<u32>,
    slashes: bool,
    time: Option<(i64, i64, i64, i64)>,
    afternoon: Option<bool>,
    offset: Option<i32>,
    zone: Option<String>,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Reads a date, a timestamp or a timestamptz.
pub fn read(text: &str, ty: &SqlType) -> Result<Moment> {
    let bad = || Error::new(Kind::InvalidDatetime, format!("invalid input syntax for type {}: \"{text}\"", ty.name()));
    let range = || Error::new(Kind::DatetimeOverflow, format!("date/time field value out of range: \"{text}\""));
    let lower = text.trim().to_ascii_lowercase();
    let now = Utc::now().naive_utc();
    let day = |shift: i64| Moment { local: (now.date() + Duration::days(shift)).and_time(NaiveTime::MIN), offset: None };
    match lower.as_str() {
        "now" => return Ok(Moment { local: now, offset: Some(0) }),
        "today" => return Ok(day(0)),
        "tomorrow" => return Ok(day(1)),
        "yesterday" => return Ok(day(-1)),
        "epoch" => return Ok(Moment { local: NaiveDateTime::default(), offset: Some(0) }),
        _ => {}
    }
    let pieces = scan(&lower).ok_or_else(bad)?;
    let date = date(&pieces).ok_or_else(bad)?.ok_or_else(range)?;
    let (mut hour, minute, second, micros) = pieces.time.unwrap_or_default();
    if let Some(afternoon) = pieces.afternoon {
        if !(1..=12).contains(&hour) {
            return Err(range());
        }
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let whole_day = hour == 24 && minute == 0 && second == 0 && micros == 0;
    if !(hour < 24 || whole_day) || minute > 59 || second > 60 {
        return Err(range());
    }
    let seconds = hour * 3600 + minute * 60 + second;
    let local = date.and_time(NaiveTime::MIN).checked_add_signed(Duration::microseconds(seconds * 1_000_000 + micros)).ok_or_else(range)?;
    let offset = match (&pieces.zone, pieces.offset) {
        (Some(zone), _) => Some(offset_of(zone, local).map_err(|_| bad())?),
        (None, offset) => offset,
    };
    if offset.is_some_and(|o| o.abs() > 16 * 3600) {
        return Err(Error::new(Kind::DatetimeOverflow, format!("time zone displacement out of range: \"{text}\"")));
    }
    Ok(Moment { local, offset })
}

fn scan(lower: &str) -> Option<Pieces> {
    let mut pieces = Pieces::default();
    // 2026-11-20t12:00: the t stands between digits.
    let bytes = lower.as_bytes();
    let split: String = lower
        .char_indices()
        .map(|(i, c)| {
            let between = i > 0 && bytes.get(i - 1).is_some_and(u8::is_ascii_digit) && bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
            if c == ',' || (c == 't' && between) { ' ' } else { c }
        })
        .collect();
    for token in split.split_whitespace() {
        piece(token, &mut pieces)?;
    }
    Some(pieces)
}

fn piece(token: &str, pieces: &mut Pieces) -> Option<()> {
    let letters = token.trim_end_matches('.');
    if pieces.time.is_some() && (token.starts_with('+') || token.starts_with('-')) {
        pieces.offset = Some(displacement(token)?);
    } else if token.contains(':') {
        if pieces.time.is_some() {
            return None;
        }
        let end = token.find(|c: char| !(c.is_ascii_digit() || ":.".contains(c))).unwrap_or(token.len());
        pieces.time = Some(clock(token.get(..end)?)?);
        let rest = token.get(end..)?;
        if !rest.is_empty() {
            piece(rest, pieces)?;
        }
    } else if matches!(token, "am" | "pm") {
        pieces.afternoon = Some(token == "pm");
    } else if matches!(token, "z" | "utc" | "gmt" | "zulu") {
        pieces.offset = Some(0);
    } else if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(known, _)| *known == token) {
        pieces.offset = Some(hours * 3600);
    } else if letters.len() >= 3 && letters.bytes().all(|b| b.is_ascii_alphabetic()) {
        let month = MONTHS.iter().position(|m| letters.starts_with(m));
        let weekday = DAYS.iter().any(|d| letters.starts_with(d));
        match month {
            Some(month) if pieces.month.is_none() => pieces.month = u32::try_from(month + 1).ok(),
            _ if weekday => {}
            _ => pieces.zone = Some(token.to_uppercase()),
        }
    } else if token.contains('/') && token.bytes().any(|b| b.is_ascii_alphabetic()) {
        let titled = token.split('/').map(|part| part.split('_').map(capital).collect::<Vec<_>>().join("_"));
        pieces.zone = Some(titled.collect::<Vec<_>>().join("/"));
    } else {
        pieces.slashes |= token.contains('/');
        for part in token.split(['-', '/', '.']) {
            match MONTHS.iter().position(|m| part.starts_with(m)) {
                Some(month) => pieces.month = u32::try_from(month + 1).ok(),
                None => pieces.numbers.push((part.parse().ok().filter(|n: &i64| *n >= 0)?, part.len())),
            }
        }
    }
    Some(())
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

fn clock(text: &str) -> Option<(i64, i64, i64, i64)> {
    let mut parts = text.split(':');
    let hour = parts.next()?.parse().ok()?;
    let minute = parts.next()?.parse().ok()?;
    let (second, micros) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
            let micros = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse::<f64>().ok()? * 1e6 };
            (whole.parse().ok()?, micros.round() as i64)
        }
    };
    parts.next().is_none().then_some((hour, minute, second, micros))
}

/// `+05`, `+0530`, `-05:30`, `+05:30:15` in seconds.
fn displacement(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let body = text.get(1..)?;
    let parts: Vec<&str> = match (body.contains(':'), body.len()) {
        (false, 3..) => vec![body.get(..body.len() - 2)?, body.get(body.len() - 2..)?],
        _ => body.split(':').collect(),
    };
    if parts.len() > 3 {
        return None;
    }
    let mut seconds = 0;
    for (part, unit) in parts.iter().zip([3600, 60, 1]) {
        seconds += part.parse::<i32>().ok().filter(|n| (0..60).contains(n))? * unit;
    }
    Some(sign * seconds)
}

/// None: no date; Some(None): a date that does not exist.
fn date(pieces: &Pieces) -> Option<Option<NaiveDate>> {
    let year = |(n, digits): (i64, usize)| match digits {
        0..=2 if n < 70 => n + 2000,
        0..=2 => n + 1900,
        _ => n,
    };
    let (y, m, d) = match (pieces.numbers.as_slice(), pieces.month) {
        ([(n, 8)], None) => (n / 10_000, n / 100 % 100, n % 100),
        ([a @ (_, 3..), b], Some(month)) => (year(*a), i64::from(month), b.0),
        ([a, b], Some(month)) => (year(*b), i64::from(month), a.0),
        ([a @ (_, 3..), b, c], None) => (year(*a), b.0, c.0),
        ([a, b, c], None) => (year(*c), a.0, b.0),
        _ => return None,
    };
    let made = || NaiveDate::from_ymd_opt(i32::try_from(y).ok()?, u32::try_from(m).ok()?, u32::try_from(d).ok()?);
    Some(made())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dates_are_read_as_people_write_them() {
        for (text, wanted, offset) in [
            ("2026-11-20", "2026-11-20 00:00:00", None),
            ("20261120", "2026-11-20 00:00:00", None),
            ("11/20/2026", "2026-11-20 00:00:00", None),
            ("Nov 20, 2026", "2026-11-20 00:00:00", None),
            ("20 November 2026 12:30", "2026-11-20 12:30:00", None),
            ("2026-11-20 12:00+00", "2026-11-20 12:00:00", Some(0)),
            ("2026-11-20T12:00:00.5Z", "2026-11-20 12:00:00.500", Some(0)),
            ("2026-11-20 1:05 pm -05:30", "2026-11-20 13:05:00", Some(-19_800)),
            ("2026-11-20 12:00 Europe/Berlin", "2026-11-20 12:00:00", Some(3600)),
            ("2026-11-20 12:00 PST", "2026-11-20 12:00:00", Some(-28_800)),
            ("2026-12-31 24:00", "2027-01-01 00:00:00", None),
        ] {
            let moment = read(text, &SqlType::Timestamptz).unwrap();
            assert_eq!((moment.local.to_string().as_str(), moment.offset), (wanted, offset), "{text}");
        }
    }

    #[test]
    fn zones_are_found_however_they_are_spelled() {
        for (text, wanted) in [("utc", "UTC"), ("europe/berlin", "Europe/Berlin"), ("America/New_York", "America/New_York"), ("-7", "-07:00")] {
            assert_eq!(zone_name(text).as_deref(), Some(wanted), "{text}");
        }
        assert_eq!(zone_name("Nowhere/Land"), None);
    }

    #[test]
    fn what_is_no_date_differs_from_a_day_that_is_not() {
        assert_eq!(read("not a date", &SqlType::Date).unwrap_err().kind, Kind::InvalidDatetime);
        assert_eq!(read("", &SqlType::Date).unwrap_err().kind, Kind::InvalidDatetime);
        assert_eq!(read("2026-02-30", &SqlType::Date).unwrap_err().kind, Kind::DatetimeOverflow);
        assert_eq!(read("2026-02-03 25:00", &SqlType::Timestamp).unwrap_err().kind, Kind::DatetimeOverflow);
    }
}
