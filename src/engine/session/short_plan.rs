//! Finding the short way of a query in its plan.
//!
//! In: a query's tree, its plan before optimization, the types of its parameters. Out: a [`Short`], or None where the plan has
//! more in it than columns of one table, conditions on them and harmless expressions. Invariants: expressions are those
//! that the optimizer made of the plan, so types, coercions and names are the planner's; a parameter is only where a column
//! is compared with it. Deliberately absent: running it (`short`).

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use sqlparser::ast::{self, Value};
use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::catalog::data::{Relation, RelationKind};
use crate::error::from_datafusion;
use crate::postgres::{input, registry};
use crate::session::Session;
use crate::session::planning::Lookup;
use crate::session::short::{
    Equal, Given, Output, Pair, Point, Shape, Short, Way, batch, column_value, comparable, is_candidate, parameter, query_of, shape,
};
use crate::statement::{Statement, name_parts};
use crate::system::shapes;
use crate::table::fit::scan_field;
use crate::table::key_index::KeyColumns;
use crate::udf::marker;

impl Session {
    /// The short way of a statement with this plan.
    pub(super) fn short_way(self: &Arc<Self>, statement: &Statement, plan: &LogicalPlan, parameters: &[SqlType]) -> Result<Option<Short>> {
        let settings = self.settings();
        if !settings.is_on("squilla.short_statements") || !settings.get("squilla.snapshot").is_empty() {
            return Ok(None);
        }
        // A numeric without a scale is planned with its value.
        if parameters.contains(&SqlType::Numeric(None)) {
            return Ok(None);
        }
        let Some(query) = query_of(&statement.kind).filter(|q| is_candidate(q)) else { return Ok(None) };
        let Some(seen) = looked_at(plan) else { return Ok(None) };
        let Some(Shape { name, pairs }) = shape(query) else { return Ok(None) };
        let data = self.snapshot();
        // A body of SQL has taken the place of a call by now: the tree tells of it.
        let stamp = (seen.calls || calls(query)).then_some(data.stamp);
        let mut state = self.lease(&settings)?;
        state.mark_start_execution();
        let optimized = state.optimize(plan).map_err(from_datafusion)?;
        let way = match name {
            None if seen.parameters == 0 => constant(&state, &optimized)?.map(Way::Constant),
            None => None,
            Some(name) => {
                let search_path = self.search_path(&data);
                let name = name_parts(name);
                let lookup = Lookup { data: &data, search_path: &search_path, values: None, beside: &[] };
                // A system relation of the same name comes first.
                let system = matches!(name.as_slice(), [table] if shapes::find("pg_catalog", table).is_some());
                match lookup.find(&name).filter(|_| !system) {
                    Some((_, _, relation)) => {
                        let from = From { relation, name, pairs, parameters, zone: settings.get("timezone") };
                        point(&state, &optimized, &from, seen.parameters)?.map(|p| Way::Point(Box::new(p)))
                    }
                    None => None,
                }
            }
        };
        Ok(way.map(|way| Short { generation: settings.generation(), stamp, way }))
    }
}

