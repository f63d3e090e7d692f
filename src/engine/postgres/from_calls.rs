//! Set-returning functions of PostgreSQL in FROM and in select lists.
//!
//! In: calls in FROM and in select lists. Out: what DataFusion plans: UNNEST, subqueries that unnest, table functions.
//! Invariant: the columns have the names that PostgreSQL gives them. Deliberately absent: our own set-returning functions.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, Select, SelectItem, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs, Value,
};

use crate::postgres::json;
use crate::postgres::rewrite::empty_query;
use crate::postgres::syntax::{arguments, call, folded, function_name, strip_schema};

/// Set-returning functions over JSON: the column, and the function that gives its values as an array.
const JSON_ROWS: &[(&str, &[(&str, &str)])] = &[
    ("array_elements", &[("value", json::ITEMS)]),
    ("array_elements_text", &[("value", json::ITEM_TEXTS)]),
    ("object_keys", &[("", json::KEYS)]),
    ("each", &[("key", json::KEYS), ("value", json::VALUES)]),
    ("each_text", &[("key", json::KEYS), ("value", json::VALUE_TEXTS)]),
];

fn json_rows(name: &str) -> Option<&'static [(&'static str, &'static str)]> {
    let rest = name.strip_prefix("jsonb_").or_else(|| name.strip_prefix("json_"))?;
    JSON_ROWS.iter().find(|(known, _)| *known == rest).map(|(_, columns)| *columns)
}

/// `jsonb_each(x)` and the like: a subquery that unnests arrays side by side.
fn json_in_from(name: &str, value: &Expr, alias: Option<TableAlias>, lateral: bool) -> Option<TableFactor> {
    let mut query = empty_query().ok()?;
    let sqlparser::ast::SetExpr::Select(select) = query.body.as_mut() else { return None };
    let item = |(column, function): &(&str, &str)| SelectItem::ExprWithAlias {
        expr: call("unnest", vec![call(function, vec![value.clone()])]),
        alias: Ident::new(if column.is_empty() { name } else { column }),
    };
    select.projection = json_rows(name)?.iter().map(item).collect();
    let alias = alias.or_else(|| Some(TableAlias { explicit: true, name: Ident::new(name), columns: Vec::new(), at: None }));
    Some(TableFactor::Derived { lateral, subquery: Box::new(query), alias, sample: None })
}

/// Set-returning functions of one column: an alias of the table names the column too.
const ONE_COLUMN: &[&str] = &["generate_series", "unnest", "pg_listening_channels"];

/// `f(x)` in FROM as the parser leaves it: the binder may have made it a function that is not our own.
pub fn plain_call(factor: &mut TableFactor) {
    if let TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } = factor {
        *factor = TableFactor::Function {
            lateral: false,
            name: name.clone(),
            args: std::mem::take(&mut args.args),
            with_ordinality: *with_ordinality,
            alias: alias.take(),
        };
    }
    let TableFactor::Function { name, args, alias, with_ordinality, lateral } = factor else { return };
    strip_schema(name);
    let plain = name.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default();
    if json_rows(&plain).is_some()
        && let Some([value]) = arguments(args).and_then(|a| <[Expr; 1]>::try_from(a).ok())
        && let Some(rows) = json_in_from(&plain, &value, alias.clone(), *lateral)
    {
        *factor = rows;
        return;
    }
    if *lateral && !ONE_COLUMN.contains(&plain.as_str()) {
        return;
    }
    *factor = TableFactor::Table {
        name: name.clone(),
        alias: alias.take(),
        args: Some(TableFunctionArgs { args: std::mem::take(args), settings: None }),
        with_hints: Vec::new(),
        version: None,
        with_ordinality: *with_ordinality,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
}

/// Turns a call in FROM back into the form that DataFusion plans as a table function.
pub fn table(factor: &mut TableFactor) {
    let name = match factor {
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
            strip_schema(name);
            name.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default()
        }
        TableFactor::UNNEST { .. } => "unnest".to_owned(),
        _ => return,
    };
    if !ONE_COLUMN.contains(&name.as_str()) {
        return;
    }
    if let Some((source, alias)) = ordinal(factor) {
        if let Some(numbered) = with_ordinality(source, alias) {
            *factor = numbered;
        }
        return;
    }
    let (TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } | TableFactor::UNNEST { alias, .. }) = factor else { return };
    match alias {
        Some(alias) if alias.columns.is_empty() => alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }],
        Some(_) => {}
        None => *alias = Some(TableAlias { explicit: true, name: Ident::new(&name), columns: vec![TableAliasColumnDef::from_name(&name)], at: None }),
    }
    if let TableFactor::Table { name: path, args: Some(args), alias, .. } = factor
        && name == "unnest"
        && let Some(array_exprs) = arguments(&args.args)
    {
        let _ = path;
        *factor = TableFactor::UNNEST { alias: alias.take(), array_exprs, with_offset: false, with_offset_alias: None, with_ordinality: false };
    }
}

