//! Reading a managed table.
//!
//! In: a relation of one state of the catalog. Out: a provider of its rows, with or without their positions. Invariants:
//! rows that the state has as deleted are never read; the files stay while the provider, or a plan made from it, lives;
//! columns are read by their physical names, so renaming one touches no file. Deliberately absent: DataFusion's hooks for
//! INSERT, UPDATE and DELETE, which are not given the rows that a predicate means: a plan that reaches them fails.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Constraint, Constraints, DFSchema, Result as DfResult, ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::parquet::arrow::RowNumber;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use futures::stream::{self, StreamExt, TryStreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::values::FileRef;
use squilla_store::sums::Sums;

use super::live::{DeletedRows, LiveExec};
use super::{Tables, fit, key_index};
use crate::catalog::data::{ColumnEntry, ConstraintKind, Relation};
use crate::catalog::files::{DataFile, Files, OnDisk};
use crate::error::{from_arrow, to_datafusion};
use crate::source::location::file_uri;
use crate::source::object::{self, object_meta};

/// The column that says which part of a table a row is in.
pub const FILE: &str = "$file";
/// The column that says where in it.
pub const ROW: &str = "$row";
/// More files than this are scanned without looking at their statistics first.
const STATISTICS_FILES_MAX: usize = 1024;

/// Deleted rows with a run in fewer rows than these are left out after reading.
const SCATTERED_ROWS: u64 = 256;

/// A managed table in one state.
#[derive(Debug)]
pub struct ManagedTable {
    tables: Arc<Tables>,
    columns: Vec<ColumnEntry>,
    /// Positions of the columns of its unique constraints.
    keys: Vec<Vec<usize>>,
    /// What the planner may know of keys: other columns follow from the primary key (GROUP BY).
    constraints: Constraints,
    files: Files,
    positions: bool,
    schema: SchemaRef,
}

/// The files of a scan.
struct Parts {
    files: Vec<(Arc<DataFile>, PartitionedFile)>,
    /// Rows that a key index left; None where the files are read whole.
    found: Option<usize>,
    /// Deleted rows that are left out after reading.
    scattered: Option<DeletedRows>,
}

/// Travels with a file of a plan.
#[expect(dead_code, reason = "held, never read")]
struct Pinned(Arc<OnDisk>, Option<Arc<Sums>>);

