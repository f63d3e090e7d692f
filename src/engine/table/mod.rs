//! Managed tables: reading them, staging rows for them, keeping them in shape.
//!
//! Invariant: nothing here changes the catalog; what was staged becomes part of a table by an edit of the session's
//! transaction, and vanishes when that does not come to be. Deliberately absent: statements (`command`).

pub mod changes;
pub mod check;
pub mod checked;
pub mod compact;
pub mod fit;
pub mod hot;
pub mod key_index;
pub mod live;
pub mod point;
pub mod scan;
pub mod stage;
pub mod unique;
pub mod versions;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use parking_lot::Mutex;
use squilla_core::error::Result;

use crate::catalog::Catalog;
use crate::catalog::data::Relation;
use crate::source::files::FileAccess;
use crate::table::hot::HotRows;
use crate::table::key_index::KeyIndexes;

/// The contents of managed tables.
#[derive(Debug)]
pub struct Tables {
    access: Arc<FileAccess>,
    directory: PathBuf,
    catalog: Arc<Catalog>,
    /// Tables that are being compacted.
    compacting: Mutex<HashSet<u32>>,
    /// Where keys are.
    keys: KeyIndexes,
    /// What reads by key have decoded.
    hot: HotRows,
    /// Plans stay in this process.
    local: bool,
}

impl Tables {
    /// The tables of a catalog; `local` when plans that read them never leave the process. `hot` keeps what reads by key
    /// decode.
    pub fn new(catalog: &Arc<Catalog>, access: &Arc<FileAccess>, local: bool, hot: HotRows) -> Arc<Self> {
        Arc::new(Self {
            access: Arc::clone(access),
            directory: catalog.data_directory().to_owned(),
            catalog: Arc::clone(catalog),
            compacting: Mutex::default(),
            keys: KeyIndexes::default(),
            hot,
            local,
        })
    }

    /// The contents of the table as they are in this state of the relation. They stay readable while the provider, or a
    /// plan made from it, lives, even when the table is dropped meanwhile.
    pub fn scan(self: &Arc<Self>, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(scan::ManagedTable::new(self, relation, false)?))
    }

    /// The same with the columns [`scan::FILE`] and [`scan::ROW`].
    pub fn scan_positions(self: &Arc<Self>, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(scan::ManagedTable::new(self, relation, true)?))
    }

    /// The contents as of a version, a time or a tag. 22023 when that is not kept.
    pub fn scan_at(self: &Arc<Self>, relation: &Relation, version: &str) -> Result<Arc<dyn TableProvider>> {
        let old = {
            let ledger = self.catalog.ledger().lock();
            let version = versions::version(&ledger, relation.oid, version)?;
            versions::at(&ledger, relation, version)?
        };
        self.scan(&old)
    }

    /// Whether nobody else compacts the table now; then the caller does.
    pub fn begin_compaction(&self, oid: u32) -> bool {
        self.compacting.lock().insert(oid)
    }

    /// The inverse of [`Tables::begin_compaction`].
    pub fn end_compaction(&self, oid: u32) {
        self.compacting.lock().remove(&oid);
    }

    /// The number of a new file.
    pub fn next_file(&self) -> u64 {
        self.catalog.next_file()
    }
}
