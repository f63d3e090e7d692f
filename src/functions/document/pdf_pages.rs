//! `pdf_pages`: one row a page, as the pages are read.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Int32Array, RecordBatch, StringArray};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::pdf::document::{Bounds, Layout, PageOptions, PdfPage, pdf_pages};
use squilla_media::pdf::page_range::PageRange;

use crate::expansion::pushed;
use crate::payload::payload;

/// `pdf_pages`: document to setof (page_no, text, width, height, char_count, image_count, needs_ocr).
/// Errors: 22P03 not a PDF or a password needed, 54000 a limit. A page that cannot be read has no text, the others still
/// come, and its error ends the expansion after the last page.
pub static PDF_PAGES: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/document/pdf_pages.sql"), Kernel::Expand(expand)).with_check(check);

/// A batch is handed on at so many pages or bytes of text: small, so that the next stage can begin early.
const BATCH_PAGES: usize = 64;
const BATCH_BYTES: usize = 1 << 20;

/// Reads the options that are constants; `pages` may differ from row to row.
fn check(call: &Call) -> Result<()> {
    call.option_text("layout")?.map(Layout::parse).transpose()?;
    if call.arg("pages")?.constant && call.arg("max_pages")?.constant && call.arg("layout")?.constant {
        options(call)?;
    }
    Ok(())
}

fn options(call: &Call) -> Result<PageOptions> {
    let max_pages = call.int("max_pages", 0)?;
    let max_pages = max_pages.map(|n| u32::try_from(n).map_err(|_| Error::invalid_argument(format!("max_pages must not be negative, is {n}"))));
    Ok(PageOptions {
        pages: call.text("pages", 0)?.map_or_else(|| Ok(PageRange::all()), PageRange::parse)?,
        max_pages: max_pages.transpose()?,
        layout: call.text("layout", 0)?.map_or(Ok(Layout::Plain), Layout::parse)?,
    })
}

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let options = options(&call)?;
    pushed("pdf-pages", move |emit| {
        let Some(payload) = payload(&call, 0)? else { return Ok(()) };
        let mut pages = Vec::new();
        let mut bytes = 0;
        let mut failed = Failed::default();
        pdf_pages(&payload, &options, Bounds::now(&call.env.limits, &call.env.cancel), &mut |page| {
            bytes += page.text.as_ref().map_or(0, String::len);
            failed.note(&page);
            pages.push(page);
            if pages.len() >= BATCH_PAGES || bytes >= BATCH_BYTES {
                bytes = 0;
                return emit(batch(std::mem::take(&mut pages))?);
            }
            Ok(true)
        })?;
        if pages.is_empty() || emit(batch(pages)?)? { failed.into_result() } else { Ok(()) }
    })
}

/// The pages that could not be read.
#[derive(Default)]
struct Failed {
    first: Option<Error>,
    failed: u32,
    seen: u32,
}

impl Failed {
    fn note(&mut self, page: &PdfPage) {
        self.seen += 1;
        if let Some(error) = &page.error {
            self.failed += 1;
            self.first.get_or_insert_with(|| error.clone());
        }
    }

    fn into_result(self) -> Result<()> {
        match self.first {
            Some(error) => Err(error.detail(format!("{} of {} pages could not be read.", self.failed, self.seen))),
            None => Ok(()),
        }
    }
}

fn batch(mut pages: Vec<PdfPage>) -> Result<RecordBatch> {
    let read = |page: &PdfPage| page.error.is_none();
    let ints = |get: fn(&PdfPage) -> u32, always: bool| -> ArrayRef {
        Arc::new(Int32Array::from_iter(pages.iter().map(|p| (always || read(p)).then(|| get(p) as i32))))
    };
    let floats = |get: fn(&PdfPage) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter(pages.iter().map(|p| read(p).then(|| get(p))))) };
    let mut columns = vec![
        ("page_no", ints(|p| p.page_no, true)),
        ("width", floats(|p| p.width)),
        ("height", floats(|p| p.height)),
        ("char_count", ints(|p| p.char_count, false)),
        ("image_count", ints(|p| p.image_count, false)),
        ("needs_ocr", Arc::new(BooleanArray::from_iter(pages.iter().map(|p| read(p).then_some(p.needs_ocr))))),
    ];
    let text: ArrayRef = Arc::new(StringArray::from_iter(pages.iter_mut().map(|p| p.text.take())));
    columns.insert(1, ("text", text));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call, columns_match, constant_text, fixture, int, null};
    use arrow::array::AsArray;

    #[test]
    fn pages_come_as_rows_of_the_declared_columns() {
        let args = vec![bytes(&fixture("document/report.pdf")), null(), null(), constant_text("plain")];
        let rows: Vec<RecordBatch> = expand(call(&PDF_PAGES, args, 1)).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(rows.len(), 1);
        columns_match(&PDF_PAGES, &rows[0]);
        assert_eq!(rows[0].num_rows(), 2);
        assert!(rows[0].column(1).as_string::<i32>().value(0).contains("Quarterly report"));
    }

    #[test]
    fn pages_are_chosen() {
        let args = vec![bytes(&fixture("document/report.pdf")), constant_text("2-"), int(5), constant_text("plain")];
        let rows: Vec<RecordBatch> = expand(call(&PDF_PAGES, args, 1)).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(rows[0].column(0).as_ref(), &Int32Array::from(vec![2]));
    }

    #[test]
    fn bad_options_are_plan_errors() {
        let args = vec![bytes(b""), null(), null(), constant_text("columns")];
        assert_eq!(check(&call(&PDF_PAGES, args, 0)).unwrap_err().sqlstate(), "22023");
        let args = vec![bytes(b""), constant_text("3-1"), null(), constant_text("plain")];
        assert_eq!(check(&call(&PDF_PAGES, args, 0)).unwrap_err().sqlstate(), "22023");
        let args = vec![bytes(b""), null(), int(-1), constant_text("plain")];
        assert_eq!(check(&call(&PDF_PAGES, args, 0)).unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn a_failed_page_is_a_row_without_text_and_an_error_at_the_end() {
        let page = |page_no, error: Option<Error>| PdfPage {
            page_no,
            text: error.is_none().then(|| "text".to_owned()),
            width: 1.0,
            height: 1.0,
            char_count: 4,
            image_count: 0,
            needs_ocr: false,
            error,
        };
        let pages = vec![page(1, None), page(2, Some(Error::bad_media("torn")))];
        let mut failed = Failed::default();
        pages.iter().for_each(|p| failed.note(p));
        let batch = batch(pages).unwrap();
        assert_eq!(batch.column(1).null_count(), 1);
        assert_eq!(batch.column(0).null_count(), 0);
        assert_eq!(failed.into_result().unwrap_err().detail.unwrap(), "1 of 2 pages could not be read.");
    }
}
