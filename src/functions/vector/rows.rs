//! Vector columns as slices.
//!
//! In: an argument of type vector. Out: one `&[f32]` a row. Invariant: no copy for List, LargeList and FixedSizeList of
//! f32; other number types are cast once for the whole column. Deliberately absent: sparse and half vectors.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use squilla_core::columns::Arg;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Outcome};

enum Offsets {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
    Fixed(usize),
}

/// A column of vectors.
pub(super) struct Vectors {
    array: ArrayRef,
    values: Float32Array,
    offsets: Offsets,
    constant: bool,
}

impl Vectors {
    /// Reads the argument of this name. 22023 when a vector holds NULL.
    pub(super) fn of(call: &Call, name: &str) -> Result<Self> {
        Self::new(call.arg(name)?)
    }

    fn new(arg: &Arg) -> Result<Self> {
        let array = ArrayRef::clone(&arg.array);
        let (values, offsets) = match array.data_type() {
            DataType::List(_) => (ArrayRef::clone(array.as_list::<i32>().values()), Offsets::Small(array.as_list::<i32>().offsets().clone())),
            DataType::LargeList(_) => (ArrayRef::clone(array.as_list::<i64>().values()), Offsets::Large(array.as_list::<i64>().offsets().clone())),
            DataType::FixedSizeList(_, n) => (ArrayRef::clone(array.as_fixed_size_list().values()), Offsets::Fixed(*n as usize)),
            DataType::Null => (arrow::array::new_empty_array(&DataType::Float32), Offsets::Fixed(0)),
            other => return Err(Error::internal(format!("argument has Arrow type {other} where vector was declared"))),
        };
        let values = match values.data_type() {
            DataType::Float32 => values,
            _ => cast(&values, &DataType::Float32).map_err(|e| Error::internal(format!("vector of {}: {e}", array.data_type())))?,
        };
        Ok(Self { values: values.as_primitive::<Float32Type>().clone(), array, offsets, constant: arg.constant })
    }

    /// The vector of a row; None when NULL.
    pub(super) fn row(&self, row: usize) -> Result<Option<&[f32]>> {
        let i = if self.constant { 0 } else { row };
        if self.array.data_type() == &DataType::Null || self.array.is_null(i) {
            return Ok(None);
        }
        let (start, end) = match &self.offsets {
            Offsets::Small(o) => (o[i] as usize, o[i + 1] as usize),
            Offsets::Large(o) => (o[i] as usize, o[i + 1] as usize),
            Offsets::Fixed(n) => (i * n, (i + 1) * n),
        };
        // Values under NULL rows may be NULL themselves, so only this row's are looked at.
        if self.values.null_count() > 0 && (start..end).any(|i| self.values.is_null(i)) {
            return Err(Error::invalid_argument("vector must not contain nulls"));
        }
        Ok(self.values.values().get(start..end))
    }
}

/// A number from each pair of vectors `a` and `b`. 22023 when their dimensions differ.
pub(super) fn pairs(call: &Call, f: fn(&[f32], &[f32]) -> f64) -> Result<Outcome> {
    let (a, b) = (Vectors::of(call, "a")?, Vectors::of(call, "b")?);
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        out.push(match (a.row(row)?, b.row(row)?) {
            (Some(a), Some(b)) if a.len() != b.len() => {
                return Err(Error::invalid_argument(format!("different vector dimensions {} and {}", a.len(), b.len())));
            }
            (Some(a), Some(b)) => Some(f(a, b)),
            _ => None,
        });
    }
    Ok(Outcome::ok(std::sync::Arc::new(Float64Array::from(out))))
}
