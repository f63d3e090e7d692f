//! Modes and conversions between them.
//!
//! In: pixels of any mode. Out: pixels of the mode asked for. Invariant: grey from colour is Pillow's
//! (19595 R + 38470 G + 7471 B + 32768) / 65536; alpha is dropped, never composited, as Pillow does. 16 bits to 8 keeps the
//! high byte (Pillow clips L16 at 255, which loses the picture). Deliberately absent: CMYK, which decoders turn into RGB.

use std::borrow::Cow;

use squilla_core::error::{Error, Result, did_you_mean};
use squilla_core::values::{Image, ImageView, PixelType};

/// Channels and number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// 1 = L, 2 = LA, 3 = RGB, 4 = RGBA.
    pub channels: u8,
    /// Number type of a channel.
    pub pixel: PixelType,
}

/// Every mode by name.
pub const MODES: [(&str, Mode); 12] = [
    ("L", Mode::new(1, PixelType::U8)),
    ("LA", Mode::new(2, PixelType::U8)),
    ("RGB", Mode::RGB),
    ("RGBA", Mode::new(4, PixelType::U8)),
    ("L16", Mode::new(1, PixelType::U16)),
    ("LA16", Mode::new(2, PixelType::U16)),
    ("RGB16", Mode::new(3, PixelType::U16)),
    ("RGBA16", Mode::new(4, PixelType::U16)),
    ("L32F", Mode::new(1, PixelType::F32)),
    ("LA32F", Mode::new(2, PixelType::F32)),
    ("RGB32F", Mode::new(3, PixelType::F32)),
    ("RGBA32F", Mode::new(4, PixelType::F32)),
];

impl Mode {
    /// 8-bit colour.
    pub const RGB: Mode = Mode::new(3, PixelType::U8);
    /// 8-bit grey.
    pub const L: Mode = Mode::new(1, PixelType::U8);

    /// A mode.
    pub const fn new(channels: u8, pixel: PixelType) -> Self {
        Self { channels, pixel }
    }

    /// The mode of an image.
    pub fn of(image: &ImageView<'_>) -> Self {
        Self { channels: image.channels, pixel: image.pixel }
    }

    /// By name, in any case.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some((_, mode)) = MODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Ok(*mode);
        }
        let names = MODES.map(|(known, _)| known);
        let error = Error::invalid_argument(format!("unknown image mode \"{name}\""));
        Err(match did_you_mean(name, names) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error.hint(format!("Known are {}.", names.join(", "))),
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("?", |(name, _)| name)
    }

    /// Bytes of one pixel.
    pub const fn pixel_bytes(self) -> usize {
        self.channels as usize * self.pixel.bytes()
    }
}

/// The image in another mode; borrowed when it already has it.
pub fn convert<'a>(image: &ImageView<'a>, mode: Mode) -> Cow<'a, [u8]> {
    if Mode::of(image) == mode {
        return Cow::Borrowed(image.data);
    }
    let channels = (image.channels, mode.channels);
    // Channels first: it never widens before it narrows, and grey is computed from the original depth.
    let data = match image.pixel {
        PixelType::U8 => change_channels::<u8>(image.data, channels),
        PixelType::U16 => change_channels::<u16>(image.data, channels),
        PixelType::F32 => change_channels::<f32>(image.data, channels),
    };
    match change_depth(&data, image.pixel, mode.pixel) {
        Some(data) => Cow::Owned(data),
        None => data,
    }
}

/// The image in another mode, owned.
pub fn convert_image(image: &ImageView<'_>, mode: Mode) -> Image {
    Image { data: convert(image, mode).into_owned(), width: image.width, height: image.height, channels: mode.channels, pixel: mode.pixel }
}

/// Converts an owned image without a copy when the mode fits.
pub fn into_mode(image: Image, mode: Mode) -> Image {
    if Mode::of(&image.view()) == mode { image } else { convert_image(&image.view(), mode) }
}

/// The number type of a channel, in bytes of native order.
trait Sample: Copy {
    const BYTES: usize;
    const OPAQUE: Self;
    fn load(raw: &[u8]) -> Self;
    fn store(self, to: &mut Vec<u8>);
    fn luma(r: Self, g: Self, b: Self) -> Self;
}

impl Sample for u8 {
    const BYTES: usize = 1;
    const OPAQUE: u8 = u8::MAX;
    fn load(raw: &[u8]) -> Self {
        raw[0]
    }
    fn store(self, to: &mut Vec<u8>) {
        to.push(self);
    }
    fn luma(r: u8, g: u8, b: u8) -> u8 {
        ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
    }
}

impl Sample for u16 {
    const BYTES: usize = 2;
    const OPAQUE: u16 = u16::MAX;
    fn load(raw: &[u8]) -> Self {
        u16::from_ne_bytes([raw[0], raw[1]])
    }
    fn store(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_ne_bytes());
    }
    fn luma(r: u16, g: u16, b: u16) -> u16 {
        ((u64::from(r) * 19595 + u64::from(g) * 38470 + u64::from(b) * 7471 + 0x8000) >> 16) as u16
    }
}

