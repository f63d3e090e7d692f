//! A decoded picture of any pixel format to an upright RGB image of the wanted size.
//!
//! In: FFmpeg pictures. Out: [`Image`]s. YUV pictures are scaled as 4:2:0 first and coloured afterwards: half the work of
//! scaling RGB. Invariant: width and height wanted are those of the upright image; one alone keeps the aspect of the
//! pixels. Deliberately absent: pixel aspect ratios; a pixel is taken as square.

use ffmpeg_next::color::Range;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;
use ffmpeg_next::software::scaling::{Context, Flags};
use squilla_core::error::{Error, Result};
use squilla_core::values::{Image, PixelType};

use crate::ffmpeg;
use crate::video::color::{Matrix, Plane, to_rgb};

/// Turns pictures into images; keeps the scaler from one picture to the next.
pub struct Converter {
    width: Option<u32>,
    height: Option<u32>,
    /// Clockwise degrees: 0, 90, 180 or 270.
    rotation: u32,
    pixels_max: u64,
    scaler: Option<(Key, Context)>,
    scaled: frame::Video,
}

/// What a scaler was made for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    from: (Pixel, u32, u32),
    to: (Pixel, u32, u32),
}

impl Converter {
    /// To `width` x `height` (upright; `None` keeps the picture's, or its aspect when the other is given).
    pub fn new(width: Option<u32>, height: Option<u32>, rotation: u32, pixels_max: u64) -> Self {
        Self { width, height, rotation, pixels_max, scaler: None, scaled: frame::Video::empty() }
    }

    /// The picture as an upright RGB image. Fails with 54000 when either has too many pixels.
    pub fn convert(&mut self, picture: &frame::Video) -> Result<Image> {
        let (width, height) = (picture.width(), picture.height());
        if width == 0 || height == 0 {
            return Err(Error::bad_media("could not decode the video").detail("A frame has no pixels."));
        }
        check_pixels(width, height, self.pixels_max)?;
        let turned = self.rotation % 180 == 90;
        let upright = if turned { (height, width) } else { (width, height) };
        let target = target_size(upright, self.width, self.height);
        check_pixels(target.0, target.1, self.pixels_max)?;
        let stored = if turned { (target.1, target.0) } else { target };
        let rgb = self.rgb(picture, stored)?;
        let image = Image { data: rgb, width: stored.0, height: stored.1, channels: 3, pixel: PixelType::U8 };
        Ok(turn(image, self.rotation))
    }

    /// RGB bytes of the picture at this size, as stored (not turned).
    fn rgb(&mut self, picture: &frame::Video, size: (u32, u32)) -> Result<Vec<u8>> {
        let (width, height) = (size.0 as usize, size.1 as usize);
        let name = picture.format().descriptor().map_or("", |d| d.name());
        if !is_yuv(name) {
            let scaled = self.scale(picture, Pixel::RGB24, size)?;
            let (stride, row) = (scaled.stride(0), width * 3);
            let mut out = Vec::with_capacity(row * height);
            for line in scaled.data(0).chunks(stride.max(1)).take(height) {
                out.extend_from_slice(line.get(..row).unwrap_or_default());
            }
            out.resize(row * height, 0);
            return Ok(out);
        }
        let full = picture.color_range() == Range::JPEG || name.starts_with("yuvj");
        let matrix = Matrix::of(picture.color_space(), full);
        let planar = matches!(picture.format(), Pixel::YUV420P | Pixel::YUVJ420P);
        if planar && (picture.width(), picture.height()) == size && has_plain_planes(picture) {
            return Ok(color(picture, width, height, matrix));
        }
        // The same range on both sides, so that the scaler does not change it.
        let to = if name.starts_with("yuvj") { Pixel::YUVJ420P } else { Pixel::YUV420P };
        let scaled = self.scale(picture, to, size)?;
        Ok(color(scaled, width, height, matrix))
    }

    fn scale(&mut self, picture: &frame::Video, format: Pixel, size: (u32, u32)) -> Result<&frame::Video> {
        let key = Key { from: (picture.format(), picture.width(), picture.height()), to: (format, size.0, size.1) };
        if self.scaler.as_ref().is_none_or(|(old, _)| *old != key) {
            let (from, to) = (key.from, key.to);
            let context = Context::get(from.0, from.1, from.2, to.0, to.1, to.2, Flags::BILINEAR)
                .map_err(|e| ffmpeg::failed("could not convert the pixels of the video", e))?;
            self.scaler = Some((key, context));
            self.scaled = frame::Video::new(to.0, to.1, to.2);
        }
        let Some((_, scaler)) = &mut self.scaler else { return Err(Error::internal("no scaler")) };
        scaler.run(picture, &mut self.scaled).map_err(|e| ffmpeg::failed("could not scale the video", e))?;
        Ok(&self.scaled)
    }
}

