//! Functions that users write in SQL.
//!
//! In: what CREATE FUNCTION said. Out: entries of a schema, and what `pg_proc` tells of them. Invariant: names and types
//! of the arguments that callers give tell an overload. Deliberately absent: planning of bodies (`session::sql_functions`).

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{CatalogData, parse_spelling, spelling};
use crate::system::procs::{Mode, Proc, ProcArgument};
use crate::system::{oids, types};

/// One argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionArgument {
    /// Name; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The SQL spelling of its type.
    pub ty: String,
    /// DEFAULT, as SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// What a function gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionResult {
    /// RETURNS type
    Value(String),
    /// RETURNS SETOF type
    Set(String),
    /// RETURNS TABLE (name type, ...)
    Table(Vec<(String, String)>),
}

/// One overload of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionEntry {
    /// pg_proc.oid
    pub oid: u32,
    /// Name.
    pub name: String,
    /// Role.
    pub owner: String,
    /// Arguments in order.
    pub arguments: Vec<FunctionArgument>,
    /// What it gives.
    pub returns: FunctionResult,
    /// `i`, `s` or `v`
    pub volatility: char,
    /// STRICT
    #[serde(default)]
    pub strict: bool,
    /// `u`, `r` or `s`
    pub parallel: char,
    /// The body, as written.
    pub body: String,
    /// COMMENT ON FUNCTION
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A default as PostgreSQL prints it: literals without a type of their own with the argument's.
fn typed_default(default: &str, ty: u32) -> String {
    let untyped = default.eq_ignore_ascii_case("null") || (default.starts_with('\'') && default.ends_with('\''));
    if untyped { format!("{default}::{}", types::format_type(ty, None)) } else { default.to_owned() }
}

fn one_of(code: char, words: &[&'static str]) -> &'static str {
    words.iter().find(|w| w.starts_with(code)).copied().unwrap_or("v")
}

impl FunctionEntry {
    /// What tells it from other overloads: `name(type, type)`.
    pub fn signature(&self) -> String {
        format!("{}({})", self.name, self.arguments.iter().map(|a| a.ty.as_str()).collect::<Vec<_>>().join(", "))
    }

    /// Types of the arguments.
    pub fn types(&self) -> Vec<SqlType> {
        self.arguments.iter().map(|a| parse_spelling(&a.ty).unwrap_or(SqlType::Text)).collect()
    }

    /// Result columns, named as a FROM item names them.
    pub fn columns(&self) -> Vec<(String, SqlType)> {
        let ty = |text: &str| parse_spelling(text).unwrap_or(SqlType::Text);
        match &self.returns {
            FunctionResult::Value(text) | FunctionResult::Set(text) => vec![(self.name.clone(), ty(text))],
            FunctionResult::Table(columns) => columns.iter().map(|(name, text)| (name.clone(), ty(text))).collect(),
        }
    }

    /// Whether it gives rows.
    pub fn is_set(&self) -> bool {
        !matches!(self.returns, FunctionResult::Value(_))
    }

    /// What `pg_proc` tells of it.
    pub fn proc(&self, schema: u32) -> Proc {
        let oid = |text: &str| parse_spelling(text).unwrap_or(SqlType::Text).oid();
        let mut arguments: Vec<ProcArgument> = self
            .arguments
            .iter()
            .map(|a| ProcArgument {
                name: a.name.clone(),
                ty: oid(&a.ty),
                mode: Mode::In,
                default: a.default.as_ref().map(|d| typed_default(d, oid(&a.ty))),
            })
            .collect();
        let returns = match &self.returns {
            FunctionResult::Value(ty) | FunctionResult::Set(ty) => oid(ty),
            FunctionResult::Table(columns) => {
                let column = |(name, ty): &(String, String)| ProcArgument { name: name.clone(), ty: oid(ty), mode: Mode::Table, default: None };
                arguments.extend(columns.iter().map(column));
                if let [(_, only)] = columns.as_slice() { oid(only) } else { 2249 }
            }
        };
        Proc {
            oid: self.oid,
            name: self.name.clone(),
            schema,
            kind: "f",
            language: oids::LANGUAGE_SQL_OID,
            arguments,
            returns,
            set: self.is_set(),
            volatility: one_of(self.volatility, &["i", "s", "v"]),
            strict: self.strict,
            parallel: one_of(self.parallel, &["u", "r", "s"]),
            owner: self.owner.clone(),
            source: self.body.clone(),
            family: String::new(),
            comment: self.comment.clone().unwrap_or_default(),
        }
    }
}

impl CatalogData {
    /// The functions of this name that the search path finds: those of the first schema that has one with each signature.
    pub fn functions_named(&self, schema: Option<&str>, path: &[String], name: &str) -> Vec<FunctionEntry> {
        let schemas: Vec<&str> = match schema {
            Some(schema) => vec![schema],
            None => path.iter().map(String::as_str).collect(),
        };
        let mut found: Vec<FunctionEntry> = Vec::new();
        for entry in schemas.into_iter().filter_map(|s| self.schemas.get(s)) {
            for function in entry.functions.values().filter(|f| f.name == name) {
                if !found.iter().any(|f| f.signature() == function.signature()) {
                    found.push(function.clone());
                }
            }
        }
        found
    }
}

/// 42883
pub fn no_function(text: &str) -> Error {
    Error::new(Kind::UndefinedFunction, format!("function {text} does not exist"))
}

/// A type as the catalog spells it; 42704.
pub fn type_text(text: &str) -> Result<String> {
    let ty = SqlType::parse(text).or_else(|| SqlType::parse(&text.replace(' ', "")));
    ty.map(|t| spelling(&t)).ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{}\" does not exist", text.to_lowercase())))
}
