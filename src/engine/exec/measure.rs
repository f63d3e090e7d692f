//! What one partition of an operator of ours did: counters that EXPLAIN ANALYZE and progress read.
//!
//! In: packs as they end. Out: DataFusion metrics. Invariant: every call of the partition has its cost counted here,
//! whatever thread or model runs it. Deliberately absent: how the numbers are shown (`explain`, `session::progress`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, Time};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use squilla_core::counters::{CallCounters, CountedMemory, device_name};
use squilla_core::kernel::Env;

use crate::exec::env::StatementEnv;

/// Reads one counter of the calls.
type Reading = fn(&CallCounters) -> u64;

/// The counters of one partition.
pub struct Measure {
    /// What the calls of this partition see: the statement's environment, with their cost counted apart.
    pub env: Arc<Env>,
    baseline: BaselineMetrics,
    packs: Count,
    calls: Count,
    errors: Count,
    rows_in: Count,
    bytes: Count,
    busy: Time,
    wait: Time,
    counters: Arc<CallCounters>,
    gauges: [(Gauge, Reading); 8],
    /// Where devices get a gauge each once they have run something.
    devices: (ExecutionPlanMetricsSet, usize, Mutex<Vec<Option<Gauge>>>),
}

/// A metric of this name and the name of a device counts the runs of models there.
pub const RUNS_ON: &str = "runs_on_";

impl Measure {
    /// The counters of a partition that starts.
    pub fn new(metrics: &ExecutionPlanMetricsSet, partition: usize, statement: &StatementEnv) -> Self {
        let counters: Arc<CallCounters> = Arc::default();
        let memory = Arc::new(CountedMemory { inner: Arc::clone(&statement.env.memory), counters: Arc::clone(&counters) });
        let env = Env { memory, counters: Arc::clone(&counters), ..statement.env.as_ref().clone() };
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        let gauge = |name: &'static str| MetricBuilder::new(metrics).gauge(name, partition);
        Self {
            env: Arc::new(env),
            baseline: BaselineMetrics::new(metrics, partition),
            packs: count("packs"),
            calls: count("calls"),
            errors: count("errors"),
            rows_in: count("rows_in"),
            bytes: count("bytes"),
            busy: MetricBuilder::new(metrics).subset_time("busy", partition),
            wait: MetricBuilder::new(metrics).subset_time("wait", partition),
            devices: (metrics.clone(), partition, Mutex::default()),
            counters,
            gauges: [
                (gauge("model_items"), |c| c.read().items),
                (gauge("model_runs"), |c| c.read().runs),
                (gauge("model_room"), |c| c.read().room),
                (gauge("tokens"), |c| c.read().tokens),
                (gauge("cache_hits"), |c| c.read().shared),
                (gauge("device_us"), |c| c.read().device_ns / 1000),
                (gauge("queue_us"), |c| c.read().waited_ns / 1000),
                (gauge("peak_bytes"), |c| c.read().held_most),
            ],
        }
    }

    /// A call over some rows ended.
    pub fn call(&self, rows: usize, failed: usize) {
        self.calls.add(rows);
        self.errors.add(failed);
    }

    /// Rows of the input are done with.
    pub fn pack(&self, rows: usize, bytes: usize, busy: Duration) {
        self.packs.add(1);
        self.rows_in.add(rows);
        self.bytes.add(bytes);
        self.busy.add_duration(busy);
        for (gauge, read) in &self.gauges {
            gauge.set(usize::try_from(read(&self.counters)).unwrap_or(usize::MAX));
        }
        self.devices();
    }

    fn devices(&self) {
        let (metrics, partition, known) = &self.devices;
        let mut known = known.lock();
        for (number, runs) in self.counters.read().devices.into_iter().enumerate().filter(|(_, runs)| *runs > 0) {
            if known.len() <= number {
                known.resize(number + 1, None);
            }
            let name = || format!("{RUNS_ON}{}", device_name(number));
            let gauge = known[number].get_or_insert_with(|| MetricBuilder::new(metrics).gauge(name(), *partition));
            gauge.set(usize::try_from(runs).unwrap_or(usize::MAX));
        }
    }

    /// The input of the operator; the time in which it has nothing to give is counted.
    pub fn waiting<S: Stream + Unpin>(&self, input: S) -> impl Stream<Item = S::Item> + use<S> {
        Waiting { input, since: None, time: self.wait.clone() }
    }

    /// Rows left the operator.
    pub fn output(&self, rows: usize) {
        self.baseline.record_output(rows);
    }
}

/// A stream whose pauses are counted.
struct Waiting<S> {
    input: S,
    since: Option<Instant>,
    time: Time,
}

impl<S: Stream + Unpin> Stream for Waiting<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.input.poll_next_unpin(context);
        if next.is_pending() {
            self.since.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.since.take() {
            self.time.add_duration(since.elapsed());
        }
        next
    }
}
