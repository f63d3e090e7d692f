//! `encode_audio`: samples to the bytes of a sound file.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::values::AudioView;
use squilla_media::audio::encode::{WavSample, encode_wav};
use squilla_media::audio::flac::encode_flac;

/// `encode_audio`: audio to bytea, `wav`, `wav32f` or `flac`. Errors: 22023 unknown format or more channels than it holds, 54000
/// too long.
pub static ENCODE_AUDIO: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/audio/encode_audio.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    call.option_text("format")?.map(format).transpose()?;
    Ok(())
}

type Encoder = fn(AudioView<'_>) -> Result<Vec<u8>>;

fn format(name: &str) -> Result<Encoder> {
    match name {
        "wav" => Ok(|audio| encode_wav(audio, WavSample::Pcm16)),
        "wav32f" => Ok(|audio| encode_wav(audio, WavSample::Float32)),
        "flac" => Ok(encode_flac),
        other => Err(Error::invalid_argument(format!("unknown audio format \"{other}\"")).hint("Use wav, wav32f or flac.")),
    }
}

fn kernel(call: &Call) -> Result<Outcome> {
    let Some(encode) = call.option_text("format")?.map(format).transpose()? else {
        return call.map_rows(|_| Ok(None::<Vec<u8>>));
    };
    call.map_rows(|row| match call.audio("data", row)? {
        Some(audio) => encode(audio.view()).map(Some),
        None => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, constant_text, type_matches};
    use squilla_core::columns::{Arg, Output, bytes};
    use squilla_core::values::Audio;

    #[test]
    fn wav_bytes_and_nothing_else() {
        let audio = Audio { samples: vec![0.0; 10], sample_rate: 8000, channels: 1 };
        let data = || Arg { array: Audio::build(vec![Some(audio.clone()), None]).unwrap(), constant: false };
        let outcome = kernel(&call(&ENCODE_AUDIO, vec![data(), constant_text("wav")], 2)).unwrap();
        type_matches(&ENCODE_AUDIO, &outcome.array);
        let arg = Arg { array: outcome.array, constant: false };
        assert_eq!(bytes(&arg, 0).unwrap().unwrap().len(), 44 + 20);
        assert!(bytes(&arg, 1).unwrap().is_none());
        let bad = call(&ENCODE_AUDIO, vec![data(), constant_text("mp3")], 2);
        assert_eq!(check(&bad).unwrap_err().sqlstate(), "22023");
    }
}
