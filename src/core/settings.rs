//! The one list of settings, and the values of one session.
//!
//! In: text from squilla.toml, SQUILLA_* variables, flags, startup options, SET. Out: typed values, SHOW text and the rows
//! of pg_settings. Order of precedence: default < file < environment < command line < startup options < SET < SET LOCAL.
//! Invariant: a stored value has passed its setting's check and is canonical, so reading it cannot fail.
//! Deliberately absent: reading files or the environment (the root does that) and what a setting does.

mod units;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::error::{Error, Kind, Result, did_you_mean};
use crate::limits::Limits;
use crate::settings::units::{date_style, parse_int};

/// The type of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SettingKind {
    /// on | off
    Bool,
    /// Integer in a range, in `unit`.
    Int {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
        /// Unit of the number.
        unit: Unit,
    },
    /// Number in a range.
    Real {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// Any text.
    Text,
    /// One of these words.
    Enum(&'static [&'static str]),
}

/// The unit of an integer setting; input may carry another unit of the same sort (`'2min'`, `'1GB'`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Bytes.
    Bytes,
    /// Kilobytes of 1,024 bytes.
    Kb,
}

/// Who may change a setting, and when (`pg_settings.context`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Never.
    Internal,
    /// At server start.
    Postmaster,
    /// By superusers.
    Superuser,
    /// By anybody.
    User,
}

/// Where a value came from (`pg_settings.source`), weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Built in.
    Default,
    /// squilla.toml
    File,
    /// SQUILLA_*
    Environment,
    /// Flags.
    CommandLine,
    /// Startup message.
    Client,
    /// SET
    Session,
}

