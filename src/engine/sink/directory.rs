//! `COPY ... TO 'directory' (PARTITION_BY (...), MAX_FILE_SIZE '...')`: many files that appear together.
//!
//! In: a stream of batches and a layout. Out: `key=value/part-N.ext` below the location, partition columns in the names
//! and not in the files, as Hive, Spark and DuckDB have it. Invariants: a local directory is written under a hidden name
//! beside the target and renamed over it, so that readers see all of it or nothing; objects are uploaded in parts that
//! nobody sees, completed at the end, and `_manifest.json`, written last, names them; at most `OPEN_MAX` files are
//! open, so memory does not grow with the number of partitions. A directory with something in it is refused unless
//! OVERWRITE is given, which swaps the two; in a bucket, readers may meet both while the old objects go.
//! Deliberately absent: appending to a directory.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use squilla_core::error::{Error, Kind, Result};
use squilla_store::disk::sync_directory;

use super::copy::{self, CopyFormat};
use super::encode::Encoder;
use super::target::{LocalFile, Target};
use crate::error::{from_arrow, from_datafusion};
use crate::source::files::{FileAccess, blocking, remote_error};
use crate::source::location::Location;
use crate::statement::copy::CopyOption;

/// Files open at a time; the one that was written to longest ago is finished for the next.
const OPEN_MAX: usize = 64;
/// A row group of one of many open files.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// How Hive names the partition of NULL.
const NULL_NAME: &str = "__HIVE_DEFAULT_PARTITION__";

/// COPY's options by name.
type Options = Vec<(String, CopyOption)>;

/// How rows go to files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Columns by place, in the order of the directories.
    partition_by: Vec<usize>,
    /// A file that has so many bytes gets no more rows.
    file_bytes_max: Option<u64>,
    /// What is there is replaced.
    overwrite: bool,
}

impl Layout {
    /// Takes PARTITION_BY, MAX_FILE_SIZE and OVERWRITE out of the options. None when there is neither of the first two.
    pub fn take(options: &[(String, CopyOption)], schema: &Schema) -> Result<(Options, Option<Self>)> {
        let mut layout = Self { partition_by: Vec::new(), file_bytes_max: None, overwrite: false };
        let mut rest = Vec::new();
        for (name, option) in options {
            match name.as_str() {
                "partition_by" => layout.partition_by = columns(option, schema)?,
                "max_file_size" => {
                    let text = copy::value(option, name)?;
                    let bytes = squilla_core::settings::parse_bytes(text).filter(|b| *b > 0);
                    let wrong =
                        || Error::invalid_argument(format!("invalid value for option \"{name}\": \"{text}\"")).hint("Write a size such as '512MB'.");
                    layout.file_bytes_max = Some(bytes.ok_or_else(wrong)?);
                }
                "overwrite" => layout.overwrite = copy::flag(option, name)?,
                _ => rest.push((name.clone(), option.clone())),
            }
        }
        if layout.partition_by.is_empty() && layout.file_bytes_max.is_none() {
            // One file: renaming it over what is there is what OVERWRITE asks for.
            return Ok((rest, None));
        }
        Ok((rest, Some(layout)))
    }
}

fn columns(option: &CopyOption, schema: &Schema) -> Result<Vec<usize>> {
    let names = match option {
        CopyOption::List(names) => names.clone(),
        CopyOption::Value(name) => vec![name.clone()],
        CopyOption::Flag => return Err(Error::new(Kind::Syntax, "option \"partition_by\" requires a list of columns")),
    };
    let mut places = Vec::new();
    for name in &names {
        let place = schema.fields().iter().position(|f| f.name() == name);
        let place = place.ok_or_else(|| Error::new(Kind::UndefinedColumn, format!("column \"{name}\" does not exist")))?;
        if places.contains(&place) {
            return Err(Error::new(Kind::DuplicateColumn, format!("column \"{name}\" appears twice in PARTITION_BY")));
        }
        places.push(place);
    }
    if places.len() == schema.fields().len() {
        return Err(Error::invalid_argument("PARTITION_BY names every column").hint("A file needs a column that is not in its path."));
    }
    Ok(places)
}

/// Writes the stream below `location`: the rows. 58P02 when something is there.
pub async fn copy_to(stream: SendableRecordBatchStream, location: &str, format: CopyFormat, layout: Layout, access: &Arc<FileAccess>) -> Result<u64> {
    let extension = format.extension();
    let place = Place::begin(location, layout.overwrite, access).await?;
    let mut writer = Writer::new(stream.schema(), format, layout, place, extension, access)?;
    match writer.write_all(stream).await {
        Ok(()) => writer.commit().await,
        Err(error) => {
            writer.abort().await;
            Err(error)
        }
    }
}

