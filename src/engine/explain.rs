//! EXPLAIN in PostgreSQL's shape.
//!
//! In: a query. Out: one column `QUERY PLAN`, text or JSON, of the operators that run. With ANALYZE the query is executed
//! first and each operator shows its counters: rows, time, packs, calls, `errors=`. Invariant: the first line of the text
//! has PostgreSQL's `(cost=a..b rows=n width=w)`, which clients parse. Costs are row estimates, not PostgreSQL's units.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::ScalarValue;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use futures::StreamExt;
use serde_json::{Value, json};
use sqlparser::ast;
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::command::column;
use crate::command::sessions::text_rows;
use crate::error::from_datafusion;
use crate::session::{Execution, RowsTag, Session};
use crate::statement::{CopySource, Explain, Statement, StatementKind};

/// Runs EXPLAIN.
pub async fn run(session: &Arc<Session>, explain: &Explain, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let query = query_of(&explain.statement)?;
    let started = Instant::now();
    let mut plan = session.plan_query(query, &explain.statement.text, &[]).await?;
    if !parameters.is_empty() {
        plan = plan.with_param_values(datafusion::common::ParamValues::from(parameters)).map_err(from_datafusion)?;
    }
    let frame = session.frame(&explain.statement.text)?;
    let physical = frame.stop.guard(session.physical(&plan, &frame)).await?;
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
    let lines = if explain.json {
        let mut top = serde_json::Map::new();
        top.insert("Plan".into(), node(&physical, explain));
        top.insert("Planning Time".into(), json!(round(planning_ms)));
        if let Some(ms) = execution_ms {
            top.insert("Execution Time".into(), json!(round(ms)));
        }
        vec![serde_json::to_string_pretty(&json!([top])).map_err(|e| Error::internal(e.to_string()))?]
    } else {
        let mut lines = Vec::new();
        text(&physical, explain, 0, &mut lines);
        if let Some(ms) = execution_ms {
            lines.push(format!("Planning Time: {planning_ms:.3} ms"));
            lines.push(format!("Execution Time: {ms:.3} ms"));
        }
        lines
    };
    let ty = if explain.json { SqlType::Json } else { SqlType::Text };
    text_rows(vec![column("QUERY PLAN", ty)], vec![lines], RowsTag::Plain("EXPLAIN"))
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

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
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

/// What happened: rows out and seconds of work.
fn actual(metrics: &MetricsSet) -> (u64, f64) {
    let rows = metrics.output_rows().unwrap_or(0) as u64;
    let busy = metrics.sum_by_name("busy").map(|m| m.as_usize()).or_else(|| metrics.elapsed_compute()).unwrap_or(0);
    (rows, busy as f64 / 1e6)
}

/// Counters of our own and of DataFusion that say something to a user.
fn counters(metrics: &MetricsSet) -> Vec<(String, String)> {
    let metrics = metrics.aggregate_by_name();
    metrics
        .iter()
        .filter_map(|m| {
            let name = m.value().name();
            let shown = matches!(
                name,
                "packs"
                    | "calls"
                    | "errors"
                    | "spill_count"
                    | "spilled_bytes"
                    | "spilled_rows"
                    | "bytes_transferred"
                    | "max_mem_used"
                    | "bytes_scanned"
                    | "row_groups_pruned_statistics"
            );
            let value = m.value();
            (shown && (value.as_usize() > 0 || name == "errors")).then(|| {
                let text = match value {
                    MetricValue::Count { count, .. } => count.value().to_string(),
                    other => other.as_usize().to_string(),
                };
                (name.to_owned(), text)
            })
        })
        .collect()
}

/// `Name: details` without the name.
fn details(plan: &Arc<dyn ExecutionPlan>) -> String {
    let line = DisplayableExecutionPlan::new(plan.as_ref()).one_line().to_string();
    let line = line.trim();
    let after = line.split_once(':').map_or("", |(_, rest)| rest).trim();
    after.to_owned()
}

fn text(plan: &Arc<dyn ExecutionPlan>, explain: &Explain, depth: usize, lines: &mut Vec<String>) {
    let indent = if depth == 0 { String::new() } else { format!("{}->  ", " ".repeat(depth * 6 - 4)) };
    let mut line = format!("{indent}{}", plan.name());
    let (rows, width) = estimate(plan);
    if explain.costs {
        line.push_str(&format!("  (cost=0.00..{rows}.00 rows={rows} width={width})"));
    }
    let metrics = plan.metrics().filter(|_| explain.analyze);
    if let Some(metrics) = &metrics {
        let (rows, ms) = actual(metrics);
        line.push_str(&format!(" (actual time=0.000..{ms:.3} rows={rows} loops=1)"));
    }
    lines.push(line);
    let inner = " ".repeat(if depth == 0 { 2 } else { depth * 6 + 2 });
    let details = details(plan);
    if !details.is_empty() {
        let shown: String = if explain.verbose { details } else { details.chars().take(400).collect() };
        lines.push(format!("{inner}{shown}"));
    }
    if let Some(metrics) = &metrics {
        let counters = counters(metrics);
        if !counters.is_empty() {
            lines.push(format!("{inner}{}", counters.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ")));
        }
    }
    for child in plan.children() {
        text(child, explain, depth + 1, lines);
    }
}

fn node(plan: &Arc<dyn ExecutionPlan>, explain: &Explain) -> Value {
    let (rows, width) = estimate(plan);
    let mut map = serde_json::Map::new();
    map.insert("Node Type".into(), json!(plan.name()));
    if explain.costs {
        map.insert("Startup Cost".into(), json!(0.0));
        map.insert("Total Cost".into(), json!(rows as f64));
        map.insert("Plan Rows".into(), json!(rows));
        map.insert("Plan Width".into(), json!(width));
    }
    let details = details(plan);
    if !details.is_empty() {
        map.insert("Details".into(), json!(details));
    }
    if let Some(metrics) = plan.metrics().filter(|_| explain.analyze) {
        let (rows, ms) = actual(&metrics);
        map.insert("Actual Startup Time".into(), json!(0.0));
        map.insert("Actual Total Time".into(), json!(round(ms)));
        map.insert("Actual Rows".into(), json!(rows));
        map.insert("Actual Loops".into(), json!(1));
        for (name, value) in counters(&metrics) {
            let key: String = name.split('_').map(|w| w[..1].to_uppercase() + &w[1..]).collect::<Vec<_>>().join(" ");
            map.insert(key, json!(value.parse::<u64>().unwrap_or(0)));
        }
    }
    let children: Vec<Value> = plan.children().into_iter().map(|c| node(c, explain)).collect();
    if !children.is_empty() {
        map.insert("Plans".into(), Value::Array(children));
    }
    Value::Object(map)
}
