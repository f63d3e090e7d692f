//! `x = ANY($1)`: a parameter whose type follows from what it is compared with.
//!
//! In: a parameter without a type on the right of ANY or ALL. Out: the same parameter as an array of the left side's type.
//! Invariant: a type that the client declared stays. Deliberately absent: parameters in other places, which DataFusion types.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, ExprSchemable};
use sqlparser::ast::{self, BinaryOperator, Value};
use squilla_core::types::SqlType;

/// Stands between the left side and the parameter until their types are known; no SQL text can spell it.
const MARK: &str = "\u{1}array_of";

/// Marks the parameter on the right of `left = ANY(right)`.
pub fn mark(left: &ast::Expr, right: &mut ast::Expr) {
    let parameter = match &*right {
        ast::Expr::Value(v) if matches!(v.value, Value::Placeholder(_)) => right.clone(),
        _ => return,
    };
    *right = ast::Expr::BinaryOp { left: Box::new(left.clone()), op: BinaryOperator::Custom(MARK.into()), right: Box::new(parameter) };
}

/// The parameter with its type; None for other operators.
pub fn plan(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    if !matches!(op, BinaryOperator::Custom(mark) if mark == MARK) {
        return Ok(None);
    }
    let mut right = right.clone();
    if let Expr::Placeholder(placeholder) = &mut right
        && placeholder.field.is_none()
    {
        let (_, element) = left.to_field(schema)?;
        let ty = match SqlType::of_field(&element) {
            // A literal without a type of its own.
            SqlType::Unknown => SqlType::Text,
            known => known,
        };
        let item = Arc::new(ty.field("item"));
        placeholder.field = Some(Arc::new(Field::new("", DataType::List(item), true)));
    }
    Ok(Some(right))
}
