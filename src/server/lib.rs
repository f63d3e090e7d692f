//! The PostgreSQL protocol: what a client sends becomes statements for the engine, what the engine answers becomes bytes.
//!
//! Floor 4: imports core and engine. No SQL is understood here and no plan is built.

pub mod decode;
pub mod encode;
