//! Pictures for the unit tests of this family.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{Array, ArrayRef};
use squilla_core::columns::{Arg, Output, image};
use squilla_core::limits::Limits;
use squilla_core::values::Image;
use squilla_media::image::decode::decode_image;

use crate::testing::fixture;

/// A decoded fixture.
pub(crate) fn picture(name: &str) -> Image {
    decode_image(&fixture(name), None, true, &Limits::default()).unwrap()
}

/// A column of decoded fixtures.
pub(crate) fn images(names: &[&str]) -> Arg {
    Arg { array: Image::build(names.iter().map(|name| Some(picture(name))).collect()).unwrap(), constant: false }
}

/// The image of a row of a result; `None` when NULL.
pub(crate) fn image_of(array: &ArrayRef, row: usize) -> Option<Image> {
    image(&Arg { array: array.slice(0, array.len()), constant: false }, row).unwrap().map(|view| view.to_owned())
}
