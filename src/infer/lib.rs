//! Models: where they come from, what they can do, and running them in packs on a device.
//!
//! Floor 2: imports `squilla-core` alone. Knows no SQL, no DataFusion, no sockets of its own (the hub client excepted).

pub mod batcher;
pub mod detect;
pub mod device;
pub mod download;
pub mod engines;
pub mod hub;
pub mod manifest;
pub mod mel;
pub mod models;
pub mod pictures;
pub mod pixels;
pub mod predict;
pub mod registry;
pub mod resample;
pub mod runtime;
pub mod session;
pub mod speech;
pub mod stats;
pub mod text;
pub mod tokens;
pub mod vision;
pub mod whisper;

#[cfg(test)]
mod golden;
