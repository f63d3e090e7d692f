//! What the catalog holds: plain values, as they stand in the file.
//!
//! In and out: serde. Invariants: an OID is given out once and stays with its object; names are as PostgreSQL folds them
//! and unique within their schema over tables, views and external tables alike.
//! Deliberately absent: changes to relations (`relations`), anything computed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

/// The format that this version writes.
pub const FORMAT: u32 = 1;
/// The first OID of a user's object; below are PostgreSQL's and those of our own types and functions.
pub const FIRST_OID: u32 = 16_500;
/// The role and database that always exist.
pub const SUPERUSER: &str = "squilla";
/// The schema that exists from the start.
pub const PUBLIC: &str = "public";

/// Everything that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogData {
    /// See [`FORMAT`].
    pub format: u32,
    /// The next OID to give out.
    pub next_oid: u32,
    /// Schemas by name. The system schemas are not here.
    pub schemas: BTreeMap<String, SchemaEntry>,
    /// Registered models, as the model registry serializes them.
    #[serde(default)]
    pub models: Vec<serde_json::Value>,
    /// Servers of SQL/MED by name: where object stores are.
    #[serde(default)]
    pub servers: BTreeMap<String, ServerEntry>,
    /// Roles by name.
    pub roles: BTreeMap<String, RoleEntry>,
    /// Comments on objects that have no entry of their own (`model m`, `function f`, `database squilla`).
    #[serde(default)]
    pub comments: BTreeMap<String, String>,
}

impl Default for CatalogData {
    fn default() -> Self {
        let public = SchemaEntry { oid: 2200, owner: SUPERUSER.into(), comment: Some("standard public schema".into()), relations: BTreeMap::new() };
        let superuser = RoleEntry { oid: 10, superuser: true, login: true, scram_verifier: None };
        CatalogData {
            format: FORMAT,
            next_oid: FIRST_OID,
            schemas: BTreeMap::from([(PUBLIC.to_owned(), public)]),
            models: Vec::new(),
            servers: BTreeMap::new(),
            roles: BTreeMap::from([(SUPERUSER.to_owned(), superuser)]),
            comments: BTreeMap::new(),
        }
    }
}

/// A schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemaEntry {
    /// pg_namespace.oid
    pub oid: u32,
    /// Role.
    pub owner: String,
    /// COMMENT ON SCHEMA
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Tables, views and external tables by name.
    #[serde(default)]
    pub relations: BTreeMap<String, Relation>,
}

/// CREATE SERVER, with the options of its user mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerEntry {
    /// pg_foreign_server.oid
    pub oid: u32,
    /// Role.
    pub owner: String,
    /// `s3`, `gcs`, `azure`
    pub wrapper: String,
    /// OPTIONS of the server.
    pub options: BTreeMap<String, String>,
    /// OPTIONS of the mapping for PUBLIC; None without one. Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<MappingEntry>,
}

/// CREATE USER MAPPING
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MappingEntry {
    /// pg_user_mapping.oid
    pub oid: u32,
    /// OPTIONS. Secret.
    pub options: BTreeMap<String, String>,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleEntry {
    /// pg_authid.oid
    pub oid: u32,
    /// SUPERUSER
    pub superuser: bool,
    /// LOGIN
    pub login: bool,
    /// `SCRAM-SHA-256$...`; None has no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_verifier: Option<String>,
}

/// A table, view or external table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// pg_class.oid
    pub oid: u32,
    /// Role.
    pub owner: String,
    /// COMMENT ON TABLE, VIEW
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// In order.
    pub columns: Vec<ColumnEntry>,
    /// What it is.
    pub kind: RelationKind,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnEntry {
    /// Name.
    pub name: String,
    /// The SQL spelling with its modifier: `numeric(10,2)`, `text[]`.
    pub ty: String,
    /// NOT NULL
    #[serde(default)]
    pub not_null: bool,
    /// DEFAULT, as an SQL expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// COMMENT ON COLUMN
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl ColumnEntry {
    /// A nullable column without a default.
    pub fn new(name: impl Into<String>, ty: &SqlType) -> Self {
        Self { name: name.into(), ty: spelling(ty), not_null: false, default: None, comment: None }
    }

    /// The type. A spelling that this version does not know is XX001.
    pub fn sql_type(&self) -> Result<SqlType> {
        parse_spelling(&self.ty)
            .ok_or_else(|| Error::new(Kind::DataCorrupted, format!("the catalog has an unknown type \"{}\" for column \"{}\"", self.ty, self.name)))
    }
}

/// The sorts of relations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// A managed table.
    Table {
        /// Its contents.
        files: Vec<DataFile>,
    },
    /// CREATE VIEW
    View {
        /// The query, as written.
        sql: String,
        /// OIDs of the relations that the query names, where the creator recorded them: dropping one needs CASCADE.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        depends_on: Vec<u32>,
    },
    /// CREATE EXTERNAL TABLE
    External {
        /// parquet, csv, json or text
        format: String,
        /// Path, URL or pattern.
        location: String,
        /// OPTIONS
        #[serde(default)]
        options: Vec<(String, String)>,
        /// PARTITIONED BY
        #[serde(default)]
        partitioned_by: Vec<String>,
    },
}

impl RelationKind {
    /// The word of the statements about it: table, view, external table.
    pub fn word(&self) -> &'static str {
        match self {
            RelationKind::Table { .. } => "table",
            RelationKind::View { .. } => "view",
            RelationKind::External { .. } => "external table",
        }
    }

    /// pg_class.relkind
    pub fn relkind(&self) -> char {
        match self {
            RelationKind::Table { .. } => 'r',
            RelationKind::View { .. } => 'v',
            RelationKind::External { .. } => 'f',
        }
    }
}

