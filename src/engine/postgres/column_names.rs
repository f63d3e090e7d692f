//! The names that PostgreSQL gives to output columns.
//!
//! In: the select list as it was written. Out: the same list with aliases. Invariant: names are unique within a list, as
//! DataFusion wants; what was added to make them so begins with [`MARK`] and is cut off by [`shown`].
//! Deliberately absent: wildcards, whose columns have names already.

use std::collections::HashSet;

use sqlparser::ast::{AccessExpr, Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, TrimWhereField, Value};

use crate::postgres::syntax::{folded, function_name};
use crate::postgres::type_planner::sql_type;
use crate::system::types;

/// Stands between a name and the number that makes it unique; no SQL text can hold it in a name by accident.
pub const MARK: char = '\u{1}';

/// Columns of the system, which become calls: those have other names.
const SYSTEM: &[&str] = &["tableoid", "xmin"];

/// The name as a client sees it.
pub fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// How much a name says: a column or function outweighs the type of a cast around it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    None,
    Weak,
    Strong,
}

fn type_name(ty: &sqlparser::ast::DataType) -> String {
    let known = sql_type(ty).and_then(|t| types::by_oid(t.oid()));
    known.map_or_else(|| ty.to_string().to_lowercase(), |t| t.name.trim_start_matches('_').to_owned())
}

fn figure(expr: &Expr) -> (Strength, String) {
    let strong = |name: &str| (Strength::Strong, name.to_owned());
    match expr {
        Expr::Identifier(id) => (Strength::Strong, folded(id)),
        Expr::CompoundIdentifier(ids) => ids.last().map_or((Strength::None, String::new()), |id| (Strength::Strong, folded(id))),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(id))) => (Strength::Strong, folded(id)),
            _ => figure(root),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::Function(_) => function_name(expr).map_or((Strength::None, String::new()), |name| (Strength::Strong, name)),
        Expr::Cast { expr, data_type, .. } => match figure(expr) {
            (Strength::Strong, name) => (Strength::Strong, name),
            _ => (Strength::Weak, type_name(data_type)),
        },
        Expr::TypedString(typed) => (Strength::Weak, type_name(&typed.data_type)),
        Expr::Interval(_) => (Strength::Weak, "interval".into()),
        Expr::Value(v) if matches!(v.value, Value::Boolean(_)) => (Strength::Weak, "bool".into()),
        Expr::Case { else_result, .. } => match else_result.as_deref().map(figure) {
            Some((Strength::Strong, name)) => (Strength::Strong, name),
            _ => (Strength::Weak, "case".into()),
        },
        Expr::Subquery(query) => first(query).map_or((Strength::None, String::new()), |item| match item {
            SelectItem::ExprWithAlias { alias, .. } => (Strength::Strong, folded(alias)),
            SelectItem::UnnamedExpr(expr) => figure(expr),
            _ => (Strength::None, String::new()),
        }),
        Expr::Exists { .. } => strong("exists"),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        _ => (Strength::None, String::new()),
    }
}

fn first(query: &Query) -> Option<&SelectItem> {
    match query.body.as_ref() {
        SetExpr::Select(select) => select.projection.first(),
        _ => None,
    }
}

/// The name of an unnamed output expression.
pub fn name(expr: &Expr) -> String {
    match figure(expr) {
        (Strength::None, _) => "?column?".into(),
        (_, name) => name,
    }
}

/// Columns that GROUP BY names: an input column wins there over an output name.
fn grouped(select: &Select) -> HashSet<String> {
    match &select.group_by {
        GroupByExpr::Expressions(list, _) => list.iter().filter_map(|e| if let Expr::Identifier(id) = e { Some(folded(id)) } else { None }).collect(),
        GroupByExpr::All(_) => HashSet::new(),
    }
}

/// Names every expression of a select list. In the outermost one a column beside a wildcard may be named twice: nothing
/// refers to it by name, so the one that is written out is marked.
pub fn assign(select: &mut Select, outermost: bool) {
    let wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let beside_wildcard = outermost && select.projection.iter().any(wild);
    let avoid = grouped(select);
    let mut used: HashSet<String> = HashSet::new();
    let mut unique = |wanted: &str, avoid: &HashSet<String>| {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while avoid.contains(&name) || !used.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}{MARK}{number}");
        }
        name
    };
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let wanted = name(expr);
                let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) && !SYSTEM.contains(&wanted.as_str());
                let given = if plain && beside_wildcard {
                    // A name that is taken, so that it gets a mark.
                    unique(&wanted, &HashSet::from([wanted.clone()]))
                } else if plain {
                    unique(&wanted, &HashSet::new())
                } else {
                    unique(&wanted, &avoid)
                };
                if !plain || given != wanted {
                    let expr = std::mem::replace(expr, Expr::value(Value::Null));
                    *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', given) };
                }
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let wanted = folded(alias);
                let given = unique(&wanted, &HashSet::new());
                if given != wanted {
                    *alias = Ident::with_quote('"', given);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    #[test]
    fn names_are_those_of_postgresql() {
        for (text, wanted) in [
            ("1", "?column?"),
            ("1 + 1", "?column?"),
            ("a", "a"),
            ("t.\"B\"", "B"),
            ("pg_catalog.lower(a)", "lower"),
            ("a::int", "a"),
            ("1::int", "int4"),
            ("'x'::varchar(3)", "varchar"),
            ("lower(a)::text", "lower"),
            ("CASE WHEN a THEN 1 END", "case"),
            ("CASE WHEN a THEN 1 ELSE b END", "b"),
            ("(SELECT max(x) FROM t)", "max"),
            ("EXISTS (SELECT 1)", "exists"),
            ("ARRAY[1]", "array"),
            ("true", "bool"),
            ("DATE '2020-01-01'", "date"),
            ("INTERVAL '1 day'", "interval"),
            ("extract(year from a)", "extract"),
            ("NULL", "?column?"),
            ("count(*)", "count"),
            ("coalesce(a, 1)", "coalesce"),
            ("current_user", "current_user"),
        ] {
            let expr = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap();
            assert_eq!(name(&expr), wanted, "{text}");
        }
    }

    #[test]
    fn names_are_unique_and_shown_without_their_number() {
        let Some(sqlparser::ast::Statement::Query(mut query)) =
            Parser::parse_sql(&PostgreSqlDialect {}, "SELECT NULL, NULL, a, a, 1 AS x, 2 AS x, date(b) FROM t GROUP BY date").unwrap().pop()
        else {
            unreachable!()
        };
        let SetExpr::Select(select) = query.body.as_mut() else { unreachable!() };
        assign(select, true);
        let names: Vec<String> = select
            .projection
            .iter()
            .map(|i| match i {
                SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
                SelectItem::UnnamedExpr(e) => name(e),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(names, ["?column?", "?column?\u{1}2", "a", "a\u{1}2", "x", "x\u{1}2", "date\u{1}2"]);
        assert_eq!(shown("x\u{1}2"), "x");
    }
}
