//! Relations, their columns, schemas and comments: `pg_class` and what hangs on it.
//!
//! In: user relations of the catalog and the system relations themselves. Out: rows. Invariant: OIDs join: every
//! `attrelid`, `relnamespace` and `objoid` names a row that exists. Deliberately absent: keys (`keys`), what depends on what (`dependencies`), system columns.

use std::collections::HashSet;

use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::catalog::roles::Object;
use crate::postgres::definitions;
use crate::system::acl;
use crate::system::objects::{ConstraintKind, Identity, TableInfo, TableKind};
use crate::system::procs::descriptions as other_descriptions;
use crate::system::relation::{Column, Rows};
use crate::system::types::{self, TypeRow};
use crate::system::view::SystemView;
use crate::system::{keys, oids, shapes};

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
    identity: &'static str,
    generated: bool,
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

/// OID of the row type of a relation; 0 for one without.
pub fn row_type(table: &TableInfo) -> u32 {
    if matches!(table.kind, TableKind::Sequence(_)) { 0 } else { oids::derived("row type", &table.oid.to_string()) }
}

/// OID of the array over the row type of a relation.
pub fn row_array(table: &TableInfo) -> u32 {
    oids::derived("row type array", &table.oid.to_string())
}

/// What owns the rows of a relation.
fn access_method(table: &TableInfo) -> u32 {
    match table.kind {
        TableKind::Table | TableKind::Materialized { .. } => oids::PARQUET_AM_OID,
        _ => 0,
    }
}

/// Fills `pg_class`.
pub fn pg_class(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let referred: HashSet<u32> =
        view.tables.constraints().filter_map(|(_, c)| if let ConstraintKind::Foreign { table, .. } = c.kind { Some(table) } else { None }).collect();
    for t in view.tables.iter() {
        let method = access_method(t);
        let stored = method != 0 || matches!(t.kind, TableKind::Sequence(_));
        let foreign = t.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::Foreign { .. }));
        let object = Object::Relation(t.oid);
        let tuples = if matches!(t.kind, TableKind::Sequence(_)) { 1.0 } else { t.rows.map_or(-1.0, |r| r as f64) };
        rows.push([
            ("oid", t.oid.into()),
            ("relname", (&t.name).into()),
            ("relnamespace", view.schema_oid(&t.schema).into()),
            ("reltype", row_type(t).into()),
            ("relowner", view.role_oid(&t.owner).into()),
            ("relam", method.into()),
            ("relfilenode", (if stored { t.oid } else { 0 }).into()),
            ("relpages", pages(t.bytes).into()),
            ("reltuples", tuples.into()),
            ("relhasindex", (!t.indexes.is_empty()).into()),
            ("relpersistence", (if t.temporary { "t" } else { "p" }).into()),
            ("relkind", t.relkind().into()),
            ("relnatts", t.columns.len().into()),
            ("relchecks", t.constraints.iter().filter(|c| matches!(c.kind, ConstraintKind::Check { .. })).count().into()),
            ("relhasrules", t.query().is_some().into()),
            ("relhastriggers", (foreign || referred.contains(&t.oid)).into()),
            ("relispopulated", (!matches!(t.kind, TableKind::Materialized { populated: false, .. })).into()),
            ("relreplident", (if method != 0 { "d" } else { "n" }).into()),
            ("relacl", acl::items(&view.catalog, &object, &t.owner).into()),
        ]);
        for i in &t.indexes {
            rows.push([
                ("oid", i.oid.into()),
                ("relname", (&i.name).into()),
                ("relnamespace", view.schema_oid(&t.schema).into()),
                ("relowner", view.role_oid(&t.owner).into()),
                ("relam", keys::method_oid(&i.method).into()),
                ("relfilenode", i.oid.into()),
                ("reltuples", tuples.into()),
                ("relpersistence", (if t.temporary { "t" } else { "p" }).into()),
                ("relkind", "i".into()),
                ("relnatts", i.columns.len().into()),
                ("relispopulated", true.into()),
                ("relreplident", "n".into()),
            ]);
        }
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

