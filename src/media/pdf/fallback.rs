//! Pages without PDFium: lopdf's parser and a small reader of content streams.
//!
//! In: a document's bytes. Out: pages. Invariant: the document is loaded and its page map built once.
//! Deliberately absent: character widths, so words are told apart by moves and kerning only; scripts whose fonts lack a
//! usable encoding come out wrong, which is why PDFium is preferred.

use std::collections::BTreeMap;

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Encoding, Object, ObjectId};
use squilla_core::error::{Error, Result};

use super::info::{document_error, encrypted};
use super::page::PdfPage;

/// Most bytes that one page's content, or one font's map, may decompress to.
const CONTENT_BYTES_MAX: usize = 64 << 20;

/// Forms within forms that are read.
const FORM_DEPTH_MAX: usize = 4;

/// A loaded document.
pub(super) struct Document {
    document: lopdf::Document,
    pages: Vec<ObjectId>,
}

impl Document {
    /// Loads it. 22P03 when it is not a PDF or needs a password.
    pub(super) fn open(bytes: &[u8]) -> Result<Self> {
        let document = lopdf::Document::load_mem(bytes).map_err(|e| document_error(&e))?;
        let pages: Vec<ObjectId> = document.page_iter().collect();
        // An empty user password is tried by itself; without the right one nothing loads.
        if pages.is_empty() && document.is_encrypted() {
            return Err(encrypted());
        }
        if pages.is_empty() {
            return Err(Error::bad_media("the PDF document has no pages"));
        }
        Ok(Self { document, pages })
    }

    /// Pages of the document.
    pub(super) fn page_count(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap_or(u32::MAX)
    }

    /// One page, from 1.
    pub(super) fn page(&self, page_no: u32) -> Result<PdfPage> {
        let fail = |e: &lopdf::Error| Error::bad_media(format!("could not read page {page_no} of the PDF document: {e}"));
        let id = self.pages.get(page_no as usize - 1).copied();
        let id = id.ok_or_else(|| Error::internal(format!("page {page_no} is past the end")))?;
        let content = self.document.get_page_content_with_limit(id, CONTENT_BYTES_MAX).map_err(|e| fail(&e))?;
        let (direct, shared) = self.document.get_page_resources(id).map_err(|e| fail(&e))?;
        let shared = shared.iter().filter_map(|id| self.document.get_dictionary(*id).ok());
        let resources: Vec<&Dictionary> = direct.into_iter().chain(shared).collect();
        let mut reader = Reader { document: &self.document, text: String::new(), line_y: 0.0, at: (0.0, 0.0), images: 0 };
        reader.read(&content, &resources, 0).map_err(|e| fail(&e))?;
        Ok(PdfPage::read(page_no, &reader.text, self.size(id), reader.images))
    }

    /// Width and height in points as shown; A4 when the file does not say.
    fn size(&self, page: ObjectId) -> (f32, f32) {
        let number = |o: &Object| self.document.dereference(o).ok().and_then(|(_, o)| o.as_float().ok());
        let sides = |o: &Object| {
            let (_, array) = self.document.dereference(o).ok()?;
            let [left, bottom, right, top] = array.as_array().ok()?.as_slice() else { return None };
            Some(((number(right)? - number(left)?).abs(), (number(top)? - number(bottom)?).abs()))
        };
        let boxed = ["CropBox", "MediaBox"].into_iter().find_map(|key| sides(self.inherited(page, key.as_bytes())?));
        let (width, height) = boxed.filter(|(w, h)| *w > 0.0 && *h > 0.0).unwrap_or((595.0, 842.0));
        let turned = self.inherited(page, b"Rotate").and_then(number).is_some_and(|r| (r as i64).rem_euclid(180) == 90);
        if turned { (height, width) } else { (width, height) }
    }

