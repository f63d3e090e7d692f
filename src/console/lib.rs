//! HTTP for machines: health, readiness and metrics. A reader of what the engine counts; it changes nothing.
//!
//! Floor 4: imports core and engine. Deliberately absent: the web console.

pub mod listener;
