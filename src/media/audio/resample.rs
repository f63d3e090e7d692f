//! Band-limited change of the sample rate, whole or as a stream.
//!
//! In: interleaved samples at one rate. Out: interleaved samples at another, delay removed, exactly
//! `ceil(frames * out / in)` frames. Invariant: a stream cut anywhere gives the same samples as the whole. The filter is
//! an FFT overlap-add with a Blackman-Harris window, 45 dB or better against soxr HQ (`tests/golden/audio`).
//! Deliberately absent: variable ratios and cheap linear interpolation.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _, WindowFunction};
use squilla_core::error::{Error, Result};
use squilla_core::values::{Audio, AudioView};

/// The highest sample rate, in hertz, that is read or written.
pub const RATE_MAX: u32 = 768_000;

/// The most channels a recording may have.
pub const CHANNELS_MAX: u16 = 64;

/// The smaller of the two transform sizes is kept near this many frames: the quality and the speed that were measured.
const SMALLER_TRANSFORM: u32 = 320;

/// Fails when `rate` is not a rate that can be worked with.
pub fn check_rate(rate: u32) -> Result<()> {
    if (1..=RATE_MAX).contains(&rate) {
        Ok(())
    } else {
        Err(Error::invalid_argument(format!("sample rate {rate} is out of range")).detail(format!("A sample rate is between 1 and {RATE_MAX} Hz.")))
    }
}

/// A streaming resampler. Push samples, take what comes out, finish once.
pub struct Resampler {
    inner: Option<Inner>,
}

struct Inner {
    fft: Fft<f32>,
    channels: usize,
    rate_in: u64,
    rate_out: u64,
    /// Input that does not fill a transform yet.
    pending: Vec<f32>,
    block: Vec<f32>,
    frames_in: u64,
    frames_out: u64,
    /// Frames of filter delay still to drop.
    delay: usize,
}

impl Resampler {
    /// From `rate_in` to `rate_out` hertz for `channels` interleaved channels. Equal rates pass samples through.
    pub fn new(rate_in: u32, rate_out: u32, channels: u16) -> Result<Self> {
        check_rate(rate_in)?;
        check_rate(rate_out)?;
        if rate_in == rate_out {
            return Ok(Self { inner: None });
        }
        let channels = usize::from(channels.max(1));
        let fft = Fft::new_custom(
            rate_in as usize,
            rate_out as usize,
            transform_size(rate_in, rate_out),
            1,
            channels,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|e| Error::internal(format!("resampler {rate_in} to {rate_out} Hz: {e}")))?;
        let delay = fft.output_delay();
        let block = vec![0.0; fft.output_frames_max() * channels];
        Ok(Self {
            inner: Some(Inner {
                fft,
                channels,
                rate_in: rate_in.into(),
                rate_out: rate_out.into(),
                pending: Vec::new(),
                block,
                frames_in: 0,
                frames_out: 0,
                delay,
            }),
        })
    }

    /// Feeds whole frames and appends what is ready to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let Some(inner) = &mut self.inner else {
            out.extend_from_slice(samples);
            return Ok(());
        };
        inner.frames_in += (samples.len() / inner.channels) as u64;
        inner.pending.extend_from_slice(samples);
        let mut used = 0;
        loop {
            let need = inner.fft.input_frames_next() * inner.channels;
            if inner.pending.len() - used < need {
                break;
            }
            let block = inner.pending.get(used..used + need).unwrap_or_default().to_vec();
            inner.step(&block, out)?;
            used += need;
        }
        inner.pending.drain(..used);
        Ok(())
    }

    /// Appends the rest. The resampler is spent afterwards.
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let want = (u128::from(inner.frames_in) * u128::from(inner.rate_out)).div_ceil(u128::from(inner.rate_in)) as u64;
        while inner.frames_out < want {
            let mut block = std::mem::take(&mut inner.pending);
            block.resize(inner.fft.input_frames_next() * inner.channels, 0.0);
            inner.step(&block, out)?;
        }
        let excess = (inner.frames_out - want) as usize * inner.channels;
        out.truncate(out.len().saturating_sub(excess));
        inner.frames_out = want;
        Ok(())
    }
}

impl Inner {
    /// One transform: `block` holds exactly the frames it needs.
    fn step(&mut self, block: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let fail = |e: &dyn std::fmt::Display| Error::internal(format!("resampling: {e}"));
        let frames = block.len() / self.channels;
        let room = self.block.len() / self.channels;
        let input = InterleavedSlice::new(block, self.channels, frames).map_err(|e| fail(&e))?;
        let mut output = InterleavedSlice::new_mut(&mut self.block, self.channels, room).map_err(|e| fail(&e))?;
        let (_, made) = self.fft.process_into_buffer(&input, &mut output, None::<&Indexing>).map_err(|e| fail(&e))?;
        let skip = self.delay.min(made);
        self.delay -= skip;
        self.frames_out += (made - skip) as u64;
        out.extend_from_slice(self.block.get(skip * self.channels..made * self.channels).unwrap_or_default());
        Ok(())
    }
}

