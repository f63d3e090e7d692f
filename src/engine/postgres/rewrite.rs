//! SQL as PostgreSQL writes it, to SQL as DataFusion plans it.
//!
//! In: the syntax tree of one statement. Out: the same tree, changed in place. Invariant: each rule holds for every
//! statement of its shape, keeps the meaning, and looks at no text but literals. Rules that need types are in
//! `expression_planner` and `cast_rule`. Deliberately absent: names of our own functions and their arguments (the binder).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LimitClause, ObjectName, Query,
    Select, SelectItem, SetExpr, Statement, Subscript, TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use squilla_core::error::{Error, Result};

use crate::postgres::casts::{array_type, converted, whole_interval};
use crate::postgres::from_calls::{plain_call, set_in_list, table};
use crate::postgres::patterns::{like, similar};
use crate::postgres::syntax::{arguments, call, cast, folded, function_name, literal, parts, plain_access, strip_schema, text};
use crate::postgres::{
    column_names, expand_array, fields, hoist, json, json_edit, list_rows, number, operators, ordered_aggregate, quantified, regexp, subquery,
    untyped, whole_row,
};

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
    /// The one column of a set-returning call by the name of its rows: the name alone means the value.
    rows: Vec<HashMap<String, Ident>>,
    /// Names of tables and subqueries, each of which stands for a row where a value is wanted.
    relations: Vec<HashSet<String>>,
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
        hoist::hoist(query);
        first_rows(query);
        quantified::in_order(query);
        list_rows::set_apart(query);
        if let SetExpr::Values(values) = query.body.as_mut() {
            values.rows.iter_mut().for_each(|row| row.iter_mut().for_each(integer));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        column_names::assign(select, self.scopes.is_empty());
        quantified::in_list(select, self.scopes.is_empty());
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                integer(expr);
            }
        }
        for from in &mut select.from {
            plain_call(&mut from.relation);
            from.joins.iter_mut().for_each(|join| plain_call(&mut join.relation));
        }
        self.scopes.push(tables(select));
        self.rows.push(lone_columns(select));
        self.relations.push(relations(select));
        rows_in_list(select);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> Flow {
        self.scopes.pop();
        self.rows.pop();
        self.relations.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::Function { args, .. } = factor {
            for argument in args {
                if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = argument {
                    integer(e);
                }
            }
        }
        table(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        negative_power(expr);
        plain_access(expr);
        untyped::mark(expr);
        if let Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } = expr {
            match right.as_ref() {
                Expr::Subquery(_) => {
                    self.quantified.insert(std::ptr::from_ref(right.as_ref()) as usize);
                }
                other => match literal(other).and_then(array_type) {
                    Some(array) => {
                        let value = std::mem::replace(right.as_mut(), Expr::value(Value::Null));
                        **right = cast(value, array);
                    }
                    None => untyped::mark_array(left, right),
                },
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

/// A whole number that fits is an integer, not a bigint, where it stands by itself or beside another one. Elsewhere in
/// arithmetic it stays as it is: beside a bigint it would be widened again.
pub fn integer(expr: &mut Expr) {
    let number = match &*expr {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => expr.as_ref(),
        other => other,
    };
    let fits = matches!(number, Expr::Value(v) if matches!(&v.value, Value::Number(n, false) if n.parse::<i32>().is_ok()));
    if fits {
        let value = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = cast(value, DataType::Integer(None));
    }
}

/// `-2 ^ 2` is `(-2) ^ 2`: a sign binds closer than a power.
fn negative_power(expr: &mut Expr) {
    use UnaryOperator::{Minus, Plus};
    let Expr::UnaryOp { op: sign @ (Minus | Plus), expr: inner } = expr else { return };
    if !matches!(inner.as_ref(), Expr::BinaryOp { op: BinaryOperator::PGExp, .. }) {
        return;
    }
    let (sign, mut power) = (*sign, std::mem::replace(inner.as_mut(), Expr::value(Value::Null)));
    let mut base = &mut power;
    while let Expr::BinaryOp { op: BinaryOperator::PGExp, left, .. } = base {
        base = left;
    }
    let value = std::mem::replace(base, Expr::value(Value::Null));
    *base = Expr::UnaryOp { op: sign, expr: Box::new(value) };
    *expr = power;
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn first_rows(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|f| !f.with_ties && !f.percent) else { return };
    let count = fetch.quantity.unwrap_or_else(|| Expr::value(Value::Number("1".into(), false)));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(count),
        none @ None => *none = Some(LimitClause::LimitOffset { limit: Some(count), offset: None, limit_by: Vec::new() }),
        // LIMIT and FETCH: DataFusion refuses it.
        Some(_) => query.fetch = Some(sqlparser::ast::Fetch { with_ties: false, percent: false, quantity: Some(count) }),
    }
}

/// `(start, end or length) OVERLAPS (start, end or length)`.
fn overlaps(left: &Expr, right: &Expr) -> Option<Expr> {
    let mut ends = Vec::new();
    for side in [left, right] {
        let Expr::Tuple(pair) = side else { return None };
        let [start, end] = pair.as_slice() else { return None };
        ends.push(start.clone());
        ends.push(match end {
            Expr::Interval(_) => Expr::BinaryOp { left: Box::new(start.clone()), op: BinaryOperator::Plus, right: Box::new(end.clone()) },
            other => other.clone(),
        });
    }
    Some(call("overlaps", ends))
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

/// Names of the tables and subqueries in FROM.
fn relations(select: &Select) -> HashSet<String> {
    let factors = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation)));
    let names = factors.filter_map(|factor| match factor {
        TableFactor::Table { alias: Some(alias), args: None, .. } | TableFactor::Derived { alias: Some(alias), .. } => Some(folded(&alias.name)),
        TableFactor::Table { name, alias: None, args: None, .. } => name.0.last().and_then(|p| p.as_ident()).map(folded),
        _ => None,
    });
    names.collect()
}

