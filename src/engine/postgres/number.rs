//! Functions over numbers: division, powers, rounding, and casts to numeric.
//!
//! In: integers, decimals, floats. Out: what PostgreSQL computes, in a decimal of the scale that the types tell. Invariant:
//! division by zero is 22012, a result out of range 22003; halves are rounded away from zero for numeric and to even for
//! floats. Deliberately absent: NaN and infinities of numeric.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Decimal256Type, Field, Float32Type, Float64Type, i256};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use sqlparser::ast::{self, BinaryOperator, Expr, UnaryOperator, Value};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::numeric;
use squilla_core::types::SqlType;

use crate::error::from_arrow;
use crate::postgres::scalar::{Args, Scalar, Shape, cast, untyped};
use crate::postgres::syntax::{call, cast as sql_cast, text};

/// `numeric / numeric`.
pub const DIVIDE: &str = "squilla_divide";
/// `numeric * numeric` where a scale is not declared.
pub const MULTIPLY: &str = "squilla_multiply_numeric";
/// `float / float`.
pub const DIVIDE_FLOAT: &str = "squilla_divide_float";
/// `x ^ y`.
pub const POWER: &str = "power";
/// `x::numeric`.
pub const NUMERIC: &str = "squilla_numeric";

/// A literal that no decimal holds (`1e300`) is double precision.
pub fn beyond_decimal(expr: &mut Expr) {
    let Expr::Value(value) = &*expr else { return };
    let Value::Number(spelled, _) = &value.value else { return };
    let lower = spelled.to_ascii_lowercase();
    let Some((mantissa, Ok(exponent))) = lower.split_once('e').map(|(m, e)| (m, e.parse::<i64>())) else { return };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let before = whole.trim_start_matches('0').len() as i64 + exponent;
    let after = fraction.len() as i64 - exponent;
    if before.max(0) + after.max(0) > 76 {
        *expr = sql_cast(text(spelled.clone()), ast::DataType::DoublePrecision);
    }
}

/// Operators before a number that are functions.
pub fn unary(op: &UnaryOperator, operand: &Expr) -> Option<Expr> {
    let function = match op {
        UnaryOperator::PGAbs => "abs",
        UnaryOperator::PGSquareRoot => "sqrt",
        UnaryOperator::PGCubeRoot => "cbrt",
        UnaryOperator::BitwiseNot => {
            // Two's complement: all bits turned are one less than the negative.
            let negative = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(Expr::Nested(Box::new(operand.clone()))) };
            let one = Box::new(Expr::value(Value::Number("1".into(), false)));
            return Some(Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(negative), op: BinaryOperator::Minus, right: one })));
        }
        _ => return None,
    };
    Some(call(function, vec![operand.clone()]))
}

fn zero() -> Error {
    Error::new(Kind::DivisionByZero, "division by zero")
}

fn overflow() -> Error {
    Error::new(Kind::OutOfRange, "value overflows numeric format")
}

