//! `image_format`: the container of an image file.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::header::one_fact;

/// `image_format`: bytes or file to jpeg, png, webp, gif, bmp or tiff, by the header alone. Errors: 22P03 not an image.
pub static IMAGE_FORMAT: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_format.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    one_fact(call, |facts| facts.info.map(|info| info.format.name().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, fixture};
    use arrow::array::AsArray;

    #[test]
    fn the_content_decides() {
        let rows = ["scene.jpg", "scene.png", "scene.webp", "animated.gif"].map(|n| Some(fixture(&format!("image/{n}"))));
        let outcome = kernel(&call(&IMAGE_FORMAT, vec![bytes_column(&rows)], 4)).unwrap();
        let formats: Vec<_> = outcome.array.as_string::<i32>().iter().flatten().collect();
        assert_eq!(formats, ["jpeg", "png", "webp", "gif"]);
    }
}
