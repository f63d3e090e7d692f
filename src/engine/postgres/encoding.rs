//! `encode` and `decode`: bytea to text and back, as PostgreSQL spells them.
//!
//! In: bytes, or text that spells them, and a format: hex, base64, escape. Out: text, or bytes. Invariant: decode of
//! encode gives the bytes; base64 is padded and broken after 76 characters. Deliberately absent: other formats.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};

use crate::error::{from_arrow, to_datafusion};
use crate::postgres::input;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Coding {
    encode: bool,
    signature: SignatureOf,
}

/// The signature takes no part in comparisons: it follows from `encode`.
#[derive(Debug)]
struct SignatureOf(Signature);

impl PartialEq for SignatureOf {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SignatureOf {}

impl Hash for SignatureOf {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl ScalarUDFImpl for Coding {
    fn name(&self) -> &str {
        if self.encode { "encode" } else { "decode" }
    }

    fn signature(&self) -> &Signature {
        &self.signature.0
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        if types.len() != 2 {
            return plan_err!("{} takes two arguments", self.name());
        }
        Ok(if self.encode { DataType::Utf8 } else { DataType::LargeBinary })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let array = if self.encode { encode(&arrays[0], &arrays[1]) } else { decode(&arrays[0], &arrays[1]) };
        array.map(ColumnarValue::Array).map_err(to_datafusion)
    }
}

fn unknown(format: &str) -> Error {
    Error::invalid_argument(format!("unrecognized encoding: \"{format}\""))
}

fn encode(values: &ArrayRef, formats: &ArrayRef) -> Result<ArrayRef> {
    let text = matches!(values.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let target = if text { DataType::Utf8 } else { DataType::LargeBinary };
    let values = arrow::compute::cast(values, &target).map_err(from_arrow)?;
    let formats = arrow::compute::cast(formats, &DataType::Utf8).map_err(from_arrow)?;
    let formats = formats.as_string::<i32>();
    let mut builder = StringBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) || formats.is_null(row) {
            builder.append_null();
            continue;
        }
        // An untyped literal spells bytes.
        let bytes = if text { input::bytea(values.as_string::<i32>().value(row))? } else { values.as_binary::<i64>().value(row).to_vec() };
        let format = formats.value(row);
        builder.append_value(match format.to_lowercase().as_str() {
            "hex" => bytes.iter().map(|b| format!("{b:02x}")).collect::<String>(),
            "base64" => base64(&bytes),
            "escape" => escape(&bytes),
            _ => return Err(unknown(format)),
        });
    }
    Ok(Arc::new(builder.finish()))
}

fn decode(values: &ArrayRef, formats: &ArrayRef) -> Result<ArrayRef> {
    let values = arrow::compute::cast(values, &DataType::Utf8).map_err(from_arrow)?;
    let formats = arrow::compute::cast(formats, &DataType::Utf8).map_err(from_arrow)?;
    let (values, formats) = (values.as_string::<i32>(), formats.as_string::<i32>());
    let mut builder = LargeBinaryBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) || formats.is_null(row) {
            builder.append_null();
            continue;
        }
        let (text, format) = (values.value(row), formats.value(row));
        builder.append_value(match format.to_lowercase().as_str() {
            "hex" => input::bytea(&format!("\\x{text}"))?,
            "base64" => unbase64(text)?,
            "escape" => input::bytea(&if text.starts_with("\\x") { format!("\\{text}") } else { text.to_owned() })?,
            _ => return Err(unknown(format)),
        });
    }
    Ok(Arc::new(builder.finish()))
}

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 4);
    let mut line = 0;
    for chunk in bytes.chunks(3) {
        if line == 76 {
            out.push('\n');
            line = 0;
        }
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = (word >> (18 - 6 * i) & 63) as usize;
            out.push(if i > chunk.len() { '=' } else { char::from(ALPHABET[digit]) });
        }
        line += 4;
    }
    out
}

fn unbase64(text: &str) -> Result<Vec<u8>> {
    let bad = |what: &str| Error::new(Kind::InvalidArgument, what.to_owned());
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut digits, mut padding) = (0u32, 0, 0);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace()) {
        if byte == b'=' {
            padding += 1;
            continue;
        }
        let digit = ALPHABET.iter().position(|a| *a == byte).filter(|_| padding == 0);
        let digit = digit.ok_or_else(|| bad(&format!("invalid symbol \"{}\" found while decoding base64 sequence", char::from(byte))))?;
        word = word << 6 | digit as u32;
        digits += 1;
        if digits == 4 {
            out.extend_from_slice(&word.to_be_bytes()[1..]);
            (word, digits) = (0, 0);
        }
    }
    match (digits, padding) {
        (0, 0) => {}
        (2, 2) => out.push((word >> 4) as u8),
        (3, 1) => out.extend_from_slice(&((word >> 2) as u16).to_be_bytes()),
        _ => return Err(bad("invalid base64 end sequence").hint("Input data is missing padding, is truncated, or is otherwise corrupted.")),
    }
    Ok(out)
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
            other => out.push(char::from(*other)),
        }
    }
    out
}

/// `encode` and `decode`.
pub fn udfs() -> Vec<ScalarUDF> {
    [true, false]
        .map(|encode| ScalarUDF::new_from_impl(Coding { encode, signature: SignatureOf(Signature::any(2, Volatility::Immutable)) }))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base64_is_padded_and_reads_back() {
        for (bytes, text) in [(&b""[..], ""), (b"\x01\x02", "AQI="), (b"a", "YQ=="), (b"abc", "YWJj")] {
            assert_eq!(base64(bytes), text);
            assert_eq!(unbase64(text).unwrap(), bytes);
        }
        let long: Vec<u8> = (0..=255).collect();
        assert_eq!(base64(&long).lines().next().unwrap().len(), 76);
        assert_eq!(unbase64(&base64(&long)).unwrap(), long);
        assert!(unbase64("YQ").is_err() && unbase64("Y!==").is_err());
        assert_eq!(escape(b"a\\\0\xff"), "a\\\\\\000\\377");
    }
}
