//! `pdf_info`: what a document says of itself, one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::pdf::document::{Bounds, PdfInfo, pdf_info};

use crate::payload::payload;

/// `pdf_info`: document to (page_count, title, author, producer, encrypted, version, created).
/// Errors: 22P03 not a PDF, 54000 a limit. Reads the cross-reference table and the trailer, no page.
pub static PDF_INFO: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/document/pdf_info.sql"), Kernel::Expand(expand));

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(payload) = payload(&call, 0)? else { return Ok(Box::new(std::iter::empty())) };
    let info = pdf_info(&payload, Bounds::now(&call.env.limits, &call.env.cancel))?;
    Ok(Box::new(std::iter::once(row(info))))
}

fn row(info: PdfInfo) -> Result<RecordBatch> {
    let text = |value: Option<String>| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let created = TimestampMicrosecondArray::from(vec![info.created_us]).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 7] = [
        ("page_count", Arc::new(Int32Array::from(vec![info.page_count.and_then(|n| i32::try_from(n).ok())]))),
        ("title", text(info.title)),
        ("author", text(info.author)),
        ("producer", text(info.producer)),
        ("encrypted", Arc::new(BooleanArray::from(vec![info.encrypted]))),
        ("version", text(Some(info.version))),
        ("created", Arc::new(created)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call, columns_match, fixture};

    #[test]
    fn one_row_of_the_declared_columns() {
        let call = call(&PDF_INFO, vec![bytes(&fixture("document/report.pdf"))], 1);
        let rows: Vec<RecordBatch> = expand(call).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(rows.len(), 1);
        columns_match(&PDF_INFO, &rows[0]);
        assert_eq!(rows[0].column(0).as_ref(), &Int32Array::from(vec![2]));
    }

    #[test]
    fn other_bytes_are_a_row_error() {
        let error = expand(call(&PDF_INFO, vec![bytes(b"hello")], 1)).err().unwrap();
        assert_eq!(error.sqlstate(), "22P03");
        assert!(error.is_row_error());
    }
}
