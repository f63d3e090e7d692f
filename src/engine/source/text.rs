//! `read_text`: the lines of text files.
//!
//! In: patterns. Out: (file, line_no from 1, content without its line end), files in parallel, lines of one file in order.
//! Compressed files are told by their suffix. Invariants: memory is bounded by one batch and one line a partition; a line
//! above 64 MiB is 54000, bytes that are not UTF-8 are 22021 with file and line. Deliberately absent: other encodings
//! (`file_text` has them).

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringBuilder};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use squilla_core::values::FileRef;

use super::files::FileAccess;
use super::listing::ListOptions;
use super::read_files::{files_array, name_of};
use super::rows::{RowSource, RowsExec};
use crate::error::{from_datafusion, to_datafusion};

const LINE_BYTES_MAX: usize = 64 << 20;
const BATCH_BYTES: usize = 4 << 20;

/// The columns of `read_text`.
pub fn columns() -> Vec<(&'static str, SqlType)> {
    vec![("file", SqlType::File), ("line_no", SqlType::Int8), ("content", SqlType::Text)]
}

/// Text files as a table of lines.
#[derive(Debug)]
pub struct TextTable {
    access: Arc<FileAccess>,
    patterns: Vec<String>,
    options: ListOptions,
    schema: SchemaRef,
}

impl TextTable {
    /// The lines of the files of these patterns.
    pub fn new(access: Arc<FileAccess>, patterns: Vec<String>, options: ListOptions) -> Self {
        let schema = Schema::new(columns().iter().map(|(name, ty)| ty.field(*name)).collect::<Vec<_>>());
        Self { access, patterns, options, schema: Arc::new(schema) }
    }
}

#[async_trait]
impl TableProvider for TextTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let projection: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let files: Vec<FileRef> =
            self.access.list_all_chunks(&self.patterns, &self.options).map_err(to_datafusion)?.try_concat().await.map_err(to_datafusion)?;
        let count = state.config().target_partitions().clamp(1, files.len().max(1));
        let mut groups = vec![VecDeque::new(); count];
        for (i, file) in files.into_iter().enumerate() {
            if let Some(group) = groups.get_mut(i % count) {
                group.push_back(file);
            }
        }
        let lines = Lines {
            access: Arc::clone(&self.access),
            patterns: self.patterns.clone(),
            groups,
            schema: Arc::new(self.schema.project(&projection)?),
            limit: limit.unwrap_or(usize::MAX),
        };
        Ok(lines.into_plan())
    }
}

/// Files of lines as a leaf of a plan.
#[derive(Debug)]
pub struct Lines {
    /// Reads.
    pub access: Arc<FileAccess>,
    /// Paths, URLs, patterns.
    pub patterns: Vec<String>,
    /// Files of each partition.
    pub groups: Vec<VecDeque<FileRef>>,
    /// What goes out.
    pub schema: SchemaRef,
    /// At most so many lines a partition.
    pub limit: usize,
}

impl Lines {
    /// The node.
    pub fn into_plan(self) -> Arc<dyn ExecutionPlan> {
        Arc::new(RowsExec::new("ReadTextExec", Arc::new(self)))
    }
}

impl RowSource for Lines {
    fn describe(&self) -> String {
        format!("patterns=[{}], files={}", self.patterns.join(", "), self.groups.iter().map(VecDeque::len).sum::<usize>())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        self.groups.len()
    }

    fn rows(&self, partition: usize, context: &Arc<TaskContext>) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        let reader = Reader {
            access: Arc::clone(&self.access),
            files: self.groups.get(partition).cloned().unwrap_or_default(),
            open: None,
            schema: Arc::clone(&self.schema),
            batch_rows: context.session_config().batch_size(),
            left: self.limit,
        };
        Ok(stream::try_unfold(reader, |mut reader| async move { Ok(reader.batch().await.map_err(to_datafusion)?.map(|batch| (batch, reader))) })
            .boxed())
    }
}

/// A file being read.
struct OpenFile {
    file: FileRef,
    bytes: BoxStream<'static, DfResult<Bytes>>,
    buffer: BytesMut,
    /// How far the buffer is known to have no line end.
    searched: usize,
    line: i64,
    ended: bool,
}

struct Reader {
    access: Arc<FileAccess>,
    files: VecDeque<FileRef>,
    open: Option<OpenFile>,
    schema: SchemaRef,
    batch_rows: usize,
    left: usize,
}