/// `(t).*` is `t.*`.
fn rows_in_list(select: &mut Select) {
    for item in &mut select.projection {
        let SelectItem::QualifiedWildcard(kind, _) = item else { continue };
        let sqlparser::ast::SelectItemQualifiedWildcardKind::Expr(Expr::Nested(inner)) = kind else { continue };
        if let Expr::Identifier(name) = inner.as_ref() {
            *kind = sqlparser::ast::SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![name.clone()]));
        }
    }
}

/// Calls in FROM whose rows have one column of another name.
fn lone_columns(select: &Select) -> HashMap<String, Ident> {
    let factors = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation)));
    let lone = factors.filter_map(|factor| match factor {
        TableFactor::Function { alias: Some(alias), with_ordinality: false, .. } => match alias.columns.as_slice() {
            [column] if folded(&column.name) != folded(&alias.name) => Some((folded(&alias.name), column.name.clone())),
            _ => None,
        },
        _ => None,
    });
    lone.collect()
}

impl Rewriter {
    fn expression(&self, expr: &mut Expr) -> Result<()> {
        let taken = |e: &mut Expr| std::mem::replace(e, Expr::value(Value::Null));
        match expr {
            Expr::BinaryOp { op, left, right } => {
                operators::plain(op)?;
                if matches!(
                    op,
                    BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Divide | BinaryOperator::Modulo
                ) {
                    integer(left);
                    integer(right);
                }
                if *op == BinaryOperator::Overlaps {
                    if let Some(call) = overlaps(left, right) {
                        *expr = call;
                    }
                    return Ok(());
                }
                if let Some(compared) = operators::of_rows(left, op, right) {
                    *expr = compared;
                    return Ok(());
                }
                if let Some(function) = operators::call_behind(op)
                    && let Expr::BinaryOp { left, right, .. } = taken(expr)
                {
                    *expr = call(function, vec![*left, *right]);
                }
            }
            Expr::Case { conditions, else_result, .. } => {
                conditions.iter_mut().for_each(|branch| integer(&mut branch.result));
                else_result.iter_mut().for_each(|e| integer(e));
            }
            Expr::Array(array) => array.elem.iter_mut().for_each(integer),
            Expr::IsNull(value) | Expr::IsNotNull(value) if matches!(value.as_ref(), Expr::Tuple(_) | Expr::Function(_)) => {
                let (value, negated) = (value.clone(), matches!(expr, Expr::IsNotNull(_)));
                if let Some(test) = operators::row_is_null(&value, negated) {
                    *expr = test;
                }
            }
            Expr::Function(_) => function(expr)?,
            Expr::Subquery(query) => subquery::scalar(query),
            Expr::Value(_) => number::beyond_decimal(expr),
            Expr::Identifier(id) if id.quote_style.is_none() => {
                let name = id.value.to_lowercase();
                if BARE.contains(&name.as_str()) {
                    *expr = call(&name, Vec::new());
                } else if self.relations.last().is_some_and(|r| r.contains(&name)) {
                    *expr = whole_row::reference(&name);
                } else if let Some(column) = self.rows.iter().rev().find_map(|r| r.get(&name)) {
                    *expr = Expr::CompoundIdentifier(vec![id.clone(), column.clone()]);
                } else if name == "xmin"
                    && let Some([Some(table)]) = self.scopes.last().map(|s| s.values().collect::<Vec<_>>()).as_deref()
                    && is_system(table)
                {
                    *expr = call("squilla_catalog_version", Vec::new());
                } else if name == "tableoid"
                    && let Some([Some(table)]) = self.scopes.last().map(|s| s.values().collect::<Vec<_>>()).as_deref()
                {
                    *expr = table_oid(table);
                }
            }
            Expr::CompoundIdentifier(ids) => {
                if let [.., alias, column] = ids.as_slice()
                    && folded(column) == "xmin"
                    && let Some(Some(table)) = self.scopes.iter().rev().find_map(|s| s.get(&folded(alias)))
                    && is_system(table)
                {
                    *expr = call("squilla_catalog_version", Vec::new());
                } else if let [.., alias, column] = ids.as_slice()
                    && folded(column) == "tableoid"
                    && let Some(Some(table)) = self.scopes.iter().rev().find_map(|s| s.get(&folded(alias)))
                {
                    *expr = table_oid(table);
                }
            }
            _ => return spelled(expr),
        }
        Ok(())
    }
}

