//! OVERRIDING of INSERT, which sqlparser does not know.
//!
//! In: the tokens of a statement. Out: tokens that sqlparser reads: the words stand in a PARTITION clause, which no dialect of
//! PostgreSQL has. Invariant: a PARTITION clause that a client wrote is refused, not read as one of these. Deliberately absent:
//! what the words mean (`command::insert`).

use sqlparser::ast::{Expr, Insert};
use sqlparser::tokenizer::{Token, TokenWithSpan};
use squilla_core::error::{Error, Kind, Result};

const SYSTEM: &str = "$overriding system";
const USER: &str = "$overriding user";

/// What happens with values that are given for identity columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overriding {
    /// SYSTEM VALUE: they are taken, even by GENERATED ALWAYS.
    System,
    /// USER VALUE: the sequence gives others.
    User,
}

/// The clause of a statement: 42601 for a PARTITION clause.
pub fn of(insert: &Insert) -> Result<Option<Overriding>> {
    match insert.partitioned.as_deref() {
        None => Ok(None),
        Some([Expr::Identifier(word)]) if word.value == SYSTEM => Ok(Some(Overriding::System)),
        Some([Expr::Identifier(word)]) if word.value == USER => Ok(Some(Overriding::User)),
        Some(_) => Err(Error::new(Kind::Syntax, "syntax error at or near \"PARTITION\"")),
    }
}

fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(w) if w.quote_style.is_none() => Some(&w.value),
        _ => None,
    }
}

fn is(token: &TokenWithSpan, text: &str) -> bool {
    word(&token.token).is_some_and(|w| w.eq_ignore_ascii_case(text))
}

/// The clause whose two other words are next.
fn clause(tokens: &std::vec::IntoIter<TokenWithSpan>) -> Option<&'static str> {
    let mut words = tokens.as_slice().iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    let (which, value) = (words.next()?, words.next()?);
    match () {
        () if !is(value, "VALUE") => None,
        () if is(which, "SYSTEM") => Some(SYSTEM),
        () if is(which, "USER") => Some(USER),
        () => None,
    }
}

/// `OVERRIDING SYSTEM VALUE` and `OVERRIDING USER VALUE` as PARTITION clauses.
pub fn overriding(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| is(t, "OVERRIDING")) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    // What stands before, without spaces.
    let mut before: Vec<TokenWithSpan> = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        let clause = if is(&token, "OVERRIDING") { clause(&tokens) } else { None };
        let Some(clause) = clause else {
            if !matches!(token.token, Token::Whitespace(_)) {
                before.push(token.clone());
            }
            out.push(token);
            continue;
        };
        let mut left = 2;
        while left > 0
            && let Some(next) = tokens.next()
        {
            left -= usize::from(!matches!(next.token, Token::Whitespace(_)));
        }
        let span = token.span;
        let put = |token: Token| TokenWithSpan { token, span };
        // Without columns and without an alias the parser would take the next word for an alias: the table's own name is one.
        let [.., previous, name] = before.as_slice() else { continue };
        if matches!(name.token, Token::Word(_)) && (is(previous, "INTO") || previous.token == Token::Period) {
            out.extend([put(Token::make_word("AS", None)), put(name.token.clone())]);
        }
        out.extend([put(Token::make_word("PARTITION", None)), put(Token::LParen), put(Token::make_word(clause, Some('"'))), put(Token::RParen)]);
    }
    out
}
