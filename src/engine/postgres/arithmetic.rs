//! Operators over numbers, dates, times and vectors, with the types and results of PostgreSQL.
//!
//! In: an operator of the syntax tree and its planned operands. Out: an expression that gives what PostgreSQL gives.
//! Invariant: the type of the result follows from the types of the operands; constants of type numeric are computed here,
//! with the scale that PostgreSQL computes. Deliberately absent: integers, whose overflow `checked` sees to, and operators
//! over JSON, arrays and text.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, ScalarUDF};
use sqlparser::ast::BinaryOperator;
use squilla_core::error::{Error, Kind};
use squilla_core::numeric;
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::postgres::decimal::{self, Fixed};
use crate::postgres::{common_type, number, time, vector, zoned};

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    number::operators().into_iter().chain(time::operators()).chain(zoned::operators()).chain(vector::operators()).map(Arc::new).collect()
});

/// The functions behind operators, for plans that come back by name.
pub fn udfs() -> Vec<ScalarUDF> {
    FUNCTIONS.iter().map(|f| f.as_ref().clone()).collect()
}

/// A call of a function behind an operator.
fn call(name: &str, arguments: Vec<Expr>) -> Option<Expr> {
    let function = FUNCTIONS.iter().find(|f| f.name() == name)?;
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), arguments)))
}

fn cast(expr: Expr, ty: &DataType, schema: &DFSchema) -> Expr {
    match expr.get_type(schema) {
        Ok(own) if own == *ty => expr,
        _ => Expr::Cast(Cast::new(Box::new(expr), ty.clone())),
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// What an operator does with operands of these kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Integer,
    Decimal,
    Single,
    Double,
    Date,
    Time,
    Moment,
    Interval,
    Vector,
    Other,
}

fn family(ty: &SqlType) -> Family {
    match ty {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => Family::Integer,
        SqlType::Numeric(_) => Family::Decimal,
        SqlType::Float4 => Family::Single,
        SqlType::Float8 => Family::Double,
        SqlType::Date => Family::Date,
        SqlType::Time => Family::Time,
        SqlType::Timestamp | SqlType::Timestamptz => Family::Moment,
        SqlType::Interval => Family::Interval,
        SqlType::Vector => Family::Vector,
        _ => Family::Other,
    }
}

fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

/// The expression of `left op right`; None where DataFusion's own is PostgreSQL's.
///
/// # Errors
/// 22012 and 22003 for constants.
pub fn plan(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    let (Ok((_, l)), Ok((_, r))) = (left.to_field(schema), right.to_field(schema)) else { return Ok(None) };
    let (l, r) = (SqlType::of_field(&l), SqlType::of_field(&r));
    let (own, other) = (family(&l), family(&r));
    if let Some(planned) = beside_literal(op, (left, &l), (right, &r), schema)? {
        return Ok(Some(planned));
    }
    let operands = || vec![left.clone(), right.clone()];
    if *op == BinaryOperator::PGExp {
        return Ok(call(number::POWER, operands()));
    }
    let Some(op) = operator(op) else { return Ok(None) };
    let compares = op.supports_propagation();
    Ok(match (own, other) {
        (Family::Decimal, Family::Decimal | Family::Integer) | (Family::Integer, Family::Decimal) if compares => {
            decimals_compared(left, op, right, schema)
        }
        (Family::Decimal, Family::Decimal | Family::Integer) | (Family::Integer, Family::Decimal) => decimals(left, op, right, schema)?,
        (Family::Single, Family::Integer | Family::Decimal) | (Family::Integer | Family::Decimal, Family::Single) if !compares => {
            floats(cast(left.clone(), &DataType::Float64, schema), op, cast(right.clone(), &DataType::Float64, schema))
        }
        (Family::Single | Family::Double, Family::Single | Family::Double | Family::Integer | Family::Decimal)
        | (Family::Integer | Family::Decimal, Family::Double)
            if op == Operator::Divide =>
        {
            let ty = if own == Family::Single && other == Family::Single { DataType::Float32 } else { DataType::Float64 };
            floats(cast(left.clone(), &ty, schema), op, cast(right.clone(), &ty, schema))
        }
        (Family::Vector, Family::Vector) if matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply) => {
            call(vector::name(op).unwrap_or_default(), operands())
        }
        (Family::Interval, Family::Interval) if compares => {
            let (left, right) = (call(time::SPAN, vec![left.clone()]), call(time::SPAN, vec![right.clone()]));
            left.zip(right).map(|(l, r)| binary(l, op, r))
        }
        _ if compares => None,
        _ => times(left, own, op, right, other, schema),
    })
}

