//! `pdf_text`: the whole text of a document.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::pdf::document::{Bounds, PageOptions, pdf_text};
use squilla_media::sandbox::job::Payload;

/// `pdf_text`: document to text, a form feed between pages. Errors: 22P03 not a PDF or a password needed, 54000 a limit.
pub static PDF_TEXT: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/document/pdf_text.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let bytes = call.bytes("data", row)?;
        bytes.map(|bytes| pdf_text(&Payload::borrowed(bytes), &PageOptions::default(), Bounds::now(&call.env.limits, &call.env.cancel))).transpose()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, fixture};
    use arrow::array::{Array, AsArray};

    #[test]
    fn a_bad_document_fails_alone() {
        let documents = [Some(fixture("document/report.pdf")), Some(b"junk".to_vec()), Some(fixture("document/encrypted.pdf")), None];
        let outcome = kernel(&call(&PDF_TEXT, vec![bytes_column(&documents)], 4)).unwrap();
        let text = outcome.array.as_string::<i32>();
        assert!(text.value(0).contains('\u{c}') && text.value(0).contains("Quarterly report"));
        assert_eq!(text.null_count(), 3);
        let rows: Vec<usize> = outcome.errors.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [1, 2]);
        assert!(outcome.errors[1].1.message.contains("encrypted"));
    }
}
