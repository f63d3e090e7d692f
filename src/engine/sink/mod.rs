//! Where rows go: Parquet, CSV and JSON files and objects.
//!
//! `encode` runs encoders beside the stream that feeds them; `parquet`, `csv` and `json` are encoders; `target` makes
//! what they write visible whole or not at all, `directory` several files at once; `copy` is COPY ... TO. Deliberately absent: managed tables (`catalog`).

pub mod copy;
pub mod csv;
pub mod directory;
pub mod encode;
pub mod json;
pub mod parquet;
pub mod target;
