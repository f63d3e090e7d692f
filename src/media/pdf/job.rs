//! The sandbox jobs of documents.
//!
//! In: a document as the payload. Out: one chunk for the metadata, or one per page with its text as data.
//! Invariant: a page that fails is a chunk with an error; only a document that does not open fails the job.

use std::path::PathBuf;

use pdfium_render::prelude::Pdfium;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};

use super::info::{self, PdfInfo, is_encrypted};
use super::page::{Layout, PdfPage};
use super::page_range::PageRange;
use super::{fallback, pdfium};
use crate::sandbox::job::{Chunk, Emit, Job, Payload};
use crate::sandbox::wire::WireError;

/// Reads the metadata.
#[derive(Serialize, Deserialize)]
pub struct PdfInfoJob {
    /// Most bytes of the document.
    pub file_bytes_max: u64,
}

impl Job for PdfInfoJob {
    const NAME: &'static str = "pdf_info";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        check_size(payload, self.file_bytes_max)?;
        let info: PdfInfo = info::read(&payload.bytes()?)?;
        emit(Chunk::new(&info, Vec::new())?).map(|_| ())
    }
}

/// Reads pages.
#[derive(Serialize, Deserialize)]
pub struct PdfPagesJob {
    /// The library to load; the fallback without one, or when it does not load.
    pub pdfium: Option<PathBuf>,
    /// Which pages.
    pub pages: PageRange,
    /// At most so many of them.
    pub max_pages: u32,
    /// In what order the text comes.
    pub layout: Layout,
    /// Most bytes of the document.
    pub file_bytes_max: u64,
    /// Most pages that may be asked for.
    pub pdf_pages_max: u64,
}

/// A page without its text, which travels as data.
#[derive(Serialize, Deserialize)]
struct PageHeader {
    page_no: u32,
    width: f32,
    height: f32,
    char_count: u32,
    image_count: u32,
    needs_ocr: bool,
    error: Option<WireError>,
}

impl Job for PdfPagesJob {
    const NAME: &'static str = "pdf_pages";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        check_size(payload, self.file_bytes_max)?;
        match pdfium::library(self.pdfium.as_deref()) {
            Some(library) => self.by_pdfium(library, payload, emit),
            None if self.layout == Layout::ReadingOrder => Err(Error::unsupported("layout reading_order needs the PDFium library")
                .hint("Put libpdfium.so where the setting squilla.pdfium_lib points, or use layout plain.")),
            None => self.by_fallback(payload, emit),
        }
    }
}

impl PdfPagesJob {
    fn by_pdfium(&self, library: &'static Pdfium, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let document = match pdfium::open(library, payload) {
            Ok(document) => document,
            // The other parser reads some damaged documents that this one refuses; its own error would say less.
            Err(error) if !is_encrypted(&error) => match fallback::Document::open(&payload.bytes()?) {
                Ok(document) => return self.send_pages(&document, emit),
                Err(_) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let count = u32::try_from(document.pages().len()).unwrap_or(0);
        for page_no in self.wanted(count)? {
            let page = i32::try_from(page_no - 1)
                .map_err(|_| page_error(page_no, "its number is too large"))
                .and_then(|index| document.pages().get(index).map_err(|_| page_error(page_no, "it is damaged")))
                .and_then(|page| pdfium::read_page(&page, page_no, self.layout));
            if !emit(page_chunk(page.unwrap_or_else(|e| PdfPage::failed(page_no, e)))?)? {
                break;
            }
        }
        Ok(())
    }

    fn by_fallback(&self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        self.send_pages(&fallback::Document::open(&payload.bytes()?)?, emit)
    }

    fn send_pages(&self, document: &fallback::Document, emit: &mut Emit<'_>) -> Result<()> {
        for page_no in self.wanted(document.page_count())? {
            let page = document.page(page_no);
            if !emit(page_chunk(page.unwrap_or_else(|e| PdfPage::failed(page_no, e)))?)? {
                break;
            }
        }
        Ok(())
    }

    fn wanted(&self, count: u32) -> Result<Vec<u32>> {
        let pages = self.pages.pages(count, self.max_pages);
        if pages.len() as u64 > self.pdf_pages_max {
            let message = format!("{} pages of the PDF document are more than {}", pages.len(), self.pdf_pages_max);
            return Err(Error::limit(message, "squilla.max_pdf_pages"));
        }
        Ok(pages)
    }
}

/// The error of one page.
pub(super) fn page_error(page_no: u32, why: &str) -> Error {
    Error::bad_media(format!("could not read page {page_no} of the PDF document: {why}"))
}

/// A page to what travels.
fn page_chunk(page: PdfPage) -> Result<Chunk> {
    let PdfPage { page_no, text, width, height, char_count, image_count, needs_ocr, error } = page;
    let error = error.as_ref().map(WireError::from);
    Chunk::new(&PageHeader { page_no, width, height, char_count, image_count, needs_ocr, error }, text.unwrap_or_default().into_bytes())
}

/// The inverse of [`page_chunk`].
pub(super) fn chunk_page(chunk: Chunk) -> Result<PdfPage> {
    let PageHeader { page_no, width, height, char_count, image_count, needs_ocr, error } = chunk.header()?;
    let error = error.map(Error::from);
    let text = String::from_utf8(chunk.data).map_err(|_| Error::internal("a PDF page is not UTF-8"))?;
    let text = error.is_none().then_some(text);
    Ok(PdfPage { page_no, text, width, height, char_count, image_count, needs_ocr, error })
}

/// 54000 for a document of more than so many bytes.
pub(super) fn check_size(payload: &Payload<'_>, bytes_max: u64) -> Result<()> {
    let fail = |e| Error::io("could not read the document", e);
    let bytes = match payload {
        Payload::Bytes(bytes) => bytes.len() as u64,
        Payload::File(file) => file.metadata().map_err(fail)?.len(),
        Payload::Path(path) => std::fs::metadata(path).map_err(fail)?.len(),
    };
    if bytes > bytes_max {
        return Err(Error::limit(format!("the document has {bytes} bytes, more than {bytes_max}"), "squilla.max_file_bytes"));
    }
    Ok(())
}
