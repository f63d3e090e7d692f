//! Schemas, tables, views, external tables, comments.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use sqlparser::ast::{
    self, AlterTable, AlterTableOperation, ColumnOption, CommentObject, CreateTable, CreateView, ObjectName, ObjectType, SchemaName, Truncate,
};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{ColumnEntry, RelationKind};
use crate::catalog::relations::{DropKind, Dropped};
use crate::catalog::store::NewTable;
use crate::command::data::{start, target};
use crate::command::done;
use crate::session::query::sendable;
use crate::session::{Execution, Notice, Session};
use crate::statement::{CreateExternalTable, Statement, ident_text, name_parts, name_text};

/// The schema and name that a new object gets: the first schema of the search path when none is named.
fn place(session: &Arc<Session>, name: &ObjectName) -> Result<(String, String)> {
    let data = session.database.catalog.snapshot();
    match name_parts(name).as_slice() {
        [name] => {
            let path = session.search_path(&data);
            let schema = path.into_iter().find(|s| data.schemas.contains_key(s));
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

/// The catalog entry of a declared column.
fn declared(column: &ast::ColumnDef) -> Result<ColumnEntry> {
    let spelling = column.data_type.to_string();
    let ty = SqlType::parse(&spelling).or_else(|| SqlType::parse(&spelling.replace(' ', "")));
    let ty = ty.ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{}\" does not exist", spelling.to_lowercase())))?;
    let mut entry = ColumnEntry::new(ident_text(&column.name), &ty);
    for option in &column.options {
        match &option.option {
            ColumnOption::NotNull => entry.not_null = true,
            ColumnOption::Null => {}
            ColumnOption::Default(expr) => entry.default = Some(expr.to_string()),
            ColumnOption::Comment(comment) => entry.comment = Some(comment.clone()),
            other => {
                return Err(
                    Error::unsupported(format!("the column constraint {other} is not supported yet")).hint("NOT NULL and DEFAULT are supported.")
                );
            }
        }
    }
    Ok(entry)
}

/// CREATE TABLE, CREATE TABLE AS
pub async fn create_table(session: &Arc<Session>, create: &CreateTable, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    if create.temporary {
        return Err(Error::unsupported("temporary tables are not supported yet"));
    }
    let (schema, name) = place(session, &create.name)?;
    let mut columns = create.columns.iter().map(declared).collect::<Result<Vec<_>>>()?;
    if let Some(constraint) = create.constraints.first() {
        return Err(Error::unsupported(format!("the table constraint {constraint} is not supported yet")));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = columns.iter().find(|c| !seen.insert(c.name.clone())) {
        return Err(Error::new(Kind::DuplicateColumn, format!("column \"{}\" specified more than once", twice.name)));
    }
    let taken = session.database.catalog.snapshot().schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name));
    if taken && create.if_not_exists {
        session.notify(Notice::plain(format!("relation \"{name}\" already exists, skipping")));
        return done("CREATE TABLE");
    }
    if taken {
        return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
    }
    let mut new = NewTable { schema, name, owner: session.shared.user.clone(), columns: Vec::new(), if_not_exists: create.if_not_exists };
    let Some(query) = &create.query else {
        new.columns = columns;
        session.database.store.create(new, None).await?;
        return done("CREATE TABLE");
    };
    let plan = session.plan_query(ast::Statement::Query(query.clone()), &statement.text, &[]).await?;
    if columns.is_empty() {
        columns = entries(session, &plan)?;
    }
    new.columns = columns;
    let running = start(session, plan, &statement.text, parameters).await?;
    let stream = sendable(running.stream, running.schema);
    let rows = running.frame.stop.guard(session.database.store.create(new, Some(stream))).await?;
    done(format!("SELECT {}", rows.unwrap_or(0)))
}

/// Columns of a query as catalog entries; 42701 for a repeated name.
fn entries(session: &Arc<Session>, plan: &datafusion::logical_expr::LogicalPlan) -> Result<Vec<ColumnEntry>> {
    let mut seen = std::collections::HashSet::new();
    session
        .result_fields(plan)
        .into_iter()
        .map(|field| {
            if !seen.insert(field.name.clone()) {
                return Err(Error::new(Kind::DuplicateColumn, format!("column \"{}\" specified more than once", field.name)));
            }
            let ty = if field.ty == SqlType::Unknown { SqlType::Text } else { field.ty };
            Ok(ColumnEntry::new(field.name, &ty))
        })
        .collect()
}

