//! `audio_channel`: one channel of a recording.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::audio::shape;

/// `audio_channel`: audio and a number from 1 to audio. Errors: 22023 no such channel.
pub static AUDIO_CHANNEL: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/audio_channel.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    match call.int("n", 0)? {
        Some(n) if n < 1 => Err(Error::invalid_argument(format!("channels are counted from 1, not {n}"))),
        _ => Ok(()),
    }
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| match (call.audio("data", row)?, call.int("n", row)?) {
        (Some(audio), Some(n)) => shape::channel(audio.view(), u16::try_from(n).unwrap_or(0)).map(Some),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, int, type_matches};
    use squilla_core::columns::{Arg, Output, audio};
    use squilla_core::values::Audio;

    #[test]
    fn one_of_two() {
        let one = Audio { samples: vec![0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0], sample_rate: 100, channels: 2 };
        let data = Arg { array: Audio::build(vec![Some(one), None]).unwrap(), constant: false };
        let outcome = kernel(&call(&AUDIO_CHANNEL, vec![data, int(2)], 2)).unwrap();
        type_matches(&AUDIO_CHANNEL, &outcome.array);
        assert!(outcome.errors.is_empty());
        let arg = Arg { array: outcome.array, constant: false };
        assert_eq!(audio(&arg, 0).unwrap().unwrap().samples, [0.0, 0.25, 0.5, 0.0]);
        assert!(audio(&arg, 1).unwrap().is_none());
    }
}
