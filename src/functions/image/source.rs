//! What the image functions share: pictures from either overload, memory for them, and sizes within the limits.
//!
//! In: a call whose overload takes `image image` or `data bytea`. Out: pixels. Invariant: the bytes of a decoded picture are
//! reserved from the memory pool, by its header, before it is decoded. Deliberately absent: files; the engine reads them.

use std::any::Any;

use squilla_core::columns;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::Call;
use squilla_core::values::{Image, ImageView};
use squilla_media::image::convert::Mode;
use squilla_media::image::decode::{check_pixels, decode_image, decoded_bytes};
use squilla_media::image::info::image_info;

/// Decodes with the memory reserved. What is returned beside the image keeps the bytes of its pixels reserved.
pub(super) fn decode_reserved(
    call: &Call,
    bytes: &[u8],
    mode: Option<Mode>,
    auto_orient: bool,
    max_pixels: Option<u64>,
) -> Result<(Image, Box<dyn Any + Send>)> {
    let mut limits = call.env.limits.clone();
    limits.image_pixels_max = max_pixels.unwrap_or(u64::MAX).min(limits.image_pixels_max);
    // A picture above the limit fails as such, not for want of memory.
    check_pixels(&image_info(bytes)?, &limits)?;
    let reserved = call.env.memory.reserve(decoded_bytes(bytes, mode)? as usize)?;
    let image = decode_image(bytes, mode, auto_orient, &limits)?;
    drop(reserved);
    let kept = call.env.memory.reserve(image.data.len())?;
    Ok((image, kept))
}

/// Runs `f` on the picture of a row, decoded when the overload takes bytes. `None` when NULL.
pub(super) fn with_image<T>(call: &Call, row: usize, mode: Option<Mode>, f: impl FnOnce(&ImageView<'_>) -> Result<T>) -> Result<Option<T>> {
    if call.find("image")?.is_some() {
        return call.image("image", row)?.map(|image| f(&image)).transpose();
    }
    let Some(bytes) = call.bytes("data", row)? else { return Ok(None) };
    let (image, _kept) = decode_reserved(call, bytes, mode, true, None)?;
    f(&image.view()).map(Some)
}

/// A side of a picture to make: at least one pixel, and together within the limit. `None` when NULL.
pub(super) fn target(call: &Call, row: usize) -> Result<Option<(u32, u32)>> {
    let (Some(width), Some(height)) = (call.int("width", row)?, call.int("height", row)?) else { return Ok(None) };
    let side = |value: i64| u32::try_from(value).ok().filter(|side| *side > 0);
    let (Some(w), Some(h)) = (side(width), side(height)) else {
        return Err(Error::invalid_argument(format!("an image cannot have {width}x{height} pixels")));
    };
    if u64::from(w) * u64::from(h) > call.env.limits.image_pixels_max {
        return Err(Error::limit(
            format!("an image of {w}x{h} pixels has more than {}", call.env.limits.image_pixels_max),
            "squilla.max_image_pixels",
        ));
    }
    Ok(Some((w, h)))
}

/// For `with_check`: a constant side must be at least one pixel.
pub(super) fn check_sides(call: &Call) -> Result<()> {
    for name in ["width", "height"] {
        let side = call.arg(name)?;
        if side.constant
            && let Some(value) = columns::int(side, 0)?.filter(|value| *value < 1)
        {
            return Err(Error::invalid_argument(format!("an image cannot have a {name} of {value} pixels")));
        }
    }
    Ok(())
}

/// Parses a text option that is one value for the whole statement. `None` when NULL or not known yet.
pub(super) fn option<T>(call: &Call, name: &str, parse: fn(&str) -> Result<T>) -> Result<Option<T>> {
    call.option_text(name)?.map(parse).transpose()
}

/// A number as the f32 that the arithmetic uses. `None` when NULL.
pub(super) fn float(call: &Call, name: &str, row: usize) -> Result<Option<f32>> {
    Ok(call.float(name, row)?.map(|value| value as f32))
}
