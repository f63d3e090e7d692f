//! `squilla worker`: tasks of statements of servers.
//!
//! SIGTERM lets statements finish; SIGINT and SIGQUIT stop at once.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use squilla_cluster::channels::Channels;
use squilla_cluster::members::labels;
use squilla_cluster::security::Security;
use squilla_cluster::worker::{WorkerConfig, serve};
use squilla_core::error::{Error, Result};
use squilla_core::settings::Source;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Worker;
use crate::wiring;

/// Works until a signal.
pub fn run(arguments: &Worker) -> Result<()> {
    wiring::log();
    let mut settings = wiring::settings(&arguments.common)?;
    let given = [("squilla.device", &arguments.device), ("squilla.memory_limit", &arguments.memory), ("squilla.spill_dirs", &arguments.spill_dir)];
    for (name, value) in given {
        if let Some(value) = value {
            settings.set(name, value, Source::CommandLine, true)?;
        }
    }
    let named: Vec<PathBuf> = settings.get("squilla.spill_dirs").split(',').map(str::trim).filter(|d| !d.is_empty()).map(PathBuf::from).collect();
    let own = named.iter().map(|directory| own_directory(directory)).collect::<Result<Vec<_>>>()?;
    if !own.is_empty() {
        let list: Vec<String> = own.iter().map(|(path, _)| path.display().to_string()).collect();
        settings.set("squilla.spill_dirs", &list.join(","), Source::CommandLine, true)?;
    }
    let sockets = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("socket").enable_all().build();
    let sockets = sockets.map_err(|e| Error::io("could not start threads", e))?;
    let channels = Channels::new(Security::new(&settings)?, sockets.handle().clone());
    channels.security().check_listen(arguments.listen)?;
    let device = match settings.get("squilla.device") {
        "auto" if !Path::new("/dev/nvidia0").exists() => "cpu",
        "auto" => "cuda:0",
        named => named,
    };
    let config = WorkerConfig {
        listen: arguments.listen,
        labels: labels(&arguments.labels)?.into_iter().collect(),
        device: device.to_owned(),
        plan_bytes_max: settings.int("squilla.plan_bytes_max").max(1) as u64,
        grace: Duration::from_secs(arguments.drain_seconds),
    };
    // A data directory that it is told of is the server's: it reads tables there, and opens no catalog.
    let database = wiring::database(settings, None, None)?;
    sockets.block_on(async {
        let stop = stop()?;
        serve(database, channels, config, stop).await?;
        tracing::info!("stopped");
        Ok::<_, Error>(())
    })?;
    for (path, _) in &own {
        let _ = std::fs::remove_dir_all(path);
    }
    Ok(())
}

/// Ends on SIGTERM; SIGINT and SIGQUIT end the process.
fn stop() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(|e| Error::io("could not listen for signals", e));
    let (mut terminate, mut interrupt, mut quit) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::quit())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
        tracing::info!("stopping at once");
        std::process::exit(0);
    });
    Ok(async move {
        terminate.recv().await;
    })
}

/// A directory of this process under one for spill files, locked while the process lives. Those of processes that ended
/// without cleaning up are removed. Fails when no file can be made there, before the first statement needs one.
fn own_directory(directory: &Path) -> Result<(PathBuf, File)> {
    let refused =
        |e| Error::io(format!("spill files cannot be written to {}", directory.display()), e).hint("Name another directory with --spill-dir.");
    std::fs::create_dir_all(directory).map_err(refused)?;
    for entry in std::fs::read_dir(directory).map_err(refused)?.flatten() {
        let left = entry.file_name().to_string_lossy().starts_with(OWN) && File::open(entry.path().join(LOCK)).is_ok_and(|f| f.try_lock().is_ok());
        if left && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "spill files of an earlier process could not be removed");
        }
    }
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros());
    let own = directory.join(format!("{OWN}{}-{started}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&own).map_err(refused)?;
    let lock = File::create(own.join(LOCK)).map_err(refused)?;
    lock.try_lock().map_err(|e| refused(e.into()))?;
    Ok((own, lock))
}

const OWN: &str = "squilla-worker-";
const LOCK: &str = "lock";
