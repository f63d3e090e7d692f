//! One bounded queue per loaded model, and the threads that empty it in packs.
//!
//! In: items of any call of any query. Out: one result per item, in the call's order.
//! Invariants: a pack holds items of one shape key only and never more than its limits; the oldest item of the owner that
//! was served least is always in the next pack, so nothing starves and a small statement does not wait for a large one; a
//! pack that fails is halved and run again, so a bad item fails alone; an item whose caller has gone is dropped before it
//! is run; a queue full by bytes makes callers wait, it never grows; a pack on the processor runs within the budget of cores.
//! Deliberately absent: waiting for more items to come (a free device takes what there is) and any runtime: callers
//! await from whatever executor they have.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};
use squilla_core::cores::Cores;
use squilla_core::counters::Caller;
use squilla_core::error::{Error, Kind, Result};
use tokio::sync::Semaphore;

use crate::device::Device;
use crate::stats::Counters;

/// What an item costs and what it may be packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Items with different keys never share a pack (other tensor shape, other mode).
    pub key: u64,
    /// Length along the padded dimension (tokens); 1 where nothing is padded.
    pub length: u32,
    /// Bytes that it holds while it waits.
    pub bytes: u32,
}

/// How large a pack may be.
#[derive(Clone, Copy, Debug)]
pub struct PackLimits {
    /// Items at most.
    pub items: usize,
    /// Items times the longest length at most.
    pub padded: usize,
}

/// A model on a device: runs packs. One per thread.
pub trait Worker {
    /// What goes in.
    type Item: Send + 'static;
    /// What comes out, one per item.
    type Out: Send + 'static;

    /// The limits of this model on its device.
    fn limits(&self) -> PackLimits;

    /// Where it runs.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Runs a pack; on success as many results as items. An error concerns the whole pack.
    fn run(&mut self, items: &[&Self::Item]) -> Result<Vec<Self::Out>>;
}

struct Job<I, O> {
    item: I,
    size: Size,
    queued: Instant,
    place: usize,
    call: Arc<Call<O>>,
    /// Kilobytes of the queue's room that it takes.
    room: usize,
}

struct Call<O> {
    caller: Caller,
    gone: AtomicBool,
    state: Mutex<CallState<O>>,
}

struct CallState<O> {
    results: Vec<Option<Result<O>>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Option<Result<O>>>>>,
}

impl<O> Call<O> {
    fn put(&self, place: usize, result: Result<O>) {
        let mut state = self.state.lock();
        if let Some(slot) = state.results.get_mut(place) {
            *slot = Some(result);
        }
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            let results = std::mem::take(&mut state.results);
            if let Some(done) = state.done.take() {
                // A receiver that has gone no longer wants the results.
                let _ = done.send(results);
            }
        }
    }
}

struct Queue<I, O> {
    jobs: VecDeque<Job<I, O>>,
    /// What each owner of waiting jobs was given so far, in padded length.
    served: HashMap<u64, u64>,
    closed: bool,
}

struct Shared<I, O> {
    queue: Mutex<Queue<I, O>>,
    wake: Condvar,
    room: Semaphore,
    /// Kilobytes.
    capacity: usize,
    counters: Arc<Counters>,
    /// The budget that a run takes its cores from, and how many it takes.
    cores: Option<(Arc<Cores>, usize)>,
}

/// How a queue is served.
#[derive(Clone, Debug)]
pub struct Service {
    /// Threads, each with a worker of its own.
    pub instances: usize,
    /// Bytes of items that may wait.
    pub queue_bytes: usize,
    /// The budget that a run takes its cores from, and how many it takes; `None` for a device of its own.
    pub cores: Option<(Arc<Cores>, usize)>,
    /// Where its work is counted.
    pub counters: Arc<Counters>,
}

/// The caller's side of a queue. Dropping it ends the threads once the queue is empty.
pub struct Batcher<I, O> {
    shared: Arc<Shared<I, O>>,
}

/// Tells the threads that nobody wants the results of a call any more.
struct Gone<O>(Arc<Call<O>>);

