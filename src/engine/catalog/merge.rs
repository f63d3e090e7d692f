//! What a transaction changed, and whether it still can when others were faster.
//!
//! In: three states of the catalog: the one a transaction began with, the one it made of it, and the newest. Out: the
//! newest with the transaction's changes, or 40001, 42P07, 42P06, 3F000. Invariants: appended rows never conflict with
//! each other; rows deleted by both sides, or a definition changed by both sides, always do. Deliberately absent: keys
//! (`keys`), the disk (`commit`). Temporary schemas are skipped: they belong to one session.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result};
use squilla_store::rows::{Change, Class};

use super::data::{CatalogData, Relation, SchemaEntry, ServerEntry, TEMPORARY};
use super::files::{DataFile, Files};
use super::roles::RoleEntry;

/// A relation and where it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// OID of the schema.
    pub schema: u32,
    /// Name.
    pub name: String,
    /// The relation.
    pub relation: Arc<Relation>,
}

/// Before and after; None is absent.
type Step<T> = (Option<T>, Option<T>);

/// The difference of two states.
#[derive(Debug, Default)]
pub struct Difference {
    schemas: Vec<Step<(String, Arc<SchemaEntry>)>>,
    relations: Vec<Step<Place>>,
    roles: Vec<(String, Option<RoleEntry>)>,
    servers: Vec<(String, Option<ServerEntry>)>,
    models: Option<Vec<serde_json::Value>>,
    comments: Vec<(String, Option<String>)>,
}

fn temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

fn lost() -> Error {
    Error::new(Kind::SerializationFailure, "could not serialize access due to concurrent update").hint("Run the transaction again.")
}

/// The difference between two states.
pub fn difference(before: &CatalogData, after: &CatalogData) -> Difference {
    let mut out = Difference::default();
    let by_oid = |data: &CatalogData, other: &CatalogData| -> Schemas {
        let differs =
            |(name, entry): &(&String, &Arc<SchemaEntry>)| !temporary(name) && !other.schemas.get(*name).is_some_and(|o| Arc::ptr_eq(o, entry));
        data.schemas.iter().filter(differs).map(|(name, entry)| (entry.oid, (name.clone(), Arc::clone(entry)))).collect()
    };
    let (old, mut new) = (by_oid(before, after), by_oid(after, before));
    let mut old_relations = places(&old, &new);
    let new_relations = places(&new, &old);
    for (oid, was) in old {
        let is = new.remove(&oid);
        if is.as_ref().is_none_or(|is| was.0 != is.0 || !was.1.same_definition(&is.1) || was.1.functions != is.1.functions) {
            out.schemas.push((Some(was), is));
        }
    }
    out.schemas.extend(new.into_values().map(|is| (None, Some(is))));
    for (oid, is) in new_relations {
        match old_relations.remove(&oid) {
            Some(was) if was.schema == is.schema && was.name == is.name && Arc::ptr_eq(&was.relation, &is.relation) => {}
            was => out.relations.push((was, Some(is))),
        }
    }
    out.relations.extend(old_relations.into_values().map(|was| (Some(was), None)));
    out.roles = keyed(&before.roles, &after.roles);
    out.servers = keyed(&before.servers, &after.servers);
    out.comments = keyed(&before.comments, &after.comments);
    out.models = (before.models != after.models).then(|| after.models.clone());
    out
}

/// Schemas by their OIDs.
type Schemas = HashMap<u32, (String, Arc<SchemaEntry>)>;

/// The relations of schemas that are not the same values in others.
fn places(schemas: &Schemas, others: &Schemas) -> HashMap<u32, Place> {
    let mut out = HashMap::new();
    for (oid, (_, entry)) in schemas {
        let other = others.get(oid).map(|(_, other)| other);
        let same = |name: &String, relation: &Arc<Relation>| other.and_then(|o| o.relations.get(name)).is_some_and(|r| Arc::ptr_eq(r, relation));
        for (name, relation) in entry.relations.iter().filter(|(name, relation)| !same(name, relation)) {
            out.insert(relation.oid, Place { schema: entry.oid, name: name.clone(), relation: Arc::clone(relation) });
        }
    }
    out
}

fn keyed<T: Clone + PartialEq>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> Vec<(String, Option<T>)> {
    let gone = before.keys().filter(|k| !after.contains_key(*k)).map(|k| (k.clone(), None));
    let made = after.iter().filter(|(k, v)| before.get(*k) != Some(*v)).map(|(k, v)| (k.clone(), Some(v.clone())));
    gone.chain(made).collect()
}

/// The later change of an object without a merge of its own wins.
fn put<T>(into: &mut BTreeMap<String, T>, changes: Vec<(String, Option<T>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => into.insert(key, value),
            None => into.remove(&key),
        };
    }
}

