//! Headers of the golden files against Pillow, from every prefix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::image::decode::tests::{golden, input};

#[test]
fn facts_equal_pillows() {
    for entry in golden()["decode"].as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let info = image_info(&input(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let number = |key: &str| entry[key].as_u64().unwrap() as u32;
        assert_eq!((info.width, info.height), (number("width"), number("height")), "{name}");
        assert_eq!(info.frames, Some(number("frames")), "{name}");
        assert_eq!(u32::from(info.exif_orientation), number("orientation"), "{name}");
        assert_eq!(info.format.name(), entry["format"].as_str().unwrap(), "{name}");
        let mode = match entry["mode"].as_str().unwrap() {
            "1" => "L",
            "P" => "RGB",
            "I;16" => "L16",
            other => other,
        };
        assert_eq!(info.mode, mode, "{name}");
    }
}

/// What a reader of ranges relies on: a prefix gives the facts, or asks for more until it does; it never lies.
#[test]
fn every_prefix_answers_or_asks() {
    for entry in golden()["decode"].as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let bytes = input(name);
        let whole = image_info(&bytes).unwrap();
        for length in (0..bytes.len().min(700)).chain([bytes.len() / 2, bytes.len() - 1]) {
            match read_header(&bytes[..length], false).unwrap_or_else(|e| panic!("{name} at {length}: {e}")) {
                Header::More(bytes) => assert!(bytes > length as u64),
                Header::Info(mut info) => {
                    assert!(info.frames.is_none() || info.frames == whole.frames, "{name} at {length}");
                    info.frames = whole.frames;
                    assert_eq!(info, whole, "{name} at {length}");
                }
            }
            // As a whole file the same bytes are right or cut, and never a panic.
            let _ = read_header(&bytes[..length], true);
        }
    }
}

#[test]
fn a_few_kilobytes_suffice() {
    for name in ["baseline.jpg", "progressive.jpg", "rgb.png", "lossy.webp", "anim.webp", "rgb.bmp", "anim.gif"] {
        let bytes = input(name);
        let prefix = &bytes[..bytes.len().min(1024)];
        assert!(matches!(read_header(prefix, false).unwrap(), Header::Info(_)), "{name}");
    }
}

#[test]
fn asking_for_more_comes_to_an_end() {
    let bytes = input("raw.tiff");
    let mut length = 16;
    for _ in 0..10 {
        match read_header(&bytes[..length], false).unwrap() {
            Header::Info(_) => return,
            Header::More(more) => length = (more as usize).min(bytes.len()),
        }
    }
    panic!("asked ten times");
}

#[test]
fn strangers_are_named() {
    for (bytes, looks) in [
        (&b"\0\0\0\x20ftypavif\0\0\0\0"[..], "AVIF"),
        (b"%PDF-1.4 and so on", "PDF"),
        (b"<svg xmlns='http'>", "SVG"),
        (b"hello world, this", "68 65 6c"),
    ] {
        let error = image_info(bytes).unwrap_err();
        assert_eq!(error.sqlstate(), "22P03");
        assert!(error.detail.unwrap().contains(looks));
    }
    assert_eq!(image_info(b"").unwrap_err().message, "the image is empty");
    assert_eq!(read_header(b"\xff\xd8", false).unwrap(), Header::More(PREFIX_BYTES));
}

#[test]
fn transparent_palettes_have_alpha() {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x05\0\0\0\x07\x04\x03\0\0\0crc!".to_vec();
    png.extend_from_slice(b"\0\0\0\x01tRNS\0crc!\0\0\0\0IDATcrc!");
    let info = image_info(&png).unwrap();
    assert_eq!((info.width, info.height, info.channels, info.mode, info.bits), (5, 7, 4, "RGBA", 4));
}

#[test]
fn damaged_headers_are_named() {
    let mut jpeg = input("baseline.jpg");
    let sof = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[sof + 9] = 7;
    assert!(image_info(&jpeg).unwrap_err().message.starts_with("damaged jpeg"));
    assert!(image_info(b"\xff\xd8\xff\xd9").unwrap_err().message.contains("no frame header"));
    assert!(image_info(b"BM____________\x07\0\0\0____").unwrap_err().message.contains("unknown header"));
    assert!(image_info(b"GIF89a\x05\0\x05\0\0\0\0;").unwrap_err().message.contains("no picture"));
}
