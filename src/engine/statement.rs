//! SQL text to statements: parsed once, here.
//!
//! In: the text of a simple query or a Parse message. Out: one [`Statement`] per statement with its own text. Standard
//! statements are sqlparser's PostgreSQL AST; the few that it does not know (models, COPY with free options, external
//! tables) are parsed from the same tokens. Invariant: nothing later parses or prints SQL to understand a statement.
//! Deliberately absent: name resolution (`bind`).

pub mod alter;
pub mod copy;
pub mod cursor;
pub mod explain;
mod grant;
pub mod insert;
pub mod order;
pub mod role;
pub(crate) mod spelled;

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{self, Ident, ObjectName};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use squilla_core::error::{Error, Kind, Result};

use crate::error::{from_parser, position};
use crate::foreign::{self, Foreign};

/// One statement of the client.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What it is.
    pub kind: Arc<StatementKind>,
    /// Its text, without the semicolon.
    pub text: Arc<str>,
    /// The whole text that it was a part of: what positions of errors count in.
    pub source: Arc<str>,
}

/// The sorts of statements.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// A statement of sqlparser.
    Sql(Box<ast::Statement>),
    /// CREATE MODEL
    CreateModel(CreateModel),
    /// DROP MODEL [IF EXISTS] names
    DropModel {
        /// IF EXISTS
        if_exists: bool,
        /// Names.
        names: Vec<String>,
    },
    /// CREATE, ALTER and DROP of servers and user mappings
    Foreign(Foreign),
    /// COPY
    Copy(Box<copy::Copy>),
    /// CREATE EXTERNAL TABLE
    CreateExternalTable(Box<CreateExternalTable>),
    /// EXPLAIN
    Explain(Box<explain::Explain>),
    /// ALTER VIEW and kin
    Alter(Box<alter::AlterRelation>),
    /// REFRESH MATERIALIZED VIEW
    Refresh(Box<alter::Refresh>),
    /// DECLARE CURSOR
    Declare(Box<cursor::Declare>),
    /// FETCH, MOVE
    Fetch(cursor::Fetch),
    /// CLOSE; None is ALL
    Close(Option<String>),
    /// What is about roles and privileges.
    Role(Box<role::RoleStatement>),
    /// COMMENT ON
    Comment(Box<crate::command::comments::Comment>),
    /// ALTER FUNCTION
    AlterFunction(Box<crate::command::functions::AlterFunction>),
}

/// `CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name FOR task WITH (option = value, ...)`
#[derive(Clone, Debug)]
pub struct CreateModel {
    /// OR REPLACE
    pub or_replace: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// Name.
    pub name: String,
    /// Task word.
    pub task: String,
    /// Options, names in lower case.
    pub options: Vec<(String, String)>,
}

/// `CREATE EXTERNAL TABLE [IF NOT EXISTS] t [(columns)] STORED AS format LOCATION 'url' [OPTIONS (...)]`
#[derive(Clone, Debug)]
pub struct CreateExternalTable {
    /// OR REPLACE
    pub or_replace: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// Name.
    pub name: ObjectName,
    /// Declared columns; empty infers them.
    pub columns: Vec<ast::ColumnDef>,
    /// parquet | csv | json | arrow, lower case.
    pub format: String,
    /// Path or URL, glob allowed.
    pub location: String,
    /// Hive partition columns.
    pub partitioned_by: Vec<String>,
    /// Reader options, names in lower case.
    pub options: Vec<(String, String)>,
}

/// Parameters that a Bind message can carry.
const PARAMETERS_MAX: u32 = 65_535;

