//! Set-returning functions of PostgreSQL in FROM and in select lists.
//!
//! In: calls in FROM and in select lists. Out: calls of `unnest` and `generate_series`, which the engine expands, and table
//! functions of the catalog. Invariant: the columns have the names that PostgreSQL gives them. Deliberately absent: our own
//! set-returning functions.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{CaseWhen, Expr, FunctionArg, FunctionArgExpr, Ident, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs};
use squilla_core::error::{Error, Kind, Result};

use crate::postgres::rewrite::integer;
use crate::postgres::syntax::{arguments, call, folded, function_name, strip_schema};
use crate::postgres::table_functions::TABLE_FUNCTIONS;
use crate::postgres::{expand_array, json, json_path, options, regexp, series};

/// Set-returning functions that unnest what functions give: the columns, and for each the function of its array.
const UNNESTED: &[(&str, &[(&str, &str)])] = &[
    ("jsonb_array_elements", &[("value", json::ITEMS)]),
    ("json_array_elements", &[("value", json::ITEMS)]),
    ("jsonb_array_elements_text", &[("value", json::ITEM_TEXTS)]),
    ("json_array_elements_text", &[("value", json::ITEM_TEXTS)]),
    ("jsonb_object_keys", &[("jsonb_object_keys", json::KEYS)]),
    ("json_object_keys", &[("json_object_keys", json::KEYS)]),
    ("jsonb_each", &[("key", json::KEYS), ("value", json::VALUES)]),
    ("json_each", &[("key", json::KEYS), ("value", json::VALUES)]),
    ("jsonb_each_text", &[("key", json::KEYS), ("value", json::VALUE_TEXTS)]),
    ("json_each_text", &[("key", json::KEYS), ("value", json::VALUE_TEXTS)]),
    ("jsonb_path_query", &[("jsonb_path_query", json_path::QUERY)]),
    ("regexp_split_to_table", &[("regexp_split_to_table", "regexp_split_to_array")]),
    ("string_to_table", &[("string_to_table", "string_to_array")]),
    ("pg_options_to_table", &[("option_name", options::NAMES), ("option_value", options::VALUES)]),
    ("generate_subscripts", &[("generate_subscripts", expand_array::SUBSCRIPTS)]),
];

fn columns(name: &str) -> Option<&'static [(&'static str, &'static str)]> {
    UNNESTED.iter().find(|(known, _)| *known == name).map(|(_, columns)| *columns)
}

/// The array that a set-returning function unnests.
fn array(function: &str, values: Vec<Expr>) -> Expr {
    if function == expand_array::SUBSCRIPTS {
        let mut values = values.into_iter();
        let places = call(function, values.by_ref().take(1).collect());
        // After the dimension, of which there is one: whether to count backwards.
        let Some(backwards) = values.nth(1) else { return places };
        let branch = CaseWhen { condition: backwards, result: call("array_reverse", vec![places.clone()]) };
        return Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![branch],
            else_result: Some(Box::new(places)),
        };
    }
    call(function, values)
}

/// A call as a call of `unnest`.
pub struct Unnested {
    /// The arrays.
    pub args: Vec<FunctionArg>,
    /// What the rows and their columns are called.
    pub alias: TableAlias,
}

/// `jsonb_each(x) AS e` as `unnest(keys(x), values(x)) AS e(key, value)`; None for other functions.
///
/// # Errors
/// 42601 for arguments with names.
pub fn unnested(name: &str, args: &[FunctionArg], alias: Option<&TableAlias>) -> Result<Option<Unnested>> {
    let Some(columns) = columns(name) else { return Ok(None) };
    let values = arguments(args).ok_or_else(|| Error::new(Kind::Syntax, format!("{name} takes arguments without names")))?;
    let arrays = columns.iter().map(|(_, function)| FunctionArg::Unnamed(FunctionArgExpr::Expr(array(function, values.clone()))));
    let mut alias = alias.cloned().unwrap_or_else(|| TableAlias { explicit: true, name: Ident::new(name), columns: Vec::new(), at: None });
    for (column, _) in columns.iter().skip(alias.columns.len()) {
        // A column that is called like the function takes the name of the table.
        let shown = if *column == name { alias.name.clone() } else { Ident::new(*column) };
        alias.columns.push(TableAliasColumnDef { name: shown, data_type: None });
    }
    Ok(Some(Unnested { args: arrays.collect(), alias }))
}

/// Whether a function of PostgreSQL gives rows where it stands in a select list.
pub fn returns_rows(name: &str) -> bool {
    matches!(name, "unnest" | "generate_series" | "regexp_matches" | "_pg_expandarray") || columns(name).is_some()
}

/// Whether a function of PostgreSQL gives rows of several columns.
pub fn gives_columns(name: &str) -> bool {
    columns(name).is_some_and(|c| c.len() > 1)
}

/// Whether a function in FROM is a relation of the catalog rather than one row.
pub fn gives_a_table(name: &str) -> bool {
    TABLE_FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// `f(x)` in FROM as the parser leaves it: the binder may have made it a function that is not our own.
pub fn plain_call(factor: &mut TableFactor) {
    let TableFactor::Function { name, args, alias, with_ordinality, lateral: false } = factor else { return };
    strip_schema(name);
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

/// Set-returning functions of the catalog with one column: an alias of the table names the column too.
pub fn table(factor: &mut TableFactor) {
    let TableFactor::Table { name, args: Some(_), alias, .. } = factor else { return };
    strip_schema(name);
    let name = name.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default();
    if !["pg_listening_channels", "generate_series"].contains(&name.as_str()) {
        return;
    }
    match alias {
        Some(alias) if alias.columns.is_empty() => alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }],
        Some(_) => {}
        None => *alias = Some(TableAlias { explicit: true, name: Ident::new(&name), columns: vec![TableAliasColumnDef::from_name(&name)], at: None }),
    }
}

/// `SELECT generate_series(1, 3)`: a set-returning function in a select list gives rows.
pub fn set_in_list(expr: &mut Expr) {
    let Some(name) = function_name(expr) else { return };
    let Expr::Function(function) = &*expr else { return };
    let sqlparser::ast::FunctionArguments::List(list) = &function.args else { return };
    let Some(values) = arguments(&list.args) else { return };
    if name == "generate_series" {
        let mut values = values;
        values.iter_mut().for_each(integer);
        *expr = call("unnest", vec![call(series::SERIES, values)]);
    } else if name == "regexp_matches" {
        *expr = call("unnest", vec![call(regexp::MATCHES, values)]);
    } else if name == "_pg_expandarray" {
        *expr = call("unnest", vec![call(expand_array::EXPAND, values)]);
    } else if let Some([(_, function)]) = columns(&name) {
        *expr = call("unnest", vec![array(function, values)]);
    }
}
