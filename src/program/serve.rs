//! `squilla serve`: the PostgreSQL listener, the HTTP listener, and an orderly end.
//!
//! SIGTERM lets running statements finish; SIGINT and SIGQUIT stop at once.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Source;
use squilla_engine::database::Database;
use squilla_server::hba::Rules;
use squilla_server::listener::{Server, ServerConfig};
use squilla_server::tls::TlsFiles;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::Serve;
use crate::{table, wiring};

/// Serves until a signal.
pub fn run(arguments: &Serve) -> Result<()> {
    wiring::log();
    let mut settings = wiring::settings(&arguments.common)?;
    if let Some(workers) = &arguments.workers {
        settings.set("squilla.workers", workers, Source::CommandLine, true)?;
    }
    let data_dir = arguments.common.data_dir.clone().unwrap_or_else(wiring::default_data_dir);
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("socket").enable_all().build();
    let threads = threads.map_err(|e| Error::io("could not start threads", e))?;
    let mut config = ServerConfig::new(addresses(&arguments.listen)?);
    config.rules = Rules::parse(settings.get("squilla.hba"))?;
    config.max_connections = settings.int("max_connections").max(1) as usize;
    config.reserved_connections = settings.int("superuser_reserved_connections").max(0) as usize;
    config.authentication_timeout = Duration::from_secs(settings.int("authentication_timeout").max(1) as u64);
    config.message_bytes_max = settings.int("squilla.max_message_bytes").max(1024) as usize;
    config.image_encoder = Some(table::encode_image);
    if let (Some(certificate), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) {
        let read = |path: &std::path::Path| std::fs::read(path).map_err(|e| Error::io(format!("could not read {}", path.display()), e));
        config.tls =
            Some(TlsFiles { certificate: read(certificate)?, key: read(key)?, client_authority: arguments.tls_ca.as_deref().map(read).transpose()? });
    }
    let runner = wiring::cluster(&settings, Some(&data_dir), threads.handle())?;
    let database = wiring::database(settings, Some(data_dir.clone()), runner)?;
    let open = config.listen.iter().find(|a| !a.ip().is_loopback());
    if let Some(address) = open.filter(|_| !database.has_passwords() && !config.rules.take_certificates()) {
        return Err(Error::new(Kind::InvalidAuthorization, format!("will not listen on {address} without authentication"))
            .hint("Listen on 127.0.0.1 first and give a role a password: CREATE ROLE name LOGIN PASSWORD '...'."));
    }
    threads.block_on(async {
        let server = Server::bind(config, Arc::clone(&database)).await?;
        let http = squilla_console::listener::start(&arguments.http_listen, Arc::clone(&database)).await?;
        let shutdown = CancellationToken::new();
        for address in server.addresses() {
            tracing::info!(%address, data_dir = %data_dir.display(), version = env!("CARGO_PKG_VERSION"), "ready for PostgreSQL clients");
        }
        let signals = wait_for_signal(shutdown.clone(), Arc::clone(&database), Duration::from_secs(arguments.drain_seconds))?;
        let grace = Duration::from_secs(arguments.drain_seconds);
        tokio::select! {
            () = server.run(shutdown, grace) => {}
            () = signals => {}
        }
        drop(http);
        tracing::info!("stopped");
        Ok(())
    })
}

/// The addresses of `HOST:PORT`, where HOST may be a name.
fn addresses(listen: &str) -> Result<Vec<SocketAddr>> {
    let found = listen.to_socket_addrs().map_err(|e| {
        Error::invalid_argument(format!("could not understand the address \"{listen}\": {e}"))
            .hint("An address is HOST:PORT, such as 127.0.0.1:5433.")
    })?;
    let mut all: Vec<SocketAddr> = found.collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// Ends at once on SIGINT; on SIGTERM fires `shutdown` and ends well after the grace.
fn wait_for_signal(shutdown: CancellationToken, database: Arc<Database>, grace: Duration) -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(|e| Error::io("could not listen for signals", e));
    let (mut terminate, mut interrupt, mut quit) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::quit())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("stopping at once"),
            _ = quit.recv() => tracing::info!("stopping at once"),
            _ = terminate.recv() => {
                tracing::info!("draining: running statements may finish");
                database.draining.store(true, Ordering::Relaxed);
                shutdown.cancel();
                tokio::select! {
                    () = tokio::time::sleep(grace + Duration::from_secs(5)) => {}
                    _ = interrupt.recv() => {}
                }
            }
        }
    })
}