/// `current` with what `ours` changed since `base`.
pub fn merge(base: &CatalogData, ours: &CatalogData, current: &CatalogData) -> Result<CatalogData> {
    let mut next = current.clone();
    next.touch();
    if base.snapshot == current.snapshot {
        next.schemas = ours.schemas.iter().filter(|(name, _)| !temporary(name)).map(|(n, s)| (n.clone(), Arc::clone(s))).collect();
        next.roles = ours.roles.clone();
        next.servers = ours.servers.clone();
        next.models = ours.models.clone();
        next.comments = ours.comments.clone();
        return Ok(next);
    }
    let change = difference(base, ours);
    for (was, is) in &change.schemas {
        schema(&mut next, was.as_ref(), is.as_ref())?;
    }
    relations(&mut next, &change)?;
    for (was, is) in &change.schemas {
        if let (Some((name, _)), None) = (was, is)
            && next.schemas.remove(name).is_none_or(|s| !s.relations.is_empty())
        {
            return Err(lost());
        }
    }
    put(&mut next.roles, change.roles);
    put(&mut next.servers, change.servers);
    put(&mut next.comments, change.comments);
    if let Some(models) = change.models {
        if base.models != current.models {
            return Err(lost());
        }
        next.models = models;
    }
    Ok(next)
}

/// A schema that was made or changed; those that are gone wait until they are empty.
fn schema(next: &mut CatalogData, was: Option<&(String, Arc<SchemaEntry>)>, is: Option<&(String, Arc<SchemaEntry>)>) -> Result<()> {
    let Some((name, entry)) = is else { return Ok(()) };
    let bare = SchemaEntry { relations: BTreeMap::new(), ..SchemaEntry::clone(entry) };
    let bare = match was {
        None => bare,
        Some((old, before)) => {
            let now = next.schemas.get(old).filter(|now| now.same_definition(before)).cloned().ok_or_else(lost)?;
            next.schemas.remove(old);
            let mut functions = now.functions.clone();
            put(&mut functions, keyed(&before.functions, &entry.functions));
            SchemaEntry { relations: now.relations.clone(), functions, ..bare }
        }
    };
    if next.schemas.contains_key(name) {
        return Err(Error::new(Kind::DuplicateSchema, format!("schema \"{name}\" already exists")));
    }
    next.schemas.insert(name.clone(), Arc::new(bare));
    Ok(())
}

fn relations(next: &mut CatalogData, change: &Difference) -> Result<()> {
    let names: HashMap<u32, String> = next.schemas.iter().map(|(name, s)| (s.oid, name.clone())).collect();
    // All that moves leaves its name before anything takes one: two tables may have changed places.
    let mut put = Vec::with_capacity(change.relations.len());
    for (was, is) in &change.relations {
        let Some(was) = was else {
            put.extend(is.clone());
            continue;
        };
        let entry = names.get(&was.schema).and_then(|n| next.schemas.get_mut(n)).map(Arc::make_mut).ok_or_else(lost)?;
        let now = entry.relations.get(&was.name).filter(|r| r.oid == was.relation.oid).cloned().ok_or_else(lost)?;
        if now.definition() != was.relation.definition() {
            return Err(lost());
        }
        let merged = is.as_ref().map(|is| relation(&was.relation, &is.relation, &now)).transpose()?;
        entry.relations.remove(&was.name);
        if let (Some(is), Some(merged)) = (is, merged) {
            put.push(Place { relation: Arc::new(merged), ..is.clone() });
        }
    }
    for place in put {
        let gone = || Error::new(Kind::UndefinedSchema, "the schema was dropped by another transaction");
        let entry = names.get(&place.schema).and_then(|n| next.schemas.get_mut(n)).map(Arc::make_mut).ok_or_else(gone)?;
        if entry.relations.contains_key(&place.name) {
            return Err(Error::new(Kind::DuplicateTable, format!("relation \"{}\" already exists", place.name)));
        }
        entry.relations.insert(place.name, place.relation);
    }
    Ok(())
}

fn relation(base: &Relation, ours: &Relation, current: &Relation) -> Result<Relation> {
    let (Some(b), Some(o), Some(c)) = (base.files(), ours.files(), current.files()) else { return Ok(ours.clone()) };
    if b.same(c) {
        return Ok(ours.clone());
    }
    // Rows that came meanwhile have not been looked at by a change of columns or constraints.
    if base.columns != ours.columns || base.constraints != ours.constraints {
        return Err(lost());
    }
    let merged = files(b, o, c)?;
    let mut out = ours.clone();
    if let Some(files) = out.files_mut() {
        *files = merged;
    }
    Ok(out)
}