impl Source {
    /// The word of `pg_settings.source`.
    pub fn name(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::File => "configuration file",
            Source::Environment => "environment variable",
            Source::CommandLine => "command line",
            Source::Client => "client",
            Source::Session => "session",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name as SHOW takes it; looked up without regard to case.
    pub name: &'static str,
    /// Type.
    pub kind: SettingKind,
    /// Built-in value, canonical.
    pub default: &'static str,
    /// Who may change it.
    pub context: Context,
    /// Section of the reference page.
    pub category: &'static str,
    /// One sentence.
    pub description: &'static str,
}

const fn int(min: i64, max: i64, unit: Unit) -> SettingKind {
    SettingKind::Int { min, max, unit }
}

macro_rules! settings {
    ($($category:literal { $($name:literal $kind:expr, $default:literal, $context:ident, $description:literal;)* })*) => {
        /// Every setting there is.
        pub static SETTINGS: &[Setting] = &[$($(Setting {
            name: $name, kind: $kind, default: $default, context: Context::$context, category: $category, description: $description,
        },)*)*];
    };
}

use SettingKind::{Bool, Enum, Real, Text};

const MS_MAX: i64 = i32::MAX as i64;

settings! {
    "Client connection defaults" {
        "application_name" Text, "", User, "Name that the client reports.";
        "bytea_output" Enum(&["hex", "escape"]), "hex", User, "Text form of bytea.";
        "client_encoding" Text, "UTF8", User, "Encoding of the client; only UTF8.";
        "client_min_messages" Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]), "notice", User, "Least severity of messages sent to the client.";
        "datestyle" Text, "ISO, MDY", User, "Text form of dates and order of ambiguous dates.";
        "intervalstyle" Enum(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]), "postgres", User, "Text form of intervals.";
        "timezone" Text, "UTC", User, "Time zone of timestamptz input and output.";
        "extra_float_digits" int(-15, 3, Unit::None), "1", User, "Digits of floating-point output; above 0 is the shortest exact form.";
        "search_path" Text, "\"$user\", public", User, "Schemas searched for unqualified names.";
        "statement_timeout" int(0, MS_MAX, Unit::Ms), "0", User, "Longest time of one statement; 0 is no limit.";
        "lock_timeout" int(0, MS_MAX, Unit::Ms), "0", User, "Longest wait for a lock; 0 is no limit.";
        "idle_in_transaction_session_timeout" int(0, MS_MAX, Unit::Ms), "0", User, "Longest idle time inside a transaction; 0 is no limit.";
        "idle_session_timeout" int(0, MS_MAX, Unit::Ms), "0", User, "Longest idle time of a session; 0 is no limit.";
        "standard_conforming_strings" Enum(&["on"]), "on", User, "Backslashes in '...' are ordinary characters.";
        "default_transaction_isolation" Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]), "read committed", User, "Isolation of new transactions.";
        "transaction_isolation" Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]), "read committed", User, "Isolation of this transaction.";
        "default_transaction_read_only" Bool, "off", User, "New transactions are read only.";
        "transaction_read_only" Bool, "off", User, "This transaction is read only.";
        "default_transaction_deferrable" Bool, "off", User, "Accepted.";
        "transaction_deferrable" Bool, "off", User, "Accepted.";
        "row_security" Bool, "on", User, "Accepted.";
        "check_function_bodies" Bool, "on", User, "Accepted.";
        "default_tablespace" Text, "", User, "Accepted.";
        "temp_tablespaces" Text, "", User, "Accepted.";
        "default_table_access_method" Text, "parquet", User, "Table storage.";
        "xmloption" Enum(&["content", "document"]), "content", User, "Accepted.";
        "jit" Bool, "off", User, "Accepted.";
        "geqo" Bool, "off", User, "Accepted.";
        "synchronize_seqscans" Bool, "on", User, "Accepted.";
        "quote_all_identifiers" Bool, "off", User, "Accepted.";
        "enable_seqscan" Bool, "on", User, "Accepted.";
        "synchronous_commit" Enum(&["on", "off", "local", "remote_write", "remote_apply"]), "on", User, "Whether a commit waits for the disk.";
        "session_replication_role" Enum(&["origin", "replica", "local"]), "origin", Superuser, "Accepted.";
        "lc_messages" Text, "C", User, "Language of messages.";
        "lc_monetary" Text, "C", User, "Accepted.";
        "lc_numeric" Text, "C", User, "Accepted.";
        "lc_time" Text, "C", User, "Accepted.";
        "password_encryption" Enum(&["scram-sha-256"]), "scram-sha-256", User, "How passwords are stored.";
        "log_statement" Enum(&["none", "ddl", "mod", "all"]), "none", Superuser, "Which statements are logged.";
        "log_min_duration_statement" int(-1, MS_MAX, Unit::Ms), "-1", Superuser, "Log statements that take longer; -1 is never.";
    }
    "Preset options" {
        "server_version" Text, "15.0", Internal, "PostgreSQL version whose behaviour clients may expect.";
        "server_version_num" int(0, MS_MAX, Unit::None), "150000", Internal, "The same as a number.";
        "server_encoding" Text, "UTF8", Internal, "Encoding of text.";
        "integer_datetimes" Bool, "on", Internal, "Timestamps are 64-bit integers.";
        "is_superuser" Bool, "on", Internal, "Whether the current role is a superuser.";
        "session_authorization" Text, "squilla", Internal, "Session user.";
        "in_hot_standby" Bool, "off", Internal, "There is no standby.";
        "max_identifier_length" int(63, 63, Unit::None), "63", Internal, "Bytes of a name.";
        "max_index_keys" int(32, 32, Unit::None), "32", Internal, "Columns of a key.";
        "block_size" int(8192, 8192, Unit::None), "8192", Internal, "For tools that ask.";
        "lc_collate" Text, "C", Internal, "Order of text: by code point.";
        "lc_ctype" Text, "C.UTF-8", Internal, "Character classes.";
        "wal_level" Text, "minimal", Internal, "For tools that ask.";
        "squilla.version" Text, "0.1.0", Internal, "Version of this server.";
    }
    "Resources" {
        "work_mem" int(64, 2_147_483_647, Unit::Kb), "65536", User, "Accepted; memory is shared by all statements, see squilla.memory_limit.";
        "squilla.memory_limit" int(0, i64::MAX, Unit::Bytes), "0", Postmaster, "Memory that statements share; 0 is 70 % of the machine or of its cgroup.";
        "squilla.threads" int(0, 4096, Unit::None), "0", Postmaster, "Cores to use; 0 is all of the machine or of its cgroup.";
        "squilla.spill_dirs" Text, "", Postmaster, "Directories for spill files, comma separated; empty is tmp/ under the data directory.";
        "squilla.spill_bytes_max" int(0, i64::MAX, Unit::Bytes), "107374182400", Postmaster, "Bytes of spill files in all.";
        "squilla.spill_compression" Enum(&["zstd", "lz4_frame", "uncompressed"]), "zstd", User, "Compression of spill files.";
        "max_connections" int(1, 262_143, Unit::None), "2000", Postmaster, "Connections at a time.";
        "superuser_reserved_connections" int(0, 262_143, Unit::None), "3", Postmaster, "Of these, kept for superusers.";
        "squilla.hba" Text, "", Postmaster, "Who may come from where and how, in the form of pg_hba.conf, a rule a line; empty trusts this machine until a role has a password, and asks everybody for one then.";
        "authentication_timeout" int(1, 600, Unit::S), "60", Postmaster, "Time to log in.";
        "squilla.max_message_bytes" int(1024, 1_073_741_823, Unit::Bytes), "1073741823", Postmaster, "Longest message from a client.";
        "squilla.max_statement_depth" int(16, 100_000, Unit::None), "1000", User, "Deepest nesting of an expression or query.";
        "squilla.max_prepared_statements" int(1, 1_000_000, Unit::None), "10000", User, "Prepared statements of one session.";
        "squilla.max_cursors" int(1, 1_000_000, Unit::None), "1000", User, "Open cursors of one session.";
        "squilla.cursor_memory" int(65_536, i64::MAX, Unit::Bytes), "67108864", User, "Bytes of rows that a cursor keeps in memory to scroll back; a SCROLL cursor writes more to disk, others then only go forward.";
    }
    "Rows that fail" {
        "squilla.on_error" Enum(&["null", "raise", "keep"]), "null", User, "What a failing row gives: NULL and an entry in squilla.row_errors, an error, or a composite (value, error).";
        "squilla.max_error_ratio" Real { min: 0.0, max: 1.0 }, "0.05", User, "Share of rows that may fail before the statement does (SQ005), checked after 100 rows.";
        "squilla.max_errors" int(0, i64::MAX, Unit::None), "0", User, "Number of rows that may fail before the statement does; 0 is no limit.";
        "squilla.row_errors_max" int(0, 10_000_000, Unit::None), "100000", Superuser, "Entries kept in squilla.row_errors.";
        "squilla.row_timeout" int(1, MS_MAX, Unit::Ms), "300000", User, "Longest time that one row may take in one function.";
    }
    "Limits on media" {
        "squilla.max_file_bytes" int(1, i64::MAX, Unit::Bytes), "4294967296", User, "Largest file that is read.";
        "squilla.max_image_pixels" int(1, i64::MAX, Unit::None), "256000000", User, "Largest image or frame that is decoded, in pixels.";
        "squilla.max_video_frames" int(1, i64::MAX, Unit::None), "1000000", User, "Most frames that one video gives.";
        "squilla.max_audio_seconds" int(1, i64::MAX, Unit::S), "86400", User, "Longest audio that is decoded.";
        "squilla.max_pdf_pages" int(1, i64::MAX, Unit::None), "100000", User, "Most pages of one document.";
        "squilla.scaled_decode" Bool, "on", User, "Decode a JPEG at 1/2, 1/4 or 1/8 of its size where it is then scaled down to half of that or less; colours differ by less than one level of 256 in the mean.";
        "squilla.media_workers" int(0, 1024, Unit::None), "0", Postmaster, "Child processes that decode video and documents; 0 is one a core.";
        "squilla.media_worker_bytes_max" int(67_108_864, i64::MAX, Unit::Bytes), "4294967296", Postmaster, "Address space of one such process.";
    }
    "Models" {
        "squilla.default_model.embed_text" Text, "minilm-l6-v2", User, "Model of embed_text when none is named.";
        "squilla.default_model.embed_image" Text, "clip-vit-b32", User, "Model of embed_image when none is named.";
        "squilla.default_model.classify_image" Text, "resnet18", User, "Model of classify_image when none is named.";
        "squilla.default_model.detect" Text, "yolo11n", User, "Model of detect when none is named.";
        "squilla.default_model.transcribe" Text, "whisper-tiny", User, "Model of transcribe when none is named.";
        "squilla.onnxruntime" Text, "", Postmaster, "Path of the ONNX Runtime library; empty searches the usual places.";
        "squilla.pdfium" Text, "", Postmaster, "Path of the pdfium library; empty searches the usual places.";
        "squilla.model_cache_dir" Text, "", Postmaster, "Hub cache (HF_HOME layout); empty is HF_HOME or the cache of the user.";
        "squilla.offline" Bool, "off", Superuser, "Never ask the model hub.";
        "squilla.model_memory_max" int(0, i64::MAX, Unit::Bytes), "8589934592", Postmaster, "Bytes of loaded models before the least used is dropped.";
        "squilla.device" Text, "auto", Postmaster, "Device of models that name none: auto, cpu, cuda:N.";
    }
    "Tables" {
        "squilla.snapshot" Text, "", User, "The version, time or tag that tables are read as of. Empty is now; else nothing can be written.";
        "squilla.version_retention" int(0, i64::MAX, Unit::S), "604800", Superuser, "How long VACUUM keeps old versions of tables.";
        "squilla.row_cache" int(0, i64::MAX, Unit::Bytes), "67108864", Postmaster, "Decoded columns and footers of tables' files that reads by key keep, at most an eighth of squilla.memory_limit; 0 keeps none.";
        "squilla.fault_point" Text, "", Postmaster, "The step of a commit at which the server dies; for tests. Empty is none.";
    }
    "Execution" {
        "squilla.image_output" Enum(&["placeholder", "png", "jpeg", "jsonb"]), "placeholder", User, "What a client sees of an image value.";
        "squilla.batch_rows" int(1, 1_000_000, Unit::None), "8192", User, "Rows of one batch of ordinary columns.";
        "squilla.pack_bytes" int(65_536, i64::MAX, Unit::Bytes), "33554432", User, "Bytes of media that one pack of rows may hold.";
        "squilla.packs_in_flight" int(0, 4096, Unit::None), "0", User, "Packs that one operator works on at a time; 0 is two a core.";
        "squilla.short_statements" Bool, "on", User, "Answer reads by key and statements without tables without a plan of operators.";
        "squilla.plan_cache" int(0, i64::MAX, Unit::Bytes), "1048576", User, "Texts of such statements that a session remembers with their plans, about; 0 remembers none.";
        "squilla.progress" Enum(&["off", "notice", "auto"]), "auto", User, "Progress messages of long statements.";
        "squilla.workers" Text, "", Postmaster, "Workers of a cluster; empty is this process alone.";
        "squilla.distributed" Enum(&["auto", "on", "off"]), "auto", User, "Whether statements run on the workers: where it is worth it, wherever they can, or never.";
        "squilla.cluster_statements" int(1, 1_000_000, Unit::None), "64", Superuser, "Statements that the workers work on at a time; others wait, roles in turn.";
        "squilla.cluster_queue" int(0, 1_000_000, Unit::None), "1024", Superuser, "Statements that may wait for that.";
        "squilla.plan_bytes_max" int(1, i64::MAX, Unit::Bytes), "67108864", Postmaster, "Bytes of a plan that a worker takes; statements with larger ones run in the server, or fail when they need a model.";
        "squilla.cluster_token_file" Text, "", Postmaster, "File with the secret that all processes of a cluster share.";
        "squilla.cluster_ca" Text, "", Postmaster, "Certificate authority (PEM) of a cluster.";
        "squilla.cluster_cert" Text, "", Postmaster, "Certificate (PEM) of this process towards the others of a cluster.";
        "squilla.cluster_key" Text, "", Postmaster, "Its private key (PEM).";
        "squilla.cluster_tls_name" Text, "", Postmaster, "Name in the workers' certificates; empty is the host of their address.";
        "squilla.resume" Text, "", User, "Name of a job: what statements under it have done on the workers is kept until it is committed, and not done again.";
        "squilla.lease_bytes" int(1, i64::MAX, Unit::Bytes), "67108864", User, "Bytes of files in one lease of a job, or of a statement that writes.";
        "squilla.task_bytes" int(1, i64::MAX, Unit::Bytes), "33554432", User, "Bytes of a scan that one more task on another worker is worth.";
        "squilla.model_labels" Text, "", User, "Labels that a worker must have to run models, name=value, comma separated.";
        "squilla.allowed_paths" Text, "", Postmaster, "Directories that roles other than superusers may read, comma separated.";
    }
}

