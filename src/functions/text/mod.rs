//! The text functions and their list.

mod chunk_text;
mod minhash;
mod similarity;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &chunk_text::CHUNK_TEXT,
    &minhash::MINHASH,
    &minhash::MINHASH_BANDS,
    &minhash::MINHASH_SIMILARITY,
    &similarity::LEVENSHTEIN,
    &similarity::LEVENSHTEIN_LESS_EQUAL,
    &similarity::JARO_WINKLER,
    &similarity::SIMILARITY,
    &similarity::SOUNDEX,
];
