//! Scalars from text: numbers, booleans, bytea, uuid, bits, boxes.
//!
//! In: the text a client wrote for a value of a known type. Out: the value, or PostgreSQL's error for that type.
//! Invariant: blanks around numbers are ignored as PostgreSQL does. Deliberately absent: dates (datetime), arrays (array).

use squilla_core::error::{Error, Kind, Result};

/// `invalid input syntax for type ...`
pub fn bad(ty: &str, text: &str) -> Error {
    Error::new(Kind::InvalidText, format!("invalid input syntax for type {ty}: \"{text}\""))
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// smallint, integer, bigint, oid.
pub fn int<T: std::str::FromStr<Err = std::num::ParseIntError>>(ty: &str, text: &str) -> Result<T> {
    text.trim_matches(blank).parse::<T>().map_err(|e| match e.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            Error::new(Kind::OutOfRange, format!("value \"{text}\" is out of range for type {ty}"))
        }
        _ => bad(ty, text),
    })
}

/// double precision.
pub fn float8(text: &str) -> Result<f64> {
    let trimmed = text.trim_matches(blank);
    let value: f64 = trimmed.parse().map_err(|_| bad("double precision", text))?;
    out_of_range(value.is_infinite() || value == 0.0, trimmed, "double precision")?;
    Ok(value)
}

/// real.
pub fn float4(text: &str) -> Result<f32> {
    let trimmed = text.trim_matches(blank);
    let value: f32 = trimmed.parse().map_err(|_| bad("real", text))?;
    out_of_range(value.is_infinite() || value == 0.0, trimmed, "real")?;
    Ok(value)
}

/// A number that became infinite or zero without saying so is out of range.
fn out_of_range(extreme: bool, text: &str, ty: &str) -> Result<()> {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    if extreme && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        return Err(Error::new(Kind::OutOfRange, format!("\"{text}\" is out of range for type {ty}")));
    }
    Ok(())
}

/// boolean: true, false, yes, no, on, off, 1, 0 and their unique beginnings.
pub fn boolean(text: &str) -> Result<bool> {
    let word = text.trim_matches(blank).to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    match () {
        () if begins("true", 1) || begins("yes", 1) || begins("on", 2) || word == "1" => Ok(true),
        () if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" => Ok(false),
        () => Err(bad("boolean", text)),
    }
}

fn nibble(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|d| d as u8)
}

/// bytea: `\x` and hex digits, or characters with octal escapes.
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex.bytes().filter(|b| !blank(*b as char)).collect();
        if !digits.len().is_multiple_of(2) {
            return Err(Error::new(Kind::InvalidArgument, "invalid hexadecimal data: odd number of digits"));
        }
        let pair = |p: &[u8]| nibble(p[0]).zip(nibble(p[1])).map(|(a, b)| a << 4 | b);
        return digits.chunks_exact(2).map(pair).collect::<Option<Vec<u8>>>().ok_or_else(|| {
            let wrong = digits.iter().find(|b| nibble(**b).is_none()).copied().unwrap_or(b'?');
            Error::new(Kind::InvalidArgument, format!("invalid hexadecimal digit: \"{}\"", char::from(wrong)))
        });
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i..] {
            [b'\\', b'\\', ..] => {
                out.push(b'\\');
                i += 2;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                i += 4;
            }
            [b'\\', ..] => return Err(Error::new(Kind::InvalidText, "invalid input syntax for type bytea")),
            [byte, ..] => {
                out.push(byte);
                i += 1;
            }
            [] => break,
        }
    }
    Ok(out)
}

/// uuid: 32 hex digits, hyphens after any group of four, braces allowed.
pub fn uuid(text: &str) -> Result<[u8; 16]> {
    let inner = text.trim_matches(blank);
    let inner = inner.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(inner);
    let mut out = [0u8; 16];
    let mut digits = 0;
    let mut after_hyphen = true;
    for byte in inner.bytes() {
        match nibble(byte) {
            Some(value) if digits < 32 => {
                out[digits / 2] |= if digits % 2 == 0 { value << 4 } else { value };
                digits += 1;
                after_hyphen = false;
            }
            None if byte == b'-' && digits % 4 == 0 && !after_hyphen && digits < 32 => after_hyphen = true,
            _ => return Err(bad("uuid", text)),
        }
    }
    if digits == 32 { Ok(out) } else { Err(bad("uuid", text)) }
}

