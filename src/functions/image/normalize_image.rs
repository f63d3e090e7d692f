//! `normalize_image`: pixels to the numbers a model was trained on.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::normalize::{IMAGENET_MEAN, IMAGENET_STD, Layout, normalize_image};

use super::source::option;

/// `normalize_image`: image to tensor. Errors: 22023 mean or std that do not fit the channels.
pub static NORMALIZE_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/normalize_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "layout", Layout::parse).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let layout = option(call, "layout", Layout::parse)?.unwrap_or(Layout::Chw);
    call.map_rows(|row| {
        let Some(image) = call.image("image", row)? else { return Ok(None) };
        let (mean, std) = (call.floats("mean", row)?, call.floats("std", row)?);
        let mean = mean.as_ref().map_or(&IMAGENET_MEAN[..], |values| values.values());
        let std = std.as_ref().map_or(&IMAGENET_STD[..], |values| values.values());
        normalize_image(&image, mean, std, layout).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::images;
    use crate::testing::{call, constant_text, null, type_matches};
    use squilla_core::columns::{Arg, tensor};

    #[test]
    fn imagenet_is_the_default() {
        let args = vec![images(&["image/four.png"]), null(), null(), constant_text("chw")];
        let outcome = kernel(&call(&NORMALIZE_IMAGE, args, 1)).unwrap();
        type_matches(&NORMALIZE_IMAGE, &outcome.array);
        let tensor = tensor(&Arg { array: outcome.array, constant: false }, 0).unwrap().unwrap();
        assert_eq!(tensor.shape, [3, 2, 2]);
        assert_eq!(tensor.data[0], (1.0 - 0.485) / 0.229);
    }

    #[test]
    fn channels_must_fit() {
        let args = vec![images(&["image/grey16.png"]), null(), null(), constant_text("hwc")];
        let outcome = kernel(&call(&NORMALIZE_IMAGE, args, 1)).unwrap();
        assert_eq!(outcome.errors[0].1.sqlstate(), "22023");
    }
}
