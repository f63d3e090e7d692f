//! From arguments to a database.
//!
//! Settings come in this order: defaults, squilla.toml, `SQUILLA_<NAME>` variables, `--set`. Nothing else reads the
//! environment but what is read here: the cache folders, HF_HOME and friends, and AWS_* inside the object store.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use squilla_cluster::able::Tables;
use squilla_cluster::channels::Channels;
use squilla_cluster::members::Members;
use squilla_cluster::runner::ClusterRunner;
use squilla_cluster::security::Security;
use squilla_core::cores::Cores;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::SqlFunction;
use squilla_core::settings::{SETTINGS, Settings, Source};
use squilla_engine::database::{Config, Database, Families};
use squilla_engine::run::Runner;
use squilla_infer::engines::EngineOptions;
use squilla_infer::hub::HubOptions;
use squilla_infer::models::Models;
use squilla_infer::runtime::{RuntimeOptions, candidates};
use squilla_media::sandbox::pool;

use crate::arguments::Common;
use crate::fixtures;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn home() -> PathBuf {
    variable("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// The cache folder of the project: libraries, models, sample media.
pub fn cache_dir() -> PathBuf {
    variable("SQUILLA_CACHE")
        .map_or_else(|| variable("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from).join("squilla"), PathBuf::from)
}

/// The data folder when none is named.
pub fn default_data_dir() -> PathBuf {
    variable("XDG_DATA_HOME").map_or_else(|| home().join(".local/share"), PathBuf::from).join("squilla")
}

/// The settings of the server from file, environment and command line.
pub fn settings(common: &Common) -> Result<Settings> {
    let mut settings = Settings::default();
    if let Some(path) = &common.config {
        read_file(path, &mut settings)?;
    }
    for setting in SETTINGS {
        // squilla.memory_limit is SQUILLA_MEMORY_LIMIT, work_mem is SQUILLA_WORK_MEM.
        let short = setting.name.strip_prefix("squilla.").unwrap_or(setting.name);
        let name = format!("SQUILLA_{}", short.replace('.', "_").to_uppercase());
        if let Some(value) = variable(&name) {
            settings.set(setting.name, &value, Source::Environment, true)?;
        }
    }
    for pair in &common.set {
        let (name, value) = pair.split_once('=').ok_or_else(|| Error::invalid_argument(format!("--set takes NAME=VALUE, not \"{pair}\"")))?;
        settings.set(name.trim(), value.trim(), Source::CommandLine, true)?;
    }
    Ok(settings)
}

fn read_file(path: &Path, settings: &mut Settings) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(format!("could not read {}", path.display()), e))?;
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| Error::new(Kind::ConfigFile, format!("{}: {}", path.display(), e.message())))?;
    flatten("", &table, settings).map_err(|e| e.detail(format!("In {}.", path.display())))
}

/// Nested tables are dotted names.
fn flatten(prefix: &str, table: &toml::Table, settings: &mut Settings) -> Result<()> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, settings)?,
            toml::Value::String(text) => drop(settings.set(&name, text, Source::File, true)?),
            other => drop(settings.set(&name, &other.to_string(), Source::File, true)?),
        }
    }
    Ok(())
}

/// The model service.
pub fn models(settings: &Settings) -> Models {
    let path = |name: &str| Some(settings.get(name)).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = cache_dir();
    let home = path("squilla.model_cache_dir").or_else(|| variable("HF_HOME").map(PathBuf::from)).unwrap_or_else(|| cache.join("hf"));
    let hub = HubOptions {
        home,
        offline: settings.is_on("squilla.offline") || variable("HF_HUB_OFFLINE").is_some_and(|v| v != "0"),
        endpoint: variable("HF_ENDPOINT"),
        token: variable("HF_TOKEN"),
        fetch: None,
    };
    let named = variable("ORT_DYLIB_PATH").map(PathBuf::from);
    let runtime = RuntimeOptions { library: path("squilla.onnxruntime"), candidates: candidates(named.as_deref(), &cache) };
    let mut engines = EngineOptions { runtime, device: settings.get("squilla.device").to_owned(), ..EngineOptions::default() };
    engines.resident_bytes_max = settings.int("squilla.model_memory_max").max(0) as u64;
    if settings.int("squilla.threads") > 0 {
        engines.cores = Cores::new(settings.int("squilla.threads") as usize);
    }
    Models::new(hub, engines)
}

/// Every function, with `fixture` where tests ask for it.
fn families() -> Families {
    let mut all: Vec<(&'static str, &'static [&'static SqlFunction])> = squilla_functions::FAMILIES.to_vec();
    if fixtures::enable(variable("SQUILLA_FIXTURES").map(PathBuf::from)) {
        all.push(("test", fixtures::FUNCTIONS));
    }
    // Once per process: the list lives as long as the program.
    Box::leak(all.into_boxed_slice())
}

/// Decoders that can hang or abort run in children of this program.
fn sandbox(settings: &Settings) -> Result<()> {
    let program = std::env::current_exe().map_err(|e| Error::io("could not find the program itself", e))?;
    let mut config = pool::Config::new(program);
    config.memory_bytes = settings.int("squilla.media_worker_bytes_max").max(1) as u64;
    if settings.int("squilla.media_workers") > 0 {
        config.children_max = settings.int("squilla.media_workers") as usize;
    }
    for name in ["HOME", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR"] {
        config.env.extend(variable(name).map(|value| (name.to_owned(), value)));
    }
    pool::configure(config)
}

/// The coordinator of the workers that the settings name, if they name any. `sockets` is where their connections live.
pub fn cluster(settings: &Settings, data_dir: Option<&Path>, sockets: &tokio::runtime::Handle) -> Result<Option<Arc<dyn Runner>>> {
    let list = settings.get("squilla.workers");
    if list.is_empty() {
        return Ok(None);
    }
    let channels = Channels::new(Security::new(settings)?, sockets.clone());
    let tables = data_dir.map(Tables::of).transpose()?;
    let members = Members::watch(list, &channels, tables)?;
    Ok(Some(Arc::new(ClusterRunner::new(members, channels, data_dir.map(|d| d.join("jobs"))))))
}

/// Opens the database that the arguments describe. `data_dir` None is a database in memory; `runner` None executes here.
pub fn database(settings: Settings, data_dir: Option<PathBuf>, runner: Option<Arc<dyn Runner>>) -> Result<Arc<Database>> {
    sandbox(&settings)?;
    let pdfium = Some(settings.get("squilla.pdfium")).filter(|v| !v.is_empty()).map(PathBuf::from);
    squilla_media::pdf::library::configure(pdfium.or_else(|| Some(cache_dir().join("lib/libpdfium.so")).filter(|p| p.exists())));
    let models = models(&settings);
    Database::open(Config { data_dir, settings, families: families(), models, runner })
}

/// What is logged when SQUILLA_LOG says nothing: our own news, others' troubles.
const LOG_FILTER: &str = "warn,symphonia=off,symphonia_core=off,squilla=info,squilla_engine=info,squilla_server=info,squilla_console=info,squilla_infer=info,squilla_cluster=info";

/// Logs to standard error: text for people, JSON where SQUILLA_LOG_FORMAT=json.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SQUILLA_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).with_ansi(std::io::stderr().is_terminal());
    if variable("SQUILLA_LOG_FORMAT").as_deref() == Some("json") {
        builder.json().init();
    } else {
        builder.init();
    }
}
