//! LIKE and SIMILAR TO in the syntax tree.
//!
//! In: a pattern and an escape character. Out: a pattern that DataFusion matches alike. Invariant: what matched before
//! matches after. Deliberately absent: regular expressions, which DataFusion knows.

use sqlparser::ast::{BinaryOperator, Expr, Value, ValueWithSpan};

use crate::postgres::syntax::{call, literal, text};
use crate::postgres::text_functions::similar_to_regex;

fn escape(character: Option<&ValueWithSpan>) -> Option<Option<char>> {
    let value = character?.clone();
    literal(&Expr::Value(value)).map(|text| text.chars().next())
}

/// LIKE with another escape character than the backslash: a literal pattern is spelled with backslashes.
pub fn like(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) {
    let Some(escape) = escape(escape_char.as_ref()) else { return };
    if escape == Some('\\') {
        *escape_char = None;
        return;
    }
    let spelled = |from: &str| {
        let mut out = String::with_capacity(from.len());
        let mut chars = from.chars();
        while let Some(c) = chars.next() {
            if Some(c) == escape {
                if let Some(next) = chars.next() {
                    out.push('\\');
                    out.push(next);
                }
            } else if c == '\\' {
                out.push_str("\\\\");
            } else {
                out.push(c);
            }
        }
        out
    };
    *pattern = match literal(pattern) {
        Some(from) => text(spelled(from)),
        None => {
            let value = std::mem::replace(pattern, Expr::value(Value::Null));
            let doubled = call("replace", vec![value, text("\\"), text("\\\\")]);
            match escape {
                // A doubled escape character is itself; any other use of it escapes what follows.
                Some(c) => call("replace", vec![doubled, text(c.to_string()), text("\\")]),
                None => doubled,
            }
        }
    };
    *escape_char = None;
}

/// `value SIMILAR TO pattern` as a regular expression match.
pub fn similar(negated: bool, value: Expr, pattern: Expr, escape_char: Option<ValueWithSpan>) -> Expr {
    let escape = escape(escape_char.as_ref());
    let regex = match literal(&pattern) {
        Some(spelled) => text(similar_to_regex(spelled, escape.unwrap_or(Some('\\')))),
        None => match escape {
            Some(escape) => call("similar_to_escape", vec![pattern, text(escape.map(String::from).unwrap_or_default())]),
            None => call("similar_to_escape", vec![pattern]),
        },
    };
    let op = if negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
    Expr::BinaryOp { left: Box::new(value), op, right: Box::new(regex) }
}
