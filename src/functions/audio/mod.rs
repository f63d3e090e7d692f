//! The audio functions: one file each, and their list.

mod audio_duration;
mod audio_info;
mod audio_segments;
mod decode_audio;
mod encode_audio;
mod resample_audio;
pub(crate) mod source;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &audio_duration::AUDIO_DURATION,
    &audio_info::AUDIO_INFO,
    &audio_segments::AUDIO_SEGMENTS,
    &decode_audio::DECODE_AUDIO,
    &encode_audio::ENCODE_AUDIO,
    &resample_audio::RESAMPLE_AUDIO,
];
