//! Resizing against torchvision (bit by bit) and Pillow (within 2).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use squilla_core::limits::Limits;

use super::*;
use crate::image::decode::decode_image;
use crate::image::decode::tests::{golden, input, sha256};

fn resized(entry: &serde_json::Value, fit: Fit) -> Image {
    let image = decode_image(&input(entry["file"].as_str().unwrap()), None, true, &Limits::default()).unwrap();
    let side = |name: &str| entry[name].as_u64().unwrap() as u32;
    let filter = Filter::parse(entry["filter"].as_str().unwrap()).unwrap();
    resize_image(&image.view(), side("width"), side("height"), fit, filter).unwrap()
}

#[test]
fn equals_torchvision() {
    let mut differ = Vec::new();
    for entry in golden()["resize"].as_array().unwrap() {
        let out = resized(entry, Fit::parse(entry["fit"].as_str().unwrap()).unwrap());
        if sha256(&out.data) != entry["sha256"].as_str().unwrap() {
            differ.push(entry.to_string());
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn is_near_pillow() {
    for entry in golden()["pillow_resize"].as_array().unwrap() {
        let out = resized(entry, Fit::Stretch);
        let sum: i64 = out.data.iter().map(|&v| i64::from(v)).sum();
        let near = (sum - entry["sum"].as_i64().unwrap()).abs() as f64 / out.data.len() as f64;
        assert!(near < 0.5, "{entry}: off by {near} a sample");
        let Some(pixels) = entry["pixels"].as_array() else { continue };
        for (ours, theirs) in out.data.iter().zip(pixels) {
            let apart = i64::from(*ours) - theirs.as_i64().unwrap();
            assert!(apart.abs() <= 2, "{}: {ours} against {theirs}", entry["filter"]);
        }
    }
}

#[test]
fn contain_keeps_proportions_within_the_target() {
    assert_eq!(target_size((640, 480), (64, 64), Fit::Contain), (64, 48));
    assert_eq!(target_size((480, 640), (64, 64), Fit::Contain), (48, 64));
    assert_eq!(target_size((10_000, 1), (64, 64), Fit::Contain), (64, 1));
    assert_eq!(target_size((10, 10), (64, 64), Fit::Contain), (64, 64));
    assert_eq!(target_size((640, 480), (64, 64), Fit::Cover), (64, 64));
}

#[test]
fn every_mode_and_filter() {
    for (name, mode) in crate::image::convert::MODES {
        let data = vec![0; 13 * 9 * mode.pixel_bytes() + 1];
        // One byte off: no sample wider than a byte stands where the processor wants it.
        let view = ImageView { data: &data[1..], width: 13, height: 9, channels: mode.channels, pixel: mode.pixel };
        for filter in [Filter::Nearest, Filter::Triangle, Filter::CatmullRom, Filter::Lanczos3] {
            for fit in [Fit::Stretch, Fit::Contain, Fit::Cover] {
                for (w, h) in [(5, 5), (30, 2), (1, 1), (13, 9)] {
                    let out = resize_image(&view, w, h, fit, filter).unwrap();
                    assert_eq!(out.data.len(), out.width as usize * out.height as usize * mode.pixel_bytes(), "{name}");
                }
            }
        }
    }
}

#[test]
fn arguments_are_checked() {
    let view = ImageView { data: &[0], width: 1, height: 1, channels: 1, pixel: PixelType::U8 };
    assert!(resize_image(&view, 0, 1, Fit::Stretch, Filter::Triangle).is_err());
    assert!(Fit::parse("cower").unwrap_err().hint.unwrap().contains("cover"));
    assert_eq!(Filter::parse("BICUBIC").unwrap(), Filter::CatmullRom);
}
