//! `image_channels`: 1 for L, 2 for LA, 3 for RGB, 4 for RGBA and CMYK.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::header::one_fact;

/// `image_channels`: image, bytes or file to 1 for L, 2 for LA, 3 for RGB, 4 for RGBA and CMYK. Of bytes and files only the header is read. Errors: 22P03 not an image.
pub static IMAGE_CHANNELS: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_channels.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    one_fact(call, |facts| Some(facts.channels))
}
