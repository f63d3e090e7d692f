//! UPDATE and DELETE.
//!
//! In: the statement. Out: the positions of the rows that it means, found by a query of the same FROM and WHERE, and for
//! UPDATE their new values; old rows are marked as deleted and new ones appended in one edit. Invariant: a row is changed
//! once, however many rows of FROM it meets. Deliberately absent: changing rows in place.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parking_lot::Mutex;
use sqlparser::ast::{
    self, Assignment, AssignmentTarget, Delete, Expr, FromTable, SelectItem, SetExpr, TableFactor, TableWithJoins, Update, UpdateTableFromKind,
};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::Relation;
use crate::command::data::start;
use crate::command::done;
use crate::command::returning::Returning;
use crate::command::write::{self, Into, Positions, TARGET, Target, assignable, inside, item, put, select, values};
use crate::exec::held::beside_each_other;
use crate::session::query::sendable;
use crate::session::{Execution, Session};
use crate::statement::{Statement, ident_text, name_parts};
use crate::table::scan::{FILE, ROW};

/// A statement as the query that finds its rows.
pub struct Found {
    /// Table.
    pub target: Target,
    /// Positions, then the table's columns, then what RETURNING needs beside them.
    pub query: ast::Statement,
    /// Positions of the columns that are assigned.
    pub assigned: Vec<usize>,
    /// RETURNING
    pub returning: Option<Returning>,
    /// No WHERE and no other table: all rows.
    pub everything: bool,
}

impl Found {
    /// Types of its parameters.
    pub async fn parameter_types(&self, session: &Arc<Session>, text: &str, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
        let provider = session.database.store.scan_positions(&self.target.relation)?;
        session.types_over(self.query.clone(), text, given, vec![(TARGET.to_owned(), provider)]).await
    }

    /// The plan of the query.
    pub async fn plan(&self, session: &Arc<Session>, text: &str) -> Result<LogicalPlan> {
        let provider = session.database.store.scan_positions(&seen(session, &self.target.relation))?;
        let plan = session.plan_query_over(self.query.clone(), text, &[], vec![(TARGET.to_owned(), provider)]).await?;
        for position in &self.assigned {
            if let Some(column) = self.target.relation.columns.get(*position) {
                assignable(plan.schema().field(position + 2), column)?;
            }
        }
        Ok(plan)
    }
}

/// The rows that a statement sees of its target: those that were there before it, less what its earlier parts took away.
fn seen(session: &Arc<Session>, relation: &Relation) -> Relation {
    let mut seen = relation.clone();
    let before = session.inner.lock().reads.clone();
    let Some((_, _, old)) = before.as_ref().and_then(|data| data.relation_by_oid(relation.oid)) else { return seen };
    if let (Some(files), Some(old)) = (seen.files_mut(), old.files()) {
        let new: Vec<u64> = files.iter().map(|f| f.id).filter(|id| old.get(*id).is_none()).collect();
        files.remove(&new);
    }
    seen
}

/// The columns of RETURNING.
pub async fn returned_fields(session: &Arc<Session>, found: &Found, text: &str) -> Result<Option<Vec<crate::session::ResultField>>> {
    let Some(returning) = &found.returning else { return Ok(None) };
    let plan = found.plan(session, text).await?;
    let fields: Vec<_> = plan.schema().fields().iter().skip(2).cloned().collect();
    returning.fields(session, &found.target, Arc::new(Schema::new(fields))).await.map(Some)
}

fn target_of(session: &Arc<Session>, table: &TableWithJoins, verb: &str) -> Result<Target> {
    match &table.relation {
        TableFactor::Table { name, alias, .. } if table.joins.is_empty() => {
            Target::find(session, name, alias.as_ref().map(|a| ident_text(&a.name)), verb)
        }
        _ => Err(Error::new(Kind::Syntax, "the statement takes one table")),
    }
}

