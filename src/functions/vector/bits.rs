//! Distances of bit strings, for image hashes and quantised vectors.
//!
//! In: two bit strings of equal length. Out: double precision. Invariant: results equal pgvector's for bit.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

/// Bits that differ, `<~>`.
pub static HAMMING_DISTANCE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/vector/hamming_distance.sql"), Kernel::Scalar(|call| pairs(call, hamming)));

/// 1 - shared set bits / set bits of either, `<%>`.
pub static JACCARD_DISTANCE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/vector/jaccard_distance.sql"), Kernel::Scalar(|call| pairs(call, jaccard)));

fn pairs(call: &Call, f: fn(&[u8], &[u8]) -> f64) -> Result<Outcome> {
    let mut rows = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        rows.push(match (call.bytes("a", row)?, call.bytes("b", row)?) {
            (Some(a), Some(b)) if a.len() != b.len() => {
                return Err(Error::invalid_argument(format!("different bit lengths {} and {}", a.len() * 8, b.len() * 8)));
            }
            (Some(a), Some(b)) => Some(f(a, b)),
            _ => None,
        });
    }
    Ok(Outcome::ok(std::sync::Arc::new(arrow::array::Float64Array::from(rows))))
}

fn count(a: &[u8], b: &[u8], f: fn(u8, u8) -> u8) -> f64 {
    a.iter().zip(b).map(|(a, b)| u64::from(f(*a, *b).count_ones())).sum::<u64>() as f64
}

fn hamming(a: &[u8], b: &[u8]) -> f64 {
    count(a, b, |a, b| a ^ b)
}

fn jaccard(a: &[u8], b: &[u8]) -> f64 {
    let shared = count(a, b, |a, b| a & b);
    if shared == 0.0 { 1.0 } else { 1.0 - shared / count(a, b, |a, b| a | b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted() {
        assert_eq!(hamming(&[0b1111_0000, 1], &[0b0000_1111, 0]), 9.0);
        assert_eq!(jaccard(&[0b1110], &[0b0111]), 0.5);
        assert_eq!(jaccard(&[0], &[0]), 1.0);
    }
}
