//! The metadata of a document, from its cross-reference table and trailer only.
//!
//! In: the file's bytes. Out: `PdfInfo`. Invariant: no page is parsed; the page count is what the page tree declares.

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};

/// What a document says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PdfInfo {
    /// None when the document is encrypted with a password.
    pub page_count: Option<u32>,
    /// From the information dictionary; empty strings count as absent.
    pub title: Option<String>,
    /// As `title`.
    pub author: Option<String>,
    /// The program that wrote the file.
    pub producer: Option<String>,
    /// Whether the file declares encryption; one with an empty user password is readable all the same.
    pub encrypted: bool,
    /// Of the header: `1.7`.
    pub version: String,
    /// Microseconds since 1970-01-01 UTC.
    pub created_us: Option<i64>,
}

/// Reads the metadata. 22P03 when the bytes are not a PDF or too damaged.
pub(super) fn read(bytes: &[u8]) -> Result<PdfInfo> {
    let meta = lopdf::Document::load_metadata_mem(bytes).map_err(|e| document_error(&e))?;
    let text = |value: Option<String>| value.map(|t| t.replace('\0', "").trim().to_owned()).filter(|t| !t.is_empty());
    let unreadable = meta.encrypted && meta.page_count == 0;
    Ok(PdfInfo {
        page_count: (!unreadable).then_some(meta.page_count),
        title: text(meta.title),
        author: text(meta.author),
        producer: text(meta.producer),
        encrypted: meta.encrypted,
        version: meta.version,
        created_us: meta.creation_date.as_deref().and_then(date_us),
    })
}

/// The error of a document that does not open.
pub(super) fn document_error(error: &lopdf::Error) -> Error {
    use lopdf::Error as E;
    match error {
        E::InvalidPassword | E::Decryption(_) | E::UnsupportedSecurityHandler(_) => encrypted(),
        E::Decompress(lopdf::DecompressError::MemoryLimitExceeded { limit }) => {
            Error::bad_media(format!("a stream of the PDF document grows beyond {limit} bytes"))
        }
        other => Error::bad_media(format!("not a readable PDF document: {other}")),
    }
}

const ENCRYPTED: &str = "the PDF document is encrypted and needs a password";

/// The error of a document that needs a password.
pub(super) fn encrypted() -> Error {
    Error::bad_media(ENCRYPTED).hint("Decrypt the file before reading it.")
}

/// Whether it is that error.
pub(super) fn is_encrypted(error: &Error) -> bool {
    error.message == ENCRYPTED
}

/// `D:YYYYMMDDHHmmSSOHH'mm'`, everything after the year optional, to microseconds since 1970 UTC.
fn date_us(text: &str) -> Option<i64> {
    let text = text.trim().trim_start_matches("D:");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let field = |from: usize, to: usize, absent: i64| match text.get(from..to) {
        Some(part) if to <= digits => part.parse::<i64>().ok(),
        _ if digits <= from => Some(absent),
        _ => None,
    };
    let (year, month, day) = (field(0, 4, -1)?, field(4, 6, 1)?, field(6, 8, 1)?);
    let (hour, minute, second) = (field(8, 10, 0)?, field(10, 12, 0)?, field(12, 14, 0)?);
    let in_range = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    let zone = text.get(digits..)?;
    let offset = |sign: i64| {
        let numbers: Vec<i64> = zone.get(1..)?.split('\'').take(2).filter_map(|n| n.get(..2)?.parse().ok()).collect();
        Some(sign * (numbers.first()? * 60 + numbers.get(1).unwrap_or(&0)))
    };
    let offset_minutes = match zone.bytes().next() {
        Some(b'+') => offset(1).unwrap_or(0),
        Some(b'-') => offset(-1).unwrap_or(0),
        _ => 0,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_minutes * 60;
    Some(seconds * 1_000_000)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn dates_are_read_in_every_length() {
        assert_eq!(date_us("D:19700101000000Z"), Some(0));
        assert_eq!(date_us("D:20240229120000+02'00'"), Some(1_709_200_800_000_000));
        assert_eq!(date_us("D:20240229120000-05'30"), Some(1_709_227_800_000_000));
        assert_eq!(date_us("D:2024"), Some(1_704_067_200_000_000));
        assert_eq!(date_us("20240101"), Some(1_704_067_200_000_000));
        for bad in ["", "D:", "D:20241301", "yesterday", "D:202", "D:20240"] {
            assert_eq!(date_us(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(read(b"hello").unwrap_err().sqlstate(), "22P03");
        assert_eq!(read(b"").unwrap_err().sqlstate(), "22P03");
    }
}
