//! Intervals in the four styles of PostgreSQL.
//!
//! In: months, days and microseconds, each with its own sign. Out: text or the 16 bytes of interval_send.
//! Invariant: the same text as EncodeInterval. Deliberately absent: justification; a Duration is split into days and time
//! because that is what subtracting timestamps gives.

use std::io::Write as _;

use crate::encode::datetime::fraction;
use crate::encode::style::IntervalStyle;

/// The three parts of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Parts {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub us: i64,
}

struct Fields {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micro: i64,
}

impl Fields {
    fn of(parts: Parts) -> Self {
        Self {
            year: i64::from(parts.months / 12),
            month: i64::from(parts.months % 12),
            day: i64::from(parts.days),
            hour: parts.us / 3_600_000_000,
            minute: parts.us / 60_000_000 % 60,
            second: parts.us / 1_000_000 % 60,
            micro: parts.us % 1_000_000,
        }
    }

    fn all(&self) -> [i64; 7] {
        [self.year, self.month, self.day, self.hour, self.minute, self.second, self.micro]
    }

    fn has_time(&self) -> bool {
        self.all()[3..].iter().any(|v| *v != 0)
    }

    fn time_negative(&self) -> bool {
        self.all()[3..].iter().any(|v| *v < 0)
    }

    fn negate(&mut self) {
        let [year, month, day, hour, minute, second, micro] = self.all().map(|v| -v);
        *self = Self { year, month, day, hour, minute, second, micro };
    }
}

impl Parts {
    /// A span without calendar, as subtracting two timestamps gives it.
    pub fn of_span(us: i64) -> Self {
        Self { months: 0, days: (us / 86_400_000_000) as i32, us: us % 86_400_000_000 }
    }

    /// Microseconds, days, months, big endian.
    pub fn binary(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.us.to_be_bytes());
        out[8..12].copy_from_slice(&self.days.to_be_bytes());
        out[12..].copy_from_slice(&self.months.to_be_bytes());
        out
    }
}

// Writing into memory cannot fail, so the results of write! are dropped in this file.

/// Appends an interval.
pub fn interval(out: &mut Vec<u8>, style: IntervalStyle, parts: Parts) {
    let fields = Fields::of(parts);
    match style {
        IntervalStyle::Postgres => postgres(out, &fields),
        IntervalStyle::PostgresVerbose => verbose(out, &fields),
        IntervalStyle::SqlStandard => sql_standard(out, fields),
        IntervalStyle::Iso8601 => iso(out, &fields),
    }
}

fn seconds(out: &mut Vec<u8>, second: i64, micro: i64, fill: bool) {
    let _ = if fill { write!(out, "{:02}", second.abs()) } else { write!(out, "{}", second.abs()) };
    fraction(out, micro.unsigned_abs() as u32);
}

fn postgres(out: &mut Vec<u8>, f: &Fields) {
    let (mut first, mut before) = (true, false);
    for (value, unit) in [(f.year, "year"), (f.month, "mon"), (f.day, "day")] {
        if value != 0 {
            let space = if first { "" } else { " " };
            let plus = if before && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
            before = value < 0;
            first = false;
        }
    }
    if first || f.has_time() {
        let space = if first { "" } else { " " };
        let sign = match (f.time_negative(), before) {
            (true, _) => "-",
            (false, true) => "+",
            _ => "",
        };
        let _ = write!(out, "{space}{sign}{:02}:{:02}:", f.hour.abs(), f.minute.abs());
        seconds(out, f.second, f.micro, true);
    }
}

fn verbose(out: &mut Vec<u8>, f: &Fields) {
    out.push(b'@');
    let (mut zero, mut before) = (true, false);
    for (value, unit) in [(f.year, "year"), (f.month, "mon"), (f.day, "day"), (f.hour, "hour"), (f.minute, "min")] {
        if value != 0 {
            let mut shown = value;
            if zero {
                before = value < 0;
                shown = value.abs();
            } else if before {
                shown = -value;
            }
            let _ = write!(out, " {shown} {unit}{}", if shown == 1 { "" } else { "s" });
            zero = false;
        }
    }
    if f.second != 0 || f.micro != 0 {
        out.push(b' ');
        if f.second < 0 || f.micro < 0 {
            if zero {
                before = true;
            } else if !before {
                out.push(b'-');
            }
        } else if before {
            out.push(b'-');
        }
        seconds(out, f.second, f.micro, false);
        out.extend_from_slice(if f.second.abs() != 1 || f.micro != 0 { b" secs" } else { b" sec" });
        zero = false;
    }
    if zero {
        out.extend_from_slice(b" 0");
    }
    if before {
        out.extend_from_slice(b" ago");
    }
}

