//! Encoded bytes to pixels.
//!
//! In: a whole image file. Out: an `Image` in the mode asked for, upright. Invariant: the header is read and the pixel limit
//! checked before anything is allocated in proportion to the picture; a cut or damaged file is an error, never a picture
//! that is grey from the middle on. JPEG goes to libjpeg-turbo, whose pixels equal Pillow's; the rest to the `image` crate.
//! Deliberately absent: frames after the first of an animation.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::guarded;
use squilla_core::limits::Limits;
use squilla_core::values::{Image, PixelType};
use turbojpeg::{Colorspace, Decompressor, PixelFormat, ScalingFactor};

use crate::image::convert::{Mode, into_mode, rgb_of_inverted_cmyk};
use crate::image::info::{Format, ImageInfo, image_info};
use crate::image::info_tiff::has_tiled_planes;
use crate::image::orient::{Orientation, apply};

/// Scans of a progressive JPEG that are read at most; each scan costs a pass over the picture, however small its bytes.
const JPEG_SCANS_MAX: u32 = 500;

/// Decodes an image. `mode` `None` keeps the mode of the file (CMYK becomes RGB). `auto_orient` applies the EXIF orientation.
///
/// Errors: `BadMedia` for bytes that are not a whole image, `LimitExceeded` above `limits.image_pixels_max`.
pub fn decode_image(bytes: &[u8], mode: Option<Mode>, auto_orient: bool, limits: &Limits) -> Result<Image> {
    decode_at_least(bytes, mode, auto_orient, (u32::MAX, u32::MAX), limits)
}

/// As [`decode_image`], but a JPEG may come at 1/2, 1/4 or 1/8 of its size as long as it is no smaller than `least`
/// (width, height; upright). Up to 8 times faster; pixels differ from decoding whole and scaling after.
pub fn decode_at_least(bytes: &[u8], mode: Option<Mode>, auto_orient: bool, least: (u32, u32), limits: &Limits) -> Result<Image> {
    let info = image_info(bytes)?;
    check_pixels(&info, limits)?;
    let orientation = Orientation::from_exif(if auto_orient { info.exif_orientation } else { 1 });
    let mode = match mode {
        Some(mode) => mode,
        None => native_mode(&info),
    };
    let image = guarded(|| match info.format {
        Format::Jpeg if info.bits == 8 => {
            let least = if orientation.swaps_sides() { (least.1, least.0) } else { least };
            jpeg(bytes, &info, mode, least)
        }
        _ => other(bytes, &info),
    })?;
    Ok(apply(into_mode(image, mode), orientation))
}

/// Bytes of memory that decoding takes at its peak, from the header: reserve them first.
pub fn decoded_bytes(bytes: &[u8], mode: Option<Mode>) -> Result<u64> {
    let info = image_info(bytes)?;
    let pixels = u64::from(info.width) * u64::from(info.height);
    let native = native_mode(&info);
    let wanted = mode.unwrap_or(native);
    let decoded = if info.channels == 4 { 4 } else { native.pixel_bytes() as u64 };
    // A conversion and a turn each hold two copies at one time, but not three.
    let second = wanted != native || info.exif_orientation > 1 || info.mode == "CMYK";
    let second = if second { wanted.pixel_bytes() as u64 } else { 0 };
    Ok(pixels * (decoded.max(wanted.pixel_bytes() as u64) + second) + coefficient_bytes(&info))
}

/// Bytes that the decoder of a progressive JPEG keeps beside the pixels, whatever the scale; not counting that colours may be
/// stored at half the size.
pub fn coefficient_bytes(info: &ImageInfo) -> u64 {
    if info.progressive { u64::from(info.width) * u64::from(info.height) * u64::from(info.channels) * 2 } else { 0 }
}

/// The mode an image has when none is asked for.
pub fn native_mode(info: &ImageInfo) -> Mode {
    Mode::parse(info.mode).unwrap_or(Mode::RGB)
}

