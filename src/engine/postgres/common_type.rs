//! One type for values that stand for each other: the branches of CASE, arguments of COALESCE, columns of UNION.
//!
//! In: a plan as it was made from the statement. Out: the plan with casts, so that the schema tells the type that PostgreSQL
//! tells. DataFusion finds common types later, when the statement has been described by the type of the first value.
//! Invariant: numbers widen as PostgreSQL widens them (integers, numeric, floats); a literal without a type is read as one of
//! the common type. Deliberately absent: types that are stored alike.

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Union};
use std::sync::Arc;

use squilla_core::error::{Error, Kind};
use squilla_core::numeric::{self, Style};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::postgres::input;

/// Functions that give one of their arguments.
const CHOOSING: &[&str] = &["coalesce", "greatest", "least"];

/// Finds the common types of a plan.
///
/// # Errors
/// 22P02 for literals that are not of the common type, 42804 for types that have none.
pub fn unify(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    if !concerns(&plan)? {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|plan| {
        if let LogicalPlan::Union(union) = plan {
            return self::union(union);
        }
        let schema = match &plan {
            LogicalPlan::TableScan(scan) => scan.projected_schema.as_ref().clone(),
            other => merge_schema(&other.inputs()),
        };
        let named = matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
        let changed = plan.map_expressions(|expr| {
            let name = expr.schema_name().to_string();
            let alias = named && !matches!(expr, Expr::Alias(_));
            let rewritten = expr.transform_up(|e| values(e, &schema))?;
            if rewritten.transformed && alias && rewritten.data.schema_name().to_string() != name {
                return Ok(Transformed::yes(rewritten.data.alias(name)));
            }
            Ok(rewritten)
        })?;
        // Types of inputs may have changed as well.
        changed.map_data(LogicalPlan::recompute_schema)
    })
    .map(|t| t.data)
}

/// Whether something chooses among values.
fn concerns(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        found |= matches!(plan, LogicalPlan::Union(_));
        if !found {
            plan.apply_expressions(|expr| {
                found |= expr.exists(|e| Ok(matches!(e, Expr::Case(_)) || chooses(e)))?;
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn chooses(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if CHOOSING.contains(&f.name()))
}

/// The text of a literal that has no type of its own.
pub fn untyped(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, None) => value.try_as_str().flatten(),
        Expr::Alias(alias) => untyped(&alias.expr),
        _ => None,
    }
}

fn null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Alias(alias) => null(&alias.expr),
        _ => false,
    }
}

/// An untyped literal as a value of a type.
///
/// # Errors
/// 22P02 and its kin where the text is not one.
pub fn read(text: &str, ty: &SqlType, arrow: &DataType) -> DataFusionResult<Expr> {
    let source = Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let array = input::convert(&source, ty, None).map_err(to_datafusion)?;
    let array = arrow::compute::cast(&array, arrow)?;
    Ok(Expr::Literal(ScalarValue::try_from_array(&array, 0)?, None))
}

/// How far a number reaches among numbers, the higher wins; None for what is no number.
pub fn rank(ty: &SqlType) -> Option<u8> {
    Some(match ty {
        SqlType::Int2 => 0,
        SqlType::Int4 => 1,
        SqlType::Int8 => 2,
        SqlType::Numeric(_) => 3,
        SqlType::Float4 => 4,
        SqlType::Float8 => 5,
        _ => return None,
    })
}

/// Kinds of types between which nothing is converted by itself.
fn kind(ty: &SqlType) -> Option<u8> {
    Some(match ty {
        SqlType::Bool => 0,
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => 2,
        SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz => 3,
        SqlType::Interval => 4,
        SqlType::Uuid => 5,
        SqlType::Bytea => 6,
        ty => return rank(ty).map(|_| 1),
    })
}

fn digits(ty: &DataType) -> Option<(i16, i16)> {
    Some(match ty {
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            (i16::from(*p), i16::from(*s))
        }
        _ => return None,
    })
}