/// bit: a string of 0 and 1 whose length is a multiple of eight.
pub fn bits(text: &str) -> Result<Vec<u8>> {
    let digits = text.strip_prefix(['b', 'B']).unwrap_or(text);
    if let Some(wrong) = digits.chars().find(|c| !matches!(c, '0' | '1')) {
        return Err(Error::new(Kind::InvalidText, format!("\"{wrong}\" is not a valid binary digit")));
    }
    if !digits.len().is_multiple_of(8) {
        return Err(Error::unsupported("bit strings whose length is not a multiple of 8 are not supported"));
    }
    Ok(digits.as_bytes().chunks(8).map(|byte| byte.iter().fold(0, |b, digit| b << 1 | (digit - b'0'))).collect())
}

/// `(x1,y1),(x2,y2)`
pub fn box2d(text: &str) -> Result<[f32; 4]> {
    let numbers: Vec<f32> = text
        .split(|c: char| matches!(c, '(' | ')' | ',') || blank(c))
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| bad("box2d", text)))
        .collect::<Result<_>>()?;
    numbers.try_into().map_err(|_| bad("box2d", text))
}

/// `[1,2,3]`
pub fn vector(text: &str) -> Result<Vec<f32>> {
    let wrong = || bad("vector", text);
    let inner = text.trim_matches(blank).strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or_else(wrong)?;
    let values: Vec<f32> = inner.split(',').map(|part| part.trim_matches(blank).parse::<f32>().map_err(|_| wrong())).collect::<Result<_>>()?;
    match values.iter().find(|v| !v.is_finite()) {
        Some(v) if v.is_nan() => Err(Error::new(Kind::InvalidText, "NaN not allowed in vector")),
        Some(_) => Err(Error::new(Kind::InvalidText, "infinite value not allowed in vector")),
        None => Ok(values),
    }
}

/// numeric: its digits as an integer and how many of them stand behind the point.
pub fn numeric(text: &str) -> Result<(i128, i8)> {
    let wrong = || bad("numeric", text);
    let trimmed = text.trim_matches(blank);
    if matches!(trimmed.to_ascii_lowercase().trim_start_matches(['+', '-']), "nan" | "inf" | "infinity") {
        return Err(Error::unsupported(format!("numeric value {trimmed} is not supported")).hint("Use double precision for NaN and infinities."));
    }
    let (mantissa, exponent) = match trimmed.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().map_err(|_| wrong())?),
        None => (trimmed, 0),
    };
    let (negative, magnitude) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let too_big = || Error::new(Kind::OutOfRange, "value overflows numeric format").detail("A numeric value holds at most 38 digits.");
    let mut scale = i32::try_from(fraction.len()).map_err(|_| too_big())?.checked_sub(exponent).ok_or_else(too_big)?;
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0'))).ok_or_else(too_big)?;
    }
    while scale < 0 {
        value = value.checked_mul(10).ok_or_else(too_big)?;
        scale += 1;
    }
    if value.unsigned_abs() >= 10u128.pow(38) || scale > 38 {
        return Err(too_big());
    }
    Ok((if negative { -value } else { value }, scale as i8))
}

/// `value` with `from` digits behind the point, rounded half away from zero to `to` of them.
pub fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    if to >= from {
        return 10i128.checked_pow(u32::from((to as i16 - from as i16).unsigned_abs())).and_then(|f| value.checked_mul(f));
    }
    let factor = 10i128.checked_pow(u32::from((from as i16 - to as i16).unsigned_abs()))?;
    let (quotient, rest) = (value / factor, value % factor);
    Some(if rest.unsigned_abs() * 2 >= factor.unsigned_abs() { quotient + value.signum() } else { quotient })
}

