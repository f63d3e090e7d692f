//! `information_schema`: the standard's names for tables, columns, views and privileges.
//!
//! In: the view. Out: rows. Invariant: `data_type` is PostgreSQL's name of the type, never Arrow's. User relations and
//! system relations are both there, as in PostgreSQL. Deliberately absent: routines (`routines`) and
//! constraints (`keys`).

use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::postgres::{definitions, deparse};
use crate::system::objects::{ColumnInfo, Identity, TableInfo, TableKind};
use crate::system::relation::{Rows, Value};
use crate::system::types::{self, TypeRow};
use crate::system::view::SystemView;
use crate::system::{classes, oids, shapes};

/// Fills `information_schema_catalog_name`.
pub fn catalog_name(view: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([("catalog_name", (&view.session.database).into())]);
    Ok(())
}

/// Fills `schemata`.
pub fn schemata(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let system = oids::SYSTEM_SCHEMAS.iter().map(|(name, _, _)| (*name, superuser(view)));
    for (name, owner) in system.chain(view.schemas.iter().map(|s| (s.name.as_str(), s.owner.as_str()))) {
        rows.push([("catalog_name", (&view.session.database).into()), ("schema_name", name.into()), ("schema_owner", owner.into())]);
    }
    Ok(())
}

/// Name of the bootstrap superuser.
pub fn superuser(view: &SystemView) -> &str {
    view.roles.iter().find(|r| r.oid == oids::SUPERUSER_OID).map_or("squilla", |r| r.name.as_str())
}

fn yes(value: bool) -> Value {
    if value { "YES".into() } else { "NO".into() }
}

/// Fills `tables`.
pub fn tables(view: &SystemView, rows: &mut Rows) -> Result<()> {
    // Sequences and materialized views are no tables to the standard.
    let users = view.tables.iter().filter_map(|t| {
        let kind = match t.kind {
            TableKind::Table if t.temporary => "LOCAL TEMPORARY",
            TableKind::Table => "BASE TABLE",
            TableKind::View { .. } => "VIEW",
            TableKind::External { .. } => "FOREIGN",
            TableKind::Materialized { .. } | TableKind::Sequence(_) => return None,
        };
        Some((t.schema.as_str(), t.name.as_str(), kind, t.is_table()))
    });
    let system = shapes::all().map(|s| (s.schema, s.name, if s.kind == "v" { "VIEW" } else { "BASE TABLE" }, false));
    for (schema, name, kind, insertable) in users.chain(system) {
        rows.push([
            ("table_catalog", (&view.session.database).into()),
            ("table_schema", schema.into()),
            ("table_name", name.into()),
            ("table_type", kind.into()),
            ("is_insertable_into", yes(insertable)),
            ("is_typed", "NO".into()),
        ]);
    }
    Ok(())
}

/// What `columns` and `parameters` tell of a type.
pub struct TypeFacts {
    /// `data_type`
    pub data_type: String,
    /// Characters.
    pub length: Value,
    /// Bytes that the longest value takes.
    pub octets: Value,
    /// Bits or digits.
    pub precision: Value,
    /// 2 or 10.
    pub radix: Value,
    /// Digits after the point.
    pub scale: Value,
    /// Digits of a second.
    pub datetime: Value,
    /// Schema of the type.
    pub udt_schema: &'static str,
    /// `typname`
    pub udt_name: String,
}