fn calls(query: &ast::Statement) -> bool {
    let is_call = |expr: &ast::Expr| if matches!(expr, ast::Expr::Function(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    ast::visit_expressions(query, is_call).is_break()
}

/// What is in a plan of simple nodes.
struct Seen {
    /// Places of parameters.
    parameters: usize,
    /// Functions are called.
    calls: bool,
}

/// None where the plan has nodes or expressions that have no short way.
fn looked_at(plan: &LogicalPlan) -> Option<Seen> {
    let mut seen = Seen { parameters: 0, calls: false };
    let mut plain = true;
    let walked = plan.apply(|node| {
        plain &= matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::EmptyRelation(_)
        );
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                plain &= is_plain(expr, &mut seen);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    (walked.is_ok() && plain).then_some(seen)
}

/// Whether an expression gives the same for the same values, and can be evaluated by itself.
fn is_plain(expr: &Expr, seen: &mut Seen) -> bool {
    match expr {
        Expr::Placeholder(_) => {
            seen.parameters += 1;
            true
        }
        Expr::ScalarFunction(call) => {
            seen.calls = true;
            let immutable = call.func.signature().volatility == Volatility::Immutable;
            // Ours may need what a statement runs in; those of the session read its catalog.
            immutable && marker(&call.func).is_none() && registry::session_bound().all(|name| name != call.func.name())
        }
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Literal(..)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_) => true,
        _ => false,
    }
}

/// The one row of a query without tables.
fn constant(state: &SessionState, plan: &LogicalPlan) -> Result<Option<RecordBatch>> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let LogicalPlan::EmptyRelation(empty) = &*projection.input else { return Ok(None) };
    if !empty.produce_one_row {
        return Ok(None);
    }
    let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &RecordBatchOptions::new().with_row_count(Some(1)));
    let one = one.map_err(crate::error::from_arrow)?;
    let mut columns = Vec::with_capacity(projection.expr.len());
    for expr in &projection.expr {
        let expr = physical(state, expr, &empty.schema)?;
        let value = expr.evaluate(&one).and_then(|v| v.into_array(1));
        // What fails fails again each time.
        let Ok(value) = value else { return Ok(None) };
        columns.push(value);
    }
    batch(projection.schema.inner(), columns, 1).map(Some)
}

fn physical(state: &SessionState, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    state.create_physical_expr(expr.clone(), schema).map_err(from_datafusion)
}

/// The table of a query, and what is known of its conditions.
struct From<'a> {
    relation: &'a Relation,
    name: Vec<String>,
    pairs: Vec<Pair<'a>>,
    parameters: &'a [SqlType],
    zone: &'a str,
}

fn has_parameter(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).unwrap_or(true)
}

fn point(state: &SessionState, plan: &LogicalPlan, from: &From<'_>, parameters: usize) -> Result<Option<Point>> {
    let relation = from.relation;
    if !matches!(relation.kind, RelationKind::Table { materialized: None, .. }) {
        return Ok(None);
    }
    let (outputs, below) = match plan {
        LogicalPlan::Projection(projection) => (Some(&projection.expr), &*projection.input),
        other => (None, other),
    };
    let LogicalPlan::Filter(filter) = below else { return Ok(None) };
    let mut scan = &*filter.input;
    while let LogicalPlan::SubqueryAlias(alias) = scan {
        scan = &alias.input;
    }
    let LogicalPlan::TableScan(scan) = scan else { return Ok(None) };
    // The planner read the same state of the table's columns.
    let places: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..relation.columns.len()).collect());
    let whole = scan.source.schema();
    let names = whole.fields().iter().map(|f| f.name().as_str()).eq(relation.columns.iter().map(|c| c.name.as_str()));
    if scan.fetch.is_some() || !names {
        return Ok(None);
    }
    let read: Vec<_> = places.iter().filter_map(|place| relation.columns.get(*place).cloned()).collect();
    let fields = read.iter().map(scan_field).collect::<Result<Vec<_>>>()?;
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let input = filter.input.schema();
    let same = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| a.data_type() == b.data_type();
    if input.fields().len() != read.len() || !input.fields().iter().zip(schema.fields()).all(same) {
        return Ok(None);
    }
    let Some(equal) = equalities(from, &read, &schema, parameters)? else { return Ok(None) };
    let Some((key, key_values)) = key(relation, &read, &equal)? else { return Ok(None) };
    // Conditions with parameters are the equalities, which are looked at for each row.
    let rest: Vec<Expr> = split_conjunction(&filter.predicate).into_iter().filter(|e| !has_parameter(e)).cloned().collect();
    let filter = conjunction(rest).map(|e| physical(state, &e, input)).transpose()?;
    let output = |expr: &Expr| match expr {
        Expr::Column(column) if input.maybe_index_of_column(column).is_some() => {
            Ok(Output::Column(input.maybe_index_of_column(column).unwrap_or_default()))
        }
        expr => physical(state, expr, input).map(Output::Computed),
    };
    let outputs = match outputs {
        Some(exprs) if exprs.iter().any(has_parameter) => return Ok(None),
        Some(exprs) => exprs.iter().map(output).collect::<Result<Vec<_>>>()?,
        None => (0..read.len()).map(Output::Column).collect(),
    };
    let output_schema = Arc::clone(plan.schema().inner());
    let (columns, constraints) = (relation.columns.clone(), relation.constraints.clone());
    let (name, oid) = (from.name.clone(), relation.oid);
    Ok(Some(Point { name, oid, columns, constraints, read, schema, key, key_values, equal, filter, outputs, output_schema }))
}

