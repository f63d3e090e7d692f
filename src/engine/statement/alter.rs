//! Statements about relations that sqlparser does not know: ALTER VIEW, ALTER SEQUENCE, SET SCHEMA, REFRESH, and the DO
//! NOTHING of MERGE.
//!
//! In: tokens. Out: statements of ours; None leaves the tokens to sqlparser. Deliberately absent: ALTER TABLE in general.

use sqlparser::ast::ObjectName;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{accept, expect, ident_text, is_word, name_text};

/// `ALTER VIEW | MATERIALIZED VIEW | SEQUENCE | ... name action`
#[derive(Clone, Debug)]
pub struct AlterRelation {
    /// The words after ALTER, in upper case.
    pub what: &'static str,
    /// IF EXISTS
    pub if_exists: bool,
    /// Name.
    pub name: ObjectName,
    /// What to do.
    pub action: AlterAction,
}

/// What to do with a relation.
#[derive(Clone, Debug)]
pub enum AlterAction {
    /// RENAME TO
    Rename(String),
    /// RENAME COLUMN a TO b
    RenameColumn(String, String),
    /// SET SCHEMA
    SetSchema(String),
    /// OWNER TO
    Owner(String),
    /// RESTART [WITH n]
    Restart(Option<i64>),
    /// OWNED BY table.column | NONE
    OwnedBy(Option<ObjectName>),
}

/// `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH [NO] DATA]`
#[derive(Clone, Debug)]
pub struct Refresh {
    /// Name.
    pub name: ObjectName,
    /// WITH NO DATA
    pub empty: bool,
}

const KINDS: &[(&str, &[&str])] = &[
    ("MATERIALIZED VIEW", &["MATERIALIZED", "VIEW"]),
    ("FOREIGN TABLE", &["FOREIGN", "TABLE"]),
    ("EXTERNAL TABLE", &["EXTERNAL", "TABLE"]),
    ("SEQUENCE", &["SEQUENCE"]),
    ("INDEX", &["INDEX"]),
    ("VIEW", &["VIEW"]),
    ("TABLE", &["TABLE"]),
];

/// The statement at the parser's place, when it is one of these.
pub fn alter(parser: &mut Parser) -> Option<AlterRelation> {
    parser.maybe_parse(alter_relation).ok().flatten()
}

fn alter_relation(parser: &mut Parser) -> Result<AlterRelation, ParserError> {
    expect(parser, "ALTER")?;
    let found = KINDS.iter().find(|(_, words)| words.iter().enumerate().all(|(i, w)| is_word(&parser.peek_nth_token(i).token, w)));
    let Some((what, words)) = found else { return parser.expected("a kind of relation", parser.peek_token()) };
    words.iter().for_each(|_| drop(parser.next_token()));
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    accept(parser, "ONLY");
    let name = parser.parse_object_name(false)?;
    let action = action(parser)?;
    let mine = *what != "TABLE" || matches!(action, AlterAction::SetSchema(_));
    let ended = matches!(parser.peek_token_ref().token, Token::EOF | Token::SemiColon);
    if mine && ended { Ok(AlterRelation { what, if_exists, name, action }) } else { parser.expected("another ALTER", parser.peek_token()) }
}

fn action(parser: &mut Parser) -> Result<AlterAction, ParserError> {
    if accept(parser, "RENAME") {
        if accept(parser, "TO") {
            return Ok(AlterAction::Rename(ident_text(&parser.parse_identifier()?)));
        }
        accept(parser, "COLUMN");
        let from = ident_text(&parser.parse_identifier()?);
        expect(parser, "TO")?;
        return Ok(AlterAction::RenameColumn(from, ident_text(&parser.parse_identifier()?)));
    }
    if accept(parser, "SET") {
        expect(parser, "SCHEMA")?;
        return Ok(AlterAction::SetSchema(ident_text(&parser.parse_identifier()?)));
    }
    if accept(parser, "OWNER") {
        expect(parser, "TO")?;
        return Ok(AlterAction::Owner(ident_text(&parser.parse_identifier()?)));
    }
    if accept(parser, "RESTART") {
        let given = accept(parser, "WITH") || matches!(parser.peek_token_ref().token, Token::Number(..) | Token::Minus);
        return Ok(AlterAction::Restart(if given { Some(number(parser)?) } else { None }));
    }
    expect(parser, "OWNED")?;
    expect(parser, "BY")?;
    let name = parser.parse_object_name(false)?;
    Ok(AlterAction::OwnedBy((name_text(&name) != "none").then_some(name)))
}

fn number(parser: &mut Parser) -> Result<i64, ParserError> {
    let minus = parser.consume_token(&Token::Minus);
    match parser.next_token().token {
        Token::Number(n, _) => {
            let signed = if minus { format!("-{n}") } else { n };
            signed.parse().map_err(|_| ParserError::ParserError(format!("value \"{signed}\" is out of range for type bigint")))
        }
        _ => parser.expected("a number", parser.peek_token()),
    }
}

/// REFRESH at the parser's place.
pub fn refresh(parser: &mut Parser) -> Result<Refresh, ParserError> {
    expect(parser, "REFRESH")?;
    expect(parser, "MATERIALIZED")?;
    expect(parser, "VIEW")?;
    accept(parser, "CONCURRENTLY");
    let name = parser.parse_object_name(false)?;
    let mut empty = false;
    if accept(parser, "WITH") {
        empty = accept(parser, "NO");
        expect(parser, "DATA")?;
    }
    Ok(Refresh { name, empty })
}

/// The column that stands for DO NOTHING in a MERGE.
pub const NOTHING: &str = "$nothing";

/// `THEN DO NOTHING` of MERGE, which sqlparser does not know, as an action on the column [`NOTHING`]; only there can the
/// three words stand after each other.
pub fn do_nothing(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words: Vec<(usize, String)> = tokens
        .iter()
        .enumerate()
        .filter_map(|(i, t)| match &t.token {
            Token::Word(w) if w.quote_style.is_none() => Some((i, w.value.to_uppercase())),
            Token::Whitespace(_) => None,
            _ => Some((i, String::new())),
        })
        .collect();
    let mut replaced: Vec<(usize, usize, bool)> = Vec::new();
    for (at, window) in words.windows(3).enumerate() {
        if let [(_, then), (first, verb), (last, nothing)] = window
            && (then.as_str(), verb.as_str(), nothing.as_str()) == ("THEN", "DO", "NOTHING")
        {
            let when = words.iter().take(at).rposition(|(_, w)| w == "WHEN");
            let not = when.and_then(|w| words.get(w + 1)).is_some_and(|(_, w)| w == "NOT");
            replaced.push((*first, *last, not));
        }
    }
    if replaced.is_empty() {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 16);
    for (i, token) in tokens.into_iter().enumerate() {
        match replaced.iter().find(|(first, last, _)| (*first..=*last).contains(&i)) {
            None => out.push(token),
            Some((first, _, not)) if *first == i => {
                let word = |w: &str| Token::make_word(w, None);
                let column = Token::make_word(NOTHING, Some('"'));
                let made = if *not {
                    vec![word("INSERT"), Token::LParen, column, Token::RParen, word("VALUES"), Token::LParen, word("NULL"), Token::RParen]
                } else {
                    vec![word("UPDATE"), word("SET"), column, Token::Eq, word("NULL")]
                };
                out.extend(made.into_iter().map(|t| TokenWithSpan { token: t, span: token.span }));
            }
            Some(_) => {}
        }
    }
    out
}
