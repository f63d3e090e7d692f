//! Video: bytes or a local file to RGB frames, one at a time.
//!
//! `frames.rs` and `info.rs` are the ways in; they run FFmpeg in a child process. `track.rs` opens the video track,
//! `convert.rs` scales, colours and turns its pictures. Invariant: frames come in the order they are shown, already
//! turned upright, and a decoder is never rewound. Deliberately absent: encoding and hardware decoding.

pub mod color;
pub mod convert;
pub mod frames;
pub mod info;
pub mod scenes;
pub mod select;
pub mod skip;
pub mod track;

#[cfg(test)]
mod golden;
