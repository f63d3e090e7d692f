//! Decimal numbers of any scale, as PostgreSQL computes with constants of type numeric.
//!
//! In: decimals and integers. Out: sums, products, quotients with PostgreSQL's scale. Invariant: a result that does not fit
//! 76 digits is None. Deliberately absent: columns, which are computed with one scale each.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, i256};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

/// A number: `value / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    value: i256,
    scale: u32,
}

/// Digits that every quotient has at least.
const SIGNIFICANT_DIGITS: i64 = 16;

fn power(digits: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(digits)
}

impl Fixed {
    /// A number.
    pub fn new(value: i256, scale: u32) -> Self {
        Self { value, scale }
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.value == i256::ZERO
    }

    fn at(&self, scale: u32) -> Option<i256> {
        self.value.checked_mul(power(scale.checked_sub(self.scale)?)?)
    }

    /// The sum.
    pub fn plus(&self, other: &Fixed) -> Option<Fixed> {
        let scale = self.scale.max(other.scale);
        Some(Fixed { value: self.at(scale)?.checked_add(other.at(scale)?)?, scale })
    }

    /// The difference.
    pub fn minus(&self, other: &Fixed) -> Option<Fixed> {
        let scale = self.scale.max(other.scale);
        Some(Fixed { value: self.at(scale)?.checked_sub(other.at(scale)?)?, scale })
    }

    /// The product.
    pub fn times(&self, other: &Fixed) -> Option<Fixed> {
        Some(Fixed { value: self.value.checked_mul(other.value)?, scale: self.scale + other.scale })
    }

    /// Groups of four digits before the point less one, and the first group.
    fn weight(&self) -> (i64, i64) {
        let digits = self.value.to_string().trim_start_matches('-').to_owned();
        if self.is_zero() {
            return (0, 0);
        }
        // Digits before the point; below zero where the number starts with zeros after it.
        let whole = digits.len() as i64 - i64::from(self.scale);
        let weight = if whole > 0 { (whole + 3) / 4 - 1 } else { -((-whole) / 4) - 1 };
        // The first group has as many digits as fill it up.
        let first = whole - weight * 4;
        let taken: String = digits.chars().chain(std::iter::repeat('0')).take(usize::try_from(first.clamp(1, 4)).unwrap_or(1)).collect();
        (weight, taken.parse().unwrap_or(0))
    }

    /// The quotient, with the scale that PostgreSQL gives it.
    pub fn divided(&self, other: &Fixed) -> Option<Fixed> {
        let ((own, first), (theirs, divisor)) = (self.weight(), other.weight());
        let weight = own - theirs - i64::from(first <= divisor);
        let scale = (SIGNIFICANT_DIGITS - weight * 4).max(i64::from(self.scale)).max(i64::from(other.scale)).clamp(0, 60);
        let scale = u32::try_from(scale).ok()?;
        // value / 10^s / (other / 10^t) = value * 10^(scale - s + t) / other / 10^scale
        let shift = i64::from(scale) - i64::from(self.scale) + i64::from(other.scale);
        let numerator = self.value.checked_mul(power(u32::try_from(shift).ok()?)?)?;
        let (quotient, rest) = (numerator.checked_div(other.value)?, numerator.checked_rem(other.value)?);
        let twice = rest.checked_mul(i256::from_i128(2))?.wrapping_abs();
        let away = twice >= other.value.wrapping_abs();
        let negative = (self.value < i256::ZERO) != (other.value < i256::ZERO);
        let step = if negative { i256::MINUS_ONE } else { i256::ONE };
        Some(Fixed { value: if away { quotient.checked_add(step)? } else { quotient }, scale })
    }

    /// As a value of a decimal type of just this scale.
    pub fn scalar(&self) -> Option<ScalarValue> {
        let digits = self.value.to_string().trim_start_matches('-').len();
        let precision = u8::try_from(digits.max(self.scale as usize).max(1)).ok()?;
        let scale = i8::try_from(self.scale).ok()?;
        if precision <= DECIMAL128_MAX_PRECISION {
            return Some(ScalarValue::Decimal128(Some(self.value.to_i128()?), precision, scale));
        }
        (precision <= 76).then_some(ScalarValue::Decimal256(Some(self.value), precision, scale))
    }
}

/// The number of a constant expression: a literal, perhaps cast to an integer type, or its negative.
pub fn constant(expr: &Expr) -> Option<Fixed> {
    match expr {
        Expr::Literal(value, _) => match value {
            ScalarValue::Decimal128(Some(v), _, s) => Some(Fixed::new(i256::from_i128(*v), u32::try_from(*s).ok()?)),
            ScalarValue::Decimal256(Some(v), _, s) => Some(Fixed::new(*v, u32::try_from(*s).ok()?)),
            ScalarValue::Int16(Some(v)) => Some(Fixed::new(i256::from_i128(i128::from(*v)), 0)),
            ScalarValue::Int32(Some(v)) => Some(Fixed::new(i256::from_i128(i128::from(*v)), 0)),
            ScalarValue::Int64(Some(v)) => Some(Fixed::new(i256::from_i128(i128::from(*v)), 0)),
            _ => None,
        },
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Int16 | DataType::Int32 | DataType::Int64) => match cast.expr.as_ref() {
            inner @ Expr::Literal(ScalarValue::Int64(_) | ScalarValue::Int32(_) | ScalarValue::Int16(_), _) => constant(inner),
            _ => None,
        },
        Expr::Negative(inner) => constant(inner).and_then(|v| Some(Fixed { value: i256::ZERO.checked_sub(v.value)?, scale: v.scale })),
        Expr::Alias(alias) => constant(&alias.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Fixed {
        let scale = text.split_once('.').map_or(0, |(_, f)| f.len() as u32);
        Fixed::new(i256::from_string(&text.replace('.', "")).unwrap(), scale)
    }

    #[test]
    fn quotients_have_postgresqls_scale() {
        for (left, right, quotient) in [
            ("7.0", "2", "3.5000000000000000"),
            ("1.0", "3", "0.33333333333333333333"),
            ("2.0", "2", "1.00000000000000000000"),
            ("10", "3.0", "3.3333333333333333"),
            ("1", "3000", "0.00033333333333333333"),
            ("-7.0", "2", "-3.5000000000000000"),
            ("2", "3.0", "0.66666666666666666667"),
            ("123456.0", "7", "17636.571428571429"),
        ] {
            assert_eq!(of(left).divided(&of(right)), Some(of(quotient)), "{left} / {right}");
        }
        assert_eq!(of("1.50").times(&of("1.5")), Some(of("2.250")));
        assert_eq!(of("1.50").plus(&of("1.5")), Some(of("3.00")));
    }
}