impl Reader {
    /// Lines of one file; None at the end of the last.
    async fn batch(&mut self) -> Result<Option<RecordBatch>> {
        while self.left > 0 {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.files.pop_front() {
                    Some(file) => self.begin(file).await?,
                    None => return Ok(None),
                },
            };
            let (mut lines, mut bytes, first) = (StringBuilder::new(), 0, open.line + 1);
            let (mut count, mut more) = (0, true);
            while count < self.batch_rows.min(self.left) && bytes < BATCH_BYTES {
                let Some(line) = open.next().await? else {
                    more = false;
                    break;
                };
                bytes += line.len();
                count += 1;
                lines.append_value(open.text(&line)?);
            }
            self.left -= count;
            let batch = if count == 0 { None } else { Some(self.shape(&open.file, first, count, lines)?) };
            self.open = more.then_some(open);
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    async fn begin(&mut self, file: FileRef) -> Result<OpenFile> {
        let bytes = self.access.stream(&file).await?.map_err(to_datafusion).boxed();
        let suffix = name_of(&file.uri).rsplit_once('.').map_or("", |(_, suffix)| suffix);
        let compression: FileCompressionType = suffix.parse().unwrap_or(FileCompressionType::UNCOMPRESSED);
        let bytes = compression.convert_stream(bytes).map_err(from_datafusion)?;
        Ok(OpenFile { file, bytes, buffer: BytesMut::new(), searched: 0, line: 0, ended: false })
    }

    fn shape(&self, file: &FileRef, first: i64, count: usize, mut lines: StringBuilder) -> Result<RecordBatch> {
        let columns = self.schema.fields().iter().map(|field| {
            Ok(match field.name().as_str() {
                "file" => files_array(&vec![file.clone(); count])?,
                "line_no" => Arc::new(Int64Array::from_iter_values(first..first + count as i64)) as ArrayRef,
                _ => Arc::new(lines.finish()) as ArrayRef,
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(crate::error::from_arrow)
    }
}

impl OpenFile {
    /// The next line with its end taken off.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(found) = fresh.iter().position(|b| *b == b'\n') {
                let mut line = self.buffer.split_to(self.searched + found);
                self.buffer.advance(1);
                self.searched = 0;
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                self.line += 1;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.ended {
                let rest = self.buffer.split();
                self.searched = 0;
                self.line += i64::from(!rest.is_empty());
                return Ok((!rest.is_empty()).then(|| rest.freeze()));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Error::new(
                    Kind::LimitExceeded,
                    format!("line {} of \"{}\" has more than {LINE_BYTES_MAX} bytes", self.line + 1, self.file.uri),
                ));
            }
            match self.bytes.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.map_err(from_datafusion)?),
                None => self.ended = true,
            }
        }
    }

    fn text<'a>(&self, line: &'a Bytes) -> Result<&'a str> {
        // A byte order mark is no text.
        let line: &'a [u8] = line.as_ref();
        let line = if self.line == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        std::str::from_utf8(line).map_err(|_| {
            Error::new(Kind::InvalidEncoding, "invalid byte sequence for encoding \"UTF8\"")
                .detail(format!("It is in line {} of \"{}\".", self.line, self.file.uri))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn read(pattern: &str) -> DfResult<Vec<(i64, String)>> {
        let table = TextTable::new(FileAccess::new(), vec![pattern.to_owned()], ListOptions::default());
        let batches = SessionContext::new().read_table(Arc::new(table))?.collect().await?;
        let mut out = Vec::new();
        for batch in &batches {
            let numbers = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
            let lines = batch.column(2).as_any().downcast_ref::<datafusion::arrow::array::StringArray>().unwrap();
            out.extend(numbers.iter().flatten().zip(lines.iter().flatten().map(str::to_owned)));
        }
        Ok(out)
    }

    #[tokio::test]
    async fn lines_and_their_ends() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(at("a.txt"), b"\xef\xbb\xbfone\r\n\ntwo\nlast").unwrap();
        std::fs::write(at("empty.txt"), b"").unwrap();
        let pairs = |v: &[(i64, &str)]| v.iter().map(|(n, t)| (*n, (*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(read(&at("*.txt")).await.unwrap(), pairs(&[(1, "one"), (2, ""), (3, "two"), (4, "last")]));
        let long: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
        std::fs::write(at("long.log"), &long).unwrap();
        let lines = read(&at("long.log")).await.unwrap();
        assert_eq!((lines.len(), lines[19_999].clone()), (20_000, (20_000, "line 19999".to_owned())));
        std::fs::write(at("bad.bin"), b"ok\n\xff\n").unwrap();
        let error = from_datafusion(read(&at("bad.bin")).await.unwrap_err());
        assert_eq!(error.sqlstate(), "22021");
        assert!(error.detail.unwrap().contains("line 2"));
        assert_eq!(from_datafusion(read(&at("none.txt")).await.unwrap_err()).sqlstate(), "58P01");
    }
}
