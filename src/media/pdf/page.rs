//! What is told of one page, and how the text of a page is cleaned; the same for every reader.
//!
//! Invariant: text has no NUL (SQL text cannot hold one), lines end in `\n`, no white space at the end.

use serde::{Deserialize, Serialize};
use squilla_core::error::Error;

/// One page of a document.
#[derive(Clone, Debug)]
pub struct PdfPage {
    /// From 1.
    pub page_no: u32,
    /// The characters; None when the page could not be read.
    pub text: Option<String>,
    /// Points (1/72 inch), as shown, rotation applied.
    pub width: f32,
    /// Points, as shown.
    pub height: f32,
    /// Characters of `text`.
    pub char_count: u32,
    /// Raster images drawn on the page.
    pub image_count: u32,
    /// Whether the page shows images and next to no readable text.
    pub needs_ocr: bool,
    /// Why the page could not be read.
    pub error: Option<Error>,
}

/// In what order the text of a page comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// As the file has it.
    Plain,
    /// Column by column, top to bottom.
    ReadingOrder,
}

impl PdfPage {
    /// A page that was read.
    pub(super) fn read(page_no: u32, raw: &str, size: (f32, f32), image_count: u32) -> Self {
        let text = clean(raw);
        let visible = text.chars().filter(|c| !c.is_whitespace()).count();
        let unreadable = text.chars().filter(|c| matches!(c, '\u{fffd}' | '\u{e000}'..='\u{f8ff}')).count();
        let needs_ocr = (visible < VISIBLE_CHARS_MIN && image_count > 0) || (visible > 0 && unreadable * 2 > visible);
        Self {
            page_no,
            char_count: text.chars().count() as u32,
            text: Some(text),
            width: size.0,
            height: size.1,
            image_count,
            needs_ocr,
            error: None,
        }
    }

    /// A page that could not be read.
    pub(super) fn failed(page_no: u32, error: Error) -> Self {
        let (width, height) = (0.0, 0.0);
        Self { page_no, text: None, width, height, char_count: 0, image_count: 0, needs_ocr: false, error: Some(error) }
    }
}

/// Fewer visible characters than this beside an image (a page number, a stamp) do not count as the page's text.
const VISIBLE_CHARS_MIN: usize = 16;

/// Line ends become `\n`, the hyphen marks of PDFium become hyphens, NULs go.
pub(super) fn clean(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    text.push('\n');
                }
            }
            '\0' | '\u{ffff}' => {}
            '\u{2}' | '\u{fffe}' => text.push('-'),
            c => text.push(c),
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cleaned_and_counted() {
        let page = PdfPage::read(1, "a\r\nb\0\rhy\u{2}\r\nphen \n", (10.0, 20.0), 0);
        assert_eq!(page.text.as_deref(), Some("a\nb\nhy-\nphen"));
        assert_eq!(page.char_count, 12);
        assert!(!page.needs_ocr);
    }

    #[test]
    fn scans_need_ocr() {
        assert!(PdfPage::read(1, "12", (1.0, 1.0), 1).needs_ocr);
        assert!(!PdfPage::read(1, "", (1.0, 1.0), 0).needs_ocr);
        assert!(PdfPage::read(1, &"\u{f0a1}".repeat(60), (1.0, 1.0), 0).needs_ocr);
    }
}