/// Columns that every sequence has.
const SEQUENCE_COLUMNS: &[(&str, u32)] = &[("last_value", 20), ("log_cnt", 20), ("is_called", 16)];

fn modifier(ty: &SqlType) -> i32 {
    match ty {
        SqlType::Array(element) => element.typmod(),
        other => other.typmod(),
    }
}

fn of_table<'a>(t: &'a TableInfo, visit: &mut impl FnMut(Attribute<'a>)) {
    let plain = |name, number, ty| Attribute {
        relation: t.oid,
        name,
        number,
        ty,
        modifier: -1,
        dimensions: 0,
        not_null: false,
        has_default: false,
        identity: "",
        generated: false,
    };
    if matches!(t.kind, TableKind::Sequence(_)) {
        for (i, (name, oid)) in SEQUENCE_COLUMNS.iter().enumerate() {
            types::by_oid(*oid).into_iter().for_each(|ty| visit(Attribute { not_null: true, ..plain(name, i + 1, ty) }));
        }
        return;
    }
    for (i, c) in t.columns.iter().enumerate() {
        let Some(ty) = type_row(&c.ty) else { continue };
        visit(Attribute {
            modifier: c.dimensions.and_then(|n| i32::try_from(n).ok()).unwrap_or_else(|| modifier(&c.ty)),
            dimensions: i32::from(matches!(c.ty, SqlType::Array(_))),
            not_null: c.not_null,
            has_default: c.default.is_some() && c.identity.is_none(),
            identity: match c.identity {
                Some(Identity::Always) => "a",
                Some(Identity::ByDefault) => "d",
                None => "",
            },
            generated: c.generated,
            ..plain(&c.name, i + 1, ty)
        });
    }
    for index in &t.indexes {
        for (i, key) in index.columns.iter().enumerate() {
            let column = t.column(key.number);
            let Some(ty) = column.map_or_else(|| types::by_oid(25), |c| type_row(&c.ty)) else { continue };
            // A key that is an expression is called expr, as PostgreSQL does where it has no better name.
            let name = column.map_or("expr", |c| c.name.as_str());
            visit(Attribute { relation: index.oid, modifier: column.map_or(-1, |c| modifier(&c.ty)), ..plain(name, i + 1, ty) });
        }
    }
}

fn attributes<'a>(view: &'a SystemView, mut visit: impl FnMut(Attribute<'a>)) {
    view.tables.iter().for_each(|t| of_table(t, &mut visit));
    for s in shapes::all() {
        for (i, c) in s.columns().enumerate() {
            let Some(ty) = system_type(&c) else { continue };
            visit(Attribute {
                relation: s.oid,
                name: c.name,
                number: i + 1,
                ty,
                modifier: -1,
                dimensions: i32::from(ty.category == "A"),
                not_null: c.not_null,
                has_default: false,
                identity: "",
                generated: false,
            });
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
            ("attidentity", a.identity.into()),
            ("attgenerated", (if a.generated { "s" } else { "" }).into()),
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
            if let Some(default) = definitions::default(view, t, c).filter(|_| c.identity.is_none()) {
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
        rows.push([
            ("oid", s.oid.into()),
            ("nspname", (&s.name).into()),
            ("nspowner", view.role_oid(&s.owner).into()),
            ("nspacl", acl::items(&view.catalog, &Object::Schema(s.oid), &s.owner).into()),
        ]);
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
        t.indexes.iter().for_each(|i| i.comment.iter().for_each(|text| push(i.oid, oids::PG_CLASS, 0, text)));
        t.constraints.iter().for_each(|c| c.comment.iter().for_each(|text| push(c.oid, oids::PG_CONSTRAINT, 0, text)));
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