fn decimal(ty: &DataType) -> bool {
    matches!(ty, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// Exact numbers as they are, integers as decimals.
fn exact(types: &[DataType]) -> Option<Vec<DataType>> {
    types.iter().map(as_decimal).collect()
}

fn as_decimal(ty: &DataType) -> Option<DataType> {
    Some(match ty {
        DataType::Int8 | DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        DataType::Int64 => DataType::Decimal128(19, 0),
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Null => DataType::Decimal128(1, 0),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        ty if decimal(ty) => ty.clone(),
        ty if untyped(ty) => numeric::FREE,
        _ => return None,
    })
}

/// Unscaled values and scale.
fn wide(column: &ArrayRef) -> Result<(Decimal256Array, i8)> {
    let scale = match column.data_type() {
        DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => *s,
        _ => 0,
    };
    let wide = cast(column, &DataType::Decimal256(76, scale))?;
    Ok((wide.as_primitive::<Decimal256Type>().clone(), scale))
}

fn power_of_ten(digits: u32) -> Result<i256> {
    i256::from_i128(10).checked_pow(digits).ok_or_else(overflow)
}

/// Half away from zero.
fn divided(numerator: i256, divisor: i256) -> Option<i256> {
    let (quotient, rest) = (numerator.checked_div(divisor)?, numerator.checked_rem(divisor)?);
    let away = rest.wrapping_abs() >= divisor.wrapping_abs().wrapping_sub(rest.wrapping_abs());
    let negative = (numerator < i256::ZERO) != (divisor < i256::ZERO);
    match (away, negative) {
        (false, _) => Some(quotient),
        (true, true) => quotient.checked_sub(i256::ONE),
        (true, false) => quotient.checked_add(i256::ONE),
    }
}

/// `value` of one scale in another, rounded.
fn rescaled(value: i256, from: i8, to: i8) -> Option<i256> {
    let by = i32::from(to) - i32::from(from);
    let factor = i256::from_i128(10).checked_pow(by.unsigned_abs())?;
    if by >= 0 { value.checked_mul(factor) } else { divided(value, factor) }
}

/// A column of unscaled values of a decimal type.
fn column(values: Vec<Option<i256>>, ty: &DataType) -> Result<ArrayRef> {
    match ty {
        DataType::Decimal256(p, s) => Ok(Arc::new(Decimal256Array::from(values).with_precision_and_scale(*p, *s).map_err(from_arrow)?)),
        DataType::Decimal128(p, s) => {
            let narrow = values.into_iter().map(|v| v.map(|v| v.to_i128().ok_or_else(overflow)).transpose()).collect::<Result<Vec<_>>>()?;
            let array = Decimal128Array::from(narrow).with_precision_and_scale(*p, *s).map_err(from_arrow)?;
            array.validate_decimal_precision(*p).map_err(|_| {
                Error::new(Kind::OutOfRange, "numeric field overflow").detail(format!(
                    "A field with precision {p}, scale {s} must round to an absolute value less than 10^{}.",
                    i16::from(*p) - i16::from(*s)
                ))
            })?;
            Ok(Arc::new(array))
        }
        other => Err(Error::internal(format!("{other} is no decimal"))),
    }
}

fn quotient(args: &Args<'_>) -> Result<ArrayRef> {
    let ((left, ls), (right, rs)) = (wide(args.column(0)?)?, wide(args.column(1)?)?);
    let DataType::Decimal256(_, scale) = args.returns else { return Err(Error::internal("a quotient has 256 bits")) };
    // left / 10^ls / (right / 10^rs) * 10^scale
    let shift = i32::from(*scale) - i32::from(ls) + i32::from(rs);
    let factor = power_of_ten(shift.unsigned_abs())?;
    let values = (0..args.rows).map(|row| {
        if left.is_null(row) || right.is_null(row) {
            return Ok(None);
        }
        let divisor = right.value(row);
        if divisor == i256::ZERO {
            return Err(zero());
        }
        let (numerator, divisor) =
            if shift >= 0 { (left.value(row).checked_mul(factor), Some(divisor)) } else { (Some(left.value(row)), divisor.checked_mul(factor)) };
        let value = numerator.zip(divisor).and_then(|(n, d)| divided(n, d));
        value.map(Some).ok_or_else(overflow)
    });
    column(values.collect::<Result<Vec<_>>>()?, args.returns)
}

fn product(args: &Args<'_>) -> Result<ArrayRef> {
    let ((left, ls), (right, rs)) = (wide(args.column(0)?)?, wide(args.column(1)?)?);
    let DataType::Decimal256(_, scale) = args.returns else { return Err(Error::internal("a product has 256 bits")) };
    let values = (0..args.rows).map(|row| {
        if left.is_null(row) || right.is_null(row) {
            return Ok(None);
        }
        let value = left.value(row).checked_mul(right.value(row)).and_then(|v| rescaled(v, ls + rs, *scale));
        value.map(Some).ok_or_else(overflow)
    });
    column(values.collect::<Result<Vec<_>>>()?, args.returns)
}

fn product_type(shape: &Shape<'_>) -> Option<Field> {
    let quotient = shape.fields.iter().any(|f| *f.data_type() == numeric::QUOTIENT);
    Some(Field::new("", if quotient { numeric::QUOTIENT } else { numeric::WIDE }, true))
}

fn floats(types: &[DataType]) -> Option<Vec<DataType>> {
    let single = types.iter().all(|t| *t == DataType::Float32);
    let fits = |t: &DataType| t.is_numeric() || untyped(t);
    types.iter().all(fits).then(|| vec![if single { DataType::Float32 } else { DataType::Float64 }; types.len()])
}

fn same(shape: &Shape<'_>) -> Option<Field> {
    shape.fields.first().map(|f| Field::new("", f.data_type().clone(), true))
}

fn float_quotient(args: &Args<'_>) -> Result<ArrayRef> {
    let (left, right) = (args.column(0)?, args.column(1)?);
    let check = |l: f64, r: f64, q: f64| {
        if r == 0.0 && !l.is_nan() {
            return Err(zero());
        }
        if q.is_infinite() && l.is_finite() && r.is_finite() {
            return Err(Error::new(Kind::OutOfRange, "value out of range: overflow"));
        }
        Ok(())
    };
    if left.data_type() == &DataType::Float32 {
        let (left, right) = (left.as_primitive::<Float32Type>(), right.as_primitive::<Float32Type>());
        let values = left.iter().zip(right.iter()).map(|pair| match pair {
            (Some(l), Some(r)) => check(f64::from(l), f64::from(r), f64::from(l / r)).map(|()| Some(l / r)),
            _ => Ok(None),
        });
        return Ok(Arc::new(values.collect::<Result<Float32Array>>()?));
    }
    let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    let values = left.iter().zip(right.iter()).map(|pair| match pair {
        (Some(l), Some(r)) => check(l, r, l / r).map(|()| Some(l / r)),
        _ => Ok(None),
    });
    Ok(Arc::new(values.collect::<Result<Float64Array>>()?))
}

/// Numbers with a decimal among them and no float are numeric; else double precision.
fn powers(types: &[DataType]) -> Option<Vec<DataType>> {
    let [_, _] = types else { return None };
    if types.iter().any(decimal) && types.iter().all(|t| decimal(t) || t.is_integer() || *t == DataType::Null) {
        return exact(types);
    }
    types.iter().all(|t| t.is_numeric() || untyped(t)).then(|| vec![DataType::Float64; 2])
}

fn power_type(shape: &Shape<'_>) -> Option<Field> {
    let ty = if shape.fields.iter().any(|f| decimal(f.data_type())) { numeric::QUOTIENT } else { DataType::Float64 };
    Some(Field::new("", ty, true))
}

fn power(args: &Args<'_>) -> Result<ArrayRef> {
    let (base, exponent) = (args.floats(0)?, args.floats(1)?);
    let one = |b: f64, e: f64| -> Result<f64> {
        if b == 0.0 && e < 0.0 {
            return Err(Error::new(Kind::InvalidPower, "zero raised to a negative power is undefined"));
        }
        if b < 0.0 && e.fract() != 0.0 && e.is_finite() {
            return Err(Error::new(Kind::InvalidPower, "a negative number raised to a non-integer power yields a complex result"));
        }
        let value = b.powf(e);
        if value.is_infinite() && b.is_finite() && e.is_finite() {
            return Err(Error::new(Kind::OutOfRange, "value out of range: overflow"));
        }
        Ok(value)
    };
    let values = base.iter().zip(exponent.iter()).map(|pair| match pair {
        (Some(b), Some(e)) => one(b, e).map(Some),
        _ => Ok(None),
    });
    let values = values.collect::<Result<Float64Array>>()?;
    if *args.returns == DataType::Float64 {
        return Ok(Arc::new(values));
    }
    // Whole exponents are computed exactly where they fit.
    let ((own, scale), (times, exponents)) = (wide(args.column(0)?)?, wide(args.column(1)?)?);
    let exactly = |row: usize| -> Option<i256> {
        let times = times.value(row).checked_div(power_of_ten(u32::try_from(exponents).ok()?).ok()?)?.to_i128()?;
        let count = u32::try_from(times).ok()?;
        let value = own.value(row).checked_pow(count)?;
        let scale = i8::try_from(i64::from(scale) * i64::from(count)).ok()?;
        rescaled(value, scale, 28)
    };
    let rows = (0..args.rows).map(|row| {
        if values.is_null(row) {
            return Ok(None);
        }
        let whole = exponent.value(row).fract() == 0.0 && exponent.value(row) >= 0.0;
        if let Some(value) = whole.then(|| exactly(row)).flatten() {
            return Ok(Some(value));
        }
        approximate(values.value(row)).map(Some)
    });
    column(rows.collect::<Result<Vec<_>>>()?, args.returns)
}

/// A float as an unscaled value of scale 28.
fn approximate(value: f64) -> Result<i256> {
    let text = format!("{value:.28}");
    i256::from_string(&text.replace('.', "")).ok_or_else(overflow)
}

/// `round`, `trunc`, `ceil`, `floor`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Round,
    Trunc,
    Ceil,
    Floor,
}

fn roundable(types: &[DataType]) -> Option<Vec<DataType>> {
    let (first, rest) = types.split_first()?;
    let value = match first {
        ty if decimal(ty) => as_decimal(ty)?,
        ty if ty.is_integer() && !rest.is_empty() => as_decimal(ty)?,
        DataType::Float32 | DataType::Float64 => DataType::Float64,
        ty if ty.is_integer() || untyped(ty) => DataType::Float64,
        _ => return None,
    };
    match rest {
        [] => Some(vec![value]),
        [digits] if digits.is_integer() || untyped(digits) => Some(vec![value, DataType::Int64]),
        _ => None,
    }
}

fn lone(types: &[DataType]) -> Option<Vec<DataType>> {
    if types.len() == 1 { roundable(types) } else { None }
}

fn rounded_type(shape: &Shape<'_>) -> Option<Field> {
    let ty = shape.fields.first()?.data_type();
    let (DataType::Decimal128(p, s) | DataType::Decimal256(p, s)) = ty else { return Some(Field::new("", DataType::Float64, true)) };
    let digits = match (shape.fields.len(), shape.int(1)) {
        (1, _) => Some(0),
        (_, digits) => digits,
    };
    // A scale that is not known beforehand: that of the number.
    let Some(digits) = digits else { return Some(Field::new("", ty.clone(), true)) };
    let scale = i8::try_from(digits.clamp(0, 37)).ok()?;
    let whole = i16::from(*p) - i16::from(*s) + 1;
    let precision = u8::try_from((whole + i16::from(scale)).clamp(1, 38)).ok()?;
    Some(Field::new("", DataType::Decimal128(precision.max(scale.unsigned_abs() + 1), scale), true))
}

fn rounded(args: &Args<'_>, way: Way) -> Result<ArrayRef> {
    let digits = if args.columns.len() > 1 { Some(args.ints(1)?) } else { None };
    let places = |row: usize| digits.as_ref().map_or(Some(0), |d| d.is_valid(row).then(|| d.value(row)));
    if let DataType::Decimal128(_, to) | DataType::Decimal256(_, to) = args.returns {
        let (values, scale) = wide(args.column(0)?)?;
        let rows = (0..args.rows).map(|row| match places(row) {
            Some(places) if values.is_valid(row) => {
                let value = decimal_rounded(values.value(row), scale, places, way).and_then(|v| rescaled(v, scale, *to));
                value.map(Some).ok_or_else(overflow)
            }
            _ => Ok(None),
        });
        return column(rows.collect::<Result<Vec<_>>>()?, args.returns);
    }
    let values = args.floats(0)?;
    let rows = (0..args.rows).map(|row| {
        let places = places(row).filter(|_| values.is_valid(row))?;
        let factor = 10f64.powi(i32::try_from(places).unwrap_or(0));
        let value = if places == 0 { values.value(row) } else { values.value(row) * factor };
        let whole = match way {
            Way::Round => value.round_ties_even(),
            Way::Trunc => value.trunc(),
            Way::Ceil => value.ceil(),
            Way::Floor => value.floor(),
        };
        Some(if places == 0 { whole } else { whole / factor })
    });
    Ok(Arc::new(rows.collect::<Float64Array>()))
}

/// A value rounded at a place, still with its own scale.
fn decimal_rounded(value: i256, scale: i8, places: i64, way: Way) -> Option<i256> {
    let cut = i64::from(scale) - places;
    if cut <= 0 {
        return Some(value);
    }
    let Some(unit) = u32::try_from(cut).ok().and_then(|cut| i256::from_i128(10).checked_pow(cut)) else { return Some(i256::ZERO) };
    let (whole, rest) = (value.checked_div(unit)?, value.checked_rem(unit)?);
    let units = match way {
        Way::Round => divided(value, unit)?,
        Way::Trunc => whole,
        Way::Ceil if rest > i256::ZERO => whole.checked_add(i256::ONE)?,
        Way::Floor if rest < i256::ZERO => whole.checked_sub(i256::ONE)?,
        Way::Ceil | Way::Floor => whole,
    };
    units.checked_mul(unit)
}

fn numeric_type(shape: &Shape<'_>) -> Option<Field> {
    let ty = match shape.fields.first()?.data_type() {
        ty if ty.is_floating() || untyped(ty) => numeric::FREE,
        DataType::Boolean => return None,
        ty => as_decimal(ty)?,
    };
    Some(Field::new("", ty, true))
}

/// Values as numeric: text as it is spelled, floats with 15 digits.
fn to_numeric(args: &Args<'_>) -> Result<ArrayRef> {
    let value = args.column(0)?;
    if untyped(value.data_type()) {
        let texts = args.texts(0)?;
        return crate::postgres::input::convert(&(Arc::new(texts) as ArrayRef), &SqlType::Numeric(None), None);
    }
    if value.data_type().is_floating() {
        let single = value.data_type() == &DataType::Float32;
        let rows = args.floats(0)?.iter().map(|v| v.map(|v| from_float(v, if single { 6 } else { 15 })).transpose()).collect::<Result<Vec<_>>>()?;
        return column(rows, args.returns);
    }
    cast(value, args.returns)
}

fn from_float(value: f64, digits: usize) -> Result<i256> {
    if !value.is_finite() {
        return Err(Error::unsupported("NaN and infinities of numeric are not supported"));
    }
    let shortest: f64 = format!("{value:.*e}", digits - 1).parse().unwrap_or(value);
    let text = format!("{shortest:.10}");
    i256::from_string(&text.replace('.', "")).ok_or_else(overflow)
}

/// `div(x, y)`: the whole part of a quotient.
fn whole_quotient(args: &Args<'_>) -> Result<ArrayRef> {
    let ((left, ls), (right, rs)) = (wide(args.column(0)?)?, wide(args.column(1)?)?);
    let scale = ls.max(rs);
    let values = (0..args.rows).map(|row| {
        if left.is_null(row) || right.is_null(row) {
            return Ok(None);
        }
        let (Some(l), Some(r)) = (rescaled(left.value(row), ls, scale), rescaled(right.value(row), rs, scale)) else { return Err(overflow()) };
        if r == i256::ZERO { Err(zero()) } else { l.checked_div(r).map(Some).ok_or_else(overflow) }
    });
    column(values.collect::<Result<Vec<_>>>()?, args.returns)
}

fn pair(types: &[DataType]) -> Option<Vec<DataType>> {
    if types.len() == 2 { exact(types) } else { None }
}

fn floats_of_two(types: &[DataType]) -> Option<Vec<DataType>> {
    if types.len() == 2 { floats(types) } else { None }
}

fn anything(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == 1).then(|| types.to_vec())
}

