//! Pixels to files.
//!
//! In: an image, a format and a quality. Out: the bytes of the file. Invariant: png, webp, bmp and tiff lose nothing that
//! the format can hold; jpeg flattens transparency onto white, because what hides under it is noise. Deliberately absent:
//! animation, metadata, lossy webp (no encoder without a native library).

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::{bmp::BmpEncoder, tiff::TiffEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError};
use squilla_core::error::{Error, Result};
use squilla_core::values::{ImageView, PixelType};
use turbojpeg::{Compressor, PixelFormat, Subsamp};

use crate::image::convert::{Mode, convert};
use crate::image::info::Format;
use crate::image::resize::one_of;

/// The format to encode to, by name.
pub fn parse_format(name: &str) -> Result<Format> {
    one_of(
        "image format",
        name,
        &[("jpeg", Format::Jpeg), ("jpg", Format::Jpeg), ("png", Format::Png), ("webp", Format::WebP), ("bmp", Format::Bmp), ("tiff", Format::Tiff)],
    )
}

/// Encodes an image. `quality` (1 to 100) is for jpeg alone. Errors: `InvalidArgument` for a quality or size outside what the
/// format takes.
pub fn encode_image(image: &ImageView<'_>, format: Format, quality: u8) -> Result<Vec<u8>> {
    match format {
        Format::Jpeg => jpeg(image, quality),
        Format::Gif => Err(Error::invalid_argument("images are not encoded to gif")),
        _ => lossless(image, format),
    }
}

fn jpeg(image: &ImageView<'_>, quality: u8) -> Result<Vec<u8>> {
    if !(1..=100).contains(&quality) {
        return Err(Error::invalid_argument(format!("jpeg quality {quality} is not between 1 and 100")));
    }
    if image.width > 65_500 || image.height > 65_500 {
        return Err(
            Error::invalid_argument(format!("{}x{} pixels are too many for jpeg", image.width, image.height)).detail("A side may have 65500 pixels.")
        );
    }
    let flat = flattened(image);
    let mode = if image.channels <= 2 { Mode::L } else { Mode::RGB };
    let flat = ImageView { data: &flat, channels: mode.channels, pixel: PixelType::U8, ..*image };
    let fail = |e: turbojpeg::Error| Error::internal(format!("jpeg encoding failed: {e}"));
    let mut encoder = Compressor::new().map_err(fail)?;
    encoder.set_quality(i32::from(quality)).map_err(fail)?;
    let (format, subsamp) = if mode == Mode::L { (PixelFormat::GRAY, Subsamp::Gray) } else { (PixelFormat::RGB, Subsamp::Sub2x2) };
    encoder.set_subsamp(subsamp).map_err(fail)?;
    let (width, height) = (image.width as usize, image.height as usize);
    let pixels = turbojpeg::Image { pixels: flat.data, width, pitch: width * format.size(), height, format };
    encoder.compress_to_vec(pixels).map_err(fail)
}

/// 8-bit L or RGB; transparency shows white.
fn flattened<'a>(image: &ImageView<'a>) -> Cow<'a, [u8]> {
    let eight = Mode::new(image.channels, PixelType::U8);
    let data = convert(image, eight);
    if image.channels % 2 == 1 {
        return data;
    }
    let channels = usize::from(image.channels);
    let mut out = Vec::with_capacity(data.len() / channels * (channels - 1));
    for pixel in data.chunks_exact(channels) {
        let (colors, alpha) = pixel.split_at(channels - 1);
        let alpha = u32::from(alpha[0]);
        out.extend(colors.iter().map(|&c| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8));
    }
    Cow::Owned(out)
}

