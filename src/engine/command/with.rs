//! Statements that change rows inside WITH, and WITH before them.
//!
//! In: `WITH a AS (INSERT ... RETURNING ...), ... SELECT | INSERT | UPDATE | DELETE`. Out: the rows of the last part. Invariants:
//! the parts run in the order in which they are written, in one transaction; all of them read the tables as they were before the
//! statement, and see each other by RETURNING alone; a row is changed by the first part that means it. Deliberately absent:
//! streaming between the parts: what RETURNING gives, and queries that other parts read, are kept (`exec::held`).

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::empty::EmptyTable;
use futures::future::BoxFuture;
use sqlparser::ast::{self, Cte, Query, SetExpr, With};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::command;
use crate::error::from_datafusion;
use crate::exec::held::Held;
use crate::session::{Execution, ResultField, RowStream, RowsTag, Session};
use crate::statement::{Statement, StatementKind, ident_text};

/// The statement that a query is in truth, when it changes rows.
fn change(query: &Query) -> Option<&ast::Statement> {
    match query.body.as_ref() {
        SetExpr::Insert(statement) | SetExpr::Update(statement) | SetExpr::Delete(statement) | SetExpr::Merge(statement) => Some(statement),
        _ => None,
    }
}

/// The statements of a query that change rows, in order.
pub fn changes(query: &Query) -> Vec<&ast::Statement> {
    let inside = query.with.iter().flat_map(|w| &w.cte_tables).filter_map(|cte| change(&cte.query));
    inside.chain(change(query)).collect()
}

/// WITH and what stands behind it.
struct Parts {
    with: Option<With>,
    last: Last,
}

enum Last {
    Query(Box<Query>),
    Change(Box<ast::Statement>),
}

/// The parts of a statement; None for one that this file has nothing to do with.
fn parts(sql: &ast::Statement) -> Option<Parts> {
    match sql {
        ast::Statement::Query(query) if !changes(query).is_empty() => {
            let mut rest = query.clone();
            let with = rest.with.take();
            let last = match change(&rest) {
                Some(statement) => Last::Change(Box::new(statement.clone())),
                None => Last::Query(rest),
            };
            Some(Parts { with, last })
        }
        ast::Statement::Insert(insert) => {
            let source = insert.source.as_ref().filter(|q| !changes(q).is_empty())?;
            let mut rest = insert.clone();
            let mut query = source.clone();
            let with = query.with.take();
            rest.source = Some(query);
            Some(Parts { with, last: Last::Change(Box::new(ast::Statement::Insert(rest))) })
        }
        _ => None,
    }
}

/// Whether a statement has others in its WITH that change rows, or is one behind a WITH.
pub fn concerns(sql: &ast::Statement) -> bool {
    match sql {
        ast::Statement::Query(query) => !changes(query).is_empty(),
        ast::Statement::Insert(insert) => insert.source.as_ref().is_some_and(|q| !changes(q).is_empty()),
        _ => false,
    }
}

/// While it lives, statements of the session read old tables and see the results of parts.
struct Beside<'a>(&'a Arc<Session>);

impl<'a> Beside<'a> {
    fn new(session: &'a Arc<Session>) -> Self {
        let before = session.snapshot();
        let mut inner = session.inner.lock();
        inner.beside.clear();
        inner.reads = Some(before);
        drop(inner);
        Self(session)
    }

    fn add(&self, name: String, table: Arc<dyn TableProvider>) {
        self.0.inner.lock().beside.push((name, table));
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.beside.clear();
        inner.reads = None;
    }
}

/// What is done with the parts.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// They run.
    Run(&'a [ScalarValue]),
    /// Their columns are looked at.
    Describe,
}

/// A part of the statement as a statement.
fn part_of(statement: &Statement, sql: ast::Statement) -> Statement {
    Statement { kind: Arc::new(StatementKind::Sql(Box::new(sql))), ..statement.clone() }
}

// Boxed by functions of their own: what runs a part is what runs the statement that it is a part of.

fn run_part<'a>(session: &'a Arc<Session>, part: &'a Statement, parameters: Vec<ScalarValue>) -> BoxFuture<'a, Result<Execution>> {
    Box::pin(command::run(session, part, parameters))
}