/// Splits and parses `sql`. An empty text gives an empty list.
pub fn parse(sql: &str, depth_max: usize) -> Result<Vec<Statement>> {
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| located(ParserError::from(e), sql, None))?;
    check_chains(&tokens, depth_max)?;
    check_parameters(&tokens)?;
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(depth_max)
        .with_tokens_with_locations(insert::overriding(alter::do_nothing(order::normal(join_operators(spelled::known(tokens))))));
    let mut statements = Vec::new();
    let source: Arc<str> = Arc::from(sql);
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(statements);
        }
        let start = offset(sql, &parser);
        let kind = statement(&mut parser, sql, depth_max).map_err(|e| located(e, sql, Some(&parser)))?;
        check_names(&kind, sql)?;
        match parser.peek_token_ref().token {
            Token::SemiColon | Token::EOF => {}
            _ => {
                let found = parser.peek_token_ref();
                let e = ParserError::ParserError(format!("Expected: end of statement, found: {found}"));
                return Err(located(e, sql, Some(&parser)));
            }
        }
        let end = offset(sql, &parser);
        let text = sql.get(start..end).unwrap_or(sql).trim_end();
        let text = match &kind {
            StatementKind::Foreign(foreign) => foreign.shown(text),
            StatementKind::Role(_) => role::shown(text),
            // Refused when it runs, and listed until then.
            StatementKind::Explain(_) if role::sets_password(text) => role::shown(text),
            _ => Arc::from(text),
        };
        statements.push(Statement { kind: Arc::new(kind), text, source: Arc::clone(&source) });
    }
}

/// The parser takes some words for names of tables that PostgreSQL keeps for itself: 42601 at the word.
fn check_names(kind: &StatementKind, sql: &str) -> Result<()> {
    let StatementKind::Sql(statement) = kind else { return Ok(()) };
    let found = ast::visit_relations(statement.as_ref(), |name| match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(word)] if word.quote_style.is_none() && RESERVED.contains(&word.value.to_lowercase().as_str()) => {
            ControlFlow::Break(word.clone())
        }
        _ => ControlFlow::Continue(()),
    });
    let ControlFlow::Break(word) = found else { return Ok(()) };
    let mut error = Error::new(Kind::Syntax, format!("syntax error at or near \"{}\"", word.value));
    error.position = position(sql, word.span.start.line, word.span.start.column);
    Err(error)
}

/// Words that cannot be names of tables, of those that the parser takes.
const RESERVED: &[&str] = &[
    "all", "and", "any", "as", "asc", "case", "cast", "check", "desc", "distinct", "else", "end", "except", "fetch", "for", "from", "grant", "group",
    "having", "in", "into", "limit", "not", "null", "offset", "on", "or", "order", "select", "then", "to", "union", "unique", "using", "when",
    "where", "with",
];

/// `$n` is from 1 to what a message can carry: 42P02 for others.
fn check_parameters(tokens: &[TokenWithSpan]) -> Result<()> {
    for token in tokens {
        if let Token::Placeholder(name) = &token.token
            && let Some(number) = name.strip_prefix('$').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            && !number.parse::<u32>().is_ok_and(|n| (1..=PARAMETERS_MAX).contains(&n))
        {
            return Err(Error::new(Kind::UndefinedParameter, format!("there is no parameter {name}")));
        }
    }
    Ok(())
}

/// A chain of operators (`1 + 1 + ...`, `a OR b OR ...`, UNION) becomes a tree as deep as the chain is long, which the parser's
/// own limit does not see: 54001 before it is built.
fn check_chains(tokens: &[TokenWithSpan], depth_max: usize) -> Result<()> {
    let mut lengths = vec![0usize];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => lengths.push(0),
            Token::RParen | Token::RBracket if lengths.len() > 1 => drop(lengths.pop()),
            Token::Comma | Token::SemiColon => lengths.last_mut().into_iter().for_each(|l| *l = 0),
            Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::Placeholder(_) => {}
            Token::Word(word) => {
                let joins =
                    ["AND", "OR", "NOT", "UNION", "EXCEPT", "INTERSECT", "JOIN", "COLLATE"].iter().any(|w| word.value.eq_ignore_ascii_case(w));
                lengths.last_mut().into_iter().filter(|_| joins && word.quote_style.is_none()).for_each(|l| *l += 1);
            }
            _ => lengths.last_mut().into_iter().for_each(|l| *l += 1),
        }
        if lengths.len() > depth_max || lengths.last().is_some_and(|l| *l > depth_max) {
            return Err(Error::new(Kind::TooComplex, "statement is nested too deep").hint("The limit is the setting squilla.max_statement_depth."));
        }
    }
    Ok(())
}

