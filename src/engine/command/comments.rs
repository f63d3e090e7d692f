//! COMMENT ON every kind of object that exists here.
//!
//! In: the tokens of the statement. Out: a comment in the catalog. Invariant: the object exists when its comment is set;
//! NULL and the empty string take a comment away. Deliberately absent: objects that cannot be made here (triggers,
//! policies, casts): those are 42704, as for any object that does not exist.

use std::sync::Arc;

use sqlparser::ast::{FunctionDesc, Ident, ObjectName, OperateFunctionArg};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;
use squilla_core::error::{Error, Kind, Result};

use crate::command::write::find as target;
use crate::command::{done, functions};
use crate::session::{Execution, Session};
use crate::statement::{ident_text, name_parts, name_text};

/// COMMENT ON what IS text
#[derive(Clone, Debug)]
pub struct Comment {
    /// What it is about.
    pub object: CommentObject,
    /// None takes the comment away.
    pub text: Option<String>,
}

/// The object of a comment.
#[derive(Clone, Debug)]
pub enum CommentObject {
    /// A table, view, materialized view, foreign table, index or sequence.
    Relation(ObjectName),
    /// A column of a relation.
    Column(ObjectName, Ident),
    /// A schema.
    Schema(ObjectName),
    /// The database.
    Database(ObjectName),
    /// A role.
    Role(ObjectName),
    /// A function.
    Function(FunctionDesc),
    /// A constraint of a table.
    Constraint(Ident, ObjectName),
    /// A model.
    Model(String),
    /// Something else: its word and name.
    Other(String, String),
}

type Parsed<T> = std::result::Result<T, ParserError>;

/// Parses from COMMENT on.
pub fn parse(parser: &mut Parser) -> Parsed<Comment> {
    parser.expect_keywords(&[Keyword::COMMENT, Keyword::ON])?;
    let mut word = ident_text(&parser.parse_identifier()?);
    for (first, second) in [("materialized", "view"), ("foreign", "table"), ("external", "table"), ("event", "trigger"), ("access", "method")] {
        if word == first {
            let next = ident_text(&parser.parse_identifier()?);
            if next != second {
                return Err(ParserError::ParserError(format!("Expected: {second}, found: {next}")));
            }
            word = format!("{first} {second}");
        }
    }
    let object = match word.as_str() {
        "table" | "view" | "materialized view" | "foreign table" | "external table" | "index" | "sequence" => {
            CommentObject::Relation(parser.parse_object_name(false)?)
        }
        "column" => {
            let mut name = parser.parse_object_name(false)?;
            let column = name.0.pop().and_then(|p| p.as_ident().cloned());
            match column {
                Some(column) if !name.0.is_empty() => CommentObject::Column(name, column),
                _ => return Err(ParserError::ParserError("column name must be qualified".into())),
            }
        }
        "schema" => CommentObject::Schema(parser.parse_object_name(false)?),
        "database" => CommentObject::Database(parser.parse_object_name(false)?),
        "role" | "user" => CommentObject::Role(parser.parse_object_name(false)?),
        "model" => CommentObject::Model(name_text(&parser.parse_object_name(false)?)),
        "function" | "procedure" | "routine" | "aggregate" => CommentObject::Function(function(parser)?),
        "constraint" => {
            let name = parser.parse_identifier()?;
            parser.expect_keyword(Keyword::ON)?;
            CommentObject::Constraint(name, parser.parse_object_name(false)?)
        }
        "rule" | "trigger" | "policy" => {
            let name = parser.parse_identifier()?;
            parser.expect_keyword(Keyword::ON)?;
            parser.parse_object_name(false)?;
            CommentObject::Other(word, ident_text(&name))
        }
        _ => CommentObject::Other(word, name_text(&parser.parse_object_name(false)?)),
    };
    parser.expect_keyword(Keyword::IS)?;
    let text = match parser.next_token().token {
        Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => Some(s),
        Token::DollarQuotedString(s) => Some(s.value),
        Token::Word(w) if w.keyword == Keyword::NULL => None,
        _ => {
            parser.prev_token();
            return parser.expected("a string or NULL", parser.peek_token());
        }
    };
    Ok(Comment { object, text: text.filter(|t| !t.is_empty()) })
}

