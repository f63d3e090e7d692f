//! Bytes to pixels, samples, text and frames. Pure and synchronous: no tokio, no DataFusion, no SQL.
//!
//! Every decoder reads the header, checks `squilla_core::limits::Limits`, then allocates.

pub mod image;
pub mod text;

pub mod audio;
pub mod ffmpeg;
pub mod file;
pub mod pdf;
pub mod sandbox;
pub mod video;
