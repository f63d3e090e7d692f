//! Pixels to the tensor a vision model wants, as its preprocessor_config.json says.
//!
//! In: an image of any mode. Out: f32 planes, channels first, resized, cropped or letterboxed, rescaled and normalised.
//! Invariants: resizing is Pillow's (`resample`); only the part that survives the crop is computed.
//! Deliberately absent: decoding, and scaling while decoding, which is not equal to the reference.

use std::borrow::Cow;
use std::f64::consts::PI;

use serde_json::Value;
use squilla_core::error::{Error, Result};
use squilla_core::values::{ImageView, PixelType};

use crate::resample::{Part, resample};

/// How an image is fitted to the model's input.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit {
    /// Squash to width and height.
    Exact(u32, u32),
    /// Scale the shorter side to this many pixels.
    Shortest(u32),
    /// Scale the shorter side to the first number, but the longer one to no more than the second.
    ShortestLongest(u32, u32),
    /// Scale to fit width and height, centre, and fill the rest with this level.
    Letterbox(u32, u32, u8),
    /// Leave the size as it is.
    Keep,
}

/// Everything that preprocessor_config.json says about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelSpec {
    /// Fitting.
    pub fit: Fit,
    /// Centre crop to width and height after fitting; what lies outside the image is 0.
    pub crop: Option<(u32, u32)>,
    /// Resampling filter.
    pub filter: Filter,
    /// Factor applied to the 0..=255 levels; 1.0 = none.
    pub rescale: f32,
    /// Subtracted after rescaling.
    pub mean: [f32; 3],
    /// Divides after that.
    pub std: [f32; 3],
}

/// Resampling filters, by Pillow's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
    /// 4
    Box,
    /// 5
    Hamming,
}

impl Filter {
    /// Half its width, in pixels of the smaller picture.
    pub(crate) const fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// Its height at `x` pixels of the smaller picture from the middle.
    pub(crate) fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let far = x.abs();
        match self {
            Filter::Nearest | Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - far).max(0.0),
            Filter::Hamming if far == 0.0 => 1.0,
            Filter::Hamming if far >= 1.0 => 0.0,
            Filter::Hamming => sinc(far) * (0.54 + 0.46 * (far * PI).cos()),
            // Keys' cubic with a = -0.5.
            Filter::Bicubic if far < 1.0 => (1.5 * far - 2.5) * far * far + 1.0,
            Filter::Bicubic if far < 2.0 => ((-0.5 * far + 2.5) * far - 4.0) * far + 2.0,
            Filter::Bicubic => 0.0,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

/// An image as a model takes it.
#[derive(Clone, Debug)]
pub struct ImageItem {
    /// 3 planes of `height * width` values.
    pub planes: Vec<f32>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// Where the pixels of the source went: `x_model = x_source * scale_x + offset_x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Model pixels per source pixel.
    pub scale_x: f64,
    /// Model pixels per source pixel.
    pub scale_y: f64,
    /// Model pixels.
    pub offset_x: f64,
    /// Model pixels.
    pub offset_y: f64,
}

/// The size after fitting and the window cut from it (which may reach outside).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plan {
    resized: (u32, u32),
    window: (i64, i64, u32, u32),
    fill: u8,
    placement: Placement,
}

