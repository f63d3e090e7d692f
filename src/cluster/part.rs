//! The part of a plan that can be done in leases, and what the leases read.
//!
//! In: a plan. Out: its row-wise nodes over one listing or one scan, what that reads in pieces, and the plan of one piece.
//! Invariants: what stands above the part sees the same rows, in whatever order; pieces depend on what is read and on the
//! settings alone, so that they are the same when a job goes on. Deliberately absent: who does them (`lease`).

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::common::Result as DfResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions};
use futures::StreamExt;
use squilla_core::error::{Error, Result};
use squilla_engine::error::{from_arrow, from_datafusion};
use squilla_engine::source::read_files::Listing;
use squilla_engine::source::rows::RowsExec;

use crate::deleted::can_be_carried;
use crate::spread::{anywhere, calls, row_wise, scan};

/// Rows of a listing in one piece at most.
const ROWS_MAX: usize = 256;
/// Pieces that a small listing is cut into, so that many workers have some and end together.
const PIECES: i64 = 32;
/// A file of unknown size counts as this many bytes.
const FILE_BYTES_GUESS: i64 = 256 << 10;
/// Batches that the rows of a piece are handed out in, for nodes that deal batches to threads.
const BATCHES: usize = 8;

/// The part of a plan that is done in leases.
#[derive(Debug)]
pub struct Part {
    /// Its top: row-wise nodes over the leaf.
    pub top: Arc<dyn ExecutionPlan>,
    /// A listing or a scan.
    leaf: Arc<dyn ExecutionPlan>,
}

/// What one lease reads.
#[derive(Clone)]
pub enum Work {
    /// Rows of a listing.
    Rows(RecordBatch),
    /// Files, or ranges of them.
    Files(Vec<PartitionedFile>),
}

/// Gives the pieces as they are listed.
pub enum Pieces {
    /// Of a listing.
    Listing(SendableRecordBatchStream, i64),
    /// Of a scan: all at once.
    Scan(Vec<Work>),
}

impl Pieces {
    /// Some more; None at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Work>>> {
        match self {
            Self::Listing(rows, bytes_max) => match rows.next().await {
                Some(batch) => Ok(Some(cut_rows(&batch.map_err(from_datafusion)?, *bytes_max))),
                None => Ok(None),
            },
            Self::Scan(works) => Ok(Some(std::mem::take(works)).filter(|works| !works.is_empty())),
        }
    }
}

impl Part {
    /// The topmost row-wise run with dear calls over a listing or a scan, when it is the only place of the plan with dear
    /// calls.
    pub fn dear(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        if let Some(leaf) = leaf_below(plan)
            && anywhere(plan, |p| !calls(p).is_empty())
            && plan.output_ordering().is_none()
        {
            return Some(Self { top: Arc::clone(plan), leaf });
        }
        let dear = |p: &Arc<dyn ExecutionPlan>| !calls(p).is_empty();
        if dear(plan) {
            return None;
        }
        let mut found = None;
        for child in plan.children() {
            match (Self::dear(child), &found) {
                (Some(part), None) => found = Some(part),
                (Some(_), Some(_)) => return None,
                (None, _) if anywhere(child, dear) => return None,
                (None, _) => {}
            }
        }
        found
    }

    /// The whole plan, when it is nothing but row-wise nodes over a scan.
    pub fn whole(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let leaf = leaf_below(plan).filter(|leaf| scan(leaf).is_some())?;
        Some(Self { top: Arc::clone(plan), leaf })
    }

    /// Files that a scan reads, or ranges of them; None for a listing, which is not known before it is read.
    pub fn files(&self) -> Option<usize> {
        scan(&self.leaf).map(|s| s.file_groups.iter().map(|g| g.files().len()).sum())
    }

