//! EXPLAIN in PostgreSQL's shape.
//!
//! In: a query. Out: one column `QUERY PLAN` of the operators that run, as text, JSON, YAML or XML. With ANALYZE the query is
//! executed first and each operator shows its counters: rows, time, packs, calls, `errors=`, and what models did for it. The
//! line `Rewrites:` names what the planner changed for speed. Invariant: costs only grow towards the root, and the first line
//! of the text has PostgreSQL's `(cost=a..b rows=n width=w)`, which clients parse.
//! Deliberately absent: PostgreSQL's names of operators; these are the ones that run.

mod render;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::ScalarValue;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use futures::StreamExt;
use sqlparser::ast;
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::command::column;
use crate::command::sessions::text_rows;
use crate::error::from_datafusion;
use crate::exec::measure::RUNS_ON;
use crate::run::ShuffleRow;
use crate::session::{Execution, RowsTag, Session};
use crate::statement::copy::CopySource;
use crate::statement::explain::{Explain, ExplainFormat};
use crate::statement::{Statement, StatementKind};

/// One operator with what is known of it.
struct Node {
    name: String,
    details: String,
    startup: f64,
    total: f64,
    rows: usize,
    width: usize,
    actual: Option<Actual>,
    children: Vec<Node>,
}

/// What happened in an operator.
struct Actual {
    rows: u64,
    ms: f64,
    counters: Vec<(&'static str, u64)>,
    /// Devices on which models ran for it.
    devices: Vec<String>,
}

/// Runs EXPLAIN.
pub async fn run(session: &Arc<Session>, explain: &Explain, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let query = query_of(&explain.statement)?;
    let started = Instant::now();
    let mut plan = session.plan_query(query, &explain.statement.source, &[]).await?;
    if !parameters.is_empty() {
        plan = plan.with_param_values(datafusion::common::ParamValues::from(parameters)).map_err(from_datafusion)?;
    }
    let frame = session.frame(&explain.statement.text)?;
    let physical = frame.stop.guard(session.physical(&plan, &frame)).await?;
    let rewrites = frame.rewrites.lock().clone();
    let runner = &session.database.runner;
    let mut physical = frame.stop.guard(runner.place(physical, &frame.state.task_ctx())).await?;
    let planning_ms = started.elapsed().as_secs_f64() * 1000.0;
    let mut execution_ms = None;
    if explain.analyze {
        let started = Instant::now();
        let mut rows = session.start(&frame, Arc::clone(&physical))?;
        while let Some(batch) = rows.next().await {
            batch?;
        }
        execution_ms = Some(started.elapsed().as_secs_f64() * 1000.0);
        physical = runner.counted(physical).await?;
    }
    let query_id = session.shared.activity().query_id;
    let stages = if explain.analyze { stages(runner.shuffles().iter().filter(|s| s.query_id == query_id)) } else { Vec::new() };
    let plan = Plan { root: node(&physical, explain), rewrites, stages, planning_ms, execution_ms };
    let (lines, ty) = match explain.format {
        ExplainFormat::Text => (render::text(&plan, explain), SqlType::Text),
        ExplainFormat::Json => (vec![render::json(&plan, explain)], SqlType::Json),
        ExplainFormat::Yaml => (vec![render::yaml(&plan, explain)], SqlType::Text),
        ExplainFormat::Xml => (vec![render::xml(&plan, explain)], SqlType::Text),
    };
    text_rows(vec![column("QUERY PLAN", ty)], vec![lines], RowsTag::Plain("EXPLAIN"))
}

/// The whole of an explanation.
struct Plan {
    root: Node,
    /// What the planner changed for speed.
    rewrites: Vec<&'static str>,
    /// What the stages of a distributed plan sent on.
    stages: Vec<Stage>,
    planning_ms: f64,
    execution_ms: Option<f64>,
}

/// What one stage of a plan sent to other processes.
#[derive(Default)]
struct Stage {
    number: i64,
    tasks: usize,
    /// In turn: on the wire, most that waited in memory, sum over tasks, and through files.
    bytes: [(&'static str, i64); 3],
}

fn stages<'a>(sent: impl Iterator<Item = &'a ShuffleRow>) -> Vec<Stage> {
    let mut stages: BTreeMap<i64, (HashSet<i64>, [i64; 3])> = BTreeMap::new();
    for row in sent {
        let (tasks, bytes) = stages.entry(row.stage).or_default();
        tasks.insert(row.task);
        for (sum, more) in bytes.iter_mut().zip([row.wire_bytes, row.memory_bytes, row.spilled_bytes]) {
            *sum += more;
        }
    }
    let stage = |(number, (tasks, [wire, memory, spilled])): (i64, (HashSet<i64>, [i64; 3]))| Stage {
        number,
        tasks: tasks.len(),
        bytes: [("wire_bytes", wire), ("memory_bytes", memory), ("spilled_bytes", spilled)],
    };
    stages.into_iter().map(stage).collect()
}

fn query_of(statement: &Statement) -> Result<ast::Statement> {
    let query = match &*statement.kind {
        StatementKind::Sql(sql) => match &**sql {
            ast::Statement::Query(_) => return Ok((**sql).clone()),
            ast::Statement::CreateTable(create) => create.query.clone(),
            ast::Statement::Insert(insert) => insert.source.clone(),
            _ => None,
        },
        StatementKind::Copy(copy) => match &copy.source {
            CopySource::Query(query) => Some(query.clone()),
            CopySource::Table { .. } => None,
        },
        _ => None,
    };
    query.map(ast::Statement::Query).ok_or_else(|| Error::unsupported("EXPLAIN takes a query, or a statement that writes the rows of one"))
}

/// Estimated rows and width in bytes.
fn estimate(plan: &Arc<dyn ExecutionPlan>) -> (usize, usize) {
    let statistics = datafusion::physical_plan::statistics::StatisticsContext::new()
        .compute(plan.as_ref(), &datafusion::physical_plan::statistics::StatisticsArgs::new())
        .ok();
    let rows = statistics.as_ref().and_then(|s| s.num_rows.get_value().copied()).unwrap_or(1000);
    let width = plan.schema().fields().iter().map(|f| f.data_type().primitive_width().unwrap_or(32)).sum();
    (rows.max(1), width)
}

/// What happened: rows out and milliseconds of work.
fn actual(metrics: &MetricsSet) -> (u64, f64) {
    let rows = metrics.output_rows().unwrap_or(0) as u64;
    let busy = metrics.sum_by_name("busy").map(|m| m.as_usize()).or_else(|| metrics.elapsed_compute()).unwrap_or(0);
    (rows, busy as f64 / 1e6)
}

/// Counters of our own and of DataFusion that say something to a user, in this order. Shown when not zero.
const COUNTERS: &[&str] = &[
    "rows_in",
    "bytes",
    "packs",
    "calls",
    "errors",
    "model_items",
    "model_runs",
    "tokens",
    "cache_hits",
    "device_us",
    "queue_us",
    "peak_bytes",
    "spill_count",
    "spilled_bytes",
    "spilled_rows",
    "bytes_transferred",
    "max_mem_used",
    "bytes_scanned",
    "row_groups_pruned_statistics",
];

/// The values of [`COUNTERS`], and how full the runs of a model were, in percent.
fn counters(metrics: &MetricsSet) -> Vec<(&'static str, u64)> {
    let metrics = metrics.aggregate_by_name();
    let value = |name: &str| -> Option<u64> {
        metrics.iter().find(|m| m.value().name() == name).map(|m| match m.value() {
            MetricValue::Count { count, .. } => count.value() as u64,
            other => other.as_usize() as u64,
        })
    };
    let shown = |name: &&'static str| value(name).filter(|v| *v > 0 || *name == "errors").map(|v| (*name, v));
    let mut out: Vec<_> = COUNTERS.iter().filter_map(shown).collect();
    if let (Some(items), Some(room)) = (value("model_items"), value("model_room").filter(|room| *room > 0)) {
        out.push(("fill_percent", (items * 100 / room).min(100)));
    }
    // Time in which the operator worked, and in which its input had nothing to give.
    for (name, time) in [("busy", "busy_us"), ("wait", "wait_us")] {
        out.extend(value(name).map(|nanoseconds| (time, nanoseconds / 1000)));
    }
    out
}

/// Names of the devices on which models ran.
fn devices(metrics: &MetricsSet) -> Vec<String> {
    let metrics = metrics.aggregate_by_name();
    let mut names: Vec<String> = metrics.iter().filter_map(|m| m.value().name().strip_prefix(RUNS_ON).map(str::to_owned)).collect();
    names.sort();
    names
}

/// `Name: details` without the name.
fn details(plan: &Arc<dyn ExecutionPlan>) -> String {
    let line = DisplayableExecutionPlan::new(plan.as_ref()).one_line().to_string();
    let line = line.trim();
    let after = line.split_once(':').map_or("", |(_, rest)| rest).trim();
    after.to_owned()
}

/// Cost of one row through one operator, in PostgreSQL's units (a page read in order is 1).
const ROW: f64 = 0.0025;
/// Cost of a row that is read.
const READ: f64 = 0.01;
/// Bytes that cost 1 to read.
const PAGE: f64 = 8192.0;

fn node(plan: &Arc<dyn ExecutionPlan>, explain: &Explain) -> Node {
    let children: Vec<Node> = plan.children().into_iter().map(|c| node(c, explain)).collect();
    let (rows, width) = estimate(plan);
    let below: f64 = children.iter().map(|c| c.total).sum();
    let read: usize = children.iter().map(|c| c.rows).sum();
    let own = if children.is_empty() { rows as f64 * READ + (rows * width) as f64 / PAGE } else { read.max(rows) as f64 * ROW };
    // What must see its whole input first gives its first row when that has ended.
    let name = plan.name();
    let blocks = name.contains("Sort") || name.contains("Aggregate") || name.contains("HashJoin");
    let first = children.iter().map(|c| c.startup).fold(0.0, f64::max);
    let metrics = plan.metrics().filter(|_| explain.analyze);
    Node {
        name: name.to_owned(),
        details: details(plan),
        startup: if blocks && !name.contains("Preserving") { below + own } else { first },
        total: below + own,
        rows,
        width,
        actual: metrics.map(|m| {
            let (rows, ms) = actual(&m);
            Actual { rows, ms, counters: counters(&m), devices: devices(&m) }
        }),
        children,
    }
}
