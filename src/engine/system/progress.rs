//! What runs and waits: `pg_locks`, `pg_stat_progress_copy`; and time zones.
//!
//! In: what sessions tell of themselves. Out: rows. Invariant: a lock that is listed is held or waited for now.
//! Deliberately absent: progress of statements that do not exist here (CLUSTER, base backups): those views are empty.

use std::collections::BTreeMap;

use chrono::{Offset, TimeZone, Utc};
use chrono_tz::{OffsetComponents, OffsetName, TZ_VARIANTS};
use squilla_core::error::Result;

use crate::system::oids;
use crate::system::relation::Rows;
use crate::system::view::SystemView;

/// Fills `pg_locks`.
pub fn pg_locks(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for lock in view.live.locks() {
        let advisory = lock.advisory.map(|key| key as u64);
        rows.push([
            ("locktype", (if advisory.is_some() { "advisory" } else { "relation" }).into()),
            ("database", oids::DATABASE_OID.into()),
            ("relation", lock.relation.into()),
            // An advisory key of 64 bits is shown in two halves, as PostgreSQL shows it.
            ("classid", advisory.map(|key| key >> 32).into()),
            ("objid", advisory.map(|key| key & 0xffff_ffff).into()),
            ("objsubid", advisory.map(|_| 1).into()),
            ("virtualtransaction", format!("{}/0", lock.pid).into()),
            ("pid", lock.pid.into()),
            ("mode", lock.mode.as_str().into()),
            ("granted", lock.granted.into()),
            ("fastpath", false.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_stat_progress_copy`.
pub fn pg_stat_progress_copy(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for copy in view.live.copies() {
        rows.push([
            ("pid", copy.pid.into()),
            ("datid", oids::DATABASE_OID.into()),
            ("datname", (&view.session.database).into()),
            ("relid", copy.relation.into()),
            ("command", (if copy.from { "COPY FROM" } else { "COPY TO" }).into()),
            ("type", copy.kind.into()),
            ("bytes_processed", copy.bytes.into()),
            ("bytes_total", copy.bytes_total.into()),
            ("tuples_processed", copy.rows.into()),
            ("tuples_excluded", 0.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_timezone_names`: every zone that `SET TimeZone` takes, as it is now.
pub fn pg_timezone_names(_: &SystemView, rows: &mut Rows) -> Result<()> {
    let now = Utc::now().naive_utc();
    for zone in TZ_VARIANTS {
        let offset = zone.offset_from_utc_datetime(&now);
        let seconds = i64::from(offset.fix().local_minus_utc());
        rows.push([
            ("name", zone.name().into()),
            ("abbrev", offset.abbreviation().map_or_else(|| offset.to_string(), str::to_owned).into()),
            ("utc_offset", (seconds * 1_000_000).into()),
            ("is_dst", (offset.dst_offset().num_seconds() != 0).into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_timezone_abbrevs`: the abbreviations that the zones use this year.
pub fn pg_timezone_abbrevs(_: &SystemView, rows: &mut Rows) -> Result<()> {
    let now = Utc::now().naive_utc();
    let times = [now, now + chrono::TimeDelta::days(182)];
    let mut found: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    for zone in TZ_VARIANTS {
        for time in times {
            let offset = zone.offset_from_utc_datetime(&time);
            let Some(name) = offset.abbreviation().filter(|n| n.chars().all(|c| c.is_ascii_alphabetic())) else { continue };
            found.entry(name.to_owned()).or_insert((i64::from(offset.fix().local_minus_utc()), offset.dst_offset().num_seconds() != 0));
        }
    }
    for (name, (seconds, summer)) in found {
        rows.push([("abbrev", name.into()), ("utc_offset", (seconds * 1_000_000).into()), ("is_dst", summer.into())]);
    }
    Ok(())
}
