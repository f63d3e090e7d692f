//! A statement's way: bind, plan, optimize, lift, execute.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement as DfStatement;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use sqlparser::ast::{self, VisitMut, VisitorMut};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Settings;
use squilla_core::types::SqlType;
use tracing::Instrument;

use crate::bind::calls::CallContext;
use crate::bind::relations::{BoundSource, Relations};
use crate::catalog::data::{CatalogData, RelationKind, SUPERUSER};
use crate::catalog::roles::Object;
use crate::error::{from_datafusion, from_datafusion_in, to_datafusion};
use crate::exec::row_errors::StatementErrors;
use crate::plan::lift;
use crate::postgres::column_names;
use crate::session::origin::Origins;
use crate::session::sql_functions;
use crate::session::relations::{Catalogs, StatementRelations};
use crate::session::stream::{self as running, Stop};
use crate::session::task;
use crate::session::view::SessionView;
use crate::session::{Execution, Prepared, ResultField, RowStream, RowsTag, Session, TransactionStatus};
use crate::source::confined::Allowed;
use crate::statement::{Statement, StatementKind};

/// A planned query.
struct Planned {
    plan: LogicalPlan,
    /// Types of parameters that are known without the plan.
    given: Vec<Option<SqlType>>,
    /// A source has to be resolved when the values of the parameters are known.
    late: bool,
}

/// What a query is planned with.
#[derive(Default)]
struct Around<'a> {
    /// Values of parameters, which may name its sources.
    values: Option<&'a [ScalarValue]>,
    /// Tables of this statement, by name.
    tables: Vec<(String, Arc<dyn datafusion::catalog::TableProvider>)>,
    /// How many functions in SQL are being planned around it.
    nesting: usize,
}

