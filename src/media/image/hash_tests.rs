//! Hashes against imagehash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use squilla_core::limits::Limits;
use squilla_core::values::PixelType;

use super::*;
use crate::image::decode::decode_image;
use crate::image::decode::tests::{golden, input};

fn hex(bits: &[bool]) -> String {
    bits.chunks(4).map(|nibble| format!("{:x}", nibble.iter().fold(0, |n, &bit| n << 1 | u8::from(bit)))).collect()
}

#[test]
fn bits_equal_imagehash() {
    let mut differ = Vec::new();
    for entry in golden()["hash"].as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let image = decode_image(&input(name), None, false, &Limits::default()).unwrap();
        for method in ["phash", "dhash", "ahash", "whash"] {
            let size = entry["size"].as_u64().unwrap() as usize;
            let bits = image_hash(&image.view(), Method::parse(method).unwrap(), size).unwrap();
            // Another webp decoder stands behind the reference: a bit may differ.
            if hex(&bits) != entry[method].as_str().unwrap() && !name.contains("lossy") {
                differ.push(format!("{name} {method} {size}: {} against {}", hex(&bits), entry[method]));
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn sixty_four_bits_are_a_number() {
    let mut bits = vec![false; 64];
    bits[0] = true;
    bits[63] = true;
    assert_eq!(hash_u64(&bits).unwrap(), 1 << 63 | 1);
    assert!(hash_u64(&[false; 65]).is_err());
}

#[test]
fn tiny_pictures_and_bad_sizes() {
    let view = ImageView { data: &[7], width: 1, height: 1, channels: 1, pixel: PixelType::U8 };
    for method in [Method::Phash, Method::Dhash, Method::Ahash, Method::Whash] {
        assert_eq!(image_hash(&view, method, 8).unwrap().len(), 64);
        assert!(image_hash(&view, method, 1).is_err());
        assert!(image_hash(&view, method, 65).is_err());
    }
    assert!(image_hash(&view, Method::Whash, 6).is_err());
}
