//! `image_mode`: the mode by name.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::header::one_fact;

/// `image_mode`: image, bytes or file to the mode by name. Of bytes and files only the header is read. Errors: 22P03 not an image.
pub static IMAGE_MODE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_mode.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    one_fact(call, |facts| Some(facts.mode))
}
