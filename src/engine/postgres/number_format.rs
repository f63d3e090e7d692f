//! Numbers by a template: `to_char(number, template)` and `to_number`.
//!
//! In: the digits of a number, and a template of PostgreSQL. Out: text; or a number from text. Invariant: a number that does
//! not fit its template is shown as `#`. Deliberately absent: EEEE, and locales: the point is `.`, groups are parted by `,`.

use squilla_core::error::{Error, Kind, Result};

/// A place of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nine,
    Zero,
    Point,
    Group,
    Sign,
    Minus,
    Plus,
    PlusMinus,
    Angle,
    Currency,
    Ordinal(bool),
    Roman(bool),
    Shift,
    Text(char),
}

struct Template {
    places: Vec<Place>,
    fill: bool,
}

fn parse(template: &str) -> Template {
    let mut places = Vec::new();
    let mut fill = true;
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        let upper: String = rest.chars().take(2).collect::<String>().to_uppercase();
        let lower = rest.starts_with(char::is_lowercase);
        let (place, length) = match (c.to_ascii_uppercase(), upper.as_str()) {
            (_, "FM") => {
                fill = false;
                rest = rest.get(2..).unwrap_or("");
                continue;
            }
            (_, "MI") => (Place::Minus, 2),
            (_, "PL") => (Place::Plus, 2),
            (_, "SG") => (Place::PlusMinus, 2),
            (_, "PR") => (Place::Angle, 2),
            (_, "TH") => (Place::Ordinal(lower), 2),
            (_, "RN") => (Place::Roman(lower), 2),
            ('9', _) => (Place::Nine, 1),
            ('0', _) => (Place::Zero, 1),
            ('.' | 'D', _) => (Place::Point, 1),
            (',' | 'G', _) => (Place::Group, 1),
            ('S', _) => (Place::Sign, 1),
            ('L', _) => (Place::Currency, 1),
            ('V', _) => (Place::Shift, 1),
            ('"', _) => {
                let body = rest.get(1..).unwrap_or("");
                let end = body.find('"').unwrap_or(body.len());
                places.extend(body.get(..end).unwrap_or("").chars().map(Place::Text));
                rest = body.get(end + 1..).unwrap_or("");
                continue;
            }
            (_, _) => (Place::Text(c), c.len_utf8()),
        };
        places.push(place);
        rest = rest.get(length..).unwrap_or("");
    }
    Template { places, fill }
}

fn digit(place: &Place) -> bool {
    matches!(place, Place::Nine | Place::Zero)
}

/// Digits before and after the point, rounded half away from zero; whether the number is below zero.
fn split(number: &str, decimals: usize, shift: usize) -> (bool, String, String) {
    let negative = number.starts_with('-');
    let body = number.trim_start_matches(['-', '+']);
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let moved: String = fraction.chars().chain(std::iter::repeat('0')).take(shift).collect();
    let whole = format!("{whole}{moved}");
    let fraction: String = fraction.chars().skip(shift).collect();
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
    if fraction.as_bytes().get(decimals).is_some_and(|d| *d >= b'5') {
        let mut carry = true;
        for d in digits.iter_mut().rev() {
            if *d == b'9' {
                *d = b'0';
            } else {
                *d += 1;
                carry = false;
                break;
            }
        }
        if carry {
            digits.insert(0, b'1');
        }
    }
    let text: String = digits.into_iter().map(char::from).collect();
    let (whole, fraction) = text.split_at(text.len() - decimals);
    (negative, whole.trim_start_matches('0').to_owned(), fraction.to_owned())
}

fn roman(mut number: i64, lower: bool) -> String {
    const SYMBOLS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&number) {
        return "#".repeat(15);
    }
    let mut out = String::new();
    for (value, symbol) in SYMBOLS {
        while number >= value {
            out.push_str(symbol);
            number -= value;
        }
    }
    if lower { out.to_lowercase() } else { out }
}

/// The ending of an ordinal number: 1st, 2nd, 11th.
pub fn ordinal(number: &str) -> &'static str {
    let (last, before) = (number.chars().last().unwrap_or('0'), number.chars().rev().nth(1).unwrap_or('0'));
    match last {
        _ if before == '1' => "th",
        '1' => "st",
        '2' => "nd",
        '3' => "rd",
        _ => "th",
    }
}

