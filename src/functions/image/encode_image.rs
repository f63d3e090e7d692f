//! `encode_image`: pixels to the bytes of an image file.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::encode::{encode_image, parse_format};
use squilla_media::image::info::Format;

use super::source::option;

/// `encode_image`: image to bytea. Errors: 22023 unknown format, a quality outside 1 to 100.
pub static ENCODE_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/encode_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "format", parse_format).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let format = option(call, "format", parse_format)?.unwrap_or(Format::Jpeg);
    call.map_rows(|row| {
        let (Some(image), Some(quality)) = (call.image("image", row)?, call.int("quality", row)?) else { return Ok(None) };
        // 0 is outside what the encoder takes, as is what does not fit.
        encode_image(&image, format, u8::try_from(quality).unwrap_or(0)).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{images, picture};
    use crate::testing::{call, constant_text, int, type_matches};
    use arrow::array::AsArray;
    use squilla_core::limits::Limits;
    use squilla_media::image::decode::decode_image;

    #[test]
    fn the_format_decides_what_is_kept() {
        let scene = picture("image/scene.png");
        for format in ["png", "webp", "bmp", "tiff"] {
            let args = vec![images(&["image/scene.png"]), constant_text(format), int(85)];
            let outcome = kernel(&call(&ENCODE_IMAGE, args, 1)).unwrap();
            type_matches(&ENCODE_IMAGE, &outcome.array);
            let bytes = outcome.array.as_binary::<i64>().value(0);
            assert_eq!(decode_image(bytes, None, true, &Limits::default()).unwrap(), scene, "{format}");
        }
    }

    #[test]
    fn a_quality_outside_its_range_fails_the_row() {
        for quality in [0, 101, -1, 1000] {
            let args = vec![images(&["image/four.png"]), constant_text("jpeg"), int(quality)];
            let outcome = kernel(&call(&ENCODE_IMAGE, args, 1)).unwrap();
            assert_eq!(outcome.errors[0].1.sqlstate(), "22023");
        }
        let args = vec![images(&[]), constant_text("jpge"), int(85)];
        assert!(check(&call(&ENCODE_IMAGE, args, 0)).is_err());
    }
}
