//! INSERT without ON CONFLICT, and what COPY FROM and CREATE TABLE AS share with it.
//!
//! In: a query or rows of VALUES. Out: rows in the order of the table's columns, with defaults. Invariant: DEFAULT and
//! parameters are those of the column that they stand for. Deliberately absent: `conflict`.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use sqlparser::ast::{self, Insert, Query, SelectItem, SetExpr, TableObject};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{Identity, Relation};
use crate::command::data::start;
use crate::command::returning::Returning;
use crate::command::write::{self, Into, Positions, Target, assignable, given, is_default, put};
use crate::command::{conflict, done, literals};
use crate::error::from_datafusion;
use crate::session::query::sendable;
use crate::session::{Execution, Session};
use crate::statement::insert::{self as overriding, Overriding};
use crate::statement::{Statement, ident_text};

/// An INSERT whose names are resolved.
pub struct Bound {
    /// Table.
    pub target: Target,
    /// Positions of the given columns, in the statement's order.
    pub columns: Vec<usize>,
    /// Rows; None is DEFAULT VALUES.
    pub source: Option<Box<Query>>,
    /// OVERRIDING
    pub overriding: Option<Overriding>,
}

/// Resolves names and puts DEFAULT and the types of parameters in.
pub fn bind(session: &Arc<Session>, insert: &Insert) -> Result<Bound> {
    let TableObject::TableName(name) = &insert.table else { return Err(Error::unsupported("INSERT takes a table name")) };
    let alias = insert.table_alias.as_ref().map(|a| ident_text(&a.alias));
    let target = Target::find(session, name, alias, "insert into")?;
    let named: Vec<String> = insert.columns.iter().filter_map(|c| c.0.last().and_then(|p| p.as_ident()).map(ident_text)).collect();
    let columns = insert_columns(&target.relation, &named, &target.name)?;
    let overriding = overriding::of(insert)?;
    let mut source = insert.source.clone();
    if let Some(query) = &mut source {
        values(session, query, &target, &columns, overriding)?;
    }
    Ok(Bound { target, columns, source, overriding })
}

