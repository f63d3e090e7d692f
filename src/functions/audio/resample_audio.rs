//! `resample_audio`: samples at another rate.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::audio::resample::{check_rate, resample_audio};

/// `resample_audio`: audio and a rate in hertz to audio. Errors: 22023 rate out of range.
pub static RESAMPLE_AUDIO: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/resample_audio.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    rate(call, 0)?.map(check_rate).transpose().map(|_| ())
}

fn rate(call: &Call, row: usize) -> Result<Option<u32>> {
    let Some(rate) = call.int("rate", row)? else { return Ok(None) };
    u32::try_from(rate).map(Some).map_err(|_| Error::invalid_argument(format!("sample rate {rate} is out of range")))
}

fn kernel(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| {
        let (Some(audio), Some(rate)) = (call.audio("data", row)?, rate(call, row)?) else { return Ok(None) };
        resample_audio(audio.view(), rate).map(Some)
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
    fn the_length_follows_the_rate() {
        let one = Audio { samples: vec![0.25; 2 * 441], sample_rate: 44_100, channels: 2 };
        let array = Audio::build(vec![Some(one), None]).unwrap();
        let data = || Arg { array: array.clone(), constant: false };
        let outcome = kernel(&call(&RESAMPLE_AUDIO, vec![data(), int(16_000)], 2)).unwrap();
        type_matches(&RESAMPLE_AUDIO, &outcome.array);
        let out = audio(&column_of(outcome.array), 0).unwrap().unwrap();
        assert_eq!((out.samples.len(), out.sample_rate, out.channels), (2 * 160, 16_000, 2));
        let failed = kernel(&call(&RESAMPLE_AUDIO, vec![data(), int(-1)], 2)).unwrap();
        assert_eq!(failed.errors[0].1.sqlstate(), "22023");
    }

    fn column_of(array: arrow::array::ArrayRef) -> Arg {
        Arg { array, constant: false }
    }
}
