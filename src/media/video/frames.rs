//! Frames of a video as a stream, and the one frame that is shown at a moment.
//!
//! In: a payload and [`FrameOptions`]. Out: [`VideoFrame`]s, one at a time, in the order they are shown. Invariant: the
//! file is read once from front to back, only what leads up to a wanted frame is decoded (frames that no other refers to are
//! left out, see `skip`), only wanted frames are converted, and everything stops as soon as the receiver has enough. `frame_no` counts the frames of the whole track
//! from 0, whatever is left out. Deliberately absent: random access by frame number.

use std::collections::VecDeque;

use ffmpeg_next::codec::discard::Discard;
use ffmpeg_next::{Error as Foreign, Packet, codec, frame};
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::limits::{Deadline, Limits};
use squilla_core::values::{Image, PixelType};

use crate::audio::decode::check_size;
use crate::sandbox::job::{Chunk, Emit, Job, Payload};
use crate::sandbox::pool;
use crate::video::convert::{Converter, check_pixels};
use crate::video::select::{FrameOptions, Selector, Verdict};
use crate::video::skip::Lookahead;
use crate::video::track::VideoTrack;

/// Bytes of packets that are kept while looking for the key frame before the start.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Packets read past a key frame to find the frames that are shown before it.
const LEADING_MAX: u32 = 64;

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoFrame {
    /// 0 is the first frame of the track.
    pub frame_no: u64,
    /// Seconds from the start of the track.
    pub pts_s: f64,
    /// Whether it is coded on its own.
    pub is_keyframe: bool,
    /// RGB, upright.
    pub image: Image,
}

/// Receives frames; `Ok(false)` stops.
pub type FrameSink<'a> = dyn FnMut(VideoFrame) -> Result<bool> + 'a;

/// The frames that `options` ask for.
/// Fails with 22P03 on bytes that are no video, 22023 on options out of range, 54000 above the limits.
pub fn video_frames(payload: &Payload<'_>, options: &FrameOptions, limits: &Limits, deadline: &Deadline, emit: &mut FrameSink<'_>) -> Result<()> {
    options.check()?;
    check_size(payload, limits)?;
    let job = VideoFramesJob { options: options.clone(), pixels_max: limits.image_pixels_max };
    let mut count = 0;
    pool::run(&job, payload, *deadline, &mut |chunk| {
        count += 1;
        if count > limits.video_frames_max {
            let message = format!("the video gives more than {} frames", limits.video_frames_max);
            return Err(Error::limit(message, "squilla.max_video_frames"));
        }
        emit(from_chunk(chunk)?)
    })
}

/// The frame shown at `at_s` seconds: the last one whose time is not after it. Its `frame_no` is time times rate.
/// Fails with 22023 before the start and after the end.
pub fn video_frame_at(payload: &Payload<'_>, at_s: f64, limits: &Limits, deadline: &Deadline) -> Result<VideoFrame> {
    if !at_s.is_finite() || at_s < 0.0 {
        return Err(Error::invalid_argument(format!("time {at_s} is out of range")).detail("It is 0 or more."));
    }
    check_size(payload, limits)?;
    let job = VideoFrameAtJob { at_s, pixels_max: limits.image_pixels_max };
    let mut found = None;
    pool::run(&job, payload, *deadline, &mut |chunk| {
        found = Some(from_chunk(chunk)?);
        Ok(true)
    })?;
    found.ok_or_else(|| Error::internal("the video job gave no answer"))
}

/// A frame's chunk header.
#[derive(Debug, Serialize, Deserialize)]
struct FrameHeader {
    frame_no: u64,
    pts_s: f64,
    is_keyframe: bool,
    width: u32,
    height: u32,
}

fn from_chunk(chunk: Chunk) -> Result<VideoFrame> {
    let header: FrameHeader = chunk.header()?;
    let (width, height) = (header.width, header.height);
    if chunk.data.len() as u64 != u64::from(width) * u64::from(height) * 3 {
        return Err(Error::internal("a frame of the wrong size came from the video job"));
    }
    let image = Image { data: chunk.data, width, height, channels: 3, pixel: PixelType::U8 };
    Ok(VideoFrame { frame_no: header.frame_no, pts_s: header.pts_s, is_keyframe: header.is_keyframe, image })
}

/// Job: the frames that are asked for, as chunks of RGB bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct VideoFramesJob {
    /// Which frames.
    pub options: FrameOptions,
    /// Pixels of a frame at most.
    pub pixels_max: u64,
}

/// Job: one frame, as a chunk of RGB bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct VideoFrameAtJob {
    /// Seconds from the start of the track.
    pub at_s: f64,
    /// Pixels of a frame at most.
    pub pixels_max: u64,
}

impl Job for VideoFramesJob {
    const NAME: &'static str = "video_frames";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let track = VideoTrack::open(payload)?;
        let mut run = Run::new(track, &self.options, self.pixels_max)?;
        if self.options.keyframes_only {
            run.keyframes(emit)?
        } else {
            run.all(self.options.start_s.unwrap_or(0.0), emit)?
        }
        run.end()
    }
}

