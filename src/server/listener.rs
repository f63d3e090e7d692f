//! Sockets that clients connect to.
//!
//! In: addresses and the engine. Out: a running server and, when told to stop, an orderly end. Invariant: an address that
//! cannot be had is an error before anything is served; no error of one connection ends the accept loop.
//! Deliberately absent: what a connection does (connection).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::database::Database;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::CancelKeys;
use crate::connection::{Peer, Shared, serve};
use crate::encode::style::ImageEncoder;
use crate::hba::Rules;
use crate::tls::{Tls, TlsFiles};

/// Clients that are not logged in yet, at a time.
const STRANGERS_MAX: usize = 1000;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where and how to serve. The server's own tasks run where `run` is called; statements run on the database's threads.
pub struct ServerConfig {
    /// TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// Unix socket, such as `/tmp/.s.PGSQL.5433`.
    pub socket: Option<PathBuf>,
    /// Encryption; none is refused to clients that ask for it.
    pub tls: Option<TlsFiles>,
    /// Sessions at a time.
    pub max_connections: usize,
    /// Of these, kept for superusers.
    pub reserved_connections: usize,
    /// Who comes in how.
    pub rules: Rules,
    /// Time to log in.
    pub authentication_timeout: Duration,
    /// Bytes of one message of a client.
    pub message_bytes_max: usize,
    /// Encodes images for `squilla.image_output`.
    pub image_encoder: Option<ImageEncoder>,
}

impl ServerConfig {
    /// TCP addresses, defaults for the rest.
    pub fn new(listen: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            socket: None,
            tls: None,
            max_connections: 2000,
            reserved_connections: 3,
            rules: Rules::default(),
            authentication_timeout: Duration::from_secs(60),
            message_bytes_max: 0x3fff_fffe,
            image_encoder: None,
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // A file that is gone already needs no removal.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A server whose addresses are taken.
pub struct Server {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

fn taken(address: &str, e: io::Error) -> Error {
    let error = Error::new(Kind::Io, format!("could not listen on {address}: {e}"));
    match e.kind() {
        io::ErrorKind::AddrInUse => error.hint("Another server uses this port. Stop it, or choose another one with --listen HOST:PORT."),
        io::ErrorKind::PermissionDenied => error.hint("Ports below 1024 need privileges. Choose another one with --listen HOST:PORT."),
        io::ErrorKind::AddrNotAvailable => error.hint("The address does not belong to this machine."),
        _ => error,
    }
}

impl Server {
    /// Takes the addresses and checks the certificate.
    pub async fn bind(config: ServerConfig, database: Arc<Database>) -> Result<Self> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(Listener::Tcp(TcpListener::bind(address).await.map_err(|e| taken(&address.to_string(), e))?));
        }
        if let Some(path) = &config.socket {
            listeners.push(Listener::Unix(unix(path)?, path.clone()));
        }
        let shared = Shared {
            engine: database.runtime()?,
            database,
            keys: CancelKeys::default(),
            tls,
            slots: Arc::new(Semaphore::new(config.max_connections)),
            reserved: config.reserved_connections,
            rules: config.rules,
            authentication_timeout: config.authentication_timeout,
            message_bytes_max: config.message_bytes_max,
            image_encoder: config.image_encoder,
            shutdown: CancellationToken::new(),
        };
        Ok(Self { listeners, shared: Arc::new(shared) })
    }

    /// The TCP addresses, with the ports that the system chose for 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|l| match l {
                Listener::Tcp(l) => l.local_addr().ok(),
                Listener::Unix(..) => None,
            })
            .collect()
    }

    /// Serves until `shutdown` fires; then no new client is let in, idle sessions end at once, and running statements
    /// have `grace` to finish.
    pub async fn run(self, shutdown: CancellationToken, grace: Duration) {
        let mut connections = JoinSet::new();
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX + self.shared.slots.available_permits()));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&self.listeners) => match accepted {
                    Ok((stream, peer)) => {
                        let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else { continue };
                        let shared = Arc::clone(&self.shared);
                        connections.spawn(async move {
                            let _permit = permit;
                            begin(stream, peer, shared).await;
                        });
                    }
                    Err(e) => {
                        tracing::warn!("could not accept a connection: {e}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                // A panic was reported by the hook; here it only ends its connection.
                Some(_) = connections.join_next() => {}
            }
        }
        self.shared.shutdown.cancel();
        drop(self.listeners);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!("{} connections did not end in time and are cut", connections.len());
            connections.shutdown().await;
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

fn unix(path: &PathBuf) -> Result<UnixListener> {
    // A file left by a server that died is in the way; one that answers belongs to a living server.
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    UnixListener::bind(path).map_err(|e| taken(&path.display().to_string(), e))
}

async fn accept(listeners: &[Listener]) -> io::Result<(Socket, Peer)> {
    if listeners.is_empty() {
        return std::future::pending().await;
    }
    std::future::poll_fn(|context| {
        for listener in listeners {
            match listener {
                Listener::Tcp(l) => {
                    if let std::task::Poll::Ready(accepted) = l.poll_accept(context) {
                        return std::task::Poll::Ready(
                            accepted.map(|(s, a)| (Socket::Tcp(s), Peer { address: Some(a), loopback: a.ip().to_canonical().is_loopback() })),
                        );
                    }
                }
                Listener::Unix(l, _) => {
                    if let std::task::Poll::Ready(accepted) = l.poll_accept(context) {
                        return std::task::Poll::Ready(accepted.map(|(s, _)| (Socket::Unix(s), Peer { address: None, loopback: true })));
                    }
                }
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn begin(socket: Socket, peer: Peer, shared: Arc<Shared>) {
    match socket {
        Socket::Unix(stream) => serve(Box::new(stream), None, peer, shared).await,
        Socket::Tcp(stream) => {
            // Answers are small and the client waits for them.
            let _ = stream.set_nodelay(true);
            // A machine that has vanished without a word is noticed within two minutes.
            let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
            let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
            let mut first = [0u8; 1];
            let peeked = tokio::time::timeout(shared.authentication_timeout, stream.peek(&mut first)).await;
            // Else nothing came in time, or the client left.
            if let Ok(Ok(1)) = peeked {
                serve(Box::new(stream), Some(first[0]), peer, shared).await;
            }
        }
    }
}
