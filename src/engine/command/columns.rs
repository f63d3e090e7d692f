//! Columns and constraints as CREATE TABLE and ALTER TABLE declare them.
//!
//! In: syntax. Out: entries of the catalog, and the sequences that serial and identity columns want. Invariant: names that
//! are not given are PostgreSQL's. Deliberately absent: generated columns, exclusion constraints, deferring.

use std::sync::Arc;

use sqlparser::ast::{
    ColumnDef, ColumnOption, Expr, ForeignKeyConstraint, GeneratedAs, Ident, IndexColumn, NullsDistinctOption, SequenceOptions, TableConstraint,
    UnaryOperator, Value,
};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{CatalogData, ColumnEntry, Constraint, ConstraintKind, Identity, SequenceEntry};
use crate::command::{like, write};
use crate::session::{Notice, Session};
use crate::statement::ident_text;

/// A sequence that a column wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of the column.
    pub column: String,
    /// The sequence.
    pub sequence: SequenceEntry,
}

/// What a table is declared to be.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// In order.
    pub columns: Vec<ColumnEntry>,
    /// With OID 0, which the catalog replaces.
    pub constraints: Vec<Constraint>,
    /// Of serial and identity columns.
    pub sequences: Vec<Wanted>,
}

/// The type of a column, and the range of its sequence when it is a serial.
fn column_type(column: &ColumnDef) -> Result<(SqlType, Option<i64>)> {
    let spelling = column.data_type.to_string();
    let serial = match spelling.to_lowercase().as_str() {
        "smallserial" | "serial2" => Some((SqlType::Int2, i64::from(i16::MAX))),
        "serial" | "serial4" => Some((SqlType::Int4, i64::from(i32::MAX))),
        "bigserial" | "serial8" => Some((SqlType::Int8, i64::MAX)),
        _ => None,
    };
    if let Some((ty, max)) = serial {
        return Ok((ty, Some(max)));
    }
    let ty = SqlType::parse(&spelling).or_else(|| SqlType::parse(&spelling.replace(' ', "")));
    let ty = ty.ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{}\" does not exist", spelling.to_lowercase())))?;
    Ok((ty, None))
}

/// The n of `vector(n)`.
fn dimensions(column: &ColumnDef) -> Option<u32> {
    let spelling = column.data_type.to_string().to_lowercase();
    spelling.strip_prefix("vector(")?.strip_suffix(')')?.trim().parse().ok()
}

/// The largest value of an integer type.
pub fn range_of(ty: &SqlType) -> i64 {
    match ty {
        SqlType::Int2 => i64::from(i16::MAX),
        SqlType::Int4 => i64::from(i32::MAX),
        _ => i64::MAX,
    }
}

impl Declared {
    /// The columns and constraints of a CREATE TABLE.
    pub fn table(session: &Arc<Session>, table: &str, columns: &[ColumnDef], constraints: &[TableConstraint]) -> Result<Self> {
        let mut out = Declared::default();
        for column in columns {
            match like::is_clause(column) {
                true => like::add(session, &mut out, table, column)?,
                false => out.column(session, table, column)?,
            }
        }
        for constraint in constraints {
            out.constraint(session, table, constraint)?;
        }
        Ok(out)
    }

