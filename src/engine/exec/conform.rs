//! Arrays brought to the exact Arrow type of their declared field: same values, other field names, metadata, nullability
//! or encodings inside lists and structs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use squilla_core::error::{Error, Result};

use crate::error::from_arrow;

/// `array` as `ty`. Fails when the values cannot be cast.
pub fn conform(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    if array.data_type() == ty {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), ty) {
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = conform(list.values(), field.data_type())?;
            let list = ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned()).map_err(from_arrow)?;
            Ok(Arc::new(list))
        }
        (DataType::Struct(have), DataType::Struct(want)) if have.len() == want.len() => {
            let s = array.as_struct();
            let columns = s.columns().iter().zip(want).map(|(c, f)| conform(c, f.data_type())).collect::<Result<Vec<_>>>()?;
            let s = StructArray::try_new(want.clone(), columns, s.nulls().cloned()).map_err(from_arrow)?;
            Ok(Arc::new(s))
        }
        (have, want) => cast(array, want).map_err(|e| Error::internal(format!("a value of type {have} does not fit {want}: {e}"))),
    }
}
