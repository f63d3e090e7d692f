//! JSON values changed, merged and taken apart: `jsonb_set`, `||`, `-`, `#-`, `jsonb_pretty`, objects of arrays.
//!
//! In: JSON, paths, keys. Out: jsonb, or text. Invariant: what leaves here is printed as PostgreSQL prints it. Deliberately
//! absent: looking into values (`json`), and SQL/JSON paths (`json_path`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use serde_json::{Map, Value};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::json_value::{parse, print, step, text};
use crate::postgres::scalar::{Args, Scalar, Shape, is_text, untyped};
use crate::postgres::{input, output};

/// `||` of two jsonb values.
pub const CONCAT: &str = "jsonb_concat";
/// `-` with a key, a number or keys.
pub const DELETE: &str = "jsonb_delete";
/// `#-`.
pub const DELETE_PATH: &str = "jsonb_delete_path";
/// An object of an array of pairs.
pub const OBJECT_OF: &str = "squilla_jsonb_object_of";
/// The same, as json.
pub const TEXT_OBJECT_OF: &str = "squilla_json_object_of";

/// A JSON array as the text of an array of PostgreSQL.
pub const ARRAY_TEXT: &str = "squilla_json_array_text";

/// `[1, "a b", null]` as `{1,"a b",NULL}`; None for null.
fn array_text(value: &Value) -> Result<Option<String>> {
    let Value::Array(items) = value else {
        return if value.is_null() { Ok(None) } else { Err(Error::new(Kind::InvalidText, "expected JSON array")) };
    };
    let mut out = String::from("{");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        match item {
            Value::Null => out.push_str("NULL"),
            Value::Array(_) => out.push_str(&array_text(item)?.unwrap_or_default()),
            Value::String(s) => out.push_str(&quoted_element(s)),
            other => out.push_str(&quoted_element(&other.to_string())),
        }
    }
    out.push('}');
    Ok(Some(out))
}

fn quoted_element(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The elements of a text[] argument.
fn path(args: &Args<'_>, at: usize, row: usize) -> Result<Option<Vec<Option<String>>>> {
    let column = args.column(at)?;
    if column.is_null(row) {
        return Ok(None);
    }
    let spelled = output::text(column, row, &args.ty(at), args.zone)?;
    spelled.map(|t| input::array_elements(&t)).transpose()
}

/// The index that a step means in an array of this length: from the end below 0.
fn index(step: &str, length: usize) -> Result<i64> {
    let at: i64 = step.parse().map_err(|_| Error::new(Kind::InvalidText, format!("path element at position 1 is not an integer: \"{step}\"")))?;
    Ok(if at < 0 { at + length as i64 } else { at })
}

/// Puts `new` at a path; what is missing on the way stays missing.
fn set(target: &mut Value, path: &[String], new: &Value, create: bool) -> Result<()> {
    let [first, rest @ ..] = path else { return Ok(()) };
    match target {
        Value::Object(fields) => match fields.get_mut(first) {
            Some(field) if !rest.is_empty() => set(field, rest, new, create)?,
            Some(field) => field.clone_from(new),
            None if rest.is_empty() && create => {
                fields.insert(first.clone(), new.clone());
            }
            None => {}
        },
        Value::Array(items) => {
            let at = index(first, items.len())?;
            match usize::try_from(at).ok().and_then(|i| items.get_mut(i)) {
                Some(item) if !rest.is_empty() => set(item, rest, new, create)?,
                Some(item) => item.clone_from(new),
                None if rest.is_empty() && create => {
                    if at < 0 {
                        items.insert(0, new.clone())
                    } else {
                        items.push(new.clone())
                    }
                }
                None => {}
            }
        }
        _ => {}
    }
    Ok(())
}

fn insert(target: &mut Value, path: &[String], new: &Value, after: bool) -> Result<()> {
    let [first, rest @ ..] = path else { return Ok(()) };
    match target {
        Value::Object(fields) => match fields.get_mut(first) {
            Some(field) if !rest.is_empty() => insert(field, rest, new, after)?,
            Some(_) => {
                return Err(Error::invalid_argument("cannot replace existing key").hint("Try using the function jsonb_set to replace key value."));
            }
            None if rest.is_empty() => {
                fields.insert(first.clone(), new.clone());
            }
            None => {}
        },
        Value::Array(items) => {
            let at = index(first, items.len())?;
            if !rest.is_empty() {
                if let Some(item) = usize::try_from(at).ok().and_then(|i| items.get_mut(i)) {
                    insert(item, rest, new, after)?;
                }
                return Ok(());
            }
            let place = usize::try_from(at + i64::from(after)).unwrap_or(0).min(items.len());
            items.insert(place, new.clone());
        }
        _ => {}
    }
    Ok(())
}

fn remove(target: &mut Value, path: &[String]) -> Result<()> {
    let [first, rest @ ..] = path else { return Ok(()) };
    match target {
        Value::Object(fields) if rest.is_empty() => {
            fields.remove(first);
        }
        Value::Object(fields) => {
            if let Some(field) = fields.get_mut(first) {
                remove(field, rest)?;
            }
        }
        Value::Array(items) => {
            let at = index(first, items.len())?;
            if let Some(at) = usize::try_from(at).ok().filter(|at| *at < items.len()) {
                if rest.is_empty() {
                    items.remove(at);
                } else if let Some(item) = items.get_mut(at) {
                    remove(item, rest)?;
                }
            }
        }
        _ => return Err(Error::invalid_argument("cannot delete path in scalar")),
    }
    Ok(())
}

fn stripped(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(stripped);
        }
        Value::Array(items) => items.iter_mut().for_each(stripped),
        _ => {}
    }
}

