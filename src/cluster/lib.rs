//! Several processes as one: datafusion-distributed behind the engine's seam.
//!
//! In: plans of the engine (`engine::run::Runner`). Out: their rows, made on workers. What the library leaves out is here:
//! which workers there are and how they are, tokens and certificates, our nodes on the wire, where models run, what
//! happened to rows, and trying again when a worker is lost. Invariant: only public interfaces of the library are used,
//! and only this crate knows them. Deliberately absent: an engine of our own, and SQL.

pub mod able;
pub mod admission;
pub mod channels;
pub mod codec;
pub mod control;
pub mod deleted;
pub mod job;
pub mod lease;
pub mod members;
pub mod part;
pub mod place;
pub mod runner;
pub mod security;
pub mod spool;
pub mod spread;
pub mod statement;
pub mod worker;

/// The version that coordinator and workers must share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The header by which a plan names its statement.
pub const STATEMENT_HEADER: &str = "squilla-statement";