/// The input frames per transform: the smaller side near [`SMALLER_TRANSFORM`], both sides even.
fn transform_size(rate_in: u32, rate_out: u32) -> usize {
    let divisor = gcd(rate_in, rate_out);
    let (unit_in, unit_out) = (rate_in / divisor, rate_out / divisor);
    let smaller = unit_in.min(unit_out);
    let mut units = ((SMALLER_TRANSFORM + smaller / 2) / smaller).max(1);
    if (units * unit_in) % 2 == 1 || (units * unit_out) % 2 == 1 {
        units += 1;
    }
    (units * unit_in) as usize
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// The recording at another rate: `ceil(frames * rate / audio.sample_rate)` frames.
pub fn resample_audio(audio: AudioView<'_>, rate: u32) -> Result<Audio> {
    let mut resampler = Resampler::new(audio.sample_rate, rate, audio.channels)?;
    let ratio = f64::from(rate) / f64::from(audio.sample_rate.max(1));
    let mut samples = Vec::with_capacity((audio.samples.len() as f64 * ratio) as usize + 4096);
    // In pieces, so that the resampler's own buffers stay small however long the recording is.
    let piece = usize::from(audio.channels.max(1)) * 16_384;
    for block in audio.samples.chunks(piece) {
        resampler.push(block, &mut samples)?;
    }
    resampler.finish(&mut samples)?;
    Ok(Audio { samples, sample_rate: rate, channels: audio.channels })
}

/// Interleaved frames to one channel, the mean of all, appended to `out`.
pub fn mix_to_mono(samples: &[f32], channels: u16, out: &mut Vec<f32>) {
    match channels {
        0 | 1 => out.extend_from_slice(samples),
        2 => out.extend(samples.chunks_exact(2).map(|frame| frame.iter().sum::<f32>() * 0.5)),
        n => {
            let scale = 1.0 / f32::from(n);
            out.extend(samples.chunks_exact(usize::from(n)).map(|frame| frame.iter().sum::<f32>() * scale));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn tone(rate: u32, frames: usize, hertz: f32) -> Vec<f32> {
        (0..frames).map(|i| (i as f32 * hertz * std::f32::consts::TAU / rate as f32).sin() * 0.5).collect()
    }

    #[test]
    fn sizes_are_the_measured_ones() {
        assert_eq!(transform_size(44_100, 16_000), 882);
        assert_eq!(transform_size(48_000, 16_000), 960);
        assert_eq!(transform_size(22_050, 16_000), 882);
        assert_eq!(transform_size(8_000, 16_000), 320);
    }

    #[test]
    fn length_is_exact_and_a_tone_stays_where_it_was() {
        for (rate_in, rate_out) in [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000), (16_000, 44_100), (11_025, 16_001)] {
            for frames in [0_usize, 1, 5, 1000, 20_001] {
                let samples = tone(rate_in, frames, 440.0);
                let audio = AudioView { samples: &samples, sample_rate: rate_in, channels: 1 };
                let out = resample_audio(audio, rate_out).unwrap();
                let want = (frames as u64 * u64::from(rate_out)).div_ceil(u64::from(rate_in)) as usize;
                assert_eq!(out.samples.len(), want);
                if frames > 10_000 {
                    let clean = tone(rate_out, want, 440.0);
                    let margin = want / 10;
                    let worst = (margin..want - margin).map(|i| (clean[i] - out.samples[i]).abs()).fold(0.0, f32::max);
                    assert!(worst < 2e-3, "{rate_in} to {rate_out}: {worst}");
                }
            }
        }
    }

    #[test]
    fn a_stream_equals_the_whole() {
        let samples: Vec<f32> = (0..30_000).map(|i| ((i * 7919) % 2000) as f32 / 1000.0 - 1.0).collect();
        let whole = resample_audio(AudioView { samples: &samples, sample_rate: 44_100, channels: 2 }, 16_000).unwrap();
        let mut stream = Resampler::new(44_100, 16_000, 2).unwrap();
        let mut out = Vec::new();
        for block in samples.chunks(2 * 37) {
            stream.push(block, &mut out).unwrap();
        }
        stream.finish(&mut out).unwrap();
        assert_eq!(out, whole.samples);
    }

    #[test]
    fn bad_rates_are_refused() {
        assert_eq!(Resampler::new(0, 16_000, 1).err().unwrap().sqlstate(), "22023");
        assert_eq!(Resampler::new(16_000, 1_000_000, 1).err().unwrap().sqlstate(), "22023");
    }

    #[test]
    fn mono_is_the_mean() {
        let mut out = Vec::new();
        mix_to_mono(&[1.0, 0.0, 0.5, 0.5], 2, &mut out);
        mix_to_mono(&[0.3, 0.6, 0.0], 3, &mut out);
        assert_eq!(out[..2], [0.5, 0.5]);
        assert!((out[2] - 0.3).abs() < 1e-6);
    }
}
