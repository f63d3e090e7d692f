//! The video functions: one file each, and their list.

mod video_audio;
mod video_frame_at;
mod video_frames;
mod video_info;
mod video_scenes;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] =
    &[&video_audio::VIDEO_AUDIO, &video_frame_at::VIDEO_FRAME_AT, &video_frames::VIDEO_FRAMES, &video_info::VIDEO_INFO, &video_scenes::VIDEO_SCENES];