/// The decimal that holds all of these.
fn decimal(types: &[DataType]) -> Option<DataType> {
    for (style, whole) in [(Style::Quotient, numeric::QUOTIENT), (Style::Short, numeric::FREE)] {
        if types.iter().any(|t| matches!(t, DataType::Decimal128(..) | DataType::Decimal256(..)) && numeric::style(t) == style) {
            return Some(if types.contains(&numeric::WIDE) { numeric::WIDE } else { whole });
        }
    }
    let all: Vec<(i16, i16)> = types.iter().map(digits).collect::<Option<_>>()?;
    let scale = all.iter().map(|(_, s)| *s).max()?.max(0);
    let precision = all.iter().map(|(p, s)| p - s).max()? + scale;
    let scale = i8::try_from(scale).ok()?;
    Some(if precision <= 38 { DataType::Decimal128(u8::try_from(precision).ok()?, scale) } else { DataType::Decimal256(76, scale) })
}

/// What a common type is for, in messages.
#[derive(Clone, Copy)]
enum For {
    Case,
    Union,
    Function,
}

/// The common type of values that have these; None where DataFusion's own is right.
fn common(types: &[(SqlType, DataType)], what: For) -> DataFusionResult<Option<(SqlType, DataType)>> {
    let Some(first) = types.first() else { return Ok(None) };
    if let Some(other) = types.iter().find(|(t, _)| matches!((kind(&first.0), kind(t)), (Some(a), Some(b)) if a != b)) {
        let what = match what {
            For::Case => "CASE",
            For::Union => "UNION",
            For::Function => "COALESCE",
        };
        let message = format!("{what} types {} and {} cannot be matched", first.0.name(), other.0.name());
        return Err(to_datafusion(Error::new(Kind::DatatypeMismatch, message)));
    }
    if types.iter().all(|(_, arrow)| *arrow == first.1) {
        return Ok(Some(first.clone()));
    }
    if types.iter().any(|(t, _)| rank(t).is_none()) {
        return Ok(None);
    }
    let Some((widest, arrow)) = types.iter().max_by_key(|(t, _)| rank(t)) else { return Ok(None) };
    if matches!(widest, SqlType::Numeric(_)) {
        let all: Vec<DataType> = types.iter().map(|(_, arrow)| arrow.clone()).collect();
        return Ok(decimal(&all).map(|arrow| (SqlType::Numeric(None), arrow)));
    }
    Ok(Some((widest.clone(), arrow.clone())))
}

/// One value as a value of the common type.
fn as_common(expr: Expr, own: Option<&DataType>, (ty, arrow): &(SqlType, DataType)) -> DataFusionResult<Transformed<Expr>> {
    if let Some(text) = untyped(&expr) {
        let readable = kind(ty).is_some_and(|k| k != 2) || matches!(ty, SqlType::Array(_));
        return if readable { read(text, ty, arrow).map(Transformed::yes) } else { Ok(Transformed::no(expr)) };
    }
    match own {
        Some(own) if own != arrow && rank(ty).is_some() => Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(expr), arrow.clone())))),
        _ => Ok(Transformed::no(expr)),
    }
}

fn typed(expr: &Expr, schema: &DFSchema) -> Option<(SqlType, DataType)> {
    if untyped(expr).is_some() || null(expr) || matches!(expr, Expr::Placeholder(_)) {
        return None;
    }
    let (_, field) = expr.to_field(schema).ok()?;
    let ty = SqlType::of_field(&field);
    (ty != SqlType::Unknown).then(|| (ty, field.data_type().clone()))
}

fn all_common(exprs: Vec<Expr>, schema: &DFSchema, what: For) -> DataFusionResult<Transformed<Vec<Expr>>> {
    let types: Vec<Option<(SqlType, DataType)>> = exprs.iter().map(|e| typed(e, schema)).collect();
    let known: Vec<(SqlType, DataType)> = types.iter().flatten().cloned().collect();
    let Some(common) = common(&known, what)? else { return Ok(Transformed::no(exprs)) };
    let mut changed = false;
    let mut out = Vec::with_capacity(exprs.len());
    for (expr, own) in exprs.into_iter().zip(&types) {
        let value = as_common(expr, own.as_ref().map(|(_, arrow)| arrow), &common)?;
        changed |= value.transformed;
        out.push(value.data);
    }
    Ok(Transformed::new_transformed(out, changed))
}