fn fields_of<'a>(session: &'a Arc<Session>, part: &'a Statement) -> BoxFuture<'a, Result<Option<Vec<ResultField>>>> {
    Box::pin(command::fields(session, part))
}

fn types_of<'a>(session: &'a Arc<Session>, part: &'a Statement, given: &'a [Option<SqlType>]) -> BoxFuture<'a, Result<Vec<SqlType>>> {
    Box::pin(command::parameter_types(session, part, given))
}

fn table(fields: &[ResultField], rows: Option<Held>, alias: &ast::TableAlias) -> Result<Arc<dyn TableProvider>> {
    if alias.columns.len() > fields.len() {
        let message =
            format!("WITH query \"{}\" has {} columns available but {} columns specified", alias.name.value, fields.len(), alias.columns.len());
        return Err(Error::new(Kind::InvalidColumnReference, message));
    }
    let name = |i: usize, field: &ResultField| alias.columns.get(i).map_or_else(|| field.name.clone(), |c| ident_text(&c.name));
    let given = rows.as_ref().and_then(Held::schema);
    let column = |(i, field): (usize, &ResultField)| -> Field {
        match given.and_then(|s| s.fields().get(i)) {
            Some(known) => known.as_ref().clone().with_name(name(i, field)).with_nullable(true),
            None => field.ty.field(name(i, field)),
        }
    };
    let schema = Arc::new(Schema::new(fields.iter().enumerate().map(column).collect::<Vec<_>>()));
    match rows {
        Some(rows) => rows.table(schema),
        None => Ok(Arc::new(EmptyTable::new(schema))),
    }
}

/// The columns of a query and, when it runs, its rows.
async fn select(session: &Arc<Session>, query: Query, statement: &Statement, work: Work<'_>) -> Result<(Vec<ResultField>, Option<Held>)> {
    let plan = session.plan_query(ast::Statement::Query(Box::new(query)), &statement.source, &[]).await?;
    let fields = session.result_fields(&plan);
    let Work::Run(parameters) = work else { return Ok((fields, None)) };
    let plan = if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters.to_vec())).map_err(from_datafusion)? };
    let rows = session.held_within(plan).await?;
    Ok((fields, Some(rows)))
}

/// A statement that changes rows: what RETURNING gives, None without.
async fn changed(
    session: &Arc<Session>,
    sql: &ast::Statement,
    statement: &Statement,
    work: Work<'_>,
) -> Result<(Option<(Vec<ResultField>, Option<Held>)>, Option<Execution>)> {
    let part = part_of(statement, sql.clone());
    let Work::Run(parameters) = work else {
        return Ok((fields_of(session, &part).await?.map(|fields| (fields, None)), None));
    };
    match run_part(session, &part, parameters.to_vec()).await? {
        Execution::Rows { fields, stream, tag } => {
            let rows = Held::all(session.database.base().runtime_env(), stream).await?;
            let again = Execution::Rows { fields: Arc::clone(&fields), stream: rows.stream(), tag };
            Ok((Some((fields.to_vec(), Some(rows))), Some(again)))
        }
        other => Ok((None, Some(other))),
    }
}

/// Does the work of all parts before the last one: what is left of WITH.
async fn before(session: &Arc<Session>, parts: &Parts, statement: &Statement, beside: &Beside<'_>, work: Work<'_>) -> Result<Option<With>> {
    let Some(with) = &parts.with else { return Ok(None) };
    // A query that no later part but the last one reads stays a part of that.
    let needed = match parts.last {
        Last::Change(_) => with.cte_tables.len(),
        Last::Query(_) => with.cte_tables.iter().rposition(|cte| change(&cte.query).is_some()).map_or(0, |i| i + 1),
    };
    let mut left = with.clone();
    let rest = left.cte_tables.split_off(needed.min(left.cte_tables.len()));
    for cte in std::mem::replace(&mut left.cte_tables, rest) {
        let name = ident_text(&cte.alias.name);
        let done = match change(&cte.query) {
            Some(sql) => {
                let sql = inner_with(sql, &cte)?;
                changed(session, &sql, statement, work).await?.0
            }
            None => Some(select(session, alone(with, &cte)?, statement, work).await?),
        };
        if let Some((fields, rows)) = done {
            // The names of columns are those of its alias already when it was a query.
            let plain = ast::TableAlias { columns: Vec::new(), ..cte.alias.clone() };
            let alias = if change(&cte.query).is_some() { &cte.alias } else { &plain };
            beside.add(name, table(&fields, rows, alias)?);
        }
    }
    Ok((!left.cte_tables.is_empty()).then_some(left))
}

