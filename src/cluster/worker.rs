//! The worker: tasks of other processes' statements.
//!
//! In: plans, over datafusion-distributed's service, and news of statements, over ours. Out: rows. Invariants: a request
//! without the token does nothing; a plan runs with the settings of its statement and the functions, models and files of
//! this process; sockets are served on threads of their own, so that a busy worker still answers. Deliberately absent:
//! catalog and tables.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::common::Result as DfResult;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::session_state::SessionState;
use datafusion_distributed::{DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use http_body::Body as _;
use parking_lot::Mutex;
use prost::Message;
use squilla_core::error::{Error, Result};
use squilla_engine::database::Database;
use squilla_engine::error::{from_datafusion, to_datafusion};
use squilla_engine::error_wire;
use squilla_engine::exec::cancel;
use squilla_engine::session::task::RemoteStatement;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::Service;

use crate::STATEMENT_HEADER;
use crate::channels::{Channels, Clients, HEARTBEAT, WINDOW_BYTES};
use crate::codec::{Codec, Place};
use crate::control::{Begin, Control, ControlServer, Finish, Hello, Info, News, TaskOutput};
use crate::spool;

/// Time between news of a statement.
const NEWS_EVERY: Duration = Duration::from_millis(250);
/// Settings and models of a statement come as headers and messages; plans have no limit of their own.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// What a worker is started with.
pub struct WorkerConfig {
    /// Address.
    pub listen: SocketAddr,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Device of its models.
    pub device: String,
    /// Bytes of a plan that it takes.
    pub plan_bytes_max: u64,
    /// How long statements have to end when it stops.
    pub grace: Duration,
}

struct Host {
    database: Arc<Database>,
    channels: Arc<Channels>,
    labels: BTreeMap<String, String>,
    device: String,
    plan_bytes_max: u64,
    draining: AtomicBool,
    started_us: i64,
    statements: Mutex<HashMap<String, Arc<Known>>>,
}

/// A statement of another process, and what its tasks here have sent.
struct Known {
    statement: RemoteStatement,
    sent: Mutex<Vec<TaskOutput>>,
}

impl Known {
    fn news(&self) -> News {
        News { rows: self.statement.errors.report(), shuffles: std::mem::take(&mut *self.sent.lock()) }
    }
}

/// Serves until `stop` ends, then lets statements end.
pub async fn serve(database: Arc<Database>, channels: Arc<Channels>, config: WorkerConfig, stop: impl Future<Output = ()> + Send) -> Result<()> {
    channels.security().check_listen(config.listen)?;
    error_wire::leave_this_process();
    let host = Arc::new(Host {
        started_us: database.started_us,
        database,
        channels,
        labels: config.labels,
        device: config.device,
        plan_bytes_max: config.plan_bytes_max,
        draining: AtomicBool::new(false),
        statements: Mutex::default(),
    });
    let statements = host.database.runtime()?;
    let incoming =
        TcpIncoming::bind(config.listen).map_err(|e| Error::io(format!("could not listen on {}", config.listen), e))?.with_nodelay(Some(true));
    let address = incoming.local_addr().map_err(|e| Error::io("could not listen", e))?;
    let security = host.channels.security().clone();
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(HEARTBEAT))
        .http2_keepalive_timeout(Some(HEARTBEAT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1)
        .tcp_nodelay(true);
    if let Some(tls) = security.server_tls() {
        server = server.tls_config(tls).map_err(|e| Error::invalid_argument(format!("the certificates of the cluster cannot be used: {e}")))?;
    }
    let admitted = Arc::new(security);
    // A stage is a part of its statement's plan, in a frame.
    let message_bytes_max = usize::try_from(host.plan_bytes_max).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(1 << 20);
    let tasks = Admitted {
        inner: worker(&host).into_worker_server().max_decoding_message_size(message_bytes_max),
        security: Arc::clone(&admitted),
        tasks: Some((Arc::clone(&host), statements)),
    };
    let control = Admitted { inner: ControlServer(Arc::clone(&host)), security: admitted, tasks: None };
    let (closed, close) = tokio::sync::oneshot::channel::<()>();
    let serving = server.add_service(tasks).add_service(control).serve_with_incoming_shutdown(incoming, async move {
        let _ = close.await;
    });
    tracing::info!(%address, device = host.device, version = crate::VERSION, "ready for work");
    let draining = Arc::clone(&host);
    let end = async move {
        stop.await;
        draining.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + config.grace;
        tracing::info!(statements = draining.statements.lock().len(), "stopping when the statements have ended");
        // At least as long as a coordinator needs to hear of it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        while !draining.statements.lock().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(closed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        result = serving => result.map_err(|e| Error::internal(format!("the worker's port failed: {e}"))),
        () = end => Ok(()),
    }
}

fn worker(host: &Arc<Host>) -> Worker {
    let runtime = Arc::clone(host.database.base().runtime_env());
    let of_query = Arc::clone(host);
    Worker::from_session_builder(move |context: WorkerQueryContext| {
        let host = Arc::clone(&of_query);
        async move { host.state(context).map_err(to_datafusion) }
    })
    .with_runtime_env(runtime)
    .with_version(crate::VERSION)
}

impl Host {
    /// The state that a plan runs in: of the statement that its header names.
    fn state(&self, context: WorkerQueryContext) -> Result<SessionState> {
        let key = context.headers.get(STATEMENT_HEADER).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let statement = self.statements.lock().get(key).cloned();
        let statement = statement.ok_or_else(|| Error::new(squilla_core::error::Kind::Cancelled, "canceling statement due to user request"))?;
        let place = Place { functions: Arc::clone(&self.database.functions), files: Arc::clone(&self.database.files) };
        let flag = statement.statement.cancel.clone();
        let mut headers = http::HeaderMap::new();
        headers.extend(context.headers.get(STATEMENT_HEADER).map(|key| (http::HeaderName::from_static(STATEMENT_HEADER), key.clone())));
        let builder = context
            .builder
            .with_distributed_passthrough_headers(headers)
            .map_err(from_datafusion)?
            .with_distributed_channel_resolver(Clients(Arc::clone(&self.channels)))
            .with_distributed_user_codec(Codec { place: Some(place) })
            .with_distributed_worker_plan_rewrite_handler(move |event: WorkerPlanRewriteEvent<'_>| -> DfResult<WorkerPlanRewriteEventResponse> {
                cancel::watch_conditions(event.plan, &flag).map(WorkerPlanRewriteEventResponse::new)
            });
        statement.statement.state(&self.database, builder)
    }

    fn end(&self, key: &str) {
        if let Some(statement) = self.statements.lock().remove(key) {
            statement.statement.cancel.cancel();
        }
    }
}

