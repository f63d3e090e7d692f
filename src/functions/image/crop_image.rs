//! `crop_image`: a part of an image.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::crop::{Rectangle, crop_image};

/// `crop_image`: image to image of the same mode; NULL when nothing is left. Errors: 22023 a box that is not finite.
pub static CROP_IMAGE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/crop_image.sql"), Kernel::Media(kernel));

fn rectangle(call: &Call, row: usize) -> Result<Option<Rectangle>> {
    if call.find("box")?.is_some() {
        return call.bounding_box("box", row)?.map(|b| Rectangle::of_box(&b)).transpose();
    }
    let side = |name| call.int(name, row);
    let (Some(x), Some(y), Some(width), Some(height)) = (side("x")?, side("y")?, side("width")?, side("height")?) else {
        return Ok(None);
    };
    Ok(Some(Rectangle { x, y, width, height }))
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let (Some(image), Some(rectangle)) = (call.image("image", row)?, rectangle(call, row)?) else { return Ok(None) };
        Ok(crop_image(&image, rectangle))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, call_overload, int, type_matches};
    use squilla_core::columns::{Arg, Output};
    use squilla_core::values::BoundingBox;

    #[test]
    fn by_numbers_and_by_box() {
        let args = vec![images(&["image/scene.png"]), int(100), int(-10), int(50), int(30)];
        let outcome = kernel(&call(&CROP_IMAGE, args, 1)).unwrap();
        type_matches(&CROP_IMAGE, &outcome.array);
        let image = image_of(&outcome.array, 0).unwrap();
        assert_eq!((image.width, image.height), (20, 20));

        let boxes = [BoundingBox { x1: 9.6, y1: 0.0, x2: 20.4, y2: 7.0 }, BoundingBox { x1: 500.0, y1: 0.0, x2: 501.0, y2: 1.0 }];
        let boxes = BoundingBox::build(boxes.map(Some).to_vec()).unwrap();
        let args = vec![images(&["image/scene.png", "image/scene.png"]), Arg { array: boxes, constant: false }];
        let outcome = kernel(&call_overload(&CROP_IMAGE, 1, args, 2)).unwrap();
        let image = image_of(&outcome.array, 0).unwrap();
        assert_eq!((image.width, image.height), (10, 7));
        assert!(image_of(&outcome.array, 1).is_none() && outcome.errors.is_empty());
    }
}