/// The definition of a setting, whatever the case of its name.
pub fn find(name: &str) -> Option<&'static Setting> {
    // Every statement reads dozens of settings: a list is too slow.
    static BY_NAME: LazyLock<HashMap<String, &'static Setting>> =
        LazyLock::new(|| SETTINGS.iter().map(|s| (s.name.to_ascii_lowercase(), s)).collect());
    match BY_NAME.get(name) {
        Some(setting) => Some(setting),
        None if name.bytes().any(|b| b.is_ascii_uppercase()) => BY_NAME.get(&name.to_ascii_lowercase()).copied(),
        None => None,
    }
}

impl Setting {
    /// The canonical form of an input, or why it is refused (22023).
    pub fn check(&self, input: &str) -> Result<String> {
        let refuse = || Error::invalid_argument(format!("invalid value for parameter \"{}\": \"{input}\"", self.name));
        match self.kind {
            Bool => parse_bool(input)
                .map(|b| if b { "on" } else { "off" }.to_owned())
                .ok_or_else(|| Error::invalid_argument(format!("parameter \"{}\" requires a Boolean value", self.name))),
            SettingKind::Int { min, max, unit } => {
                let value = parse_int(input, unit).ok_or_else(refuse)?;
                if value < min || value > max {
                    return Err(Error::invalid_argument(format!(
                        "{value} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                        self.name
                    )));
                }
                Ok(value.to_string())
            }
            Real { min, max } => {
                let value: f64 = input.trim().parse().map_err(|_| refuse())?;
                if !(min..=max).contains(&value) {
                    return Err(Error::invalid_argument(format!(
                        "{value} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                        self.name
                    )));
                }
                Ok(value.to_string())
            }
            Enum(words) => match words.iter().find(|w| w.eq_ignore_ascii_case(input.trim())) {
                Some(word) => Ok((*word).to_owned()),
                // PostgreSQL takes every spelling of a truth value for an enum that has on and off.
                None => parse_bool(input)
                    .map(|b| if b { "on" } else { "off" })
                    .filter(|w| words.contains(w))
                    .map(str::to_owned)
                    .ok_or_else(|| refuse().hint(format!("Available values: {}.", words.join(", ")))),
            },
            Text => self.check_text(input).ok_or_else(refuse),
        }
    }

