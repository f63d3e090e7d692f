//! Which tasks there are and where they run.
//!
//! In: the workers that take work, a statement's settings, and the nodes of its plan. Out: answers to the questions that
//! datafusion-distributed asks while it cuts a plan into stages and sends them out. Invariants: a stage with a model has
//! at least two tasks, so that it never runs in the coordinator, and goes to workers that have what the model asks for;
//! a node that needs all rows at once has one task. Deliberately absent: exchanges (`spread`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::Result as DfResult;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{DesiredTaskCountEvent, DesiredTaskCountEventResponse, RouteTasksEvent, RouteTasksEventResponse};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Settings;
use squilla_engine::exec::expand::ExpandExec;
use squilla_engine::exec::pack::PackExec;
use squilla_engine::session::task::Facts;
use url::Url;

use crate::channels::address;
use crate::members::{Ready, labels, listed};
use crate::spread::{anywhere, calls, here, runs_model, scan, scan_bytes, wants_one_partition};

/// The placement of one run of a statement.
pub struct Placement {
    /// URLs that any stage may use; a lone worker stands here twice.
    pub urls: Vec<Url>,
    /// URLs that stages with models may use; a lone worker stands here twice.
    pub model_urls: Vec<Url>,
    /// Bytes of files that one more task is worth.
    task_bytes: u64,
    /// Whether size is no question: `squilla.distributed = on`.
    always: bool,
    next: AtomicUsize,
}

impl Placement {
    /// For this plan. Fails when it has a model that no worker can run (SQ003).
    pub fn new(plan: &Arc<dyn ExecutionPlan>, ready: &[Ready], facts: &Facts) -> Result<Self> {
        let settings = &facts.session;
        let mut wanted = labels(settings.get("squilla.model_labels"))?;
        let device = device_of(plan, facts, settings);
        let fits: Vec<Ready> = ready.iter().filter(|r| fits(r, &wanted, device.as_deref())).cloned().collect();
        if fits.is_empty() && anywhere(plan, runs_model) {
            if let Some(device) = device {
                wanted.insert("device".to_owned(), device);
            }
            return Err(nobody_has(&wanted, ready));
        }
        Ok(Self {
            urls: listed(ready),
            model_urls: listed(&fits),
            task_bytes: settings.int("squilla.task_bytes").max(1) as u64,
            always: settings.get("squilla.distributed") == "on",
            // Not always the same worker first.
            next: AtomicUsize::new(facts.query_id as usize),
        })
    }

    /// For a plan that is sent to no worker as a whole.
    pub fn of_nobody(facts: &Facts) -> Self {
        let task_bytes = facts.session.int("squilla.task_bytes").max(1) as u64;
        Self { urls: Vec::new(), model_urls: Vec::new(), task_bytes, always: false, next: AtomicUsize::new(0) }
    }

    /// Tasks that this leaf is worth.
    pub fn tasks_of_leaf(&self, leaf: &Arc<dyn ExecutionPlan>) -> usize {
        if wants_one_partition(leaf) || scan(leaf).is_none() {
            return 1;
        }
        if self.always {
            return self.urls.len();
        }
        usize::try_from(scan_bytes(leaf).div_ceil(self.task_bytes)).unwrap_or(usize::MAX).clamp(1, self.urls.len().max(1))
    }

    /// The answer to how many tasks a node wants; None leaves it to the other nodes of its stage.
    pub fn tasks(&self, event: DesiredTaskCountEvent<'_>) -> Option<DfResult<DesiredTaskCountEventResponse>> {
        let plan = event.plan;
        if plan.children().is_empty() {
            scan(plan)?;
            return Some(Ok(if wants_one_partition(plan) {
                DesiredTaskCountEventResponse::maximum(1)
            } else {
                DesiredTaskCountEventResponse::desired(self.tasks_of_leaf(plan))
            }));
        }
        if wants_one_partition(plan) {
            return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
        }
        if calls(plan).is_empty() {
            return None;
        }
        let tasks = if runs_model(plan) { self.model_urls.len() } else { self.urls.len() };
        Some(Ok(DesiredTaskCountEventResponse::desired(tasks)))
    }

    /// The workers of a stage's tasks.
    pub fn route(&self, event: &RouteTasksEvent<'_>) -> Option<DfResult<RouteTasksEventResponse>> {
        let urls = if here(event.plan, &runs_model) { &self.model_urls } else { &self.urls };
        if urls.is_empty() {
            return None;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let chosen = (0..event.task_count).filter_map(|task| urls.get(first.wrapping_add(task) % urls.len()).cloned());
        Some(Ok(RouteTasksEventResponse::new(chosen.collect())))
    }
}

fn fits(worker: &Ready, wanted: &HashMap<String, String>, device: Option<&str>) -> bool {
    let labelled = wanted.iter().all(|(name, value)| worker.info.labels.get(name) == Some(value));
    labelled && device.is_none_or(|d| worker.info.device.split(':').next() == d.split(':').next())
}

/// The device that a model of the plan was registered for, when it is not one that every worker has.
fn device_of(plan: &Arc<dyn ExecutionPlan>, facts: &Facts, settings: &Settings) -> Option<String> {
    let mut found = None;
    let _ = anywhere(plan, |node| {
        for (call, args) in calls_with_args(node) {
            if call.entry.family != "model" {
                continue;
            }
            let signature = call.entry.declaration.signatures.get(call.signature);
            let given = signature.and_then(|s| s.position("model")).and_then(|p| args.get(p)).and_then(|a| {
                let literal = a.downcast_ref::<Literal>()?;
                literal.value().try_as_str().flatten().map(str::to_owned)
            });
            let task = call.entry.declaration.name.trim_end_matches("_scores").trim_end_matches("_segments").to_owned();
            let name = given.unwrap_or_else(|| settings.get(&format!("squilla.default_model.{task}")).to_owned());
            let of_name = |m: &&serde_json::Value| m.get("name").and_then(|n| n.as_str()) == Some(name.as_str());
            let device = facts.models.iter().find(of_name).and_then(|m| m.get("device")).and_then(|d| d.as_str());
            if let Some(device) = device.filter(|d| !matches!(*d, "auto" | "cpu" | "")) {
                found = Some(device.to_owned());
            }
        }
        false
    });
    found
}

type Args<'a> = &'a [Arc<dyn datafusion::physical_plan::PhysicalExpr>];

fn calls_with_args(node: &Arc<dyn ExecutionPlan>) -> Vec<(&squilla_engine::exec::invoke::CallSpec, Args<'_>)> {
    if let Some(pack) = node.downcast_ref::<PackExec>() {
        return pack.steps().iter().map(|s| (&s.call, s.args.as_slice())).collect();
    }
    node.downcast_ref::<ExpandExec>().map(|e| vec![e.call()]).unwrap_or_default()
}

fn nobody_has(wanted: &HashMap<String, String>, ready: &[Ready]) -> Error {
    let mut wanted: Vec<String> = wanted.iter().map(|(k, v)| format!("{k}={v}")).collect();
    wanted.sort();
    let have: Vec<String> = ready
        .iter()
        .map(|r| {
            let labels: Vec<String> = r.info.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{} has device={}{}{}", address(&r.url), r.info.device, if labels.is_empty() { "" } else { "," }, labels.join(","))
        })
        .collect();
    Error::new(Kind::DeviceLost, format!("no worker can run the model: {} is asked for", wanted.join(", ")))
        .detail(format!("{}.", have.join("; ")))
        .hint("Start a worker with these labels or this device, or change squilla.model_labels or the model's device.")
}
