//! The time zone of a session.
//!
//! In: the text of the setting TimeZone (a name of the IANA database, or a POSIX offset such as `<+02>-02`).
//! Out: the offset that holds at an instant, and its abbreviation. Invariant: offsets are seconds east of Greenwich;
//! an unknown zone never gets this far as anything but None. Deliberately absent: daylight rules in POSIX strings.

use std::cell::Cell;

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::OffsetName;

/// A time zone with the offset it gave last.
#[derive(Clone, Debug)]
pub struct Zone {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Fixed { east_s: i32, name: String },
    Named(chrono_tz::Tz),
}

/// Remembers the offset of the quarter of an hour asked for last: no zone changes its offset inside one.
#[derive(Debug, Default)]
pub struct OffsetCache {
    last: Cell<Option<(i64, i32)>>,
}

impl Zone {
    /// Greenwich.
    pub fn utc() -> Self {
        Self { kind: Kind::Fixed { east_s: 0, name: "UTC".into() } }
    }

    /// The zone of this name; None when there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "utc" | "gmt" | "z" | "zulu" | "etc/utc" | "universal" => {
                let name = if text.eq_ignore_ascii_case("gmt") { "GMT" } else { "UTC" };
                return Some(Self { kind: Kind::Fixed { east_s: 0, name: name.into() } });
            }
            _ => {}
        }
        if let Ok(zone) = text.parse::<chrono_tz::Tz>() {
            return Some(Self { kind: Kind::Named(zone) });
        }
        if let Some(zone) = chrono_tz::TZ_VARIANTS.iter().find(|z| z.name().eq_ignore_ascii_case(text)) {
            return Some(Self { kind: Kind::Named(*zone) });
        }
        posix(text)
    }

    /// Seconds east of Greenwich at an instant given in seconds since 1970 UTC.
    #[inline]
    pub fn offset_s(&self, cache: &OffsetCache, instant_s: i64) -> i32 {
        match &self.kind {
            Kind::Fixed { east_s, .. } => *east_s,
            Kind::Named(zone) => {
                let quarter = instant_s.div_euclid(900);
                if let Some((known, offset)) = cache.last.get()
                    && known == quarter
                {
                    return offset;
                }
                let offset = named_offset(*zone, instant_s).map_or(0, |o| o.fix().local_minus_utc());
                cache.last.set(Some((quarter, offset)));
                offset
            }
        }
    }

    /// The abbreviation at an instant (`CET`), where the zone has one.
    pub fn abbreviation(&self, instant_s: i64) -> Option<String> {
        match &self.kind {
            Kind::Fixed { name, .. } => (!name.is_empty()).then(|| name.clone()),
            Kind::Named(zone) => named_offset(*zone, instant_s).and_then(|o| o.abbreviation().map(str::to_owned)),
        }
    }

    /// Seconds since 1970 UTC of a wall-clock time in this zone; the earlier one where the clock was put back, and the
    /// time as the clock would have shown it where it was put forward.
    pub fn to_utc_s(&self, local_s: i64) -> i64 {
        match &self.kind {
            Kind::Fixed { east_s, .. } => local_s - i64::from(*east_s),
            Kind::Named(zone) => {
                let before = named_offset(*zone, local_s - 86_400).map_or(0, |o| i64::from(o.fix().local_minus_utc()));
                let after = named_offset(*zone, local_s + 86_400).map_or(0, |o| i64::from(o.fix().local_minus_utc()));
                let holds = |offset: i64| named_offset(*zone, local_s - offset).is_some_and(|o| i64::from(o.fix().local_minus_utc()) == offset);
                // PostgreSQL reads an ambiguous time as standard time: the later of the two instants.
                match (holds(before), holds(after)) {
                    (true, true) => local_s - before.min(after),
                    (true, false) => local_s - before,
                    (false, true) => local_s - after,
                    (false, false) => local_s - before,
                }
            }
        }
    }
}

fn named_offset(zone: chrono_tz::Tz, instant_s: i64) -> Option<<chrono_tz::Tz as TimeZone>::Offset> {
    DateTime::from_timestamp(instant_s, 0).map(|t| zone.offset_from_utc_datetime(&t.naive_utc()))
}

/// `<+02>-02`, `UTC-2`, `+02:30`: POSIX counts westwards.
fn posix(text: &str) -> Option<Zone> {
    let (name, offset) = match text.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?,
        None => text.split_at(text.find(['+', '-']).or_else(|| text.find(|c: char| c.is_ascii_digit()))?),
    };
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '-' || c == ':') || (name.is_empty() && offset.is_empty()) {
        return None;
    }
    let (west, digits) = match offset.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, offset.strip_prefix('+').unwrap_or(offset)),
    };
    let mut parts = digits.split(':');
    let mut seconds = parts.next()?.parse::<i32>().ok().filter(|h| *h <= 167)? * 3600;
    for (part, unit) in parts.by_ref().take(2).zip([60, 1]) {
        seconds += part.parse::<i32>().ok().filter(|p| *p < 60)? * unit;
    }
    parts.next().is_none().then(|| Zone { kind: Kind::Fixed { east_s: -west * seconds, name: name.to_owned() } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_offsets_are_read() {
        let cache = OffsetCache::default();
        let offset = |name: &str, at: i64| Zone::parse(name).unwrap().offset_s(&OffsetCache::default(), at);
        assert_eq!(offset("Europe/Paris", 1_700_000_000), 3600);
        assert_eq!(offset("europe/paris", 1_690_000_000), 7200);
        assert_eq!(offset("<+02>-02", 0), 7200);
        assert_eq!(offset("UTC+3", 0), -10800);
        assert_eq!(offset("-05:30", 0), 19800);
        assert_eq!(offset("GMT", 0), 0);
        assert!(Zone::parse("Mars/Olympus").is_none());
        let paris = Zone::parse("Europe/Paris").unwrap();
        assert_eq!(paris.offset_s(&cache, 1_679_792_399), 3600); // one second before summer time
        assert_eq!(paris.offset_s(&cache, 1_679_792_400), 7200);
        assert_eq!(paris.abbreviation(1_690_000_000).as_deref(), Some("CEST"));
    }

    #[test]
    fn wall_clocks_lead_back() {
        let paris = Zone::parse("Europe/Paris").unwrap();
        assert_eq!(paris.to_utc_s(1_690_000_000 + 7200), 1_690_000_000);
        assert_eq!(paris.to_utc_s(1_700_000_000 + 3600), 1_700_000_000);
        assert_eq!(Zone::utc().to_utc_s(5), 5);
    }
}
