//! MERGE.
//!
//! In: the statement. Out: for every row of the source, joined to the target, what is to be done and the new values, found
//! by one query; then one edit. Invariants: the first WHEN clause that fits decides; a row of the target that is to be
//! changed twice is 21000. Deliberately absent: NOT MATCHED BY SOURCE and RETURNING, which PostgreSQL 15 does not have.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parking_lot::Mutex;
use sqlparser::ast::{
    self, BinaryOperator, CaseWhen, DataType, Expr, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause, MergeClauseKind,
    MergeInsertKind, TableFactor, TableWithJoins, Value,
};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::Relation;
use crate::command::data::start;
use crate::command::insert::insert_columns;
use crate::command::update::assignments;
use crate::command::write::{self, Into, Positions, TARGET, Target, inside, item, positions, put, select, values};
use crate::command::{done, write::given};
use crate::error::from_arrow;
use crate::postgres::syntax::cast;
use crate::session::parameters::typed;
use crate::session::query::sendable;
use crate::session::{Execution, Session};
use crate::statement::alter::NOTHING;
use crate::statement::{Statement, ident_text, name_parts};
use crate::table::scan::{FILE, ROW};

const ACTION: &str = "$action";
const KEEP: i64 = 0;
const INSERT: i64 = 1;
const UPDATE: i64 = 2;
const DELETE: i64 = 3;

/// A clause with its values by column; none for DELETE and DO NOTHING.
struct Arm {
    condition: Expr,
    action: i64,
    values: Vec<Option<Expr>>,
}

/// A MERGE as a query.
pub struct Bound {
    target: Target,
    query: ast::Statement,
}

/// Resolves names and makes the query.
pub fn bind(session: &Arc<Session>, merge: &Merge) -> Result<Bound> {
    let TableFactor::Table { name, alias, .. } = &merge.table else { return Err(Error::new(Kind::Syntax, "MERGE takes a table")) };
    let target = Target::find(session, name, alias.as_ref().map(|a| ident_text(&a.name)), "merge into")?;
    let arms = merge.clauses.iter().map(|clause| arm(session, &target, clause)).collect::<Result<Vec<_>>>()?;
    let mut items = vec![item(target.column(FILE), FILE), item(target.column(ROW), ROW)];
    let actions = arms.iter().map(|a| (a.condition.clone(), number(a.action)));
    items.push(item(cast(case(actions, number(KEEP)), DataType::BigInt(None)), ACTION));
    for (position, column) in target.relation.columns.iter().enumerate() {
        let ty = column.sql_type()?;
        let value = |arm: &Arm| arm.values.get(position).cloned().flatten().unwrap_or_else(write::null);
        let cases = arms.iter().map(|a| (a.condition.clone(), typed(value(a), &ty)));
        items.push(item(case(cases, typed(write::null(), &ty)), &column.name));
    }
    let join =
        Join { relation: target.factor(), global: false, join_operator: JoinOperator::LeftOuter(JoinConstraint::On(merge.on.as_ref().clone())) };
    let from = vec![TableWithJoins { relation: merge.source.clone(), joins: vec![join] }];
    let query = ast::Statement::Query(Box::new(select(items, from, None)?));
    Ok(Bound { target, query })
}

fn number(n: i64) -> Expr {
    Expr::Value(Value::Number(n.to_string(), false).with_empty_span())
}

fn case(arms: impl Iterator<Item = (Expr, Expr)>, otherwise: Expr) -> Expr {
    let conditions: Vec<CaseWhen> = arms.map(|(condition, result)| CaseWhen { condition, result }).collect();
    if conditions.is_empty() {
        return otherwise;
    }
    Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: Some(Box::new(otherwise)),
    }
}

fn arm(session: &Arc<Session>, target: &Target, clause: &MergeClause) -> Result<Arm> {
    let file = Box::new(target.column(FILE));
    let matched = match clause.clause_kind {
        MergeClauseKind::Matched => Expr::IsNotNull(file),
        MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => Expr::IsNull(file),
        MergeClauseKind::NotMatchedBySource => return Err(Error::unsupported("WHEN NOT MATCHED BY SOURCE is not supported")),
    };
    let condition = match &clause.predicate {
        Some(predicate) => {
            Expr::BinaryOp { left: Box::new(matched), op: BinaryOperator::And, right: Box::new(Expr::Nested(Box::new(predicate.clone()))) }
        }
        None => matched,
    };
    let (action, values) = match &clause.action {
        MergeAction::Delete { .. } => (DELETE, Vec::new()),
        MergeAction::Update(update) if update.assignments.iter().any(|a| a.target.to_string().contains(NOTHING)) => (KEEP, Vec::new()),
        MergeAction::Update(update) => {
            let new = assignments(session, target, &update.assignments)?;
            let all = new.into_iter().zip(&target.relation.columns).map(|(new, c)| Some(new.unwrap_or_else(|| target.column(&c.name))));
            (UPDATE, all.collect())
        }
        MergeAction::Insert(insert) => {
            let named: Vec<String> = insert.columns.iter().filter_map(|c| name_parts(c).pop()).collect();
            if named.iter().any(|n| n == NOTHING) {
                return Ok(Arm { condition, action: KEEP, values: Vec::new() });
            }
            (INSERT, inserted(session, &target.relation, &target.name, &named, &insert.kind)?)
        }
    };
    Ok(Arm { condition, action, values })
}

