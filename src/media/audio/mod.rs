//! Audio: bytes or a local file to 32-bit float samples.
//!
//! `decode.rs` is the way in: it tries `native.rs` (pure Rust, in process) and sends what that cannot read to
//! `foreign.rs` (FFmpeg, in a child process). `resample.rs` changes the rate, `windows.rs` cuts long recordings without
//! holding them, `encode.rs` and `flac.rs` write files. Invariant: samples are interleaved `f32`, and a recording's first frame is its
//! first audible frame (encoder delay removed). Deliberately absent: speech detection and spectrograms.

pub mod decode;
pub mod encode;
pub mod flac;
pub mod foreign;
pub mod info;
pub mod loudness;
pub mod mp4_edit;
pub mod native;
pub mod resample;
pub mod shape;
pub mod windows;

#[cfg(test)]
mod golden;
