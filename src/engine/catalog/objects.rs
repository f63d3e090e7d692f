//! The catalog's entries as the system relations tell them.
//!
//! In: one snapshot of the catalog. Out: [`Objects`]. Invariant: made once for each snapshot that somebody asks about and
//! shared while it is the newest. Deliberately absent: anything that is not in the catalog.

use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use squilla_core::types::SqlType;

use crate::catalog::data::{self, CatalogData, ColumnEntry, Constraint, Relation, RelationKind, SequenceEntry, ServerEntry};
use crate::statement::ident_text;
use crate::system::objects::{
    ColumnInfo, ConstraintInfo, ConstraintKind, Identity, IndexColumn, IndexInfo, Objects, RoleInfo, SchemaInfo, SequenceInfo, ServerInfo, TableInfo,
    TableKind,
};
use crate::system::oids;
use crate::system::procs::Procs;

/// The objects of the snapshots that were asked for last: more than one, because open transactions see their own.
#[derive(Debug, Default)]
pub struct ObjectCache(Mutex<Vec<(Arc<CatalogData>, Arc<Objects>)>>);

/// Snapshots that are kept.
const KEPT_MAX: usize = 4;

impl ObjectCache {
    /// The objects of this snapshot.
    pub fn of(&self, data: &Arc<CatalogData>, built_in: &Procs) -> Arc<Objects> {
        if let Some((_, objects)) = self.0.lock().iter().find(|(known, _)| Arc::ptr_eq(known, data)) {
            return Arc::clone(objects);
        }
        let made = Arc::new(objects(data, built_in));
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push((Arc::clone(data), Arc::clone(&made)));
        made
    }
}

fn objects(data: &CatalogData, built_in: &Procs) -> Objects {
    let functions = data.schemas.values().flat_map(|s| s.functions.values().map(|f| f.proc(s.oid)));
    let schema = |(name, s): (&String, &Arc<data::SchemaEntry>)| SchemaInfo {
        oid: s.oid,
        name: name.clone(),
        owner: s.owner.clone(),
        comment: s.comment.clone(),
    };
    let relations = data.schemas.iter().flat_map(|(schema, entry)| entry.relations.iter().map(move |(name, r)| table(data, schema, name, r)));
    let mut tables: Vec<TableInfo> = relations.collect();
    link(&mut tables);
    Objects {
        schemas: Arc::new(data.schemas.iter().map(schema).collect()),
        tables: Arc::new(tables.into()),
        roles: Arc::new(roles(data)),
        servers: Arc::new(servers(data)),
        procs: Arc::new(built_in.with_user(functions.collect())),
        comments: Arc::new(data.comments.clone()),
        kept: Arc::default(),
    }
}

fn column(c: &ColumnEntry) -> ColumnInfo {
    ColumnInfo {
        dimensions: c.dimensions,
        not_null: c.not_null,
        default: c.default.clone(),
        comment: c.comment.clone(),
        identity: c.identity.map(|i| match i {
            data::Identity::Always => Identity::Always,
            data::Identity::ByDefault => Identity::ByDefault,
        }),
        ..ColumnInfo::new(&c.name, c.sql_type().unwrap_or(SqlType::Text))
    }
}

/// OID of the index behind a key. Keys are enforced without one: it is there for those who look for it.
fn index_oid(constraint: &Constraint) -> Option<u32> {
    constraint.is_unique().then(|| oids::derived("index", &constraint.oid.to_string()))
}

fn numbers(relation: &Relation, names: &[String]) -> Vec<i16> {
    let number = |name: &String| relation.columns.iter().position(|c| c.name == *name).and_then(|i| i16::try_from(i + 1).ok());
    names.iter().filter_map(number).collect()
}

/// `pg_constraint.confdeltype` of the words of ON DELETE.
fn action(words: &str) -> char {
    match words.to_uppercase().as_str() {
        "CASCADE" => 'c',
        "RESTRICT" => 'r',
        "SET NULL" => 'n',
        "SET DEFAULT" => 'd',
        _ => 'a',
    }
}

fn constraint(data: &CatalogData, relation: &Relation, c: &Constraint) -> ConstraintInfo {
    let mut columns = numbers(relation, &c.columns);
    let kind = match &c.kind {
        data::ConstraintKind::PrimaryKey => ConstraintKind::Primary,
        data::ConstraintKind::Unique { nulls_not_distinct } => ConstraintKind::Unique { nulls_not_distinct: *nulls_not_distinct },
        data::ConstraintKind::Check { expression } => {
            if columns.is_empty() {
                columns = named_in(relation, expression);
            }
            ConstraintKind::Check { expression: expression.clone() }
        }
        data::ConstraintKind::ForeignKey { table, referred, on_delete, on_update } => ConstraintKind::Foreign {
            table: *table,
            columns: data.relation_by_oid(*table).map(|(_, _, r)| numbers(r, referred)).unwrap_or_default(),
            on_update: action(on_update),
            on_delete: action(on_delete),
        },
    };
    let comment = data.comments.get(&format!("constraint {}", c.oid)).filter(|text| !text.is_empty()).cloned();
    ConstraintInfo { oid: c.oid, name: c.name.clone(), kind, columns, index: index_oid(c), comment }
}

