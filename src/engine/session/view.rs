//! The picture of the server that system relations and catalog functions of a session read.
//!
//! In: catalog, functions, sessions, models, row errors. Out: a `SystemView`. Invariant: what costs more than a few
//! microseconds to make is kept until the catalog changes.

use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::MemTable;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Settings;
use squilla_core::types::SqlType;

use crate::catalog::data::SequenceEntry;
use crate::database::Database;
use crate::error::{from_arrow, from_datafusion};
use crate::run::{ShuffleRow, WorkerRow};
use crate::session::cursor::Cursor;
use crate::session::relations::OtherRelations;
use crate::session::shared::SessionShared;
use crate::session::{NamedStatement, Notice, Session};
use crate::system::table::SystemTable;
use crate::system::view::{Action, ActivityRow, CursorRow, Live, ModelRow, PreparedRow, RowErrorRow, SessionInfo, SystemView, ViewSource};

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

    fn act(&self, action: Action<'_>) -> Result<bool> {
        let session = self.0.upgrade().ok_or_else(|| Error::internal("the session has ended"))?;
        let (locks, pid) = (&session.database.advisory, session.shared.pid);
        match action {
            Action::Lock(request) => session.advisory_lock(request).map(|()| true),
            Action::TryLock(request) => Ok(locks.try_lock(pid, request)),
            Action::Unlock(request) => {
                let held = locks.unlock(pid, request.key, request.shared);
                if !held {
                    let sort = if request.shared { "ShareLock" } else { "ExclusiveLock" };
                    let error = Error::new(Kind::Internal, format!("you don't own a lock of type {sort}"));
                    session.notify(Notice::warning("01000", error));
                }
                Ok(held)
            }
            Action::UnlockAll => {
                locks.unlock_all(pid);
                Ok(true)
            }
            Action::Notify(channel, payload) => session.send_notification(channel, payload).map(|()| true),
        }
    }
}

/// `pg_listening_channels()` of one session.
#[derive(Debug)]
pub struct ListeningChannels(pub SessionView);

impl TableFunctionImpl for ListeningChannels {
    fn call_with_args(&self, _: TableFunctionArgs) -> DfResult<Arc<dyn TableProvider>> {
        let channels = self.0.0.upgrade().map(|s| s.database.channels.of(s.shared.pid)).unwrap_or_default();
        let column = Arc::new(StringArray::from(channels)) as ArrayRef;
        let schema = Arc::new(Schema::new(vec![SqlType::Text.field("pg_listening_channels")]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}

impl OtherRelations for SessionView {
    fn system(&self, schema: &str, name: &str) -> Option<Arc<dyn TableProvider>> {
        let source: Arc<dyn ViewSource> = Arc::new(SessionView(Weak::clone(&self.0)));
        SystemTable::new(schema, name, source).map(|t| Arc::new(t) as _)
    }

    fn sequence(&self, oid: u32, sequence: &SequenceEntry) -> Result<Arc<dyn TableProvider>> {
        let next = self.0.upgrade().and_then(|s| s.database.catalog.position(oid));
        let last = next.map_or(sequence.start, |next| next.saturating_sub(sequence.increment));
        // A sequence that was set to its start and not asked since has not been called either.
        let called = next.is_some_and(|next| next != sequence.start);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![if called { last } else { sequence.start }])),
            Arc::new(Int64Array::from(vec![0])),
            Arc::new(BooleanArray::from(vec![called])),
        ];
        let fields = [("last_value", SqlType::Int8), ("log_cnt", SqlType::Int8), ("is_called", SqlType::Bool)];
        let schema = Arc::new(Schema::new(fields.map(|(name, ty)| ty.field(name)).to_vec()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(from_arrow)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]]).map_err(from_datafusion)?))
    }
}

/// What the picture of a session reads when it is asked: it may be asked after the session has ended.
#[derive(Clone)]
struct Now(Weak<Session>);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

impl Now {
    fn list<T>(&self, make: impl FnOnce(&Arc<Session>) -> Vec<T>) -> Vec<T> {
        self.0.upgrade().map(|session| make(&session)).unwrap_or_default()
    }
}

impl Live for Now {
    fn models(&self) -> Vec<ModelRow> {
        self.list(|session| models(&session.database))
    }

    fn activity(&self) -> Vec<ActivityRow> {
        self.list(|session| session.database.sessions().iter().map(activity).collect())
    }

