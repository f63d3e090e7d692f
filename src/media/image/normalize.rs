//! Pixels to tensors and back.
//!
//! In: an image, a scale, means and deviations by channel, a layout. Out: a float tensor. Invariant: the value of a channel is
//! `(pixel / scale - mean) / std`, in f32 as torchvision computes it. Deliberately absent: a batch dimension (the batcher
//! adds it).

use squilla_core::error::{Error, Result};
use squilla_core::values::{Image, ImageView, PixelType, Tensor};

use crate::image::convert::{Mode, convert};
use crate::image::resize::one_of;

/// The means of ImageNet, for RGB in 0 to 1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// The standard deviations of ImageNet.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The order of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels, rows, columns.
    Chw,
    /// Rows, columns, channels.
    Hwc,
}

impl Layout {
    /// By name.
    pub fn parse(name: &str) -> Result<Self> {
        one_of("tensor layout", name, &[("chw", Layout::Chw), ("hwc", Layout::Hwc)])
    }
}

/// `(pixel / full - mean) / std`, where `full` is the largest value of the pixel type. `mean` and `std` have one value, or one
/// a channel. Errors: `InvalidArgument` for another number of values, or a deviation of zero.
pub fn normalize_image(image: &ImageView<'_>, mean: &[f32], std: &[f32], layout: Layout) -> Result<Tensor> {
    let channels = usize::from(image.channels);
    let spread = |what: &str, values: &[f32]| match values.len() {
        1 => Ok(vec![values[0]; channels]),
        n if n == channels => Ok(values.to_vec()),
        n => Err(Error::invalid_argument(format!("{what} has {n} values for an image of {channels} channels"))),
    };
    let (mean, std) = (spread("mean", mean)?, spread("std", std)?);
    if std.iter().any(|s| *s == 0.0 || !s.is_finite()) {
        return Err(Error::invalid_argument("std has a value that is zero or not finite"));
    }
    let full = match image.pixel {
        PixelType::U8 => 255.0,
        PixelType::U16 => 65535.0,
        PixelType::F32 => 1.0,
    };
    Ok(tensor(image, layout, |value, channel| (value / full - mean[channel]) / std[channel]))
}

/// `pixel / scale`. Errors: `InvalidArgument` for a scale of zero.
pub fn image_to_tensor(image: &ImageView<'_>, layout: Layout, scale: f32) -> Result<Tensor> {
    if scale == 0.0 || !scale.is_finite() {
        return Err(Error::invalid_argument(format!("cannot scale by {scale}")));
    }
    Ok(tensor(image, layout, |value, _| value / scale))
}

/// Samples in their own range, mapped one by one.
fn tensor(image: &ImageView<'_>, layout: Layout, map: impl Fn(f32, usize) -> f32) -> Tensor {
    let (width, height, channels) = (image.width as usize, image.height as usize, usize::from(image.channels));
    let mut data = Vec::with_capacity(width * height * channels);
    match layout {
        Layout::Hwc => {
            let total = width * height * channels;
            data.extend((0..total).map(|i| map(sample(image, i), i % channels)));
        }
        Layout::Chw => {
            for channel in 0..channels {
                match image.pixel {
                    // Bytes have a table of 256 outcomes: the same numbers, without arithmetic for each pixel.
                    PixelType::U8 => {
                        let table: Vec<f32> = (0..=255_u8).map(|v| map(f32::from(v), channel)).collect();
                        data.extend(image.data.iter().skip(channel).step_by(channels).map(|&v| table[usize::from(v)]));
                    }
                    _ => data.extend((0..width * height).map(|i| map(sample(image, i * channels + channel), channel))),
                }
            }
        }
    }
    let shape = match layout {
        Layout::Chw => vec![channels, height, width],
        Layout::Hwc => vec![height, width, channels],
    };
    Tensor { data, shape }
}

fn sample(image: &ImageView<'_>, i: usize) -> f32 {
    match image.pixel {
        PixelType::U8 => f32::from(image.data[i]),
        PixelType::U16 => f32::from(u16::from_ne_bytes([image.data[2 * i], image.data[2 * i + 1]])),
        PixelType::F32 => {
            let at = 4 * i;
            f32::from_ne_bytes([image.data[at], image.data[at + 1], image.data[at + 2], image.data[at + 3]])
        }
    }
}

