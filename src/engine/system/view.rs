//! What system relations and catalog functions read: one consistent picture of the server, taken when a statement starts.
//!
//! In: the catalog, the functions, the settings and the sessions, as their owners hold them. Out: [`SystemView`].
//! Invariant: a view never changes, so that joins of several system relations in one statement agree with each other.
//! Deliberately absent: how the picture is taken (the session does that) and any lock.

use std::sync::Arc;

use squilla_core::settings::Settings;
use squilla_core::types::SqlType;

use crate::catalog::data::CatalogData;
use crate::session::advisory::Request;
use crate::system::objects::{Kept, RoleInfo, SchemaInfo, ServerInfo, TableCounters, TableInfo, Tables};
use crate::system::procs::Procs;
use crate::system::{oids, shapes};

/// One session of the server, for `pg_stat_activity`. Times are microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivityRow {
    /// Backend process id, as BackendKeyData names it.
    pub pid: i32,
    /// User name.
    pub user: String,
    /// application_name.
    pub application: String,
    /// Client address and port.
    pub client: Option<(String, u16)>,
    /// When the session began.
    pub backend_start: i64,
    /// When its transaction began.
    pub xact_start: Option<i64>,
    /// When its statement began.
    pub query_start: Option<i64>,
    /// When `state` changed.
    pub state_change: Option<i64>,
    /// active, idle, idle in transaction, ...
    pub state: String,
    /// Statement now or last.
    pub query: String,
    /// Query id.
    pub query_id: Option<i64>,
    /// How far the running statement is.
    pub progress: Option<crate::session::progress::Progress>,
}

/// One failed row, for `squilla.row_errors`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowErrorRow {
    /// Statement.
    pub query_id: i64,
    /// Function that failed.
    pub function: String,
    /// File or object, where the row has one.
    pub uri: Option<String>,
    /// SQLSTATE.
    pub sqlstate: String,
    /// Message.
    pub message: String,
    /// Microseconds since 1970.
    pub at: i64,
}

/// One registered model, for `squilla.models`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelRow {
    /// Name.
    pub name: String,
    /// Task.
    pub task: String,
    /// Where it comes from.
    pub source: String,
    /// Pinned digest.
    pub digest: Option<String>,
    /// Device.
    pub device: Option<String>,
    /// Built in, or created by a user.
    pub builtin: bool,
    /// Loaded now.
    pub loaded: bool,
    /// Options, `name=value`.
    pub options: Vec<String>,
    /// COMMENT ON MODEL.
    pub comment: Option<String>,
}

/// One prepared statement of the session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedRow {
    /// Name.
    pub name: String,
    /// Text.
    pub statement: String,
    /// Microseconds since 1970.
    pub prepared_at: i64,
    /// Types of the parameters.
    pub parameters: Vec<SqlType>,
    /// Made by PREPARE rather than by a Parse message.
    pub from_sql: bool,
}

/// One open cursor of the session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CursorRow {
    /// Name.
    pub name: String,
    /// Text.
    pub statement: String,
    /// WITH HOLD.
    pub holdable: bool,
    /// BINARY.
    pub binary: bool,
    /// SCROLL.
    pub scrollable: bool,
    /// Microseconds since 1970.
    pub created_at: i64,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionInfo {
    /// Backend process id.
    pub pid: i32,
    /// Who logged in.
    pub session_user: String,
    /// SET ROLE, or who logged in.
    pub current_user: String,
    /// Whether the current role is a superuser.
    pub superuser: bool,
    /// Database name.
    pub database: String,
    /// Client address and port.
    pub client: Option<(String, u16)>,
    /// Server address and port.
    pub server: Option<(String, u16)>,
    /// When the server started, microseconds since 1970.
    pub server_start: i64,
    /// When the settings were loaded, microseconds since 1970.
    pub config_load: i64,
    /// Number of the transaction.
    pub transaction: i64,
    /// A number that grows with every change of the catalog.
    pub catalog_version: u64,
}

impl Default for SessionInfo {
    fn default() -> Self {
        Self {
            pid: 1,
            session_user: "squilla".into(),
            current_user: "squilla".into(),
            superuser: true,
            database: "squilla".into(),
            client: None,
            server: None,
            server_start: 0,
            config_load: 0,
            transaction: 1,
            catalog_version: 1,
        }
    }
}