/// CREATE VIEW
pub async fn create_view(session: &Arc<Session>, create: &CreateView, statement: &Statement) -> Result<Execution> {
    if create.materialized {
        return Err(Error::unsupported("materialized views are not supported yet").hint("Use CREATE TABLE ... AS SELECT."));
    }
    let (schema, name) = place(session, &create.name)?;
    let plan = session.plan_query(ast::Statement::Query(create.query.clone()), &statement.text, &[]).await?;
    let mut columns = entries(session, &plan)?;
    let mut query = create.query.to_string();
    if !create.columns.is_empty() {
        if create.columns.len() > columns.len() {
            return Err(Error::new(Kind::Syntax, "CREATE VIEW specifies more column names than columns"));
        }
        let names: Vec<String> = create.columns.iter().map(|c| ident_text(&c.name)).collect();
        columns.iter_mut().zip(&names).for_each(|(c, n)| c.name.clone_from(n));
        let quoted: Vec<String> = columns.iter().map(|c| format!("\"{}\"", c.name.replace('"', "\"\""))).collect();
        query = format!("SELECT * FROM ({query}) AS view_columns ({})", quoted.join(", "));
    }
    let kind = RelationKind::View { sql: query, depends_on: Vec::new() };
    let owner = session.shared.user.clone();
    session.database.catalog.update(|data| {
        if create.or_replace {
            data.replace_view(&schema, &name, &owner, columns, kind)
        } else {
            data.create_relation(&schema, &name, &owner, columns, kind)
        }
    })?;
    done("CREATE VIEW")
}

/// CREATE EXTERNAL TABLE
pub async fn create_external(session: &Arc<Session>, create: &CreateExternalTable) -> Result<Execution> {
    let (schema, name) = place(session, &create.name)?;
    let snapshot = session.database.catalog.snapshot();
    let taken = snapshot.schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name));
    if taken && create.if_not_exists {
        session.notify(Notice::plain(format!("relation \"{name}\" already exists, skipping")));
        return done("CREATE EXTERNAL TABLE");
    }
    let columns = create.columns.iter().map(declared).collect::<Result<Vec<_>>>()?;
    crate::source::tables::check_external(&create.format, &create.location, &create.options)?;
    // The files are looked at now: a wrong path or format is told here, and their columns are kept for \d.
    let frame = session.frame("CREATE EXTERNAL TABLE")?;
    let (access, location) = (&session.database.files, create.location.as_str());
    let made = crate::source::tables::external(&columns, &create.format, location, &create.options, &create.partitioned_by, access, &frame.state);
    let found = frame.stop.guard(made).await?.schema();
    let columns =
        if columns.is_empty() { found.fields().iter().map(|f| ColumnEntry::new(f.name().clone(), &SqlType::of_field(f))).collect() } else { columns };
    let kind = RelationKind::External {
        format: create.format.clone(),
        location: create.location.clone(),
        options: create.options.clone(),
        partitioned_by: create.partitioned_by.clone(),
    };
    let owner = session.shared.user.clone();
    session.database.catalog.update(|data| {
        if taken && create.or_replace {
            data.drop_relation(DropKind::External, &schema, &name, false, false)?;
        }
        data.create_relation(&schema, &name, &owner, columns, kind)
    })?;
    done("CREATE EXTERNAL TABLE")
}

/// CREATE SCHEMA
pub fn create_schema(session: &Arc<Session>, name: &SchemaName, if_not_exists: bool) -> Result<Execution> {
    let (name, owner) = match name {
        SchemaName::Simple(name) => (name_text(name), session.shared.user.clone()),
        SchemaName::UnnamedAuthorization(owner) => (ident_text(owner), ident_text(owner)),
        SchemaName::NamedAuthorization(name, owner) => (name_text(name), ident_text(owner)),
    };
    if if_not_exists && session.database.catalog.snapshot().schemas.contains_key(&name) {
        session.notify(Notice::plain(format!("schema \"{name}\" already exists, skipping")));
        return done("CREATE SCHEMA");
    }
    session.database.catalog.update(|data| data.create_schema(&name, &owner))?;
    done("CREATE SCHEMA")
}

