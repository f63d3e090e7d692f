//! `data_uri`: bytes as a URI that browsers and dashboards show.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::file::mime::{SNIFF_BYTES, mime_of};

/// `data_uri`: bytea to `data:MIME;base64,...`. Errors: 22023 something that is no MIME type.
pub static DATA_URI: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/data_uri.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    call.text("mime", 0)?.map(checked).transpose().map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let Some(bytes) = call.bytes("data", row)? else { return Ok(None) };
        let mime = match call.text("mime", row)? {
            Some(mime) => checked(mime)?,
            None => mime_of(&bytes[..bytes.len().min(SNIFF_BYTES)], None),
        };
        let mut uri = format!("data:{mime};base64,");
        STANDARD.encode_string(bytes, &mut uri);
        Ok(Some(uri))
    })
}

/// What ends up in pages of others must not carry more than a type and its parameters.
fn checked(mime: &str) -> Result<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/+-._;=".contains(c);
    let valid = mime.chars().all(allowed) && mime.split(';').next().is_some_and(|kind| kind.split('/').count() == 2);
    if valid { Ok(mime) } else { Err(Error::invalid_argument(format!("\"{mime}\" is not a MIME type"))) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, constant_text, null};
    use arrow::array::AsArray;

    #[test]
    fn bytes_become_a_uri() {
        let uri = |args| kernel(&call(&DATA_URI, args, 1)).unwrap();
        let data = || bytes_column(&[Some(b"hi".to_vec())]);
        assert_eq!(uri(vec![data(), null()]).array.as_string::<i32>().value(0), "data:text/plain;base64,aGk=");
        assert_eq!(uri(vec![data(), constant_text("image/png")]).array.as_string::<i32>().value(0), "data:image/png;base64,aGk=");
        assert_eq!(uri(vec![data(), constant_text("x\"onerror=1")]).errors[0].1.sqlstate(), "22023");
    }
}
