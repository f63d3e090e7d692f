//! A page as a picture, by PDFium.
//!
//! In: a document, a page number, a resolution. Out: RGB pixels on white, as the page is shown, with annotations and the
//! contents of form fields. Invariant: the number of pixels is checked before any is allocated.
//! Deliberately absent: a fallback; nothing else here can draw.

use std::path::PathBuf;

use pdfium_render::prelude::PdfRenderConfig;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};
use squilla_core::values::{Image, PixelType};

use super::job::{check_size, page_error};
use super::pdfium;
use crate::sandbox::job::{Chunk, Emit, Job, Payload};

/// Draws one page.
#[derive(Serialize, Deserialize)]
pub struct PdfRenderJob {
    /// The library to load.
    pub pdfium: Option<PathBuf>,
    /// From 1.
    pub page_no: u32,
    /// Pixels per inch.
    pub dpi: u32,
    /// Most bytes of the document.
    pub file_bytes_max: u64,
    /// Most pixels of the picture.
    pub image_pixels_max: u64,
}

/// The size of the picture; its pixels travel as data.
#[derive(Serialize, Deserialize)]
struct Size {
    width: u32,
    height: u32,
}

/// PDFium's limit on a side of a bitmap.
const SIDE_MAX: u32 = 32_767;

impl Job for PdfRenderJob {
    const NAME: &'static str = "pdf_render";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        check_size(payload, self.file_bytes_max)?;
        let library = pdfium::library(self.pdfium.as_deref()).ok_or_else(|| {
            Error::unsupported("drawing a page needs the PDFium library").hint("Put libpdfium.so where the setting squilla.pdfium_lib points.")
        })?;
        let document = pdfium::open(library, payload)?;
        let count = document.pages().len();
        let index = i32::try_from(self.page_no).ok().map(|n| n - 1).filter(|i| (0..count).contains(i));
        let index = index.ok_or_else(|| Error::invalid_argument(format!("the PDF document has {count} pages, not {}", self.page_no)))?;
        let page = document.pages().get(index).map_err(|_| page_error(self.page_no, "it is damaged"))?;
        let size = self.size(page.width().value, page.height().value)?;
        let config = PdfRenderConfig::new().set_fixed_size(size.width as i32, size.height as i32);
        let bitmap = page.render_with_config(&config).map_err(|_| page_error(self.page_no, "it cannot be drawn"))?;
        let mut pixels = Vec::with_capacity(size.width as usize * size.height as usize * 3);
        bitmap.as_rgba_bytes().as_chunks::<4>().0.iter().for_each(|[r, g, b, _]| pixels.extend([r, g, b]));
        emit(Chunk::new(&size, pixels)?).map(|_| ())
    }
}

impl PdfRenderJob {
    fn size(&self, width: f32, height: f32) -> Result<Size> {
        let pixels = |points: f32| (f64::from(points) * f64::from(self.dpi) / 72.0).round().max(1.0);
        let (width, height) = (pixels(width), pixels(height));
        if width * height > self.image_pixels_max as f64 || width.max(height) > f64::from(SIDE_MAX) {
            let message = format!("page {} at {} dpi has {width} x {height} pixels", self.page_no, self.dpi);
            return Err(Error::limit(message, "squilla.max_image_pixels").detail(format!("No side may have more than {SIDE_MAX}.")));
        }
        Ok(Size { width: width as u32, height: height as u32 })
    }
}

/// What the job sent, as an image.
pub(super) fn chunk_image(chunk: Chunk) -> Result<Image> {
    let Size { width, height } = chunk.header()?;
    Ok(Image { data: chunk.data, width, height, channels: 3, pixel: PixelType::U8 })
}
