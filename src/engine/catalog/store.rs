//! The seam to table contents: what statements ask of a table store.
//!
//! In: relations of the catalog and streams of batches. Out: providers to scan and counts of rows written. Invariants: a
//! write is visible whole or not at all, by one catalog change; a store never leaves the catalog naming a file that is
//! not there. Deliberately absent: UPDATE, DELETE, transactions over several statements: a later store brings them.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use squilla_core::error::Result;

use super::data::{ColumnEntry, Relation};
use super::relations::Dropped;

/// The name and owner of a table to be.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Role.
    pub owner: String,
    /// Columns; empty takes names and types from the stream.
    pub columns: Vec<ColumnEntry>,
    /// IF NOT EXISTS: nothing happens when the name is taken, and the stream is not read.
    pub if_not_exists: bool,
}

/// Keeps the contents of managed tables.
#[async_trait]
pub trait TableStore: Debug + Send + Sync {
    /// The contents of the table as they are in this snapshot of the relation. They stay readable while the provider, or
    /// a plan made from it, lives, even when the table is dropped meanwhile.
    fn scan(&self, relation: &Relation) -> Result<Arc<dyn TableProvider>>;

    /// Adds the rows of `stream`, whose columns are those of the table in order; values are cast to the table's types.
    /// Returns the rows. 23502, 42804, 42P01 when the table is gone at the end. Nothing is added on failure or drop.
    async fn append(&self, schema: &str, name: &str, stream: SendableRecordBatchStream) -> Result<u64>;

    /// Creates the table, with the rows of `stream` when there is one: rows written, or None when the table was there
    /// and `if_not_exists`. 42P07, 3F000. Nothing is created on failure or drop.
    async fn create(&self, table: NewTable, stream: Option<SendableRecordBatchStream>) -> Result<Option<u64>>;

    /// Replaces the rows by none (TRUNCATE).
    async fn truncate(&self, schema: &str, name: &str) -> Result<()>;

    /// Frees the contents of tables that a catalog change dropped. Never fails: what cannot be freed now is freed when
    /// the store opens next.
    fn dropped(&self, dropped: &[Dropped]);
}
