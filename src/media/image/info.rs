//! What an image file says about itself, from its first bytes alone.
//!
//! In: a prefix of the file. Out: size, mode, format, bits, orientation, or how many bytes are needed to tell. Invariant:
//! no pixel is decoded and nothing is allocated in proportion to the picture. [`PREFIX_BYTES`] suffice for nearly every
//! file; a TIFF may keep its directory at the end. Deliberately absent: any check that the pixels are there.

use squilla_core::error::{Error, Result};

use crate::image::exif;
use crate::image::info_tiff;

/// Bytes that suffice for all but rare files (metadata above 64 KiB before the header, TIFF).
pub const PREFIX_BYTES: u64 = 64 << 10;

/// Image formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG, APNG.
    Png,
    /// WebP, lossy, lossless, animated.
    WebP,
    /// GIF.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF.
    Tiff,
}

impl Format {
    /// Lower-case name, as in `encode_image(format => ...)`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::WebP => "webp",
            Format::Gif => "gif",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
        }
    }

    /// The format, by its first 16 bytes; names of files are not trusted.
    pub fn sniff(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'B', b'M', ..] => Some(Format::Bmp),
            [b'I', b'I', 0x2a, 0, ..] | [b'M', b'M', 0, 0x2a, ..] => Some(Format::Tiff),
            _ => None,
        }
    }
}

/// The facts of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Pixels, as stored (before the orientation is applied).
    pub width: u32,
    /// Pixels, as stored.
    pub height: u32,
    /// Channels after decoding in the file's own mode, palettes expanded: 1 to 4. CMYK has 4.
    pub channels: u8,
    /// L, LA, RGB, RGBA, L16, RGB16, ..., or CMYK (decoded as RGB).
    pub mode: &'static str,
    /// Container.
    pub format: Format,
    /// Bits of one sample, or of one palette index.
    pub bits: u8,
    /// 1 to 8 from EXIF; 1 when there is none.
    pub exif_orientation: u8,
    /// Pictures in the file; none when that takes more of the file than was given.
    pub frames: Option<u32>,
    /// A JPEG in several scans: its decoder keeps every coefficient, 2 bytes a sample.
    pub progressive: bool,
}

/// The outcome of looking at a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// Everything is known.
    Info(ImageInfo),
    /// At least so many bytes, from the beginning of the file, are needed.
    More(u64),
}

/// Reads the header of a whole file. Errors: `BadMedia` for foreign, cut or damaged bytes.
pub fn image_info(bytes: &[u8]) -> Result<ImageInfo> {
    match read_header(bytes, true)? {
        Header::Info(info) => Ok(info),
        Header::More(_) => Err(cut_short(bytes)),
    }
}

/// Reads the header from the first bytes of a file; `whole` when there are no more. Never answers `More` for a whole file.
pub fn read_header(prefix: &[u8], whole: bool) -> Result<Header> {
    let Some(format) = Format::sniff(prefix) else {
        if prefix.len() < 16 && !whole {
            return Ok(Header::More(PREFIX_BYTES));
        }
        return Err(unknown_format(prefix));
    };
    let found = match format {
        Format::Jpeg => jpeg(prefix),
        Format::Png => png(prefix),
        Format::WebP => webp(prefix, whole),
        Format::Gif => gif(prefix, whole),
        Format::Bmp => bmp(prefix),
        Format::Tiff => info_tiff::tiff(prefix),
    };
    match found {
        Ok(info) if info.width == 0 || info.height == 0 => Err(Error::bad_media(format!("damaged {} image: it has no pixels", format.name()))),
        Ok(info) => Ok(Header::Info(info)),
        Err(Miss::More(bytes)) if !whole => Ok(Header::More(bytes.max(prefix.len() as u64 + 1))),
        Err(Miss::More(_)) => Err(cut_short(prefix)),
        Err(Miss::Bad(what)) => Err(Error::bad_media(format!("damaged {} image: {what}", format.name()))),
    }
}

fn cut_short(bytes: &[u8]) -> Error {
    let name = Format::sniff(bytes).map_or("image", Format::name);
    Error::bad_media(format!("truncated {name} image")).detail(format!("The file ends within the header, after {} bytes.", bytes.len()))
}

