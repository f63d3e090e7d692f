//! One budget of cores for everything dear that a process does: decoding, preparing, running models on the processor.
//!
//! In: a wish for so many cores, from async code or from a thread that may wait. Out: a [`Permit`]; dropping it gives the
//! cores back. Invariants: never more than [`Cores::total`] cores are lent; wishes are served in the order they came, so a
//! wish for many cores is not starved by wishes for few; a wish that is given up costs nothing.
//! Deliberately absent: priorities, and any knowledge of what the cores are used for.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::channel::oneshot;
use parking_lot::Mutex;

/// The budget. Shared by reference counting.
#[derive(Debug)]
pub struct Cores {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<(usize, oneshot::Sender<Permit>)>,
}

/// So many cores, until dropped.
#[derive(Debug)]
pub struct Permit {
    cores: Arc<Cores>,
    count: usize,
}

impl Cores {
    /// A budget of `total` cores, at least one.
    pub fn new(total: usize) -> Arc<Self> {
        let total = total.max(1);
        Arc::new(Self { total, state: Mutex::new(State { free: total, waiting: VecDeque::new() }) })
    }

    /// All cores of the budget.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Cores that nobody has now.
    pub fn idle(&self) -> usize {
        self.state.lock().free
    }

    /// Waits for `count` cores (at most all of them).
    pub async fn acquire(self: &Arc<Self>, count: usize) -> Permit {
        let count = count.clamp(1, self.total);
        let receiver = {
            let mut state = self.state.lock();
            if state.waiting.is_empty() && state.free >= count {
                state.free -= count;
                return Permit { cores: Arc::clone(self), count };
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back((count, sender));
            receiver
        };
        match receiver.await {
            Ok(permit) => permit,
            // The sender lives as long as the budget: this cannot happen, and one task too many is the lesser harm.
            Err(_) => Permit { cores: Arc::clone(self), count: 0 },
        }
    }

    /// As [`Cores::acquire`], from a thread that may wait.
    pub fn acquire_blocking(self: &Arc<Self>, count: usize) -> Permit {
        futures::executor::block_on(self.acquire(count))
    }

    fn give_back(self: &Arc<Self>, count: usize) {
        let mut state = self.state.lock();
        state.free += count;
        while let Some((wanted, _)) = state.waiting.front() {
            let wanted = *wanted;
            if wanted > state.free {
                break;
            }
            let Some((_, sender)) = state.waiting.pop_front() else { break };
            state.free -= wanted;
            if let Err(mut permit) = sender.send(Permit { cores: Arc::clone(self), count: wanted }) {
                // Given up. Its drop would lock again: the cores return by hand.
                permit.count = 0;
                state.free += wanted;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.count > 0 {
            self.cores.give_back(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use futures::FutureExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn never_more_than_the_total_and_in_order() {
        let cores = Cores::new(2);
        let one = cores.acquire(1).now_or_never().unwrap();
        let mut both = Box::pin(cores.acquire(9));
        assert!(both.as_mut().now_or_never().is_none(), "nine is all two, and one is lent");
        let mut later = Box::pin(cores.acquire(1));
        assert!(later.as_mut().now_or_never().is_none(), "the wish before waits");
        drop(one);
        let held = both.now_or_never().unwrap();
        assert!(later.as_mut().now_or_never().is_none());
        drop(held);
        assert!(later.now_or_never().is_some());
    }

    #[test]
    fn a_wish_given_up_costs_nothing() {
        let cores = Cores::new(1);
        let held = cores.acquire_blocking(1);
        let mut first = Box::pin(cores.acquire(1));
        let mut second = Box::pin(cores.acquire(1));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(first);
        drop(held);
        // Granted, and dropped before it was taken.
        drop(second);
        assert!(cores.acquire(1).now_or_never().is_some());
    }

    #[test]
    fn threads_share() {
        let cores = Cores::new(3);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for i in 0..8 {
                let (cores, now, most) = (&cores, &now, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let count = 1 + i % 3;
                        let _permit = cores.acquire_blocking(count);
                        most.fetch_max(now.fetch_add(count, Ordering::SeqCst) + count, Ordering::SeqCst);
                        now.fetch_sub(count, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(cores.state.lock().free, 3);
    }
}
