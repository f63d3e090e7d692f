//! What a vector is made of: dimensions, length, parts, signs.
//!
//! In: one vector. Out: a number, a vector, bits. Invariant: results equal pgvector's functions of the same names.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::distance::dot;
use super::rows::Vectors;

/// Number of values.
pub static VECTOR_DIMS: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/vector_dims.sql"), Kernel::Scalar(vector_dims));

/// Euclidean length.
pub static VECTOR_NORM: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/vector_norm.sql"), Kernel::Scalar(vector_norm));

/// The same direction with length 1.
pub static L2_NORMALIZE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/l2_normalize.sql"), Kernel::Scalar(l2_normalize));

/// Some of the values.
pub static SUBVECTOR: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/vector/subvector.sql"), Kernel::Scalar(subvector));

/// One bit per value.
pub static BINARY_QUANTIZE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/vector/binary_quantize.sql"), Kernel::Scalar(binary_quantize));

fn vector_dims(call: &Call) -> Result<Outcome> {
    let v = Vectors::of(call, "v")?;
    call.map_rows(|row| Ok(v.row(row)?.map(|v| v.len() as i32)))
}

fn vector_norm(call: &Call) -> Result<Outcome> {
    let v = Vectors::of(call, "v")?;
    call.map_rows(|row| Ok(v.row(row)?.map(|v| dot(v, v).sqrt())))
}

fn l2_normalize(call: &Call) -> Result<Outcome> {
    let v = Vectors::of(call, "v")?;
    call.map_rows(|row| Ok(v.row(row)?.map(normalized)))
}

/// The zero vector stays as it is.
fn normalized(v: &[f32]) -> Vec<f32> {
    let norm = dot(v, v).sqrt();
    if norm > 0.0 { v.iter().map(|x| (f64::from(*x) / norm) as f32).collect() } else { v.to_vec() }
}

fn subvector(call: &Call) -> Result<Outcome> {
    let v = Vectors::of(call, "v")?;
    let mut rows = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        rows.push(match (v.row(row)?, call.int("start", row)?, call.int("count", row)?) {
            (Some(v), Some(start), Some(count)) => Some(slice(v, start, count)?.to_vec()),
            _ => None,
        });
    }
    let mut rows = rows.into_iter();
    call.map_rows(|_| Ok(rows.next().flatten()))
}

/// Values `start..start + count` from 1, clipped to the vector; an empty result is an error, as in pgvector.
fn slice(v: &[f32], start: i64, count: i64) -> Result<&[f32]> {
    let dims = v.len() as i64;
    let end = if start > dims - count { dims + 1 } else { start + count };
    let start = start.max(1);
    let part = if count < 1 || start > dims { None } else { v.get(start as usize - 1..(end.max(1) - 1) as usize) };
    part.filter(|part| !part.is_empty()).ok_or_else(|| Error::invalid_argument("vector must have at least 1 dimension"))
}

fn binary_quantize(call: &Call) -> Result<Outcome> {
    let v = Vectors::of(call, "v")?;
    call.map_rows(|row| Ok(v.row(row)?.map(signs)))
}

/// A bit is set where the value is positive; the first value is the highest bit, the last byte is filled with zeros.
fn signs(v: &[f32]) -> Vec<u8> {
    let byte = |part: &[f32]| part.iter().enumerate().fold(0_u8, |byte, (i, x)| byte | (u8::from(*x > 0.0) << (7 - i)));
    v.chunks(8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn subvectors_count_from_one() {
        let v = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(slice(&v, 1, 3).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(slice(&v, 3, 9).unwrap(), [3.0, 4.0, 5.0]);
        assert_eq!(slice(&v, -1, 3).unwrap(), [1.0]);
        for (start, count) in [(3, 0), (6, 1), (-1, 2), (1, -1), (i64::MIN, 1)] {
            assert!(slice(&v, start, count).is_err(), "{start} {count}");
        }
    }

    #[test]
    fn normalized_vectors_have_length_one() {
        assert_eq!(normalized(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(normalized(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn signs_fill_bytes_from_the_top() {
        assert_eq!(signs(&[1.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 2.0, 3.0]), [0b1010_0001, 0b1000_0000]);
    }
}
