//! Values to JSON.
//!
//! In: a cell of any type. Out: the JSON value that `to_jsonb` gives. Invariant: numbers, booleans, arrays and composites
//! keep their structure; json and jsonb are taken over; everything else is its text. Deliberately absent: operators (`json`).

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde_json::{Map, Value};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::from_arrow;
use crate::postgres::{input, output};

/// The JSON value that a text spells.
pub fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Error::new(Kind::InvalidText, "invalid input syntax for type json").detail(format!("{e}.")))
}

/// The text of a jsonb value.
pub fn print(value: &Value) -> String {
    let mut out = String::new();
    input::jsonb(value, &mut out);
    out
}

/// The JSON value of one cell.
pub fn of_cell(source: &ArrayRef, row: usize, ty: &SqlType, zone: &str) -> Result<Value> {
    if source.is_null(row) || source.data_type() == &DataType::Null {
        return Ok(Value::Null);
    }
    let cast = |target: &DataType| arrow::compute::cast(&source.slice(row, 1), target).map_err(from_arrow);
    Ok(match ty {
        SqlType::Bool => Value::Bool(source.as_boolean().value(row)),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Oid => Value::from(cast(&DataType::Int64)?.as_primitive::<Int64Type>().value(0)),
        SqlType::Float4 | SqlType::Float8 | SqlType::Numeric(_) => {
            let text = output::text(source, row, ty, zone)?.unwrap_or_default();
            match serde_json::from_str(&text) {
                Ok(number @ Value::Number(_)) => number,
                // NaN and the infinities have no number in JSON.
                _ => serde_json::Number::from_f64(cast(&DataType::Float64)?.as_primitive::<Float64Type>().value(0))
                    .map_or(Value::from(text), Value::Number),
            }
        }
        SqlType::Json | SqlType::Jsonb => parse(cast(&DataType::Utf8)?.as_string::<i32>().value(0))?,
        SqlType::Timestamp | SqlType::Timestamptz => {
            let mut text = output::text(source, row, ty, zone)?.unwrap_or_default().replacen(' ', "T", 1);
            // ISO 8601 wants the minutes of an offset.
            if matches!(ty, SqlType::Timestamptz)
                && text.len().checked_sub(3).and_then(|at| text.as_bytes().get(at)).is_some_and(|c| b"+-".contains(c))
            {
                text.push_str(":00");
            }
            Value::from(text)
        }
        SqlType::Vector | SqlType::Array(_) => {
            let (values, element) = elements(source, row)?;
            (0..values.len()).map(|i| of_cell(&values, i, &element, zone)).collect::<Result<Vec<_>>>().map(Value::Array)?
        }
        SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d | SqlType::Record(_) => {
            let fields = source.as_struct_opt().ok_or_else(|| Error::internal("a composite that is no struct"))?;
            let mut object = Map::new();
            for (column, field) in fields.columns().iter().zip(fields.fields()) {
                object.insert(field.name().clone(), of_cell(column, row, &SqlType::of_field(field), zone)?);
            }
            Value::Object(object)
        }
        _ => output::text(source, row, ty, zone)?.map_or(Value::Null, Value::from),
    })
}

