//! `flip_image`: an image mirrored.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::orient::{Orientation, turned};

/// `flip_image`: image to image. Errors: 22023 unknown direction.
pub static FLIP_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/flip_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    call.text("direction", 0)?.map(direction).transpose().map(|_| ())
}

fn direction(name: &str) -> Result<Orientation> {
    match name.to_ascii_lowercase().as_str() {
        "h" | "horizontal" => Ok(Orientation::FlipHorizontal),
        "v" | "vertical" => Ok(Orientation::FlipVertical),
        _ => Err(Error::invalid_argument(format!("unknown direction \"{name}\"")).hint("Known are h (left and right change places) and v.")),
    }
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let (Some(image), Some(name)) = (call.image("image", row)?, call.text("direction", row)?) else { return Ok(None) };
        Ok(Some(turned(&image, direction(name)?)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, constant_text, type_matches};

    #[test]
    fn directions() {
        for (name, first) in [("h", [0, 255, 0]), ("vertical", [0, 0, 255])] {
            let outcome = kernel(&call(&FLIP_IMAGE, vec![images(&["image/four.png"]), constant_text(name)], 1)).unwrap();
            type_matches(&FLIP_IMAGE, &outcome.array);
            assert_eq!(image_of(&outcome.array, 0).unwrap().data[..3], first);
        }
        let outcome = kernel(&call(&FLIP_IMAGE, vec![images(&["image/four.png"]), constant_text("x")], 1)).unwrap();
        assert_eq!(outcome.errors[0].1.sqlstate(), "22023");
    }
}
