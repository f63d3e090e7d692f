//! `resize_image`: pixels at another size.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::resize::{Filter, Fit, resize_image};

use super::source::{check_sides, option, target};

/// `resize_image`: image to image of the same mode. Errors: 22023 a side that is not positive, 54000 above the pixel limit.
pub static RESIZE_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/resize_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    check_sides(call)?;
    option(call, "fit", Fit::parse)?;
    option(call, "filter", Filter::parse).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let fit = option(call, "fit", Fit::parse)?.unwrap_or(Fit::Stretch);
    let filter = option(call, "filter", Filter::parse)?.unwrap_or(Filter::Triangle);
    call.map_rows(|row| {
        let (Some(image), Some((width, height))) = (call.image("image", row)?, target(call, row)?) else { return Ok(None) };
        resize_image(&image, width, height, fit, filter).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, constant_text, int, type_matches};
    use squilla_core::columns::Arg;

    fn args(width: i32, height: i32, fit: &str) -> Vec<Arg> {
        vec![images(&["image/scene.png"]), int(width), int(height), constant_text(fit), constant_text("triangle")]
    }

    #[test]
    fn fits() {
        for (fit, size) in [("stretch", (30, 30)), ("contain", (30, 20)), ("cover", (30, 30))] {
            let outcome = kernel(&call(&RESIZE_IMAGE, args(30, 30, fit), 1)).unwrap();
            type_matches(&RESIZE_IMAGE, &outcome.array);
            let image = image_of(&outcome.array, 0).unwrap();
            assert_eq!((image.width, image.height), size);
        }
    }

    #[test]
    fn sizes_and_options_are_checked() {
        for (width, height, code) in [(0, 5, "22023"), (5, -1, "22023"), (100_000, 100_000, "54000")] {
            let outcome = kernel(&call(&RESIZE_IMAGE, args(width, height, "stretch"), 1)).unwrap();
            assert_eq!(outcome.errors[0].1.sqlstate(), code);
        }
        assert!(check(&call(&RESIZE_IMAGE, args(5, 5, "cower"), 0)).unwrap_err().hint.unwrap().contains("cover"));
    }
}
