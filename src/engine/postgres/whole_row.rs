//! A table's name where a value stands: the whole row as a composite.
//!
//! In: `row_to_json(t)`, `SELECT t`. Out: the columns of t as one record. Invariant: a column of that name wins; a row of
//! NULLs alone, as an outer join makes it, is NULL. Deliberately absent: rows of tables further out.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ScalarUDF, Volatility};
use sqlparser::ast::{self, BinaryOperator};
use squilla_core::error::{Error, Kind, Result};

use crate::error::{from_arrow, to_datafusion};
use crate::postgres::scalar::{Args, Scalar, Shape};
use crate::postgres::syntax::text;

/// Stands between the name of a table and NULL until the columns are known; no SQL text can spell it.
const MARK: &str = "\u{1}row";

/// The name of a table as a value.
pub fn reference(name: &str) -> ast::Expr {
    let null = ast::Expr::value(ast::Value::Null);
    ast::Expr::BinaryOp { left: Box::new(text(name)), op: BinaryOperator::Custom(MARK.into()), right: Box::new(null) }
}

/// `f(t.*)`: the row of t as an argument.
pub fn argument(argument: &mut ast::FunctionArg) {
    if let ast::FunctionArg::Unnamed(arg @ ast::FunctionArgExpr::QualifiedWildcard(_)) = argument
        && let ast::FunctionArgExpr::QualifiedWildcard(name) = &*arg
        && let [ast::ObjectNamePart::Identifier(table)] = name.0.as_slice()
    {
        *arg = ast::FunctionArgExpr::Expr(reference(&crate::postgres::syntax::folded(table)));
    }
}

static RECORD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(udf()));

fn record(args: &Args<'_>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = args.returns else { return Err(Error::internal("a record is a struct")) };
    let known = |row: usize| args.columns.iter().any(|c| c.is_valid(row));
    let nulls = NullBuffer::from_iter((0..args.rows).map(known));
    Ok(Arc::new(StructArray::try_new(fields.clone(), args.columns.clone(), Some(nulls)).map_err(from_arrow)?))
}

fn record_type(shape: &Shape<'_>) -> Option<Field> {
    let fields: Fields = shape.fields.iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    Some(Field::new("", DataType::Struct(fields), true))
}

/// `squilla_record(column, ...)`: names of fields are those of the columns.
pub fn udf() -> ScalarUDF {
    Scalar {
        name: "squilla_record",
        aliases: &[],
        volatility: Volatility::Immutable,
        takes: |types| Some(types.to_vec()),
        returns: record_type,
        run: record,
    }
    .udf()
}

/// The row of a table among the columns in scope; None for other operators.
///
/// # Errors
/// 42703 where neither a column nor a table has the name.
pub fn plan(op: &BinaryOperator, left: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    if !matches!(op, BinaryOperator::Custom(mark) if mark == MARK) {
        return Ok(None);
    }
    let Expr::Literal(value, _) = left else { return Ok(None) };
    let name = value.try_as_str().flatten().unwrap_or_default();
    if let Ok((qualifier, field)) = schema.qualified_field_with_unqualified_name(name) {
        return Ok(Some(Expr::Column(Column::from((qualifier, field)))));
    }
    let own = |q: Option<&TableReference>| q.is_some_and(|q| q.table() == name);
    let columns: Vec<Expr> = schema.iter().filter(|(q, _)| own(*q)).map(|(q, f)| Expr::Column(Column::from((q, f)))).collect();
    if columns.is_empty() {
        return Err(to_datafusion(Error::new(Kind::UndefinedColumn, format!("column \"{name}\" does not exist"))));
    }
    Ok(Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&RECORD), columns)).alias(name)))
}
