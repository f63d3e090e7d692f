//! Set-returning calls in a select list without FROM, over columns of an outer query.
//!
//! In: `(SELECT unnest(c.conkey) AS n, generate_subscripts(c.conkey, 1) AS i)` inside a query over c. Out: the calls in FROM,
//! where they may refer outwards. Invariant: several advance together, and the shorter ones end in NULL. Deliberately absent:
//! lists with FROM, which DataFusion expands where they stand, and `generate_series` beside others.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Select, SelectItem, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, visit_expressions,
};
use squilla_core::error::Result;

use crate::postgres::from_calls;
use crate::postgres::syntax::function_name;

const ROWS: &str = "squilla_sets";

fn expression(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// The arrays that a set-returning call unnests, when it gives one column.
fn arrays(expr: &Expr) -> Result<Option<Vec<FunctionArg>>> {
    let (Some(name), Expr::Function(call)) = (function_name(expr), expr) else { return Ok(None) };
    let FunctionArguments::List(list) = &call.args else { return Ok(None) };
    if name == "unnest" && list.args.len() == 1 {
        return Ok(Some(list.args.clone()));
    }
    Ok(from_calls::unnested(&name, &list.args, None)?.map(|u| u.args).filter(|args| args.len() == 1))
}

fn refers(expr: &Expr) -> bool {
    visit_expressions(expr, |e| match e {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// Moves the calls of a list without FROM there.
pub fn into_from(select: &mut Select) -> Result<()> {
    if !select.from.is_empty() || !select.projection.iter().filter_map(expression).any(refers) {
        return Ok(());
    }
    let mut args: Vec<FunctionArg> = Vec::new();
    let mut columns = Vec::new();
    let mut items = Vec::with_capacity(select.projection.len());
    for item in &select.projection {
        let moved = match expression(item) {
            Some(expr) => arrays(expr)?.map(|arrays| (expr, arrays)),
            None => None,
        };
        let Some((expr, arrays)) = moved else {
            // Another set-returning call would have to advance with these.
            let name = expression(item).and_then(function_name);
            if name.is_some_and(|n| from_calls::returns_rows(&n)) {
                return Ok(());
            }
            items.push(item.clone());
            continue;
        };
        let column = Ident::new(format!("squilla_set_{}", columns.len()));
        let alias = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            _ => Ident::new(function_name(expr).unwrap_or_default()),
        };
        items.push(SelectItem::ExprWithAlias { expr: Expr::CompoundIdentifier(vec![Ident::new(ROWS), column.clone()]), alias });
        columns.push(TableAliasColumnDef { name: column, data_type: None });
        args.extend(arrays);
    }
    if columns.is_empty() || args.iter().any(|a| !matches!(a, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)))) {
        return Ok(());
    }
    let alias = TableAlias { explicit: true, name: Ident::new(ROWS), columns, at: None };
    let name = ObjectName::from(vec![Ident::new("unnest")]);
    let relation = TableFactor::Function { lateral: true, name, args, with_ordinality: false, alias: Some(alias) };
    select.projection = items;
    select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    Ok(())
}