/// Fails with `LimitExceeded` when the image of this header has more pixels than `limits` allow.
pub fn check_pixels(info: &ImageInfo, limits: &Limits) -> Result<()> {
    let pixels = u64::from(info.width) * u64::from(info.height);
    if pixels <= limits.image_pixels_max {
        return Ok(());
    }
    Err(Error::limit(
        format!("the image has {}x{} pixels, more than {}", info.width, info.height, limits.image_pixels_max),
        "squilla.max_image_pixels",
    ))
}

/// A buffer of so many zeroes, or an error instead of the end of the process.
fn buffer(bytes: u64) -> Result<Vec<u8>> {
    let short = || Error::limit(format!("no memory for {bytes} bytes of pixels"), "squilla.max_image_pixels");
    let bytes = usize::try_from(bytes).map_err(|_| short())?;
    let mut data = Vec::new();
    data.try_reserve_exact(bytes).map_err(|_| short())?;
    data.resize(bytes, 0);
    Ok(data)
}

fn jpeg(bytes: &[u8], info: &ImageInfo, mode: Mode, least: (u32, u32)) -> Result<Image> {
    let fail = |e: turbojpeg::Error| jpeg_error(&e);
    let mut decoder = Decompressor::new().map_err(fail)?;
    decoder.set_scan_limit(JPEG_SCANS_MAX).map_err(fail)?;
    let tidied;
    let (bytes, header) = match decoder.read_header(bytes) {
        Err(error) if harmless(&error) => {
            tidied = tidy(bytes);
            (&tidied[..], decoder.read_header(&tidied).map_err(fail)?)
        }
        header => (bytes, header.map_err(fail)?),
    };
    if (header.width, header.height) != (info.width as usize, info.height as usize) {
        return Err(Error::bad_media("damaged jpeg image: two headers of different size"));
    }
    let scale = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF]
        .into_iter()
        .find(|s| !header.is_lossless && s.scale(header.width) >= least.0 as usize && s.scale(header.height) >= least.1 as usize);
    if let Some(scale) = scale {
        decoder.set_scaling_factor(scale).map_err(fail)?;
    }
    let header = header.scaled(scale.unwrap_or(ScalingFactor::ONE));
    let format = match header.colorspace {
        Colorspace::CMYK | Colorspace::YCCK => PixelFormat::CMYK,
        Colorspace::Gray => PixelFormat::GRAY,
        _ if mode.channels == 4 => PixelFormat::RGBA,
        _ => PixelFormat::RGB,
    };
    let pitch = header.width * format.size();
    let mut data = buffer((pitch * header.height) as u64)?;
    let output = turbojpeg::Image { pixels: &mut data[..], width: header.width, pitch, height: header.height, format };
    match decoder.decompress(bytes, output) {
        Err(error) if !harmless(&error) => return Err(fail(error)),
        _ => {}
    }
    let (data, channels) = match format {
        PixelFormat::CMYK => (rgb_of_inverted_cmyk(&data), 3),
        other => (data, other.size() as u8),
    };
    Ok(Image { data, width: header.width as u32, height: header.height as u32, channels, pixel: PixelType::U8 })
}

/// libjpeg's warnings that leave every pixel as it was meant. The others (premature end, bad Huffman code, lost
/// synchronisation) mean that part of the picture is made up.
fn harmless(error: &turbojpeg::Error) -> bool {
    const HARMLESS: [&str; 5] = [
        "extraneous bytes before marker",
        "unknown JFIF revision",
        "Unknown Adobe color transform",
        "bad ICC marker",
        "Invalid SOS parameters for sequential JPEG",
    ];
    matches!(error, turbojpeg::Error::TurboJpegError(text) if HARMLESS.iter().any(|known| text.contains(known)))
}

