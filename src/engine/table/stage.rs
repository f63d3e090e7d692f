//! Rows on their way into a table.
//!
//! In: batches. Out: parts of a table that no snapshot names yet: a few rows as they are, more of them as Parquet files.
//! Invariants: a file is whole and synced, its directories too, before it is handed out; what is not committed is removed
//! with the last value that names it. Deliberately absent: the catalog.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use squilla_core::error::{Error, Result};
use squilla_store::disk::sync_directory;
use squilla_store::fault;
use squilla_store::sums::{Summing, Sums};

use super::Tables;
use super::fit::Fit;
use super::unique::Keys;
use crate::catalog::data::{Relation, RelationKind};
use crate::catalog::files::{DataFile, Inline, OnDisk, hold};
use crate::error::{from_arrow, from_datafusion, to_datafusion};
use crate::exec::held::{Held, Holder};
use crate::sink::encode;
use crate::sink::parquet::{ParquetEncoder, ParquetOptions};
use crate::sink::target::{LocalFile, Target};
use crate::source::files::blocking;

/// So many rows and bytes at most go into the catalog instead of a file.
const INLINE_ROWS_MAX: usize = 1024;
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Rows of a page: small, for those who look for a key.
const PAGE_ROWS: usize = 4096;
/// Rows of a file at most: positions have 32 bits.
const FILE_ROWS_MAX: u64 = 1 << 30;

/// What was staged.
#[derive(Debug, Default)]
pub struct Staged {
    /// Parts.
    pub files: Vec<Arc<DataFile>>,
    /// Rows.
    pub rows: u64,
    /// The rows themselves, where they were asked for.
    pub kept: Option<Held>,
}

impl Tables {
    /// Stages rows as a file, however few they are; none is no file.
    pub async fn stage_file(&self, relation: &Relation, mut stream: SendableRecordBatchStream) -> Result<Staged> {
        let RelationKind::Table { directory, .. } = &relation.kind else { return Err(Error::internal("rows for something that is no table")) };
        let physical = physical_schema(relation, &stream.schema());
        let Some(first) = stream.next().await else { return Ok(Staged::default()) };
        let shape = Arc::clone(&physical);
        let all = futures::stream::iter([first]).chain(stream).map(move |batch| named(&batch?, &shape).map_err(to_datafusion));
        let file = self.file(directory, physical, Box::pin(all)).await?;
        let rows = file.rows;
        Ok(Staged { files: if rows > 0 { vec![Arc::new(file)] } else { Vec::new() }, rows, kept: None })
    }

    /// Stages rows that have the table's shape already. `keep` takes them, too.
    pub async fn stage(&self, relation: &Relation, mut stream: SendableRecordBatchStream, mut keep: Option<Holder>) -> Result<Staged> {
        let RelationKind::Table { directory, .. } = &relation.kind else { return Err(Error::internal("rows for something that is no table")) };
        let physical = physical_schema(relation, &stream.schema());
        let mut out = Staged::default();
        let (mut waiting, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(from_datafusion)?;
            if batch.num_rows() == 0 {
                continue;
            }
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            waiting.push(batch);
            if rows > INLINE_ROWS_MAX || bytes > INLINE_BYTES_MAX {
                break;
            }
        }
        if rows <= INLINE_ROWS_MAX && bytes <= INLINE_BYTES_MAX {
            if rows > 0 {
                let batch = concat_batches(&waiting[0].schema(), &waiting).map_err(from_arrow)?;
                out.files.push(Arc::new(self.inline(named(&batch, &physical)?)?));
            }
            out.rows = rows as u64;
            if let Some(holder) = &mut keep {
                waiting.into_iter().try_for_each(|batch| holder.push(batch))?;
            }
            out.kept = keep.map(Holder::finish).transpose()?;
            return Ok(out);
        }
        let all = futures::stream::iter(waiting.into_iter().map(Ok)).chain(stream);
        let kept = Arc::new(parking_lot::Mutex::new(keep));
        let (copies, shape) = (Arc::clone(&kept), Arc::clone(&physical));
        let all = all.and_then(move |batch| {
            let copied = copies.lock().as_mut().map_or(Ok(()), |holder| holder.push(batch.clone()));
            std::future::ready(copied.and_then(|()| named(&batch, &shape)).map_err(to_datafusion))
        });
        let file = self.file(directory, physical, Box::pin(all)).await?;
        out.rows = file.rows;
        out.files.push(Arc::new(file));
        out.kept = kept.lock().take().map(Holder::finish).transpose()?;
        Ok(out)
    }

