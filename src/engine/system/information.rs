//! `information_schema`: the standard's names for tables, columns, views and privileges.
//!
//! In: the view. Out: rows. Invariant: `data_type` is PostgreSQL's name of the type, never Arrow's. User relations and
//! system relations are both there, as in PostgreSQL. Deliberately absent: routines (`routines`) and constraints.

use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::system::relation::{Rows, Value};
use crate::system::types::{self, TypeRow};
use crate::system::view::{SystemView, TableInfo, TableKind};
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
    let users = view.tables.iter().map(|t| {
        let kind = match t.kind {
            TableKind::Table => "BASE TABLE",
            TableKind::View { .. } => "VIEW",
            TableKind::External { .. } => "FOREIGN",
        };
        (t.schema.as_str(), t.name.as_str(), kind, t.kind == TableKind::Table)
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
    default: Option<&'a str>,
    not_null: bool,
    facts: TypeFacts,
    updatable: bool,
}

fn push_column(view: &SystemView, rows: &mut Rows, c: ColumnRow<'_>) {
    rows.push([
        ("table_catalog", (&view.session.database).into()),
        ("table_schema", c.table.0.into()),
        ("table_name", c.table.1.into()),
        ("column_name", c.name.into()),
        ("ordinal_position", c.number.into()),
        ("column_default", c.default.into()),
        ("is_nullable", yes(!c.not_null)),
        ("data_type", c.facts.data_type.into()),
        ("character_maximum_length", c.facts.length),
        ("character_octet_length", if c.facts.udt_name == "text" { 1_073_741_824.into() } else { Value::Null }),
        ("numeric_precision", c.facts.precision),
        ("numeric_precision_radix", c.facts.radix),
        ("numeric_scale", c.facts.scale),
        ("datetime_precision", c.facts.datetime),
        ("udt_catalog", (&view.session.database).into()),
        ("udt_schema", c.facts.udt_schema.into()),
        ("udt_name", c.facts.udt_name.into()),
        ("dtd_identifier", c.number.to_string().into()),
        ("is_self_referencing", "NO".into()),
        ("is_identity", "NO".into()),
        ("identity_cycle", "NO".into()),
        ("is_generated", "NEVER".into()),
        ("is_updatable", yes(c.updatable)),
    ]);
}

/// Fills `columns`.
pub fn columns(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for t in view.tables.iter() {
        for (i, c) in t.columns.iter().enumerate() {
            let Some(row) = classes::type_row(&c.ty) else { continue };
            let updatable = t.kind == TableKind::Table;
            let facts = facts(row, Some(&c.ty));
            push_column(
                view,
                rows,
                ColumnRow {
                    table: (&t.schema, &t.name),
                    name: &c.name,
                    number: i + 1,
                    default: c.default.as_deref(),
                    not_null: c.not_null,
                    facts,
                    updatable,
                },
            );
        }
    }
    for s in shapes::all() {
        for (i, c) in s.columns().enumerate() {
            let Some(row) = classes::system_type(&c) else { continue };
            let facts = facts(row, None);
            push_column(
                view,
                rows,
                ColumnRow { table: (s.schema, s.name), name: c.name, number: i + 1, default: None, not_null: c.not_null, facts, updatable: false },
            );
        }
    }
    Ok(())
}

/// Fills `views`.
pub fn views(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let users = view.tables.iter().filter_map(|t| match &t.kind {
        TableKind::View { sql } => Some((t.schema.as_str(), t.name.as_str(), Some(sql.as_str()))),
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
        TableKind::Table => &["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE"],
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
