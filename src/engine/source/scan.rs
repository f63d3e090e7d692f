//! Tables in files: Parquet, CSV, JSON through DataFusion's readers.
//!
//! In: a format, a schema, and files fixed or listed. Out: a provider. Invariants: patterns are listed when the statement
//! is planned for execution, so a prepared statement sees new files; field metadata that marks our types survives; a
//! reader that goes away stops the reading. Deliberately absent: writing, and formats without a DataFusion reader.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::stream::{self, StreamExt, TryStreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;
use squilla_core::values::FileRef;

use super::files::FileAccess;
use super::listing::ListOptions;
use super::location::percent_decode;
use super::object::{self, object_meta};
use crate::error::to_datafusion;

/// More files than this are scanned without looking at their statistics first.
const STATISTICS_FILES_MAX: usize = 4096;

/// The files of a table.
#[derive(Clone, Debug)]
pub enum FileSet {
    /// Listed anew for every execution.
    Listed {
        /// Paths, URLs, patterns.
        patterns: Vec<String>,
        /// How.
        options: ListOptions,
    },
    /// These, and something that keeps them from being deleted while a plan needs them.
    Fixed(Vec<FileRef>, Arc<dyn std::any::Any + Send + Sync>),
}

/// A table in files.
#[derive(Debug)]
pub struct FilesTable {
    access: Arc<FileAccess>,
    files: FileSet,
    format: Arc<dyn FileFormat>,
    table: TableSchema,
    partitions: Vec<(String, SqlType)>,
    /// Whether the format keeps statistics.
    statistics: bool,
}

impl FilesTable {
    /// `file_schema` is what each file holds; `partitions` are columns read from `name=value` directories.
    pub fn new(
        access: Arc<FileAccess>,
        files: FileSet,
        format: Arc<dyn FileFormat>,
        file_schema: SchemaRef,
        partitions: Vec<(String, SqlType)>,
        statistics: bool,
    ) -> Self {
        let columns: Vec<FieldRef> = partitions.iter().map(|(name, ty)| Arc::new(ty.field(name))).collect();
        let table = TableSchema::builder(file_schema).with_table_partition_cols(columns).build();
        Self { access, files, format, table, partitions, statistics }
    }

    async fn list(&self) -> Result<Vec<PartitionedFile>> {
        let (files, pin) = match &self.files {
            FileSet::Fixed(files, pin) => (files.clone(), Some(Arc::clone(pin))),
            FileSet::Listed { patterns, options } => {
                let chunks = self.access.list_all_chunks(patterns, options)?;
                (chunks.try_concat().await?, None)
            }
        };
        let mut out = Vec::with_capacity(files.len());
        // An empty CSV or JSON file has no rows; an empty Parquet file is not one.
        for file in files.iter().filter(|f| self.statistics || f.size != Some(0)) {
            let mut part = PartitionedFile::new_from_meta(object_meta(file)?);
            part.partition_values = self.partitions.iter().map(|(name, ty)| partition_value(&file.uri, name, ty)).collect::<Result<_>>()?;
            if let Some(pin) = &pin {
                part = part.with_extension(Pinned(Arc::clone(pin)));
            }
            out.push(part);
        }
        Ok(out)
    }

    /// Adds row counts and ranges, so that joins are ordered well and files that cannot match are not opened.
    async fn with_statistics(&self, state: &dyn Session, files: Vec<PartitionedFile>) -> DfResult<(Vec<PartitionedFile>, Option<Statistics>)> {
        if !self.statistics || !state.config().collect_statistics() || files.len() > STATISTICS_FILES_MAX {
            return Ok((files, None));
        }
        let store = state.runtime_env().object_store(object::store_url().map_err(to_datafusion)?)?;
        let look = |file: PartitionedFile| {
            let store = Arc::clone(&store);
            async move {
                let found = self.format.infer_stats(state, &store, Arc::clone(self.table.file_schema()), &file.object_meta).await?;
                Ok::<_, datafusion::common::DataFusionError>(file.with_statistics(Arc::new(found)))
            }
        };
        let files: Vec<PartitionedFile> = stream::iter(files.into_iter().map(look)).buffered(16).try_collect().await?;
        let known: Vec<&Statistics> = files.iter().filter_map(|f| f.statistics.as_deref()).collect();
        let whole = if known.is_empty() { None } else { Some(Statistics::try_merge_iter(known, self.table.table_schema())?) };
        Ok((files, whole))
    }
}