fn files(base: &Files, ours: &Files, current: &Files) -> Result<Files> {
    // Most transactions only add: then there is nothing to look for, however many parts the table has.
    if base.common(ours) == base.len() {
        let mut out = current.clone();
        out.add(ours.from(base.len()).iter().cloned());
        return Ok(out);
    }
    let before: HashMap<u64, &Arc<DataFile>> = base.iter().map(|f| (f.id, f)).collect();
    let after: HashMap<u64, &Arc<DataFile>> = ours.iter().map(|f| (f.id, f)).collect();
    let now: HashMap<u64, &Arc<DataFile>> = current.iter().map(|f| (f.id, f)).collect();
    let mut out = current.clone();
    let mut removed = Vec::new();
    for (id, was) in &before {
        match after.get(id) {
            None => {
                if !now.get(id).is_some_and(|n| n.same_deleted(was)) {
                    return Err(lost());
                }
                removed.push(*id);
            }
            Some(is) if is.same_deleted(was) => {}
            Some(is) => {
                let found = now.get(id).ok_or_else(lost)?;
                out.replace(Arc::new(deleted(was, is, found)?));
            }
        }
    }
    out.remove(&removed);
    out.add(ours.iter().filter(|f| !before.contains_key(&f.id)).cloned());
    Ok(out)
}

/// Rows deleted by both sides since the base are a conflict; others add up.
fn deleted(base: &DataFile, ours: &DataFile, current: &DataFile) -> Result<DataFile> {
    let rows = |f: &DataFile| f.deleted.as_deref().cloned().unwrap_or_default();
    let (was, mine, theirs) = (rows(base), rows(ours).without(&rows(base)), rows(current));
    if mine.meets(&theirs.without(&was)) {
        return Err(lost());
    }
    Ok(DataFile { deleted: Some(Arc::new(theirs.union(&mine))), ..current.clone() })
}

/// The difference as rows of the catalog, and the files that it makes part of a snapshot.
pub fn changes(change: &Difference, after: &CatalogData) -> Result<(Vec<Change>, Vec<Arc<DataFile>>)> {
    let (mut out, mut added) = (Vec::new(), Vec::new());
    let object = |class, id: &str, body: Option<String>| Change::Object { class, id: id.to_owned(), body };
    for (was, is) in &change.schemas {
        let oid = was.as_ref().or(is.as_ref()).map_or(0, |(_, s)| s.oid);
        let body = is.as_ref().map(|(name, entry)| named(name, None, entry.as_ref())).transpose()?;
        out.push(object(Class::Schema, &oid.to_string(), body));
    }
    for (was, is) in &change.relations {
        let Some(oid) = was.as_ref().or(is.as_ref()).map(|p| p.relation.oid) else { continue };
        let same = match (was, is) {
            (Some(was), Some(is)) => was.schema == is.schema && was.name == is.name && was.relation.definition() == is.relation.definition(),
            _ => false,
        };
        if !same {
            let body = is.as_ref().map(|p| named(&p.name, Some(p.schema), p.relation.as_ref())).transpose()?;
            out.push(object(Class::Relation, &oid.to_string(), body));
        }
        let none = Files::default();
        let files = |p: &Option<Place>| p.as_ref().and_then(|p| p.relation.files().cloned()).unwrap_or_else(|| none.clone());
        file_changes(oid, &files(was), &files(is), &mut out, &mut added);
    }
    for (name, role) in &change.roles {
        out.push(object(Class::Role, name, role.as_ref().map(json).transpose()?));
    }
    for (name, server) in &change.servers {
        out.push(object(Class::Server, name, server.as_ref().map(json).transpose()?));
    }
    for (key, comment) in &change.comments {
        out.push(object(Class::Comment, key, comment.as_ref().map(json).transpose()?));
    }
    if change.models.is_some() {
        out.push(object(Class::Model, "all", Some(json(&after.models)?)));
    }
    Ok((out, added))
}

fn file_changes(oid: u32, before: &Files, after: &Files, out: &mut Vec<Change>, added: &mut Vec<Arc<DataFile>>) {
    if before.same(after) {
        return;
    }
    let common = before.common(after);
    let (before, after) = (before.from(common), after.from(common));
    let old: HashMap<u64, &Arc<DataFile>> = before.iter().map(|f| (f.id, f)).collect();
    let kept: HashSet<u64> = after.iter().map(|f| f.id).collect();
    out.extend(before.iter().filter(|f| !kept.contains(&f.id)).map(|f| Change::FileRemoved(f.id)));
    for file in after {
        let was = old.get(&file.id);
        if was.is_none() {
            out.push(Change::FileAdded(file.row(oid)));
            added.push(Arc::clone(file));
        }
        if let Some(rows) = &file.deleted
            && was.is_none_or(|was| !was.same_deleted(file))
        {
            out.push(Change::Deleted { file: file.id, rows: rows.as_ref().clone() });
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("the catalog does not serialize: {e}")))
}

/// The JSON of an object with its name and schema.
fn named<T: serde::Serialize>(name: &str, schema: Option<u32>, value: &T) -> Result<String> {
    let mut body = serde_json::to_value(value).map_err(|e| Error::internal(format!("the catalog does not serialize: {e}")))?;
    if let Some(map) = body.as_object_mut() {
        map.insert("name".into(), name.into());
        if let Some(schema) = schema {
            map.insert("schema".into(), schema.into());
        }
    }
    json(&body)
}
