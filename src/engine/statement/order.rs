//! Spellings that PostgreSQL takes and sqlparser does not, brought into its order.
//!
//! In: tokens of a whole text. Out: the same statements: options of sequences sorted as sqlparser reads them, names of
//! columns before AS given a type that nobody reads. Invariant: tokens keep their places in the text, for error positions.
//! Deliberately absent: new statements (`alter`).

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Ranks of the words that begin an option of a sequence.
const OPTIONS: &[&str] = &["AS", "INCREMENT", "MINVALUE", "MAXVALUE", "START", "CACHE", "CYCLE", "OWNED"];

fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_uppercase()),
        _ => None,
    }
}

/// The words and marks of a text without blanks: place and upper-case word, empty for anything else.
fn significant(tokens: &[TokenWithSpan]) -> Vec<(usize, String)> {
    let shown = tokens.iter().enumerate().filter(|(_, t)| !matches!(t.token, Token::Whitespace(_)));
    shown.map(|(i, t)| (i, word(&t.token).unwrap_or_default())).collect()
}

/// All rules.
pub fn normal(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    named_columns(sequence_options(tokens))
}

/// The options of sequences, in sqlparser's order.
fn sequence_options(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words = significant(&tokens);
    let mut regions: Vec<(usize, usize)> = Vec::new();
    for (at, (place, word)) in words.iter().enumerate() {
        let next = |n: usize| words.get(at + n).and_then(|(i, _)| tokens.get(*i)).map(|t| &t.token);
        if word == "IDENTITY" && next(1) == Some(&Token::LParen) {
            let end = words.iter().skip(at).find(|(i, _)| tokens.get(*i).is_some_and(|t| t.token == Token::RParen));
            if let (Some((start, _)), Some((end, _))) = (words.get(at + 1), end) {
                regions.push((*start + 1, *end));
            }
        }
        let before = at.checked_sub(1).and_then(|i| words.get(i)).map_or("", |(_, w)| w.as_str());
        if word == "SEQUENCE" && matches!(before, "CREATE" | "TEMP" | "TEMPORARY") {
            let ends = |i: &usize| tokens.get(*i).is_some_and(|t| matches!(t.token, Token::SemiColon | Token::EOF));
            let end = words.iter().map(|(i, _)| *i).skip(at).find(ends).unwrap_or(tokens.len());
            let first = words.iter().skip(at + 2).find(|(_, w)| OPTIONS.contains(&w.as_str()) || w == "NO");
            if let Some((start, _)) = first.filter(|(i, _)| i < &end && i > place) {
                regions.push((*start, end));
            }
        }
    }
    let mut tokens = tokens;
    for (start, end) in regions {
        let region: Vec<TokenWithSpan> = tokens.get(start..end).unwrap_or_default().to_vec();
        tokens.splice(start..end, sorted(region));
    }
    tokens
}

fn sorted(region: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut groups: Vec<(usize, Vec<TokenWithSpan>)> = vec![(0, Vec::new())];
    let mut negated = false;
    for token in region {
        let found = word(&token.token).filter(|w| w == "NO" || OPTIONS.contains(&w.as_str()));
        if let Some(found) = found {
            let rank = OPTIONS.iter().position(|o| *o == found).unwrap_or(0);
            if negated {
                groups.last_mut().into_iter().for_each(|g| g.0 = rank);
            } else {
                groups.push((rank, Vec::new()));
            }
            negated = found == "NO";
        }
        groups.last_mut().into_iter().for_each(|g| g.1.push(token.clone()));
    }
    groups.sort_by_key(|(rank, _)| *rank);
    groups.into_iter().flat_map(|(_, tokens)| tokens).collect()
}

/// `CREATE TABLE t (a, b) AS ...`: sqlparser wants types.
fn named_columns(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words = significant(&tokens);
    let token = |at: usize| words.get(at).and_then(|(i, _)| tokens.get(*i)).map(|t| &t.token);
    let mut after: Vec<usize> = Vec::new();
    for (at, (_, word)) in words.iter().enumerate().filter(|(_, (_, w))| w == "TABLE" || w == "VIEW") {
        let created = words.iter().take(at).rev().take(4).any(|(_, w)| w == "CREATE");
        if !created || word == "VIEW" {
            continue;
        }
        let Some(open) = (at + 1..(at + 9).min(words.len())).find(|i| token(*i) == Some(&Token::LParen)) else { continue };
        let mut names = Vec::new();
        let mut i = open + 1;
        while matches!(token(i), Some(Token::Word(_))) && matches!(token(i + 1), Some(Token::Comma | Token::RParen)) {
            names.extend(words.get(i).map(|(place, _)| *place));
            i += 2;
        }
        if token(i - 1) == Some(&Token::RParen) && words.get(i).is_some_and(|(_, w)| w == "AS") {
            after.extend(names);
        }
    }
    if after.is_empty() {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + after.len());
    for (i, token) in tokens.into_iter().enumerate() {
        let span = token.span;
        out.push(token);
        if after.contains(&i) {
            out.push(TokenWithSpan { token: Token::make_word("text", None), span });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn text(sql: &str) -> String {
        let dialect = sqlparser::dialect::PostgreSqlDialect {};
        let tokens = sqlparser::tokenizer::Tokenizer::new(&dialect, sql).tokenize_with_location().unwrap();
        let out = normal(tokens).into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).map(|t| t.token.to_string());
        out.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_are_sorted() {
        assert_eq!(
            text("CREATE SEQUENCE s START WITH 5 NO CYCLE INCREMENT BY -3 NO MAXVALUE MINVALUE 1"),
            "CREATE SEQUENCE s INCREMENT BY - 3 MINVALUE 1 NO MAXVALUE START WITH 5 NO CYCLE"
        );
        assert_eq!(text("a AS IDENTITY (START 1 INCREMENT 2), b"), "a AS IDENTITY ( INCREMENT 2 START 1 ) , b");
    }

    #[test]
    fn names_before_as_get_a_type() {
        assert_eq!(text("CREATE TABLE t (x, y) AS SELECT 1"), "CREATE TABLE t ( x text , y text ) AS SELECT 1");
        assert_eq!(text("CREATE TABLE t (x int)"), "CREATE TABLE t ( x int )");
    }
}