/// One file of a managed table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Name below the directory of the table.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The SQL spelling of a type with its modifier; read back by [`parse_spelling`]. Records are spelt with their fields.
pub fn spelling(ty: &SqlType) -> String {
    match ty {
        SqlType::Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
        SqlType::Varchar(Some(n)) => format!("character varying({n})"),
        SqlType::Char(Some(n)) => format!("character({n})"),
        SqlType::Array(element) => format!("{}[]", spelling(element)),
        SqlType::Record(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, ty)| format!("\"{}\" {}", name.replace('"', "\"\""), spelling(ty))).collect();
            format!("record({})", fields.join(", "))
        }
        // A column of NULLs alone: CREATE TABLE AS makes it text, as PostgreSQL does.
        SqlType::Unknown | SqlType::Void => "text".into(),
        other => other.name(),
    }
}

/// The inverse of [`spelling`].
pub fn parse_spelling(text: &str) -> Option<SqlType> {
    let text = text.trim();
    if let Some(element) = text.strip_suffix("[]") {
        return Some(SqlType::Array(Box::new(parse_spelling(element)?)));
    }
    let Some(inside) = text.strip_prefix("record(").and_then(|t| t.strip_suffix(')')) else {
        return SqlType::parse(text);
    };
    column_list(inside)?.into_iter().map(|(name, ty)| Some((name, parse_spelling(&ty)?))).collect::<Option<Vec<_>>>().map(SqlType::Record)
}

/// `name type, "Name" type(1,2), ...` as pairs. None when it is not of that form.
pub fn column_list(text: &str) -> Option<Vec<(String, String)>> {
    let mut columns = Vec::new();
    for part in split_top(text)? {
        let part = part.trim();
        let (name, rest) = match part.strip_prefix('"') {
            Some(quoted) => {
                let mut end = None;
                let mut chars = quoted.char_indices().peekable();
                while let Some((i, c)) = chars.next() {
                    if c == '"' && chars.next_if(|(_, next)| *next == '"').is_none() {
                        end = Some(i);
                        break;
                    }
                }
                let end = end?;
                (quoted.get(..end)?.replace("\"\"", "\""), quoted.get(end + 1..)?)
            }
            None => {
                let end = part.find(char::is_whitespace)?;
                (part.get(..end)?.to_lowercase(), part.get(end..)?)
            }
        };
        if name.is_empty() || rest.trim().is_empty() {
            return None;
        }
        columns.push((name, rest.trim().to_owned()));
    }
    Some(columns)
}

/// Parts between commas that are outside parentheses and quotes.
fn split_top(text: &str) -> Option<Vec<&str>> {
    let (mut depth, mut quoted, mut start, mut parts) = (0_usize, false, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.checked_sub(1)?,
            ',' if !quoted && depth == 0 => {
                parts.push(text.get(start..i)?);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    (depth == 0 && !quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn spellings_lead_back() {
        for text in ["numeric(10,2)", "character varying(20)", "text[]", "timestamp with time zone", "image", "vector", "numeric(5,1)[]", "jsonb"] {
            let ty = parse_spelling(text).unwrap();
            assert_eq!(parse_spelling(&spelling(&ty)), Some(ty.clone()), "{text}");
        }
        let record = SqlType::Record(vec![
            ("a b".into(), SqlType::Int4),
            ("n".into(), SqlType::Numeric(Some((4, 1)))),
            ("r".into(), SqlType::Record(vec![("x".into(), SqlType::Text)])),
        ]);
        assert_eq!(parse_spelling(&spelling(&record)), Some(record.clone()));
        let array = SqlType::Array(Box::new(record));
        assert_eq!(parse_spelling(&spelling(&array)), Some(array));
    }

    #[test]
    fn column_lists() {
        let list = column_list("id bigint, \"The \"\"Name\" numeric(10,2), Tags text[]").unwrap();
        assert_eq!(list[0], ("id".to_owned(), "bigint".to_owned()));
        assert_eq!(list[1], ("The \"Name".to_owned(), "numeric(10,2)".to_owned()));
        assert_eq!(list[2].0, "tags");
        assert_eq!(column_list("id"), None);
        assert_eq!(column_list("id int,"), None);
    }

    #[test]
    fn json_round_trip() {
        let data = CatalogData::default();
        let text = serde_json::to_string(&data).unwrap();
        assert_eq!(serde_json::from_str::<CatalogData>(&text).unwrap(), data);
    }
}
