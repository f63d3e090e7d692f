//! What the headers of a recording say, without decoding it.
//!
//! In: bytes or a local file. Out: [`AudioInfo`]. Invariant: the cost does not grow with the length of the recording,
//! except where a container has no index at all and its packets are counted. Deliberately absent: tags and cover art.

use serde::{Deserialize, Serialize};
use squilla_core::error::Result;
use squilla_core::limits::{Deadline, Limits};

use crate::audio::decode::check_size;
use crate::audio::foreign::FfmpegAudioInfo;
use crate::audio::native::NativeAudio;
use crate::sandbox::job::Payload;
use crate::sandbox::pool;

/// The first audio track of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioInfo {
    /// `mp3`, `aac`, `pcm_s16le`, ...
    pub codec: String,
    /// `wav`, `mp3`, `flac`, `ogg`, `mp4`, `matroska`, ...
    pub container: String,
    /// Hertz.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// Seconds; `None` when the file does not say.
    pub duration_s: Option<f64>,
    /// Frames (samples per channel); `None` when the file does not say.
    pub frames: Option<u64>,
    /// Mean bits per second of the file.
    pub bit_rate: Option<u64>,
}

impl AudioInfo {
    /// Bits per second of a file of this size and length.
    pub fn mean_bit_rate(file_bytes: Option<u64>, duration_s: Option<f64>) -> Option<u64> {
        match (file_bytes, duration_s) {
            (Some(bytes), Some(seconds)) if seconds > 0.0 => Some((bytes as f64 * 8.0 / seconds).round() as u64),
            _ => None,
        }
    }
}

/// Reads the headers of the first audio track. Fails with 22P03 when there is none.
pub fn audio_info(payload: &Payload<'_>, limits: &Limits, deadline: &Deadline) -> Result<AudioInfo> {
    let bytes = check_size(payload, limits)?;
    if let Some(audio) = NativeAudio::open(payload, *deadline)? {
        return Ok(audio.info(Some(bytes)));
    }
    let mut info = None;
    pool::run(&FfmpegAudioInfo {}, payload, *deadline, &mut |chunk| {
        info = Some(chunk.header::<AudioInfo>()?);
        Ok(true)
    })?;
    info.ok_or_else(|| squilla_core::error::Error::internal("the audio job gave no answer"))
}
