//! The media values that travel between crates: owned by decoders, viewed by kernels, stored by Arrow columns.
//!
//! Invariant: `data.len() == width * height * channels * bytes_per_sample` for an image, row-major, channels last.
//! Deliberately absent: any decoding, any Arrow type (see `columns.rs` for the mapping).

use crate::error::{Error, Result};

/// The number type of one channel of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelType {
    /// 8 bits, 0..=255.
    U8,
    /// 16 bits, native endian.
    U16,
    /// 32-bit float, 0.0..=1.0 for decoded images.
    F32,
}

impl PixelType {
    /// Bytes of one channel of one pixel.
    pub const fn bytes(self) -> usize {
        match self {
            PixelType::U8 => 1,
            PixelType::U16 => 2,
            PixelType::F32 => 4,
        }
    }

    /// The name stored in the `dtype` field of an image column.
    pub const fn name(self) -> &'static str {
        match self {
            PixelType::U8 => "u8",
            PixelType::U16 => "u16",
            PixelType::F32 => "f32",
        }
    }

    /// The inverse of [`PixelType::name`].
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "u8" => Ok(PixelType::U8),
            "u16" => Ok(PixelType::U16),
            "f32" => Ok(PixelType::F32),
            other => Err(Error::internal(format!("unknown pixel type \"{other}\""))),
        }
    }
}

/// Decoded pixels, owned. Row-major, channels last (HWC), no padding between rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// `width * height * channels * pixel.bytes()` bytes.
    pub data: Vec<u8>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// 1 = L, 2 = LA, 3 = RGB, 4 = RGBA.
    pub channels: u8,
    /// Number type of a channel.
    pub pixel: PixelType,
}

/// Decoded pixels, borrowed from a column. Same layout as [`Image`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageView<'a> {
    /// See [`Image::data`].
    pub data: &'a [u8],
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// 1 = L, 2 = LA, 3 = RGB, 4 = RGBA.
    pub channels: u8,
    /// Number type of a channel.
    pub pixel: PixelType,
}

impl Image {
    /// The same pixels, borrowed.
    pub fn view(&self) -> ImageView<'_> {
        ImageView { data: &self.data, width: self.width, height: self.height, channels: self.channels, pixel: self.pixel }
    }
}

impl ImageView<'_> {
    /// The name of the mode: L, LA, RGB, RGBA, L16, RGB32F, ...
    pub fn mode(&self) -> String {
        let base = match self.channels {
            1 => "L",
            2 => "LA",
            3 => "RGB",
            _ => "RGBA",
        };
        match self.pixel {
            PixelType::U8 => base.to_owned(),
            PixelType::U16 => format!("{base}16"),
            PixelType::F32 => format!("{base}32F"),
        }
    }

    /// What stands for the pixels where a text is wanted: `<image 1920x1080 RGB>`.
    pub fn placeholder(&self) -> String {
        format!("<image {}x{} {}>", self.width, self.height, self.mode())
    }

    /// A copy that owns its pixels.
    pub fn to_owned(&self) -> Image {
        Image { data: self.data.to_vec(), width: self.width, height: self.height, channels: self.channels, pixel: self.pixel }
    }
}

/// Decoded samples, owned: f32 in -1.0..=1.0, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// Frames times channels samples.
    pub samples: Vec<f32>,
    /// Hertz.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u16,
}

/// Decoded samples, borrowed. Same layout as [`Audio`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AudioView<'a> {
    /// Frames times channels samples.
    pub samples: &'a [f32],
    /// Hertz.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u16,
}

impl Audio {
    /// The same samples, borrowed.
    pub fn view(&self) -> AudioView<'_> {
        AudioView { samples: &self.samples, sample_rate: self.sample_rate, channels: self.channels }
    }
}

impl AudioView<'_> {
    /// What stands for the samples where a text is wanted: `<audio 12.4 s 16000 Hz mono>`.
    pub fn placeholder(samples: usize, sample_rate: u32, channels: u16) -> String {
        let (rate, channels) = (sample_rate.max(1), channels.max(1));
        let seconds = samples as f64 / f64::from(channels) / f64::from(rate);
        match channels {
            1 => format!("<audio {seconds:.1} s {rate} Hz mono>"),
            2 => format!("<audio {seconds:.1} s {rate} Hz stereo>"),
            n => format!("<audio {seconds:.1} s {rate} Hz {n} channels>"),
        }
    }

    /// Seconds.
    pub fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.channels.max(1)) / f64::from(self.sample_rate.max(1))
    }
}

/// A box in pixels of the image given: `x1 <= x2`, `y1 <= y2`, origin top left.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct BoundingBox {
    /// Left.
    pub x1: f32,
    /// Top.
    pub y1: f32,
    /// Right.
    pub x2: f32,
    /// Bottom.
    pub y2: f32,
}

/// A tensor: f32, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Product of `shape` values.
    pub data: Vec<f32>,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

/// A lazy reference to a file: what a listing or a HEAD told about it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FileRef {
    /// `file:///...`, `s3://bucket/key`, `https://...`, or a plain local path.
    pub uri: String,
    /// Bytes, when known.
    pub size: Option<i64>,
    /// Version tag of the content, when the source gives one.
    pub etag: Option<String>,
    /// Microseconds since 1970-01-01 UTC.
    pub last_modified_us: Option<i64>,
    /// MIME type, when the source gives one.
    pub content_type: Option<String>,
}
