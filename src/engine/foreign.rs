//! `CREATE SERVER` and `CREATE USER MAPPING`: where object stores are, and how to log in.
//!
//! In: tokens. Out: [`Foreign`]. PostgreSQL's grammar, with the wrappers `s3`, `gcs` and `azure`. Deliberately absent:
//! what the statements do (`command::servers`), wrappers of other databases.

use std::sync::Arc;

use sqlparser::ast::Ident;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::statement::{accept, expect, ident_text, is_word, name_text, option_list, option_value};

/// Statements about servers and user mappings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// CREATE SERVER
    CreateServer {
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// Name.
        name: String,
        /// FOREIGN DATA WRAPPER
        wrapper: String,
        /// OPTIONS
        options: Vec<(String, String)>,
    },
    /// ALTER SERVER ... OPTIONS
    AlterServer {
        /// Name.
        name: String,
        /// OPTIONS
        changes: Vec<Change>,
    },
    /// DROP SERVER
    DropServer {
        /// IF EXISTS
        if_exists: bool,
        /// Names.
        names: Vec<String>,
        /// CASCADE
        cascade: bool,
    },
    /// CREATE USER MAPPING
    CreateMapping {
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// FOR
        role: MappingRole,
        /// SERVER
        server: String,
        /// OPTIONS
        options: Vec<(String, String)>,
    },
    /// ALTER USER MAPPING ... OPTIONS
    AlterMapping {
        /// FOR
        role: MappingRole,
        /// SERVER
        server: String,
        /// OPTIONS
        changes: Vec<Change>,
    },
    /// DROP USER MAPPING
    DropMapping {
        /// IF EXISTS
        if_exists: bool,
        /// FOR
        role: MappingRole,
        /// SERVER
        server: String,
    },
}

impl Foreign {
    /// The text that others may see: without the options of a user mapping.
    pub fn shown(&self, text: &str) -> Arc<str> {
        match self {
            Foreign::CreateMapping { .. } | Foreign::AlterMapping { .. } => {
                // Of names and keywords only the keyword is followed by a parenthesis.
                let end = text.find('(').unwrap_or(text.len());
                Arc::from(format!("{}(...)", text.get(..end).unwrap_or_default()))
            }
            _ => Arc::from(text),
        }
    }
}

/// Whom a mapping is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingRole {
    /// PUBLIC
    Public,
    /// USER, CURRENT_USER, CURRENT_ROLE
    Current,
    /// A role.
    Named(String),
}

/// One element of OPTIONS in ALTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `[ADD] name 'value'`
    Add(String, String),
    /// `SET name 'value'`
    Set(String, String),
    /// `DROP name`
    Drop(String),
}

type Parsed<T> = Result<T, ParserError>;

/// The statement, when it is one of these.
pub fn parse(parser: &mut Parser) -> Parsed<Option<Foreign>> {
    let words = |list: &[&str]| list.iter().enumerate().all(|(i, word)| is_word(&parser.peek_nth_token(i).token, word));
    for verb in ["CREATE", "ALTER", "DROP"] {
        let (server, mapping) = (words(&[verb, "SERVER"]), words(&[verb, "USER", "MAPPING"]));
        if !server && !mapping {
            continue;
        }
        (0..if server { 2 } else { 3 }).for_each(|_| {
            parser.next_token();
        });
        let parsed = match (verb, server) {
            ("CREATE", true) => create_server(parser)?,
            ("ALTER", true) => Foreign::AlterServer { name: name(parser)?, changes: changes(parser)? },
            ("DROP", true) => drop_server(parser)?,
            ("CREATE", _) => create_mapping(parser)?,
            ("ALTER", _) => {
                let (role, server) = target(parser)?;
                Foreign::AlterMapping { role, server, changes: changes(parser)? }
            }
            _ => {
                let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
                let (role, server) = target(parser)?;
                Foreign::DropMapping { if_exists, role, server }
            }
        };
        return Ok(Some(parsed));
    }
    Ok(None)
}

fn name(parser: &mut Parser) -> Parsed<String> {
    parser.parse_object_name(false).map(|n| name_text(&n))
}