/// The facts of a type.
pub fn facts(row: &TypeRow, ty: Option<&SqlType>) -> TypeFacts {
    let own = types::schema_oid(row) == oids::OWN_SCHEMA_OID;
    let data_type = if row.category == "A" && row.name.starts_with('_') {
        "ARRAY".to_owned()
    } else if own {
        "USER-DEFINED".to_owned()
    } else {
        types::format_type(row.oid, None)
    };
    let (precision, radix, scale): (Value, Value, Value) = match (row.oid, ty) {
        (21, _) => (16.into(), 2.into(), 0.into()),
        (23, _) => (32.into(), 2.into(), 0.into()),
        (20, _) => (64.into(), 2.into(), 0.into()),
        (700, _) => (24.into(), 2.into(), Value::Null),
        (701, _) => (53.into(), 2.into(), Value::Null),
        (1700, Some(SqlType::Numeric(Some((p, s))))) => (i32::from(*p).into(), 10.into(), i32::from(*s).into()),
        (1700, _) => (Value::Null, 10.into(), Value::Null),
        _ => (Value::Null, Value::Null, Value::Null),
    };
    TypeFacts {
        data_type,
        length: match ty {
            Some(SqlType::Varchar(Some(n)) | SqlType::Char(Some(n))) => (*n).into(),
            _ => Value::Null,
        },
        octets: match (ty, row.oid) {
            (Some(SqlType::Varchar(Some(n)) | SqlType::Char(Some(n))), _) => (u64::from(*n) * 4).into(),
            (_, 25 | 1043) => 1_073_741_824.into(),
            _ => Value::Null,
        },
        precision,
        radix,
        scale,
        datetime: match row.oid {
            1082 => 0.into(),
            1083 | 1114 | 1184 | 1186 => 6.into(),
            _ => Value::Null,
        },
        udt_schema: if own { oids::OWN_SCHEMA } else { oids::CATALOG_SCHEMA },
        udt_name: row.name.clone(),
    }
}

struct ColumnRow<'a> {
    table: (&'a str, &'a str),
    name: &'a str,
    number: usize,
    not_null: bool,
    facts: TypeFacts,
    updatable: bool,
}

/// What only columns of user tables have: default, identity, generation.
fn origin(view: &SystemView, table: &TableInfo, column: &ColumnInfo) -> [(&'static str, Value); 8] {
    let default = definitions::default(view, table, column);
    let (generated, default) = if column.generated { (default, None) } else { (None, default) };
    let sequence = column.identity.and(column.sequence).and_then(|s| view.tables.by_oid(s)).and_then(|t| match &t.kind {
        TableKind::Sequence(s) => Some(s),
        _ => None,
    });
    let number = |get: fn(&crate::system::objects::SequenceInfo) -> i64| -> Value { sequence.map(|s| get(s).to_string()).into() };
    [
        ("column_default", default.filter(|_| column.identity.is_none()).into()),
        ("is_identity", yes(column.identity.is_some())),
        (
            "identity_generation",
            match column.identity {
                Some(Identity::Always) => "ALWAYS".into(),
                Some(Identity::ByDefault) => "BY DEFAULT".into(),
                None => Value::Null,
            },
        ),
        ("identity_start", number(|s| s.start)),
        ("identity_increment", number(|s| s.increment)),
        ("identity_maximum", number(|s| s.max)),
        ("identity_minimum", number(|s| s.min)),
        ("generation_expression", generated.into()),
    ]
}

fn push_column(view: &SystemView, rows: &mut Rows, c: ColumnRow<'_>, origin: [(&'static str, Value); 8]) {
    let generated = origin.iter().any(|(name, value)| *name == "generation_expression" && *value != Value::Null);
    let base = [
        ("table_catalog", (&view.session.database).into()),
        ("table_schema", c.table.0.into()),
        ("table_name", c.table.1.into()),
        ("column_name", c.name.into()),
        ("ordinal_position", c.number.into()),
        ("is_nullable", yes(!c.not_null)),
        ("data_type", c.facts.data_type.into()),
        ("character_maximum_length", c.facts.length),
        ("character_octet_length", c.facts.octets),
        ("numeric_precision", c.facts.precision),
        ("numeric_precision_radix", c.facts.radix),
        ("numeric_scale", c.facts.scale),
        ("datetime_precision", c.facts.datetime),
        ("udt_catalog", (&view.session.database).into()),
        ("udt_schema", c.facts.udt_schema.into()),
        ("udt_name", c.facts.udt_name.into()),
        ("dtd_identifier", c.number.to_string().into()),
        ("is_self_referencing", "NO".into()),
        ("identity_cycle", "NO".into()),
        ("is_generated", (if generated { "ALWAYS" } else { "NEVER" }).into()),
        ("is_updatable", yes(c.updatable)),
    ];
    rows.push_all(base.into_iter().chain(origin));
}

