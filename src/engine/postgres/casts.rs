//! Casts and typed literals in the syntax tree.
//!
//! In: a value and the name of a type. Out: an expression that DataFusion plans to that type. Invariant: text is read as
//! PostgreSQL reads it, and text that cannot be read fails before anything runs. Deliberately absent: casts whose result
//! depends on the type of the value (`cast_rule`).

use sqlparser::ast::{ArrayElemTypeDef, DataType, DateTimeField, Expr, Interval, Value};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::{RegKind, SqlType};

use crate::postgres::syntax::{call, cast, literal, text};
use crate::postgres::type_planner::sql_type;
use crate::postgres::{cast as casts, datetime, interval, number};

/// `value::type`.
pub fn converted(value: Expr, data_type: DataType) -> Result<Expr> {
    let Some(ty) = sql_type(&data_type) else { return Ok(cast(value, data_type)) };
    let reg = |kind| match kind {
        RegKind::Class => "regclass",
        RegKind::Proc => "regproc",
        RegKind::Procedure => "regprocedure",
        RegKind::Type => "regtype",
        RegKind::Namespace => "regnamespace",
        RegKind::Role => "regrole",
    };
    Ok(match ty {
        SqlType::Reg(kind) => call(reg(kind), vec![value]),
        SqlType::Interval => match literal(&value) {
            Some(spelled) => written(interval::parse(spelled, None)?),
            None => call(casts::CAST, vec![value, text("interval")]),
        },
        SqlType::Vector
        | SqlType::Array(_)
        | SqlType::File
        | SqlType::Image
        | SqlType::Audio
        | SqlType::Tensor
        | SqlType::Box2d
        | SqlType::Json
        | SqlType::Jsonb
        | SqlType::Uuid
        | SqlType::Bytea
        | SqlType::Bit => {
            // Text is read by the type; NULL and parameters get the type from the cast itself.
            let untyped = matches!(&value, Expr::Value(v) if matches!(v.value, Value::Placeholder(_) | Value::Null));
            if untyped { cast(value, data_type) } else { call(casts::CAST, vec![value, text(data_type.to_string())]) }
        }
        // A number is read as a float from its digits, not by way of a decimal.
        SqlType::Float4 | SqlType::Float8 => match value {
            Expr::Value(v) => match v.value {
                Value::Number(digits, _) => cast(text(digits), data_type),
                other => cast(Expr::value(other), data_type),
            },
            value => cast(value, data_type),
        },
        // The scale of numeric without one follows from the value.
        SqlType::Numeric(None) => match (&value, literal(&value)) {
            (Expr::Value(v), _) if matches!(v.value, Value::Placeholder(_) | Value::Null) => cast(value, data_type),
            (_, Some(spelled)) => match plain_number(spelled) {
                Some(number) => Expr::value(Value::Number(number, false)),
                None => call(casts::CAST, vec![value, text("numeric")]),
            },
            _ => call(number::NUMERIC, vec![value]),
        },
        SqlType::Varchar(Some(n)) | SqlType::Char(Some(n)) => {
            let limit = Expr::value(Value::Number(n.to_string(), false));
            cast(call("left", vec![cast(value, DataType::Text), limit]), data_type)
        }
        SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz if literal(&value).is_some_and(|t| !t.to_lowercase().contains("infinity")) => {
            let moment = datetime::read(literal(&value).unwrap_or_default(), &ty)?;
            match (&ty, moment.offset) {
                (SqlType::Date, _) => cast(text(moment.local.format("%Y-%m-%d").to_string()), data_type),
                // Clocks of the session: its time zone is known when the cast is evaluated.
                (SqlType::Timestamptz, None) => call(casts::CAST, vec![value, text("timestamptz")]),
                (SqlType::Timestamptz, Some(offset)) => {
                    let utc = moment.local - chrono::TimeDelta::seconds(i64::from(offset));
                    cast(text(utc.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()), data_type)
                }
                _ => cast(text(moment.local.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()), data_type),
            }
        }
        SqlType::Timestamp | SqlType::Timestamptz | SqlType::Time => match literal(&value).and_then(with_seconds) {
            Some(spelled) => cast(text(spelled), data_type),
            None => cast(value, data_type),
        },
        SqlType::Bool => match literal(&value).map(|t| (t, squilla_core::settings::parse_bool(t.trim()))) {
            Some((_, Some(on))) => Expr::value(Value::Boolean(on)),
            Some((t, None)) => return Err(Error::new(Kind::InvalidText, format!("invalid input syntax for type boolean: \"{t}\""))),
            None => cast(value, data_type),
        },
        _ => cast(value, data_type),
    })
}

