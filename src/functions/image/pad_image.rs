//! `pad_image`: an image in the middle of a larger one.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::pad::pad_image;

use super::source::{option, target};

/// `pad_image`: image to image. Errors: 22023 a canvas smaller than the image, a malformed colour, 54000 above the pixel limit.
pub static PAD_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/pad_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "color", color).map(|_| ())
}

/// `#rrggbb`
fn color(text: &str) -> Result<[u8; 3]> {
    let wrong = || Error::invalid_argument(format!("\"{text}\" is not a colour")).hint("Write it as #rrggbb.");
    let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(wrong)?;
    let number = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let [_, r, g, b] = number.to_be_bytes();
    Ok([r, g, b])
}

fn kernel(call: &Call) -> Result<Outcome> {
    let color = option(call, "color", color)?.unwrap_or([114; 3]);
    call.map_rows(|row| {
        let (Some(image), Some((width, height))) = (call.image("image", row)?, target(call, row)?) else { return Ok(None) };
        Ok(Some(pad_image(&image, width, height, color)?.image))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, constant_text, int, type_matches};

    #[test]
    fn the_border_has_the_colour() {
        let args = vec![images(&["image/four.png"]), int(4), int(4), constant_text("#0A0b0C")];
        let outcome = kernel(&call(&PAD_IMAGE, args, 1)).unwrap();
        type_matches(&PAD_IMAGE, &outcome.array);
        let image = image_of(&outcome.array, 0).unwrap();
        assert_eq!((image.width, &image.data[..3], &image.data[15..18]), (4, &[10, 11, 12][..], &[255, 0, 0][..]));
    }

    #[test]
    fn colours_and_sizes_are_checked() {
        for bad in ["black", "#12345", "#12345g", "#+12345"] {
            assert!(check(&call(&PAD_IMAGE, vec![images(&[]), int(4), int(4), constant_text(bad)], 0)).is_err());
        }
        let args = vec![images(&["image/four.png"]), int(1), int(4), constant_text("#000000")];
        assert_eq!(kernel(&call(&PAD_IMAGE, args, 1)).unwrap().errors[0].1.sqlstate(), "22023");
    }
}
