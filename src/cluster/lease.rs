//! Leases: files in pieces that workers take as they have room, so that a lost worker costs its pieces and nobody waits for a
//! slow one.
//!
//! In: a part of a plan over a listing or a scan, and a folder. Out: the same rows. Workers take one piece after the other, and
//! what a piece gave is kept in a file of the folder before its rows go on. In the folder of a named job (`squilla.resume`) it
//! stays there until the statement is committed, and what is there already is read, not made; else it goes as it is read.
//! Invariants: a row goes on once; a piece of a lost worker is made elsewhere, in halves when it was lost twice; a single file
//! that loses workers again and again is left out and told of in `squilla.row_errors`; workers that come take pieces, and one
//! that stops keeps only those it has. Deliberately absent: what the pieces are (`part`), who there is (`job`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::common::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{ChannelResolver, ExecuteTaskRequest, MaybeEncoded, ProducerHead, SetPlanRequest, TaskKey};
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::error::{from_arrow, from_datafusion, to_datafusion};
use squilla_engine::exec::row_errors::StatementErrors;
use squilla_engine::source::rows::{RowSource, RowsExec};
use tokio::sync::mpsc;
use url::Url;

use crate::channels::{Channels, Clients};
use crate::part::{Part, Work};

/// Losses after which a single file is left out.
const LOSSES_MAX: usize = 3;
/// How often the crew is looked at while nothing ends.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Finished pieces that wait for the statement to read them.
const FINISHED: usize = 64;

/// A worker that takes leases.
#[derive(Clone, Debug)]
pub struct Hand {
    /// Where.
    pub url: Url,
    /// How it knows the statement.
    pub key: String,
    /// Leases that it has at a time.
    pub room: usize,
}

/// Gives the workers of now; those with these addresses still have leases.
pub type Crew = Arc<dyn Fn(HashSet<Url>) -> futures::future::BoxFuture<'static, Result<Vec<Hand>>> + Send + Sync>;

/// A job of one statement.
pub struct Job {
    /// Its part of the plan.
    pub part: Part,
    /// Where its leases are kept.
    pub folder: PathBuf,
    /// Whether they are kept until the statement is committed.
    pub keeps: bool,
    /// Bytes of files in a lease.
    pub lease_bytes: i64,
    /// A context that encodes our nodes.
    pub context: Arc<TaskContext>,
    /// Connections.
    pub channels: Arc<Channels>,
    /// Who works.
    pub crew: Crew,
    /// Where files are told of that are left out.
    pub errors: Arc<StatementErrors>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.folder.display())
    }
}

/// The plan with a leaf that gives the job's rows in place of its part.
pub fn leased(plan: &Arc<dyn ExecutionPlan>, job: Job) -> DfResult<Arc<dyn ExecutionPlan>> {
    let job = Arc::new(job);
    let rows: Arc<dyn ExecutionPlan> = Arc::new(RowsExec::new("LeasesExec", Arc::new(Leases(Arc::clone(&job)))));
    job.part.replaced_in(plan, &rows)
}

#[derive(Debug)]
struct Leases(Arc<Job>);

impl RowSource for Leases {
    fn describe(&self) -> String {
        self.0.folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn schema(&self) -> SchemaRef {
        self.0.part.top.schema()
    }

    fn partitions(&self) -> usize {
        self.0.part.top.output_partitioning().partition_count()
    }

    /// The first partition has all rows.
    fn rows(&self, partition: usize, context: &Arc<TaskContext>) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        if partition > 0 {
            return Ok(stream::empty().boxed());
        }
        let (sender, receiver) = mpsc::channel::<Result<PathBuf>>(FINISHED);
        let (job, context) = (Arc::clone(&self.0), Arc::clone(context));
        let keeps = job.keeps;
        let work = datafusion::common::runtime::SpawnedTask::spawn(async move {
            if let Err(error) = job.run(&context, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        let files = stream::unfold((receiver, work), |(mut receiver, work)| async move { Some((receiver.recv().await?, (receiver, work))) });
        let batches = files
            .map(move |file| file.and_then(|path| open(&path, keeps)).map_err(to_datafusion))
            .map_ok(|rows| rows.map_err(to_datafusion))
            .try_flatten();
        Ok(batches.boxed())
    }
}

/// The batches of a finished lease, read as they are asked for. One that is not kept has no name any more then.
fn open(path: &Path, keeps: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(format!("could not open {}", path.display()), e))?;
    if !keeps {
        let _ = std::fs::remove_file(path);
    }
    let reader = FileReader::try_new_buffered(file, None).map_err(from_arrow)?;
    Ok(stream::iter(reader.map(|batch| batch.map_err(from_arrow))).boxed())
}

/// What one worker makes.
struct Lease {
    work: Work,
    losses: usize,
}

/// Leases that wait, and who has how many.
#[derive(Default)]
struct Desk {
    waiting: VecDeque<Lease>,
    load: HashMap<Url, usize>,
}

impl Desk {
    /// The worker with the most room.
    fn free<'a>(&self, hands: &'a [Hand]) -> Option<&'a Hand> {
        let left = |hand: &Hand| hand.room.saturating_sub(self.load.get(&hand.url).copied().unwrap_or(0));
        hands.iter().filter(|hand| left(hand) > 0).max_by_key(|hand| left(hand))
    }

    fn ended(&mut self, url: &Url) {
        if let Some(n) = self.load.get_mut(url) {
            *n -= 1;
        }
        self.load.retain(|_, n| *n > 0);
    }
}

