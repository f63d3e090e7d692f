//! Arguments of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// SQL over images, audio, video and documents, from any PostgreSQL client.
#[derive(Parser, Debug)]
#[command(name = "squilla", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve PostgreSQL clients.
    Serve(Serve),
    /// Work on statements of servers that name this worker.
    Worker(Worker),
    /// Run SQL in this process, without a server.
    Sql(Sql),
    /// List, fetch and show models.
    Models(Models),
    /// Write the reference pages.
    Docs(Docs),
    /// Print the version.
    Version,
    /// Decode media for the server (started by the server itself).
    #[command(hide = true)]
    MediaWorker,
}

/// What `serve` and `sql` share.
#[derive(Args, Debug, Clone, Default)]
pub struct Common {
    /// Directory of catalog, tables and spill files.
    #[arg(long, env = "SQUILLA_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Settings file.
    #[arg(long, env = "SQUILLA_CONFIG")]
    pub config: Option<PathBuf>,
    /// A setting, NAME=VALUE; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

/// `squilla serve`
#[derive(Args, Debug)]
pub struct Serve {
    /// Address of the PostgreSQL protocol, HOST:PORT.
    #[arg(long, env = "SQUILLA_LISTEN", default_value = "127.0.0.1:5433")]
    pub listen: String,
    /// Address of /healthz, /readyz and /metrics, or off.
    #[arg(long, env = "SQUILLA_HTTP_LISTEN", default_value = "off")]
    pub http_listen: String,
    /// Certificate chain (PEM) for TLS.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) for TLS.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authorities (PEM) that certificates of clients come from, for rules of squilla.hba with the method cert.
    #[arg(long, requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,
    /// Seconds that running statements have to finish after SIGTERM.
    #[arg(long, default_value_t = 30)]
    pub drain_seconds: u64,
    /// Workers of the cluster: host:port,... or dns://name:port.
    #[arg(long, value_name = "WORKERS")]
    pub workers: Option<String>,
    /// What both commands share.
    #[command(flatten)]
    pub common: Common,
}

/// `squilla worker`
#[derive(Args, Debug)]
pub struct Worker {
    /// Address for servers and other workers.
    #[arg(long, env = "SQUILLA_WORKER_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// What this worker is, name=value, comma separated; squilla.model_labels asks for them.
    #[arg(long, env = "SQUILLA_WORKER_LABELS", default_value = "")]
    pub labels: String,
    /// Device of models that name none: auto, cpu, cuda:N.
    #[arg(long)]
    pub device: Option<String>,
    /// Memory that statements share: 16GB.
    #[arg(long)]
    pub memory: Option<String>,
    /// Directories for spill files, comma separated.
    #[arg(long)]
    pub spill_dir: Option<String>,
    /// Seconds that statements have to finish after SIGTERM.
    #[arg(long, default_value_t = 30)]
    pub drain_seconds: u64,
    /// Settings.
    #[command(flatten)]
    pub common: Common,
}

/// The form of results of `squilla sql`.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// CSV with a header.
    Csv,
    /// A JSON array of objects.
    Json,
}

/// `squilla sql`
#[derive(Args, Debug)]
pub struct Sql {
    /// Statements; may be given several times, and they run in order.
    #[arg(short = 'c', long, conflicts_with = "file", required_unless_present = "file")]
    pub command: Vec<String>,
    /// A file of statements; - is standard input.
    #[arg(short = 'f', long)]
    pub file: Option<PathBuf>,
    /// Form of results.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// What both commands share.
    #[command(flatten)]
    pub common: Common,
}

/// `squilla models`
#[derive(Args, Debug)]
pub struct Models {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
    /// Settings.
    #[command(flatten)]
    pub common: Common,
}

/// The commands about models.
#[derive(Subcommand, Debug)]
pub enum ModelsCommand {
    /// Registered and built-in models.
    List,
    /// Fetch a model into the cache.
    Pull {
        /// Name, hub id or URL.
        name: String,
    },
    /// What a model is: its files, digest, task and size.
    Show {
        /// Name, hub id or path.
        name: String,
    },
}

/// `squilla docs`
#[derive(Args, Debug)]
pub struct Docs {
    /// Fail when the pages are not up to date, and write nothing.
    #[arg(long)]
    pub check: bool,
    /// Directory of the pages.
    #[arg(long, default_value = "docs")]
    pub directory: PathBuf,
}
