//! Rows of VALUES that are nothing but literals and parameters, without a plan.
//!
//! In: an INSERT. Out: its rows in the order of the table's columns, or None when a value has to be computed. Invariant: a
//! value is one that the planner would have made of the same literal; what it becomes in the column is decided in one place for
//! both (`table::fit`). Why: planning and running a query costs more than storing a row. Deliberately absent: defaults other than
//! NULL, identity columns, strings that are read as rarer types.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use sqlparser::ast::{CastKind, DataType, Expr, Insert, SetExpr, UnaryOperator, Value};
use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::catalog::data::ColumnEntry;
use crate::command::insert::Bound;
use crate::error::{from_arrow, from_datafusion};

/// The value of a literal or parameter for a column of a type.
fn value(expr: &Expr, ty: &SqlType, parameters: &[ScalarValue], negative: bool) -> Option<ScalarValue> {
    match expr {
        Expr::Nested(inner) => value(inner, ty, parameters, negative),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if !negative => value(expr, ty, parameters, true),
        Expr::Value(given) => match &given.value {
            Value::Number(digits, false) => {
                // There is no negative zero among numerics.
                let signed = if negative && digits.contains(|c| matches!(c, '1'..='9')) { format!("-{digits}") } else { digits.clone() };
                match ty {
                    SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => signed.parse().ok().map(|n| ScalarValue::Int64(Some(n))),
                    // Read from its digits, as a numeric literal is.
                    SqlType::Float4 | SqlType::Float8 => Some(ScalarValue::Utf8(Some(signed))),
                    SqlType::Numeric(_) if !signed.contains(['e', 'E']) => Some(ScalarValue::Utf8(Some(signed))),
                    _ => None,
                }
            }
            _ if negative => None,
            Value::Null => Some(ScalarValue::Null),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => text_for(text, ty),
            Value::DollarQuotedString(text) => text_for(&text.value, ty),
            Value::Boolean(b) if *ty == SqlType::Bool => Some(ScalarValue::Boolean(Some(*b))),
            Value::Placeholder(name) => {
                let number: usize = name.strip_prefix('$')?.parse().ok()?;
                let given = parameters.get(number.checked_sub(1)?)?;
                (given.is_null() || given.data_type() == ty.arrow()).then(|| given.clone())
            }
            _ => None,
        },
        // `'2026-01-02'::date` for a column of that type.
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None, .. } if !negative && is_type(data_type, ty) => {
            match expr.as_ref() {
                Expr::Value(given) if matches!(given.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_)) => {
                    value(expr, ty, parameters, false)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a cast is to the type of the column, and one that changes nothing of a literal of it.
fn is_type(given: &DataType, ty: &SqlType) -> bool {
    !matches!(ty, SqlType::Varchar(_)) && SqlType::parse(&given.to_string()).as_ref() == Some(ty)
}

/// Text for a column: of types whose literals are read from text, and mean the same at any time (not `now` or `today`).
fn text_for(text: &str, ty: &SqlType) -> Option<ScalarValue> {
    let plain = match ty {
        SqlType::Text | SqlType::Varchar(_) | SqlType::Uuid | SqlType::Json | SqlType::Jsonb => true,
        SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz => text.starts_with(|c: char| c.is_ascii_digit()),
        SqlType::Numeric(_) | SqlType::Float8 => text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.'),
        _ => false,
    };
    plain.then(|| ScalarValue::Utf8(Some(text.to_owned())))
}

/// The values of one column as an array; None when they are of several types.
fn array(mut values: Vec<ScalarValue>, column: &ColumnEntry) -> Result<Option<ArrayRef>> {
    let ty = match values.iter().find(|v| !v.is_null()) {
        Some(value) => value.data_type(),
        None => column.sql_type()?.arrow(),
    };
    for value in &mut values {
        if value.is_null() {
            *value = ScalarValue::try_new_null(&ty).map_err(from_datafusion)?;
        } else if value.data_type() != ty {
            return Ok(None);
        }
    }
    ScalarValue::iter_to_array(values).map(Some).map_err(from_datafusion)
}

/// The rows of an INSERT that needs no plan.
pub fn rows(insert: &Insert, bound: &Bound, parameters: &[ScalarValue]) -> Result<Option<RecordBatch>> {
    let Some(query) = insert.source.as_ref().filter(|q| q.with.is_none() && q.order_by.is_none() && q.limit_clause.is_none() && q.fetch.is_none())
    else {
        return Ok(None);
    };
    let SetExpr::Values(given) = query.body.as_ref() else { return Ok(None) };
    let relation = &bound.target.relation;
    if bound.overriding.is_some() || given.rows.is_empty() || given.rows.iter().any(|row| row.len() != bound.columns.len()) {
        return Ok(None);
    }
    let (mut fields, mut arrays) = (Vec::with_capacity(relation.columns.len()), Vec::with_capacity(relation.columns.len()));
    for (position, column) in relation.columns.iter().enumerate() {
        let source = bound.columns.iter().position(|c| *c == position);
        if column.identity.is_some() || (source.is_none() && column.default.is_some()) {
            return Ok(None);
        }
        let ty = column.sql_type()?;
        let values = given.rows.iter().map(|row| match source {
            Some(index) => row.get(index).and_then(|expr| value(expr, &ty, parameters, false)),
            None => Some(ScalarValue::Null),
        });
        let Some(values) = values.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let Some(made) = array(values, column)? else { return Ok(None) };
        fields.push(Field::new(&column.name, made.data_type().clone(), true));
        arrays.push(made);
    }
    if arrays.is_empty() {
        return Ok(None);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map(Some).map_err(from_arrow)
}
