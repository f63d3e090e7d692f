//! What every other crate speaks: errors, values, limits, SQL types, function declarations and settings.
//!
//! Floor 1: imports no other crate of the project. No DataFusion, no tokio, no I/O.

pub mod columns;
pub mod cores;
pub mod counters;
pub mod declaration;
pub mod error;
pub mod kernel;
pub mod limits;
pub mod numeric;
pub mod settings;
pub mod types;
pub mod values;
