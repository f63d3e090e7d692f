//! `image_hash`: what an image looks like, in a few bits.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::convert::Mode;
use squilla_media::image::hash::{Method, image_hash};

use super::source::{option, with_image};

/// `image_hash`: image or bytea to bit. Errors: 22P03 damaged image, 22023 unknown method, a size outside 2 to 64.
pub static IMAGE_HASH: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/image_hash.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    option(call, "method", Method::parse).map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    let method = option(call, "method", Method::parse)?.unwrap_or(Method::Phash);
    call.map_rows(|row| {
        let Some(size) = call.int("size", row)? else { return Ok(None) };
        let size = usize::try_from(size).unwrap_or(0);
        with_image(call, row, Some(Mode::L), |image| image_hash(image, method, size).map(|bits| packed(&bits)))
    })
}

/// Bits as bytes, the first one highest, filled with zeros to whole bytes.
fn packed(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (i, &bit)| sum | u8::from(bit) << (7 - i))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::images;
    use crate::testing::{bytes_column, call, call_overload, constant_text, fixture, int, type_matches};
    use arrow::array::AsArray;

    #[test]
    fn the_same_picture_hashes_alike() {
        let names = ["scene.jpg", "scene.png", "scene_small.jpg", "other.jpg"];
        for method in ["phash", "dhash", "ahash", "whash"] {
            let rows = names.map(|n| Some(fixture(&format!("image/{n}"))));
            let outcome = kernel(&call_overload(&IMAGE_HASH, 1, vec![bytes_column(&rows), constant_text(method), int(8)], 4)).unwrap();
            type_matches(&IMAGE_HASH, &outcome.array);
            let bits = outcome.array.as_binary::<i64>();
            let distance = |a: usize, b: usize| -> u32 { bits.value(a).iter().zip(bits.value(b)).map(|(x, y)| (x ^ y).count_ones()).sum() };
            assert_eq!(bits.value(0).len(), 8);
            assert!(distance(0, 1) <= 2 && distance(0, 2) <= 6, "{method}: {} {}", distance(0, 1), distance(0, 2));
            assert!(distance(0, 3) >= 8, "{method}: {}", distance(0, 3));
            let pixels = kernel(&call(&IMAGE_HASH, vec![images(&["image/scene.jpg"]), constant_text(method), int(8)], 1)).unwrap();
            assert_eq!(pixels.array.as_binary::<i64>().value(0), bits.value(0));
        }
    }

    #[test]
    fn bits_fill_bytes_from_the_top() {
        assert_eq!(packed(&[true, false, false, false, false, false, false, true, true]), [0x81, 0x80]);
    }
}