/// `1 + '2'`: a literal without a type takes that of the number beside it, and is an interval beside a point in time.
fn beside_literal(op: &BinaryOperator, left: (&Expr, &SqlType), right: (&Expr, &SqlType), schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    if !matches!(op, Plus | Minus | Multiply | Divide | Modulo) {
        return Ok(None);
    }
    let (text, typed, first) = match (common_type::untyped(left.0), common_type::untyped(right.0)) {
        (Some(text), None) => (text, right, true),
        (None, Some(text)) => (text, left, false),
        _ => return Ok(None),
    };
    let number = matches!(family(typed.1), Family::Integer | Family::Decimal | Family::Single | Family::Double);
    let ty = match (family(typed.1), op) {
        _ if number => typed.1.clone(),
        (Family::Interval, Plus | Minus) => SqlType::Interval,
        (Family::Moment, Plus) => SqlType::Interval,
        (Family::Moment, Minus) => typed.1.clone(),
        _ => return Ok(None),
    };
    let arrow = if number { typed.0.get_type(schema)? } else { ty.arrow() };
    let value = common_type::read(text, &ty, &arrow)?;
    let (left, right) = if first { (value, right.0.clone()) } else { (left.0.clone(), value) };
    match plan(op, &left, &right, schema)? {
        Some(planned) => Ok(Some(planned)),
        None => Ok(operator(op).map(|op| binary(left, op, right))),
    }
}

/// Division by zero fails, as everywhere.
fn floats(left: Expr, op: Operator, right: Expr) -> Option<Expr> {
    match op {
        Operator::Divide => call(number::DIVIDE_FLOAT, vec![left, right]),
        _ => Some(binary(left, op, right)),
    }
}

/// The type that stands for an operand among decimals.
fn decimal_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Int8 | DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        DataType::Int64 => DataType::Decimal128(19, 0),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        other => other.clone(),
    }
}

fn precision(ty: &DataType) -> (i16, i16) {
    match ty {
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => (i16::from(*p), i16::from(*s)),
        _ => (38, 0),
    }
}

/// Decimals whose common type is wider than 128 bits are compared in 256.
fn decimals_compared(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let (l, r) = (decimal_type(&left.get_type(schema).ok()?), decimal_type(&right.get_type(schema).ok()?));
    let ((lp, ls), (rp, rs)) = (precision(&l), precision(&r));
    let scale = ls.max(rs);
    let wide = (lp - ls).max(rp - rs) + scale > 38 || matches!(l, DataType::Decimal256(..)) != matches!(r, DataType::Decimal256(..));
    if !wide {
        return None;
    }
    let ty = DataType::Decimal256(76, i8::try_from(scale).ok()?);
    Some(binary(cast(left.clone(), &ty, schema), op, cast(right.clone(), &ty, schema)))
}

