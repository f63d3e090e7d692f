//! Images on a larger canvas.
//!
//! In: an image, a canvas size and a colour. Out: the image in the middle of the canvas. Invariant: the image is never
//! scaled; a canvas smaller than the image is an error. With `Fit::Contain` before it, this is letterboxing. Deliberately
//! absent: borders that repeat the picture.

use squilla_core::error::{Error, Result};
use squilla_core::values::{Image, ImageView, PixelType};

/// A letterboxed image and how to map its coordinates back: `original = (x - left) / scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Letterbox {
    /// The canvas.
    pub image: Image,
    /// Pixels of canvas left of the picture.
    pub left: u32,
    /// Pixels of canvas above the picture.
    pub top: u32,
}

/// Puts the image in the middle of a canvas of one RGB colour (0 to 255; grey images take its luma, alpha is opaque). An odd
/// pixel goes to the right and the bottom.
pub fn pad_image(image: &ImageView<'_>, width: u32, height: u32, color: [u8; 3]) -> Result<Letterbox> {
    if width < image.width || height < image.height {
        return Err(Error::invalid_argument(format!("cannot pad an image of {}x{} pixels to {width}x{height}", image.width, image.height)));
    }
    let (left, top) = ((width - image.width) / 2, (height - image.height) / 2);
    let pixel = fill(image, color);
    let row_bytes = width as usize * pixel.len();
    let mut data = Vec::with_capacity(row_bytes * height as usize);
    let empty: Vec<u8> = pixel.iter().copied().cycle().take(row_bytes).collect();
    let before = left as usize * pixel.len();
    let own = image.width as usize * pixel.len();
    for _ in 0..top {
        data.extend_from_slice(&empty);
    }
    for row in image.data.chunks_exact(own.max(1)) {
        data.extend_from_slice(&empty[..before]);
        data.extend_from_slice(row);
        data.extend_from_slice(&empty[before + own..]);
    }
    data.resize(row_bytes * (top + image.height) as usize, 0);
    for _ in top + image.height..height {
        data.extend_from_slice(&empty);
    }
    Ok(Letterbox { image: Image { data, width, height, channels: image.channels, pixel: image.pixel }, left, top })
}

/// One pixel of the colour, in the mode of the image.
fn fill(image: &ImageView<'_>, color: [u8; 3]) -> Vec<u8> {
    let [r, g, b] = color.map(u32::from);
    let grey = ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8;
    let samples: Vec<u8> = match image.channels {
        1 => vec![grey],
        2 => vec![grey, 255],
        3 => color.to_vec(),
        _ => vec![color[0], color[1], color[2], 255],
    };
    match image.pixel {
        PixelType::U8 => samples,
        PixelType::U16 => samples.iter().flat_map(|&v| (u16::from(v) * 257).to_ne_bytes()).collect(),
        PixelType::F32 => samples.iter().flat_map(|&v| (f32::from(v) / 255.0).to_ne_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_picture_stands_in_the_middle() {
        let view = ImageView { data: &[1, 2], width: 2, height: 1, channels: 1, pixel: PixelType::U8 };
        let padded = pad_image(&view, 5, 3, [114; 3]).unwrap();
        assert_eq!((padded.left, padded.top), (1, 1));
        assert_eq!(padded.image.data, [114, 114, 114, 114, 114, 114, 1, 2, 114, 114, 114, 114, 114, 114, 114]);
        assert!(pad_image(&view, 1, 3, [0; 3]).is_err());
    }

    #[test]
    fn every_mode_keeps_its_size() {
        for (_, mode) in crate::image::convert::MODES {
            let data = vec![0; mode.pixel_bytes() * 2];
            let view = ImageView { data: &data, width: 1, height: 2, channels: mode.channels, pixel: mode.pixel };
            let padded = pad_image(&view, 3, 4, [1, 2, 3]).unwrap().image;
            assert_eq!(padded.data.len(), 12 * mode.pixel_bytes());
        }
    }
}