/// Ends a statement when its coordinator does not listen any more.
struct EndOnDrop(Arc<Host>, String);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(&self.1);
    }
}

impl Control for Host {
    async fn info(&self, hello: Hello) -> Info {
        // A file system that does not answer is not seen; its threads are not those of sockets.
        let seen = hello.tables.map(|tables| tokio::task::spawn_blocking(move || tables.seen()));
        let sees_tables = match seen {
            Some(seen) => tokio::time::timeout(Duration::from_secs(1), seen).await.is_ok_and(|seen| seen.unwrap_or(false)),
            None => false,
        };
        let environment = self.database.base().runtime_env();
        let limit = match environment.memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes as u64,
            _ => 0,
        };
        Info {
            version: crate::VERSION.to_owned(),
            started_us: self.started_us,
            labels: self.labels.clone(),
            device: self.device.clone(),
            cores: self.database.threads as u64,
            memory_limit: limit,
            memory_used: environment.memory_pool.reserved() as u64,
            spilled: environment.disk_manager.used_disk_space(),
            statements: self.statements.lock().len() as u64,
            models_loaded: self.database.models.stats().iter().filter(|m| m.loaded).count() as u64,
            draining: self.draining.load(Ordering::Relaxed),
            plan_bytes_max: self.plan_bytes_max,
            sees_tables,
        }
    }

    fn begin(self: &Arc<Self>, begin: Begin) -> Result<BoxStream<'static, Result<News, Status>>, Status> {
        if begin.version != crate::VERSION {
            return Err(Status::failed_precondition(format!("it runs version {}, the coordinator {}", crate::VERSION, begin.version)));
        }
        let statement = RemoteStatement::open(&self.database, begin.facts).map_err(|e| Status::internal(error_wire::encode(&e)))?;
        let statement = Arc::new(Known { statement, sent: Mutex::default() });
        self.statements.lock().insert(begin.key.clone(), Arc::clone(&statement));
        let end = EndOnDrop(Arc::clone(self), begin.key);
        let first = stream::iter([Ok(News::default())]);
        let rest = stream::unfold((statement, end), |(statement, end)| async move {
            loop {
                tokio::time::sleep(NEWS_EVERY).await;
                let news = statement.news();
                if !news.rows.is_empty() || !news.shuffles.is_empty() {
                    return Some((Ok(news), (statement, end)));
                }
            }
        });
        Ok(first.chain(rest).boxed())
    }

    fn finish(&self, finish: &Finish) -> News {
        let statement = self.statements.lock().get(&finish.key).cloned();
        statement.map(|s| s.news()).unwrap_or_default()
    }
}