/// Travels with a file of a plan.
struct Pinned(#[expect(dead_code, reason = "held, never read")] Arc<dyn std::any::Any + Send + Sync>);

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        // The reader uses them to skip files, row groups and pages; the filter above stays.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        object::register(state.runtime_env(), &self.access).map_err(to_datafusion)?;
        let files = self.list().await.map_err(to_datafusion)?;
        if files.is_empty() {
            let schema = match projection {
                Some(projection) => Arc::new(self.schema().project(projection)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let (files, statistics) = self.with_statistics(state, files).await?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions().max(1));
        let source = self.format.file_source(self.table.clone());
        let mut config = FileScanConfigBuilder::new(object::store_url().map_err(to_datafusion)?, source)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        if let Some(statistics) = statistics {
            config = config.with_statistics(statistics);
        }
        self.format.create_physical_plan(state, config.build()).await
    }
}

/// The value of a partition column in a path: of `.../year=2024/...`.
fn partition_text(uri: &str, name: &str) -> Option<String> {
    let value = uri.split('/').rev().skip(1).find_map(|segment| segment.strip_prefix(name)?.strip_prefix('='))?;
    Some(String::from_utf8_lossy(&percent_decode(value.as_bytes())).into_owned())
}

fn partition_value(uri: &str, name: &str, ty: &SqlType) -> Result<ScalarValue> {
    let text = partition_text(uri, name).filter(|t| t != "__HIVE_DEFAULT_PARTITION__");
    ScalarValue::Utf8(text.clone()).cast_to(&ty.arrow()).map_err(|_| {
        Error::new(squilla_core::error::Kind::InvalidText, format!("invalid input syntax for type {}: \"{}\"", ty.name(), text.unwrap_or_default()))
            .detail(format!("It is the value of partition column \"{name}\" in the path \"{uri}\"."))
    })
}

/// The partition columns that the paths of these files show: names in order, and the narrowest type that fits all.
pub fn infer_partitions(files: &[FileRef]) -> Vec<(String, SqlType)> {
    let Some(first) = files.first() else { return Vec::new() };
    let directories = first.uri.split('/').rev().skip(1).filter_map(|s| s.split_once('=').map(|(name, _)| name.to_owned()));
    let mut names: Vec<String> = directories.filter(|n| !n.is_empty()).collect();
    names.reverse();
    names
        .into_iter()
        .map(|name| {
            let values: Vec<String> =
                files.iter().filter_map(|f| partition_text(&f.uri, &name)).filter(|v| v != "__HIVE_DEFAULT_PARTITION__").collect();
            let all = |fits: fn(&str) -> bool| !values.is_empty() && values.iter().all(|v| fits(v));
            let ty = if all(|v| v.parse::<i64>().is_ok_and(|n| n.to_string() == v)) {
                SqlType::Int8
            } else if all(|v| v.len() == 10 && v.parse::<chrono::NaiveDate>().is_ok()) {
                SqlType::Date
            } else {
                SqlType::Text
            };
            (name, ty)
        })
        .collect()
}

/// The schema without metadata except what marks types; Arrow types of other widths become those of SQL types when
/// `canonical` (CSV and JSON, where the reader parses into any type).
pub fn clean(schema: &Schema, canonical: bool) -> Schema {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let field = clean_field(field);
            match SqlType::of_field(&field) {
                // Nothing but NULLs was seen: text holds what may come.
                SqlType::Unknown => SqlType::Text.field(field.name()),
                ty if canonical => ty.field(field.name()),
                _ => field,
            }
        })
        .collect();
    Schema::new(fields)
}

fn clean_field(field: &Field) -> Field {
    let kept: HashMap<String, String> = field
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with("ARROW:extension:") || key.starts_with("squilla."))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let nested = |inner: &FieldRef| Arc::new(clean_field(inner));
    let ty = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nested).collect::<Fields>()),
        DataType::List(item) => DataType::List(nested(item)),
        DataType::LargeList(item) => DataType::LargeList(nested(item)),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(nested(item), *n),
        other => other.clone(),
    };
    // NOT NULL in a file is a promise of another program: it is not used.
    Field::new(field.name(), ty, true).with_metadata(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn file(uri: &str) -> FileRef {
        FileRef { uri: uri.into(), ..FileRef::default() }
    }

    #[test]
    fn partitions_are_told_by_paths() {
        let files = [file("/d/year=2024/month=01/city=K%C3%B6ln/a.parquet"), file("/d/year=2025/month=02/city=Bonn/b.parquet")];
        let found = infer_partitions(&files);
        assert_eq!(found, [("year".into(), SqlType::Int8), ("month".into(), SqlType::Text), ("city".into(), SqlType::Text)]);
        assert_eq!(partition_value(&files[0].uri, "year", &SqlType::Int8).unwrap(), ScalarValue::Int64(Some(2024)));
        assert_eq!(partition_value(&files[0].uri, "city", &SqlType::Text).unwrap(), ScalarValue::Utf8(Some("Köln".into())));
        assert!(partition_value("/d/year=__HIVE_DEFAULT_PARTITION__/x", "year", &SqlType::Int8).unwrap().is_null());
        assert_eq!(partition_value("/d/year=x/f", "year", &SqlType::Int8).unwrap_err().sqlstate(), "22P02");
        assert_eq!(infer_partitions(&[file("/d/day=2024-01-31/x")]), [("day".into(), SqlType::Date)]);
    }
}