/// Counts what an encoder writes.
struct Counted<W> {
    inner: W,
    bytes: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

struct Open {
    name: String,
    encoder: Box<dyn Encoder>,
    target: Target,
    bytes: Arc<AtomicU64>,
    used: u64,
}

struct Writer {
    /// Of the files.
    schema: SchemaRef,
    kept: Vec<usize>,
    keys: Option<RowConverter>,
    names: Vec<String>,
    layout: Layout,
    format: CopyFormat,
    extension: &'static str,
    place: Place,
    access: Arc<FileAccess>,
    open: HashMap<String, Open>,
    files: u64,
    clock: u64,
    rows: u64,
}

impl Writer {
    fn new(schema: SchemaRef, format: CopyFormat, layout: Layout, place: Place, extension: &'static str, access: &Arc<FileAccess>) -> Result<Self> {
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|i| !layout.partition_by.contains(i)).collect();
        let fields = layout.partition_by.iter().filter_map(|i| schema.fields().get(*i)).collect::<Vec<_>>();
        let keys = match fields.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields.iter().map(|f| SortField::new(f.data_type().clone())).collect()).map_err(from_arrow)?),
        };
        let names = fields.iter().map(|f| escaped(f.name())).collect();
        let format = match format {
            CopyFormat::Parquet(mut options) => {
                let most = layout.file_bytes_max.map_or(usize::MAX, |b| usize::try_from(b).unwrap_or(usize::MAX));
                options.group_bytes = options.group_bytes.min(GROUP_BYTES_MAX).min(most);
                CopyFormat::Parquet(options)
            }
            other => other,
        };
        let schema = Arc::new(schema.project(&kept).map_err(from_arrow)?);
        let access = Arc::clone(access);
        Ok(Self { schema, kept, keys, names, layout, format, extension, place, access, open: HashMap::new(), files: 0, clock: 0, rows: 0 })
    }

    async fn write_all(&mut self, mut stream: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = stream.next().await {
            self.write(&batch.map_err(from_datafusion)?).await?;
        }
        Ok(())
    }

    async fn abort(self) {
        for (_, open) in self.open {
            open.target.abort().await;
        }
        if let Place::Remote { done, .. } = self.place {
            for (_, target) in done {
                target.abort().await;
            }
        }
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        let rest = batch.project(&self.kept).map_err(from_arrow)?;
        let rest = RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            rest.columns().to_vec(),
            &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        )
        .map_err(from_arrow)?;
        if self.keys.is_none() {
            return self.append(String::new(), rest).await;
        }
        for (directory, rows) in self.split(batch)? {
            let part = if rows.len() == batch.num_rows() { rest.clone() } else { taken(&rest, &rows)? };
            self.append(directory, part).await?;
        }
        Ok(())
    }

    /// The rows of each directory, in the order of their first rows.
    fn split(&mut self, batch: &RecordBatch) -> Result<Vec<(String, UInt32Array)>> {
        let columns: Vec<ArrayRef> = self.layout.partition_by.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let Some(keys) = &self.keys else { return Ok(Vec::new()) };
        let keys = keys.convert_columns(&columns).map_err(from_arrow)?;
        let mut places: HashMap<OwnedRow, usize> = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let next = groups.len();
            let at = *places.entry(key.owned()).or_insert(next);
            if at == next {
                groups.push(Vec::new());
            }
            if let Some(group) = groups.get_mut(at) {
                group.push(row as u32);
            }
        }
        let options = FormatOptions::default();
        let formatters = columns.iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options)).collect::<Result<Vec<_>, _>>().map_err(from_arrow)?;
        let named = groups.into_iter().map(|rows| {
            let first = rows.first().map_or(0, |r| *r as usize);
            let parts: Vec<String> = columns
                .iter()
                .zip(&formatters)
                .zip(&self.names)
                .map(|((column, formatter), name)| {
                    let value = if column.is_null(first) { NULL_NAME.to_owned() } else { escaped(&formatter.value(first).to_string()) };
                    format!("{name}={value}/")
                })
                .collect();
            (parts.concat(), UInt32Array::from(rows))
        });
        Ok(named.collect())
    }

    async fn append(&mut self, directory: String, batch: RecordBatch) -> Result<()> {
        let mut open = match self.open.remove(&directory) {
            Some(open) => open,
            None => self.begin(&directory).await?,
        };
        self.clock += 1;
        open.used = self.clock;
        open.encoder = encode(open.encoder, move |e| e.write(&batch)).await?;
        open.target.advance().await?;
        if self.layout.file_bytes_max.is_some_and(|most| open.bytes.load(Ordering::Relaxed) >= most) {
            return self.finish(open).await;
        }
        self.open.insert(directory, open);
        Ok(())
    }

    async fn begin(&mut self, directory: &str) -> Result<Open> {
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, o)| o.used).map(|(d, _)| d.clone());
            if let Some(open) = oldest.and_then(|d| self.open.remove(&d)) {
                self.finish(open).await?;
            }
        }
        let name = format!("{directory}part-{}{}.{}", self.place.tag(), self.files, self.extension);
        self.files += 1;
        let (target, writer) = self.place.create(&name, &self.access).await?;
        let bytes = Arc::new(AtomicU64::new(0));
        let writer = Box::new(Counted { inner: writer, bytes: Arc::clone(&bytes) });
        Ok(Open { name, encoder: copy::encoder(self.format.clone(), &self.schema, writer)?, target, bytes, used: 0 })
    }

    async fn finish(&mut self, open: Open) -> Result<()> {
        drop(encode(open.encoder, |e| e.finish()).await?);
        let mut target = open.target;
        target.drain().await?;
        self.place.finished(open.name, target).await
    }

    async fn commit(mut self) -> Result<u64> {
        if self.files == 0 && self.keys.is_none() {
            // Readers find the columns in a file without rows.
            let open = self.begin("").await?;
            self.open.insert(String::new(), open);
        }
        for (_, open) in std::mem::take(&mut self.open) {
            self.finish(open).await?;
        }
        self.place.commit(self.rows, &self.access).await?;
        Ok(self.rows)
    }
}

