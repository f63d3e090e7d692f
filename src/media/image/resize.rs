//! Images to other sizes.
//!
//! In: an image, a size, how to fit and a filter. Out: the resized image, same mode. Invariant: the filters run
//! horizontally, then vertically, in two calls: that equals torchvision's uint8 path bit by bit (one call does not), and
//! Pillow within 2. Alpha is premultiplied, as in Pillow. Deliberately absent: enlarging a crop beyond the limits (the
//! target size is the caller's to bound).

use fast_image_resize::images::{Image as Buffer, ImageRef};
use fast_image_resize::{FilterType, MulDiv, PixelType as Layout, ResizeAlg, ResizeOptions, Resizer};
use squilla_core::error::{Error, Result, did_you_mean};
use squilla_core::values::{Image, ImageView, PixelType};

/// How to reach the target size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Exactly, whatever becomes of the proportions.
    Stretch,
    /// The largest picture of the same proportions within the target; one side may come out smaller.
    Contain,
    /// Exactly: the smallest picture of the same proportions around the target, its centre cut out. What torchvision calls
    /// Resize and CenterCrop.
    Cover,
}

impl Fit {
    /// By name.
    pub fn parse(name: &str) -> Result<Self> {
        one_of("fit", name, &[("stretch", Fit::Stretch), ("contain", Fit::Contain), ("cover", Fit::Cover)])
    }
}

/// How new pixels come from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest old pixel.
    Nearest,
    /// Linear, widened when shrinking (Pillow's and torchvision's BILINEAR).
    Triangle,
    /// Cubic (BICUBIC).
    CatmullRom,
    /// Windowed sinc of three lobes (LANCZOS).
    Lanczos3,
}

impl Filter {
    /// By name; Pillow's names are known too.
    pub fn parse(name: &str) -> Result<Self> {
        one_of(
            "filter",
            name,
            &[
                ("nearest", Filter::Nearest),
                ("triangle", Filter::Triangle),
                ("bilinear", Filter::Triangle),
                ("catmullrom", Filter::CatmullRom),
                ("bicubic", Filter::CatmullRom),
                ("lanczos3", Filter::Lanczos3),
                ("lanczos", Filter::Lanczos3),
            ],
        )
    }

    fn algorithm(self) -> ResizeAlg {
        match self {
            Filter::Nearest => ResizeAlg::Nearest,
            Filter::Triangle => ResizeAlg::Convolution(FilterType::Bilinear),
            Filter::CatmullRom => ResizeAlg::Convolution(FilterType::CatmullRom),
            Filter::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
        }
    }

    /// Half the width of the filter, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.5,
            Filter::Triangle => 1.0,
            Filter::CatmullRom => 2.0,
            Filter::Lanczos3 => 3.0,
        }
    }
}

/// The value that `name` stands for, in any case. Errors: `InvalidArgument` with the known names.
pub(crate) fn one_of<T: Copy>(what: &str, name: &str, known: &[(&str, T)]) -> Result<T> {
    if let Some((_, value)) = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok(*value);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let error = Error::invalid_argument(format!("unknown {what} \"{name}\""));
    Err(match did_you_mean(name, names.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error.hint(format!("Known are {}.", names.join(", "))),
    })
}

/// The size that [`resize_image`] gives.
pub fn target_size((width, height): (u32, u32), (to_width, to_height): (u32, u32), fit: Fit) -> (u32, u32) {
    if fit != Fit::Contain || width == 0 || height == 0 {
        return (to_width, to_height);
    }
    let (w, h, tw, th) = (f64::from(width), f64::from(height), f64::from(to_width), f64::from(to_height));
    // As Pillow's ImageOps.contain.
    if w / h > tw / th {
        (to_width, ((h / w * tw).round_ties_even() as u32).clamp(1, to_height))
    } else if w / h < tw / th {
        (((w / h * th).round_ties_even() as u32).clamp(1, to_width), to_height)
    } else {
        (to_width, to_height)
    }
}

/// The rectangle of the source, in fractions of pixels, that fills the target.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// torchvision's arithmetic: the long side truncates, the crop offset rounds half to even.
fn cover_window((width, height): (u32, u32), (to_width, to_height): (u32, u32)) -> Window {
    let (w, h, tw, th) = (u64::from(width), u64::from(height), u64::from(to_width), u64::from(to_height));
    let (scaled_w, scaled_h) = if tw * h >= th * w { (tw, (tw * h / w).max(th)) } else { ((th * w / h).max(tw), th) };
    let offset = |scaled: u64, target: u64| ((scaled - target) as f64 / 2.0).round_ties_even();
    let (x_scale, y_scale) = (w as f64 / scaled_w as f64, h as f64 / scaled_h as f64);
    Window { left: offset(scaled_w, tw) * x_scale, top: offset(scaled_h, th) * y_scale, width: tw as f64 * x_scale, height: th as f64 * y_scale }
}

