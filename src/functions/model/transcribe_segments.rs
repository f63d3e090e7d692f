//! `transcribe_segments`: the words of a recording with their times, one row a segment.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int32Array, StringArray};
use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::speech::Segment;

use super::service::lists;
use super::speech::{check, transcripts};

/// `transcribe_segments`: audio, recording or file to setof (seg_no, start_s, end_s, text, avg_logprob, no_speech_prob,
/// language). Errors as `transcribe`.
pub static TRANSCRIBE_SEGMENTS: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/transcribe_segments.sql"), Kernel::ExpandList(kernel)).with_check(check);

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let rows = transcripts(&call, true).await?;
        lists(&call, rows.into_iter().map(|row| row.map(|t| t.map(|t| t.segments))).collect(), columns)
    })
}

fn columns(items: &[(usize, Segment)]) -> Result<Vec<ArrayRef>> {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let seconds = |get: fn(&Segment) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(items.iter().map(|(_, s)| get(s)))) };
    let real = |get: fn(&Segment) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter_values(items.iter().map(|(_, s)| get(s)))) };
    Ok(vec![
        Arc::new(Int32Array::from_iter_values(items.iter().map(|(n, _)| number(*n)))),
        seconds(|s| s.start_s),
        seconds(|s| s.end_s),
        Arc::new(StringArray::from_iter_values(items.iter().map(|(_, s)| &s.text))),
        real(|s| s.avg_logprob),
        real(|s| s.no_speech_prob),
        Arc::new(StringArray::from_iter(items.iter().map(|(_, s)| s.language.as_deref()))),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::{list_matches, model_call};
    use crate::testing::{bytes, constant_text, fixture, null};
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;

    #[test]
    fn times_and_language_are_told() {
        let args = vec![bytes(&fixture("model/words.wav")), null(), constant_text("transcribe"), constant_text("tiny/whisper-commands")];
        let outcome = futures::executor::block_on(kernel(model_call(&TRANSCRIBE_SEGMENTS, 1, args, 1))).unwrap();
        list_matches(&TRANSCRIBE_SEGMENTS, &outcome.array);
        let list = outcome.array.as_list::<i32>().value(0);
        let segments = list.as_struct();
        assert_eq!(segments.column(3).as_string::<i32>().value(0), "nine three green");
        assert_eq!(segments.column(1).as_primitive::<Float64Type>().value(0), 0.4);
        assert_eq!(segments.column(6).as_string::<i32>().value(0), "en");
    }
}