/// What one statement runs in.
pub struct Frame {
    /// DataFusion's state for this statement.
    pub state: SessionState,
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
        let session = Arc::clone(self);
        let prepared = prepared.clone();
        let query_id = rand::random::<i64>() & i64::MAX;
        self.inner.lock().query_id = query_id;
        let span = tracing::info_span!("statement", query_id, pid = self.shared.pid);
        self.log_start(&prepared.statement, &span);
        self.on_statement_thread(async move { Box::pin(session.execute_here(prepared, parameters)).await }.instrument(span)).await
    }

    /// log_statement
    fn log_start(&self, statement: &Statement, span: &tracing::Span) {
        let wanted = match self.inner.lock().settings.get("log_statement") {
            "all" => true,
            "mod" => crate::command::writes(statement).is_some(),
            "ddl" => crate::command::writes(statement)
                .is_some_and(|command| !matches!(command.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY FROM")),
            _ => false,
        };
        if wanted {
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
    async fn on_statement_thread<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        match self.database.planning()?.spawn(work).await {
            Ok(result) => result,
            Err(e) => Err(Error::internal(format!("the statement failed in an unexpected way: {e}"))),
        }
    }

    async fn prepare_here(self: &Arc<Self>, statement: &Statement, given: &[Option<SqlType>]) -> Result<Prepared> {
        let version = self.snapshot().stamp;
        let query = match &*statement.kind {
            StatementKind::Sql(sql) => match &**sql {
                ast::Statement::Query(query) if crate::command::into_table(query).is_none() => Some((**sql).clone()),
                _ => None,
            },
            _ => None,
        };
        let Some(query) = query else {
            // Boxed, like all work on single statements: what waits here is moved about on small stacks.
            let fields = Box::pin(crate::command::fields(self, statement)).await?.map(Arc::new);
            let parameters = Box::pin(crate::command::parameter_types(self, statement, given)).await?;
            return Ok(Prepared { statement: statement.clone(), plan: None, catalog_version: Some(version), fields, parameters });
        };
        let planned = self.plan_with(query, &statement.source, given, Around::default()).await?;
        let parameters = parameter_types(&planned.plan, &planned.given)?;
        let fields = Arc::new(self.result_fields(&planned.plan));
        // Sources that parameters name are found when the statement is executed: no version of the catalog is theirs.
        let version = if planned.late { None } else { Some(version) };
        Ok(Prepared { statement: statement.clone(), plan: Some(Arc::new(planned.plan)), catalog_version: version, fields: Some(fields), parameters })
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
            let Some(word) = crate::command::writes(&prepared.statement) else {
                return Box::pin(crate::command::run(self, &prepared.statement, parameters)).await;
            };
            self.may_write(&word)?;
            return self.written(&prepared, parameters).await;
        };
        // Tables may have changed since the statement was planned.
        let plan = if prepared.catalog_version == Some(self.snapshot().stamp) {
            LogicalPlan::clone(plan)
        } else {
            let given: Vec<Option<SqlType>> = prepared.parameters.iter().cloned().map(Some).collect();
            match &*prepared.statement.kind {
                StatementKind::Sql(sql) => {
                    self.plan_with((**sql).clone(), &prepared.statement.source, &given, Around { values: Some(&parameters), ..Around::default() }).await?.plan
                }
                _ => return Err(Error::internal("a plan without a query")),
            }
        };
        let plan = if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters)).map_err(from_datafusion)? };
        let fields = prepared.fields.clone().unwrap_or_default();
        let stream = self.run_plan(plan, &prepared.statement.text).await?;
        Ok(Execution::Rows { fields, stream, tag: RowsTag::Select })
    }

    /// A statement that writes. One that loses a worker runs again on those that are left: nothing of it is visible before
    /// its end.
    async fn written(self: &Arc<Self>, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Execution> {
        let mut runs = 1;
        loop {
            let result = self.writing(|| Box::pin(crate::command::run(self, &prepared.statement, parameters.clone()))).await;
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

    /// Whether the state of the transaction allows the statement: 25P02 after a failure, 25006 for writes where it only reads.
    fn check_transaction(&self, statement: &Statement) -> Result<()> {
        if self.transaction_status() == TransactionStatus::Failed && !crate::command::ends_transaction(statement) {
            return Err(Error::new(Kind::InFailedTransaction, "current transaction is aborted, commands ignored until end of transaction block"));
        }
        let mut inner = self.inner.lock();
        if inner.settings.is_on("transaction_read_only")
            && let Some(command) = crate::command::writes(statement)
        {
            return Err(Error::new(Kind::ReadOnlyTransaction, format!("cannot execute {command} in a read-only transaction")));
        }
        if let Some(transaction) = &mut inner.block {
            transaction.queried |= crate::command::is_query(statement);
        }
        Ok(())
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
        let (flag, query_id) = (stop.flag.clone(), self.inner.lock().query_id);
        let errors = Arc::new(StatementErrors::new(query_id, Arc::clone(&self.database.row_errors), &settings));
        let statement_env = task::environment(&self.database, &settings, flag, Arc::clone(&errors), self.allowed_paths())?;
        let facts = task::Facts::of(self, &settings, query_id);
        let state = self.state()?;
        let mut config = state.config().clone().with_extension(Arc::new(statement_env)).with_extension(Arc::new(facts));
        config.options_mut().execution.time_zone = Some(settings.get("timezone").to_owned());
        config.options_mut().execution.batch_size =
            datafusion::common::config::ConfigNonZeroUsize::try_new(settings.int("squilla.batch_rows").max(1) as usize).map_err(from_datafusion)?;
        let mut state = SessionStateBuilder::new_from_existing(state).with_config(config).build();
        state.mark_start_execution();
        state.execution_props_mut().query_execution_start_time = Some(self.transaction_start());
        Ok(Frame { state, errors, stop, rewrites: parking_lot::Mutex::default() })
    }

    /// When the transaction of this statement began: what `now()` tells.
    fn transaction_start(&self) -> chrono::DateTime<chrono::Utc> {
        self.inner.lock().block.as_ref().map_or_else(chrono::Utc::now, |block| block.began)
    }

    /// The session's state, made at first use.
    fn state(self: &Arc<Self>) -> Result<SessionState> {
        if let Some(state) = self.state.get() {
            return Ok(state.clone());
        }
        let made = crate::session::state::of_session(self)?;
        Ok(self.state.get_or_init(|| made).clone())
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

    /// Binds and plans a query.
    pub async fn plan_query(self: &Arc<Self>, statement: ast::Statement, text: &str, given: &[Option<SqlType>]) -> Result<LogicalPlan> {
        self.plan_with(statement, text, given, Around::default()).await.map(|planned| planned.plan)
    }

    /// The same with tables of this statement, by name.
    pub async fn plan_query_over(
        self: &Arc<Self>,
        statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        tables: Vec<(String, Arc<dyn datafusion::catalog::TableProvider>)>,
    ) -> Result<LogicalPlan> {
        self.plan_with(statement, text, given, Around { tables, ..Around::default() }).await.map(|planned| planned.plan)
    }

    /// Binds and plans the body of a function; `nesting` functions are being planned around it.
    pub(crate) async fn plan_body(
        self: &Arc<Self>,
        statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        nesting: usize,
    ) -> Result<LogicalPlan> {
        self.plan_with(statement, text, given, Around { nesting, ..Around::default() }).await.map(|planned| planned.plan)
    }

    /// Binds and plans a query.
    async fn plan_with(
        self: &Arc<Self>,
        mut statement: ast::Statement,
        text: &str,
        given: &[Option<SqlType>],
        around: Around<'_>,
    ) -> Result<Planned> {
        let Around { values, tables, nesting } = around;
        let settings = self.settings();
        let data = self.snapshot();
        let search_path = self.search_path(&data);
        let given = parameters_by_place(&mut statement, given);
        declare_parameters(&mut statement, &given);
        let lookup = Lookup { data: &data, search_path: &search_path, values };
        let context = CallContext { functions: &self.database.functions, settings: &settings };
        let depth = settings.int("squilla.max_statement_depth").max(16) as usize;
        let sources = crate::bind::relations::bind(&mut statement, &context, &lookup, depth)?;
        crate::postgres::rewrite::rewrite(&mut statement)?;
        let mut state = self.planning_state(&settings)?;
        let built_in = |name: &str| {
            state.scalar_functions().contains_key(name) || state.aggregate_functions().contains_key(name) || state.window_functions().contains_key(name)
        };
        let called = sql_functions::mark(&mut statement, &data, &search_path, &built_in)?;
        for udf in called.udfs() {
            datafusion::execution::FunctionRegistry::register_udf(&mut state, Arc::clone(udf)).map_err(from_datafusion)?;
        }
        crate::bind::calls::bind(&mut statement, &context)?;
        // Calls of ours have told more types.
        let given = parameters_by_place(&mut statement, &given);
        let late = sources.iter().any(|s| s.late);
        let mut made = self.resolve_sources(&sources, &state).await?;
        made.extend(tables);
        self.external_tables(&mut statement, &lookup, &state, &mut made).await?;
        let relations = StatementRelations {
            data: Arc::clone(&data),
            store: Arc::clone(&self.database.store),
            search_path,
            made,
            other: Arc::new(SessionView(Arc::downgrade(self))),
        };
        let state = SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(Catalogs(Arc::new(relations)))).build();
        let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await;
        let plan = plan.map_err(|e| from_datafusion_in(e, text))?;
        let plan = if called.is_empty() { plan } else { self.call_functions(plan, &called, nesting).await? };
        Ok(Planned { plan, given, late })
    }

    fn planning_state(self: &Arc<Self>, settings: &Settings) -> Result<SessionState> {
        let state = self.state()?;
        let mut config = state.config().clone();
        config.options_mut().execution.time_zone = Some(settings.get("timezone").to_owned());
        Ok(SessionStateBuilder::new_from_existing(state).with_config(config).build())
    }

    async fn resolve_sources(
        self: &Arc<Self>,
        sources: &[BoundSource],
        state: &SessionState,
    ) -> Result<HashMap<String, Arc<dyn datafusion::catalog::TableProvider>>> {
        let mut made = HashMap::new();
        let allowed = if sources.is_empty() { None } else { self.allowed_paths() };
        for source in sources {
            if source.late {
                made.insert(source.table.clone(), crate::source::late::unresolved(&source.call.name)?);
                continue;
            }
            if let Some(allowed) = &allowed {
                source.call.places().iter().try_for_each(|place| allowed.check(place))?;
            }
            let provider = match crate::table::versions::resolve(self, &source.call)? {
                Some(provider) => Some(provider),
                None => crate::source::tables::resolve(&source.call, &self.database.files, state).await?,
            };
            let provider = provider.ok_or_else(|| Error::internal(format!("{} is not a source", source.call.name)))?;
            made.insert(source.table.clone(), provider);
        }
        Ok(made)
    }

    /// Providers of the external tables that the statement names.
    async fn external_tables(
        &self,
        statement: &mut ast::Statement,
        lookup: &Lookup<'_>,
        state: &SessionState,
        made: &mut HashMap<String, Arc<dyn datafusion::catalog::TableProvider>>,
    ) -> Result<()> {
        for name in relation_names(statement) {
            let Some((schema, table, relation)) = lookup.find(&name) else { continue };
            if let RelationKind::External { format, location, options, partitioned_by } = &relation.kind {
                let external =
                    crate::source::tables::external(&relation.columns, format, location, options, partitioned_by, &self.database.files, state);
                let provider = external.await?;
                made.insert(format!("{schema}.{table}"), provider);
            }
        }
        Ok(())
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
            ResultField { name: column_names::shown(field.name()).to_owned(), ty: SqlType::of_field(field), table_oid, column_number }
        };
        plan.schema().fields().iter().enumerate().map(field).collect()
    }

    /// Optimizes, lifts and makes operators.
    pub async fn physical(self: &Arc<Self>, plan: &LogicalPlan, frame: &Frame) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = frame.state.optimize(plan).map_err(from_datafusion)?;
        let (plan, rewrites) = lift::lift(plan, &self.database.functions).map_err(from_datafusion)?;
        *frame.rewrites.lock() = rewrites;
        frame.state.query_planner().create_physical_plan(&plan, &frame.state).await.map_err(from_datafusion)
    }

    /// Executes a query's plan.
    pub async fn run_plan(self: &Arc<Self>, plan: LogicalPlan, text: &str) -> Result<RowStream> {
        let mut frame = self.frame(text)?;
        if crate::system::table::alone(&plan) {
            // Small relations that are made in one piece: spreading them over threads costs more than it gives.
            frame.state = one_partition(frame.state);
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

    /// Starts a physical plan.
    pub fn start(self: &Arc<Self>, frame: &Frame, plan: Arc<dyn ExecutionPlan>) -> Result<RowStream> {
        self.shared.runs(&plan);
        running::start(&self.database, self, plan, frame.state.task_ctx(), Arc::clone(&frame.errors), frame.stop.clone())
    }
}

fn one_partition(state: SessionState) -> SessionState {
    let config = state.config().clone().with_target_partitions(1);
    SessionStateBuilder::new_from_existing(state).with_config(config).build()
}

/// A stream of ours as DataFusion's, for sinks.
pub fn sendable(stream: RowStream, schema: arrow::datatypes::SchemaRef) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, stream.map(|b| b.map_err(to_datafusion))))
}