/// `a || b`.
fn merged(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Object(mut left), Value::Object(right)) => {
            left.extend(right);
            Value::Object(left)
        }
        (Value::Array(mut left), Value::Array(right)) => {
            left.extend(right);
            Value::Array(left)
        }
        (Value::Array(mut left), other) => {
            left.push(other);
            Value::Array(left)
        }
        (other, Value::Array(right)) => Value::Array(std::iter::once(other).chain(right).collect()),
        (left, right) => Value::Array(vec![left, right]),
    }
}

fn sorted(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = fields.iter().collect();
    all.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
    all
}

/// `jsonb_pretty`: four blanks a level.
fn pretty(value: &Value, depth: usize, out: &mut String) {
    let margin = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&" ".repeat(depth * 4));
    };
    match value {
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, value)) in sorted(fields).into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                margin(out, depth + 1);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                pretty(value, depth + 1, out);
            }
            margin(out, depth);
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                margin(out, depth + 1);
                pretty(item, depth + 1, out);
            }
            margin(out, depth);
            out.push(']');
        }
        other => out.push_str(&print(other)),
    }
}

/// Runs `work` over rows whose arguments are all there.
fn each(args: &Args<'_>, mut work: impl FnMut(usize) -> Result<Option<String>>) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    for row in 0..args.rows {
        let null = args.columns.iter().any(|c| c.is_null(row) || c.data_type() == &DataType::Null);
        builder.append_option(if null { None } else { work(row)? });
    }
    Ok(Arc::new(builder.finish()))
}

fn known(path: Vec<Option<String>>) -> Result<Vec<String>> {
    path.into_iter().map(|p| p.ok_or_else(|| Error::new(Kind::NullNotAllowed, "path element at position 1 is null"))).collect()
}

fn changed(args: &Args<'_>, change: fn(&mut Value, &[String], &Value, bool) -> Result<()>, otherwise: bool) -> Result<ArrayRef> {
    let (targets, news) = (args.texts(0)?, args.texts(2)?);
    each(args, |row| {
        let Some(path) = path(args, 1, row)? else { return Ok(None) };
        let flag = match args.columns.get(3) {
            Some(column) => crate::postgres::function::value_at(column, row)? == crate::system::relation::Value::Bool(true),
            None => otherwise,
        };
        let mut target = parse(targets.value(row))?;
        change(&mut target, &known(path)?, &parse(news.value(row))?, flag)?;
        Ok(Some(print(&target)))
    })
}

