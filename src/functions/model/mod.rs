//! The model functions: one file each, and their list.

mod classify_image;
mod classify_image_scores;
mod detect;
mod detections;
mod embed_image;
mod embed_text;
mod pictures;
mod predict;
mod rerank;
mod service;
mod similarity;
mod speech;
#[cfg(test)]
mod testing;
mod token_count;
mod transcribe;
mod transcribe_segments;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &classify_image::CLASSIFY_IMAGE,
    &classify_image_scores::CLASSIFY_IMAGE_SCORES,
    &detect::DETECT,
    &detections::DETECTIONS,
    &embed_image::EMBED_IMAGE,
    &embed_text::EMBED_TEXT,
    &predict::PREDICT,
    &rerank::RERANK,
    &similarity::IMAGE_SIMILARITY,
    &similarity::TEXT_SIMILARITY,
    &token_count::TOKEN_COUNT,
    &transcribe::TRANSCRIBE,
    &transcribe_segments::TRANSCRIBE_SEGMENTS,
];
