//! Subqueries in the shapes that DataFusion decorrelates.
//!
//! In: `(SELECT x ...)` as a value, and `ARRAY(SELECT x ...)`. Out: subqueries that aggregate. Invariant: no row gives NULL
//! (an empty array), several rows where one is wanted are 21000. Deliberately absent: IN, EXISTS, ANY and ALL, which
//! DataFusion knows.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    CaseWhen, Expr, GroupByExpr, Ident, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    Value, Visit, Visitor,
};

use crate::postgres::aggregate::SINGLE;
use crate::postgres::from_calls::returns_rows;
use crate::postgres::special_functions::ARRAY_OR_EMPTY;
use crate::postgres::syntax::{aggregate, arguments, call, folded, function_name, lambda};

static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut names: HashSet<String> = HashSet::new();
    for function in all_default_aggregate_functions() {
        names.insert(function.name().to_owned());
        names.extend(function.aliases().iter().cloned());
    }
    names.extend(["every", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "percentile_disc", "mode", SINGLE].map(str::to_owned));
    names
});

/// Whether an expression aggregates by itself, subqueries in it left out.
pub fn aggregates(expr: &Expr) -> bool {
    struct Find {
        depth: usize,
    }
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let over = matches!(expr, Expr::Function(f) if f.over.is_some());
            if self.depth == 0 && !over && function_name(expr).is_some_and(|name| AGGREGATES.contains(&name)) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    expr.visit(&mut Find { depth: 0 }).is_break()
}

/// The one SELECT of a query without WITH, FETCH and the like, and its one output expression.
fn simple(query: &mut Query) -> Option<(&mut Select, Option<&mut OrderBy>)> {
    if query.with.is_some() || query.fetch.is_some() {
        return None;
    }
    match query.body.as_mut() {
        SetExpr::Select(select) => Some((select, query.order_by.as_mut())),
        _ => None,
    }
}

fn output(select: &mut Select) -> Option<&mut Expr> {
    match select.projection.as_mut_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => Some(expr),
        _ => None,
    }
}

fn plain(select: &Select) -> bool {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    !grouped && select.distinct.is_none() && select.having.is_none() && select.qualify.is_none() && select.top.is_none()
}

/// The ORDER BY of a query over its one output column: `1`, or the column's alias, is the column.
fn order(order_by: Option<&OrderBy>, output: &Expr, alias: Option<&Ident>) -> Option<Vec<OrderByExpr>> {
    let Some(order_by) = order_by else { return Some(Vec::new()) };
    let OrderByKind::Expressions(list) = &order_by.kind else { return None };
    let resolve = |item: &OrderByExpr| {
        let is_output = match &item.expr {
            Expr::Value(v) => matches!(&v.value, Value::Number(n, _) if n == "1"),
            Expr::Identifier(id) => alias.is_some_and(|a| folded(a) == folded(id)),
            _ => false,
        };
        OrderByExpr { expr: if is_output { output.clone() } else { item.expr.clone() }, ..item.clone() }
    };
    Some(list.iter().map(resolve).collect())
}

enum Limit {
    None,
    One,
    Other,
}

fn limit(clause: Option<&LimitClause>) -> Limit {
    match clause {
        None => Limit::None,
        Some(LimitClause::LimitOffset { limit: None, offset: None, limit_by }) if limit_by.is_empty() => Limit::None,
        Some(LimitClause::LimitOffset { limit: Some(Expr::Value(v)), offset: None, limit_by }) if limit_by.is_empty() => {
            if matches!(&v.value, Value::Number(n, _) if n == "1") { Limit::One } else { Limit::Other }
        }
        _ => Limit::Other,
    }
}

/// Names that the query's own FROM brings into scope.
fn scope(select: &Select) -> HashSet<String> {
    let mut names = HashSet::new();
    let mut add = |factor: &TableFactor| match factor {
        TableFactor::Table { name, alias, .. } => {
            let own = alias.as_ref().map(|a| folded(&a.name)).or_else(|| name.0.last().and_then(|p| p.as_ident()).map(folded));
            names.extend(own);
        }
        TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => {
            names.insert(folded(&alias.name));
        }
        _ => {}
    };
    for table in &select.from {
        add(&table.relation);
        table.joins.iter().for_each(|join| add(&join.relation));
    }
    names
}

