//! Binary values of the PostgreSQL protocol, written the way PostgreSQL writes them as text.
//!
//! In: a type and the bytes of one value in binary format. Out: the text that the same value has in text format, so that
//! one sqllogictest record serves both protocols. Types without a binary form of their own arrive as UTF-8 text.
//! Deliberately absent: session settings; the test client fixes time zone UTC, date style ISO and interval style postgres.

use tokio_postgres::types::{Kind, Type};

/// The text of a value, or why its bytes are not a value of the type.
pub fn value_text(ty: &Type, raw: &[u8]) -> Result<String, String> {
    let mut reader = Reader { raw, ty: ty.name().to_owned() };
    let text = match *ty {
        Type::BOOL => if reader.take::<1>()?[0] == 0 { "f" } else { "t" }.to_owned(),
        Type::CHAR => match reader.take::<1>()? {
            [0] => String::new(),
            [byte] => char::from(byte).to_string(),
        },
        Type::INT2 => i16::from_be_bytes(reader.take()?).to_string(),
        Type::INT4 => i32::from_be_bytes(reader.take()?).to_string(),
        Type::INT8 => i64::from_be_bytes(reader.take()?).to_string(),
        Type::OID | Type::REGCLASS | Type::REGPROC | Type::REGTYPE | Type::XID => u32::from_be_bytes(reader.take()?).to_string(),
        Type::FLOAT4 => float_text(f32::from_be_bytes(reader.take()?), 6),
        Type::FLOAT8 => float_text(f64::from_be_bytes(reader.take()?), 15),
        Type::NUMERIC => numeric_text(&mut reader)?,
        Type::BYTEA => format!("\\x{}", reader.rest().iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Type::DATE => date_text(i64::from(i32::from_be_bytes(reader.take()?))),
        Type::TIME => time_text(i64::from_be_bytes(reader.take()?)),
        Type::TIMESTAMP => timestamp_text(i64::from_be_bytes(reader.take()?)),
        Type::TIMESTAMPTZ => match timestamp_text(i64::from_be_bytes(reader.take()?)) {
            text if text.ends_with("infinity") => text,
            text => match text.strip_suffix(" BC") {
                Some(text) => format!("{text}+00 BC"),
                None => format!("{text}+00"),
            },
        },
        Type::INTERVAL => interval_text(i64::from_be_bytes(reader.take()?), i32::from_be_bytes(reader.take()?), i32::from_be_bytes(reader.take()?)),
        Type::UUID => uuid_text(reader.take()?),
        Type::JSONB => match reader.take::<1>()? {
            [1] => utf8(reader.rest())?,
            [version] => return Err(format!("jsonb of version {version}")),
        },
        Type::BIT | Type::VARBIT => bit_text(&mut reader)?,
        Type::RECORD => record_text(&mut reader)?,
        _ if ty.name() == "vector" => vector_text(&mut reader)?,
        _ if ty.name() == "box2d" => box_text(&mut reader)?,
        // `squilla.image_output` decides: a description, or the bytes of a file.
        _ if ty.name() == "image" => match std::str::from_utf8(reader.rest()) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("\\x{}", raw.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        },
        _ => match ty.kind() {
            Kind::Array(element) => array_text(element, &mut reader)?,
            _ => utf8(reader.rest())?,
        },
    };
    match reader.raw.len() {
        0 => Ok(text),
        n => Err(format!("{n} bytes too many in a value of type {}", ty.name())),
    }
}

struct Reader<'a> {
    raw: &'a [u8],
    ty: String,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, tail) = self.raw.split_first_chunk::<N>().ok_or_else(|| format!("a value of type {} ends too early", self.ty))?;
        self.raw = tail;
        Ok(*head)
    }

    fn slice(&mut self, n: usize) -> Result<&'a [u8], String> {
        if n > self.raw.len() {
            return Err(format!("a value of type {} ends too early", self.ty));
        }
        let (head, tail) = self.raw.split_at(n);
        self.raw = tail;
        Ok(head)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.raw)
    }

    fn length(&mut self) -> Result<Option<usize>, String> {
        let n = i32::from_be_bytes(self.take()?);
        Ok(usize::try_from(n).ok())
    }
}

fn utf8(raw: &[u8]) -> Result<String, String> {
    String::from_utf8(raw.to_vec()).map_err(|_| "text that is not UTF-8".to_owned())
}

/// Shortest digits that read back as the same number; an exponent below -4 or from `digits` on.
fn float_text<F: std::fmt::LowerExp + std::fmt::Display + Into<f64> + Copy>(value: F, digits: i32) -> String {
    let wide: f64 = value.into();
    if wide.is_nan() {
        return "NaN".to_owned();
    }
    if wide.is_infinite() {
        return if wide > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    if exponent < -4 || exponent >= digits {
        format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    } else {
        format!("{value}")
    }
}

fn numeric_text(reader: &mut Reader<'_>) -> Result<String, String> {
    let count = i16::from_be_bytes(reader.take()?);
    let weight = i32::from(i16::from_be_bytes(reader.take()?));
    let sign = u16::from_be_bytes(reader.take()?);
    let scale = usize::from(u16::from_be_bytes(reader.take()?));
    match sign {
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        0xF000 => return Ok("-Infinity".to_owned()),
        _ => {}
    }
    let digits = (0..count).map(|_| Ok(i16::from_be_bytes(reader.take()?))).collect::<Result<Vec<_>, String>>()?;
    let digit = |i: i32| usize::try_from(i).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0);
    let whole: String = (0..=weight).map(|i| format!("{:04}", digit(i))).collect();
    let whole = whole.trim_start_matches('0');
    let groups = i32::try_from(scale.div_ceil(4)).unwrap();
    let fraction: String = (1..=groups).map(|i| format!("{:04}", digit(weight + i))).collect();
    let sign = if sign == 0x4000 { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", &fraction[..scale]) })
}

/// Year, month and day of a day number counted from 2000-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 730_425; // counted from 0000-03-01
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

fn date_text(days: i64) -> String {
    match days {
        d if d == i64::from(i32::MAX) => return "infinity".to_owned(),
        d if d == i64::from(i32::MIN) => return "-infinity".to_owned(),
        _ => {}
    }
    let (year, month, day) = civil(days);
    if year > 0 { format!("{year:04}-{month:02}-{day:02}") } else { format!("{:04}-{month:02}-{day:02} BC", 1 - year) }
}

fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { text } else { format!("{text}.{}", format!("{fraction:06}").trim_end_matches('0')) }
}

