//! What the rest of the project calls: metadata, pages and the whole text of a document, parsed in the sandbox.
//!
//! In: a document, options, limits. Out: values, or pages to a consumer as they are read.
//! Invariant: one document is opened once per call, however many pages are asked for.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::CancelFlag;
use squilla_core::limits::{Deadline, Limits};
use squilla_core::values::Image;

use super::job::{PdfInfoJob, PdfPagesJob, chunk_page};
use super::library;
use super::page_range::PageRange;
use super::render::{PdfRenderJob, chunk_image};
use crate::sandbox::job::Payload;
use crate::sandbox::pool;

pub use super::info::PdfInfo;
pub use super::page::{Layout, PdfPage};

/// Which pages and how.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// Which pages.
    pub pages: PageRange,
    /// At most so many of them; further ones are left out without an error.
    pub max_pages: Option<u32>,
    /// In what order the text comes.
    pub layout: Layout,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self { pages: PageRange::all(), max_pages: None, layout: Layout::Plain }
    }
}

/// What a document may cost, and what ends the work on it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Bytes and pages.
    pub limits: &'a Limits,
    /// Time.
    pub deadline: Deadline,
    /// The statement's cancellation; the child at work is killed.
    pub cancel: &'a CancelFlag,
}

impl<'a> Bounds<'a> {
    /// A row whose time starts now.
    pub fn now(limits: &'a Limits, cancel: &'a CancelFlag) -> Self {
        Self { limits, deadline: limits.deadline(), cancel }
    }
}

impl Layout {
    /// Reads `plain` or `reading_order`; 22023 for anything else.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "plain" => Ok(Self::Plain),
            "reading_order" => Ok(Self::ReadingOrder),
            _ => Err(Error::invalid_argument(format!("unknown layout \"{name}\"")).hint("Use plain or reading_order.")),
        }
    }
}

/// The metadata of a document. Errors: 22P03 not a PDF, 54000 a limit.
pub fn pdf_info(source: &Payload<'_>, bounds: Bounds<'_>) -> Result<PdfInfo> {
    let job = PdfInfoJob { file_bytes_max: bounds.limits.file_bytes_max };
    let mut info = None;
    pool::run_cancellable(&job, source, bounds.deadline, bounds.cancel, &mut |chunk| {
        info = Some(chunk.header()?);
        Ok(true)
    })?;
    info.ok_or_else(|| Error::internal("the PDF reader gave no metadata"))
}

/// Calls `emit` with each page as it is read, until it returns `false`.
///
/// A page that cannot be read has `error` set and no text; the others still come. Errors: 22P03 not a PDF or encrypted with
/// a password, 54000 a limit, 0A000 reading order without the PDFium library; those of `emit`.
pub fn pdf_pages(source: &Payload<'_>, options: &PageOptions, bounds: Bounds<'_>, emit: &mut dyn FnMut(PdfPage) -> Result<bool>) -> Result<()> {
    let job = PdfPagesJob {
        pdfium: library::find(),
        pages: options.pages.clone(),
        max_pages: options.max_pages.unwrap_or(u32::MAX),
        layout: options.layout,
        file_bytes_max: bounds.limits.file_bytes_max,
        pdf_pages_max: bounds.limits.pdf_pages_max,
    };
    pool::run_cancellable(&job, source, bounds.deadline, bounds.cancel, &mut |chunk| emit(chunk_page(chunk)?))
}

/// The text of all pages, a form feed between them. Pages that cannot be read are left out, unless none can.
pub fn pdf_text(source: &Payload<'_>, options: &PageOptions, bounds: Bounds<'_>) -> Result<String> {
    let mut text = String::new();
    let (mut read, mut first_error) = (0_u32, None);
    pdf_pages(source, options, bounds, &mut |page| {
        if let Some(page_text) = page.text {
            if read > 0 {
                text.push('\u{c}');
            }
            text.push_str(&page_text);
            read += 1;
        }
        first_error = first_error.take().or(page.error);
        Ok(true)
    })?;
    match first_error {
        Some(error) if read == 0 => Err(error),
        _ => Ok(text),
    }
}

