//! Distances and similarities of vectors: pgvector's names, pgvector's results.
//!
//! In: two vectors. Out: double precision. Invariant: sums run in eight f32 lanes, which the compiler turns into SIMD, and
//! the lanes are added in f64. The operators `<->` `<#>` `<=>` `<+>` are these functions by name.

use squilla_core::kernel::{Kernel, SqlFunction};

use super::rows::pairs;

/// Values summed side by side.
const LANES: usize = 8;

/// The sum of `f` over pairs of values.
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += f(a[lane], b[lane]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(f(*a, *b))).sum();
    sums.iter().map(|s| f64::from(*s)).sum::<f64>() + rest
}

/// Sum of products.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| a * b)
}

fn l2(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| (a - b) * (a - b)).sqrt()
}

fn l1(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| (a - b).abs())
}

/// NaN when a vector has no length, as in pgvector.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let similarity = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    if similarity.is_nan() { similarity } else { similarity.clamp(-1.0, 1.0) }
}

macro_rules! pair_function {
    ($(#[$doc:meta])* $name:ident, $file:literal, $f:expr) => {
        $(#[$doc])*
        pub static $name: SqlFunction =
            SqlFunction::new(include_str!(concat!("../../../sql-functions/vector/", $file, ".sql")), Kernel::Scalar(|call| pairs(call, $f)));
    };
}

pair_function!(
    /// Euclidean distance, `<->`.
    L2_DISTANCE, "l2_distance", l2
);
pair_function!(
    /// Taxicab distance, `<+>`.
    L1_DISTANCE, "l1_distance", l1
);
pair_function!(
    /// Sum of products.
    INNER_PRODUCT, "inner_product", dot
);
pair_function!(
    /// Minus the sum of products, `<#>`.
    VECTOR_NEGATIVE_INNER_PRODUCT, "vector_negative_inner_product", |a, b| -dot(a, b)
);
pair_function!(
    /// 1 - cosine, `<=>`.
    COSINE_DISTANCE, "cosine_distance", |a, b| 1.0 - cosine(a, b)
);
pair_function!(
    /// Cosine of the angle.
    COSINE_SIMILARITY, "cosine_similarity", cosine
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_rest_add_up() {
        for n in [0, 1, 7, 8, 9, 384, 1001] {
            let a: Vec<f32> = (0..n).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            let exact = |f: fn(f64, f64) -> f64| a.iter().zip(&b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum::<f64>();
            assert_eq!(dot(&a, &b), exact(|a, b| a * b), "{n}");
            assert_eq!(l1(&a, &b), exact(|a, b| (a - b).abs()), "{n}");
            assert_eq!(l2(&a, &b), exact(|a, b| (a - b) * (a - b)).sqrt(), "{n}");
        }
    }

    #[test]
    fn cosine_stays_in_range() {
        assert_eq!(cosine(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[1.0, 1.0], &[-1.0, -1.0]), -1.0);
        assert!(cosine(&[0.0, 0.0], &[1.0, 1.0]).is_nan());
    }
}