/// The conditions `column = value`; None when a parameter is anywhere else.
fn equalities(from: &From<'_>, read: &[crate::catalog::data::ColumnEntry], schema: &SchemaRef, parameters: usize) -> Result<Option<Vec<Equal>>> {
    let mut equal = Vec::new();
    let mut used = 0;
    for pair in &from.pairs {
        let Some(column) = read.iter().position(|c| c.name == pair.column) else { continue };
        let (Some(entry), Some(field)) = (read.get(column), schema.fields().get(column)) else { continue };
        let ty = entry.sql_type()?;
        if let Some(number) = parameter(&pair.value.value) {
            if from.parameters.get(number).is_some_and(|given| comparable(&ty, given)) {
                used += 1;
                equal.push(Equal { column, value: Given::Parameter(number) });
            }
        } else if let Some(array) = literal(&pair.value.value, &ty, from.zone)
            && let Ok(Some(array)) = column_value(&array, field.data_type())
        {
            equal.push(Equal { column, value: Given::Constant(array) });
        }
    }
    Ok((used == parameters).then_some(equal))
}

/// The value of a literal that is compared with a column of a type.
fn literal(value: &Value, ty: &SqlType, zone: &str) -> Option<ScalarValue> {
    match value {
        Value::Number(digits, _) if comparable(ty, &SqlType::Int8) => digits.parse().ok().map(|n| ScalarValue::Int64(Some(n))),
        Value::SingleQuotedString(text) if spelled(ty) => text_value(text, ty, zone),
        _ => None,
    }
}

/// Types whose literals are read the same here and by the planner.
pub(super) fn spelled(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Uuid)
}

/// Text read as a value of a type; None when it is none.
pub(super) fn text_value(text: &str, ty: &SqlType, zone: &str) -> Option<ScalarValue> {
    let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
    let value = input::convert_in(&text, ty, None, zone).ok()?;
    ScalarValue::try_from_array(&value, 0).ok()
}

/// A key all of whose columns have a value, and where the values are.
fn key(relation: &Relation, read: &[crate::catalog::data::ColumnEntry], equal: &[Equal]) -> Result<Option<(KeyColumns, Vec<usize>)>> {
    for constraint in relation.constraints.iter().filter(|c| c.is_unique()) {
        let place = |name: &String| equal.iter().position(|e| read.get(e.column).is_some_and(|c| c.name == *name));
        let Some(values) = constraint.columns.iter().map(place).collect::<Option<Vec<_>>>() else { continue };
        let columns: Vec<_> = constraint.columns.iter().filter_map(|name| read.iter().find(|c| c.name == *name)).cloned().collect();
        if columns.is_empty() {
            continue;
        }
        if let Some(key) = KeyColumns::new(columns)? {
            return Ok(Some((key, values)));
        }
    }
    Ok(None)
}

/// Whether literals beside a column of this type may stand for others: numbers, or text.
pub(super) fn varies(ty: &SqlType, value: &ast::Value) -> bool {
    match value {
        Value::Number(..) => comparable(ty, &SqlType::Int8),
        Value::SingleQuotedString(_) => spelled(ty),
        _ => false,
    }
}