fn decimals(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> DataFusionResult<Option<Expr>> {
    if let (Some(l), Some(r)) = (decimal::constant(left), decimal::constant(right))
        && let Some(value) = folded(&l, op, &r)?
    {
        return Ok(Some(Expr::Literal(value, None)));
    }
    let (l, r) = (decimal_type(&left.get_type(schema)?), decimal_type(&right.get_type(schema)?));
    let ((lp, ls), (rp, rs)) = (precision(&l), precision(&r));
    let loose = |ty: &DataType| numeric::style(ty) != numeric::Style::Exact;
    Ok(match op {
        Operator::Divide => call(number::DIVIDE, vec![left.clone(), right.clone()]),
        Operator::Multiply if loose(&l) || loose(&r) => call(number::MULTIPLY, vec![left.clone(), right.clone()]),
        Operator::Multiply if lp + rp + 1 > 38 => {
            let wide = |e: &Expr, s: i16| cast(e.clone(), &DataType::Decimal256(38, i8::try_from(s).unwrap_or(0)), schema);
            Some(binary(wide(left, ls), op, wide(right, rs)))
        }
        _ => {
            let scale = ls.max(rs);
            let wide = (lp - ls).max(rp - rs) + scale + 1 > 38;
            let ty = |s: i16| {
                let scale = if loose(&l) || loose(&r) { scale } else { s };
                DataType::Decimal256(75, i8::try_from(scale).unwrap_or(0))
            };
            let free = numeric::style(&l) == numeric::Style::Short || numeric::style(&r) == numeric::Style::Short;
            if free && scale == 10 {
                // A number without a scale stays one.
                let own = |e: &Expr| cast(e.clone(), &numeric::FREE, schema);
                Some(Expr::Cast(Cast::new(Box::new(binary(own(left), op, own(right))), numeric::FREE)))
            } else if wide || matches!(l, DataType::Decimal256(..)) || matches!(r, DataType::Decimal256(..)) {
                Some(binary(cast(left.clone(), &ty(ls), schema), op, cast(right.clone(), &ty(rs), schema)))
            } else {
                Some(binary(cast(left.clone(), &l, schema), op, cast(right.clone(), &r, schema)))
            }
        }
    })
}

/// Constants, with the scale of PostgreSQL.
fn folded(left: &Fixed, op: Operator, right: &Fixed) -> DataFusionResult<Option<ScalarValue>> {
    let zero = || to_datafusion(Error::new(Kind::DivisionByZero, "division by zero"));
    let result = match op {
        Operator::Plus => left.plus(right),
        Operator::Minus => left.minus(right),
        Operator::Multiply => left.times(right),
        Operator::Divide | Operator::Modulo if right.is_zero() => return Err(zero()),
        Operator::Divide => left.divided(right),
        _ => return Ok(None),
    };
    Ok(result.and_then(|value| value.scalar()))
}

/// Dates, times and intervals.
fn times(left: &Expr, own: Family, op: Operator, right: &Expr, other: Family, schema: &DFSchema) -> Option<Expr> {
    use Family::{Date, Decimal, Double, Integer, Interval, Moment, Single, Time};
    use Operator::{Divide, Minus, Multiply, Plus};
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let operands = || vec![left.clone(), right.clone()];
    // Months and days are those of the session's clocks.
    let zoned = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Timestamp(_, Some(_))));
    match (own, op, other) {
        (Date, Plus | Minus, Interval) => Some(binary(cast(left.clone(), &timestamp, schema), op, right.clone())),
        (Interval, Plus, Date) => Some(binary(cast(right.clone(), &timestamp, schema), op, left.clone())),
        (Moment, Plus | Minus, Interval) if zoned(left) => call(if op == Plus { zoned::LATER } else { zoned::EARLIER }, operands()),
        (Interval, Plus, Moment) if zoned(right) => call(zoned::LATER, vec![right.clone(), left.clone()]),
        (Interval, Plus, Moment) => Some(binary(right.clone(), op, left.clone())),
        (Date, Plus | Minus, Integer) => {
            let days = binary(cast(left.clone(), &DataType::Int32, schema), op, cast(right.clone(), &DataType::Int32, schema));
            Some(Expr::Cast(Cast::new(Box::new(days), DataType::Date32)))
        }
        (Integer, Plus, Date) => {
            let days = binary(cast(right.clone(), &DataType::Int32, schema), op, cast(left.clone(), &DataType::Int32, schema));
            Some(Expr::Cast(Cast::new(Box::new(days), DataType::Date32)))
        }
        (Date, Minus, Date) => Some(binary(cast(left.clone(), &DataType::Int32, schema), op, cast(right.clone(), &DataType::Int32, schema))),
        (Date, Plus, Time) => call(time::AT, operands()),
        (Time, Plus, Date) => call(time::AT, vec![right.clone(), left.clone()]),
        (Moment | Date, Minus, Moment | Date) => call(time::BETWEEN, operands()),
        (Time, Minus, Time) => call(time::BETWEEN, operands()),
        (Time, Plus | Minus, Interval) => call(if op == Plus { time::LATER } else { time::EARLIER }, operands()),
        (Interval, Plus, Time) => call(time::LATER, vec![right.clone(), left.clone()]),
        (Interval, Multiply | Divide, Integer | Decimal | Single | Double) => {
            let factor = cast(right.clone(), &DataType::Float64, schema);
            call(if op == Multiply { time::SCALED } else { time::PART }, vec![left.clone(), factor])
        }
        (Integer | Decimal | Single | Double, Multiply, Interval) => {
            call(time::SCALED, vec![right.clone(), cast(left.clone(), &DataType::Float64, schema)])
        }
        _ => None,
    }
}