/// Shapes with a syntax of their own.
fn spelled(expr: &mut Expr) -> Result<()> {
    let taken = |e: &mut Expr| std::mem::replace(e, Expr::value(Value::Null));
    match expr {
        // A slice without a bound reaches to the end.
        Expr::CompoundFieldAccess { access_chain, .. } => {
            let number = |n: i32| Expr::value(Value::Number(n.to_string(), false));
            for access in access_chain {
                if let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access {
                    lower_bound.get_or_insert_with(|| number(1));
                    upper_bound.get_or_insert_with(|| number(i32::MAX));
                }
            }
        }
        Expr::UnaryOp { op, expr: inner } => {
            if let Some(made) = operators::negative_interval(op, inner).or_else(|| number::unary(op, inner)) {
                *expr = made;
            }
        }
        Expr::Collate { expr: inner, collation } => {
            operators::collate(collation)?;
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
                *expr = call("timezone", vec![operators::offset(*time_zone), *timestamp]);
            }
        }
        Expr::Substring { substring_from, substring_for, .. } if substring_from.as_deref().is_none_or(|from| literal(from).is_none()) => {
            let from = substring_from.take().map_or_else(|| Expr::value(Value::Number("1".into(), false)), |e| *e);
            let count = substring_for.take().map(|e| *e);
            if let Expr::Substring { expr: value, .. } = taken(expr) {
                *expr = call("substr", [*value, from].into_iter().chain(count).collect());
            }
        }
        // A pattern, or a number of characters: the syntax does not tell text parameters from numbers, literals it does.
        Expr::Substring { substring_from: Some(_), substring_for: None, .. } => {
            if let Expr::Substring { expr: value, substring_from: Some(pattern), .. } = taken(expr) {
                *expr = call(regexp::SUBSTRING, vec![*value, *pattern]);
            }
        }
        Expr::SimilarTo { .. } => {
            if let Expr::SimilarTo { negated, expr: value, pattern, escape_char } = taken(expr) {
                *expr = similar(negated, *value, *pattern, escape_char);
            }
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => like(pattern, escape_char),
        Expr::Extract { .. } => {
            if let Expr::Extract { field, expr: value, .. } = taken(expr) {
                *expr = call(fields::EXTRACT, vec![text(field.to_string().trim_matches('\'').to_owned()), *value]);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Calls: schemas, names, types of results, and `ARRAY(SELECT ...)`.
fn function(expr: &mut Expr) -> Result<()> {
    set_in_list(expr);
    within_group(expr);
    if let Some(clock) = function_name(expr).and_then(|name| local_clock(&name)) {
        *expr = clock;
        return Ok(());
    }
    let Expr::Function(function) = expr else { return Ok(()) };
    strip_schema(&mut function.name);
    if let FunctionArguments::List(list) = &mut function.args {
        list.args.iter_mut().for_each(whole_row::argument);
        operators::named_arguments(&function.name, &mut list.args)?;
    }
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
    // Of a bigint or a numeric, as sums are.
    if let FunctionArguments::List(list) = &mut function.args
        && function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|id| folded(id) == "pg_size_pretty")
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(bytes))] = list.args.as_mut_slice()
    {
        let value = std::mem::replace(bytes, Expr::value(Value::Null));
        *bytes = cast(value, DataType::BigInt(None));
    }
    if let FunctionArguments::List(list) = &function.args
        && function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|id| folded(id) == "mod")
        && let Some([left, right]) = arguments(&list.args).and_then(|a| <[Expr; 2]>::try_from(a).ok())
    {
        let part = |e| Box::new(Expr::Nested(Box::new(e)));
        *expr = Expr::Nested(Box::new(Expr::BinaryOp { left: part(left), op: BinaryOperator::Modulo, right: part(right) }));
        return Ok(());
    }
    if json_array(expr) {
        return Ok(());
    }
    if let Some(joined) = expand_array::joined(expr) {
        *expr = joined;
        return Ok(());
    }
    let Expr::Function(function) = expr else { return Ok(()) };
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

/// `jsonb_agg(x)` is one JSON array of `array_agg(to_jsonb(x))`.
fn json_array(expr: &mut Expr) -> bool {
    let (whole, item) = match function_name(expr).as_deref() {
        Some("jsonb_agg") => (json::JOIN, "to_jsonb"),
        Some("json_agg") => (json::JOIN_TEXT, "to_json"),
        Some("jsonb_object_agg") => (json_edit::OBJECT_OF, "jsonb_build_array"),
        Some("json_object_agg") => (json_edit::TEXT_OBJECT_OF, "jsonb_build_array"),
        _ => return false,
    };
    let outside = whole;
    let mut whole = std::mem::replace(expr, Expr::value(Value::Null));
    if let Expr::Function(aggregate) = &mut whole {
        aggregate.name = ObjectName::from(vec![Ident::new("array_agg")]);
        if let FunctionArguments::List(list) = &mut aggregate.args
            && let Some(values) = arguments(&list.args)
        {
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(call(item, values)))];
        }
    }
    *expr = call(outside, vec![whole]);
    true
}

