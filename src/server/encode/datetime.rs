//! Dates, times and timestamps as PostgreSQL prints them.
//!
//! In: days or microseconds since 1970. Out: text in the session's DateStyle and time zone, or binary since 2000.
//! Invariant: proleptic Gregorian calendar, year 0 is 1 BC, fractions lose their trailing zeros; the smallest and the
//! largest integer are -infinity and infinity. Deliberately absent: parsing (params), `to_char`.

use std::io::Write as _;

use crate::encode::style::{DateFormat, Style};
use crate::encode::zone::OffsetCache;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's binary dates begin.
pub const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub const EPOCH_US: i64 = EPOCH_DAYS as i64 * DAY_US;
const DAY_US: i64 = 86_400_000_000;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Year, month and day of a day counted from 1970-01-01.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
pub fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[inline]
fn two(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

#[inline]
fn year4(out: &mut Vec<u8>, year: i64) {
    // Writing into memory cannot fail.
    if (0..10_000).contains(&year) {
        two(out, year as u32 / 100);
        two(out, year as u32 % 100);
    } else {
        let _ = write!(out, "{year}");
    }
}

/// The year that is printed, and whether BC follows.
fn shown(year: i64) -> (i64, bool) {
    if year > 0 { (year, false) } else { (1 - year, true) }
}

fn infinite(out: &mut Vec<u8>, lowest: bool, highest: bool) -> bool {
    if lowest || highest {
        out.extend_from_slice(if highest { b"infinity" } else { b"-infinity" });
    }
    lowest || highest
}

fn date_parts(out: &mut Vec<u8>, style: &Style, (year, month, day): (i64, u32, u32)) {
    let first_two = |out: &mut Vec<u8>, separator: u8| {
        let (a, b) = if style.day_first { (day, month) } else { (month, day) };
        two(out, a);
        out.push(separator);
        two(out, b);
        out.push(separator);
    };
    match style.date_format {
        DateFormat::Iso => {
            year4(out, year);
            out.push(b'-');
            two(out, month);
            out.push(b'-');
            return two(out, day);
        }
        DateFormat::Sql => first_two(out, b'/'),
        DateFormat::Postgres => first_two(out, b'-'),
        DateFormat::German => {
            two(out, day);
            out.push(b'.');
            two(out, month);
            out.push(b'.');
        }
    }
    year4(out, year);
}

/// Appends a date, given in days since 1970-01-01.
pub fn date(out: &mut Vec<u8>, style: &Style, days: i32) {
    if infinite(out, days == i32::MIN, days == i32::MAX) {
        return;
    }
    let (year, month, day) = civil(i64::from(days));
    let (year, before_christ) = shown(year);
    date_parts(out, style, (year, month, day));
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Appends a time of day, given in microseconds since midnight.
#[inline]
pub fn time(out: &mut Vec<u8>, of_day_us: i64) {
    let seconds = (of_day_us / 1_000_000) as u32;
    two(out, seconds / 3600);
    out.push(b':');
    two(out, seconds / 60 % 60);
    out.push(b':');
    two(out, seconds % 60);
    fraction(out, (of_day_us % 1_000_000) as u32);
}

/// Appends `.ffffff` without trailing zeros; nothing for zero.
#[inline]
pub fn fraction(out: &mut Vec<u8>, micros: u32) {
    if micros == 0 {
        return;
    }
    let mut digits = [b'0'; 7];
    digits[0] = b'.';
    let mut rest = micros;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let end = digits.iter().rposition(|d| *d != b'0').map_or(0, |p| p + 1);
    out.extend_from_slice(&digits[..end]);
}

/// Appends a timestamp without time zone, given in microseconds since 1970.
#[inline]
pub fn timestamp(out: &mut Vec<u8>, style: &Style, us: i64) {
    if !infinite(out, us == i64::MIN, us == i64::MAX) {
        moment(out, style, us, |_| {});
    }
}

/// Appends a timestamp with time zone, given in microseconds since 1970 UTC.
#[inline]
pub fn timestamptz(out: &mut Vec<u8>, style: &Style, cache: &OffsetCache, us: i64) {
    if infinite(out, us == i64::MIN, us == i64::MAX) {
        return;
    }
    let instant_s = us.div_euclid(1_000_000);
    let offset_s = style.zone.offset_s(cache, instant_s);
    moment(out, style, us.saturating_add(i64::from(offset_s) * 1_000_000), |out| {
        if style.date_format != DateFormat::Iso
            && let Some(name) = style.zone.abbreviation(instant_s).filter(|n| n.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
        } else {
            if style.date_format == DateFormat::Postgres {
                out.push(b' ');
            }
            offset(out, offset_s);
        }
    });
}

/// Appends `+hh`, `+hh:mm` or `+hh:mm:ss`.
pub fn offset(out: &mut Vec<u8>, east_s: i32) {
    out.push(if east_s < 0 { b'-' } else { b'+' });
    let seconds = east_s.unsigned_abs();
    two(out, seconds / 3600);
    if !seconds.is_multiple_of(3600) {
        out.push(b':');
        two(out, seconds / 60 % 60);
        if !seconds.is_multiple_of(60) {
            out.push(b':');
            two(out, seconds % 60);
        }
    }
}

#[inline]
fn moment(out: &mut Vec<u8>, style: &Style, local_us: i64, zone: impl FnOnce(&mut Vec<u8>)) {
    let days = local_us.div_euclid(DAY_US);
    let of_day_us = local_us.rem_euclid(DAY_US);
    let (year, month, day) = civil(days);
    let (year, before_christ) = shown(year);
    if style.date_format == DateFormat::Postgres {
        let weekday = WEEKDAYS[(days + 4).rem_euclid(7) as usize];
        let name = MONTHS[month as usize - 1];
        let (a, b) = if style.day_first { (format!("{day:02}"), name.to_owned()) } else { (name.to_owned(), format!("{day:02}")) };
        let _ = write!(out, "{weekday} {a} {b} ");
        time(out, of_day_us);
        out.push(b' ');
        year4(out, year);
    } else {
        date_parts(out, style, (year, month, day));
        out.push(b' ');
        time(out, of_day_us);
    }
    zone(out);
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Binary date: days since 2000-01-01; infinities stay what they are.
pub fn date_binary(days: i32) -> [u8; 4] {
    match days {
        i32::MIN | i32::MAX => days.to_be_bytes(),
        _ => days.saturating_sub(EPOCH_DAYS).to_be_bytes(),
    }
}

/// Binary timestamp: microseconds since 2000-01-01; infinities stay what they are.
pub fn timestamp_binary(us: i64) -> [u8; 8] {
    match us {
        i64::MIN | i64::MAX => us.to_be_bytes(),
        _ => us.saturating_sub(EPOCH_US).to_be_bytes(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::encode::zone::Zone;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn style(zone: &str, date_style: &str) -> Style {
        let mut style = Style { zone: Zone::parse(zone).unwrap(), ..Style::default() };
        style.set_date_style(date_style);
        style
    }

    #[test]
    fn dates_reach_over_christ_and_ten_thousand() {
        let s = Style::default();
        for (days, wanted) in [
            (0, "1970-01-01"),
            (10_957, "2000-01-01"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 BC"),
            (2_932_897, "10000-01-01"),
            (19_782, "2024-02-29"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|o| date(o, &s, days)), wanted);
        }
        assert_eq!(text(|o| date(o, &style("UTC", "SQL, DMY"), 19_782)), "29/02/2024");
        assert_eq!(text(|o| date(o, &style("UTC", "Postgres, MDY"), 19_782)), "02-29-2024");
        assert_eq!(text(|o| date(o, &style("UTC", "German"), 19_782)), "29.02.2024");
    }

    #[test]
    fn calendar_is_its_own_inverse() {
        for days in (-1_000_000..1_000_000).step_by(997) {
            let (y, m, d) = civil(days);
            assert_eq!(days_of(y, m, d), days);
        }
    }

    #[test]
    fn fractions_are_trimmed() {
        assert_eq!(text(|o| time(o, 47_655_500_000)), "13:14:15.5");
        assert_eq!(text(|o| time(o, 1)), "00:00:00.000001");
        assert_eq!(text(|o| time(o, 86_400_000_000)), "24:00:00");
        assert_eq!(text(|o| timestamp(o, &Style::default(), 1_700_000_000_120_000)), "2023-11-14 22:13:20.12");
        assert_eq!(text(|o| timestamp(o, &Style::default(), -62_135_596_800_000_001)), "0001-12-31 23:59:59.999999 BC");
        assert_eq!(text(|o| timestamp(o, &Style::default(), i64::MIN)), "-infinity");
    }

    #[test]
    fn zones_show_their_offset() {
        let at = 1_700_000_000_000_000;
        let show = |zone: &str, ds: &str| text(|o| timestamptz(o, &style(zone, ds), &OffsetCache::default(), at));
        assert_eq!(show("UTC", "ISO"), "2023-11-14 22:13:20+00");
        assert_eq!(show("Asia/Kolkata", "ISO"), "2023-11-15 03:43:20+05:30");
        assert_eq!(show("America/New_York", "ISO"), "2023-11-14 17:13:20-05");
        assert_eq!(show("Europe/Paris", "SQL, MDY"), "11/14/2023 23:13:20 CET");
        assert_eq!(show("Europe/Paris", "Postgres, MDY"), "Tue Nov 14 23:13:20 2023 CET");
        assert_eq!(show("Europe/Paris", "Postgres, DMY"), "Tue 14 Nov 23:13:20 2023 CET");
        assert_eq!(show("Europe/Paris", "German"), "14.11.2023 23:13:20 CET");
        assert_eq!(text(|o| offset(o, -1172)), "-00:19:32");
    }

    #[test]
    fn binary_begins_in_2000() {
        assert_eq!(date_binary(10_958), [0, 0, 0, 1]);
        assert_eq!(timestamp_binary(EPOCH_US + 5), [0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(timestamp_binary(i64::MAX), i64::MAX.to_be_bytes());
    }
}
