//! `decode_image`: the bytes of an image file to pixels.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::convert::Mode;

use super::source::{decode_reserved, option};

/// `decode_image`: bytea to image. Errors: 22P03 damaged, cut or no image, 54000 above the pixel limit.
pub static DECODE_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/decode_image.sql"), Kernel::Media(kernel)).with_check(check).that_decodes();

fn check(call: &Call) -> Result<()> {
    mode(call)?;
    max_pixels(call, 0).map(|_| ())
}

fn mode(call: &Call) -> Result<Option<Option<Mode>>> {
    option(call, "mode", |name| if name.eq_ignore_ascii_case("native") { Ok(None) } else { Mode::parse(name).map(Some) })
}

fn max_pixels(call: &Call, row: usize) -> Result<Option<u64>> {
    let Some(pixels) = call.int("max_pixels", row)? else { return Ok(None) };
    u64::try_from(pixels).map(Some).map_err(|_| Error::invalid_argument(format!("max_pixels must not be negative, is {pixels}")))
}

fn kernel(call: &Call) -> Result<Outcome> {
    let mode = mode(call)?.flatten();
    // What is decoded stays in memory until the pack is handed over.
    let mut kept = Vec::new();
    call.map_rows(|row| {
        let Some(bytes) = call.bytes("data", row)? else { return Ok(None) };
        let max_pixels = max_pixels(call, row)?;
        let upright = call.boolean("auto_orient", row)?.unwrap_or(true);
        let (image, reserved) = decode_reserved(call, bytes, mode, upright, max_pixels)?;
        kept.push(reserved);
        Ok(Some(image))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::image_of;
    use crate::testing::{bytes_column, call, constant, constant_text, fixture, null, type_matches};
    use arrow::array::BooleanArray;
    use squilla_core::columns::Arg;

    fn options(mode: &str) -> Vec<Arg> {
        vec![constant_text(mode), null(), constant(BooleanArray::from(vec![true]))]
    }

    #[test]
    fn good_and_bad_rows() {
        let rows = ["scene.jpg", "truncated.jpg", "bomb.png", "turned.jpg"].map(|n| Some(fixture(&format!("image/{n}"))));
        let mut args = vec![bytes_column(&rows)];
        args.extend(options("RGB"));
        let outcome = kernel(&call(&DECODE_IMAGE, args, 4)).unwrap();
        type_matches(&DECODE_IMAGE, &outcome.array);
        let sizes: Vec<_> = (0..4).map(|row| image_of(&outcome.array, row).map(|i| (i.width, i.height))).collect();
        assert_eq!(sizes, [Some((120, 80)), None, None, Some((80, 120))]);
        let codes: Vec<_> = outcome.errors.iter().map(|(row, e)| (*row, e.sqlstate())).collect();
        assert_eq!(codes, [(1, "22P03"), (2, "54000")]);
    }

    #[test]
    fn modes_are_checked_at_plan_time() {
        let mut args = vec![bytes_column(&[])];
        args.extend(options("RBG"));
        assert_eq!(check(&call(&DECODE_IMAGE, args, 0)).unwrap_err().sqlstate(), "22023");
        let mut args = vec![bytes_column(&[Some(fixture("image/grey16.png"))])];
        args.extend(options("native"));
        let outcome = kernel(&call(&DECODE_IMAGE, args, 1)).unwrap();
        assert_eq!(image_of(&outcome.array, 0).unwrap().view().mode(), "L16");
    }
}
