//! Conditions on a column that grows from row to row become bounds of the call that makes it.
//!
//! In: a filter above a set-returning call, with nothing but names between. Out: the same filter over a call that begins and ends near the bounds
//! (`pts_s BETWEEN 60 AND 70` makes `video_frames` begin at 60 s). Invariant: the filter stays, the call gives at least the
//! rows that pass it, and every row that passes is what it was. Deliberately absent: names of functions; the columns and
//! their arguments are declared ([`squilla_core::kernel::Ranged`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Extension, Filter, LogicalPlan, Operator, Projection, SubqueryAlias};
use squilla_core::declaration::Returns;

use crate::plan::expand::Expand;
use crate::plan::lift::Lifting;
use crate::udf::marker;

/// What is asked for beyond the upper bound, in the units of the column: a row may be a little early.
const BEYOND: f64 = 1.0;

/// Narrows the call below a filter.
pub fn narrow(filter: Filter, lifting: &Lifting) -> DfResult<Filter> {
    let bounds: Vec<(String, Bounds)> = columns_of(&filter.predicate)?.into_iter().map(|c| (c.clone(), bounds(&filter.predicate, &c))).collect();
    match below(&filter.input, &bounds)? {
        Some(input) => {
            lifting.note("condition on a generated column bounds the call");
            Filter::try_new(filter.predicate, Arc::new(input))
        }
        None => Ok(filter),
    }
}

/// Lower and upper bound.
type Bounds = (Option<f64>, Option<f64>);

fn columns_of(predicate: &Expr) -> DfResult<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    predicate.apply(|e| {
        if let Expr::Column(column) = e {
            names.insert(column.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// `plan` with its set-returning call narrowed, reached through nodes that only name columns; None where there is nothing to do.
fn below(plan: &LogicalPlan, bounds: &[(String, Bounds)]) -> DfResult<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let input = below(&alias.input, bounds)?;
            input.map(|input| SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()).map(LogicalPlan::SubqueryAlias)).transpose()
        }
        LogicalPlan::Projection(projection) => {
            let renamed: Vec<(String, Bounds)> = projection
                .expr
                .iter()
                .zip(projection.schema.fields())
                .filter_map(|(expr, field)| match expr.clone().unalias_nested().data {
                    Expr::Column(inner) => bounds.iter().find(|(name, _)| name == field.name()).map(|(_, b)| (inner.name, *b)),
                    _ => None,
                })
                .collect();
            let input = below(&projection.input, &renamed)?;
            input.map(|input| Projection::try_new(projection.expr.clone(), Arc::new(input)).map(LogicalPlan::Projection)).transpose()
        }
        LogicalPlan::Extension(Extension { node }) => {
            let Some(expand) = node.as_any().downcast_ref::<Expand>() else { return Ok(None) };
            let Some(call) = narrowed(expand, bounds) else { return Ok(None) };
            let node = Expand::try_new(Arc::clone(&expand.input), call, expand.outer, expand.qualifier.clone(), expand.generated.clone())?;
            Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
        }
        _ => Ok(None),
    }
}

fn narrowed(expand: &Expand, bounds: &[(String, Bounds)]) -> Option<Expr> {
    // A row without results must stay one: with an outer join the bounds would make such rows.
    let Expr::ScalarFunction(call) = &expand.call else { return None };
    let entry = &marker(&call.func).filter(|_| !expand.outer)?.entry;
    let ranged = entry.function.ranged?;
    let signature = entry.declaration.signatures.iter().find(|s| s.arguments.len() == call.args.len())?;
    let Returns::Table(columns) = &signature.returns else { return None };
    let place = columns.iter().position(|(name, _)| name == ranged.column)?;
    let column = expand.generated.get(place)?.name();
    let (from, to) = bounds.iter().find(|(name, _)| name == column)?.1;
    let unset = |name: &str| signature.position(name).filter(|p| matches!(call.args.get(*p), Some(Expr::Literal(value, _)) if value.is_null()));
    let from = from.filter(|v| *v > 0.0 && ranged.anchored.iter().all(|name| unset(name).is_some()));
    let from = from.and_then(|value| unset(ranged.from).map(|place| (place, value)));
    let to = to.filter(|v| *v >= from.map_or(0.0, |(_, from)| from));
    // With a start of the caller's own, an earlier end would be an error and not an empty result.
    let to = to.filter(|_| from.is_some() || unset(ranged.from).is_some()).and_then(|value| unset(ranged.to).map(|place| (place, value + BEYOND)));
    if from.is_none() && to.is_none() {
        return None;
    }
    let mut narrowed = call.clone();
    for (place, value) in from.into_iter().chain(to) {
        if let Some(arg) = narrowed.args.get_mut(place) {
            *arg = Expr::Literal(ScalarValue::Float64(Some(value)), None);
        }
    }
    Some(Expr::ScalarFunction(narrowed))
}

/// The largest lower and the smallest upper bound that the predicate puts on the column.
fn bounds(predicate: &Expr, column: &str) -> Bounds {
    let (mut from, mut to): Bounds = (None, None);
    for conjunct in split_conjunction(predicate) {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = conjunct else { continue };
        let (op, value) = match (named(left, column), named(right, column)) {
            (true, false) => (*op, number(right)),
            (false, true) => (op.swap().unwrap_or(Operator::NotEq), number(left)),
            _ => continue,
        };
        let Some(value) = value.filter(|v| v.is_finite()) else { continue };
        if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
            from = Some(from.map_or(value, |f| f.max(value)));
        }
        if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
            to = Some(to.map_or(value, |t| t.min(value)));
        }
    }
    (from, to)
}

fn named(expr: &Expr, column: &str) -> bool {
    match expr {
        Expr::Column(c) => c.name == column,
        // Compared as another number.
        Expr::Cast(cast) => named(&cast.expr, column),
        _ => false,
    }
}

fn number(expr: &Expr) -> Option<f64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value.cast_to(&datafusion::arrow::datatypes::DataType::Float64).ok()? {
        ScalarValue::Float64(value) => value,
        _ => None,
    }
}
