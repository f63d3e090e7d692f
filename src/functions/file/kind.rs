//! `file_mime`: what kind of file it is, by its first bytes.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::{Kind, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::types::SqlType;
use squilla_media::file::mime::{SNIFF_BYTES, mime_of};

use super::fetch::rows;

/// `file_mime`: bytea or file to text. Of a file the first 8 KiB are read. Errors: 58P01 no such file, 58030 I/O.
pub static FILE_MIME: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/file/file_mime.sql"), Kernel::Fetch(file_mime));

fn file_mime(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move { Ok(kind(&call, row).await?.map(str::to_owned)) }))
}

async fn kind(call: &Call, row: usize) -> Result<Option<&'static str>> {
    let is_file = call.signature()?.arguments.iter().any(|a| a.name == "data" && a.ty == SqlType::File);
    if !is_file {
        return Ok(call.bytes("data", row)?.map(|bytes| mime_of(&bytes[..bytes.len().min(SNIFF_BYTES)], None)));
    }
    let Some(file) = call.file("data", row)? else { return Ok(None) };
    let limit = call.env.limits.file_bytes_max.max(SNIFF_BYTES as u64);
    match call.env.files.read(&file, Some((0, SNIFF_BYTES as u64)), limit).await {
        Ok(first) => Ok(Some(mime_of(&first, Some(&file.uri)))),
        // Some stores refuse a range of an empty object.
        Err(error) if error.kind == Kind::Io && file_is_empty(call, &file.uri).await => Ok(Some(mime_of(b"", Some(&file.uri)))),
        Err(error) => Err(error),
    }
}

async fn file_is_empty(call: &Call, uri: &str) -> bool {
    call.env.files.head(uri).await.is_ok_and(|file| file.size == Some(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call_overload, column, fixture, fixture_path, type_matches};
    use arrow::array::AsArray;
    use futures::executor::block_on;
    use squilla_core::columns::Output;
    use squilla_core::values::FileRef;

    #[test]
    fn bytes_and_files_tell_their_kind() {
        let bytes = bytes_column(&[Some(fixture("document/report.pdf")), Some(b"a,b\n".to_vec()), None]);
        let out = block_on(file_mime(call_overload(&FILE_MIME, 0, vec![bytes], 3))).unwrap();
        type_matches(&FILE_MIME, &out.array);
        let kinds: Vec<_> = out.array.as_string::<i32>().iter().collect();
        assert_eq!(kinds, [Some("application/pdf"), Some("text/plain"), None]);
        let file = |name: &str| Some(FileRef { uri: fixture_path(name).to_string_lossy().into_owned(), ..FileRef::default() });
        let files = FileRef::build(vec![file("document/report.pdf"), file("document/nothing.pdf")]).unwrap();
        let out = block_on(file_mime(call_overload(&FILE_MIME, 1, vec![column(files)], 2))).unwrap();
        assert_eq!(out.array.as_string::<i32>().value(0), "application/pdf");
        assert_eq!(out.errors[0].1.sqlstate(), "58P01");
    }
}