/// The array of `unnest(array) WITH ORDINALITY`, and its alias.
fn ordinal(factor: &TableFactor) -> Option<(Expr, Option<TableAlias>)> {
    match factor {
        TableFactor::UNNEST { with_ordinality: true, with_offset: false, array_exprs, alias, .. } => match array_exprs.as_slice() {
            [array] => Some((array.clone(), alias.clone())),
            _ => None,
        },
        TableFactor::Table { name, args: Some(args), with_ordinality: true, alias, .. } => {
            let [array] = arguments(&args.args).and_then(|a| <[Expr; 1]>::try_from(a).ok())?;
            (name.0.last().and_then(|p| p.as_ident()).map(folded)? == "unnest").then(|| (array, alias.clone()))
        }
        _ => None,
    }
}

/// `(SELECT unnest(array), unnest(1 .. length))`: both are unnested side by side.
fn with_ordinality(array: Expr, alias: Option<TableAlias>) -> Option<TableFactor> {
    let number = |n: i32| Expr::value(Value::Number(n.to_string(), false));
    let length = call("coalesce", vec![call("array_length", vec![array.clone(), number(1)]), number(0)]);
    let item = |e, name: &str| SelectItem::ExprWithAlias { expr: call("unnest", vec![e]), alias: Ident::new(name) };
    let mut query = empty_query().ok()?;
    let sqlparser::ast::SetExpr::Select(select) = query.body.as_mut() else { return None };
    let first = alias.as_ref().map_or("unnest", |a| a.name.value.as_str()).to_owned();
    select.projection = vec![item(array, &first), item(call("generate_series", vec![number(1), length]), "ordinality")];
    let alias = alias.or_else(|| Some(TableAlias { explicit: true, name: Ident::new("unnest"), columns: Vec::new(), at: None }));
    Some(TableFactor::Derived { lateral: false, subquery: Box::new(query), alias, sample: None })
}

/// `FROM generate_series(lo, hi) s` whose bounds come from an outer query: all integers, filtered by the bounds.
pub fn outer_series(select: &mut Select, scope: &HashMap<String, Option<ObjectName>>) {
    let mut filters = Vec::new();
    for from in &mut select.from {
        let TableFactor::Table { name, args: Some(args), alias, .. } = &mut from.relation else { continue };
        let series = name.0.last().and_then(|p| p.as_ident()).is_some_and(|id| folded(id) == "generate_series");
        let Some([low, high]) = arguments(&args.args).and_then(|a| <[Expr; 2]>::try_from(a).ok()) else { continue };
        if !series || !(outer(&low, scope) || outer(&high, scope)) {
            continue;
        }
        let column = alias.as_ref().map_or_else(|| Ident::new("generate_series"), |a| a.columns.first().map_or(a.name.clone(), |c| c.name.clone()));
        let bound = |n: i32| Expr::value(Value::Number(n.to_string(), false));
        let limits = [Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Minus, expr: Box::new(bound(i32::MAX)) }, bound(i32::MAX)];
        args.args = limits.into_iter().map(|e| sqlparser::ast::FunctionArg::Unnamed(sqlparser::ast::FunctionArgExpr::Expr(e))).collect();
        filters.push(Expr::Between { expr: Box::new(Expr::Identifier(column)), negated: false, low: Box::new(low), high: Box::new(high) });
    }
    for filter in filters {
        select.selection = Some(match select.selection.take() {
            Some(old) => Expr::BinaryOp { left: Box::new(Expr::Nested(Box::new(old))), op: BinaryOperator::And, right: Box::new(filter) },
            None => filter,
        });
    }
}

/// Whether an expression names a table that this FROM clause does not have.
fn outer(expr: &Expr, scope: &HashMap<String, Option<ObjectName>>) -> bool {
    sqlparser::ast::visit_expressions(expr, |e| match e {
        Expr::CompoundIdentifier(ids) if ids.len() > 1 && ids.get(ids.len() - 2).is_some_and(|t| !scope.contains_key(&folded(t))) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// `SELECT generate_series(1, 3)`: a set-returning function in a select list gives rows.
pub fn set_in_list(expr: &mut Expr) {
    if function_name(expr).is_some_and(|name| name == "generate_series") {
        let series = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = call("unnest", vec![series]);
        return;
    }
    let columns = function_name(expr).and_then(|name| json_rows(&name));
    if let Some([(_, items)]) = columns
        && let Expr::Function(function) = &*expr
        && let sqlparser::ast::FunctionArguments::List(list) = &function.args
        && let Some(values) = arguments(&list.args)
    {
        *expr = call("unnest", vec![call(items, values)]);
    }
}
