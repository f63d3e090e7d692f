//! Relations, their columns, schemas and comments: `pg_class` and what hangs on it.
//!
//! In: user relations of the catalog and the system relations themselves. Out: rows. Invariant: OIDs join: every
//! `attrelid`, `relnamespace` and `objoid` names a row that exists. Deliberately absent: keys and indexes (`indexes`).

use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::system::procs::descriptions as other_descriptions;
use crate::system::relation::{Column, Rows, Shape};
use crate::system::types::{self, TypeRow};
use crate::system::view::{SystemView, TableInfo, TableKind};
use crate::system::{oids, shapes};

/// Columns of one relation, whoever declares it.
struct Attribute<'a> {
    relation: u32,
    name: &'a str,
    number: usize,
    ty: &'static TypeRow,
    modifier: i32,
    dimensions: i32,
    not_null: bool,
    has_default: bool,
}

/// `pg_class.relkind` of a user relation.
pub fn kind(table: &TableInfo) -> &'static str {
    match table.kind {
        TableKind::Table => "r",
        TableKind::View { .. } => "v",
        TableKind::External { .. } => "f",
    }
}

/// The type row of a column's type; text where a type has no row.
pub fn type_row(ty: &SqlType) -> Option<&'static TypeRow> {
    types::by_oid(ty.oid()).or_else(|| types::by_oid(25))
}

/// The type row of a system column.
pub fn system_type(column: &Column) -> Option<&'static TypeRow> {
    match column.type_name.strip_suffix("[]") {
        Some(element) => types::TYPES.iter().find(|t| t.name == format!("_{element}")),
        None => types::TYPES.iter().find(|t| t.name == column.type_name),
    }
    .or_else(|| type_row(&column.ty()))
}

/// Fills `pg_class`.
pub fn pg_class(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        let managed = t.kind == TableKind::Table;
        let is_view = matches!(t.kind, TableKind::View { .. });
        rows.push([
            ("oid", t.oid.into()),
            ("relname", (&t.name).into()),
            ("relnamespace", view.schema_oid(&t.schema).into()),
            ("relowner", view.role_oid(&t.owner).into()),
            ("relam", (if managed { oids::PARQUET_AM_OID } else { 0 }).into()),
            ("relfilenode", (if managed { t.oid } else { 0 }).into()),
            ("relpages", pages(t.bytes).into()),
            ("reltuples", t.rows.map_or(-1.0, |r| r as f64).into()),
            ("relpersistence", "p".into()),
            ("relkind", kind(t).into()),
            ("relnatts", t.columns.len().into()),
            ("relhasrules", is_view.into()),
            ("relispopulated", true.into()),
            ("relreplident", (if managed { "d" } else { "n" }).into()),
        ]);
    }
    for s in shapes::all() {
        rows.push([
            ("oid", s.oid.into()),
            ("relname", s.name.into()),
            ("relnamespace", view.schema_oid(s.schema).into()),
            ("relowner", oids::SUPERUSER_OID.into()),
            ("reltuples", (-1.0).into()),
            ("relisshared", SHARED.contains(&s.name).into()),
            ("relpersistence", "p".into()),
            ("relkind", s.kind.into()),
            ("relnatts", s.columns().count().into()),
            ("relhasrules", (s.kind == "v").into()),
            ("relispopulated", true.into()),
            ("relreplident", "n".into()),
        ]);
    }
    Ok(())
}

/// Relations that PostgreSQL keeps once for all databases.
const SHARED: &[&str] = &[
    "pg_authid",
    "pg_auth_members",
    "pg_database",
    "pg_db_role_setting",
    "pg_parameter_acl",
    "pg_replication_origin",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_subscription",
    "pg_tablespace",
];

fn pages(bytes: Option<u64>) -> i64 {
    bytes.map_or(0, |b| i64::try_from(b.div_ceil(8192)).unwrap_or(i64::MAX).min(i64::from(i32::MAX)))
}

fn attributes<'a>(view: &'a SystemView, mut visit: impl FnMut(Attribute<'a>)) {
    for t in view.tables.iter() {
        for (i, c) in t.columns.iter().enumerate() {
            let Some(ty) = type_row(&c.ty) else { continue };
            let modifier = match &c.ty {
                SqlType::Array(element) => element.typmod(),
                other => other.typmod(),
            };
            let dimensions = i32::from(matches!(c.ty, SqlType::Array(_)));
            visit(Attribute {
                relation: t.oid,
                name: &c.name,
                number: i + 1,
                ty,
                modifier,
                dimensions,
                not_null: c.not_null,
                has_default: c.default.is_some(),
            });
        }
    }
    for s in shapes::all() {
        for (i, c) in s.columns().enumerate() {
            let Some(ty) = system_type(&c) else { continue };
            let dimensions = i32::from(ty.category == "A");
            visit(Attribute { relation: s.oid, name: c.name, number: i + 1, ty, modifier: -1, dimensions, not_null: c.not_null, has_default: false });
        }
    }
}

