//! Literals and parameters without a type of their own, which take that of what stands beside them.
//!
//! In: `x = ANY($1)`, `coalesce(x, '{}')`, `CASE WHEN c THEN x ELSE '1 day' END`. Out: the parameter as an array of the type of
//! x, the literal as a value of the type of x. Invariants: a type that was declared stays; text that cannot be read is
//! refused when the statement is planned. Deliberately absent: places where DataFusion finds the type by itself.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, ExprSchemable};
use sqlparser::ast::{self, BinaryOperator, FunctionArg, FunctionArgExpr, FunctionArguments, Value, visit_expressions};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::postgres::input;
use crate::postgres::syntax::{function_name, literal};

/// Stands between the left side and the parameter until their types are known; no SQL text can spell it.
const ARRAY_OF: &str = "\u{1}array_of";
/// Stands between an expression and the literal that takes its type.
const LIKE: &str = "\u{1}typed_like";
/// Functions whose arguments have one type.
const OF_ONE_TYPE: &[&str] = &["coalesce", "nullif", "greatest", "least"];

/// A value is planned again for each literal beside it: one that has more such values within itself is not taken as a model.
const NESTED_MAX: usize = 1;

fn marked(left: &ast::Expr, mark: &str, right: &ast::Expr) -> ast::Expr {
    ast::Expr::BinaryOp { left: Box::new(left.clone()), op: BinaryOperator::Custom(mark.into()), right: Box::new(right.clone()) }
}

/// Marks the parameter on the right of `left = ANY(right)`.
pub fn mark_array(left: &ast::Expr, right: &mut ast::Expr) {
    if matches!(&*right, ast::Expr::Value(v) if matches!(v.value, Value::Placeholder(_))) {
        *right = marked(left, ARRAY_OF, right);
    }
}

/// Marks the literals among values of one type.
fn mark_like<'a>(values: impl Iterator<Item = &'a mut ast::Expr>) {
    let values: Vec<&mut ast::Expr> = values.collect();
    let plain = |e: &ast::Expr| {
        let mut nested = 0;
        let _ = visit_expressions(e, |e| {
            let like_this = matches!(e, ast::Expr::Case { .. } | ast::Expr::Subquery(_))
                || function_name(e).is_some_and(|name| OF_ONE_TYPE.contains(&name.as_str()));
            nested += usize::from(like_this);
            ControlFlow::<()>::Continue(())
        });
        !matches!(e, ast::Expr::Value(_)) && literal(e).is_none() && nested <= NESTED_MAX
    };
    let Some(model) = values.iter().find(|e| plain(e)).map(|e| (**e).clone()) else { return };
    for value in values {
        if literal(value).is_some() {
            *value = marked(&model, LIKE, value);
        }
    }
}

/// Marks the literals in what gives one of its values.
pub fn mark(expr: &mut ast::Expr) {
    match expr {
        ast::Expr::Case { conditions, else_result, .. } => {
            mark_like(conditions.iter_mut().map(|c| &mut c.result).chain(else_result.as_deref_mut()));
        }
        ast::Expr::Function(_) if function_name(expr).is_some_and(|name| OF_ONE_TYPE.contains(&name.as_str())) => {
            let ast::Expr::Function(function) = expr else { return };
            let FunctionArguments::List(list) = &mut function.args else { return };
            mark_like(list.args.iter_mut().filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
                _ => None,
            }));
        }
        _ => {}
    }
}

/// What a mark stands for; None for other operators.
pub fn plan(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    match op {
        BinaryOperator::Custom(mark) if mark == ARRAY_OF => array_of(left, right, schema).map(Some),
        BinaryOperator::Custom(mark) if mark == LIKE => Ok(Some(as_other(right, left, schema)?.unwrap_or_else(|| right.clone()))),
        _ => Ok(None),
    }
}

fn array_of(left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionResult<Expr> {
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
    Ok(right)
}

/// A string literal as a value of the other expression's type, where DataFusion would not read it as one.
pub fn as_other(value: &Expr, other: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    let Expr::Literal(scalar, metadata) = value else { return Ok(None) };
    let Some(Some(text)) = scalar.try_as_str() else { return Ok(None) };
    let Ok((_, field)) = other.to_field(schema) else { return Ok(None) };
    let ty = SqlType::of_field(&field);
    let read_here = matches!(
        ty,
        SqlType::Array(_) | SqlType::Vector | SqlType::Bytea | SqlType::Uuid | SqlType::Bool | SqlType::Interval | SqlType::Date | SqlType::Time
    );
    if !read_here {
        return Ok(None);
    }
    let source = Arc::new(StringArray::from(vec![text])) as arrow::array::ArrayRef;
    let array = input::convert(&source, &ty, None).map_err(to_datafusion)?;
    let array = arrow::compute::cast(&array, field.data_type())?;
    Ok(Some(Expr::Literal(ScalarValue::try_from_array(&array, 0)?, metadata.clone())))
}
