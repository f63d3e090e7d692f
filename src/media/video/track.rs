//! The video track of a container: its facts, its packets, its decoder.
//!
//! In: a payload. Out: packets of the one track in file order, with times counted from the track's start. Invariant:
//! pictures attached to sound files (covers) are no video. Deliberately absent: choice among several tracks; FFmpeg's
//! best one is taken.

use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{Error as Foreign, Packet, Rational, codec, media};
use squilla_core::error::{Error, Result};

use crate::ffmpeg;
use crate::sandbox::job::Payload;

/// An open video file.
pub struct VideoTrack {
    /// The container.
    pub input: Input,
    /// The track's clock.
    base: Rational,
    /// Seconds of one tick of it.
    pub tick_s: f64,
    /// Tick of the first frame.
    pub start: i64,
    /// Frames per second, on average; 0 when unknown.
    pub fps: f64,
    /// Clockwise degrees by which a picture must be turned: 0, 90, 180 or 270.
    pub rotation: u32,
    /// Seconds, when the file says.
    pub duration_s: Option<f64>,
    /// Frames, when the file says.
    pub frames: Option<u64>,
    /// Name of the codec.
    pub codec: String,
    index: usize,
}

impl VideoTrack {
    /// Opens a video. Fails with 22P03 when there is none.
    pub fn open(payload: &Payload<'_>) -> Result<Self> {
        let input = ffmpeg::open(payload)?;
        let none = || Error::bad_media("there is no video in the file").detail("The file has no video track.");
        let stream = input.streams().best(media::Type::Video).ok_or_else(none)?;
        if stream.disposition().contains(Disposition::ATTACHED_PIC) {
            return Err(none());
        }
        let base = stream.time_base();
        let rate = |r| Some(ffmpeg::seconds(1, r)).filter(|fps| *fps > 0.0 && *fps <= 1000.0);
        let fps = rate(stream.avg_frame_rate()).or_else(|| rate(stream.rate())).unwrap_or(0.0);
        let matrix = stream.side_data().find(|side| side.kind() == side_data::Type::DisplayMatrix);
        let rotation = matrix.map_or(0, |side| clockwise(side.data()));
        let duration_s = ffmpeg::ticks(stream.duration()).filter(|d| *d > 0).map(|d| ffmpeg::seconds(d, base)).or_else(|| ffmpeg::duration_s(&input));
        let frames = u64::try_from(stream.frames()).ok().filter(|n| *n > 0);
        let start = ffmpeg::ticks(stream.start_time()).unwrap_or(0);
        let codec = ffmpeg::codec_name(stream.parameters().id());
        let index = stream.index();
        Ok(Self { tick_s: ffmpeg::seconds(1, base), base, start, fps, rotation, duration_s, frames, codec, index, input })
    }

    /// Starts a decoder for the track.
    pub fn decoder(&self) -> Result<codec::decoder::Video> {
        let stream = self.input.stream(self.index).ok_or_else(|| Error::internal("the video track is gone"))?;
        let mut context =
            codec::Context::from_parameters(stream.parameters()).map_err(|e| ffmpeg::failed("could not read the video track", e))?.decoder();
        context.set_packet_time_base(stream.time_base());
        context.video().map_err(|e| ffmpeg::failed("could not start the video decoder", e))
    }

    /// The next packet of the track; `None` at the end, or where the container breaks off.
    pub fn next_packet(&mut self) -> Option<Packet> {
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() == self.index => return Some(packet),
                Ok(()) | Err(Foreign::InvalidData) => {}
                Err(_) => return None,
            }
        }
    }

    /// Seconds from the track's start.
    pub fn time(&self, ticks: i64) -> f64 {
        ffmpeg::seconds(ticks.saturating_sub(self.start), self.base)
    }

    /// [`VideoTrack::time`] for those who read packets meanwhile.
    pub fn clock(&self) -> impl Fn(i64) -> f64 + Copy + use<> {
        let (start, base) = (self.start, self.base);
        move |ticks| ffmpeg::seconds(ticks.saturating_sub(start), base)
    }

    /// Seconds of a packet, when it says.
    pub fn packet_time(&self, packet: &Packet) -> Option<f64> {
        packet.pts().or(packet.dts()).map(|ticks| self.time(ticks))
    }

    /// How far a time may be off and still be the time that was asked for.
    pub fn tolerance(&self) -> f64 {
        (self.tick_s / 2.0).clamp(1e-9, 5e-4)
    }

    /// Goes to the last key frame at or before `seconds`.
    pub fn seek(&mut self, seconds: f64) -> Result<()> {
        let target = ((ffmpeg::seconds(self.start, self.base) + seconds) * 1e6) as i64;
        self.input.seek(target, ..target).map_err(|e| ffmpeg::failed("could not seek in the video", e))
    }
}

/// Clockwise degrees, to the next quarter turn, of a display matrix: nine 32-bit integers.
fn clockwise(data: &[u8]) -> u32 {
    let entry = |index: usize| data.get(index * 4..index * 4 + 4).and_then(|b| b.try_into().ok()).map_or(0.0, |b| f64::from(i32::from_ne_bytes(b)));
    let (a, b, c, d) = (entry(0), entry(1), entry(3), entry(4));
    let (scale_x, scale_y) = (a.hypot(c), b.hypot(d));
    if scale_x == 0.0 || scale_y == 0.0 {
        return 0;
    }
    let degrees = (b / scale_y).atan2(a / scale_x).to_degrees();
    ((degrees / 90.0).round() as i64 * 90).rem_euclid(360) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn quarter_turns() {
        let matrix =
            |a: i32, b: i32, c: i32, d: i32| [a, b, 0, c, d, 0, 0, 0, 1 << 14].iter().flat_map(|v: &i32| (v << 2).to_ne_bytes()).collect::<Vec<u8>>();
        let one = 1 << 14;
        assert_eq!(clockwise(&matrix(one, 0, 0, one)), 0);
        assert_eq!(clockwise(&matrix(0, one, -one, 0)), 90);
        assert_eq!(clockwise(&matrix(-one, 0, 0, -one)), 180);
        assert_eq!(clockwise(&matrix(0, -one, one, 0)), 270);
        assert_eq!(clockwise(&[]), 0);
    }
}
