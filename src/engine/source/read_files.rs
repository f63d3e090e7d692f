//! `read_files` and `glob`: files and objects as rows.
//!
//! In: patterns and options. Out: one row a file: file, uri, name, ext, size, last_modified, etag; for `glob` its URI.
//! Invariants: nothing is listed before the plan runs; filters on these columns and LIMIT work inside the listing, so a
//! LIMIT 1 over millions of files looks at few of them; contents are not read here. Deliberately absent: the column
//! `content` (the binder writes it as `file_content(file)`).

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, Volatility};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use futures::stream::{self, BoxStream, StreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;
use squilla_core::values::FileRef;

use super::files::FileAccess;
use super::listing::{Chunks, ListOptions};
use super::rows::{RowSource, RowsExec};
use crate::error::to_datafusion;

/// The columns of `read_files`.
pub fn columns() -> Vec<(&'static str, SqlType)> {
    vec![
        ("file", SqlType::File),
        ("uri", SqlType::Text),
        ("name", SqlType::Text),
        ("ext", SqlType::Text),
        ("size", SqlType::Int8),
        ("last_modified", SqlType::Timestamptz),
        ("etag", SqlType::Text),
    ]
}

/// A listing as a table.
#[derive(Debug)]
pub struct ListedFiles {
    access: Arc<FileAccess>,
    patterns: Vec<String>,
    options: ListOptions,
    schema: SchemaRef,
}

impl ListedFiles {
    /// `read_files(patterns, ...)`
    pub fn new(access: Arc<FileAccess>, patterns: Vec<String>, options: ListOptions) -> Self {
        let schema = Schema::new(columns().iter().map(|(name, ty)| ty.field(*name)).collect::<Vec<_>>());
        Self { access, patterns, options, schema: Arc::new(schema) }
    }

    /// `glob(pattern)`: one column of that name with the URI.
    pub fn glob(access: Arc<FileAccess>, patterns: Vec<String>, options: ListOptions) -> Self {
        Self { access, patterns, options, schema: Arc::new(Schema::new(vec![SqlType::Text.field("glob")])) }
    }
}

/// Built-in functions that are cheap and never fail: those that may run inside the listing.
const CHEAP: &[&str] = &[
    "lower",
    "upper",
    "starts_with",
    "ends_with",
    "contains",
    "strpos",
    "position",
    "substr",
    "substring",
    "left",
    "right",
    "split_part",
    "character_length",
    "char_length",
    "length",
    "octet_length",
    "btrim",
    "ltrim",
    "rtrim",
    "reverse",
    "replace",
    "concat",
    "coalesce",
    "date_trunc",
    "date_part",
    "regexp_like",
    "nullif",
];

/// Whether the listing can answer the filter by itself.
fn works_inside(filter: &Expr) -> bool {
    let mut fits = true;
    let walked = filter.apply(|e| {
        let fine = match e {
            // The struct is for reading; what it holds is in the other columns.
            Expr::Column(column) => column.name != "file",
            Expr::ScalarFunction(f) => f.func.signature().volatility == Volatility::Immutable && CHEAP.contains(&f.func.name()),
            Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_) => true,
            Expr::Between(_)
            | Expr::InList(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::Negative(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_) => true,
            _ => false,
        };
        fits &= fine;
        Ok(if fine { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    fits && walked.is_ok()
}

#[async_trait]
impl TableProvider for ListedFiles {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let answer = |f: &&Expr| if works_inside(f) { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Unsupported };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let output: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let mut needed = output.clone();
        for column in filters.iter().flat_map(Expr::column_refs) {
            needed.push(self.schema.index_of(&column.name)?);
        }
        needed.sort_unstable();
        needed.dedup();
        let wide = Arc::new(self.schema.project(&needed)?);
        let df_schema = DFSchema::try_from(Arc::clone(&wide))?;
        let filters = filters
            .iter()
            .map(|f| {
                // The provider's columns have no qualifier.
                let plain = f.clone().transform(|e| {
                    Ok(match e {
                        Expr::Column(c) => {
                            datafusion::common::tree_node::Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(c.name)))
                        }
                        other => datafusion::common::tree_node::Transformed::no(other),
                    })
                })?;
                state.create_physical_expr(plain.data, &df_schema)
            })
            .collect::<DfResult<Vec<_>>>()?;
        let details = wide.fields().iter().any(|f| matches!(f.name().as_str(), "file" | "size" | "last_modified" | "etag"));
        let positions = output.iter().filter_map(|i| needed.binary_search(i).ok()).collect();
        let listing = Listing {
            access: Arc::clone(&self.access),
            patterns: self.patterns.clone(),
            options: ListOptions { details, ..self.options.clone() },
            schema: Arc::new(self.schema.project(&output)?),
            wide,
            positions,
            filters,
            limit,
        };
        Ok(listing.into_plan())
    }
}

/// A listing as a leaf of a plan.
#[derive(Debug)]
pub struct Listing {
    /// Lists.
    pub access: Arc<FileAccess>,
    /// Paths, URLs, patterns.
    pub patterns: Vec<String>,
    /// How.
    pub options: ListOptions,
    /// What goes out.
    pub schema: SchemaRef,
    /// What filters need, too.
    pub wide: SchemaRef,
    /// Columns of `wide` that go out.
    pub positions: Vec<usize>,
    /// Conditions over `wide`.
    pub filters: Vec<Arc<dyn PhysicalExpr>>,
    /// At most so many rows.
    pub limit: Option<usize>,
}

impl Listing {
    /// The node.
    pub fn into_plan(self) -> Arc<dyn ExecutionPlan> {
        Arc::new(RowsExec::new("ListFilesExec", Arc::new(self)))
    }
}

impl RowSource for Listing {
    fn describe(&self) -> String {
        let mut text = format!("patterns=[{}]", self.patterns.join(", "));
        if !self.filters.is_empty() {
            let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
            text.push_str(&format!(", filter={}", filters.join(" AND ")));
        }
        if let Some(limit) = self.limit {
            text.push_str(&format!(", limit={limit}"));
        }
        text
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn rows(&self, _: usize, _: &Arc<TaskContext>) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        let chunks = self.access.list_all_chunks(&self.patterns, &self.options).map_err(to_datafusion)?;
        let shape = Shape {
            schema: Arc::clone(&self.schema),
            wide: Arc::clone(&self.wide),
            positions: self.positions.clone(),
            filters: self.filters.clone(),
        };
        Ok(rows(chunks, shape, self.limit.unwrap_or(usize::MAX)))
    }
}

/// How files become rows.
struct Shape {
    schema: SchemaRef,
    wide: SchemaRef,
    positions: Vec<usize>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
}

fn rows(chunks: Chunks, shape: Shape, limit: usize) -> BoxStream<'static, DfResult<RecordBatch>> {
    let shape = Arc::new(shape);
    let state = (chunks, shape, limit);
    stream::try_unfold(state, |(mut chunks, shape, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        while let Some(files) = chunks.next().await {
            let batch = shape.batch(&files.map_err(to_datafusion)?)?;
            if batch.num_rows() > 0 {
                let batch = batch.slice(0, batch.num_rows().min(left));
                let left = left - batch.num_rows();
                return Ok(Some((batch, (chunks, shape, left))));
            }
        }
        Ok(None)
    })
    .boxed()
}

impl Shape {
    fn batch(&self, files: &[FileRef]) -> DfResult<RecordBatch> {
        let arrays = self.wide.fields().iter().map(|field| column(field.name(), files)).collect::<Result<Vec<_>>>().map_err(to_datafusion)?;
        let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
        let mut batch = RecordBatch::try_new_with_options(Arc::clone(&self.wide), arrays, &options)?;
        for filter in &self.filters {
            let mask = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
            let mask: &BooleanArray = as_boolean_array(&mask)?;
            batch = filter_record_batch(&batch, mask)?;
        }
        let arrays = self.positions.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

fn texts<'a>(files: &'a [FileRef], of: impl Fn(&'a FileRef) -> Option<&'a str>) -> ArrayRef {
    Arc::new(files.iter().map(of).collect::<StringArray>())
}

fn modified(files: &[FileRef]) -> ArrayRef {
    Arc::new(files.iter().map(|f| f.last_modified_us).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn column(name: &str, files: &[FileRef]) -> Result<ArrayRef> {
    Ok(match name {
        "uri" | "glob" => texts(files, |f| Some(&f.uri)),
        "name" => texts(files, |f| Some(name_of(&f.uri))),
        "ext" => texts(files, |f| extension_of(&f.uri)),
        "size" => Arc::new(files.iter().map(|f| f.size).collect::<Int64Array>()),
        "last_modified" => modified(files),
        "etag" => texts(files, |f| f.etag.as_deref()),
        "file" => files_array(files)?,
        other => return Err(Error::internal(format!("read_files has no column {other}"))),
    })
}

/// References as a column of type file.
pub fn files_array(files: &[FileRef]) -> Result<ArrayRef> {
    let DataType::Struct(fields) = SqlType::File.arrow() else { return Err(Error::internal("file is not a struct")) };
    let columns = vec![
        texts(files, |f| Some(&f.uri)),
        Arc::new(files.iter().map(|f| f.size).collect::<Int64Array>()) as ArrayRef,
        texts(files, |f| f.etag.as_deref()),
        modified(files),
        texts(files, |f| f.content_type.as_deref()),
    ];
    StructArray::try_new(fields, columns, None).map(|a| Arc::new(a) as ArrayRef).map_err(|e| Error::internal(format!("file column: {e}")))
}

/// The last part of the path; the query of a URL is not part of it.
pub fn name_of(uri: &str) -> &str {
    let path = match uri.split_once("://") {
        Some((scheme, rest)) => {
            let rest = if scheme.starts_with("http") { rest.split(['?', '#']).next().unwrap_or(rest) } else { rest };
            rest.split_once('/').map_or("", |(_, path)| path)
        }
        None => uri,
    };
    path.rsplit('/').next().unwrap_or(path)
}

/// What follows the last dot of the name, if anything does.
pub fn extension_of(uri: &str) -> Option<&str> {
    let (stem, extension) = name_of(uri).rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::prelude::{SessionContext, col, lit};

    use super::*;

    async fn explain(frame: datafusion::prelude::DataFrame) -> String {
        let batches = frame.explain(false, false).unwrap().collect().await.unwrap();
        datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
    }

    #[tokio::test]
    async fn filters_and_limits_work_inside() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..100 {
            std::fs::write(dir.path().join(format!("f{i:03}.{}", if i % 2 == 0 { "jpg" } else { "png" })), vec![0; i]).unwrap();
        }
        let context = SessionContext::new();
        let pattern = format!("{}/*", dir.path().display());
        let files = ListedFiles::new(FileAccess::new(), vec![pattern.clone()], ListOptions::default());
        let frame = context.read_table(Arc::new(files)).unwrap();
        let picked = frame.clone().filter(col("ext").eq(lit("jpg")).and(col("size").gt_eq(lit(90_i64)))).unwrap().select_columns(&["name"]).unwrap();
        let plan = explain(picked.clone()).await;
        assert!(!plan.contains("FilterExec") && plan.contains("filter="), "{plan}");
        let batches = picked.collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
        let limited = frame.clone().limit(0, Some(3)).unwrap();
        let plan = explain(limited.clone()).await;
        assert!(plan.contains("limit=3"), "{plan}");
        assert_eq!(limited.count().await.unwrap(), 3);
        assert_eq!(frame.count().await.unwrap(), 100);
        let names = ListedFiles::glob(FileAccess::new(), vec![pattern], ListOptions::default());
        let batches = context.read_table(Arc::new(names)).unwrap().collect().await.unwrap();
        assert_eq!(batches[0].num_rows(), 32);
    }

    #[test]
    fn names() {
        assert_eq!((name_of("s3://b/a/x.tar.gz"), extension_of("s3://b/a/x.tar.gz")), ("x.tar.gz", Some("gz")));
        assert_eq!((name_of("https://h/p/x.jpg?sig=a/b"), extension_of("https://h/p/x.jpg?sig=a/b")), ("x.jpg", Some("jpg")));
        assert_eq!((name_of("/a/.hidden"), extension_of("/a/.hidden")), (".hidden", None));
        assert_eq!(name_of("https://host"), "");
    }
}