    /// What it reads, in pieces of so many bytes of files at most.
    pub fn pieces(&self, bytes_max: i64, context: &Arc<TaskContext>) -> Result<Pieces> {
        match scan(&self.leaf) {
            Some(scan) => {
                let files = scan.file_groups.iter().flat_map(|g| g.files().iter().cloned()).collect();
                Ok(Pieces::Scan(cut_files(files, bytes_max)))
            }
            None => Ok(Pieces::Listing(self.leaf.execute(0, Arc::clone(context)).map_err(from_datafusion)?, bytes_max)),
        }
    }

    /// The plan over one piece.
    pub fn over(&self, work: &Work) -> DfResult<Arc<dyn ExecutionPlan>> {
        let leaf: Arc<dyn ExecutionPlan> = match (work, scan(&self.leaf)) {
            (Work::Rows(rows), _) => {
                let step = rows.num_rows().div_ceil(BATCHES).max(1);
                let batches = (0..rows.num_rows()).step_by(step).map(|at| rows.slice(at, step.min(rows.num_rows() - at))).collect();
                MemorySourceConfig::try_new_exec(&[batches], rows.schema(), None)?
            }
            (Work::Files(files), Some(scan)) => {
                let groups = files.iter().map(|f| FileGroup::new(vec![f.clone()])).collect();
                DataSourceExec::from_data_source(FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups).build())
            }
            (Work::Files(_), None) => return Err(datafusion::common::DataFusionError::Internal("files without their scan".into())),
        };
        replaced(&self.top, &self.leaf, &leaf)
    }

    /// The name of what a piece gives: what it reads, by what.
    pub fn name(&self, work: &Work) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let nothing: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(self.leaf.schema()));
        let plan = replaced(&self.top, &self.leaf, &nothing).map_err(from_datafusion)?;
        let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
        // Numbers of calls differ from one planning to the next.
        hasher.update(without_numbers(&plan).as_bytes());
        match work {
            Work::Rows(rows) => {
                let mut bytes = Vec::new();
                let mut writer = datafusion::arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &rows.schema()).map_err(from_arrow)?;
                writer.write(rows).and_then(|()| writer.finish()).map_err(from_arrow)?;
                drop(writer);
                hasher.update(&bytes);
            }
            Work::Files(files) => {
                for file in files {
                    let meta = &file.object_meta;
                    let line = format!("{} {} {} {:?} {:?}\n", meta.location, meta.size, meta.last_modified, meta.e_tag, file.range);
                    hasher.update(line.as_bytes());
                }
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The plan with other rows in place of the part.
    pub fn replaced_in(&self, plan: &Arc<dyn ExecutionPlan>, rows: &Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
        replaced(plan, &self.top, rows)
    }
}

impl Work {
    /// Files of it.
    pub fn files(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.num_rows(),
            Self::Files(files) => files.len(),
        }
    }

    /// Two of it; None of a single file.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let half = self.files() / 2;
        if half == 0 {
            return None;
        }
        Some(match self {
            Self::Rows(rows) => [Self::Rows(rows.slice(0, half)), Self::Rows(rows.slice(half, rows.num_rows() - half))],
            Self::Files(files) => [Self::Files(files[..half].to_vec()), Self::Files(files[half..].to_vec())],
        })
    }

    /// The first file's place, for messages.
    pub fn uri(&self) -> Option<String> {
        match self {
            Self::Rows(rows) => squilla_engine::exec::pack::sources(rows).into_iter().next().flatten(),
            Self::Files(files) => files.first().map(|f| f.object_meta.location.to_string()),
        }
    }
}

/// The listing or scan below row-wise nodes. What deals rows by their values keeps a promise to the nodes above it, which
/// leases would break.
fn leaf_below(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(rows) = plan.downcast_ref::<RowsExec>() {
        return rows.source().downcast_ref::<Listing>().map(|_| Arc::clone(plan));
    }
    if let Some(scan) = scan(plan) {
        return (scan.limit.is_none() && can_be_carried(plan)).then(|| Arc::clone(plan));
    }
    let deals = plan.name() == "CoalesceBatchesExec"
        || plan.downcast_ref::<RepartitionExec>().is_some_and(|r| matches!(r.partitioning(), Partitioning::RoundRobinBatch(_)));
    match plan.children().as_slice() {
        [one] if row_wise(plan) || deals => leaf_below(one),
        _ => None,
    }
}

