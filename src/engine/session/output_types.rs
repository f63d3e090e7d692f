//! Types of result columns that DataFusion's fields have forgotten.
//!
//! In: a plan as it was made from the statement, before any optimization. Out: the SQL type of an output column. CASE,
//! COALESCE and aggregates keep the Arrow type of what they choose from, but not which SQL type it stood for (oid, name,
//! varchar): it is read from their operands. Invariant: the type is stored as the field says. Deliberately absent:
//! functions other than those that give one of their arguments.

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, JoinType, LogicalPlan};
use squilla_core::types::{EXTENSION_KEY, SqlType};

/// Functions that give one of their arguments.
const CHOOSING: &[&str] = &["coalesce", "nullif", "greatest", "least"];
/// Aggregates that give one of their inputs.
const PICKING: &[&str] = &["min", "max", "first_value", "last_value", "any_value", crate::postgres::aggregate::SINGLE];

/// The type of an output column.
pub fn of(plan: &LogicalPlan, index: usize) -> SqlType {
    let field = plan.schema().field(index);
    let plain = SqlType::of_field(field);
    if field.metadata().contains_key(EXTENSION_KEY) {
        return plain;
    }
    match traced(plan, index) {
        Some(found) if found.arrow().equals_datatype(&plain.arrow()) || found.arrow() == *field.data_type() => found,
        _ => plain,
    }
}

fn traced(plan: &LogicalPlan, index: usize) -> Option<SqlType> {
    match plan {
        LogicalPlan::Projection(p) => expression(p.expr.get(index)?, &p.input),
        LogicalPlan::SubqueryAlias(alias) => Some(of(&alias.input, index)),
        LogicalPlan::Subquery(subquery) => Some(of(&subquery.subquery, index)),
        LogicalPlan::Filter(filter) => Some(of(&filter.input, index)),
        LogicalPlan::Sort(sort) => Some(of(&sort.input, index)),
        LogicalPlan::Limit(limit) => Some(of(&limit.input, index)),
        LogicalPlan::Distinct(Distinct::All(input)) => Some(of(input, index)),
        LogicalPlan::RecursiveQuery(query) => Some(of(&query.static_term, index)),
        LogicalPlan::Union(union) => Some(of(union.inputs.first()?, index)),
        LogicalPlan::Window(window) if index < window.input.schema().fields().len() => Some(of(&window.input, index)),
        LogicalPlan::Aggregate(aggregate) => {
            let groups = aggregate.group_expr.len();
            let expr = if index < groups { aggregate.group_expr.get(index) } else { aggregate.aggr_expr.get(index - groups) };
            expression(expr?, &aggregate.input)
        }
        LogicalPlan::Join(join) if matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) => {
            let left = join.left.schema().fields().len();
            Some(if index < left { of(&join.left, index) } else { of(&join.right, index - left) })
        }
        _ => None,
    }
}

fn expression(expr: &Expr, input: &LogicalPlan) -> Option<SqlType> {
    match expr {
        Expr::Alias(alias) => expression(&alias.expr, input),
        Expr::Column(column) => Some(of(input, input.schema().maybe_index_of_column(column)?)),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, result)| result.as_ref()).chain(case.else_expr.as_deref());
            same(results, input)
        }
        Expr::ScalarFunction(f) if CHOOSING.contains(&f.name()) => same(f.args.iter(), input),
        Expr::ScalarSubquery(subquery) => Some(of(&subquery.subquery, 0)),
        Expr::AggregateFunction(f) if PICKING.contains(&f.func.name()) => expression(f.params.args.first()?, input),
        Expr::AggregateFunction(f) if f.func.name() == "array_agg" => {
            expression(f.params.args.first()?, input).map(|element| SqlType::Array(Box::new(element)))
        }
        other => field(other, input.schema()),
    }
}

fn field(expr: &Expr, schema: &DFSchema) -> Option<SqlType> {
    expr.to_field(schema).ok().map(|(_, field)| SqlType::of_field(&field))
}

/// The type that all of these have, NULLs left out.
fn same<'a>(exprs: impl Iterator<Item = &'a Expr>, input: &LogicalPlan) -> Option<SqlType> {
    let mut found: Option<SqlType> = None;
    for expr in exprs {
        match expression(expr, input) {
            None | Some(SqlType::Unknown) => {}
            ty if found.is_none() => found = ty,
            ty if ty == found => {}
            _ => return None,
        }
    }
    found
}