    fn inline(&self, batch: RecordBatch) -> Result<DataFile> {
        let rows = batch.num_rows() as u64;
        let inline = Inline::new(batch)?;
        let (id, bytes) = (self.next_file(), inline.bytes.len() as u64);
        let sums = Some(Arc::new(Sums::of(&inline.bytes)));
        Ok(DataFile { id, path: None, rows, bytes, inline: Some(inline), deleted: None, sums, disk: Arc::new(OnDisk::kept()) })
    }

    async fn file(
        &self,
        table: &str,
        schema: SchemaRef,
        stream: futures::stream::BoxStream<'static, datafusion::common::Result<RecordBatch>>,
    ) -> Result<DataFile> {
        let name = format!("{table}/{}/1.parquet", uuid::Uuid::now_v7());
        let path = self.directory.join(&name);
        let file = {
            let path = path.clone();
            blocking(move || LocalFile::create(&path, true)).await?
        };
        fault::reach("file_created");
        let (writer, summer) = Summing::new(file.writer());
        let encoder = ParquetEncoder::new(writer, &schema, &ParquetOptions { page_rows: PAGE_ROWS, ..ParquetOptions::default() })?;
        let mut target = Target::local(file);
        let rows = encode::run(Box::pin(RecordBatchStreamAdapter::new(schema, stream)), Box::new(encoder), &mut target).await?;
        if rows > FILE_ROWS_MAX {
            return Err(Error::limit(format!("{rows} rows are too many for one statement"), "none: write them in several statements"));
        }
        fault::reach("file_written");
        target.commit().await?;
        fault::reach("file_renamed");
        // From here on the file goes when nobody commits it.
        let disk = Arc::new(OnDisk::new(path.clone()));
        let bytes = blocking(move || synced(path)).await?;
        fault::reach("file_synced");
        let id = self.next_file();
        hold(id, &disk);
        let sums = Some(Arc::new(std::mem::take(&mut *summer.lock()).end()));
        Ok(DataFile { id, path: Some(name), rows, bytes, inline: None, deleted: None, sums, disk })
    }
}

/// The size of a file whose directories are synced, too.
fn synced(path: PathBuf) -> Result<u64> {
    for directory in path.ancestors().skip(1).take(3) {
        sync_directory(directory).map_err(|e| Error::io(format!("could not sync \"{}\"", directory.display()), e))?;
    }
    std::fs::metadata(&path).map(|m| m.len()).map_err(|e| Error::io(format!("could not read \"{}\"", path.display()), e))
}

/// The schema under physical names.
fn physical_schema(relation: &Relation, schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().zip(&relation.columns);
    Arc::new(Schema::new(fields.map(|(field, column)| field.as_ref().clone().with_name(column.physical()).with_nullable(true)).collect::<Vec<_>>()))
}

fn named(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    batch.clone().with_schema(Arc::clone(schema)).or_else(|_| RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())).map_err(from_arrow)
}

/// The stream in the shape of the table; keys of unique constraints are collected on the way.
pub fn fitted(stream: SendableRecordBatchStream, fit: Arc<Fit>, keys: Option<Arc<Keys>>) -> SendableRecordBatchStream {
    let schema = Arc::clone(fit.schema());
    let shaped = stream.map(move |batch| {
        let batch = fit.batch(&batch?).map_err(to_datafusion)?;
        if let Some(keys) = &keys {
            keys.add(&batch).map_err(to_datafusion)?;
        }
        Ok(batch)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, shaped))
}