/// The state of one decoding.
struct Run {
    track: VideoTrack,
    decoder: codec::decoder::Video,
    /// Looks for frames that need not be decoded.
    ahead: Option<Lookahead>,
    selector: Selector,
    converter: Converter,
    /// Number and earliest time of the next frame that the decoder gives.
    next_no: u64,
    not_before: f64,
    last_time: Option<f64>,
    decoded: u64,
    refused: u64,
    done: bool,
}

impl Run {
    fn new(track: VideoTrack, options: &FrameOptions, pixels_max: u64) -> Result<Self> {
        let decoder = track.decoder()?;
        check_pixels(decoder.width(), decoder.height(), pixels_max)?;
        let selector = Selector::new(options, track.tolerance());
        Ok(Self {
            ahead: Lookahead::new(&track.codec, options, &selector),
            selector,
            converter: Converter::new(options.width, options.height, track.rotation, pixels_max),
            decoder,
            track,
            next_no: 0,
            not_before: f64::NEG_INFINITY,
            last_time: None,
            decoded: 0,
            refused: 0,
            done: false,
        })
    }

    /// Decodes everything from the key frame before `start`.
    fn all(&mut self, start: f64, emit: &mut Emit<'_>) -> Result<()> {
        if self.selector.is_done() {
            self.done = true;
            return Ok(());
        }
        let mut held = VecDeque::new();
        if start > 0.0 {
            held = self.skip_to(start).into();
        }
        let clock = self.track.clock();
        while !self.done {
            let track = &mut self.track;
            let mut read = || held.pop_front().or_else(|| track.next_packet());
            let packet = match &mut self.ahead {
                None => read(),
                Some(ahead) => match ahead.next(read, clock) {
                    Some((packet, wanted)) => {
                        self.decoder.skip_frame(if wanted { Discard::Default } else { Discard::NonReference });
                        Some(packet)
                    }
                    None => None,
                },
            };
            let Some(packet) = packet else { break };
            self.send(&packet, emit)?;
        }
        if !self.done {
            let _ = self.decoder.send_eof();
            self.receive(emit)?;
        }
        Ok(())
    }

    /// Reads up to `start` without decoding; gives back the packets from the last key frame on.
    fn skip_to(&mut self, start: f64) -> Vec<Packet> {
        let mut held: Vec<Packet> = Vec::new();
        let mut bytes = 0;
        let mut skipped = 0_u64;
        let limit = start + self.track.tolerance();
        while let Some(packet) = self.track.next_packet() {
            let time = self.track.packet_time(&packet);
            if packet.is_key() && time.is_some_and(|time| time <= limit) {
                skipped += held.len() as u64;
                held.clear();
                bytes = 0;
            }
            bytes += packet.size();
            held.push(packet);
            if time.is_some_and(|time| time > limit) || bytes > HELD_BYTES_MAX {
                break;
            }
        }
        if skipped > 0 {
            // Frames that follow the key frame in the file but are shown before it belong to the part left out.
            let key = held.first().and_then(|packet| self.track.packet_time(packet)).unwrap_or(start);
            let leading = held.iter().filter(|packet| self.track.packet_time(packet).is_some_and(|time| time < key)).count();
            self.next_no = skipped + leading as u64;
            self.not_before = key - self.track.tolerance();
        }
        held
    }

    fn send(&mut self, packet: &Packet, emit: &mut Emit<'_>) -> Result<()> {
        if self.done {
            return Ok(());
        }
        match self.decoder.send_packet(packet) {
            Ok(()) => self.receive(emit),
            Err(_) => {
                self.refused += 1;
                Ok(())
            }
        }
    }

