//! Changes to schemas and relations, with PostgreSQL's rules and errors.
//!
//! In: a mutable [`CatalogData`] inside an update. Out: what was made or dropped. Invariant: an error leaves the data in
//! a state that is thrown away, so methods need not undo. Deliberately absent: privileges (the session checks them),
//! files of dropped tables (the store removes them once nobody reads them).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use squilla_core::error::{Error, Kind, Result, did_you_mean};

use super::data::{CatalogData, ColumnEntry, Relation, RelationKind, SchemaEntry};

/// The statement that drops: what it says it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// DROP TABLE
    Table,
    /// DROP VIEW
    View,
    /// DROP EXTERNAL TABLE, DROP FOREIGN TABLE
    External,
    /// DROP SEQUENCE
    Sequence,
    /// DROP MATERIALIZED VIEW
    Materialized,
}

impl DropKind {
    /// The word of the statement.
    pub fn word(self) -> &'static str {
        match self {
            DropKind::Table => "table",
            DropKind::View => "view",
            DropKind::External => "external table",
            DropKind::Sequence => "sequence",
            DropKind::Materialized => "materialized view",
        }
    }

    fn fits(self, kind: &RelationKind) -> bool {
        match self {
            // DROP TABLE drops external tables too: that is how they are dropped in the dialects people come from.
            DropKind::Table => matches!(kind, RelationKind::Table { materialized: None, .. } | RelationKind::External { .. }),
            DropKind::View => matches!(kind, RelationKind::View { .. }),
            DropKind::External => matches!(kind, RelationKind::External { .. }),
            DropKind::Sequence => matches!(kind, RelationKind::Sequence(_)),
            DropKind::Materialized => matches!(kind, RelationKind::Table { materialized: Some(_), .. }),
        }
    }
}

/// A relation that was dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it was.
    pub relation: Relation,
}

/// 3F000
pub fn no_schema(name: &str) -> Error {
    Error::new(Kind::UndefinedSchema, format!("schema \"{name}\" does not exist"))
}

/// 42P01
pub fn no_relation(name: &str) -> Error {
    Error::new(Kind::UndefinedTable, format!("relation \"{name}\" does not exist"))
}

impl CatalogData {
    /// Gives out an OID.
    pub fn allocate_oid(&self) -> Result<u32> {
        let oid = self.counters.oid.fetch_add(1, Ordering::Relaxed);
        u32::try_from(oid).map_err(|_| Error::new(Kind::ConfigurationLimit, "all object identifiers are used"))
    }

    /// The schema, or 3F000.
    pub fn schema(&self, name: &str) -> Result<&SchemaEntry> {
        self.schemas.get(name).map(Arc::as_ref).ok_or_else(|| no_schema(name))
    }

    /// The schema for changing it, or 3F000.
    pub fn schema_mut(&mut self, name: &str) -> Result<&mut SchemaEntry> {
        self.schemas.get_mut(name).map(Arc::make_mut).ok_or_else(|| no_schema(name))
    }

