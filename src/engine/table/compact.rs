//! Keeping tables in few and whole parts.
//!
//! In: a table with rows in the catalog, many small files or many deleted rows. Out: one file of the rows that are there,
//! in one commit. Invariants: no row is added, lost or changed; when another session changes one of the parts meanwhile,
//! its change wins and the work is thrown away. Deliberately absent: sorting rows.

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::commit::Pending;
use crate::catalog::data::{CatalogData, Relation};
use crate::catalog::files::{DataFile, Files};
use crate::database::Database;
use crate::error::{from_datafusion, to_datafusion};
use crate::table::fit::Fit;

/// Parts and rows in the catalog from which on they become a file.
const INLINE_PARTS: usize = 128;
const INLINE_ROWS: u64 = 8192;
const INLINE_BYTES: u64 = 1 << 20;
/// Files below this many bytes are small; so many of them become one.
const SMALL_BYTES: u64 = 16 << 20;
const SMALL_FILES: usize = 24;

/// The parts that are worth to be one; empty when all is well. `all` takes everything that is not a whole large file.
fn candidates(files: &Files, all: bool) -> Vec<Arc<DataFile>> {
    let inline: Vec<&Arc<DataFile>> = files.iter().filter(|f| f.path.is_none()).collect();
    let rows: u64 = inline.iter().map(|f| f.rows).sum();
    let bytes: u64 = inline.iter().map(|f| f.bytes).sum();
    let due = inline.len() >= INLINE_PARTS || rows >= INLINE_ROWS || bytes >= INLINE_BYTES;
    let small: Vec<&Arc<DataFile>> = files.iter().filter(|f| f.path.is_some() && (f.bytes < SMALL_BYTES || (all && f.deleted.is_some()))).collect();
    let merge = small.len() >= SMALL_FILES || (all && (small.len() > 1 || small.iter().any(|f| f.deleted.is_some())));
    let mut out: Vec<Arc<DataFile>> = Vec::new();
    if merge {
        out.extend(small.into_iter().cloned());
    }
    if due || (all && !inline.is_empty()) {
        out.extend(inline.into_iter().cloned());
    }
    out
}

/// Compacts a table of the newest state: whether there was something to do.
pub async fn compact(database: &Arc<Database>, oid: u32, all: bool) -> Result<bool> {
    for _ in 0..3 {
        let base = database.catalog.snapshot();
        let Some((schema, name, relation)) = base.relation_by_oid(oid) else { return Ok(false) };
        let Some(files) = relation.files() else { return Ok(false) };
        let old = candidates(files, all);
        if old.is_empty() {
            return Ok(false);
        }
        let new = rewritten(database, relation, name, old.clone()).await?;
        let mut next = CatalogData::clone(&base);
        if let Some(files) = next.relation_mut(schema, name)?.files_mut() {
            files.remove(&old.iter().map(|f| f.id).collect::<Vec<_>>());
            files.add(new);
        }
        next.touch();
        let pending = Pending { base: Arc::clone(&base), ours: Arc::new(next), keys: Vec::new(), durable: true, compaction: true };
        match database.catalog.commit(pending).await {
            Ok(_) => return Ok(true),
            Err(error) if error.kind == Kind::SerializationFailure => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The rows of some parts as new parts.
async fn rewritten(database: &Arc<Database>, relation: &Relation, name: &str, old: Vec<Arc<DataFile>>) -> Result<Vec<Arc<DataFile>>> {
    let mut part = relation.clone();
    part.files_mut().into_iter().for_each(|f| *f = Files::new(old.clone()));
    let base = database.base().clone();
    // One partition keeps the order of the rows.
    let config = base.config().clone().with_target_partitions(1);
    let state = SessionStateBuilder::new_from_existing(base).with_config(config).build();
    let plan = database.store.scan(&part)?.scan(&state, None, &[], None).await.map_err(from_datafusion)?;
    let rows = execute_stream(plan, state.task_ctx()).map_err(from_datafusion)?;
    let fit = Fit::new(name, &relation.columns, "UTC")?;
    let schema = Arc::clone(fit.schema());
    let rows = rows.map(move |batch| fit.batch(&batch?).map_err(to_datafusion));
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    Ok(database.store.stage_file(relation, rows).await?.files)
}

/// Compacts in the background what a transaction wrote to, one task a table at a time.
pub fn after_commit(database: &Arc<Database>, tables: Vec<u32>) {
    let now = database.catalog.snapshot();
    for oid in tables {
        let due = now.relation_by_oid(oid).and_then(|(_, _, r)| r.files()).is_some_and(|f| !candidates(f, false).is_empty());
        if !due || !database.store.begin_compaction(oid) {
            continue;
        }
        let Ok(runtime) = database.runtime() else { return };
        let weak = Arc::downgrade(database);
        runtime.spawn(async move {
            let Some(database) = weak.upgrade() else { return };
            if let Err(error) = compact(&database, oid, false).await {
                tracing::warn!(%error, table = oid, "could not compact a table");
            }
            database.store.end_compaction(oid);
        });
    }
}

/// `optimize_table`: all small parts become one. Outside of transactions only: 25001.
pub async fn optimize(database: &Arc<Database>, oid: u32) -> Result<bool> {
    if !database.store.begin_compaction(oid) {
        return Err(Error::new(Kind::NotInPrerequisiteState, "the table is being compacted already"));
    }
    let done = compact(database, oid, true).await;
    database.store.end_compaction(oid);
    done
}
