//! What the headers of a video say, without decoding it.
//!
//! In: bytes or a local file. Out: [`VideoInfo`]. Invariant: FFmpeg reads the headers in a child process.
//! Deliberately absent: tags, chapters, subtitles.

use ffmpeg_next::media;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};
use squilla_core::limits::{Deadline, Limits};

use crate::audio::decode::check_size;
use crate::ffmpeg;
use crate::sandbox::job::{Chunk, Emit, Job, Payload};
use crate::sandbox::pool;
use crate::video::track::VideoTrack;

/// The video track of a file, and whether it has sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoInfo {
    /// `mp4`, `matroska`, `avi`, ...
    pub container: String,
    /// `h264`, `hevc`, `vp9`, ...
    pub codec: String,
    /// Pixels of the upright picture.
    pub width: u32,
    /// Pixels of the upright picture.
    pub height: u32,
    /// Mean frames per second; `None` when unknown.
    pub fps: Option<f64>,
    /// Seconds; `None` when the file does not say.
    pub duration_s: Option<f64>,
    /// Frames; where the file does not say, length times rate.
    pub frame_count: Option<u64>,
    /// Clockwise degrees by which the stored picture is turned to stand upright: 0, 90, 180, 270.
    pub rotation: u32,
    /// Codec of the sound, if there is any.
    pub audio_codec: Option<String>,
}

/// Job: one chunk whose header is a [`VideoInfo`].
#[derive(Debug, Serialize, Deserialize)]
pub struct VideoInfoJob {}

impl Job for VideoInfoJob {
    const NAME: &'static str = "video_info";

    fn run(self, payload: &Payload<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let track = VideoTrack::open(payload)?;
        let decoder = track.decoder()?;
        let (width, height) = (decoder.width(), decoder.height());
        let turned = track.rotation % 180 == 90;
        let fps = Some(track.fps).filter(|fps| *fps > 0.0);
        let estimate = || Some((track.duration_s? * fps?).round() as u64);
        let audio = track.input.streams().best(media::Type::Audio);
        let info = VideoInfo {
            container: ffmpeg::container_name(&track.input),
            codec: track.codec.clone(),
            width: if turned { height } else { width },
            height: if turned { width } else { height },
            fps,
            duration_s: track.duration_s,
            frame_count: track.frames.or_else(estimate),
            rotation: track.rotation,
            audio_codec: audio.map(|stream| ffmpeg::codec_name(stream.parameters().id())),
        };
        emit(Chunk::new(&info, Vec::new())?)?;
        Ok(())
    }
}

/// Reads the headers of a video. Fails with 22P03 when there is none.
pub fn video_info(payload: &Payload<'_>, limits: &Limits, deadline: &Deadline) -> Result<VideoInfo> {
    check_size(payload, limits)?;
    let mut info = None;
    pool::run(&VideoInfoJob {}, payload, *deadline, &mut |chunk| {
        info = Some(chunk.header::<VideoInfo>()?);
        Ok(true)
    })?;
    info.ok_or_else(|| Error::internal("the video job gave no answer"))
}
