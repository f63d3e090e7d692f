//! Counters of one loaded model, for metrics and system views.
//!
//! Invariant: counters only grow; a reader may see a pack counted before its items, never the reverse of time.
//! Deliberately absent: histograms and export formats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Live counters, shared between a model's queue and its readers.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    items: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    packs: AtomicU64,
    room: AtomicU64,
    busy_ns: AtomicU64,
    wait_ns: AtomicU64,
}

/// What a model has done since it was loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelStats {
    /// Name that the model was first asked for by.
    pub name: String,
    /// Task, in SQL's spelling.
    pub task: String,
    /// sha256 of the model's files, hex.
    pub digest: String,
    /// Device, 'cpu' or 'cuda:N'.
    pub device: String,
    /// Bytes of the model's files: the estimate of what it holds in memory.
    pub bytes: u64,
    /// Whether it is in memory now.
    pub loaded: bool,
    /// Calls of the facade.
    pub calls: u64,
    /// Items (texts, images, windows of audio, rows) that went through the model.
    pub items: u64,
    /// Items that failed.
    pub failed: u64,
    /// Items given up unrun because their client had gone.
    pub dropped: u64,
    /// Runs of the graph.
    pub packs: u64,
    /// Items per run, relative to the largest allowed: 0.0 to 1.0.
    pub fill: f64,
    /// Seconds in which the device worked.
    pub busy_s: f64,
    /// Seconds that items waited in the queue, summed over items.
    pub wait_s: f64,
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Counters {
    /// One call of the facade.
    pub fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// `count` items given up unrun.
    pub fn dropped(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// One run: its items, how many it could have held, how many failed, and its time.
    pub fn pack(&self, items: usize, room: usize, failed: usize, busy: Duration, waited: Duration) {
        self.packs.fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items as u64, Ordering::Relaxed);
        self.room.fetch_add(room as u64, Ordering::Relaxed);
        self.failed.fetch_add(failed as u64, Ordering::Relaxed);
        self.busy_ns.fetch_add(ns(busy), Ordering::Relaxed);
        self.wait_ns.fetch_add(ns(waited), Ordering::Relaxed);
    }

    /// The counters' values in a [`ModelStats`] whose other fields the caller fills.
    pub fn read(&self) -> ModelStats {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let (items, room) = (get(&self.items), get(&self.room));
        ModelStats {
            calls: get(&self.calls),
            items,
            failed: get(&self.failed),
            dropped: get(&self.dropped),
            packs: get(&self.packs),
            fill: if room == 0 { 0.0 } else { items as f64 / room as f64 },
            busy_s: get(&self.busy_ns) as f64 / 1e9,
            wait_s: get(&self.wait_ns) as f64 / 1e9,
            ..ModelStats::default()
        }
    }
}
