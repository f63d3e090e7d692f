//! The way in to every recording: samples as a whole or as a stream of blocks.
//!
//! In: bytes or a local file, and which part of it at what rate. Out: `f32` samples. Invariant: the header is checked
//! against the limits before anything is decoded, and what is decoded is counted against them again. Memory of the
//! stream form does not depend on the length of the recording. Deliberately absent: choice of a track; the container's
//! default audio track is taken.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::guarded;
use squilla_core::limits::{Deadline, Limits};
use squilla_core::values::Audio;

use crate::audio::foreign::{BlockHeader, FfmpegAudio, block_samples};
use crate::audio::native::NativeAudio;
use crate::audio::resample::{Resampler, check_rate, mix_to_mono};
use crate::sandbox::job::Payload;
use crate::sandbox::pool;

/// Which part of a recording, and in what form.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeOptions {
    /// Hertz; `None` keeps the recording's own.
    pub sample_rate: Option<u32>,
    /// Mix all channels to one (their mean).
    pub mono: bool,
    /// Seconds to skip at the start.
    pub start_s: f64,
    /// Seconds to give at most; `None` is up to the end.
    pub duration_s: Option<f64>,
}

impl DecodeOptions {
    /// What speech models take: 16 kHz, one channel.
    pub fn speech() -> Self {
        Self { sample_rate: Some(16_000), mono: true, ..Self::default() }
    }

    /// Fails with 22023 on a rate or a time out of range.
    pub fn check(&self) -> Result<()> {
        if let Some(rate) = self.sample_rate {
            check_rate(rate)?;
        }
        if !self.start_s.is_finite() || self.start_s < 0.0 {
            return Err(Error::invalid_argument(format!("start_s {} is out of range", self.start_s)).detail("It is 0 or more."));
        }
        if let Some(seconds) = self.duration_s.filter(|s| !s.is_finite() || *s < 0.0) {
            return Err(Error::invalid_argument(format!("duration_s {seconds} is out of range")).detail("It is 0 or more."));
        }
        Ok(())
    }
}

/// The form in which samples come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleFormat {
    /// Hertz.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u16,
}

/// Receives blocks of interleaved samples; `Ok(false)` stops.
pub type Sink<'a> = dyn FnMut(SampleFormat, &[f32]) -> Result<bool> + 'a;

/// The size of a payload in bytes. Fails with 54000 above the limit, 58P01 when the file is not there.
pub fn check_size(payload: &Payload<'_>, limits: &Limits) -> Result<u64> {
    let stat = |e| Error::io("could not read the file", e);
    let bytes = match payload {
        Payload::Bytes(bytes) => bytes.len() as u64,
        Payload::File(file) => file.metadata().map_err(stat)?.len(),
        Payload::Path(path) => {
            let meta = std::fs::metadata(path).map_err(|e| Error::io(format_args!("could not read {}", path.display()), e))?;
            if meta.is_dir() {
                return Err(Error::io(format_args!("could not read {}", path.display()), std::io::ErrorKind::IsADirectory.into()));
            }
            meta.len()
        }
    };
    if bytes > limits.file_bytes_max {
        return Err(Error::limit(format!("the file has {bytes} bytes, more than {}", limits.file_bytes_max), "squilla.max_file_bytes"));
    }
    Ok(bytes)
}

/// The recording, or the part asked for. An empty part gives no samples.
/// Fails with 22P03 on bytes that are no sound, 22023 on options out of range, 54000 above the limits.
pub fn decode_audio(payload: &Payload<'_>, options: &DecodeOptions, limits: &Limits, deadline: &Deadline) -> Result<Audio> {
    let mut audio = Audio { samples: Vec::new(), sample_rate: 0, channels: 0 };
    let deadline = *deadline;
    stream_audio(payload, options, limits, &mut || deadline, &mut |format, block| {
        audio.sample_rate = format.rate;
        audio.channels = format.channels;
        audio.samples.extend_from_slice(block);
        Ok(true)
    })?;
    Ok(audio)
}

