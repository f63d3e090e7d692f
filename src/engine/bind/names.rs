//! Names of result columns as PostgreSQL gives them.
//!
//! DataFusion names an unnamed expression by its text (`Int64(1) + Int64(1)`) and forbids two columns of one name. Here
//! every unnamed item of a top-level SELECT gets PostgreSQL's name, and repeated names get an invisible mark that
//! [`visible`] takes off again. Invariant: the n-th result column shows the name PostgreSQL would show.

use std::collections::HashSet;

use sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, SetExpr, Value};

use crate::statement::ident_text;

/// Stands before the number of a repeated name.
const MARK: char = '\u{1}';

/// The name without its mark.
pub fn visible(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Names the columns of a query. `mark` allows repeated names (only where the result goes to a client).
pub fn name_columns(query: &mut Query, mark: bool) {
    name_set(&mut query.body, mark);
}

fn name_set(body: &mut SetExpr, mark: bool) {
    match body {
        SetExpr::Select(select) => name_select(select, mark),
        SetExpr::Query(query) => name_columns(query, mark),
        SetExpr::SetOperation { left, right, .. } => {
            name_set(left, mark);
            name_set(right, mark);
        }
        _ => {}
    }
}

fn name_select(select: &mut Select, mark: bool) {
    let mut seen: HashSet<String> = HashSet::new();
    let distinct_names = select.projection.len() > 1;
    for item in &mut select.projection {
        let (name, expr) = match item {
            SelectItem::UnnamedExpr(expr) => (column_name(expr), expr.clone()),
            SelectItem::ExprWithAlias { expr, alias } => (ident_text(alias), expr.clone()),
            _ => continue,
        };
        let plain = matches!(item, SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        let mut unique = name.clone();
        let mut number = 1;
        while distinct_names && mark && !seen.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}{MARK}{number}");
        }
        if plain && unique == name {
            continue;
        }
        if !mark && unique == "?column?" && seen.contains(&unique) {
            continue;
        }
        seen.insert(unique.clone());
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', unique) };
    }
}

/// PostgreSQL's FigureColname.
fn column_name(expr: &Expr) -> String {
    strong_name(expr).unwrap_or_else(|| "?column?".to_owned())
}

fn strong_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident_text(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(ident_text),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(sqlparser::ast::AccessExpr::Dot(field)) => strong_name(field),
            _ => strong_name(root),
        },
        Expr::Function(function) => function.name.0.last().and_then(|p| p.as_ident()).map(ident_text),
        Expr::Nested(inner) => strong_name(inner),
        Expr::Cast { expr, data_type, .. } => strong_name(expr).or_else(|| Some(type_name(&data_type.to_string()))),
        Expr::Case { else_result, .. } => {
            Some(else_result.as_ref().and_then(|e| strong_name(e)).filter(|n| n != "?column?").unwrap_or_else(|| "case".into()))
        }
        Expr::Array(_) => Some("array".into()),
        Expr::Exists { .. } => Some("exists".into()),
        Expr::Extract { .. } => Some("extract".into()),
        Expr::Substring { .. } => Some("substring".into()),
        Expr::Trim { .. } => Some("btrim".into()),
        Expr::Position { .. } => Some("position".into()),
        Expr::Overlay { .. } => Some("overlay".into()),
        Expr::Ceil { .. } => Some("ceil".into()),
        Expr::Floor { .. } => Some("floor".into()),
        Expr::Interval(_) => Some("interval".into()),
        Expr::TypedString(typed) => Some(type_name(&typed.data_type.to_string())),
        Expr::Tuple(_) => Some("row".into()),
        Expr::Value(value) => matches!(value.value, Value::Boolean(_)).then(|| "bool".into()),
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => strong_name(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => Some(ident_text(alias)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The internal name that a cast shows: `int4` for integer.
fn type_name(declared: &str) -> String {
    let lower = declared.to_lowercase();
    let base = lower.split('(').next().unwrap_or(&lower).trim();
    match base {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "double precision" | "double" => "float8",
        "boolean" => "bool",
        "character varying" => "varchar",
        "character" | "char" => "bpchar",
        "decimal" => "numeric",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "time without time zone" => "time",
        other => other,
    }
    .to_owned()
}