fn lossless(image: &ImageView<'_>, format: Format) -> Result<Vec<u8>> {
    let mode = Mode::of(image);
    let mode = match format {
        Format::Png if mode.pixel == PixelType::F32 => Mode::new(mode.channels, PixelType::U16),
        Format::Tiff if mode.pixel == PixelType::F32 && mode.channels <= 2 => Mode::new(mode.channels, PixelType::U16),
        Format::Png | Format::Tiff => mode,
        _ => Mode::new(mode.channels, PixelType::U8),
    };
    // Neither has grey with alpha.
    let mode = if matches!(format, Format::Tiff | Format::Bmp) && mode.channels == 2 { Mode::new(4, mode.pixel) } else { mode };
    let color = match (mode.pixel, mode.channels) {
        (PixelType::U8, 1) => ExtendedColorType::L8,
        (PixelType::U8, 2) => ExtendedColorType::La8,
        (PixelType::U8, 3) => ExtendedColorType::Rgb8,
        (PixelType::U8, _) => ExtendedColorType::Rgba8,
        (PixelType::U16, 1) => ExtendedColorType::L16,
        (PixelType::U16, 2) => ExtendedColorType::La16,
        (PixelType::U16, 3) => ExtendedColorType::Rgb16,
        (PixelType::U16, _) => ExtendedColorType::Rgba16,
        (PixelType::F32, 3) => ExtendedColorType::Rgb32F,
        (PixelType::F32, _) => ExtendedColorType::Rgba32F,
    };
    let data = convert(image, mode);
    let mut out = Vec::new();
    let (w, h) = (image.width, image.height);
    let done = match format {
        Format::Png => PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Adaptive).write_image(&data, w, h, color),
        Format::WebP => WebPEncoder::new_lossless(&mut out).write_image(&data, w, h, color),
        Format::Bmp => BmpEncoder::new(&mut out).write_image(&data, w, h, color),
        _ => TiffEncoder::new(Cursor::new(&mut out)).write_image(&data, w, h, color),
    };
    match done {
        Ok(()) => Ok(out),
        Err(ImageError::Parameter(_) | ImageError::Limits(_)) => {
            Err(Error::invalid_argument(format!("{w}x{h} pixels are too many for {}", format.name())))
        }
        Err(error) => Err(Error::internal(format!("{} encoding failed: {error}", format.name()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::convert::MODES;
    use crate::image::decode::decode_image;
    use squilla_core::limits::Limits;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn what_is_lossless_comes_back() {
        for (name, mode) in MODES {
            if mode.pixel == PixelType::F32 {
                continue;
            }
            let data = noise(7 * 5 * mode.pixel_bytes());
            let view = ImageView { data: &data, width: 7, height: 5, channels: mode.channels, pixel: mode.pixel };
            let formats = match mode.pixel {
                PixelType::U8 => [Format::Png, Format::WebP, Format::Bmp, Format::Tiff],
                _ => [Format::Png, Format::Png, Format::Png, Format::Tiff],
            };
            for format in formats {
                let bytes = encode_image(&view, format, 85).unwrap();
                let back = decode_image(&bytes, Some(mode), true, &Limits::default()).unwrap();
                assert!(back.data == data, "{name} through {}", format.name());
            }
        }
    }

    #[test]
    fn floats_are_stored_at_sixteen_bits_and_transparency_turns_white() {
        let half = 0.5_f32.to_ne_bytes();
        let view = ImageView { data: &half, width: 1, height: 1, channels: 1, pixel: PixelType::F32 };
        let back = decode_image(&encode_image(&view, Format::Png, 1).unwrap(), None, true, &Limits::default()).unwrap();
        assert_eq!((back.pixel, back.data), (PixelType::U16, 32768_u16.to_ne_bytes().to_vec()));
        let clear = ImageView { data: &[9, 9, 9, 0], width: 1, height: 1, channels: 4, pixel: PixelType::U8 };
        let back = decode_image(&encode_image(&clear, Format::Jpeg, 90).unwrap(), None, true, &Limits::default()).unwrap();
        assert_eq!(back.data, [255, 255, 255]);
    }

    #[test]
    fn arguments_are_checked() {
        let view = ImageView { data: &[0], width: 1, height: 1, channels: 1, pixel: PixelType::U8 };
        assert!(encode_image(&view, Format::Jpeg, 0).is_err());
        assert!(encode_image(&view, Format::Jpeg, 101).is_err());
        assert!(parse_format("jpge").unwrap_err().hint.unwrap().contains("jpeg"));
    }
}