/// The same as a stream of blocks of some tens of thousands of samples. `sink` is called at least once, perhaps with an
/// empty block, so that the format is known. `deadline` is asked for a new moment before each block: the time that the
/// sink takes does not count.
pub fn stream_audio(
    payload: &Payload<'_>,
    options: &DecodeOptions,
    limits: &Limits,
    deadline: &mut dyn FnMut() -> Deadline,
    sink: &mut Sink<'_>,
) -> Result<()> {
    options.check()?;
    check_size(payload, limits)?;
    let first = deadline();
    if let Some(audio) = NativeAudio::open(payload, first)? {
        return stream_native(audio, options, limits, deadline, sink);
    }
    let job = FfmpegAudio { start_s: options.start_s, duration_s: options.duration_s, mono: options.mono, seconds_max: limits.audio_seconds_max };
    let mut pipe: Option<Pipe> = None;
    pool::run(&job, payload, first, &mut |chunk| {
        let header: BlockHeader = chunk.header()?;
        let pipe = match &mut pipe {
            Some(pipe) => pipe,
            None => pipe.insert(Pipe::new(header.rate, header.channels, header.channels, options, limits)?),
        };
        pipe.push(&block_samples(&chunk.data), sink)
    })?;
    match pipe {
        Some(pipe) => pipe.finish(sink),
        None => Err(Error::internal("the audio job gave no answer")),
    }
}