async fn encode(mut encoder: Box<dyn Encoder>, step: impl FnOnce(&mut dyn Encoder) -> Result<()> + Send + 'static) -> Result<Box<dyn Encoder>> {
    blocking(move || {
        step(encoder.as_mut())?;
        Ok(encoder)
    })
    .await
}

fn taken(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|c| take(c, rows, None)).collect::<Result<Vec<_>, _>>().map_err(from_arrow)?;
    RecordBatch::try_new_with_options(batch.schema(), columns, &RecordBatchOptions::new().with_row_count(Some(rows.len()))).map_err(from_arrow)
}

/// What Hive escapes in names of directories.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^') {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")));
        } else {
            out.push(c);
        }
    }
    // A name of dots alone, or none, is not a name.
    if out.chars().all(|c| c == '.') { out.replace('.', "%2E") } else { out }
}

/// Where the files are until they are shown.
enum Place {
    Local(Staged),
    Remote { base: Location, uri: String, tag: String, done: Vec<(String, Target)>, names: Vec<String>, old: Vec<String> },
}

/// A hidden directory, gone when dropped.
struct Staged {
    hidden: PathBuf,
    shown: PathBuf,
    overwrite: bool,
    kept: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.hidden);
        }
    }
}

fn not_empty(shown: &str) -> Error {
    Error::new(Kind::DuplicateFile, format!("directory \"{shown}\" is not empty")).hint("Add the option OVERWRITE to replace what is in it.")
}

impl Place {
    async fn begin(text: &str, overwrite: bool, access: &Arc<FileAccess>) -> Result<Self> {
        let location = Location::parse(text)?;
        match &location {
            Location::Local(path) => {
                let path = path.clone();
                blocking(move || Staged::begin(&path, overwrite)).await.map(Place::Local)
            }
            Location::Http(_) => {
                Err(Error::unsupported("COPY of several files to an HTTP server is not supported")
                    .hint("Write to an object store or a local directory."))
            }
            Location::Object { cloud, bucket, key } => {
                let key = if key.is_empty() || key.ends_with('/') { key.clone() } else { format!("{key}/") };
                let base = Location::Object { cloud: *cloud, bucket: bucket.clone(), key: key.clone() };
                let store = access.bucket(*cloud, bucket).await?;
                let prefix = object_store::path::Path::from(key.trim_end_matches('/'));
                let there = store.list(Some(&prefix)).map_ok(|o| o.location.to_string());
                let old: Vec<String> =
                    if overwrite { there.try_collect().await } else { there.take(1).try_collect().await }.map_err(|e| remote_error(&base, e))?;
                if !old.is_empty() && !overwrite {
                    return Err(not_empty(&base.shown()));
                }
                // Names of this statement alone: what is replaced keeps its own until it goes.
                let tag = format!("{}-", uuid::Uuid::new_v4().simple().to_string().get(..8).unwrap_or_default());
                Ok(Place::Remote { uri: base.to_uri(), base, tag, done: Vec::new(), names: Vec::new(), old })
            }
        }
    }

    fn tag(&self) -> &str {
        match self {
            Place::Local(_) => "",
            Place::Remote { tag, .. } => tag,
        }
    }

