//! The simple table store: every INSERT or CREATE TABLE AS is one Parquet file.
//!
//! In: streams of batches. Out: `<data directory>/data/<table oid>/<uuid>.parquet`, named by the catalog once they are
//! whole and synced. Invariants: one catalog change makes a file visible; a file that the catalog does not name is
//! removed when its writer gives up, or when the store opens; files of a dropped table stay while a plan reads them.
//! Deliberately absent: UPDATE, DELETE, compaction, several statements in one transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use squilla_core::values::FileRef;

use super::Catalog;
use super::data::{ColumnEntry, DataFile, Relation, RelationKind};
use super::disk::{create_directory, sync_directory};
use super::relations::Dropped;
use super::store::{NewTable, TableStore};
use crate::error::{from_arrow, to_datafusion};
use crate::exec::conform::conform;
use crate::postgres::input;
use crate::sink::encode;
use crate::sink::parquet::{ParquetEncoder, ParquetOptions};
use crate::sink::target::{LocalFile, Target};
use crate::source::files::{FileAccess, blocking};
use crate::source::object;
use crate::source::scan::{FileSet, FilesTable};

/// Tables as Parquet files under the data directory, or under a temporary one for a catalog in memory.
#[derive(Debug)]
pub struct ParquetStore {
    catalog: Arc<Catalog>,
    access: Arc<FileAccess>,
    directory: PathBuf,
    pins: Mutex<HashMap<u32, Weak<Pin>>>,
    _temporary: Option<tempfile::TempDir>,
}

/// Held by everything that may read the files of one table; what is doomed goes with the last holder.
#[derive(Debug)]
struct Pin {
    directory: PathBuf,
    dropped: AtomicBool,
    files: Mutex<Vec<PathBuf>>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        for file in self.files.get_mut().drain(..) {
            let _ = std::fs::remove_file(file);
        }
        if self.dropped.load(Ordering::Acquire) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

impl ParquetStore {
    /// Opens the store of this catalog, and removes files that no table names. Scans read through the runtime.
    pub fn open(catalog: &Arc<Catalog>, runtime: &Arc<RuntimeEnv>) -> Result<Arc<dyn TableStore>> {
        let (directory, temporary) = match catalog.directory() {
            Some(directory) => (directory.join("data"), None),
            None => {
                let made =
                    tempfile::Builder::new().prefix("squilla-").tempdir().map_err(|e| Error::io("could not create a temporary directory", e))?;
                (made.path().to_owned(), Some(made))
            }
        };
        create_directory(&directory)?;
        let access = FileAccess::new();
        object::register(runtime, &access)?;
        let store = ParquetStore { catalog: Arc::clone(catalog), access, directory, pins: Mutex::default(), _temporary: temporary };
        store.sweep();
        Ok(Arc::new(store))
    }

    fn table_directory(&self, oid: u32) -> PathBuf {
        self.directory.join(oid.to_string())
    }

    /// Removes what an earlier process left behind. What cannot be removed is left for the next time.
    fn sweep(&self) {
        let data = self.catalog.snapshot();
        for table in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let named = table.file_name().to_str().and_then(|name| name.parse().ok()).and_then(|oid| data.relation_by_oid(oid));
            let Some((_, _, Relation { kind: RelationKind::Table { files }, .. })) = named else {
                let _ = std::fs::remove_dir_all(table.path());
                continue;
            };
            for file in std::fs::read_dir(table.path()).into_iter().flatten().flatten() {
                if !files.iter().any(|f| f.path.as_str() == file.file_name()) {
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
    }

    fn pin(&self, oid: u32) -> Arc<Pin> {
        let mut pins = self.pins.lock();
        if let Some(pin) = pins.get(&oid).and_then(Weak::upgrade) {
            return pin;
        }
        let pin = Arc::new(Pin { directory: self.table_directory(oid), dropped: AtomicBool::new(false), files: Mutex::default() });
        pins.retain(|_, p| p.strong_count() > 0);
        pins.insert(oid, Arc::downgrade(&pin));
        pin
    }

    /// Writes the stream to a file of the table; None when it has no rows. The file is gone when the guard is dropped.
    async fn write(&self, oid: u32, table: &str, columns: &[ColumnEntry], stream: SendableRecordBatchStream) -> Result<Option<NewFile>> {
        let schema = schema_of(columns)?;
        let required: Vec<bool> = columns.iter().map(|c| c.not_null).collect();
        let directory = self.table_directory(oid);
        let name = format!("{}.parquet", uuid::Uuid::now_v7());
        let path = directory.join(&name);
        let file = {
            let path = path.clone();
            blocking(move || LocalFile::create(&path, true)).await?
        };
        let encoder = ParquetEncoder::new(file.writer(), &schema, &ParquetOptions::default())?;
        let (into, table) = (Arc::clone(&schema), table.to_owned());
        let shaped = stream.map(move |batch| fit(&batch?, &into, &required, &table).map_err(to_datafusion));
        let shaped = Box::pin(RecordBatchStreamAdapter::new(schema, shaped));
        let mut target = Target::local(file);
        let rows = encode::run(shaped, Box::new(encoder), &mut target).await?;
        if rows == 0 {
            return Ok(None);
        }
        target.commit().await?;
        let mut guard = NewFile { path: Some(path.clone()), entry: DataFile { path: name, rows, bytes: 0 } };
        let bytes = blocking(move || {
            sync_directory(&directory).map_err(|e| Error::io(format!("could not sync \"{}\"", directory.display()), e))?;
            std::fs::metadata(&path).map(|m| m.len()).map_err(|e| Error::io(format!("could not read \"{}\"", path.display()), e))
        })
        .await?;
        guard.entry.bytes = bytes;
        Ok(Some(guard))
    }
}

/// A file that no table names yet: removed when dropped.
struct NewFile {
    path: Option<PathBuf>,
    entry: DataFile,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            remove(path);
        }
    }
}

fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
    // The directory of a table that was never made; it stays when it has other files.
    if let Some(directory) = path.parent() {
        let _ = std::fs::remove_dir(directory);
    }
}