fn delete(args: &Args<'_>) -> Result<ArrayRef> {
    let targets = args.texts(0)?;
    let by_number = args.column(1)?.data_type().is_integer();
    let many = !by_number && !is_text(args.column(1)?.data_type());
    each(args, |row| {
        let mut target = parse(targets.value(row))?;
        if by_number {
            let Value::Array(items) = &mut target else {
                return Err(Error::invalid_argument("cannot delete from object using integer index"));
            };
            let at = args.ints(1)?.value(row);
            let at = if at < 0 { at + items.len() as i64 } else { at };
            if let Some(at) = usize::try_from(at).ok().filter(|at| *at < items.len()) {
                items.remove(at);
            }
            return Ok(Some(print(&target)));
        }
        let keys: Vec<String> = match many {
            true => path(args, 1, row)?.unwrap_or_default().into_iter().flatten().collect(),
            false => vec![args.texts(1)?.value(row).to_owned()],
        };
        match &mut target {
            Value::Object(fields) => fields.retain(|k, _| !keys.contains(k)),
            Value::Array(items) => items.retain(|i| !i.as_str().is_some_and(|s| keys.iter().any(|k| k == s))),
            _ => return Err(Error::invalid_argument("cannot delete from scalar")),
        }
        Ok(Some(print(&target)))
    })
}

/// `jsonb_extract_path(value, step, ...)`.
fn extracted(args: &Args<'_>, as_text: bool) -> Result<ArrayRef> {
    let values = args.texts(0)?;
    let steps = (1..args.columns.len()).map(|at| args.texts(at)).collect::<Result<Vec<StringArray>>>()?;
    each(args, |row| {
        let value = parse(values.value(row))?;
        let found = steps.iter().try_fold(&value, |value, own| step(value, own.value(row)));
        Ok(found.and_then(|v| if as_text { text(v) } else { Some(print(v)) }))
    })
}

/// `json_object(text[])` of pairs, or `json_object(keys, values)`.
fn of_texts(args: &Args<'_>) -> Result<ArrayRef> {
    each(args, |row| {
        let first = path(args, 0, row)?.unwrap_or_default();
        let pairs: Vec<(Option<String>, Option<String>)> = match args.columns.len() {
            1 if !first.len().is_multiple_of(2) => return Err(Error::new(Kind::ArraySubscript, "array must have even number of elements")),
            1 => first.chunks(2).map(|pair| (pair.first().cloned().flatten(), pair.get(1).cloned().flatten())).collect(),
            _ => {
                let second = path(args, 1, row)?.unwrap_or_default();
                if first.len() != second.len() {
                    return Err(Error::new(Kind::ArraySubscript, "mismatched array dimensions"));
                }
                first.into_iter().zip(second).collect()
            }
        };
        let mut fields = Map::new();
        for (key, value) in pairs {
            let key = key.ok_or_else(|| Error::new(Kind::NullNotAllowed, "null value not allowed for object key"))?;
            fields.insert(key, value.map_or(Value::Null, Value::from));
        }
        Ok(Some(print(&Value::Object(fields))))
    })
}

/// An array of pairs, each a JSON array, as one object.
fn of_pairs(args: &Args<'_>, spaced: bool) -> Result<ArrayRef> {
    each(args, |row| {
        let Some(pairs) = path(args, 0, row)? else { return Ok(None) };
        let mut parts = Vec::new();
        let mut fields = Map::new();
        for pair in pairs.into_iter().flatten() {
            let Value::Array(pair) = parse(&pair)? else { return Err(Error::internal("a pair was expected")) };
            let [key, value] = pair.as_slice() else { return Err(Error::internal("a pair was expected")) };
            let key = text(key).ok_or_else(|| Error::invalid_argument("field name must not be null"))?;
            parts.push(format!("{} : {}", Value::from(key.as_str()), value));
            fields.insert(key, value.clone());
        }
        Ok(Some(if spaced { format!("{{ {} }}", parts.join(", ")) } else { print(&Value::Object(fields)) }))
    })
}