/// A few rows made here.
pub fn rows_of(batch: RecordBatch) -> RowStream {
    stream::iter([Ok(batch)]).boxed()
}

/// Looks names up in one snapshot.
pub struct Lookup<'a> {
    /// Snapshot.
    pub data: &'a CatalogData,
    /// Schemas of unqualified names.
    pub search_path: &'a [String],
    /// Values of parameters, where the statement has them.
    pub values: Option<&'a [ScalarValue]>,
}

impl<'a> Lookup<'a> {
    /// The relation of a name of one to three parts, with its schema and name.
    pub fn find<'s>(&'s self, name: &[String]) -> Option<(String, String, &'a crate::catalog::data::Relation)> {
        match name {
            [table] => {
                let (schema, relation) = self.data.resolve(self.search_path, table)?;
                Some((schema.to_owned(), table.clone(), relation))
            }
            [schema, table] | [_, schema, table] => {
                let relation = self.data.schemas.get(schema)?.relations.get(table)?;
                Some((schema.clone(), table.clone(), relation))
            }
            _ => None,
        }
    }
}

impl Relations for Lookup<'_> {
    fn view(&self, name: &[String]) -> Option<(u32, String)> {
        let relation = self.find(name)?.2;
        match &relation.kind {
            RelationKind::View { sql, .. } => Some((relation.oid, sql.clone())),
            _ => None,
        }
    }

    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<crate::catalog::functions::FunctionEntry> {
        self.data.functions_named(schema, self.search_path, name)
    }

    fn catalog(&self) -> &CatalogData {
        self.data
    }

    fn is_source(&self, name: &str) -> bool {
        crate::source::tables::sources().iter().chain(crate::table::versions::FUNCTIONS).any(|s| s.name == name)
    }

    fn parameter(&self, number: usize) -> Option<ScalarValue> {
        self.values?.get(number.checked_sub(1)?).cloned()
    }
}

