//! Pixels of the golden files against Pillow; damage; limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use serde_json::Value;
use squilla_core::error::Kind;

use super::*;

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/image"))
}

/// A golden input file.
pub(crate) fn input(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

/// What the reference libraries said.
pub(crate) fn golden() -> Value {
    serde_json::from_slice(&input("golden.json")).unwrap()
}

/// SHA-256 as in the golden file, so that the file stays small.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn decode(bytes: &[u8], mode: &str) -> Result<Image> {
    decode_image(bytes, Some(Mode::parse(mode).unwrap()), true, &Limits::default())
}

#[test]
fn pixels_equal_pillows() {
    let mut differ = Vec::new();
    for entry in golden()["decode"].as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        // Deep grey is scaled here and clipped there; lossy webp has another decoder there: within one of 255.
        if name == "grey16.png" {
            continue;
        }
        let image = decode(&input(name), "RGB").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!([image.width, image.height].map(u64::from).to_vec(), numbers(&entry["upright"]), "{name}");
        let exact = sha256(&image.data) == entry["rgb_sha256"].as_str().unwrap();
        if name.contains("lossy") && !exact {
            for channel in 0..3 {
                let sum: f64 = image.data.iter().skip(channel).step_by(3).map(|&v| f64::from(v)).sum();
                let mean = sum / f64::from(image.width * image.height);
                assert!((mean - entry["rgb_mean"][channel].as_f64().unwrap()).abs() < 0.5, "{name}");
            }
            continue;
        }
        let grey = decode(&input(name), "L").unwrap();
        if !exact || sha256(&grey.data) != entry["l_sha256"].as_str().unwrap() {
            differ.push(name.to_owned());
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

#[test]
fn deep_grey_keeps_its_depth() {
    let deep = decode_image(&input("grey16.png"), None, true, &Limits::default()).unwrap();
    assert_eq!(deep.view().mode(), "L16");
    let shallow = decode(&input("grey16.png"), "L").unwrap();
    let high: Vec<u8> = deep.data.chunks_exact(2).map(|v| (u16::from_ne_bytes([v[0], v[1]]) >> 8) as u8).collect();
    assert_eq!(shallow.data, high);
}

#[test]
fn the_orientation_is_applied_only_when_asked() {
    let bytes = input("orient6.jpg");
    let stored = decode_image(&bytes, None, false, &Limits::default()).unwrap();
    let upright = decode_image(&bytes, None, true, &Limits::default()).unwrap();
    assert_eq!((stored.width, stored.height), (24, 16));
    assert_eq!((upright.width, upright.height), (16, 24));
}

#[test]
fn bombs_are_refused_from_the_header() {
    for name in ["bomb.jpg", "bomb.png"] {
        let error = decode(&input(name), "RGB").unwrap_err();
        assert_eq!(error.kind, Kind::LimitExceeded, "{name}: {error}");
        assert!(error.hint.unwrap().contains("squilla.max_image_pixels"));
    }
    let small = Limits { image_pixels_max: 97 * 61 - 1, ..Limits::default() };
    assert!(decode_image(&input("rgb.png"), None, true, &small).is_err());
    let enough = Limits { image_pixels_max: 97 * 61, ..Limits::default() };
    assert!(decode_image(&input("rgb.png"), None, true, &enough).is_ok());
}

#[test]
fn cut_files_are_errors() {
    for name in [
        "baseline.jpg",
        "progressive.jpg",
        "rgb.png",
        "palette.png",
        "lossless.webp",
        "lossy.webp",
        "rgb.bmp",
        "lzw.tiff",
        "deflate.tiff",
        "still.gif",
    ] {
        let bytes = input(name);
        for part in [1, 2, 3] {
            let cut = &bytes[..bytes.len() * part / 4];
            let error = decode(cut, "RGB").map(|_| ()).expect_err(&format!("{name}, {part} quarters"));
            assert_eq!(error.kind, Kind::BadMedia, "{name}: {error}");
            assert!(error.message.is_ascii() && error.message.contains("ed "), "{name}: {error}");
        }
    }
    assert_eq!(decode(&input("baseline.jpg")[..2000], "RGB").unwrap_err().message, "truncated jpeg image");
    assert_eq!(decode(&input("rgb.png")[..2000], "RGB").unwrap_err().message, "truncated png image");
}

/// Bytes changed at random places: no panic, and no error but bad media or a limit.
#[test]
fn damage_is_a_row_error() {
    let limits = Limits { image_pixels_max: 1_000_000, ..Limits::default() };
    let mut state = 12345_u64;
    let mut next = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % bound
    };
    for entry in golden()["decode"].as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let good = input(name);
        for _ in 0..25 {
            let mut bytes = good.clone();
            for _ in 0..1 + next(8) {
                let bound = if next(2) == 0 { bytes.len() } else { bytes.len().min(200) };
                let at = next(bound);
                bytes[at] = next(256) as u8;
            }
            if let Err(error) = decode_image(&bytes, None, true, &limits) {
                assert!(matches!(error.kind, Kind::BadMedia | Kind::LimitExceeded), "{name}: {error}");
            }
        }
    }
}

