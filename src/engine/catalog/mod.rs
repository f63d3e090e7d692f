//! The catalog: which schemas, relations, models and roles exist, kept in one file.
//!
//! In: changes as closures over [`CatalogData`]. Out: immutable snapshots. Invariants: a change is applied to a copy,
//! written and synced to disk, and only then visible, so a change that fails leaves no trace; one process at a time owns
//! a data directory. Deliberately absent: table contents (`store`), name resolution in queries (the binder), system views.

pub mod data;
pub mod disk;
pub mod parquet;
pub mod relations;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use squilla_core::error::Result;

use self::data::CatalogData;
use self::disk::DirectoryLock;

/// The catalog of one server. Cheap to share; readers never wait for writers.
#[derive(Debug)]
pub struct Catalog {
    directory: Option<PathBuf>,
    current: RwLock<Arc<CatalogData>>,
    version: AtomicU64,
    writer: Mutex<()>,
    _lock: Option<DirectoryLock>,
}

impl Catalog {
    /// Opens or creates `<directory>/catalog.json` and locks the directory for this process.
    ///
    /// Fails with 55000 naming the owner's pid when another process has it, with XX001 when the file is damaged.
    pub fn open(directory: &Path) -> Result<Arc<Catalog>> {
        disk::create_directory(directory)?;
        let lock = DirectoryLock::acquire(directory)?;
        let data = match disk::load(directory)? {
            Some(data) => data,
            None => {
                let data = CatalogData::default();
                disk::save(directory, &data)?;
                data
            }
        };
        Ok(Arc::new(Catalog {
            directory: Some(directory.to_owned()),
            current: RwLock::new(Arc::new(data)),
            version: AtomicU64::new(1),
            writer: Mutex::new(()),
            _lock: Some(lock),
        }))
    }

    /// A catalog that is gone with the process.
    pub fn in_memory() -> Arc<Catalog> {
        Arc::new(Catalog {
            directory: None,
            current: RwLock::new(Arc::new(CatalogData::default())),
            version: AtomicU64::new(1),
            writer: Mutex::new(()),
            _lock: None,
        })
    }

    /// The data directory; None in memory.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// What exists now. Later changes do not show in it.
    pub fn snapshot(&self) -> Arc<CatalogData> {
        Arc::clone(&self.current.read())
    }

    /// Grows with every change: plans made at one version hold while it stays.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Applies a change, writes it to disk and makes it visible. Changes are serialized. Blocks for one fsync.
    pub fn update<T>(&self, change: impl FnOnce(&mut CatalogData) -> Result<T>) -> Result<T> {
        let _writer = self.writer.lock();
        let mut next = CatalogData::clone(&self.snapshot());
        let result = change(&mut next)?;
        if let Some(directory) = &self.directory {
            disk::save(directory, &next)?;
        }
        *self.current.write() = Arc::new(next);
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use squilla_core::error::{Error, Kind};

    use super::data::{RelationKind, SchemaEntry};
    use super::*;

    #[test]
    fn a_change_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let oid = {
            let catalog = Catalog::open(dir.path()).unwrap();
            let before = catalog.version();
            let oid = catalog.update(|d| d.create_schema("lake", "squilla")).unwrap();
            catalog
                .update(|d| d.create_relation("lake", "v", "squilla", vec![], RelationKind::View { sql: "SELECT 1".into(), depends_on: vec![] }))
                .unwrap();
            assert!(catalog.version() > before);
            oid
        };
        let catalog = Catalog::open(dir.path()).unwrap();
        let data = catalog.snapshot();
        let schema: &SchemaEntry = &data.schemas["lake"];
        assert_eq!(schema.oid, oid);
        assert!(schema.relations.contains_key("v"));
        assert!(oid >= data::FIRST_OID);
    }

    #[test]
    fn a_failed_change_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let version = catalog.version();
        let failed: Result<()> = catalog.update(|d| {
            d.create_schema("half", "squilla")?;
            Err(Error::new(Kind::Io, "no"))
        });
        assert!(failed.is_err());
        assert!(!catalog.snapshot().schemas.contains_key("half"));
        assert_eq!(catalog.version(), version);
    }

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let error = Catalog::open(dir.path()).unwrap_err();
        assert_eq!(error.sqlstate(), "55000");
        assert!(error.message.contains(&std::process::id().to_string()), "{}", error.message);
        drop(catalog);
        Catalog::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        drop(Catalog::open(dir.path()).unwrap());
        std::fs::write(dir.path().join("catalog.json"), "{ nonsense").unwrap();
        assert_eq!(Catalog::open(dir.path()).unwrap_err().sqlstate(), "XX001");
    }

    #[test]
    fn snapshots_do_not_move() {
        let catalog = Catalog::in_memory();
        let before = catalog.snapshot();
        catalog.update(|d| d.create_schema("s", "squilla")).unwrap();
        assert!(!before.schemas.contains_key("s"));
        assert!(catalog.snapshot().schemas.contains_key("s"));
    }
}
