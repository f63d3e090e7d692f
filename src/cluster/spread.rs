//! Where rows are dealt to the workers: exchanges below dear calls.
//!
//! In: a plan for one process. Out: the same plan with a hash exchange below each chain of media and model calls whose
//! input would come from one task. References cross there, so that fetching, decoding and inference stay together above
//! it. Invariants: every node that wants one partition still gets one; rows that come in an order leave in it
//! (sorted anew above, or dealt to one task where what they were sorted by is gone). Deliberately absent: exchanges of joins and aggregates; datafusion-distributed makes those.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{Distribution, Partitioning, ScalarFunctionExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, ReplaceChildrenOptions};
use datafusion_distributed::NetworkBoundaryExt;
use datafusion_proto::bytes::physical_plan_to_bytes_with_proto_converter;
use datafusion_proto::physical_plan::DeduplicatingProtoConverter;
use squilla_engine::exec::expand::ExpandExec;
use squilla_engine::exec::invoke::CallSpec;
use squilla_engine::exec::pack::PackExec;
use squilla_engine::source::rows::RowsExec;

use crate::codec::Codec;
use crate::deleted::{SelectedExec, can_be_carried};

/// Columns that rows are dealt by at most.
const KEYS_MAX: usize = 4;

/// The calls of a node of ours.
pub fn calls(plan: &Arc<dyn ExecutionPlan>) -> Vec<&CallSpec> {
    if let Some(pack) = plan.downcast_ref::<PackExec>() {
        return pack.steps().iter().map(|s| &s.call).collect();
    }
    plan.downcast_ref::<ExpandExec>().map(|e| vec![e.call().0]).unwrap_or_default()
}

/// Whether the node runs a model.
pub fn runs_model(plan: &Arc<dyn ExecutionPlan>) -> bool {
    calls(plan).iter().any(|c| c.entry.family == "model")
}

/// Whether this part of a plan, down to what other tasks make for it, has a node that `is` so.
pub fn here(plan: &Arc<dyn ExecutionPlan>, is: &impl Fn(&Arc<dyn ExecutionPlan>) -> bool) -> bool {
    is(plan) || (!plan.is_network_boundary() && plan.children().into_iter().any(|c| here(c, is)))
}

/// Whether the plan has a node anywhere that `is` so.
pub fn anywhere(plan: &Arc<dyn ExecutionPlan>, mut is: impl FnMut(&Arc<dyn ExecutionPlan>) -> bool) -> bool {
    plan.exists(|p| Ok(is(p))).unwrap_or(false)
}

/// Whether the plan reads files, listings or tables, rather than constants only.
pub fn reads_files(plan: &Arc<dyn ExecutionPlan>) -> bool {
    anywhere(plan, |p| p.is::<RowsExec>() || scan(p).is_some())
}

/// The scan of a leaf that reads files.
pub fn scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// Bytes that a leaf reads from files.
pub fn scan_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let files = scan(plan).into_iter().flat_map(|s| s.file_groups.iter()).flat_map(|g| g.files().iter());
    files.map(|f| f.effective_size()).sum()
}

