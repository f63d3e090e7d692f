//! `thumbnail`: a small jpeg of an image.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::decode::check_pixels;
use squilla_media::image::info::image_info;
use squilla_media::image::thumbnail::{check_size, thumbnail, thumbnail_bytes, thumbnail_of};

/// `thumbnail`: bytea or image to bytea. Errors: 22P03 damaged image, 22023 a size outside 1 to 16384, 54000 above the pixel limit.
pub static THUMBNAIL: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/thumbnail.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    size(call, 0)?.map(check_size).transpose().map(|_| ())
}

fn size(call: &Call, row: usize) -> Result<Option<u32>> {
    // 0 is outside what is taken, as is what does not fit.
    Ok(call.int("size", row)?.map(|size| u32::try_from(size).unwrap_or(0)))
}

fn kernel(call: &Call) -> Result<Outcome> {
    let limits = &call.env.limits;
    call.map_rows(|row| {
        let Some(size) = size(call, row)? else { return Ok(None) };
        if call.find("image")?.is_some() {
            return call.image("image", row)?.map(|image| thumbnail_of(&image, size)).transpose();
        }
        let Some(bytes) = call.bytes("data", row)? else { return Ok(None) };
        let info = image_info(bytes)?;
        check_pixels(&info, limits)?;
        let _reserved = call.env.memory.reserve(thumbnail_bytes(&info, size) as usize)?;
        thumbnail(bytes, size, limits).map(Some)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::images;
    use crate::testing::{bytes_column, call, call_overload, fixture, int, type_matches};
    use arrow::array::AsArray;

    #[test]
    fn of_bytes_and_of_pixels() {
        let rows = [Some(fixture("image/turned.jpg")), Some(fixture("image/truncated.jpg")), Some(fixture("image/bomb.png"))];
        let outcome = kernel(&call(&THUMBNAIL, vec![bytes_column(&rows), int(30)], 3)).unwrap();
        type_matches(&THUMBNAIL, &outcome.array);
        let info = image_info(outcome.array.as_binary::<i64>().value(0)).unwrap();
        assert_eq!((info.width, info.height, info.format.name()), (20, 30, "jpeg"));
        let codes: Vec<_> = outcome.errors.iter().map(|(row, e)| (*row, e.sqlstate())).collect();
        assert_eq!(codes, [(1, "22P03"), (2, "54000")]);
        let outcome = kernel(&call_overload(&THUMBNAIL, 1, vec![images(&["image/alpha.png"]), int(60)], 1)).unwrap();
        assert_eq!(image_info(outcome.array.as_binary::<i64>().value(0)).unwrap().width, 60);
        let outcome = kernel(&call(&THUMBNAIL, vec![bytes_column(&rows[..1]), int(-1)], 1)).unwrap();
        assert_eq!(outcome.errors[0].1.sqlstate(), "22023");
    }
}