    fn row_errors(&self) -> Vec<RowErrorRow> {
        self.list(|session| {
            let row = |e: crate::exec::row_errors::RowError| RowErrorRow {
                query_id: e.query_id,
                function: e.function,
                uri: e.uri,
                sqlstate: e.sqlstate.to_owned(),
                message: e.message,
                at: e.at_us,
            };
            session.database.row_errors.entries().into_iter().map(row).collect()
        })
    }

    fn sequence_next(&self, oid: u32) -> Option<i64> {
        self.0.upgrade().and_then(|session| session.database.catalog.position(oid))
    }

    fn workers(&self) -> Vec<WorkerRow> {
        self.list(|session| session.database.runner.workers())
    }

    fn shuffles(&self) -> Vec<ShuffleRow> {
        self.list(|session| session.database.runner.shuffles())
    }

    fn prepared(&self) -> Vec<PreparedRow> {
        self.list(|session| {
            let inner = session.inner.lock();
            let row = |(name, named): (&String, &NamedStatement)| PreparedRow {
                name: name.clone(),
                statement: named.text.to_string(),
                prepared_at: named.prepared_us,
                parameters: named.prepared.parameter_types().to_vec(),
                from_sql: named.from_sql,
            };
            inner.prepared.iter().map(row).collect()
        })
    }

    fn cursors(&self) -> Vec<CursorRow> {
        self.list(|session| {
            let inner = session.inner.lock();
            let row = |(name, cursor): (&String, &Cursor)| CursorRow {
                name: name.clone(),
                statement: cursor.text.to_string(),
                holdable: cursor.hold,
                binary: cursor.binary,
                scrollable: cursor.scroll,
                created_at: cursor.created_us,
            };
            inner.cursors.iter().map(row).collect()
        })
    }
}

fn picture(session: &Arc<Session>) -> SystemView {
    let database = &session.database;
    let data = session.snapshot();
    let objects = database.objects(&data);
    let inner = session.inner.lock();
    let settings: Arc<Settings> = Arc::new(inner.settings.clone());
    let identity = inner.identity.clone();
    drop(inner);
    let client = session.shared.client_addr.map(|a| (a.ip().to_string(), a.port()));
    SystemView {
        session: SessionInfo {
            pid: session.shared.pid,
            session_user: identity.session_user.clone(),
            current_user: identity.current().to_owned(),
            superuser: session.superuser(),
            client,
            server_start: database.started_us,
            config_load: database.started_us,
            catalog_version: data.stamp,
            ..SessionInfo::default()
        },
        settings,
        schemas: Arc::clone(&objects.schemas),
        tables: Arc::clone(&objects.tables),
        roles: Arc::clone(&objects.roles),
        servers: Arc::clone(&objects.servers),
        comments: Arc::clone(&objects.comments),
        catalog: Arc::clone(&data),
        kept: Arc::clone(&objects.kept),
        procs: Arc::clone(&objects.procs),
        live: Arc::new(Now(Arc::downgrade(session))),
    }
}

fn models(database: &Arc<Database>) -> Vec<ModelRow> {
    let created = database.catalog.snapshot();
    let used = database.models.stats();
    let is_created = |name: &str| created.models.iter().any(|m| m.get("name").and_then(|n| n.as_str()) == Some(name));
    database
        .models
        .registry()
        .list()
        .into_iter()
        .map(|m| {
            let option = |name: &str, value: Option<String>| value.map(|v| format!("{name}={v}"));
            let kept = format!("model {}", m.name);
            let options = [
                option("format", m.format),
                option("file", m.file),
                option("max_batch", m.max_batch.map(|n| n.to_string())),
                option("instances", m.instances.map(|n| n.to_string())),
                option("tokenizer", m.tokenizer),
            ];
            let loaded = used.iter().any(|s| s.loaded && s.name == m.name);
            // The digest is known once the files were read.
            let digest = m.sha256.or_else(|| used.iter().find(|s| s.name == m.name).map(|s| s.digest.clone()));
            let digest = digest.or_else(|| database.models.digest(&m.name));
            ModelRow {
                builtin: !is_created(&m.name),
                name: m.name,
                task: m.task.map(|t| t.to_string()).unwrap_or_default(),
                source: m.source,
                digest,
                device: m.device,
                loaded,
                options: options.into_iter().flatten().collect(),
                comment: created.comments.get(&kept).filter(|text| !text.is_empty()).cloned().or(m.comment),
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
        progress: session.progress(),
    }
}
