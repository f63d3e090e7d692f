//! The picture of the server that system relations and catalog functions of a session read.
//!
//! In: catalog, functions, sessions, models, row errors. Out: a `SystemView`. Invariant: what costs more than a few
//! microseconds to make is kept until the catalog changes.

use std::sync::{Arc, Weak};

use datafusion::catalog::TableProvider;
use squilla_core::error::{Error, Result};
use squilla_core::settings::Settings;

use crate::catalog::data::{CatalogData, RelationKind, ServerEntry};
use crate::database::Database;
use crate::session::relations::OtherRelations;
use crate::session::{Session, SessionShared};
use crate::system::table::SystemTable;
use crate::system::view::{
    ActivityRow, ColumnInfo, ModelRow, PreparedRow, RoleInfo, RowErrorRow, SchemaInfo, ServerInfo, SessionInfo, SystemView, TableInfo, TableKind,
    ViewSource,
};

/// The view source of one session. Weak: functions registered in a state must not keep the session alive.
pub struct SessionView(pub Weak<Session>);

impl std::fmt::Debug for SessionView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionView")
    }
}

impl ViewSource for SessionView {
    fn view(&self) -> Arc<SystemView> {
        self.0.upgrade().map(|session| Arc::new(picture(&session))).unwrap_or_default()
    }

    fn set_config(&self, name: &str, value: &str, local: bool) -> Result<String> {
        let session = self.0.upgrade().ok_or_else(|| Error::internal("the session has ended"))?;
        session.set(name, value, local)?;
        session.settings().show(name)
    }
}

impl OtherRelations for SessionView {
    fn system(&self, schema: &str, name: &str) -> Option<Arc<dyn TableProvider>> {
        let source: Arc<dyn ViewSource> = Arc::new(SessionView(Weak::clone(&self.0)));
        SystemTable::new(schema, name, source).map(|t| Arc::new(t) as _)
    }
}

fn picture(session: &Session) -> SystemView {
    let database = &session.database;
    let data = session.snapshot();
    let inner = session.inner.lock();
    let settings: Arc<Settings> = Arc::new(inner.settings.clone());
    let prepared = inner.prepared.iter().map(|(name, p)| PreparedRow {
        name: name.clone(),
        statement: p.statement.text.to_string(),
        prepared_at: 0,
        parameters: p.parameter_types().to_vec(),
        from_sql: true,
    });
    let prepared = prepared.collect();
    drop(inner);
    let client = session.shared.client_addr.map(|a| (a.ip().to_string(), a.port()));
    SystemView {
        session: SessionInfo {
            pid: session.shared.pid,
            session_user: session.shared.user.clone(),
            current_user: session.shared.user.clone(),
            superuser: session.superuser,
            client,
            server_start: database.started_us,
            config_load: database.started_us,
            ..SessionInfo::default()
        },
        settings,
        schemas: Arc::new(schemas(&data)),
        tables: Arc::new(tables(&data)),
        roles: Arc::new(roles(&data)),
        servers: Arc::new(servers(&data)),
        procs: database.procs(),
        models: Arc::new(models(database)),
        activity: database.sessions().iter().map(activity).collect(),
        row_errors: database
            .row_errors
            .entries()
            .into_iter()
            .map(|e| RowErrorRow {
                query_id: e.query_id,
                function: e.function,
                uri: e.uri,
                sqlstate: e.sqlstate.to_owned(),
                message: e.message,
                at: e.at_us,
            })
            .collect(),
        prepared,
        cursors: Vec::new(),
        workers: database.runner.workers(),
        shuffles: database.runner.shuffles(),
    }
}

fn schemas(data: &CatalogData) -> Vec<SchemaInfo> {
    data.schemas.iter().map(|(name, s)| SchemaInfo { oid: s.oid, name: name.clone(), owner: s.owner.clone(), comment: s.comment.clone() }).collect()
}

fn tables(data: &CatalogData) -> Vec<TableInfo> {
    let mut all = Vec::new();
    for (schema, entry) in &data.schemas {
        for (name, relation) in &entry.relations {
            let columns = relation.columns.iter().map(|c| ColumnInfo {
                name: c.name.clone(),
                ty: c.sql_type().unwrap_or(squilla_core::types::SqlType::Text),
                not_null: c.not_null,
                default: c.default.clone(),
                comment: c.comment.clone(),
            });
            let (kind, bytes, rows) = match &relation.kind {
                RelationKind::Table { files, .. } => (TableKind::Table, Some(files.bytes()), Some(files.live_rows())),
                RelationKind::Sequence(_) => continue,
                RelationKind::View { sql, .. } => (TableKind::View { sql: sql.clone() }, None, None),
                RelationKind::External { format, location, .. } => {
                    (TableKind::External { format: format.clone(), location: location.clone() }, None, None)
                }
            };
            all.push(TableInfo {
                oid: relation.oid,
                schema: schema.clone(),
                name: name.clone(),
                owner: relation.owner.clone(),
                comment: relation.comment.clone(),
                columns: columns.collect(),
                kind,
                bytes,
                rows,
            });
        }
    }
    all
}

fn servers(data: &CatalogData) -> Vec<ServerInfo> {
    let server = |(name, s): (&String, &ServerEntry)| ServerInfo {
        oid: s.oid,
        name: name.clone(),
        owner: s.owner.clone(),
        wrapper: s.wrapper.clone(),
        options: s.options.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        mapping: s.mapping.as_ref().map(|m| m.oid),
    };
    data.servers.iter().map(server).collect()
}

fn roles(data: &CatalogData) -> Vec<RoleInfo> {
    data.roles
        .iter()
        .map(|(name, r)| RoleInfo {
            oid: r.oid,
            name: name.clone(),
            superuser: r.superuser,
            login: r.login,
            create_role: r.superuser,
            create_db: false,
            connection_limit: -1,
            has_password: r.scram_verifier.is_some(),
            member_of: Vec::new(),
            comment: None,
        })
        .collect()
}

fn models(database: &Arc<Database>) -> Vec<ModelRow> {
    let created = database.catalog.snapshot();
    let is_created = |name: &str| created.models.iter().any(|m| m.get("name").and_then(|n| n.as_str()) == Some(name));
    database
        .models
        .registry()
        .list()
        .into_iter()
        .map(|m| {
            let option = |name: &str, value: Option<String>| value.map(|v| format!("{name}={v}"));
            let options = [
                option("format", m.format),
                option("file", m.file),
                option("max_batch", m.max_batch.map(|n| n.to_string())),
                option("instances", m.instances.map(|n| n.to_string())),
                option("tokenizer", m.tokenizer),
            ];
            ModelRow {
                builtin: !is_created(&m.name),
                name: m.name,
                task: m.task.map(|t| t.to_string()).unwrap_or_default(),
                source: m.source,
                digest: m.sha256,
                device: m.device,
                loaded: false,
                options: options.into_iter().flatten().collect(),
                comment: m.comment,
            }
        })
        .collect()
}

fn activity(session: &Arc<SessionShared>) -> ActivityRow {
    let now = session.activity();
    let started = (now.query_start_us > 0).then_some(now.query_start_us);
    ActivityRow {
        pid: session.pid,
        user: session.user.clone(),
        application: now.application_name.clone(),
        client: session.client_addr.map(|a| (a.ip().to_string(), a.port())),
        backend_start: session.started_us,
        xact_start: (now.state != "idle").then_some(started).flatten(),
        query_start: started,
        state_change: started,
        state: now.state.to_owned(),
        query: now.query.clone(),
        query_id: (now.query_id != 0).then_some(now.query_id),
    }
}
