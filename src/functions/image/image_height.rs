//! `image_height`: pixels from top to bottom.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::header::one_fact;

/// `image_height`: image, bytes or file to pixels from top to bottom. Of bytes and files only the header is read. Errors: 22P03 not an image.
pub static IMAGE_HEIGHT: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_height.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    one_fact(call, |facts| Some(facts.height))
}
