//! Correlated scalar subqueries whose conditions are more than equalities.
//!
//! In: an analyzed plan. Out: the plan, with `(SELECT agg(x) FROM t WHERE f(t, outer))` as a left join on f, grouped by a
//! number given to each outer row. Invariant: each outer row comes out once, in any order; no matching row gives what the
//! aggregate gives for no input. Deliberately absent: subqueries that DataFusion turns into joins by itself.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType};
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Subquery, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::decorrelate::PullUpCorrelatedExpr;

use crate::plan::decorrelate;

/// The rule.
#[derive(Debug, Default)]
pub struct CorrelatedSubqueries;

/// The plan that gives a subquery's value beside each outer row, and the value.
type Joined = (LogicalPlan, Expr);

/// Whether DataFusion's own rule turns this subquery into a join. It pulls up conditions, but not what is computed from
/// columns of the outer query.
fn known(subquery: &Subquery) -> DataFusionResult<bool> {
    let mut pull = PullUpCorrelatedExpr::new().with_need_handle_count_bug(true);
    let left = subquery.subquery.as_ref().clone().rewrite(&mut pull)?.data;
    Ok(pull.can_pull_up && !decorrelate::correlated(&left))
}

fn aggregate(plan: &LogicalPlan) -> Option<(Option<&Expr>, &Aggregate)> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Some((None, aggregate)),
        LogicalPlan::Projection(projection) => match (projection.expr.as_slice(), projection.input.as_ref()) {
            ([expr], LogicalPlan::Aggregate(aggregate)) if aggregate.group_expr.is_empty() => Some((Some(expr), aggregate)),
            _ => None,
        },
        _ => None,
    }
}

