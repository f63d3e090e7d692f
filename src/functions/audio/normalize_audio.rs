//! `normalize_audio`: a recording at a given level.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::audio::shape;

/// `normalize_audio`: audio and a level in decibels to audio. Errors: 22023 level out of range.
pub static NORMALIZE_AUDIO: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/normalize_audio.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    call.float("target_db", 0)?.map(shape::check_target).transpose().map(|_| ())
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| match (call.audio("data", row)?, call.float("target_db", row)?) {
        (Some(audio), Some(target_db)) => shape::normalize(audio.view(), target_db).map(Some),
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
    fn it_is_as_loud_as_it_can_be() {
        let one = Audio { samples: vec![0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0], sample_rate: 100, channels: 2 };
        let data = Arg { array: Audio::build(vec![Some(one), None]).unwrap(), constant: false };
        let outcome = kernel(&call(&NORMALIZE_AUDIO, vec![data, constant(arrow::array::Float64Array::from(vec![0.0]))], 2)).unwrap();
        type_matches(&NORMALIZE_AUDIO, &outcome.array);
        assert!(outcome.errors.is_empty());
        let arg = Arg { array: outcome.array, constant: false };
        assert_eq!(audio(&arg, 0).unwrap().unwrap().samples, [0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 0.0, 0.0]);
        assert!(audio(&arg, 1).unwrap().is_none());
    }
}
