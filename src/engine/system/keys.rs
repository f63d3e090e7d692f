//! Keys, checks, indexes and sequences: `pg_constraint`, `pg_index`, `pg_sequence` and the views over them.
//!
//! In: constraints, indexes and sequences of the user's relations. Out: rows. Invariant: `conindid` and `indexrelid` name
//! rows of `pg_class`, `conkey` and `indkey` rows of `pg_attribute`. Deliberately absent: SQL text of them
//! (`postgres::definitions`), exclusion constraints, partitions.

use squilla_core::error::Result;

use crate::system::objects::{ConstraintInfo, ConstraintKind, TableInfo, TableKind};
use crate::system::relation::{Rows, Value};
use crate::system::types;
use crate::system::view::SystemView;
use crate::system::{classes, oids};

/// btree
pub const BTREE: u32 = 403;
/// hash
pub const HASH: u32 = 405;

/// OID of an access method.
pub fn method_oid(name: &str) -> u32 {
    match name {
        "btree" => BTREE,
        "hash" => HASH,
        "gist" => 783,
        "gin" => 2742,
        "brin" => 3580,
        "spgist" => 4000,
        other => oids::derived("access method", other),
    }
}

/// `pg_constraint.contype`
fn kind(c: &ConstraintInfo) -> &'static str {
    match c.kind {
        ConstraintKind::Primary => "p",
        ConstraintKind::Unique { .. } => "u",
        ConstraintKind::Check { .. } => "c",
        ConstraintKind::Foreign { .. } => "f",
    }
}

fn numbers(list: &[i16]) -> Vec<i64> {
    list.iter().map(|n| i64::from(*n)).collect()
}

/// The key or unique constraint of `table` over exactly these columns: what a foreign key refers to.
pub fn referred<'a>(table: &'a TableInfo, columns: &[i16]) -> Option<&'a ConstraintInfo> {
    let over = |c: &&ConstraintInfo| {
        matches!(c.kind, ConstraintKind::Primary | ConstraintKind::Unique { .. })
            && c.columns.len() == columns.len()
            && columns.iter().all(|n| c.columns.contains(n))
    };
    table.constraints.iter().find(over)
}

/// The equality operator of a column's type, for `conpfeqop`.
fn equality(table: Option<&TableInfo>, column: i16) -> u32 {
    let ty = table.and_then(|t| t.column(column)).and_then(|c| classes::type_row(&c.ty));
    ty.and_then(|t| crate::system::operators::equality(t.oid)).unwrap_or(0)
}

