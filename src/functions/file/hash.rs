//! `content_hash`: a fingerprint of bytes.

use md5::Md5;
use sha2::{Digest, Sha256};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

/// `content_hash`: bytea to lower-case hex. Errors: 22023 unknown algorithm.
pub static CONTENT_HASH: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/content_hash.sql"), Kernel::Media(kernel)).with_check(check);

/// Bytes to hex.
type Hash = fn(&[u8]) -> String;

fn algorithm(name: &str) -> Result<Hash> {
    match name {
        "blake3" => Ok(|bytes| blake3::hash(bytes).to_hex().to_string()),
        "sha256" => Ok(|bytes| hex::encode(Sha256::digest(bytes))),
        "md5" => Ok(|bytes| hex::encode(Md5::digest(bytes))),
        _ => Err(Error::invalid_argument(format!("unknown hash \"{name}\"")).hint("Use blake3, sha256 or md5.")),
    }
}

fn check(call: &Call) -> Result<()> {
    call.option_text("algo")?.map(algorithm).transpose().map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let hash = algorithm(call.option_text("algo")?.unwrap_or("blake3"))?;
    call.map_rows(|row| Ok(call.bytes("data", row)?.map(hash)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, constant_text, type_matches};
    use arrow::array::AsArray;

    #[test]
    fn hashes_are_the_published_ones() {
        let hash = |algo: &str| {
            let args = vec![bytes_column(&[Some(b"abc".to_vec())]), constant_text(algo)];
            let out = kernel(&call(&CONTENT_HASH, args, 1)).unwrap();
            type_matches(&CONTENT_HASH, &out.array);
            out.array.as_string::<i32>().value(0).to_owned()
        };
        assert_eq!(hash("md5"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hash("sha256"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash("blake3"), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        let args = vec![bytes_column(&[]), constant_text("crc32")];
        assert_eq!(check(&call(&CONTENT_HASH, args, 0)).unwrap_err().sqlstate(), "22023");
    }
}