const IMMUTABLE: Volatility = Volatility::Immutable;

/// The functions behind operators.
pub fn operators() -> Vec<ScalarUDF> {
    let quotient_type = |_: &Shape<'_>| Some(Field::new("", numeric::QUOTIENT, true));
    [
        Scalar { name: DIVIDE, aliases: &[], volatility: IMMUTABLE, takes: pair, returns: quotient_type, run: quotient },
        Scalar { name: MULTIPLY, aliases: &[], volatility: IMMUTABLE, takes: pair, returns: product_type, run: product },
        Scalar { name: DIVIDE_FLOAT, aliases: &[], volatility: IMMUTABLE, takes: floats_of_two, returns: same, run: float_quotient },
        Scalar { name: POWER, aliases: &["pow"], volatility: IMMUTABLE, takes: powers, returns: power_type, run: power },
    ]
    .map(Scalar::udf)
    .into()
}

/// `round(x [, digits])`.
pub fn round() -> ScalarUDF {
    let run = |a: &Args<'_>| rounded(a, Way::Round);
    Scalar { name: "round", aliases: &[], volatility: IMMUTABLE, takes: roundable, returns: rounded_type, run }.udf()
}

/// The functions that are called by name.
pub fn udfs() -> Vec<ScalarUDF> {
    let rounding =
        |name, aliases| Scalar { name, aliases, volatility: IMMUTABLE, takes: lone, returns: rounded_type, run: |a| rounded(a, Way::Round) };
    let whole = |_: &Shape<'_>| Some(Field::new("", DataType::Decimal128(38, 0), true));
    [
        Scalar { takes: roundable, run: |a| rounded(a, Way::Trunc), ..rounding("trunc", &["truncate"]) },
        Scalar { run: |a| rounded(a, Way::Ceil), ..rounding("ceil", &["ceiling"]) },
        Scalar { run: |a| rounded(a, Way::Floor), ..rounding("floor", &[]) },
        Scalar { name: NUMERIC, aliases: &[], volatility: IMMUTABLE, takes: anything, returns: numeric_type, run: to_numeric },
        Scalar { name: "div", aliases: &[], volatility: IMMUTABLE, takes: pair, returns: whole, run: whole_quotient },
    ]
    .map(Scalar::udf)
    .into_iter()
    .chain([round()])
    .collect()
}
