//! Named jobs: files in leases, so that a lost worker costs its leases and a restarted server goes on where it was.
//!
//! In: a plan whose dear part reads one listing, and the name of a job (`squilla.resume`). Out: the same rows. The listing is
//! cut into leases bounded by bytes; workers take one after the other as they have room, and what a lease gave is kept in a
//! file of the job before its rows go on. A lease that is there already is read, not made. Invariants: a row goes on once;
//! a lease of a lost worker is made elsewhere, in halves when it was lost twice; a single file that loses workers again and
//! again is left out and told of in `squilla.row_errors`. Deliberately absent: jobs whose models stand above an aggregate,
//! a join or a sort.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions};
use datafusion_distributed::{ChannelResolver, ExecuteTaskRequest, MaybeEncoded, ProducerHead, SetPlanRequest, TaskKey};
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::error::{from_arrow, from_datafusion, to_datafusion};
use squilla_engine::exec::row_errors::StatementErrors;
use squilla_engine::source::read_files::Listing;
use squilla_engine::source::rows::{RowSource, RowsExec};
use tokio::sync::mpsc;
use url::Url;

use crate::channels::{Channels, Clients};
use crate::spread::{calls, row_wise};

/// Rows of the listing in one lease at most.
const ROWS_MAX: usize = 256;
/// A file of unknown size counts as this many bytes.
const FILE_BYTES_GUESS: i64 = 256 << 10;
/// Leases that one worker has at a time.
const LEASES_A_WORKER: usize = 2;
/// Losses after which a single file is left out.
const LOSSES_MAX: usize = 3;

/// The part of a plan that is done in leases.
#[derive(Debug)]
pub struct Part {
    /// Its top: row-wise nodes over the listing.
    pub top: Arc<dyn ExecutionPlan>,
    /// The listing.
    pub leaf: Arc<dyn ExecutionPlan>,
}

/// The topmost row-wise run with dear calls over a listing, when it is the only place of the plan with dear calls.
pub fn part(plan: &Arc<dyn ExecutionPlan>) -> Option<Part> {
    if let Some(leaf) = listing_below(plan)
        && crate::spread::anywhere(plan, |p| !calls(p).is_empty())
    {
        return Some(Part { top: Arc::clone(plan), leaf });
    }
    let dear = |p: &Arc<dyn ExecutionPlan>| !calls(p).is_empty();
    if dear(plan) {
        return None;
    }
    let mut found = None;
    for child in plan.children() {
        match (part(child), &found) {
            (Some(part), None) => found = Some(part),
            (Some(_), Some(_)) => return None,
            (None, _) if crate::spread::anywhere(child, dear) => return None,
            (None, _) => {}
        }
    }
    found
}

fn listing_below(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(rows) = plan.downcast_ref::<RowsExec>() {
        return rows.source().downcast_ref::<Listing>().map(|_| Arc::clone(plan));
    }
    let deals = matches!(plan.name(), "RepartitionExec" | "CoalesceBatchesExec");
    match plan.children().as_slice() {
        [one] if row_wise(plan) || deals => listing_below(one),
        _ => None,
    }
}

