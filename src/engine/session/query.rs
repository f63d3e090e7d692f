//! A statement's way: plan (`planning`), optimize, lift, execute.
//!
//! In: statements, parameters. Out: rows or a tag. Invariant: a plan made for one state of the catalog is made again for
//! another. Deliberately absent: names (`planning`), what commands do (`command`).

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use sqlparser::ast;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Settings;
use squilla_core::types::SqlType;
use tracing::Instrument;

use crate::catalog::data::{CatalogData, SUPERUSER};
use crate::catalog::roles::Object;
use crate::error::{from_datafusion, to_datafusion};
use crate::exec::held::{Held, Holder};
use crate::exec::row_errors::StatementErrors;
use crate::plan::lift;
use crate::postgres::column_names;
use crate::session::lease::Lease;
use crate::session::origin::Origins;
use crate::session::output_types;
use crate::session::planning::Around;
use crate::session::stream::{self as running, Stop};
use crate::session::{Execution, Prepared, ResultField, RowStream, RowsTag, Session, TransactionStatus, parameters as typing, task};
use crate::source::confined::Allowed;
use crate::statement::{Statement, StatementKind};

/// What one statement runs in.
pub struct Frame {
    /// DataFusion's state for this statement.
    pub state: Lease,
    /// Failed rows.
    pub errors: Arc<StatementErrors>,
    /// How it stops.
    pub stop: Stop,
    /// What the planner changed for speed, for EXPLAIN.
    pub rewrites: parking_lot::Mutex<Vec<&'static str>>,
}

/// Runs of a statement that writes, when each loses a worker.
const WRITE_RUNS_MAX: usize = 3;

impl Session {
    /// Plans a statement. `given` are the parameter types that the client declared.
    pub async fn prepare(self: &Arc<Self>, statement: &Statement, given: &[Option<SqlType>]) -> Result<Prepared> {
        let session = Arc::clone(self);
        let statement = statement.clone();
        let given = given.to_vec();
        self.on_statement_thread(async move { Box::pin(session.prepare_here(&statement, &given)).await }).await
    }

    /// Executes a planned statement.
    pub async fn execute(self: &Arc<Self>, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Execution> {
        let query_id = rand::random::<i64>() & i64::MAX;
        self.inner.lock().query_id = query_id;
        self.log_start(&prepared.statement, query_id);
        if let Some(rows) = self.in_short(prepared, &parameters).await? {
            return Ok(rows);
        }
        let session = Arc::clone(self);
        let prepared = prepared.clone();
        let span = tracing::info_span!("statement", query_id, pid = self.shared.pid);
        self.on_statement_thread(async move { Box::pin(session.execute_here(prepared, parameters)).await }.instrument(span)).await
    }

    /// log_statement
    pub(super) fn log_start(&self, statement: &Statement, query_id: i64) {
        let wanted = match self.inner.lock().settings.get("log_statement") {
            "all" => true,
            "mod" => crate::command::writes(statement).is_some(),
            "ddl" => crate::command::writes(statement)
                .is_some_and(|command| !matches!(command.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY FROM")),
            _ => false,
        };
        if wanted {
            let span = tracing::info_span!("statement", query_id, pid = self.shared.pid);
            span.in_scope(|| tracing::info!(user = %self.role(), statement = %statement.text, "statement"));
        }
    }

    /// The number of the statement that runs or ran last.
    pub fn query_id(&self) -> i64 {
        self.inner.lock().query_id
    }

    /// [`Session::prepare`] from within a statement. Boxed: PREPARE calls what calls it.
    pub fn prepare_inner(self: &Arc<Self>, statement: Statement, given: Vec<Option<SqlType>>) -> BoxFuture<'static, Result<Prepared>> {
        let session = Arc::clone(self);
        Box::pin(async move { session.prepare_here(&statement, &given).await })
    }

    /// [`Session::execute`] from within a statement. Boxed: EXECUTE calls what calls it.
    pub fn execute_inner(self: &Arc<Self>, prepared: Prepared, parameters: Vec<ScalarValue>) -> BoxFuture<'static, Result<Execution>> {
        let session = Arc::clone(self);
        Box::pin(async move { session.execute_here(prepared, parameters).await })
    }

    /// Runs `work` on the statement threads (their stacks are deep); a panic there is XX000.
    pub(super) async fn on_statement_thread<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        match self.database.planning()?.spawn(work).await {
            Ok(result) => result,
            Err(e) => Err(Error::internal(format!("the statement failed in an unexpected way: {e}"))),
        }
    }

