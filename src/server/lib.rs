//! The PostgreSQL protocol: what a client sends becomes statements for the engine, what the engine answers becomes bytes.
//!
//! Floor 4: imports core and engine. No SQL is understood here and no plan is built.

pub mod backend;
pub mod connection;
pub mod copy;
pub mod decode;
pub mod describe;
pub mod encode;
pub mod frontend;
pub mod hba;
pub mod listener;
pub mod query;
pub mod report;
pub mod running;
pub mod startup;
pub mod stream;
pub mod tls;
pub mod wire;
