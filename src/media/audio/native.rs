//! Common audio, decoded in process by pure Rust (symphonia).
//!
//! In: bytes or a local file. Out: packets of interleaved `f32` at the recording's own rate. `open` says `None` for what
//! this decoder cannot read or is known to read wrongly, and the caller turns to `foreign.rs`. Invariant: frame 0 is the
//! first frame that is meant to be heard. The decoder's own gap trimming is off, because it loses samples in the middle
//! of variable-rate MP3 and Vorbis; encoder delay and padding are cut here from what the container says.
//! Deliberately absent: threads; a caller that may wait for ever guards itself with the deadline.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use squilla_core::error::{Error, Result};
use squilla_core::limits::Deadline;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_VORBIS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Foreign;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::Timestamp;

use crate::audio::info::AudioInfo;
use crate::audio::mp4_edit;
use crate::audio::resample::{CHANNELS_MAX, RATE_MAX};
use crate::sandbox::job::Payload;

/// Frames decoded and thrown away before a seek target, so that overlapping transforms are whole when it comes.
const ROLL_IN: u64 = 8 * 1152;

/// Packets that may fail before the first one succeeds.
const FIRST_FAILURES_MAX: u32 = 64;

/// A recording that is being decoded.
pub struct NativeAudio<'a> {
    format: Box<dyn FormatReader + 'a>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    container: &'static str,
    codec: &'static str,
    rate: u32,
    channels: u16,
    /// Frames the header promises, delay and padding not counted.
    frames: Option<u64>,
    /// Frame number of the next decoded frame; negative inside the encoder delay.
    position: i64,
    /// Frames before this one are dropped.
    from: i64,
    /// Frames to drop: the encoder's padding.
    padding: Range<i64>,
    /// Timestamp of frame 0, when timestamps count frames and a seek can trust them.
    seek_origin: Option<i64>,
    /// The first block after a start or a seek has no left half: Vorbis gives nothing for it.
    drop_block: bool,
    vorbis: bool,
    ready: Vec<f32>,
    good: u32,
    bad: u32,
    clock: Arc<Mutex<Deadline>>,
}

/// Reads with a deadline, so that a demuxer that runs in circles is stopped as long as it reads.
struct Timed<R> {
    inner: R,
    deadline: Arc<Mutex<Deadline>>,
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.deadline.lock().left().is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.inner.read(buffer)
    }
}

impl<R: Seek> Seek for Timed<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: MediaSource> MediaSource for Timed<R> {
    fn is_seekable(&self) -> bool {
        self.inner.is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        self.inner.byte_len()
    }
}

/// Opens the local file behind a payload.
pub fn open_file(payload: &Payload<'_>) -> Result<File> {
    let file = payload.file()?;
    File::open(file.path()).map_err(|e| Error::io(format_args!("could not open {}", file.path().display()), e))
}

impl<'a> NativeAudio<'a> {
    /// Opens a recording and decodes up to its first packet. `None`: not a recording that this decoder reads well.
    /// Fails with 22P03 when the payload is empty, 58P01 or 58030 when the file cannot be read.
    pub fn open(payload: &'a Payload<'_>, deadline: Deadline) -> Result<Option<Self>> {
        // A panic of the parser on a hostile header is no verdict: the other decoder gives its own.
        catch_unwind(AssertUnwindSafe(|| Self::open_unguarded(payload, deadline))).unwrap_or(Ok(None))
    }

    fn open_unguarded(payload: &'a Payload<'_>, deadline: Deadline) -> Result<Option<Self>> {
        match payload {
            Payload::Bytes(bytes) => {
                let bytes: &'a [u8] = bytes;
                if bytes.is_empty() {
                    return Err(empty());
                }
                Self::open_source(|| Ok(Cursor::new(bytes)), deadline)
            }
            other => {
                let file = open_file(other)?;
                if file.metadata().map(|meta| meta.len() == 0).unwrap_or(false) {
                    return Err(empty());
                }
                Self::open_source(|| open_file(other), deadline)
            }
        }
    }

