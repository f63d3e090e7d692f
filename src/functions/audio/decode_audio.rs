//! `decode_audio`: the samples of a recording.

use squilla_core::kernel::{Kernel, SqlFunction};

use super::source::{check_options, decoded_rows};

/// `decode_audio`: recording to audio, by default at 16 kHz in one channel.
/// Errors: 22P03 not a sound file or damaged, 22023 bad option, 54000 a limit.
pub static DECODE_AUDIO: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/decode_audio.sql"), Kernel::Media(decoded_rows)).with_check(check_options);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, column, constant, fixture, int, type_matches};
    use arrow::array::{Array, BooleanArray, Float64Array};
    use squilla_core::columns::{Arg, audio};

    #[test]
    fn rows_decode_and_fail_on_their_own() {
        let rows = [Some(fixture("audio/tones.m4a")), Some(b"junk".to_vec()), None, Some(fixture("audio/tones.ac3"))];
        let args = vec![bytes_column(&rows), int(16_000), constant(BooleanArray::from(vec![true]))];
        let outcome = decoded_rows(&call(&DECODE_AUDIO, args, 4)).unwrap();
        type_matches(&DECODE_AUDIO, &outcome.array);
        assert_eq!(outcome.errors.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
        assert_eq!(outcome.array.null_count(), 2);
        let back = audio(&Arg { array: outcome.array, constant: false }, 0).unwrap().unwrap();
        assert_eq!((back.sample_rate, back.channels), (16_000, 1));
        assert!((back.view().duration_s() - 1.5).abs() < 0.04);
    }

    #[test]
    fn options_may_differ_from_row_to_row() {
        let rows = [Some(fixture("audio/tones.wav")), Some(fixture("audio/tones.wav"))];
        let start = column(Float64Array::from(vec![0.5, 2.0]));
        let args = vec![bytes_column(&rows), int(0), constant(BooleanArray::from(vec![false])), start];
        let outcome = decoded_rows(&call(&DECODE_AUDIO, args, 2)).unwrap();
        let arg = Arg { array: outcome.array, constant: false };
        let first = audio(&arg, 0).unwrap().unwrap();
        assert_eq!((first.samples.len(), first.sample_rate, first.channels), (2 * 22_050, 22_050, 2));
        assert!(audio(&arg, 1).unwrap().unwrap().samples.is_empty());
    }
}