/// Fails with 54000 when a frame has too many pixels.
pub fn check_pixels(width: u32, height: u32, pixels_max: u64) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > pixels_max {
        return Err(Error::limit(format!("a frame of {width}x{height} has more than {pixels_max} pixels"), "squilla.max_image_pixels"));
    }
    Ok(())
}

/// The size of the upright image.
fn target_size(upright: (u32, u32), width: Option<u32>, height: Option<u32>) -> (u32, u32) {
    let part = |wanted: u32, of: u32, other: u32| {
        ((u64::from(other) * u64::from(wanted) + u64::from(of) / 2) / u64::from(of.max(1))).clamp(1, u32::MAX.into()) as u32
    };
    match (width, height) {
        (Some(width), Some(height)) => (width.max(1), height.max(1)),
        (Some(width), None) => (width.max(1), part(width.max(1), upright.0, upright.1)),
        (None, Some(height)) => (part(height.max(1), upright.1, upright.0), height.max(1)),
        (None, None) => upright,
    }
}

fn is_yuv(name: &str) -> bool {
    ["yuv", "nv", "p0", "p2", "p4", "uyv", "yuy", "yvy", "y2", "xv"].iter().any(|start| name.starts_with(start))
}

/// Whether the planes lie the usual way up; some decoders give bottom-up pictures with negative strides.
fn has_plain_planes(picture: &frame::Video) -> bool {
    picture.planes() >= 3 && (0..3).all(|plane| picture.stride(plane) <= i32::MAX as usize)
}

fn color(picture: &frame::Video, width: usize, height: usize, matrix: Matrix) -> Vec<u8> {
    let plane = |index| Plane { data: picture.data(index), stride: picture.stride(index) };
    to_rgb(plane(0), plane(1), plane(2), width, height, matrix)
}

/// Turns an RGB image clockwise by 0, 90, 180 or 270 degrees.
fn turn(image: Image, degrees: u32) -> Image {
    let (width, height) = (image.width as usize, image.height as usize);
    let pixel = |x: usize, y: usize| {
        let at = (y * width + x) * 3;
        image.data.get(at..at + 3).unwrap_or(&[0; 3])
    };
    let mut data = Vec::with_capacity(image.data.len());
    match degrees {
        90 => (0..width).for_each(|x| (0..height).rev().for_each(|y| data.extend_from_slice(pixel(x, y)))),
        180 => (0..height).rev().for_each(|y| (0..width).rev().for_each(|x| data.extend_from_slice(pixel(x, y)))),
        270 => (0..width).rev().for_each(|x| (0..height).for_each(|y| data.extend_from_slice(pixel(x, y)))),
        _ => return image,
    }
    let (width, height) = if degrees == 180 { (image.width, image.height) } else { (image.height, image.width) };
    Image { data, width, height, ..image }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(target_size((640, 360), None, None), (640, 360));
        assert_eq!(target_size((640, 360), Some(320), None), (320, 180));
        assert_eq!(target_size((640, 360), None, Some(90)), (160, 90));
        assert_eq!(target_size((640, 360), Some(224), Some(224)), (224, 224));
        assert_eq!(target_size((10_000, 1), Some(10), None), (10, 1));
    }

    #[test]
    fn turns_are_clockwise() {
        let image = |data: &[u8], width, height| Image {
            data: data.iter().flat_map(|v| [*v; 3]).collect(),
            width,
            height,
            channels: 3,
            pixel: PixelType::U8,
        };
        let original = image(&[1, 2, 3, 4, 5, 6], 3, 2);
        assert_eq!(turn(original.clone(), 90), image(&[4, 1, 5, 2, 6, 3], 2, 3));
        assert_eq!(turn(original.clone(), 180), image(&[6, 5, 4, 3, 2, 1], 3, 2));
        assert_eq!(turn(original.clone(), 270), image(&[3, 6, 2, 5, 1, 4], 2, 3));
        assert_eq!(turn(original.clone(), 0), original);
    }

    #[test]
    fn too_many_pixels() {
        assert_eq!(check_pixels(1000, 1000, 999_999).unwrap_err().sqlstate(), "54000");
        assert!(check_pixels(1000, 1000, 1_000_000).is_ok());
    }
}
