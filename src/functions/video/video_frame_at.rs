//! `video_frame_at`: the frame shown at a moment.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::video::frames::video_frame_at;

use crate::payload::payload;

/// `video_frame_at`: video and seconds to image. Errors: 22P03 not a video or damaged, 22023 outside it, 54000 a limit.
pub static VIDEO_FRAME_AT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/video/video_frame_at.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    match call.float("t", 0)? {
        Some(t) if !(t.is_finite() && t >= 0.0) => Err(Error::invalid_argument(format!("a video has no frame at {t} s"))),
        _ => Ok(()),
    }
}

fn kernel(call: &Call) -> Result<Outcome> {
    let limits = &call.env.limits;
    call.map_rows(|row| match (payload(call, row)?, call.float("t", row)?) {
        (Some(payload), Some(at_s)) => Ok(Some(video_frame_at(&payload, at_s, limits, &limits.deadline())?.image)),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, column, fixture, type_matches};
    use arrow::array::Float64Array;
    use squilla_core::columns::{Arg, image};

    #[test]
    fn the_square_is_where_it_was_at_that_moment() {
        let rows = vec![Some(fixture("video/square.mp4")); 3];
        let args = vec![bytes_column(&rows), column(Float64Array::from(vec![0.0, 1.95, 99.0]))];
        let outcome = kernel(&call(&VIDEO_FRAME_AT, args, 3)).unwrap();
        type_matches(&VIDEO_FRAME_AT, &outcome.array);
        assert_eq!(outcome.errors.iter().map(|(row, e)| (*row, e.sqlstate())).collect::<Vec<_>>(), [(2, "22023")]);
        let arg = Arg { array: outcome.array, constant: false };
        for (row, frame_no) in [(0, 0_usize), (1, 19)] {
            let picture = image(&arg, row).unwrap().unwrap();
            let luma = |x: usize| picture.data[(18 * 64 + x) * 3];
            assert!(luma(frame_no + 8) > 200, "inside the square of frame {frame_no}");
            assert!(luma((frame_no + 8 + 32) % 64) < 150, "outside of it");
        }
    }
}
