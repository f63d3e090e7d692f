//! `video_audio`: the sound of a video.

use squilla_core::kernel::{Kernel, SqlFunction};

use crate::audio::source::{check_options, decoded_rows};

/// `video_audio`: video to audio, by default at 16 kHz in one channel.
/// Errors: 22P03 no sound or damaged, 22023 bad option, 54000 a limit.
pub static VIDEO_AUDIO: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/video/video_audio.sql"), Kernel::Media(decoded_rows)).with_check(check_options);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, constant, fixture, int, type_matches};
    use arrow::array::BooleanArray;
    use squilla_core::columns::{Arg, audio};

    #[test]
    fn sound_or_an_error() {
        let rows = [Some(fixture("video/square.mp4")), Some(fixture("video/square.avi"))];
        let args = vec![bytes_column(&rows), int(16_000), constant(BooleanArray::from(vec![true]))];
        let outcome = decoded_rows(&call(&VIDEO_AUDIO, args, 2)).unwrap();
        type_matches(&VIDEO_AUDIO, &outcome.array);
        assert_eq!(outcome.errors[0].1.sqlstate(), "22P03");
        let sound = audio(&Arg { array: outcome.array, constant: false }, 0).unwrap().unwrap();
        assert!((sound.view().duration_s() - 3.0).abs() < 0.1);
    }
}
