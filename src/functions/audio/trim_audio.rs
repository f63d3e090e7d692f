//! `trim_audio`: a part of a recording.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::audio::shape;

/// `trim_audio`: audio and two times in seconds to audio. Errors: 22023 times out of order.
pub static TRIM_AUDIO: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/trim_audio.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    match (call.float("start_s", 0)?, call.float("end_s", 0)?) {
        (Some(start_s), Some(end_s)) => shape::check_times(start_s, end_s),
        _ => Ok(()),
    }
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| match (call.audio("data", row)?, call.float("start_s", row)?, call.float("end_s", row)?) {
        (Some(audio), Some(start_s), Some(end_s)) => shape::trim(audio.view(), start_s, end_s).map(Some),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, constant, type_matches};
    use squilla_core::columns::{Arg, Output, audio};
    use squilla_core::values::Audio;

    #[test]
    fn only_the_part_is_left() {
        let one = Audio { samples: vec![0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0], sample_rate: 100, channels: 2 };
        let data = Arg { array: Audio::build(vec![Some(one), None]).unwrap(), constant: false };
        let outcome = kernel(&call(
            &TRIM_AUDIO,
            vec![data, constant(arrow::array::Float64Array::from(vec![0.01])), constant(arrow::array::Float64Array::from(vec![0.03]))],
            2,
        ))
        .unwrap();
        type_matches(&TRIM_AUDIO, &outcome.array);
        assert!(outcome.errors.is_empty());
        let arg = Arg { array: outcome.array, constant: false };
        assert_eq!(audio(&arg, 0).unwrap().unwrap().samples, [0.25, 0.25, 0.5, 0.5]);
        assert!(audio(&arg, 1).unwrap().is_none());
    }
}