    /// The value of a key of the page or of the nearest ancestor that has it.
    fn inherited(&self, page: ObjectId, key: &[u8]) -> Option<&Object> {
        let mut node = self.document.get_dictionary(page).ok()?;
        for _ in 0..50 {
            if let Ok(value) = node.get(key) {
                return Some(value);
            }
            let parent = node.get(b"Parent").and_then(Object::as_reference).ok()?;
            node = self.document.get_dictionary(parent).ok()?;
        }
        None
    }
}

/// Collects the text of content streams.
struct Reader<'d> {
    document: &'d lopdf::Document,
    text: String,
    /// Height of the line that was last written to, in the units of the text matrix.
    line_y: f32,
    /// Start of the current line.
    at: (f32, f32),
    images: u32,
}

impl Reader<'_> {
    fn read(&mut self, content: &[u8], resources: &[&Dictionary], depth: usize) -> lopdf::Result<()> {
        let document = self.document;
        let fonts = named(document, resources, b"Font");
        let encodings: BTreeMap<&[u8], Encoding<'_>> = fonts
            .iter()
            .filter_map(|(name, font)| {
                let font = document.dereference(font).ok()?.1.as_dict().ok()?;
                Some((*name, font.get_font_encoding_with_limit(document, CONTENT_BYTES_MAX).ok()?))
            })
            .collect();
        let forms = named(document, resources, b"XObject");
        let mut encoding = None;
        for operation in &Content::decode(content)?.operations {
            match operation.operator.as_str() {
                "Tf" => encoding = operation.operands.first().and_then(|o| o.as_name().ok()).and_then(|n| encodings.get(n)),
                "Do" => self.draw(operation, &forms, resources, depth),
                "BI" => self.images += 1,
                _ => self.apply(operation, encoding),
            }
        }
        Ok(())
    }

    /// A text operator.
    fn apply(&mut self, operation: &Operation, encoding: Option<&Encoding<'_>>) {
        let number = |i: usize| operation.operands.get(i).and_then(|o| o.as_float().ok()).unwrap_or(0.0);
        match operation.operator.as_str() {
            "BT" => self.at = (0.0, 0.0),
            "Td" | "TD" => self.move_to((self.at.0 + number(0), self.at.1 + number(1))),
            "Tm" => self.move_to((number(4), number(5))),
            "T*" => self.end_line(),
            "Tj" | "TJ" => self.show(&operation.operands, encoding),
            "'" => {
                self.end_line();
                self.show(&operation.operands, encoding);
            }
            "\"" => {
                self.end_line();
                self.show(operation.operands.get(2..).unwrap_or_default(), encoding);
            }
            _ => {}
        }
    }

    fn move_to(&mut self, to: (f32, f32)) {
        self.at = to;
        if (to.1 - self.line_y).abs() > 1.0e-3 {
            self.end_line();
        } else {
            self.end_word();
        }
        self.line_y = to.1;
    }

    fn end_line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.truncate(self.text.trim_end_matches(' ').len());
            self.text.push('\n');
        }
    }

    fn end_word(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
            self.text.push(' ');
        }
    }

    fn show(&mut self, operands: &[Object], encoding: Option<&Encoding<'_>>) {
        for operand in operands {
            match (operand, encoding) {
                (Object::String(bytes, _), Some(encoding)) => {
                    if let Ok(text) = lopdf::Document::decode_text(encoding, bytes) {
                        self.text.push_str(&text);
                    }
                }
                // Without a font only plain ASCII can be trusted.
                (Object::String(bytes, _), None) => {
                    self.text.extend(bytes.iter().filter(|b| b.is_ascii() && !b.is_ascii_control()).map(|b| char::from(*b)));
                }
                (Object::Array(parts), _) => self.show(parts, encoding),
                // A move of more than a fifth of the font size is a space; kerning is less.
                (kern, _) if kern.as_float().is_ok_and(|k| k < -200.0) => self.end_word(),
                _ => {}
            }
        }
    }

    /// Counts an image; reads a form.
    fn draw(&mut self, operation: &Operation, forms: &BTreeMap<&[u8], &Object>, resources: &[&Dictionary], depth: usize) {
        let document = self.document;
        let name = operation.operands.first().and_then(|o| o.as_name().ok());
        let object = name.and_then(|name| forms.get(name)).and_then(|o| document.dereference(o).ok());
        let Some(stream) = object.and_then(|(_, o)| o.as_stream().ok()) else { return };
        match stream.dict.get(b"Subtype").and_then(Object::as_name) {
            Ok(b"Image") => self.images += 1,
            Ok(b"Form") if depth < FORM_DEPTH_MAX && self.text.len() < CONTENT_BYTES_MAX => {
                let own = stream.dict.get(b"Resources").ok();
                let own = own.and_then(|o| document.dereference(o).ok()).and_then(|(_, o)| o.as_dict().ok());
                let own: Vec<&Dictionary> = own.into_iter().collect();
                let resources = if own.is_empty() { resources } else { &own };
                if let Ok(content) = stream.decompressed_content_with_limit(CONTENT_BYTES_MAX) {
                    // A damaged form does not lose the page.
                    let _ = self.read(&content, resources, depth + 1);
                }
            }
            _ => {}
        }
    }
}

