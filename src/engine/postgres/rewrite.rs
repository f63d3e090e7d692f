//! SQL as PostgreSQL writes it, to SQL as DataFusion plans it.
//!
//! In: the syntax tree of one statement. Out: the same tree, changed in place. Invariant: each rule holds for every
//! statement of its shape, keeps the meaning, and looks at no text but literals. Rules that need types are in
//! `expression_planner` and `cast_rule`. Deliberately absent: names of our own functions and their arguments (the binder).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
    Statement, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs, Value, VisitMut, VisitorMut,
};
use squilla_core::error::{Error, Kind, Result};

use crate::postgres::casts::{converted, whole_interval};
use crate::postgres::patterns::{like, similar};
use crate::postgres::syntax::{arguments, call, cast, folded, function_name, literal, parts, strip_schema, text};
use crate::postgres::{column_names, subquery};

/// Rewrites a statement in place.
pub fn rewrite(statement: &mut Statement) -> Result<()> {
    match statement.visit(&mut Rewriter::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Rewrites one expression in place (a column default, a check).
pub fn rewrite_expr(expr: &mut Expr) -> Result<()> {
    match expr.visit(&mut Rewriter::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

#[derive(Default)]
struct Rewriter {
    /// Tables in scope, innermost last: what a name in FROM stands for.
    scopes: Vec<HashMap<String, Option<ObjectName>>>,
    /// Addresses of subqueries on the right of ANY and ALL, which stay as they are.
    quantified: HashSet<usize>,
}

type Flow = ControlFlow<Box<Error>>;

fn flow(result: Result<()>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl VisitorMut for Rewriter {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        if let SetExpr::Values(values) = query.body.as_mut() {
            values.rows.iter_mut().for_each(|row| row.iter_mut().for_each(integer));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        column_names::assign(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                set_in_list(expr);
                integer(expr);
            }
        }
        for from in &mut select.from {
            plain_call(&mut from.relation);
            from.joins.iter_mut().for_each(|join| plain_call(&mut join.relation));
        }
        let scope = tables(select);
        outer_series(select, &scope);
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> Flow {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        table(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        if let Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } = expr {
            match right.as_ref() {
                Expr::Subquery(_) => {
                    self.quantified.insert(std::ptr::from_ref(right.as_ref()) as usize);
                }
                other => {
                    if let Some(array) = literal(other).and_then(array_type) {
                        let value = std::mem::replace(right.as_mut(), Expr::value(Value::Null));
                        **right = cast(value, array);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        if self.quantified.remove(&(std::ptr::from_ref(expr) as usize)) {
            return ControlFlow::Continue(());
        }
        flow(self.expression(expr))
    }
}

/// The type of an array literal without one: integers where all its elements are.
fn array_type(text: &str) -> Option<DataType> {
    let elements = crate::postgres::input::array_elements(text).ok()?;
    let integers = !elements.is_empty() && elements.iter().flatten().all(|e| e.parse::<i64>().is_ok());
    let element = if integers { DataType::BigInt(None) } else { DataType::Text };
    Some(DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(Box::new(element), None)))
}

/// A whole number that fits is an integer, not a bigint, where it stands by itself. Inside arithmetic it stays as it is:
/// DataFusion's 32-bit arithmetic wraps around instead of failing.
fn integer(expr: &mut Expr) {
    let number = match &*expr {
        Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Minus | sqlparser::ast::UnaryOperator::Plus, expr } => expr.as_ref(),
        other => other,
    };
    let fits = matches!(number, Expr::Value(v) if matches!(&v.value, Value::Number(n, false) if n.parse::<i32>().is_ok()));
    if fits {
        let value = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = cast(value, DataType::Integer(None));
    }
}

/// Functions whose result has the type of their arguments.
const TRANSPARENT: &[&str] = &["coalesce", "greatest", "least", "nullif", "pg_typeof"];

/// What each name of a FROM clause stands for; None for what is not a table.
fn tables(select: &Select) -> HashMap<String, Option<ObjectName>> {
    let mut scope = HashMap::new();
    let mut add = |factor: &TableFactor| {
        let (name, alias) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => (Some(name), alias),
            TableFactor::Table { name, alias: None, args: Some(_), .. } => {
                if let Some(last) = name.0.last().and_then(|p| p.as_ident()) {
                    scope.insert(folded(last), None);
                }
                return;
            }
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => (None, alias),
            _ => return,
        };
        let own = name.and_then(|n| n.0.last()).and_then(|p| p.as_ident()).map(folded);
        if let Some(key) = alias.as_ref().map(|a| folded(&a.name)).or(own) {
            scope.insert(key, name.cloned());
        }
    };
    for from in &select.from {
        add(&from.relation);
        from.joins.iter().for_each(|join| add(&join.relation));
    }
    scope
}

/// Set-returning functions of one column: an alias of the table names the column too.
const ONE_COLUMN: &[&str] = &["generate_series", "unnest", "pg_listening_channels"];

/// `f(x)` in FROM as the parser leaves it: the binder may have made it a function that is not our own.
fn plain_call(factor: &mut TableFactor) {
    let TableFactor::Function { name, args, alias, with_ordinality, .. } = factor else { return };
    strip_schema(name);
    let one_column = name.0.last().and_then(|p| p.as_ident()).is_some_and(|id| ONE_COLUMN.contains(&folded(id).as_str()));
    if !one_column {
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

fn table(factor: &mut TableFactor) {
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
fn outer_series(select: &mut Select, scope: &HashMap<String, Option<ObjectName>>) {
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
fn set_in_list(expr: &mut Expr) {
    if function_name(expr).is_some_and(|name| name == "generate_series") {
        let series = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = call("unnest", vec![series]);
    }
}

impl Rewriter {
    fn expression(&self, expr: &mut Expr) -> Result<()> {
        let taken = |e: &mut Expr| std::mem::replace(e, Expr::value(Value::Null));
        match expr {
            Expr::BinaryOp { op, .. } => {
                operator(op)?;
                if let Some(function) = vector_operator(op)
                    && let Expr::BinaryOp { left, right, .. } = taken(expr)
                {
                    *expr = call(function, vec![*left, *right]);
                }
            }
            Expr::Collate { expr: inner, collation } => {
                collate(collation)?;
                *expr = taken(inner);
            }
            Expr::Cast { .. } => {
                if let Expr::Cast { kind: kind @ (CastKind::Cast | CastKind::DoubleColon), expr: inner, data_type, array, format } = taken(expr) {
                    *expr = if array || format.is_some() {
                        Expr::Cast { kind, expr: inner, data_type, array, format }
                    } else {
                        converted(*inner, data_type)?
                    };
                }
            }
            Expr::TypedString(_) => {
                if let Expr::TypedString(typed) = taken(expr) {
                    let value = Expr::Value(typed.value);
                    *expr = converted(value, typed.data_type)?;
                }
            }
            Expr::Interval(_) => {
                if let Expr::Interval(old) = taken(expr) {
                    *expr = whole_interval(old)?;
                }
            }
            Expr::AtTimeZone { .. } => {
                if let Expr::AtTimeZone { timestamp, time_zone } = taken(expr) {
                    *expr = call("timezone", vec![*time_zone, *timestamp]);
                }
            }
            Expr::SimilarTo { .. } => {
                if let Expr::SimilarTo { negated, expr: value, pattern, escape_char } = taken(expr) {
                    *expr = similar(negated, *value, *pattern, escape_char);
                }
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => like(pattern, escape_char),
            Expr::Case { conditions, else_result, .. } => {
                conditions.iter_mut().for_each(|branch| integer(&mut branch.result));
                else_result.iter_mut().for_each(|e| integer(e));
            }
            Expr::Array(array) => array.elem.iter_mut().for_each(integer),
            Expr::Function(_) => function(expr)?,
            Expr::Subquery(query) => subquery::scalar(query),
            Expr::Identifier(id) if id.quote_style.is_none() => {
                let name = id.value.to_lowercase();
                if BARE.contains(&name.as_str()) {
                    *expr = call(&name, Vec::new());
                } else if name == "tableoid"
                    && let Some([Some(table)]) = self.scopes.last().map(|s| s.values().collect::<Vec<_>>()).as_deref()
                {
                    *expr = table_oid(table);
                }
            }
            Expr::CompoundIdentifier(ids) => {
                if let [.., alias, column] = ids.as_slice()
                    && folded(column) == "tableoid"
                    && let Some(Some(table)) = self.scopes.iter().rev().find_map(|s| s.get(&folded(alias)))
                {
                    *expr = table_oid(table);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Calls: schemas, names, types of results, and `ARRAY(SELECT ...)`.
fn function(expr: &mut Expr) -> Result<()> {
    let Expr::Function(function) = expr else { return Ok(()) };
    strip_schema(&mut function.name);
    if let FunctionArguments::List(list) = &mut function.args
        && function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|id| TRANSPARENT.contains(&folded(id).as_str()))
    {
        for argument in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = argument {
                integer(e);
            }
        }
    }
    if let Some(other) = function.name.0.first().and_then(|p| p.as_ident()).and_then(|id| other_name(&folded(id))) {
        function.name = ObjectName::from(vec![Ident::new(other)]);
    }
    if let FunctionArguments::List(list) = &function.args
        && function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|id| folded(id) == "mod")
        && let Some([left, right]) = arguments(&list.args).and_then(|a| <[Expr; 2]>::try_from(a).ok())
    {
        let part = |e| Box::new(Expr::Nested(Box::new(e)));
        *expr = Expr::Nested(Box::new(Expr::BinaryOp { left: part(left), op: BinaryOperator::Modulo, right: part(right) }));
        return Ok(());
    }
    if let Some(ty) = function.name.0.last().and_then(|p| p.as_ident()).and_then(|id| unsigned(&folded(id))) {
        *expr = cast(std::mem::replace(expr, Expr::value(Value::Null)), ty);
        return Ok(());
    }
    let array = function.name.0.len() == 1 && function.name.0.first().and_then(|p| p.as_ident()).is_some_and(|id| folded(id) == "array");
    if array && let FunctionArguments::Subquery(query) = &mut function.args {
        let query = std::mem::replace(query.as_mut(), empty_query()?);
        *expr = subquery::array(query).ok_or_else(|| Error::unsupported("this form of ARRAY(SELECT ...) is not supported"))?;
    }
    Ok(())
}

/// The type of functions that DataFusion counts with unsigned integers, which PostgreSQL has not.
fn unsigned(name: &str) -> Option<DataType> {
    match name {
        "array_length" | "array_position" | "array_ndims" | "cardinality" | "ntile" => Some(DataType::Integer(None)),
        "row_number" | "rank" | "dense_rank" | "approx_distinct" => Some(DataType::BigInt(None)),
        _ => None,
    }
}

/// Functions that DataFusion calls by another name.
fn other_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "sign" => "signum",
        "ceiling" => "ceil",
        "every" => "bool_and",
        "variance" => "var_samp",
        "transaction_timestamp" | "statement_timestamp" => "now",
        _ => return None,
    })
}

/// Functions that SQL calls without parentheses.
const BARE: &[&str] = &["current_schema", "current_catalog", "current_user", "current_role", "session_user", "user"];

fn empty_query() -> Result<Query> {
    let parsed = sqlparser::parser::Parser::parse_sql(&sqlparser::dialect::PostgreSqlDialect {}, "SELECT 1").map_err(crate::error::from_parser)?;
    match parsed.into_iter().next() {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(Error::internal("an empty query does not parse")),
    }
}

fn table_oid(table: &ObjectName) -> Expr {
    cast(call("regclass", vec![text(table.to_string())]), DataType::BigInt(None))
}

/// `OPERATOR(pg_catalog.~)` is `~`.
fn operator(op: &mut BinaryOperator) -> Result<()> {
    use BinaryOperator as Op;
    let BinaryOperator::PGCustomBinaryOperator(path) = op else { return Ok(()) };
    let symbol = path.last().cloned().unwrap_or_default();
    *op = match symbol.as_str() {
        "=" => Op::Eq,
        "<>" | "!=" => Op::NotEq,
        "<" => Op::Lt,
        "<=" => Op::LtEq,
        ">" => Op::Gt,
        ">=" => Op::GtEq,
        "+" => Op::Plus,
        "-" => Op::Minus,
        "*" => Op::Multiply,
        "/" => Op::Divide,
        "%" => Op::Modulo,
        "||" => Op::StringConcat,
        "~" => Op::PGRegexMatch,
        "~*" => Op::PGRegexIMatch,
        "!~" => Op::PGRegexNotMatch,
        "!~*" => Op::PGRegexNotIMatch,
        "~~" => Op::PGLikeMatch,
        "~~*" => Op::PGILikeMatch,
        "!~~" => Op::PGNotLikeMatch,
        "!~~*" => Op::PGNotILikeMatch,
        "@>" => Op::AtArrow,
        "<@" => Op::ArrowAt,
        "&&" => Op::PGOverlap,
        "<->" => Op::LtDashGt,
        "<=>" => Op::Spaceship,
        other @ ("<#>" | "<+>") => Op::Custom(other.to_owned()),
        _ => return Err(Error::new(Kind::UndefinedFunction, format!("operator does not exist: {symbol}"))),
    };
    Ok(())
}

fn vector_operator(op: &BinaryOperator) -> Option<&'static str> {
    match op {
        BinaryOperator::LtDashGt => Some("l2_distance"),
        BinaryOperator::Spaceship => Some("cosine_distance"),
        BinaryOperator::Custom(symbol) if symbol == "<#>" => Some("vector_negative_inner_product"),
        BinaryOperator::Custom(symbol) if symbol == "<+>" => Some("l1_distance"),
        _ => None,
    }
}

/// Text is ordered by code point whatever the collation; only collations that do so are taken.
fn collate(collation: &ObjectName) -> Result<()> {
    let name = parts(collation).and_then(|p| p.last().cloned()).unwrap_or_default();
    match name.to_lowercase().as_str() {
        "default" | "c" | "posix" | "ucs_basic" | "c.utf8" | "c.utf-8" => Ok(()),
        _ => Err(Error::new(Kind::UndefinedObject, format!("collation \"{name}\" for encoding \"UTF8\" does not exist"))),
    }
}
