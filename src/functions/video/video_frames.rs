//! `video_frames`: the frames of a video, as they are decoded.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use squilla_core::columns::Output;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, Ranged, SqlFunction};
use squilla_core::values::Image;
use squilla_media::video::frames::{VideoFrame, video_frames};
use squilla_media::video::select::FrameOptions;

use crate::expansion::pushed;
use crate::payload::payload;

/// `video_frames`: video to setof (frame_no, pts_s, is_keyframe, image).
/// Errors: 22P03 not a video or damaged, 22023 bad option, 54000 a limit.
pub static VIDEO_FRAMES: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/video/video_frames.sql"), Kernel::Expand(expand)).with_range(PTS).with_check(check);

fn check(call: &Call) -> Result<()> {
    options(call).map(|_| ())
}

/// A condition on `pts_s` is a window of the video: what lies outside is not decoded. Sampling and counting start at
/// `start_s`, so with them only the end moves.
const PTS: Ranged = Ranged { column: "pts_s", from: "start_s", to: "end_s", anchored: &["fps", "every", "max_frames"] };

/// A batch is handed on at so many bytes of pixels. The first ones are smaller, one frame, two, four: who wants the first
/// frame only does not wait for the others.
const BATCH_BYTES: usize = 4 << 20;

/// Frames of a batch at most.
const BATCH_FRAMES: usize = 64;

fn options(call: &Call) -> Result<Option<FrameOptions>> {
    let Some(keyframes_only) = call.boolean("keyframes_only", 0)? else { return Ok(None) };
    let pixels = |name: &str| -> Result<Option<u32>> {
        let value = call.int(name, 0)?;
        value.map(|n| u32::try_from(n).map_err(|_| Error::invalid_argument(format!("{name} {n} is out of range")))).transpose()
    };
    let max_frames = call.int("max_frames", 0)?;
    let max_frames = max_frames.map(|n| u64::try_from(n).map_err(|_| Error::invalid_argument(format!("max_frames must not be negative, is {n}"))));
    let options = FrameOptions {
        fps: call.float("fps", 0)?,
        every_s: call.interval_seconds("every", 0)?,
        keyframes_only,
        start_s: call.float("start_s", 0)?,
        end_s: call.float("end_s", 0)?,
        width: pixels("width")?,
        height: pixels("height")?,
        max_frames: max_frames.transpose()?,
    };
    options.check()?;
    Ok(Some(options))
}

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(options) = options(&call)? else { return Ok(Box::new(std::iter::empty())) };
    pushed("video-frames", move |emit| {
        let Some(payload) = payload(&call, 0)? else { return Ok(()) };
        let limits = &call.env.limits;
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut full = 1;
        let mut reserved = Vec::new();
        let result = video_frames(&payload, &options, limits, &limits.deadline(), &mut |frame| {
            call.env.cancel.check()?;
            reserved.push(call.env.memory.reserve(frame.image.data.len())?);
            bytes += frame.image.data.len();
            frames.push(frame);
            if frames.len() < full && bytes < BATCH_BYTES {
                return Ok(true);
            }
            full = (full * 2).min(BATCH_FRAMES);
            bytes = 0;
            let more = emit(batch(std::mem::take(&mut frames))?)?;
            reserved.clear();
            Ok(more)
        });
        // Frames that came before a failure stay.
        if !frames.is_empty() {
            emit(batch(frames)?)?;
        }
        result
    })
}

fn batch(frames: Vec<VideoFrame>) -> Result<RecordBatch> {
    let numbers = Int64Array::from_iter(frames.iter().map(|frame| i64::try_from(frame.frame_no).ok()));
    let times = Float64Array::from_iter_values(frames.iter().map(|frame| frame.pts_s));
    let keys = BooleanArray::from_iter(frames.iter().map(|frame| Some(frame.is_keyframe)));
    let columns: [(&str, ArrayRef); 4] = [
        ("frame_no", Arc::new(numbers)),
        ("pts_s", Arc::new(times)),
        ("is_keyframe", Arc::new(keys)),
        ("image", Image::build(frames.into_iter().map(|frame| Some(frame.image)).collect())?),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call, columns_match, constant, fixture, null};
    use arrow::array::{AsArray, IntervalMonthDayNanoArray};
    use arrow::datatypes::{Int64Type, IntervalMonthDayNano};
    use squilla_core::columns::Arg;

    fn frames(data: Arg, every_s: Option<i64>, max_frames: Option<i64>) -> Result<Vec<i64>> {
        let every =
            every_s.map_or_else(null, |s| constant(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 0, s * 1_000_000_000)])));
        let max = max_frames.map_or_else(null, |n| constant(Int64Array::from(vec![n])));
        let no = constant(BooleanArray::from(vec![false]));
        let args = vec![data, null(), every, no, null(), null(), null(), null(), max];
        let mut numbers = Vec::new();
        for rows in expand(call(&VIDEO_FRAMES, args, 1))? {
            let rows = rows?;
            columns_match(&VIDEO_FRAMES, &rows);
            numbers.extend_from_slice(rows.column(0).as_primitive::<Int64Type>().values());
        }
        Ok(numbers)
    }

    #[test]
    fn all_some_and_few() {
        let data = || bytes(&fixture("video/square.avi"));
        assert_eq!(frames(data(), None, None).unwrap(), (0..30).collect::<Vec<i64>>());
        assert_eq!(frames(data(), Some(1), None).unwrap(), [0, 10, 20]);
        assert_eq!(frames(data(), Some(1), Some(2)).unwrap(), [0, 10]);
        assert_eq!(frames(data(), None, Some(0)).unwrap(), [0; 0]);
    }

    #[test]
    fn errors_are_row_errors() {
        assert_eq!(frames(bytes(b"junk"), None, None).unwrap_err().sqlstate(), "22P03");
        assert_eq!(frames(bytes(b"junk"), Some(0), None).unwrap_err().sqlstate(), "22023");
    }
}
