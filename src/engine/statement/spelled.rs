//! Spellings of PostgreSQL that sqlparser does not take, as tokens.
//!
//! In: the tokens of a text. Out: the same statements in words that the parser knows: `OPERATOR(pg_catalog.=)` is `=`, `FROM ONLY
//! t` is `FROM t` (no table has children), ABORT is ROLLBACK; the estimates of CREATE FUNCTION and the name of an identity's
//! sequence are left out; LIKE among columns is a column (`command::like`). Invariant: tokens that stay keep their places in the text. Deliberately absent: anything that has
//! to be parsed.

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use crate::statement::is_word;

/// Words before ONLY where it is about the children of a table.
const BEFORE_ONLY: &[&str] = &["FROM", "JOIN", "UPDATE", "TABLE", "TRUNCATE", "USING", "LOCK"];

/// Replaces what is spelled otherwise here.
pub fn known(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let unquoted = |token: &Token, word: &str| is_word(token, word);
    let any = |tokens: &[TokenWithSpan], word: &str| tokens.iter().any(|t| unquoted(&t.token, word));
    literals(&mut tokens);
    if any(&tokens, "TRIM") {
        trims(&mut tokens);
    }
    all_fields(&mut tokens);
    if any(&tokens, "OPERATOR") {
        tokens = operators(tokens);
    }
    if any(&tokens, "ONLY") || any(&tokens, "ABORT") {
        tokens = words(tokens);
    }
    if any(&tokens, "IDENTITY") || any(&tokens, "FUNCTION") {
        tokens = without_options(tokens);
    }
    if any(&tokens, "LIKE") && any(&tokens, "CREATE") {
        tokens = likes(tokens);
    }
    tokens
}

/// `LIKE s.t INCLUDING ALL` among the columns of CREATE TABLE as the column `"$like" "s"."t"(including_all)`.
fn likes(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // The words of the statement so far; what a clause of columns has before it; whether the options of one have begun.
    let (mut create, mut table, mut before, mut clause, mut options) = (false, false, None, false, false);
    for mut token in tokens {
        let (now, span) = (token.token.clone(), token.span);
        if matches!(now, Token::Whitespace(_)) {
            out.push(token);
            continue;
        }
        let option = is_word(&now, "INCLUDING") || is_word(&now, "EXCLUDING");
        if clause && matches!(before, Some(Token::Word(_))) && (option || matches!(now, Token::Comma | Token::RParen)) {
            if option {
                token.token = if options { Token::Comma } else { Token::LParen };
                options = true;
            } else {
                clause = false;
                if options {
                    out.push(TokenWithSpan { token: Token::RParen, span });
                }
            }
        } else if let (true, Token::Word(word)) = (clause, &now) {
            let asked = before.as_ref().and_then(|b| ["INCLUDING", "EXCLUDING"].into_iter().find(|w| is_word(b, w)));
            token.token = match asked {
                Some(asked) => Token::make_word(&format!("{asked}_{}", word.value).to_lowercase(), None),
                None if word.quote_style.is_none() => Token::make_word(&word.value.to_lowercase(), Some('"')),
                None => now.clone(),
            };
        } else if table && is_word(&now, "LIKE") && matches!(before, Some(Token::LParen | Token::Comma)) {
            (clause, options) = (true, false);
            token.token = Token::make_word(crate::command::like::COLUMN, Some('"'));
        }
        match now {
            Token::SemiColon => (create, table, clause) = (false, false, false),
            _ if before.as_ref().is_none_or(|b| *b == Token::SemiColon) => create = is_word(&now, "CREATE"),
            _ => table |= create && is_word(&now, "TABLE"),
        }
        before = Some(now);
        out.push(token);
    }
    out
}

/// Literals in pieces on several lines are one; `U&'...'` is a plain literal once its escapes have been read.
fn literals(tokens: &mut Vec<TokenWithSpan>) {
    for token in tokens.iter_mut() {
        if let Token::UnicodeStringLiteral(text) = &mut token.token {
            token.token = Token::SingleQuotedString(std::mem::take(text));
        }
    }
    let mut at = 0;
    while at < tokens.len() {
        let mut end = at + 1;
        let mut lines = false;
        while let Some(Token::Whitespace(space)) = tokens.get(end).map(|t| &t.token) {
            lines |= matches!(space, Whitespace::Newline | Whitespace::SingleLineComment { .. });
            end += 1;
        }
        let next = match tokens.get(end).map(|t| &t.token) {
            Some(Token::SingleQuotedString(text)) if lines => text.clone(),
            _ => {
                at += 1;
                continue;
            }
        };
        if let Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) = tokens.get_mut(at).map(|t| &mut t.token) {
            text.push_str(&next);
            tokens.drain(at + 1..=end);
        } else {
            at += 1;
        }
    }
}

/// What stands for `*` behind an expression in parentheses.
pub const ALL_FIELDS: &str = "squilla_all_fields";

/// `(row).*`: the parser takes a name behind the point.
fn all_fields(tokens: &mut [TokenWithSpan]) {
    for at in 2..tokens.len() {
        if let Some([TokenWithSpan { token: Token::RParen, .. }, TokenWithSpan { token: Token::Period, .. }, star]) = tokens.get_mut(at - 2..=at)
            && star.token == Token::Mul
        {
            star.token = Token::make_word(ALL_FIELDS, Some('"'));
        }
    }
}