fn replaced(plan: &Arc<dyn ExecutionPlan>, old: &Arc<dyn ExecutionPlan>, new: &Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    if Arc::ptr_eq(plan, old) {
        return Ok(Arc::clone(new));
    }
    let children = plan.children().into_iter().map(|c| replaced(c, old, new)).collect::<DfResult<Vec<_>>>()?;
    if children.is_empty() {
        return Ok(Arc::clone(plan));
    }
    Arc::clone(plan).replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// Where to cut things of these sizes: a piece has so many bytes at most, and is a small part of all there is.
fn cut(sizes: &[i64], bytes_max: i64) -> Vec<std::ops::Range<usize>> {
    let total = sizes.iter().fold(0i64, |sum, size| sum.saturating_add(*size));
    let most = bytes_max.min(total / PIECES).max(1);
    let mut out = Vec::new();
    let (mut start, mut bytes) = (0, 0i64);
    for (at, size) in sizes.iter().enumerate() {
        if at > start && (bytes.saturating_add(*size) > most || at - start >= ROWS_MAX) {
            out.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(*size);
    }
    if start < sizes.len() {
        out.push(start..sizes.len());
    }
    out
}

fn cut_rows(rows: &RecordBatch, bytes_max: i64) -> Vec<Work> {
    let file = rows.schema().fields().iter().position(|f| f.name() == "file");
    let sizes = file.and_then(|i| rows.column(i).as_struct_opt()?.column_by_name("size").cloned());
    let sizes = sizes.as_ref().and_then(|s| s.as_primitive_opt::<Int64Type>());
    let size = |row: usize| sizes.filter(|s| s.is_valid(row)).map_or(FILE_BYTES_GUESS, |s| s.value(row));
    let sizes: Vec<i64> = (0..rows.num_rows()).map(size).collect();
    cut(&sizes, bytes_max).into_iter().map(|r| Work::Rows(rows.slice(r.start, r.len()))).collect()
}

fn cut_files(files: Vec<PartitionedFile>, bytes_max: i64) -> Vec<Work> {
    let sizes: Vec<i64> = files.iter().map(|f| i64::try_from(f.effective_size()).unwrap_or(i64::MAX)).collect();
    let mut files: VecDeque<PartitionedFile> = files.into();
    cut(&sizes, bytes_max).into_iter().map(|r| Work::Files(files.drain(..r.len()).collect())).collect()
}

fn without_numbers(plan: &str) -> String {
    let mut out = String::with_capacity(plan.len());
    let mut rest = plan;
    while let Some(at) = rest.find("__call_") {
        let (before, after) = rest.split_at(at + "__call_".len());
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    out
}

/// What a statement is told that cannot be done in leases.
pub fn not_in_leases() -> Error {
    Error::unsupported("only a statement whose media and model calls read one listing or one set of files can be a named job")
        .hint("Write what read_files gives with COPY, INSERT or CREATE TABLE AS, or reset squilla.resume.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pieces_have_few_bytes_and_lose_nothing() {
        for (sizes, most) in [(vec![10; 300], 64 << 20), (vec![1; 5], 1), (vec![1 << 30, 1, 1, 1], 64 << 20), (vec![0; 1000], 1), (vec![], 9)] {
            let pieces = cut(&sizes, most);
            assert_eq!(pieces.iter().map(ExactSizeIterator::len).sum::<usize>(), sizes.len());
            assert!(pieces.windows(2).all(|w| w[0].end == w[1].start));
            for piece in pieces.iter().filter(|p| p.len() > 1) {
                assert!(sizes[piece.clone()].iter().sum::<i64>() <= most && piece.len() <= ROWS_MAX, "{piece:?}");
            }
        }
        // A small listing has work for many workers.
        assert!(cut(&vec![1000; 64], 64 << 20).len() >= 32);
        assert_eq!(cut(&[1 << 40], 1).len(), 1);
    }
}