/// Fills `pg_constraint`.
pub fn pg_constraint(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, c) in view.tables.constraints() {
        let (target, keys, update, delete) = match &c.kind {
            ConstraintKind::Foreign { table, columns, on_update, on_delete } => (*table, Some(columns), on_update.to_string(), on_delete.to_string()),
            _ => (0, None, " ".into(), " ".into()),
        };
        let foreign = view.tables.by_oid(target);
        let equalities: Option<Vec<u32>> = keys.map(|keys| keys.iter().map(|n| equality(foreign, *n)).collect());
        let index = match keys {
            Some(keys) => foreign.and_then(|t| referred(t, keys)).and_then(|c| c.index),
            None => c.index,
        };
        let check = match &c.kind {
            ConstraintKind::Check { expression } => Some(expression),
            _ => None,
        };
        rows.push([
            ("oid", c.oid.into()),
            ("conname", (&c.name).into()),
            ("connamespace", view.schema_oid(&t.schema).into()),
            ("contype", kind(c).into()),
            ("convalidated", true.into()),
            ("conrelid", t.oid.into()),
            ("conindid", index.unwrap_or(0).into()),
            ("confrelid", target.into()),
            ("confupdtype", update.into()),
            ("confdeltype", delete.into()),
            ("confmatchtype", (if keys.is_some() { "s" } else { " " }).into()),
            ("conislocal", true.into()),
            ("connoinherit", (check.is_none()).into()),
            ("conkey", numbers(&c.columns).into()),
            ("confkey", keys.map(|k| numbers(k)).into()),
            ("conpfeqop", equalities.clone().into()),
            ("conppeqop", equalities.clone().into()),
            ("conffeqop", equalities.into()),
            ("conbin", check.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_index`.
pub fn pg_index(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, i) in view.tables.indexes() {
        let ty = |number: i16| t.column(number).and_then(|c| classes::type_row(&c.ty));
        let expressions: Vec<&str> = i.columns.iter().filter_map(|c| c.expression.as_deref()).collect();
        let not_distinct = t.constraints.iter().any(|c| c.index == Some(i.oid) && c.kind == ConstraintKind::Unique { nulls_not_distinct: true });
        rows.push([
            ("indexrelid", i.oid.into()),
            ("indrelid", t.oid.into()),
            ("indnatts", i.columns.len().into()),
            ("indnkeyatts", i.columns.len().into()),
            ("indisunique", i.unique.into()),
            ("indnullsnotdistinct", not_distinct.into()),
            ("indisprimary", i.primary.into()),
            ("indimmediate", true.into()),
            ("indisvalid", true.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indkey", i.columns.iter().map(|c| i64::from(c.number)).collect::<Vec<_>>().into()),
            ("indcollation", i.columns.iter().map(|c| ty(c.number).map_or(0, |t| t.collation)).collect::<Vec<_>>().into()),
            ("indclass", i.columns.iter().map(|c| ty(c.number).and_then(|t| class_oid(&i.method, t.oid)).unwrap_or(0)).collect::<Vec<_>>().into()),
            ("indoption", i.columns.iter().map(|c| i64::from(c.descending) | i64::from(c.nulls_first) << 1).collect::<Vec<_>>().into()),
            ("indexprs", (!expressions.is_empty()).then(|| expressions.join(", ")).into()),
            ("indpred", i.predicate.as_ref().into()),
        ]);
    }
    Ok(())
}

/// Default operator classes: type, OID, name, family. Types of text share the class of text.
const CLASSES: &[(u32, u32, &str, u32, &str)] = &[
    (16, 10003, "bool_ops", 424, "bool_ops"),
    (17, 10006, "bytea_ops", 428, "bytea_ops"),
    (18, 10007, "char_ops", 429, "char_ops"),
    (19, 10028, "name_ops", 1994, "text_ops"),
    (20, 3124, "int8_ops", 1976, "integer_ops"),
    (21, 1979, "int2_ops", 1976, "integer_ops"),
    (23, 1978, "int4_ops", 1976, "integer_ops"),
    (25, 3126, "text_ops", 1994, "text_ops"),
    (26, 1981, "oid_ops", 1989, "oid_ops"),
    (700, 10012, "float4_ops", 1970, "float_ops"),
    (701, 3123, "float8_ops", 1970, "float_ops"),
    (1042, 10004, "bpchar_ops", 426, "bpchar_ops"),
    (1082, 3122, "date_ops", 434, "datetime_ops"),
    (1083, 10038, "time_ops", 1996, "time_ops"),
    (1114, 3128, "timestamp_ops", 434, "datetime_ops"),
    (1184, 3127, "timestamptz_ops", 434, "datetime_ops"),
    (1186, 10022, "interval_ops", 1982, "interval_ops"),
    (1700, 3125, "numeric_ops", 1988, "numeric_ops"),
    (2950, 10065, "uuid_ops", 2968, "uuid_ops"),
    (3802, 10088, "jsonb_ops", 4033, "jsonb_ops"),
];

/// The default operator class of a type for an access method.
pub fn class_oid(method: &str, ty: u32) -> Option<u32> {
    let ty = if ty == 1043 { 25 } else { ty };
    let (_, oid, name, _, _) = CLASSES.iter().find(|c| c.0 == ty)?;
    Some(if method == "btree" { *oid } else { oids::derived("operator class", &format!("{method} {name}")) })
}

/// Fills `pg_opclass`: how types are ordered by a btree.
pub fn pg_opclass(_: &SystemView, rows: &mut Rows) -> Result<()> {
    for (ty, oid, name, family, _) in CLASSES {
        rows.push([
            ("oid", (*oid).into()),
            ("opcmethod", BTREE.into()),
            ("opcname", (*name).into()),
            ("opcnamespace", oids::CATALOG_SCHEMA_OID.into()),
            ("opcowner", oids::SUPERUSER_OID.into()),
            ("opcfamily", (*family).into()),
            ("opcintype", (*ty).into()),
            ("opcdefault", true.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_opfamily`.
pub fn pg_opfamily(_: &SystemView, rows: &mut Rows) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for (_, _, _, family, name) in CLASSES.iter().filter(|c| seen.insert(c.3)) {
        rows.push([
            ("oid", (*family).into()),
            ("opfmethod", BTREE.into()),
            ("opfname", (*name).into()),
            ("opfnamespace", oids::CATALOG_SCHEMA_OID.into()),
            ("opfowner", oids::SUPERUSER_OID.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_am`: managed tables, and what CREATE INDEX can name.
pub fn pg_am(view: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([("oid", oids::PARQUET_AM_OID.into()), ("amname", "parquet".into()), ("amtype", "t".into())]);
    let mut methods: Vec<&str> = view.tables.indexes().map(|(_, i)| i.method.as_str()).chain(["btree", "hash"]).collect();
    methods.sort_unstable();
    methods.dedup();
    for name in methods {
        rows.push([("oid", method_oid(name).into()), ("amname", name.into()), ("amtype", "i".into())]);
    }
    Ok(())
}

/// Fills `pg_indexes`.
pub fn pg_indexes(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, i) in view.tables.indexes() {
        rows.push([
            ("schemaname", (&t.schema).into()),
            ("tablename", (&t.name).into()),
            ("indexname", (&i.name).into()),
            ("indexdef", crate::postgres::definitions::index(view, t, i, false).into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_sequence`.
pub fn pg_sequence(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, s) in view.tables.sequences() {
        rows.push([
            ("seqrelid", t.oid.into()),
            ("seqtypid", s.ty.oid().into()),
            ("seqstart", s.start.into()),
            ("seqincrement", s.increment.into()),
            ("seqmax", s.max.into()),
            ("seqmin", s.min.into()),
            ("seqcache", s.cache.into()),
            ("seqcycle", s.cycle.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_sequences`.
pub fn pg_sequences(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, s) in view.tables.sequences() {
        rows.push([
            ("schemaname", (&t.schema).into()),
            ("sequencename", (&t.name).into()),
            ("sequenceowner", (&t.owner).into()),
            ("data_type", s.ty.oid().into()),
            ("start_value", s.start.into()),
            ("min_value", s.min.into()),
            ("max_value", s.max.into()),
            ("increment_by", s.increment.into()),
            ("cycle", s.cycle.into()),
            ("cache_size", s.cache.into()),
            ("last_value", view.live.sequence_next(t.oid).map(|next| next.saturating_sub(s.increment)).filter(|last| *last >= s.min).into()),
        ]);
    }
    Ok(())
}

/// Fills `information_schema.sequences`.
pub fn sequences(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, s) in view.tables.sequences() {
        let bits = match s.ty.oid() {
            21 => 16,
            23 => 32,
            _ => 64,
        };
        rows.push([
            ("sequence_catalog", (&view.session.database).into()),
            ("sequence_schema", (&t.schema).into()),
            ("sequence_name", (&t.name).into()),
            ("data_type", types::format_type(s.ty.oid(), None).into()),
            ("numeric_precision", bits.into()),
            ("numeric_precision_radix", 2.into()),
            ("numeric_scale", 0.into()),
            ("start_value", s.start.to_string().into()),
            ("minimum_value", s.min.to_string().into()),
            ("maximum_value", s.max.to_string().into()),
            ("increment", s.increment.to_string().into()),
            ("cycle_option", (if s.cycle { "YES" } else { "NO" }).into()),
        ]);
    }
    Ok(())
}

fn word(c: &ConstraintInfo) -> &'static str {
    match c.kind {
        ConstraintKind::Primary => "PRIMARY KEY",
        ConstraintKind::Unique { .. } => "UNIQUE",
        ConstraintKind::Check { .. } => "CHECK",
        ConstraintKind::Foreign { .. } => "FOREIGN KEY",
    }
}

/// NOT NULL as the standard counts it: a check with a name made of OIDs.
fn not_nulls(view: &SystemView) -> impl Iterator<Item = (&TableInfo, String, &str)> {
    let tables = view.tables.iter().filter(|t| matches!(t.kind, TableKind::Table | TableKind::External { .. }));
    tables.flat_map(move |t| {
        let schema = view.schema_oid(&t.schema).unwrap_or(0);
        let columns = t.columns.iter().enumerate().filter(|(_, c)| c.not_null);
        columns.map(move |(i, c)| (t, format!("{schema}_{}_{}_not_null", t.oid, i + 1), c.name.as_str()))
    })
}

/// Fills `information_schema.table_constraints`.
pub fn table_constraints(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let mut push = |t: &TableInfo, name: &str, word: &str, distinct: Value| {
        rows.push([
            ("constraint_catalog", (&view.session.database).into()),
            ("constraint_schema", (&t.schema).into()),
            ("constraint_name", name.into()),
            ("table_catalog", (&view.session.database).into()),
            ("table_schema", (&t.schema).into()),
            ("table_name", (&t.name).into()),
            ("constraint_type", word.into()),
            ("is_deferrable", "NO".into()),
            ("initially_deferred", "NO".into()),
            ("enforced", "YES".into()),
            ("nulls_distinct", distinct),
        ]);
    };
    for (t, c) in view.tables.constraints() {
        let distinct = match c.kind {
            ConstraintKind::Unique { nulls_not_distinct } => (if nulls_not_distinct { "NO" } else { "YES" }).into(),
            _ => Value::Null,
        };
        push(t, &c.name, word(c), distinct);
    }
    for (t, name, _) in not_nulls(view) {
        push(t, &name, "CHECK", Value::Null);
    }
    Ok(())
}

/// Fills `information_schema.check_constraints`.
pub fn check_constraints(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let mut push = |schema: &str, name: &str, clause: String| {
        rows.push([
            ("constraint_catalog", (&view.session.database).into()),
            ("constraint_schema", schema.into()),
            ("constraint_name", name.into()),
            ("check_clause", clause.into()),
        ]);
    };
    for (t, c) in view.tables.constraints() {
        if let ConstraintKind::Check { expression } = &c.kind {
            push(&t.schema, &c.name, crate::postgres::definitions::expression(view, t, expression, false));
        }
    }
    for (t, name, column) in not_nulls(view) {
        push(&t.schema, &name, format!("{column} IS NOT NULL"));
    }
    Ok(())
}

/// Fills `information_schema.key_column_usage`.
pub fn key_column_usage(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, c) in view.tables.constraints().filter(|(_, c)| !matches!(c.kind, ConstraintKind::Check { .. })) {
        for (i, number) in c.columns.iter().enumerate() {
            let Some(column) = t.column(*number) else { continue };
            let position: Value = match &c.kind {
                ConstraintKind::Foreign { table, columns, .. } => {
                    let key = view.tables.by_oid(*table).and_then(|t| referred(t, columns));
                    let place = columns.get(i).and_then(|n| key.and_then(|k| k.columns.iter().position(|m| m == n)));
                    place.map(|p| p + 1).into()
                }
                _ => Value::Null,
            };
            rows.push([
                ("constraint_catalog", (&view.session.database).into()),
                ("constraint_schema", (&t.schema).into()),
                ("constraint_name", (&c.name).into()),
                ("table_catalog", (&view.session.database).into()),
                ("table_schema", (&t.schema).into()),
                ("table_name", (&t.name).into()),
                ("column_name", (&column.name).into()),
                ("ordinal_position", (i + 1).into()),
                ("position_in_unique_constraint", position),
            ]);
        }
    }
    Ok(())
}

fn rule(action: char) -> &'static str {
    match action {
        'r' => "RESTRICT",
        'c' => "CASCADE",
        'n' => "SET NULL",
        'd' => "SET DEFAULT",
        _ => "NO ACTION",
    }
}

/// Fills `information_schema.referential_constraints`.
pub fn referential_constraints(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, c) in view.tables.constraints() {
        let ConstraintKind::Foreign { table, columns, on_update, on_delete } = &c.kind else { continue };
        let target = view.tables.by_oid(*table);
        let key = target.and_then(|t| referred(t, columns));
        rows.push([
            ("constraint_catalog", (&view.session.database).into()),
            ("constraint_schema", (&t.schema).into()),
            ("constraint_name", (&c.name).into()),
            ("unique_constraint_catalog", key.map(|_| view.session.database.as_str()).into()),
            ("unique_constraint_schema", key.and(target).map(|t| t.schema.as_str()).into()),
            ("unique_constraint_name", key.map(|k| k.name.as_str()).into()),
            ("match_option", "NONE".into()),
            ("update_rule", rule(*on_update).into()),
            ("delete_rule", rule(*on_delete).into()),
        ]);
    }
    Ok(())
}

/// Fills `information_schema.constraint_column_usage`: for a foreign key, the columns that are referred to.
pub fn constraint_column_usage(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, c) in view.tables.constraints() {
        let (owner, columns) = match &c.kind {
            ConstraintKind::Foreign { table, columns, .. } => (view.tables.by_oid(*table), columns),
            _ => (Some(t), &c.columns),
        };
        for column in owner.into_iter().flat_map(|o| columns.iter().filter_map(move |n| o.column(*n))) {
            let Some(owner) = owner else { continue };
            rows.push([
                ("table_catalog", (&view.session.database).into()),
                ("table_schema", (&owner.schema).into()),
                ("table_name", (&owner.name).into()),
                ("column_name", (&column.name).into()),
                ("constraint_catalog", (&view.session.database).into()),
                ("constraint_schema", (&t.schema).into()),
                ("constraint_name", (&c.name).into()),
            ]);
        }
    }
    Ok(())
}

/// Fills `information_schema.constraint_table_usage`.
pub fn constraint_table_usage(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for (t, c) in view.tables.constraints().filter(|(_, c)| !matches!(c.kind, ConstraintKind::Check { .. })) {
        let owner = match &c.kind {
            ConstraintKind::Foreign { table, .. } => view.tables.by_oid(*table),
            _ => Some(t),
        };
        let Some(owner) = owner else { continue };
        rows.push([
            ("table_catalog", (&view.session.database).into()),
            ("table_schema", (&owner.schema).into()),
            ("table_name", (&owner.name).into()),
            ("constraint_catalog", (&view.session.database).into()),
            ("constraint_schema", (&t.schema).into()),
            ("constraint_name", (&c.name).into()),
        ]);
    }
    Ok(())
}