    fn open_source<S: MediaSource + 'a>(source: impl Fn() -> Result<S>, deadline: Deadline) -> Result<Option<Self>> {
        let mut head = Vec::new();
        // A source that fails here fails again below, with the error that counts.
        let _ = Read::take(source()?, 4096).read_to_end(&mut head);
        if has_streamed_size(&head) {
            return Ok(None);
        }
        let clock = Arc::new(Mutex::new(deadline));
        let stream = MediaSourceStream::new(Box::new(Timed { inner: source()?, deadline: Arc::clone(&clock) }), Default::default());
        let probe = symphonia::default::get_probe();
        let Ok(format) = probe.probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default()) else {
            deadline.check()?;
            return Ok(None);
        };
        let priming = if format.format_info().short_name == "isomp4" { mp4_edit::leading_seconds(&mut source()?) } else { None };
        let Some(mut audio) = Self::with_format(format, priming, clock) else { return Ok(None) };
        let mut first = Vec::new();
        // What cannot decode its first packets may only be a flavour that is not supported here: AAC with six channels.
        match audio.next(&mut first) {
            Ok(_) if audio.good > 0 => {}
            _ => {
                deadline.check()?;
                return Ok(None);
            }
        }
        audio.ready = first;
        Ok(Some(audio))
    }

    fn with_format(format: Box<dyn FormatReader + 'a>, priming: Option<f64>, clock: Arc<Mutex<Deadline>>) -> Option<Self> {
        let track = format.default_track(TrackType::Audio)?;
        let params = track.codec_params.as_ref()?.audio()?;
        let decoder = make_decoder(params)?;
        let container = container_name(format.format_info().short_name);
        let codec = decoder.codec_info().short_name;
        let rate = params.sample_rate.unwrap_or(0);
        let mut audio = Self {
            decoder,
            track_id: track.id,
            container,
            codec,
            rate,
            channels: params.channels.as_ref().map_or(0, |c| u16::try_from(c.count()).unwrap_or(u16::MAX)),
            frames: track.num_frames.filter(|n| *n > 0),
            position: 0,
            from: 0,
            padding: i64::MAX..i64::MAX,
            seek_origin: None,
            drop_block: params.codec == CODEC_ID_VORBIS,
            vorbis: params.codec == CODEC_ID_VORBIS,
            ready: Vec::new(),
            good: 0,
            bad: 0,
            format,
            clock,
        };
        audio.plan_trims(priming);
        Some(audio)
    }

    /// Sets where frame 0 is and what is padding, from what the track says.
    fn plan_trims(&mut self, priming: Option<f64>) {
        let Some(track) = self.format.tracks().iter().find(|track| track.id == self.track_id) else { return };
        let counts_frames = counts_frames(track, self.rate);
        let frames = track.num_frames.and_then(|n| i64::try_from(n).ok());
        match self.container {
            "mp3" | "mp2" | "mp1" => {
                self.position = -i64::from(track.delay.unwrap_or(0));
                if track.delay.is_none() {
                    // Without an encoder's tag the count is a guess from the first bit rate.
                    self.frames = None;
                }
                if let (Some(frames), Some(padding)) = (frames, track.padding) {
                    self.padding = frames..frames.saturating_add(padding.into());
                }
                self.seek_origin = counts_frames.then_some(0);
            }
            "mp4" => {
                let is_aac = track.codec_params.as_ref().and_then(|p| p.audio()).is_some_and(|p| p.codec == CODEC_ID_AAC);
                let skip = priming.filter(|_| is_aac).map_or(0, |s| (s * f64::from(self.rate)).round() as i64);
                self.position = -skip;
                self.frames = self.frames.map(|n| n.saturating_sub(skip.unsigned_abs()));
                self.seek_origin = counts_frames.then_some(skip);
            }
            "ogg" if self.vorbis => {
                // The last page's granule position says where the sound ends inside its last block.
                if let Some(frames) = frames.filter(|n| *n > 0) {
                    self.padding = self.position + frames..i64::MAX;
                }
            }
            "aac" => self.frames = None,
            "wav" | "aiff" | "flac" | "caf" => self.seek_origin = counts_frames.then_some(0),
            _ => {}
        }
    }

    /// Replaces the moment at which reading is given up.
    pub fn renew(&self, deadline: Deadline) {
        *self.clock.lock() = deadline;
    }

    /// Hertz.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Interleaved channels.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Frames the header promises; `None` when it does not say or only lets one guess.
    pub fn frames(&self) -> Option<u64> {
        self.frames
    }

    /// What the headers say; `file_bytes` gives the mean bit rate. Where they do not say how long the recording is, its
    /// packets are counted, without decoding them. Use it for nothing else afterwards.
    pub fn info(mut self, file_bytes: Option<u64>) -> AudioInfo {
        if self.frames.is_none() {
            self.frames = self.count_frames();
        }
        let duration_s = self.frames.map(|n| n as f64 / f64::from(self.rate.max(1)));
        AudioInfo {
            codec: self.codec.to_owned(),
            container: self.container.to_owned(),
            sample_rate: self.rate,
            channels: self.channels,
            duration_s,
            frames: self.frames,
            bit_rate: AudioInfo::mean_bit_rate(file_bytes, duration_s),
        }
    }

    /// Where the last packet ends, in frames from frame 0.
    fn count_frames(&mut self) -> Option<u64> {
        let track = self.format.tracks().iter().find(|track| track.id == self.track_id)?;
        let base = track.time_base?;
        let to_frames = f64::from(self.rate) * f64::from(base.numer.get()) / f64::from(base.denom.get());
        let origin = self.seek_origin.unwrap_or(0) as f64;
        let channels = usize::from(self.channels.max(1));
        let mut end = (self.ready.len() / channels) as f64;
        while let Ok(Some(packet)) = self.format.next_packet() {
            if packet.track_id == self.track_id {
                end = end.max((packet.pts.get() as f64 + packet.block_dur().get() as f64) * to_frames - origin);
            }
        }
        Some(end.max(0.0).round() as u64)
    }

    /// Makes `frame` the first frame that `next` gives. Only before the first call of `next`. Past the end, `next` gives
    /// nothing.
    pub fn start_at(&mut self, frame: u64) {
        let target = i64::try_from(frame).unwrap_or(i64::MAX);
        self.from = target;
        let ready = (self.ready.len() / usize::from(self.channels.max(1))) as u64;
        if let Some(origin) = self.seek_origin.filter(|_| frame > ready.saturating_add(4 * ROLL_IN)) {
            self.jump(target, origin, frame.saturating_sub(ROLL_IN));
            return;
        }
        let drop = frame.min(ready) as usize * usize::from(self.channels);
        self.ready.drain(..drop);
    }

    /// Seeks near `near`; when the seek fails, decoding goes on from where it is and frames are dropped up to the target.
    fn jump(&mut self, target: i64, origin: i64, near: u64) {
        let near = i64::try_from(near).unwrap_or(i64::MAX).saturating_add(origin);
        let to = SeekTo::Timestamp { ts: Timestamp::new(near), track_id: self.track_id };
        match self.format.seek(SeekMode::Accurate, to) {
            Ok(seeked) => {
                self.ready.clear();
                self.decoder.reset();
                self.drop_block = self.vorbis;
                self.position = seeked.actual_ts.get().saturating_sub(origin);
            }
            Err(_) => {
                let past_end = self.frames.is_some_and(|frames| target >= i64::try_from(frames).unwrap_or(i64::MAX));
                self.ready.clear();
                if past_end {
                    self.padding = 0..i64::MAX;
                }
            }
        }
    }

    /// Appends the next packet's frames to `out`; `false` at the end. A call may append nothing.
    /// Fails with 22P03 when most of the recording is damaged, or changes its rate or channels.
    pub fn next(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        if !self.ready.is_empty() {
            out.append(&mut self.ready);
            return Ok(true);
        }
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return self.end(),
                Err(Foreign::ResetRequired) => {
                    self.next_link()?;
                    continue;
                }
                Err(Foreign::IoError(e)) if e.kind() == std::io::ErrorKind::TimedOut => return Err(Error::io("could not read the audio", e)),
                // A container that breaks off: what came before is good.
                Err(_) => return self.end(),
            };
            if packet.track_id != self.track_id {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(_) => {}
                Err(Foreign::DecodeError(_) | Foreign::IoError(_)) => {
                    self.bad += 1;
                    if self.good == 0 && self.bad > FIRST_FAILURES_MAX {
                        return self.end();
                    }
                    continue;
                }
                Err(Foreign::ResetRequired) => {
                    self.decoder.reset();
                    continue;
                }
                Err(e) => return Err(damaged(format!("The decoder said: {e}."))),
            }
            self.good += 1;
            self.take_decoded(out)?;
            return Ok(true);
        }
    }

    /// Copies what was decoded last to `out`, less what is to be dropped.
    fn take_decoded(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let buffer = self.decoder.last_decoded();
        let spec = buffer.spec();
        let channels = u16::try_from(spec.channels().count()).unwrap_or(u16::MAX);
        if self.good == 1 {
            self.rate = spec.rate();
            self.channels = channels;
            if self.rate == 0 || self.rate > RATE_MAX || channels == 0 || channels > CHANNELS_MAX {
                return Err(damaged(format!("It has {channels} channels at {} Hz.", self.rate)));
            }
        } else if spec.rate() != self.rate || channels != self.channels {
            return Err(damaged(format!("It changes from {} channels at {} Hz to {channels} at {} Hz.", self.channels, self.rate, spec.rate())));
        }
        if std::mem::take(&mut self.drop_block) {
            return Ok(());
        }
        let frames = buffer.frames();
        let start = self.position;
        let end = start.saturating_add(i64::try_from(frames).unwrap_or(0));
        self.position = end;
        if end <= self.from || (self.padding.start <= start && end <= self.padding.end) {
            return Ok(());
        }
        let width = usize::from(channels);
        let before = out.len();
        out.resize(before + frames * width, 0.0);
        if let Some(room) = out.get_mut(before..) {
            buffer.copy_to_slice_interleaved(room);
        }
        // Padding first, then the start: both count from this packet's first frame.
        let cut_from = (self.padding.start.clamp(start, end) - start) as usize;
        let cut_to = (self.padding.end.clamp(start, end) - start) as usize;
        if cut_from < cut_to {
            out.drain(before + cut_from * width..before + cut_to * width);
        }
        let skip = (self.from.clamp(start, end) - start) as usize;
        if skip > 0 {
            let skip = (skip * width).min(out.len() - before);
            out.drain(before..before + skip);
        }
        Ok(())
    }

    /// The next stream of a chained file takes the place of this one.
    fn next_link(&mut self) -> Result<()> {
        let base = self.position;
        let link = self.format.default_track(TrackType::Audio).and_then(|track| {
            let params = track.codec_params.as_ref()?.audio()?;
            Some((track.id, track.num_frames, params.codec == CODEC_ID_VORBIS, make_decoder(params)?))
        });
        let Some((track_id, frames, vorbis, decoder)) = link else {
            return Err(damaged("A later part of the file is of another kind.".to_owned()));
        };
        self.track_id = track_id;
        self.decoder = decoder;
        self.vorbis = vorbis;
        self.drop_block = vorbis;
        self.seek_origin = None;
        self.padding = match frames.and_then(|n| i64::try_from(n).ok()).filter(|n| *n > 0 && vorbis) {
            Some(frames) => base.saturating_add(frames)..i64::MAX,
            None => i64::MAX..i64::MAX,
        };
        Ok(())
    }

    fn end(&self) -> Result<bool> {
        if self.good == 0 {
            Err(damaged("No packet could be decoded.".to_owned()))
        } else if self.bad > self.good {
            Err(damaged(format!("{} of {} packets could not be decoded.", self.bad, self.bad + self.good)))
        } else {
            Ok(false)
        }
    }
}