    /// The relation, or 3F000, or 42P01.
    pub fn relation(&self, schema: &str, name: &str) -> Result<&Relation> {
        self.schema(schema)?.relations.get(name).map(Arc::as_ref).ok_or_else(|| {
            let error = no_relation(&format!("{schema}.{name}"));
            match self.schemas.get(schema).and_then(|s| did_you_mean(name, s.relations.keys().map(String::as_str))) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            }
        })
    }

    /// The relation for changing it.
    pub fn relation_mut(&mut self, schema: &str, name: &str) -> Result<&mut Relation> {
        self.schema_mut(schema)?.relations.get_mut(name).map(Arc::make_mut).ok_or_else(|| no_relation(&format!("{schema}.{name}")))
    }

    /// The first relation of this name on the search path: (schema, relation).
    pub fn resolve<'a>(&'a self, search_path: &[String], name: &str) -> Option<(&'a str, &'a Relation)> {
        search_path.iter().find_map(|schema| {
            let (schema, entry) = self.schemas.get_key_value(schema)?;
            Some((schema.as_str(), entry.relations.get(name)?.as_ref()))
        })
    }

    /// The relation of this OID: (schema, name, relation).
    pub fn relation_by_oid(&self, oid: u32) -> Option<(&str, &str, &Relation)> {
        self.schemas.iter().find_map(|(schema, entry)| {
            entry.relations.iter().find(|(_, r)| r.oid == oid).map(|(name, r)| (schema.as_str(), name.as_str(), r.as_ref()))
        })
    }

    /// CREATE SCHEMA: its OID, or 42P06.
    pub fn create_schema(&mut self, name: &str, owner: &str) -> Result<u32> {
        if name.starts_with("pg_") {
            return Err(Error::new(Kind::InvalidName, format!("unacceptable schema name \"{name}\""))
                .detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        if self.schemas.contains_key(name) || matches!(name, "information_schema" | "squilla") {
            return Err(Error::new(Kind::DuplicateSchema, format!("schema \"{name}\" already exists")));
        }
        let oid = self.allocate_oid()?;
        let entry = SchemaEntry { oid, owner: owner.to_owned(), comment: None, relations: Default::default(), functions: Default::default() };
        self.schemas.insert(name.to_owned(), Arc::new(entry));
        Ok(oid)
    }

    /// DROP SCHEMA: what was in it. 3F000; 2BP01 when it is not empty and `cascade` is not said.
    pub fn drop_schema(&mut self, name: &str, cascade: bool) -> Result<Vec<Dropped>> {
        let entry = self.schema(name)?;
        if !(cascade || entry.relations.is_empty() && entry.functions.is_empty()) {
            let relations = entry.relations.iter().map(|(n, r)| format!("{} {name}.{n} depends on schema {name}", r.kind.word()));
            let functions = entry.functions.keys().map(|f| format!("function {name}.{f} depends on schema {name}"));
            let lines: Vec<String> = relations.chain(functions).collect();
            return Err(dependent(&format!("schema {name}"), &lines));
        }
        let oids: Vec<u32> = entry.relations.values().map(|r| r.oid).collect();
        let mut dropped = Vec::new();
        for oid in oids {
            self.remove(oid, &mut dropped);
        }
        self.schemas.remove(name);
        Ok(dropped)
    }

    /// ALTER SCHEMA RENAME
    pub fn rename_schema(&mut self, name: &str, to: &str) -> Result<()> {
        if self.schemas.contains_key(to) {
            return Err(Error::new(Kind::DuplicateSchema, format!("schema \"{to}\" already exists")));
        }
        let entry = self.schemas.remove(name).ok_or_else(|| no_schema(name))?;
        self.schemas.insert(to.to_owned(), entry);
        Ok(())
    }

    /// Makes a relation: its OID. 3F000, 42P07, 42701, 42704 (unknown type).
    pub fn create_relation(&mut self, schema: &str, name: &str, owner: &str, columns: Vec<ColumnEntry>, kind: RelationKind) -> Result<u32> {
        let entry = self.schema(schema)?;
        if entry.relations.contains_key(name) || entry.has_index(name, 0) {
            return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
        }
        let oid = self.allocate_oid()?;
        self.put_relation(schema, name, Relation { oid, owner: owner.to_owned(), comment: None, columns, constraints: Vec::new(), kind })?;
        Ok(oid)
    }

    /// CREATE OR REPLACE VIEW: keeps OID, owner and comment when a view is there; 42809 when something else is.
    pub fn replace_view(&mut self, schema: &str, name: &str, owner: &str, columns: Vec<ColumnEntry>, kind: RelationKind) -> Result<u32> {
        match self.schema(schema)?.relations.get(name) {
            None => self.create_relation(schema, name, owner, columns, kind),
            Some(old) if matches!(old.kind, RelationKind::View { .. }) => {
                let relation = Relation { columns, kind, ..Relation::clone(old) };
                let oid = relation.oid;
                self.put_relation(schema, name, relation)?;
                Ok(oid)
            }
            Some(_) => Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a view"))),
        }
    }

    /// Puts a relation under a name with an OID that was given out before.
    pub fn put_relation(&mut self, schema: &str, name: &str, mut relation: Relation) -> Result<()> {
        relation.number_columns();
        for (i, column) in relation.columns.iter().enumerate() {
            if relation.columns.iter().take(i).any(|c| c.name == column.name) {
                return Err(Error::new(Kind::DuplicateColumn, format!("column \"{}\" specified more than once", column.name)));
            }
            column.sql_type().map_err(|_| Error::new(Kind::UndefinedObject, format!("type \"{}\" does not exist", column.ty)))?;
        }
        self.schema_mut(schema)?.relations.insert(name.to_owned(), Arc::new(relation));
        Ok(())
    }

    /// DROP TABLE, VIEW, EXTERNAL TABLE: everything that went with it; empty when `if_exists` and it is not there.
    /// 42P01, 42809, 2BP01 when a view depends on it and `cascade` is not said.
    pub fn drop_relation(&mut self, kind: DropKind, schema: &str, name: &str, if_exists: bool, cascade: bool) -> Result<Vec<Dropped>> {
        let Some(relation) = self.schemas.get(schema).and_then(|s| s.relations.get(name)) else {
            if if_exists {
                return Ok(Vec::new());
            }
            self.schema(schema)?;
            return Err(Error::new(Kind::UndefinedTable, format!("{} \"{name}\" does not exist", kind.word())));
        };
        if !kind.fits(&relation.kind) {
            let right = relation.kind.word();
            return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not {} {}", article(kind.word()), kind.word())).hint(format!(
                "Use DROP {} to remove {} {right}.",
                right.to_uppercase(),
                article(right)
            )));
        }
        let (oid, word) = (relation.oid, relation.kind.word());
        if !cascade {
            let lines: Vec<String> = self.dependents(oid).iter().map(|(s, n)| format!("view {s}.{n} depends on {word} {schema}.{name}")).collect();
            if !lines.is_empty() {
                return Err(dependent(&format!("{word} {schema}.{name}"), &lines));
            }
        }
        let mut dropped = Vec::new();
        self.remove(oid, &mut dropped);
        Ok(dropped)
    }

    /// Sequences of the columns of a table.
    pub fn owned_sequences(&self, oid: u32) -> Vec<(String, String)> {
        let all = self.schemas.iter().flat_map(|(schema, entry)| entry.relations.iter().map(move |(name, r)| (schema, name, r)));
        all.filter(|(_, _, r)| matches!(&r.kind, RelationKind::Sequence(s) if s.owned_by.is_some_and(|(table, _)| table == oid)))
            .map(|(schema, name, _)| (schema.clone(), name.clone()))
            .collect()
    }

    /// Drops views, and what depends on them.
    pub fn drop_views(&mut self, oids: &[u32]) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        oids.iter().for_each(|oid| self.remove(*oid, &mut dropped));
        dropped
    }

    fn dependents(&self, oid: u32) -> Vec<(String, String)> {
        let views = self.schemas.iter().flat_map(|(schema, entry)| entry.relations.iter().map(move |(name, r)| (schema, name, r)));
        views.filter(|(_, _, r)| r.depends_on().contains(&oid)).map(|(schema, name, _)| (schema.clone(), name.clone())).collect()
    }

    /// Removes the relation and the views on it.
    fn remove(&mut self, oid: u32, dropped: &mut Vec<Dropped>) {
        let mut doomed = vec![oid];
        while let Some(oid) = doomed.pop() {
            let Some((schema, name)) = self.relation_by_oid(oid).map(|(s, n, _)| (s.to_owned(), n.to_owned())) else { continue };
            for (schema, name) in self.dependents(oid) {
                if let Some(view) = self.schemas.get(&schema).and_then(|s| s.relations.get(&name)) {
                    doomed.push(view.oid);
                }
            }
            for (schema, name) in self.owned_sequences(oid) {
                if let Some(sequence) = self.schemas.get(&schema).and_then(|s| s.relations.get(&name)) {
                    doomed.push(sequence.oid);
                }
            }
            if let Ok(entry) = self.schema_mut(&schema)
                && let Some(relation) = entry.relations.remove(&name)
            {
                dropped.push(Dropped { schema, name, relation: Arc::unwrap_or_clone(relation) });
            }
        }
    }

    /// ALTER TABLE RENAME TO: 42P01, 42P07.
    pub fn rename_relation(&mut self, schema: &str, name: &str, to: &str) -> Result<()> {
        self.relation(schema, name)?;
        if self.schema(schema)?.relations.contains_key(to) {
            return Err(Error::new(Kind::DuplicateTable, format!("relation \"{to}\" already exists")));
        }
        let entry = self.schema_mut(schema)?;
        if let Some(relation) = entry.relations.remove(name) {
            entry.relations.insert(to.to_owned(), relation);
        }
        Ok(())
    }

    /// ALTER TABLE SET SCHEMA: 42P01, 3F000, 42P07.
    pub fn move_relation(&mut self, schema: &str, name: &str, to: &str) -> Result<()> {
        self.relation(schema, name)?;
        if self.schema(to)?.relations.contains_key(name) {
            return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists in schema \"{to}\"")));
        }
        if let Some(relation) = self.schema_mut(schema)?.relations.remove(name) {
            self.schema_mut(to)?.relations.insert(name.to_owned(), relation);
        }
        Ok(())
    }

    /// COMMENT ON SCHEMA; None removes it.
    pub fn comment_on_schema(&mut self, name: &str, comment: Option<String>) -> Result<()> {
        self.schema_mut(name)?.comment = comment;
        Ok(())
    }

    /// COMMENT ON TABLE, VIEW; None removes it.
    pub fn comment_on_relation(&mut self, schema: &str, name: &str, comment: Option<String>) -> Result<()> {
        self.relation_mut(schema, name)?.comment = comment;
        Ok(())
    }

    /// COMMENT ON COLUMN; None removes it. 42703.
    pub fn comment_on_column(&mut self, schema: &str, name: &str, column: &str, comment: Option<String>) -> Result<()> {
        find_column(self.relation_mut(schema, name)?, name, column)?.comment = comment;
        Ok(())
    }
}

