//! The document functions: one file each, and their list.

mod pdf_info;
mod pdf_pages;
mod pdf_text;
mod render_page;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[&pdf_info::PDF_INFO, &pdf_pages::PDF_PAGES, &pdf_text::PDF_TEXT, &render_page::RENDER_PAGE];