/// DROP TABLE, VIEW, SCHEMA
pub fn drop(session: &Arc<Session>, what: ObjectType, if_exists: bool, names: &[ObjectName], cascade: bool) -> Result<Execution> {
    let kind = match what {
        ObjectType::Table => DropKind::Table,
        ObjectType::View => DropKind::View,
        ObjectType::Schema => return drop_schemas(session, if_exists, names, cascade),
        other => return Err(Error::unsupported(format!("DROP {other} is not supported"))),
    };
    let data = session.database.catalog.snapshot();
    let path = session.search_path(&data);
    let dropped = session.database.catalog.update(|data| {
        let mut dropped = Vec::new();
        for name in names {
            let parts = name_parts(name);
            let (schema, table) = match parts.as_slice() {
                [table] => (data.resolve(&path, table).map_or_else(|| "public".to_owned(), |(s, _)| s.to_owned()), table.clone()),
                [schema, table] | [_, schema, table] => (schema.clone(), table.clone()),
                _ => return Err(Error::new(Kind::InvalidName, "improper name")),
            };
            let gone = data.drop_relation(kind, &schema, &table, if_exists, cascade)?;
            if gone.is_empty() {
                let word = if kind == DropKind::View { "view" } else { "table" };
                session.notify(Notice::plain(format!("{word} \"{table}\" does not exist, skipping")));
            }
            dropped.extend(gone);
        }
        Ok(dropped)
    })?;
    free(session, &dropped);
    done(if kind == DropKind::View { "DROP VIEW" } else { "DROP TABLE" })
}

fn free(session: &Arc<Session>, dropped: &[Dropped]) {
    session.database.store.dropped(dropped);
}

fn drop_schemas(session: &Arc<Session>, if_exists: bool, names: &[ObjectName], cascade: bool) -> Result<Execution> {
    let dropped = session.database.catalog.update(|data| {
        let mut dropped = Vec::new();
        for name in names.iter().map(name_text) {
            if if_exists && !data.schemas.contains_key(&name) {
                session.notify(Notice::plain(format!("schema \"{name}\" does not exist, skipping")));
                continue;
            }
            dropped.extend(data.drop_schema(&name, cascade)?);
        }
        Ok(dropped)
    })?;
    free(session, &dropped);
    done("DROP SCHEMA")
}

/// TRUNCATE
pub async fn truncate(session: &Arc<Session>, truncate: &Truncate) -> Result<Execution> {
    for table in &truncate.table_names {
        let (schema, name, relation) = target(session, &table.name)?;
        if !matches!(relation.kind, RelationKind::Table { .. }) {
            return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a table")));
        }
        session.database.store.truncate(&schema, &name).await?;
    }
    done("TRUNCATE TABLE")
}

/// ALTER TABLE: renames.
pub fn alter_table(session: &Arc<Session>, alter: &AlterTable) -> Result<Execution> {
    let (schema, name, _) = match target(session, &alter.name) {
        Err(_) if alter.if_exists => {
            session.notify(Notice::plain(format!("relation \"{}\" does not exist, skipping", name_text(&alter.name))));
            return done("ALTER TABLE");
        }
        other => other?,
    };
    session.database.catalog.update(|data| {
        for operation in &alter.operations {
            match operation {
                AlterTableOperation::RenameTable { table_name } => {
                    let to = match table_name {
                        ast::RenameTableNameKind::To(to) | ast::RenameTableNameKind::As(to) => name_parts(to).pop().unwrap_or_default(),
                    };
                    data.rename_relation(&schema, &name, &to)?;
                }
                AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                    data.rename_column(&schema, &name, &ident_text(old_column_name), &ident_text(new_column_name))?;
                }
                other => return Err(Error::unsupported(format!("ALTER TABLE {other} is not supported yet"))),
            }
        }
        Ok(())
    })?;
    done("ALTER TABLE")
}

/// COMMENT ON
pub fn comment(session: &Arc<Session>, what: CommentObject, name: &ObjectName, comment: Option<&String>, if_exists: bool) -> Result<Execution> {
    let text = comment.cloned();
    match what {
        CommentObject::Schema => session.database.catalog.update(|data| data.comment_on_schema(&name_text(name), text))?,
        CommentObject::Table | CommentObject::View => {
            let (schema, table, _) = match target(session, name) {
                Err(_) if if_exists => return done("COMMENT"),
                other => other?,
            };
            session.database.catalog.update(|data| data.comment_on_relation(&schema, &table, text))?;
        }
        CommentObject::Column => {
            let mut parts = name.0.clone();
            let column = parts.pop().and_then(|p| p.as_ident().map(ident_text)).unwrap_or_default();
            let (schema, table, _) = target(session, &ObjectName(parts))?;
            session.database.catalog.update(|data| data.comment_on_column(&schema, &table, &column, text))?;
        }
        CommentObject::Database => session.database.catalog.update(|data| {
            data.comments.insert("database squilla".into(), text.unwrap_or_default());
            Ok(())
        })?,
        other => return Err(Error::unsupported(format!("COMMENT ON {other} is not supported"))),
    }
    done("COMMENT")
}
