//! Lateral subqueries of any shape, as joins.
//!
//! In: the left side of a join, and a subquery over it with references to its columns. Out: one plan with the columns of
//! both. The left side is pushed to the leaves of the subquery and carried up through every operator: a sort with a limit
//! becomes a row number within each left row, an aggregate is grouped by the left row. Where every left row must stay
//! (LEFT JOIN, aggregates without GROUP BY), rows that a filter drops stay as ghosts, whose column `matched` is not true.
//! Invariant: the left side is evaluated once; output columns and their order are the join's. Deliberately absent: outer
//! joins inside a subquery whose right side refers to the left of the lateral join, and EXCEPT and INTERSECT (0A000).

mod recursive;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result as DfResult, ScalarValue, TableReference};
use datafusion::functions_aggregate::expr_fn::bool_or;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, Extension, Join, Limit, LogicalPlan, LogicalPlanBuilder, Subquery, Window, lit, when,
};
use squilla_core::error::Error;

use crate::error::to_datafusion;
use crate::plan::expand::Expand;

/// The lateral join of `left` and `right`, a subquery with references to columns of `left`. With `outer`, left rows without
/// a match come out once with NULLs; `on` is the condition of the join. `number` tells this join from others.
///
/// # Errors
/// 0A000 for shapes that cannot be joined.
pub fn lateral(left: &LogicalPlan, right: &LogicalPlan, outer: bool, on: Option<&Expr>, number: usize) -> DfResult<LogicalPlan> {
    let relation = TableReference::bare(format!("squilla_lateral_{number}"));
    let mut names = HashMap::new();
    let mut domain = Vec::new();
    for (at, column) in left.schema().columns().into_iter().enumerate() {
        let name = format!("c{at}");
        domain.push(Expr::Column(column.clone()).alias(&name));
        names.insert(column, Column::new(Some(relation.clone()), name));
    }
    let mut builder = LogicalPlanBuilder::from(left.clone());
    let numbered = outer || numbers(right)?;
    if numbered {
        builder = builder.window(vec![row_number()])?;
        let row = builder.schema().columns().pop().map(Expr::Column).unwrap_or_else(|| lit(0));
        domain.push(row.alias("row"));
    }
    let plan = builder.project(domain)?.alias(relation.clone())?.build()?;
    let row = Expr::Column(Column::new(Some(relation), "row"));
    let work = Work { names: &names, row, counter: std::cell::Cell::new(0), number };
    let mut part = work.over(right, Part { carried: plan.schema().columns(), plan, matched: None, alone: true }, outer)?;
    if let Some(on) = on {
        let on = inward(on.clone(), &names)?;
        part = if outer { work.sifted(part, &on)? } else { Part { plan: LogicalPlanBuilder::from(part.plan).filter(on)?.build()?, ..part } };
    }
    if !part.alone {
        part = work.one_ghost(part)?;
    }
    let mut output: Vec<Expr> = left
        .schema()
        .iter()
        .zip(left.schema().columns())
        .map(|((q, f), column)| Expr::Column(names.get(&column).cloned().unwrap_or(column)).alias_qualified(q.cloned(), f.name()))
        .collect();
    for ((q, f), column) in right.schema().iter().zip(right.schema().columns()) {
        let value = Expr::Column(column);
        output.push(match &part.matched {
            Some(matched) => when(matched.clone(), value)
                .otherwise(Expr::Literal(ScalarValue::try_from(f.data_type())?, None))?
                .alias_qualified(q.cloned(), f.name()),
            None => value,
        });
    }
    LogicalPlanBuilder::from(part.plan).project(output)?.build()
}

/// A part of the subquery over the left side.
struct Part {
    plan: LogicalPlan,
    /// Columns of the left side, which every operator carries.
    carried: Vec<Column>,
    /// Not true for ghosts; None where there are none.
    matched: Option<Expr>,
    /// A ghost stands for a left row only where nothing else does.
    alone: bool,
}

struct Work<'a> {
    names: &'a HashMap<Column, Column>,
    row: Expr,
    counter: std::cell::Cell<usize>,
    number: usize,
}

fn unsupported(what: &str) -> datafusion::common::DataFusionError {
    to_datafusion(Error::unsupported(format!("{what} in a LATERAL subquery is not supported")))
}

