//! Places where a test makes the process die, so that what a crash leaves behind can be looked at.
//!
//! In: the name of one point, set once at start. Out: the process aborts when it gets there, without unwinding, flushing
//! or closing anything. Invariant: with no point set, passing one costs an atomic load. Deliberately absent: errors;
//! those are made with a full disk or a read-only directory.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

static ARMED: AtomicBool = AtomicBool::new(false);
static POINT: Mutex<String> = Mutex::new(String::new());

/// The points, in the order in which a commit passes them; the last one is passed by VACUUM.
pub const POINTS: &[&str] = &[
    "file_created",
    "file_written",
    "file_renamed",
    "file_synced",
    "commit_begun",
    "commit_half_written",
    "commit_written",
    "commit_done",
    "commit_published",
    "vacuum_forgotten",
];

/// Arms a point; an empty name arms none.
pub fn arm(point: &str) {
    *POINT.lock() = point.to_owned();
    ARMED.store(!point.is_empty(), Ordering::Release);
}

/// Passes a point.
pub fn reach(point: &str) {
    if ARMED.load(Ordering::Acquire) && *POINT.lock() == point {
        tracing::warn!(point, "the process ends at a fault point");
        std::process::abort();
    }
}