/// The columns as they are stored and written.
fn schema_of(columns: &[ColumnEntry]) -> Result<SchemaRef> {
    Ok(Arc::new(Schema::new(columns.iter().map(|c| Ok(c.sql_type()?.field(&c.name))).collect::<Result<Vec<_>>>()?)))
}

/// The columns as they are read: text and bytea without a copy of every value.
fn scan_schema(columns: &[ColumnEntry]) -> Result<SchemaRef> {
    let fields = columns.iter().map(|c| {
        let field = c.sql_type()?.field(&c.name);
        let ty = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::LargeBinary => DataType::BinaryView,
            other => other.clone(),
        };
        Ok(Field::new(&c.name, ty, true).with_metadata(field.metadata().clone()))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// A batch as the table's columns: 42804 for a wrong number of columns, 22003 and 22P02 for values, 23502 for NULL.
fn fit(batch: &RecordBatch, schema: &SchemaRef, required: &[bool], table: &str) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::new(
            Kind::DatatypeMismatch,
            format!("table \"{table}\" has {} columns but {} were given", schema.fields().len(), batch.num_columns()),
        ));
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for ((column, field), required) in batch.columns().iter().zip(schema.fields()).zip(required) {
        let column = fit_column(column, field)?;
        if *required && column.logical_null_count() > 0 {
            return Err(Error::new(
                Kind::NotNullViolation,
                format!("null value in column \"{}\" of relation \"{table}\" violates not-null constraint", field.name()),
            ));
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(from_arrow)
}

fn fit_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let (have, want) = (column.data_type(), field.data_type());
    let ty = SqlType::of_field(field);
    if let SqlType::Varchar(Some(length)) | SqlType::Char(Some(length)) = ty {
        let text = cast_with_options(column, want, &CastOptions::default()).map_err(from_arrow)?;
        return within(&text, length as usize, &ty);
    }
    // Text is read as the type's literals are; JSON is looked at even where it is stored as it comes.
    if matches!(have, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        && (want != &DataType::Utf8 || matches!(ty, SqlType::Json | SqlType::Jsonb))
    {
        return conform(&input::convert(column, &ty, None)?, want);
    }
    if have == want {
        return Ok(Arc::clone(column));
    }
    if matches!((have, want), (DataType::Struct(_), DataType::Struct(_)) | (DataType::List(_), DataType::List(_))) {
        return conform(column, want);
    }
    // Not "safe": a value that does not fit is an error, never NULL.
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(column, want, &strict).map_err(from_arrow)?;
    conform(&cast, want)
}

/// Text of at most `length` characters; blanks beyond it are cut, anything else there is 22001.
fn within(column: &ArrayRef, length: usize, ty: &SqlType) -> Result<ArrayRef> {
    let Some(texts) = column.as_string_opt::<i32>() else { return Err(Error::internal("a varchar column that is no text")) };
    if texts.iter().flatten().all(|t| t.len() <= length) {
        return Ok(Arc::clone(column));
    }
    let cut = |text: &str| match text.char_indices().nth(length) {
        None => Ok(text.to_owned()),
        Some((end, _)) if text.get(end..).is_some_and(|rest| rest.chars().all(|c| c == ' ')) => Ok(text.get(..end).unwrap_or("").to_owned()),
        Some(_) => Err(Error::new(Kind::StringTooLong, format!("value too long for type {}({length})", ty.name()))),
    };
    Ok(Arc::new(texts.iter().map(|t| t.map(cut).transpose()).collect::<Result<StringArray>>()?))
}

#[async_trait]
impl TableStore for ParquetStore {
    fn scan(&self, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
        let RelationKind::Table { files } = &relation.kind else {
            return Err(Error::internal("a relation without files reached the table store"));
        };
        let directory = self.table_directory(relation.oid);
        let files = files.iter().map(|f| FileRef {
            uri: crate::source::location::file_uri(&directory.join(&f.path)),
            size: i64::try_from(f.bytes).ok(),
            // A file never changes under its name: any fixed time keeps its footer in the cache.
            last_modified_us: Some(1),
            ..FileRef::default()
        });
        let files = FileSet::Fixed(files.collect(), self.pin(relation.oid));
        let schema = scan_schema(&relation.columns)?;
        Ok(Arc::new(FilesTable::new(
            Arc::clone(&self.access),
            files,
            Arc::new(ParquetFormat::new().with_skip_metadata(false)),
            schema,
            Vec::new(),
            true,
        )))
    }

    async fn append(&self, schema: &str, name: &str, stream: SendableRecordBatchStream) -> Result<u64> {
        let before = self.catalog.snapshot().relation(schema, name)?.clone();
        let RelationKind::Table { .. } = before.kind else {
            return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a table")));
        };
        let Some(mut file) = self.write(before.oid, name, &before.columns, stream).await? else { return Ok(0) };
        let entry = file.entry.clone();
        let catalog = Arc::clone(&self.catalog);
        let name = name.to_owned();
        blocking(move || {
            catalog.update(|data| {
                // By OID: the table may have been renamed meanwhile, or dropped and made anew.
                let gone = || super::relations::no_relation(&name);
                let (schema, name) = data.relation_by_oid(before.oid).map(|(s, n, _)| (s.to_owned(), n.to_owned())).ok_or_else(gone)?;
                let relation = data.relation_mut(&schema, &name)?;
                match &mut relation.kind {
                    RelationKind::Table { files } => files.push(entry),
                    _ => return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a table"))),
                }
                Ok(())
            })
        })
        .await?;
        file.path = None;
        Ok(file.entry.rows)
    }

    async fn create(&self, table: NewTable, stream: Option<SendableRecordBatchStream>) -> Result<Option<u64>> {
        let NewTable { schema, name, owner, mut columns, if_not_exists } = table;
        if columns.is_empty()
            && let Some(stream) = &stream
        {
            columns = stream.schema().fields().iter().map(|f| ColumnEntry::new(f.name(), &SqlType::of_field(f))).collect();
        }
        // Everything that can be told before the first row is told before it.
        let mut trial = self.catalog.snapshot().as_ref().clone();
        if if_not_exists && trial.schema(&schema)?.relations.contains_key(&name) {
            return Ok(None);
        }
        trial.create_relation(&schema, &name, &owner, columns.clone(), RelationKind::Table { files: Vec::new() })?;
        let catalog = Arc::clone(&self.catalog);
        let oid = blocking(move || catalog.update(|data| data.allocate_oid())).await?;
        let mut file = match stream {
            Some(stream) => self.write(oid, &name, &columns, stream).await?,
            None => None,
        };
        let files: Vec<DataFile> = file.iter().map(|f| f.entry.clone()).collect();
        let rows = files.iter().map(|f| f.rows).sum();
        let catalog = Arc::clone(&self.catalog);
        let made = blocking(move || {
            catalog.update(|data| {
                if data.schema(&schema)?.relations.contains_key(&name) {
                    if if_not_exists {
                        return Ok(false);
                    }
                    return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
                }
                data.put_relation(&schema, &name, Relation { oid, owner, comment: None, columns, kind: RelationKind::Table { files } })?;
                Ok(true)
            })
        })
        .await?;
        if made && let Some(file) = &mut file {
            file.path = None;
        }
        Ok(made.then_some(rows))
    }

    async fn truncate(&self, schema: &str, name: &str) -> Result<()> {
        let (catalog, schema, name) = (Arc::clone(&self.catalog), schema.to_owned(), name.to_owned());
        let (oid, files) = blocking(move || {
            catalog.update(|data| {
                let relation = data.relation_mut(&schema, &name)?;
                match &mut relation.kind {
                    RelationKind::Table { files } => Ok((relation.oid, std::mem::take(files))),
                    _ => Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a table"))),
                }
            })
        })
        .await?;
        let directory = self.table_directory(oid);
        self.pin(oid).files.lock().extend(files.iter().map(|f| directory.join(&f.path)));
        Ok(())
    }

    fn dropped(&self, dropped: &[Dropped]) {
        for table in dropped.iter().filter(|d| matches!(d.relation.kind, RelationKind::Table { .. })) {
            // The last reader removes them; that is here when there is none.
            self.pin(table.relation.oid).dropped.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
