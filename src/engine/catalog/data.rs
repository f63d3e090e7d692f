//! What the catalog holds: plain values, cheap to copy, so that every transaction has a copy of its own.
//!
//! In and out: [`CatalogData`]; its objects as JSON in the catalog on disk. Invariants: an OID is given out once and stays
//! with its object; names are as PostgreSQL folds them and unique within their schema over tables, views, sequences and
//! external tables alike; a column's id and physical name never change.
//! Deliberately absent: changes to relations (`relations`), files (`files`), anything computed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use super::files::Files;
use super::functions::FunctionEntry;
use super::roles::RoleEntry;

/// The first OID of a user's object; below are PostgreSQL's and those of our own types and functions.
pub const FIRST_OID: u32 = 16_500;
/// The role and database that always exist.
pub const SUPERUSER: &str = "squilla";
/// The schema that exists from the start.
pub const PUBLIC: &str = "public";
/// Schemas of temporary tables begin so.
pub const TEMPORARY: &str = "pg_temp_";

/// Numbers that are given out once, whoever asks, and never taken back.
#[derive(Debug)]
pub struct Counters {
    /// The next OID.
    pub oid: AtomicU64,
    /// The next file.
    pub file: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { oid: AtomicU64::new(u64::from(FIRST_OID)), file: AtomicU64::new(1) }
    }
}

/// Everything that exists.
#[derive(Clone, Debug)]
pub struct CatalogData {
    /// Differs between any two states of the catalog, whoever made them.
    pub stamp: u64,
    /// The newest snapshot on disk that this state knows.
    pub snapshot: u64,
    /// Numbers to give out.
    pub counters: Arc<Counters>,
    /// Schemas by name. The system schemas are not here; those of temporary tables are here for their session only.
    pub schemas: BTreeMap<String, Arc<SchemaEntry>>,
    /// Registered models, as the model registry serializes them.
    pub models: Vec<serde_json::Value>,
    /// Servers of SQL/MED by name: where object stores are.
    pub servers: BTreeMap<String, ServerEntry>,
    /// Roles by name.
    pub roles: BTreeMap<String, RoleEntry>,
    /// Comments on objects that have no entry of their own (`model m`, `function f`, `database squilla`).
    pub comments: BTreeMap<String, String>,
}

impl CatalogData {
    /// A catalog with nothing in it.
    pub fn empty() -> Self {
        CatalogData {
            stamp: next_stamp(),
            snapshot: 0,
            counters: Arc::default(),
            schemas: BTreeMap::new(),
            models: Vec::new(),
            servers: BTreeMap::new(),
            roles: BTreeMap::new(),
            comments: BTreeMap::new(),
        }
    }

    /// Says that this state is another one than it was.
    pub fn touch(&mut self) {
        self.stamp = next_stamp();
    }
}

fn next_stamp() -> u64 {
    static STAMPS: AtomicU64 = AtomicU64::new(1);
    STAMPS.fetch_add(1, Ordering::Relaxed)
}

impl Default for CatalogData {
    fn default() -> Self {
        let public = SchemaEntry {
            oid: 2200,
            owner: SUPERUSER.into(),
            comment: Some("standard public schema".into()),
            relations: BTreeMap::new(),
            functions: BTreeMap::new(),
        };
        let superuser = RoleEntry::superuser(10);
        CatalogData {
            schemas: BTreeMap::from([(PUBLIC.to_owned(), Arc::new(public))]),
            roles: BTreeMap::from([(SUPERUSER.to_owned(), superuser)]),
            ..CatalogData::empty()
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
    /// Tables, views, sequences and external tables by name.
    #[serde(skip)]
    pub relations: BTreeMap<String, Arc<Relation>>,
    /// Functions by `name(type, type)`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, FunctionEntry>,
}

impl SchemaEntry {
    /// Whether all but what is in it is the same.
    pub fn same_definition(&self, other: &SchemaEntry) -> bool {
        self.oid == other.oid && self.owner == other.owner && self.comment == other.comment
    }
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

/// A table, view, sequence or external table.
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
    /// PRIMARY KEY, UNIQUE, CHECK, FOREIGN KEY
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// What it is.
    pub kind: RelationKind,
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The n of vector(n).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// GENERATED ... AS IDENTITY
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Of a managed table: its number, from 1, never given again.
    #[serde(default)]
    pub id: u32,
    /// Of a managed table: its name in files.
    #[serde(default)]
    pub physical: String,
}

/// GENERATED ... AS IDENTITY
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// ALWAYS: a given value is refused.
    Always,
    /// BY DEFAULT
    ByDefault,
}

impl ColumnEntry {
    /// A nullable column without a default.
    pub fn new(name: impl Into<String>, ty: &SqlType) -> Self {
        Self { name: name.into(), ty: spelling(ty), ..Self::default() }
    }

    /// The type. A spelling that this version does not know is XX001.
    pub fn sql_type(&self) -> Result<SqlType> {
        parse_spelling(&self.ty)
            .ok_or_else(|| Error::new(Kind::DataCorrupted, format!("the catalog has an unknown type \"{}\" for column \"{}\"", self.ty, self.name)))
    }

    /// Its name in files.
    pub fn physical(&self) -> &str {
        if self.physical.is_empty() { &self.name } else { &self.physical }
    }
}

/// A constraint of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// pg_constraint.oid
    pub oid: u32,
    /// Name, unique in the table.
    pub name: String,
    /// Columns, by name.
    pub columns: Vec<String>,
    /// What it demands.
    pub kind: ConstraintKind,
}

