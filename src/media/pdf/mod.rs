//! PDF: metadata from the trailer, pages as text, one by one, or as pictures.
//!
//! In: a document as bytes or a local file. Out: `PdfInfo` and a stream of `PdfPage`. Everything that parses runs as a
//! sandbox job. Deliberately absent: tables, passwords.

pub mod document;
mod fallback;
mod info;
pub mod job;
mod layout;
pub mod library;
mod page;
pub mod page_range;
mod pdfium;
pub mod render;
