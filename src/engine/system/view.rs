//! What system relations and catalog functions read: one consistent picture of the server, taken when a statement starts.
//!
//! In: the catalog, the functions, the settings and the sessions, as their owners hold them. Out: [`SystemView`].
//! Invariant: a view never changes, so that joins of several system relations in one statement agree with each other.
//! Deliberately absent: how the picture is taken (the session does that) and any lock.

use std::sync::Arc;

use squilla_core::settings::Settings;
use squilla_core::types::SqlType;

use crate::system::procs::Proc;
use crate::system::{oids, shapes};

/// One column of a user relation.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: SqlType,
    /// NOT NULL.
    pub not_null: bool,
    /// Default expression as SQL.
    pub default: Option<String>,
    /// COMMENT ON COLUMN.
    pub comment: Option<String>,
}

/// What kind of relation a user relation is.
#[derive(Clone, Debug, PartialEq)]
pub enum TableKind {
    /// A managed table.
    Table,
    /// A view and its defining query.
    View {
        /// The query.
        sql: String,
    },
    /// An external table: files somewhere else.
    External {
        /// parquet, csv, json, ...
        format: String,
        /// Path or URL.
        location: String,
    },
}

/// One user relation.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInfo {
    /// OID, stable for the life of the relation.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Owner's role name.
    pub owner: String,
    /// COMMENT ON TABLE.
    pub comment: Option<String>,
    /// Columns in order.
    pub columns: Vec<ColumnInfo>,
    /// Kind.
    pub kind: TableKind,
    /// Bytes of its files, where known.
    pub bytes: Option<u64>,
    /// Number of rows, where known.
    pub rows: Option<u64>,
}

/// One schema of the user.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaInfo {
    /// OID.
    pub oid: u32,
    /// Name.
    pub name: String,
    /// Owner's role name.
    pub owner: String,
    /// COMMENT ON SCHEMA.
    pub comment: Option<String>,
}

/// One server of CREATE SERVER.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerInfo {
    /// OID.
    pub oid: u32,
    /// Name.
    pub name: String,
    /// Role that owns it.
    pub owner: String,
    /// Name of the wrapper.
    pub wrapper: String,
    /// `name=value`.
    pub options: Vec<String>,
    /// OID of the user mapping for PUBLIC.
    pub mapping: Option<u32>,
}

/// One role.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleInfo {
    /// OID.
    pub oid: u32,
    /// Name.
    pub name: String,
    /// Superuser.
    pub superuser: bool,
    /// May log in.
    pub login: bool,
    /// May create roles.
    pub create_role: bool,
    /// May create databases.
    pub create_db: bool,
    /// Most connections, -1 is no limit.
    pub connection_limit: i32,
    /// Has a password.
    pub has_password: bool,
    /// Roles it is a member of.
    pub member_of: Vec<String>,
    /// COMMENT ON ROLE.
    pub comment: Option<String>,
}

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
        }
    }
}

/// The picture.
#[derive(Clone, Debug, Default)]
pub struct SystemView {
    /// Who asks.
    pub session: SessionInfo,
    /// Settings of the session.
    pub settings: Arc<Settings>,
    /// User schemas, `public` among them.
    pub schemas: Arc<Vec<SchemaInfo>>,
    /// User relations.
    pub tables: Arc<Vec<TableInfo>>,
    /// Roles.
    pub roles: Arc<Vec<RoleInfo>>,
    /// Servers of object stores.
    pub servers: Arc<Vec<ServerInfo>>,
    /// Every function there is.
    pub procs: Arc<Vec<Proc>>,
    /// Models.
    pub models: Arc<Vec<ModelRow>>,
    /// Sessions of the server.
    pub activity: Vec<ActivityRow>,
    /// Rows that failed.
    pub row_errors: Vec<RowErrorRow>,
    /// Prepared statements of the session.
    pub prepared: Vec<PreparedRow>,
    /// Cursors of the session.
    pub cursors: Vec<CursorRow>,
    /// Workers of the cluster.
    pub workers: Vec<crate::run::WorkerRow>,
    /// What stages moved between them.
    pub shuffles: Vec<crate::run::ShuffleRow>,
}

/// Gives the picture of now to whoever evaluates a catalog function or scans a system relation.
pub trait ViewSource: Send + Sync + std::fmt::Debug {
    /// The picture; cheap when nothing changed.
    fn view(&self) -> Arc<SystemView>;

    /// Changes a setting of the session (`set_config`); the value that holds now.
    fn set_config(&self, name: &str, value: &str, local: bool) -> squilla_core::error::Result<String>;
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

    /// Schema and name of a relation, system relations included.
    pub fn relation_name(&self, oid: u32) -> Option<(&str, &str)> {
        let user = self.tables.iter().find(|t| t.oid == oid).map(|t| (t.schema.as_str(), t.name.as_str()));
        user.or_else(|| shapes::all().find(|s| s.oid == oid).map(|s| (s.schema, s.name)))
    }

    /// The user relation of this OID.
    pub fn table(&self, oid: u32) -> Option<&TableInfo> {
        self.tables.iter().find(|t| t.oid == oid)
    }

    /// OID of a relation in one schema.
    pub fn relation_in(&self, schema: &str, name: &str) -> Option<u32> {
        let user = self.tables.iter().find(|t| t.schema == schema && t.name == name).map(|t| t.oid);
        user.or_else(|| shapes::find(schema, name).map(|s| s.oid))
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
