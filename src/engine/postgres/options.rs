//! Options of servers and foreign tables: `name=value` texts, taken apart for `pg_options_to_table`.
//!
//! In: arrays of options. Out: arrays of their names, and of their values. Invariant: both have as many elements as the
//! options; a value is what follows the first equals sign. Deliberately absent: the rows (`from_calls`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::Result;

use crate::error::from_arrow;
use crate::postgres::scalar::{Args, Scalar, Shape};

/// The names of options.
pub const NAMES: &str = "squilla_option_names";
/// The values of options.
pub const VALUES: &str = "squilla_option_values";

fn texts() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

fn parts(args: &Args<'_>, part: fn(&str) -> &str) -> Result<ArrayRef> {
    let mut out = ListBuilder::new(StringBuilder::new());
    if let Some(column) = args.columns.first() {
        let lists = cast(column, &texts()).map_err(from_arrow)?;
        let lists = lists.as_list::<i32>();
        for row in 0..lists.len() {
            if lists.is_valid(row) {
                let values = lists.value(row);
                values.as_string::<i32>().iter().for_each(|option| out.values().append_option(option.map(part)));
            }
            out.append(lists.is_valid(row));
        }
    }
    Ok(Arc::new(out.finish()))
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let takes = |types: &[DataType]| (types.len() == 1).then(|| vec![texts()]);
    let returns = |_: &Shape<'_>| Some(Field::new("", texts(), true));
    let make = |name, run| Scalar { name, aliases: &[], volatility: Volatility::Immutable, takes, returns, run }.udf();
    vec![
        make(NAMES, |args: &Args<'_>| parts(args, |option| option.split_once('=').map_or(option, |(name, _)| name))),
        make(VALUES, |args: &Args<'_>| parts(args, |option| option.split_once('=').map_or("", |(_, value)| value))),
    ]
}
