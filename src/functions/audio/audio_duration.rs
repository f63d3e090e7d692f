//! `audio_duration`: seconds of a recording.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::types::SqlType;
use squilla_media::audio::info::audio_info;

use crate::payload::{payload, takes};

/// `audio_duration`: recording, file or samples to seconds; NULL where the file cannot tell.
/// Errors: 22P03 not a sound file, 54000 a limit.
pub static AUDIO_DURATION: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/audio/audio_duration.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    let limits = &call.env.limits;
    if takes(call, &SqlType::Audio)? {
        return call.map_rows(|row| Ok(call.audio("data", row)?.map(|audio| audio.view().duration_s())));
    }
    call.map_rows(|row| match payload(call, row)? {
        Some(payload) => Ok(audio_info(&payload, limits, &limits.deadline())?.duration_s),
        None => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, fixture, type_matches};
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float64Type;

    #[test]
    fn a_bad_recording_fails_alone() {
        let rows = [Some(fixture("audio/tones.mp3")), Some(fixture("audio/noise.mp3")), None, Some(fixture("audio/words.flac"))];
        let outcome = kernel(&call(&AUDIO_DURATION, vec![bytes_column(&rows)], 4)).unwrap();
        type_matches(&AUDIO_DURATION, &outcome.array);
        let seconds = outcome.array.as_primitive::<Float64Type>();
        assert_eq!((seconds.value(0), seconds.value(3)), (1.5, 2.44825));
        assert_eq!(seconds.null_count(), 2);
        assert_eq!(outcome.errors.len(), 1);
        assert_eq!(outcome.errors[0].1.sqlstate(), "22P03");
    }
}
