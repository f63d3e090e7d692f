//! The recordings that the pure-Rust decoder cannot read, decoded by FFmpeg in a child process.
//!
//! In: a payload. Out: blocks of interleaved `f32` at the recording's own rate, or its [`AudioInfo`]. Takes AAC with more
//! than two channels, Opus, WMA, AC-3, GSM, WAV of unknown length and the sound of videos. Invariant: the child never
//! holds more than one block. Deliberately absent: resampling, which the server does itself for every decoder alike.

use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::sample::Sample;
use ffmpeg_next::{Error as Foreign, Packet, Rational, codec, frame, media};
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};

use crate::audio::decode::check_seconds;
use crate::audio::info::AudioInfo;
use crate::audio::native::damaged;
use crate::audio::resample::{CHANNELS_MAX, RATE_MAX, mix_to_mono};
use crate::ffmpeg;
use crate::sandbox::job::{Chunk, Emit, Job, Payload};

/// Samples that make a block worth sending.
const BLOCK_SAMPLES: usize = 64 * 1024;

/// Seconds decoded and thrown away before a seek target.
const ROLL_IN_S: f64 = 1.0;

/// Containers whose timestamps can be trusted after a seek.
const SEEKABLE: &[&str] = &["mp4", "matroska", "wav", "asf", "ogg", "avi", "flac", "w64", "caf"];

/// Job: the headers. One chunk whose header is an [`AudioInfo`].
#[derive(Debug, Serialize, Deserialize)]
pub struct FfmpegAudioInfo {}

/// Job: the samples, as chunks of little-endian `f32` with a [`BlockHeader`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FfmpegAudio {
    /// Seconds to skip at the start.
    pub start_s: f64,
    /// Seconds to give at most.
    pub duration_s: Option<f64>,
    /// Mix all channels to one.
    pub mono: bool,
    /// Seconds to decode at most; a header that promises more is refused.
    pub seconds_max: u64,
}

/// What a block of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHeader {
    /// Hertz.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u16,
}

/// The samples of a block.
pub fn block_samples(data: &[u8]) -> Vec<f32> {
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

impl Job for FfmpegAudioInfo {
    const NAME: &'static str = "ffmpeg_audio_info";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let input = ffmpeg::open(payload)?;
        let track = Track::find(&input)?;
        let duration_s = track.duration_s.or_else(|| ffmpeg::duration_s(&input));
        let bytes = input.io_size().and_then(|n| u64::try_from(n).ok());
        let info = AudioInfo {
            codec: track.codec,
            container: ffmpeg::container_name(&input),
            sample_rate: track.rate,
            channels: track.channels,
            duration_s,
            frames: duration_s.map(|s| (s * f64::from(track.rate)).round() as u64),
            bit_rate: AudioInfo::mean_bit_rate(bytes, duration_s),
        };
        emit(Chunk::new(&info, Vec::new())?)?;
        Ok(())
    }
}

/// The track that is played, and its opened decoder.
struct Track {
    index: usize,
    codec: String,
    rate: u32,
    channels: u16,
    duration_s: Option<f64>,
    base: Rational,
    start: i64,
    decoder: codec::decoder::Audio,
}

impl Track {
    fn find(input: &Input) -> Result<Self> {
        let stream = input
            .streams()
            .best(media::Type::Audio)
            .ok_or_else(|| Error::bad_media("there is no sound in the file").detail("The file has no audio track."))?;
        let base = stream.time_base();
        let id = stream.parameters().id();
        let mut context =
            codec::Context::from_parameters(stream.parameters()).map_err(|e| ffmpeg::failed("could not read the audio track", e))?.decoder();
        context.set_packet_time_base(stream.time_base());
        let decoder = context.audio().map_err(|e| ffmpeg::failed("could not start the audio decoder", e))?;
        Ok(Self {
            index: stream.index(),
            codec: ffmpeg::codec_name(id),
            rate: decoder.rate(),
            channels: decoder.channels(),
            duration_s: ffmpeg::ticks(stream.duration()).filter(|d| *d > 0).map(|d| ffmpeg::seconds(d, base)),
            base,
            start: ffmpeg::ticks(stream.start_time()).unwrap_or(0),
            decoder,
        })
    }
}

impl Job for FfmpegAudio {
    const NAME: &'static str = "ffmpeg_audio";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let mut input = ffmpeg::open(payload)?;
        let track = Track::find(&input)?;
        let promised = track.duration_s.or_else(|| ffmpeg::duration_s(&input)).unwrap_or(0.0) - self.start_s;
        check_seconds(promised.min(self.duration_s.unwrap_or(f64::INFINITY)), self.seconds_max)?;
        let mut sought = false;
        if self.start_s > 10.0 && SEEKABLE.contains(&ffmpeg::container_name(&input).as_str()) {
            let start = ffmpeg::seconds(track.start, track.base);
            let target = ((start + self.start_s - ROLL_IN_S) * 1e6) as i64;
            sought = input.seek(target, ..target).is_ok();
            if !sought {
                input = ffmpeg::open(payload)?;
            }
        }
        let mut run = Run {
            job: self,
            decoder: track.decoder,
            base: track.base,
            start: track.start,
            header: None,
            position: if sought { None } else { Some(0) },
            block: Vec::new(),
            frame_samples: Vec::new(),
            good: 0,
            bad: 0,
            done: false,
        };
        let mut packet = Packet::empty();
        while !run.done {
            match packet.read(&mut input) {
                Ok(()) if packet.stream() != track.index => {}
                Ok(()) => match run.decoder.send_packet(&packet) {
                    Ok(()) => run.receive(emit)?,
                    Err(_) => run.bad += 1,
                },
                Err(Foreign::InvalidData) => run.bad += 1,
                // The end, or a container that breaks off: what came before is good.
                Err(_) => break,
            }
            if run.good == 0 && run.bad > 1000 {
                break;
            }
        }
        if !run.done {
            let _ = run.decoder.send_eof();
            run.receive(emit)?;
        }
        run.end(emit)
    }
}