/// `[IN] [name] type`
fn argument(parser: &mut Parser) -> Parsed<OperateFunctionArg> {
    let _ = parser.parse_keyword(Keyword::IN);
    let mut data_type = parser.parse_data_type()?;
    // What was read was the name where something follows that ends no argument.
    if !matches!(parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        data_type = parser.parse_data_type()?;
    }
    Ok(OperateFunctionArg::unnamed(data_type))
}

/// `name(type, ...)`, with or without names of arguments.
pub fn function(parser: &mut Parser) -> Parsed<FunctionDesc> {
    let name = parser.parse_object_name(false)?;
    if !parser.consume_token(&Token::LParen) {
        return Ok(FunctionDesc { name, args: None });
    }
    let mut args = Vec::new();
    if !parser.consume_token(&Token::RParen) {
        args = parser.parse_comma_separated(argument)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(FunctionDesc { name, args: Some(args) })
}

/// Sets or takes away a comment of an object without an entry of its own.
fn keep(session: &Arc<Session>, key: String, text: Option<String>) -> Result<()> {
    session.edit(|data| {
        match text {
            Some(text) => data.comments.insert(key, text),
            None => data.comments.remove(&key),
        };
        Ok(())
    })
}

fn missing(word: &str, name: &str) -> Error {
    Error::new(Kind::UndefinedObject, format!("{word} \"{name}\" does not exist"))
}

fn relation(session: &Arc<Session>, name: &ObjectName, text: Option<String>) -> Result<()> {
    let data = session.snapshot();
    let objects = session.database.objects(&data);
    let parts = name_parts(name);
    let last = parts.last().cloned().unwrap_or_default();
    let schema = parts.len().checked_sub(2).and_then(|i| parts.get(i));
    let path = session.search_path(&data);
    // Indexes have no entry of their own: their comments are kept by OID.
    let index = objects.tables.indexes().find(|(t, i)| i.name == last && schema.map_or_else(|| path.contains(&t.schema), |s| *s == t.schema));
    if let Some((_, index)) = index {
        return keep(session, format!("index {}", index.oid), text);
    }
    let (schema, table, _) = target(session, name)?;
    session.edit(|data| data.comment_on_relation(&schema, &table, text))
}

/// Runs COMMENT ON.
pub fn run(session: &Arc<Session>, comment: &Comment) -> Result<Execution> {
    let text = comment.text.clone();
    match &comment.object {
        CommentObject::Relation(name) => relation(session, name, text)?,
        CommentObject::Column(name, column) => {
            let (schema, table, _) = target(session, name)?;
            session.edit(|data| data.comment_on_column(&schema, &table, &ident_text(column), text))?;
        }
        CommentObject::Schema(name) => session.edit(|data| data.comment_on_schema(&name_text(name), text))?,
        CommentObject::Database(name) => {
            let name = name_text(name);
            if name != crate::catalog::data::SUPERUSER {
                return Err(Error::new(Kind::UndefinedDatabase, format!("database \"{name}\" does not exist")));
            }
            keep(session, format!("database {name}"), text)?;
        }
        CommentObject::Role(name) => {
            let name = name_text(name);
            if !session.snapshot().roles.contains_key(&name) {
                return Err(missing("role", &name));
            }
            keep(session, format!("role {name}"), text)?;
        }
        CommentObject::Model(name) => {
            if !session.database.models.registry().list().iter().any(|m| m.name == *name) {
                return Err(missing("model", name));
            }
            keep(session, format!("model {name}"), text)?;
        }
        CommentObject::Function(what) => {
            let (schema, signature) = functions::find(session, what)?;
            session.edit(|data| {
                if let Some(function) = functions::functions_mut(data, &schema)?.get_mut(&signature) {
                    function.comment = text;
                }
                Ok(())
            })?;
        }
        CommentObject::Constraint(name, table) => {
            let (_, shown, entry) = target(session, table)?;
            let objects = session.database.objects(&session.snapshot());
            let name = ident_text(name);
            let found = objects.tables.by_oid(entry.oid).and_then(|t| t.constraints.iter().find(|c| c.name == name));
            let oid =
                found.ok_or_else(|| Error::new(Kind::UndefinedObject, format!("constraint \"{name}\" for table \"{shown}\" does not exist")))?.oid;
            keep(session, format!("constraint {oid}"), text)?;
        }
        CommentObject::Other(word, name) => return Err(missing(word, name)),
    }
    done("COMMENT")
}
