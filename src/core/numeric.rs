//! numeric as Arrow decimals: which decimal stands for a numeric without declared scale, and what it looks like.
//!
//! In: unscaled digits of a decimal with its Arrow type. Out: PostgreSQL's text. PostgreSQL keeps a scale with every value;
//! a column of decimals has one for all. Where the scale is declared, or follows from the operands, the decimal has it. A
//! value without one (a column `numeric`, a text cast to numeric) is [`FREE`] or [`WIDE`] and is shown without zeros at its
//! end; a quotient or mean is [`QUOTIENT`] and is shown with the digits that PostgreSQL computes: at least 16 significant
//! ones, in groups of four. Deliberately absent: NaN and infinities of numeric, arithmetic (the engine).

use arrow::datatypes::DataType;

/// numeric without a declared scale.
pub const FREE: DataType = DataType::Decimal128(38, 10);
/// A product of such numbers.
pub const WIDE: DataType = DataType::Decimal256(76, 20);
/// A quotient or mean.
pub const QUOTIENT: DataType = DataType::Decimal256(76, 28);

/// How a decimal is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// All digits of its scale.
    Exact,
    /// Without zeros at its end.
    Short,
    /// As a quotient.
    Quotient,
}

/// The style of values of this type.
pub fn style(ty: &DataType) -> Style {
    if *ty == FREE || *ty == WIDE {
        Style::Short
    } else if *ty == QUOTIENT {
        Style::Quotient
    } else {
        Style::Exact
    }
}

/// Digits after the point that PostgreSQL computes for a quotient, from its digits before (`whole`, without leading zeros)
/// and after the point.
fn quotient_digits(whole: &str, fraction: &str) -> usize {
    let groups = if whole.is_empty() {
        match fraction.find(|c| c != '0') {
            Some(zeros) => -((zeros / 4) as i64) - 1,
            None => -1,
        }
    } else {
        whole.len().div_ceil(4) as i64 - 1
    };
    usize::try_from(16 - 4 * groups).unwrap_or(0)
}

/// The text of a decimal: `unscaled` as an integer in text (`-1234`), and its scale.
pub fn text(unscaled: &str, scale: i8, style: Style) -> String {
    let (negative, digits) = match unscaled.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, unscaled),
    };
    let (whole, mut fraction) = if scale <= 0 {
        let zeros = if digits == "0" { 0 } else { usize::from(scale.unsigned_abs()) };
        (format!("{digits}{}", "0".repeat(zeros)), String::new())
    } else {
        let scale = scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        (whole.to_owned(), fraction.to_owned())
    };
    let mut whole = whole.trim_start_matches('0').to_owned();
    match style {
        Style::Exact => {}
        Style::Short => fraction.truncate(fraction.trim_end_matches('0').len()),
        Style::Quotient => {
            let wanted = quotient_digits(&whole, &fraction).min(fraction.len());
            let up = fraction.as_bytes().get(wanted).is_some_and(|d| *d >= b'5');
            fraction.truncate(wanted);
            if up {
                (whole, fraction) = rounded_up(&whole, &fraction);
            }
        }
    }
    let zero = whole.is_empty() && fraction.bytes().all(|d| d == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { &whole };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// One unit more in the last place.
fn rounded_up(whole: &str, fraction: &str) -> (String, String) {
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let mut carry = true;
    for digit in digits.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            carry = false;
            break;
        }
    }
    if carry {
        digits.insert(0, b'1');
    }
    let text: String = digits.into_iter().map(char::from).collect();
    let (whole, fraction) = text.split_at(text.len() - fraction.len());
    (whole.to_owned(), fraction.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scales_are_kept_cut_or_computed() {
        assert_eq!(text("150", 2, Style::Exact), "1.50");
        assert_eq!(text("-5", 2, Style::Exact), "-0.05");
        assert_eq!(text("0", 2, Style::Exact), "0.00");
        assert_eq!(text("15000000000", 10, Style::Short), "1.5");
        assert_eq!(text("20000000000", 10, Style::Short), "2");
        assert_eq!(text("12", -2, Style::Exact), "1200");
    }

    #[test]
    fn quotients_have_sixteen_digits_or_more() {
        let of = |whole: &str, repeated: char| text(&format!("{whole}{}", repeated.to_string().repeat(28)), 28, Style::Quotient);
        assert_eq!(of("3", '3'), "3.3333333333333333");
        assert_eq!(of("0", '3'), "0.33333333333333333333");
        assert_eq!(of("33333", '3'), "33333.333333333333");
        assert_eq!(of("1", '6'), "1.6666666666666667");
        assert_eq!(text("40000000000000000000000000000", 28, Style::Quotient), "4.0000000000000000");
        assert_eq!(of("9", '9'), "10.0000000000000000");
    }
}