/// `to_char(number, template)`; `number` is its text, without an exponent.
pub fn format(number: &str, template: &str) -> String {
    let Template { places, fill } = parse(template);
    if let Some(Place::Roman(lower)) = places.iter().find(|p| matches!(p, Place::Roman(_))) {
        let (_, whole, _) = split(number, 0, 0);
        let text = roman(whole.parse().unwrap_or(0), *lower);
        return if fill { format!("{text:>15}") } else { text };
    }
    let point = places.iter().position(|p| *p == Place::Point);
    let shifted = places.iter().position(|p| *p == Place::Shift);
    let decimals = point.map_or(0, |at| places.iter().skip(at).filter(|p| digit(p)).count());
    let shift = shifted.map_or(0, |at| places.iter().skip(at).filter(|p| digit(p)).count());
    let room = places.iter().take(point.unwrap_or(places.len())).filter(|p| digit(p)).count();
    let (mut negative, mut whole, mut fraction) = split(number, decimals, shift);
    if whole.is_empty() && fraction.bytes().all(|d| d == b'0') {
        negative = false;
    }
    let over = whole.len() > room || number.eq_ignore_ascii_case("nan");
    if over {
        (whole, fraction) = ("#".repeat(room), "#".repeat(decimals));
    }
    // The first 0 of the template, and everything after it, is always shown.
    let first_zero = places.iter().take(point.unwrap_or(places.len())).filter(|p| digit(p)).position(|p| *p == Place::Zero).unwrap_or(room);
    let kept_fraction = if fill {
        decimals
    } else {
        let zeros = places.iter().skip(point.unwrap_or(places.len())).filter(|p| digit(p)).enumerate().filter(|(_, p)| **p == Place::Zero);
        let needed = zeros.map(|(i, _)| i + 1).max().unwrap_or(0);
        fraction.trim_end_matches('0').len().max(needed)
    };
    let signed = places.iter().any(|p| matches!(p, Place::Sign | Place::Minus | Place::Plus | Place::PlusMinus | Place::Angle));
    let leading = places.iter().position(|p| *p == Place::Sign).is_some_and(|sign| places.iter().position(digit).is_none_or(|d| sign < d));
    let missing = room - whole.len();
    let mut writer = Writer { body: String::new(), negative, signed, leading, angle: places.contains(&Place::Angle), begun: false };
    let (mut at, mut after) = (0, 0);
    for (index, place) in places.iter().enumerate() {
        match place {
            Place::Nine | Place::Zero if point.is_none_or(|p| index < p) => {
                let shown = at >= missing || at >= first_zero || (at + 1 == room && point.is_none() && whole.is_empty());
                if shown {
                    writer.begin();
                }
                let own = if at >= missing { whole.chars().nth(at - missing).unwrap_or('0') } else { '0' };
                writer.body.push(if shown { own } else { ' ' });
                at += 1;
            }
            Place::Nine | Place::Zero => {
                if after < kept_fraction {
                    writer.body.push(fraction.chars().nth(after).unwrap_or('0'));
                }
                after += 1;
            }
            Place::Point => {
                writer.begin();
                writer.body.push('.');
            }
            Place::Ordinal(lower) if !negative && decimals == 0 => {
                let end = ordinal(&whole);
                writer.body.push_str(&if *lower { end.to_owned() } else { end.to_uppercase() });
            }
            other => writer.other(*other),
        }
    }
    // FM: without the blanks that fill places.
    if fill { writer.body } else { writer.body.trim().to_owned() }
}

/// What has been written of a number.
struct Writer {
    body: String,
    negative: bool,
    /// The template places the sign.
    signed: bool,
    /// An S stands before the first digit.
    leading: bool,
    angle: bool,
    begun: bool,
}

impl Writer {
    fn sign(&mut self) {
        self.body.push(if self.negative { '-' } else { '+' });
    }

    /// The sign stands where the number begins.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if !self.signed {
            self.body.push(if self.negative { '-' } else { ' ' });
        } else if self.leading {
            self.sign();
        } else if self.angle {
            self.body.push(if self.negative { '<' } else { ' ' });
        }
    }

    fn other(&mut self, place: Place) {
        match place {
            Place::Group => self.body.push(if self.begun { ',' } else { ' ' }),
            Place::Sign if self.leading => {}
            Place::Sign | Place::PlusMinus => self.sign(),
            Place::Minus => self.body.push(if self.negative { '-' } else { ' ' }),
            Place::Plus => self.body.push(if self.negative { ' ' } else { '+' }),
            Place::Angle => self.body.push(if self.negative { '>' } else { ' ' }),
            Place::Currency => self.body.push(' '),
            Place::Text(c) => self.body.push(c),
            _ => {}
        }
    }
}

/// `to_number(text, template)`: the digits, point and sign of the text.
///
/// # Errors
/// 22P02 for text without a digit.
pub fn number(text: &str, template: &str) -> Result<String> {
    let Template { places, .. } = parse(template);
    let point = places.contains(&Place::Point);
    let negative = text.contains('-') || (text.contains('<') && places.contains(&Place::Angle));
    let mut digits = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' => digits.push(c),
            '.' if point && !digits.contains('.') => digits.push('.'),
            _ => {}
        }
    }
    if !digits.contains(|c: char| c.is_ascii_digit()) {
        return Err(Error::new(Kind::InvalidText, format!("invalid input syntax for type numeric: \"{text}\"")));
    }
    Ok(if negative { format!("-{digits}") } else { digits })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_of_the_manual() {
        for (number, template, text) in [
            ("485", "999", " 485"),
            ("-485", "999", "-485"),
            ("148.5", "999.999", " 148.500"),
            ("148.5", "FM999.999", "148.5"),
            ("148.5", "FM999.990", "148.500"),
            ("1485", "9,999", " 1,485"),
            ("3148.5", "9G999D999", " 3,148.500"),
            ("-485", "999S", "485-"),
            ("-485", "999MI", "485-"),
            ("485", "FM999MI", "485"),
            ("485", "PL999", "+485"),
            ("-485", "999PR", "<485>"),
            ("485", "RN", "        CDLXXXV"),
            ("5.2", "FMRN", "V"),
            ("482", "999th", " 482nd"),
            ("485", "\"Good number:\"999", "Good number: 485"),
            ("0.1", "0.9", " 0.1"),
            ("0.1", "99.99", "   .10"),
            ("-0.1", "99.99", "  -.10"),
            ("12", "9990999.9", "    0012.0"),
            ("12", "FM9990999.9", "0012."),
            ("12", "99V999", " 12000"),
            ("12.45", "99V9", " 125"),
            ("5", "000", " 005"),
            ("1234567", "999", " ###"),
        ] {
            assert_eq!(format(number, template), text, "{number} {template}");
        }
        assert_eq!(super::number("12,454.8-", "99G999D9S").unwrap(), "-12454.8");
    }
}