fn inserted(session: &Arc<Session>, relation: &Relation, name: &str, named: &[String], kind: &MergeInsertKind) -> Result<Vec<Option<Expr>>> {
    let columns = insert_columns(relation, named, name)?;
    let MergeInsertKind::Values(rows) = kind else { return Err(Error::unsupported("INSERT ROW is not supported")) };
    let [row] = rows.rows.as_slice() else { return Err(Error::new(Kind::Syntax, "INSERT in MERGE takes one row of values")) };
    if row.len() > columns.len() {
        return Err(Error::new(Kind::Syntax, "INSERT has more expressions than target columns"));
    }
    let mut out: Vec<Option<Expr>> = Vec::with_capacity(relation.columns.len());
    for (position, column) in relation.columns.iter().enumerate() {
        let value = columns.iter().position(|c| *c == position).and_then(|i| row.get(i));
        out.push(match (value, &column.default) {
            (Some(value), _) => Some(given(session, value.clone(), column)?),
            (None, Some(default)) => Some(write::parsed(session, default)?),
            (None, None) => None,
        });
    }
    Ok(out)
}

impl Bound {
    /// Types of its parameters.
    pub async fn parameter_types(&self, session: &Arc<Session>, text: &str, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
        let provider = session.database.store.scan_positions(&self.target.relation)?;
        session.types_over(self.query.clone(), text, given, vec![(TARGET.to_owned(), provider)]).await
    }

    /// The plan of the query.
    pub async fn plan(&self, session: &Arc<Session>, text: &str) -> Result<LogicalPlan> {
        let provider = session.database.store.scan_positions(&self.target.relation)?;
        session.plan_query_over(self.query.clone(), text, &[], vec![(TARGET.to_owned(), provider)]).await
    }
}

/// What a MERGE has done.
#[derive(Debug, Default)]
struct Work {
    gone: Positions,
    changed: u64,
}

impl Work {
    /// The rows of a batch that are to be written.
    fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (files, rows) = positions(batch)?;
        let actions = batch.columns().get(2).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let actions = actions.ok_or_else(|| Error::internal("a MERGE without actions"))?;
        let mut written = Vec::with_capacity(batch.num_rows());
        for i in 0..batch.num_rows() {
            let action = actions.value(i);
            if (action == UPDATE || action == DELETE) && (files.is_null(i) || !self.gone.insert(files.value(i), rows.value(i))) {
                return Err(Error::new(Kind::CardinalityViolation, "MERGE command cannot affect row a second time")
                    .hint("Ensure that not more than one source row matches any one target row."));
            }
            self.changed += u64::from(action != KEEP);
            written.push(action == UPDATE || action == INSERT);
        }
        filter_record_batch(batch, &BooleanArray::from(written)).map_err(from_arrow)
    }
}

/// MERGE
pub async fn merge(session: &Arc<Session>, merge: &Merge, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let bound = bind(session, merge)?;
    let plan = bound.plan(session, &statement.text).await?;
    let running = start(session, plan, &statement.text, parameters).await?;
    let work = Arc::new(Mutex::new(Work::default()));
    let (doing, relation) = (Arc::clone(&work), bound.target.relation.clone());
    let fields = running.schema.fields().iter().skip(3).zip(&relation.columns);
    let schema: SchemaRef = Arc::new(Schema::new(fields.map(|(f, c)| f.as_ref().clone().with_name(&c.name)).collect::<Vec<_>>()));
    let rows = sendable(running.stream, Arc::clone(&running.schema)).map(move |batch| {
        let batch = inside(doing.lock().take(&batch?))?;
        inside(values(&batch, 3, &relation))
    });
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let into = Into { target: &bound.target, changed: None, keep: false };
    let gone = || std::mem::take(&mut work.lock().gone);
    running.frame.stop.guard(put(session, into, rows, gone)).await?;
    let changed = work.lock().changed;
    done(format!("MERGE {changed}"))
}
