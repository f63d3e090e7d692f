//! CREATE TABLE in all its forms, SELECT INTO, sequences, materialized views.
//!
//! Invariant: a table and the sequences, constraints and rows that come with it are one edit of the transaction.
//! Deliberately absent: partitions, inheritance.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::{self, CreateTable, CreateView, ObjectName, OnCommit, Query, SequenceOptions, SetExpr};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{self, CatalogData, ColumnEntry, Materialized, Relation, RelationKind, SchemaEntry};
use crate::command::columns::{Declared, free_name, name_indexes, sequence};
use crate::command::data::start;
use crate::command::ddl::depends_on;
use crate::command::done;
use crate::command::write::{self, Into, Positions, Target, put};
use crate::session::query::sendable;
use crate::session::transaction::temporary_schema;
use crate::session::{Execution, Notice, Session};
use crate::statement::alter::Refresh;
use crate::statement::{Statement, name_parts, name_text, quoted};

/// The schema and name that a new object gets: the first schema of the search path when none is named.
pub fn place(session: &Arc<Session>, name: &ObjectName, temporary: bool) -> Result<(String, String)> {
    let data = session.snapshot();
    let own = temporary_schema(session.shared.pid);
    match name_parts(name).as_slice() {
        [name] if temporary => Ok((own, name.clone())),
        [schema, name] if temporary || schema == "pg_temp" => {
            if schema != "pg_temp" && *schema != own {
                return Err(Error::new(Kind::InvalidTableDefinition, "cannot create temporary relation in non-temporary schema"));
            }
            Ok((own, name.clone()))
        }
        [name] => {
            let path = session.search_path(&data);
            let schema = path.into_iter().find(|s| *s != own && data.schemas.contains_key(s));
            let schema = schema.ok_or_else(|| Error::new(Kind::UndefinedSchema, "no schema has been selected to create in"))?;
            Ok((schema, name.clone()))
        }
        [schema, name] | [_, schema, name] => {
            if matches!(schema.as_str(), "pg_catalog" | "information_schema" | "squilla") {
                return Err(Error::new(Kind::InsufficientPrivilege, format!("permission denied to create \"{schema}.{name}\""))
                    .detail("System schemas cannot be changed."));
            }
            Ok((schema.clone(), name.clone()))
        }
        _ => Err(Error::new(Kind::InvalidName, format!("improper qualified name: {}", name_text(name)))),
    }
}

/// Makes the schema of temporary tables when it is wanted and not there.
pub fn ensure_temporary(data: &mut CatalogData, schema: &str, owner: &str) -> Result<()> {
    if schema.starts_with(crate::catalog::data::TEMPORARY) && !data.schemas.contains_key(schema) {
        let entry = SchemaEntry {
            oid: data.allocate_oid()?,
            owner: owner.to_owned(),
            comment: None,
            relations: Default::default(),
            functions: Default::default(),
        };
        data.schemas.insert(schema.to_owned(), Arc::new(entry));
    }
    Ok(())
}

fn refuse(create: &CreateTable) -> Result<()> {
    if create.partition_by.is_some() || create.partition_of.is_some() {
        return Err(Error::unsupported("partitioned tables are not supported"));
    }
    if create.inherits.is_some() {
        return Err(Error::unsupported("table inheritance is not supported"));
    }
    if create.on_commit.is_some() && !create.temporary {
        return Err(Error::new(Kind::InvalidTableDefinition, "ON COMMIT can only be used on temporary tables"));
    }
    Ok(())
}

/// A table without rows, with what its ON COMMIT says.
fn table_of(create: &CreateTable) -> RelationKind {
    let mut kind = RelationKind::table();
    if let RelationKind::Table { on_commit, .. } = &mut kind {
        *on_commit = match create.on_commit {
            Some(OnCommit::Drop) => Some(data::OnCommit::Drop),
            Some(OnCommit::DeleteRows) => Some(data::OnCommit::DeleteRows),
            Some(OnCommit::PreserveRows) | None => None,
        };
    }
    kind
}

/// CREATE TABLE, CREATE TABLE AS
pub async fn create_table(session: &Arc<Session>, create: &CreateTable, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    refuse(create)?;
    let (schema, name) = place(session, &create.name, create.temporary)?;
    let taken = session.snapshot().schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name));
    if taken && let Some(query) = &create.query {
        // What is wrong with the query is said first.
        session.plan_query(ast::Statement::Query(query.clone()), &statement.text, &[]).await?;
    }
    if taken && create.if_not_exists {
        let error = Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists, skipping"));
        session.notify(Notice { severity: "NOTICE", code: "42P07", error });
        return done("CREATE TABLE");
    }
    if taken {
        return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
    }
    if let Some(query) = &create.query {
        let names = create.columns.iter().map(|c| crate::statement::ident_text(&c.name)).collect();
        let rows = create_as(session, (schema, name), query, names, statement, parameters, table_of(create)).await?;
        return done(format!("SELECT {rows}"));
    }
    if create.like.is_some() {
        return Err(Error::new(Kind::Syntax, "syntax error at or near \"LIKE\"").hint("LIKE stands among the columns: CREATE TABLE t (LIKE other)."));
    }
    let mut declared = Declared::table(session, &name, &create.columns, &create.constraints)?;
    declared.settle()?;
    make(session, &schema, &name, declared, table_of(create))?;
    done("CREATE TABLE")
}