    fn check_text(&self, input: &str) -> Option<String> {
        match self.name {
            "client_encoding" => {
                let plain: String = input.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
                matches!(plain.as_str(), "UTF8" | "UNICODE" | "SQLASCII").then(|| "UTF8".to_owned())
            }
            "datestyle" => date_style(input),
            _ => Some(input.to_owned()),
        }
    }

    /// The value as SHOW prints it: with the largest unit that divides it.
    pub fn show(&self, canonical: &str) -> String {
        let SettingKind::Int { unit, .. } = self.kind else { return canonical.to_owned() };
        let Ok(value) = canonical.parse::<i64>() else { return canonical.to_owned() };
        let scale: &[(i64, &str)] = match unit {
            Unit::None => return canonical.to_owned(),
            Unit::Ms => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")],
            Unit::S => &[(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")],
            Unit::Bytes => &[(1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"), (1, "B")],
            Unit::Kb => &[(1 << 30, "TB"), (1 << 20, "GB"), (1 << 10, "MB"), (1, "kB")],
        };
        if value <= 0 {
            return value.to_string();
        }
        let (factor, name) = scale.iter().find(|(factor, _)| value % factor == 0).unwrap_or(&(1, ""));
        format!("{}{name}", value / factor)
    }
}

/// PostgreSQL's spellings of a Boolean.
pub fn parse_bool(input: &str) -> Option<bool> {
    let word = input.trim().to_ascii_lowercase();
    match word.as_str() {
        "1" | "on" => Some(true),
        "0" | "of" | "off" => Some(false),
        "" | "o" => None,
        w if "true".starts_with(w) || "yes".starts_with(w) => Some(true),
        w if "false".starts_with(w) || "no".starts_with(w) => Some(false),
        _ => None,
    }
}

/// A number of bytes as settings take it: `512MB`, `1.5 GB`, `4096`.
pub fn parse_bytes(input: &str) -> Option<u64> {
    parse_int(input, Unit::Bytes).and_then(|n| u64::try_from(n).ok())
}

/// The values of one session (or, at the root, of the server).
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Shared with all copies until one of them changes: every statement takes several.
    values: Arc<HashMap<&'static str, (String, Source)>>,
    /// Names with a dot that nobody defined: PostgreSQL keeps them as text.
    custom: Arc<HashMap<String, String>>,
    generation: u64,
}

/// Settings that no plan depends on and that change all the time.
fn passes(name: &str) -> bool {
    name.starts_with("transaction_") || name == "application_name"
}

fn next_generation() -> u64 {
    static GENERATIONS: AtomicU64 = AtomicU64::new(1);
    GENERATIONS.fetch_add(1, Ordering::Relaxed)
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Kind::UndefinedObject, format!("unrecognized configuration parameter \"{name}\""));
    match did_you_mean(name, SETTINGS.iter().map(|s| s.name)) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

impl Settings {
    /// The canonical value of a defined setting; empty for a name that is not in the list.
    pub fn get(&self, name: &str) -> &str {
        match find(name) {
            Some(setting) => self.values.get(setting.name).map_or(setting.default, |(value, _)| value.as_str()),
            None => self.custom.get(&name.to_ascii_lowercase()).map_or("", String::as_str),
        }
    }

    /// Settings of one generation have the same values, those of the transaction and application_name apart.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the value came from.
    pub fn source(&self, name: &str) -> Source {
        find(name).and_then(|s| self.values.get(s.name)).map_or(Source::Default, |(_, source)| *source)
    }

    /// The settings that somebody has given a value, with it.
    pub fn given(&self) -> impl Iterator<Item = (&'static Setting, &str)> {
        let given = self.values.iter().filter(|(_, (_, source))| *source != Source::Default);
        given.filter_map(|(name, (value, _))| Some((find(name)?, value.as_str())))
    }

    /// The value as SHOW prints it; 42704 for an unknown name.
    pub fn show(&self, name: &str) -> Result<String> {
        match find(name) {
            Some(setting) => Ok(setting.show(self.get(setting.name))),
            None => self.custom.get(&name.to_ascii_lowercase()).cloned().ok_or_else(|| unknown(name)),
        }
    }

    /// Sets a value; checks the name, who may change it, and the value. Returns the canonical name.
    pub fn set(&mut self, name: &str, value: &str, source: Source, superuser: bool) -> Result<String> {
        let Some(setting) = find(name) else {
            // A dotted name of somebody else is a placeholder, as in PostgreSQL; ours must exist.
            if name.contains('.') && !name.to_ascii_lowercase().starts_with("squilla.") {
                Arc::make_mut(&mut self.custom).insert(name.to_ascii_lowercase(), value.to_owned());
                self.generation = next_generation();
                return Ok(name.to_ascii_lowercase());
            }
            return Err(unknown(name));
        };
        if source >= Source::Client {
            let refuse = |why: &str| Err(Error::new(Kind::CannotChangeNow, format!("parameter \"{}\" {why}", setting.name)));
            match setting.context {
                Context::Internal => return refuse("cannot be changed"),
                Context::Postmaster => return refuse("cannot be changed without restarting the server"),
                Context::Superuser if !superuser => {
                    return Err(Error::new(Kind::InsufficientPrivilege, format!("permission denied to set parameter \"{}\"", setting.name)));
                }
                Context::Superuser | Context::User => {}
            }
        }
        let canonical = setting.check(value)?;
        if !passes(setting.name) && self.get(setting.name) != canonical {
            self.generation = next_generation();
        }
        Arc::make_mut(&mut self.values).insert(setting.name, (canonical, source));
        Ok(setting.name.to_owned())
    }

    /// Sets an internal value (is_superuser, session_authorization, ...), unchecked.
    pub fn set_internal(&mut self, name: &'static str, value: impl Into<String>) {
        self.generation = next_generation();
        Arc::make_mut(&mut self.values).insert(name, (value.into(), Source::Default));
    }

    /// Back to `base`'s value (RESET).
    pub fn reset(&mut self, name: &str, base: &Settings) -> Result<()> {
        self.generation = next_generation();
        match find(name) {
            Some(setting) => {
                match base.values.get(setting.name) {
                    Some(value) => Arc::make_mut(&mut self.values).insert(setting.name, value.clone()),
                    None => Arc::make_mut(&mut self.values).remove(setting.name),
                };
                Ok(())
            }
            None => Arc::make_mut(&mut self.custom).remove(&name.to_ascii_lowercase()).map(|_| ()).ok_or_else(|| unknown(name)),
        }
    }

    /// Whether a Boolean setting is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == "on"
    }

    /// An integer setting in its unit.
    pub fn int(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or(0)
    }

    /// A real setting.
    pub fn real(&self, name: &str) -> f64 {
        self.get(name).parse().unwrap_or(0.0)
    }

    /// A setting in milliseconds.
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(self.int(name).max(0) as u64)
    }

    /// The limits of a statement that starts now.
    pub fn limits(&self) -> Limits {
        let positive = |name: &str| self.int(name).max(1) as u64;
        Limits {
            file_bytes_max: positive("squilla.max_file_bytes"),
            image_pixels_max: positive("squilla.max_image_pixels"),
            video_frames_max: positive("squilla.max_video_frames"),
            audio_seconds_max: positive("squilla.max_audio_seconds"),
            pdf_pages_max: positive("squilla.max_pdf_pages"),
            row_timeout: self.duration("squilla.row_timeout"),
            scaled_decode: self.is_on("squilla.scaled_decode"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn defaults_pass_their_own_check_and_names_are_unique() {
        let mut names: Vec<_> = SETTINGS.iter().map(|s| s.name).collect();
        for s in SETTINGS {
            assert_eq!(s.check(s.default).unwrap(), s.default, "{}", s.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn units_are_read_and_shown() {
        let mut s = Settings::default();
        s.set("statement_timeout", "7s", Source::Session, true).unwrap();
        assert_eq!(s.int("statement_timeout"), 7000);
        assert_eq!(s.show("STATEMENT_TIMEOUT").unwrap(), "7s");
        assert_eq!(s.show("work_mem").unwrap(), "64MB");
        assert_eq!(s.set("work_mem", "-1GB", Source::Session, true).unwrap_err().sqlstate(), "22023");
        assert_eq!(s.set("nonsense", "1", Source::Session, true).unwrap_err().sqlstate(), "42704");
        assert_eq!(s.set("max_connections", "1", Source::Session, true).unwrap_err().sqlstate(), "55P02");
        s.set("myapp.user", "x", Source::Session, false).unwrap();
        assert_eq!(s.show("myapp.user").unwrap(), "x");
    }

    #[test]
    fn a_generation_is_of_one_set_of_values() {
        let mut s = Settings::default();
        let before = s.clone();
        s.set("transaction_read_only", "on", Source::Session, true).unwrap();
        s.set("timezone", "UTC", Source::Session, true).unwrap();
        assert_eq!(s.generation(), before.generation());
        s.set("timezone", "Europe/Berlin", Source::Session, true).unwrap();
        assert_ne!(s.generation(), before.generation());
    }
}