/// The type of an array literal without one: integers where all its elements are.
pub fn array_type(text: &str) -> Option<DataType> {
    let elements = crate::postgres::input::array_elements(text).ok()?;
    let integers = !elements.is_empty() && elements.iter().flatten().all(|e| e.parse::<i64>().is_ok());
    let element = if integers { DataType::BigInt(None) } else { DataType::Text };
    Some(DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(element), None)))
}

/// The digits of a literal that spells a decimal number with a point, as a literal of that scale.
fn plain_number(spelled: &str) -> Option<String> {
    let number = spelled.trim();
    let body = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = body.split_once('.')?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let fits = !number.starts_with('-') && digits(whole) && digits(fraction) && !fraction.is_empty() && whole.len() + fraction.len() <= 70;
    fits.then(|| if whole.is_empty() { format!("0.{fraction}") } else { number.to_owned() })
}

/// `value::type`, for a type that is known.
pub fn typed_cast(value: Expr, ty: &SqlType) -> Expr {
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    let spelled = crate::catalog::data::spelling(ty);
    let parsed = sqlparser::parser::Parser::new(&dialect).try_with_sql(&spelled).and_then(|mut p| p.parse_data_type());
    cast(value, parsed.unwrap_or(DataType::Text))
}

/// A time without seconds, with them; None where it has some or is no time.
fn with_seconds(spelled: &str) -> Option<String> {
    let colon = spelled.find(':')?;
    let minutes = spelled.get(colon + 1..colon + 3).filter(|m| m.bytes().all(|b| b.is_ascii_digit()))?;
    let rest = spelled.get(colon + 3..)?;
    let after_minutes = rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || "+-zZ".contains(c));
    after_minutes.then(|| format!("{}:{minutes}:00{rest}", spelled.get(..colon).unwrap_or("")))
}

/// An interval in words that DataFusion reads as PostgreSQL meant it.
fn written(parts: interval::Parts) -> Expr {
    let (seconds, rest) = (parts.nanos / 1_000_000_000, (parts.nanos % 1_000_000_000).unsigned_abs());
    let sign = if parts.nanos < 0 && seconds == 0 { "-" } else { "" };
    let words = format!("{} months {} days {sign}{seconds}.{rest:09} seconds", parts.months, parts.days);
    Expr::Interval(Interval {
        value: Box::new(text(words)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

/// `INTERVAL 'text' field` as an interval that needs no reading.
pub fn whole_interval(old: Interval) -> Result<Expr> {
    let unit = match &old.leading_field {
        None => None,
        Some(DateTimeField::Year | DateTimeField::Years) => Some("year"),
        Some(DateTimeField::Month | DateTimeField::Months) => Some("month"),
        Some(DateTimeField::Day | DateTimeField::Days) => Some("day"),
        Some(DateTimeField::Hour | DateTimeField::Hours) => Some("hour"),
        Some(DateTimeField::Minute | DateTimeField::Minutes) => Some("minute"),
        Some(DateTimeField::Second | DateTimeField::Seconds) => Some("second"),
        Some(_) => return Ok(Expr::Interval(old)),
    };
    // INTERVAL '1-2' YEAR TO MONTH: the literal carries its fields.
    let unit = if old.last_field.is_some() { None } else { unit };
    match literal(&old.value) {
        Some(spelled) => Ok(written(interval::parse(spelled, unit)?)),
        None => Ok(Expr::Interval(old)),
    }
}
