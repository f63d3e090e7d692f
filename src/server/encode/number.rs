//! Numbers as PostgreSQL prints them, and numeric's binary form.
//!
//! In: integers, floats, decimals with a scale. Out: text (shortest that reads back for floats, exactly `scale` digits for
//! numeric) or base-10000 digits. Invariant: the same bytes as float4out, float8out, numeric_out and numeric_send.
//! Deliberately absent: locale money, `to_char` patterns.

use std::fmt::Write as _;

/// Appends an integer.
#[inline]
pub fn int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a double; `digits` is `extra_float_digits` (1 and above: shortest that reads back).
pub fn float8(out: &mut Vec<u8>, value: f64, digits: i32) {
    if special(out, value) {
        return;
    }
    if digits <= 0 {
        return rounded(out, value, (15 + digits).max(1) as usize);
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    if (4_503_599_627_370_496.0..1e40).contains(&magnitude) {
        let longer = |digits: usize| format!("{value:.*e}", digits - 1);
        let reads_back = |text: &str| text.parse() == Ok(value);
        return shortest(out, &strict(text, longer, reads_back), magnitude < 1e15);
    }
    shortest(out, text, (1e-4..1e15).contains(&magnitude));
}

/// Appends a real; `digits` as in [`float8`].
pub fn float4(out: &mut Vec<u8>, value: f32, digits: i32) {
    if special(out, f64::from(value)) {
        return;
    }
    if digits <= 0 {
        return rounded(out, f64::from(value), (6 + digits).max(1) as usize);
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    if (4_194_304.0..1e20).contains(&magnitude) {
        let longer = |digits: usize| format!("{value:.*e}", digits - 1);
        let reads_back = |text: &str| text.parse() == Ok(value);
        return shortest(out, &strict(text, longer, reads_back), magnitude < 1e6);
    }
    // The double nearest to 1e-4 is below the real nearest to it, hence the comparison as f32.
    shortest(out, text, (1e-4f32..1e6f32).contains(&magnitude));
}

fn special(out: &mut Vec<u8>, value: f64) -> bool {
    if value.is_finite() {
        return false;
    }
    out.extend_from_slice(match value {
        v if v.is_nan() => b"NaN" as &[u8],
        v if v > 0.0 => b"Infinity",
        _ => b"-Infinity",
    });
    true
}

/// PostgreSQL does not take the decimal that lies exactly half way to the neighbouring float, though it reads back: one
/// or more digits are added then. Only large numbers have such decimals.
fn strict(text: &str, longer: impl Fn(usize) -> String, reads_back: impl Fn(&str) -> bool) -> String {
    let mut text = text.to_owned();
    let mut wanted = 0;
    loop {
        let (sign, digits, exponent) = parts(&text);
        wanted = digits.len().max(wanted) + 1;
        let number: u64 = digits.parse().unwrap_or(0);
        // Just above and just below: far less away than half the distance to the next float.
        let tail = 26 - digits.len().min(17);
        let scale = exponent + 1 - (digits.len() + tail) as i32;
        let above = format!("{sign}{number}{:0>tail$}e{scale}", 1);
        let below = format!("{sign}{}{:9>tail$}e{scale}", number.saturating_sub(1), "");
        if number == 0 || wanted > 17 || (reads_back(&above) && reads_back(&below)) {
            return text;
        }
        text = longer(wanted);
    }
}

/// Sign, digits without zeros at the ends, and the decimal exponent of the first digit.
fn parts(text: &str) -> (&'static str, String, i32) {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let point = whole.len() as i32 + exponent.parse::<i32>().unwrap_or(0) - (all.len() - digits.len()) as i32;
    (sign, digits.trim_end_matches('0').to_owned(), point - 1)
}

/// `text` is a shortest representation in Rust's style; `fixed` says whether PostgreSQL prints it without exponent.
fn shortest(out: &mut Vec<u8>, text: &str, fixed: bool) {
    if fixed && !text.contains('e') {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    }
    let (sign, digits, exponent) = parts(text);
    out.extend_from_slice(sign.as_bytes());
    lay_out(out, &digits, exponent, fixed);
}

/// Digits without leading or trailing zeros, and the decimal exponent of the first one.
fn lay_out(out: &mut Vec<u8>, digits: &str, exponent: i32, fixed: bool) {
    let bytes = digits.as_bytes();
    if !fixed {
        out.push(bytes[0]);
        if bytes.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&bytes[1..]);
        }
        let mut text = String::new();
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "e{sign}{:02}", exponent.abs());
        out.extend_from_slice(text.as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(bytes);
    } else {
        let whole = exponent as usize + 1;
        out.extend_from_slice(&bytes[..whole.min(bytes.len())]);
        out.resize(out.len() + whole.saturating_sub(bytes.len()), b'0');
        if bytes.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&bytes[whole..]);
        }
    }
}

/// C's `%.{digits}g`.
fn rounded(out: &mut Vec<u8>, value: f64, digits: usize) {
    if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
        return;
    }
    let text = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let fixed = exponent >= -4 && exponent < digits as i32;
    if mantissa.starts_with('-') {
        out.push(b'-');
    }
    let plain: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    lay_out(out, plain.trim_end_matches('0'), exponent, fixed);
}

/// Appends a decimal: `value` is its digits as an integer, `scale` how many of them stand behind the point.
pub fn decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    if value < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    place_point(out, buffer.format(value.unsigned_abs()).as_bytes(), scale);
}

