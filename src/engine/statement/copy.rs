//! COPY: its two ends and its options.
//!
//! In: the tokens from COPY on. Out: a `Copy`. Invariant: the options keep the order and the spelling that the client
//! gave; what they mean is decided by who reads or writes the data. Deliberately absent: COPY with a program.

use sqlparser::ast::{Expr, Ident, ObjectName, Query};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Parsed, accept, expect, ident_text, option_value};

/// COPY in both directions.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What is copied.
    pub source: CopySource,
    /// TO (true) or FROM.
    pub to: bool,
    /// The other end.
    pub target: CopyTarget,
    /// Options, names in lower case.
    pub options: Vec<(String, CopyOption)>,
    /// WHERE of COPY FROM.
    pub condition: Option<Expr>,
}

/// The SQL end of COPY.
#[derive(Clone, Debug)]
pub enum CopySource {
    /// (query)
    Query(Box<Query>),
    /// table (columns)
    Table {
        /// Table.
        name: ObjectName,
        /// Columns; empty is all.
        columns: Vec<Ident>,
    },
}

/// The file end of COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTarget {
    /// STDIN
    Stdin,
    /// STDOUT
    Stdout,
    /// Path or URL.
    Location(String),
}

/// The value of a COPY option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyOption {
    /// FORMAT parquet, DELIMITER ';', ROW_GROUP_SIZE 1000
    Value(String),
    /// PARTITION_BY (a, b), FORCE_QUOTE *
    List(Vec<String>),
    /// HEADER alone
    Flag,
}

/// Parses COPY.
pub(super) fn parse(parser: &mut Parser) -> Parsed<Copy> {
    expect(parser, "COPY")?;
    let source = if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        CopySource::Query(query)
    } else {
        let name = parser.parse_object_name(false)?;
        let columns = if parser.consume_token(&Token::LParen) {
            let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
            parser.expect_token(&Token::RParen)?;
            columns
        } else {
            Vec::new()
        };
        CopySource::Table { name, columns }
    };
    let to = accept(parser, "TO");
    if !to {
        expect(parser, "FROM")?;
    }
    let target = match parser.next_token().token {
        Token::SingleQuotedString(location) => CopyTarget::Location(location),
        // PostgreSQL takes either word for either direction.
        Token::Word(w) if w.value.eq_ignore_ascii_case("stdin") || w.value.eq_ignore_ascii_case("stdout") => {
            if to {
                CopyTarget::Stdout
            } else {
                CopyTarget::Stdin
            }
        }
        _ => return parser.expected("STDIN, STDOUT or a quoted path", parser.peek_token()),
    };
    accept(parser, "WITH");
    let options = if parser.consume_token(&Token::LParen) { copy_options(parser)? } else { legacy_copy_options(parser)? };
    let condition = if !to && accept(parser, "WHERE") { Some(parser.parse_expr()?) } else { None };
    Ok(Copy { source, to, target, options, condition })
}

fn copy_options(parser: &mut Parser) -> Parsed<Vec<(String, CopyOption)>> {
    let mut options = Vec::new();
    while parser.peek_token_ref().token != Token::RParen {
        let Token::Word(name) = parser.next_token().token else {
            return parser.expected("an option name", parser.peek_token());
        };
        let _ = parser.consume_token(&Token::Eq);
        let value = match parser.peek_token_ref().token {
            Token::Comma | Token::RParen => CopyOption::Flag,
            Token::LParen => {
                parser.next_token();
                let list = parser.parse_comma_separated(Parser::parse_identifier)?;
                parser.expect_token(&Token::RParen)?;
                CopyOption::List(list.iter().map(ident_text).collect())
            }
            Token::Mul => {
                parser.next_token();
                CopyOption::List(vec!["*".into()])
            }
            _ => CopyOption::Value(option_value(parser)?),
        };
        options.push((name.value.to_lowercase(), value));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(options)
}

/// The spelling before PostgreSQL 9: `CSV HEADER DELIMITER ',' NULL ''`, still sent by tools.
fn legacy_copy_options(parser: &mut Parser) -> Parsed<Vec<(String, CopyOption)>> {
    let mut options = Vec::new();
    loop {
        if accept(parser, "CSV") {
            options.push(("format".into(), CopyOption::Value("csv".into())));
        } else if accept(parser, "BINARY") {
            options.push(("format".into(), CopyOption::Value("binary".into())));
        } else if let Some(name) = ["HEADER", "FREEZE"].into_iter().find(|w| accept(parser, w)) {
            options.push((name.to_lowercase(), CopyOption::Flag));
        } else if accept(parser, "FORCE") {
            options.push(forced(parser)?);
        } else if let Some(name) = ["DELIMITER", "NULL", "QUOTE", "ESCAPE", "ENCODING"].into_iter().find(|w| accept(parser, w)) {
            accept(parser, "AS");
            options.push((name.to_lowercase(), CopyOption::Value(option_value(parser)?)));
        } else {
            return Ok(options);
        }
    }
}

/// `FORCE QUOTE a, b`, `FORCE NOT NULL a`, `FORCE NULL *`, after FORCE.
fn forced(parser: &mut Parser) -> Parsed<(String, CopyOption)> {
    let name = if accept(parser, "QUOTE") {
        "force_quote"
    } else if accept(parser, "NOT") {
        expect(parser, "NULL")?;
        "force_not_null"
    } else {
        expect(parser, "NULL")?;
        "force_null"
    };
    if parser.consume_token(&Token::Mul) {
        return Ok((name.into(), CopyOption::List(vec!["*".into()])));
    }
    let list = parser.parse_comma_separated(Parser::parse_identifier)?;
    Ok((name.into(), CopyOption::List(list.iter().map(ident_text).collect())))
}
