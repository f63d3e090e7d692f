//! `file_content` and `file_text`: the bytes of files, whole or in part, and their text.

use std::sync::Arc;

use encoding_rs::Encoding;
use futures::future::BoxFuture;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::fetch::rows;

/// `file_content`: file or URI to bytea. Errors: 58P01 no such file, 54000 above max_bytes, SQ006 changed, 58030 I/O.
pub static FILE_CONTENT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/file_content.sql"), Kernel::Fetch(file_content)).with_check(check_content);

fn check_content(call: &Call) -> Result<()> {
    range(call, 0)?;
    bytes_max(call, 0).map(|_| ())
}

/// `file_text`: file or URI to text. Errors: those of `file_content`, 22021 bytes that are not in the encoding.
pub static FILE_TEXT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/file_text.sql"), Kernel::Fetch(file_text)).with_check(check_text);

fn file_content(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move {
        let Some(file) = call.file("source", row)? else { return Ok(None) };
        let range = range(&call, row)?;
        let bytes_max = bytes_max(&call, row)?;
        Ok(Some(Vec::from(call.env.files.read(&file, range, bytes_max).await?)))
    }))
}

/// Start and length; None for the whole file. A length that is not given reaches to the end.
fn range(call: &Call, row: usize) -> Result<Option<(u64, u64)>> {
    let number = |name: &str| {
        let value = call.int(name, row)?;
        let checked = value.map(|n| u64::try_from(n).map_err(|_| Error::invalid_argument(format!("{name} must not be negative, is {n}"))));
        checked.transpose()
    };
    Ok(match (number("offset")?.unwrap_or(0), number("length")?) {
        (0, None) => None,
        (start, None) => Some((start, u64::MAX - start)),
        (start, Some(length)) => Some((start, length)),
    })
}

/// The smaller of the argument and the setting.
fn bytes_max(call: &Call, row: usize) -> Result<u64> {
    let setting = call.env.limits.file_bytes_max;
    match call.int("max_bytes", row)? {
        None => Ok(setting),
        Some(n) => u64::try_from(n).map(|n| n.min(setting)).map_err(|_| Error::invalid_argument(format!("max_bytes must not be negative, is {n}"))),
    }
}

fn file_text(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move {
        let (Some(file), Some(label)) = (call.file("source", row)?, call.text("encoding", row)?) else { return Ok(None) };
        let encoding = encoding(label)?;
        let bytes = call.env.files.read(&file, None, call.env.limits.file_bytes_max).await?;
        decode(&bytes, encoding).map(Some)
    }))
}

fn check_text(call: &Call) -> Result<()> {
    call.option_text("encoding")?.map(encoding).transpose().map(|_| ())
}

/// By any label of the WHATWG standard, and PostgreSQL's names of the same encodings.
fn encoding(label: &str) -> Result<&'static Encoding> {
    let lower = label.to_ascii_lowercase().replace('_', "-");
    let name = match lower.as_str() {
        "sql-ascii" => "ascii",
        "win1250" | "win1251" | "win1252" | "win1253" | "win1254" | "win1255" | "win1256" | "win1257" | "win1258" => {
            &lower.replace("win", "windows-")
        }
        "utf16" => "utf-16",
        other => other,
    };
    Encoding::for_label(name.as_bytes()).ok_or_else(|| {
        Error::invalid_argument(format!("unknown encoding \"{label}\""))
            .hint("Use a name such as utf8, latin1, utf-16le, windows-1252, sjis or gb18030.")
    })
}

/// A byte order mark at the head wins over `encoding` and is left out.
fn decode(bytes: &[u8], encoding: &'static Encoding) -> Result<String> {
    let (text, used, damaged) = encoding.decode(bytes);
    if damaged {
        return Err(
            Error::new(Kind::InvalidEncoding, format!("the file is not in encoding {}", used.name())).hint("Name its encoding by encoding =>.")
        );
    }
    if text.contains('\0') {
        return Err(Error::new(Kind::InvalidEncoding, "the file holds a NUL character, which text cannot"));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call_overload, constant_text, fixture, fixture_path, int, null, texts, type_matches};
    use arrow::array::AsArray;
    use futures::executor::block_on;

    /// The overload whose source is text.
    const BY_URI: usize = 1;

    #[test]
    fn bytes_come_whole_and_in_part() {
        let path = fixture_path("document/report.pdf");
        let uri = path.to_str();
        let sources = || texts(&[uri, Some("/nowhere"), None]);
        let whole = block_on(file_content(call_overload(&FILE_CONTENT, BY_URI, vec![sources(), int(0), null(), null()], 3))).unwrap();
        type_matches(&FILE_CONTENT, &whole.array);
        assert_eq!(whole.array.as_binary::<i64>().value(0), fixture("document/report.pdf"));
        assert_eq!((whole.errors.len(), whole.errors[0].0, whole.errors[0].1.sqlstate()), (1, 1, "58P01"));
        let part = block_on(file_content(call_overload(&FILE_CONTENT, BY_URI, vec![sources(), int(1), int(3), null()], 3))).unwrap();
        assert_eq!(part.array.as_binary::<i64>().value(0), b"PDF");
        let bounded = block_on(file_content(call_overload(&FILE_CONTENT, BY_URI, vec![sources(), int(0), null(), int(10)], 3))).unwrap();
        assert_eq!(bounded.errors[0].1.sqlstate(), "54000");
    }

    #[test]
    fn text_is_decoded_strictly() {
        let utf8 = encoding("UTF8").unwrap();
        assert_eq!(decode("\u{feff}grün".as_bytes(), utf8).unwrap(), "grün");
        assert_eq!(decode(b"gr\xfcn", encoding("latin1").unwrap()).unwrap(), "grün");
        assert_eq!(decode(b"gr\xfcn", encoding("WIN1252").unwrap()).unwrap(), "grün");
        assert_eq!(decode(b"gr\xfcn", utf8).unwrap_err().sqlstate(), "22021");
        assert_eq!(decode(b"a\0b", utf8).unwrap_err().sqlstate(), "22021");
        assert_eq!(encoding("klingon").unwrap_err().sqlstate(), "22023");
        let args = vec![texts(&[]), constant_text("klingon")];
        assert!(check_text(&call_overload(&FILE_TEXT, BY_URI, args, 0)).is_err());
    }
}