impl Sample for f32 {
    const BYTES: usize = 4;
    const OPAQUE: f32 = 1.0;
    fn load(raw: &[u8]) -> Self {
        f32::from_ne_bytes([raw[0], raw[1], raw[2], raw[3]])
    }
    fn store(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_ne_bytes());
    }
    fn luma(r: f32, g: f32, b: f32) -> f32 {
        0.299 * r + 0.587 * g + 0.114 * b
    }
}

fn change_channels<T: Sample>(data: &[u8], (from, to): (u8, u8)) -> Cow<'_, [u8]> {
    let (from, to) = (usize::from(from), usize::from(to));
    if from == to {
        return Cow::Borrowed(data);
    }
    let pixels = data.chunks_exact(from * T::BYTES);
    let mut out = Vec::with_capacity(pixels.len() * to * T::BYTES);
    let channel = |pixel: &[u8], i: usize| T::load(&pixel[i * T::BYTES..]);
    for pixel in pixels {
        let (r, g, b, alpha) = match from {
            1 | 2 => {
                let grey = channel(pixel, 0);
                (grey, grey, grey, if from == 2 { channel(pixel, 1) } else { T::OPAQUE })
            }
            _ => {
                let alpha = if from == 4 { channel(pixel, 3) } else { T::OPAQUE };
                (channel(pixel, 0), channel(pixel, 1), channel(pixel, 2), alpha)
            }
        };
        if to <= 2 {
            if from <= 2 { r } else { T::luma(r, g, b) }.store(&mut out);
        } else {
            r.store(&mut out);
            g.store(&mut out);
            b.store(&mut out);
        }
        if to % 2 == 0 {
            alpha.store(&mut out);
        }
    }
    Cow::Owned(out)
}

/// Another number type; `None` when it is the same.
fn change_depth(data: &[u8], from: PixelType, to: PixelType) -> Option<Vec<u8>> {
    let u16s = || data.chunks_exact(2).map(u16::load);
    let f32s = || data.chunks_exact(4).map(f32::load);
    Some(match (from, to) {
        (PixelType::U8, PixelType::U16) => data.iter().flat_map(|&v| (u16::from(v) * 257).to_ne_bytes()).collect(),
        (PixelType::U8, PixelType::F32) => data.iter().flat_map(|&v| (f32::from(v) / 255.0).to_ne_bytes()).collect(),
        (PixelType::U16, PixelType::U8) => u16s().map(|v| (v >> 8) as u8).collect(),
        (PixelType::U16, PixelType::F32) => u16s().flat_map(|v| (f32::from(v) / 65535.0).to_ne_bytes()).collect(),
        // `as` saturates and takes NaN to 0.
        (PixelType::F32, PixelType::U8) => f32s().map(|v| (v * 255.0).round() as u8).collect(),
        (PixelType::F32, PixelType::U16) => f32s().flat_map(|v| ((v * 65535.0).round() as u16).to_ne_bytes()).collect(),
        _ => return None,
    })
}

/// RGB of CMYK as Adobe's JPEG files store it (inverted), by Pillow's formula. 4 bytes in, 3 out.
pub(crate) fn rgb_of_inverted_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(cmyk.len() / 4 * 3);
    for pixel in cmyk.chunks_exact(4) {
        let white = i32::from(pixel[3]);
        for &ink in &pixel[..3] {
            let product = (255 - i32::from(ink)) * white + 128;
            let shade = ((product >> 8) + product) >> 8;
            out.push((white - shade).clamp(0, 255) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn view(data: &[u8], mode: Mode) -> ImageView<'_> {
        let width = (data.len() / mode.pixel_bytes()) as u32;
        ImageView { data, width, height: 1, channels: mode.channels, pixel: mode.pixel }
    }

    #[test]
    fn grey_is_pillows() {
        let rgb = [10, 20, 30, 200, 100, 50];
        assert_eq!(&*convert(&view(&rgb, Mode::RGB), Mode::L), [18, 124]);
        let rgba = [10, 20, 30, 0, 200, 100, 50, 128];
        let la = convert_image(&view(&rgba, Mode::new(4, PixelType::U8)), Mode::new(2, PixelType::U8));
        assert_eq!(la.data, [18, 0, 124, 128]);
    }

    #[test]
    fn every_pair_keeps_the_size() {
        for (_, from) in MODES {
            let data = vec![0; 6 * from.pixel_bytes()];
            for (name, to) in MODES {
                let out = convert_image(&view(&data, from), to);
                assert_eq!(out.data.len(), 6 * to.pixel_bytes());
                assert_eq!(out.view().mode(), name);
            }
        }
    }

    #[test]
    fn depths_round_trip() {
        let grey: Vec<u8> = (0..=255).collect();
        for pixel in [PixelType::U16, PixelType::F32] {
            let wide = convert_image(&view(&grey, Mode::L), Mode::new(1, pixel));
            assert_eq!(convert_image(&wide.view(), Mode::L).data, grey);
        }
    }

    #[test]
    fn names_parse() {
        assert_eq!(Mode::parse("rgb").unwrap(), Mode::RGB);
        assert!(Mode::parse("RBG").unwrap_err().hint.unwrap().contains("\"RGB\""));
    }
}
