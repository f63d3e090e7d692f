//! `convert_image`: pixels in another mode.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::values::Image;
use squilla_media::image::convert::{Mode, convert_image};

use super::source::option;

/// `convert_image`: image to image. Errors: 22023 unknown mode.
pub static CONVERT_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/convert_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "mode", Mode::parse).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let Some(mode) = option(call, "mode", Mode::parse)? else { return call.map_rows(|_| Ok(None::<Image>)) };
    call.map_rows(|row| Ok(call.image("image", row)?.map(|image| convert_image(&image, mode))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, constant_text, type_matches};

    #[test]
    fn modes() {
        for mode in ["L", "LA", "RGBA", "RGB16", "RGB32F"] {
            let outcome = kernel(&call(&CONVERT_IMAGE, vec![images(&["image/four.png"]), constant_text(mode)], 1)).unwrap();
            type_matches(&CONVERT_IMAGE, &outcome.array);
            assert_eq!(image_of(&outcome.array, 0).unwrap().view().mode(), mode);
        }
        assert!(check(&call(&CONVERT_IMAGE, vec![images(&[]), constant_text("CMYK")], 0)).is_err());
    }
}
