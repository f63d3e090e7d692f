//! Samples in memory, cut and made louder: parts, channels, silence, level.
//!
//! In: interleaved floats. Out: the same recording, shorter or louder, or its level in decibels. Invariant: rate and, but
//! for `channel`, the number of channels stay. Decibels are relative to full scale, a sine at full scale has -3.01.
//! Deliberately absent: loudness as broadcasters weigh it, equalisers, fades.

use squilla_core::error::{Error, Result};
use squilla_core::values::{Audio, AudioView};

/// The level that stands for silence.
pub const SILENCE_DB: f64 = -120.0;

/// Seconds of the frames in which silence is looked for.
const SILENCE_FRAME_S: f64 = 0.02;

/// The level of a recording, in decibels of full scale; [`SILENCE_DB`] at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Root of the mean square over all channels.
    pub rms_db: f64,
    /// Largest sample.
    pub peak_db: f64,
}

/// A ratio as decibels.
fn decibels(ratio: f64) -> f64 {
    (20.0 * ratio.max(1e-9).log10()).max(SILENCE_DB)
}

fn rms(samples: &[f32]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    (samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

fn peak(samples: &[f32]) -> f64 {
    samples.iter().fold(0.0, |peak: f32, s| peak.max(s.abs())).into()
}

/// The level of the whole recording.
pub fn level(audio: AudioView<'_>) -> Level {
    Level { rms_db: decibels(rms(audio.samples)), peak_db: decibels(peak(audio.samples)) }
}

/// The recording with its root mean square at `target_db`, or as near as the largest sample stays within full scale.
/// Silence stays silence. Fails with 22023 on a target above 0 or below -120 dB.
pub fn normalize(audio: AudioView<'_>, target_db: f64) -> Result<Audio> {
    check_target(target_db)?;
    let (rms, peak) = (rms(audio.samples), peak(audio.samples));
    let gain = if rms > 1e-6 { (10_f64.powf(target_db / 20.0) / rms).min(1.0 / peak) } else { 1.0 };
    let samples = audio.samples.iter().map(|s| (f64::from(*s) * gain) as f32).collect();
    Ok(Audio { samples, sample_rate: audio.sample_rate, channels: audio.channels })
}

/// Fails with 22023 on a target above 0 or below -120 dB.
pub fn check_target(target_db: f64) -> Result<()> {
    if (SILENCE_DB..=0.0).contains(&target_db) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("target_db {target_db} is out of range")).detail("It is between -120 and 0."))
}

/// The part from `start_s` to `end_s` seconds; what lies outside the recording is left out.
/// Fails with 22023 when the start is negative or after the end.
pub fn trim(audio: AudioView<'_>, start_s: f64, end_s: f64) -> Result<Audio> {
    check_times(start_s, end_s)?;
    let frame = |seconds: f64| (seconds * f64::from(audio.sample_rate)).round() as usize;
    Ok(part(audio, frame(start_s), frame(end_s)))
}

/// Fails with 22023 when the start is negative or after the end.
pub fn check_times(start_s: f64, end_s: f64) -> Result<()> {
    if start_s.is_finite() && start_s >= 0.0 && end_s >= start_s {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("the part from {start_s} to {end_s} s is out of range"))
        .detail("The start is 0 or more and not after the end."))
}

fn part(audio: AudioView<'_>, from: usize, to: usize) -> Audio {
    let width = usize::from(audio.channels.max(1));
    let frames = audio.samples.len() / width;
    let (from, to) = (from.min(frames), to.min(frames));
    let samples = audio.samples.get(from * width..to.max(from) * width).unwrap_or_default().to_vec();
    Audio { samples, sample_rate: audio.sample_rate, channels: audio.channels }
}

/// Channel `number`, counted from 1, alone. Fails with 22023 when there is none.
pub fn channel(audio: AudioView<'_>, number: u16) -> Result<Audio> {
    if number == 0 || number > audio.channels {
        return Err(Error::invalid_argument(format!("there is no channel {number}"))
            .detail(format!("The recording has {} channels, counted from 1.", audio.channels)));
    }
    let (width, index) = (usize::from(audio.channels), usize::from(number - 1));
    let samples = audio.samples.chunks_exact(width).filter_map(|frame| frame.get(index).copied()).collect();
    Ok(Audio { samples, sample_rate: audio.sample_rate, channels: 1 })
}

/// The recording without the silence at its start and end: stretches of 20 ms whose level is below `threshold_db`.
/// A recording that is silent throughout becomes empty.
pub fn trim_silence(audio: AudioView<'_>, threshold_db: f64) -> Audio {
    let width = usize::from(audio.channels.max(1));
    let frames = ((SILENCE_FRAME_S * f64::from(audio.sample_rate)).round() as usize).max(1);
    let loud = |block: &[f32]| decibels(rms(block)) >= threshold_db;
    let blocks: Vec<bool> = audio.samples.chunks(frames * width).map(loud).collect();
    match (blocks.iter().position(|loud| *loud), blocks.iter().rposition(|loud| *loud)) {
        (Some(first), Some(last)) => part(audio, first * frames, (last + 1) * frames),
        _ => part(audio, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sine(level: f32) -> Vec<f32> {
        (0..16_000).map(|i| level * (i as f32 * 0.1).sin()).collect()
    }

    fn view(samples: &[f32], channels: u16) -> AudioView<'_> {
        AudioView { samples, sample_rate: 16_000, channels }
    }

    #[test]
    fn levels() {
        let full = level(view(&sine(1.0), 1));
        assert!((full.rms_db + 3.01).abs() < 0.02 && full.peak_db.abs() < 0.01, "{full:?}");
        assert_eq!(level(view(&[0.0; 10], 1)), Level { rms_db: SILENCE_DB, peak_db: SILENCE_DB });
        assert_eq!(level(view(&[], 1)).rms_db, SILENCE_DB);
    }

    #[test]
    fn normalizing_meets_the_target_without_clipping() {
        let louder = normalize(view(&sine(0.05), 1), -20.0).unwrap();
        assert!((level(louder.view()).rms_db + 20.0).abs() < 0.01);
        let most = normalize(view(&sine(0.05), 1), 0.0).unwrap();
        assert!(level(most.view()).peak_db.abs() < 0.01);
        assert_eq!(normalize(view(&[0.0; 4], 1), -20.0).unwrap().samples, [0.0; 4]);
        assert_eq!(normalize(view(&[0.0; 4], 1), 3.0).unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn parts_and_channels() {
        let samples: Vec<f32> = (0..32_000).map(|i| i as f32).collect();
        assert_eq!(trim(view(&samples, 2), 0.25, 0.5).unwrap().samples, samples[8000..16_000]);
        assert_eq!(trim(view(&samples, 2), 0.75, 99.0).unwrap().samples, samples[24_000..]);
        assert!(trim(view(&samples, 2), 5.0, 6.0).unwrap().samples.is_empty());
        assert_eq!(trim(view(&samples, 2), 2.0, 1.0).unwrap_err().sqlstate(), "22023");
        let second = channel(view(&samples, 2), 2).unwrap();
        assert_eq!((second.channels, second.samples[1]), (1, 3.0));
        assert_eq!(channel(view(&samples, 2), 3).unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn silence_goes_from_both_ends_only() {
        let mut samples = vec![0.0; 16_000];
        samples[3200..3520].fill(0.5);
        samples[9600..9920].fill(0.5);
        assert_eq!(trim_silence(view(&samples, 1), -40.0).samples, samples[3200..9920]);
        assert!(trim_silence(view(&[0.0; 500], 1), -40.0).samples.is_empty());
    }
}
