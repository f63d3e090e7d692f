//! SQL/JSON paths: `jsonb_path_query` and its kin, `@?` and `@@`.
//!
//! In: a JSON value, a path such as `$.a[*] ? (@.b > 1)`, variables. Out: the values that it selects. Invariant: in lax mode
//! (the default) arrays are opened where a member is asked for, and what is missing selects nothing; in strict mode it is an
//! error. Deliberately absent: datetime methods, `like_regex` flags other than i, and numbers beyond double precision.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBuilder, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use serde_json::Value;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::json_path_parser::{Access, Expr, Operator, Path, parse as parse_path};
use crate::postgres::json_value::{kind, parse, print};
use crate::postgres::scalar::{Args, Scalar, Shape, untyped};

/// The values that a path selects, as an array: what `jsonb_path_query` unnests.
pub const QUERY: &str = "squilla_json_path_query";

struct Work<'a> {
    root: &'a Value,
    variables: &'a Value,
    strict: bool,
}

fn missing(message: impl Into<String>) -> Error {
    Error::new(Kind::JsonPath, message)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// A number of the least digits.
fn of_number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        Value::from(value as i64)
    } else {
        serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

impl Work<'_> {
    fn values(&self, expr: &Expr, current: &Value) -> Result<Vec<Value>> {
        Ok(match expr {
            Expr::Root => vec![self.root.clone()],
            Expr::Current => vec![current.clone()],
            Expr::Literal(value) => vec![value.clone()],
            Expr::Last => return Err(Error::new(Kind::Syntax, "LAST is allowed only in array subscripts")),
            Expr::Variable(name) => match self.variables.get(name) {
                Some(value) => vec![value.clone()],
                None => return Err(Error::new(Kind::UndefinedObject, format!("could not find jsonpath variable \"{name}\""))),
            },
            Expr::Access(base, access) => {
                let mut out = Vec::new();
                for value in self.values(base, current)? {
                    self.access(&value, access, &mut out)?;
                }
                out
            }
            Expr::Negative(inner) => self.numbers(inner, current)?.into_iter().map(|n| of_number(-n)).collect(),
            Expr::Binary(left, op, right) if op.is_arithmetic() => {
                let (left, right) = (self.numbers(left, current)?, self.numbers(right, current)?);
                let ([left], [right]) = (left.as_slice(), right.as_slice()) else {
                    return Err(missing("operand of a jsonpath operator is not a single numeric value"));
                };
                if *right == 0.0 && matches!(op, Operator::Divide | Operator::Modulo) {
                    return Err(Error::new(Kind::DivisionByZero, "division by zero"));
                }
                vec![of_number(match op {
                    Operator::Plus => left + right,
                    Operator::Minus => left - right,
                    Operator::Multiply => left * right,
                    Operator::Divide => left / right,
                    _ => left % right,
                })]
            }
            predicate => vec![self.test(predicate, current)?.map_or(Value::Null, Value::Bool)],
        })
    }

    fn numbers(&self, expr: &Expr, current: &Value) -> Result<Vec<f64>> {
        let values = self.opened(self.values(expr, current)?);
        values.iter().map(|v| number(v).ok_or_else(|| missing("operand of a jsonpath operator is not a numeric value"))).collect()
    }

    /// In lax mode the items of arrays stand for the arrays.
    fn opened(&self, values: Vec<Value>) -> Vec<Value> {
        if self.strict {
            return values;
        }
        values.into_iter().flat_map(|v| if let Value::Array(items) = v { items } else { vec![v] }).collect()
    }

    fn access(&self, value: &Value, access: &Access, out: &mut Vec<Value>) -> Result<()> {
        match (access, value) {
            (Access::Member(_) | Access::AnyMember, Value::Array(items)) if !self.strict => {
                for item in items.iter().filter(|i| !i.is_array()) {
                    self.access(item, access, out)?;
                }
            }
            (Access::Member(name), Value::Object(fields)) => match fields.get(name) {
                Some(field) => out.push(field.clone()),
                None if self.strict => return Err(missing(format!("JSON object does not contain key \"{name}\""))),
                None => {}
            },
            (Access::AnyMember, Value::Object(fields)) => out.extend(fields.values().cloned()),
            (Access::Member(_) | Access::AnyMember, _) if self.strict => {
                return Err(missing("jsonpath member accessor can only be applied to an object"));
            }
            (Access::Member(_) | Access::AnyMember, _) => {}
            (Access::AnyItem, Value::Array(items)) => out.extend(items.iter().cloned()),
            (Access::AnyItem, _) if self.strict => return Err(missing("jsonpath wildcard array accessor can only be applied to an array")),
            (Access::AnyItem, other) => out.push(other.clone()),
            (Access::Deep, value) => {
                out.push(value.clone());
                match value {
                    Value::Array(items) => items.iter().try_for_each(|i| self.access(i, access, out))?,
                    Value::Object(fields) => fields.values().try_for_each(|f| self.access(f, access, out))?,
                    _ => {}
                }
            }
            (Access::Items(ranges), value) => self.items(value, ranges, out)?,
            (Access::Filter(predicate), value) => {
                for item in self.opened(vec![value.clone()]) {
                    if self.test(predicate, &item)? == Some(true) {
                        out.push(item);
                    }
                }
            }
            (Access::Method(name), value) => self.method(name, value, out)?,
        }
        Ok(())
    }

    fn items(&self, value: &Value, ranges: &[(Expr, Option<Expr>)], out: &mut Vec<Value>) -> Result<()> {
        let single = [value.clone()];
        let items: &[Value] = match value {
            Value::Array(items) => items,
            _ if self.strict => return Err(missing("jsonpath array accessor can only be applied to an array")),
            _ => &single,
        };
        // `last` is the number of the last item.
        let last = Value::from(items.len() as i64 - 1);
        let place = |expr: &Expr| -> Result<i64> {
            let value = if matches!(expr, Expr::Last) {
                last.clone()
            } else {
                self.values(&expr.with_last(&last), value)?.into_iter().next().unwrap_or_default()
            };
            number(&value).map(|n| n.trunc() as i64).ok_or_else(|| missing("jsonpath array subscript is not a single numeric value"))
        };
        for (from, to) in ranges {
            let first = place(from)?;
            let end = to.as_ref().map_or(Ok(first), &place)?;
            if self.strict && (first < 0 || end >= items.len() as i64) {
                return Err(missing("jsonpath array subscript is out of bounds"));
            }
            out.extend((first.max(0)..=end.min(items.len() as i64 - 1)).filter_map(|i| items.get(usize::try_from(i).ok()?).cloned()));
        }
        Ok(())
    }

    fn method(&self, name: &str, value: &Value, out: &mut Vec<Value>) -> Result<()> {
        let numeric = |f: fn(f64) -> f64| {
            number(value)
                .map(|n| of_number(f(n)))
                .ok_or_else(|| missing(format!("jsonpath item method .{name}() can only be applied to a numeric value")))
        };
        match (name, value) {
            ("type", value) => out.push(Value::from(kind(value))),
            ("size", Value::Array(items)) => out.push(Value::from(items.len())),
            ("size", _) if self.strict => return Err(missing("jsonpath item method .size() can only be applied to an array")),
            ("size", _) => out.push(Value::from(1)),
            (_, Value::Array(items)) if !self.strict => items.iter().try_for_each(|item| self.method(name, item, out))?,
            ("abs", _) => out.push(numeric(f64::abs)?),
            ("ceiling", _) => out.push(numeric(f64::ceil)?),
            ("floor", _) => out.push(numeric(f64::floor)?),
            ("double", Value::String(text)) => {
                let value = text.trim().parse::<f64>().map_err(|_| {
                    missing("string argument of jsonpath item method .double() is not a valid representation of a double precision number")
                })?;
                out.push(of_number(value));
            }
            ("double", _) => out.push(numeric(|n| n)?),
            ("keyvalue", Value::Object(fields)) => {
                out.extend(fields.iter().map(|(key, value)| serde_json::json!({ "id": 0, "key": key, "value": value })));
            }
            _ => return Err(missing(format!("jsonpath item method .{name}() can only be applied to an object"))),
        }
        Ok(())
    }

    /// A predicate: None is unknown.
    fn test(&self, expr: &Expr, current: &Value) -> Result<Option<bool>> {
        Ok(match expr {
            Expr::Not(inner) => self.test(inner, current)?.map(|v| !v),
            Expr::Binary(left, Operator::And, right) => match (self.test(left, current)?, self.test(right, current)?) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expr::Binary(left, Operator::Or, right) => match (self.test(left, current)?, self.test(right, current)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Expr::Exists(inner) => self.values(inner, current).ok().map(|v| !v.is_empty()),
            Expr::Unknown(inner) => Some(self.test(inner, current)?.is_none()),
            Expr::StartsWith(left, prefix) => self.any(left, current, |v| v.as_str().map(|s| s.starts_with(prefix.as_str()))),
            Expr::LikeRegex(left, regex) => self.any(left, current, |v| v.as_str().map(|s| regex.is_match(s))),
            Expr::Binary(left, op, right) if op.compares() => {
                let (Ok(left), Ok(right)) = (self.values(left, current), self.values(right, current)) else { return Ok(None) };
                let (left, right) = (self.opened(left), self.opened(right));
                let mut unknown = false;
                for l in &left {
                    for r in &right {
                        match op.holds(l, r) {
                            Some(true) => return Ok(Some(true)),
                            None => unknown = true,
                            Some(false) => {}
                        }
                    }
                }
                if unknown { None } else { Some(false) }
            }
            other => match self.values(other, current)?.as_slice() {
                [Value::Bool(value)] => Some(*value),
                _ => None,
            },
        })
    }

    fn any(&self, expr: &Expr, current: &Value, holds: impl Fn(&Value) -> Option<bool>) -> Option<bool> {
        let values = self.opened(self.values(expr, current).ok()?);
        let mut unknown = false;
        for value in &values {
            match holds(value) {
                Some(true) => return Some(true),
                None => unknown = true,
                Some(false) => {}
            }
        }
        if unknown { None } else { Some(false) }
    }
}

fn select(path: &Path, value: &Value, variables: &Value, silent: bool) -> Result<Vec<Value>> {
    let work = Work { root: value, variables, strict: path.strict };
    match work.values(&path.expr, value) {
        Err(error) if silent && error.kind == Kind::JsonPath => Ok(Vec::new()),
        other => other,
    }
}

/// Runs `each` over the selected values of every row; NULL where an argument is.
fn rows(args: &Args<'_>, silent: bool, mut each: impl FnMut(Option<Vec<Value>>) -> Result<()>) -> Result<()> {
    let (values, paths) = (args.texts(0)?, args.texts(1)?);
    let variables = if args.columns.len() > 2 { Some(args.texts(2)?) } else { None };
    let quiet = if args.columns.len() > 3 { Some(crate::postgres::scalar::cast(args.column(3)?, &DataType::Boolean)?) } else { None };
    let mut known: Option<(String, Path)> = None;
    for row in 0..args.rows {
        if values.is_null(row) || paths.is_null(row) || variables.as_ref().is_some_and(|v| v.is_null(row)) {
            each(None)?;
            continue;
        }
        let text = paths.value(row);
        if known.as_ref().is_none_or(|(t, _)| t != text) {
            known = Some((text.to_owned(), parse_path(text)?));
        }
        let Some((_, path)) = &known else { continue };
        let variables = variables.as_ref().map_or(Ok(Value::Null), |v| parse(v.value(row)))?;
        let quiet = quiet.as_ref().is_some_and(|q| q.is_valid(row) && arrow::array::AsArray::as_boolean(q).value(row));
        each(Some(select(path, &parse(values.value(row))?, &variables, silent || quiet)?))?;
    }
    Ok(())
}

fn query(args: &Args<'_>) -> Result<ArrayRef> {
    let item = SqlType::Jsonb.field("item");
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(item);
    rows(args, false, |found| {
        let some = found.is_some();
        found.into_iter().flatten().for_each(|v| builder.values().append_value(print(&v)));
        builder.append(some);
        Ok(())
    })?;
    Ok(Arc::new(builder.finish()))
}

fn texts(args: &Args<'_>, shown: fn(Vec<Value>) -> Option<Value>) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    rows(args, false, |found| {
        builder.append_option(found.and_then(shown).map(|v| print(&v)));
        Ok(())
    })?;
    Ok(Arc::new(builder.finish()))
}