fn unknown_format(bytes: &[u8]) -> Error {
    if bytes.is_empty() {
        return Error::bad_media("the image is empty");
    }
    let looks = match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => Some("AVIF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', ..] => Some("HEIC or MP4"),
        [b'%', b'P', b'D', b'F', ..] => Some("PDF"),
        [0, 0, 1, 0, ..] => Some("ICO"),
        [b'<', ..] => Some("HTML, XML or SVG"),
        _ => None,
    };
    let error = Error::bad_media("not an image in a known format").hint("Known are jpeg, png, webp, gif, bmp and tiff.");
    match looks {
        Some(what) => error.detail(format!("The bytes look like {what}.")),
        None => {
            let start: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
            error.detail(format!("The bytes begin with {}.", start.join(" ")))
        }
    }
}

/// Why a header was not read.
#[derive(Debug)]
pub(crate) enum Miss {
    /// So many bytes from the beginning are needed.
    More(u64),
    /// It is damaged.
    Bad(&'static str),
}

/// `N` bytes at `at`, or how many bytes of the file that takes.
fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Miss> {
    let end = at.saturating_add(N);
    bytes.get(at..end).and_then(|b| b.try_into().ok()).ok_or(Miss::More(end as u64))
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], Miss> {
    let end = at.saturating_add(len);
    bytes.get(at..end).ok_or(Miss::More(end as u64))
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, Miss> {
    Ok(u16::from_be_bytes(take(bytes, at)?))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, Miss> {
    Ok(u32::from_be_bytes(take(bytes, at)?))
}

fn le16(bytes: &[u8], at: usize) -> Result<u16, Miss> {
    Ok(u16::from_le_bytes(take(bytes, at)?))
}

fn le32(bytes: &[u8], at: usize) -> Result<u32, Miss> {
    Ok(u32::from_le_bytes(take(bytes, at)?))
}

/// The mode of so many channels of so many bits.
pub(crate) fn mode_name(channels: u8, bits: u8) -> &'static str {
    match (channels, bits) {
        (1, 32) => "L32F",
        (3, 32) => "RGB32F",
        (4, 32) => "RGBA32F",
        (1, 16) => "L16",
        (2, 16) => "LA16",
        (3, 16) => "RGB16",
        (4, 16) => "RGBA16",
        (1, _) => "L",
        (2, _) => "LA",
        (3, _) => "RGB",
        _ => "RGBA",
    }
}

/// Segments up to the frame header; a marker may be preceded by fill bytes, and stray bytes between segments are skipped as
/// decoders do.
fn jpeg(bytes: &[u8]) -> Result<ImageInfo, Miss> {
    let mut at = 2;
    let mut orientation = 1;
    let mut seen_exif = false;
    loop {
        while take::<1>(bytes, at)? != [0xff] {
            at += 1;
        }
        while take::<1>(bytes, at)? == [0xff] {
            at += 1;
        }
        let [marker] = take::<1>(bytes, at)?;
        at += 1;
        match marker {
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            0xd9 | 0xda => return Err(Miss::Bad("no frame header before the pixels")),
            _ => {}
        }
        let length = usize::from(be16(bytes, at)?);
        if length < 2 {
            return Err(Miss::Bad("a segment of impossible length"));
        }
        match marker {
            // SOF0..SOF15 without DHT, JPG and DAC.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [bits, h1, h0, w1, w0, components] = take::<6>(bytes, at + 2)?;
                let (channels, mode) = match components {
                    1 => (1, mode_name(1, bits)),
                    3 => (3, mode_name(3, bits)),
                    4 => (4, "CMYK"),
                    _ => return Err(Miss::Bad("an odd number of components")),
                };
                return Ok(ImageInfo {
                    width: u32::from(u16::from_be_bytes([w1, w0])),
                    height: u32::from(u16::from_be_bytes([h1, h0])),
                    channels,
                    mode,
                    format: Format::Jpeg,
                    bits,
                    exif_orientation: orientation,
                    frames: Some(1),
                    progressive: matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce),
                });
            }
            0xe1 if !seen_exif => {
                let block = slice(bytes, at + 2, length - 2)?;
                if block.starts_with(b"Exif\0\0") {
                    seen_exif = true;
                    orientation = exif::orientation(block).unwrap_or(1);
                }
            }
            _ => {}
        }
        at += length;
    }
}

