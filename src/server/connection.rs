//! One connection from accept to close.
//!
//! In: a socket. Out: a conversation, or the reason there is none. Invariant: a connection holds its slot exactly as long
//! as its session lives; what happens before the password is right is bounded in time and memory; a panic ends its
//! connection and nothing else. Deliberately absent: the accept loop (listener).

use std::sync::Arc;
use std::time::Duration;

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use squilla_core::error::{Error, Kind};
use squilla_engine::database::Database;
use squilla_engine::session::SessionOptions;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, CancelKeys};
use crate::encode::style::ImageEncoder;
use crate::hba::{Method, Route, Rules};
use crate::query::Conversation;
use crate::report::{self, Severity};
use crate::startup::{self, Login, Request};
use crate::tls::Tls;
use crate::wire::{Broken, Stream, Wire};

/// What a wrong password costs the client before it hears so.
const REFUSAL_DELAY: Duration = Duration::from_millis(500);
/// How long a refused client may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all connections share.
pub struct Shared {
    /// The engine.
    pub database: Arc<Database>,
    /// Threads that plan and run statements.
    pub engine: tokio::runtime::Handle,
    /// Keys of CancelRequests.
    pub keys: CancelKeys,
    /// Encryption.
    pub tls: Option<Tls>,
    /// Sessions at a time.
    pub slots: Arc<Semaphore>,
    /// Of these, kept for superusers.
    pub reserved: usize,
    /// Who comes in how.
    pub rules: Rules,
    /// Time to log in.
    pub authentication_timeout: Duration,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// For image_output.
    pub image_encoder: Option<ImageEncoder>,
    /// Fires when the server stops.
    pub shutdown: CancellationToken,
}

/// Where a client comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Printable address; None for a Unix socket.
    pub address: Option<std::net::SocketAddr>,
    /// Whether it is on this machine.
    pub loopback: bool,
}

/// Serves one client until it leaves.
pub async fn serve(stream: Box<dyn Stream>, first_byte: Option<u8>, peer: Peer, shared: Arc<Shared>) {
    let login = tokio::time::timeout(shared.authentication_timeout, log_in(stream, first_byte, &peer, &shared)).await;
    // A client that takes too long is dropped without a word, as by PostgreSQL.
    if let Ok(Some((conversation, _slot))) = login {
        conversation.run(shared.shutdown.clone()).await;
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn log_in(stream: Box<dyn Stream>, first_byte: Option<u8>, peer: &Peer, shared: &Shared) -> Option<(Conversation, Slot)> {
    let (opened, request) = startup::negotiate(stream, first_byte, shared.tls.as_ref(), shared.message_bytes_max).await;
    let mut opened = opened?;
    let login = match request {
        Ok(Request::Login(login)) => login,
        Ok(Request::Cancel { pid, secret }) => {
            shared.keys.cancel(pid, secret);
            shared.database.cancel(pid, secret);
            opened.wire.close().await;
            return None;
        }
        Err(e) => {
            refuse(&mut opened.wire, e).await;
            return None;
        }
    };
    let proof = Proof { secure: opened.secure, certificate: opened.certificate.take() };
    match open(&mut opened.wire, &proof, &login, peer, shared).await {
        Ok((backend, slot)) => Some((Conversation::new(opened.wire, backend), slot)),
        Err(e) => {
            refuse(&mut opened.wire, e).await;
            None
        }
    }
}

/// What a connection shows of its client.
struct Proof {
    secure: bool,
    /// Common name of the certificate that the client showed.
    certificate: Option<String>,
}

/// Who the client is: the role that its session gets.
async fn authenticate(wire: &mut Wire, proof: &Proof, login: &Login, peer: &Peer, shared: &Shared) -> Result<String, Broken> {
    let refuse = |message: String| Broken::Fatal(Error::new(Kind::InvalidAuthorization, message));
    let (database, user) = (&shared.database, login.user.as_str());
    let route = Route { address: peer.address.map(|a| a.ip()), secure: proof.secure };
    let host = peer.address.map_or_else(|| "[local]".to_owned(), |a| a.ip().to_string());
    let encryption = if proof.secure { "SSL encryption" } else { "no encryption" };
    match shared.rules.method(route, &login.database, user, !database.has_passwords()) {
        Some(Method::Trust) => database.trusted(user).map_err(Broken::Fatal),
        Some(Method::Scram) => {
            let tls = shared.tls.as_ref().filter(|_| proof.secure);
            startup::scram(wire, tls, user, database.verifier(user).as_deref()).await?;
            database.may_log_in(user).map_err(Broken::Fatal)?;
            Ok(user.to_owned())
        }
        Some(Method::Certificate) => {
            if proof.certificate.as_deref() != Some(user) {
                return Err(refuse(format!("certificate authentication failed for user \"{user}\"")));
            }
            database.may_log_in(user).map_err(Broken::Fatal)?;
            Ok(user.to_owned())
        }
        Some(Method::Reject) => {
            Err(refuse(format!("pg_hba.conf rejects connection for host \"{host}\", user \"{user}\", database \"{}\", {encryption}", login.database)))
        }
        None => Err(refuse(format!("no pg_hba.conf entry for host \"{host}\", user \"{user}\", database \"{}\", {encryption}", login.database))),
    }
}

/// Makes the session and tells the client about it.
async fn open(wire: &mut Wire, proof: &Proof, login: &Login, peer: &Peer, shared: &Shared) -> Result<(Backend, Slot), Broken> {
    startup::answer_version(wire, login);
    let user = authenticate(wire, proof, login, peer, shared).await?;
    let slot = Arc::clone(&shared.slots)
        .try_acquire_owned()
        .map_err(|_| Broken::Fatal(Error::new(Kind::TooManyConnections, "sorry, too many clients already")))?;
    if shared.shutdown.is_cancelled() {
        return Err(Broken::Fatal(Error::new(Kind::CannotConnectNow, "the database system is shutting down")));
    }
    let application_name = login.settings.iter().rev().find(|(n, _)| n == "application_name").map_or(String::new(), |(_, v)| v.clone());
    let options =
        SessionOptions { user, database: login.database.clone(), application_name, client_addr: peer.address, startup: login.settings.clone() };
    let session = shared.database.connect(options).map_err(Broken::Fatal)?;
    if !session.superuser() && shared.slots.available_permits() < shared.reserved {
        session.close();
        return Err(Broken::Fatal(Error::new(
            Kind::TooManyConnections,
            "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        )));
    }
    let (pid, secret) = (session.backend_pid(), session.secret());
    let backend = Backend::new(session, shared.engine.clone(), shared.keys.clone(), shared.image_encoder);
    wire.put(PgWireBackendMessage::Authentication(Authentication::Ok));
    for (name, value) in backend.reported_parameters() {
        wire.put(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value)));
    }
    wire.put(PgWireBackendMessage::BackendKeyData(BackendKeyData::new(pid, SecretKey::I32(secret))));
    Ok((backend, slot))
}

/// Says why, and leaves the client time to read it: closing at once could throw the message away with unread input.
async fn refuse(wire: &mut Wire, reason: Broken) {
    let (Broken::Fatal(error) | Broken::Message(error, _)) = reason else { return };
    if matches!(error.kind, Kind::InvalidPassword | Kind::InvalidAuthorization) {
        tokio::time::sleep(REFUSAL_DELAY).await;
    }
    wire.put(report::error(&error, Severity::Fatal));
    let farewell = async {
        if wire.flush().await.is_ok() {
            wire.close().await;
            wire.discard().await;
        }
    };
    // Who does not read in time does not want to know.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