/// An 8-bit image of a tensor: values times `scale`, rounded, clamped. Errors: `InvalidArgument` for a shape that is no image.
pub fn tensor_to_image(tensor: &Tensor, layout: Layout, scale: f32) -> Result<Image> {
    let shape: Option<[usize; 3]> = match tensor.shape[..] {
        [h, w] => Some([1, h, w]),
        [c, h, w] if layout == Layout::Chw => Some([c, h, w]),
        [h, w, c] => Some([c, h, w]),
        _ => None,
    };
    let [channels, height, width] =
        shape.filter(|[c, h, w]| (1..=4).contains(c) && *h > 0 && *w > 0 && c * h * w == tensor.data.len()).ok_or_else(|| {
            Error::invalid_argument(format!("a tensor of shape {:?} is not an image", tensor.shape))
                .hint("An image has 1 to 4 channels and two more dimensions.")
        })?;
    let planar = layout == Layout::Chw || tensor.shape.len() == 2;
    let plane = width * height;
    let floats: Vec<u8> = (0..plane * channels)
        .map(|i| if planar { tensor.data[(i % channels) * plane + i / channels] } else { tensor.data[i] })
        .flat_map(|v| (v * scale / 255.0).to_ne_bytes())
        .collect();
    let (width, height, channels) = (width as u32, height as u32, channels as u8);
    let view = ImageView { data: &floats, width, height, channels, pixel: PixelType::F32 };
    let data = convert(&view, Mode::new(channels, PixelType::U8)).into_owned();
    Ok(Image { data, width, height, channels, pixel: PixelType::U8 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const RGB: [u8; 6] = [0, 51, 255, 255, 102, 0];

    fn view() -> ImageView<'static> {
        ImageView { data: &RGB, width: 2, height: 1, channels: 3, pixel: PixelType::U8 }
    }

    #[test]
    fn layouts_and_values() {
        let chw = image_to_tensor(&view(), Layout::Chw, 255.0).unwrap();
        assert_eq!((chw.shape, chw.data), (vec![3, 1, 2], vec![0.0, 1.0, 0.2, 0.4, 1.0, 0.0]));
        let hwc = image_to_tensor(&view(), Layout::Hwc, 1.0).unwrap();
        assert_eq!((hwc.shape, hwc.data), (vec![1, 2, 3], vec![0.0, 51.0, 255.0, 255.0, 102.0, 0.0]));
        let imagenet = normalize_image(&view(), &IMAGENET_MEAN, &IMAGENET_STD, Layout::Chw).unwrap();
        assert_eq!(imagenet.data[0], (0.0 - 0.485) / 0.229);
        assert_eq!(imagenet.data[3], (0.4 - 0.456) / 0.224);
    }

    #[test]
    fn tensors_turn_back_into_images() {
        for layout in [Layout::Chw, Layout::Hwc] {
            let tensor = image_to_tensor(&view(), layout, 255.0).unwrap();
            let image = tensor_to_image(&tensor, layout, 255.0).unwrap();
            assert_eq!((image.width, image.height, &image.data[..]), (2, 1, &RGB[..]));
        }
        let grey = tensor_to_image(&Tensor { data: vec![-1.0, 2.0], shape: vec![1, 2] }, Layout::Hwc, 255.0).unwrap();
        assert_eq!((grey.channels, grey.data), (1, vec![0, 255]));
        assert!(tensor_to_image(&Tensor { data: vec![0.0; 5], shape: vec![5, 1, 1] }, Layout::Chw, 1.0).is_err());
    }

    #[test]
    fn arguments_are_checked() {
        assert!(normalize_image(&view(), &[0.0; 2], &[1.0], Layout::Chw).is_err());
        assert!(normalize_image(&view(), &[0.0], &[0.0], Layout::Chw).is_err());
        assert!(image_to_tensor(&view(), Layout::Chw, 0.0).is_err());
    }
}
