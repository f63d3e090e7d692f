//! The limits that decoders and readers obey. A snapshot of the settings, taken when a statement starts.
//!
//! Invariant: every limit is checked against a header before the memory it bounds is allocated.
//! Deliberately absent: enforcement; each decoder enforces what it reads.

use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// What one row may cost at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one file or object (`squilla.max_file_bytes`).
    pub file_bytes_max: u64,
    /// Width times height of one decoded image or frame (`squilla.max_image_pixels`).
    pub image_pixels_max: u64,
    /// Frames that one video may give (`squilla.max_video_frames`).
    pub video_frames_max: u64,
    /// Seconds of one audio track (`squilla.max_audio_seconds`).
    pub audio_seconds_max: u64,
    /// Pages of one document (`squilla.max_pdf_pages`).
    pub pdf_pages_max: u64,
    /// Time one row may take in one function (`squilla.row_timeout`).
    pub row_timeout: Duration,
    /// Whether a JPEG that is scaled down to less than half may be decoded at a part of its size (`squilla.scaled_decode`).
    pub scaled_decode: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes_max: 4 << 30,
            image_pixels_max: 256_000_000,
            video_frames_max: 1_000_000,
            audio_seconds_max: 86_400,
            pdf_pages_max: 100_000,
            row_timeout: Duration::from_secs(300),
            scaled_decode: true,
        }
    }
}

impl Limits {
    /// The moment at which work on a row that starts now must have ended.
    pub fn deadline(&self) -> Deadline {
        Deadline { at: Instant::now() + self.row_timeout, allowed: self.row_timeout }
    }
}

/// A moment after which work on a row is given up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// Fails once the moment has passed. Cheap: call it per packet, page or frame.
    pub fn check(&self) -> Result<()> {
        if Instant::now() < self.at { Ok(()) } else { Err(self.error()) }
    }

    /// Time left; zero once passed.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The error of a row that took too long.
    pub fn error(&self) -> Error {
        Error::new(Kind::LimitExceeded, format!("the row took longer than {} s", self.allowed.as_secs_f64()))
            .hint("The limit is the setting squilla.row_timeout.")
    }
}