/// The bytes of a plan that can leave the process, or why it cannot: it looks at the session, or has nodes that only are here.
pub fn leaves(plan: &Arc<dyn ExecutionPlan>, portable: &HashSet<String>) -> std::result::Result<u64, String> {
    let mut why = None;
    let walked = plan.apply(|node| {
        if node.children().is_empty() && !leaf_travels(node) {
            why = Some(format!("{} reads what only this process has", node.name()));
            return Ok(TreeNodeRecursion::Stop);
        }
        node.apply_expressions(&mut |expr| {
            expr.apply(|e| {
                if let Some(call) = e.downcast_ref::<ScalarFunctionExpr>()
                    && !portable.contains(call.fun().name())
                {
                    why = Some(format!("{} looks at the session", call.fun().name()));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if why.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    if let Err(error) = walked {
        return Err(error.to_string());
    }
    if let Some(why) = why {
        return Err(why);
    }
    let codec = Codec { place: None };
    let bytes = physical_plan_to_bytes_with_proto_converter(Arc::clone(plan), &codec, &DeduplicatingProtoConverter::default());
    bytes.map(|bytes| bytes.len() as u64).map_err(|e| e.to_string())
}

fn leaf_travels(leaf: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(source) = leaf.downcast_ref::<DataSourceExec>() {
        let source = source.data_source();
        // A stream of Arrow would come out as a file of Arrow: the encoding knows only that.
        let encoded = |scan: &FileScanConfig| scan.file_source().file_type() != "arrow_stream";
        return source.downcast_ref::<FileScanConfig>().is_some_and(encoded) && can_be_carried(leaf)
            || source.downcast_ref::<MemorySourceConfig>().is_some();
    }
    // What else can be encoded is known by the codecs: the system relations are memory, and are told by their name.
    // A series loses its projection on the way: it travels whole.
    leaf.is::<RowsExec>()
        || leaf.is::<PlaceholderRowExec>()
        || leaf.name() == "EmptyExec"
        || (leaf.name() == "LazyMemoryExec" && leaf.schema().fields().len() == 1)
}

/// The plan with exchanges. `wide` tells a leaf that will be read by several tasks; `partitions` is what an exchange deals
/// to in each task.
pub fn spread(plan: &Arc<dyn ExecutionPlan>, partitions: usize, wide: &impl Fn(&Arc<dyn ExecutionPlan>) -> bool) -> DfResult<Arc<dyn ExecutionPlan>> {
    let spread = Spread { partitions, wide };
    let (made, open) = spread.node(plan, order_length(plan))?;
    if open { close(made, plan) } else { Ok(made) }
}

struct Spread<'a, W> {
    partitions: usize,
    wide: &'a W,
}

fn order_length(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.output_ordering().map_or(0, |order| order.len())
}

/// One partition again, in the order that `before` had.
fn close(plan: Arc<dyn ExecutionPlan>, before: &Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let Some(order) = before.output_ordering().cloned() else { return Ok(Arc::new(CoalescePartitionsExec::new(plan))) };
    let sorted = Arc::new(SortExec::new(order.clone(), plan).with_preserve_partitioning(true));
    Ok(Arc::new(SortPreservingMergeExec::new(order, sorted)))
}

impl<W: Fn(&Arc<dyn ExecutionPlan>) -> bool> Spread<'_, W> {
    /// The node, and whether it has more partitions now than its parent was made for. `order_shows`: how many
    /// columns of the rows' order are still there above the row-wise nodes that this one belongs to, to make it again.
    fn node(&self, plan: &Arc<dyn ExecutionPlan>, order_shows: usize) -> DfResult<(Arc<dyn ExecutionPlan>, bool)> {
        let children = plan.children();
        if children.is_empty() {
            return Ok((Arc::clone(plan), false));
        }
        let by_rows = row_wise(plan);
        let dear = !calls(plan).is_empty();
        let mut open = false;
        let mut made = Vec::with_capacity(children.len());
        for child in children {
            let shows = if by_rows { order_shows } else { order_length(child) };
            let (mut input, input_open) = self.node(child, shows)?;
            if dear && !input_open {
                // One partition of several tasks is more than its parent was made for, exchange or not.
                let one = input.output_partitioning().partition_count() == 1;
                let order = order_length(&input);
                open |= one;
                if !self.many_tasks(&input) || (one && order > order_shows) {
                    // Sorted partitions are dealt anew: what merges them above must find them sorted.
                    open |= order > 0 && order <= order_shows;
                    input = self.exchange(input, order_shows)?;
                }
            } else if input_open && by_rows {
                open = true;
            } else if input_open {
                input = close(input, child)?;
            }
            made.push(input);
        }
        let plan = Arc::clone(plan).replace_children(made, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?;
        Ok((plan, open))
    }

    fn exchange(&self, input: Arc<dyn ExecutionPlan>, order_shows: usize) -> DfResult<Arc<dyn ExecutionPlan>> {
        let one = input.output_partitioning().partition_count() == 1;
        let ordered = one && order_length(&input) > order_shows;
        let partitions = match (one, ordered) {
            (true, true) => 1,
            (true, false) => self.partitions.max(1),
            _ => input.output_partitioning().partition_count(),
        };
        let mut keys = if ordered { Vec::new() } else { keys(&input.schema()) };
        if keys.is_empty() {
            keys.push(Arc::new(Literal::new(ScalarValue::Int64(Some(0)))) as Arc<dyn PhysicalExpr>);
        }
        Ok(Arc::new(RepartitionExec::try_new(input, Partitioning::Hash(keys, partitions))?))
    }

    /// Whether this part of the plan will run in several tasks as it is.
    fn many_tasks(&self, plan: &Arc<dyn ExecutionPlan>) -> bool {
        if let Some(exchange) = plan.downcast_ref::<RepartitionExec>()
            && matches!(exchange.partitioning(), Partitioning::Hash(..))
        {
            return true;
        }
        if plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>() || wants_one_partition(plan) {
            return false;
        }
        match plan.children().as_slice() {
            [] => (self.wide)(plan),
            [one] => self.many_tasks(one),
            // The probe side decides: the other side is sent to every task of it.
            [_, probe] if broadcasts(plan) => self.many_tasks(probe),
            all => all.iter().all(|c| self.many_tasks(c)),
        }
    }
}

fn broadcasts(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<NestedLoopJoinExec>()
        || plan.is::<CrossJoinExec>()
        || plan.downcast_ref::<HashJoinExec>().is_some_and(|j| j.mode == PartitionMode::CollectLeft)
}

/// Nodes whose rows depend on one input row each.
pub fn row_wise(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let by_rows = plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<SelectedExec>()
        || plan.is::<CooperativeExec>()
        || !calls(plan).is_empty();
    by_rows && plan.fetch().is_none()
}

/// Whether the node gives the right answer only over all rows at once: two tasks of it would each take a part for all.
pub fn wants_one_partition(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>() || plan.is::<RepartitionExec>() {
        return false;
    }
    if plan.fetch().is_some() && plan.output_partitioning().partition_count() == 1 {
        return true;
    }
    let build_side_is_sent = broadcasts(plan);
    let wanted = plan.input_distribution_requirements();
    let children = plan.children();
    children.into_iter().enumerate().any(|(index, child)| {
        let distribution = wanted.child_distribution(index);
        let one = child.output_partitioning().partition_count() == 1;
        match distribution {
            Some(Distribution::UnspecifiedDistribution) | None => false,
            Some(_) => one && !(build_side_is_sent && index == 0),
        }
    })
}

/// Columns to deal rows by: the first few that hash cheaply.
fn keys(schema: &Schema) -> Vec<Arc<dyn PhysicalExpr>> {
    let cheap = |ty: &DataType| {
        ty.is_integer()
            || ty.is_temporal()
            || matches!(ty, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Boolean | DataType::FixedSizeBinary(_))
    };
    let column = |i: usize, name: &str| Arc::new(Column::new(name, i)) as Arc<dyn PhysicalExpr>;
    let mut found: Vec<_> =
        schema.fields().iter().enumerate().filter(|(_, f)| cheap(f.data_type())).take(KEYS_MAX).map(|(i, f)| column(i, f.name())).collect();
    if found.is_empty() {
        // A file reference alone, bytes alone: dearer to hash, and still spread.
        let wide = |ty: &DataType| matches!(ty, DataType::Struct(_) | DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
        found.extend(schema.fields().iter().enumerate().filter(|(_, f)| wide(f.data_type())).take(1).map(|(i, f)| column(i, f.name())));
    }
    found
}