fn replaced(plan: &Arc<dyn ExecutionPlan>, old: &Arc<dyn ExecutionPlan>, new: &Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    if Arc::ptr_eq(plan, old) {
        return Ok(Arc::clone(new));
    }
    let children = plan.children().into_iter().map(|c| replaced(c, old, new)).collect::<DfResult<Vec<_>>>()?;
    if children.is_empty() {
        return Ok(Arc::clone(plan));
    }
    Arc::clone(plan).replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// Gives the workers of now, each with the key by which it knows the statement.
pub type Crew = Arc<dyn Fn() -> futures::future::BoxFuture<'static, Result<Vec<(Url, String)>>> + Send + Sync>;

/// A job of one statement.
pub struct Job {
    /// Its part of the plan.
    pub part: Part,
    /// Where its leases are kept.
    pub folder: PathBuf,
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
    let top = Arc::clone(&job.part.top);
    let rows: Arc<dyn ExecutionPlan> = Arc::new(RowsExec::new("LeasesExec", Arc::new(Leases(Arc::new(job)))));
    replaced(plan, &top, &rows)
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
        let (sender, receiver) = mpsc::channel::<Result<PathBuf>>(64);
        let (job, context) = (Arc::clone(&self.0), Arc::clone(context));
        let work = datafusion::common::runtime::SpawnedTask::spawn(async move {
            if let Err(error) = job.run(&context, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        let files = stream::unfold((receiver, work), |(mut receiver, work)| async move { Some((receiver.recv().await?, (receiver, work))) });
        let batches =
            files.map(|file| file.and_then(|path| open(&path)).map_err(to_datafusion)).map_ok(|rows| rows.map_err(to_datafusion)).try_flatten();
        Ok(batches.boxed())
    }
}

/// The batches of a finished lease, read as they are asked for.
fn open(path: &Path) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(format!("could not open {}", path.display()), e))?;
    let reader = FileReader::try_new_buffered(file, None).map_err(from_arrow)?;
    Ok(stream::iter(reader.map(|batch| batch.map_err(from_arrow))).boxed())
}

/// Rows of the listing that one worker makes.
struct Lease {
    rows: RecordBatch,
    losses: usize,
}

impl Job {
    async fn run(self: &Arc<Self>, context: &Arc<TaskContext>, out: &mpsc::Sender<Result<PathBuf>>) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(|e| Error::io(format!("could not create {}", self.folder.display()), e))?;
        let mut listing = self.part.leaf.execute(0, Arc::clone(context)).map_err(from_datafusion)?;
        let mut waiting: VecDeque<Lease> = VecDeque::new();
        let mut listed = false;
        let mut crew = (self.crew)().await?;
        let mut under_way = FuturesUnordered::new();
        let mut load: Vec<(Url, usize)> = Vec::new();
        loop {
            while !listed && waiting.len() < crew.len() * LEASES_A_WORKER + 1 {
                match listing.next().await {
                    Some(batch) => waiting.extend(self.cut(&batch.map_err(from_datafusion)?)),
                    None => listed = true,
                }
            }
            while let Some(lease) = waiting.pop_front() {
                let path = self.folder.join(format!("{}.arrow", self.name(&lease.rows)?));
                if path.exists() {
                    out.send(Ok(path)).await.map_err(|_| gone())?;
                    continue;
                }
                let busy = |url: &Url| load.iter().filter(|(u, _)| u == url).map(|(_, n)| *n).sum::<usize>();
                let free = crew.iter().filter(|(url, _)| busy(url) < LEASES_A_WORKER).min_by_key(|(url, _)| busy(url)).cloned();
                let Some((url, key)) = free else {
                    waiting.push_front(lease);
                    break;
                };
                match load.iter_mut().find(|(u, _)| *u == url) {
                    Some((_, n)) => *n += 1,
                    None => load.push((url.clone(), 1)),
                }
                let job = Arc::clone(self);
                under_way.push(async move {
                    let made = job.make(&lease.rows, &url, &key, &path).await;
                    (lease, url, path, made)
                });
            }
            let Some((lease, url, path, made)) = under_way.next().await else {
                if listed && waiting.is_empty() {
                    return Ok(());
                }
                continue;
            };
            if let Some((_, n)) = load.iter_mut().find(|(u, _)| *u == url) {
                *n -= 1;
            }
            match made {
                Ok(()) => out.send(Ok(path)).await.map_err(|_| gone())?,
                Err(error) if error.kind == Kind::WorkerLost => {
                    tracing::info!(error = %error.message, files = lease.rows.num_rows(), "a lease is made again");
                    waiting.extend(self.again(lease, error)?);
                    crew = (self.crew)().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What becomes of a lease whose worker was lost.
    fn again(&self, lease: Lease, error: Error) -> Result<Vec<Lease>> {
        let (rows, losses) = (lease.rows, lease.losses + 1);
        if losses < 2 {
            return Ok(vec![Lease { rows, losses }]);
        }
        if rows.num_rows() > 1 {
            let half = rows.num_rows() / 2;
            let halves = [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
            return Ok(halves.into_iter().map(|rows| Lease { rows, losses: 1 }).collect());
        }
        if losses < LOSSES_MAX {
            return Ok(vec![Lease { rows, losses }]);
        }
        let uri = squilla_engine::exec::pack::sources(&rows).into_iter().next().flatten();
        self.errors.record("lease", 1, &[(uri, error)])?;
        Ok(Vec::new())
    }

    /// Leases of a batch of the listing, bounded by the bytes of their files.
    fn cut(&self, rows: &RecordBatch) -> Vec<Lease> {
        let sizes = rows
            .schema()
            .fields()
            .iter()
            .position(|f| f.name() == "file")
            .and_then(|i| rows.column(i).as_struct_opt()?.column_by_name("size").cloned());
        let size = |row: usize| {
            let sizes = sizes.as_ref().and_then(|s| s.as_primitive_opt::<Int64Type>());
            sizes.filter(|s| datafusion::arrow::array::Array::is_valid(*s, row)).map_or(FILE_BYTES_GUESS, |s| s.value(row))
        };
        let mut out = Vec::new();
        let (mut start, mut bytes) = (0, 0i64);
        for row in 0..rows.num_rows() {
            if row > start && (bytes + size(row) > self.lease_bytes || row - start >= ROWS_MAX) {
                out.push(Lease { rows: rows.slice(start, row - start), losses: 0 });
                (start, bytes) = (row, 0);
            }
            bytes += size(row);
        }
        if start < rows.num_rows() {
            out.push(Lease { rows: rows.slice(start, rows.num_rows() - start), losses: 0 });
        }
        out
    }

    /// The name of a lease: what it reads, by what.
    fn name(&self, rows: &RecordBatch) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let plan = datafusion::physical_plan::displayable(self.part.top.as_ref()).indent(true).to_string();
        // Numbers of calls differ from one planning to the next.
        hasher.update(without_numbers(&plan).as_bytes());
        let mut bytes = Vec::new();
        let mut writer = datafusion::arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &rows.schema()).map_err(from_arrow)?;
        writer.write(rows).and_then(|()| writer.finish()).map_err(from_arrow)?;
        drop(writer);
        hasher.update(&bytes);
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Makes a lease on a worker, into a file that appears when it is whole.
    async fn make(&self, rows: &RecordBatch, url: &Url, key: &str, path: &Path) -> Result<()> {
        let leaf = MemorySourceConfig::try_new_exec(&[vec![rows.clone()]], rows.schema(), None).map_err(from_datafusion)?;
        let leaf: Arc<dyn ExecutionPlan> = leaf;
        let plan = replaced(&self.part.top, &self.part.leaf, &leaf).map_err(from_datafusion)?;
        let (partitions, schema) = (plan.output_partitioning().partition_count(), plan.schema());
        let mut headers = HeaderMap::new();
        headers.insert(crate::STATEMENT_HEADER, http::HeaderValue::from_str(key).map_err(|e| Error::internal(e.to_string()))?);
        let task_key = TaskKey { query_id: uuid::Uuid::new_v4(), stage_id: 1, task_number: 0 };
        let metrics = ExecutionPlanMetricsSet::new();
        let mut client = Clients(Arc::clone(&self.channels)).get_worker_client_for_url(url).await.map_err(from_datafusion)?;
        let set = SetPlanRequest {
            task_key,
            task_count: 1,
            plan: MaybeEncoded::Decoded(plan),
            work_unit_feed_declarations: Vec::new(),
            target_worker_url: url.clone(),
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

fn without_numbers(plan: &str) -> String {
    let mut out = String::with_capacity(plan.len());
    let mut rest = plan;
    while let Some(at) = rest.find("__call_") {
        let (before, after) = rest.split_at(at + "__call_".len());
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    out
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

/// A statement is the only one that works on its job.
pub fn claim(folder: &Path, claimed: &parking_lot::Mutex<std::collections::HashSet<PathBuf>>) -> Result<()> {
    if claimed.lock().insert(folder.to_path_buf()) {
        return Ok(());
    }
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Err(Error::new(Kind::NotInPrerequisiteState, format!("the job \"{name}\" is being worked on by another statement")))
}