/// The members of one kind of resource by name; the nearest dictionary wins.
fn named<'d>(document: &'d lopdf::Document, resources: &[&'d Dictionary], kind: &[u8]) -> BTreeMap<&'d [u8], &'d Object> {
    let mut members = BTreeMap::new();
    for dictionary in resources {
        let kind = dictionary.get(kind).and_then(|o| document.dereference(o)).and_then(|(_, o)| o.as_dict());
        for (name, value) in kind.into_iter().flat_map(Dictionary::iter) {
            members.entry(name.as_slice()).or_insert(value);
        }
    }
    members
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use lopdf::dictionary;

    /// A document with one line of text per page, 300 by 400 points.
    pub(crate) fn document(texts: &[&str], title: Option<&str>) -> Vec<u8> {
        let mut document = lopdf::Document::with_version("1.5");
        let pages_id = document.new_object_id();
        let font = document.add_object(dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica" });
        let resources = document.add_object(dictionary! { "Font" => dictionary! { "F1" => font } });
        let mut kids = Vec::new();
        for text in texts {
            let operations = vec![
                Operation::new("BT", vec![]),
                Operation::new("Tf", vec!["F1".into(), 12.into()]),
                Operation::new("Td", vec![50.into(), 300.into()]),
                Operation::new("Tj", vec![Object::string_literal(*text)]),
                Operation::new("ET", vec![]),
            ];
            let content = lopdf::Stream::new(dictionary! {}, Content { operations }.encode().unwrap());
            let content = document.add_object(content);
            let page = document.add_object(dictionary! { "Type" => "Page", "Parent" => pages_id, "Contents" => content });
            kids.push(page.into());
        }
        let pages = dictionary! {
            "Type" => "Pages", "Count" => kids.len() as i64, "Kids" => kids, "Resources" => resources,
            "MediaBox" => vec![0.into(), 0.into(), 300.into(), 400.into()],
        };
        document.objects.insert(pages_id, Object::Dictionary(pages));
        let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages_id });
        document.trailer.set("Root", catalog);
        if let Some(title) = title {
            let info = dictionary! { "Title" => Object::string_literal(title), "CreationDate" => Object::string_literal("D:2024") };
            let info = document.add_object(info);
            document.trailer.set("Info", info);
        }
        let mut bytes = Vec::new();
        document.save_to(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn lines_and_words_are_told_apart() {
        let document = lopdf::Document::new();
        let mut reader = Reader { document: &document, text: String::new(), line_y: 0.0, at: (0.0, 0.0), images: 0 };
        let content = b"BT 10 700 Td (one) Tj 40 0 Td [(tw) -20 (o) -300 (three)] TJ 0 -12 Td (four) Tj T* (five) ' ET BI ID x EI";
        reader.read(content, &[], 0).unwrap();
        assert_eq!(reader.text, "one two three\nfour\nfive");
    }
}