fn timestamp_text(micros: i64) -> String {
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let day = 86_400_000_000;
    let date = date_text(micros.div_euclid(day));
    let time = time_text(micros.rem_euclid(day));
    match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {time} BC"),
        None => format!("{date} {time}"),
    }
}

fn interval_text(micros: i64, days: i32, months: i32) -> String {
    let mut parts = Vec::new();
    let mut signed_before = false;
    let mut part = |n: i32, unit: &str| {
        if n != 0 {
            let plus = if signed_before && n > 0 { "+" } else { "" };
            parts.push(format!("{plus}{n} {unit}{}", if n == 1 { "" } else { "s" }));
            signed_before = n < 0;
        }
    };
    part(months / 12, "year");
    part(months % 12, "mon");
    part(days, "day");
    if micros != 0 || parts.is_empty() {
        let sign = if micros < 0 {
            "-"
        } else if signed_before {
            "+"
        } else {
            ""
        };
        parts.push(format!("{sign}{}", time_text(micros.abs())));
    }
    parts.join(" ")
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn bit_text(reader: &mut Reader<'_>) -> Result<String, String> {
    let bits = reader.length()?.ok_or("a bit string of negative length")?;
    let bytes = reader.slice(bits.div_ceil(8))?;
    Ok((0..bits).map(|i| if bytes[i / 8] >> (7 - i % 8) & 1 == 1 { '1' } else { '0' }).collect())
}

/// pgvector's binary form: dimensions u16, reserved u16, then f32 values.
fn vector_text(reader: &mut Reader<'_>) -> Result<String, String> {
    let dimensions = u16::from_be_bytes(reader.take()?);
    reader.take::<2>()?;
    let values = (0..dimensions).map(|_| Ok(float_text(f32::from_be_bytes(reader.take()?), 6))).collect::<Result<Vec<_>, String>>()?;
    Ok(format!("[{}]", values.join(",")))
}

/// Four float8, as PostgreSQL's box; the text is that of float4.
fn box_text(reader: &mut Reader<'_>) -> Result<String, String> {
    let mut side = || Ok::<_, String>(float_text(f64::from_be_bytes(reader.take()?) as f32, 6));
    Ok(format!("({},{}),({},{})", side()?, side()?, side()?, side()?))
}

fn element(ty: &Type, reader: &mut Reader<'_>) -> Result<Option<String>, String> {
    reader.length()?.map(|n| value_text(ty, reader.slice(n)?)).transpose()
}

fn array_text(ty: &Type, reader: &mut Reader<'_>) -> Result<String, String> {
    let dimensions = i32::from_be_bytes(reader.take()?);
    reader.take::<4>()?; // whether there are NULLs
    let oid = u32::from_be_bytes(reader.take()?);
    if oid != ty.oid() {
        return Err(format!("an array of {} holds elements of oid {oid}", ty.name()));
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(i32::from_be_bytes(reader.take()?));
        reader.take::<4>()?; // lower bound
    }
    if lengths.is_empty() {
        return Ok("{}".to_owned());
    }
    array_level(ty, &lengths, reader)
}

fn array_level(ty: &Type, lengths: &[i32], reader: &mut Reader<'_>) -> Result<String, String> {
    let mut items = Vec::new();
    for _ in 0..lengths[0] {
        items.push(match lengths {
            [_] => match element(ty, reader)? {
                None => "NULL".to_owned(),
                Some(text) => quoted(&text, "{},\"\\", |t| t.eq_ignore_ascii_case("null"), '\\'),
            },
            _ => array_level(ty, &lengths[1..], reader)?,
        });
    }
    Ok(format!("{{{}}}", items.join(",")))
}

fn record_text(reader: &mut Reader<'_>) -> Result<String, String> {
    let count = i32::from_be_bytes(reader.take()?);
    let mut items = Vec::new();
    for _ in 0..count {
        let oid = u32::from_be_bytes(reader.take()?);
        let ty = Type::from_oid(oid).unwrap_or(Type::TEXT);
        items.push(match element(&ty, reader)? {
            None => String::new(),
            Some(text) => quoted(&text, "(),\"\\", |_| false, '"'),
        });
    }
    Ok(format!("({})", items.join(",")))
}

/// Quotes a member of an array or record where PostgreSQL would; `escape` stands before a quote, a backslash is doubled.
fn quoted(text: &str, special: &str, reserved: impl Fn(&str) -> bool, escape: char) -> String {
    let needs = text.is_empty() || reserved(text) || text.contains(|c: char| special.contains(c) || c.is_ascii_whitespace());
    if !needs {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push(escape),
            '\\' => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out.push('"');
    out
}