/// Whether rows of the left side must be told apart.
fn numbers(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) | LogicalPlan::Distinct(_) | LogicalPlan::Window(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The subqueries of an expression.
fn subqueries(expr: &Expr) -> Vec<&Subquery> {
    let mut found = Vec::new();
    let mut rest = vec![expr];
    while let Some(expr) = rest.pop() {
        match expr {
            Expr::ScalarSubquery(subquery) => found.push(subquery),
            Expr::Exists(exists) => found.push(&exists.subquery),
            Expr::InSubquery(of) => found.push(&of.subquery),
            _ => {}
        }
        let _ = expr.apply_children(|child| {
            rest.push(child);
            Ok(TreeNodeRecursion::Continue)
        });
    }
    found
}

/// Whether a plan refers to columns outside of it.
pub fn correlated(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let _ = plan.apply(|node| {
        let inputs: Vec<_> = node.inputs().iter().map(|i| Arc::clone(i.schema())).collect();
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                found |= matches!(e, Expr::OuterReferenceColumn(_, _));
                Ok(TreeNodeRecursion::Continue)
            })?;
            let reaches = |e: &Expr| matches!(e, Expr::OuterReferenceColumn(_, c) if !inputs.iter().any(|s| s.has_column(c)));
            found |= subqueries(expr).iter().any(|s| s.outer_ref_columns.iter().any(reaches));
            Ok(TreeNodeRecursion::Continue)
        })?;
        if let LogicalPlan::Subquery(subquery) = node {
            found |= correlated(&subquery.subquery);
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// References to the left side become columns, in subqueries of the expression too.
fn inward(expr: Expr, names: &HashMap<Column, Column>) -> DfResult<Expr> {
    let moved = |subquery: Subquery| -> DfResult<Subquery> {
        let outer = |e: Expr| {
            e.transform(|e| match e {
                Expr::OuterReferenceColumn(field, column) => Ok(match names.get(&column) {
                    Some(new) => Transformed::yes(Expr::OuterReferenceColumn(field, new.clone())),
                    None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                }),
                other => Ok(Transformed::no(other)),
            })
        };
        let plan = Arc::unwrap_or_clone(subquery.subquery).transform_up_with_subqueries(|p| p.map_expressions(&outer))?.data;
        let outer_ref_columns = subquery.outer_ref_columns.into_iter().map(|e| outer(e).map(|t| t.data)).collect::<DfResult<_>>()?;
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans })
    };
    expr.transform(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(field, column) => match names.get(&column) {
                Some(new) => Transformed::yes(Expr::Column(new.clone())),
                None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
            },
            Expr::ScalarSubquery(subquery) => Transformed::yes(Expr::ScalarSubquery(moved(subquery)?)),
            Expr::Exists(mut exists) => {
                exists.subquery = moved(exists.subquery)?;
                Transformed::yes(Expr::Exists(exists))
            }
            Expr::InSubquery(mut of) => {
                of.subquery = moved(of.subquery)?;
                Transformed::yes(Expr::InSubquery(of))
            }
            other => Transformed::no(other),
        })
    })
    .map(|t| t.data)
}

/// `expr` under the name that the operators above refer to.
fn named(expr: Expr, qualifier: Option<&TableReference>, name: &str) -> Expr {
    match &expr {
        Expr::Column(column) if column.relation.as_ref() == qualifier && column.name == name => expr,
        _ => expr.unalias().alias_qualified(qualifier.cloned(), name),
    }
}

