//! Vectors added, subtracted and multiplied place by place.
//!
//! In: two vectors. Out: a vector. Invariant: vectors of different lengths are 22023, a place out of range is 22003.
//! Deliberately absent: distances (the functions of the vector family).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Builder, ListBuilder};
use arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::logical_expr::{Operator, ScalarUDF, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::scalar::{Args, Scalar, Shape, cast};

/// The function of an operator.
pub fn name(op: Operator) -> Option<&'static str> {
    match op {
        Operator::Plus => Some("vector_add"),
        Operator::Minus => Some("vector_sub"),
        Operator::Multiply => Some("vector_mul"),
        _ => None,
    }
}

fn placewise(args: &Args<'_>, f: fn(f32, f32) -> f32) -> Result<ArrayRef> {
    let (left, right) = (cast(args.column(0)?, &SqlType::Vector.arrow())?, cast(args.column(1)?, &SqlType::Vector.arrow())?);
    let (left, right) = (left.as_list::<i32>(), right.as_list::<i32>());
    let mut builder = ListBuilder::new(Float32Builder::new());
    for row in 0..args.rows {
        if left.is_null(row) || right.is_null(row) {
            builder.append(false);
            continue;
        }
        let (l, r) = (left.value(row), right.value(row));
        if l.len() != r.len() {
            return Err(Error::new(Kind::InvalidArgument, format!("different vector dimensions {} and {}", l.len(), r.len())));
        }
        for (l, r) in l.as_primitive::<Float32Type>().values().iter().zip(r.as_primitive::<Float32Type>().values()) {
            let value = f(*l, *r);
            if !value.is_finite() {
                return Err(Error::new(Kind::OutOfRange, "value out of range: overflow"));
            }
            builder.values().append_value(value);
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn vectors(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == 2).then(|| vec![SqlType::Vector.arrow(); 2])
}

fn a_vector(_: &Shape<'_>) -> Option<Field> {
    Some(SqlType::Vector.field(""))
}

/// The functions behind operators.
pub fn operators() -> Vec<ScalarUDF> {
    let make = |name, run| Scalar { name, aliases: &[], volatility: Volatility::Immutable, takes: vectors, returns: a_vector, run };
    [
        make("vector_add", |a| placewise(a, |l, r| l + r)),
        make("vector_sub", |a| placewise(a, |l, r| l - r)),
        make("vector_mul", |a| placewise(a, |l, r| l * r)),
    ]
    .map(Scalar::udf)
    .into()
}
