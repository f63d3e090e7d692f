//! INSERT ... ON CONFLICT.
//!
//! In: the rows to insert and the constraint that they may meet. Out: rows that meet nothing are inserted; the others are
//! left out, or change the row that they meet. Invariants: of equal new rows DO NOTHING takes the first, and DO UPDATE
//! fails with 21000; other constraints than the one that is named fail with 23505. The new rows are held in memory that is reserved
//! from the pool.
//! Deliberately absent: partial and expression indexes as targets.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::{StreamExt, TryStreamExt};
use sqlparser::ast::{
    self, BinaryOperator, ConflictTarget, DoUpdate, Expr, Ident, Join, JoinConstraint, JoinOperator, OnConflictAction, OnInsert, TableWithJoins,
};
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{Constraint, ConstraintKind};
use crate::command::done;
use crate::command::returning::Returning;
use crate::command::update::assignments;
use crate::command::write::{Into, Positions, TARGET, Target, factor, item, outside, positions, put, select, stream_of, values};
use crate::error::{from_arrow, from_datafusion};
use crate::session::{Execution, Session};
use crate::statement::{Statement, ident_text, name_text};
use crate::table::check::checked;
use crate::table::fit::{Fit, stored_schema};
use crate::table::scan::{FILE, ROW};
use crate::table::stage::fitted;

const EXCLUDED: &str = "$excluded";
const NUMBER: &str = "$n";
const APPLIES: &str = "$applies";

/// Inserts the rows of a stream that has the table's columns.
pub async fn insert(
    session: &Arc<Session>,
    target: &Target,
    on: &OnInsert,
    stream: SendableRecordBatchStream,
    returning: Option<&Returning>,
    statement: &Statement,
) -> Result<Execution> {
    let OnInsert::OnConflict(conflict) = on else { return Err(Error::unsupported("ON DUPLICATE KEY is not supported: use ON CONFLICT")) };
    let arbiters = arbiters(target, conflict.conflict_target.as_ref())?;
    let zone = session.settings().get("timezone").to_owned();
    let fit = Arc::new(Fit::new(&target.name, &target.relation.columns, &zone)?);
    // PostgreSQL looks at NOT NULL and CHECK before it looks for conflicts: a row that would be left out can fail.
    let mut proposed = checked(session, &target.relation, &target.name, fitted(stream, fit, None)).await?;
    let memory = MemoryConsumer::new("rows of ON CONFLICT").register(&session.database.base().runtime_env().memory_pool);
    let mut batches: Vec<RecordBatch> = Vec::new();
    while let Some(batch) = proposed.next().await {
        let batch = batch.map_err(from_datafusion)?;
        // Twice: they are put together in one piece.
        memory.try_grow(2 * batch.get_array_memory_size()).map_err(from_datafusion)?;
        batches.push(batch);
    }
    let schema = stored_schema(&target.relation.columns)?;
    let rows = concat_batches(&schema, &batches).map_err(from_arrow)?;
    drop(batches);
    let update = match &conflict.action {
        OnConflictAction::DoNothing => None,
        OnConflictAction::DoUpdate(update) if arbiters.is_empty() => {
            let _ = update;
            return Err(Error::new(Kind::Syntax, "ON CONFLICT DO UPDATE requires inference specification or constraint name")
                .hint("For example, ON CONFLICT (column_name)."));
        }
        OnConflictAction::DoUpdate(update) => Some(update),
    };
    let constraints: Vec<&Constraint> =
        if arbiters.is_empty() { target.relation.constraints.iter().filter(|c| c.is_unique()).collect() } else { arbiters };
    let mut plan = Resolution { fresh: vec![true; rows.num_rows()], gone: Positions::default(), changed: Vec::new() };
    for constraint in &constraints {
        plan.meet(session, target, &rows, constraint, update, statement).await?;
        plan.repeated(target, &rows, constraint, update.is_some())?;
    }
    let fresh = filter_record_batch(&rows, &BooleanArray::from(plan.fresh)).map_err(from_arrow)?;
    let mut all = vec![fresh];
    for changed in plan.changed {
        all.push(Fit::new(&target.name, &target.relation.columns, &zone)?.batch(&changed)?);
    }
    let gone = plan.gone;
    let into = Into { target, changed: None, keep: returning.is_some() };
    let (staged, _) = put(session, into, stream_of(all, schema), move || gone).await?;
    match returning {
        Some(returning) => returning.rows(session, target, staged.kept, "INSERT 0").await,
        None => done(format!("INSERT 0 {}", staged.rows)),
    }
}

