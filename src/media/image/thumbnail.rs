//! Small JPEG copies of images.
//!
//! In: an encoded image, or pixels. Out: JPEG bytes whose longer side is at most the size asked for. Invariant: never
//! enlarges, always upright; a JPEG is decoded at a fraction of its size. Deliberately absent: other output formats
//! (`encode.rs` has them).

use squilla_core::error::{Error, Result};
use squilla_core::limits::Limits;
use squilla_core::values::ImageView;

use crate::image::decode::{coefficient_bytes, decode_at_least, native_mode};
use crate::image::encode::encode_image;
use crate::image::info::{Format, ImageInfo, image_info};
use crate::image::resize::{Filter, Fit, resize_image, target_size};

/// Quality of the thumbnails.
const QUALITY: u8 = 85;

/// A thumbnail of an encoded image. `size` is in pixels, 1 to 16384.
pub fn thumbnail(bytes: &[u8], size: u32, limits: &Limits) -> Result<Vec<u8>> {
    check_size(size)?;
    let (w, h) = least(&image_info(bytes)?, size);
    let image = decode_at_least(bytes, None, true, (w, h), limits)?;
    thumbnail_of(&image.view(), size)
}

/// Twice the thumbnail, upright, so that the filter and not the scaled decode decides how it looks.
fn least(info: &ImageInfo, size: u32) -> (u32, u32) {
    let (width, height) = if info.exif_orientation >= 5 { (info.height, info.width) } else { (info.width, info.height) };
    let side = size.saturating_mul(2).max(1);
    if width.max(height) <= side { (width, height) } else { target_size((width, height), (side, side), Fit::Contain) }
}

/// Bytes of memory that [`thumbnail`] takes at its peak, from the header.
pub fn thumbnail_bytes(info: &ImageInfo, size: u32) -> u64 {
    let pixels = u64::from(info.width) * u64::from(info.height);
    let (w, h) = least(info, size);
    // A scaled decode is less than twice as wide and high as the least that was asked for.
    let decoded = if info.format == Format::Jpeg { pixels.min(4 * u64::from(w) * u64::from(h)) } else { pixels };
    decoded * 2 * native_mode(info).pixel_bytes().max(4) as u64 + coefficient_bytes(info)
}

/// A thumbnail of pixels.
pub fn thumbnail_of(image: &ImageView<'_>, size: u32) -> Result<Vec<u8>> {
    check_size(size)?;
    if image.width <= size && image.height <= size {
        return encode_image(image, Format::Jpeg, QUALITY);
    }
    let small = resize_image(image, size, size, Fit::Contain, Filter::CatmullRom)?;
    encode_image(&small.view(), Format::Jpeg, QUALITY)
}

/// Fails with 22023 on a size outside 1 to 16384.
pub fn check_size(size: u32) -> Result<()> {
    if (1..=16_384).contains(&size) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("thumbnail size {size} is not between 1 and 16384")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use squilla_core::values::PixelType;

    fn size_of(bytes: &[u8]) -> (u32, u32) {
        let info = image_info(bytes).unwrap();
        assert_eq!(info.format, Format::Jpeg);
        (info.width, info.height)
    }

    #[test]
    fn keeps_proportions_and_never_enlarges() {
        let data = vec![200; 640 * 480 * 3];
        let view = ImageView { data: &data, width: 640, height: 480, channels: 3, pixel: PixelType::U8 };
        assert_eq!(size_of(&thumbnail_of(&view, 64).unwrap()), (64, 48));
        assert_eq!(size_of(&thumbnail_of(&view, 4000).unwrap()), (640, 480));
        let jpeg = encode_image(&view, Format::Jpeg, 90).unwrap();
        assert_eq!(size_of(&thumbnail(&jpeg, 50, &Limits::default()).unwrap()), (50, 38));
        assert!(thumbnail(&jpeg, 0, &Limits::default()).is_err());
    }
}
