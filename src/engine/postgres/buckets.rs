//! `width_bucket`: the bucket of a histogram that a value falls into.
//!
//! In: a value, the ends of a range and a count; or a value and the lower bounds of buckets. Out: a number from 0 (below the
//! range) to one more than there are buckets. Invariant: a range without width or a count below 1 is 2201G. Deliberately
//! absent: bounds with NULLs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::{Error, Kind, Result};

use crate::postgres::scalar::{Args, Scalar, Shape, untyped};

fn bucket(value: f64, low: f64, high: f64, count: i64) -> Result<i32> {
    let bad = |message: &str| Err(Error::new(Kind::InvalidWidthBucket, message));
    if count < 1 {
        return bad("count must be greater than zero");
    }
    if low == high {
        return bad("lower bound cannot equal upper bound");
    }
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return bad("operand, lower bound, and upper bound cannot be NaN");
    }
    let upwards = low < high;
    let (below, above) = if upwards { (value < low, value >= high) } else { (value > low, value <= high) };
    let place = if below {
        0
    } else if above {
        count + 1
    } else {
        (count as f64 * ((value - low) / (high - low))).floor() as i64 + 1
    };
    i32::try_from(place).map_err(|_| Error::new(Kind::OutOfRange, "integer out of range"))
}

fn equal(args: &Args<'_>) -> Result<ArrayRef> {
    if args.columns.len() == 2 {
        return thresholds(args);
    }
    let (values, lows, highs, counts) = (args.floats(0)?, args.floats(1)?, args.floats(2)?, args.ints(3)?);
    let rows = (0..args.rows).map(|row| {
        if values.is_null(row) || lows.is_null(row) || highs.is_null(row) || counts.is_null(row) {
            return Ok(None);
        }
        bucket(values.value(row), lows.value(row), highs.value(row), counts.value(row)).map(Some)
    });
    Ok(Arc::new(rows.collect::<Result<Int32Array>>()?))
}

fn thresholds(args: &Args<'_>) -> Result<ArrayRef> {
    let (values, lists) = (args.column(0)?, args.column(1)?.as_list::<i32>());
    let rows = (0..args.rows).map(|row| {
        if values.is_null(row) || lists.is_null(row) {
            return Ok(None);
        }
        let own = ScalarValue::try_from_array(values, row).map_err(crate::error::from_datafusion)?;
        let bounds = lists.value(row);
        let mut place = 0;
        for at in 0..bounds.len() {
            let bound = ScalarValue::try_from_array(&bounds, at).map_err(crate::error::from_datafusion)?;
            if bound.is_null() {
                return Err(Error::new(Kind::NullNotAllowed, "thresholds array must not contain NULLs"));
            }
            if own.partial_cmp(&bound).is_some_and(|order| order.is_ge()) {
                place = at as i32 + 1;
            }
        }
        Ok(Some(place))
    });
    Ok(Arc::new(rows.collect::<Result<Int32Array>>()?))
}

fn takes(types: &[DataType]) -> Option<Vec<DataType>> {
    let number = |t: &DataType| t.is_numeric() || untyped(t);
    match types {
        [value, low, high, count] if number(value) && number(low) && number(high) && (count.is_integer() || untyped(count)) => {
            Some(vec![DataType::Float64, DataType::Float64, DataType::Float64, DataType::Int64])
        }
        [_, DataType::List(item)] => Some(vec![item.data_type().clone(), types.get(1)?.clone()]),
        _ => None,
    }
}

/// `width_bucket`.
pub fn udf() -> ScalarUDF {
    let returns = |_: &Shape<'_>| Some(Field::new("", DataType::Int32, true));
    Scalar { name: "width_bucket", aliases: &[], volatility: Volatility::Immutable, takes, returns, run: equal }.udf()
}