/// `percentile_cont(f) WITHIN GROUP (ORDER BY x)`: x becomes the first argument.
fn within_group(expr: &mut Expr) {
    let Some(behind) = function_name(expr).and_then(|name| ordered_aggregate::behind(&name)) else { return };
    let Expr::Function(function) = expr else { return };
    let ([order], FunctionArguments::List(list)) = (function.within_group.as_slice(), &mut function.args) else { return };
    let fraction = arguments(&list.args).and_then(|a| a.into_iter().next()).unwrap_or_else(|| Expr::value(Value::Number("0.0".into(), false)));
    let descending = Expr::value(Value::Boolean(order.options.asc == Some(false)));
    list.args = [order.expr.clone(), fraction, descending].into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    function.within_group = Vec::new();
    function.name = ObjectName::from(vec![Ident::new(behind)]);
}

/// What clocks of the session show at the start of the transaction.
fn local_clock(name: &str) -> Option<Expr> {
    let shown = || call("timezone", vec![call("current_setting", vec![text("timezone")]), call("now", Vec::new())]);
    match name {
        "localtimestamp" => Some(shown()),
        "localtime" => Some(cast(shown(), DataType::Time(None, sqlparser::ast::TimezoneInfo::None))),
        _ => None,
    }
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
        "transaction_timestamp" => "now",
        "statement_timestamp" => "clock_timestamp",
        _ => return None,
    })
}

/// Functions that SQL calls without parentheses.
const BARE: &[&str] = &["current_schema", "current_catalog", "current_user", "current_role", "session_user", "user"];

/// `SELECT 1`, to be filled.
pub fn empty_query() -> Result<Query> {
    let parsed = sqlparser::parser::Parser::parse_sql(&sqlparser::dialect::PostgreSqlDialect {}, "SELECT 1").map_err(crate::error::from_parser)?;
    match parsed.into_iter().next() {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(Error::internal("an empty query does not parse")),
    }
}

/// Whether a name is that of a system relation: its rows are as new as the catalog.
fn is_system(table: &ObjectName) -> bool {
    let parts = parts(table).unwrap_or_default();
    match parts.as_slice() {
        [name] => crate::system::shapes::find("pg_catalog", &name.to_lowercase()).is_some(),
        [.., schema, name] => crate::system::shapes::find(&schema.to_lowercase(), &name.to_lowercase()).is_some(),
        [] => false,
    }
}

fn table_oid(table: &ObjectName) -> Expr {
    cast(call("regclass", vec![text(table.to_string())]), DataType::BigInt(None))
}
