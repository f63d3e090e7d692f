//! Statements that need no plan of operators: a row by its key, and constants.
//!
//! In: a query's plan as the planner made it, optimized once. Out: [`Short`], and from it rows. Invariants: columns, types and
//! names are those of the plan; what is not understood completely is left to the planned way, and so is every failure to read;
//! nothing that depends on the time, on the session or on chance is kept. A short way holds for one generation of settings
//! and for one definition of its table; where functions are called, for one state of the catalog. Deliberately absent:
//! which texts are remembered (`texts`).

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use parking_lot::Mutex;
use sqlparser::ast::{self, BinaryOperator, Expr as Ast, SetExpr, TableFactor, Value};
use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::catalog::data::{CatalogData, ColumnEntry, Constraint, Relation, RelationKind};
use crate::error::{from_arrow, from_datafusion};
use crate::session::planning::Lookup;
use crate::session::query::rows_of;
use crate::session::stream::Stop;
use crate::session::{Execution, Prepared, RowsTag, Session, TransactionStatus};
use crate::statement::{StatementKind, ident_text, name_parts};
use crate::table::key_index::KeyColumns;
use crate::table::point::Question;

/// How a statement is answered without a plan.
#[derive(Debug)]
pub(crate) struct Short {
    /// Of the settings.
    pub generation: u64,
    /// Of the catalog, where more than the table's definition counts.
    pub stamp: Option<u64>,
    pub way: Way,
}

/// The two kinds.
#[derive(Debug)]
pub(crate) enum Way {
    /// Always the same rows.
    Constant(RecordBatch),
    /// A row by its key.
    Point(Box<Point>),
}

/// A row by its key.
#[derive(Debug)]
pub(crate) struct Point {
    /// The table's name in the statement.
    pub name: Vec<String>,
    pub oid: u32,
    /// Its definition.
    pub columns: Vec<ColumnEntry>,
    pub constraints: Vec<Constraint>,
    /// The columns that are read.
    pub read: Vec<ColumnEntry>,
    pub schema: SchemaRef,
    pub key: KeyColumns,
    /// The places of the key's values among `equal`.
    pub key_values: Vec<usize>,
    pub equal: Vec<Equal>,
    /// What else a row must fulfil.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub outputs: Vec<Output>,
    pub output_schema: SchemaRef,
}

/// `column = value`
#[derive(Debug)]
pub(crate) struct Equal {
    /// Place among the columns that are read.
    pub column: usize,
    pub value: Given,
}

/// A value that a column is compared with.
#[derive(Debug)]
pub(crate) enum Given {
    /// A parameter, from 0.
    Parameter(usize),
    /// An array of one value of the column's type.
    Constant(ArrayRef),
}

/// A column of the result.
#[derive(Debug)]
pub(crate) enum Output {
    /// One that is read.
    Column(usize),
    Computed(Arc<dyn PhysicalExpr>),
}

/// What a prepared statement knows of its short way: looked for when it runs a second time.
#[derive(Debug, Default)]
pub(crate) struct Memo(Mutex<Known>);

#[derive(Debug, Default)]
enum Known {
    #[default]
    New,
    /// It has run.
    Due,
    /// There is none under this generation of settings.
    Refused(u64),
    Made(Arc<Short>),
}

impl Memo {
    /// The short way, where there is one.
    pub fn get(&self) -> Option<Arc<Short>> {
        match &*self.0.lock() {
            Known::Made(short) => Some(Arc::clone(short)),
            _ => None,
        }
    }

    /// The statement is about to run on its plan: whether to look for a short way now.
    pub fn due(&self, generation: u64) -> bool {
        let mut known = self.0.lock();
        match &*known {
            Known::New => {
                *known = Known::Due;
                false
            }
            Known::Due => true,
            Known::Refused(of) => *of != generation,
            Known::Made(_) => false,
        }
    }

    /// What was found.
    pub fn set(&self, short: Option<Short>, generation: u64) {
        *self.0.lock() = short.map_or(Known::Refused(generation), |short| Known::Made(Arc::new(short)));
    }

