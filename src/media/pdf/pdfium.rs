//! Pages by PDFium.
//!
//! In: a document and the library's path. Out: pages. Runs in a sandbox child: PDFium may crash on hostile files.
//! Invariant: the library is bound once per process; when it cannot be, the caller uses the fallback.

use std::path::Path;
use std::sync::OnceLock;

use parking_lot::Mutex;
use pdfium_render::prelude::{
    PdfDocument, PdfPage as Page, PdfPageObject, PdfPageObjectsCommon, PdfPageRenderRotation, PdfPageText, PdfPoints, PdfRect, Pdfium, PdfiumError,
    PdfiumInternalError,
};
use squilla_core::error::{Error, Result};

use super::info::encrypted;
use super::layout::{self, Glyph};
use super::page::{Layout, PdfPage};
use crate::sandbox::job::Payload;

/// The library of this process; None when it does not load. Once loaded it stays, whatever the path.
pub(super) fn library(path: Option<&Path>) -> Option<&'static Pdfium> {
    static LIBRARY: OnceLock<Pdfium> = OnceLock::new();
    static LOADING: Mutex<()> = Mutex::new(());
    let path = path?;
    let _one_at_a_time = LOADING.lock();
    if LIBRARY.get().is_none() {
        let bindings = Pdfium::bind_to_library(path).ok()?;
        return Some(LIBRARY.get_or_init(|| Pdfium::new(bindings)));
    }
    LIBRARY.get()
}

/// Opens a document; of a file, PDFium reads what it needs. 22P03 when it is not a PDF or needs a password.
pub(super) fn open<'a>(library: &'static Pdfium, payload: &'a Payload<'_>) -> Result<PdfDocument<'a>> {
    let document = match payload {
        Payload::Bytes(bytes) => library.load_pdf_from_byte_slice(bytes, None),
        _ => library.load_pdf_from_file(payload.file()?.path(), None),
    };
    document.map_err(|e| open_error(&e))
}

fn open_error(error: &PdfiumError) -> Error {
    match error {
        PdfiumError::PdfiumLibraryInternalError(PdfiumInternalError::PasswordError | PdfiumInternalError::SecurityError) => encrypted(),
        PdfiumError::PdfiumLibraryInternalError(_) => Error::bad_media("not a readable PDF document"),
        PdfiumError::IoError(e) => Error::bad_media(format!("not a readable PDF document: {e}")),
        other => Error::bad_media(format!("not a readable PDF document: {other:?}")),
    }
}

/// The text and figures of one page.
pub(super) fn read_page(page: &Page<'_>, page_no: u32, layout: Layout) -> Result<PdfPage> {
    let text = page.text().map_err(|e| Error::bad_media(format!("could not read the text of page {page_no}: {e:?}")))?;
    // PDFium orders lines as the page is shown, so on a page whose text stands upright only before the page is turned
    // they come backwards.
    let turned = page.rotation().is_ok_and(|r| r != PdfPageRenderRotation::None);
    let ordered = (turned || layout == Layout::ReadingOrder).then(|| layout::reading_order(&glyphs(&text))).flatten();
    let raw = ordered.unwrap_or_else(|| text.inside_rect(everywhere()));
    let mut left = OBJECTS_MAX;
    let images = page.objects().iter().map(|object| count_images(&object, 0, &mut left)).sum();
    Ok(PdfPage::read(page_no, &raw, (page.width().value, page.height().value), images))
}

/// Page objects looked at for images; a page of vector art may hold millions.
const OBJECTS_MAX: usize = 50_000;

/// Forms within forms looked at for images.
const FORM_DEPTH_MAX: usize = 4;

fn count_images(object: &PdfPageObject<'_>, depth: usize, left: &mut usize) -> u32 {
    if *left == 0 {
        return 0;
    }
    *left -= 1;
    if object.as_image_object().is_some() {
        return 1;
    }
    match object.as_x_object_form_object() {
        Some(form) if depth < FORM_DEPTH_MAX => {
            (0..form.len()).take(*left).filter_map(|i| form.get(i).ok()).map(|o| count_images(&o, depth + 1, left)).sum()
        }
        _ => 0,
    }
}

/// A rectangle around any page. The page's own size will not do: its origin need not be zero.
fn everywhere() -> PdfRect {
    let far = 1.0e6;
    PdfRect::new(PdfPoints::new(-far), PdfPoints::new(-far), PdfPoints::new(far), PdfPoints::new(far))
}

/// Every character with its box; characters that PDFium made up (spaces, line ends) have the box of no glyph.
fn glyphs(text: &PdfPageText<'_>) -> Vec<Glyph> {
    let mut glyphs = Vec::new();
    for c in text.chars().iter() {
        let Some(character) = c.unicode_char() else { continue };
        let bounds = c.loose_bounds().ok().map(|b| [b.left().value, b.bottom().value, b.right().value, b.top().value]);
        glyphs.push(Glyph { character, bounds: bounds.filter(|_| !character.is_whitespace()) });
    }
    glyphs
}