fn json_and(types: &[DataType], counts: std::ops::RangeInclusive<usize>) -> Option<Vec<DataType>> {
    (counts.contains(&types.len()) && types.first().is_some_and(untyped)).then(|| types.to_vec())
}

fn texts(types: &[DataType]) -> Option<Vec<DataType>> {
    (!types.is_empty() && types.iter().all(untyped)).then(|| vec![DataType::Utf8; types.len()])
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let make = |name, aliases, takes, run| Scalar {
        name,
        aliases,
        volatility: Volatility::Immutable,
        takes,
        returns: |_: &Shape<'_>| Some(SqlType::Jsonb.field("")),
        run,
    };
    let a_text = |_: &Shape<'_>| Some(Field::new("", DataType::Utf8, true));
    let json = |_: &Shape<'_>| Some(SqlType::Json.field(""));
    let any: fn(&[DataType]) -> Option<Vec<DataType>> = |t| (!t.is_empty()).then(|| t.to_vec());
    [
        make("jsonb_set", &[], |t| json_and(t, 3..=4), |a| changed(a, set, true)),
        make("jsonb_insert", &[], |t| json_and(t, 3..=4), |a| changed(a, insert, false)),
        make(DELETE, &[], |t| json_and(t, 2..=2), delete),
        make(
            DELETE_PATH,
            &[],
            |t| json_and(t, 2..=2),
            |a| {
                let targets = a.texts(0)?;
                each(a, |row| {
                    let mut target = parse(targets.value(row))?;
                    remove(&mut target, &known(path(a, 1, row)?.unwrap_or_default())?)?;
                    Ok(Some(print(&target)))
                })
            },
        ),
        make(
            CONCAT,
            &[],
            |t| json_and(t, 2..=2),
            |a| {
                let (left, right) = (a.texts(0)?, a.texts(1)?);
                each(a, |row| Ok(Some(print(&merged(parse(left.value(row))?, parse(right.value(row))?)))))
            },
        ),
        make(
            "jsonb_strip_nulls",
            &["json_strip_nulls"],
            |t| json_and(t, 1..=1),
            |a| {
                let values = a.texts(0)?;
                each(a, |row| {
                    let mut value = parse(values.value(row))?;
                    stripped(&mut value);
                    Ok(Some(print(&value)))
                })
            },
        ),
        Scalar {
            returns: a_text,
            ..make(
                "jsonb_pretty",
                &[],
                |t| json_and(t, 1..=1),
                |a| {
                    let values = a.texts(0)?;
                    each(a, |row| {
                        let mut out = String::new();
                        pretty(&parse(values.value(row))?, 0, &mut out);
                        Ok(Some(out))
                    })
                },
            )
        },
        make("jsonb_extract_path", &["json_extract_path"], texts, |a| extracted(a, false)),
        Scalar { returns: a_text, ..make("jsonb_extract_path_text", &["json_extract_path_text"], texts, |a| extracted(a, true)) },
        Scalar {
            returns: a_text,
            ..make(
                ARRAY_TEXT,
                &[],
                |t| json_and(t, 1..=1),
                |a| {
                    let values = a.texts(0)?;
                    each(a, |row| {
                        if values.is_null(row) {
                            return Ok(None);
                        }
                        array_text(&parse(values.value(row))?)
                    })
                },
            )
        },
        make("jsonb_object", &["json_object"], any, of_texts),
        make(OBJECT_OF, &[], any, |a| of_pairs(a, false)),
        Scalar { returns: json, ..make(TEXT_OBJECT_OF, &[], any, |a| of_pairs(a, true)) },
    ]
    .map(Scalar::udf)
    .into()
}