    /// A column with its own constraints. 42701 for a repeated name, 42704 for an unknown type.
    pub fn column(&mut self, session: &Arc<Session>, table: &str, column: &ColumnDef) -> Result<()> {
        let (ty, serial) = column_type(column)?;
        let name = ident_text(&column.name);
        if self.columns.iter().any(|c| c.name == name) {
            return Err(Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once")));
        }
        let mut entry = ColumnEntry { dimensions: dimensions(column), ..ColumnEntry::new(&name, &ty) };
        if let Some(max) = serial {
            entry.not_null = true;
            self.sequences.push(Wanted { column: name.clone(), sequence: sequence(&[], max)? });
        }
        self.columns.push(entry);
        for option in &column.options {
            self.option(session, table, &name, &ty, option.name.as_ref(), &option.option)?;
        }
        Ok(())
    }

    fn option(&mut self, session: &Arc<Session>, table: &str, name: &str, ty: &SqlType, given: Option<&Ident>, option: &ColumnOption) -> Result<()> {
        let Some(entry) = self.columns.last_mut() else { return Ok(()) };
        let given = given.map(ident_text);
        let columns = vec![name.to_owned()];
        match option {
            ColumnOption::NotNull => entry.not_null = true,
            ColumnOption::Null => {}
            ColumnOption::Default(expr) => entry.default = (!is_null(expr)).then(|| expr.to_string()),
            ColumnOption::Comment(comment) => entry.comment = Some(comment.clone()),
            ColumnOption::Collation(_) => {}
            ColumnOption::PrimaryKey(_) => self.add(table, given, columns, ConstraintKind::PrimaryKey)?,
            ColumnOption::Unique(unique) => {
                let nulls_not_distinct = matches!(unique.nulls_distinct, NullsDistinctOption::NotDistinct);
                self.add(table, given, columns, ConstraintKind::Unique { nulls_not_distinct })?;
            }
            ColumnOption::Check(check) => {
                let named = given.or_else(|| check.name.as_ref().map(ident_text));
                self.add(table, named, columns, ConstraintKind::Check { expression: check.expr.to_string() })?;
            }
            ColumnOption::ForeignKey(key) => self.foreign_key(session, table, given, columns, key)?,
            ColumnOption::Generated { generation_expr: None, generated_as, sequence_options, .. } => {
                let identity = if matches!(generated_as, GeneratedAs::Always) { Identity::Always } else { Identity::ByDefault };
                entry.identity = Some(identity);
                entry.not_null = true;
                let options = sequence_options.as_deref().unwrap_or(&[]);
                self.sequences.push(Wanted { column: name.to_owned(), sequence: sequence(options, range_of(ty))? });
            }
            other => return Err(Error::unsupported(format!("the column constraint {other} is not supported"))),
        }
        Ok(())
    }

    /// A constraint of the table.
    pub fn constraint(&mut self, session: &Arc<Session>, table: &str, constraint: &TableConstraint) -> Result<()> {
        match constraint {
            TableConstraint::PrimaryKey(key) => {
                self.add(table, key.name.as_ref().map(ident_text), index_columns(&key.columns)?, ConstraintKind::PrimaryKey)
            }
            TableConstraint::Unique(unique) => {
                let nulls_not_distinct = matches!(unique.nulls_distinct, NullsDistinctOption::NotDistinct);
                let kind = ConstraintKind::Unique { nulls_not_distinct };
                self.add(table, unique.name.as_ref().map(ident_text), index_columns(&unique.columns)?, kind)
            }
            TableConstraint::Check(check) => {
                let kind = ConstraintKind::Check { expression: check.expr.to_string() };
                self.add(table, check.name.as_ref().map(ident_text), Vec::new(), kind)
            }
            TableConstraint::ForeignKey(key) => {
                let columns = key.columns.iter().map(ident_text).collect();
                self.foreign_key(session, table, key.name.as_ref().map(ident_text), columns, key)
            }
            other => Err(Error::unsupported(format!("the table constraint {other} is not supported"))),
        }
    }

    fn foreign_key(
        &mut self,
        session: &Arc<Session>,
        table: &str,
        name: Option<String>,
        columns: Vec<String>,
        key: &ForeignKeyConstraint,
    ) -> Result<()> {
        let (_, other, relation) = write::find(session, &key.foreign_table)?;
        let primary = || relation.constraints.iter().find(|c| c.kind == ConstraintKind::PrimaryKey).map(|c| c.columns.clone());
        let referred: Vec<String> = if key.referred_columns.is_empty() {
            primary().ok_or_else(|| Error::new(Kind::UndefinedObject, format!("there is no primary key for referenced table \"{other}\"")))?
        } else {
            key.referred_columns.iter().map(ident_text).collect()
        };
        let mut wanted = referred.clone();
        wanted.sort();
        let known = relation.constraints.iter().filter(|c| c.is_unique()).any(|c| {
            let mut columns = c.columns.clone();
            columns.sort();
            columns == wanted
        });
        if !known {
            let message = format!("there is no unique constraint matching given keys for referenced table \"{other}\"");
            return Err(Error::new(Kind::InvalidForeignKey, message));
        }
        let words = |action: &Option<_>| action.as_ref().map(|a: &sqlparser::ast::ReferentialAction| a.to_string()).unwrap_or_default();
        let (on_delete, on_update) = (words(&key.on_delete), words(&key.on_update));
        self.add(table, name, columns, ConstraintKind::ForeignKey { table: relation.oid, referred, on_delete, on_update })?;
        if let Some(made) = self.constraints.last() {
            session.notify(Notice::plain(format!("foreign key constraint \"{}\" is recorded and not enforced", made.name)));
        }
        Ok(())
    }

    /// Adds a constraint; the columns must be there, except in ALTER TABLE, which looks for them itself.
    pub fn add(&mut self, table: &str, name: Option<String>, columns: Vec<String>, kind: ConstraintKind) -> Result<()> {
        if kind == ConstraintKind::PrimaryKey && self.constraints.iter().any(|c| c.kind == ConstraintKind::PrimaryKey) {
            let message = format!("multiple primary keys for table \"{table}\" are not allowed");
            return Err(Error::new(Kind::InvalidTableDefinition, message));
        }
        let name = match name {
            Some(name) if self.constraints.iter().any(|c| c.name == name && c.is_unique()) && kind.is_unique() => return Err(name_taken(&name)),
            Some(name) if self.constraints.iter().any(|c| c.name == name) => {
                let message = format!("constraint \"{name}\" for relation \"{table}\" already exists");
                return Err(Error::new(Kind::DuplicateObject, message));
            }
            Some(name) => name,
            None => free_name(&default_name(table, &columns, &kind), |n| self.constraints.iter().any(|c| c.name == n)),
        };
        self.constraints.push(Constraint { oid: 0, name, columns, kind });
        Ok(())
    }

    /// Sees to it that constraints name columns that are there, and that a primary key has no NULL: 42703.
    pub fn settle(&mut self) -> Result<()> {
        for constraint in &self.constraints {
            for name in &constraint.columns {
                let column = self.columns.iter_mut().find(|c| c.name == *name);
                let column = column.ok_or_else(|| Error::new(Kind::UndefinedColumn, format!("column \"{name}\" named in key does not exist")))?;
                column.not_null |= constraint.kind == ConstraintKind::PrimaryKey;
            }
        }
        Ok(())
    }
}

/// Indexes share their names with the relations of their schema.
fn name_taken(name: &str) -> Error {
    Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists"))
}

/// Sees to it that the unique constraints of a table have names that no relation or index of its schema has. A name that
/// nobody chose gives way; 42P07 for one that somebody did.
pub fn name_indexes(data: &CatalogData, schema: &str, table: &str, own: u32, constraints: &mut [Constraint]) -> Result<()> {
    let entry = data.schema(schema)?;
    for index in 0..constraints.len() {
        let Some(constraint) = constraints.get(index).filter(|c| c.is_unique()) else { continue };
        let base = default_name(table, &constraint.columns, &constraint.kind);
        let taken = |name: &str| {
            entry.has_index(name, own)
                || entry.relations.contains_key(name)
                || constraints.iter().enumerate().any(|(i, c)| i != index && c.name == name)
        };
        if !taken(&constraint.name) {
            continue;
        }
        let chosen = constraint.name.strip_prefix(base.as_str()).is_none_or(|rest| !rest.bytes().all(|b| b.is_ascii_digit()));
        if chosen {
            return Err(name_taken(&constraint.name));
        }
        let free = free_name(&base, taken);
        if let Some(constraint) = constraints.get_mut(index) {
            constraint.name = free;
        }
    }
    Ok(())
}

/// The first of `base`, `base1`, `base2`, ... that is not taken.
pub fn free_name(base: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(base) {
        return base.to_owned();
    }
    (1..).map(|n| format!("{base}{n}")).find(|n| !taken(n)).unwrap_or_else(|| base.to_owned())
}

fn default_name(table: &str, columns: &[String], kind: &ConstraintKind) -> String {
    let columns = columns.iter().map(|c| format!("_{c}")).collect::<String>();
    match kind {
        ConstraintKind::PrimaryKey => format!("{table}_pkey"),
        ConstraintKind::Unique { .. } => format!("{table}{columns}_key"),
        ConstraintKind::Check { .. } => format!("{table}{columns}_check"),
        ConstraintKind::ForeignKey { .. } => format!("{table}{columns}_fkey"),
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(v.value, Value::Null))
}

/// Names of plain columns of an index.
pub fn index_columns(columns: &[IndexColumn]) -> Result<Vec<String>> {
    let name = |c: &IndexColumn| match &c.column.expr {
        Expr::Identifier(name) => Ok(ident_text(name)),
        _ => Err(Error::unsupported("keys over expressions are not supported")),
    };
    columns.iter().map(name).collect()
}

/// The number of a sequence option.
fn number(expr: &Expr) -> Result<i64> {
    let refuse = || Error::new(Kind::Syntax, format!("a sequence option must be a number, not {expr}"));
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => n.parse().map_err(|_| refuse()),
            _ => Err(refuse()),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match inner.as_ref() {
            Expr::Value(v) => format!("-{}", v.value).parse().map_err(|_| refuse()),
            _ => Err(refuse()),
        },
        _ => Err(refuse()),
    }
}

