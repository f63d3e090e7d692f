//! Joins with a set-returning call on the right become Expand nodes.
//!
//! In: `Join(left, Subquery(... Expand over one empty row, with outer references ...))`, as DataFusion plans
//! `left, LATERAL f(left.x)`. Out: the same chain of projections and filters over `Expand(left)`, left columns carried
//! through. Invariant: output columns and their order are the join's. Deliberately absent: aggregates, sorts and limits
//! inside a lateral subquery over a set-returning call (0A000).

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, Projection, Subquery, SubqueryAlias};
use datafusion::optimizer::AnalyzerRule;
use squilla_core::error::Error;

use crate::error::to_datafusion;
use crate::plan::expand::Expand;

/// The rule.
#[derive(Debug, Default)]
pub struct LateralRule;

impl AnalyzerRule for LateralRule {
    fn name(&self) -> &str {
        "squilla_lateral"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite).map(|t| t.data)
    }
}

fn rewrite(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
    if !join.on.is_empty() || !contains_expand_leaf(&join.right) {
        return Ok(Transformed::no(plan));
    }
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Err(unsupported("a set-returning function can be joined with CROSS JOIN, JOIN and LEFT JOIN only")),
    };
    if outer && join.filter.as_ref().is_some_and(|f| !is_true(f)) {
        return Err(unsupported("LEFT JOIN LATERAL with a set-returning function takes ON true only"));
    }
    let mut result = over(&join.right, &join.left, outer)?;
    if let Some(filter) = join.filter.clone().filter(|f| !is_true(f)) {
        result = LogicalPlan::Filter(Filter::try_new(filter, Arc::new(result))?);
    }
    Ok(Transformed::yes(result))
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

/// Whether `plan` is a chain that ends in such a leaf with references to the left side.
fn contains_expand_leaf(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(Subquery { subquery, .. }) => ends_in_leaf(subquery),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => contains_expand_leaf(input),
        _ => false,
    }
}

fn ends_in_leaf(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // The leaf may stand below more Expand nodes (LATERAL f(x), LATERAL g(f.y) inside one subquery).
    let _ = plan.apply(|node| {
        if expand_leaf(node).is_some() {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
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
                exprs.push(inward(expr.clone())?);
            }
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(inner))?))
        }
        LogicalPlan::Filter(filter) if !outer => {
            let inner = over(&filter.input, left, outer)?;
            Ok(LogicalPlan::Filter(Filter::try_new(inward(filter.predicate.clone())?, Arc::new(inner))?))
        }
        other => match other {
            LogicalPlan::Extension(Extension { node }) => {
                let expand = node.as_any().downcast_ref::<Expand>().ok_or_else(|| unsupported("this LATERAL subquery is not supported"))?;
                let input = match expand_leaf(other) {
                    Some(_) => Arc::clone(left),
                    None => Arc::new(over(&expand.input, left, outer)?),
                };
                let moved =
                    Expand::try_new(input, inward(expand.call.clone())?, outer || expand.outer, expand.qualifier.clone(), expand.generated.clone())?;
                Ok(LogicalPlan::Extension(Extension { node: Arc::new(moved) }))
            }
            _ => Err(unsupported("LATERAL subqueries over set-returning functions can filter and project only")),
        },
    }
}

/// References to the outer query become plain columns.
fn inward(expr: Expr) -> DfResult<Expr> {
    expr.transform(|e| match e {
        Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}