/// The text of one cell as json: fields in their order, numbers as they are spelled, json as it is.
pub fn write(source: &ArrayRef, row: usize, ty: &SqlType, zone: &str, out: &mut String) -> Result<()> {
    if source.is_null(row) || source.data_type() == &DataType::Null {
        out.push_str("null");
        return Ok(());
    }
    match ty {
        SqlType::Json | SqlType::Jsonb => out.push_str(&output::text(source, row, &SqlType::Text, zone)?.unwrap_or_default()),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Oid | SqlType::Numeric(_) | SqlType::Float4 | SqlType::Float8 => {
            let text = output::text(source, row, ty, zone)?.unwrap_or_default();
            let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !text.contains("Inf");
            out.push_str(&if plain { text } else { Value::from(text).to_string() });
        }
        SqlType::Vector | SqlType::Array(_) => {
            let (values, element) = elements(source, row)?;
            out.push('[');
            for at in 0..values.len() {
                out.push_str(if at > 0 { "," } else { "" });
                write(&values, at, &element, zone, out)?;
            }
            out.push(']');
        }
        SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor | SqlType::Box2d | SqlType::Record(_) => {
            let fields = source.as_struct_opt().ok_or_else(|| Error::internal("a composite that is no struct"))?;
            out.push('{');
            for (at, (column, field)) in fields.columns().iter().zip(fields.fields()).enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(&Value::from(field_name(field.name(), at)).to_string());
                out.push(':');
                write(column, row, &SqlType::of_field(field), zone, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&of_cell(source, row, ty, zone)?.to_string()),
    }
    Ok(())
}

/// Fields of a ROW have no names: they count from 1.
fn field_name(name: &str, at: usize) -> String {
    if name == format!("c{at}") { format!("f{}", at + 1) } else { name.to_owned() }
}

fn elements(source: &ArrayRef, row: usize) -> Result<(ArrayRef, SqlType)> {
    let values = match source.data_type() {
        DataType::List(_) => source.as_list::<i32>().value(row),
        DataType::LargeList(_) => source.as_list::<i64>().value(row),
        DataType::FixedSizeList(_, _) => source.as_fixed_size_list().value(row),
        other => return Err(Error::internal(format!("an array of Arrow type {other}"))),
    };
    let element = match source.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => SqlType::of_field(item),
        other => SqlType::of_arrow(other),
    };
    Ok((values, element))
}

/// The element or field that a step of a path means.
pub fn step<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(step),
        Value::Array(items) => item(items, step.parse().ok()?),
        _ => None,
    }
}

/// Items count from 0, or from the end below 0.
pub fn item(items: &[Value], at: i64) -> Option<&Value> {
    let at = if at < 0 { i64::try_from(items.len()).ok()?.checked_add(at)? } else { at };
    items.get(usize::try_from(at).ok()?)
}

/// `left @> right`.
pub fn contains(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => right.iter().all(|(key, value)| left.get(key).is_some_and(|own| contains(own, value))),
        (Value::Array(left), Value::Array(right)) => right.iter().all(|value| left.iter().any(|own| contains_inner(own, value))),
        // An array contains a scalar that is one of its items.
        (Value::Array(left), scalar) if !scalar.is_object() => left.iter().any(|own| equal(own, scalar)),
        (left, right) => equal(left, right),
    }
}

fn contains_inner(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => contains(left, right),
        _ => equal(left, right),
    }
}

/// 1 and 1.0 are one number.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || (l.as_f64().is_some() && l.as_f64() == r.as_f64()),
        _ => left == right,
    }
}

/// Whether a string is a key of an object or a string item of an array.
pub fn exists(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(key),
        Value::Array(items) => items.iter().any(|i| i.as_str() == Some(key)),
        Value::String(own) => own == key,
        _ => false,
    }
}

/// `jsonb_typeof`.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What `->>` gives: a string without quotes, NULL for null.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(print(other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn containment_is_postgresqls() {
        for (left, right, yes) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1}"#, true),
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":1}}"#, true),
            ("[1,2,3]", "[3,1]", true),
            ("[1,2]", "1", true),
            ("[[1]]", "[1]", false),
            ("[1,2]", "[1,2,3]", false),
            ("1", "1.0", true),
            (r#"{"a":1}"#, r#"["a"]"#, false),
        ] {
            assert_eq!(contains(&parse(left).unwrap(), &parse(right).unwrap()), yes, "{left} @> {right}");
        }
    }

    #[test]
    fn steps_count_from_both_ends() {
        let value = parse(r#"{"a":[10,20]}"#).unwrap();
        let list = step(&value, "a").unwrap();
        assert_eq!(step(list, "-1").unwrap(), 20);
        assert!(step(list, "2").is_none() && step(list, "x").is_none());
        assert_eq!(text(step(list, "0").unwrap()).unwrap(), "10");
    }
}