/// Columns that a check names.
fn named_in(relation: &Relation, expression: &str) -> Vec<i16> {
    let parse = Parser::new(&PostgreSqlDialect {}).try_with_sql(expression).and_then(|mut p| p.parse_expr());
    let Ok(expr) = parse else { return Vec::new() };
    let mut names = Vec::new();
    let _ = ast::visit_expressions(&expr, |e| {
        let name = match e {
            ast::Expr::Identifier(id) => Some(ident_text(id)),
            ast::Expr::CompoundIdentifier(ids) => ids.last().map(ident_text),
            _ => None,
        };
        names.extend(name.filter(|n| !names.contains(n)));
        ControlFlow::<()>::Continue(())
    });
    let mut found = numbers(relation, &names);
    found.sort_unstable();
    found
}

fn index(data: &CatalogData, relation: &Relation, c: &Constraint) -> Option<IndexInfo> {
    let oid = index_oid(c)?;
    let key = |number| IndexColumn { number, expression: None, descending: false, nulls_first: false };
    Some(IndexInfo {
        oid,
        name: c.name.clone(),
        method: "btree".into(),
        unique: true,
        primary: c.kind == data::ConstraintKind::PrimaryKey,
        columns: numbers(relation, &c.columns).into_iter().map(key).collect(),
        predicate: None,
        comment: data.comments.get(&format!("index {oid}")).filter(|text| !text.is_empty()).cloned(),
    })
}

fn table(data: &CatalogData, schema: &str, name: &str, relation: &Relation) -> TableInfo {
    let mut info = TableInfo {
        oid: relation.oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        owner: relation.owner.clone(),
        comment: relation.comment.clone(),
        columns: relation.columns.iter().map(column).collect(),
        temporary: schema.starts_with(data::TEMPORARY),
        constraints: relation.constraints.iter().map(|c| constraint(data, relation, c)).collect(),
        indexes: relation.constraints.iter().filter_map(|c| index(data, relation, c)).collect(),
        depends_on: relation.depends_on().to_vec(),
        ..TableInfo::default()
    };
    match &relation.kind {
        RelationKind::Table { files, materialized, .. } => {
            info.bytes = Some(files.bytes());
            info.rows = Some(files.live_rows());
            if let Some(query) = materialized {
                info.kind = TableKind::Materialized { sql: query.sql.clone(), populated: !query.unpopulated };
            }
        }
        RelationKind::View { sql, .. } => info.kind = TableKind::View { sql: sql.clone() },
        RelationKind::External { format, location, .. } => {
            info.kind = TableKind::External { format: format.clone(), location: location.clone() };
        }
        RelationKind::Sequence(s) => info.kind = TableKind::Sequence(sequence(data, s)),
    }
    info
}

fn sequence(data: &CatalogData, s: &SequenceEntry) -> SequenceInfo {
    let owner = s.owned_by.and_then(|(table, id)| {
        let (_, _, relation) = data.relation_by_oid(table)?;
        let column = relation.columns.iter().position(|c| c.id == id)?;
        Some((table, i16::try_from(column + 1).ok()?, relation.columns.get(column)?.sql_type().ok()?))
    });
    SequenceInfo {
        // A sequence behind a column counts in its type.
        ty: owner.as_ref().map(|(_, _, ty)| ty.clone()).filter(|ty| matches!(ty, SqlType::Int2 | SqlType::Int4)).unwrap_or(SqlType::Int8),
        start: s.start,
        increment: s.increment,
        min: s.min,
        max: s.max,
        cache: 1,
        cycle: s.cycle,
        last: None,
        owned_by: owner.map(|(table, number, _)| (table, number)),
    }
}

/// Tells each column the sequence behind it.
fn link(tables: &mut [TableInfo]) {
    let owned: Vec<(u32, u32, i16)> = tables
        .iter()
        .filter_map(|t| match &t.kind {
            TableKind::Sequence(s) => s.owned_by.map(|(table, number)| (t.oid, table, number)),
            _ => None,
        })
        .collect();
    for (sequence, table, number) in owned {
        let column = tables.iter_mut().find(|t| t.oid == table).and_then(|t| t.columns.get_mut(usize::try_from(number - 1).ok()?));
        column.into_iter().for_each(|c| c.sequence = Some(sequence));
    }
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
    data.listed_roles()
        .map(|(name, r)| RoleInfo {
            oid: r.oid,
            name: name.clone(),
            superuser: r.superuser,
            login: r.login,
            create_role: r.create_role,
            create_db: r.create_db,
            connection_limit: r.connection_limit,
            has_password: r.scram_verifier.is_some(),
            member_of: r.member_of.keys().cloned().collect(),
            comment: data.comments.get(&format!("role {name}")).filter(|c| !c.is_empty()).cloned(),
        })
        .collect()
}