impl PixelSpec {
    /// Reads preprocessor_config.json. `size` is the graph's own input size, used where the file says nothing.
    pub fn read(config: &Value, size: Option<(u32, u32)>, letterbox: bool) -> Self {
        let name = config["image_processor_type"].as_str().or_else(|| config["feature_extractor_type"].as_str()).unwrap_or("");
        let on = |key: &str, default: bool| config[key].as_bool().unwrap_or(default);
        let crop = pair(&config["crop_size"]).or_else(|| number(&config["crop_size"]).map(|n| (n, n)));
        let mut crop = crop.filter(|_| on("do_center_crop", false));
        let fit = if letterbox || on("letterbox", false) {
            let (w, h) = pair(&config["size"]).or(size).unwrap_or((640, 640));
            Fit::Letterbox(w, h, number(&config["pad_value"]).map_or(114, |n| n.min(255) as u8))
        } else if config.is_null() {
            let (w, h) = size.unwrap_or((224, 224));
            crop = Some((w, h));
            // The usual evaluation transform: the shorter side to 8/7 of the crop.
            Fit::Shortest((f64::from(w.min(h)) / 0.875) as u32)
        } else if !on("do_resize", true) {
            Fit::Keep
        } else {
            read_fit(config, name, size, &mut crop)
        };
        let triple = |key: &str, default: f32| {
            let values = config[key].as_array().map(|a| a.iter().filter_map(Value::as_f64).map(|v| v as f32).collect::<Vec<_>>());
            match values.as_deref() {
                Some([a, b, c]) => [*a, *b, *c],
                Some([a]) => [*a; 3],
                _ => [default; 3],
            }
        };
        let raw = config.is_null() && !letterbox;
        let normalise = on("do_normalize", raw || config["image_mean"].is_array());
        let rescale = if on("do_rescale", true) { config["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0) as f32 } else { 1.0 };
        let (mean, std) = match (normalise, raw) {
            (false, _) => ([0.0; 3], [1.0; 3]),
            (true, true) => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            (true, false) => (triple("image_mean", 0.5), triple("image_std", 0.5)),
        };
        let default = if letterbox { Filter::Bilinear } else { Filter::Bicubic };
        let filter = match config["resample"].as_u64() {
            Some(0) => Filter::Nearest,
            Some(1) => Filter::Lanczos,
            Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            Some(4) => Filter::Box,
            Some(5) => Filter::Hamming,
            _ if raw => Filter::Bilinear,
            _ => default,
        };
        Self { fit, crop, filter, rescale, mean, std }
    }

    /// The tensor of an image, and where its pixels went.
    pub fn apply(&self, image: &ImageView<'_>) -> Result<(ImageItem, Placement)> {
        if image.width == 0 || image.height == 0 {
            return Err(Error::invalid_argument("the image has no pixels"));
        }
        let plan = self.plan(image.width, image.height);
        let rgb = to_rgb(image)?;
        let canvas = resize(&rgb, (image.width, image.height), &plan, self.filter);
        let (width, height) = (plan.window.2 as usize, plan.window.3 as usize);
        let size = width * height;
        let levels: [[f32; 256]; 3] =
            std::array::from_fn(|channel| std::array::from_fn(|level| (level as f32 * self.rescale - self.mean[channel]) / self.std[channel]));
        let mut planes = vec![0.0f32; 3 * size];
        let (red, others) = planes.split_at_mut(size);
        let (green, blue) = others.split_at_mut(size);
        for (((pixel, r), g), b) in canvas.as_chunks::<3>().0.iter().zip(red).zip(green).zip(blue) {
            *r = levels[0][usize::from(pixel[0])];
            *g = levels[1][usize::from(pixel[1])];
            *b = levels[2][usize::from(pixel[2])];
        }
        Ok((ImageItem { planes, width, height }, plan.placement))
    }

    /// What a picture of this size is scaled to, before anything is cut from it; `None` where it is not made smaller.
    pub fn target(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        let (w, h) = self.plan(width.max(1), height.max(1)).resized;
        (w < width && h < height).then_some((w, h))
    }

    /// Bytes of a picture made ready, where they do not depend on its size.
    pub fn ready_bytes(&self) -> Option<usize> {
        let (width, height) = match (self.crop, &self.fit) {
            (Some(size), _) => size,
            (None, Fit::Exact(width, height) | Fit::Letterbox(width, height, _)) => (*width, *height),
            _ => return None,
        };
        Some(width as usize * height as usize * 3 * size_of::<f32>())
    }

    fn plan(&self, width: u32, height: u32) -> Plan {
        let (w, h) = (f64::from(width), f64::from(height));
        let whole = |resized: (u32, u32)| Plan {
            resized,
            window: (0, 0, resized.0, resized.1),
            fill: 0,
            placement: Placement { scale_x: f64::from(resized.0) / w, scale_y: f64::from(resized.1) / h, offset_x: 0.0, offset_y: 0.0 },
        };
        let mut plan = match self.fit {
            Fit::Keep => whole((width, height)),
            Fit::Exact(tw, th) => whole((tw, th)),
            Fit::Shortest(side) => whole(shortest(width, height, side, None)),
            Fit::ShortestLongest(side, longest) => whole(shortest(width, height, side, Some(longest))),
            Fit::Letterbox(tw, th, fill) => {
                let gain = (f64::from(tw) / w).min(f64::from(th) / h);
                let side = |n: f64| (n * gain).round_ties_even().max(1.0) as u32;
                let (nw, nh) = (side(w), side(h));
                let before = |room: u32, used: u32| ((f64::from(room) - f64::from(used)) / 2.0 - 0.1).round_ties_even();
                let (left, top) = (before(tw, nw), before(th, nh));
                Plan {
                    resized: (nw, nh),
                    window: (-(left as i64), -(top as i64), tw, th),
                    fill,
                    placement: Placement { scale_x: gain, scale_y: gain, offset_x: left, offset_y: top },
                }
            }
        };
        if let Some((cw, ch)) = self.crop {
            // Floor division, as the reference: an image smaller than the crop is centred in zeros.
            let left = (i64::from(plan.resized.0) - i64::from(cw)).div_euclid(2);
            let top = (i64::from(plan.resized.1) - i64::from(ch)).div_euclid(2);
            plan.window = (left, top, cw, ch);
            plan.placement.offset_x = -(left as f64);
            plan.placement.offset_y = -(top as f64);
        }
        plan
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_f64().filter(|n| (1.0..=65_536.0).contains(n)).map(|n| n as u32)
}

/// {width, height}
fn pair(value: &Value) -> Option<(u32, u32)> {
    Some((number(&value["width"])?, number(&value["height"])?))
}

fn read_fit(config: &Value, name: &str, graph: Option<(u32, u32)>, crop: &mut Option<(u32, u32)>) -> Fit {
    let size = &config["size"];
    if let Some((w, h)) = pair(size) {
        return Fit::Exact(w, h);
    }
    let side = number(&size["shortest_edge"]).or_else(|| number(size));
    let Some(side) = side else {
        let (w, h) = graph.unwrap_or((224, 224));
        return Fit::Exact(w, h);
    };
    if name.contains("ConvNext") {
        // Small inputs are scaled larger and cropped, large ones squashed.
        let part = config["crop_pct"].as_f64().unwrap_or(224.0 / 256.0);
        if side >= 384 {
            return Fit::Exact(side, side);
        }
        *crop = Some((side, side));
        return Fit::Shortest((f64::from(side) / part) as u32);
    }
    if let Some(longest) = number(&size["longest_edge"]).or_else(|| number(&config["max_size"])) {
        return Fit::ShortestLongest(side, longest);
    }
    let by_short_side = ["CLIP", "Bit", "MobileNet", "Detr", "Levit", "PoolFormer", "Blip"].iter().any(|n| name.contains(n));
    if number(size).is_some() && !by_short_side {
        return Fit::Exact(side, side);
    }
    Fit::Shortest(side)
}

/// The target truncates, as the reference does.
fn shortest(width: u32, height: u32, side: u32, longest: Option<u32>) -> (u32, u32) {
    let (short, long) = (f64::from(width.min(height)), f64::from(width.max(height)));
    let (mut side, mut raw) = (side, f64::from(side));
    if let Some(longest) = longest.map(f64::from).filter(|l| long / short * raw > *l) {
        raw = longest * short / long;
        side = raw.round_ties_even().max(1.0) as u32;
    }
    if width.min(height) == side {
        return (width, height);
    }
    let other = ((raw * long / short) as u32).max(1);
    if width <= height { (side, other) } else { (other, side) }
}

/// 8-bit RGB, whatever the mode. Alpha is dropped, as Pillow's convert("RGB") does.
fn to_rgb<'a>(image: &ImageView<'a>) -> Result<Cow<'a, [u8]>> {
    let channels = usize::from(image.channels.max(1));
    let count = image.width as usize * image.height as usize;
    if image.data.len() != count * channels * image.pixel.bytes() {
        return Err(Error::internal("an image whose bytes do not fit its size"));
    }
    let levels: Cow<'a, [u8]> = match image.pixel {
        PixelType::U8 => image.data.into(),
        PixelType::U16 => image.data.chunks_exact(2).map(|b| (u16::from_ne_bytes([b[0], b[1]]) / 257) as u8).collect::<Vec<_>>().into(),
        PixelType::F32 => {
            let level = |b: &[u8]| (f32::from_ne_bytes([b[0], b[1], b[2], b[3]]) * 255.0).round().clamp(0.0, 255.0) as u8;
            image.data.chunks_exact(4).map(level).collect::<Vec<_>>().into()
        }
    };
    Ok(match channels {
        3 => levels,
        1 | 2 => levels.chunks_exact(channels).flat_map(|p| [p[0]; 3]).collect::<Vec<_>>().into(),
        _ => levels.chunks_exact(channels).flat_map(|p| [p[0], p[1], p[2]]).collect::<Vec<_>>().into(),
    })
}