/// Makes a table and the sequences of its columns.
fn make(session: &Arc<Session>, schema: &str, name: &str, declared: Declared, kind: RelationKind) -> Result<Target> {
    let owner = session.role();
    let relation = session.edit(|data| {
        ensure_temporary(data, schema, &owner)?;
        let oid = data.create_relation(schema, name, &owner, declared.columns.clone(), kind)?;
        let mut constraints = declared.constraints.clone();
        for constraint in &mut constraints {
            constraint.oid = data.allocate_oid()?;
        }
        name_indexes(data, schema, name, oid, &mut constraints)?;
        data.relation_mut(schema, name)?.constraints = constraints;
        for wanted in &declared.sequences {
            add_sequence(data, (schema, name), oid, &wanted.column, wanted.sequence.clone(), &owner)?;
        }
        data.relation(schema, name).cloned()
    })?;
    Ok(Target { schema: schema.to_owned(), alias: name.to_owned(), name: name.to_owned(), relation })
}

/// Makes the sequence of a column, which becomes the column's default.
pub fn add_sequence(
    data: &mut CatalogData,
    table: (&str, &str),
    oid: u32,
    column: &str,
    mut sequence: crate::catalog::data::SequenceEntry,
    owner: &str,
) -> Result<()> {
    let (schema, name) = table;
    let base = format!("{name}_{column}_seq");
    let free = free_name(&base, |n| data.schemas.get(schema).is_some_and(|s| s.relations.contains_key(n)));
    let id = data.relation(schema, name)?.columns.iter().find(|c| c.name == column).map_or(0, |c| c.id);
    sequence.owned_by = Some((oid, id));
    data.create_relation(schema, &free, owner, Vec::new(), RelationKind::Sequence(sequence))?;
    let default = format!("nextval({})", literal(&format!("{}.{}", plain(schema), plain(&free))));
    crate::catalog::relations::find_column(data.relation_mut(schema, name)?, name, column)?.default = Some(default);
    Ok(())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name with quotes where it needs them.
fn plain(name: &str) -> String {
    let simple = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if simple { name.to_owned() } else { quoted(name) }
}

/// Columns of a query as catalog entries; 42701 for a repeated name.
pub fn entries(session: &Arc<Session>, plan: &LogicalPlan, names: &[String]) -> Result<Vec<ColumnEntry>> {
    let mut seen = std::collections::HashSet::new();
    let fields = session.result_fields(plan);
    if names.len() > fields.len() {
        return Err(Error::new(Kind::Syntax, "too many column names were specified"));
    }
    fields
        .into_iter()
        .enumerate()
        .map(|(i, field)| {
            let name = names.get(i).cloned().unwrap_or(field.name);
            if !seen.insert(name.clone()) {
                return Err(Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once")));
            }
            let ty = if field.ty == SqlType::Unknown { SqlType::Text } else { field.ty };
            Ok(ColumnEntry::new(name, &ty))
        })
        .collect()
}

/// A table with the rows of a query: how many.
async fn create_as(
    session: &Arc<Session>,
    place: (String, String),
    query: &Query,
    names: Vec<String>,
    statement: &Statement,
    parameters: Vec<ScalarValue>,
    kind: RelationKind,
) -> Result<u64> {
    let plan = session.plan_query(ast::Statement::Query(Box::new(query.clone())), &statement.text, &[]).await?;
    let columns = entries(session, &plan, &names)?;
    // The query does not see the table that it makes.
    let running = start(session, plan, &statement.text, parameters).await?;
    let target = make(session, &place.0, &place.1, Declared { columns, ..Declared::default() }, kind)?;
    let stream = sendable(running.stream, running.schema);
    let into = Into { target: &target, changed: None, keep: false };
    let (staged, _) = running.frame.stop.guard(put(session, into, stream, Positions::default)).await?;
    Ok(staged.rows)
}

/// SELECT ... INTO
pub async fn select_into(session: &Arc<Session>, query: &Query, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let mut query = query.clone();
    let into = match query.body.as_mut() {
        SetExpr::Select(select) => select.into.take(),
        _ => None,
    };
    let into = into.ok_or_else(|| Error::internal("SELECT INTO without INTO"))?;
    let (schema, name) = place(session, &into.name, into.temporary)?;
    if session.snapshot().schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name)) {
        return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
    }
    let rows = create_as(session, (schema, name), &query, Vec::new(), statement, parameters, RelationKind::table()).await?;
    done(format!("SELECT {rows}"))
}

