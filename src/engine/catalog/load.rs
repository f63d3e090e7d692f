//! The catalog as it was at a snapshot, from its rows.
//!
//! In: rows of the catalog on disk. Out: [`CatalogData`]. Invariant: what cannot be read is XX001, never left out.
//! Deliberately absent: writing (`merge` makes the rows).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::de::DeserializeOwned;
use squilla_core::error::{Error, Kind, Result};
use squilla_store::bitmap::Deleted;
use squilla_store::ledger::Ledger;
use squilla_store::rows::{Class, FileRow, Loaded, ObjectRow};

use super::data::{CatalogData, Counters, FIRST_OID, Relation, SchemaEntry};
use super::files::{DataFile, Files};

fn damaged(row: &ObjectRow, e: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::DataCorrupted, format!("the catalog has a {} that cannot be read: {e}", row.class.word()))
}

fn read<T: DeserializeOwned>(row: &ObjectRow) -> Result<T> {
    serde_json::from_str(&row.body).map_err(|e| damaged(row, &e))
}

/// An object with its name and the OID of its schema.
fn named<T: DeserializeOwned>(row: &ObjectRow) -> Result<(String, u32, T)> {
    let mut body: serde_json::Value = read(row)?;
    let map = body.as_object_mut().ok_or_else(|| damaged(row, &"it is no object"))?;
    let name = map.remove("name").and_then(|n| n.as_str().map(str::to_owned)).ok_or_else(|| damaged(row, &"it has no name"))?;
    let schema = map.remove("schema").and_then(|s| s.as_u64()).and_then(|s| u32::try_from(s).ok()).unwrap_or(0);
    Ok((name, schema, serde_json::from_value(body).map_err(|e| damaged(row, &e))?))
}

/// Numbers to give out.
pub fn counters(ledger: &Ledger) -> Result<Counters> {
    let oid = ledger.counter("oid")?.max(u64::from(FIRST_OID));
    Ok(Counters { oid: AtomicU64::new(oid), file: AtomicU64::new(ledger.counter("file")?.max(1)) })
}

/// The parts of tables, by table.
pub fn contents(files: Vec<FileRow>, deleted: Vec<(u64, Deleted)>) -> Result<HashMap<u32, Vec<Arc<DataFile>>>> {
    let mut deleted: HashMap<u64, Deleted> = deleted.into_iter().collect();
    let mut out: HashMap<u32, Vec<Arc<DataFile>>> = HashMap::new();
    for row in files {
        let (table, rows) = (row.table, deleted.remove(&row.id));
        out.entry(table).or_default().push(Arc::new(DataFile::from_row(row, rows)?));
    }
    Ok(out)
}

/// The state that the rows describe.
pub fn data(loaded: Loaded, snapshot: u64, counters: Arc<Counters>) -> Result<CatalogData> {
    let mut out = CatalogData { snapshot, counters, ..CatalogData::empty() };
    let mut contents = contents(loaded.files, loaded.deleted)?;
    let mut relations: BTreeMap<u32, BTreeMap<String, Arc<Relation>>> = BTreeMap::new();
    let mut schemas: Vec<(String, SchemaEntry)> = Vec::new();
    for row in &loaded.objects {
        match row.class {
            Class::Schema => {
                let (name, _, entry) = named(row)?;
                schemas.push((name, entry));
            }
            Class::Relation => {
                let (name, schema, mut relation): (String, u32, Relation) = named(row)?;
                let parts = contents.remove(&relation.oid).unwrap_or_default();
                if let Some(files) = relation.files_mut() {
                    *files = Files::new(parts);
                }
                relations.entry(schema).or_default().insert(name, Arc::new(relation));
            }
            Class::Role => {
                out.roles.insert(row.id.clone(), read(row)?);
            }
            Class::Server => {
                out.servers.insert(row.id.clone(), read(row)?);
            }
            Class::Comment => {
                out.comments.insert(row.id.clone(), read(row)?);
            }
            Class::Model => out.models = read(row)?,
        }
    }
    for (name, mut entry) in schemas {
        entry.relations = relations.remove(&entry.oid).unwrap_or_default();
        out.schemas.insert(name, Arc::new(entry));
    }
    Ok(out)
}

/// One relation as it was, with the contents of then.
pub fn relation_at(ledger: &Ledger, oid: u32, snapshot: u64) -> Result<Option<Relation>> {
    let Some(body) = ledger.object_at(Class::Relation, &oid.to_string(), snapshot)? else { return Ok(None) };
    let (_, _, mut relation): (String, u32, Relation) = named(&ObjectRow { class: Class::Relation, id: oid.to_string(), body })?;
    let mut contents = contents(ledger.files(Some(snapshot), Some(oid))?, ledger.deleted(Some(snapshot), Some(oid))?)?;
    if let Some(files) = relation.files_mut() {
        *files = Files::new(contents.remove(&oid).unwrap_or_default());
    }
    Ok(Some(relation))
}