fn stream_native(
    mut audio: NativeAudio<'_>,
    options: &DecodeOptions,
    limits: &Limits,
    deadline: &mut dyn FnMut() -> Deadline,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let (rate, channels) = (audio.rate(), audio.channels());
    let mut pipe = Pipe::new(rate, channels, if options.mono { 1 } else { channels }, options, limits)?;
    let from = (options.start_s * f64::from(rate)).round() as u64;
    if let Some(frames) = audio.frames() {
        let frames = frames.saturating_sub(from).min(pipe.frames_left);
        check_seconds(frames as f64 / f64::from(rate), limits.audio_seconds_max)?;
    }
    guarded(|| {
        audio.start_at(from);
        Ok(())
    })?;
    let mut decoded = Vec::new();
    let mut block = Vec::new();
    while pipe.frames_left > 0 {
        let now = deadline();
        audio.renew(now);
        decoded.clear();
        let more = guarded(|| {
            // Packets are small; a block of them is worth one call of the sink.
            while decoded.len() < 1 << 16 {
                now.check()?;
                if !audio.next(&mut decoded)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        block.clear();
        if options.mono {
            mix_to_mono(&decoded, channels, &mut block);
        } else {
            block.extend_from_slice(&decoded);
        }
        if !pipe.push(&block, sink)? {
            return Ok(());
        }
        if !more {
            break;
        }
    }
    pipe.finish(sink)
}

/// Counts, cuts and resamples what a decoder gives.
struct Pipe {
    format: SampleFormat,
    resampler: Resampler,
    rate_in: u32,
    /// Input frames that are still wanted.
    frames_left: u64,
    /// Input frames so far.
    frames: u64,
    seconds_max: u64,
    out: Vec<f32>,
    stopped: bool,
}

impl Pipe {
    /// `channels` is what the decoder has, `channels_out` what is pushed.
    fn new(rate: u32, channels: u16, channels_out: u16, options: &DecodeOptions, limits: &Limits) -> Result<Self> {
        if channels == 0 {
            return Err(Error::bad_media("could not decode the audio").detail("It has no channels."));
        }
        let rate_out = options.sample_rate.unwrap_or(rate);
        let frames_left = options.duration_s.map_or(u64::MAX, |s| (s * f64::from(rate)).round() as u64);
        Ok(Self {
            format: SampleFormat { rate: rate_out, channels: channels_out },
            resampler: Resampler::new(rate, rate_out, channels_out)?,
            rate_in: rate,
            frames_left,
            frames: 0,
            seconds_max: limits.audio_seconds_max,
            out: Vec::new(),
            stopped: false,
        })
    }

    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<bool> {
        let width = usize::from(self.format.channels.max(1));
        let frames = ((samples.len() / width) as u64).min(self.frames_left);
        self.frames += frames;
        self.frames_left -= frames;
        check_seconds(self.frames as f64 / f64::from(self.rate_in), self.seconds_max)?;
        self.out.clear();
        self.resampler.push(samples.get(..frames as usize * width).unwrap_or_default(), &mut self.out)?;
        if !self.out.is_empty() && !sink(self.format, &self.out)? {
            self.stopped = true;
            return Ok(false);
        }
        Ok(self.frames_left > 0)
    }

    fn finish(mut self, sink: &mut Sink<'_>) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        self.out.clear();
        self.resampler.finish(&mut self.out)?;
        sink(self.format, &self.out)?;
        Ok(())
    }
}

/// Fails with 54000 when a recording is longer than the limit.
pub fn check_seconds(seconds: f64, seconds_max: u64) -> Result<()> {
    if seconds > seconds_max as f64 {
        let what = format!("the recording has {seconds:.0} s or more, more than {seconds_max} s");
        return Err(Error::limit(what, "squilla.max_audio_seconds"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::audio::encode::{WavSample, encode_wav};
    use squilla_core::values::AudioView;

    fn stereo(frames: usize) -> Vec<u8> {
        let samples: Vec<f32> = (0..frames).flat_map(|i| [(i % 100) as f32 / 256.0, -((i % 100) as f32) / 256.0]).collect();
        encode_wav(AudioView { samples: &samples, sample_rate: 8000, channels: 2 }, WavSample::Float32).unwrap()
    }

    fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Audio> {
        let limits = Limits { audio_seconds_max: 10, ..Limits::default() };
        decode_audio(&Payload::borrowed(bytes), &options, &limits, &limits.deadline())
    }

    #[test]
    fn parts_rates_and_channels() {
        let bytes = stereo(40_000);
        let whole = decode(&bytes, DecodeOptions::default()).unwrap();
        assert_eq!((whole.samples.len(), whole.sample_rate, whole.channels), (80_000, 8000, 2));
        assert_eq!(whole.samples[2 * 57 + 1], -57.0 / 256.0);
        let part = decode(&bytes, DecodeOptions { start_s: 1.0, duration_s: Some(0.5), ..Default::default() }).unwrap();
        assert_eq!(part.samples, whole.samples[16_000..24_000]);
        let mono = decode(&bytes, DecodeOptions::speech()).unwrap();
        assert_eq!((mono.samples.len(), mono.sample_rate, mono.channels), (80_000, 16_000, 1));
        assert!(mono.samples.iter().all(|s| s.abs() < 1e-6));
        let none = decode(&bytes, DecodeOptions { start_s: 99.0, ..Default::default() }).unwrap();
        assert_eq!((none.samples.len(), none.sample_rate), (0, 8000));
    }

    #[test]
    fn limits_and_arguments() {
        let bytes = stereo(88_000);
        assert_eq!(decode(&bytes, DecodeOptions::default()).unwrap_err().sqlstate(), "54000");
        assert!(decode(&bytes, DecodeOptions { duration_s: Some(9.0), ..Default::default() }).is_ok());
        for options in [
            DecodeOptions { start_s: -1.0, ..Default::default() },
            DecodeOptions { duration_s: Some(f64::NAN), ..Default::default() },
            DecodeOptions { sample_rate: Some(0), ..Default::default() },
        ] {
            assert_eq!(decode(&bytes, options).unwrap_err().sqlstate(), "22023");
        }
    }

    #[test]
    fn a_streamed_wav_is_read_by_the_other_decoder() {
        let mut bytes = stereo(8000);
        let whole = decode(&bytes, DecodeOptions::default()).unwrap();
        let at = bytes.windows(4).position(|w| w == b"data").unwrap() + 4;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bytes, DecodeOptions::default()).unwrap(), whole);
    }

    #[test]
    fn noise_is_a_row_error() {
        let noise: Vec<u8> = (0..20_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(decode(&noise, DecodeOptions::default()).unwrap_err().sqlstate(), "22P03");
        assert_eq!(decode(b"", DecodeOptions::default()).unwrap_err().sqlstate(), "22P03");
    }
}
