//! Text: cutting it into chunks and sentences, comparing it, hashing it for near-duplicate search.

pub mod chunk;
pub mod minhash;
mod recursive;
pub mod sentence;
mod tokens;
