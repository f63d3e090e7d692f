//! `audio_segments`: the windows of a recording, as they are decoded.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use squilla_core::columns::Output;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_core::types::SqlType;
use squilla_core::values::Audio;
use squilla_media::audio::decode::DecodeOptions;
use squilla_media::audio::windows::{Align, AudioWindow, WindowOptions, audio_segments, for_each_window};

use crate::expansion::pushed;
use crate::payload::{payload, takes};

/// `audio_segments`: samples, recording or file to setof (seg_no, start_s, end_s, audio).
/// Errors: 22P03 not a sound file or damaged, 22023 bad option, 54000 a limit.
pub static AUDIO_SEGMENTS: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/audio_segments.sql"), Kernel::Expand(expand)).with_check(check);

fn check(call: &Call) -> Result<()> {
    window_options(call)?;
    if takes(call, &SqlType::Audio)? { Ok(()) } else { decoding(call).map(|_| ()) }
}

/// `None` when one of them is NULL.
fn window_options(call: &Call) -> Result<Option<WindowOptions>> {
    let align = call.text("align", 0)?.map(Align::parse).transpose()?;
    let (Some(window_s), Some(overlap_s), Some(align)) = (call.float("window_s", 0)?, call.float("overlap_s", 0)?, align) else { return Ok(None) };
    let options = WindowOptions { window_s, overlap_s, align };
    options.check()?;
    Ok(Some(options))
}

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(options) = window_options(&call)? else { return Ok(Box::new(std::iter::empty())) };
    pushed("audio-segments", move |emit| {
        let mut give = |window: AudioWindow| {
            call.env.cancel.check()?;
            // Held until the consumer has taken the batch before this one.
            let _reserved = call.env.memory.reserve(window.audio.samples.len() * size_of::<f32>())?;
            emit(row(window)?)
        };
        if takes(&call, &SqlType::Audio)? {
            let Some(audio) = call.audio("data", 0)? else { return Ok(()) };
            return audio_segments(audio.view(), &options, &mut give);
        }
        let Some(payload) = payload(&call, 0)? else { return Ok(()) };
        let decode = decoding(&call)?;
        for_each_window(&payload, &decode, &options, &call.env.limits, &mut give)
    })
}

/// How a recording that comes as bytes or as a file is decoded.
fn decoding(call: &Call) -> Result<DecodeOptions> {
    let rate = call.int("sample_rate", 0)?.unwrap_or(16_000);
    let rate = u32::try_from(rate).map_err(|_| Error::invalid_argument(format!("sample rate {rate} is out of range")))?;
    let mono = call.boolean("mono", 0)?.unwrap_or(true);
    let options = DecodeOptions { sample_rate: (rate > 0).then_some(rate), mono, start_s: 0.0, duration_s: None };
    options.check()?;
    Ok(options)
}

fn row(window: AudioWindow) -> Result<RecordBatch> {
    let number = i32::try_from(window.number).map_err(|_| Error::internal("too many segments"))?;
    let columns: [(&str, ArrayRef); 4] = [
        ("seg_no", Arc::new(Int32Array::from(vec![number]))),
        ("start_s", Arc::new(Float64Array::from(vec![window.start_s]))),
        ("end_s", Arc::new(Float64Array::from(vec![window.end_s]))),
        ("audio", Audio::build(vec![Some(window.audio)])?),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes, call_overload, columns_match, constant, constant_text, fixture, int};
    use arrow::array::{AsArray, BooleanArray};
    use arrow::datatypes::Float64Type;

    fn segments(name: &str, window_s: f64, overlap_s: f64, align: &str) -> Result<Vec<RecordBatch>> {
        let number = |v: f64| constant(Float64Array::from(vec![v]));
        let args = vec![
            bytes(&fixture(name)),
            number(window_s),
            number(overlap_s),
            constant_text(align),
            int(16_000),
            constant(BooleanArray::from(vec![true])),
        ];
        expand(call_overload(&AUDIO_SEGMENTS, 1, args, 1))?.collect()
    }

    #[test]
    fn windows_of_a_recording() {
        let rows = segments("audio/words.flac", 1.0, 0.0, "none").unwrap();
        assert_eq!(rows.len(), 3);
        columns_match(&AUDIO_SEGMENTS, &rows[0]);
        assert_eq!(rows[2].column(2).as_primitive::<Float64Type>().value(0), 2.44825);
        // Between the two words there is a second of silence: the first cut falls into it.
        let rows = segments("audio/words.flac", 1.5, 0.0, "silence").unwrap();
        let cut = rows[0].column(2).as_primitive::<Float64Type>().value(0);
        assert!((1.2..=1.5).contains(&cut), "{cut}");
    }

    #[test]
    fn bad_options_and_bad_bytes() {
        assert_eq!(segments("audio/words.flac", 1.0, 1.0, "none").unwrap_err().sqlstate(), "22023");
        assert_eq!(segments("audio/noise.mp3", 1.0, 0.0, "none").unwrap_err().sqlstate(), "22P03");
    }
}