/// numeric's binary form, as text.
pub fn numeric_from_binary(bytes: &[u8]) -> Result<String> {
    let wrong = || Error::new(Kind::InvalidBinary, "invalid binary numeric value");
    let word = |i: usize| bytes.get(i * 2..i * 2 + 2).map(|b| i16::from_be_bytes([b[0], b[1]])).ok_or_else(wrong);
    let (count, weight, sign, scale) = (word(0)?, i32::from(word(1)?), word(2)? as u16, word(3)?);
    match sign {
        0xc000 => return Ok("NaN".into()),
        0xd000 => return Ok("Infinity".into()),
        0xf000 => return Ok("-Infinity".into()),
        0 | 0x4000 if count >= 0 && scale >= 0 && bytes.len() == 8 + count as usize * 2 => {}
        _ => return Err(wrong()),
    }
    // Base-10000 group i stands at 10000^(weight - i).
    let group = |at: i32| -> Result<i16> {
        let i = weight - at;
        let value = if (0..i32::from(count)).contains(&i) { word(4 + i as usize)? } else { 0 };
        if (0..10_000).contains(&value) { Ok(value) } else { Err(wrong()) }
    };
    let mut text = String::from(if sign == 0x4000 { "-" } else { "" });
    if weight < 0 {
        text.push('0');
    } else if weight > 40 {
        return Err(Error::new(Kind::OutOfRange, "value overflows numeric format"));
    }
    for at in (0..=weight).rev() {
        let part = if at == weight { format!("{}", group(at)?) } else { format!("{:04}", group(at)?) };
        text.push_str(&part);
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut at = -1;
        while fraction.len() < scale as usize {
            fraction.push_str(&format!("{:04}", group(at)?));
            at -= 1;
        }
        text.push('.');
        text.push_str(&fraction[..scale as usize]);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_and_their_errors() {
        assert_eq!(int::<i32>("integer", " 42 ").unwrap(), 42);
        assert_eq!(int::<i32>("integer", "xyz").unwrap_err().message, "invalid input syntax for type integer: \"xyz\"");
        assert_eq!(int::<i16>("smallint", "99999").unwrap_err().kind, Kind::OutOfRange);
        assert_eq!(float8("-Infinity").unwrap(), f64::NEG_INFINITY);
        assert!(float8("nan").unwrap().is_nan());
        assert_eq!(float8("1e999").unwrap_err().kind, Kind::OutOfRange);
        assert_eq!(float4("0e5").unwrap(), 0.0);
        assert!(boolean("TRU").unwrap() && !boolean("of").unwrap());
        assert!(boolean("o").is_err());
    }

    #[test]
    fn numerics_keep_their_scale() {
        assert_eq!(numeric("-12.50").unwrap(), (-1250, 2));
        assert_eq!(numeric("1e3").unwrap(), (1000, 0));
        assert_eq!(numeric(".5").unwrap(), (5, 1));
        assert!(numeric("1.2.3").is_err() && numeric("").is_err() && numeric(&"9".repeat(39)).is_err());
        assert_eq!(rescale(125, 2, 1), Some(13));
        assert_eq!(rescale(-125, 2, 1), Some(-13));
        assert_eq!(rescale(1, 0, 3), Some(1000));
        for text in ["12345.678", "-0.0001", "0.00", "10000", "1.5", "0.00000012", "123456789012345678901234567890.123"] {
            let mut bytes = Vec::new();
            crate::encode::number::numeric_binary(&mut bytes, text.as_bytes());
            assert_eq!(numeric_from_binary(&bytes).unwrap(), text);
        }
        assert!(numeric_from_binary(&[0, 9, 0]).is_err());
    }

    #[test]
    fn bytes_bits_and_uuids() {
        assert_eq!(bytea("\\x00fF").unwrap(), [0, 255]);
        assert_eq!(bytea("a\\\\b\\001").unwrap(), b"a\\b\x01");
        assert!(bytea("\\x0").is_err() && bytea("\\9").is_err());
        assert_eq!(uuid("{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}").unwrap()[0], 0xa0);
        assert!(uuid("a0eebc99").is_err());
        assert_eq!(bits("1000000011111111").unwrap(), [128, 255]);
        assert_eq!(box2d("(1,2.5),(3,4)").unwrap(), [1.0, 2.5, 3.0, 4.0]);
        assert_eq!(vector(" [1, 2.5] ").unwrap(), [1.0, 2.5]);
        assert!(vector("[nan]").is_err() && vector("[]").is_err());
    }
}
