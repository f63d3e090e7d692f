//! Connections to workers: one a worker, kept, with the token and a heartbeat.
//!
//! In: a worker's URL. Out: a channel; and, for datafusion-distributed, a client whose errors name the worker. Invariants:
//! a worker that froze or whose network is cut is noticed within four seconds (HTTP/2 pings); an error of the transport is
//! SQ004 and is told to whoever keeps the list of workers. Deliberately absent: which workers there are (`members`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse, SetPlanRequest, WorkerChannel,
    WorkerToCoordinatorMsg, grpc,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::error::{from_datafusion, to_datafusion};
use squilla_engine::error_wire;
use tonic::{Code, Status};
use tower::ServiceExt;
use url::Url;

use crate::security::Security;

/// A connection that can be cloned.
pub type Channel = grpc::BoxCloneSyncChannel;

/// Time between heartbeats, and how long an answer may take.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// Bytes that may be under way in one stream and in one connection.
pub const WINDOW_BYTES: (u32, u32) = (4 << 20, 32 << 20);

/// Told of workers that were lost.
pub type OnLost = Arc<dyn Fn(&Url) + Send + Sync>;

/// The connections of a process.
pub struct Channels {
    security: Security,
    /// Where sockets are served: never where statements run, so that a busy process still answers.
    sockets: tokio::runtime::Handle,
    open: Mutex<HashMap<Url, Channel>>,
    on_lost: Mutex<Option<OnLost>>,
}

impl Channels {
    /// None yet.
    pub fn new(security: Security, sockets: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self { security, sockets, open: Mutex::default(), on_lost: Mutex::default() })
    }

    /// Who is told of lost workers.
    pub fn on_lost(&self, hook: OnLost) {
        *self.on_lost.lock() = Some(hook);
    }

    /// Token and certificates.
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// Where sockets are served.
    pub fn sockets(&self) -> &tokio::runtime::Handle {
        &self.sockets
    }

    /// The connection to a worker; it is made with the first request, and again after it broke.
    pub fn channel(&self, url: &Url) -> Result<Channel> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(url) {
            return Ok(channel.clone());
        }
        let wrong = |e: tonic::transport::Error| Error::invalid_argument(format!("\"{url}\" is not the address of a worker: {e}"));
        let mut endpoint = tonic::transport::Endpoint::from_shared(url.to_string())
            .map_err(wrong)?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(HEARTBEAT)
            .keep_alive_timeout(HEARTBEAT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES.0)
            .initial_connection_window_size(WINDOW_BYTES.1);
        if let Some(tls) = self.security.client_tls() {
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        let _sockets = self.sockets.enter();
        let header = self.security.header();
        let channel = endpoint.connect_lazy().map_request(move |mut request: http::Request<tonic::body::Body>| {
            if let Some(header) = &header {
                request.headers_mut().insert(http::header::AUTHORIZATION, header.clone());
            }
            request
        });
        let channel = Channel::new(channel);
        open.insert(url.clone(), channel.clone());
        Ok(channel)
    }

    /// Forgets the connections to workers that are gone.
    pub fn retain(&self, keep: impl Fn(&Url) -> bool) {
        self.open.lock().retain(|url, _| keep(url));
    }

    /// An error of a call to a worker as ours, when the call itself failed.
    pub fn failure(&self, url: &Url, status: &Status) -> Error {
        if let Some(ours) = error_wire::decode(status.message()) {
            return located(url, ours);
        }
        let worker = address(url);
        let told = status.message().lines().next().unwrap_or_default().to_owned();
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                Error::new(Kind::InvalidAuthorization, format!("worker {worker} refused the coordinator: {told}"))
                    .hint("squilla.cluster_token_file must hold the same token in every process of the cluster.")
            }
            Code::OutOfRange | Code::ResourceExhausted => Error::new(Kind::LimitExceeded, format!("worker {worker} refused a message: {told}"))
                .hint("The limit is its setting squilla.plan_bytes_max."),
            // It was replaced by another version since it was asked last: as good as gone.
            Code::FailedPrecondition => {
                if let Some(hook) = self.on_lost.lock().clone() {
                    hook(url);
                }
                Error::new(Kind::WorkerLost, format!("worker {worker} was replaced: {told}"))
                    .hint("Workers and coordinator must run the same version of squilla.")
            }
            Code::Unimplemented => Error::new(Kind::Unsupported, format!("worker {worker} does not understand the coordinator: {told}"))
                .hint("Workers and coordinator must run the same version of squilla."),
            _ => {
                if let Some(hook) = self.on_lost.lock().clone() {
                    hook(url);
                }
                let told = self.security.expired().unwrap_or_else(|| transport_text(status));
                Error::new(Kind::WorkerLost, format!("worker {worker} was lost"))
                    .detail(format!("{told}."))
                    .hint("Run the statement again; it uses the workers that are left. squilla.workers shows them.")
            }
        }
    }

    fn named(&self, url: &Url, error: DataFusionError) -> DataFusionError {
        match transport_status(&error) {
            Some(status) => to_datafusion(self.failure(url, &status)),
            None => match from_datafusion(error) {
                ours if of_a_machine(ours.kind) => to_datafusion(located(url, ours)),
                ours => to_datafusion(ours),
            },
        }
    }
}