/// Resizes an image. Errors: `InvalidArgument` when a side is zero.
pub fn resize_image(image: &ImageView<'_>, width: u32, height: u32, fit: Fit, filter: Filter) -> Result<Image> {
    if width == 0 || height == 0 {
        return Err(Error::invalid_argument(format!("cannot resize an image to {width}x{height} pixels")));
    }
    let size = (image.width, image.height);
    let target = target_size(size, (width, height), fit);
    let whole = Window { left: 0.0, top: 0.0, width: f64::from(size.0), height: f64::from(size.1) };
    let window = if fit == Fit::Cover { cover_window(size, target) } else { whole };
    if target == size && window == whole {
        return Ok(image.to_owned());
    }
    resample(image, target, window, filter)
}

/// The layout of a mode in the resizer.
fn layout(image: &ImageView<'_>) -> Result<Layout> {
    Ok(match (image.pixel, image.channels) {
        (PixelType::U8, 1) => Layout::U8,
        (PixelType::U8, 2) => Layout::U8x2,
        (PixelType::U8, 3) => Layout::U8x3,
        (PixelType::U8, 4) => Layout::U8x4,
        (PixelType::U16, 1) => Layout::U16,
        (PixelType::U16, 2) => Layout::U16x2,
        (PixelType::U16, 3) => Layout::U16x3,
        (PixelType::U16, 4) => Layout::U16x4,
        (PixelType::F32, 1) => Layout::F32,
        (PixelType::F32, 2) => Layout::F32x2,
        (PixelType::F32, 3) => Layout::F32x3,
        (PixelType::F32, 4) => Layout::F32x4,
        (_, channels) => return Err(Error::internal(format!("an image of {channels} channels"))),
    })
}

fn resample(image: &ImageView<'_>, (width, height): (u32, u32), window: Window, filter: Filter) -> Result<Image> {
    let fail = |e: &dyn std::fmt::Display| Error::internal(format!("resizing failed: {e}"));
    let layout = layout(image)?;
    let options = ResizeOptions::new().resize_alg(filter.algorithm()).use_alpha(false);
    let premultiply = matches!(image.channels, 2 | 4) && filter != Filter::Nearest;
    let mut resizer = Resizer::new();
    let aligned;
    let source = if premultiply {
        let mut buffer = copied(image, layout);
        MulDiv::new().multiply_alpha_inplace(&mut buffer).map_err(|e| fail(&e))?;
        aligned = buffer;
        ImageRef::new(image.width, image.height, aligned.buffer(), layout)
    } else if let Ok(source) = ImageRef::new(image.width, image.height, image.data, layout) {
        Ok(source)
    } else {
        // Wide samples that do not stand at a multiple of their size.
        aligned = copied(image, layout);
        ImageRef::new(image.width, image.height, aligned.buffer(), layout)
    }
    .map_err(|e| fail(&e))?;

    let mut result = if filter == Filter::Nearest {
        let mut result = Buffer::new(width, height, layout);
        let options = options.crop(window.left, window.top, window.width, window.height);
        resizer.resize(&source, &mut result, &options).map_err(|e| fail(&e))?;
        result
    } else {
        // Only the rows that the vertical filter will touch go through the horizontal one.
        let reach = filter.support() * (window.height / f64::from(height)).max(1.0) + 1.0;
        let first = (window.top - reach).floor().max(0.0);
        let last = (window.top + window.height + reach).ceil().min(f64::from(image.height));
        let mut rows = Buffer::new(width, (last - first) as u32, layout);
        let across = options.crop(window.left, first, window.width, last - first);
        resizer.resize(&source, &mut rows, &across).map_err(|e| fail(&e))?;
        let mut result = Buffer::new(width, height, layout);
        let down = options.crop(0.0, window.top - first, f64::from(width), window.height);
        resizer.resize(&rows, &mut result, &down).map_err(|e| fail(&e))?;
        result
    };
    if premultiply {
        MulDiv::new().divide_alpha_inplace(&mut result).map_err(|e| fail(&e))?;
    }
    Ok(Image { data: result.into_vec(), width, height, channels: image.channels, pixel: image.pixel })
}

/// A copy that is aligned for its layout.
fn copied(image: &ImageView<'_>, layout: Layout) -> Buffer<'static> {
    let mut buffer = Buffer::new(image.width, image.height, layout);
    buffer.buffer_mut().copy_from_slice(image.data);
    buffer
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