/// Values of the rows as their columns take them.
fn values(session: &Arc<Session>, query: &mut Query, target: &Target, columns: &[usize], overriding: Option<Overriding>) -> Result<()> {
    let column = |i: usize| columns.get(i).and_then(|p| target.relation.columns.get(*p));
    match query.body.as_mut() {
        SetExpr::Values(rows) => {
            let width = rows.rows.iter().map(|r| r.len()).max().unwrap_or(0);
            if width > columns.len() {
                return Err(Error::new(Kind::Syntax, "INSERT has more expressions than target columns"));
            }
            // Where one row has a parameter or DEFAULT, the literals of the others take the type of the column with it.
            let untyped = |e: &ast::Expr| write::is_parameter(e) || write::is_default(e);
            let typed: Vec<bool> = (0..width).map(|i| rows.rows.len() > 1 && rows.rows.iter().any(|r| r.get(i).is_some_and(untyped))).collect();
            // Text beside an expression is text for the column, too, as each row by itself would have it.
            let computed = |e: &ast::Expr| !matches!(e, ast::Expr::Value(_));
            let beside: Vec<bool> = (0..width).map(|i| rows.rows.len() > 1 && rows.rows.iter().any(|r| r.get(i).is_some_and(computed))).collect();
            for row in &mut rows.rows {
                for (i, value) in row.iter_mut().enumerate() {
                    if let Some(column) = column(i) {
                        let expr = std::mem::replace(value, write::null());
                        let text =
                            beside.get(i) == Some(&true) && is_text(&expr) && !matches!(column.sql_type()?, SqlType::Varchar(_) | SqlType::Char(_));
                        let literal = text || (matches!(expr, ast::Expr::Value(_)) && typed.get(i) == Some(&true));
                        *value = match (column.identity, overriding) {
                            // The sequence gives one, once.
                            (Some(_), Some(Overriding::User)) => write::null(),
                            (Some(_), Some(Overriding::System)) if !is_default(&expr) => write::of_type(expr, column)?,
                            _ if literal => write::as_column(given(session, expr, column)?, column)?,
                            _ => given(session, expr, column)?,
                        };
                    }
                }
            }
        }
        SetExpr::Select(select) => {
            for (i, item) in select.projection.iter_mut().enumerate() {
                if let (SelectItem::UnnamedExpr(expr), Some(column)) = (item, column(i)) {
                    let taken = std::mem::replace(expr, write::null());
                    *expr = if is_default(&taken) { taken } else { write::of_type(taken, column)? };
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_text(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Value(v) if matches!(v.value, ast::Value::SingleQuotedString(_)))
}

/// Positions of the table's columns that the statement gives, in the statement's order.
pub fn insert_columns(relation: &Relation, named: &[String], table: &str) -> Result<Vec<usize>> {
    if named.is_empty() {
        return Ok((0..relation.columns.len()).collect());
    }
    let mut positions = Vec::with_capacity(named.len());
    for name in named {
        let position = relation.position(name);
        let position =
            position.ok_or_else(|| Error::new(Kind::UndefinedColumn, format!("column \"{name}\" of relation \"{table}\" does not exist")))?;
        if positions.contains(&position) {
            return Err(Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once")));
        }
        positions.push(position);
    }
    Ok(positions)
}

impl Bound {
    /// The plan of the rows, in the table's column order.
    pub async fn plan(&self, session: &Arc<Session>, text: &str) -> Result<LogicalPlan> {
        let plan = match &self.source {
            Some(query) => session.plan_query(ast::Statement::Query(query.clone()), text, &[]).await?,
            None => LogicalPlanBuilder::empty(true).build().map_err(from_datafusion)?,
        };
        let relation = &self.target.relation;
        let has_identity = |p: &usize| relation.columns.get(*p).is_some_and(|c| c.identity.is_some());
        // Columns that are given in vain: as if they stood behind the last one.
        let columns: Vec<usize> = match self.overriding {
            Some(Overriding::User) => self.columns.iter().map(|p| if has_identity(p) { usize::MAX } else { *p }).collect(),
            _ => self.columns.clone(),
        };
        arranged(session, plan, relation, &columns, self.source.is_none()).await
    }
}

/// The rows in the table's column order; columns that are not given take their default or NULL.
pub async fn arranged(session: &Arc<Session>, plan: LogicalPlan, relation: &Relation, columns: &[usize], only_defaults: bool) -> Result<LogicalPlan> {
    let given = if only_defaults { 0 } else { plan.schema().fields().len() };
    if given > columns.len() {
        return Err(Error::new(Kind::Syntax, "INSERT has more expressions than target columns"));
    }
    let full = columns.len() == relation.columns.len() && columns.iter().enumerate().all(|(i, c)| i == *c || *c == usize::MAX);
    if given < columns.len() && !full && !only_defaults {
        return Err(Error::new(Kind::Syntax, "INSERT has more target columns than expressions"));
    }
    let mut exprs: Vec<Expr> = Vec::with_capacity(relation.columns.len());
    for (position, column) in relation.columns.iter().enumerate() {
        let source = columns.iter().position(|c| *c == position).filter(|i| *i < given);
        let expr = match (source, &column.default) {
            (Some(index), _) => {
                let (qualifier, field) = plan.schema().qualified_field(index);
                assignable(field, column)?;
                Expr::from((qualifier, field))
            }
            (None, Some(default)) => default_value(session, default).await?,
            (None, None) => cast(lit(ScalarValue::Null), column.sql_type()?.arrow()),
        };
        exprs.push(expr.alias(&column.name));
    }
    LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

/// A column's default, planned.
async fn default_value(session: &Arc<Session>, text: &str) -> Result<Expr> {
    let parsed = session.parse(&format!("SELECT {text}"))?;
    let Some(crate::statement::StatementKind::Sql(sql)) = parsed.first().map(|s| (*s.kind).clone()) else {
        return Err(Error::internal("a default that is not an expression"));
    };
    match session.plan_query(*sql, text, &[]).await? {
        LogicalPlan::Projection(p) => p.expr.into_iter().next().map(Expr::unalias).ok_or_else(|| Error::internal("an empty default")),
        _ => Err(Error::internal("a default that is not an expression")),
    }
}

/// INSERT
pub async fn insert(session: &Arc<Session>, insert: &Insert, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let bound = bind(session, insert)?;
    let returning = insert.returning.as_ref().map(|items| Returning::new(items, &bound.target));
    if bound.overriding.is_none()
        && bound.source.as_ref().is_some_and(|q| matches!(*q.body, SetExpr::Select(_)))
        && let Some(always) =
            bound.columns.iter().filter_map(|p| bound.target.relation.columns.get(*p)).find(|c| c.identity == Some(Identity::Always))
    {
        return Err(Error::new(Kind::GeneratedAlways, format!("cannot insert a non-DEFAULT value into column \"{}\"", always.name))
            .detail(format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", always.name)));
    }
    let (stream, stop) = match literals::rows(insert, &bound, &parameters)? {
        Some(rows) => {
            let schema = rows.schema();
            (write::stream_of(vec![rows], schema), session.stop(&statement.text))
        }
        None => {
            let plan = bound.plan(session, &statement.text).await?;
            let running = start(session, plan, &statement.text, parameters).await?;
            (sendable(running.stream, running.schema), running.frame.stop)
        }
    };
    let target = &bound.target;
    if let Some(on) = &insert.on {
        return stop.guard(conflict::insert(session, target, on, stream, returning.as_ref(), statement)).await;
    }
    let into = Into { target, changed: None, keep: returning.is_some() };
    let (staged, _) = stop.guard(put(session, into, stream, Positions::default)).await?;
    match returning {
        Some(returning) => returning.rows(session, target, staged.kept, "INSERT 0").await,
        None => done(format!("INSERT 0 {}", staged.rows)),
    }
}