/// The statement of a part; a WITH of its own goes with it.
fn inner_with(sql: &ast::Statement, cte: &Cte) -> Result<ast::Statement> {
    if cte.query.with.is_none() {
        return Ok(sql.clone());
    }
    Err(Error::unsupported("WITH inside of a statement in WITH is not supported").hint("Write its queries into the outer WITH."))
}

/// `WITH cte SELECT * FROM cte`
fn alone(with: &With, cte: &Cte) -> Result<Query> {
    let name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', ident_text(&cte.alias.name))]);
    let mut query = *crate::bind::relation::table_query(&name, &[])?;
    query.with = Some(With { cte_tables: vec![cte.clone()], ..with.clone() });
    Ok(query)
}

/// The columns of the statement's result; None has no rows.
pub async fn fields(session: &Arc<Session>, sql: &ast::Statement, statement: &Statement) -> Result<Option<Vec<ResultField>>> {
    let Some(parts) = parts(sql) else { return Ok(None) };
    let beside = Beside::new(session);
    let with = before(session, &parts, statement, &beside, Work::Describe).await?;
    match parts.last {
        Last::Query(query) => select(session, Query { with, ..*query }, statement, Work::Describe).await.map(|(fields, _)| Some(fields)),
        Last::Change(sql) => Ok(changed(session, &sql, statement, Work::Describe).await?.0.map(|(fields, _)| fields)),
    }
}

/// Types of the parameters: each is what the first part makes of it that knows its type.
pub async fn parameter_types(session: &Arc<Session>, sql: &ast::Statement, statement: &Statement, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
    let Some(parts) = parts(sql) else { return Ok(Vec::new()) };
    let beside = Beside::new(session);
    let with = before(session, &parts, statement, &beside, Work::Describe).await?;
    let mut found: Vec<SqlType> = given.iter().map(|t| t.clone().unwrap_or(SqlType::Text)).collect();
    let mut merge = |types: Vec<SqlType>| {
        for (i, ty) in types.into_iter().enumerate() {
            match found.get_mut(i) {
                None => found.push(ty),
                Some(known) if *known == SqlType::Text => *known = ty,
                Some(_) => {}
            }
        }
    };
    let mut statements: Vec<ast::Statement> = Vec::new();
    for cte in parts.with.iter().flat_map(|w| &w.cte_tables) {
        statements.push(change(&cte.query).cloned().unwrap_or_else(|| ast::Statement::Query(cte.query.clone())));
    }
    statements.push(match parts.last {
        Last::Query(query) => ast::Statement::Query(Box::new(Query { with, ..*query })),
        Last::Change(sql) => *sql,
    });
    for sql in statements {
        if let ast::Statement::Query(_) = &sql {
            let plan = session.plan_query(sql, &statement.source, given).await?;
            merge(crate::session::parameters::types(&plan, given)?);
        } else {
            let part = part_of(statement, sql);
            merge(types_of(session, &part, given).await?);
        }
    }
    Ok(found)
}

/// Runs the statement.
pub async fn run(session: &Arc<Session>, sql: &ast::Statement, statement: &Statement, parameters: &[ScalarValue]) -> Result<Execution> {
    let Some(parts) = parts(sql) else { return Err(Error::internal("a statement without parts")) };
    let beside = Beside::new(session);
    let work = Work::Run(parameters);
    let with = before(session, &parts, statement, &beside, work).await?;
    match parts.last {
        Last::Query(query) => {
            let (fields, rows) = select(session, Query { with, ..*query }, statement, work).await?;
            let stream = rows.map_or_else(|| Box::pin(futures::stream::empty()) as RowStream, |rows| rows.stream());
            Ok(Execution::Rows { fields: Arc::new(fields), stream, tag: RowsTag::Select })
        }
        Last::Change(sql) => {
            let (_, done) = changed(session, &sql, statement, work).await?;
            done.ok_or_else(|| Error::internal("a statement without an end"))
        }
    }
}