    pub(super) async fn prepare_here(self: &Arc<Self>, statement: &Statement, given: &[Option<SqlType>]) -> Result<Prepared> {
        self.check_failed(statement)?;
        let version = self.snapshot().stamp;
        let query = match &*statement.kind {
            StatementKind::Sql(sql) => match &**sql {
                ast::Statement::Query(query) if crate::command::into_table(query).is_none() && !crate::command::with::concerns(sql) => {
                    Some((**sql).clone())
                }
                _ => None,
            },
            _ => None,
        };
        let Some(query) = query else {
            // Boxed, like all work on single statements: what waits here is moved about on small stacks.
            let fields = Box::pin(crate::command::fields(self, statement)).await?.map(Arc::new);
            let parameters = Box::pin(crate::command::parameter_types(self, statement, given)).await?;
            return Ok(Prepared {
                statement: statement.clone(),
                plan: None,
                catalog_version: Some(version),
                fields,
                parameters,
                memo: Arc::default(),
            });
        };
        let planned = self.plan_with(query, &statement.source, given, Around::default()).await?;
        let parameters = typing::types(&planned.plan, &planned.given)?;
        let fields = Arc::new(self.result_fields(&planned.plan));
        // Sources that parameters name, and the scale of numerics, are known when the statement is executed: no version of
        // the catalog is theirs.
        let late = planned.late || parameters.contains(&SqlType::Numeric(None)) || self.reads_the_past();
        let version = if late { None } else { Some(version) };
        let (statement, plan) = (statement.clone(), Some(Arc::new(planned.plan)));
        Ok(Prepared { statement, plan, catalog_version: version, fields: Some(fields), parameters, memo: Arc::default() })
    }

