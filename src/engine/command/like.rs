//! `LIKE other INCLUDING ...` among the columns of CREATE TABLE.
//!
//! In: the clause, which `statement::spelled` has made a column named [`COLUMN`] whose type is the other relation and whose
//! modifiers are the options. Out: its columns and what the options name. Invariant: as in PostgreSQL, names, types and NOT
//! NULL always come along, all else only when it is named; indexes get names of their own. Deliberately absent: storage,
//! compression, statistics and generated columns, which there is nothing to copy of.

use std::sync::Arc;

use sqlparser::ast::{ColumnDef, DataType};
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{ColumnEntry, Constraint, ConstraintKind, Relation, RelationKind, SequenceEntry};
use crate::command::columns::{Declared, Wanted, range_of, sequence};
use crate::command::write;
use crate::session::Session;
use crate::statement::ident_text;

/// The name of the column that stands for the clause.
pub const COLUMN: &str = "$like";

/// Words that may follow INCLUDING and EXCLUDING.
const OPTIONS: &[&str] = &["all", "comments", "compression", "constraints", "defaults", "generated", "identity", "indexes", "statistics", "storage"];

/// Whether a column stands for the clause.
pub fn is_clause(column: &ColumnDef) -> bool {
    ident_text(&column.name) == COLUMN
}

/// What the clause names.
struct Included(Vec<(bool, String)>);

impl Included {
    fn new(modifiers: &[String]) -> Result<Self> {
        let option = |text: &String| {
            let (word, option) = text.split_once('_')?;
            OPTIONS.contains(&option).then(|| (word == "including", option.to_owned()))
        };
        let all = modifiers.iter().map(option).collect::<Option<Vec<_>>>();
        all.map(Self).ok_or_else(|| Error::new(Kind::Syntax, "syntax error in LIKE: the options are INCLUDING and EXCLUDING of ALL, COMMENTS, ..."))
    }

    /// The last option that is about it wins.
    fn has(&self, option: &str) -> bool {
        self.0.iter().rev().find(|(_, o)| o == option || o == "all").is_some_and(|(including, _)| *including)
    }
}

/// Adds the columns of the other relation.
pub fn add(session: &Arc<Session>, declared: &mut Declared, table: &str, clause: &ColumnDef) -> Result<()> {
    let DataType::Custom(name, modifiers) = &clause.data_type else { return Err(Error::new(Kind::Syntax, "LIKE takes the name of a table")) };
    let (_, _, other) = write::find(session, name)?;
    let included = Included::new(modifiers)?;
    for column in &other.columns {
        if declared.columns.iter().any(|c| c.name == column.name) {
            return Err(Error::new(Kind::DuplicateColumn, format!("column \"{}\" specified more than once", column.name)));
        }
        let identity = column.identity.filter(|_| included.has("identity"));
        if identity.is_some() {
            let wanted = match sequence_of(session, &other, column) {
                Some(found) => SequenceEntry { owned_by: None, ..found },
                None => sequence(&[], range_of(&column.sql_type()?))?,
            };
            declared.sequences.push(Wanted { column: column.name.clone(), sequence: wanted });
        }
        declared.columns.push(ColumnEntry {
            // The default of an identity column is its own sequence.
            default: column.default.clone().filter(|_| column.identity.is_none() && included.has("defaults")),
            comment: column.comment.clone().filter(|_| included.has("comments")),
            identity,
            id: 0,
            physical: String::new(),
            ..column.clone()
        });
    }
    for constraint in &other.constraints {
        match &constraint.kind {
            ConstraintKind::Check { .. } if included.has("constraints") => declared.constraints.push(Constraint { oid: 0, ..constraint.clone() }),
            kind if constraint.is_unique() && included.has("indexes") => declared.add(table, None, constraint.columns.clone(), kind.clone())?,
            _ => {}
        }
    }
    Ok(())
}

/// The sequence of an identity column.
fn sequence_of(session: &Arc<Session>, relation: &Relation, column: &ColumnEntry) -> Option<SequenceEntry> {
    let data = session.snapshot();
    let mut all = data.schemas.values().flat_map(|schema| schema.relations.values());
    all.find_map(|r| match &r.kind {
        RelationKind::Sequence(s) if s.owned_by == Some((relation.oid, column.id)) => Some(s.clone()),
        _ => None,
    })
}
