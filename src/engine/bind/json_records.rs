//! JSON as rows with columns: `json_to_recordset`, `jsonb_populate_record` and their kin.
//!
//! In: a call in FROM, with its column definitions or the name of a table. Out: a subquery that reads each column out of the
//! JSON values and casts it. Invariant: a key that is missing, and JSON's null, are NULL. Deliberately absent: base rows with
//! values, and columns of composite types.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins, Value,
};
use squilla_core::error::{Error, Kind, Result};

use crate::bind::relation::{empty_query, empty_select};
use crate::postgres::json_edit;
use crate::postgres::syntax::{arguments, call, cast, folded, text};
use crate::statement::name_parts;

/// Functions of one value, and of an array of values.
const FUNCTIONS: &[(&str, bool, bool)] = &[
    ("json_to_record", false, false),
    ("jsonb_to_record", false, false),
    ("json_to_recordset", true, false),
    ("jsonb_to_recordset", true, false),
    ("json_populate_record", false, true),
    ("jsonb_populate_record", false, true),
    ("json_populate_recordset", true, true),
    ("jsonb_populate_recordset", true, true),
];

const VALUE: &str = "squilla_value";

/// The subquery that stands for a call; None for other functions. `columns` gives names and types of the columns of a table.
///
/// # Errors
/// 42601 without column definitions, 42704 for a table that is not there, 0A000 for a base row with values.
pub fn expanded(
    name: &str,
    args: &[FunctionArg],
    alias: Option<&TableAlias>,
    columns: impl Fn(&[String]) -> Option<Vec<(String, String)>>,
) -> Result<Option<TableFactor>> {
    let Some((_, set, populates)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else { return Ok(None) };
    let values = arguments(args).ok_or_else(|| Error::new(Kind::Syntax, format!("{name} takes arguments without names")))?;
    let (json, wanted) = match (values.as_slice(), populates) {
        ([json], false) => (json.clone(), defined(alias)?),
        ([base, json, ..], true) => (json.clone(), of_table(base, columns)?),
        _ => {
            return Err(Error::new(Kind::UndefinedFunction, format!("function {name} does not exist"))
                .hint("No function matches the given name and argument types. You might need to add explicit type casts."));
        }
    };
    let mut select = empty_select()?;
    select.projection = wanted.into_iter().map(|(name, ty)| SelectItem::ExprWithAlias { expr: column(&name.value, ty), alias: name }).collect();
    select.from = vec![TableWithJoins { relation: source(cast(json, DataType::JSONB), *set)?, joins: Vec::new() }];
    let mut subquery = empty_query()?;
    subquery.body = Box::new(SetExpr::Select(Box::new(select)));
    let plain = || TableAlias { explicit: true, name: Ident::new(name), columns: Vec::new(), at: None };
    let mut alias = alias.cloned().unwrap_or_else(plain);
    alias.columns = if *populates { alias.columns.into_iter().map(|c| TableAliasColumnDef { data_type: None, ..c }).collect() } else { Vec::new() };
    Ok(Some(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None }))
}

/// `AS t(a integer, b text)`
fn defined(alias: Option<&TableAlias>) -> Result<Vec<(Ident, DataType)>> {
    let missing = || Error::new(Kind::Syntax, "a column definition list is required for functions returning \"record\"");
    let columns = alias.map(|a| a.columns.as_slice()).filter(|c| !c.is_empty()).ok_or_else(missing)?;
    let typed = |c: &TableAliasColumnDef| {
        let name = if c.name.quote_style.is_some() { c.name.clone() } else { Ident::with_quote('"', folded(&c.name)) };
        c.data_type.clone().map(|ty| (name, ty)).ok_or_else(missing)
    };
    columns.iter().map(typed).collect()
}

/// `NULL::t`
fn of_table(base: &Expr, columns: impl Fn(&[String]) -> Option<Vec<(String, String)>>) -> Result<Vec<(Ident, DataType)>> {
    let mut base = base;
    while let Expr::Nested(inner) = base {
        base = inner;
    }
    let table = match base {
        Expr::Cast { expr, data_type: DataType::Custom(name, _), .. } if matches!(expr.as_ref(), Expr::Value(v) if v.value == Value::Null) => name,
        _ => return Err(Error::unsupported("a base row other than NULL::table is not supported here")),
    };
    let parts = name_parts(table);
    let found = columns(&parts).ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{}\" does not exist", parts.join("."))))?;
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    let typed = |(name, ty): (String, String)| {
        let ty = sqlparser::parser::Parser::new(&dialect).try_with_sql(&ty).and_then(|mut p| p.parse_data_type());
        ty.map(|ty| (Ident::with_quote('"', name), ty)).map_err(crate::error::from_parser)
    };
    found.into_iter().map(typed).collect()
}

/// `(SELECT json AS squilla_value)` or the elements of the array.
fn source(json: Expr, set: bool) -> Result<TableFactor> {
    let alias = |columns: Vec<TableAliasColumnDef>| TableAlias { explicit: true, name: Ident::new("squilla_values"), columns, at: None };
    if set {
        let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(json))];
        return Ok(TableFactor::Function {
            lateral: true,
            name: ObjectName::from(vec![Ident::new("jsonb_array_elements")]),
            args,
            with_ordinality: false,
            alias: Some(alias(vec![TableAliasColumnDef::from_name(VALUE)])),
        });
    }
    let mut select = empty_select()?;
    select.projection = vec![SelectItem::ExprWithAlias { expr: json, alias: Ident::new(VALUE) }];
    let mut subquery = empty_query()?;
    subquery.body = Box::new(SetExpr::Select(Box::new(select)));
    Ok(TableFactor::Derived { lateral: true, subquery, alias: Some(alias(Vec::new())), sample: None })
}

/// A column out of the value.
fn column(name: &str, ty: DataType) -> Expr {
    let field = |op| Expr::BinaryOp { left: Box::new(Expr::Identifier(Ident::new(VALUE))), op, right: Box::new(text(name)) };
    match ty {
        ty @ (DataType::JSON | DataType::JSONB) => {
            // JSON's null is NULL as well.
            let known = Expr::IsNotNull(Box::new(field(BinaryOperator::LongArrow)));
            Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: vec![CaseWhen { condition: known, result: cast(Expr::Nested(Box::new(field(BinaryOperator::Arrow))), ty) }],
                else_result: None,
            }
        }
        ty @ DataType::Array(_) => cast(call(json_edit::ARRAY_TEXT, vec![field(BinaryOperator::Arrow)]), ty),
        ty => cast(Expr::Nested(Box::new(field(BinaryOperator::LongArrow))), ty),
    }
}
