//! The database of one process: catalog, table store, functions, models, memory, and its sessions.
//!
//! In: a configuration. Out: sessions. Invariant: everything that sessions share is here, and statements run on the
//! database's own runtime, so that planning and decoding never hold up the threads that serve sockets.
//! Deliberately absent: sockets, authentication exchanges (the server's), reading of settings files (the root's).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use parking_lot::{Mutex, RwLock};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{CancelFlag, Env, Files, SqlFunction};
use squilla_core::settings::{Settings, Source};
use squilla_infer::models::Models;
use squilla_infer::registry::RegisteredModel;
pub use squilla_infer::stats::ModelStats;
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::error::from_datafusion;
use crate::exec::env::PoolMemory;
use crate::exec::row_errors::RowErrorLog;
use crate::run::{LocalRunner, Runner};
use crate::session::{Session, SessionOptions, SessionShared, state};
use crate::source::files::FileAccess;
use crate::system::procs::Proc;
use crate::table::Tables;
use crate::udf::Functions;

/// Functions by family, as the root hands them in.
pub type Families = &'static [(&'static str, &'static [&'static SqlFunction])];

/// What a database is made from.
pub struct Config {
    /// Catalog, tables and spill files; None keeps the catalog in memory and spill files in the system's temporary folder.
    pub data_dir: Option<PathBuf>,
    /// Settings of the server.
    pub settings: Settings,
    /// All functions.
    pub families: Families,
    /// The model service.
    pub models: Models,
    /// Executes plans; None executes them in this process.
    pub runner: Option<Arc<dyn Runner>>,
}

/// How a role may log in.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Without a password, as this role.
    Trust {
        /// The role the session runs as.
        role: String,
    },
    /// By SCRAM-SHA-256 against this verifier (a made-up one for an unknown role, so that it cannot be told).
    Scram {
        /// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`
        verifier: Option<String>,
    },
}

/// The database.
pub struct Database {
    /// Schemas, relations, roles, models.
    pub catalog: Arc<Catalog>,
    /// Contents of managed tables.
    pub store: Arc<Tables>,
    /// Our functions.
    pub functions: Arc<Functions>,
    /// The model service.
    pub models: Models,
    /// File access.
    pub files: Arc<FileAccess>,
    /// Row errors of all statements.
    pub row_errors: Arc<RowErrorLog>,
    /// One permit per core for dear CPU work.
    pub cores: Arc<Semaphore>,
    /// Threads for statements.
    pub threads: usize,
    /// Executes plans.
    pub runner: Arc<dyn Runner>,
    /// Names of scalar functions that mean the same in every process of a cluster.
    pub portable: Arc<HashSet<String>>,
    /// When the server started, microseconds since 1970.
    pub started_us: i64,
    settings: RwLock<Settings>,
    env: Arc<Env>,
    base: SessionState,
    procs: Arc<Vec<Proc>>,
    runtime: Option<tokio::runtime::Runtime>,
    planning: Option<tokio::runtime::Runtime>,
    sessions: Mutex<HashMap<i32, Weak<SessionShared>>>,
    next_pid: AtomicI32,
}

/// Stack of a statement thread: planning recurses with the depth of the statement.
const STACK_BYTES: usize = 32 << 20;
/// Blocking threads: decoders, expansions and file reads.
const BLOCKING_THREADS_MAX: usize = 512;

impl Database {
    /// Opens the database.
    pub fn open(config: Config) -> Result<Arc<Database>> {
        let settings = config.settings;
        let threads = match settings.int("squilla.threads") {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n as usize,
        };
        squilla_store::fault::arm(settings.get("squilla.fault_point"));
        let catalog = match &config.data_dir {
            Some(directory) => Catalog::open(directory)?,
            None => Catalog::in_memory()?,
        };
        for model in &catalog.snapshot().models {
            let model: RegisteredModel = serde_json::from_value(model.clone())
                .map_err(|e| Error::new(Kind::DataCorrupted, format!("the catalog has a model that cannot be read: {e}")))?;
            config.models.registry().add(model, true)?;
        }
        let runtime_env = runtime_env(&settings, config.data_dir.as_ref())?;
        let files = FileAccess::new();
        files.set_connections(crate::command::servers::connections(&catalog.snapshot())?);
        let env = Arc::new(Env {
            limits: settings.limits(),
            files: Arc::clone(&files) as Arc<dyn Files>,
            memory: Arc::new(PoolMemory { pool: Arc::clone(&runtime_env.memory_pool) }),
            cancel: CancelFlag::default(),
            models: Arc::new(config.models.clone()),
            default_models: Arc::new(|_| None),
        });
        let functions = Arc::new(Functions::new(config.families, &env)?);
        let store = Tables::new(&catalog, &files);
        crate::source::object::register(&runtime_env, &files)?;
        let runtime = threads_named("statement", threads.max(2))?;
        // Planning has threads of its own: a statement that keeps the others busy must not hold up new ones.
        let planning = threads_named("planning", 2)?;
        let runner = config.runner.unwrap_or_else(|| Arc::new(LocalRunner));
        let base = state::base(&settings, threads, runtime_env, &functions, runner.as_ref())?;
        let procs = Arc::new(state::procs(&base, &functions));
        let mut portable: HashSet<String> = base.scalar_functions().keys().cloned().collect();
        for name in crate::postgres::registry::session_bound() {
            portable.remove(name);
        }
        Ok(Arc::new(Database {
            portable: Arc::new(portable),
            catalog,
            store,
            functions,
            models: config.models,
            files,
            row_errors: Arc::new(RowErrorLog::default()),
            cores: Arc::new(Semaphore::new(threads)),
            threads,
            runner,
            started_us: chrono::Utc::now().timestamp_micros(),
            settings: RwLock::new(settings),
            env,
            base,
            procs,
            runtime: Some(runtime),
            planning: Some(planning),
            sessions: Mutex::new(HashMap::new()),
            next_pid: AtomicI32::new(std::process::id() as i32 & 0xffff),
        }))
    }

