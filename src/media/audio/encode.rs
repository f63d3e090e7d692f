//! Samples to bytes of a WAV file.
//!
//! In: interleaved floats. Out: a RIFF file with 16-bit PCM, or 32-bit float samples. Invariant: what is written is read
//! back with the same frames, rate and channels. Deliberately absent: FLAC (`flac.rs`) and lossy codecs.

use squilla_core::error::{Error, Result};
use squilla_core::values::AudioView;

/// How a sample is stored in a WAV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WavSample {
    /// 16-bit signed integers: what most programs expect.
    Pcm16,
    /// 32-bit floats: nothing is lost.
    Float32,
}

/// A WAV file. Fails with 54000 when the samples do not fit the 4 GiB of the format.
pub fn encode_wav(audio: AudioView<'_>, sample: WavSample) -> Result<Vec<u8>> {
    let (tag, bytes) = match sample {
        WavSample::Pcm16 => (1_u16, 2_u16),
        WavSample::Float32 => (3, 4),
    };
    let data_bytes = (audio.samples.len() as u64) * u64::from(bytes);
    let size = u32::try_from(data_bytes + 50).map_err(|_| {
        Error::new(squilla_core::error::Kind::LimitExceeded, "the recording is too long for a wav file").detail("A WAV file holds at most 4 GiB.")
    })?;
    let channels = audio.channels.max(1);
    let frame_bytes = u32::from(bytes) * u32::from(channels);
    let mut out = Vec::with_capacity(size as usize + 8);
    let float = sample == WavSample::Float32;
    // A float file carries an extension size and a fact chunk, as the format asks of everything that is not plain PCM.
    let header_bytes: u32 = if float { 4 + 8 + 18 + 12 + 8 } else { 4 + 8 + 16 + 8 };
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(header_bytes + data_bytes as u32).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&(if float { 18_u32 } else { 16 }).to_le_bytes());
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&audio.sample_rate.to_le_bytes());
    out.extend_from_slice(&audio.sample_rate.saturating_mul(frame_bytes).to_le_bytes());
    out.extend_from_slice(&(frame_bytes as u16).to_le_bytes());
    out.extend_from_slice(&(bytes * 8).to_le_bytes());
    if float {
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(b"fact");
        out.extend_from_slice(&4_u32.to_le_bytes());
        out.extend_from_slice(&((audio.samples.len() / usize::from(channels)) as u32).to_le_bytes());
    }
    out.extend_from_slice(b"data");
    out.extend_from_slice(&(data_bytes as u32).to_le_bytes());
    match sample {
        WavSample::Pcm16 => {
            for value in audio.samples {
                out.extend_from_slice(&to_i16(*value).to_le_bytes());
            }
        }
        WavSample::Float32 => {
            for value in audio.samples {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    Ok(out)
}

/// The inverse of dividing by 32768, rounded to nearest and clipped, so that 16-bit input comes back bit for bit.
pub fn to_i16(value: f32) -> i16 {
    (value * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_header_is_the_format_s() {
        let audio = AudioView { samples: &[0.0, 0.5, -1.0, 1.0], sample_rate: 16_000, channels: 2 };
        let bytes = encode_wav(audio, WavSample::Pcm16).unwrap();
        assert_eq!(bytes.len(), 44 + 8);
        assert_eq!(&bytes[..4], b"RIFF");
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize, bytes.len() - 8);
        assert_eq!(bytes[44..], [0, 0, 0, 0x40, 0, 0x80, 0xff, 0x7f]);
        let float = encode_wav(audio, WavSample::Float32).unwrap();
        assert_eq!(float.len(), 58 + 16);
        assert_eq!(u32::from_le_bytes(float[4..8].try_into().unwrap()) as usize, float.len() - 8);
    }
}