fn sql_standard(out: &mut Vec<u8>, mut f: Fields) {
    let negative = f.all().iter().any(|v| *v < 0);
    let positive = f.all().iter().any(|v| *v > 0);
    let year_month = f.year != 0 || f.month != 0;
    let day_time = f.day != 0 || f.has_time();
    let mixed = (negative && positive) || (year_month && day_time);
    if negative && !mixed {
        out.push(b'-');
        f.negate();
    }
    if !negative && !positive {
        out.push(b'0');
    } else if mixed {
        let sign = |minus: bool| if minus { '-' } else { '+' };
        let (ym, d, t) = (sign(f.year < 0 || f.month < 0), sign(f.day < 0), sign(f.time_negative()));
        let _ = write!(out, "{ym}{}-{} {d}{} {t}{}:{:02}:", f.year.abs(), f.month.abs(), f.day.abs(), f.hour.abs(), f.minute.abs());
        seconds(out, f.second, f.micro, true);
    } else if year_month {
        let _ = write!(out, "{}-{}", f.year, f.month);
    } else {
        if f.day != 0 {
            let _ = write!(out, "{} ", f.day);
        }
        let _ = write!(out, "{}:{:02}:", f.hour, f.minute);
        seconds(out, f.second, f.micro, true);
    }
}

fn iso(out: &mut Vec<u8>, f: &Fields) {
    if f.all().iter().all(|v| *v == 0) {
        return out.extend_from_slice(b"PT0S");
    }
    out.push(b'P');
    for (value, unit) in [(f.year, 'Y'), (f.month, 'M'), (f.day, 'D')] {
        if value != 0 {
            let _ = write!(out, "{value}{unit}");
        }
    }
    if !f.has_time() {
        return;
    }
    out.push(b'T');
    for (value, unit) in [(f.hour, 'H'), (f.minute, 'M')] {
        if value != 0 {
            let _ = write!(out, "{value}{unit}");
        }
    }
    if f.second != 0 || f.micro != 0 {
        if f.second < 0 || f.micro < 0 {
            out.push(b'-');
        }
        seconds(out, f.second, f.micro, false);
        out.push(b'S');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(months: i32, days: i32, us: i64) -> [String; 4] {
        [IntervalStyle::Postgres, IntervalStyle::PostgresVerbose, IntervalStyle::SqlStandard, IntervalStyle::Iso8601].map(|style| {
            let mut out = Vec::new();
            interval(&mut out, style, Parts { months, days, us });
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn four_styles() {
        assert_eq!(
            all(14, 3, 14_706_789_000),
            ["1 year 2 mons 3 days 04:05:06.789", "@ 1 year 2 mons 3 days 4 hours 5 mins 6.789 secs", "+1-2 +3 +4:05:06.789", "P1Y2M3DT4H5M6.789S"]
        );
        assert_eq!(all(0, 0, 0), ["00:00:00", "@ 0", "0", "PT0S"]);
        assert_eq!(all(0, -1, 7_200_000_000), ["-1 days +02:00:00", "@ 1 day -2 hours ago", "+0-0 -1 +2:00:00", "P-1DT2H"]);
        assert_eq!(all(-14, 0, 0), ["-1 years -2 mons", "@ 1 year 2 mons ago", "-1-2", "P-1Y-2M"]);
        assert_eq!(all(0, 1, 0), ["1 day", "@ 1 day", "1 0:00:00", "P1D"]);
        assert_eq!(all(0, 0, -1_500_000), ["-00:00:01.5", "@ 1.5 secs ago", "-0:00:01.5", "PT-1.5S"]);
        assert_eq!(all(0, 0, 400_000), ["00:00:00.4", "@ 0.4 secs", "0:00:00.4", "PT0.4S"]);
    }

    #[test]
    fn spans_have_days() {
        assert_eq!(Parts::of_span(90_000_000_000), Parts { months: 0, days: 1, us: 3_600_000_000 });
    }
}