impl Job {
    async fn run(self: &Arc<Self>, context: &Arc<TaskContext>, out: &mpsc::Sender<Result<PathBuf>>) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|e| Error::io(format!("could not create {}", self.folder.display()), e))?;
        let mut pieces = self.part.pieces(self.lease_bytes, context)?;
        let mut desk = Desk::default();
        let (mut listed, mut number) = (false, 0u64);
        let mut under_way = FuturesUnordered::new();
        let mut hands = (self.crew)(HashSet::new()).await?;
        loop {
            let room: usize = hands.iter().map(|hand| hand.room).sum();
            while !listed && desk.waiting.len() <= room {
                match pieces.next().await? {
                    Some(works) => desk.waiting.extend(works.into_iter().map(|work| Lease { work, losses: 0 })),
                    None => listed = true,
                }
            }
            while let Some(lease) = desk.waiting.pop_front() {
                let name = if self.keeps { self.part.name(&lease.work)? } else { number.to_string() };
                number += 1;
                let path = self.folder.join(format!("{name}.arrow"));
                if self.keeps && path.exists() {
                    out.send(Ok(path)).await.map_err(|_| gone())?;
                    continue;
                }
                let Some(hand) = desk.free(&hands).cloned() else {
                    desk.waiting.push_front(lease);
                    break;
                };
                *desk.load.entry(hand.url.clone()).or_default() += 1;
                let job = Arc::clone(self);
                under_way.push(async move {
                    let made = job.make(&lease.work, &hand, &path).await;
                    (lease, hand.url, path, made)
                });
            }
            if under_way.is_empty() && listed && desk.waiting.is_empty() {
                return Ok(());
            }
            let ended = tokio::select! {
                biased;
                Some(ended) = under_way.next(), if !under_way.is_empty() => Some(ended),
                () = tokio::time::sleep(LOOK_AGAIN) => None,
            };
            if let Some((lease, url, path, made)) = ended {
                desk.ended(&url);
                match made {
                    Ok(()) => out.send(Ok(path)).await.map_err(|_| gone())?,
                    Err(error) if error.kind == Kind::WorkerLost => {
                        tracing::info!(error = %error.message, files = lease.work.files(), "a lease is made again");
                        desk.waiting.extend(self.again(lease, error)?);
                    }
                    Err(error) => return Err(error),
                }
            }
            hands = (self.crew)(desk.load.keys().cloned().collect()).await?;
        }
    }

    /// What becomes of a lease whose worker was lost.
    fn again(&self, lease: Lease, error: Error) -> Result<Vec<Lease>> {
        let (work, losses) = (lease.work, lease.losses + 1);
        if losses < 2 {
            return Ok(vec![Lease { work, losses }]);
        }
        if let Some(halves) = work.halves() {
            return Ok(halves.into_iter().map(|work| Lease { work, losses: 1 }).collect());
        }
        if losses < LOSSES_MAX {
            return Ok(vec![Lease { work, losses }]);
        }
        self.errors.record("lease", 1, &[(work.uri(), error)])?;
        Ok(Vec::new())
    }

    /// Makes a lease on a worker, into a file that appears when it is whole.
    async fn make(&self, work: &Work, hand: &Hand, path: &Path) -> Result<()> {
        let plan = self.part.over(work).map_err(from_datafusion)?;
        let (partitions, schema) = (plan.output_partitioning().partition_count(), plan.schema());
        let mut headers = HeaderMap::new();
        headers.insert(crate::STATEMENT_HEADER, http::HeaderValue::from_str(&hand.key).map_err(|e| Error::internal(e.to_string()))?);
        let task_key = TaskKey { query_id: uuid::Uuid::new_v4(), stage_id: 1, task_number: 0 };
        let metrics = ExecutionPlanMetricsSet::new();
        let mut client = Clients(Arc::clone(&self.channels)).get_worker_client_for_url(&hand.url).await.map_err(from_datafusion)?;
        let set = SetPlanRequest {
            task_key,
            task_count: 1,
            plan: MaybeEncoded::Decoded(plan),
            work_unit_feed_declarations: Vec::new(),
            target_worker_url: hand.url.clone(),
            query_start_time_ns: 0,
        };
        // Open until the rows are here: its end tells the worker to forget the task.
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let open = stream::once(ended).filter_map(|_| std::future::ready(None)).boxed();
        let _messages = client.coordinator_channel(headers.clone(), set, open, metrics.clone(), &self.context).await.map_err(from_datafusion)?;
        let ask = ExecuteTaskRequest { task_key, target_partition_start: 0, target_partition_end: partitions, producer_head: ProducerHead::None };
        let streams = client.execute_task(headers, ask, metrics, &self.context).await.map_err(from_datafusion)?;
        let mut batches = stream::select_all(streams);
        let part = path.with_extension(format!("{}.part", task_key.query_id.simple()));
        let written = async {
            let file = std::fs::File::create(&part).map_err(|e| Error::io(format!("could not create {}", part.display()), e))?;
            let mut writer = FileWriter::try_new_buffered(file, &schema).map_err(from_arrow)?;
            while let Some(batch) = batches.try_next().await.map_err(from_datafusion)? {
                writer.write(&batch).map_err(from_arrow)?;
            }
            writer.finish().map_err(from_arrow)?;
            std::fs::rename(&part, path).map_err(|e| Error::io(format!("could not name {}", path.display()), e))
        }
        .await;
        drop(end);
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

fn gone() -> Error {
    Error::new(Kind::Cancelled, "the reader went away")
}

/// The folder of a job: names are letters, digits, `-` and `_`.
pub fn folder(jobs: &Path, role: &str, name: &str) -> Result<PathBuf> {
    let plain = |s: &str| !s.is_empty() && s.len() <= 100 && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !plain(name) {
        return Err(Error::invalid_argument(format!("\"{name}\" cannot name a job")).hint("Names of jobs have letters, digits, - and _."));
    }
    let role: String = role.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") }).collect();
    Ok(jobs.join(role).join(name))
}
