//! PostgreSQL's hash functions: `hashtext`, `hashint4`, `hashint8` and their kin.
//!
//! In: text, bytes, integers. Out: the 32 bits that PostgreSQL's `hash_any` gives on a little-endian machine. Invariant: rows
//! that were spread over buckets by these functions elsewhere fall into the same buckets here. Deliberately absent: the
//! extended functions with a seed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use squilla_core::error::Result;

use crate::postgres::scalar::{Args, Scalar, Shape, untyped};

fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
    *b = b.wrapping_add(*a);
    *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
    *b = b.wrapping_add(*a);
}

fn last(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).enumerate().fold(0, |word, (at, byte)| word | u32::from(*byte) << (8 * at))
}

/// `hash_any`.
pub fn bytes(key: &[u8]) -> u32 {
    let start = 0x9e37_79b9u32.wrapping_add(key.len() as u32).wrapping_add(3_923_095);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut chunks = key.chunks_exact(12);
    for chunk in &mut chunks {
        a = a.wrapping_add(word(chunk));
        b = b.wrapping_add(word(chunk.get(4..).unwrap_or(&[])));
        c = c.wrapping_add(word(chunk.get(8..).unwrap_or(&[])));
        mix(&mut a, &mut b, &mut c);
    }
    let rest = chunks.remainder();
    a = a.wrapping_add(word(rest));
    b = b.wrapping_add(word(rest.get(4..).unwrap_or(&[])));
    // The lowest byte of c is kept for the length.
    c = c.wrapping_add(word(rest.get(8..).unwrap_or(&[])) << 8);
    last(a, b, c)
}

/// `hash_uint32`.
pub fn number(key: u32) -> u32 {
    let start = 0x9e37_79b9u32.wrapping_add(4).wrapping_add(3_923_095);
    last(start.wrapping_add(key), start, start)
}

fn texts(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(args.texts(0)?.iter().map(|t| t.map(|t| bytes(t.as_bytes()) as i32)).collect::<Int32Array>()))
}

fn numbers(args: &Args<'_>) -> Result<ArrayRef> {
    let wide = args.column(0)?.data_type() == &DataType::Int64;
    let hash = |value: i64| {
        if !wide {
            return number(value as u32) as i32;
        }
        // A bigint that is an integer, too, has the hash of the integer.
        let (low, high) = (value as u32, (value >> 32) as u32);
        number(low ^ if value >= 0 { high } else { !high }) as i32
    };
    Ok(Arc::new(args.ints(0)?.iter().map(|v| v.map(hash)).collect::<Int32Array>()))
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let an_int = |_: &Shape<'_>| Some(Field::new("", DataType::Int32, true));
    let make = |name, takes, run| Scalar { name, aliases: &[], volatility: Volatility::Immutable, takes, returns: an_int, run };
    let integer = |types: &[DataType]| matches!(types, [t] if t.is_integer() || untyped(t)).then(|| vec![DataType::Int32]);
    let bigint = |types: &[DataType]| matches!(types, [t] if t.is_integer() || untyped(t)).then(|| vec![DataType::Int64]);
    [
        make("hashtext", |types: &[DataType]| matches!(types, [t] if untyped(t)).then(|| vec![DataType::Utf8]), texts),
        make("hashint2", integer, numbers),
        make("hashint4", integer, numbers),
        make("hashint8", bigint, numbers),
    ]
    .map(Scalar::udf)
    .into()
}
