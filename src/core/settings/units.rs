//! Text of settings with units, and DateStyle.
//!
//! In: what a person wrote. Out: numbers in the setting's unit, the canonical spelling. Invariant: None for anything that is
//! not understood. Deliberately absent: ranges (`settings`).

use super::Unit;

/// A number with the suffix of a unit of the same sort, in `unit`.
pub(super) fn parse_int(input: &str, unit: Unit) -> Option<i64> {
    let text = input.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = match (unit, suffix.trim()) {
        (_, "") => 1.0,
        (Unit::Ms, s) => time_ms(s)?,
        (Unit::S, s) => time_ms(s)? / 1000.0,
        (Unit::Bytes, s) => bytes_of(s)?,
        (Unit::Kb, s) => bytes_of(s)? / 1024.0,
        (Unit::None, _) => return None,
    };
    if factor == 1.0
        && let Ok(exact) = number.parse::<i64>()
    {
        return Some(exact);
    }
    let value = number.parse::<f64>().ok()? * factor;
    (value.abs() < 9.2e18).then(|| value.round() as i64)
}

fn time_ms(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    })
}

fn bytes_of(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "B" => 1.0,
        "kB" => 1024.0,
        "MB" => 1_048_576.0,
        "GB" => 1_073_741_824.0,
        "TB" => 1_099_511_627_776.0,
        _ => return None,
    })
}

/// `ISO, DMY` from any order and case of style and order words.
pub(super) fn date_style(input: &str) -> Option<String> {
    let (mut style, mut order) = ("ISO", "MDY");
    for word in input.split(',').map(|w| w.trim().to_ascii_lowercase()) {
        match word.as_str() {
            "iso" => style = "ISO",
            "postgres" => style = "Postgres",
            "sql" => style = "SQL",
            "german" => (style, order) = ("German", "DMY"),
            "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
            "dmy" | "euro" | "european" => order = "DMY",
            "ymd" => order = "YMD",
            "default" => (style, order) = ("ISO", "MDY"),
            _ => return None,
        }
    }
    Some(format!("{style}, {order}"))
}