    fn forget(&self) {
        *self.0.lock() = Known::Due;
    }
}

/// `column = value` of a WHERE, as it was written.
pub(super) struct Pair<'a> {
    /// Name of the column.
    pub column: String,
    /// The value: a literal or a parameter.
    pub value: &'a ast::ValueWithSpan,
}

/// A query of at most one table.
pub(super) struct Shape<'a> {
    /// The table.
    pub name: Option<&'a ast::ObjectName>,
    /// Its conditions `column = value`.
    pub pairs: Vec<Pair<'a>>,
}

/// None where there is more to a query than a SELECT from one table.
pub(super) fn shape(statement: &ast::Statement) -> Option<Shape<'_>> {
    let ast::Statement::Query(query) = statement else { return None };
    if query.with.is_some() || query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some() || !query.locks.is_empty() {
        return None;
    }
    let SetExpr::Select(select) = &*query.body else { return None };
    let (name, visible) = match select.from.as_slice() {
        [] => (None, String::new()),
        [from] if from.joins.is_empty() => match &from.relation {
            TableFactor::Table { name, alias, args: None, sample: None, .. } => {
                let visible = alias.as_ref().map(|a| ident_text(&a.name)).or_else(|| name_parts(name).pop());
                // Columns of other names than the table's.
                if alias.as_ref().is_some_and(|a| !a.columns.is_empty()) {
                    return None;
                }
                (Some(name), visible.unwrap_or_default())
            }
            _ => return None,
        },
        _ => return None,
    };
    let mut pairs = Vec::new();
    if let Some(condition) = &select.selection {
        conjuncts(condition, &visible, &mut pairs);
    }
    Some(Shape { name, pairs })
}

fn conjuncts<'a>(condition: &'a Ast, table: &str, out: &mut Vec<Pair<'a>>) {
    match condition {
        Ast::Nested(inner) => conjuncts(inner, table, out),
        Ast::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, table, out);
            conjuncts(right, table, out);
        }
        Ast::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let pair = |column: &Ast, value: &'a Ast| match (column, value) {
                (Ast::Identifier(name), Ast::Value(value)) => Some(Pair { column: ident_text(name), value }),
                (Ast::CompoundIdentifier(names), Ast::Value(value)) => match names.as_slice() {
                    [of, name] if ident_text(of) == table => Some(Pair { column: ident_text(name), value }),
                    _ => None,
                },
                _ => None,
            };
            out.extend(pair(left, right).or_else(|| pair(right, left)));
        }
        _ => {}
    }
}