impl Work<'_> {
    fn fresh(&self, what: &str) -> String {
        self.counter.set(self.counter.get() + 1);
        format!("squilla_{what}_{}_{}", self.number, self.counter.get())
    }

    fn inward(&self, expr: &Expr) -> DfResult<Expr> {
        inward(expr.clone(), self.names)
    }

    /// The columns that a projection keeps beside its own.
    fn kept(part: &Part) -> Vec<Expr> {
        part.carried.iter().cloned().map(Expr::Column).chain(part.matched.clone()).collect()
    }

    /// `plan` over `part`, which has the left side; with `soft`, every left row stays.
    fn over(&self, plan: &LogicalPlan, part: Part, soft: bool) -> DfResult<Part> {
        if let LogicalPlan::EmptyRelation(empty) = plan
            && empty.produce_one_row
        {
            return Ok(part);
        }
        if !correlated(plan) {
            return self.joined(plan, part, soft, lit(true));
        }
        match plan {
            LogicalPlan::Subquery(subquery) => self.over(&subquery.subquery, part, soft),
            LogicalPlan::SubqueryAlias(alias) => {
                let part = self.over(&alias.input, part, soft)?;
                let mut list = Self::kept(&part);
                let inner = alias.input.schema().columns();
                list.extend(inner.into_iter().map(|c| {
                    let name = c.name.clone();
                    Expr::Column(c).alias_qualified(Some(alias.alias.clone()), name)
                }));
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).project(list)?.build()?, ..part })
            }
            LogicalPlan::Projection(projection) => {
                let part = self.over(&projection.input, part, soft)?;
                let mut list = Self::kept(&part);
                for (expr, (q, f)) in projection.expr.iter().zip(projection.schema.iter()) {
                    list.push(named(self.inward(expr)?, q, f.name()));
                }
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).project(list)?.build()?, ..part })
            }
            LogicalPlan::Filter(filter) => {
                let predicate = self.inward(&filter.predicate)?;
                if soft && !correlated(&filter.input) && !matches!(&*filter.input, LogicalPlan::EmptyRelation(_)) {
                    return self.joined(&filter.input, part, true, predicate);
                }
                let part = self.over(&filter.input, part, soft)?;
                if soft {
                    return self.sifted(part, &predicate);
                }
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).filter(predicate)?.build()?, ..part })
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.over(&sort.input, part, soft),
            LogicalPlan::Sort(sort) => {
                let fetch = sort.fetch.map(|n| lit(i64::try_from(n).unwrap_or(i64::MAX)));
                self.limited(&sort.input, &sort.expr, None, fetch, part, soft)
            }
            LogicalPlan::Limit(Limit { skip, fetch, input }) => {
                let bound = |e: &Option<Box<Expr>>| e.as_deref().cloned();
                match input.as_ref() {
                    LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.limited(&sort.input, &sort.expr, bound(skip), bound(fetch), part, soft),
                    _ => self.limited(input, &[], bound(skip), bound(fetch), part, soft),
                }
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let part = self.over(input, part, soft)?;
                let list = Self::kept(&part).into_iter().chain(input.schema().columns().into_iter().map(Expr::Column));
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).project(list)?.distinct()?.build()?, ..part })
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregated(aggregate, part, soft),
            LogicalPlan::Window(window) => self.windowed(window, part, soft),
            LogicalPlan::Join(join) => self.join(join, part, soft),
            LogicalPlan::Union(union) => self.union(union, part, soft),
            LogicalPlan::RecursiveQuery(query) => self.recursive(query, part, soft),
            LogicalPlan::Unnest(unnest) if !soft => {
                let part = self.over(&unnest.input, part, soft)?;
                let plan = LogicalPlanBuilder::from(part.plan).unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?;
                Ok(Part { plan: plan.build()?, ..part })
            }
            LogicalPlan::Extension(Extension { node }) => match node.as_any().downcast_ref::<Expand>() {
                Some(expand) => self.expanded(expand, part, soft),
                None => Err(unsupported("this operator")),
            },
            other => Err(unsupported(other.display().to_string().split(':').next().unwrap_or("this operator"))),
        }
    }

    /// A plan without references to the left side, beside it.
    fn joined(&self, plan: &LogicalPlan, part: Part, soft: bool, on: Expr) -> DfResult<Part> {
        let left = LogicalPlanBuilder::from(part.plan);
        if !soft {
            return Ok(Part { plan: left.cross_join(plan.clone())?.build()?, carried: part.carried, matched: part.matched, alone: part.alone });
        }
        let flag = self.fresh("matched");
        let list = plan.schema().columns().into_iter().map(Expr::Column).chain([lit(true).alias(&flag)]);
        let right = LogicalPlanBuilder::from(plan.clone()).project(list)?.build()?;
        let on = match &part.matched {
            Some(matched) => matched.clone().and(on),
            None => on,
        };
        let joined = left.join_on(right, JoinType::Left, [on])?.build()?;
        let matched = Expr::Column(Column::new_unqualified(flag));
        Ok(Part { plan: joined, carried: part.carried, matched: Some(matched), alone: part.alone })
    }

    /// Rows that do not pass become ghosts.
    fn sifted(&self, part: Part, predicate: &Expr) -> DfResult<Part> {
        let flag = self.fresh("matched");
        let matched = match &part.matched {
            Some(matched) => matched.clone().and(predicate.clone()),
            None => predicate.clone(),
        };
        let mut list: Vec<Expr> = part.plan.schema().columns().into_iter().map(Expr::Column).collect();
        list.push(matched.is_true().alias(&flag));
        let plan = LogicalPlanBuilder::from(part.plan).project(list)?.build()?;
        Ok(Part { plan, carried: part.carried, matched: Some(Expr::Column(Column::new_unqualified(flag))), alone: false })
    }

    /// The number of each row within its left row, as the last column.
    fn ranked(&self, plan: LogicalPlan, matched: Option<&Expr>, order: Vec<SortExpr>) -> DfResult<(LogicalPlan, Expr)> {
        // Ghosts come last.
        let order: Vec<SortExpr> = matched.map(|m| m.clone().is_true().sort(false, false)).into_iter().chain(order).collect();
        let call = row_number().partition_by(vec![self.row.clone()]);
        let call = if order.is_empty() { call.build()? } else { call.order_by(order).build()? };
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let window = LogicalPlanBuilder::from(plan).window(vec![call])?;
        let rank = window.schema().columns().pop().map(Expr::Column).unwrap_or_else(|| lit(0));
        let name = self.fresh("rank");
        let list = columns.into_iter().chain([rank.alias(&name)]);
        Ok((window.project(list)?.build()?, Expr::Column(Column::new_unqualified(name))))
    }

    fn one_ghost(&self, part: Part) -> DfResult<Part> {
        let Some(matched) = part.matched.clone() else { return Ok(part) };
        let (plan, rank) = self.ranked(part.plan, Some(&matched), Vec::new())?;
        let plan = LogicalPlanBuilder::from(plan).filter(matched.is_true().or(rank.eq(lit(1u64))))?.build()?;
        Ok(Part { plan, carried: part.carried, matched: part.matched, alone: true })
    }

    fn limited(&self, input: &LogicalPlan, order: &[SortExpr], skip: Option<Expr>, fetch: Option<Expr>, part: Part, soft: bool) -> DfResult<Part> {
        let part = self.over(input, part, soft)?;
        let order = order.iter().map(|s| Ok(SortExpr { expr: self.inward(&s.expr)?, ..s.clone() })).collect::<DfResult<Vec<_>>>()?;
        let (plan, rank) = self.ranked(part.plan, part.matched.as_ref(), order)?;
        let rank = Expr::Cast(datafusion::logical_expr::Cast::new(Box::new(rank), DataType::Int64));
        let skip = skip.unwrap_or_else(|| lit(0i64));
        let mut within = rank.clone().gt(skip.clone());
        if let Some(fetch) = fetch {
            within = within.and(rank.clone().lt_eq(skip + fetch));
        }
        let part = Part { plan, carried: part.carried, matched: part.matched, alone: part.alone };
        if !soft {
            return Ok(Part { plan: LogicalPlanBuilder::from(part.plan).filter(within)?.build()?, ..part });
        }
        self.one_ghost(self.sifted(part, &within)?)
    }

    fn aggregated(&self, aggregate: &Aggregate, part: Part, soft: bool) -> DfResult<Part> {
        let whole = aggregate.group_expr.is_empty();
        if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(unsupported("GROUPING SETS"));
        }
        let part = self.over(&aggregate.input, part, soft || whole)?;
        let mut group: Vec<Expr> = part.carried.iter().cloned().map(Expr::Column).collect();
        let fields: Vec<_> = aggregate.schema.iter().collect();
        let (keys, values) = fields.split_at(aggregate.group_expr.len().min(fields.len()));
        for (expr, (q, f)) in aggregate.group_expr.iter().zip(keys) {
            group.push(named(self.inward(expr)?, *q, f.name()));
        }
        let mut list = Vec::new();
        for (expr, (q, f)) in aggregate.aggr_expr.iter().zip(values) {
            let expr = match &part.matched {
                Some(matched) => filtered(self.inward(expr)?, matched)?,
                None => self.inward(expr)?,
            };
            list.push(named(expr, *q, f.name()));
        }
        // A group of ghosts alone is a ghost.
        let matched = match &part.matched {
            Some(matched) if !whole => {
                let flag = self.fresh("matched");
                list.push(bool_or(matched.clone()).alias(&flag));
                Some(Expr::Column(Column::new_unqualified(flag)))
            }
            _ => None,
        };
        let plan = LogicalPlanBuilder::from(part.plan).aggregate(group, list)?.build()?;
        let alone = matched.is_none();
        Ok(Part { plan, carried: part.carried, matched, alone })
    }

    fn windowed(&self, window: &Window, part: Part, soft: bool) -> DfResult<Part> {
        let part = self.over(&window.input, part, soft)?;
        let width = window.input.schema().fields().len();
        let mut calls = Vec::new();
        for (expr, (q, f)) in window.window_expr.iter().zip(window.schema.iter().skip(width)) {
            let within = self.inward(expr)?.transform(|e| match e {
                Expr::WindowFunction(call) => {
                    let WindowFunction { fun, mut params } = *call;
                    params.partition_by.push(self.row.clone());
                    params.partition_by.extend(part.matched.clone());
                    Ok(Transformed::yes(Expr::WindowFunction(Box::new(WindowFunction { fun, params }))))
                }
                other => Ok(Transformed::no(other)),
            })?;
            calls.push(named(within.data, q, f.name()));
        }
        let plan = LogicalPlanBuilder::from(part.plan).window(calls)?.build()?;
        Ok(Part { plan, ..part })
    }

    fn join(&self, join: &Join, part: Part, soft: bool) -> DfResult<Part> {
        let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).chain(join.filter.clone()).reduce(Expr::and).unwrap_or_else(|| lit(true));
        let on = self.inward(&on)?;
        let right = correlated(&join.right);
        match join.join_type {
            JoinType::Inner => {
                let part = self.over(&join.left, part, soft)?;
                if !right && soft {
                    return Ok(Part { alone: false, ..self.joined(&join.right, part, true, on)? });
                }
                let part = self.over(&join.right, part, soft)?;
                if soft {
                    return self.sifted(part, &on);
                }
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).filter(on)?.build()?, ..part })
            }
            JoinType::Left if !right => {
                let part = self.over(&join.left, part, soft)?;
                let plan = LogicalPlanBuilder::from(part.plan).join_on(join.right.as_ref().clone(), JoinType::Left, [on])?.build()?;
                Ok(Part { plan, ..part })
            }
            _ => Err(unsupported("an outer join over columns of the left side")),
        }
    }

    fn union(&self, union: &datafusion::logical_expr::Union, part: Part, soft: bool) -> DfResult<Part> {
        let mut branches = Vec::new();
        let mut carried = Vec::new();
        for input in &union.inputs {
            let own = Part { plan: part.plan.clone(), carried: part.carried.clone(), matched: part.matched.clone(), alone: part.alone };
            let own = self.over(input, own, soft)?;
            let flag = format!("squilla_matched_{}_union", self.number);
            let mut list: Vec<Expr> = own.carried.iter().cloned().map(Expr::Column).collect();
            list.push(own.matched.clone().unwrap_or_else(|| lit(true)).alias(&flag));
            for (column, (q, f)) in input.schema().columns().into_iter().zip(union.schema.iter()) {
                list.push(named(Expr::Column(column), q, f.name()));
            }
            carried.clone_from(&own.carried);
            branches.push(LogicalPlanBuilder::from(own.plan).project(list)?.build()?);
        }
        let Some(plan) = branches.into_iter().map(Ok).reduce(|a: DfResult<LogicalPlan>, b| LogicalPlanBuilder::from(a?).union(b?)?.build()) else {
            return Err(unsupported("an empty UNION"));
        };
        // The union forgets qualifiers: they are put back.
        let plan = plan?;
        let names: Vec<(Option<TableReference>, String)> = carried.iter().map(|c| (c.relation.clone(), c.name.clone())).collect();
        let flag = format!("squilla_matched_{}_union", self.number);
        let wanted = names.into_iter().chain([(None, flag.clone())]).chain(union.schema.iter().map(|(q, f)| (q.cloned(), f.name().clone())));
        let list: Vec<Expr> =
            plan.schema().columns().into_iter().zip(wanted).map(|(c, (q, name))| named(Expr::Column(c), q.as_ref(), &name)).collect();
        let plan = LogicalPlanBuilder::from(plan).project(list)?.build()?;
        let matched = soft.then(|| Expr::Column(Column::new_unqualified(flag)));
        Ok(Part { plan, carried, matched, alone: false })
    }

    fn expanded(&self, expand: &Expand, part: Part, soft: bool) -> DfResult<Part> {
        let part = self.over(&expand.input, part, soft)?;
        let call = self.inward(&expand.call)?;
        let (mut generated, mut flag) = (expand.generated.clone(), None);
        if soft {
            // Its number tells a row from none: WITH ORDINALITY, unless the call has one.
            let columns = match &expand.call {
                Expr::ScalarFunction(f) => crate::udf::marker(&f.func).map(|m| m.entry.width(&expand.call)),
                _ => None,
            };
            if columns.is_none_or(|width| generated.len() <= width) {
                generated.push(Arc::new(Field::new(self.fresh("ordinal"), DataType::Int64, true)));
            }
            flag = generated.last().map(|f| Expr::Column(Column::new(expand.qualifier.clone(), f.name().clone())).is_not_null());
        }
        let node = Expand::try_new(Arc::new(part.plan), call, soft || expand.outer, expand.qualifier.clone(), generated)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let part = Part { plan, carried: part.carried, matched: part.matched, alone: part.alone };
        match flag {
            Some(flag) => {
                let alone = part.matched.is_none();
                Ok(Part { alone, ..self.sifted(part, &flag)? })
            }
            None => Ok(part),
        }
    }
}

/// Adds `matched` to the filter of every aggregate.
fn filtered(expr: Expr, matched: &Expr) -> DfResult<Expr> {
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