fn found(
    target: Target,
    new: Vec<Option<Expr>>,
    others: &[TableWithJoins],
    selection: Option<Expr>,
    returning: Option<&Vec<SelectItem>>,
) -> Result<Found> {
    let returning = returning.map(|items| Returning::new(items, &target));
    let assigned: Vec<usize> = new.iter().enumerate().filter(|(_, e)| e.is_some()).map(|(i, _)| i).collect();
    let everything = others.is_empty() && selection.is_none() && assigned.is_empty();
    let mut items = vec![item(target.column(FILE), FILE), item(target.column(ROW), ROW)];
    // DELETE needs the old values for RETURNING only.
    if !assigned.is_empty() || returning.is_some() {
        for (column, new) in target.relation.columns.iter().zip(new) {
            items.push(item(new.unwrap_or_else(|| target.column(&column.name)), &column.name));
        }
    }
    for (i, other) in returning.iter().flat_map(|r| &r.others).enumerate() {
        items.push(item(other.clone(), &Returning::other_name(i)));
    }
    let mut from = vec![TableWithJoins { relation: target.factor(), joins: Vec::new() }];
    from.extend(others.iter().cloned());
    let query = ast::Statement::Query(Box::new(select(items, from, selection)?));
    Ok(Found { target, query, assigned, returning, everything })
}

/// Assignments by the position of their column.
pub fn assignments(session: &Arc<Session>, target: &Target, given: &[Assignment]) -> Result<Vec<Option<Expr>>> {
    let mut new: Vec<Option<Expr>> = vec![None; target.relation.columns.len()];
    let mut taken = Vec::new();
    let mut assign = |name: &ast::ObjectName, value: Expr| -> Result<()> {
        let name = name_parts(name).pop().unwrap_or_default();
        let position = target.position(&name, &taken)?;
        taken.push(position);
        let (Some(slot), Some(column)) = (new.get_mut(position), target.relation.columns.get(position)) else { return Ok(()) };
        *slot = Some(write::given(session, value, column)?);
        Ok(())
    };
    for assignment in given {
        match (&assignment.target, &assignment.value) {
            (AssignmentTarget::ColumnName(name), value) => assign(name, value.clone())?,
            (AssignmentTarget::Tuple(names), Expr::Tuple(values)) if names.len() == values.len() => {
                names.iter().zip(values).try_for_each(|(name, value)| assign(name, value.clone()))?;
            }
            (AssignmentTarget::Tuple(names), Expr::Subquery(query)) => {
                for (i, name) in names.iter().enumerate() {
                    assign(name, Expr::Subquery(Box::new(one_column(query, i, names.len())?)))?;
                }
            }
            _ => return Err(Error::new(Kind::Syntax, "number of columns does not match number of values")),
        }
    }
    Ok(new)
}

/// `SET (a, b) = (SELECT x, y ...)`: the subquery with one of its columns.
fn one_column(query: &ast::Query, index: usize, count: usize) -> Result<ast::Query> {
    let mut one = query.clone();
    let SetExpr::Select(select) = one.body.as_mut() else {
        return Err(Error::unsupported("the source of a multiple-column UPDATE item must be a SELECT or a row of values"));
    };
    if select.projection.len() != count {
        return Err(Error::new(Kind::Syntax, "number of columns does not match number of values"));
    }
    select.projection = select.projection.iter().skip(index).take(1).cloned().collect();
    Ok(one)
}

/// UPDATE as a query.
pub fn bind_update(session: &Arc<Session>, update: &Update) -> Result<Found> {
    let target = target_of(session, &update.table, "update")?;
    let new = assignments(session, &target, &update.assignments)?;
    let others = match &update.from {
        Some(UpdateTableFromKind::AfterSet(tables) | UpdateTableFromKind::BeforeSet(tables)) => tables.as_slice(),
        None => &[],
    };
    found(target, new, others, update.selection.clone(), update.returning.as_ref())
}

/// DELETE as a query.
pub fn bind_delete(session: &Arc<Session>, delete: &Delete) -> Result<Found> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    let [table] = tables.as_slice() else { return Err(Error::new(Kind::Syntax, "DELETE takes one table")) };
    let target = target_of(session, table, "delete from")?;
    let nothing = vec![None; target.relation.columns.len()];
    found(target, nothing, delete.using.as_deref().unwrap_or(&[]), delete.selection.clone(), delete.returning.as_ref())
}