/// Chunks up to the pixels; transparency of a palette or of one colour gives an alpha channel, as decoders do.
fn png(bytes: &[u8]) -> Result<ImageInfo, Miss> {
    if slice(bytes, 12, 4)? != b"IHDR" {
        return Err(Miss::Bad("no IHDR chunk"));
    }
    let (width, height) = (be32(bytes, 16)?, be32(bytes, 20)?);
    let [bits, color] = take::<2>(bytes, 24)?;
    let base = match color {
        0 => 1,
        2 | 3 => 3,
        4 => 2,
        6 => 4,
        _ => return Err(Miss::Bad("an unknown colour type")),
    };
    let (mut alpha, mut orientation, mut frames) = (0, 1, 1);
    let mut at = 33;
    loop {
        let length = be32(bytes, at)? as usize;
        match slice(bytes, at + 4, 4)? {
            b"IDAT" | b"IEND" => break,
            b"tRNS" if base % 2 == 1 => alpha = 1,
            b"acTL" => frames = be32(bytes, at + 8)?.max(1),
            b"eXIf" => orientation = exif::orientation(slice(bytes, at + 8, length)?).unwrap_or(1),
            _ => {}
        }
        at = at.saturating_add(length).saturating_add(12);
    }
    Ok(ImageInfo {
        width,
        height,
        channels: base + alpha,
        mode: mode_name(base + alpha, if color == 3 { 8 } else { bits }),
        format: Format::Png,
        bits,
        exif_orientation: orientation,
        frames: Some(frames),
        progressive: false,
    })
}

/// Simple files tell all in 30 bytes; extended ones may have EXIF behind the pixels and frames anywhere.
fn webp(bytes: &[u8], whole: bool) -> Result<ImageInfo, Miss> {
    let (width, height, alpha, mut frames, mut orientation);
    (frames, orientation) = (Some(1), 1);
    match slice(bytes, 12, 4)? {
        b"VP8 " => {
            if take::<3>(bytes, 23)? != [0x9d, 0x01, 0x2a] {
                return Err(Miss::Bad("no key frame"));
            }
            (width, height) = (u32::from(le16(bytes, 26)? & 0x3fff), u32::from(le16(bytes, 28)? & 0x3fff));
            alpha = false;
        }
        b"VP8L" => {
            if take::<1>(bytes, 20)? != [0x2f] {
                return Err(Miss::Bad("no lossless signature"));
            }
            let packed = le32(bytes, 21)?;
            (width, height) = ((packed & 0x3fff) + 1, ((packed >> 14) & 0x3fff) + 1);
            alpha = packed >> 28 & 1 == 1;
        }
        b"VP8X" => {
            let [flags, _, _, _, w0, w1, w2, h0, h1, h2] = take::<10>(bytes, 20)?;
            width = u32::from_le_bytes([w0, w1, w2, 0]) + 1;
            height = u32::from_le_bytes([h0, h1, h2, 0]) + 1;
            alpha = flags & 0x10 != 0;
            let (animated, has_exif) = (flags & 0x02 != 0, flags & 0x08 != 0);
            if animated || has_exif {
                let found = webp_chunks(bytes);
                if has_exif && !whole && found.orientation.is_none() {
                    // EXIF stands at the end of the file: all of it is needed.
                    return Err(Miss::More(u64::from(le32(bytes, 4)?) + 8));
                }
                orientation = found.orientation.unwrap_or(1);
                frames = if !animated { Some(1) } else { whole.then_some(found.frames) };
            }
        }
        _ => return Err(Miss::Bad("an unknown first chunk")),
    }
    let channels = if alpha { 4 } else { 3 };
    Ok(ImageInfo {
        width,
        height,
        channels,
        mode: mode_name(channels, 8),
        format: Format::WebP,
        bits: 8,
        exif_orientation: orientation,
        frames,
        progressive: false,
    })
}

