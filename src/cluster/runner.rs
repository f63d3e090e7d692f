//! The coordinator: the engine's plans on workers.
//!
//! In: a physical plan and its task context. Out: its rows. A plan that looks at the session, or is too small to be worth
//! it, runs here. Invariants: a SELECT whose worker is lost before its first row is planned again for those that are left;
//! one that has sent rows fails with SQ004 at once; a plan with a model never runs here while there is a cluster.
//! Deliberately absent: parsing, planning of SQL, and state of tables.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::config::ConfigOptions;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_distributed::{
    DesiredTaskCountEvent, DistributedExec, DistributedExt, DistributedMetricsFormat, RouteTasksEvent, SessionStateBuilderExt, WorkerResolver,
    rewrite_distributed_plan_with_metrics,
};
use futures::{FutureExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue};
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::error::{from_datafusion, to_datafusion};
use squilla_engine::exec::env::StatementEnv;
use squilla_engine::run::{LocalRunner, Runner, ShuffleRow, WorkerRow};
use squilla_engine::session::task::Facts;
use url::Url;

use crate::STATEMENT_HEADER;
use crate::able::able;
use crate::admission::{Admission, Permit};
use crate::channels::{Channels, Clients};
use crate::codec::Codec;
use crate::deleted::carried;
use crate::job::{Claim, Crew, Jobs};
use crate::lease::{self, Job};
use crate::members::{Members, Ready};
use crate::part::{Part, not_in_leases};
use crate::place::Placement;
use crate::spread::{anywhere, calls, here, leaves, reads_files, runs_model, scan_bytes, spread};
use crate::statement::{Running, Shuffles};

/// Runs of a statement whose workers are lost before its first row.
const RUNS_MAX: usize = 4;
/// How long a statement waits for a worker when there is none.
const PATIENCE: Duration = Duration::from_secs(6);

/// Files that each worker should find in a scan, for a statement that writes to be done in leases of files.
const FILES_A_WORKER: usize = 4;

/// Executes plans on a cluster.
pub struct ClusterRunner(Arc<Inner>);

struct Inner {
    members: Arc<Members>,
    channels: Arc<Channels>,
    shuffles: Arc<Shuffles>,
    admission: Arc<Admission>,
    jobs: Arc<Jobs>,
}

/// What a statement brings.
struct Asked {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    statement: Arc<StatementEnv>,
    facts: Arc<Facts>,
}

/// Where a plan runs.
enum Where {
    /// In this process.
    Here,
    /// On these workers.
    Workers { plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>, key: String, ready: Vec<Ready> },
}

/// A plan whose leaf gives the rows of leases, and who makes them.
type Leased = (Arc<dyn ExecutionPlan>, Arc<Crew>);

impl ClusterRunner {
    /// A coordinator of these workers; named jobs are kept under `jobs`.
    pub fn new(members: Arc<Members>, channels: Arc<Channels>, jobs: Option<PathBuf>) -> Self {
        let jobs = Arc::new(Jobs::new(jobs));
        Self(Arc::new(Inner { members, channels, shuffles: Arc::default(), admission: Arc::default(), jobs }))
    }
}

#[async_trait]
impl Runner for ClusterRunner {
    fn configure(&self, options: &mut ConfigOptions) {
        // Its operator holds the subquery's plan, which does not cross the wire.
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    }