/// As [`decimal`], for digits that do not fit 128 bits (with an optional sign in front).
pub fn decimal_text(out: &mut Vec<u8>, digits: &str, scale: i8) {
    let magnitude = digits.strip_prefix('-').unwrap_or(digits);
    if magnitude.len() != digits.len() {
        out.push(b'-');
    }
    place_point(out, magnitude.as_bytes(), scale);
}

fn place_point(out: &mut Vec<u8>, digits: &[u8], scale: i8) {
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    }
    let scale = scale as usize;
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

/// Appends the binary form of a numeric written as text (`-12.340`, `NaN`, `Infinity`).
pub fn numeric_binary(out: &mut Vec<u8>, text: &[u8]) {
    let header = |out: &mut Vec<u8>, digits: i16, weight: i16, sign: u16, scale: u16| {
        out.extend_from_slice(&digits.to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&scale.to_be_bytes());
    };
    match text {
        b"NaN" => return header(out, 0, 0, 0xc000, 0),
        b"Infinity" => return header(out, 0, 0, 0xd000, 0),
        b"-Infinity" => return header(out, 0, 0, 0xf000, 0),
        _ => {}
    }
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or(&[]));
    let groups_before = whole.len().div_ceil(4);
    let mut groups: Vec<i16> = Vec::with_capacity(groups_before + fraction.len().div_ceil(4));
    let number = |part: &[u8]| part.iter().fold(0i16, |n, b| n * 10 + i16::from(b - b'0'));
    let first = whole.len() - groups_before.saturating_sub(1) * 4;
    if groups_before > 0 {
        groups.push(number(&whole[..first]));
        groups.extend(whole[first..].chunks(4).map(number));
    }
    for part in fraction.chunks(4) {
        groups.push(number(part) * 10i16.pow(4 - part.len() as u32));
    }
    let mut weight = groups_before as i16 - 1;
    let leading = groups.iter().take_while(|g| **g == 0).count();
    weight -= leading as i16;
    let trailing = groups[leading..].iter().rev().take_while(|g| **g == 0).count();
    let groups = &groups[leading..groups.len() - trailing];
    if groups.is_empty() {
        return header(out, 0, 0, 0, fraction.len() as u16);
    }
    header(out, groups.len() as i16, weight, if negative { 0x4000 } else { 0 }, fraction.len() as u16);
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_the_shortest_that_read_back() {
        for (value, wanted) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (0.3, "0.3"),
            (0.1 + 0.2, "0.30000000000000004"),
            (100.0, "100"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-5, "1.5e-05"),
            (-1.25, "-1.25"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (1e-100, "1e-100"),
            (-1.5e-7, "-1.5e-07"),
            (f64::from_bits(0xc38b_fa26_f5de_5e4c), "-2.5199582758016038e+17"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
        ] {
            assert_eq!(text(|o| float8(o, value, 1)), wanted);
        }
    }

    #[test]
    fn reals_switch_to_exponents_earlier() {
        for (value, wanted) in [
            (0.1f32, "0.1"),
            (1e6, "1e+06"),
            (999_999.0, "999999"),
            (123_456.7, "123456.7"),
            (1_234_567.0, "1.234567e+06"),
            (16_777_216.0, "1.6777216e+07"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (3.4e38, "3.4e+38"),
            (f32::from_bits(0x4d68_392c), "2.4350381e+08"),
            (f32::MIN_POSITIVE, "1.1754944e-38"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(text(|o| float4(o, value, 1)), wanted);
        }
    }

    #[test]
    fn fewer_digits_round_as_printf_does() {
        assert_eq!(text(|o| float8(o, 0.1 + 0.2, 0)), "0.3");
        assert_eq!(text(|o| float8(o, 1.0 / 3.0, 0)), "0.333333333333333");
        assert_eq!(text(|o| float8(o, 1e15, 0)), "1e+15");
        assert_eq!(text(|o| float4(o, 1.0 / 3.0, 0)), "0.333333");
        assert_eq!(text(|o| float8(o, 123_456.0, -12)), "1.23e+05");
    }

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(text(|o| decimal(o, 12345, 2)), "123.45");
        assert_eq!(text(|o| decimal(o, -5, 3)), "-0.005");
        assert_eq!(text(|o| decimal(o, 0, 2)), "0.00");
        assert_eq!(text(|o| decimal(o, 7, 0)), "7");
        assert_eq!(text(|o| decimal(o, 7, -3)), "7000");
        assert_eq!(text(|o| decimal(o, i128::MIN, 0)), "-170141183460469231731687303715884105728");
        assert_eq!(text(|o| decimal_text(o, "-1234", 6)), "-0.001234");
    }

    #[test]
    fn numeric_binary_is_base_ten_thousand() {
        let binary = |t: &str| {
            let mut out = Vec::new();
            numeric_binary(&mut out, t.as_bytes());
            out.chunks(2).map(|c| i16::from_be_bytes([c[0], c[1]])).collect::<Vec<_>>()
        };
        assert_eq!(binary("12345.678"), [3, 1, 0, 3, 1, 2345, 6780]);
        assert_eq!(binary("-0.0001"), [1, -1, 0x4000, 4, 1]);
        assert_eq!(binary("0.00"), [0, 0, 0, 2]);
        assert_eq!(binary("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(binary("1.5"), [2, 0, 0, 1, 1, 5000]);
        assert_eq!(binary("0.00000012"), [1, -2, 0, 8, 12]);
        assert_eq!(binary("NaN"), [0, 0, -16384, 0]);
    }
}
