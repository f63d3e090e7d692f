//! The table store: immutable Parquet files and the transactional catalog that says which of them are a table.
//!
//! In: changes staged by a transaction (files written, rows deleted, names made or renamed). Out: snapshots to read from.
//! Invariant: a snapshot is made by one catalog transaction, whole or not at all.
//! Deliberately absent: SQL, plans and the reading of Parquet; the engine does those.

pub mod bitmap;
pub mod disk;
pub mod fault;
pub mod history;
pub mod ledger;
pub mod rows;
pub mod sums;
