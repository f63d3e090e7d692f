//! DataFusion states: the database's, a session's, a statement's.
//!
//! Invariant: the database's state has everything that no session changes; a session's adds the catalog functions bound
//! to its picture; a statement's has its environment and its relations. Deliberately absent: DataFusion's own catalogs.

use std::sync::{Arc, Weak};

use datafusion::execution::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::{SessionConfig, SessionContext};
use squilla_core::error::Result;
use squilla_core::settings::Settings;

use crate::bind::relation::SquillaRelationPlanner;
use crate::error::from_datafusion;
use crate::plan::lateral::LateralRule;
use crate::plan::physical::SquillaQueryPlanner;
use crate::postgres::cast_rule::TextCasts;
use crate::postgres::type_planner::PostgresTypes;
use crate::postgres::{registry, subquery_rule};
use crate::run::Runner;
use crate::session::view::{ListeningChannels, SessionView};
use crate::session::{Session, admin, sequences, versions};
use crate::system::procs::{Proc, assemble, declared};
use crate::system::view::ViewSource;
use crate::udf::{BUILTIN, Functions};

/// The state that all sessions start from.
pub fn base(
    settings: &Settings,
    threads: usize,
    runtime_env: Arc<RuntimeEnv>,
    functions: &Arc<Functions>,
    runner: &dyn Runner,
) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads.max(1))
        .with_batch_size(settings.int("squilla.batch_rows").max(1) as usize)
        .with_default_catalog_and_schema("squilla", crate::session::relations::PATH_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let spill = settings.get("squilla.spill_compression").to_owned();
    for (name, value) in [
        ("datafusion.sql_parser.dialect", "PostgreSQL"),
        ("datafusion.sql_parser.parse_float_as_decimal", "true"),
        ("datafusion.sql_parser.collect_spans", "true"),
        ("datafusion.execution.listing_table_ignore_subdirectory", "false"),
        ("datafusion.execution.skip_physical_aggregate_schema_check", "true"),
        ("datafusion.execution.spill_compression", spill.as_str()),
    ] {
        config.options_mut().set(name, value).map_err(from_datafusion)?;
    }
    runner.configure(config.options_mut());
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime_env)
        .with_default_features()
        .with_query_planner(Arc::new(SquillaQueryPlanner))
        .with_relation_planners(vec![Arc::new(SquillaRelationPlanner { functions: Arc::clone(functions) })])
        .with_type_planner(Arc::new(PostgresTypes))
        .build();
    // Before DataFusion's own analyzer rules: type coercion must see the joined plan.
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(LateralRule)];
    rules.extend(state.analyzer().rules.iter().cloned());
    let mut context = SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_analyzer_rules(rules).build());
    let no_session: Arc<dyn ViewSource> = Arc::new(SessionView(Weak::new()));
    registry::register(&mut context, &registry::functions(&no_session)).map_err(from_datafusion)?;
    let state = context.state();
    // Ours before DataFusion's own, which would take subscripts first.
    let mut planners = state.expr_planners().to_vec();
    planners.rotate_right(1);
    let mut state = SessionStateBuilder::new_from_existing(state).with_expr_planners(planners).build();
    for udf in functions.udfs() {
        state.register_udf(Arc::clone(udf)).map_err(from_datafusion)?;
    }
    Ok(state)
}

/// What `pg_proc` lists.
pub fn procs(state: &SessionState, functions: &Functions) -> Vec<Proc> {
    // The engine's own are PostgreSQL's, which `registry` tells.
    let ours = functions.iter().filter(|f| f.family != BUILTIN).flat_map(|f| declared(&f.declaration, f.family));
    let builtin = registry::builtin_procs(&SessionContext::new_with_state(state.clone()));
    let mine: std::collections::HashSet<String> = functions.iter().map(|f| f.declaration.name.clone()).collect();
    assemble(ours.chain(registry::procs()).chain(builtin.into_iter().filter(|p| !mine.contains(&p.name))).collect::<Vec<_>>())
}

/// A session's state: its catalog functions read its own picture.
pub fn of_session(session: &Arc<Session>) -> Result<SessionState> {
    let source: Arc<dyn ViewSource> = Arc::new(SessionView(Arc::downgrade(session)));
    let functions: Vec<ScalarUDF> = registry::functions(&source);
    let base = session.database.base().clone();
    let mut rules = base.analyzer().rules.clone();
    rules.push(Arc::new(TextCasts::new(&functions).with_encoders(|name| base.scalar_functions().get(name).cloned())));
    rules.push(subquery_rule::rule());
    let mut state = SessionStateBuilder::new_from_existing(base).with_analyzer_rules(rules).build();
    for udf in functions.into_iter().chain(admin::functions(session)).chain(sequences::functions(session)).chain(versions::functions(session)) {
        state.register_udf(Arc::new(udf)).map_err(from_datafusion)?;
    }
    let context = SessionContext::new_with_state(state);
    context.register_udtf("pg_listening_channels", Arc::new(ListeningChannels(SessionView(Arc::downgrade(session)))));
    Ok(context.state())
}
