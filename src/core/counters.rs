//! What the calls of one operator cost, counted where the cost is made.
//!
//! In: numbers from kernels, the model service and memory reservations. Out: totals for EXPLAIN ANALYZE and progress.
//! Invariant: counters only grow, `held` excepted; writing one never waits. Deliberately absent: rows and errors,
//! which the operator knows itself, and any export.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Result;
use crate::kernel::Memory;

/// Totals of one operator.
#[derive(Debug, Default)]
pub struct CallCounters {
    items: AtomicU64,
    runs: AtomicU64,
    room: AtomicU64,
    tokens: AtomicU64,
    shared: AtomicU64,
    waited_ns: AtomicU64,
    device_ns: AtomicU64,
    held: AtomicU64,
    held_most: AtomicU64,
    /// Runs by device: the processor, then GPUs by number.
    devices: [AtomicU64; DEVICES],
}

/// Devices that are told apart; further GPUs count as the last.
const DEVICES: usize = 17;

/// Name of the device that has this number in [`CallTotals::devices`].
pub fn device_name(number: usize) -> String {
    number.checked_sub(1).map_or_else(|| "cpu".to_owned(), |gpu| format!("cuda:{gpu}"))
}

/// Values of [`CallCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTotals {
    /// Items that went through a model.
    pub items: u64,
    /// Runs of a model that held an item of ours first.
    pub runs: u64,
    /// Items that those runs could have held.
    pub room: u64,
    /// Tokens of text, padding excluded.
    pub tokens: u64,
    /// Items that took the result of an equal one.
    pub shared: u64,
    /// Nanoseconds that items waited for a device, summed over items.
    pub waited_ns: u64,
    /// Nanoseconds of devices, shared out among the items of a run.
    pub device_ns: u64,
    /// Most bytes reserved at one time.
    pub held_most: u64,
    /// Runs by device: the processor, then GPUs by number; see [`device_name`].
    pub devices: [u64; DEVICES],
}

/// Whose work it is, and where its cost is counted.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The statement; owners share devices fairly.
    pub owner: u64,
    /// Where the cost is counted.
    pub counters: Arc<CallCounters>,
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl CallCounters {
    /// An item that went through a model: its tokens (1 where nothing is padded), its wait, and its part of the run.
    pub fn item(&self, tokens: u32, waited: Duration, device: Duration) {
        add(&self.items, 1);
        add(&self.tokens, u64::from(tokens));
        add(&self.waited_ns, ns(waited));
        add(&self.device_ns, ns(device));
    }

    /// A run of a model that could have held `room` items; `device` is 0 for the processor, 1 and up for GPUs.
    pub fn run(&self, room: usize, device: usize) {
        add(&self.runs, 1);
        add(&self.room, room as u64);
        add(&self.devices[device.min(DEVICES - 1)], 1);
    }

    /// Items that take the result of an equal one.
    pub fn shared(&self, count: usize) {
        add(&self.shared, count as u64);
    }

    fn hold(&self, bytes: usize) {
        let now = self.held.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.held_most.fetch_max(now, Ordering::Relaxed);
    }

    fn let_go(&self, bytes: usize) {
        self.held.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// The values now.
    pub fn read(&self) -> CallTotals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CallTotals {
            items: get(&self.items),
            runs: get(&self.runs),
            room: get(&self.room),
            tokens: get(&self.tokens),
            shared: get(&self.shared),
            waited_ns: get(&self.waited_ns),
            device_ns: get(&self.device_ns),
            held_most: get(&self.held_most),
            devices: std::array::from_fn(|n| get(&self.devices[n])),
        }
    }
}

/// Memory whose reservations are counted.
pub struct CountedMemory {
    /// Where the bytes come from.
    pub inner: Arc<dyn Memory>,
    /// Where they are counted.
    pub counters: Arc<CallCounters>,
}

struct Held {
    counters: Arc<CallCounters>,
    bytes: usize,
    _inner: Box<dyn Any + Send>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.let_go(self.bytes);
    }
}

impl Memory for CountedMemory {
    fn reserve(&self, bytes: usize) -> Result<Box<dyn Any + Send>> {
        let inner = self.inner.reserve(bytes)?;
        self.counters.hold(bytes);
        Ok(Box::new(Held { counters: Arc::clone(&self.counters), bytes, _inner: inner }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    struct Plenty;

    impl Memory for Plenty {
        fn reserve(&self, _: usize) -> Result<Box<dyn Any + Send>> {
            Ok(Box::new(()))
        }
    }

    #[test]
    fn the_most_that_was_held_at_one_time() {
        let counters = Arc::new(CallCounters::default());
        let memory = CountedMemory { inner: Arc::new(Plenty), counters: Arc::clone(&counters) };
        let first = memory.reserve(10).unwrap();
        drop(memory.reserve(5).unwrap());
        drop(first);
        drop(memory.reserve(7).unwrap());
        assert_eq!(counters.read().held_most, 15);
    }

    #[test]
    fn items_share_a_run() {
        let counters = CallCounters::default();
        counters.run(4, 0);
        counters.run(0, 2);
        counters.item(3, Duration::from_nanos(5), Duration::from_nanos(10));
        counters.item(4, Duration::from_nanos(6), Duration::from_nanos(10));
        let totals = counters.read();
        assert_eq!((totals.items, totals.tokens, totals.waited_ns, totals.device_ns, totals.room), (2, 7, 11, 20, 4));
        let used: Vec<String> = (0..DEVICES).filter(|n| totals.devices[*n] > 0).map(device_name).collect();
        assert_eq!(used, ["cpu", "cuda:1"]);
    }
}
