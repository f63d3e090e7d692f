//! What the server is doing: sessions, statements, cursors, and the sizes of tables.
//!
//! In: activity of the view. Out: rows. Invariant: a counter that nobody counts is NULL, never a made-up zero.
//! Deliberately absent: counters of pages and tuples; there are none here.

use squilla_core::error::Result;

use crate::system::objects::{TableInfo, TableKind};
use crate::system::oids;
use crate::system::relation::Rows;
use crate::system::view::SystemView;

/// Fills `pg_stat_activity`. A role that is no superuser sees the statements of its own sessions only.
pub fn pg_stat_activity(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for a in view.live.activity() {
        let mine = view.session.superuser || a.user == view.session.current_user;
        let query = if mine { a.query.as_str() } else { "<insufficient privilege>" };
        rows.push([
            ("datid", oids::DATABASE_OID.into()),
            ("datname", (&view.session.database).into()),
            ("pid", a.pid.into()),
            ("usesysid", view.role_oid(&a.user).into()),
            ("usename", (&a.user).into()),
            ("application_name", (&a.application).into()),
            ("client_addr", a.client.as_ref().filter(|_| mine).map(|(address, _)| address.as_str()).into()),
            ("client_port", a.client.as_ref().filter(|_| mine).map(|(_, port)| i32::from(*port)).into()),
            ("backend_start", a.backend_start.into()),
            ("xact_start", a.xact_start.into()),
            ("query_start", a.query_start.into()),
            ("state_change", a.state_change.into()),
            ("wait_event_type", (a.state != "active").then_some("Client").into()),
            ("wait_event", (a.state != "active").then_some("ClientRead").into()),
            ("state", a.state.as_str().into()),
            ("query_id", a.query_id.into()),
            ("query", query.into()),
            ("backend_type", "client backend".into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_stat_progress_query`: one row a running statement. A role that is no superuser sees those of its own sessions.
pub fn pg_stat_progress_query(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for a in view.live.activity().into_iter().filter(|a| view.session.superuser || a.user == view.session.current_user) {
        let Some(progress) = &a.progress else { continue };
        rows.push([
            ("pid", a.pid.into()),
            ("datid", oids::DATABASE_OID.into()),
            ("datname", (&view.session.database).into()),
            ("usename", (&a.user).into()),
            ("query_id", a.query_id.into()),
            ("operator", (&progress.operator).into()),
            ("rows", progress.rows.into()),
            ("bytes", progress.bytes.into()),
            ("errors", progress.errors.into()),
            ("model_items", progress.model_items.into()),
            ("percent", progress.done.map(|done| done * 100.0).into()),
            ("elapsed_s", progress.elapsed.as_secs_f64().into()),
            ("left_s", progress.left_s().into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_stat_ssl`.
pub fn pg_stat_ssl(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for a in view.live.activity() {
        rows.push([("pid", a.pid.into())]);
    }
    Ok(())
}

/// Fills `pg_stat_database`.
pub fn pg_stat_database(view: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("datid", oids::DATABASE_OID.into()),
        ("datname", (&view.session.database).into()),
        ("numbackends", view.live.activity().len().into()),
    ]);
    Ok(())
}

fn counted(view: &SystemView, rows: &mut Rows, t: &TableInfo) {
    let counters = view.live.counters(t.oid);
    rows.push([
        ("relid", t.oid.into()),
        ("schemaname", (&t.schema).into()),
        ("relname", (&t.name).into()),
        ("seq_scan", counters.map(|c| c.scans).into()),
        ("seq_tup_read", counters.map(|c| c.rows_read).into()),
        ("n_tup_ins", counters.map(|c| c.inserted).into()),
        ("n_tup_upd", counters.map(|c| c.updated).into()),
        ("n_tup_del", counters.map(|c| c.deleted).into()),
        ("n_live_tup", t.rows.into()),
        ("n_dead_tup", 0.into()),
    ]);
}

/// Fills `pg_stat_user_tables` and `pg_stat_all_tables`.
pub fn pg_stat_user_tables(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let stored = |t: &&TableInfo| matches!(t.kind, TableKind::Table | TableKind::Materialized { .. });
    view.tables.iter().filter(stored).for_each(|t| counted(view, rows, t));
    Ok(())
}

/// Fills `pg_stat_user_indexes` and `pg_stat_all_indexes`.
pub fn pg_stat_user_indexes(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, i) in view.tables.indexes() {
        rows.push([
            ("relid", t.oid.into()),
            ("indexrelid", i.oid.into()),
            ("schemaname", (&t.schema).into()),
            ("relname", (&t.name).into()),
            ("indexrelname", (&i.name).into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_statio_user_tables` and `pg_statio_all_tables`: which tables there are; pages are not counted here.
pub fn pg_statio_user_tables(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter().filter(|t| t.is_table()) {
        rows.push([("relid", t.oid.into()), ("schemaname", (&t.schema).into()), ("relname", (&t.name).into())]);
    }
    Ok(())
}

/// Fills `pg_prepared_statements`.
pub fn pg_prepared_statements(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for p in view.live.prepared() {
        rows.push([
            ("name", (&p.name).into()),
            ("statement", (&p.statement).into()),
            ("prepare_time", p.prepared_at.into()),
            ("parameter_types", p.parameters.iter().map(squilla_core::types::SqlType::oid).collect::<Vec<u32>>().into()),
            ("from_sql", p.from_sql.into()),
            ("generic_plans", 0.into()),
            ("custom_plans", 0.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_cursors`.
pub fn pg_cursors(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for c in view.live.cursors() {
        rows.push([
            ("name", (&c.name).into()),
            ("statement", (&c.statement).into()),
            ("is_holdable", c.holdable.into()),
            ("is_binary", c.binary.into()),
            ("is_scrollable", c.scrollable.into()),
            ("creation_time", c.created_at.into()),
        ]);
    }
    Ok(())
}