/// The tokenizer cuts pgvector's `<+>` after `<`: puts the pieces together again where nothing stands between them.
fn join_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(mut token) = tokens.next() {
        if token.token == Token::Lt {
            let mut rest = tokens.clone();
            let joined = match (rest.next().map(|t| t.token), rest.next().map(|t| t.token)) {
                (Some(Token::CustomBinaryOperator(op)), _) if op == "+>" => 1,
                (Some(Token::Plus), Some(Token::Gt)) => 2,
                _ => 0,
            };
            if joined > 0 {
                (0..joined).for_each(|_| drop(tokens.next()));
                token.token = Token::CustomBinaryOperator("<+>".into());
            }
        }
        out.push(token);
    }
    out
}

/// Byte offset of the next token.
pub(crate) fn offset(sql: &str, parser: &Parser) -> usize {
    let start = parser.peek_token_ref().span.start;
    if start.line == 0 {
        return sql.len();
    }
    let line_start: usize = sql.split_inclusive('\n').take(start.line as usize - 1).map(str::len).sum();
    let rest = sql.get(line_start..).unwrap_or("");
    line_start + rest.char_indices().nth(start.column.saturating_sub(1) as usize).map_or(rest.len(), |(i, _)| i)
}

fn located(error: ParserError, sql: &str, parser: Option<&Parser>) -> Error {
    let text = error.to_string();
    let mut ours = from_parser(error);
    // sqlparser ends its messages with " at Line: 1, Column: 8".
    let mut at = None;
    if let Some((head, tail)) = text.rsplit_once(" at Line: ")
        && let Some((line, column)) = tail.split_once(", Column: ")
    {
        at = line.trim().parse().ok().zip(column.trim().parse().ok()).and_then(|(l, c)| position(sql, l, c));
        let head = head.trim_start_matches("sql parser error: ");
        ours.message = syntax_message(head);
    } else if ours.message.contains("found: EOF") || text.contains("found: EOF") {
        ours.message = "syntax error at end of input".into();
    }
    if at.is_none()
        && let Some(parser) = parser
    {
        let start = parser.peek_token_ref().span.start;
        at = position(sql, start.line, start.column);
    }
    ours.position = at;
    ours
}

/// `Expected: X, found: Y` as PostgreSQL says it.
fn syntax_message(text: &str) -> String {
    match text.rsplit_once("found: ") {
        Some((_, "EOF")) => "syntax error at end of input".into(),
        Some((_, found)) => format!("syntax error at or near \"{found}\""),
        None => {
            let mut chars = text.chars();
            chars.next().map_or_else(|| "syntax error".into(), |c| c.to_lowercase().chain(chars).collect())
        }
    }
}

/// What the parser's steps give.
pub(crate) type Parsed<T> = std::result::Result<T, ParserError>;

pub(crate) fn statement(parser: &mut Parser, sql: &str, depth_max: usize) -> Parsed<StatementKind> {
    let words = |p: &Parser, list: &[&str]| list.iter().enumerate().all(|(i, word)| is_word(&p.peek_nth_token(i).token, word));
    if words(parser, &["CREATE", "MODEL"]) || words(parser, &["CREATE", "OR", "REPLACE", "MODEL"]) {
        return create_model(parser);
    }
    if words(parser, &["DROP", "MODEL"]) {
        parser.next_token();
        parser.next_token();
        let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let names = parser.parse_comma_separated(|p| p.parse_object_name(false).map(|n| name_text(&n)))?;
        return Ok(StatementKind::DropModel { if_exists, names });
    }
    if words(parser, &["TABLE"]) {
        return table(parser).map(|q| StatementKind::Sql(Box::new(ast::Statement::Query(q))));
    }
    if words(parser, &["COPY"]) {
        return copy::parse(parser).map(|c| StatementKind::Copy(Box::new(c)));
    }
    if let Some(kind) = cursor::parse(parser)? {
        return Ok(kind);
    }
    if let Some(kind) = role::parse(parser)? {
        return Ok(StatementKind::Role(Box::new(kind)));
    }
    if words(parser, &["CREATE", "EXTERNAL", "TABLE"]) || words(parser, &["CREATE", "OR", "REPLACE", "EXTERNAL", "TABLE"]) {
        return create_external(parser).map(|c| StatementKind::CreateExternalTable(Box::new(c)));
    }
    if let Some(foreign) = foreign::parse(parser)? {
        return Ok(StatementKind::Foreign(foreign));
    }
    if words(parser, &["COMMENT", "ON"]) {
        return crate::command::comments::parse(parser).map(|c| StatementKind::Comment(Box::new(c)));
    }
    if words(parser, &["ALTER", "FUNCTION"]) {
        return crate::command::functions::parse_alter(parser).map(|a| StatementKind::AlterFunction(Box::new(a)));
    }
    if words(parser, &["EXPLAIN"]) {
        return explain::parse(parser, sql, depth_max).map(|e| StatementKind::Explain(Box::new(e)));
    }
    if words(parser, &["REFRESH"]) {
        return alter::refresh(parser).map(|r| StatementKind::Refresh(Box::new(r)));
    }
    if let Some(found) = alter::alter(parser) {
        return Ok(StatementKind::Alter(Box::new(found)));
    }
    let mut statement = parser.parse_statement()?;
    with_data(parser, &mut statement)?;
    Ok(StatementKind::Sql(Box::new(statement)))
}