/// The file with only those segments before the pixels that decoding needs: libjpeg's wrapper refuses headers with which
/// libjpeg itself is merely unhappy (stray bytes, odd application segments).
fn tidy(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    let mut at = 2;
    while let Some(skip) = bytes.get(at..).and_then(|rest| rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff))) {
        at += skip;
        let Some(&[_, marker, high, low]) = bytes.get(at..at + 4) else { break };
        if marker == 0xda {
            out.extend_from_slice(&bytes[at..]);
            break;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd9) {
            at += 2;
            continue;
        }
        let end = (at + 2 + usize::from(u16::from_be_bytes([high, low]))).min(bytes.len());
        let segment = &bytes[at..end];
        let wanted = match marker {
            0xe0 => segment.get(4..9) == Some(b"JFIF\0") && segment.get(9) == Some(&1),
            0xee => segment.get(4..9) == Some(b"Adobe") && segment.get(15).is_some_and(|transform| *transform <= 2),
            0xe1..=0xef | 0xfe => false,
            _ => true,
        };
        if wanted {
            out.extend_from_slice(segment);
        }
        at = end;
    }
    out
}

fn jpeg_error(error: &turbojpeg::Error) -> Error {
    let text = match error {
        turbojpeg::Error::TurboJpegError(text) => text.as_str(),
        _ => "",
    };
    if text.contains("Premature end") || text.contains("premature end") {
        return Error::bad_media("truncated jpeg image").detail(format!("The decoder says: {text}."));
    }
    Error::bad_media("damaged jpeg image").detail(format!("The decoder says: {error}."))
}

/// Everything but 8-bit JPEG.
fn other(bytes: &[u8], info: &ImageInfo) -> Result<Image> {
    let format = match info.format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
    };
    if info.format == Format::Tiff && has_tiled_planes(bytes) {
        // The decoder's own check of this layout is an assertion.
        return Err(Error::bad_media("tiff image of a kind that is not read").detail("Its colours are in separate tiles."));
    }
    let fail = |e: ImageError| other_error(&e, info);
    let pixels = u64::from(info.width) * u64::from(info.height);
    let mut limits = image::Limits::default();
    // Decoders keep a frame or two beside the result, and metadata; more than that is an attack.
    limits.max_alloc = Some(pixels * 32 + bytes.len() as u64 + (64 << 20));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    if (width, height) != (info.width, info.height) {
        return Err(Error::bad_media(format!("damaged {} image: two headers of different size", info.format.name())));
    }
    let (channels, pixel) = match decoder.color_type() {
        ColorType::L8 => (1, PixelType::U8),
        ColorType::La8 => (2, PixelType::U8),
        ColorType::Rgb8 => (3, PixelType::U8),
        ColorType::Rgba8 => (4, PixelType::U8),
        ColorType::L16 => (1, PixelType::U16),
        ColorType::La16 => (2, PixelType::U16),
        ColorType::Rgb16 => (3, PixelType::U16),
        ColorType::Rgba16 => (4, PixelType::U16),
        ColorType::Rgb32F => (3, PixelType::F32),
        ColorType::Rgba32F => (4, PixelType::F32),
        other => return Err(Error::bad_media(format!("{} images of colour type {other:?} are not read", info.format.name()))),
    };
    let mut data = buffer(decoder.total_bytes())?;
    decoder.read_image(&mut data).map_err(fail)?;
    Ok(Image { data, width, height, channels, pixel })
}

fn other_error(error: &ImageError, info: &ImageInfo) -> Error {
    let name = info.format.name();
    let text = error.to_string();
    match error {
        ImageError::Unsupported(_) => {
            Error::bad_media(format!("{name} image of a kind that is not read")).detail(format!("The decoder says: {text}."))
        }
        ImageError::Limits(_) => Error::limit(format!("decoding the {name} image takes too much memory"), "squilla.max_image_pixels"),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Error::bad_media(format!("truncated {name} image")),
        _ if ["unexpected end", "unexpected EOF", "UnexpectedEof", "failed to fill whole buffer", "corrupt deflate stream"]
            .iter()
            .any(|cut| text.contains(cut)) =>
        {
            Error::bad_media(format!("truncated {name} image")).detail(format!("The decoder says: {text}."))
        }
        _ => Error::bad_media(format!("damaged {name} image")).detail(format!("The decoder says: {text}.")),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(crate) mod tests;