/// The number of a parameter, from 0.
pub(super) fn parameter(value: &Value) -> Option<usize> {
    let Value::Placeholder(name) = value else { return None };
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

/// Whether a query may have a short way at all, seen without its tables. Text like 'now' means another time each time.
pub(super) fn is_candidate(statement: &ast::Statement) -> bool {
    if shape(statement).is_none() {
        return false;
    }
    let mut nodes = 0;
    ast::visit_expressions(statement, |expr| {
        nodes += 1;
        let moving = match expr {
            Ast::Value(value) => value.value.clone().into_string().is_some_and(|text| is_moving(&text)),
            Ast::TypedString(typed) => typed.value.value.clone().into_string().is_some_and(|text| is_moving(&text)),
            _ => false,
        };
        if moving || nodes > NODES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .is_continue()
}

/// Larger statements gain little and cost much to keep.
const NODES_MAX: usize = 200;

/// Words that are times of their own when text is read as one.
fn is_moving(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    ["now", "today", "tomorrow", "yesterday", "current"].iter().any(|word| text.starts_with(word))
}

/// Whether a column can be compared with a value of a type by its bytes.
pub(super) fn comparable(column: &SqlType, value: &SqlType) -> bool {
    let integer = |ty: &SqlType| matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    let text = |ty: &SqlType| matches!(ty, SqlType::Text | SqlType::Varchar(_));
    let exact = |ty: &SqlType| matches!(ty, SqlType::Uuid | SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz);
    (integer(column) && integer(value)) || (text(column) && text(value)) || (exact(column) && column == value)
}

/// A value as an array of one value of a column's type; None for one that no value of the column is equal to.
pub(super) fn column_value(value: &ScalarValue, ty: &DataType) -> Result<Option<ArrayRef>> {
    if value.is_null() {
        return Ok(None);
    }
    let integer = match value {
        ScalarValue::Int16(Some(n)) => Some(i64::from(*n)),
        ScalarValue::Int32(Some(n)) => Some(i64::from(*n)),
        ScalarValue::Int64(Some(n)) => Some(*n),
        _ => None,
    };
    Ok(match (ty, integer) {
        (DataType::Int16, Some(n)) => i16::try_from(n).ok().map(|n| Arc::new(Int16Array::from(vec![n])) as ArrayRef),
        (DataType::Int32, Some(n)) => i32::try_from(n).ok().map(|n| Arc::new(Int32Array::from(vec![n])) as ArrayRef),
        (DataType::Int64, Some(n)) => Some(Arc::new(Int64Array::from(vec![n])) as ArrayRef),
        (DataType::Utf8View, _) => match value.try_as_str() {
            Some(Some(text)) => Some(Arc::new(StringViewArray::from(vec![text])) as ArrayRef),
            _ => Some(value.cast_to(ty).and_then(|v| v.to_array()).map_err(from_datafusion)?),
        },
        _ => Some(value.cast_to(ty).and_then(|v| v.to_array()).map_err(from_datafusion)?),
    })
}

/// What came of a short way.
enum Outcome {
    Rows(RecordBatch),
    /// The plan has to tell.
    Planned,
    /// The table is not what it was.
    Outdated,
}

impl Point {
    /// The table as it is now, when it is still defined as it was.
    fn relation<'a>(&self, data: &'a CatalogData, search_path: &'a [String]) -> Option<&'a Relation> {
        let lookup = Lookup { data, search_path, values: None, beside: &[] };
        let (_, _, relation) = lookup.find(&self.name)?;
        let same = relation.oid == self.oid && relation.columns == self.columns && relation.constraints == self.constraints;
        (same && matches!(&relation.kind, RelationKind::Table { materialized: None, .. })).then_some(relation)
    }

    /// The values of the conditions; None when one of them is like no value of its column.
    fn values(&self, parameters: &[ScalarValue]) -> Result<Option<Vec<(usize, ArrayRef)>>> {
        let mut values = Vec::with_capacity(self.equal.len());
        for equal in &self.equal {
            let array = match &equal.value {
                Given::Constant(array) => Some(Arc::clone(array)),
                Given::Parameter(index) => match (parameters.get(*index), self.schema.fields().get(equal.column)) {
                    (Some(value), Some(field)) => column_value(value, field.data_type())?,
                    _ => None,
                },
            };
            let Some(array) = array else { return Ok(None) };
            values.push((equal.column, array));
        }
        Ok(Some(values))
    }

    async fn run(self: &Point, short: &Arc<Short>, session: &Arc<Session>, parameters: &[ScalarValue], stop: &Stop) -> Result<Outcome> {
        let data = session.snapshot();
        let search_path = session.search_path(&data);
        let Some(relation) = self.relation(&data, &search_path) else { return Ok(Outcome::Outdated) };
        let Some(files) = relation.files() else { return Ok(Outcome::Outdated) };
        let Ok(values) = self.values(parameters) else { return Ok(Outcome::Planned) };
        let Some(values) = values else { return self.output(RecordBatch::new_empty(Arc::clone(&self.schema))).map(Outcome::Rows) };
        let key: Vec<ArrayRef> = self.key_values.iter().filter_map(|i| values.get(*i)).map(|(_, array)| Arc::clone(array)).collect();
        let hash = self.key.hash(&key)?;
        let store = &session.database.store;
        let question = Question { columns: &self.read, schema: &self.schema, key: &self.key, hash, equal: &values };
        // What cannot be read is the plan's to tell.
        let rows = match store.rows_by_key(files, &question, false) {
            Ok(Some(rows)) => rows,
            Err(_) => return Ok(Outcome::Planned),
            Ok(None) => {
                let (store, files, short) = (Arc::clone(store), files.clone(), Arc::clone(short));
                let reading = session.database.runtime()?.spawn_blocking(move || {
                    let Way::Point(point) = &short.way else { return Ok(None) };
                    let question = Question { columns: &point.read, schema: &point.schema, key: &point.key, hash, equal: &values };
                    store.rows_by_key(&files, &question, true)
                });
                match stop.guard(async { Ok(reading.await) }).await? {
                    Ok(Ok(Some(rows))) => rows,
                    _ => return Ok(Outcome::Planned),
                }
            }
        };
        self.output(rows).map(Outcome::Rows)
    }

    /// The result from what was read.
    fn output(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let rows = match &self.filter {
            Some(filter) if rows.num_rows() > 0 => {
                let kept = filter.evaluate(&rows).and_then(|v| v.into_array(rows.num_rows())).map_err(from_datafusion)?;
                let kept = datafusion::common::cast::as_boolean_array(&kept).map_err(from_datafusion)?.clone();
                arrow::compute::filter_record_batch(&rows, &kept).map_err(from_arrow)?
            }
            _ => rows,
        };
        let columns = self.outputs.iter().map(|output| match output {
            Output::Column(place) => Ok(Arc::clone(rows.column(*place))),
            Output::Computed(expr) => expr.evaluate(&rows).and_then(|v| v.into_array(rows.num_rows())).map_err(from_datafusion),
        });
        batch(&self.output_schema, columns.collect::<Result<_>>()?, rows.num_rows())
    }
}

/// A batch of this schema.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(from_arrow)
}

impl Short {
    /// Whether it may be used now.
    pub fn is_current(&self, session: &Session) -> bool {
        if self.generation != session.inner.lock().settings.generation() {
            return false;
        }
        match &self.way {
            Way::Constant(_) => self.stamp.is_none_or(|stamp| stamp == session.snapshot().stamp),
            Way::Point(point) => {
                let data = session.snapshot();
                let search_path = session.search_path(&data);
                self.stamp.is_none_or(|stamp| stamp == data.stamp) && point.relation(&data, &search_path).is_some()
            }
        }
    }

    async fn run(self: &Arc<Self>, session: &Arc<Session>, parameters: &[ScalarValue], stop: &Stop) -> Result<Outcome> {
        if self.stamp.is_some_and(|stamp| stamp != session.snapshot().stamp) {
            return Ok(Outcome::Outdated);
        }
        match &self.way {
            Way::Constant(rows) => Ok(Outcome::Rows(rows.clone())),
            Way::Point(point) => point.run(self, session, parameters, stop).await,
        }
    }
}

impl Session {
    /// The rows of a statement that has a short way; None when the plan has to tell.
    pub(super) async fn in_short(self: &Arc<Self>, prepared: &Prepared, parameters: &[ScalarValue]) -> Result<Option<Execution>> {
        let Some(short) = prepared.memo.get() else { return Ok(None) };
        {
            let inner = self.inner.lock();
            if inner.settings.generation() != short.generation {
                prepared.memo.forget();
                return Ok(None);
            }
            // The planned way says what is wrong.
            if inner.status == TransactionStatus::Failed || parameters.len() < prepared.parameter_types().len() {
                return Ok(None);
            }
        }
        self.check_transaction(&prepared.statement)?;
        crate::privileges::check(self, &prepared.statement)?;
        let stop = self.stop(&prepared.statement.text);
        match short.run(self, parameters, &stop).await? {
            Outcome::Rows(rows) => {
                let fields = prepared.fields.clone().unwrap_or_default();
                Ok(Some(Execution::Rows { fields, stream: rows_of(rows), tag: RowsTag::Select }))
            }
            Outcome::Planned => Ok(None),
            Outcome::Outdated => {
                prepared.memo.forget();
                Ok(None)
            }
        }
    }
}

/// The tree of a query; None for other statements.
pub(super) fn query_of(kind: &StatementKind) -> Option<&ast::Statement> {
    match kind {
        StatementKind::Sql(sql) if matches!(&**sql, ast::Statement::Query(_)) => Some(sql),
        _ => None,
    }
}