impl<O> Drop for Gone<O> {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

/// How far the packer looks behind the oldest item for others that fit.
const WINDOW: usize = 1024;

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts the threads; each makes its own worker with `load`. Returns once all have loaded, or with the first error.
    pub async fn start<W, F>(name: &str, service: Service, load: F) -> Result<Self>
    where
        W: Worker<Item = I, Out = O>,
        F: Fn() -> Result<W> + Send + Sync + 'static,
    {
        let capacity = (service.queue_bytes >> 10).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), served: HashMap::new(), closed: false }),
            wake: Condvar::new(),
            room: Semaphore::new(capacity),
            capacity,
            counters: service.counters,
            cores: service.cores,
        });
        let batcher = Batcher { shared: Arc::clone(&shared) };
        let load = Arc::new(load);
        for number in 0..service.instances.max(1) {
            let (ready, loaded) = oneshot::channel();
            let (shared, load) = (Arc::clone(&shared), Arc::clone(&load));
            std::thread::Builder::new()
                .name(format!("model {name} {number}"))
                .spawn(move || thread(&shared, load.as_ref(), ready))
                .map_err(|e| Error::io("no thread for a model", e))?;
            loaded.await.map_err(|_| Error::internal("the thread of a model ended while it was loading"))??;
        }
        Ok(batcher)
    }

    /// Runs every item, in packs that mix with other calls'; results in the order of `items`. `caller` tells whose work it
    /// is: callers share the device fairly. Waits while the queue is full. Dropping the future gives up what has not been
    /// run yet. Fails as a whole only when the model is gone.
    pub async fn run(&self, caller: &Caller, items: Vec<(I, Size)>) -> Result<Vec<Result<O>>> {
        self.shared.counters.call();
        let count = items.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let (done, wait) = oneshot::channel();
        let call = Arc::new(Call {
            caller: caller.clone(),
            gone: AtomicBool::new(false),
            state: Mutex::new(CallState { results: (0..count).map(|_| None).collect(), left: count, done: Some(done) }),
        });
        let _gone = Gone(Arc::clone(&call));
        let owner = caller.owner;
        let lost = || Error::new(Kind::DeviceLost, "the model was unloaded while it was in use");
        for (place, (item, size)) in items.into_iter().enumerate() {
            // An item larger than the whole room waits until it is alone.
            let room = (size.bytes as usize).div_ceil(1024).clamp(1, self.shared.capacity);
            let permits = u32::try_from(room).unwrap_or(u32::MAX);
            self.shared.room.acquire_many(permits).await.map_err(|_| lost())?.forget();
            let job = Job { item, size, queued: Instant::now(), place, call: Arc::clone(&call), room };
            let mut queue = self.shared.queue.lock();
            if !queue.served.contains_key(&owner) {
                // A new owner starts where the least served one stands.
                let start = queue.served.values().copied().min().unwrap_or(0);
                queue.served.insert(owner, start);
            }
            queue.jobs.push_back(job);
            drop(queue);
            self.shared.wake.notify_one();
        }
        let results = wait.await.map_err(|_| lost())?;
        Ok(results.into_iter().map(|r| r.unwrap_or_else(|| Err(Error::internal("an item has no result")))).collect())
    }

    /// The counters that this queue writes.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }
}

