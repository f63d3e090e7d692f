//! The audio functions: one file each, and their list.

mod audio_channel;
mod audio_duration;
mod audio_info;
mod audio_loudness;
mod audio_segments;
mod decode_audio;
mod encode_audio;
mod normalize_audio;
mod resample_audio;
pub(crate) mod source;
mod trim_audio;
mod trim_silence;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &audio_channel::AUDIO_CHANNEL,
    &audio_duration::AUDIO_DURATION,
    &audio_info::AUDIO_INFO,
    &audio_loudness::AUDIO_LOUDNESS,
    &audio_segments::AUDIO_SEGMENTS,
    &decode_audio::DECODE_AUDIO,
    &encode_audio::ENCODE_AUDIO,
    &normalize_audio::NORMALIZE_AUDIO,
    &resample_audio::RESAMPLE_AUDIO,
    &trim_audio::TRIM_AUDIO,
    &trim_silence::TRIM_SILENCE,
];