/// Fills `pg_attribute`.
pub fn pg_attribute(view: &SystemView, rows: &mut Rows) -> Result<()> {
    attributes(view, |a| {
        rows.push([
            ("attrelid", a.relation.into()),
            ("attname", a.name.into()),
            ("atttypid", a.ty.oid.into()),
            ("attstattarget", (-1).into()),
            ("attlen", i32::from(a.ty.len).into()),
            ("attnum", a.number.into()),
            ("attndims", a.dimensions.into()),
            ("attcacheoff", (-1).into()),
            ("atttypmod", a.modifier.into()),
            ("attbyval", a.ty.by_value.into()),
            ("attalign", a.ty.align.into()),
            ("attstorage", a.ty.storage.into()),
            ("attnotnull", a.not_null.into()),
            ("atthasdef", a.has_default.into()),
            ("attislocal", true.into()),
            ("attcollation", a.ty.collation.into()),
        ]);
    });
    Ok(())
}

/// OID of the default of one column.
pub fn default_oid(table: u32, number: usize) -> u32 {
    oids::derived("default", &format!("{table}.{number}"))
}

/// Fills `pg_attrdef`.
pub fn pg_attrdef(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        for (i, c) in t.columns.iter().enumerate() {
            if let Some(default) = &c.default {
                rows.push([
                    ("oid", default_oid(t.oid, i + 1).into()),
                    ("adrelid", t.oid.into()),
                    ("adnum", (i + 1).into()),
                    ("adbin", default.into()),
                ]);
            }
        }
    }
    Ok(())
}

/// Fills `pg_namespace`.
pub fn pg_namespace(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (name, oid, _) in oids::SYSTEM_SCHEMAS {
        rows.push([("oid", (*oid).into()), ("nspname", (*name).into()), ("nspowner", oids::SUPERUSER_OID.into())]);
    }
    for s in view.schemas.iter() {
        rows.push([("oid", s.oid.into()), ("nspname", (&s.name).into()), ("nspowner", view.role_oid(&s.owner).into())]);
    }
    Ok(())
}

/// Comments of system relations.
pub fn descriptions() -> impl Iterator<Item = (u32, u32, &'static str)> {
    const COMMENTS: &[(&str, &str)] = &[
        ("functions", "every function of squilla, one row an overload"),
        ("models", "the models that functions can name"),
        ("row_errors", "rows that failed, newest statements last"),
        ("settings", "every setting with its value and where it came from"),
    ];
    COMMENTS.iter().filter_map(|(name, comment)| shapes::find(oids::OWN_SCHEMA, name).map(|s| (s.oid, oids::PG_CLASS, *comment)))
}

/// Fills `pg_description`.
pub fn pg_description(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let mut push = |object: u32, class: u32, sub: usize, text: &str| {
        rows.push([("objoid", object.into()), ("classoid", class.into()), ("objsubid", sub.into()), ("description", text.into())]);
    };
    for (object, class, text) in other_descriptions(view) {
        push(object, class, 0, text);
    }
    for s in view.schemas.iter() {
        s.comment.iter().for_each(|text| push(s.oid, oids::PG_NAMESPACE, 0, text));
    }
    for t in view.tables.iter() {
        t.comment.iter().for_each(|text| push(t.oid, oids::PG_CLASS, 0, text));
        for (i, c) in t.columns.iter().enumerate() {
            c.comment.iter().for_each(|text| push(t.oid, oids::PG_CLASS, i + 1, text));
        }
    }
    Ok(())
}

/// OID of the rule behind a view.
pub fn rule_oid(view: u32) -> u32 {
    oids::derived("rule", &view.to_string())
}

/// Fills `pg_rewrite`: one `_RETURN` rule a view.
pub fn pg_rewrite(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        if let TableKind::View { sql } = &t.kind {
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

/// Fills `pg_depend`: a view's rule hangs on its view.
pub fn pg_depend(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter().filter(|t| matches!(t.kind, TableKind::View { .. })) {
        rows.push([
            ("classid", oids::PG_REWRITE.into()),
            ("objid", rule_oid(t.oid).into()),
            ("refclassid", oids::PG_CLASS.into()),
            ("refobjid", t.oid.into()),
            ("deptype", "i".into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_foreign_table`.
pub fn pg_foreign_table(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        if let TableKind::External { format, location } = &t.kind {
            let options = vec![format!("format={format}"), format!("location={location}")];
            rows.push([("ftrelid", t.oid.into()), ("ftserver", oids::SERVER_OID.into()), ("ftoptions", options.into())]);
        }
    }
    Ok(())
}

fn system(kind: &'static str) -> impl Iterator<Item = &'static Shape> {
    shapes::all().filter(move |s| s.kind == kind)
}

/// Fills `pg_tables`.
pub fn pg_tables(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let users = view.tables.iter().filter(|t| t.kind == TableKind::Table).map(|t| (t.schema.as_str(), t.name.as_str(), t.owner.as_str()));
    let owner = view.roles.iter().find(|r| r.oid == oids::SUPERUSER_OID).map_or("squilla", |r| r.name.as_str());
    for (schema, name, owner) in users.chain(system("r").map(|s| (s.schema, s.name, owner))) {
        rows.push([
            ("schemaname", schema.into()),
            ("tablename", name.into()),
            ("tableowner", owner.into()),
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
                ("definition", sql.into()),
            ]);
        }
    }
    for s in system("v") {
        rows.push([("schemaname", s.schema.into()), ("viewname", s.name.into()), ("viewowner", "squilla".into())]);
    }
    Ok(())
}