fn values(expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    match expr {
        Expr::Case(case) => {
            let (mut conditions, mut results): (Vec<Expr>, Vec<Expr>) =
                case.when_then_expr.iter().map(|(when, then)| (when.as_ref().clone(), then.as_ref().clone())).unzip();
            results.extend(case.else_expr.as_deref().cloned());
            let mut results = all_common(results, schema, For::Case)?;
            // `CASE x WHEN 't'`: what is compared with x is read as its type.
            let mut compared = false;
            if let Some(operand) = case.expr.as_deref().and_then(|e| typed(e, schema)) {
                for condition in &mut conditions {
                    let value = as_common(condition.clone(), None, &operand)?;
                    compared |= value.transformed;
                    *condition = value.data;
                }
            }
            if !results.transformed && !compared {
                return Ok(Transformed::no(Expr::Case(case)));
            }
            let otherwise = case.else_expr.as_ref().and_then(|_| results.data.pop()).map(Box::new);
            let branches = conditions.into_iter().zip(results.data).map(|(when, then)| (Box::new(when), Box::new(then))).collect();
            Ok(Transformed::yes(Expr::Case(Case::new(case.expr, branches, otherwise))))
        }
        Expr::ScalarFunction(call) if CHOOSING.contains(&call.name()) => {
            let args = all_common(call.args, schema, For::Function)?;
            Ok(args.update_data(|args| Expr::ScalarFunction(ScalarFunction { func: call.func, args })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// What an input of a union gives in a column: its expression, where it is a list of expressions.
fn given(input: &LogicalPlan, column: usize) -> Option<&Expr> {
    match input {
        LogicalPlan::Projection(p) => p.expr.get(column),
        _ => None,
    }
}

fn union(union: Union) -> DataFusionResult<Transformed<LogicalPlan>> {
    let width = union.schema.fields().len();
    let mut wanted: Vec<Option<(SqlType, DataType)>> = Vec::with_capacity(width);
    for column in 0..width {
        let types = union.inputs.iter().filter_map(|input| match given(input, column) {
            Some(expr) if untyped(expr).is_some() || null(expr) => None,
            _ => {
                let field = input.schema().fields().get(column)?;
                let ty = SqlType::of_field(field);
                (ty != SqlType::Unknown).then(|| (ty, field.data_type().clone()))
            }
        });
        let types: Vec<(SqlType, DataType)> = types.collect();
        // Literals alone are text.
        let literal = |input: &Arc<LogicalPlan>| given(input, column).is_some_and(|e| untyped(e).is_some());
        wanted.push(match common(&types, For::Union)? {
            None if types.is_empty() && union.inputs.iter().any(literal) => Some((SqlType::Text, DataType::Utf8)),
            found => found,
        });
    }
    let mut inputs = Vec::with_capacity(union.inputs.len());
    for input in &union.inputs {
        inputs.push(Arc::new(converted(input, &wanted)?));
    }
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
}

/// An input of a union with its columns in the common types.
fn converted(input: &LogicalPlan, wanted: &[Option<(SqlType, DataType)>]) -> DataFusionResult<LogicalPlan> {
    let mut changed = false;
    let mut exprs = Vec::with_capacity(wanted.len());
    for (column, (qualifier, field)) in input.schema().iter().enumerate() {
        let name = field.name().clone();
        let own = given(input, column);
        let reference = Expr::Column(datafusion::common::Column::from((qualifier, field)));
        let expr = match (wanted.get(column).and_then(Option::as_ref), own) {
            (Some(common), Some(literal)) if untyped(literal).is_some() => {
                let value = as_common(literal.clone(), None, common)?;
                if value.transformed { Transformed::yes(value.data.alias(&name)) } else { Transformed::no(reference) }
            }
            (Some((_, arrow)), Some(literal)) if null(literal) && field.data_type() != arrow => {
                Transformed::yes(Expr::Cast(Cast::new(Box::new(Expr::Literal(ScalarValue::Null, None)), arrow.clone())).alias(&name))
            }
            (Some(common), _) => {
                let value = as_common(reference, Some(field.data_type()), common)?;
                if value.transformed { Transformed::yes(value.data.alias(&name)) } else { value }
            }
            _ => Transformed::no(reference),
        };
        changed |= expr.transformed;
        exprs.push(expr.data);
    }
    if !changed {
        return Ok(input.clone());
    }
    LogicalPlanBuilder::from(input.clone()).project(exprs)?.build()
}
