//! Joins with a set-returning call on the right become Expand nodes.
//!
//! In: `Join(left, Subquery(... Expand over one empty row, with outer references ...))`, as DataFusion plans
//! `left, LATERAL f(left.x)`. Out: the same chain of projections and filters over `Expand(left)`, left columns carried
//! through; every other subquery with references to the left is for `decorrelate`. Invariant: output columns and their
//! order are the join's. Deliberately absent: RIGHT and FULL JOIN, which SQL does not have over LATERAL.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, Projection, Subquery, SubqueryAlias};
use datafusion::optimizer::AnalyzerRule;
use squilla_core::error::Error;

use crate::error::to_datafusion;
use crate::plan::decorrelate;
use crate::plan::expand::Expand;

/// The rule.
#[derive(Debug, Default)]
pub struct LateralRule;

impl AnalyzerRule for LateralRule {
    fn name(&self) -> &str {
        "squilla_lateral"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let mut number = 0;
        plan.transform_up_with_subqueries(|plan| rewrite(plan, &mut number)).map(|t| t.data)
    }
}

fn rewrite(plan: LogicalPlan, number: &mut usize) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
    if !lateral_side(&join.right) {
        return Ok(Transformed::no(plan));
    }
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Err(unsupported("a LATERAL subquery can be joined with CROSS JOIN, JOIN and LEFT JOIN only")),
    };
    let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).chain(join.filter.clone()).filter(|f| !is_true(f)).reduce(Expr::and);
    if !chain(&join.right, outer) || (outer && on.is_some()) {
        *number += 1;
        return decorrelate::lateral(&join.left, &join.right, outer, on.as_ref(), *number).map(Transformed::yes);
    }
    let mut result = over(&join.right, &join.left, outer)?;
    if let Some(filter) = on {
        result = LogicalPlan::Filter(Filter::try_new(filter, Arc::new(result))?);
    }
    Ok(Transformed::yes(result))
}

/// A subquery that refers to the left side, or a set-returning call.
fn lateral_side(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => lateral_side(input),
        _ => false,
    }
}

/// Whether `plan` is a chain of projections and filters over set-returning calls, with names that the left side has not.
fn chain(plan: &LogicalPlan, outer: bool) -> bool {
    match plan {
        LogicalPlan::Subquery(Subquery { subquery, .. }) => chain(subquery, outer),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => chain(input, outer),
        LogicalPlan::Projection(projection) => !outer && chain(&projection.input, outer),
        LogicalPlan::Filter(filter) => !outer && chain(&filter.input, outer),
        LogicalPlan::Extension(Extension { node }) => match node.as_any().downcast_ref::<Expand>() {
            Some(expand) => expand_leaf(plan).is_some() || chain(&expand.input, outer),
            None => false,
        },
        _ => false,
    }
}

fn unsupported(message: &str) -> datafusion::common::DataFusionError {
    to_datafusion(Error::unsupported(message))
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(datafusion::common::ScalarValue::Boolean(Some(true)), _))
}

/// The Expand node of a leaf plan (over one empty row).
fn expand_leaf(plan: &LogicalPlan) -> Option<&Expand> {
    let LogicalPlan::Extension(Extension { node }) = plan else { return None };
    node.as_any().downcast_ref::<Expand>().filter(|e| matches!(&*e.input, LogicalPlan::EmptyRelation(_)))
}

/// Rebuilds the chain `plan` over `left`.
fn over(plan: &LogicalPlan, left: &Arc<LogicalPlan>, outer: bool) -> DfResult<LogicalPlan> {
    let carried = || left.schema().iter().map(|(q, f)| Expr::from((q, f))).collect::<Vec<_>>();
    match plan {
        LogicalPlan::Subquery(Subquery { subquery, .. }) => over(subquery, left, outer),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
            let inner = over(input, left, outer)?;
            let width = left.schema().fields().len();
            let mut exprs = carried();
            exprs.extend(inner.schema().iter().skip(width).map(|(q, f)| Expr::from((q, f)).alias_qualified(Some(alias.clone()), f.name())));
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(inner))?))
        }
        LogicalPlan::Projection(projection) => {
            let inner = over(&projection.input, left, outer)?;
            let mut exprs = carried();
            for expr in &projection.expr {
                exprs.push(inward(expr.clone(), left)?);
            }
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(inner))?))
        }
        LogicalPlan::Filter(filter) if !outer => {
            let inner = over(&filter.input, left, outer)?;
            Ok(LogicalPlan::Filter(Filter::try_new(inward(filter.predicate.clone(), left)?, Arc::new(inner))?))
        }
        other => match other {
            LogicalPlan::Extension(Extension { node }) => {
                let expand = node.as_any().downcast_ref::<Expand>().ok_or_else(|| unsupported("this LATERAL subquery is not supported"))?;
                let input = match expand_leaf(other) {
                    Some(_) => Arc::clone(left),
                    None => Arc::new(over(&expand.input, left, outer)?),
                };
                let moved = Expand::try_new(
                    input,
                    inward(expand.call.clone(), left)?,
                    outer || expand.outer,
                    expand.qualifier.clone(),
                    expand.generated.clone(),
                )?;
                Ok(LogicalPlan::Extension(Extension { node: Arc::new(moved) }))
            }
            _ => Err(unsupported("LATERAL subqueries over set-returning functions can filter and project only")),
        },
    }
}

/// References to the left side become plain columns; those to queries further out stay.
fn inward(expr: Expr, left: &LogicalPlan) -> DfResult<Expr> {
    expr.transform(|e| match e {
        Expr::OuterReferenceColumn(_, column) if left.schema().has_column(&column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}