/// `WITH [NO] DATA` behind the query of a table or materialized view.
fn with_data(parser: &mut Parser, statement: &mut ast::Statement) -> Parsed<()> {
    if !matches!(statement, ast::Statement::CreateTable(_) | ast::Statement::CreateView(_)) || !accept(parser, "WITH") {
        return Ok(());
    }
    let empty = accept(parser, "NO");
    expect(parser, "DATA")?;
    match statement {
        ast::Statement::CreateTable(create) => {
            if let Some(query) = create.query.as_mut().filter(|_| empty) {
                let none = format!("SELECT * FROM ({query}) AS no_data LIMIT 0");
                *query = Parser::new(&PostgreSqlDialect {}).try_with_sql(&none)?.parse_query()?;
            }
        }
        // A field of another dialect, which no statement here can set otherwise: the view is not filled.
        ast::Statement::CreateView(create) if create.materialized => create.with_no_schema_binding = empty,
        _ => return parser.expected("end of statement", parser.peek_token()),
    }
    Ok(())
}

/// `TABLE name`: all of its rows.
fn table(parser: &mut Parser) -> Parsed<Box<ast::Query>> {
    expect(parser, "TABLE")?;
    let name = parser.parse_object_name(false)?;
    crate::bind::relation::table_query(&name, &[]).map_err(|e| ParserError::ParserError(e.message))
}

/// Whether a token is this word, unquoted.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Takes the word if it is next.
pub(crate) fn accept(parser: &mut Parser, word: &str) -> bool {
    let found = is_word(&parser.peek_token_ref().token, word);
    if found {
        parser.next_token();
    }
    found
}

/// Takes the word, or fails.
pub(crate) fn expect(parser: &mut Parser, word: &str) -> Parsed<()> {
    if accept(parser, word) { Ok(()) } else { parser.expected(word, parser.peek_token()) }
}

/// A name as PostgreSQL folds it: lower case unless quoted.
pub fn ident_text(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// A name in double quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The parts of a name, folded.
pub fn name_parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|p| p.as_ident()).map(ident_text).collect()
}

/// A name, folded, with dots.
pub fn name_text(name: &ObjectName) -> String {
    name_parts(name).join(".")
}

fn create_model(parser: &mut Parser) -> Parsed<StatementKind> {
    expect(parser, "CREATE")?;
    let or_replace = parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
    expect(parser, "MODEL")?;
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = name_text(&parser.parse_object_name(false)?);
    expect(parser, "FOR")?;
    let task = ident_text(&parser.parse_identifier()?);
    expect(parser, "WITH")?;
    let options = option_list(parser)?;
    Ok(StatementKind::CreateModel(CreateModel { or_replace, if_not_exists, name, task, options }))
}

