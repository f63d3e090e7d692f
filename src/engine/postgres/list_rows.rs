//! Set-returning calls in a select list beside expressions that are named like the columns they read.
//!
//! In: a query. Out: the same query; where the name of an expression is also that of a column that the list reads, its select
//! stands in a subquery under names of its own, because DataFusion looks both up in one place when it unnests. Invariant: names
//! and order of the columns stay. Deliberately absent: lists with wildcards.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, visit_expressions};

use crate::bind::relation::{empty_query, empty_select};
use crate::postgres::column_names;
use crate::postgres::from_calls::returns_rows;
use crate::postgres::syntax::{folded, function_name};

/// Puts the select of `query` into a subquery where it has to be.
pub fn set_apart(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    if select.into.is_some() || select.distinct.is_some() || !select.projection.iter().any(|item| expression(item).is_some_and(has_rows)) {
        return;
    }
    let Some(names) = select.projection.iter().map(name).collect::<Option<Vec<String>>>() else { return };
    let mut read: HashSet<String> = HashSet::new();
    for item in select.projection.iter().filter_map(expression) {
        let _ = visit_expressions(item, |e| {
            match e {
                Expr::Identifier(id) => drop(read.insert(folded(id))),
                Expr::CompoundIdentifier(ids) => read.extend(ids.last().map(folded)),
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
    }
    let plain = |item: &SelectItem| matches!(expression(item), Some(Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
    if !select.projection.iter().zip(&names).any(|(item, name)| !plain(item) && read.contains(name)) {
        return;
    }
    let (Ok(mut inner), Ok(mut outer)) = (empty_query(), empty_select()) else { return };
    for (number, (item, name)) in select.projection.iter_mut().zip(names).enumerate() {
        let Some(expr) = expression(item).cloned() else { return };
        let column = Ident::with_quote('"', format!("__item_{number}"));
        *item = SelectItem::ExprWithAlias { expr, alias: column.clone() };
        outer.projection.push(SelectItem::ExprWithAlias { expr: Expr::Identifier(column), alias: Ident::with_quote('"', name) });
    }
    // `empty_select` shows one literal.
    outer.projection.remove(0);
    inner.body = Box::new(SetExpr::Select(select.clone()));
    let alias = TableAlias { explicit: true, name: Ident::new("__rows"), columns: Vec::new(), at: None };
    let relation = TableFactor::Derived { lateral: false, subquery: inner, alias: Some(alias), sample: None };
    outer.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    *query.body = SetExpr::Select(Box::new(outer));
}

fn expression(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(column_names::name(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    }
}

fn has_rows(expr: &Expr) -> bool {
    visit_expressions(expr, |e| match function_name(e) {
        Some(name) if returns_rows(&name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}
