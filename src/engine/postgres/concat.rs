//! `concat` and `concat_ws`: values of any types as their output text, one behind the other.
//!
//! In: any values. Out: text. Invariant: NULL is left out; a boolean is `t` or `f`, as PostgreSQL puts out booleans.
//! Deliberately absent: `||`, which is an operator over text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::postgres::output;
use crate::postgres::scalar::{Args, Scalar};

fn put(args: &Args<'_>, at: usize, row: usize) -> Result<Option<String>> {
    let column = args.column(at)?;
    if let (SqlType::Bool, Some(values)) = (args.ty(at), column.as_boolean_opt()) {
        return Ok(values.is_valid(row).then(|| if values.value(row) { "t".into() } else { "f".into() }));
    }
    output::text(column, row, &args.ty(at), args.zone)
}

fn joined(args: &Args<'_>, separated: bool) -> Result<ArrayRef> {
    let mut out = StringBuilder::new();
    for row in 0..args.rows {
        let separator = if separated { put(args, 0, row)? } else { Some(String::new()) };
        let Some(separator) = separator else {
            out.append_null();
            continue;
        };
        let mut text = String::new();
        let mut first = true;
        for at in usize::from(separated)..args.columns.len() {
            if let Some(value) = put(args, at, row)? {
                if !first {
                    text.push_str(&separator);
                }
                first = false;
                text.push_str(&value);
            }
        }
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let any: fn(&[DataType]) -> Option<Vec<DataType>> = |types| (!types.is_empty()).then(|| types.to_vec());
    let make = |name, run| Scalar {
        name,
        aliases: &[],
        volatility: Volatility::Stable,
        takes: any,
        returns: |_| Some(Field::new("", DataType::Utf8, true)),
        run,
    };
    [make("concat", |a| joined(a, false)), make("concat_ws", |a| joined(a, true))].map(Scalar::udf).into()
}