    async fn place(&self, plan: Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<Arc<dyn ExecutionPlan>> {
        let asked = Asked::new(Arc::clone(&plan), Arc::clone(context))?;
        Ok(match self.0.place(&asked, false).await? {
            Where::Here => plan,
            Where::Workers { plan, .. } => plan,
        })
    }

    async fn counted(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if !plan.is::<DistributedExec>() {
            return Ok(plan);
        }
        let counted = rewrite_distributed_plan_with_metrics(Arc::clone(&plan), DistributedMetricsFormat::Aggregated);
        // Counters come by themselves after the rows; a worker that keeps them back must not keep EXPLAIN back.
        match tokio::time::timeout(PATIENCE, counted).await {
            Ok(counted) => counted.map_err(from_datafusion),
            Err(_) => Ok(plan),
        }
    }

    fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = plan.schema();
        let asked = Asked::new(plan, context)?;
        let run = Run { inner: Arc::clone(&self.0), asked, runs: 0, sent: false, rows: None, permit: None };
        let rows = stream::try_unfold(Some(run), |run| async move {
            let Some(mut run) = run else { return Ok(None) };
            Ok(run.next().await?.map(|batch| (batch, Some(run))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn committed(&self, query_id: i64) {
        self.0.jobs.committed(query_id);
    }

    fn workers(&self) -> Vec<WorkerRow> {
        self.0.members.rows()
    }

    fn shuffles(&self) -> Vec<ShuffleRow> {
        self.0.shuffles.rows()
    }
}

impl Asked {
    fn new(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Self> {
        let facts = context.session_config().get_extension::<Facts>().ok_or_else(|| Error::internal("a statement without facts"))?;
        let statement = StatementEnv::of(&context)?;
        Ok(Self { plan, context, statement, facts })
    }

    /// Whether it is worth sending at all.
    fn worth_sending(&self) -> bool {
        match self.facts.session.get("squilla.distributed") {
            "off" => false,
            "on" => true,
            _ => {
                // A small table is read here in less time than it takes to ask.
                let mut bytes = 0;
                let _ = anywhere(&self.plan, |p| {
                    bytes += scan_bytes(p);
                    false
                });
                let dear = || anywhere(&self.plan, |p| !calls(p).is_empty()) && reads_files(&self.plan);
                anywhere(&self.plan, runs_model) || bytes > self.facts.session.int("squilla.task_bytes").max(1) as u64 || dear()
            }
        }
    }
}

impl Inner {
    /// Decides. `again` looks at the workers anew after one was lost.
    async fn place(&self, asked: &Asked, again: bool) -> Result<Where> {
        if !asked.worth_sending() {
            return Ok(Where::Here);
        }
        let model = anywhere(&asked.plan, runs_model);
        let placed = asked.plan.is::<DistributedExec>();
        let bytes = match leaves(&asked.plan, &asked.facts.portable) {
            Ok(bytes) => bytes,
            Err(_) if placed => 0,
            Err(why) => {
                tracing::debug!(why, "a statement stays in the coordinator");
                return Ok(Where::Here);
            }
        };
        let mut ready = if again { self.members.ready_after_news(PATIENCE).await } else { self.members.ready() };
        if ready.is_empty() && model && !again {
            ready = self.members.first_answers(PATIENCE).await;
        }
        if ready.is_empty() {
            // What has no model runs here as it would without a cluster.
            return if model || again { Err(self.members.nobody()) } else { Ok(Where::Here) };
        }
        let ready = match able(ready, &asked.plan, bytes, self.members.tables()) {
            Err(error) if !model => {
                tracing::debug!(why = error.message, "a statement stays in the coordinator");
                return Ok(Where::Here);
            }
            ready => ready?,
        };
        let placement = Arc::new(Placement::new(&asked.plan, &ready, &asked.facts)?);
        let key = uuid::Uuid::new_v4().simple().to_string();
        let partitions = asked.context.session_config().target_partitions();
        let dealt = if placed {
            Arc::clone(&asked.plan)
        } else {
            let plan = carried(Arc::clone(&asked.plan)).map_err(from_datafusion)?;
            if anywhere(&plan, |p| !calls(p).is_empty()) {
                spread(&plan, partitions, &|leaf| placement.tasks_of_leaf(leaf) > 1).map_err(from_datafusion)?
            } else {
                plan
            }
        };
        let state = self.state(asked, dealt, &placement, &key)?;
        let nothing = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) });
        let plan = state.query_planner().create_physical_plan(&nothing, &state).await.map_err(from_datafusion)?;
        let distributed = plan.is::<DistributedExec>();
        let head = plan.children().first().map_or(&plan, |child| *child);
        let stays_here = if distributed { here(head, &runs_model) } else { model };
        if stays_here {
            return Err(Error::internal("a model would run in the coordinator"));
        }
        if !distributed {
            return Ok(Where::Here);
        }
        Ok(Where::Workers { plan, context: state.task_ctx(), key, ready })
    }

    /// The statement as a named job: its dear part in leases.
    fn named(&self, asked: &Asked, name: &str) -> Result<Leased> {
        let root = self.jobs.root.as_ref().ok_or_else(|| Error::unsupported("named jobs need a data directory"))?;
        let plan = carried(Arc::clone(&asked.plan)).map_err(from_datafusion)?;
        let part = Part::dear(&plan).ok_or_else(not_in_leases)?;
        let bytes = leaves(&part.top, &asked.facts.portable).map_err(|why| not_in_leases().detail(format!("{why}.")))?;
        let claim = self.jobs.claim(lease::folder(root, &asked.facts.role, name)?)?;
        self.in_leases(asked, &plan, part, bytes, claim)
    }

    /// A statement that writes, in leases, where that can be: then a lost worker costs its leases and not the statement.
    fn unnamed(&self, asked: &Asked) -> Result<Option<Leased>> {
        if !asked.facts.writes || !asked.worth_sending() || asked.plan.is::<DistributedExec>() {
            return Ok(None);
        }
        let plan = carried(Arc::clone(&asked.plan)).map_err(from_datafusion)?;
        let Some(part) = Part::dear(&plan).or_else(|| Part::whole(&plan)) else { return Ok(None) };
        let Ok(bytes) = leaves(&part.top, &asked.facts.portable) else { return Ok(None) };
        let ready = self.members.ready();
        // A few files with many rows are shared out by rows.
        if ready.is_empty() || part.files().is_some_and(|files| files < ready.len() * FILES_A_WORKER) {
            return Ok(None);
        }
        if able(ready, &plan, bytes, self.members.tables()).is_err() {
            return Ok(None);
        }
        let Some(claim) = self.jobs.unnamed() else { return Ok(None) };
        self.in_leases(asked, &plan, part, bytes, claim).map(Some)
    }

    fn in_leases(&self, asked: &Asked, plan: &Arc<dyn ExecutionPlan>, part: Part, bytes: u64, claim: Claim) -> Result<Leased> {
        let (whole, facts, members) = (Arc::clone(plan), Arc::clone(&asked.facts), Arc::clone(&self.members));
        let (folder, keeps) = (claim.folder.clone(), claim.keeps);
        let crew = Arc::new(Crew {
            members: Arc::clone(&self.members),
            channels: Arc::clone(&self.channels),
            facts: Arc::clone(&asked.facts),
            errors: Arc::clone(&asked.statement.errors),
            shuffles: Arc::clone(&self.shuffles),
            fits: Box::new(move |ready| {
                let ready = able(ready.to_vec(), &whole, bytes, members.tables())?;
                let placement = Placement::new(&whole, &ready, &facts)?;
                let urls = if anywhere(&whole, runs_model) { placement.model_urls } else { placement.urls };
                Ok(ready.into_iter().filter(|r| urls.contains(&r.url)).collect())
            }),
            patience: PATIENCE,
            begun: tokio::sync::Mutex::default(),
            claim,
        });
        let placement = Arc::new(Placement::of_nobody(&asked.facts));
        let context = self.state(asked, Arc::clone(plan), &placement, "")?.task_ctx();
        let workers = Arc::clone(&crew);
        let job = Job {
            part,
            folder,
            keeps,
            lease_bytes: asked.facts.session.int("squilla.lease_bytes").max(1),
            context,
            channels: Arc::clone(&self.channels),
            crew: Arc::new(move |busy| {
                let workers = Arc::clone(&workers);
                async move { workers.now(&busy).await }.boxed()
            }),
            errors: Arc::clone(&asked.statement.errors),
        };
        let plan = lease::leased(plan, job).map_err(from_datafusion)?;
        Ok((plan, crew))
    }

    /// A state whose planner cuts `plan` into stages, and whose tasks carry the statement's key.
    fn state(&self, asked: &Asked, plan: Arc<dyn ExecutionPlan>, placement: &Arc<Placement>, key: &str) -> Result<SessionState> {
        let mut headers = HeaderMap::new();
        headers.insert(STATEMENT_HEADER, HeaderValue::from_str(key).map_err(|e| Error::internal(e.to_string()))?);
        let (tasks, route) = (Arc::clone(placement), Arc::clone(placement));
        let builder = SessionStateBuilder::new()
            .with_config(asked.context.session_config().clone())
            .with_runtime_env(asked.context.runtime_env())
            .with_scalar_functions(asked.context.scalar_functions().values().cloned().collect())
            .with_aggregate_functions(asked.context.aggregate_functions().values().cloned().collect())
            .with_window_functions(asked.context.window_functions().values().cloned().collect())
            .with_query_planner(Arc::new(Given(plan)))
            .with_distributed_worker_resolver(Listed(placement.urls.clone()))
            .with_distributed_channel_resolver(Clients(Arc::clone(&self.channels)))
            .with_distributed_user_codec(Codec { place: None })
            .with_distributed_desired_task_count_handler(move |event: DesiredTaskCountEvent<'_>| tasks.tasks(event))
            .with_distributed_route_tasks_handler(move |event: RouteTasksEvent<'_>| route.route(&event))
            .with_distributed_planner();
        builder.with_distributed_passthrough_headers(headers).map(SessionStateBuilder::build).map_err(from_datafusion)
    }
}

/// Gives the library's planner the plan that there is.
#[derive(Debug)]
struct Given(Arc<dyn ExecutionPlan>);

#[async_trait]
impl QueryPlanner for Given {
    async fn create_physical_plan(&self, _: &LogicalPlan, _: &dyn Session) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::clone(&self.0))
    }
}

/// The workers of one run: they do not change under it.
struct Listed(Vec<Url>);

impl WorkerResolver for Listed {
    fn get_urls(&self) -> DfResult<Vec<Url>> {
        Ok(self.0.clone())
    }
}

/// Who works on a statement.
enum Working {
    /// This process.
    Here,
    /// All of these workers: losing one of them ends it.
    Workers(Running),
    /// Whoever takes leases.
    Crew(Arc<Crew>),
}

/// A statement while its rows are read.
struct Run {
    inner: Arc<Inner>,
    asked: Asked,
    runs: usize,
    sent: bool,
    rows: Option<(SendableRecordBatchStream, Working)>,
    permit: Option<Permit>,
}

impl Run {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            match self.step().await {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                Ok(Some(batch)) => {
                    self.sent = true;
                    return Ok(Some(batch));
                }
                Ok(None) => return Ok(None),
                Err(error) if self.may_run_again(&error) => {
                    tracing::info!(query_id = self.asked.facts.query_id, error = %error.message, "a statement runs again without a lost worker");
                    self.rows = None;
                }
                Err(error) => return Err(to_datafusion(error)),
            }
        }
    }

    fn may_run_again(&self, error: &Error) -> bool {
        error.kind == Kind::WorkerLost && !self.sent && self.runs < RUNS_MAX && !self.asked.statement.env.cancel.is_cancelled()
    }

    async fn step(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows.is_none() {
            self.rows = Some(self.start().await?);
        }
        let Some((rows, working)) = &mut self.rows else { return Ok(None) };
        let failed = match working {
            Working::Workers(running) => running.failed().boxed(),
            Working::Here | Working::Crew(_) => std::future::pending().boxed(),
        };
        tokio::select! {
            biased;
            next = rows.next() => match (next, working) {
                (Some(batch), _) => batch.map(Some).map_err(from_datafusion),
                (None, Working::Workers(running)) => running.finish().await.map(|()| None),
                (None, Working::Crew(crew)) => crew.finish().await.map(|()| None),
                (None, Working::Here) => Ok(None),
            },
            error = failed => Err(error),
        }
    }

    async fn start(&mut self) -> Result<(SendableRecordBatchStream, Working)> {
        self.runs += 1;
        if self.runs > 1 && !self.asked.plan.is::<DistributedExec>() {
            self.asked.plan = reset_plan_states(Arc::clone(&self.asked.plan)).map_err(from_datafusion)?;
        }
        let (facts, errors) = (Arc::clone(&self.asked.facts), Arc::clone(&self.asked.statement.errors));
        let job = facts.session.get("squilla.resume");
        if !job.is_empty() && anywhere(&self.asked.plan, |p| !calls(p).is_empty()) {
            self.enter().await?;
            let (plan, crew) = self.inner.named(&self.asked, job)?;
            return Ok((LocalRunner.run(plan, Arc::clone(&self.asked.context))?, Working::Crew(crew)));
        }
        if let Some((plan, crew)) = self.inner.unnamed(&self.asked)? {
            self.enter().await?;
            return Ok((LocalRunner.run(plan, Arc::clone(&self.asked.context))?, Working::Crew(crew)));
        }
        match self.inner.place(&self.asked, self.runs > 1).await? {
            Where::Here => Ok((LocalRunner.run(Arc::clone(&self.asked.plan), Arc::clone(&self.asked.context))?, Working::Here)),
            Where::Workers { plan, context, key, ready } => {
                self.enter().await?;
                let running = Running::begin(&key, &ready, &self.inner.channels, &facts, &errors, &self.inner.shuffles).await?;
                Ok((execute_stream(plan, context).map_err(from_datafusion)?, Working::Workers(running)))
            }
        }
    }

    /// Waits for its turn on the workers.
    async fn enter(&mut self) -> Result<()> {
        if self.permit.is_none() {
            let facts = &self.asked.facts;
            let limit = |name: &str| facts.session.int(name).max(0) as usize;
            let (running, waiting) = (limit("squilla.cluster_statements"), limit("squilla.cluster_queue"));
            self.permit = Some(self.inner.admission.enter(&facts.role, running, waiting).await?);
        }
        Ok(())
    }
}
