//! `minhash` and its kin: near-duplicate search in plain SQL.
//!
//! A signature per text, bands of it to join on, and the estimate of how much two texts share.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use squilla_core::columns;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, Outcome, SqlFunction};
use squilla_media::text::minhash::{MinHash, bands, similarity};

/// `minhash`: text to bigint[num_hashes], each 0..2^32. Errors: 22023 options out of range.
pub static MINHASH: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/text/minhash.sql"), Kernel::Media(minhash)).with_check(check);

/// `minhash_bands`: a signature to setof bigint. Errors: 22023 when the bands do not divide the signature.
pub static MINHASH_BANDS: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/text/minhash_bands.sql"), Kernel::Expand(minhash_bands));

/// `minhash_similarity`: two signatures to 0..1. Errors: 22023 different lengths.
pub static MINHASH_SIMILARITY: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/text/minhash_similarity.sql"), Kernel::Scalar(minhash_similarity));

/// The options of a row.
fn options(call: &Call, row: usize) -> Result<(i64, i64, i64)> {
    let option = |name: &str, default: i64| call.int(name, row).map(|v| v.unwrap_or(default));
    Ok((option("num_hashes", 128)?, option("ngram", 5)?, option("seed", 1)?))
}

fn check(call: &Call) -> Result<()> {
    if ["num_hashes", "ngram", "seed"].iter().all(|name| call.arg(name).is_ok_and(|arg| arg.constant)) {
        let (hashes, ngram, seed) = options(call, 0)?;
        MinHash::new(hashes, ngram, seed)?;
    }
    Ok(())
}

fn minhash(call: &Call) -> Result<Outcome> {
    // Options seldom differ between rows, and the functions of a signature are made from them.
    let mut last: Option<((i64, i64, i64), MinHash)> = None;
    call.map_rows(|row| {
        let Some(text) = call.text("text", row)? else { return Ok(None) };
        let wanted = options(call, row)?;
        let hasher = match last.take().filter(|(made_for, _)| *made_for == wanted) {
            Some((_, hasher)) => hasher,
            None => MinHash::new(wanted.0, wanted.1, wanted.2)?,
        };
        let signature = hasher.signature(text);
        last = Some((wanted, hasher));
        Ok(Some(signature))
    })
}

/// The signature in an argument. 22023 when it holds NULL.
fn signature(call: &Call, name: &str, row: usize) -> Result<Option<Int64Array>> {
    let Some(values) = columns::list(call.arg(name)?, row)? else { return Ok(None) };
    if values.null_count() > 0 {
        return Err(Error::invalid_argument("signature must not contain nulls"));
    }
    let values = cast(&values, &DataType::Int64).map_err(|e| Error::internal(e.to_string()))?;
    Ok(Some(values.as_primitive::<Int64Type>().clone()))
}

fn minhash_bands(call: Arc<Call>) -> Result<Expansion> {
    let (Some(signature), Some(count)) = (signature(&call, "signature", 0)?, call.int("bands", 0)?) else {
        return Ok(Box::new(std::iter::empty()));
    };
    let column: ArrayRef = Arc::new(Int64Array::from(bands(signature.values(), count)?));
    let batch = RecordBatch::try_from_iter_with_nullable([("minhash_bands", column, true)]).map_err(|e| Error::internal(e.to_string()));
    Ok(Box::new(std::iter::once(batch)))
}

fn minhash_similarity(call: &Call) -> Result<Outcome> {
    let mut rows = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        rows.push(match (signature(call, "a", row)?, signature(call, "b", row)?) {
            (Some(a), Some(b)) => Some(similarity(a.values(), b.values())?),
            _ => None,
        });
    }
    Ok(Outcome::ok(Arc::new(arrow::array::Float64Array::from(rows))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, column, columns_match, int, texts, type_matches};

    #[test]
    fn equal_texts_have_equal_signatures_and_bands() {
        let args = vec![texts(&[Some("Some text to hash"), Some("some  TEXT to hash"), None]), int(64), int(5), int(1)];
        let out = minhash(&call(&MINHASH, args, 3)).unwrap();
        type_matches(&MINHASH, &out.array);
        assert!(out.array.is_null(2) && out.errors.is_empty());
        let list = out.array.as_list::<i32>();
        assert_eq!(list.value(0).as_ref(), list.value(1).as_ref());
        assert_eq!(list.value(0).len(), 64);
        let both = vec![column(list.slice(0, 1)), column(list.slice(1, 1))];
        let similar = minhash_similarity(&call(&MINHASH_SIMILARITY, both, 1)).unwrap();
        type_matches(&MINHASH_SIMILARITY, &similar.array);
        assert_eq!(similar.array.as_primitive::<arrow::datatypes::Float64Type>().value(0), 1.0);
        let rows: Vec<_> = minhash_bands(call(&MINHASH_BANDS, vec![column(list.slice(0, 1)), int(16)], 1)).unwrap().collect();
        let batch = rows[0].as_ref().unwrap();
        columns_match(&MINHASH_BANDS, batch);
        assert_eq!(batch.num_rows(), 16);
    }

    #[test]
    fn options_are_checked_when_planned() {
        assert!(check(&call(&MINHASH, vec![texts(&[]), int(0), int(5), int(1)], 0)).is_err());
        assert!(check(&call(&MINHASH, vec![texts(&[]), int(8), int(0), int(1)], 0)).is_err());
        assert!(check(&call(&MINHASH, vec![texts(&[]), int(8), int(3), int(1)], 0)).is_ok());
    }
}