/// What a function of SQL asks the session to do.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Takes an advisory lock, waiting for it.
    Lock(Request),
    /// Takes an advisory lock if nobody is in the way.
    TryLock(Request),
    /// Gives an advisory lock back.
    Unlock(Request),
    /// Gives all advisory locks of the session back.
    UnlockAll,
    /// NOTIFY: channel and payload.
    Notify(&'a str, &'a str),
}

/// One lock that is held or waited for, for `pg_locks`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockRow {
    /// Backend that holds it or waits.
    pub pid: i32,
    /// Relation, for a lock on one.
    pub relation: Option<u32>,
    /// Key of an advisory lock.
    pub advisory: Option<i64>,
    /// Mode: AccessShareLock, ...
    pub mode: String,
    /// Held rather than waited for.
    pub granted: bool,
}

/// One COPY that runs, for `pg_stat_progress_copy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyProgress {
    /// Backend.
    pub pid: i32,
    /// Table; 0 for COPY (query).
    pub relation: u32,
    /// COPY FROM rather than COPY TO.
    pub from: bool,
    /// FILE, PIPE, ...
    pub kind: &'static str,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all, where known.
    pub bytes_total: u64,
    /// Rows so far.
    pub rows: u64,
}

/// What changes all the time: asked for when a relation is read, not when a picture is taken.
pub trait Live: Send + Sync + std::fmt::Debug {
    /// Models.
    fn models(&self) -> Vec<ModelRow> {
        Vec::new()
    }
    /// Sessions of the server.
    fn activity(&self) -> Vec<ActivityRow> {
        Vec::new()
    }
    /// Rows that failed.
    fn row_errors(&self) -> Vec<RowErrorRow> {
        Vec::new()
    }
    /// The value that a sequence gives next; None for one that was never asked.
    fn sequence_next(&self, _oid: u32) -> Option<i64> {
        None
    }
    /// Workers of the cluster.
    fn workers(&self) -> Vec<crate::run::WorkerRow> {
        Vec::new()
    }
    /// What stages moved between them.
    fn shuffles(&self) -> Vec<crate::run::ShuffleRow> {
        Vec::new()
    }
    /// Prepared statements of the session.
    fn prepared(&self) -> Vec<PreparedRow> {
        Vec::new()
    }
    /// Cursors of the session.
    fn cursors(&self) -> Vec<CursorRow> {
        Vec::new()
    }
    /// Locks.
    fn locks(&self) -> Vec<LockRow> {
        Vec::new()
    }
    /// COPY statements that run.
    fn copies(&self) -> Vec<CopyProgress> {
        Vec::new()
    }
    /// Counters of a table, where somebody counts.
    fn counters(&self, _table: u32) -> Option<TableCounters> {
        None
    }
}

/// A server where nothing happens.
#[derive(Debug)]
pub struct Idle;

impl Live for Idle {}

/// The picture.
#[derive(Clone, Debug)]
pub struct SystemView {
    /// Who asks.
    pub session: SessionInfo,
    /// Settings of the session.
    pub settings: Arc<Settings>,
    /// User schemas, `public` among them.
    pub schemas: Arc<Vec<SchemaInfo>>,
    /// User relations.
    pub tables: Arc<Tables>,
    /// Roles, membership and privileges as the catalog has them.
    pub catalog: Arc<CatalogData>,
    /// Roles.
    pub roles: Arc<Vec<RoleInfo>>,
    /// Servers of object stores.
    pub servers: Arc<Vec<ServerInfo>>,
    /// Comments on objects that have no entry of their own.
    pub comments: Arc<std::collections::BTreeMap<String, String>>,
    /// Rows that follow from the catalog alone, made before.
    pub kept: Arc<Kept>,
    /// Every function there is.
    pub procs: Arc<Procs>,
    /// What changes all the time.
    pub live: Arc<dyn Live>,
}

impl Default for SystemView {
    fn default() -> Self {
        Self {
            session: SessionInfo::default(),
            settings: Arc::default(),
            schemas: Arc::default(),
            tables: Arc::default(),
            roles: Arc::default(),
            servers: Arc::default(),
            comments: Arc::default(),
            catalog: Arc::default(),
            kept: Arc::default(),
            procs: Arc::default(),
            live: Arc::new(Idle),
        }
    }
}

