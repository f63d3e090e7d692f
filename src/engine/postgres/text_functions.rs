//! Text functions of PostgreSQL that DataFusion lacks: quoting, `format`, patterns.
//!
//! In: text. Out: text. Invariant: what a quoting function gives reads back to its argument.
//! Deliberately absent: `to_char` and the other formatting functions.

use datafusion::logical_expr::Volatility::Immutable;
use squilla_core::error::{Error, Result};

use crate::postgres::catalog_functions::text;
use crate::postgres::function::{Function, Overload, text_of};
use crate::system::procs::{quote_identifier, quote_literal};
use crate::system::relation::Value;

const fn function(name: &'static str, strict: bool, comment: &'static str, overloads: &'static [Overload]) -> Function {
    Function { name, volatility: Immutable, strict, comment, overloads }
}

/// `format(pattern, ...)`: %s, %I, %L, %%, with position and width.
fn format(arguments: &[Value]) -> Result<Value> {
    let Value::Text(pattern) = &arguments[0] else { return Ok(Value::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut rest = pattern.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let mut position = None;
        let number: Option<usize> = rest.get(..digits).and_then(|d| d.parse().ok());
        if digits > 0 && rest.get(digits..).is_some_and(|r| r.starts_with('$')) {
            position = number;
            rest = rest.get(digits + 1..).unwrap_or("");
        }
        let left = rest.starts_with('-');
        rest = rest.strip_prefix('-').unwrap_or(rest);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let width: usize = rest.get(..digits).and_then(|d| d.parse().ok()).unwrap_or(0);
        rest = rest.get(digits..).unwrap_or("");
        let Some(kind) = rest.chars().next() else {
            return Err(Error::invalid_argument("unterminated format() type specifier").hint("For a single \"%\" use \"%%\"."));
        };
        rest = rest.get(kind.len_utf8()..).unwrap_or("");
        let index = position.unwrap_or(next);
        next = index + 1;
        let value = arguments.get(index).cloned().ok_or_else(|| Error::invalid_argument("too few arguments for format()"))?;
        let shown = match (kind, text_of(value)) {
            ('s', text) => text.unwrap_or_default(),
            ('I', Some(text)) => quote_identifier(&text),
            ('I', None) => return Err(Error::invalid_argument("null values cannot be formatted as an SQL identifier")),
            ('L', text) => text.map_or_else(|| "NULL".into(), |t| quote_literal(&t)),
            (other, _) => {
                return Err(
                    Error::invalid_argument(format!("unrecognized format() type specifier \"{other}\"")).hint("For a single \"%\" use \"%%\".")
                );
            }
        };
        let pad = " ".repeat(width.saturating_sub(shown.chars().count()));
        if left {
            out.push_str(&shown);
            out.push_str(&pad);
        } else {
            out.push_str(&pad);
            out.push_str(&shown);
        }
    }
    out.push_str(rest);
    Ok(out.into())
}

/// The regular expression of a SIMILAR TO pattern.
pub fn similar_to_regex(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::from("^(?s:");
    let mut chars = pattern.chars();
    let mut bracket = false;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            if let Some(next) = chars.next() {
                out.push_str(&regex::escape(&next.to_string()));
            }
            continue;
        }
        match c {
            '[' => {
                bracket = true;
                out.push('[');
            }
            ']' => {
                bracket = false;
                out.push(']');
            }
            _ if bracket => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '.' | '^' | '$' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out.push_str(")$");
    out
}

fn similar(arguments: &[Value]) -> Result<Value> {
    let escape = match arguments.get(1) {
        None => Some('\\'),
        Some(value) => text(Some(value)).chars().next(),
    };
    Ok(similar_to_regex(text(arguments.first()), escape).into())
}

/// Text.
pub static TEXT: &[Function] = &[
    function(
        "quote_ident",
        true,
        "a name in double quotes where SQL needs them",
        &[Overload { arguments: "text", returns: "text", call: |_, a| Ok(quote_identifier(text(a.first())).into()) }],
    ),
    function(
        "quote_literal",
        true,
        "a string literal",
        &[Overload { arguments: "text", returns: "text", call: |_, a| Ok(quote_literal(text(a.first())).into()) }],
    ),
    function(
        "quote_nullable",
        false,
        "a string literal, or NULL",
        &[Overload {
            arguments: "text",
            returns: "text",
            call: |_, a| Ok(if a[0] == Value::Null { "NULL".into() } else { quote_literal(text(a.first())).into() }),
        }],
    ),
    function(
        "format",
        false,
        "text with arguments put in",
        &[Overload { arguments: "text, VARIADIC text", returns: "text", call: |_, a| format(a) }],
    ),
    function(
        "similar_to_escape",
        true,
        "the regular expression of a SIMILAR TO pattern",
        &[
            Overload { arguments: "text", returns: "text", call: |_, a| similar(a) },
            Overload { arguments: "text, text", returns: "text", call: |_, a| similar(a) },
        ],
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn format_takes_positions_and_widths() {
        let f = |arguments: &[&str]| format(&arguments.iter().map(|a| (*a).into()).collect::<Vec<Value>>());
        assert_eq!(f(&["%s FROM %I: %L %%", "a", "B c", "it's"]).unwrap(), Value::from("a FROM \"B c\": 'it''s' %"));
        assert_eq!(f(&["%2$s-%1$s", "a", "b"]).unwrap(), Value::from("b-a"));
        assert_eq!(f(&["[%5s][%-5s]", "a", "b"]).unwrap(), Value::from("[    a][b    ]"));
        assert!(f(&["%s"]).is_err() && f(&["%z", "a"]).is_err() && f(&["%"]).is_err());
    }

    #[test]
    fn similar_to_is_a_regular_expression() {
        for (pattern, yes, no) in
            [("a%", "abc", "ba"), ("_b", "ab", "abb"), ("(a|b)+", "abab", "c"), ("a.c", "a.c", "abc"), ("a\\%", "a%", "ab"), ("[a-c]", "b", "d")]
        {
            let regex = regex::Regex::new(&similar_to_regex(pattern, Some('\\'))).unwrap();
            assert!(regex.is_match(yes) && !regex.is_match(no), "{pattern}");
        }
    }
}
