//! `/healthz`, `/readyz`, `/metrics` in Prometheus' text form.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::database::Database;
use squilla_engine::run::WorkerRow;

/// Serves while this is alive.
#[derive(Debug)]
pub struct Console {
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Listens at `address` (`off`: not at all). Refuses addresses that are not loopback: the pages have no authentication.
pub async fn start(address: &str, database: Arc<Database>) -> Result<Console> {
    if address == "off" {
        return Ok(Console { task: None });
    }
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| Error::invalid_argument(format!("\"{address}\" is not an address")).hint("--http-listen takes HOST:PORT or off."))?;
    if !parsed.ip().is_loopback() {
        return Err(Error::new(Kind::InvalidAuthorization, "the HTTP pages are served on loopback only").hint("Use 127.0.0.1:PORT."));
    }
    let listener = tokio::net::TcpListener::bind(parsed)
        .await
        .map_err(|e| Error::io(format!("could not listen on {address}"), e).hint("Choose another address with --http-listen, or off."))?;
    let router =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready)).route("/metrics", get(metrics)).with_state(database);
    tracing::info!(%address, "serving /healthz, /readyz and /metrics");
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the HTTP listener ended");
        }
    });
    Ok(Console { task: Some(task) })
}

async fn ready(State(database): State<Arc<Database>>) -> (StatusCode, &'static str) {
    match database.runtime() {
        Ok(_) if database.draining.load(Ordering::Relaxed) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

async fn metrics(State(database): State<Arc<Database>>) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, value: f64| {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    };
    let sessions = database.sessions();
    gauge("squilla_sessions", "Open sessions.", sessions.len() as f64);
    gauge("squilla_sessions_active", "Sessions that run a statement.", sessions.iter().filter(|s| s.activity().state == "active").count() as f64);
    gauge("squilla_memory_reserved_bytes", "Bytes reserved from the memory pool.", database.memory_pool().reserved() as f64);
    gauge("squilla_row_errors", "Entries in squilla.row_errors.", database.row_errors.entries().len() as f64);
    gauge("squilla_cores_idle", "Cores that decode nothing now.", database.models.cores().idle() as f64);
    type Gauge = (&'static str, &'static str, fn(&WorkerRow) -> f64);
    let of_workers: [Gauge; 4] = [
        ("squilla_worker_up", "1 when the worker takes work.", |w| f64::from(u8::from(w.state == "ready"))),
        ("squilla_worker_statements", "Statements that the worker works on.", |w| w.statements as f64),
        ("squilla_worker_memory_used_bytes", "Bytes reserved from the worker's memory pool.", |w| w.memory_used as f64),
        ("squilla_worker_spilled_bytes", "Bytes of the worker's spill files.", |w| w.spilled as f64),
    ];
    let workers = database.runner.workers();
    for (name, help, value) in of_workers.iter().filter(|_| !workers.is_empty()) {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for worker in &workers {
            let _ =
                writeln!(out, "{name}{{worker=\"{}\",state=\"{}\",device=\"{}\"}} {}", worker.address, worker.state, worker.device, value(worker));
        }
    }
    type Counter = (&'static str, &'static str, fn(&squilla_engine::database::ModelStats) -> f64);
    let counters: [Counter; 5] = [
        ("squilla_model_items_total", "Items that went through the model.", |m| m.items as f64),
        ("squilla_model_failed_total", "Items that failed.", |m| m.failed as f64),
        ("squilla_model_packs_total", "Runs of the model.", |m| m.packs as f64),
        ("squilla_model_busy_seconds_total", "Seconds in which the device worked.", |m| m.busy_s),
        ("squilla_model_wait_seconds_total", "Seconds that items waited.", |m| m.wait_s),
    ];
    let models = database.models.stats();
    for (name, help, value) in counters {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
        for model in &models {
            let label = model.name.replace(['"', '\\', '\n'], "_");
            let _ = writeln!(out, "{name}{{model=\"{label}\",device=\"{}\"}} {}", model.device, value(model));
        }
    }
    out
}
