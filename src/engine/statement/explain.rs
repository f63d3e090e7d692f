//! EXPLAIN in PostgreSQL's spelling.
//!
//! In: tokens. Out: options and the statement that is explained. Invariant: unknown options and values are syntax errors.
//! Deliberately absent: what BUFFERS, WAL and SETTINGS would show; they are accepted.

use std::sync::Arc;

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::statement::{Statement, accept, expect, ident_text, offset, option_value, statement};

type Parsed<T> = std::result::Result<T, ParserError>;

/// The forms of an explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExplainFormat {
    /// Indented lines.
    #[default]
    Text,
    /// A JSON array.
    Json,
    /// YAML
    Yaml,
    /// XML
    Xml,
}

/// EXPLAIN in PostgreSQL's spelling.
#[derive(Clone, Debug)]
pub struct Explain {
    /// Run it and show what happened.
    pub analyze: bool,
    /// Show output columns.
    pub verbose: bool,
    /// How it is written.
    pub format: ExplainFormat,
    /// With ANALYZE: show times.
    pub timing: bool,
    /// Show planning and execution time; None shows them with ANALYZE.
    pub summary: Option<bool>,
    /// Show estimates.
    pub costs: bool,
    /// The statement.
    pub statement: Statement,
}

/// Parses from EXPLAIN on.
pub fn parse(parser: &mut Parser, sql: &str, depth_max: usize) -> Parsed<Explain> {
    expect(parser, "EXPLAIN")?;
    let mut options = ExplainOptions { costs: true, timing: true, ..ExplainOptions::default() };
    if parser.consume_token(&Token::LParen) {
        loop {
            let name = ident_text(&parser.parse_identifier()?);
            let value = match parser.peek_token_ref().token {
                Token::Comma | Token::RParen => "on".to_owned(),
                _ => option_value(parser)?.to_lowercase(),
            };
            options.set(&name, &value)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    } else {
        options.analyze = accept(parser, "ANALYZE");
        options.verbose = accept(parser, "VERBOSE");
    }
    let start = offset(sql, parser);
    let kind = statement(parser, sql, depth_max)?;
    let text = sql.get(start..offset(sql, parser)).unwrap_or(sql).trim_end();
    let ExplainOptions { analyze, verbose, costs, timing, summary, format } = options;
    Ok(Explain {
        analyze,
        verbose,
        costs,
        timing,
        summary,
        format,
        statement: Statement { kind: Arc::new(kind), text: Arc::from(text), source: Arc::from(sql) },
    })
}

#[derive(Default)]
struct ExplainOptions {
    analyze: bool,
    verbose: bool,
    costs: bool,
    timing: bool,
    summary: Option<bool>,
    format: ExplainFormat,
}

impl ExplainOptions {
    fn set(&mut self, name: &str, value: &str) -> Parsed<()> {
        let on = squilla_core::settings::parse_bool(value);
        if name != "format" && on.is_none() {
            return Err(ParserError::ParserError(format!("{name} requires a Boolean value")));
        }
        let on = on.unwrap_or(false);
        match name {
            "analyze" => self.analyze = on,
            "verbose" => self.verbose = on,
            "costs" => self.costs = on,
            "timing" => self.timing = on,
            "summary" => self.summary = Some(on),
            "format" => {
                self.format = match value {
                    "text" => ExplainFormat::Text,
                    "json" => ExplainFormat::Json,
                    "yaml" => ExplainFormat::Yaml,
                    "xml" => ExplainFormat::Xml,
                    _ => return Err(ParserError::ParserError(format!("unrecognized value for EXPLAIN option \"format\": \"{value}\""))),
                }
            }
            // Nothing is counted that these would show.
            "buffers" | "settings" | "wal" | "generic_plan" => {}
            other => return Err(ParserError::ParserError(format!("unrecognized EXPLAIN option \"{other}\""))),
        }
        Ok(())
    }
}