fn renamed(expr: Expr, names: &HashMap<Column, Column>) -> DataFusionResult<Expr> {
    expr.transform(|e| match e {
        Expr::Column(column) => Ok(match names.get(&column) {
            Some(new) => Transformed::yes(Expr::Column(new.clone())),
            None => Transformed::no(Expr::Column(column)),
        }),
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}

/// References to the outer query, as its columns: they stand beside the subquery's in the join.
fn beside_outer(expr: Expr, outer: &LogicalPlan) -> DataFusionResult<Expr> {
    expr.transform(|e| match e {
        Expr::OuterReferenceColumn(_, column) if outer.schema().has_column(&column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}

/// Adds `matched` to the filter of every aggregate.
fn filtered(expr: Expr, matched: &Expr) -> DataFusionResult<Expr> {
    expr.transform(|e| match e {
        Expr::AggregateFunction(mut function) => {
            let filter = match function.params.filter.take() {
                Some(old) => old.and(matched.clone()),
                None => matched.clone(),
            };
            function.params.filter = Some(Box::new(filter));
            Ok(Transformed::new(Expr::AggregateFunction(function), true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}

fn join(outer: &LogicalPlan, subquery: &Subquery, number: usize) -> DataFusionResult<Option<Joined>> {
    let Some((output, aggregate)) = aggregate(&subquery.subquery) else { return Ok(None) };
    let mut pull = PullUpCorrelatedExpr::new();
    let inner = aggregate.input.as_ref().clone().rewrite(&mut pull)?.data;
    if !pull.can_pull_up || decorrelate::correlated(&inner) {
        return Ok(None);
    }
    let alias = format!("squilla_subquery_{number}");
    let used = pull.join_filters.iter().chain(&aggregate.aggr_expr).flat_map(|e| e.column_refs().into_iter().cloned());
    let mut names: HashMap<Column, Column> = HashMap::new();
    let mut list = vec![lit(true).alias("matched")];
    for column in used {
        if !inner.schema().has_column(&column) || names.contains_key(&column) {
            continue;
        }
        if outer.schema().has_column(&column) {
            return Ok(None);
        }
        let name = format!("c{}", names.len());
        list.push(Expr::Column(column.clone()).alias(&name));
        names.insert(column, Column::new(Some(alias.clone()), name));
    }
    let inner = LogicalPlanBuilder::from(inner).project(list)?.alias(alias.as_str())?.build()?;
    let columns: Vec<Expr> = outer.schema().columns().into_iter().map(Expr::Column).collect();
    let numbered = LogicalPlanBuilder::from(outer.clone()).window(vec![row_number()])?.build()?;
    let Some(row) = numbered.schema().columns().pop() else { return Ok(None) };
    let row_name = format!("squilla_row_{number}");
    let with_row: Vec<Expr> = columns.iter().cloned().chain([Expr::Column(row).alias(&row_name)]).collect();
    let filters = pull.join_filters.into_iter().map(|f| renamed(f, &names)).collect::<DataFusionResult<Vec<_>>>()?;
    let on = conjunction(filters).unwrap_or_else(|| lit(true));
    let joined = LogicalPlanBuilder::from(numbered).project(with_row)?.join_on(inner, JoinType::Left, [on])?;
    let matched = Expr::Column(Column::new(Some(alias), "matched"));
    let mut values = HashMap::new();
    let mut aggregates = Vec::new();
    for (i, expr) in aggregate.aggr_expr.iter().enumerate() {
        let name = format!("squilla_value_{number}_{i}");
        let expr = beside_outer(renamed(expr.clone().unalias(), &names)?, outer)?;
        aggregates.push(filtered(expr, &matched)?.alias(&name));
        if let Some(old) = aggregate.schema.columns().get(i) {
            values.insert(old.clone(), Column::new_unqualified(name));
        }
    }
    let group: Vec<Expr> = columns.into_iter().chain([Expr::Column(Column::new_unqualified(row_name))]).collect();
    let plan = joined.aggregate(group, aggregates)?.build()?;
    let value = match output {
        Some(expr) => renamed(expr.clone().unalias(), &values)?,
        None => Expr::Column(Column::new_unqualified(format!("squilla_value_{number}_0"))),
    };
    Ok(Some((plan, value)))
}

/// The one value of a subquery of any shape, beside each outer row; None where it cannot be joined.
fn beside(outer: &LogicalPlan, subquery: LogicalPlan, number: usize) -> Option<Joined> {
    let name = format!("squilla_value_{number}");
    let column = subquery.schema().columns().into_iter().next()?;
    let value = LogicalPlanBuilder::from(subquery).project([Expr::Column(column).alias(&name)]).ok()?.build().ok()?;
    // Numbers of lateral joins count from 1 as well: these are others.
    let plan = decorrelate::lateral(outer, &value, true, None, SUBQUERY_NUMBERS + number).ok()?;
    Some((plan, Expr::Column(Column::new_unqualified(name))))
}

/// Where the numbers of subqueries begin among those of lateral joins.
const SUBQUERY_NUMBERS: usize = 1_000_000;

/// Takes the subqueries out of expressions over one input, one after the other.
fn extract(mut expressions: Vec<Expr>, mut input: LogicalPlan, number: &mut usize) -> DataFusionResult<Transformed<(Vec<Expr>, LogicalPlan)>> {
    let mut changed = false;
    for expression in &mut expressions {
        let taken = std::mem::replace(expression, lit(true));
        *expression = taken
            .transform_down(|e| match e {
                Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() && !known(&subquery)? => {
                    *number += 1;
                    let joined = match join(&input, &subquery, *number)? {
                        Some(joined) => Some(joined),
                        None => beside(&input, subquery.subquery.as_ref().clone(), *number),
                    };
                    match joined {
                        Some((plan, value)) => {
                            input = plan;
                            changed = true;
                            Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
                        }
                        None => Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
                    }
                }
                Expr::Exists(exists) if !exists.subquery.outer_ref_columns.is_empty() && !known(&exists.subquery)? => {
                    *number += 1;
                    let rows = LogicalPlanBuilder::from(exists.subquery.subquery.as_ref().clone()).aggregate(Vec::<Expr>::new(), vec![count(lit(1))]);
                    match rows?.build().ok().and_then(|rows| beside(&input, rows, *number)) {
                        Some((plan, value)) => {
                            input = plan;
                            changed = true;
                            let some = if exists.negated { value.eq(lit(0i64)) } else { value.gt(lit(0i64)) };
                            Ok(Transformed::new(some, true, TreeNodeRecursion::Jump))
                        }
                        None => Ok(Transformed::no(Expr::Exists(exists))),
                    }
                }
                other => Ok(Transformed::no(other)),
            })?
            .data;
    }
    Ok(Transformed::new_transformed((expressions, input), changed))
}

fn rewrite(plan: LogicalPlan, number: &mut usize) -> DataFusionResult<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let names: Vec<String> = projection.expr.iter().map(|e| e.schema_name().to_string()).collect();
            let taken = extract(projection.expr.clone(), projection.input.as_ref().clone(), number)?;
            if !taken.transformed {
                return Ok(Transformed::no(LogicalPlan::Projection(projection)));
            }
            let (expressions, input) = taken.data;
            let named =
                expressions.into_iter().zip(names).map(|(e, name)| if e.schema_name().to_string() == name { e } else { e.unalias().alias(name) });
            Ok(Transformed::yes(LogicalPlanBuilder::from(input).project(named)?.build()?))
        }
        LogicalPlan::Filter(filter) => {
            let taken = extract(vec![filter.predicate.clone()], filter.input.as_ref().clone(), number)?;
            if !taken.transformed {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let (mut predicates, input) = taken.data;
            let predicate = predicates.pop().unwrap_or_else(|| lit(true));
            let columns: Vec<Expr> = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
            Ok(Transformed::yes(LogicalPlanBuilder::from(input).filter(predicate)?.project(columns)?.build()?))
        }
        other => Ok(Transformed::no(other)),
    }
}

impl AnalyzerRule for CorrelatedSubqueries {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let mut number = 0;
        plan.transform_up_with_subqueries(|plan| rewrite(plan, &mut number)).map(|t| t.data)
    }

    fn name(&self) -> &str {
        "squilla_correlated_subqueries"
    }
}

/// The rule, shared.
pub fn rule() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(CorrelatedSubqueries)
}
