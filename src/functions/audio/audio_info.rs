//! `audio_info`: what the headers of a recording say, one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::audio::info::{AudioInfo, audio_info};

use crate::payload::payload;

/// `audio_info`: recording to (codec, container, sample_rate, channels, duration_s, frames, bit_rate).
/// Errors: 22P03 not a sound file, 54000 a limit.
pub static AUDIO_INFO: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/audio/audio_info.sql"), Kernel::Expand(expand));

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(payload) = payload(&call, 0)? else { return Ok(Box::new(std::iter::empty())) };
    let limits = &call.env.limits;
    let info = audio_info(&payload, limits, &limits.deadline())?;
    Ok(Box::new(std::iter::once(row(info))))
}

fn row(info: AudioInfo) -> Result<RecordBatch> {
    let text = |value: String| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let long = |value: Option<u64>| -> ArrayRef { Arc::new(Int64Array::from(vec![value.and_then(|n| i64::try_from(n).ok())])) };
    let int = |value: u32| -> ArrayRef { Arc::new(Int32Array::from(vec![i32::try_from(value).ok()])) };
    let columns: [(&str, ArrayRef); 7] = [
        ("codec", text(info.codec)),
        ("container", text(info.container)),
        ("sample_rate", int(info.sample_rate)),
        ("channels", int(info.channels.into())),
        ("duration_s", Arc::new(Float64Array::from(vec![info.duration_s]))),
        ("frames", long(info.frames)),
        ("bit_rate", long(info.bit_rate)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call, call_overload, columns_match, constant_text, fixture, fixture_path};
    use arrow::array::AsArray;

    #[test]
    fn one_row_of_the_declared_columns() {
        let rows: Vec<RecordBatch> = expand(call(&AUDIO_INFO, vec![bytes(&fixture("audio/tones.opus"))], 1)).unwrap().collect::<Result<_>>().unwrap();
        columns_match(&AUDIO_INFO, &rows[0]);
        assert_eq!(rows[0].column(0).as_string::<i32>().value(0), "opus");
    }

    #[test]
    fn a_file_is_read_in_place() {
        let path = fixture_path("audio/tones.wav");
        let call = call_overload(&AUDIO_INFO, 1, vec![constant_text(path.to_str().unwrap())], 1);
        assert_eq!(expand(call).unwrap().count(), 1);
        let gone = call_overload(&AUDIO_INFO, 1, vec![constant_text("/no/such/file.wav")], 1);
        assert_eq!(expand(gone).err().unwrap().sqlstate(), "58P01");
    }
}