fn options(parser: &mut Parser) -> Parsed<Vec<(String, String)>> {
    if accept(parser, "OPTIONS") { option_list(parser) } else { Ok(Vec::new()) }
}

fn create_server(parser: &mut Parser) -> Parsed<Foreign> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = name(parser)?;
    // Recorded by PostgreSQL for the wrapper; ours have no use for them.
    for word in ["TYPE", "VERSION"] {
        if accept(parser, word) {
            parser.parse_literal_string()?;
        }
    }
    for word in ["FOREIGN", "DATA", "WRAPPER"] {
        expect(parser, word)?;
    }
    let wrapper = self::name(parser)?;
    Ok(Foreign::CreateServer { if_not_exists, name, wrapper, options: options(parser)? })
}

fn drop_server(parser: &mut Parser) -> Parsed<Foreign> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let names = parser.parse_comma_separated(name)?;
    let cascade = accept(parser, "CASCADE");
    if !cascade {
        accept(parser, "RESTRICT");
    }
    Ok(Foreign::DropServer { if_exists, names, cascade })
}

fn create_mapping(parser: &mut Parser) -> Parsed<Foreign> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let (role, server) = target(parser)?;
    Ok(Foreign::CreateMapping { if_not_exists, role, server, options: options(parser)? })
}

/// `FOR role SERVER name`
fn target(parser: &mut Parser) -> Parsed<(MappingRole, String)> {
    expect(parser, "FOR")?;
    let role: Ident = parser.parse_identifier()?;
    let role = match (role.quote_style, role.value.to_ascii_lowercase().as_str()) {
        (None, "public") => MappingRole::Public,
        (None, "user" | "current_user" | "current_role") => MappingRole::Current,
        _ => MappingRole::Named(ident_text(&role)),
    };
    expect(parser, "SERVER")?;
    Ok((role, name(parser)?))
}

fn changes(parser: &mut Parser) -> Parsed<Vec<Change>> {
    expect(parser, "OPTIONS")?;
    parser.expect_token(&Token::LParen)?;
    let changes = parser.parse_comma_separated(|p| {
        let verb = ["ADD", "SET", "DROP"].into_iter().find(|verb| accept(p, verb));
        let name = ident_text(&p.parse_identifier()?);
        Ok(match verb {
            Some("DROP") => Change::Drop(name),
            Some("SET") => Change::Set(name, option_value(p)?),
            _ => Change::Add(name, option_value(p)?),
        })
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::statement::{StatementKind, parse as statements};

    fn one(sql: &str) -> Foreign {
        match &*statements(sql, 100).unwrap()[0].kind {
            StatementKind::Foreign(foreign) => foreign.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn servers_and_mappings() {
        assert_eq!(
            one("CREATE SERVER IF NOT EXISTS lake FOREIGN DATA WRAPPER s3 OPTIONS (bucket 'b', region 'eu')"),
            Foreign::CreateServer {
                if_not_exists: true,
                name: "lake".into(),
                wrapper: "s3".into(),
                options: vec![("bucket".into(), "b".into()), ("region".into(), "eu".into())],
            }
        );
        assert_eq!(
            one("ALTER USER MAPPING FOR CURRENT_USER SERVER lake OPTIONS (SET secret_access_key 'x', DROP session_token)"),
            Foreign::AlterMapping {
                role: MappingRole::Current,
                server: "lake".into(),
                changes: vec![Change::Set("secret_access_key".into(), "x".into()), Change::Drop("session_token".into())],
            }
        );
        let text = &statements("CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (secret_access_key 'x')", 100).unwrap()[0].text;
        assert_eq!(&**text, "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (...)");
        assert_eq!(
            one("DROP USER MAPPING IF EXISTS FOR public SERVER lake"),
            Foreign::DropMapping { if_exists: true, role: MappingRole::Public, server: "lake".into() }
        );
        assert_eq!(
            one("DROP SERVER lake, \"B\" CASCADE"),
            Foreign::DropServer { if_exists: false, names: vec!["lake".into(), "B".into()], cascade: true }
        );
    }
}