fn tests(args: &Args<'_>, silent: bool, shown: fn(Vec<Value>) -> Option<bool>) -> Result<ArrayRef> {
    let mut builder = BooleanBuilder::new();
    rows(args, silent, |found| {
        builder.append_option(found.and_then(shown));
        Ok(())
    })?;
    Ok(Arc::new(builder.finish()))
}

fn truth(found: Vec<Value>) -> Option<bool> {
    match found.as_slice() {
        [Value::Bool(value)] => Some(*value),
        _ => None,
    }
}

fn takes(types: &[DataType]) -> Option<Vec<DataType>> {
    let fits = (2..=4).contains(&types.len()) && types.iter().take(3).all(untyped);
    fits.then(|| types.iter().enumerate().map(|(i, _)| if i == 3 { DataType::Boolean } else { DataType::Utf8 }).collect())
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let make = |name, returns, run| Scalar { name, aliases: &[], volatility: Volatility::Immutable, takes, returns, run };
    let one = |_: &Shape<'_>| Some(SqlType::Jsonb.field(""));
    let yes = |_: &Shape<'_>| Some(Field::new("", DataType::Boolean, true));
    [
        make(QUERY, |_: &Shape<'_>| Some(SqlType::Array(Box::new(SqlType::Jsonb)).field("")), query),
        make("jsonb_path_query_array", one, |a| texts(a, |found| Some(Value::Array(found)))),
        make("jsonb_path_query_first", one, |a| texts(a, |found| found.into_iter().next())),
        make("jsonb_path_exists", yes, |a| tests(a, false, |found| Some(!found.is_empty()))),
        make("jsonb_path_match", yes, |a| tests(a, false, truth)),
        make("jsonb_path_exists_opr", yes, |a| tests(a, true, |found| Some(!found.is_empty()))),
        make("jsonb_path_match_opr", yes, |a| tests(a, true, truth)),
    ]
    .map(Scalar::udf)
    .into()
}
