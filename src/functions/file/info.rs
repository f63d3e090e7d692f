//! What is known of a file without reading it: one HEAD or stat a row.

use std::sync::Arc;

use arrow::array::{Array, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use futures::future::BoxFuture;
use squilla_core::error::{Kind, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::values::FileRef;
use squilla_media::file::path;

use super::fetch::rows;

/// All of it, as jsonb.
pub static FILE_INFO: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/file/file_info.sql"), Kernel::Fetch(file_info));

/// Bytes.
pub static FILE_SIZE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/file/file_size.sql"), Kernel::Fetch(file_size));

/// Version tag.
pub static FILE_ETAG: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/file/file_etag.sql"), Kernel::Fetch(file_etag));

/// Time of the last change.
pub static FILE_LAST_MODIFIED: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/file_last_modified.sql"), Kernel::Fetch(file_last_modified));

/// Whether it is there.
pub static FILE_EXISTS: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/file/file_exists.sql"), Kernel::Fetch(file_exists));

async fn head(call: Arc<Call>, row: usize) -> Result<Option<FileRef>> {
    match call.file("source", row)? {
        Some(file) => call.env.files.head(&file.uri).await.map(Some),
        None => Ok(None),
    }
}

fn file_info(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move { Ok(head(call, row).await?.map(|file| json(&file))) }))
}

fn json(file: &FileRef) -> String {
    let modified = file.last_modified_us.map(rfc3339);
    serde_json::json!({
        "uri": file.uri,
        "name": path::name(&file.uri),
        "size": file.size,
        "etag": file.etag,
        "last_modified": modified,
        "content_type": file.content_type,
    })
    .to_string()
}

/// Microseconds since 1970 as `2024-02-29T12:00:00.000001Z`, by Arrow's own printer.
fn rfc3339(us: i64) -> String {
    let array = TimestampMicrosecondArray::from(vec![us]).with_timezone("+00:00");
    arrow::util::display::array_value_to_string(&array, 0).unwrap_or_default()
}

fn file_size(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move {
        // A listing has told the size already.
        match call.file("source", row)? {
            Some(FileRef { size: Some(size), .. }) => Ok(Some(size)),
            _ => Ok(head(call, row).await?.and_then(|file| file.size)),
        }
    }))
}

fn file_etag(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move { Ok(head(call, row).await?.and_then(|file| file.etag)) }))
}

fn file_last_modified(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async {
        let Outcome { array, errors } =
            rows(call, |call, row| async move { Ok(head(call, row).await?.and_then(|file| file.last_modified_us)) }).await?;
        let times = TimestampMicrosecondArray::from_iter(array.as_primitive::<Int64Type>().iter()).with_timezone("UTC");
        debug_assert_eq!(times.len(), array.len());
        Ok(Outcome { array: Arc::new(times), errors })
    })
}

fn file_exists(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(rows(call, |call, row| async move {
        match head(call, row).await {
            Ok(file) => Ok(file.map(|_| true)),
            Err(error) if error.kind == Kind::UndefinedFile => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call_overload, fixture_path, texts, type_matches};
    use arrow::array::{BooleanArray, Int64Array};
    use futures::executor::block_on;

    fn run(function: &'static SqlFunction) -> Outcome {
        let path = fixture_path("document/report.pdf");
        let call = call_overload(function, 1, vec![texts(&[path.to_str(), Some("/nowhere"), None])], 3);
        let Kernel::Fetch(kernel) = function.kernel else { panic!("another kind") };
        let outcome = block_on(kernel(call)).unwrap();
        type_matches(function, &outcome.array);
        outcome
    }

    #[test]
    fn a_missing_file_fails_its_row_or_is_not_there() {
        let bytes = std::fs::metadata(fixture_path("document/report.pdf")).unwrap().len() as i64;
        let size = run(&FILE_SIZE);
        assert_eq!(size.array.as_ref(), &Int64Array::from(vec![Some(bytes), None, None]));
        assert_eq!(size.errors[0].1.sqlstate(), "58P01");
        let exists = run(&FILE_EXISTS);
        assert_eq!(exists.array.as_ref(), &BooleanArray::from(vec![Some(true), Some(false), None]));
        assert!(exists.errors.is_empty());
        assert_eq!(run(&FILE_LAST_MODIFIED).errors.len(), 1);
        assert_eq!(run(&FILE_ETAG).array.as_string::<i32>().value(0), "1");
        let info = run(&FILE_INFO);
        let json: serde_json::Value = serde_json::from_str(info.array.as_string::<i32>().value(0)).unwrap();
        assert_eq!((&json["name"], &json["last_modified"]), (&"report.pdf".into(), &"1970-01-01T00:00:00Z".into()));
    }
}
