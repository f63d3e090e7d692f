//! `render_page`: a page of a document as a picture.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::pdf::document::{Bounds, pdf_render};
use squilla_media::sandbox::job::Payload;

/// `render_page`: document to image RGB u8. Errors: 22P03 not a PDF, 22023 no such page, 54000 a limit, 0A000 without PDFium.
pub static RENDER_PAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/document/render_page.sql"), Kernel::Media(kernel)).with_check(check);

/// Finest resolution.
const DPI_MAX: i64 = 2400;

fn check(call: &Call) -> Result<()> {
    page_no(call, 0)?;
    dpi(call, 0).map(|_| ())
}

fn page_no(call: &Call, row: usize) -> Result<Option<u32>> {
    let Some(page_no) = call.int("page_no", row)? else { return Ok(None) };
    let page_no = u32::try_from(page_no).ok().filter(|n| *n > 0);
    page_no.map(Some).ok_or_else(|| Error::invalid_argument("page_no counts from 1"))
}

fn dpi(call: &Call, row: usize) -> Result<Option<u32>> {
    match call.int("dpi", row)? {
        Some(dpi) if !(1..=DPI_MAX).contains(&dpi) => Err(Error::invalid_argument(format!("dpi must be between 1 and {DPI_MAX}, not {dpi}"))),
        dpi => Ok(dpi.map(|dpi| dpi as u32)),
    }
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let (Some(bytes), Some(page_no), Some(dpi)) = (call.bytes("data", row)?, page_no(call, row)?, dpi(call, row)?) else {
            return Ok(None);
        };
        let bounds = Bounds::now(&call.env.limits, &call.env.cancel);
        pdf_render(&Payload::borrowed(bytes), page_no, dpi, bounds).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, fixture, int};
    use squilla_media::pdf::library;

    #[test]
    fn a_page_becomes_a_picture() {
        if library::find().is_none_or(|path| !path.is_file()) {
            return;
        }
        let documents = bytes_column(&[Some(fixture("document/report.pdf")), Some(b"junk".to_vec()), None]);
        let call = call(&RENDER_PAGE, vec![documents, int(2), int(72)], 3);
        let outcome = kernel(&call).unwrap();
        let arg = squilla_core::columns::Arg { array: outcome.array, constant: false };
        let image = squilla_core::columns::image(&arg, 0).unwrap().unwrap();
        assert_eq!((image.width, image.height, image.mode().as_str()), (595, 842, "RGB"));
        assert_eq!(outcome.errors.len(), 1);
        assert_eq!(outcome.errors[0].1.sqlstate(), "22P03");
    }
}
