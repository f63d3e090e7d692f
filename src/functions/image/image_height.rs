//! `image_height`: pixels from top to bottom.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::header::facts;

/// `image_height`: image, bytes or file to pixels from top to bottom. Of bytes and files only the header is read. Errors: 22P03 not an image.
pub static IMAGE_HEIGHT: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_height.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    let rows = facts(call)?;
    call.collect_rows(rows.into_iter().map(|row| Ok(row?.map(|facts| facts.height))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, call_overload, fixture, fixture_path, texts};
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    #[test]
    fn from_bytes_the_upright_picture() {
        let rows = [Some(fixture("image/scene.jpg")), Some(b"junk".to_vec()), None, Some(fixture("image/turned.jpg"))];
        let outcome = kernel(&call_overload(&IMAGE_HEIGHT, 1, vec![bytes_column(&rows)], 4)).unwrap();
        assert_eq!(outcome.array.as_primitive::<Int32Type>().value(0), 80);
        assert_eq!(outcome.array.as_primitive::<Int32Type>().value(3), 120);
        assert_eq!(outcome.array.null_count(), 2);
        assert_eq!(outcome.errors.len(), 1);
    }

    #[test]
    fn from_files_and_images() {
        let path = fixture_path("image/scene.png");
        let files = vec![texts(&[path.to_str(), Some("/does/not/exist")])];
        let outcome = kernel(&call_overload(&IMAGE_HEIGHT, 2, files, 2)).unwrap();
        assert_eq!(outcome.array.as_primitive::<Int32Type>().value(0), 80);
        assert_eq!(outcome.errors[0].1.sqlstate(), "58P01");
        let image = super::super::testing::images(&["image/scene.webp"]);
        let outcome = kernel(&call(&IMAGE_HEIGHT, vec![image], 1)).unwrap();
        assert_eq!(outcome.array.as_primitive::<Int32Type>().value(0), 80);
    }
}
