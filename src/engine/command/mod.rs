//! Statements other than plain queries.
//!
//! In: a bound session and a statement. Out: an [`Execution`]. Each family has a file; this one decides which. Invariant:
//! a statement either has its whole effect or none: files are staged first, one edit of the session's transaction makes
//! them part of a table. Deliberately absent: what a transaction is (`session::transaction`).

pub mod alter;
pub mod columns;
pub mod comments;
pub mod conflict;
pub mod copy;
pub mod create;
pub mod cursors;
pub mod data;
pub mod ddl;
pub mod functions;
pub mod insert;
pub mod like;
pub mod literals;
pub mod merge;
pub mod models;
pub mod qualify;
pub mod returning;
pub mod roles;
pub mod servers;
pub mod sessions;
pub mod update;
pub mod with;
pub mod write;

use std::sync::Arc;

use datafusion::common::ScalarValue;
use sqlparser::ast;
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::explain;
use crate::session::{Execution, ResultField, Session};
use crate::statement::copy::{CopySource, CopyTarget};
use crate::statement::{Statement, StatementKind};

/// A result without rows.
pub fn done(tag: impl Into<String>) -> Result<Execution> {
    Ok(Execution::Done { tag: tag.into() })
}

/// A column of text or of another type.
pub fn column(name: &str, ty: SqlType) -> ResultField {
    ResultField { name: name.to_owned(), ty, table_oid: 0, column_number: 0 }
}

/// The result columns that a statement will have, before it runs; None has no rows.
pub async fn fields(session: &Arc<Session>, statement: &Statement) -> Result<Option<Vec<ResultField>>> {
    if let Some(found) = found(session, statement)? {
        return update::returned_fields(session, &found, &statement.text).await;
    }
    Ok(match &*statement.kind {
        StatementKind::Explain(explain) => {
            let ty = if explain.format == crate::statement::explain::ExplainFormat::Json { SqlType::Json } else { SqlType::Text };
            Some(vec![column("QUERY PLAN", ty)])
        }
        StatementKind::Fetch(fetch) => cursors::fields(session, fetch),
        StatementKind::Sql(sql) if with::concerns(sql) => with::fields(session, sql, statement).await?,
        StatementKind::Sql(sql) => match &**sql {
            ast::Statement::ShowVariable { variable } => Some(sessions::show_fields(variable)),
            ast::Statement::Insert(insert) => match &insert.returning {
                Some(items) => {
                    let bound = insert::bind(session, insert)?;
                    let schema = crate::table::fit::stored_schema(&bound.target.relation.columns)?;
                    Some(returning::Returning::new(items, &bound.target).fields(session, &bound.target, schema).await?)
                }
                None => None,
            },
            ast::Statement::Execute { name: Some(name), .. } => {
                session.inner.lock().prepared.get(&crate::statement::name_text(name)).and_then(|p| p.prepared.fields().map(<[_]>::to_vec))
            }
            _ => None,
        },
        _ => None,
    })
}

/// Types of the parameters of a statement that is not a plain query.
pub async fn parameter_types(session: &Arc<Session>, statement: &Statement, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
    if !statement.text.contains('$') {
        return Ok(given.iter().map(|t| t.clone().unwrap_or(SqlType::Text)).collect());
    }
    if let StatementKind::Sql(sql) = &*statement.kind
        && with::concerns(sql)
    {
        return with::parameter_types(session, sql, statement, given).await;
    }
    if let Some(found) = found(session, statement)? {
        return found.parameter_types(session, &statement.text, given).await;
    }
    let query = match &*statement.kind {
        StatementKind::Sql(sql) => match &**sql {
            ast::Statement::Merge(merge) => {
                return merge::bind(session, merge)?.parameter_types(session, &statement.text, given).await;
            }
            ast::Statement::Insert(insert) => insert::bind(session, insert)?.source,
            ast::Statement::CreateTable(create) => create.query.clone(),
            _ => None,
        },
        StatementKind::Declare(declare) => Some(declare.query.clone()),
        StatementKind::Copy(copy) => match &copy.source {
            CopySource::Query(query) => Some(query.clone()),
            CopySource::Table { .. } => None,
        },
        _ => None,
    };
    match query {
        Some(query) => session.types_over(ast::Statement::Query(query), &statement.text, given, Vec::new()).await,
        None => Ok(given.iter().map(|t| t.clone().unwrap_or(SqlType::Text)).collect()),
    }
}