    async fn create(&mut self, name: &str, access: &Arc<FileAccess>) -> Result<(Target, Box<dyn Write + Send>)> {
        match self {
            Place::Local(staged) => {
                let path = staged.hidden.join(name);
                let file = blocking(move || LocalFile::create(&path, true)).await?;
                let writer = Box::new(file.writer());
                Ok((Target::local(file), writer))
            }
            Place::Remote { uri, names, .. } => {
                names.push(name.to_owned());
                Target::create(&format!("{uri}{name}"), "", access).await
            }
        }
    }

    async fn finished(&mut self, name: String, target: Target) -> Result<()> {
        match self {
            // Renamed within the hidden directory.
            Place::Local(_) => target.commit().await,
            Place::Remote { done, .. } => {
                done.push((name, target));
                Ok(())
            }
        }
    }

    async fn commit(self, rows: u64, access: &Arc<FileAccess>) -> Result<()> {
        match self {
            Place::Local(staged) => blocking(move || staged.commit()).await,
            Place::Remote { base, uri, done, names, old, .. } => {
                let mut shown = Vec::new();
                let mut waiting = done.into_iter();
                while let Some((name, target)) = waiting.next() {
                    if let Err(error) = target.commit().await {
                        for (_, target) in waiting {
                            target.abort().await;
                        }
                        remove(&base, &shown, access).await;
                        return Err(error);
                    }
                    shown.push(name);
                }
                let manifest = serde_json::json!({ "format_version": 1, "rows": rows, "files": names }).to_string();
                let (mut target, mut writer) = Target::create(&format!("{uri}_manifest.json"), "", access).await?;
                writer.write_all(manifest.as_bytes()).map_err(|e| Error::io("could not write the manifest", e))?;
                drop(writer);
                target.advance().await?;
                target.commit().await?;
                let Location::Object { cloud, bucket, .. } = &base else { return Ok(()) };
                let store = access.bucket(*cloud, bucket).await?;
                for key in old.iter().filter(|k| !k.ends_with("/_manifest.json")) {
                    let path = object_store::path::Path::parse(key).map_err(|e| Error::internal(format!("a listed key does not parse: {e}")))?;
                    store.delete(&path).await.map_err(|e| remote_error(&base, e))?;
                }
                Ok(())
            }
        }
    }
}

/// Takes objects away that a failed commit has shown already.
async fn remove(base: &Location, names: &[String], access: &Arc<FileAccess>) {
    let Location::Object { cloud, bucket, key } = base else { return };
    let Ok(store) = access.bucket(*cloud, bucket).await else { return };
    for name in names {
        let Ok(path) = object_store::path::Path::parse(format!("{key}{name}")) else { continue };
        if let Err(error) = store.delete(&path).await {
            tracing::warn!(%path, %error, "could not remove an object of a failed COPY");
        }
    }
}

impl Staged {
    fn begin(path: &Path, overwrite: bool) -> Result<Self> {
        let io = |e| Error::io(format!("could not create \"{}\"", path.display()), e);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid_argument(format!("\"{}\" is not the name of a directory", path.display())));
        };
        if path.exists() && !path.is_dir() {
            return Err(Error::new(Kind::DuplicateFile, format!("\"{}\" is not a directory", path.display())));
        }
        if !overwrite && path.is_dir() && std::fs::read_dir(path).map_err(io)?.next().is_some() {
            return Err(not_empty(&path.display().to_string()));
        }
        let hidden = parent.join(format!(".{}.{}.tmp", name.to_string_lossy(), uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&hidden).map_err(io)?;
        Ok(Self { hidden, shown: path.to_owned(), overwrite, kept: false })
    }

    fn commit(mut self) -> Result<()> {
        let io = |e: std::io::Error| Error::io(format!("could not write \"{}\"", self.shown.display()), e);
        sync_directory(&self.hidden).map_err(io)?;
        // An empty directory is replaced by rename alone.
        match std::fs::rename(&self.hidden, &self.shown) {
            Ok(()) => self.kept = true,
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty && self.overwrite => {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                renameat_with(CWD, &self.hidden, CWD, &self.shown, RenameFlags::EXCHANGE).map_err(|e| io(e.into()))?;
                // The hidden name is now that of the old files, which go with the drop.
            }
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => return Err(not_empty(&self.shown.display().to_string())),
            Err(e) => return Err(io(e)),
        }
        match self.shown.parent() {
            Some(parent) => sync_directory(parent).map_err(io),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a/b=c d"), "a%2Fb%3Dc d");
        assert_eq!(escaped(".."), "%2E%2E");
        assert_eq!(escaped("ü"), "ü");
    }
}