impl<I, O> Drop for Batcher<I, O> {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

fn thread<I, O, W: Worker<Item = I, Out = O>>(
    shared: &Shared<I, O>,
    load: &(dyn Fn() -> Result<W> + Send + Sync),
    ready: oneshot::Sender<Result<()>>,
) {
    let loaded = std::panic::catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err(Error::internal("loading a model panicked")));
    let mut worker = match loaded {
        Ok(worker) => worker,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let limits = worker.limits();
    let _ = ready.send(Ok(()));
    while let Some(pack) = next_pack(shared, limits) {
        run_pack(shared, &mut worker, pack, limits);
    }
}

/// Waits for work; `None` once the queue is closed and empty.
fn next_pack<I, O>(shared: &Shared<I, O>, limits: PackLimits) -> Option<Vec<Job<I, O>>> {
    let mut queue = shared.queue.lock();
    loop {
        let (mut dropped, mut room) = (0, 0);
        queue.jobs.retain(|job| {
            let gone = job.call.gone.load(Ordering::Relaxed);
            (dropped, room) = (dropped + usize::from(gone), room + if gone { job.room } else { 0 });
            !gone
        });
        if dropped > 0 {
            shared.counters.dropped(dropped);
            shared.room.add_permits(room);
        }
        if !queue.jobs.is_empty() {
            let pack = take_pack(&mut queue, limits);
            shared.room.add_permits(pack.iter().map(|job| job.room).sum());
            return Some(pack);
        }
        queue.served.clear();
        if queue.closed {
            return None;
        }
        shared.wake.wait(&mut queue);
    }
}

/// Takes the oldest job of the owner that was served least, and those of the next [`WINDOW`] that are nearest to it in
/// length, within the limits.
fn take_pack<I, O>(queue: &mut Queue<I, O>, limits: PackLimits) -> Vec<Job<I, O>> {
    let jobs = &mut queue.jobs;
    let served = |job: &Job<I, O>| queue.served.get(&job.call.caller.owner).copied().unwrap_or(0);
    // The first of equals: the oldest.
    let Some((seed_at, seed)) = jobs.iter().enumerate().min_by_key(|(_, job)| served(job)).map(|(at, job)| (at, job.size)) else { return Vec::new() };
    let mut near: Vec<(u32, usize)> = jobs
        .iter()
        .enumerate()
        .skip(seed_at.saturating_sub(WINDOW / 2))
        .take(WINDOW)
        .filter(|(_, job)| job.size.key == seed.key)
        // The seed itself comes first of all.
        .map(|(place, job)| (job.size.length.abs_diff(seed.length) + u32::from(place != seed_at), place))
        .collect();
    near.sort_unstable();
    let (mut chosen, mut longest, mut sum) = (Vec::new(), 0usize, 0usize);
    for (_, place) in near {
        let length = jobs.get(place).map_or(1, |job| job.size.length as usize).max(1);
        let (count, max, total) = (chosen.len() + 1, longest.max(length), sum + length);
        // Padding costs as much as text: stop where more than a third of the pack would be padding.
        let wasteful = count * max > total + total / 2 && max > 16;
        if count > 1 && (count > limits.items || count * max > limits.padded || wasteful) {
            break;
        }
        chosen.push(place);
        (longest, sum) = (max, total);
    }
    chosen.sort_unstable();
    let mut pack: Vec<Job<I, O>> = chosen.into_iter().rev().filter_map(|place| jobs.remove(place)).collect();
    pack.reverse();
    for job in &pack {
        *queue.served.entry(job.call.caller.owner).or_default() += u64::from(job.size.length.max(1));
    }
    queue
        .served
        .retain(|owner, _| queue.jobs.iter().any(|job| job.call.caller.owner == *owner) || pack.iter().any(|job| job.call.caller.owner == *owner));
    pack
}

fn run_pack<I, O, W: Worker<Item = I, Out = O>>(shared: &Shared<I, O>, worker: &mut W, pack: Vec<Job<I, O>>, limits: PackLimits) {
    // On the processor a run needs cores, as decoding does; waiting for them is waiting.
    let _permit = shared.cores.as_ref().map(|(cores, count)| cores.acquire_blocking(*count));
    let start = Instant::now();
    let waited = pack.iter().map(|job| start.saturating_duration_since(job.queued)).sum();
    let items: Vec<&I> = pack.iter().map(|job| &job.item).collect();
    let results = run_halving(worker, &items);
    let failed = results.iter().filter(|r| r.is_err()).count();
    let longest = pack.iter().map(|job| job.size.length.max(1) as usize).max().unwrap_or(1);
    let room = limits.items.min(limits.padded / longest).max(pack.len());
    let busy = start.elapsed();
    shared.counters.pack(pack.len(), room, failed, busy, waited);
    let share = busy / u32::try_from(pack.len()).unwrap_or(1).max(1);
    if let Some(first) = pack.first() {
        first.call.caller.counters.run(room, worker.device().number());
    }
    for (job, result) in pack.into_iter().zip(results) {
        job.call.caller.counters.item(job.size.length, start.saturating_duration_since(job.queued), share);
        job.call.put(job.place, result);
    }
}

/// One result per item: a pack that fails is halved until the bad item stands alone.
fn run_halving<I, O, W: Worker<Item = I, Out = O>>(worker: &mut W, items: &[&I]) -> Vec<Result<O>> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| worker.run(items))).unwrap_or_else(|_| Err(Error::internal("a model call panicked")));
    match result {
        Ok(outs) if outs.len() == items.len() => outs.into_iter().map(Ok).collect(),
        Ok(outs) => {
            let message = format!("a model gave {} results for {} items", outs.len(), items.len());
            items.iter().map(|_| Err(Error::internal(message.clone()))).collect()
        }
        Err(error) if items.len() < 2 || error.kind == Kind::DeviceLost => items.iter().map(|_| Err(error.clone())).collect(),
        Err(_) => {
            let (left, right) = items.split_at(items.len() / 2);
            let mut results = run_halving(worker, left);
            results.extend(run_halving(worker, right));
            results
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use futures::executor::block_on;
    use std::time::Duration;

    struct Doubler {
        packs: Arc<Mutex<Vec<usize>>>,
        slow: Duration,
        items: usize,
    }

    impl Worker for Doubler {
        type Item = i64;
        type Out = i64;

        fn limits(&self) -> PackLimits {
            PackLimits { items: self.items, padded: 1 << 20 }
        }

        fn run(&mut self, items: &[&i64]) -> Result<Vec<i64>> {
            std::thread::sleep(self.slow);
            if items.iter().any(|i| **i == 13) {
                return Err(Error::invalid_argument("thirteen"));
            }
            assert!(items.iter().all(|i| **i != 17), "a bug");
            self.packs.lock().push(items.len());
            Ok(items.iter().map(|i| **i * 2).collect())
        }
    }

    fn start(slow: u64, capacity: usize) -> (Batcher<i64, i64>, Arc<Mutex<Vec<usize>>>) {
        let packs = Arc::new(Mutex::new(Vec::new()));
        let inner = Arc::clone(&packs);
        let load = move || Ok(Doubler { packs: Arc::clone(&inner), slow: Duration::from_millis(slow), items: 8 });
        let service = Service { instances: 1, queue_bytes: capacity << 10, cores: Some((Cores::new(1), 1)), counters: Arc::default() };
        (block_on(Batcher::start("test", service, load)).unwrap(), packs)
    }

    fn sized(range: std::ops::Range<i64>) -> Vec<(i64, Size)> {
        range.map(|i| (i, Size { key: 0, length: 1, bytes: 1024 })).collect()
    }

    #[test]
    fn order_is_kept_and_a_bad_item_fails_alone() {
        let (batcher, packs) = start(0, 4);
        let results = block_on(batcher.run(&Caller::default(), sized(0..30))).unwrap();
        for (i, result) in results.iter().enumerate() {
            match i {
                13 => assert_eq!(result.as_ref().unwrap_err().message, "thirteen"),
                17 => assert_eq!(result.as_ref().unwrap_err().kind, Kind::Internal),
                _ => assert_eq!(*result.as_ref().unwrap(), 2 * i as i64),
            }
        }
        assert!(packs.lock().iter().all(|n| *n <= 8));
        assert_eq!(batcher.counters().read().failed, 2);
    }

    /// Whatever the size of packs, however lengths and keys are mixed and whoever else asks, each item has its own result.
    #[test]
    fn results_do_not_depend_on_packs_of_1_to_64() {
        for items in 1..=64 {
            let packs = Arc::new(Mutex::new(Vec::new()));
            let inner = Arc::clone(&packs);
            let load = move || Ok(Doubler { packs: Arc::clone(&inner), slow: Duration::ZERO, items });
            let service = Service { instances: 1 + items % 3, queue_bytes: 64 << 10, cores: Some((Cores::new(2), 1)), counters: Arc::default() };
            let batcher = Arc::new(block_on(Batcher::start("test", service, load)).unwrap());
            let callers: Vec<_> = (0..3_u64)
                .map(|owner| {
                    let batcher = Arc::clone(&batcher);
                    std::thread::spawn(move || {
                        let size = |i: i64| Size { key: (i % 2) as u64, length: 1 + (i * 7919 % 97) as u32, bytes: 512 };
                        let work = (0..100).map(|i| (i, size(i + owner as i64))).collect();
                        block_on(batcher.run(&Caller { owner, ..Caller::default() }, work)).unwrap()
                    })
                })
                .collect();
            for caller in callers {
                for (i, result) in caller.join().unwrap().into_iter().enumerate() {
                    assert_eq!(result.ok(), (i != 13 && i != 17).then_some(2 * i as i64), "packs of {items}");
                }
            }
            assert!(packs.lock().iter().all(|n| *n <= items), "packs of {items}: {:?}", packs.lock());
        }
    }

    #[test]
    fn calls_share_packs_and_a_dropped_call_is_not_run() {
        let (batcher, packs) = start(150, 1000);
        let batcher = Arc::new(batcher);
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let b = Arc::clone(&batcher);
                std::thread::spawn(move || block_on(b.run(&Caller { owner: i as u64, ..Caller::default() }, sized(i..i + 1))).unwrap())
            })
            .collect();
        threads.into_iter().for_each(|t| assert_eq!(t.join().unwrap().len(), 1));
        assert!(packs.lock().len() < 8, "packs must mix calls");

        let busy = Arc::clone(&batcher);
        let first = std::thread::spawn(move || block_on(busy.run(&Caller::default(), sized(0..1))));
        std::thread::sleep(Duration::from_millis(10));
        let caller = Caller::default();
        let mut gone = Box::pin(batcher.run(&caller, sized(100..300)));
        assert!(block_on(async { futures::poll!(&mut gone) }).is_pending());
        drop(gone);
        first.join().unwrap().unwrap();
        block_on(batcher.run(&Caller::default(), sized(0..1))).unwrap();
        assert!(batcher.counters().read().dropped >= 192);
    }

    #[test]
    fn packs_join_near_lengths_and_always_take_the_oldest() {
        let call = |owner| {
            let state = Mutex::new(CallState::<()> { results: vec![], left: 0, done: None });
            Arc::new(Call { caller: Caller { owner, ..Caller::default() }, gone: AtomicBool::new(false), state })
        };
        let (one, two) = (call(1), call(2));
        let job = |length: u32, key: u64, call: &Arc<Call<()>>| Job {
            item: length,
            size: Size { key, length, bytes: 0 },
            queued: Instant::now(),
            place: 0,
            call: Arc::clone(call),
            room: 1,
        };
        let mut jobs: VecDeque<_> = [100, 500, 90, 110, 10].map(|n| job(n, 0, &one)).into();
        jobs.insert(1, job(100, 1, &one));
        let mut queue = Queue { jobs, served: HashMap::new(), closed: false };
        let lengths = |p: Vec<Job<u32, ()>>| p.iter().map(|j| j.item).collect::<Vec<_>>();
        let limits = PackLimits { items: 16, padded: 330 };
        assert_eq!(lengths(take_pack(&mut queue, limits)), [100, 90, 110]);
        assert_eq!(lengths(take_pack(&mut queue, limits)), [100]);
        // Somebody who came later and was served less goes first.
        queue.jobs.push_back(job(300, 0, &two));
        assert_eq!(lengths(take_pack(&mut queue, limits)), [300]);
        assert_eq!(lengths(take_pack(&mut queue, limits)), [500]);
        assert_eq!(lengths(take_pack(&mut queue, limits)), [10]);
        assert!(queue.jobs.is_empty());
    }

    #[test]
    fn a_worker_that_cannot_load_is_an_error() {
        let load = || -> Result<Doubler> { Err(Error::new(Kind::ModelIncompatible, "no")) };
        let error =
            block_on(Batcher::<i64, i64>::start("test", Service { instances: 1, queue_bytes: 8, cores: None, counters: Arc::default() }, load))
                .err()
                .unwrap();
        assert_eq!(error.sqlstate(), "SQ002");
    }
}
