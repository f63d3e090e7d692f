//! Defaults of declared arguments, as AST and as values.

use datafusion::common::ScalarValue;
use sqlparser::ast;
use squilla_core::declaration::{Argument, Default};
use squilla_core::types::SqlType;

/// The default of an argument as an expression; NULL carries no type, the marker coerces it.
pub fn expression(argument: &Argument) -> ast::Expr {
    let value = match &argument.default {
        None | Some(Default::Null) => ast::Value::Null,
        Some(Default::Bool(b)) => ast::Value::Boolean(*b),
        Some(Default::Number(n)) => ast::Value::Number(n.clone(), false),
        Some(Default::Text(s)) => ast::Value::SingleQuotedString(s.clone()),
    };
    ast::Expr::Value(value.into())
}

/// The default of an argument as a value of the declared type.
pub fn scalar(argument: &Argument) -> ScalarValue {
    match &argument.default {
        Some(Default::Bool(b)) => ScalarValue::Boolean(Some(*b)),
        Some(Default::Text(s)) => ScalarValue::Utf8(Some(s.clone())),
        Some(Default::Number(n)) => match argument.ty {
            SqlType::Float4 | SqlType::Float8 => ScalarValue::Float64(n.parse().ok()),
            _ => ScalarValue::Int64(n.parse().ok()),
        },
        None | Some(Default::Null) => ScalarValue::try_from(&argument.ty.arrow()).unwrap_or(ScalarValue::Null),
    }
}