/// Errors that are cured on the machine where they happened.
fn of_a_machine(kind: Kind) -> bool {
    matches!(kind, Kind::DiskFull | Kind::OutOfMemory | Kind::Io)
}

/// An error of a machine with the name of the worker, the first that it passes.
fn located(url: &Url, error: Error) -> Error {
    const ON: &str = "On worker ";
    if !of_a_machine(error.kind) || error.detail.as_ref().is_some_and(|d| d.contains(ON)) {
        return error;
    }
    let before = error.detail.as_ref().map(|d| format!("{d} ")).unwrap_or_default();
    let detail = format!("{before}{ON}{}.", address(url));
    error.detail(detail)
}

/// The innermost text of a broken connection.
fn transport_text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    let text = text.lines().next().unwrap_or_default().trim().trim_end_matches('.').to_owned();
    if text.is_empty() { "The connection broke".to_owned() } else { text }
}

/// `host:port` of a worker.
pub fn address(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// The status of a call that failed as a call: errors of the plan travel inside a status of their own and come back as
/// errors of DataFusion.
fn transport_status(error: &DataFusionError) -> Option<Status> {
    match error {
        DataFusionError::External(inner) => {
            if let Some(status) = inner.downcast_ref::<Status>() {
                return Some(status.clone());
            }
            if let Some(inner) = inner.downcast_ref::<DataFusionError>() {
                return transport_status(inner);
            }
            let text = inner.to_string();
            broken(&text).then(|| Status::unavailable(text))
        }
        DataFusionError::Shared(inner) => transport_status(inner),
        DataFusionError::Context(_, inner) => transport_status(inner),
        DataFusionError::Collection(all) => all.iter().find_map(transport_status),
        _ => None,
    }
}

fn broken(text: &str) -> bool {
    ["h2 protocol error", "transport error", "error reading a body from connection", "tcp connect error", "Service was not ready"]
        .iter()
        .any(|words| text.contains(words))
}

/// Gives datafusion-distributed its clients.
#[derive(Clone)]
pub struct Clients(pub Arc<Channels>);

#[async_trait]
impl ChannelResolver for Clients {
    async fn get_worker_client_for_url(&self, url: &Url) -> DfResult<Box<dyn WorkerChannel>> {
        let channel = self.0.channel(url).map_err(to_datafusion)?;
        Ok(Box::new(Named { url: url.clone(), channels: Arc::clone(&self.0), inner: grpc::create_worker_client(channel) }))
    }
}

/// A client whose errors name the worker.
struct Named {
    url: Url,
    channels: Arc<Channels>,
    inner: Box<dyn WorkerChannel>,
}

impl Named {
    fn named<T: Send + 'static>(&self, stream: BoxStream<'static, DfResult<T>>) -> BoxStream<'static, DfResult<T>> {
        let (url, channels) = (self.url.clone(), Arc::clone(&self.channels));
        stream.map(move |item| item.map_err(|e| channels.named(&url, e))).boxed()
    }
}

#[async_trait]
impl WorkerChannel for Named {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> DfResult<BoxStream<'static, DfResult<WorkerToCoordinatorMsg>>> {
        let answer = self.inner.coordinator_channel(headers, request, messages, metrics, context).await;
        answer.map(|stream| self.named(stream)).map_err(|e| self.channels.named(&self.url, e))
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> DfResult<Vec<BoxStream<'static, DfResult<RecordBatch>>>> {
        let answer = self.inner.execute_task(headers, request, metrics, context).await;
        let streams = answer.map_err(|e| self.channels.named(&self.url, e))?;
        Ok(streams.into_iter().map(|stream| self.named(stream)).collect())
    }

    async fn get_worker_info(&mut self, request: GetWorkerInfoRequest) -> DfResult<GetWorkerInfoResponse> {
        self.inner.get_worker_info(request).await.map_err(|e| self.channels.named(&self.url, e))
    }
}
