//! What hangs on what, and the views of `pg_catalog` over relations: `pg_rewrite`, `pg_depend`, `pg_tables`, `pg_views`.
//!
//! In: the user's relations. Out: rows. Invariant: both ends of a dependency exist; `deptype` is PostgreSQL's: n is told
//! by DROP without CASCADE, a and i go with their owner. Deliberately absent: dependencies of PostgreSQL's own
//! objects, and of functions that are written in SQL.

use squilla_core::error::Result;

use crate::postgres::deparse;
use crate::system::classes::{default_oid, row_array, row_type};
use crate::system::information::superuser;
use crate::system::keys::referred;
use crate::system::objects::{ConstraintKind, TableInfo, TableKind};
use crate::system::relation::Rows;
use crate::system::view::SystemView;
use crate::system::{cluster, oids, operators, shapes, types};

/// OID of the rule behind a view.
pub fn rule_oid(view: u32) -> u32 {
    oids::derived("rule", &view.to_string())
}

/// Fills `pg_rewrite`: one `_RETURN` rule a view.
pub fn pg_rewrite(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        if let Some(sql) = t.query() {
            rows.push([
                ("oid", rule_oid(t.oid).into()),
                ("rulename", "_RETURN".into()),
                ("ev_class", t.oid.into()),
                ("ev_type", "1".into()),
                ("ev_enabled", "O".into()),
                ("is_instead", true.into()),
                ("ev_qual", "<>".into()),
                ("ev_action", sql.into()),
            ]);
        }
    }
    Ok(())
}

/// One end of a dependency: class, object, number of a column or 0.
type End = (u32, u32, i16);

fn of_table(view: &SystemView, t: &TableInfo, push: &mut impl FnMut(End, End, &str)) {
    let class = oids::PG_CLASS;
    let table = (class, t.oid, 0);
    if let Some(schema) = view.schema_oid(&t.schema) {
        push(table, (oids::PG_NAMESPACE, schema, 0), "n");
    }
    let ty = row_type(t);
    if ty != 0 {
        push((oids::PG_TYPE, row_array(t), 0), (oids::PG_TYPE, ty, 0), "i");
        push((oids::PG_TYPE, ty, 0), table, "i");
    }
    if t.query().is_some() {
        let rule = (oids::PG_REWRITE, rule_oid(t.oid), 0);
        push(rule, table, "i");
        push(rule, table, "n");
        for on in t.depends_on.iter().filter(|oid| view.relation_name(**oid).is_some()) {
            let used = view.tables.by_oid(*on).and_then(|other| t.query().map(|sql| deparse::columns_used(view, sql, other)));
            match used.filter(|columns| !columns.is_empty()) {
                Some(columns) => columns.into_iter().for_each(|n| push(rule, (class, *on, n), "n")),
                None => push(rule, (class, *on, 0), "n"),
            }
        }
    }
    for (i, c) in t.columns.iter().enumerate() {
        let number = i16::try_from(i + 1).unwrap_or(i16::MAX);
        let column = (class, t.oid, number);
        if c.default.is_some() && c.identity.is_none() {
            let default = (oids::PG_ATTRDEF, default_oid(t.oid, i + 1), 0);
            push(default, column, if c.generated { "i" } else { "a" });
            c.sequence.into_iter().for_each(|s| push(default, (class, s, 0), "n"));
        }
    }
    if let TableKind::Sequence(s) = &t.kind
        && let Some((owner, number)) = s.owned_by
    {
        let identity = view.tables.by_oid(owner).and_then(|o| o.column(number)).is_some_and(|c| c.identity.is_some());
        push(table, (class, owner, number), if identity { "i" } else { "a" });
    }
    for c in &t.constraints {
        let constraint = (oids::PG_CONSTRAINT, c.oid, 0);
        c.columns.iter().for_each(|n| push(constraint, (class, t.oid, *n), "a"));
        if let ConstraintKind::Foreign { table, columns, .. } = &c.kind {
            columns.iter().for_each(|n| push(constraint, (class, *table, *n), "n"));
            let key = view.tables.by_oid(*table).and_then(|t| referred(t, columns)).and_then(|k| k.index);
            key.into_iter().for_each(|index| push(constraint, (class, index, 0), "n"));
        }
    }
    for index in &t.indexes {
        match t.constraints.iter().find(|c| c.index == Some(index.oid)) {
            Some(c) => push((class, index.oid, 0), (oids::PG_CONSTRAINT, c.oid, 0), "i"),
            None => index.columns.iter().filter(|c| c.number > 0).for_each(|c| push((class, index.oid, 0), (class, t.oid, c.number), "a")),
        }
    }
}

