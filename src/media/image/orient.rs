//! Turns by quarter and mirrors, of whole images.
//!
//! In: an image and one of the eight orientations. Out: the image turned. Invariant: no pixel value changes. Deliberately
//! absent: turns by other angles, which need a filter.

use squilla_core::error::{Error, Result};
use squilla_core::values::{Image, ImageView};

/// What to do to the stored picture so that it stands upright; the numbers are those of EXIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// Nothing.
    Upright = 1,
    /// Left and right change places.
    FlipHorizontal = 2,
    /// Half a turn.
    Rotate180 = 3,
    /// Top and bottom change places.
    FlipVertical = 4,
    /// Rows become columns.
    Transpose = 5,
    /// A quarter turn clockwise.
    Rotate90 = 6,
    /// Transposed over the other diagonal.
    Transverse = 7,
    /// A quarter turn counter-clockwise.
    Rotate270 = 8,
}

impl Orientation {
    /// By EXIF number; numbers that are none mean upright.
    pub fn from_exif(number: u8) -> Self {
        use Orientation::{FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Transpose, Transverse, Upright};
        match number {
            2 => FlipHorizontal,
            3 => Rotate180,
            4 => FlipVertical,
            5 => Transpose,
            6 => Rotate90,
            7 => Transverse,
            8 => Rotate270,
            _ => Upright,
        }
    }

    /// Clockwise by a multiple of 90 degrees.
    pub fn from_degrees(degrees: f64) -> Result<Self> {
        match degrees.rem_euclid(360.0) {
            0.0 => Ok(Self::Upright),
            90.0 => Ok(Self::Rotate90),
            180.0 => Ok(Self::Rotate180),
            270.0 => Ok(Self::Rotate270),
            _ => Err(Error::invalid_argument(format!("cannot rotate an image by {degrees} degrees"))
                .hint("Images are rotated by multiples of 90 degrees, clockwise.")),
        }
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        self as u8 >= 5
    }
}

/// Turns an image; the upright one is not copied.
pub fn apply(image: Image, orientation: Orientation) -> Image {
    if orientation == Orientation::Upright { image } else { turned(&image.view(), orientation) }
}

/// A turned copy.
pub fn turned(image: &ImageView<'_>, orientation: Orientation) -> Image {
    use Orientation::{FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Transpose, Transverse, Upright};
    let (width, height) = (image.width as usize, image.height as usize);
    let (out_width, out_height) = if orientation.swaps_sides() { (height, width) } else { (width, height) };
    let pixel = usize::from(image.channels) * image.pixel.bytes();
    let mut data = Vec::with_capacity(image.data.len());
    for y in 0..out_height {
        // The source position of the first pixel of this row, and the step to the next.
        let (from, step) = match orientation {
            Upright => (y * width, 1),
            FlipHorizontal => (y * width + width - 1, -1),
            Rotate180 => ((height - 1 - y) * width + width - 1, -1),
            FlipVertical => ((height - 1 - y) * width, 1),
            Transpose => (y, width as isize),
            Rotate90 => ((height - 1) * width + y, -(width as isize)),
            Transverse => ((height - 1) * width + width - 1 - y, -(width as isize)),
            Rotate270 => (width - 1 - y, width as isize),
        };
        match pixel {
            1 => row::<1>(image.data, from, step, out_width, &mut data),
            3 => row::<3>(image.data, from, step, out_width, &mut data),
            4 => row::<4>(image.data, from, step, out_width, &mut data),
            _ => row_of(pixel, image.data, from, step, out_width, &mut data),
        }
    }
    Image { data, width: out_width as u32, height: out_height as u32, channels: image.channels, pixel: image.pixel }
}

fn row<const N: usize>(data: &[u8], from: usize, step: isize, width: usize, out: &mut Vec<u8>) {
    row_of(N, data, from, step, width, out);
}

#[inline(always)]
fn row_of(pixel: usize, data: &[u8], from: usize, step: isize, width: usize, out: &mut Vec<u8>) {
    let mut at = from;
    for _ in 0..width {
        out.extend_from_slice(&data[at * pixel..(at + 1) * pixel]);
        at = at.wrapping_add_signed(step);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use squilla_core::values::PixelType;

    fn turn(orientation: Orientation) -> (u32, u32, Vec<u8>) {
        let data = [1, 2, 3, 4, 5, 6];
        let view = ImageView { data: &data, width: 3, height: 2, channels: 1, pixel: PixelType::U8 };
        let image = turned(&view, orientation);
        (image.width, image.height, image.data)
    }

    #[test]
    fn the_eight_orientations() {
        use Orientation::{FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Transpose, Transverse, Upright};
        assert_eq!(turn(Upright), (3, 2, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(turn(FlipHorizontal), (3, 2, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(turn(Rotate180), (3, 2, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(turn(FlipVertical), (3, 2, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(turn(Transpose), (2, 3, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(turn(Rotate90), (2, 3, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(turn(Transverse), (2, 3, vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(turn(Rotate270), (2, 3, vec![3, 6, 2, 5, 1, 4]));
    }

    #[test]
    fn degrees_are_clockwise_quarters() {
        assert_eq!(Orientation::from_degrees(-90.0).unwrap(), Orientation::Rotate270);
        assert_eq!(Orientation::from_degrees(450.0).unwrap(), Orientation::Rotate90);
        assert!(Orientation::from_degrees(45.0).is_err());
        assert!(Orientation::from_degrees(f64::NAN).is_err());
    }
}