/// Fills `columns`.
pub fn columns(view: &SystemView, rows: &mut Rows) -> Result<()> {
    // Sequences and materialized views are no tables to the standard.
    for t in view.tables.iter().filter(|t| !matches!(t.kind, TableKind::Materialized { .. } | TableKind::Sequence(_))) {
        for (i, c) in t.columns.iter().enumerate() {
            let Some(row) = classes::type_row(&c.ty) else { continue };
            let facts = facts(row, Some(&c.ty));
            let column =
                ColumnRow { table: (&t.schema, &t.name), name: &c.name, number: i + 1, not_null: c.not_null, facts, updatable: t.is_table() };
            push_column(view, rows, column, origin(view, t, c));
        }
    }
    for s in shapes::all() {
        for (i, c) in s.columns().enumerate() {
            let Some(row) = classes::system_type(&c) else { continue };
            let facts = facts(row, None);
            let column = ColumnRow { table: (s.schema, s.name), name: c.name, number: i + 1, not_null: c.not_null, facts, updatable: false };
            let none = [
                ("column_default", Value::Null),
                ("is_identity", "NO".into()),
                ("identity_generation", Value::Null),
                ("identity_start", Value::Null),
                ("identity_increment", Value::Null),
                ("identity_maximum", Value::Null),
                ("identity_minimum", Value::Null),
                ("generation_expression", Value::Null),
            ];
            push_column(view, rows, column, none);
        }
    }
    Ok(())
}

/// Fills `views`.
pub fn views(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let users = view.tables.iter().filter_map(|t| match &t.kind {
        TableKind::View { sql } => Some((t.schema.as_str(), t.name.as_str(), Some(deparse::view(view, sql, false)))),
        _ => None,
    });
    let system = shapes::all().filter(|s| s.kind == "v").map(|s| (s.schema, s.name, None));
    for (schema, name, definition) in users.chain(system) {
        rows.push([
            ("table_catalog", (&view.session.database).into()),
            ("table_schema", schema.into()),
            ("table_name", name.into()),
            ("view_definition", definition.into()),
            ("check_option", "NONE".into()),
            ("is_updatable", "NO".into()),
            ("is_insertable_into", "NO".into()),
            ("is_trigger_updatable", "NO".into()),
            ("is_trigger_deletable", "NO".into()),
            ("is_trigger_insertable_into", "NO".into()),
        ]);
    }
    Ok(())
}

/// Views with the relations that they name.
fn usages(view: &SystemView) -> impl Iterator<Item = (&TableInfo, &TableInfo, &str)> {
    let views = view.tables.iter().filter_map(|t| match &t.kind {
        TableKind::View { sql } => Some((t, sql.as_str())),
        _ => None,
    });
    views.flat_map(move |(t, sql)| t.depends_on.iter().filter_map(move |oid| view.tables.by_oid(*oid).map(|on| (t, on, sql))))
}

/// Fills `view_table_usage`.
pub fn view_table_usage(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, on, _) in usages(view) {
        rows.push([
            ("view_catalog", (&view.session.database).into()),
            ("view_schema", (&t.schema).into()),
            ("view_name", (&t.name).into()),
            ("table_catalog", (&view.session.database).into()),
            ("table_schema", (&on.schema).into()),
            ("table_name", (&on.name).into()),
        ]);
    }
    Ok(())
}

