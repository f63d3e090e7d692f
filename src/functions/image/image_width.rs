//! `image_width`: pixels from left to right.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::header::one_fact;

/// `image_width`: image, bytes or file to pixels from left to right. Of bytes and files only the header is read. Errors: 22P03 not an image.
pub static IMAGE_WIDTH: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_width.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    one_fact(call, |facts| Some(facts.width))
}