/// The query behind an UPDATE or DELETE.
fn found(session: &Arc<Session>, statement: &Statement) -> Result<Option<update::Found>> {
    match &*statement.kind {
        StatementKind::Sql(sql) => match &**sql {
            ast::Statement::Update(update) => update::bind_update(session, update).map(Some),
            ast::Statement::Delete(delete) => update::bind_delete(session, delete).map(Some),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The INTO of a SELECT.
pub fn into_table(query: &ast::Query) -> Option<&ast::SelectInto> {
    match query.body.as_ref() {
        ast::SetExpr::Select(select) => select.into.as_ref(),
        _ => None,
    }
}

/// The words of a statement that changes the catalog or a table; None for others.
pub fn writes(statement: &Statement) -> Option<String> {
    use ast::Statement as S;
    let word = match &*statement.kind {
        StatementKind::Sql(sql) => match &**sql {
            S::Insert(_) => "INSERT".to_owned(),
            S::Update(_) => "UPDATE".to_owned(),
            S::Delete(_) => "DELETE".to_owned(),
            S::Merge(_) => "MERGE".to_owned(),
            S::Query(query) => match with::changes(query).first() {
                Some(change) => change.to_string().split_whitespace().next().map(str::to_uppercase)?,
                None => into_table(query).map(|_| "SELECT INTO".to_owned())?,
            },
            S::CreateTable(create) => if create.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" }.to_owned(),
            S::CreateView(_) => "CREATE VIEW".to_owned(),
            S::CreateSchema { .. } => "CREATE SCHEMA".to_owned(),
            S::CreateIndex(_) => "CREATE INDEX".to_owned(),
            S::CreateSequence { .. } => "CREATE SEQUENCE".to_owned(),
            S::Drop { object_type, .. } => format!("DROP {object_type}"),
            S::Truncate(_) => "TRUNCATE TABLE".to_owned(),
            S::AlterTable(_) => "ALTER TABLE".to_owned(),
            S::AlterSchema(_) => "ALTER SCHEMA".to_owned(),
            S::CreateFunction(_) => "CREATE FUNCTION".to_owned(),
            S::DropFunction(_) => "DROP FUNCTION".to_owned(),
            _ => return None,
        },
        StatementKind::CreateExternalTable(_) => "CREATE EXTERNAL TABLE".to_owned(),
        StatementKind::Comment(_) => "COMMENT".to_owned(),
        StatementKind::AlterFunction(_) => "ALTER FUNCTION".to_owned(),
        StatementKind::Alter(alter) => format!("ALTER {}", alter.what),
        StatementKind::Refresh(_) => "REFRESH MATERIALIZED VIEW".to_owned(),
        StatementKind::Copy(copy) if !copy.to => "COPY FROM".to_owned(),
        StatementKind::CreateModel(_) => "CREATE MODEL".to_owned(),
        StatementKind::DropModel { .. } => "DROP MODEL".to_owned(),
        StatementKind::Foreign(_) => "CREATE SERVER".to_owned(),
        StatementKind::Role(role) => role.writes()?.to_owned(),
        _ => return None,
    };
    Some(word)
}

/// Whether a statement puts rows into files, which appear when they are whole.
pub fn writes_files(statement: &Statement) -> bool {
    let StatementKind::Copy(copy) = &*statement.kind else { return false };
    // What changes rows on its way is not done again.
    let changes = matches!(&copy.source, CopySource::Query(query) if !with::changes(query).is_empty());
    copy.to && matches!(copy.target, CopyTarget::Location(_)) && !changes
}

/// Whether a statement is allowed in an aborted transaction.
pub fn ends_transaction(statement: &Statement) -> bool {
    matches!(&*statement.kind, StatementKind::Sql(sql) if matches!(**sql, ast::Statement::Commit { .. } | ast::Statement::Rollback { .. }))
}

/// Whether a statement leaves a transaction's modes open to change: it reads and writes nothing.
pub fn is_query(statement: &Statement) -> bool {
    use ast::Statement as S;
    match &*statement.kind {
        StatementKind::Sql(sql) => !matches!(
            **sql,
            S::Set(_)
                | S::ShowVariable { .. }
                | S::Reset(_)
                | S::Discard { .. }
                | S::StartTransaction { .. }
                | S::Commit { .. }
                | S::Rollback { .. }
                | S::Savepoint { .. }
                | S::ReleaseSavepoint { .. }
                | S::Prepare { .. }
                | S::Deallocate { .. }
        ),
        StatementKind::Role(_) | StatementKind::Close(_) => false,
        _ => true,
    }
}

/// Runs a statement.
pub async fn run(session: &Arc<Session>, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    match &*statement.kind {
        StatementKind::Sql(sql) => run_sql(session, statement, sql, parameters).await,
        StatementKind::CreateModel(create) => models::create(session, create).await,
        StatementKind::DropModel { if_exists, names } => models::drop(session, *if_exists, names),
        StatementKind::Foreign(foreign) => servers::run(session, foreign),
        StatementKind::CreateExternalTable(create) => ddl::create_external(session, create).await,
        StatementKind::Alter(alter) => ddl::alter_relation(session, alter),
        StatementKind::Refresh(refresh) => create::refresh(session, refresh, statement).await,
        StatementKind::Comment(comment) => comments::run(session, comment),
        StatementKind::AlterFunction(alter) => functions::alter(session, alter),
        StatementKind::Explain(explain) => explain::run(session, explain, parameters).await,
        StatementKind::Copy(copy) => match (&copy.target, copy.to) {
            (CopyTarget::Location(location), true) => copy::copy_to(session, copy, location, statement, parameters).await,
            (_, true) => copy::copy_out(session, copy, statement, parameters).await,
            (_, false) => copy::copy_from(session, copy, statement).await,
        },
        StatementKind::Declare(declare) => cursors::declare(session, declare, statement, parameters).await,
        StatementKind::Fetch(fetch) => cursors::fetch(session, fetch, statement).await,
        StatementKind::Close(name) => cursors::close(session, name.as_deref()),
        StatementKind::Role(role) => roles::run(session, role),
    }
}

async fn run_sql(session: &Arc<Session>, statement: &Statement, sql: &ast::Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    use ast::Statement as S;
    if with::concerns(sql) {
        return with::run(session, sql, statement, &parameters).await;
    }
    match sql {
        S::Set(set) => sessions::set(session, set),
        S::ShowVariable { variable } => sessions::show(session, variable),
        S::Reset(reset) => sessions::reset(session, reset),
        S::Discard { object_type } => sessions::discard(session, object_type),
        S::StartTransaction { modes, begin, .. } => sessions::begin(session, modes, *begin),
        S::Commit { chain, .. } => sessions::commit(session, *chain).await,
        S::Rollback { savepoint, chain } => sessions::rollback(session, savepoint.as_ref(), *chain),
        S::Lock(lock) => ddl::lock(session, lock),
        S::Savepoint { name } => sessions::savepoint(session, name),
        S::ReleaseSavepoint { name } => sessions::release(session, name),
        S::Prepare { name, data_types, statement: inner } => sessions::prepare(session, name, data_types, inner, statement).await,
        S::Execute { name: Some(name), parameters: given, .. } => sessions::execute(session, name, given).await,
        S::Deallocate { name, .. } => sessions::deallocate(session, name),
        S::LISTEN { channel } => sessions::listen(session, channel),
        S::UNLISTEN { channel } => sessions::unlisten(session, channel),
        S::NOTIFY { channel, payload } => sessions::notify(session, channel, payload.as_deref()),
        S::Analyze(_) => done("ANALYZE"),
        S::Vacuum(vacuum) => ddl::vacuum(session, vacuum),
        S::CreateTable(create) => create::create_table(session, create, statement, parameters).await,
        S::CreateFunction(create) => functions::create(session, create).await,
        S::DropFunction(drop) => functions::drop(session, drop),
        S::CreateView(create) => ddl::create_view(session, create, statement).await,
        S::CreateSchema { schema_name, if_not_exists, .. } => ddl::create_schema(session, schema_name, *if_not_exists),
        S::Drop { object_type, if_exists, names, cascade, .. } => ddl::drop(session, *object_type, *if_exists, names, *cascade),
        S::Truncate(truncate) => ddl::truncate(session, truncate),
        S::AlterTable(alter) => alter::alter_table(session, alter).await,
        S::AlterSchema(alter) => ddl::alter_schema(session, alter),
        S::CreateIndex(index) => ddl::create_index(session, index).await,
        S::CreateSequence { temporary, if_not_exists, name, sequence_options, owned_by, .. } => {
            create::create_sequence(session, name, *temporary, *if_not_exists, sequence_options, owned_by.as_ref())
        }
        S::Query(query) if into_table(query).is_some() => create::select_into(session, query, statement, parameters).await,
        S::Insert(insert) => insert::insert(session, insert, statement, parameters).await,
        S::Update(update) => update::update(session, update, statement, parameters).await,
        S::Delete(delete) => update::delete(session, delete, statement, parameters).await,
        S::Merge(merge) => merge::merge(session, merge, statement, parameters).await,
        other => {
            let words: Vec<String> = other.to_string().split_whitespace().take(2).map(str::to_uppercase).collect();
            Err(Error::unsupported(format!("{} is not supported", words.join(" "))))
        }
    }
}
