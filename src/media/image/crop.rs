//! Rectangles cut out of images.
//!
//! In: an image and a rectangle in its pixels. Out: the part of the image within the rectangle, or nothing. Invariant: the
//! rectangle is clamped to the image, as detections at the border need. Deliberately absent: padding (`pad.rs`).

use squilla_core::error::{Error, Result};
use squilla_core::values::{BoundingBox, Image, ImageView};

/// A rectangle of whole pixels; may lie outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Left.
    pub x: i64,
    /// Top.
    pub y: i64,
    /// Pixels; nothing is cut when not positive.
    pub width: i64,
    /// Pixels.
    pub height: i64,
}

impl Rectangle {
    /// The pixels a box touches: its sides are rounded to the nearest, as Pillow's crop does. Errors: sides that are no
    /// numbers.
    pub fn of_box(b: &BoundingBox) -> Result<Self> {
        if ![b.x1, b.y1, b.x2, b.y2].iter().all(|side| side.is_finite()) {
            return Err(Error::invalid_argument("a box to crop must have finite sides"));
        }
        let [x1, y1, x2, y2] = [b.x1, b.y1, b.x2, b.y2].map(|side| side.round_ties_even() as i64);
        Ok(Self { x: x1, y: y1, width: x2.saturating_sub(x1), height: y2.saturating_sub(y1) })
    }
}

/// Cuts the rectangle out; `None` when no pixel of the image is within it.
pub fn crop_image(image: &ImageView<'_>, rectangle: Rectangle) -> Option<Image> {
    let span = |start: i64, length: i64, size: u32| {
        let from = start.clamp(0, i64::from(size));
        let to = start.saturating_add(length.max(0)).clamp(0, i64::from(size));
        (from as usize, to as usize)
    };
    let (left, right) = span(rectangle.x, rectangle.width, image.width);
    let (top, bottom) = span(rectangle.y, rectangle.height, image.height);
    if left >= right || top >= bottom {
        return None;
    }
    let pixel = usize::from(image.channels) * image.pixel.bytes();
    let stride = image.width as usize * pixel;
    let mut data = Vec::with_capacity((right - left) * (bottom - top) * pixel);
    for row in image.data.chunks_exact(stride).take(bottom).skip(top) {
        data.extend_from_slice(&row[left * pixel..right * pixel]);
    }
    Some(Image { data, width: (right - left) as u32, height: (bottom - top) as u32, channels: image.channels, pixel: image.pixel })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use squilla_core::values::PixelType;

    const DATA: [u8; 12] = [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23];

    fn cut(x: i64, y: i64, width: i64, height: i64) -> Option<(u32, u32, Vec<u8>)> {
        let view = ImageView { data: &DATA, width: 4, height: 3, channels: 1, pixel: PixelType::U8 };
        crop_image(&view, Rectangle { x, y, width, height }).map(|i| (i.width, i.height, i.data))
    }

    #[test]
    fn clamps_and_vanishes() {
        assert_eq!(cut(1, 1, 2, 1), Some((2, 1, vec![11, 12])));
        assert_eq!(cut(-1, -1, 2, 2), Some((1, 1, vec![0])));
        assert_eq!(cut(3, 2, 100, i64::MAX), Some((1, 1, vec![23])));
        assert_eq!(cut(4, 0, 2, 2), None);
        assert_eq!(cut(1, 1, 0, 5), None);
        assert_eq!(cut(1, 1, -3, 5), None);
        assert_eq!(cut(i64::MIN, 0, i64::MAX, 1), None);
    }

    #[test]
    fn boxes_round_to_even() {
        let b = BoundingBox { x1: 0.5, y1: 1.5, x2: 2.4, y2: 2.6 };
        assert_eq!(Rectangle::of_box(&b).unwrap(), Rectangle { x: 0, y: 2, width: 2, height: 1 });
        assert!(Rectangle::of_box(&BoundingBox { x1: f32::NAN, ..b }).is_err());
    }
}
