//! `transcribe`: the words of a recording.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::speech::{check, transcripts};

/// `transcribe`: audio, recording or file to text. Errors: SQ001 unknown model, SQ002 not a speech recogniser, 22023
/// unknown language or task, 22P03 not a sound file.
pub static TRANSCRIBE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/transcribe.sql"), Kernel::Model(kernel)).with_check(check);

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let rows = transcripts(&call, false).await?;
        call.collect_rows(rows.into_iter().map(|row| row.map(|t| t.map(|t| t.text))).collect())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{bytes_column, constant_text, fixture, type_matches};
    use arrow::array::{Array, AsArray};

    #[test]
    fn recordings_are_written_down_and_bad_ones_fail_alone() {
        let rows = [Some(fixture("model/words.wav")), Some(b"junk".to_vec()), None, Some(fixture("model/silence.wav"))];
        let args = vec![bytes_column(&rows), constant_text("en"), constant_text("transcribe"), constant_text("tiny/whisper-commands")];
        let outcome = futures::executor::block_on(kernel(model_call(&TRANSCRIBE, 1, args, 4))).unwrap();
        type_matches(&TRANSCRIBE, &outcome.array);
        assert_eq!(outcome.errors.iter().map(|(row, e)| (*row, e.sqlstate())).collect::<Vec<_>>(), [(1, "22P03")]);
        let texts = outcome.array.as_string::<i32>();
        assert_eq!((texts.value(0), texts.value(3)), ("nine three green", ""));
        assert!(texts.is_null(2));
        let wrong = vec![bytes_column(&[]), constant_text("en"), constant_text("sing"), constant_text("tiny/whisper-commands")];
        assert_eq!(check(&model_call(&TRANSCRIBE, 1, wrong, 0)).unwrap_err().sqlstate(), "22023");
    }
}