/// CREATE MATERIALIZED VIEW
pub async fn materialized(session: &Arc<Session>, create: &CreateView, statement: &Statement) -> Result<Execution> {
    let (schema, name) = place(session, &create.name, false)?;
    if session.snapshot().schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name)) {
        if create.if_not_exists {
            session.notify(Notice::plain(format!("relation \"{name}\" already exists, skipping")));
            return done("CREATE MATERIALIZED VIEW");
        }
        return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
    }
    let mut kind = RelationKind::table();
    if let RelationKind::Table { materialized, .. } = &mut kind {
        let depends_on = depends_on(session, &create.query);
        *materialized = Some(Materialized {
            sql: crate::command::qualify::qualified(session, &create.query).to_string(),
            depends_on,
            unpopulated: create.with_no_schema_binding,
        });
    }
    let names = create.columns.iter().map(|c| crate::statement::ident_text(&c.name)).collect();
    let query = match create.with_no_schema_binding {
        true => write::query_of(session, &format!("SELECT * FROM ({}) AS no_data LIMIT 0", create.query))?,
        false => create.query.clone(),
    };
    let rows = create_as(session, (schema, name), &query, names, statement, Vec::new(), kind).await?;
    if create.with_no_schema_binding {
        return done("CREATE MATERIALIZED VIEW");
    }
    done(format!("SELECT {rows}"))
}

/// REFRESH MATERIALIZED VIEW
pub async fn refresh(session: &Arc<Session>, refresh: &Refresh, statement: &Statement) -> Result<Execution> {
    let (schema, name, relation) = write::find(session, &refresh.name)?;
    let RelationKind::Table { materialized: Some(view), .. } = &relation.kind else {
        return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a materialized view")));
    };
    let query = write::query_of(session, &view.sql)?;
    let target = Target { schema, alias: name.clone(), name, relation: emptied(&relation) };
    let running = if refresh.empty {
        None
    } else {
        let plan = session.plan_query(ast::Statement::Query(query), &statement.text, &[]).await?;
        Some(start(session, plan, &statement.text, Vec::new()).await?)
    };
    session.edit(|data| {
        let relation = data.relation_mut(&target.schema, &target.name)?;
        relation.files_mut().into_iter().for_each(|f| f.clear());
        if let RelationKind::Table { materialized: Some(view), .. } = &mut relation.kind {
            view.unpopulated = refresh.empty;
        }
        Ok(())
    })?;
    if let Some(running) = running {
        let stream = sendable(running.stream, running.schema);
        let into = Into { target: &target, changed: None, keep: false };
        running.frame.stop.guard(put(session, into, stream, Positions::default)).await?;
    }
    done("REFRESH MATERIALIZED VIEW")
}

fn emptied(relation: &Relation) -> Relation {
    relation.definition()
}

/// CREATE SEQUENCE
pub fn create_sequence(
    session: &Arc<Session>,
    name: &ObjectName,
    temporary: bool,
    if_not_exists: bool,
    options: &[SequenceOptions],
    owned_by: Option<&ObjectName>,
) -> Result<Execution> {
    let (schema, name) = place(session, name, temporary)?;
    if if_not_exists && session.snapshot().schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name)) {
        session.notify(Notice::plain(format!("relation \"{name}\" already exists, skipping")));
        return done("CREATE SEQUENCE");
    }
    let mut entry = sequence(options, i64::MAX)?;
    entry.owned_by = owned_by.map(|owner| owner_column(session, owner)).transpose()?.flatten();
    let owner = session.role();
    session.edit(|data| {
        ensure_temporary(data, &schema, &owner)?;
        data.create_relation(&schema, &name, &owner, Vec::new(), RelationKind::Sequence(entry))
    })?;
    done("CREATE SEQUENCE")
}

/// The column of `OWNED BY table.column`; None for NONE.
pub fn owner_column(session: &Arc<Session>, name: &ObjectName) -> Result<Option<(u32, u32)>> {
    let mut parts = name.0.clone();
    let column = parts.pop().and_then(|p| p.as_ident().map(crate::statement::ident_text)).unwrap_or_default();
    if parts.is_empty() {
        return Ok(None);
    }
    let (_, table, relation) = write::find(session, &ObjectName(parts))?;
    let found = relation.columns.iter().find(|c| c.name == column).map(|c| (relation.oid, c.id));
    let missing = || Error::new(Kind::UndefinedColumn, format!("column \"{column}\" of relation \"{table}\" does not exist"));
    found.ok_or_else(missing).map(Some)
}