impl ManagedTable {
    /// The rows of a relation; with `positions` also where they are.
    pub fn new(tables: &Arc<Tables>, relation: &Relation, positions: bool) -> Result<Self> {
        let Some(files) = relation.files() else { return Err(Error::internal("a relation without files reached the table store")) };
        let mut fields: Vec<FieldRef> = fit::scan_schema(&relation.columns)?.fields().iter().cloned().collect();
        if positions {
            fields.push(Arc::new(Field::new(FILE, DataType::Int64, true)));
            fields.push(Arc::new(Field::new(ROW, DataType::Int64, true)));
        }
        let unique = relation.constraints.iter().filter(|c| c.is_unique());
        let keys = unique.filter_map(|c| c.columns.iter().map(|name| relation.position(name)).collect::<Option<Vec<_>>>());
        let primary = relation.constraints.iter().find(|c| c.kind == ConstraintKind::PrimaryKey);
        let primary = primary.and_then(|c| c.columns.iter().map(|name| relation.position(name)).collect::<Option<Vec<_>>>());
        Ok(Self {
            tables: Arc::clone(tables),
            columns: relation.columns.clone(),
            keys: keys.collect(),
            constraints: Constraints::new_unverified(primary.map(Constraint::PrimaryKey).into_iter().collect()),
            files: files.clone(),
            positions,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// The columns of a file, under their physical names.
    fn table_schema(&self, positions: bool) -> Result<TableSchema> {
        let fields = self.columns.iter().map(|c| Ok(fit::scan_field(c)?.with_name(c.physical()))).collect::<Result<Vec<_>>>()?;
        let table = TableSchema::builder(Arc::new(Schema::new(fields)));
        if !positions {
            return Ok(table.build());
        }
        let file: FieldRef = Arc::new(Field::new(FILE, DataType::Int64, true));
        let row: FieldRef = Arc::new(Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber));
        Ok(table.with_table_partition_cols(vec![file]).with_virtual_columns(vec![row]).build())
    }

    fn part(&self, file: &DataFile, path: &str, positions: bool) -> Result<PartitionedFile> {
        let whole = self.tables.directory.join(path);
        if let Some(sums) = &file.sums {
            self.tables.access.expect_sums(&whole, sums);
        }
        let reference = FileRef {
            uri: file_uri(&whole),
            size: i64::try_from(file.bytes).ok(),
            // A file never changes under its name: any fixed time keeps its footer in the cache.
            last_modified_us: Some(1),
            ..FileRef::default()
        };
        let mut part = PartitionedFile::new_from_meta(object_meta(&reference)?).with_extension(Pinned(Arc::clone(&file.disk), file.sums.clone()));
        if positions {
            part.partition_values = vec![ScalarValue::Int64(Some(file.id as i64))];
        }
        Ok(part)
    }

    /// The files that may have rows for the filters, with the rows to be read.
    async fn parts(&self, filters: &[Expr]) -> Result<Parts> {
        let wanted = key_index::wanted(filters, &self.columns, &self.keys)?;
        let named: Vec<_> = self.files.iter().filter_map(|f| f.path.as_ref().map(|p| (f, p))).collect();
        let is_scattered = |f: &DataFile| f.deleted.as_ref().is_some_and(|d| d.is_scattered(f.rows, SCATTERED_ROWS));
        let scattered = self.tables.local && wanted.is_none() && named.iter().any(|(f, _)| is_scattered(f));
        let (mut parts, mut found, mut whole) = (Vec::with_capacity(named.len()), 0, false);
        for (file, path) in named {
            let part = self.part(file, path, self.positions || scattered)?;
            let rows = match &wanted {
                Some(wanted) => self.tables.keys.rows(file, &self.tables.directory.join(path), wanted).await?,
                None => None,
            };
            let part = match (rows, &file.deleted) {
                (Some(mut rows), deleted) => {
                    rows.retain(|row| deleted.as_ref().is_none_or(|d| !d.contains(*row)));
                    if rows.is_empty() {
                        continue;
                    }
                    found += rows.len();
                    // With a range, the planner leaves the file in one piece.
                    let end = i64::try_from(file.bytes).unwrap_or(i64::MAX);
                    part.with_extension(ParquetRowSelection::new(only(file.rows, &rows))).with_range(0, end)
                }
                (None, Some(deleted)) if !scattered => {
                    whole = true;
                    part.with_extension(ParquetRowSelection::new(selection(file.rows, deleted.runs())))
                }
                (None, _) => {
                    whole = true;
                    part
                }
            };
            parts.push((Arc::clone(file), part));
        }
        let deleted = self.files.iter().filter_map(|f| f.deleted.as_ref().map(|d| (f.id as i64, Arc::clone(d))));
        Ok(Parts { files: parts, found: (!whole).then_some(found), scattered: scattered.then(|| Arc::new(deleted.collect())) })
    }

    async fn parquet(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Parts { files, found, scattered } = self.parts(filters).await.map_err(to_datafusion)?;
        if files.is_empty() {
            return Ok(None);
        }
        object::register(state.runtime_env(), &self.tables.access).map_err(to_datafusion)?;
        let table = self.table_schema(self.positions || scattered.is_some()).map_err(to_datafusion)?;
        let format = ParquetFormat::new().with_skip_metadata(false);
        let count = files.len();
        let (parts, mut statistics) = match found {
            Some(_) => (files.into_iter().map(|(_, part)| part).collect(), None),
            None => self.with_statistics(state, &format, &table, files, (filters, scattered.is_some())).await?,
        };
        if parts.is_empty() {
            return Ok(None);
        }
        let partitions = if found.is_some() { 1 } else { state.config().target_partitions().max(1) };
        let groups = FileGroup::new(parts).split_files(partitions);
        if let Some(rows) = found {
            // So few that spreading them over threads is not worth it.
            statistics = Some(Statistics::new_unknown(table.table_schema()).with_num_rows(Precision::Inexact(rows.max(count))));
        }
        let given: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let read = if scattered.is_some() { self.with_positions(&given) } else { given.clone() };
        let source = format.file_source(table);
        let mut config = FileScanConfigBuilder::new(object::store_url().map_err(to_datafusion)?, source)
            .with_file_groups(groups)
            .with_projection_indices(Some(read.clone()))?
            .with_limit(limit.filter(|_| scattered.is_none()));
        if let Some(statistics) = statistics.clone().filter(|_| scattered.is_none()) {
            config = config.with_statistics(statistics);
        }
        let mut plan = format.create_physical_plan(state, config.build()).await?;
        if let Some(deleted) = scattered {
            // The positions are wanted for themselves only by statements that change rows.
            let width = if self.positions { read.len() } else { read.len() - 2 };
            let mut known = left(statistics, &read, &plan.schema());
            known.column_statistics.truncate(width);
            plan = Arc::new(LiveExec::new(plan, deleted, width, Arc::new(known))?);
        }
        let places: Vec<usize> = given.iter().map(|g| read.iter().position(|r| r == g).unwrap_or(0)).collect();
        self.renamed(plan, &places, projection).map(Some)
    }

    /// The columns to be read so that the last two say where rows are.
    fn with_positions(&self, given: &[usize]) -> Vec<usize> {
        let width = self.columns.len();
        given.iter().copied().filter(|i| *i < width).chain([width, width + 1]).collect()
    }

    /// Adds row counts and ranges, and leaves out files that have no row for the filters. With deleted rows the count is
    /// known and the ranges are bounds. `apart` is where a node above the scan leaves deleted rows out.
    async fn with_statistics(
        &self,
        state: &dyn Session,
        format: &ParquetFormat,
        table: &TableSchema,
        parts: Vec<(Arc<DataFile>, PartitionedFile)>,
        (filters, apart): (&[Expr], bool),
    ) -> DfResult<(Vec<PartitionedFile>, Option<Statistics>)> {
        if self.positions || !state.config().collect_statistics() || parts.len() > STATISTICS_FILES_MAX {
            return Ok((parts.into_iter().map(|(_, p)| p).collect(), None));
        }
        let store = state.runtime_env().object_store(object::store_url().map_err(to_datafusion)?)?;
        let look = |(file, part): (Arc<DataFile>, PartitionedFile)| {
            let store = Arc::clone(&store);
            async move {
                let found = match file.disk.statistics(table.file_schema()) {
                    Some(known) => known,
                    None => {
                        let found = format.infer_stats(state, &store, Arc::clone(table.file_schema()), &part.object_meta).await?;
                        let found = Arc::new(found);
                        file.disk.set_statistics(table.file_schema(), &found);
                        found
                    }
                };
                Ok::<_, datafusion::common::DataFusionError>((file, part, found))
            }
        };
        let mut looked: Vec<(Arc<DataFile>, PartitionedFile, Arc<Statistics>)> =
            stream::iter(parts.into_iter().map(look)).buffered(16).try_collect().await?;
        let mut wanted = self.wanted(state, filters, looked.iter().map(|(_, _, found)| Arc::clone(found)).collect()).into_iter();
        looked.retain(|_| wanted.next().unwrap_or(true));
        let with_known = |(file, part, found): (Arc<DataFile>, PartitionedFile, Arc<Statistics>)| {
            let found = match file.deleted {
                Some(_) => {
                    let left = Precision::Exact(file.live_rows() as usize);
                    Arc::new(Statistics::clone(&found).to_inexact().with_num_rows(left))
                }
                None => found,
            };
            // Apart: the scan gives deleted rows, too, which only the node above leaves out.
            (if apart { part } else { part.with_statistics(Arc::clone(&found)) }, found)
        };
        let (parts, known): (Vec<_>, Vec<_>) = looked.into_iter().map(with_known).unzip();
        let schema = if apart { table.file_schema() } else { table.table_schema() };
        let whole = if known.is_empty() { None } else { Some(Statistics::try_merge_iter(known.iter().map(Arc::as_ref), schema)?) };
        Ok((parts, whole))
    }

    /// Which files may have rows for the filters, as their statistics tell; an empty answer is all of them.
    fn wanted(&self, state: &dyn Session, filters: &[Expr], known: Vec<Arc<Statistics>>) -> Vec<bool> {
        let Some(filter) = conjunction(unnormalize_cols(filters.iter().cloned())) else { return Vec::new() };
        // A filter that this cannot be made of is one for the rows.
        let wanted = || -> DfResult<Vec<bool>> {
            let schema = Arc::clone(&self.schema);
            let filter = state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&schema))?)?;
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(&schema)).try_build(filter)?.prune(&PrunableStatistics::new(known, schema))
        };
        wanted().unwrap_or_default()
    }

    /// The plan under the names of now; `places` are the columns of the plan.
    fn renamed(&self, plan: Arc<dyn ExecutionPlan>, places: &[usize], projection: Option<&Vec<usize>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (have, wanted) = (plan.schema(), self.projected(projection)?);
        let names = have.fields().len() == places.len() && have.fields().iter().zip(wanted.fields()).all(|(have, want)| have.name() == want.name());
        if names && places.iter().enumerate().all(|(i, place)| i == *place) {
            return Ok(plan);
        }
        let columns = places.iter().zip(wanted.fields()).filter_map(|(place, want)| Some((have.fields().get(*place)?, *place, want)));
        let exprs: Vec<(Arc<dyn PhysicalExpr>, String)> =
            columns.map(|(have, place, want)| (Arc::new(Column::new(have.name(), place)) as _, want.name().clone())).collect();
        Ok(Arc::new(ProjectionExec::try_new(exprs, plan)?))
    }

    fn projected(&self, projection: Option<&Vec<usize>>) -> DfResult<SchemaRef> {
        Ok(match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => Arc::clone(&self.schema),
        })
    }

    /// The rows that are in the catalog, as one batch.
    fn inline(&self) -> Result<Option<RecordBatch>> {
        let mut batches = Vec::new();
        for file in self.files.iter() {
            let Some(inline) = &file.inline else { continue };
            batches.push(self.inline_part(file, &inline.batch)?);
        }
        if batches.is_empty() {
            return Ok(None);
        }
        concat_batches(&self.schema, &batches).map(Some).map_err(from_arrow)
    }

    fn inline_part(&self, file: &DataFile, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            columns.push(match batch.column_by_name(column.physical()) {
                Some(array) if array.data_type() == field.data_type() => Arc::clone(array),
                Some(array) => datafusion::arrow::compute::cast(array, field.data_type()).map_err(from_arrow)?,
                None => new_null_array(field.data_type(), rows),
            });
        }
        if self.positions {
            columns.push(Arc::new(Int64Array::from_value(file.id as i64, rows)));
            columns.push(Arc::new(Int64Array::from_iter_values(0..rows as i64)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let whole = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(from_arrow)?;
        match &file.deleted {
            None => Ok(whole),
            Some(deleted) => {
                let kept: BooleanArray = (0..rows as u32).map(|row| Some(!deleted.contains(row))).collect();
                filter_record_batch(&whole, &kept).map_err(from_arrow)
            }
        }
    }
}

/// The statistics of these columns of a table's files.
fn left(known: Option<Statistics>, read: &[usize], schema: &Schema) -> Statistics {
    let Some(known) = known else { return Statistics::new_unknown(schema) };
    let columns = read.iter().map(|i| known.column_statistics.get(*i).cloned().unwrap_or_default()).collect();
    Statistics { num_rows: known.num_rows, total_byte_size: Precision::Absent, column_statistics: columns }
}

/// These rows alone; they are in order.
fn only(rows: u64, wanted: &[u32]) -> RowSelection {
    let ranges = wanted.iter().map(|row| *row as usize..*row as usize + 1);
    RowSelection::from_consecutive_ranges(ranges, rows as usize)
}

/// All rows but the runs of deleted ones.
fn selection(rows: u64, deleted: impl Iterator<Item = (u32, u32)>) -> RowSelection {
    let (mut selectors, mut at) = (Vec::new(), 0_usize);
    for (first, length) in deleted {
        let first = first as usize;
        if first > at {
            selectors.push(RowSelector::select(first - at));
        }
        selectors.push(RowSelector::skip(length as usize));
        at = first + length as usize;
    }
    if rows as usize > at {
        selectors.push(RowSelector::select(rows as usize - at));
    }
    RowSelection::from(selectors)
}

#[async_trait]
impl TableProvider for ManagedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        // The reader uses them to skip files, row groups and pages; the filter above stays.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        plans.extend(self.parquet(state, projection, filters, limit).await?);
        if let Some(batch) = self.inline().map_err(to_datafusion)? {
            plans.push(MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(self.projected(projection)?))),
            1 => plans.pop().ok_or_else(|| to_datafusion(Error::internal("a plan vanished"))),
            _ => UnionExec::try_new(plans),
        }
    }
}