/// Gives the picture of now to whoever evaluates a catalog function or scans a system relation.
pub trait ViewSource: Send + Sync + std::fmt::Debug {
    /// The picture; cheap when nothing changed.
    fn view(&self) -> Arc<SystemView>;

    /// Changes a setting of the session (`set_config`); the value that holds now.
    fn set_config(&self, name: &str, value: &str, local: bool) -> squilla_core::error::Result<String>;

    /// Does what a function asks; whether it was done. Without a session nothing can be.
    fn act(&self, action: Action<'_>) -> squilla_core::error::Result<bool> {
        Err(squilla_core::error::Error::internal(format!("no session for {action:?}")))
    }
}

impl SystemView {
    /// Names of the schemas in which unqualified names are looked up, in order; the system schemas are always among them.
    pub fn search_path(&self, implicit: bool) -> Vec<String> {
        let mut path = Vec::new();
        if implicit {
            path.extend([oids::CATALOG_SCHEMA, oids::OWN_SCHEMA].map(str::to_owned));
        }
        for item in self.settings.get("search_path").split(',') {
            let item = item.trim();
            let own = item.trim_matches('"') == "$user";
            let name = match item.strip_prefix('"').and_then(|i| i.strip_suffix('"')) {
                _ if own => self.session.current_user.clone(),
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => item.to_lowercase(),
            };
            // The superuser is called as our own schema is: that does not make it the place for new objects.
            if self.schema_oid(&name).is_some() && !path.contains(&name) && !(own && name == oids::OWN_SCHEMA) {
                path.push(name);
            }
        }
        path
    }

    /// OID of a schema, system schemas included.
    pub fn schema_oid(&self, name: &str) -> Option<u32> {
        oids::SYSTEM_SCHEMAS
            .iter()
            .find(|(n, _, _)| *n == name)
            .map(|(_, oid, _)| *oid)
            .or_else(|| self.schemas.iter().find(|s| s.name == name).map(|s| s.oid))
    }

    /// Name of a schema.
    pub fn schema_name(&self, oid: u32) -> Option<&str> {
        let system = oids::SYSTEM_SCHEMAS.iter().find(|(_, o, _)| *o == oid).map(|(name, _, _)| *name);
        system.or_else(|| self.schemas.iter().find(|s| s.oid == oid).map(|s| s.name.as_str()))
    }

    /// OID of a role; 0 when there is none.
    pub fn role_oid(&self, name: &str) -> u32 {
        self.roles.iter().find(|r| r.name == name).map_or(0, |r| r.oid)
    }

    /// Schema and name of a relation, system relations and indexes included.
    pub fn relation_name(&self, oid: u32) -> Option<(&str, &str)> {
        if let Some(t) = self.tables.by_oid(oid) {
            return Some((&t.schema, &t.name));
        }
        if let Some((t, index)) = self.tables.index(oid) {
            return Some((&t.schema, &index.name));
        }
        shapes::by_oid(oid).map(|s| (s.schema, s.name))
    }

    /// The user relation of this OID.
    pub fn table(&self, oid: u32) -> Option<&TableInfo> {
        self.tables.by_oid(oid)
    }

    /// OID of a relation or index in one schema.
    pub fn relation_in(&self, schema: &str, name: &str) -> Option<u32> {
        let user = self.tables.by_name(schema, name).map(|t| t.oid);
        let index = || self.tables.indexes().find(|(t, i)| i.name == name && t.schema == schema).map(|(_, i)| i.oid);
        user.or_else(|| shapes::find(schema, name).map(|s| s.oid)).or_else(index)
    }

    /// OID of a relation by a name that may lack its schema.
    pub fn relation_oid(&self, schema: Option<&str>, name: &str) -> Option<u32> {
        match schema {
            Some(schema) => self.relation_in(schema, name),
            None => self.search_path(true).iter().find_map(|schema| self.relation_in(schema, name)),
        }
    }

    /// Whether an unqualified use of this relation's name means this relation.
    pub fn relation_visible(&self, oid: u32) -> Option<bool> {
        let (_, name) = self.relation_name(oid)?;
        Some(self.relation_oid(None, name) == Some(oid))
    }
}
