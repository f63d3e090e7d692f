//! Functions whose result type follows from their arguments.
//!
//! In: values of any type. Out: `pg_typeof`, `gen_random_uuid`, bounds of arrays, `timezone`. Invariant: the type of a
//! result is known when the statement is planned. Deliberately absent: functions with fixed types (`function`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, Int32Builder, ListArray, TimestampMicrosecondBuilder, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Result};
use squilla_core::types::{RegKind, SqlType};

use crate::error::{from_arrow, to_datafusion};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    TypeOf,
    RandomUuid,
    Upper,
    Lower,
    OrEmpty,
    Timezone,
}

/// Name of the function that turns no array into an empty one: the end of `ARRAY(SELECT ...)`.
pub const ARRAY_OR_EMPTY: &str = "squilla_array";

#[derive(Debug)]
struct Special {
    kind: Kind,
    signature: Signature,
}

impl PartialEq for Special {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Special {}

impl Hash for Special {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

/// Name of the function that tells the type of a value.
pub const TYPE_OF: &str = "pg_typeof";

impl ScalarUDFImpl for Special {
    fn name(&self) -> &str {
        match self.kind {
            Kind::TypeOf => TYPE_OF,
            Kind::RandomUuid => "gen_random_uuid",
            Kind::Upper => "array_upper",
            Kind::Lower => "array_lower",
            Kind::OrEmpty => ARRAY_OR_EMPTY,
            Kind::Timezone => "timezone",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        plan_err!("the type of {} follows from its arguments", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        Ok(match self.kind {
            Kind::TypeOf => Arc::new(SqlType::Reg(RegKind::Type).field(self.name())),
            Kind::RandomUuid => Arc::new(SqlType::Uuid.field(self.name())),
            Kind::Upper | Kind::Lower => Arc::new(SqlType::Int4.field(self.name())),
            Kind::OrEmpty => match args.arg_fields[0].data_type() {
                DataType::List(_) => Arc::clone(&args.arg_fields[0]),
                _ => return plan_err!("an array was expected"),
            },
            Kind::Timezone => match args.arg_fields[1].data_type() {
                DataType::Timestamp(_, Some(_)) => Arc::new(SqlType::Timestamp.field(self.name())),
                _ => Arc::new(SqlType::Timestamptz.field(self.name())),
            },
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        if self.kind == Kind::TypeOf {
            let oid = i64::from(SqlType::of_field(&args.arg_fields[0]).oid());
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::Int64(Some(oid))));
        }
        if self.kind == Kind::RandomUuid {
            return uuids(args.number_rows).map(ColumnarValue::Array).map_err(to_datafusion);
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let array = match self.kind {
            Kind::Upper => bound(&arrays, true),
            Kind::Lower => bound(&arrays, false),
            Kind::OrEmpty => or_empty(&arrays[0]),
            Kind::Timezone => timezone(&arrays[0], &arrays[1]),
            Kind::TypeOf | Kind::RandomUuid => Err(Error::internal("no such function")),
        };
        array.map(ColumnarValue::Array).map_err(to_datafusion)
    }
}

fn uuids(rows: usize) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(rows, 16);
    for _ in 0..rows {
        builder.append_value(uuid::Uuid::new_v4().as_bytes()).map_err(from_arrow)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// Arrays start at 1; an empty one has no bounds.
fn bound(arrays: &[ArrayRef], upper: bool) -> Result<ArrayRef> {
    let dimension = arrow::compute::cast(&arrays[1], &DataType::Int64).map_err(from_arrow)?;
    let dimension = dimension.as_primitive::<Int64Type>();
    let mut builder = Int32Builder::new();
    for row in 0..arrays[0].len() {
        let valid = arrays[0].is_valid(row) && dimension.is_valid(row) && dimension.value(row) >= 1;
        let wanted = if dimension.is_valid(row) { dimension.value(row) } else { 0 };
        let length = if valid { length(&arrays[0], row, wanted) } else { None };
        builder.append_option(length.filter(|n| *n > 0).map(|n| if upper { n } else { 1 }));
    }
    Ok(Arc::new(builder.finish()))
}

fn length(array: &ArrayRef, row: usize, dimension: i64) -> Option<i32> {
    let inner = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(row),
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(_, _) => array.as_fixed_size_list().value(row),
        _ => return None,
    };
    if dimension == 1 {
        i32::try_from(inner.len()).ok()
    } else if inner.is_empty() {
        None
    } else {
        length(&inner, 0, dimension - 1)
    }
}

fn or_empty(array: &ArrayRef) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    if list.null_count() == 0 {
        return Ok(Arc::clone(array));
    }
    let DataType::List(field) = list.data_type() else { return Err(Error::internal("an array was expected")) };
    let lengths = (0..list.len()).map(|row| if list.is_valid(row) { list.value_length(row) as usize } else { 0 });
    let kept: Vec<ArrayRef> = (0..list.len()).filter(|row| list.is_valid(*row)).map(|row| list.value(row)).collect();
    let kept: Vec<&dyn Array> = kept.iter().map(AsRef::as_ref).collect();
    let values = if kept.is_empty() { new_empty_array(field.data_type()) } else { arrow::compute::concat(&kept).map_err(from_arrow)? };
    let list = ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, None).map_err(from_arrow)?;
    Ok(Arc::new(list))
}

fn zone(name: &str) -> Result<Tz> {
    // POSIX counts offsets to the west, as PostgreSQL does for a bare number.
    name.trim().parse().map_err(|_| Error::invalid_argument(format!("time zone \"{name}\" not recognized")))
}

/// `timestamp AT TIME ZONE z`: the instant at which clocks in z show it. `timestamptz AT TIME ZONE z`: what they show.
fn timezone(zones: &ArrayRef, times: &ArrayRef) -> Result<ArrayRef> {
    let zones = arrow::compute::cast(zones, &DataType::Utf8).map_err(from_arrow)?;
    let zones = zones.as_string::<i32>();
    let aware = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    let target = if aware { SqlType::Timestamptz.arrow() } else { DataType::Timestamp(TimeUnit::Microsecond, None) };
    let micros = arrow::compute::cast(times, &target).map_err(from_arrow)?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    let mut builder = TimestampMicrosecondBuilder::new();
    for row in 0..micros.len() {
        if micros.is_null(row) || zones.is_null(row) {
            builder.append_null();
            continue;
        }
        let zone = zone(zones.value(row))?;
        let at = DateTime::from_timestamp_micros(micros.value(row))
            .ok_or_else(|| Error::new(squilla_core::error::Kind::OutOfRange, "timestamp out of range"))?
            .naive_utc();
        let offset = if aware {
            zone.offset_from_utc_datetime(&at).fix().local_minus_utc()
        } else {
            // In the hour that clocks show twice the later standard time is meant; in the one they skip, the offset before.
            match zone.offset_from_local_datetime(&at) {
                chrono::LocalResult::Single(offset) => offset.fix().local_minus_utc(),
                chrono::LocalResult::Ambiguous(_, later) => later.fix().local_minus_utc(),
                chrono::LocalResult::None => zone.offset_from_utc_datetime(&at).fix().local_minus_utc(),
            }
        };
        let shift = i64::from(offset) * 1_000_000;
        builder.append_value(if aware { micros.value(row) + shift } else { micros.value(row) - shift });
    }
    let column = builder.finish();
    Ok(if aware { Arc::new(column) } else { Arc::new(column.with_timezone("UTC")) })
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let make = |kind, signature| ScalarUDF::new_from_impl(Special { kind, signature });
    vec![
        make(Kind::TypeOf, Signature::any(1, Volatility::Stable)),
        make(Kind::RandomUuid, Signature::nullary(Volatility::Volatile)),
        make(Kind::Upper, Signature::any(2, Volatility::Immutable)),
        make(Kind::Lower, Signature::any(2, Volatility::Immutable)),
        make(Kind::OrEmpty, Signature::any(1, Volatility::Immutable)),
        make(Kind::Timezone, Signature::any(2, Volatility::Immutable)),
    ]
}

/// As `pg_proc` tells them: name, argument types, result type, comment.
pub const SIGNATURES: &[(&str, &[u32], u32, &str)] = &[
    ("pg_typeof", &[2276], 2206, "the type of a value"),
    ("gen_random_uuid", &[], 2950, "a random UUID, version 4"),
    ("array_upper", &[2277, 23], 23, "the last subscript of an array"),
    ("array_lower", &[2277, 23], 23, "the first subscript of an array"),
    ("encode", &[17, 25], 25, "bytes as text: hex, base64, escape"),
    ("decode", &[25, 25], 17, "bytes from text: hex, base64, escape"),
    ("timezone", &[25, 1184], 1114, "what clocks show in a time zone"),
    ("timezone", &[25, 1114], 1184, "the instant at which clocks in a time zone show a time"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};

    #[test]
    fn bounds_and_empty_arrays() {
        let list = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])])) as ArrayRef;
        let one = Arc::new(Int64Array::from(vec![1, 1, 1])) as ArrayRef;
        let upper = bound(&[Arc::clone(&list), Arc::clone(&one)], true).unwrap();
        assert_eq!(upper.as_primitive::<arrow::datatypes::Int32Type>().iter().collect::<Vec<_>>(), [Some(2), None, None]);
        let full = or_empty(&list).unwrap();
        assert_eq!((full.null_count(), full.as_list::<i32>().value_length(0), full.as_list::<i32>().value_length(1)), (0, 2, 0));
    }

    #[test]
    fn time_zones_move_both_ways() {
        let zones = Arc::new(StringArray::from(vec!["+02:00"])) as ArrayRef;
        let naive = Arc::new(TimestampMicrosecondArray::from(vec![7_200_000_000])) as ArrayRef;
        let instant = timezone(&zones, &naive).unwrap();
        assert_eq!(instant.as_primitive::<TimestampMicrosecondType>().value(0), 0);
        let back = timezone(&zones, &instant).unwrap();
        assert_eq!(back.as_primitive::<TimestampMicrosecondType>().value(0), 7_200_000_000);
    }
}
