//! `try`: its argument as it is. What makes failures inside it NULL is the engine's planning of the calls.
//!
//! Deliberately absent: failures of functions that are not ours; they end the statement.

use std::sync::Arc;

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

/// The function.
pub static TRY: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/system/try.sql"), Kernel::Scalar(identity));

fn identity(call: &Call) -> Result<Outcome> {
    let arg = call.args.first().ok_or_else(|| Error::internal("try() without an argument"))?;
    let array = if arg.constant && arg.array.len() != call.rows {
        let indices = arrow::array::UInt32Array::from(vec![0; call.rows]);
        arrow::compute::take(&arg.array, &indices, None).map_err(|e| Error::internal(e.to_string()))?
    } else {
        Arc::clone(&arg.array)
    };
    Ok(Outcome { array, errors: Vec::new() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{call, constant_text};

    #[test]
    fn a_constant_has_a_value_for_every_row() {
        assert_eq!(identity(&call(&TRY, vec![constant_text("x")], 3)).unwrap().array.len(), 3);
    }
}
