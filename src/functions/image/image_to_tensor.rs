//! `image_to_tensor`: pixels as numbers.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::normalize::{Layout, image_to_tensor};

use super::source::{float, option};

/// `image_to_tensor`: image to tensor. Errors: 22023 a scale of zero.
pub static IMAGE_TO_TENSOR: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/image_to_tensor.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "layout", Layout::parse).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let layout = option(call, "layout", Layout::parse)?.unwrap_or(Layout::Chw);
    call.map_rows(|row| {
        let (Some(image), Some(scale)) = (call.image("image", row)?, float(call, "scale", row)?) else { return Ok(None) };
        image_to_tensor(&image, layout, scale).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::images;
    use crate::testing::{call, constant, constant_text, type_matches};
    use arrow::array::Float64Array;
    use squilla_core::columns::{Arg, tensor};

    #[test]
    fn layouts() {
        for (layout, shape) in [("chw", [3, 2, 2]), ("hwc", [2, 2, 3])] {
            let scale = constant(Float64Array::from(vec![255.0]));
            let outcome = kernel(&call(&IMAGE_TO_TENSOR, vec![images(&["image/four.png"]), constant_text(layout), scale], 1)).unwrap();
            type_matches(&IMAGE_TO_TENSOR, &outcome.array);
            let tensor = tensor(&Arg { array: outcome.array, constant: false }, 0).unwrap().unwrap();
            assert_eq!(tensor.shape, shape);
            assert_eq!(tensor.data.iter().sum::<f32>(), 6.0);
        }
    }
}
