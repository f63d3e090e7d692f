//! Parameters of a statement: from the arrays that the protocol decodes to the values that a plan takes.
//!
//! In: one Arrow array of length 1 a parameter. Out: [`Parameters`]. Invariant: the value keeps the array's type.
//! Deliberately absent: types of parameters, which the statement decides.

use arrow::array::ArrayRef;
use datafusion::common::ScalarValue;
use squilla_core::error::{Error, Result};

use crate::session::Parameters;

/// The values of `$1`, `$2`, ...: the first row of each array.
///
/// # Errors
/// XX000 for an array without a row or of a type that no value has.
pub fn values(arrays: &[ArrayRef]) -> Result<Parameters> {
    let values = arrays.iter().map(|array| ScalarValue::try_from_array(array, 0));
    values.collect::<std::result::Result<_, _>>().map_err(|e| Error::internal(format!("a parameter cannot be used: {e}")))
}