/// One page as an RGB picture of `dpi` pixels per inch.
///
/// Errors: 22P03 not a PDF or a page that cannot be drawn, 22023 no such page, 54000 a limit, 0A000 without the PDFium
/// library.
pub fn pdf_render(source: &Payload<'_>, page_no: u32, dpi: u32, bounds: Bounds<'_>) -> Result<Image> {
    let job = PdfRenderJob {
        pdfium: library::find(),
        page_no,
        dpi,
        file_bytes_max: bounds.limits.file_bytes_max,
        image_pixels_max: bounds.limits.image_pixels_max,
    };
    let mut image = None;
    pool::run_cancellable(&job, source, bounds.deadline, bounds.cancel, &mut |chunk| {
        image = Some(chunk_image(chunk)?);
        Ok(true)
    })?;
    image.ok_or_else(|| Error::internal("the PDF reader gave no picture"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::pdf::fallback::tests::document;
    use crate::sandbox::worker::run_guarded;

    fn pages(bytes: &[u8], pdfium: Option<std::path::PathBuf>, layout: Layout, pages: &str) -> Result<Vec<PdfPage>> {
        let job = PdfPagesJob { pdfium, pages: PageRange::parse(pages)?, max_pages: u32::MAX, layout, file_bytes_max: 1 << 20, pdf_pages_max: 100 };
        let mut out = Vec::new();
        run_guarded("pdf_pages", serde_json::to_value(&job).unwrap(), &Payload::borrowed(bytes), &mut |chunk| {
            out.push(chunk_page(chunk)?);
            Ok(true)
        })?;
        Ok(out)
    }

    #[test]
    fn both_readers_agree_on_a_simple_document() {
        let bytes = document(&["Hello first page", "Second page here", "Third"], None);
        let by_fallback = pages(&bytes, None, Layout::Plain, "2-9").unwrap();
        let mut all = vec![by_fallback];
        if let Some(library) = library::find().filter(|path| path.is_file()) {
            all.push(pages(&bytes, Some(library.clone()), Layout::Plain, "2-9").unwrap());
            all.push(pages(&bytes, Some(library), Layout::ReadingOrder, "2-9").unwrap());
        }
        for pages in all {
            assert_eq!(pages.len(), 2);
            assert_eq!(pages[0].page_no, 2);
            assert_eq!(pages[0].text.as_deref(), Some("Second page here"));
            assert_eq!((pages[0].width, pages[0].height), (300.0, 400.0));
            assert_eq!((pages[0].char_count, pages[0].image_count, pages[0].needs_ocr), (16, 0, false));
            assert_eq!(pages[1].text.as_deref(), Some("Third"));
        }
    }

    #[test]
    fn a_library_that_does_not_load_is_no_error() {
        let bytes = document(&["Hello"], None);
        let missing = Some(std::path::PathBuf::from("/nonexistent/libpdfium.so"));
        // In a process that has already loaded the library the path is not looked at again; the text is the same.
        assert_eq!(pages(&bytes, missing, Layout::Plain, "1-").unwrap()[0].text.as_deref(), Some("Hello"));
    }

    #[test]
    fn text_and_metadata_come_through() {
        let bytes = document(&["One", "Two"], Some("A title"));
        let limits = Limits::default();
        let text = pdf_text(&Payload::borrowed(&bytes), &PageOptions::default(), Bounds::now(&limits, &CancelFlag::default())).unwrap();
        assert_eq!(text, "One\u{c}Two");
        let info = pdf_info(&Payload::borrowed(&bytes), Bounds::now(&limits, &CancelFlag::default())).unwrap();
        assert_eq!(info.page_count, Some(2));
        assert_eq!(info.title.as_deref(), Some("A title"));
        assert_eq!(info.created_us, Some(1_704_067_200_000_000));
        assert!(!info.encrypted);
    }

    #[test]
    fn limits_hold_and_garbage_is_refused() {
        let bytes = document(&["One", "Two"], None);
        let limits = Limits { pdf_pages_max: 1, ..Limits::default() };
        let source = Payload::borrowed(&bytes);
        let error = pdf_text(&source, &PageOptions::default(), Bounds::now(&limits, &CancelFlag::default())).unwrap_err();
        assert_eq!(error.sqlstate(), "54000");
        let options = PageOptions { max_pages: Some(1), ..PageOptions::default() };
        assert_eq!(pdf_text(&source, &options, Bounds::now(&limits, &CancelFlag::default())).unwrap(), "One");
        let limits = Limits { file_bytes_max: 10, ..Limits::default() };
        assert_eq!(pdf_info(&source, Bounds::now(&limits, &CancelFlag::default())).unwrap_err().sqlstate(), "54000");
        let limits = Limits::default();
        for garbage in [&b""[..], b"%PDF-1.7\n", b"not a document"] {
            let source = Payload::borrowed(garbage);
            assert_eq!(pdf_text(&source, &PageOptions::default(), Bounds::now(&limits, &CancelFlag::default())).unwrap_err().sqlstate(), "22P03");
            assert_eq!(pdf_info(&source, Bounds::now(&limits, &CancelFlag::default())).unwrap_err().sqlstate(), "22P03");
        }
    }

    #[test]
    fn the_consumer_can_stop() {
        let bytes = document(&["One", "Two", "Three"], None);
        let limits = Limits::default();
        let mut seen = 0;
        pdf_pages(&Payload::borrowed(&bytes), &PageOptions::default(), Bounds::now(&limits, &CancelFlag::default()), &mut |_| {
            seen += 1;
            Ok(false)
        })
        .unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_page_is_drawn_when_the_library_is_there() {
        let bytes = document(&["Hello", "World"], None);
        let (limits, cancel) = (Limits::default(), CancelFlag::default());
        let draw = |page_no, dpi| pdf_render(&Payload::borrowed(&bytes), page_no, dpi, Bounds::now(&limits, &cancel));
        if library::find().is_none_or(|path| !path.is_file()) {
            assert_eq!(draw(1, 72).unwrap_err().sqlstate(), "0A000");
            return;
        }
        let image = draw(2, 144).unwrap();
        assert_eq!((image.width, image.height, image.channels), (600, 800, 3));
        assert_eq!(image.data.len(), 600 * 800 * 3);
        assert_eq!(image.data[..3], [255; 3]);
        assert!(image.data.iter().any(|v| *v < 100), "there is ink");
        assert_eq!(draw(3, 72).unwrap_err().sqlstate(), "22023");
        assert_eq!(draw(1, 100_000).unwrap_err().sqlstate(), "54000");
    }
}