/// `(name [=] value, ...)`
pub(crate) fn option_list(parser: &mut Parser) -> Parsed<Vec<(String, String)>> {
    parser.expect_token(&Token::LParen)?;
    let mut options = Vec::new();
    while parser.peek_token_ref().token != Token::RParen {
        let name = match parser.next_token().token {
            Token::Word(w) => w.value.to_lowercase(),
            Token::SingleQuotedString(s) => s.to_lowercase(),
            _ => return parser.expected("an option name", parser.peek_token()),
        };
        let _ = parser.consume_token(&Token::Eq);
        options.push((name, option_value(parser)?));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(options)
}

/// A literal or word as the value of an option.
pub(crate) fn option_value(parser: &mut Parser) -> Parsed<String> {
    let minus = parser.consume_token(&Token::Minus);
    match parser.next_token().token {
        Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => Ok(s),
        Token::DollarQuotedString(s) => Ok(s.value),
        Token::Number(n, _) => Ok(if minus { format!("-{n}") } else { n }),
        Token::Word(w) => Ok(w.value),
        _ => parser.expected("an option value", parser.peek_token()),
    }
}

fn create_external(parser: &mut Parser) -> Parsed<CreateExternalTable> {
    expect(parser, "CREATE")?;
    let or_replace = parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
    expect(parser, "EXTERNAL")?;
    expect(parser, "TABLE")?;
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parser.parse_object_name(false)?;
    let columns = if parser.peek_token_ref().token == Token::LParen { parser.parse_columns()?.0 } else { Vec::new() };
    let mut table = CreateExternalTable {
        or_replace,
        if_not_exists,
        name,
        columns,
        format: String::new(),
        location: String::new(),
        partitioned_by: Vec::new(),
        options: Vec::new(),
    };
    loop {
        if accept(parser, "STORED") {
            expect(parser, "AS")?;
            table.format = ident_text(&parser.parse_identifier()?).to_lowercase();
        } else if accept(parser, "LOCATION") {
            table.location = parser.parse_literal_string()?;
        } else if accept(parser, "PARTITIONED") {
            expect(parser, "BY")?;
            parser.expect_token(&Token::LParen)?;
            table.partitioned_by = parser.parse_comma_separated(Parser::parse_identifier)?.iter().map(ident_text).collect();
            parser.expect_token(&Token::RParen)?;
        } else if accept(parser, "OPTIONS") || accept(parser, "WITH") {
            table.options = option_list(parser)?;
        } else {
            break;
        }
    }
    if table.format.is_empty() {
        return parser.expected("STORED AS format", parser.peek_token());
    }
    if table.location.is_empty() {
        return parser.expected("LOCATION 'url'", parser.peek_token());
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn several_statements_keep_their_text() {
        let s = parse("SELECT 1 ; \n SELECT 'é;', 2;", 100).unwrap();
        assert_eq!(s.iter().map(|s| s.text.to_string()).collect::<Vec<_>>(), ["SELECT 1", "SELECT 'é;', 2"]);
        assert!(parse(" ; ; -- nothing", 100).unwrap().is_empty());
    }

    #[test]
    fn our_own_statements() {
        let s = parse("CREATE OR REPLACE MODEL m FOR embed_text WITH (source = 'file:///m', max_batch = 8)", 100).unwrap();
        let StatementKind::CreateModel(m) = &*s[0].kind else { panic!("{s:?}") };
        assert_eq!((m.name.as_str(), m.task.as_str(), m.options.len()), ("m", "embed_text", 2));
        let s = parse("COPY (SELECT 1) TO '/tmp/x' (FORMAT parquet, PARTITION_BY (a, b), HEADER)", 100).unwrap();
        let StatementKind::Copy(c) = &*s[0].kind else { panic!("{s:?}") };
        assert_eq!(c.options.len(), 3);
        let s = parse("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/x/*.csv' OPTIONS (header 'true')", 100).unwrap();
        assert!(matches!(&*s[0].kind, StatementKind::CreateExternalTable(_)));
        let s = parse("EXPLAIN (ANALYZE, FORMAT json) SELECT 1", 100).unwrap();
        let StatementKind::Explain(e) = &*s[0].kind else { panic!("{s:?}") };
        assert!(e.analyze && e.format == explain::ExplainFormat::Json && &*e.statement.text == "SELECT 1");
    }

    #[test]
    fn errors_have_a_place() {
        let e = parse("SELECT 1 FRM x y z", 100).unwrap_err();
        assert_eq!(e.sqlstate(), "42601");
        assert!(e.position.is_some());
        assert_eq!(parse("SELECT (", 100).unwrap_err().message, "syntax error at end of input");
    }
}