/// Fills `pg_depend`.
pub fn pg_depend(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let mut push = |from: End, to: End, kind: &str| {
        rows.push([
            ("classid", from.0.into()),
            ("objid", from.1.into()),
            ("objsubid", i32::from(from.2).into()),
            ("refclassid", to.0.into()),
            ("refobjid", to.1.into()),
            ("refobjsubid", i32::from(to.2).into()),
            ("deptype", kind.into()),
        ]);
    };
    view.tables.iter().for_each(|t| of_table(view, t, &mut push));
    for p in view.procs.user() {
        push((oids::PG_PROC, p.oid, 0), (oids::PG_NAMESPACE, p.schema, 0), "n");
    }
    // What is there from the start beside PostgreSQL's own belongs to an extension: tools leave its members out of dumps.
    let extension = (oids::PG_EXTENSION, oids::EXTENSION_OID, 0);
    let mut member = |class: u32, oid: u32| push((class, oid, 0), extension, "e");
    member(oids::PG_NAMESPACE, oids::OWN_SCHEMA_OID);
    shapes::all().filter(|s| s.schema == oids::OWN_SCHEMA).for_each(|s| member(oids::PG_CLASS, s.oid));
    types::TYPES.iter().filter(|t| types::schema_oid(t) == oids::OWN_SCHEMA_OID).for_each(|t| member(oids::PG_TYPE, t.oid));
    view.procs.iter().filter(|p| p.schema == oids::OWN_SCHEMA_OID).for_each(|p| member(oids::PG_PROC, p.oid));
    operators::own().for_each(|oid| member(oids::PG_OPERATOR, oid));
    cluster::wrappers().for_each(|(oid, _)| member(oids::PG_FOREIGN_DATA_WRAPPER, oid));
    member(oids::PG_FOREIGN_SERVER, oids::SERVER_OID);
    Ok(())
}

/// Fills `pg_extension`.
pub fn pg_extension(_: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", oids::EXTENSION_OID.into()),
        ("extname", oids::OWN_SCHEMA.into()),
        ("extowner", oids::SUPERUSER_OID.into()),
        ("extnamespace", oids::OWN_SCHEMA_OID.into()),
        ("extversion", env!("CARGO_PKG_VERSION").into()),
    ]);
    Ok(())
}

/// Fills `pg_shdepend`: objects that belong to another role than the bootstrap superuser.
pub fn pg_shdepend(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let tables = view.tables.iter().map(|t| (oids::PG_CLASS, t.oid, view.role_oid(&t.owner)));
    let schemas = view.schemas.iter().map(|s| (oids::PG_NAMESPACE, s.oid, view.role_oid(&s.owner)));
    for (class, object, owner) in tables.chain(schemas).filter(|(_, _, owner)| *owner != oids::SUPERUSER_OID && *owner != 0) {
        rows.push([
            ("dbid", oids::DATABASE_OID.into()),
            ("classid", class.into()),
            ("objid", object.into()),
            ("refclassid", oids::PG_AUTHID.into()),
            ("refobjid", owner.into()),
            ("deptype", "o".into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_tables`.
pub fn pg_tables(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter().filter(|t| t.is_table()) {
        rows.push([
            ("schemaname", (&t.schema).into()),
            ("tablename", (&t.name).into()),
            ("tableowner", (&t.owner).into()),
            ("hasindexes", (!t.indexes.is_empty()).into()),
            ("hasrules", false.into()),
            ("hastriggers", t.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::Foreign { .. })).into()),
            ("rowsecurity", false.into()),
        ]);
    }
    for s in shapes::all().filter(|s| s.kind == "r") {
        rows.push([
            ("schemaname", s.schema.into()),
            ("tablename", s.name.into()),
            ("tableowner", superuser(view).into()),
            ("hasindexes", false.into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_views`.
pub fn pg_views(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        if let TableKind::View { sql } = &t.kind {
            rows.push([
                ("schemaname", (&t.schema).into()),
                ("viewname", (&t.name).into()),
                ("viewowner", (&t.owner).into()),
                ("definition", deparse::view(view, sql, false).into()),
            ]);
        }
    }
    for s in shapes::all().filter(|s| s.kind == "v") {
        rows.push([("schemaname", s.schema.into()), ("viewname", s.name.into()), ("viewowner", superuser(view).into())]);
    }
    Ok(())
}

/// Fills `pg_matviews`.
pub fn pg_matviews(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        if let TableKind::Materialized { sql, populated } = &t.kind {
            rows.push([
                ("schemaname", (&t.schema).into()),
                ("matviewname", (&t.name).into()),
                ("matviewowner", (&t.owner).into()),
                ("hasindexes", (!t.indexes.is_empty()).into()),
                ("ispopulated", (*populated).into()),
                ("definition", deparse::view(view, sql, false).into()),
            ]);
        }
    }
    Ok(())
}