/// Fills `view_column_usage`.
pub fn view_column_usage(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, on, sql) in usages(view) {
        for column in deparse::columns_used(view, sql, on).into_iter().filter_map(|n| on.column(n)) {
            rows.push([
                ("view_catalog", (&view.session.database).into()),
                ("view_schema", (&t.schema).into()),
                ("view_name", (&t.name).into()),
                ("table_catalog", (&view.session.database).into()),
                ("table_schema", (&on.schema).into()),
                ("table_name", (&on.name).into()),
                ("column_name", (&column.name).into()),
            ]);
        }
    }
    Ok(())
}

/// Fills `foreign_tables`.
pub fn foreign_tables(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter().filter(|t| matches!(t.kind, TableKind::External { .. })) {
        rows.push([
            ("foreign_table_catalog", (&view.session.database).into()),
            ("foreign_table_schema", (&t.schema).into()),
            ("foreign_table_name", (&t.name).into()),
            ("foreign_server_catalog", (&view.session.database).into()),
            ("foreign_server_name", "squilla_files".into()),
        ]);
    }
    Ok(())
}

/// Fills `enabled_roles`: the current role and those it is a member of.
pub fn enabled_roles(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for r in view.roles.iter().filter(|r| is_member(view, &r.name)) {
        rows.push([("role_name", (&r.name).into())]);
    }
    Ok(())
}

/// Whether the current role is, or is a member of, a role; a superuser is a member of all.
pub fn is_member(view: &SystemView, role: &str) -> bool {
    let current = &view.session.current_user;
    view.session.superuser || role == current || view.roles.iter().any(|r| r.name == *current && r.member_of.iter().any(|m| m == role))
}

/// Fills `applicable_roles`.
pub fn applicable_roles(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for member in view.roles.iter() {
        for role in &member.member_of {
            rows.push([("grantee", (&member.name).into()), ("role_name", role.into()), ("is_grantable", "NO".into())]);
        }
    }
    Ok(())
}

fn privileges(table: &TableInfo) -> &'static [&'static str] {
    match table.kind {
        TableKind::Sequence(_) => &[],
        TableKind::Table => &["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
        _ => &["SELECT"],
    }
}

/// Fills `table_privileges` and `role_table_grants`: what an owner may do.
pub fn table_privileges(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        for privilege in privileges(t) {
            rows.push([
                ("grantor", (&t.owner).into()),
                ("grantee", (&t.owner).into()),
                ("table_catalog", (&view.session.database).into()),
                ("table_schema", (&t.schema).into()),
                ("table_name", (&t.name).into()),
                ("privilege_type", (*privilege).into()),
                ("is_grantable", "YES".into()),
                ("with_hierarchy", yes(*privilege == "SELECT")),
            ]);
        }
    }
    Ok(())
}

/// Fills `column_privileges`.
pub fn column_privileges(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        for c in &t.columns {
            for privilege in privileges(t).iter().filter(|p| ["INSERT", "SELECT", "UPDATE"].contains(p)) {
                rows.push([
                    ("grantor", (&t.owner).into()),
                    ("grantee", (&t.owner).into()),
                    ("table_catalog", (&view.session.database).into()),
                    ("table_schema", (&t.schema).into()),
                    ("table_name", (&t.name).into()),
                    ("column_name", (&c.name).into()),
                    ("privilege_type", (*privilege).into()),
                    ("is_grantable", "YES".into()),
                ]);
            }
        }
    }
    Ok(())
}

/// Fills `character_sets`.
pub fn character_sets(view: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("character_set_name", "UTF8".into()),
        ("character_repertoire", "UCS".into()),
        ("form_of_use", "UTF8".into()),
        ("default_collate_catalog", (&view.session.database).into()),
    ]);
    Ok(())
}

/// Fills `collations`.
pub fn collations(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for name in ["default", "C", "POSIX"] {
        rows.push([
            ("collation_catalog", (&view.session.database).into()),
            ("collation_schema", oids::CATALOG_SCHEMA.into()),
            ("collation_name", name.into()),
            ("pad_attribute", "NO PAD".into()),
        ]);
    }
    Ok(())
}
