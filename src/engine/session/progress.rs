//! How far a running statement is.
//!
//! In: the operators of a running plan, whose metrics grow as it runs. Out: rows, bytes, the share that is done and the time
//! that is left. Invariant: reading it changes and delays nothing; what cannot be told is absent, never guessed. Deliberately
//! absent: stages of other workers, whose metrics come with their end.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// A moment of a running statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// The operator of ours that is nearest to the result: Compute or Expand; else the plan's first operator.
    pub operator: String,
    /// Rows of its input that are done with, or rows out.
    pub rows: u64,
    /// Bytes of those rows.
    pub bytes: u64,
    /// Rows that failed.
    pub errors: u64,
    /// Items that went through models.
    pub model_items: u64,
    /// 0 to 1.
    pub done: Option<f64>,
    /// Since the statement began.
    pub elapsed: Duration,
}

impl Progress {
    /// The progress of a plan that has run for `elapsed`.
    pub fn of(plan: &Arc<dyn ExecutionPlan>, elapsed: Duration) -> Self {
        let mut out = Self { elapsed, done: share(plan), ..Self::default() };
        let mut seen = false;
        visit(plan, &mut |node| {
            let ours = metric(node, "rows_in").is_some();
            if (ours && !seen) || out.operator.is_empty() {
                out.operator = node.name().to_owned();
                out.rows = metric(node, "rows_in").or_else(|| rows_out(node)).unwrap_or(0);
                out.bytes = metric(node, "bytes").unwrap_or(0);
                seen = ours;
            }
            out.errors += metric(node, "errors").unwrap_or(0);
            out.model_items += metric(node, "model_items").unwrap_or(0);
        });
        out
    }

    /// Seconds until the end, when as much is done a second as so far.
    pub fn left_s(&self) -> Option<f64> {
        let done = self.done.filter(|done| *done > 0.0)?;
        Some(self.elapsed.as_secs_f64() * (1.0 - done) / done)
    }

    /// For people: `42 % of Compute, 1200 rows (40 a second), 3 failed, 12 s left`.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Some(done) = self.done {
            out.push_str(&format!("{:.0} % of ", (done * 100.0).floor()));
        }
        let per_second = self.rows as f64 / self.elapsed.as_secs_f64().max(0.001);
        out.push_str(&format!("{}, {} rows ({per_second:.1} a second)", self.operator, self.rows));
        if self.errors > 0 {
            out.push_str(&format!(", {} failed", self.errors));
        }
        if let Some(left) = self.left_s() {
            out.push_str(&format!(", {left:.0} s left"));
        }
        out
    }
}

fn visit<'a>(plan: &'a Arc<dyn ExecutionPlan>, f: &mut impl FnMut(&'a Arc<dyn ExecutionPlan>)) {
    f(plan);
    for child in plan.children() {
        visit(child, f);
    }
}

fn metric(plan: &Arc<dyn ExecutionPlan>, name: &str) -> Option<u64> {
    plan.metrics()?.sum_by_name(name).map(|value| value.as_usize() as u64)
}

fn rows_out(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    plan.metrics()?.output_rows().map(|rows| rows as u64)
}

/// Rows that an operator will give, where it is known exactly.
fn total(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok()?;
    match statistics.num_rows {
        datafusion::common::stats::Precision::Exact(rows) => Some(rows as u64),
        _ => None,
    }
}

/// The share of an operator's work that is done: of its input what it has taken, times the share of the input that is there.
fn share(plan: &Arc<dyn ExecutionPlan>) -> Option<f64> {
    let part = |some: u64, all: u64| if all == 0 { 1.0 } else { (some as f64 / all as f64).min(1.0) };
    let children = plan.children();
    if let ([child], Some(taken)) = (children.as_slice(), metric(plan, "rows_in")) {
        return match total(child) {
            Some(all) => Some(part(taken, all)),
            None => Some(part(taken, rows_out(child)?) * share(child)?),
        };
    }
    match children.as_slice() {
        [] => Some(part(rows_out(plan)?, total(plan)?)),
        some => {
            let shares: Vec<f64> = some.iter().filter_map(|child| share(child)).collect();
            (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_people() {
        let progress =
            Progress { operator: "Compute".into(), rows: 50, errors: 2, done: Some(0.25), elapsed: Duration::from_secs(10), ..Progress::default() };
        assert_eq!(progress.text(), "25 % of Compute, 50 rows (5.0 a second), 2 failed, 30 s left");
        let unknown = Progress { operator: "Expand".into(), rows: 3, elapsed: Duration::from_secs(2), ..Progress::default() };
        assert_eq!(unknown.text(), "Expand, 3 rows (1.5 a second)");
    }
}
