//! `video_info`: what the headers of a video say, one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::video::info::{VideoInfo, video_info};

use crate::payload::payload;

/// `video_info`: video to (container, codec, width, height, fps, duration_s, frame_count, rotation, audio_codec).
/// Errors: 22P03 not a video, 54000 a limit.
pub static VIDEO_INFO: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/video/video_info.sql"), Kernel::Expand(expand));

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(payload) = payload(&call, 0)? else { return Ok(Box::new(std::iter::empty())) };
    let limits = &call.env.limits;
    let info = video_info(&payload, limits, &limits.deadline())?;
    Ok(Box::new(std::iter::once(row(info))))
}

fn row(info: VideoInfo) -> Result<RecordBatch> {
    let text = |value: Option<String>| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let int = |value: u32| -> ArrayRef { Arc::new(Int32Array::from(vec![i32::try_from(value).ok()])) };
    let number = |value: Option<f64>| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    let columns: [(&str, ArrayRef); 9] = [
        ("container", text(Some(info.container))),
        ("codec", text(Some(info.codec))),
        ("width", int(info.width)),
        ("height", int(info.height)),
        ("fps", number(info.fps)),
        ("duration_s", number(info.duration_s)),
        ("frame_count", Arc::new(Int64Array::from(vec![info.frame_count.and_then(|n| i64::try_from(n).ok())]))),
        ("rotation", int(info.rotation)),
        ("audio_codec", text(info.audio_codec)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call, columns_match, fixture};
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    #[test]
    fn one_row_of_the_declared_columns() {
        let rows: Vec<RecordBatch> =
            expand(call(&VIDEO_INFO, vec![bytes(&fixture("video/square.webm"))], 1)).unwrap().collect::<Result<_>>().unwrap();
        columns_match(&VIDEO_INFO, &rows[0]);
        assert_eq!(rows[0].column(6).as_primitive::<Int64Type>().value(0), 30);
        let error = expand(call(&VIDEO_INFO, vec![bytes(&fixture("audio/tones.wav"))], 1)).err().unwrap();
        assert_eq!(error.sqlstate(), "22P03");
    }
}
