//! What coordinator and worker tell each other beside plans and rows.
//!
//! `Hello` asks a worker what it is. `Begin` tells it of a statement before its plans come, and answers with a stream of
//! what happened to its rows: when the stream breaks, the statement's work on the worker stops, so a cancel is a dropped
//! stream. `Finish` asks for the rest. Messages are JSON in gRPC frames: they are few and small. Invariant: fields are
//! only added, with defaults, so that versions understand each other's `Hello`. Deliberately absent: plans and rows
//! (datafusion-distributed has its own service).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::uri::PathAndQuery;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squilla_engine::exec::row_errors::Report;
use squilla_engine::session::task::Facts;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::{Request, Response, Status};
use tower::{Service, service_fn};

use crate::able::Tables;

const HELLO: &str = "/squilla.Control/Hello";
const BEGIN: &str = "/squilla.Control/Begin";
const FINISH: &str = "/squilla.Control/Finish";

/// Asks who is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The tables that the worker is asked about.
    pub tables: Option<Tables>,
}

/// What a worker is and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Version of the program; plans go to workers of the coordinator's version only.
    pub version: String,
    /// Its start, so that a restart is seen.
    pub started_us: i64,
    /// What its operator said of it.
    pub labels: BTreeMap<String, String>,
    /// Where its models run: `cpu`, `cuda:0`.
    pub device: String,
    /// Cores.
    pub cores: u64,
    /// Bytes that statements may use.
    pub memory_limit: u64,
    /// Bytes that they use.
    pub memory_used: u64,
    /// Bytes of spill files.
    pub spilled: u64,
    /// Statements that it works on.
    pub statements: u64,
    /// Models loaded since the start.
    pub models_loaded: u64,
    /// Whether it finishes its work and takes no more.
    pub draining: bool,
    /// Bytes of a plan that it takes.
    pub plan_bytes_max: u64,
    /// Whether it sees the tables that it was asked about.
    pub sees_tables: bool,
}

/// Tells of a statement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// Version of the coordinator: its plans are read by the same version only.
    #[serde(default)]
    pub version: String,
    /// Names this run of the statement; plans carry it in a header.
    pub key: String,
    /// What its tasks must know.
    pub facts: Facts,
}

/// Asks for what is left to tell of a statement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// As in [`Begin`].
    pub key: String,
}

/// What happened on a worker since it told last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct News {
    /// Rows and failures.
    pub rows: Report,
    /// Tasks that ended.
    pub shuffles: Vec<TaskOutput>,
}

/// What a task sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskOutput {
    /// Stage.
    pub stage: u64,
    /// Task.
    pub task: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// Most bytes that waited in memory.
    pub memory_bytes: u64,
    /// Bytes that went through files.
    pub spilled_bytes: u64,
    /// End, microseconds since 1970.
    pub at_us: i64,
}

/// The worker's side.
pub trait Control: Send + Sync + 'static {
    /// Who is there.
    fn info(&self, hello: Hello) -> impl Future<Output = Info> + Send;
    /// A statement starts; its news as they come, the first at once.
    fn begin(self: &Arc<Self>, begin: Begin) -> Result<BoxStream<'static, Result<News, Status>>, Status>;
    /// The last news of a statement.
    fn finish(&self, finish: &Finish) -> News;
}

/// The service on the worker's port.
pub struct ControlServer<C>(pub Arc<C>);

impl<C> Clone for ControlServer<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> tonic::server::NamedService for ControlServer<C> {
    const NAME: &'static str = "squilla.Control";
}

impl<C: Control> Service<http::Request<Body>> for ControlServer<C> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let control = Arc::clone(&self.0);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            Ok(match path.as_str() {
                HELLO => {
                    let answer = service_fn(move |request: Request<Hello>| {
                        let control = Arc::clone(&control);
                        async move { Ok::<_, Status>(Response::new(control.info(request.into_inner()).await)) }
                    });
                    tonic::server::Grpc::new(Json::<Info, Hello>::default()).unary(answer, request).await
                }
                BEGIN => {
                    let answer = service_fn(move |r: Request<Begin>| std::future::ready(control.begin(r.into_inner()).map(Response::new)));
                    let mut grpc = tonic::server::Grpc::new(Json::<News, Begin>::default()).max_decoding_message_size(MESSAGE_BYTES_MAX);
                    grpc.server_streaming(answer, request).await
                }
                FINISH => {
                    let answer =
                        service_fn(move |r: Request<Finish>| std::future::ready(Ok::<_, Status>(Response::new(control.finish(&r.into_inner())))));
                    tonic::server::Grpc::new(Json::<News, Finish>::default()).unary(answer, request).await
                }
                other => Status::unimplemented(format!("unknown method {other}")).into_http(),
            })
        })
    }
}

/// Registered models and settings of one statement are far below this.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The coordinator's side, over one channel.
#[derive(Clone)]
pub struct ControlClient(pub crate::channels::Channel);

impl ControlClient {
    async fn grpc(&self) -> Result<tonic::client::Grpc<crate::channels::Channel>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.0.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|e| Status::unavailable(format!("{e:?}")))?;
        Ok(grpc)
    }

    /// Who is there.
    pub async fn hello(&self, hello: Hello) -> Result<Info, Status> {
        let mut grpc = self.grpc().await?;
        let answer = grpc.unary(Request::new(hello), PathAndQuery::from_static(HELLO), Json::<Hello, Info>::default()).await?;
        Ok(answer.into_inner())
    }

    /// Tells of a statement. Dropping the stream stops its work there.
    pub async fn begin(&self, begin: Begin) -> Result<Streaming<News>, Status> {
        let mut grpc = self.grpc().await?;
        let answer = grpc.server_streaming(Request::new(begin), PathAndQuery::from_static(BEGIN), Json::<Begin, News>::default()).await?;
        Ok(answer.into_inner())
    }

    /// The last news of a statement.
    pub async fn finish(&self, key: &str) -> Result<News, Status> {
        let mut grpc = self.grpc().await?;
        let request = Request::new(Finish { key: key.to_owned() });
        Ok(grpc.unary(request, PathAndQuery::from_static(FINISH), Json::<Finish, News>::default()).await?.into_inner())
    }
}

/// Messages as JSON.
struct Json<T, U>(PhantomData<fn() -> (T, U)>);

impl<T, U> Default for Json<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Serialize + Send + 'static, U: DeserializeOwned + Send + 'static> Codec for Json<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T: Serialize, U> Encoder for Json<T, U> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        serde_json::to_writer(into.writer(), &item).map_err(|e| Status::internal(format!("a message could not be written: {e}")))
    }
}

impl<T, U: DeserializeOwned> Decoder for Json<T, U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = serde_json::from_reader(from.reader());
        message.map(Some).map_err(|e| Status::invalid_argument(format!("a message that cannot be read: {e}")))
    }
}
