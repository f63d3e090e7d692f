//! The rows of `squilla.workers`, `squilla.devices` and `squilla.shuffles`.
//!
//! In: what the runner knows of its workers. Out: rows; none where there is no cluster.
//! Invariant: what a view shows is what the coordinator places by. Deliberately absent: asking a worker anything.

use squilla_core::error::Result;

use crate::system::relation::{Rows, Shape};
use crate::system::view::SystemView;

/// The shapes.
pub const WORKERS: &[Shape] = &[
    Shape::new(
        "squilla",
        "workers",
        13_960,
        "v",
        "address text, state text, version text, labels text[], device text, cores int8, memory_limit int8, memory_used int8, spilled int8, \
         statements int8, models_loaded int8, joined timestamptz, seen timestamptz, error text",
    ),
    Shape::new("squilla", "devices", 13_961, "v", "worker text, device text, state text, models_loaded int8"),
    Shape::new(
        "squilla",
        "shuffles",
        13_962,
        "v",
        "query_id int8, worker text, stage int8, task int8, wire_bytes int8, memory_bytes int8, spilled_bytes int8, at timestamptz",
    ),
];

/// Fills `squilla.workers`.
pub fn workers(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for w in view.live.workers() {
        rows.push([
            ("address", (&w.address).into()),
            ("state", (&w.state).into()),
            ("version", Some(&w.version).filter(|v| !v.is_empty()).into()),
            ("labels", w.labels.clone().into()),
            ("device", Some(&w.device).filter(|d| !d.is_empty()).into()),
            ("cores", w.cores.into()),
            ("memory_limit", w.memory_limit.into()),
            ("memory_used", w.memory_used.into()),
            ("spilled", w.spilled.into()),
            ("statements", w.statements.into()),
            ("models_loaded", w.models_loaded.into()),
            ("joined", w.joined_us.into()),
            ("seen", Some(w.seen_us).filter(|s| *s > 0).into()),
            ("error", w.error.clone().into()),
        ]);
    }
    Ok(())
}

/// Fills `squilla.devices`.
pub fn devices(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for w in view.live.workers() {
        rows.push([
            ("worker", (&w.address).into()),
            ("device", (&w.device).into()),
            ("state", (&w.state).into()),
            ("models_loaded", w.models_loaded.into()),
        ]);
    }
    Ok(())
}

/// Fills `squilla.shuffles`.
pub fn shuffles(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for s in view.live.shuffles() {
        rows.push([
            ("query_id", s.query_id.into()),
            ("worker", (&s.worker).into()),
            ("stage", s.stage.into()),
            ("task", s.task.into()),
            ("wire_bytes", s.wire_bytes.into()),
            ("memory_bytes", s.memory_bytes.into()),
            ("spilled_bytes", s.spilled_bytes.into()),
            ("at", s.at_us.into()),
        ]);
    }
    Ok(())
}