    /// A new session. 3D000 for another database than `squilla`.
    pub fn connect(self: &Arc<Self>, options: SessionOptions) -> Result<Session> {
        if options.database != "squilla" && options.database != options.user {
            return Err(Error::new(Kind::UndefinedDatabase, format!("database \"{}\" does not exist", options.database)));
        }
        let mut settings = self.settings.read().clone();
        settings.set_internal("session_authorization", options.user.clone());
        let superuser = self.catalog.snapshot().roles.get(&options.user).is_none_or(|r| r.superuser);
        settings.set_internal("is_superuser", if superuser { "on" } else { "off" });
        for (name, value) in &options.startup {
            settings.set(name, value, Source::Client, superuser)?;
        }
        let pid = self.next_pid.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
        let shared = Arc::new(SessionShared::new(pid, rand::random::<i32>(), &options));
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, s| s.strong_count() > 0);
        sessions.insert(pid, Arc::downgrade(&shared));
        drop(sessions);
        Ok(Session::new(Arc::clone(self), shared, settings, superuser))
    }

    /// CancelRequest: stops the statement of the session with this key. False when there is none.
    pub fn cancel(&self, pid: i32, secret: i32) -> bool {
        let session = self.session(pid).filter(|s| s.secret == secret);
        session.as_ref().inspect(|s| s.cancel()).is_some()
    }

    /// The live session with this process number.
    pub fn session(&self, pid: i32) -> Option<Arc<SessionShared>> {
        self.sessions.lock().get(&pid).and_then(Weak::upgrade)
    }

    /// All live sessions.
    pub fn sessions(&self) -> Vec<Arc<SessionShared>> {
        self.sessions.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Whether any role has a password: without one, nobody can be told apart.
    pub fn has_passwords(&self) -> bool {
        self.catalog.snapshot().roles.values().any(|r| r.scram_verifier.is_some())
    }

    /// How `user` may log in from an address that is `loopback` or not.
    pub fn authentication(&self, user: &str, loopback: bool) -> Authentication {
        let data = self.catalog.snapshot();
        let passwords = data.roles.values().any(|r| r.scram_verifier.is_some());
        if loopback && !passwords {
            // While no role has been made, everybody on this machine is the superuser.
            let role = if data.roles.contains_key(user) || data.roles.len() > 1 { user } else { crate::catalog::data::SUPERUSER };
            return Authentication::Trust { role: role.to_owned() };
        }
        Authentication::Scram { verifier: data.roles.get(user).filter(|r| r.login).and_then(|r| r.scram_verifier.clone()) }
    }

    /// The server's settings.
    pub fn settings(&self) -> Settings {
        self.settings.read().clone()
    }

    /// The environment that statements copy.
    pub fn env(&self) -> &Arc<Env> {
        &self.env
    }

    /// The state that statements copy.
    pub fn base(&self) -> &SessionState {
        &self.base
    }

    /// What `pg_proc` lists.
    pub fn procs(&self) -> Arc<Vec<Proc>> {
        Arc::clone(&self.procs)
    }

    /// Where statements run.
    pub fn runtime(&self) -> Result<tokio::runtime::Handle> {
        self.runtime.as_ref().map(|r| r.handle().clone()).ok_or_else(|| Error::new(Kind::AdminShutdown, "the database is closed"))
    }

    /// Where statements are planned.
    pub fn planning(&self) -> Result<tokio::runtime::Handle> {
        self.planning.as_ref().map(|r| r.handle().clone()).ok_or_else(|| Error::new(Kind::AdminShutdown, "the database is closed"))
    }

    /// The memory pool.
    pub fn memory_pool(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.base.runtime_env().memory_pool)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A runtime must not be dropped where blocking is forbidden.
        for runtime in [self.runtime.take(), self.planning.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

fn threads_named(name: &str, threads: usize) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name(name)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|e| Error::io(format!("could not start the {name} threads"), e))
}

fn runtime_env(settings: &Settings, data_dir: Option<&PathBuf>) -> Result<Arc<RuntimeEnv>> {
    let limit = match settings.int("squilla.memory_limit") {
        0 => crate::memory::machine_bytes() / 10 * 7,
        n => n as u64,
    };
    let consumers = std::num::NonZeroUsize::new(5).ok_or_else(|| Error::internal("zero"))?;
    let pool = TrackConsumersPool::new(FairSpillPool::new(limit as usize), consumers);
    let directories: Vec<PathBuf> =
        settings.get("squilla.spill_dirs").split(',').map(str::trim).filter(|d| !d.is_empty()).map(PathBuf::from).collect();
    let mode = match (directories.is_empty(), data_dir) {
        (false, _) => DiskManagerMode::Directories(directories),
        (true, Some(data_dir)) => {
            let directory = data_dir.join("tmp");
            std::fs::create_dir_all(&directory).map_err(|e| Error::io(format!("could not create {}", directory.display()), e))?;
            DiskManagerMode::Directories(vec![directory])
        }
        (true, None) => DiskManagerMode::OsTmpDirectory,
    };
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(settings.int("squilla.spill_bytes_max").max(0) as u64);
    let env = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build();
    env.map(Arc::new).map_err(from_datafusion)
}
