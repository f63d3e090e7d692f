//! `trim_silence`: a recording without silence at its ends.

use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::audio::shape;

/// `trim_silence`: audio and a level in decibels to audio. No errors.
pub static TRIM_SILENCE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/audio/trim_silence.sql"), Kernel::Media(kernel));

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| match (call.audio("data", row)?, call.float("threshold_db", row)?) {
        (Some(audio), Some(threshold_db)) => Ok(Some(shape::trim_silence(audio.view(), threshold_db))),
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
    fn silence_goes() {
        let one = Audio { samples: vec![0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0], sample_rate: 100, channels: 2 };
        let data = Arg { array: Audio::build(vec![Some(one), None]).unwrap(), constant: false };
        let outcome = kernel(&call(&TRIM_SILENCE, vec![data, constant(arrow::array::Float64Array::from(vec![-40.0]))], 2)).unwrap();
        type_matches(&TRIM_SILENCE, &outcome.array);
        assert!(outcome.errors.is_empty());
        let arg = Arg { array: outcome.array, constant: false };
        assert_eq!(audio(&arg, 0).unwrap().unwrap().samples, [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0]);
        assert!(audio(&arg, 1).unwrap().is_none());
    }
}