/// UPDATE
pub async fn update(session: &Arc<Session>, update: &Update, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let found = bind_update(session, update)?;
    let plan = found.plan(session, &statement.text).await?;
    let running = start(session, plan, &statement.text, parameters).await?;
    let positions = Arc::new(Mutex::new(Positions::default()));
    // What RETURNING reads of other tables, in the order of the rows.
    let extras = Arc::new(Mutex::new(session.holder()));
    let target = &found.target;
    let (seen, beside, relation, width) = (Arc::clone(&positions), Arc::clone(&extras), target.relation.clone(), target.relation.columns.len());
    let mut fields = running.schema.fields().iter().skip(2).take(width).zip(&relation.columns);
    let schema: SchemaRef = Arc::new(Schema::new(fields.by_ref().map(|(f, c)| f.as_ref().clone().with_name(&c.name)).collect::<Vec<_>>()));
    let rows = sendable(running.stream, Arc::clone(&running.schema)).map(move |batch| {
        let batch = inside(seen.lock().take(&batch?))?;
        let rest: Vec<usize> = (2 + width..batch.num_columns()).collect();
        if !rest.is_empty() {
            inside(beside.lock().push(batch.project(&rest)?))?;
        }
        inside(values(&batch, 2, &relation))
    });
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let into = Into { target, changed: Some(found.assigned.clone()), keep: found.returning.is_some() };
    let gone = || std::mem::take(&mut *positions.lock());
    let (staged, count) = running.frame.stop.guard(put(session, into, rows, gone)).await?;
    let Some(returning) = &found.returning else { return done(format!("UPDATE {count}")) };
    let beside = std::mem::replace(&mut *extras.lock(), session.holder()).finish()?;
    match (staged.kept, beside.schema()) {
        (Some(rows), Some(others)) => {
            let stored = crate::table::fit::stored_schema(&target.relation.columns)?;
            let fields: Vec<_> = stored.fields().iter().chain(others.fields().iter()).cloned().collect();
            let table = beside_each_other(vec![rows, beside.clone()], Arc::new(Schema::new(fields)))?;
            returning.rows_over(session, target, table, "UPDATE").await
        }
        (kept, _) => returning.rows(session, target, kept, "UPDATE").await,
    }
}

/// DELETE
pub async fn delete(session: &Arc<Session>, delete: &Delete, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let found = bind_delete(session, delete)?;
    let target = &found.target;
    if found.everything && found.returning.is_none() {
        return done(format!("DELETE {}", clear(session, target)?));
    }
    let plan = found.plan(session, &statement.text).await?;
    let running = start(session, plan, &statement.text, parameters).await?;
    let mut positions = Positions::default();
    let mut kept = found.returning.as_ref().map(|_| session.holder());
    let mut stream = running.stream;
    while let Some(batch) = running.frame.stop.guard(async { stream.next().await.transpose() }).await? {
        let batch = positions.take(&batch)?;
        if let Some(kept) = &mut kept {
            kept.push(batch.project(&(2..batch.num_columns()).collect::<Vec<_>>()).map_err(crate::error::from_arrow)?)?;
        }
    }
    let count = positions.len();
    let (schema, name) = (target.schema.clone(), target.name.clone());
    session.edit(|data| {
        positions.apply(data.relation_mut(&schema, &name)?);
        Ok(())
    })?;
    let (Some(returning), Some(kept)) = (&found.returning, kept) else { return done(format!("DELETE {count}")) };
    let kept = kept.finish()?;
    let table = match kept.schema() {
        Some(schema) => kept.table(Arc::clone(schema))?,
        None => Arc::new(EmptyTable::new(crate::table::fit::stored_schema(&target.relation.columns)?)),
    };
    returning.rows_over(session, target, table, "DELETE").await
}

/// Takes all rows away: how many there were.
pub fn clear(session: &Arc<Session>, target: &Target) -> Result<u64> {
    session.edit(|data| {
        let relation = data.relation_mut(&target.schema, &target.name)?;
        let rows = relation.files().map_or(0, |f| f.live_rows());
        if let Some(files) = relation.files_mut() {
            files.clear();
        }
        Ok(rows)
    })
}
