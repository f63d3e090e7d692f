//! The database of one process: catalog, table store, functions, models, memory, and its sessions.
//!
//! In: a configuration. Out: sessions. Invariant: everything that sessions share is here, and statements run on the
//! database's own runtime, so that planning and decoding never hold up the threads that serve sockets.
//! Deliberately absent: sockets, authentication exchanges (the server's), reading of settings files (the root's).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
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

use crate::catalog::Catalog;
use crate::catalog::data::{CatalogData, SUPERUSER};
use crate::catalog::objects::ObjectCache;
use crate::catalog::roles::{EVERYBODY, Object, no_role};
use crate::error::from_datafusion;
use crate::exec::env::PoolMemory;
use crate::exec::row_errors::RowErrorLog;
use crate::run::{LocalRunner, Runner};
use crate::session::advisory::AdvisoryLocks;
use crate::session::notify::Channels;
use crate::session::shared::SessionShared;
use crate::session::{Session, SessionOptions, state};
use crate::source::files::FileAccess;
use crate::system::objects::Objects;
use crate::system::procs::Procs;
use crate::table::Tables;
use crate::table::hot::HotRows;
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
    /// Threads for statements.
    pub threads: usize,
    /// Executes plans.
    pub runner: Arc<dyn Runner>,
    /// Names of scalar functions that mean the same in every process of a cluster.
    pub portable: Arc<HashSet<String>>,
    /// When the server started, microseconds since 1970.
    pub started_us: i64,
    /// Advisory locks.
    pub advisory: AdvisoryLocks,
    /// LISTEN and NOTIFY.
    pub channels: Channels,
    /// No new work is taken: the server is about to stop.
    pub draining: AtomicBool,
    settings: RwLock<Settings>,
    env: Arc<Env>,
    base: SessionState,
    procs: Procs,
    objects: ObjectCache,
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
            cores: Arc::clone(config.models.cores()),
            counters: Arc::default(),
            models: Arc::new(config.models.clone()),
            default_models: Arc::new(|_| None),
        });
        let functions = Arc::new(Functions::new(config.families, crate::postgres::series::BUILTINS, &env)?);
        let runner = config.runner.unwrap_or_else(|| Arc::new(LocalRunner));
        let store = Tables::new(&catalog, &files, !runner.sends_plans(), row_cache(&settings, &runtime_env.memory_pool));
        crate::source::object::register(&runtime_env, &files)?;
        let runtime = threads_named("statement", threads.max(2))?;
        // Planning has threads of its own: a statement that keeps the others busy must not hold up new ones.
        let planning = threads_named("planning", 2)?;
        let base = state::base(&settings, threads, runtime_env, &functions, runner.as_ref())?;
        let procs = Procs::from(state::procs(&base, &functions));
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
            threads,
            runner,
            started_us: chrono::Utc::now().timestamp_micros(),
            advisory: AdvisoryLocks::default(),
            channels: Channels::default(),
            draining: AtomicBool::new(false),
            settings: RwLock::new(settings),
            env,
            base,
            procs,
            objects: ObjectCache::default(),
            runtime: Some(runtime),
            planning: Some(planning),
            sessions: Mutex::new(HashMap::new()),
            next_pid: AtomicI32::new(std::process::id() as i32 & 0xffff),
        }))
    }

    /// A new session. 3D000 for another database than `squilla`, 53300 beyond the role's CONNECTION LIMIT.
    pub fn connect(self: &Arc<Self>, options: SessionOptions) -> Result<Session> {
        // Tools that only look around ask for the database postgres.
        if !matches!(options.database.as_str(), "squilla" | "postgres") && options.database != options.user {
            return Err(Error::new(Kind::UndefinedDatabase, format!("database \"{}\" does not exist", options.database)));
        }
        let data = self.catalog.snapshot();
        let role = data.roles.get(&options.user).ok_or_else(|| no_role(&options.user))?;
        let superuser = role.superuser;
        let allowed = data.may(&options.user, &Object::Database, SUPERUSER, "CONNECT", false);
        if !allowed {
            return Err(
                Error::new(Kind::InsufficientPrivilege, "permission denied for database \"squilla\"").detail("User does not have CONNECT privilege.")
            );
        }
        let mut settings = self.settings.read().clone();
        for (name, value) in &role.settings {
            // A setting that has become wrong must not lock the role out.
            let _ = settings.set(name, value, Source::Client, true);
        }
        for (name, value) in &options.startup {
            settings.set(name, value, Source::Client, superuser)?;
        }
        settings.set_internal("session_authorization", options.user.clone());
        settings.set_internal("is_superuser", if superuser { "on" } else { "off" });
        let pid = self.next_pid.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
        let shared = Arc::new(SessionShared::new(pid, rand::random::<i32>(), &options));
        let mut sessions = self.sessions.lock();
        if role.connection_limit >= 0 && !superuser {
            let there = sessions.values().filter_map(Weak::upgrade).filter(|s| s.user == options.user).count();
            if there >= role.connection_limit as usize {
                return Err(Error::new(Kind::TooManyConnections, format!("too many connections for role \"{}\"", options.user)));
            }
        }
        sessions.retain(|_, s| s.strong_count() > 0);
        sessions.insert(pid, Arc::downgrade(&shared));
        drop(sessions);
        let session = Session::new(Arc::clone(self), shared, settings, superuser);
        session.inner.lock().default_modes();
        Ok(session)
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

    /// The role that a client is without proof: while only the first role exists, everybody is it.
    pub fn trusted(&self, user: &str) -> Result<String> {
        let data = self.catalog.snapshot();
        if data.listed_roles().count() == 1 {
            return Ok(SUPERUSER.to_owned());
        }
        self.may_log_in(user)?;
        Ok(user.to_owned())
    }

    /// 28000 for a role that does not exist or may not log in. To be asked after the role was proved.
    pub fn may_log_in(&self, user: &str) -> Result<()> {
        let data = self.catalog.snapshot();
        let refused = |message: String| Err(Error::new(Kind::InvalidAuthorization, message));
        match data.roles.get(user).filter(|_| user != EVERYBODY) {
            None => refused(format!("role \"{user}\" does not exist")),
            Some(role) if !role.login => refused(format!("role \"{user}\" is not permitted to log in")),
            Some(_) => Ok(()),
        }
    }

    /// The SCRAM verifier of a role whose password is valid now; a client cannot tell the reasons for None apart.
    pub fn verifier(&self, user: &str) -> Option<String> {
        let data = self.catalog.snapshot();
        let role = data.roles.get(user).filter(|_| user != EVERYBODY)?;
        let valid = role.valid_until_us.is_none_or(|until| until > chrono::Utc::now().timestamp_micros());
        role.scram_verifier.clone().filter(|_| valid)
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

    /// The objects of a snapshot of the catalog, as system relations tell them.
    pub fn objects(&self, data: &Arc<CatalogData>) -> Arc<Objects> {
        self.objects.of(data, &self.procs)
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

/// What reads by key keep: an eighth of the memory at most.
fn row_cache(settings: &Settings, pool: &Arc<dyn MemoryPool>) -> HotRows {
    let limit = memory_limit(settings) / 8;
    let wanted = u64::try_from(settings.int("squilla.row_cache")).unwrap_or(0);
    HotRows::new(usize::try_from(wanted.min(limit)).unwrap_or(usize::MAX), pool)
}

fn memory_limit(settings: &Settings) -> u64 {
    match settings.int("squilla.memory_limit") {
        0 => crate::memory::machine_bytes() / 10 * 7,
        n => n as u64,
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
    let limit = memory_limit(settings);
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