/// The state of one decoding.
struct Run {
    job: FfmpegAudio,
    decoder: codec::decoder::Audio,
    base: Rational,
    start: i64,
    header: Option<BlockHeader>,
    /// Frame number of the next frame; `None` after a seek until a timestamp tells.
    position: Option<i64>,
    block: Vec<f32>,
    frame_samples: Vec<f32>,
    good: u32,
    bad: u32,
    done: bool,
}

impl Run {
    /// Takes every frame that the decoder has ready.
    fn receive(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let mut frame = frame::Audio::empty();
        while !self.done {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => self.take(&frame, emit)?,
                Err(Foreign::Eof) => break,
                Err(Foreign::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => break,
                Err(_) => {
                    self.bad += 1;
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: &frame::Audio, emit: &mut Emit<'_>) -> Result<()> {
        let (rate, channels) = (frame.rate(), frame.channels());
        if rate == 0 || rate > RATE_MAX || channels == 0 || channels > CHANNELS_MAX {
            return Err(damaged(format!("It has {channels} channels at {rate} Hz.")));
        }
        let header = BlockHeader { rate, channels };
        match self.header {
            None => self.header = Some(header),
            Some(first) if first == header => {}
            Some(first) => {
                return Err(damaged(format!("It changes from {} channels at {} Hz to {channels} at {rate} Hz.", first.channels, first.rate)));
            }
        }
        self.good += 1;
        let frames = frame.samples();
        let position = match (self.position, frame.timestamp()) {
            (Some(position), _) => position,
            (None, Some(pts)) => (ffmpeg::seconds(pts.saturating_sub(self.start), self.base) * f64::from(rate)).round() as i64,
            (None, None) => return Ok(()),
        };
        let end = position.saturating_add(frames as i64);
        self.position = Some(end);
        let from = (self.job.start_s * f64::from(rate)).round() as i64;
        let to = self.job.duration_s.map_or(i64::MAX, |d| from.saturating_add((d * f64::from(rate)).round() as i64));
        let skip = (from.clamp(position, end) - position) as usize;
        let keep = (to.clamp(position, end) - position) as usize;
        self.done = end >= to;
        if skip >= keep {
            return Ok(());
        }
        self.frame_samples.clear();
        interleave(frame, &mut self.frame_samples)?;
        let width = usize::from(channels);
        let wanted = self.frame_samples.get(skip * width..keep * width).unwrap_or_default();
        if self.job.mono {
            mix_to_mono(wanted, channels, &mut self.block);
        } else {
            self.block.extend_from_slice(wanted);
        }
        if self.block.len() >= BLOCK_SAMPLES { self.send(emit) } else { Ok(()) }
    }

    fn send(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let Some(mut header) = self.header else { return Ok(()) };
        if self.job.mono {
            header.channels = 1;
        }
        let mut data = Vec::with_capacity(self.block.len() * 4);
        self.block.iter().for_each(|sample| data.extend_from_slice(&sample.to_le_bytes()));
        self.block.clear();
        if !emit(Chunk::new(&header, data)?)? {
            self.done = true;
        }
        Ok(())
    }

    fn end(mut self, emit: &mut Emit<'_>) -> Result<()> {
        if self.good == 0 {
            return Err(damaged("No packet could be decoded.".to_owned()));
        }
        if self.bad > self.good {
            return Err(damaged(format!("{} of {} packets could not be decoded.", self.bad, self.bad + self.good)));
        }
        // An empty block still tells rate and channels.
        self.send(emit)
    }
}

/// Appends a frame's samples, whatever their type and layout, as interleaved floats.
fn interleave(frame: &frame::Audio, out: &mut Vec<f32>) -> Result<()> {
    let frames = frame.samples();
    let channels = usize::from(frame.channels());
    let bytes = frame.format().bytes();
    let planar = frame.is_planar();
    let planes = if planar { channels } else { 1 };
    if frame.planes() < planes {
        return Err(damaged("A frame has no samples.".to_owned()));
    }
    let convert = converter(frame.format())?;
    let plane_samples = if planar { frames } else { frames * channels };
    let start = out.len();
    out.resize(start + frames * channels, 0.0);
    for plane in 0..planes {
        let data = frame.data(plane).get(..plane_samples * bytes).unwrap_or_default();
        let step = if planar { channels } else { 1 };
        let room = out.get_mut(start + plane..).unwrap_or_default();
        for (sample, slot) in data.chunks_exact(bytes.max(1)).zip(room.iter_mut().step_by(step)) {
            *slot = convert(sample);
        }
    }
    Ok(())
}

/// Reads one native-endian sample as a float in -1..=1.
fn converter(format: Sample) -> Result<fn(&[u8]) -> f32> {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    Ok(match format {
        Sample::U8(_) => |b| (f32::from(b.first().copied().unwrap_or(128)) - 128.0) / 128.0,
        Sample::I16(_) => |b| f32::from(i16::from_ne_bytes(array(b))) / 32_768.0,
        Sample::I32(_) => |b| (f64::from(i32::from_ne_bytes(array(b))) / 2_147_483_648.0) as f32,
        Sample::I64(_) => |b| (i64::from_ne_bytes(array(b)) as f64 / 9_223_372_036_854_775_808.0) as f32,
        Sample::F32(_) => |b| f32::from_ne_bytes(array(b)),
        Sample::F64(_) => |b| f64::from_ne_bytes(array(b)) as f32,
        Sample::None => return Err(damaged("A frame has no sample format.".to_owned())),
    })
}