struct WebpChunks {
    frames: u32,
    orientation: Option<u8>,
}

/// Walks the chunks that are there.
fn webp_chunks(bytes: &[u8]) -> WebpChunks {
    let mut found = WebpChunks { frames: 0, orientation: None };
    let mut at = 12;
    while let (Ok(name), Ok(length)) = (slice(bytes, at, 4), le32(bytes, at + 4)) {
        let length = length as usize;
        match name {
            b"ANMF" => found.frames += 1,
            b"EXIF" => found.orientation = slice(bytes, at + 8, length).ok().map(|b| exif::orientation(b).unwrap_or(1)),
            _ => {}
        }
        at = at.saturating_add(8).saturating_add(length).saturating_add(length % 2);
    }
    found
}

/// Blocks: up to the first picture for its transparency, to the end for the number of pictures.
fn gif(bytes: &[u8], whole: bool) -> Result<ImageInfo, Miss> {
    let (width, height) = (u32::from(le16(bytes, 6)?), u32::from(le16(bytes, 8)?));
    let [flags] = take::<1>(bytes, 10)?;
    let palette = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + palette(flags);
    let mut transparent = false;
    let mut frames = 0_u32;
    // Ends at the trailer, or where the file was cut: a cut tail is the decoder's to complain about.
    loop {
        let step = (|| match take::<1>(bytes, at)? {
            [0x21] => {
                if frames == 0 && slice(bytes, at + 1, 2)? == [0xf9, 4] {
                    transparent = take::<1>(bytes, at + 3)?[0] & 1 == 1;
                }
                Ok(Some(skip_blocks(bytes, at + 2)?))
            }
            [0x2c] => {
                let [flags] = take::<1>(bytes, at + 9)?;
                frames += 1;
                if !whole {
                    return Ok(None);
                }
                Ok(Some(skip_blocks(bytes, at + 11 + palette(flags))?))
            }
            _ => Ok(None),
        })();
        match step {
            Ok(Some(next)) => at = next,
            Ok(None) => break,
            Err(_) if whole || frames > 0 => break,
            Err(miss) => return Err(miss),
        }
    }
    if frames == 0 {
        return Err(Miss::Bad("it holds no picture"));
    }
    let channels = if transparent { 4 } else { 3 };
    Ok(ImageInfo {
        width,
        height,
        channels,
        mode: mode_name(channels, 8),
        format: Format::Gif,
        bits: (flags & 7) + 1,
        exif_orientation: 1,
        frames: whole.then_some(frames),
        progressive: false,
    })
}

/// The position behind a chain of data blocks.
fn skip_blocks(bytes: &[u8], mut at: usize) -> Result<usize, Miss> {
    loop {
        let [length] = take::<1>(bytes, at)?;
        at += 1 + usize::from(length);
        if length == 0 {
            return Ok(at);
        }
    }
}

/// Only the dimensions and depth: what a bitmap's masks mean is the decoder's business.
fn bmp(bytes: &[u8]) -> Result<ImageInfo, Miss> {
    let header = le32(bytes, 14)?;
    let (width, height, bits) = match header {
        12 => (i32::from(le16(bytes, 18)?), i32::from(le16(bytes, 20)?), le16(bytes, 24)?),
        16 | 40 | 52 | 56 | 64 | 108 | 124 => (le32(bytes, 18)? as i32, le32(bytes, 22)? as i32, le16(bytes, 28)?),
        _ => return Err(Miss::Bad("an unknown header")),
    };
    if width < 0 {
        return Err(Miss::Bad("a negative width"));
    }
    let bits = u8::try_from(bits).map_err(|_| Miss::Bad("an impossible depth"))?;
    let has_alpha = bits == 32 && header >= 56 && le32(bytes, 66)? != 0;
    let channels = if has_alpha { 4 } else { 3 };
    Ok(ImageInfo {
        width: width.unsigned_abs(),
        // A negative height says that the rows stand from top to bottom.
        height: height.unsigned_abs(),
        channels,
        mode: mode_name(channels, 8),
        format: Format::Bmp,
        bits: bits.min(8),
        exif_orientation: 1,
        frames: Some(1),
        progressive: false,
    })
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