/// Resizes and cuts: returns `window` pixels, RGB.
fn resize<'a>(rgb: &'a [u8], (width, height): (u32, u32), plan: &Plan, filter: Filter) -> Cow<'a, [u8]> {
    let (nw, nh) = plan.resized;
    let (left, top, cw, ch) = plan.window;
    if (nw, nh) == (width, height) && plan.window == (0, 0, width, height) {
        return rgb.into();
    }
    // The part of the window that lies on the image.
    let (x0, x1) = (left.clamp(0, i64::from(nw)), (left + i64::from(cw)).clamp(0, i64::from(nw)));
    let (y0, y1) = (top.clamp(0, i64::from(nh)), (top + i64::from(ch)).clamp(0, i64::from(nh)));
    let (vw, vh) = ((x1 - x0) as u32, (y1 - y0) as u32);
    let mut canvas = vec![plan.fill; cw as usize * ch as usize * 3];
    if vw == 0 || vh == 0 {
        return canvas.into();
    }
    let part = Part { left: x0 as u32, top: y0 as u32, width: vw, height: vh };
    let down = resample(rgb, (width, height), (nw, nh), part, filter);
    if (vw, vh) == (cw, ch) {
        return down.into();
    }
    let (at_x, at_y, row) = ((x0 - left) as usize, (y0 - top) as usize, vw as usize * 3);
    for (y, line) in down.chunks_exact(row).enumerate() {
        let start = ((at_y + y) * cw as usize + at_x) * 3;
        if let Some(target) = canvas.get_mut(start..start + row) {
            target.copy_from_slice(line);
        }
    }
    canvas.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_follow_the_reference() {
        assert_eq!(shortest(333, 257, 73, None), (94, 73));
        assert_eq!(shortest(640, 480, 800, Some(1333)), (1066, 800));
        assert_eq!(shortest(2000, 500, 800, Some(1333)), (1333, 333));
        let spec = PixelSpec::read(&json!({"size": {"height": 160, "width": 160}, "letterbox": true, "do_normalize": false}), None, false);
        let plan = spec.plan(640, 360);
        assert_eq!((plan.resized, plan.window), ((160, 90), (0, -35, 160, 160)));
        assert_eq!(PixelSpec::read(&json!({"size": 224, "image_processor_type": "ViTImageProcessor"}), None, false).fit, Fit::Exact(224, 224));
        assert_eq!(PixelSpec::read(&json!({"size": 224, "feature_extractor_type": "CLIPFeatureExtractor"}), None, false).fit, Fit::Shortest(224));
    }

    #[test]
    fn a_crop_larger_than_the_image_is_filled_with_zeros() {
        let config =
            json!({"do_resize": false, "do_center_crop": true, "crop_size": {"height": 4, "width": 4}, "do_normalize": false, "rescale_factor": 1.0});
        let data = vec![9u8; 2 * 2 * 3];
        let view = ImageView { data: &data, width: 2, height: 2, channels: 3, pixel: PixelType::U8 };
        let (item, _) = PixelSpec::read(&config, None, false).apply(&view).unwrap();
        assert_eq!(item.planes[..16], [0., 0., 0., 0., 0., 9., 9., 0., 0., 9., 9., 0., 0., 0., 0., 0.]);
    }

    #[test]
    fn other_modes_become_rgb() {
        let grey16: Vec<u8> = [65535u16, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let view = ImageView { data: &grey16, width: 2, height: 1, channels: 1, pixel: PixelType::U16 };
        assert_eq!(to_rgb(&view).unwrap()[..], [255, 255, 255, 0, 0, 0]);
        let rgba = [1u8, 2, 3, 4];
        let view = ImageView { data: &rgba, width: 1, height: 1, channels: 4, pixel: PixelType::U8 };
        assert_eq!(to_rgb(&view).unwrap()[..], [1, 2, 3]);
        assert!(to_rgb(&ImageView { width: 5, ..view }).is_err());
    }
}
