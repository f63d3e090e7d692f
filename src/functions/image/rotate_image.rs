//! `rotate_image`: an image turned by quarters.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::orient::{Orientation, turned};

/// `rotate_image`: image to image, clockwise. Errors: 22023 degrees that are no multiple of 90.
pub static ROTATE_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/rotate_image.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    call.float("degrees", 0)?.map(Orientation::from_degrees).transpose().map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let (Some(image), Some(degrees)) = (call.image("image", row)?, call.float("degrees", row)?) else { return Ok(None) };
        Ok(Some(turned(&image, Orientation::from_degrees(degrees)?)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, constant, type_matches};
    use arrow::array::Float64Array;

    #[test]
    fn clockwise() {
        // Red, green / blue, white.
        for (degrees, first) in [(0.0, [255, 0, 0]), (90.0, [0, 0, 255]), (-180.0, [255, 255, 255]), (270.0, [0, 255, 0])] {
            let args = vec![images(&["image/four.png"]), constant(Float64Array::from(vec![degrees]))];
            let outcome = kernel(&call(&ROTATE_IMAGE, args, 1)).unwrap();
            type_matches(&ROTATE_IMAGE, &outcome.array);
            assert_eq!(image_of(&outcome.array, 0).unwrap().data[..3], first);
        }
        let args = vec![images(&["image/four.png"]), constant(Float64Array::from(vec![45.0]))];
        assert_eq!(kernel(&call(&ROTATE_IMAGE, args, 1)).unwrap().errors[0].1.sqlstate(), "22023");
    }
}