/// The column of this name, or 42703.
pub fn find_column<'a>(relation: &'a mut Relation, name: &str, column: &str) -> Result<&'a mut ColumnEntry> {
    relation
        .columns
        .iter_mut()
        .find(|c| c.name == column)
        .ok_or_else(|| Error::new(Kind::UndefinedColumn, format!("column \"{column}\" of relation \"{name}\" does not exist")))
}

fn article(word: &str) -> &'static str {
    if word.starts_with('e') { "an" } else { "a" }
}

/// 2BP01 with what depends on it.
pub fn dependent(what: &str, lines: &[String]) -> Error {
    Error::new(Kind::DependentObjects, format!("cannot drop {what} because other objects depend on it"))
        .detail(lines.join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use squilla_core::types::SqlType;

    use super::*;

    fn table() -> RelationKind {
        RelationKind::table()
    }

    fn data() -> CatalogData {
        let mut d = CatalogData::default();
        d.create_schema("s", "squilla").unwrap();
        let t = d.create_relation("s", "t", "squilla", vec![ColumnEntry::new("a", &SqlType::Int4)], table()).unwrap();
        d.create_relation("public", "v", "squilla", vec![], RelationKind::View { sql: "SELECT a FROM s.t".into(), depends_on: vec![t] }).unwrap();
        d
    }

    #[test]
    fn codes_are_postgres_codes() {
        let mut d = data();
        let code = |r: Result<u32>| r.unwrap_err().sqlstate();
        assert_eq!(code(d.create_schema("s", "squilla")), "42P06");
        assert_eq!(code(d.create_schema("pg_x", "squilla")), "42602");
        assert_eq!(code(d.create_relation("s", "t", "squilla", vec![], table())), "42P07");
        assert_eq!(code(d.create_relation("nope", "t", "squilla", vec![], table())), "3F000");
        let twice = vec![ColumnEntry::new("a", &SqlType::Int4), ColumnEntry::new("a", &SqlType::Text)];
        assert_eq!(code(d.create_relation("s", "t2", "squilla", twice, table())), "42701");
        assert_eq!(d.drop_relation(DropKind::Table, "s", "none", false, false).unwrap_err().sqlstate(), "42P01");
        assert!(d.drop_relation(DropKind::Table, "s", "none", true, false).unwrap().is_empty());
        assert_eq!(d.drop_relation(DropKind::View, "s", "t", false, false).unwrap_err().sqlstate(), "42809");
        assert_eq!(d.drop_relation(DropKind::Table, "s", "t", false, false).unwrap_err().sqlstate(), "2BP01");
        assert_eq!(d.drop_schema("s", false).unwrap_err().sqlstate(), "2BP01");
        assert_eq!(d.drop_schema("nope", true).unwrap_err().sqlstate(), "3F000");
        assert_eq!(d.relation("s", "tt").unwrap_err().hint.as_deref(), Some("Perhaps you meant \"t\"."));
    }

    #[test]
    fn cascade_takes_the_views_along() {
        let mut d = data();
        let dropped = d.drop_relation(DropKind::Table, "s", "t", false, true).unwrap();
        assert_eq!(dropped.len(), 2);
        assert!(d.schemas["public"].relations.is_empty());
        let mut d = data();
        assert_eq!(d.drop_schema("s", true).unwrap().len(), 2);
        assert!(!d.schemas.contains_key("s"));
    }

    #[test]
    fn names_move_and_oids_stay() {
        let mut d = data();
        let oid = d.relation("s", "t").unwrap().oid;
        d.rename_relation("s", "t", "u").unwrap();
        d.move_relation("s", "u", "public").unwrap();
        assert_eq!(d.relation("public", "u").unwrap().oid, oid);
        assert_eq!(d.resolve(&["s".into(), "public".into()], "u").map(|(s, r)| (s, r.oid)), Some(("public", oid)));
        assert_eq!(d.rename_relation("public", "u", "v").unwrap_err().sqlstate(), "42P07");
        d.comment_on_column("public", "u", "a", Some("first".into())).unwrap();
        assert_eq!(d.comment_on_column("public", "u", "b", None).unwrap_err().sqlstate(), "42703");
    }
}
