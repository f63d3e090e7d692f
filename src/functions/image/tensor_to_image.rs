//! `tensor_to_image`: numbers as pixels.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::normalize::{Layout, tensor_to_image};

use super::source::{float, option};

/// `tensor_to_image`: tensor to 8-bit image. Errors: 22023 a shape that is no image.
pub static TENSOR_TO_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/tensor_to_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "layout", Layout::parse).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let layout = option(call, "layout", Layout::parse)?.unwrap_or(Layout::Chw);
    call.map_rows(|row| {
        let (Some(tensor), Some(scale)) = (call.tensor("tensor", row)?, float(call, "scale", row)?) else { return Ok(None) };
        tensor_to_image(&tensor, layout, scale).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::image_of;
    use crate::testing::{call, constant, constant_text, type_matches};
    use arrow::array::Float64Array;
    use squilla_core::columns::{Arg, Output};
    use squilla_core::values::Tensor;

    #[test]
    fn a_shape_without_pixels_fails_the_row() {
        let tensors = [vec![1, 2, 2], vec![4]].map(|shape| Some(Tensor { data: vec![0.0, 0.5, 1.0, 2.0], shape }));
        let tensors = Arg { array: Tensor::build(tensors.to_vec()).unwrap(), constant: false };
        let scale = constant(Float64Array::from(vec![255.0]));
        let outcome = kernel(&call(&TENSOR_TO_IMAGE, vec![tensors, constant_text("chw"), scale], 2)).unwrap();
        type_matches(&TENSOR_TO_IMAGE, &outcome.array);
        assert_eq!(image_of(&outcome.array, 0).unwrap().data, [0, 128, 255, 255]);
        assert_eq!((outcome.errors[0].0, outcome.errors[0].1.sqlstate()), (1, "22023"));
    }
}
