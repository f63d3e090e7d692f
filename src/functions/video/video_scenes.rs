//! `video_scenes`: where the scenes of a video begin and end.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::video::scenes::{Scene, check_threshold, video_scenes};

use crate::expansion::pushed;
use crate::payload::payload;

/// `video_scenes`: video to setof (scene_no, start_s, end_s).
/// Errors: 22P03 not a video or damaged, 22023 bad threshold, 54000 a limit.
pub static VIDEO_SCENES: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/video/video_scenes.sql"), Kernel::Expand(expand)).with_check(check);

fn check(call: &Call) -> Result<()> {
    call.float("threshold", 0)?.map(check_threshold).transpose().map(|_| ())
}

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(threshold) = call.float("threshold", 0)? else { return Ok(Box::new(std::iter::empty())) };
    pushed("video-scenes", move |emit| {
        let Some(payload) = payload(&call, 0)? else { return Ok(()) };
        let limits = &call.env.limits;
        video_scenes(&payload, threshold, limits, &limits.deadline(), &mut |scene| {
            call.env.cancel.check()?;
            emit(row(scene)?)
        })
    })
}

fn row(scene: Scene) -> Result<RecordBatch> {
    let number = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    let columns: [(&str, ArrayRef); 3] = [
        ("scene_no", Arc::new(Int64Array::from(vec![i64::try_from(scene.number).ok()]))),
        ("start_s", number(scene.start_s)),
        ("end_s", number(scene.end_s)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call, columns_match, constant, fixture};

    #[test]
    fn three_colours_are_three_scenes() {
        let args = || vec![bytes(&fixture("video/cuts.mp4")), constant(Float64Array::from(vec![0.3]))];
        let rows: Vec<RecordBatch> = expand(call(&VIDEO_SCENES, args(), 1)).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(rows.len(), 3);
        columns_match(&VIDEO_SCENES, &rows[0]);
        // Dropping after the first row ends the work.
        assert!(expand(call(&VIDEO_SCENES, args(), 1)).unwrap().next().unwrap().is_ok());
    }
}
