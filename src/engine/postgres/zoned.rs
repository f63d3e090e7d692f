//! Points in time moved by intervals on the clocks of the session.
//!
//! In: timestamptz and interval. Out: timestamptz. Invariant: months and days are those of the session's time zone, so that a
//! day later is the same hour of the clock; hours and less are time that passes. Deliberately absent: timestamps without a
//! zone, which DataFusion moves as PostgreSQL does.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::datetime::Moment;
use crate::postgres::fields::zone_of;
use crate::postgres::scalar::{Args, Scalar, cast};
use crate::postgres::series::shifted;

/// `timestamptz + interval`.
pub const LATER: &str = "squilla_timestamptz_pl_interval";
/// `timestamptz - interval`.
pub const EARLIER: &str = "squilla_timestamptz_mi_interval";

fn out_of_range() -> Error {
    Error::new(Kind::DatetimeOverflow, "timestamp out of range")
}

/// One point moved by one interval.
pub fn moved(micros: i64, step: IntervalMonthDayNano, zone: &Tz, name: &str) -> Result<i64> {
    let days = if step.months == 0 && step.days == 0 {
        micros
    } else {
        let at = DateTime::from_timestamp_micros(micros).ok_or_else(out_of_range)?;
        let offset = i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) * 1_000_000;
        let clock = shifted(micros.checked_add(offset).ok_or_else(out_of_range)?, IntervalMonthDayNano { nanoseconds: 0, ..step })?;
        let local = DateTime::from_timestamp_micros(clock).ok_or_else(out_of_range)?.naive_utc();
        Moment { local, offset: None }.instant(name)?
    };
    days.checked_add(step.nanoseconds / 1000).ok_or_else(out_of_range)
}

fn each(args: &Args<'_>, backwards: bool) -> Result<ArrayRef> {
    let times = cast(args.column(0)?, &SqlType::Timestamptz.arrow())?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let steps = cast(args.column(1)?, &SqlType::Interval.arrow())?;
    let steps = steps.as_primitive::<IntervalMonthDayNanoType>();
    let zone = zone_of(args.zone)?;
    let values = (0..args.rows).map(|row| {
        if times.is_null(row) || steps.is_null(row) {
            return Ok(None);
        }
        let step = steps.value(row);
        let step = if backwards { IntervalMonthDayNano { months: -step.months, days: -step.days, nanoseconds: -step.nanoseconds } } else { step };
        moved(times.value(row), step, &zone, args.zone).map(Some)
    });
    let own = match args.returns {
        DataType::Timestamp(_, own) => own.clone(),
        _ => None,
    };
    Ok(Arc::new(values.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone_opt(own)))
}

/// The functions behind the operators.
pub fn operators() -> Vec<ScalarUDF> {
    let make = |name, run| Scalar {
        name,
        aliases: &[],
        volatility: Volatility::Stable,
        takes: |types| (types.len() == 2).then(|| vec![SqlType::Timestamptz.arrow(), SqlType::Interval.arrow()]),
        returns: |_| Some(SqlType::Timestamptz.field("")),
        run,
    };
    [make(LATER, |a| each(a, false)), make(EARLIER, |a| each(a, true))].map(Scalar::udf).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_day_later_is_the_same_hour_of_the_clock() {
        let (name, day) = ("America/New_York", IntervalMonthDayNano { months: 0, days: 1, nanoseconds: 0 });
        let zone = zone_of(name).unwrap();
        // Noon before the clocks go forward: 17:00 UTC, then 16:00 UTC.
        let noon = DateTime::parse_from_rfc3339("2024-03-09T12:00:00-05:00").unwrap().timestamp_micros();
        assert_eq!(moved(noon, day, &zone, name).unwrap() - noon, 23 * 3_600_000_000);
        let hours = IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 86_400_000_000_000 };
        assert_eq!(moved(noon, hours, &zone, name).unwrap() - noon, 24 * 3_600_000_000);
    }
}