/// Whether a query names a table of an outer query. Only qualified names tell.
fn correlated(query: &Query) -> bool {
    struct Find {
        scopes: Vec<HashSet<String>>,
    }
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            self.scopes.push(scope(select));
            ControlFlow::Continue(())
        }
        fn post_visit_select(&mut self, _: &Select) -> ControlFlow<()> {
            self.scopes.pop();
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            // A parameter of a function's body is a column of the caller in the end.
            if matches!(expr, Expr::Value(v) if matches!(v.value, Value::Placeholder(_))) {
                return ControlFlow::Break(());
            }
            if let Expr::CompoundIdentifier(ids) = expr
                && let Some(table) = ids.len().checked_sub(2).and_then(|i| ids.get(i))
                && !self.scopes.is_empty()
                && !self.scopes.iter().any(|s| s.contains(&folded(table)))
            {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    query.visit(&mut Find { scopes: Vec::new() }).is_break()
}

/// Makes a scalar subquery aggregate, where it does not.
pub fn scalar(query: &mut Query) {
    let bound = limit(query.limit_clause.as_ref());
    let outer = matches!(bound, Limit::One) && correlated(query);
    let Some((select, order_by)) = simple(query) else { return };
    // `(SELECT x WHERE c)` is x or NULL.
    if plain(select)
        && select.from.is_empty()
        && matches!(bound, Limit::None)
        && output(select).is_some_and(|e| !aggregates(e) && !function_name(e).is_some_and(|name| returns_rows(&name)))
        && let Some(condition) = select.selection.take()
        && let Some(expr) = output(select)
    {
        let result = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition, result }],
            else_result: None,
        };
        return;
    }
    if !plain(select) || select.from.is_empty() {
        return;
    }
    let order_by = order_by.cloned();
    let alias = match select.projection.first() {
        Some(SelectItem::ExprWithAlias { alias, .. }) => Some(alias.clone()),
        _ => None,
    };
    let Some(expr) = output(select) else { return };
    if aggregates(expr) {
        return;
    }
    let Some(order) = order(order_by.as_ref(), expr, alias.as_ref()) else { return };
    let value = std::mem::replace(expr, Expr::value(Value::Null));
    *expr = match bound {
        Limit::None => aggregate(SINGLE, value, Vec::new()),
        // Without an outer reference DataFusion stops after the one row by itself.
        Limit::One if outer => aggregate("first_value", value, order),
        Limit::One | Limit::Other => {
            *expr = value;
            return;
        }
    };
    query.order_by = None;
    query.limit_clause = None;
}

/// `ARRAY(query)` as an expression.
pub fn array(mut query: Query) -> Option<Expr> {
    if let Some(expr) = over_unnest(&query) {
        return Some(expr);
    }
    let unbounded = matches!(limit(query.limit_clause.as_ref()), Limit::None);
    let rewritten = match simple(&mut query) {
        Some((select, order_by)) if plain(select) && unbounded => {
            let order_by = order_by.cloned();
            let alias = match select.projection.first() {
                Some(SelectItem::ExprWithAlias { alias, .. }) => Some(alias.clone()),
                _ => None,
            };
            output(select).filter(|expr| !aggregates(expr)).and_then(|expr| {
                let order = order(order_by.as_ref(), expr, alias.as_ref())?;
                let value = std::mem::replace(expr, Expr::value(Value::Null));
                *expr = aggregate("array_agg", value, order);
                Some(())
            })
        }
        _ => None,
    };
    if rewritten.is_some() {
        query.order_by = None;
        return Some(call(ARRAY_OR_EMPTY, vec![Expr::Subquery(Box::new(query))]));
    }
    // DISTINCT, GROUP BY, UNION, LIMIT: aggregate what the query gives.
    let column = Ident::new("squilla_element");
    let alias = TableAlias {
        explicit: true,
        name: Ident::new("squilla_elements"),
        columns: vec![sqlparser::ast::TableAliasColumnDef::from_name("squilla_element")],
        at: None,
    };
    let query = wrap(query, alias, aggregate("array_agg", Expr::Identifier(column), Vec::new()))?;
    Some(call(ARRAY_OR_EMPTY, vec![Expr::Subquery(Box::new(query))]))
}

/// `SELECT projection FROM (query) alias`.
pub fn wrap(query: Query, alias: TableAlias, projection: Expr) -> Option<Query> {
    let shell = sqlparser::parser::Parser::parse_sql(&sqlparser::dialect::PostgreSqlDialect {}, "SELECT 1 FROM (SELECT 1) x").ok()?.pop()?;
    let sqlparser::ast::Statement::Query(mut outer) = shell else { return None };
    let SetExpr::Select(select) = outer.body.as_mut() else { return None };
    select.projection = vec![SelectItem::UnnamedExpr(projection)];
    select.from.first_mut()?.relation = TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: Some(alias), sample: None };
    Some(*outer)
}

/// `ARRAY(SELECT f(x) FROM unnest(a) x)`: the array itself, or the array with f applied to each element.
fn over_unnest(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let bare = plain(select) && select.selection.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.with.is_none();
    let [from] = select.from.as_slice() else { return None };
    if !bare || !from.joins.is_empty() {
        return None;
    }
    let (source, alias) = match &from.relation {
        TableFactor::Table { name, args: Some(args), alias, with_ordinality: false, .. } if name.0.last()?.as_ident().map(folded)? == "unnest" => {
            (arguments(&args.args)?, alias)
        }
        TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality: false, .. } => (array_exprs.clone(), alias),
        TableFactor::Function { name, args, alias, with_ordinality: false, .. } if name.0.last()?.as_ident().map(folded)? == "unnest" => {
            (arguments(args)?, alias)
        }
        _ => return None,
    };
    let ([source], Some(alias)) = (source.as_slice(), alias) else { return None };
    let column = alias.columns.first().map_or(&alias.name, |c| &c.name);
    let expr = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => expr,
        _ => return None,
    };
    match expr {
        // Of no array there are no rows: an empty array.
        Expr::Identifier(id) if folded(id) == folded(column) => Some(call(ARRAY_OR_EMPTY, vec![source.clone()])),
        other if !aggregates(other) => {
            let each = call("array_transform", vec![source.clone(), lambda(column.clone(), other.clone())]);
            Some(call(ARRAY_OR_EMPTY, vec![each]))
        }
        _ => None,
    }
}