/// Every name that stands where a relation can.
fn relation_names(statement: &mut ast::Statement) -> Vec<Vec<String>> {
    struct Names(Vec<Vec<String>>);
    impl VisitorMut for Names {
        type Break = ();
        fn pre_visit_relation(&mut self, name: &mut ast::ObjectName) -> ControlFlow<()> {
            self.0.push(crate::statement::name_parts(name));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    let _ = statement.visit(&mut names);
    names.0
}

/// Types of parameters that the client left open and their place tells: `$1::int4`, LIMIT and OFFSET.
fn parameters_by_place(statement: &mut ast::Statement, given: &[Option<SqlType>]) -> Vec<Option<SqlType>> {
    struct Places(Vec<Option<SqlType>>);
    impl Places {
        fn set(&mut self, expr: &ast::Expr, ty: Option<SqlType>) {
            let ast::Expr::Value(value) = expr else { return };
            let ast::Value::Placeholder(name) = &value.value else { return };
            let Some(index) = name.trim_start_matches('$').parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < PARAMETERS_MAX)
            else {
                return;
            };
            if self.0.len() <= index {
                self.0.resize(index + 1, None);
            }
            if let Some(slot) = self.0.get_mut(index).filter(|s| s.is_none()) {
                *slot = ty;
            }
        }
    }
    impl VisitorMut for Places {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Cast { expr, data_type, .. } = expr {
                self.set(expr, SqlType::parse(&data_type.to_string()));
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
            if let ast::TableFactor::Table { name, args: Some(args), .. } = factor {
                for (expr, ty) in crate::source::late::argument_types(&name.to_string().to_lowercase(), &args.args) {
                    self.set(expr, Some(ty));
                }
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
            if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
                limit.iter().chain(offset.iter().map(|o| &o.value)).for_each(|e| self.set(e, Some(SqlType::Int8)));
            }
            ControlFlow::Continue(())
        }
    }
    let mut places = Places(given.iter().map(|t| t.clone().filter(|t| *t != SqlType::Unknown)).collect());
    let _ = statement.visit(&mut places);
    places.0
}

/// Most parameters that a message can carry.
const PARAMETERS_MAX: usize = 65_535;

/// `$n` whose type the client declared becomes a cast to that type.
fn declare_parameters(statement: &mut ast::Statement, given: &[Option<SqlType>]) {
    struct Declare<'a>(&'a [Option<SqlType>]);
    impl VisitorMut for Declare<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            let ast::Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
            let ast::Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
            let number = name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
            let declared = number.checked_sub(1).and_then(|i| self.0.get(i)).and_then(Option::as_ref);
            if let Some(ty) = declared.filter(|t| !matches!(t, SqlType::Unknown)) {
                *expr = typed(expr.clone(), ty);
            }
            ControlFlow::Continue(())
        }
    }
    if !given.is_empty() {
        let _ = statement.visit(&mut Declare(given));
    }
}

