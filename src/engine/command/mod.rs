//! Statements other than plain queries.
//!
//! In: a bound session and a statement. Out: an [`Execution`]. Each family has a file; this one decides which. Invariant:
//! a statement either has its whole effect or none: files are staged first, one catalog update makes them visible.
//! Deliberately absent: UPDATE, DELETE and real transactions (the table store's next version brings them).

pub mod data;
pub mod ddl;
pub mod models;
pub mod servers;
pub mod sessions;

use std::sync::Arc;

use datafusion::common::ScalarValue;
use sqlparser::ast;
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::explain;
use crate::session::{Execution, ResultField, Session};
use crate::statement::{CopySource, CopyTarget, Statement, StatementKind};

/// A result without rows.
pub fn done(tag: impl Into<String>) -> Result<Execution> {
    Ok(Execution::Done { tag: tag.into() })
}

/// A column of text or of another type.
pub fn column(name: &str, ty: SqlType) -> ResultField {
    ResultField { name: name.to_owned(), ty, table_oid: 0, column_number: 0 }
}

/// The result columns that a statement will have, before it runs; None has no rows.
pub fn fields(session: &Arc<Session>, statement: &Statement) -> Result<Option<Vec<ResultField>>> {
    Ok(match &*statement.kind {
        StatementKind::Explain(_) => Some(vec![column("QUERY PLAN", SqlType::Text)]),
        StatementKind::Sql(sql) => match &**sql {
            ast::Statement::ShowVariable { variable } => Some(sessions::show_fields(variable)),
            ast::Statement::Execute { name: Some(name), .. } => {
                session.inner.lock().prepared.get(&crate::statement::name_text(name)).and_then(|p| p.fields().map(<[_]>::to_vec))
            }
            _ => None,
        },
        _ => None,
    })
}

/// Types of the parameters of a statement that is not a plain query.
pub async fn parameter_types(session: &Arc<Session>, statement: &Statement, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
    let query = match &*statement.kind {
        StatementKind::Sql(sql) => match &**sql {
            ast::Statement::Insert(insert) => insert.source.clone(),
            ast::Statement::CreateTable(create) => create.query.clone(),
            _ => None,
        },
        StatementKind::Copy(copy) => match &copy.source {
            CopySource::Query(query) => Some(query.clone()),
            CopySource::Table { .. } => None,
        },
        _ => None,
    };
    match query {
        Some(query) if statement.text.contains('$') => {
            let plan = session.plan_query(ast::Statement::Query(query), &statement.text, given).await?;
            crate::session::query::parameter_types(&plan, given)
        }
        _ => Ok(given.iter().map(|t| t.clone().unwrap_or(SqlType::Text)).collect()),
    }
}

/// Whether a statement is allowed in an aborted transaction.
pub fn ends_transaction(statement: &Statement) -> bool {
    matches!(&*statement.kind, StatementKind::Sql(sql) if matches!(**sql, ast::Statement::Commit { .. } | ast::Statement::Rollback { .. }))
}

/// Runs a statement.
pub async fn run(session: &Arc<Session>, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    match &*statement.kind {
        StatementKind::Sql(sql) => run_sql(session, statement, sql, parameters).await,
        StatementKind::CreateModel(create) => models::create(session, create).await,
        StatementKind::DropModel { if_exists, names } => models::drop(session, *if_exists, names),
        StatementKind::Foreign(foreign) => servers::run(session, foreign),
        StatementKind::CreateExternalTable(create) => ddl::create_external(session, create).await,
        StatementKind::Explain(explain) => explain::run(session, explain, parameters).await,
        StatementKind::Copy(copy) => match (&copy.target, copy.to) {
            (CopyTarget::Location(location), true) => data::copy_to(session, copy, location, statement, parameters).await,
            (CopyTarget::Location(location), false) => data::copy_from(session, copy, location, statement).await,
            (CopyTarget::Stdout, true) => data::copy_out(session, copy, statement, parameters).await,
            _ => Err(Error::unsupported("COPY FROM STDIN is not supported yet")
                .hint("Use COPY ... FROM 'path', or INSERT ... SELECT FROM read_csv('path').")),
        },
    }
}

async fn run_sql(session: &Arc<Session>, statement: &Statement, sql: &ast::Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    use ast::Statement as S;
    match sql {
        S::Set(set) => sessions::set(session, set),
        S::ShowVariable { variable } => sessions::show(session, variable),
        S::Reset(reset) => sessions::reset(session, reset),
        S::Discard { object_type } => sessions::discard(session, object_type),
        S::StartTransaction { modes, begin, .. } => sessions::begin(session, modes, *begin),
        S::Commit { chain, .. } => sessions::commit(session, *chain),
        S::Rollback { savepoint, chain } => sessions::rollback(session, savepoint.as_ref(), *chain),
        S::Savepoint { name } => sessions::savepoint(session, name),
        S::ReleaseSavepoint { name } => sessions::release(session, name),
        S::Prepare { name, data_types, statement: inner } => sessions::prepare(session, name, data_types, inner, statement).await,
        S::Execute { name: Some(name), parameters: given, .. } => sessions::execute(session, name, given).await,
        S::Deallocate { name, .. } => sessions::deallocate(session, name),
        S::LISTEN { .. } => done("LISTEN"),
        S::UNLISTEN { .. } => done("UNLISTEN"),
        S::NOTIFY { .. } => done("NOTIFY"),
        S::Analyze(_) => done("ANALYZE"),
        S::Vacuum(_) => done("VACUUM"),
        S::CreateTable(create) => ddl::create_table(session, create, statement, parameters).await,
        S::CreateView(create) => ddl::create_view(session, create, statement).await,
        S::CreateSchema { schema_name, if_not_exists, .. } => ddl::create_schema(session, schema_name, *if_not_exists),
        S::Drop { object_type, if_exists, names, cascade, .. } => ddl::drop(session, *object_type, *if_exists, names, *cascade),
        S::Truncate(truncate) => ddl::truncate(session, truncate).await,
        S::AlterTable(alter) => ddl::alter_table(session, alter),
        S::Comment { object_type, object_name, comment, if_exists, .. } => {
            ddl::comment(session, *object_type, object_name, comment.as_ref(), *if_exists)
        }
        S::Insert(insert) => data::insert(session, insert, statement, parameters).await,
        S::Update { .. } | S::Delete(_) | S::Merge { .. } => Err(Error::unsupported("UPDATE, DELETE and MERGE are not supported yet")
            .hint("Write the rows that should stay into a new table with CREATE TABLE ... AS SELECT.")),
        other => {
            let words: Vec<String> = other.to_string().split_whitespace().take(2).map(str::to_uppercase).collect();
            Err(Error::unsupported(format!("{} is not supported", words.join(" "))))
        }
    }
}