#[test]
fn trailing_and_stray_bytes_do_no_harm() {
    let mut bytes = input("baseline.jpg");
    bytes.extend_from_slice(b"trailing garbage");
    assert_eq!(decode(&bytes, "RGB").unwrap(), decode(&input("baseline.jpg"), "RGB").unwrap());
    let mut bytes = input("baseline.jpg");
    let quantizers = bytes.windows(2).position(|w| w == [0xff, 0xdb]).unwrap();
    bytes.splice(quantizers..quantizers, [0, 0, 0]);
    assert_eq!(decode(&bytes, "RGB").unwrap(), decode(&input("baseline.jpg"), "RGB").unwrap());
}

#[test]
fn a_scaled_decode_is_no_smaller_than_asked() {
    let bytes = input("baseline.jpg");
    for (least, size) in [((97, 61), (97, 61)), ((48, 31), (49, 31)), ((49, 31), (49, 31)), ((50, 31), (97, 61)), ((1, 1), (13, 8))] {
        let image = decode_at_least(&bytes, None, true, least, &Limits::default()).unwrap();
        assert_eq!((image.width, image.height), size);
    }
    let turned = decode_at_least(&input("orient6.jpg"), None, true, (8, 12), &Limits::default()).unwrap();
    assert_eq!((turned.width, turned.height), (8, 12));
}

#[test]
fn memory_is_told_from_the_header() {
    assert_eq!(decoded_bytes(&input("baseline.jpg"), Some(Mode::RGB)).unwrap(), 97 * 61 * 3);
    assert_eq!(decoded_bytes(&input("baseline.jpg"), Some(Mode::L)).unwrap(), 97 * 61 * 4);
    assert_eq!(decoded_bytes(&input("progressive.jpg"), Some(Mode::RGB)).unwrap(), 97 * 61 * 9);
    assert_eq!(decoded_bytes(&input("bomb.png"), None).unwrap(), 60_000 * 60_000);
}

/// Colours in separate tiles: the decoder would panic.
#[test]
fn tiled_planes_are_refused() {
    let mut bytes = input("raw.tiff");
    let ifd = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes([bytes[ifd], bytes[ifd + 1]]));
    for entry in 0..entries {
        let at = ifd + 2 + 12 * entry;
        match u16::from_le_bytes([bytes[at], bytes[at + 1]]) {
            284 => bytes[at + 8] = 2,
            // Rows per strip becomes tile width.
            278 => bytes[at..at + 2].copy_from_slice(&322_u16.to_le_bytes()),
            _ => {}
        }
    }
    assert!(decode(&bytes, "RGB").unwrap_err().detail.unwrap().contains("separate tiles"));
}

/// Every file of a folder, by hand: `SQUILLA_IMAGES=folder cargo test -p squilla-media a_folder -- --ignored --nocapture`.
#[test]
#[ignore = "reads a folder that is not part of the repository"]
fn a_folder_of_images() {
    let folder = std::env::var("SQUILLA_IMAGES").unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names {
        let bytes = std::fs::read(&path).unwrap();
        let start = std::time::Instant::now();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let line = match decode(&bytes, "RGB") {
            Ok(image) => format!("ok {}x{} {}", image.width, image.height, sha256(&image.data)),
            Err(error) => {
                assert!(matches!(error.kind, Kind::BadMedia | Kind::LimitExceeded), "{name}: {error}");
                format!("error {} {error} | {}", error.sqlstate(), error.detail.clone().unwrap_or_default())
            }
        };
        let info = image_info(&bytes).map_or_else(|e| format!("error {e}"), |i| format!("{} {} {:?}", i.mode, i.bits, i.frames));
        let hashes: Vec<String> =
            decode(&bytes, "L").map_or(vec![], |grey| ["phash", "dhash", "ahash", "whash"].map(|m| format!("{:016x}", hash_of(&grey, m))).to_vec());
        println!("{name}\t{line}\t{info}\t{} ms\t{}", start.elapsed().as_millis(), hashes.join(" "));
    }
}

fn hash_of(image: &Image, method: &str) -> u64 {
    use crate::image::hash::{Method, hash_u64, image_hash};
    hash_u64(&image_hash(&image.view(), Method::parse(method).unwrap(), 8).unwrap()).unwrap()
}