/// A service behind the token; with `tasks`, its work runs on those threads and not where sockets are served, and its
/// answers wait for their readers in the spool.
#[derive(Clone)]
struct Admitted<S> {
    inner: S,
    security: Arc<crate::security::Security>,
    tasks: Option<(Arc<Host>, tokio::runtime::Handle)>,
}

impl<S: NamedService> NamedService for Admitted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Admitted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if !self.security.admits(request.headers().get(http::header::AUTHORIZATION)) {
            return Box::pin(async { Ok(Status::unauthenticated("the token is missing or wrong").into_http()) });
        }
        let mut inner = self.inner.clone();
        let Some((host, threads)) = self.tasks.clone() else { return Box::pin(inner.call(request)) };
        if !request.uri().path().ends_with("/ExecuteTask") {
            let work = AbortOnDrop(threads.spawn(async move { inner.call(request).await }));
            return Box::pin(async move { work.finish().await });
        }
        let key = request.headers().get(STATEMENT_HEADER).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
        let spool = threads.clone();
        let work = AbortOnDrop(threads.spawn(async move {
            let (request, task) = named(request).await;
            let response = inner.call(request).await?;
            let environment = Arc::clone(host.database.base().runtime_env());
            let done = move |output: TaskOutput| {
                if let Some(known) = host.statements.lock().get(&key) {
                    known.sent.lock().push(TaskOutput { stage: task.stage_id, task: task.task_number, ..output });
                }
            };
            Ok(response.map(|body| spool::drained(body, &environment, &spool, done)))
        }));
        Box::pin(async move { work.finish().await })
    }
}

/// The head of the library's ExecuteTask request, as its pinned version writes it.
#[derive(Clone, PartialEq, prost::Message)]
struct ExecuteTask {
    #[prost(message, optional, tag = "1")]
    task_key: Option<TaskKey>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskKey {
    #[prost(uint64, tag = "2")]
    stage_id: u64,
    #[prost(uint64, tag = "3")]
    task_number: u64,
}

/// The request, and which task it asks for: read from its one small message.
async fn named(request: http::Request<Body>) -> (http::Request<Body>, TaskKey) {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    // One gRPC frame: a flag, four bytes of length, the message.
    let task = bytes.get(5..).and_then(|message| ExecuteTask::decode(message).ok()).and_then(|m| m.task_key).unwrap_or_default();
    (http::Request::from_parts(parts, Body::new(Once(Some(Bytes::from(bytes))))), task)
}

/// A body of one frame.
struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// A task that ends when nobody waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<Result<http::Response<Body>, Infallible>>);

impl AbortOnDrop {
    async fn finish(mut self) -> Result<http::Response<Body>, Infallible> {
        match (&mut self.0).await {
            Ok(response) => response,
            Err(error) => Ok(Status::internal(format!("a task failed in an unexpected way: {error}")).into_http()),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