/// `expr` as a value of this type.
pub fn typed(expr: ast::Expr, ty: &SqlType) -> ast::Expr {
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    let parsed = sqlparser::parser::Parser::new(&dialect).try_with_sql(&ty.name()).and_then(|mut p| p.parse_data_type());
    let data_type = parsed.unwrap_or(ast::DataType::Text);
    ast::Expr::Cast { kind: ast::CastKind::DoubleColon, expr: Box::new(expr), data_type, array: false, format: None }
}

/// Types of `$1`...: what the client declared, else what the plan needs, else text.
pub fn parameter_types(plan: &LogicalPlan, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
    // Fields, not Arrow types: an oid is stored as a bigint.
    let inferred = plan.get_parameter_fields().map_err(from_datafusion)?;
    let highest = inferred.keys().filter_map(|k| k.trim_start_matches('$').parse::<usize>().ok()).max().unwrap_or(0).max(given.len());
    Ok((1..=highest)
        .map(|n| match given.get(n - 1).and_then(Clone::clone).filter(|t| *t != SqlType::Unknown) {
            Some(ty) => ty,
            None => inferred
                .get(&format!("${n}"))
                .and_then(|t| t.as_ref())
                .map(|field| SqlType::of_field(field))
                .filter(|t| *t != SqlType::Unknown)
                .unwrap_or(SqlType::Text),
        })
        .collect())
}