fn make_decoder(params: &AudioCodecParameters) -> Option<Box<dyn AudioDecoder>> {
    let options = AudioDecoderOptions::default().gapless(false);
    symphonia::default::get_codecs().make_audio_decoder(params, &options).ok()
}

/// Whether a track's timestamps are frame numbers.
fn counts_frames(track: &Track, rate: u32) -> bool {
    track.time_base.is_some_and(|base| base.numer.get() == 1 && base.denom.get() == rate)
}

/// The name used in `audio_info`, after FFmpeg's.
fn container_name(short: &'static str) -> &'static str {
    match short {
        "wave" => "wav",
        "isomp4" => "mp4",
        "mkv" => "matroska",
        other => other,
    }
}

/// Whether a WAV header was written before the length was known: the size is 0 or the largest number.
fn has_streamed_size(head: &[u8]) -> bool {
    if head.get(..4) != Some(b"RIFF") || head.get(8..12) != Some(b"WAVE") {
        return false;
    }
    let word = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let unknown = |size: u32| size == 0 || size >= u32::MAX - 255;
    let mut at = 12;
    while let (Some(kind), Some(size)) = (head.get(at..at + 4), word(at + 4)) {
        if kind == b"data" {
            return unknown(size);
        }
        at += 8 + size as usize + (size as usize & 1);
    }
    false
}

fn empty() -> Error {
    Error::bad_media("the audio is empty").detail("It has no bytes.")
}

/// The error of a recording that cannot be decoded.
pub fn damaged(detail: String) -> Error {
    Error::bad_media("could not decode the audio").detail(detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::audio::encode::{WavSample, encode_wav};
    use squilla_core::limits::Limits;
    use squilla_core::values::AudioView;

    fn wav(frames: usize) -> Vec<u8> {
        let samples: Vec<f32> = (0..frames).map(|i| (i % 1000) as f32 / 32_768.0).collect();
        encode_wav(AudioView { samples: &samples, sample_rate: 8000, channels: 1 }, WavSample::Pcm16).unwrap()
    }

    fn drain(audio: &mut NativeAudio<'_>) -> Vec<f32> {
        let mut out = Vec::new();
        while audio.next(&mut out).unwrap() {}
        out
    }

    #[test]
    fn wav_comes_back_and_starts_anywhere() {
        let bytes = wav(100_000);
        let payload = Payload::borrowed(&bytes);
        let deadline = Limits::default().deadline();
        for start in [0_u64, 1, 700, 60_000, 99_999, 100_000, 5_000_000] {
            let mut audio = NativeAudio::open(&payload, deadline).unwrap().unwrap();
            assert_eq!((audio.rate(), audio.channels(), audio.frames()), (8000, 1, Some(100_000)));
            audio.start_at(start);
            let out = drain(&mut audio);
            assert_eq!(out.len() as u64, 100_000_u64.saturating_sub(start), "from {start}");
            if let Some(first) = out.first() {
                assert_eq!(*first, (start % 1000) as f32 / 32_768.0);
            }
        }
    }

    #[test]
    fn streamed_sizes_and_strangers_go_elsewhere() {
        let deadline = Limits::default().deadline();
        let mut bytes = wav(100);
        bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(NativeAudio::open(&Payload::borrowed(&bytes), deadline).unwrap().is_none());
        assert!(NativeAudio::open(&Payload::borrowed(&[7; 5000]), deadline).unwrap().is_none());
        assert_eq!(NativeAudio::open(&Payload::borrowed(b""), deadline).err().unwrap().sqlstate(), "22P03");
    }
}