/// The constraints that the clause names; empty without a target.
fn arbiters<'a>(target: &'a Target, given: Option<&ConflictTarget>) -> Result<Vec<&'a Constraint>> {
    let all = target.relation.constraints.iter().filter(|c| c.is_unique());
    match given {
        None => Ok(Vec::new()),
        Some(ConflictTarget::OnConstraint(name)) => {
            let name = name_text(name);
            let found: Vec<&Constraint> = all.filter(|c| c.name == name).collect();
            if found.is_empty() {
                let message = format!("constraint \"{name}\" for table \"{}\" does not exist", target.name);
                return Err(Error::new(Kind::UndefinedObject, message));
            }
            Ok(found)
        }
        Some(ConflictTarget::Columns(columns)) => {
            let named: HashSet<String> = columns.iter().map(ident_text).collect();
            if let Some(missing) = named.iter().find(|n| target.relation.position(n).is_none()) {
                return Err(Error::new(Kind::UndefinedColumn, format!("column \"{missing}\" does not exist")));
            }
            let found: Vec<&Constraint> = all.filter(|c| c.columns.iter().cloned().collect::<HashSet<_>>() == named).collect();
            if found.is_empty() {
                return Err(Error::new(
                    Kind::InvalidColumnReference,
                    "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                ));
            }
            Ok(found)
        }
    }
}

/// What becomes of the new rows.
struct Resolution {
    /// Those that are inserted.
    fresh: Vec<bool>,
    /// Rows of the table that change.
    gone: Positions,
    /// Their new values.
    changed: Vec<RecordBatch>,
}

impl Resolution {
    /// New rows that meet a row of the table.
    async fn meet(
        &mut self,
        session: &Arc<Session>,
        target: &Target,
        rows: &RecordBatch,
        constraint: &Constraint,
        update: Option<&DoUpdate>,
        statement: &Statement,
    ) -> Result<()> {
        let query = ast::Statement::Query(Box::new(query(session, target, constraint, update)?));
        let provider = session.database.store.scan_positions(&target.relation)?;
        let tables = vec![(TARGET.to_owned(), provider), (EXCLUDED.to_owned(), numbered(rows)? as _)];
        let plan = session.plan_query_over(query, &statement.text, &[], tables).await?;
        let met: Vec<RecordBatch> = session.run_within(plan).await?.try_collect().await?;
        for batch in met {
            let numbers = batch.column(2).as_primitive::<Int64Type>();
            numbers.values().iter().for_each(|n| self.fresh.iter_mut().skip(*n as usize).take(1).for_each(|f| *f = false));
            if update.is_none() {
                continue;
            }
            let applies =
                batch.column(3).as_boolean_opt().ok_or_else(|| Error::new(Kind::DatatypeMismatch, "argument of WHERE must be type boolean"))?;
            let applies: BooleanArray = applies.iter().map(|a| Some(a == Some(true))).collect();
            let batch = filter_record_batch(&batch, &applies).map_err(from_arrow)?;
            let (files, at) = positions(&batch)?;
            if (0..batch.num_rows()).any(|i| !self.gone.insert(files.value(i), at.value(i))) {
                return Err(twice());
            }
            self.changed.push(values(&batch, 4, &target.relation)?);
        }
        Ok(())
    }

    /// New rows that meet each other.
    fn repeated(&mut self, target: &Target, rows: &RecordBatch, constraint: &Constraint, update: bool) -> Result<()> {
        let columns: Vec<ArrayRef> =
            constraint.columns.iter().filter_map(|c| target.relation.position(c)).filter_map(|p| rows.columns().get(p).cloned()).collect();
        let converter = RowConverter::new(columns.iter().map(|c| SortField::new(c.data_type().clone())).collect()).map_err(from_arrow)?;
        let keys = converter.convert_columns(&columns).map_err(from_arrow)?;
        let nulls_count = matches!(constraint.kind, ConstraintKind::Unique { nulls_not_distinct: true });
        let mut seen = HashSet::new();
        for (i, fresh) in self.fresh.iter_mut().enumerate() {
            if !*fresh || (!nulls_count && columns.iter().any(|c| c.is_null(i))) {
                continue;
            }
            if !seen.insert(keys.row(i)) {
                if update {
                    return Err(twice());
                }
                *fresh = false;
            }
        }
        Ok(())
    }
}

fn twice() -> Error {
    Error::new(Kind::CardinalityViolation, "ON CONFLICT DO UPDATE command cannot affect row a second time")
        .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

/// The rows with their numbers.
fn numbered(rows: &RecordBatch) -> Result<Arc<MemTable>> {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(NUMBER, DataType::Int64, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64)));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(from_arrow)?;
    Ok(Arc::new(outside(MemTable::try_new(schema, vec![vec![batch]]))?))
}

fn of_excluded(name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new("excluded"), Ident::with_quote('"', name)])
}

/// `SELECT $file, $row, n [, applies, new values] FROM excluded JOIN target ON keys are equal`
fn query(session: &Arc<Session>, target: &Target, constraint: &Constraint, update: Option<&DoUpdate>) -> Result<ast::Query> {
    let nulls_count = matches!(constraint.kind, ConstraintKind::Unique { nulls_not_distinct: true });
    let equal = constraint.columns.iter().map(|c| {
        let (left, right) = (Box::new(target.column(c)), Box::new(of_excluded(c)));
        if nulls_count { Expr::IsNotDistinctFrom(left, right) } else { Expr::BinaryOp { left, op: BinaryOperator::Eq, right } }
    });
    let on = equal.reduce(|a, b| Expr::BinaryOp { left: Box::new(a), op: BinaryOperator::And, right: Box::new(b) });
    let on = on.ok_or_else(|| Error::internal("a constraint without columns"))?;
    let mut items = vec![item(target.column(FILE), FILE), item(target.column(ROW), ROW), item(of_excluded(NUMBER), NUMBER)];
    if let Some(update) = update {
        let applies = update.selection.clone().unwrap_or_else(|| Expr::Value(ast::Value::Boolean(true).with_empty_span()));
        items.push(item(applies, APPLIES));
        let new = assignments(session, target, &update.assignments)?;
        for (column, new) in target.relation.columns.iter().zip(new) {
            items.push(item(new.unwrap_or_else(|| target.column(&column.name)), &column.name));
        }
    }
    let join = Join { relation: target.factor(), global: false, join_operator: JoinOperator::Inner(JoinConstraint::On(on)) };
    let from = vec![TableWithJoins { relation: factor(EXCLUDED, "excluded"), joins: vec![join] }];
    select(items, from, None)
}