/// A sequence of these options, for a type with this greatest value.
pub fn sequence(options: &[SequenceOptions], type_max: i64) -> Result<SequenceEntry> {
    let (mut increment, mut min, mut max, mut start, mut cycle) = (1, None, None, None, false);
    for option in options {
        match option {
            SequenceOptions::IncrementBy(n, _) => increment = number(n)?,
            SequenceOptions::MinValue(n) => min = n.as_ref().map(number).transpose()?,
            SequenceOptions::MaxValue(n) => max = n.as_ref().map(number).transpose()?,
            SequenceOptions::StartWith(n, _) => start = Some(number(n)?),
            SequenceOptions::Cache(_) => {}
            // The parser's flag says NO.
            SequenceOptions::Cycle(no) => cycle = !no,
        }
    }
    if increment == 0 {
        return Err(Error::invalid_argument("INCREMENT must not be zero"));
    }
    let (low, high) = if increment > 0 { (1, type_max) } else { (-type_max - 1, -1) };
    let (min, max) = (min.unwrap_or(low), max.unwrap_or(high));
    if min >= max {
        return Err(Error::invalid_argument(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
    }
    let start = start.unwrap_or(if increment > 0 { min } else { max });
    if start < min {
        return Err(Error::invalid_argument(format!("START value ({start}) cannot be less than MINVALUE ({min})")));
    }
    if start > max {
        return Err(Error::invalid_argument(format!("START value ({start}) cannot be greater than MAXVALUE ({max})")));
    }
    Ok(SequenceEntry { start, increment, min, max, cycle, owned_by: None })
}
