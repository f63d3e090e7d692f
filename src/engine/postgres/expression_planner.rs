//! Operators whose meaning depends on the types of their operands.
//!
//! In: an operator and its planned operands. Out: operands that DataFusion can compare. Invariant: an untyped string
//! literal takes the type of the array it is compared with, as in PostgreSQL. Deliberately absent: operators that the
//! syntax alone decides (`rewrite`).

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, ScalarUDF, lit};
use sqlparser::ast::BinaryOperator;
use squilla_core::types::SqlType;

use crate::postgres::{arithmetic, json, json_edit, json_path, untyped, whole_row};

static JSON: LazyLock<Vec<Arc<ScalarUDF>>> =
    LazyLock::new(|| json::udfs().into_iter().chain(json_edit::udfs()).chain(json_path::udfs()).map(Arc::new).collect());

fn is_list(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|ty| matches!(ty, DataType::List(_)))
}

/// The planner.
#[derive(Debug)]
pub struct PostgresExpressions;

impl ExprPlanner for PostgresExpressions {
    /// Subscripts of int2vector and oidvector begin at 0.
    fn plan_field_access(&self, mut expr: RawFieldAccessExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawFieldAccessExpr>> {
        let of_catalog = |e: &Expr| e.to_field(schema).is_ok_and(|(_, f)| matches!(SqlType::of_field(&f), SqlType::Int2Vector | SqlType::OidVector));
        if let GetFieldAccess::ListIndex { key } = &mut expr.field_access
            && of_catalog(&expr.expr)
        {
            let index = std::mem::replace(key.as_mut(), lit(1_i64));
            **key = index + lit(1_i64);
        }
        // `j['key']` and `j[0]` of jsonb.
        if matches!(expr.expr.to_field(schema).map(|(_, f)| SqlType::of_field(&f)), Ok(SqlType::Json | SqlType::Jsonb))
            && let Some(function) = json::operator(&BinaryOperator::Arrow).and_then(|name| JSON.iter().find(|f| f.name() == name))
        {
            let key = match &expr.field_access {
                GetFieldAccess::NamedStructField { name } => Some(Expr::Literal(name.clone(), None)),
                GetFieldAccess::ListIndex { key } => Some(key.as_ref().clone()),
                GetFieldAccess::ListRange { .. } => None,
            };
            if let Some(key) = key {
                let call = ScalarFunction::new_udf(Arc::clone(function), vec![expr.expr, key]);
                return Ok(PlannerResult::Planned(Expr::ScalarFunction(call)));
            }
        }
        // A name is an array of characters in PostgreSQL, counted from 0.
        if let GetFieldAccess::ListIndex { key } = &expr.field_access
            && expr.expr.to_field(schema).is_ok_and(|(_, f)| SqlType::of_field(&f) == SqlType::Name)
        {
            let place = key.as_ref().clone() + lit(1_i64);
            return Ok(PlannerResult::Planned(datafusion::functions::unicode::expr_fn::substring(expr.expr, place, lit(1_i64))));
        }
        Ok(PlannerResult::Original(expr))
    }

    /// The name of an aggregate leaves casts out: two that differ in a cast alone need names of their own.
    fn plan_aggregate(&self, mut expr: RawAggregateExpr) -> DataFusionResult<PlannerResult<RawAggregateExpr>> {
        let casts = |e: &Expr| e.exists(|e| Ok(matches!(e, Expr::Cast(_) | Expr::TryCast(_))));
        for argument in &mut expr.args {
            if !matches!(argument, Expr::Alias(_)) && casts(argument)? {
                let name = argument.to_string();
                let value = std::mem::replace(argument, lit(1_i64));
                *argument = value.alias(name);
            }
        }
        Ok(PlannerResult::Original(expr))
    }

    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        if let Some(function) = json::operator(&expr.op).and_then(|name| JSON.iter().find(|f| f.name() == name))
            && expr.left.to_field(schema).is_ok_and(|(_, field)| matches!(SqlType::of_field(&field), SqlType::Json | SqlType::Jsonb))
        {
            let call = ScalarFunction::new_udf(Arc::clone(function), vec![expr.left, expr.right]);
            return Ok(PlannerResult::Planned(Expr::ScalarFunction(call)));
        }
        if let Some(row) = whole_row::plan(&expr.op, &expr.left, schema)? {
            return Ok(PlannerResult::Planned(row));
        }
        if let Some(parameter) = untyped::plan(&expr.op, &expr.left, &expr.right, schema)? {
            return Ok(PlannerResult::Planned(parameter));
        }
        if expr.op == BinaryOperator::StringConcat {
            if is_list(&expr.left, schema) {
                expr.right = untyped::as_other(&expr.right, &expr.left, schema)?.unwrap_or(expr.right);
            } else if is_list(&expr.right, schema) {
                expr.left = untyped::as_other(&expr.left, &expr.right, schema)?.unwrap_or(expr.left);
            }
        }
        // Nothing put together with an array is the array.
        if expr.op == BinaryOperator::StringConcat && [&expr.left, &expr.right].iter().all(|e| is_list(e, schema)) {
            let joined = datafusion::functions_nested::expr_fn::array_concat(vec![expr.left.clone(), expr.right.clone()]);
            let one = datafusion::functions::core::expr_fn::coalesce(vec![joined, expr.left, expr.right]);
            return Ok(PlannerResult::Planned(one));
        }
        if expr.op == BinaryOperator::PGOverlap && (is_list(&expr.left, schema) || is_list(&expr.right, schema)) {
            let left = untyped::as_other(&expr.left, &expr.right, schema)?.unwrap_or(expr.left);
            let right = untyped::as_other(&expr.right, &left, schema)?.unwrap_or(expr.right);
            return Ok(PlannerResult::Planned(datafusion::functions_nested::expr_fn::array_has_any(left, right)));
        }
        if let Some(planned) = arithmetic::plan(&expr.op, &expr.left, &expr.right, schema)? {
            return Ok(PlannerResult::Planned(planned));
        }
        use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if matches!(expr.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            if let Some(left) = untyped::as_other(&expr.left, &expr.right, schema)? {
                expr.left = left;
            } else if let Some(right) = untyped::as_other(&expr.right, &expr.left, schema)? {
                expr.right = right;
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}