    async fn execute_here(self: &Arc<Self>, prepared: Prepared, parameters: Vec<ScalarValue>) -> Result<Execution> {
        self.check_transaction(&prepared.statement)?;
        crate::privileges::check(self, &prepared.statement)?;
        if parameters.len() < prepared.parameters.len() {
            return Err(Error::new(
                Kind::ProtocolViolation,
                format!("bind message supplies {} parameters, but prepared statement requires {}", parameters.len(), prepared.parameters.len()),
            ));
        }
        let Some(plan) = &prepared.plan else {
            let word = crate::command::writes(&prepared.statement);
            let writes = word.is_some() || crate::command::writes_files(&prepared.statement);
            self.inner.lock().writes = writes;
            if !writes {
                return Box::pin(crate::command::run(self, &prepared.statement, parameters)).await;
            }
            if let Some(word) = &word {
                self.may_write(word)?;
            }
            return self.written(&prepared, parameters, word.is_some()).await;
        };
        self.inner.lock().writes = false;
        // Tables may have changed since the statement was planned.
        let plan = if prepared.catalog_version == Some(self.snapshot().stamp) && !self.reads_the_past() {
            LogicalPlan::clone(plan)
        } else {
            let given: Vec<Option<SqlType>> = prepared.parameters.iter().cloned().map(Some).collect();
            match &*prepared.statement.kind {
                StatementKind::Sql(sql) => {
                    self.plan_with((**sql).clone(), &prepared.statement.source, &given, Around { values: Some(&parameters), ..Around::default() })
                        .await?
                        .plan
                }
                _ => return Err(Error::internal("a plan without a query")),
            }
        };
        let generation = self.inner.lock().settings.generation();
        if prepared.memo.due(generation) {
            // Where there is none, the reason will be told by the plan, if it is one.
            let short = self.short_way(&prepared.statement, &plan, &prepared.parameters).ok().flatten();
            prepared.memo.set(short, generation);
        }
        let plan = if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters)).map_err(from_datafusion)? };
        let fields = prepared.fields.clone().unwrap_or_default();
        let stream = self.run_plan(plan, &prepared.statement.text).await?;
        Ok(Execution::Rows { fields, stream, tag: RowsTag::Select })
    }

    /// A statement that writes. One that loses a worker runs again on those that are left: nothing of it is visible before
    /// its end. `catalog`: it writes tables or definitions, not files.
    async fn written(self: &Arc<Self>, prepared: &Prepared, parameters: Vec<ScalarValue>, catalog: bool) -> Result<Execution> {
        let mut runs = 1;
        loop {
            let run = || Box::pin(crate::command::run(self, &prepared.statement, parameters.clone()));
            let result = if catalog { self.writing(run).await } else { run().await };
            let alone = self.transaction_status() == TransactionStatus::Idle;
            match result {
                Err(error) if error.kind == Kind::WorkerLost && runs < WRITE_RUNS_MAX && alone => runs += 1,
                Ok(Execution::Done { tag }) => {
                    if alone {
                        self.database.runner.committed(self.shared.activity().query_id);
                    }
                    return Ok(Execution::Done { tag });
                }
                result => return result,
            }
        }
    }

    /// 25P02 after a failure, whatever else is wrong with the statement.
    fn check_failed(&self, statement: &Statement) -> Result<()> {
        if self.transaction_status() == TransactionStatus::Failed && !crate::command::ends_transaction(statement) {
            return Err(Error::new(Kind::InFailedTransaction, "current transaction is aborted, commands ignored until end of transaction block"));
        }
        Ok(())
    }

    /// Whether the state of the transaction allows the statement: 25P02 after a failure, 25006 for writes where it only reads.
    pub(super) fn check_transaction(&self, statement: &Statement) -> Result<()> {
        self.check_failed(statement)?;
        let mut inner = self.inner.lock();
        if inner.settings.is_on("transaction_read_only")
            && let Some(command) = crate::command::writes(statement)
        {
            return Err(Error::new(Kind::ReadOnlyTransaction, format!("cannot execute {command} in a read-only transaction")));
        }
        if !inner.settings.get("squilla.snapshot").is_empty()
            && let Some(command) = crate::command::writes(statement)
        {
            let error = Error::new(Kind::ReadOnlyTransaction, format!("cannot execute {command} while squilla.snapshot is set"));
            return Err(error.hint("RESET squilla.snapshot first."));
        }
        if let Some(transaction) = &mut inner.block {
            transaction.queried |= crate::command::is_query(statement);
        }
        Ok(())
    }

    /// Whether tables are read as of an earlier time.
    fn reads_the_past(&self) -> bool {
        !self.inner.lock().settings.get("squilla.snapshot").is_empty()
    }

    /// A new statement runs: how it can be stopped.
    pub fn stop(&self, text: &str) -> Stop {
        let (deadline, query_id) = {
            let inner = self.inner.lock();
            (Stop::deadline(inner.settings.duration("statement_timeout")), inner.query_id)
        };
        let (flag, token) = self.shared.start(text, query_id);
        Stop { flag, token, deadline }
    }

    /// The frame of a new statement: its state, environment and cancellation.
    pub fn frame(self: &Arc<Self>, text: &str) -> Result<Frame> {
        let stop = self.stop(text);
        self.framed(stop)
    }

    /// The frame of a part of the statement that runs: it stops with it.
    fn frame_within(self: &Arc<Self>) -> Result<Frame> {
        match self.shared.running() {
            Some((_, flag, token)) => {
                let deadline = Stop::deadline(self.settings().duration("statement_timeout"));
                self.framed(Stop { flag, token, deadline })
            }
            None => self.frame(""),
        }
    }

    fn framed(self: &Arc<Self>, stop: Stop) -> Result<Frame> {
        let settings = self.settings();
        let flag = stop.flag.clone();
        let (query_id, writes) = {
            let inner = self.inner.lock();
            (inner.query_id, inner.writes)
        };
        let errors = Arc::new(StatementErrors::new(query_id, Arc::clone(&self.database.row_errors), &settings));
        let statement_env = task::environment(&self.database, &settings, flag, Arc::clone(&errors), self.allowed_paths())?;
        let facts = task::Facts::of(self, &settings, query_id, writes);
        let mut state = self.lease(&settings)?;
        state.config_mut().set_extension(Arc::new(statement_env));
        state.config_mut().set_extension(Arc::new(facts));
        state.mark_start_execution();
        state.execution_props_mut().query_execution_start_time = Some(self.transaction_start());
        Ok(Frame { state, errors, stop, rewrites: parking_lot::Mutex::default() })
    }

    /// When the transaction of this statement began: what `now()` tells.
    fn transaction_start(&self) -> chrono::DateTime<chrono::Utc> {
        self.inner.lock().block.as_ref().map_or_else(chrono::Utc::now, |block| block.began)
    }

    /// A state of the session for one statement.
    pub(super) fn lease(self: &Arc<Self>, settings: &Settings) -> Result<Lease> {
        self.states.lease(settings, || crate::session::state::of_session(self))
    }

    /// The search path: schemas that exist and that the role may use, `"$user"` resolved.
    pub fn search_path(&self, data: &CatalogData) -> Vec<String> {
        let (path, role) = {
            let inner = self.inner.lock();
            (inner.settings.get("search_path").to_owned(), inner.identity.current().to_owned())
        };
        let superuser = self.superuser();
        let usable = |schema: &String| match data.schemas.get(schema) {
            Some(entry) => superuser || data.may(&role, &Object::Schema(entry.oid), &entry.owner, "USAGE", false),
            None => matches!(schema.as_str(), "pg_catalog" | "information_schema" | "squilla"),
        };
        // Temporary tables come first, wherever the path looks.
        let temporary = crate::session::transaction::temporary_schema(self.shared.pid);
        let temporary = data.schemas.contains_key(&temporary).then_some(temporary);
        let path = path
            .split(',')
            .map(|s| s.trim().trim_matches('"').trim_matches('\'').to_owned())
            // A schema named after the role: never the system schema, whose name the first role has.
            .map(|s| match s.as_str() {
                "$user" if role == SUPERUSER => String::new(),
                "$user" => role.clone(),
                _ => s,
            })
            .filter(usable);
        temporary.into_iter().chain(path).collect()
    }

    /// What the role may read of files; None is everything.
    pub fn allowed_paths(&self) -> Option<Allowed> {
        if self.superuser() { None } else { Some(Allowed::parse(self.inner.lock().settings.get("squilla.allowed_paths"))) }
    }

    /// Result columns of a plan.
    pub fn result_fields(&self, plan: &LogicalPlan) -> Vec<ResultField> {
        let data = self.snapshot();
        let path = self.search_path(&data);
        let origins = Origins { data: &data, path: &path };
        let field = |(i, field): (usize, &arrow::datatypes::FieldRef)| {
            let (table_oid, column_number) = origins.of(plan, i).unwrap_or((0, 0));
            ResultField { name: column_names::shown(field.name()).to_owned(), ty: output_types::of(plan, i), table_oid, column_number }
        };
        plan.schema().fields().iter().enumerate().map(field).collect()
    }

    /// Optimizes, lifts and makes operators.
    pub async fn physical(self: &Arc<Self>, plan: &LogicalPlan, frame: &Frame) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = frame.state.optimize(plan).map_err(from_datafusion)?;
        let (plan, rewrites) = lift::lift(plan, &self.database.functions).map_err(from_datafusion)?;
        *frame.rewrites.lock() = rewrites;
        frame.state.query_planner().create_physical_plan(&plan, &*frame.state).await.map_err(from_datafusion)
    }

    /// Executes a query's plan.
    pub async fn run_plan(self: &Arc<Self>, plan: LogicalPlan, text: &str) -> Result<RowStream> {
        let mut frame = self.frame(text)?;
        if crate::system::table::alone(&plan) {
            // Small relations that are made in one piece: spreading them over threads costs more than it gives.
            frame.state.one_partition();
        }
        let physical = frame.stop.guard(self.physical(&plan, &frame)).await?;
        self.start(&frame, physical)
    }

    /// Executes a plan as a part of the statement that runs.
    pub async fn run_within(self: &Arc<Self>, plan: LogicalPlan) -> Result<RowStream> {
        let frame = self.frame_within()?;
        let physical = frame.stop.guard(self.physical(&plan, &frame)).await?;
        self.start(&frame, physical)
    }

    /// The same in one partition, which keeps the order of the rows.
    pub async fn run_in_order(self: &Arc<Self>, plan: LogicalPlan) -> Result<RowStream> {
        let mut frame = self.frame_within()?;
        frame.state.one_partition();
        let physical = frame.stop.guard(self.physical(&plan, &frame)).await?;
        self.start(&frame, physical)
    }

    /// A place for rows that a statement keeps.
    pub fn holder(&self) -> Holder {
        Holder::new(self.database.base().runtime_env())
    }

    /// The rows of a plan, run as a part of the statement that runs.
    pub async fn held_within(self: &Arc<Self>, plan: LogicalPlan) -> Result<Held> {
        let rows = self.run_within(plan).await?;
        Held::all(self.database.base().runtime_env(), rows).await
    }

    /// Starts a physical plan.
    pub fn start(self: &Arc<Self>, frame: &Frame, plan: Arc<dyn ExecutionPlan>) -> Result<RowStream> {
        self.shared.runs(&plan);
        running::start(
            &self.database,
            self,
            plan,
            frame.state.task(self.database.runner.sends_plans()),
            Arc::clone(&frame.errors),
            frame.stop.clone(),
        )
    }
}

/// A stream of ours as DataFusion's, for sinks.
pub fn sendable(stream: RowStream, schema: arrow::datatypes::SchemaRef) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, stream.map(|b| b.map_err(to_datafusion))))
}

/// A few rows made here.
pub fn rows_of(batch: RecordBatch) -> RowStream {
    stream::iter([Ok(batch)]).boxed()
}