/// `trim(LEADING FROM x)` is `ltrim(x)`: the parser wants the characters to be said.
fn trims(tokens: &mut Vec<TokenWithSpan>) {
    let mut at = 0;
    while let Some(found) = tokens.get(at..).and_then(|rest| rest.iter().position(|t| is_word(&t.token, "TRIM"))) {
        let first = at + found;
        at = first + 1;
        let places: Vec<usize> =
            (first..tokens.len()).filter(|i| !matches!(tokens.get(*i).map(|t| &t.token), Some(Token::Whitespace(_)))).take(4).collect();
        let word = |n: usize| places.get(n).and_then(|i| tokens.get(*i)).map(|t| &t.token);
        if word(1) != Some(&Token::LParen) {
            continue;
        }
        let side = |text: &str| word(2).is_some_and(|t| is_word(t, text));
        let (name, from) = match () {
            () if side("LEADING") => ("ltrim", 3),
            () if side("TRAILING") => ("rtrim", 3),
            () if side("BOTH") => ("btrim", 3),
            () if side("FROM") => ("btrim", 2),
            () => continue,
        };
        if !word(from).is_some_and(|t| is_word(t, "FROM")) {
            continue;
        }
        let removed: Vec<usize> = places.get(2..=from).unwrap_or_default().to_vec();
        if let Some(token) = tokens.get_mut(first) {
            token.token = Token::make_word(name, None);
        }
        removed.into_iter().rev().for_each(|i| drop(tokens.remove(i)));
    }
}

/// Without `COST n` and `ROWS n` of CREATE FUNCTION, and without `SEQUENCE NAME s` of an identity.
fn without_options(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let places: Vec<usize> = tokens.iter().enumerate().filter(|(_, t)| !matches!(t.token, Token::Whitespace(_))).map(|(i, _)| i).collect();
    let token = |n: usize| places.get(n).and_then(|i| tokens.get(*i)).map(|t| &t.token);
    let word = |n: usize, text: &str| token(n).is_some_and(|t| is_word(t, text));
    let mut removed: Vec<usize> = Vec::new();
    let (mut first, mut n) = (0, 0);
    while n < places.len() {
        if token(n) == Some(&Token::SemiColon) {
            first = n + 1;
        }
        let function = word(first, "CREATE") && (word(first + 1, "FUNCTION") || word(first + 3, "FUNCTION"));
        let mut end = n;
        if function && (word(n, "COST") || word(n, "ROWS")) && matches!(token(n + 1), Some(Token::Number(_, _))) {
            end = n + 2;
        } else if word(n, "SEQUENCE") && word(n + 1, "NAME") && n > 0 && token(n - 1) == Some(&Token::LParen) {
            end = n + 3;
            while token(end) == Some(&Token::Period) {
                end += 2;
            }
        }
        removed.extend(places.get(n..end.min(places.len())).unwrap_or_default());
        n = end.max(n + 1);
    }
    removed.into_iter().rev().for_each(|i| drop(tokens.remove(i)));
    tokens
}

/// `OPERATOR(schema.op)`, where the operator is one token.
fn operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let places: Vec<usize> = tokens.iter().enumerate().filter(|(_, t)| !matches!(t.token, Token::Whitespace(_))).map(|(i, _)| i).collect();
    let token = |n: usize| places.get(n).and_then(|i| tokens.get(*i)).map(|t| &t.token);
    let mut replaced: Vec<(usize, usize, Token)> = Vec::new();
    for n in 0..places.len() {
        let named = token(n).is_some_and(|t| is_word(t, "OPERATOR"))
            && token(n + 1) == Some(&Token::LParen)
            && matches!(token(n + 2), Some(Token::Word(_)))
            && token(n + 3) == Some(&Token::Period)
            && token(n + 5) == Some(&Token::RParen);
        if let (true, Some(operator), Some(first), Some(last)) = (named, token(n + 4), places.get(n), places.get(n + 5)) {
            replaced.push((*first, *last, operator.clone()));
        }
    }
    if replaced.is_empty() {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.into_iter().enumerate() {
        match replaced.iter().find(|(first, last, _)| (*first..=*last).contains(&i)) {
            None => out.push(token),
            Some((first, _, operator)) if *first == i => out.push(TokenWithSpan { token: operator.clone(), span: token.span }),
            Some(_) => {}
        }
    }
    out
}

fn words(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut removed = Vec::new();
    let mut aborts = Vec::new();
    let mut before: Option<Token> = None;
    let significant: Vec<usize> = tokens.iter().enumerate().filter(|(_, t)| !matches!(t.token, Token::Whitespace(_))).map(|(i, _)| i).collect();
    for (n, i) in significant.iter().enumerate() {
        let Some(token) = tokens.get(*i).map(|t| &t.token) else { continue };
        let next = significant.get(n + 1).and_then(|j| tokens.get(*j)).map(|t| &t.token);
        let after_table = |t: &Token| *t == Token::Comma || BEFORE_ONLY.iter().any(|w| is_word(t, w));
        if is_word(token, "ONLY") && before.as_ref().is_some_and(after_table) && matches!(next, Some(Token::Word(_) | Token::LParen)) {
            removed.push(*i);
            continue;
        }
        if is_word(token, "ABORT") && before.as_ref().is_none_or(|t| *t == Token::SemiColon) {
            aborts.push(*i);
        }
        before = Some(token.clone());
    }
    for i in aborts {
        if let Some(token) = tokens.get_mut(i) {
            token.token = Token::make_word("ROLLBACK", None);
        }
    }
    for i in removed.into_iter().rev() {
        tokens.remove(i);
    }
    tokens
}