    fn receive(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let mut picture = frame::Video::empty();
        while !self.done {
            match self.decoder.receive_frame(&mut picture) {
                Ok(()) => {}
                Err(Foreign::Eof) => break,
                Err(Foreign::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => break,
                Err(_) => {
                    self.refused += 1;
                    break;
                }
            }
            let time = self.frame_time(&picture);
            if let Some(ahead) = &mut self.ahead {
                let (track, not_before) = (&self.track, self.not_before);
                self.next_no += ahead.left_out_before(picture.timestamp(), |tick| track.time(tick) >= not_before);
            }
            if time < self.not_before {
                continue;
            }
            self.decoded += 1;
            let number = self.next_no;
            self.next_no += 1;
            self.last_time = Some(time);
            match self.selector.judge(time) {
                Verdict::Take => self.give(number, time, &picture, emit)?,
                Verdict::Leave => {}
                Verdict::Stop => self.done = true,
            }
        }
        Ok(())
    }

    /// The frame's own time; where it has none, one frame after the last one.
    fn frame_time(&self, picture: &frame::Video) -> f64 {
        match picture.timestamp() {
            Some(ticks) => self.track.time(ticks),
            None => match self.last_time {
                Some(last) => last + if self.track.fps > 0.0 { 1.0 / self.track.fps } else { self.track.tick_s },
                None => 0.0,
            },
        }
    }

    fn give(&mut self, number: u64, time: f64, picture: &frame::Video, emit: &mut Emit<'_>) -> Result<()> {
        let image = self.converter.convert(picture)?;
        let header = FrameHeader { frame_no: number, pts_s: time, is_keyframe: picture.is_key(), width: image.width, height: image.height };
        if !emit(Chunk::new(&header, image.data)?)? || self.selector.is_done() {
            self.done = true;
        }
        Ok(())
    }

    /// Decodes key frames alone.
    fn keyframes(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let mut packets = 0_u64;
        let mut ahead: Option<Packet> = None;
        while !self.done {
            let Some(packet) = ahead.take().or_else(|| self.track.next_packet()) else { break };
            let before = packets;
            packets += 1;
            if !packet.is_key() {
                continue;
            }
            let time = self.track.packet_time(&packet);
            // A frame that is not wanted need not be decoded. The verdict must come before the decoding, and once only.
            let verdict = match time {
                Some(time) => self.selector.judge(time),
                None => Verdict::Leave,
            };
            match verdict {
                Verdict::Leave => continue,
                Verdict::Stop => break,
                Verdict::Take => {}
            }
            let Some(picture) = self.decode_alone(&packet) else { continue };
            // Frames shown before the key frame may follow it in the file: they count.
            let mut leading = 0;
            for _ in 0..LEADING_MAX {
                let Some(next) = self.track.next_packet() else { break };
                if next.is_key() {
                    ahead = Some(next);
                    break;
                }
                packets += 1;
                match (self.track.packet_time(&next), time) {
                    (Some(next), Some(key)) if next < key => leading += 1,
                    _ if leading == 0 && !self.decoder.has_b_frames() => break,
                    _ => {}
                }
            }
            let shown = self.frame_time(&picture);
            self.give(before + leading, shown, &picture, emit)?;
        }
        Ok(())
    }

    /// One packet through the decoder and out again at once.
    fn decode_alone(&mut self, packet: &Packet) -> Option<frame::Video> {
        let mut picture = frame::Video::empty();
        let mut got = self.decoder.send_packet(packet).is_ok();
        if got {
            let _ = self.decoder.send_eof();
            got = self.decoder.receive_frame(&mut picture).is_ok();
        }
        self.decoder.flush();
        if got {
            self.decoded += 1;
            Some(picture)
        } else {
            self.refused += 1;
            None
        }
    }

    /// Decodes up to the last frame that is not after `at_s`; the very first frame when all are after it.
    fn shown_at(&mut self, at_s: f64) -> Option<(f64, frame::Video)> {
        let limit = at_s + self.track.tolerance();
        let mut shown: Option<(f64, frame::Video)> = None;
        loop {
            let packet = self.track.next_packet();
            let over = packet.is_none();
            let _ = match packet {
                Some(packet) => self.decoder.send_packet(&packet),
                None => self.decoder.send_eof(),
            };
            let mut picture = frame::Video::empty();
            while self.decoder.receive_frame(&mut picture).is_ok() {
                let time = self.frame_time(&picture);
                self.last_time = Some(time);
                if time > limit {
                    return shown.or(Some((time, picture)));
                }
                shown = Some((time, std::mem::replace(&mut picture, frame::Video::empty())));
            }
            if over {
                return shown;
            }
        }
    }

    /// Nothing decoded from packets that were there is an error; a window without frames is not.
    fn end(&self) -> Result<()> {
        if self.decoded == 0 && self.refused > 0 {
            return Err(Error::bad_media("could not decode the video").detail("No frame could be decoded."));
        }
        Ok(())
    }
}

impl Job for VideoFrameAtJob {
    const NAME: &'static str = "video_frame_at";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let mut found = None;
        let mut run = Run::new(VideoTrack::open(payload)?, &FrameOptions::default(), self.pixels_max)?;
        if self.at_s > 0.0 && run.track.seek(self.at_s).is_ok() {
            // Without an index a seek can land after the moment, or nowhere; then the file is read from its start.
            found = run.shown_at(self.at_s).filter(|(time, _)| *time <= self.at_s + run.track.tolerance());
        }
        if found.is_none() {
            run = Run::new(VideoTrack::open(payload)?, &FrameOptions::default(), self.pixels_max)?;
            found = run.shown_at(self.at_s);
        }
        let Some((time, picture)) = found else {
            return Err(Error::bad_media("could not decode the video").detail("No frame could be decoded."));
        };
        let length = if run.track.fps > 0.0 { 1.0 / run.track.fps } else { 0.5 };
        let end = run.track.duration_s.unwrap_or(0.0).max(time + length);
        if self.at_s > end {
            return Err(Error::new(Kind::InvalidArgument, format!("time {} is after the end of the video", self.at_s))
                .detail(format!("The last frame is shown at {time:.3} s.")));
        }
        let number = if run.track.fps > 0.0 { (time * run.track.fps).round().max(0.0) as u64 } else { 0 };
        run.give(number, time, &picture, emit)
    }
}