/// The sorts of constraints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    /// PRIMARY KEY
    PrimaryKey,
    /// UNIQUE
    Unique {
        /// NULLS NOT DISTINCT
        nulls_not_distinct: bool,
    },
    /// CHECK
    Check {
        /// SQL.
        expression: String,
    },
    /// FOREIGN KEY: recorded, not enforced.
    ForeignKey {
        /// The other table.
        table: u32,
        /// Its columns.
        referred: Vec<String>,
        /// ON DELETE, as SQL words; empty is NO ACTION.
        on_delete: String,
        /// ON UPDATE
        on_update: String,
    },
}

impl Constraint {
    /// Whether rows must differ in its columns.
    pub fn is_unique(&self) -> bool {
        self.kind.is_unique()
    }
}

impl ConstraintKind {
    /// Whether it has an index: a primary key or unique.
    pub fn is_unique(&self) -> bool {
        matches!(self, ConstraintKind::PrimaryKey | ConstraintKind::Unique { .. })
    }
}

impl SchemaEntry {
    /// Whether a relation other than `except` has an index of this name: the name of a unique constraint.
    pub fn has_index(&self, name: &str, except: u32) -> bool {
        self.relations.values().any(|r| r.oid != except && r.constraints.iter().any(|c| c.is_unique() && c.name == name))
    }
}

/// The sorts of relations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// A managed table.
    Table {
        /// Its contents.
        #[serde(skip)]
        files: Files,
        /// The directory of its files.
        directory: String,
        /// The id of the next column.
        next_column: u32,
        /// Physical names of columns that are gone or renamed: not to be used again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        used_names: Vec<String>,
        /// The query of a materialized view.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        materialized: Option<Materialized>,
        /// ON COMMIT of a temporary table.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_commit: Option<OnCommit>,
    },
    /// CREATE VIEW
    View {
        /// The query, as written.
        sql: String,
        /// OIDs of the relations that the query names: dropping one needs CASCADE.
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
    /// CREATE SEQUENCE, serial, identity
    Sequence(SequenceEntry),
}

/// What becomes of a temporary table at the end of a transaction; without one it stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCommit {
    /// DROP
    Drop,
    /// DELETE ROWS
    DeleteRows,
}

/// What a materialized view is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Materialized {
    /// The query, as written.
    pub sql: String,
    /// OIDs of the relations that the query names.
    #[serde(default)]
    pub depends_on: Vec<u32>,
    /// WITH NO DATA: it cannot be read before REFRESH.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpopulated: bool,
}

/// A sequence. Its position is no part of any snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceEntry {
    /// First value.
    pub start: i64,
    /// INCREMENT BY
    pub increment: i64,
    /// MINVALUE
    pub min: i64,
    /// MAXVALUE
    pub max: i64,
    /// CYCLE
    pub cycle: bool,
    /// The column that it goes with: OID of the table, id of the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<(u32, u32)>,
}

impl RelationKind {
    /// A managed table without rows.
    pub fn table() -> Self {
        RelationKind::Table {
            files: Files::default(),
            directory: uuid::Uuid::now_v7().to_string(),
            next_column: 1,
            used_names: Vec::new(),
            materialized: None,
            on_commit: None,
        }
    }

    /// The word of the statements about it: table, view, external table.
    pub fn word(&self) -> &'static str {
        match self {
            RelationKind::Table { materialized: Some(_), .. } => "materialized view",
            RelationKind::Table { .. } => "table",
            RelationKind::View { .. } => "view",
            RelationKind::External { .. } => "external table",
            RelationKind::Sequence(_) => "sequence",
        }
    }

    /// pg_class.relkind
    pub fn relkind(&self) -> char {
        match self {
            RelationKind::Table { materialized: Some(_), .. } => 'm',
            RelationKind::Table { .. } => 'r',
            RelationKind::View { .. } => 'v',
            RelationKind::External { .. } => 'f',
            RelationKind::Sequence(_) => 'S',
        }
    }
}

impl Relation {
    /// The contents of a managed table; None for others.
    pub fn files(&self) -> Option<&Files> {
        match &self.kind {
            RelationKind::Table { files, .. } => Some(files),
            _ => None,
        }
    }

    /// The contents of a managed table, for changing them.
    pub fn files_mut(&mut self) -> Option<&mut Files> {
        match &mut self.kind {
            RelationKind::Table { files, .. } => Some(files),
            _ => None,
        }
    }

    /// OIDs of the relations that it is made from.
    pub fn depends_on(&self) -> &[u32] {
        match &self.kind {
            RelationKind::View { depends_on, .. } | RelationKind::Table { materialized: Some(Materialized { depends_on, .. }), .. } => depends_on,
            _ => &[],
        }
    }

    /// The relation without its contents: what is compared when definitions are.
    pub fn definition(&self) -> Relation {
        let mut bare = self.clone();
        if let Some(files) = bare.files_mut() {
            *files = Files::default();
        }
        bare
    }

    /// Position of a column by name.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }

    /// Gives new columns of a managed table their ids and physical names.
    pub fn number_columns(&mut self) {
        let RelationKind::Table { next_column, used_names, .. } = &mut self.kind else { return };
        let mut taken: Vec<String> = self.columns.iter().filter(|c| c.id != 0).map(|c| c.physical.clone()).collect();
        for column in self.columns.iter_mut().filter(|c| c.id == 0) {
            column.id = *next_column;
            *next_column += 1;
            let free = !taken.contains(&column.name) && !used_names.contains(&column.name);
            column.physical = if free { column.name.clone() } else { format!("{}__{}", column.name, column.id) };
            taken.push(column.physical.clone());
        }
    }
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
}
