//! Our nodes as bytes.
//!
//! In: Compute, Expand and the sources of the engine. Out: versioned messages; functions cross by name, expressions by
//! DataFusion's own encoding. Invariants: what is decoded behaves as what was encoded; bytes of another version are
//! refused by name. Deliberately absent: DataFusion's nodes (datafusion-proto) and the network's (datafusion-distributed).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;
use squilla_core::error::{Error, Kind};
use squilla_core::values::FileRef;
use squilla_engine::error::to_datafusion;
use squilla_engine::exec::expand::ExpandExec;
use squilla_engine::exec::invoke::CallSpec;
use squilla_engine::exec::pack::{PackExec, Step};
use squilla_engine::exec::row_errors::OnError;
use squilla_engine::source::files::FileAccess;
use squilla_engine::source::listing::ListOptions;
use squilla_engine::source::read_files::Listing;
use squilla_engine::source::rows::RowsExec;
use squilla_engine::source::text::Lines;
use squilla_engine::udf::Functions;

use crate::deleted::{Runs, SelectedExec};

/// Changes with the messages below.
const VERSION: u32 = 1;

/// Encodes anywhere; decodes where there are functions and files.
pub struct Codec {
    /// What nodes are decoded with; None in a process that only sends.
    pub place: Option<Place>,
}

/// What nodes are decoded with.
pub struct Place {
    /// Functions by name.
    pub functions: Arc<Functions>,
    /// Files.
    pub files: Arc<FileAccess>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codec {VERSION}")
    }
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Kinds", tags = "2, 3, 4, 5, 6")]
    kind: Option<Kinds>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kinds {
    #[prost(message, tag = "2")]
    Pack(Pack),
    #[prost(message, tag = "3")]
    Expand(Expand),
    #[prost(message, tag = "4")]
    Listing(ListingNode),
    #[prost(message, tag = "5")]
    Lines(LinesNode),
    #[prost(message, tag = "6")]
    Selected(SelectedNode),
}

#[derive(Clone, PartialEq, Message)]
struct SelectedNode {
    #[prost(message, repeated, tag = "1")]
    files: Vec<SelectedFile>,
}

#[derive(Clone, PartialEq, Message)]
struct SelectedFile {
    #[prost(string, tag = "1")]
    path: String,
    /// Lengths of runs, in turn left out and wanted; the first may be empty.
    #[prost(uint64, repeated, tag = "2")]
    runs: Vec<u64>,
}

fn selected_node(selected: &SelectedExec) -> SelectedNode {
    let file = |(path, runs): (&String, &Runs)| {
        let mut lengths: Vec<u64> = vec![0];
        let mut wanted = false;
        for (rows, is_wanted) in runs {
            if *is_wanted == wanted {
                if let Some(last) = lengths.last_mut() {
                    *last += rows;
                }
            } else {
                lengths.push(*rows);
                wanted = *is_wanted;
            }
        }
        SelectedFile { path: path.clone(), runs: lengths }
    };
    SelectedNode { files: selected.selected().iter().map(file).collect() }
}

fn selected_rows(node: SelectedNode) -> HashMap<String, Runs> {
    let runs = |lengths: Vec<u64>| lengths.into_iter().enumerate().map(|(i, rows)| (rows, i % 2 == 1)).filter(|(rows, _)| *rows > 0).collect();
    node.files.into_iter().map(|f| (f.path, runs(f.runs))).collect()
}

#[derive(Clone, PartialEq, Message)]
struct Pack {
    #[prost(message, repeated, tag = "1")]
    steps: Vec<StepNode>,
}

#[derive(Clone, PartialEq, Message)]
struct StepNode {
    #[prost(message, optional, tag = "1")]
    call: Option<CallNode>,
    /// One field.
    #[prost(message, optional, tag = "2")]
    field: Option<datafusion_proto::protobuf::Schema>,
    #[prost(message, optional, tag = "3")]
    guard: Option<PhysicalExprNode>,
    #[prost(bool, tag = "4")]
    output: bool,
}

#[derive(Clone, PartialEq, Message)]
struct CallNode {
    #[prost(string, tag = "1")]
    function: String,
    #[prost(uint32, tag = "2")]
    signature: u32,
    #[prost(string, tag = "3")]
    on_error: String,
    #[prost(bool, tag = "4")]
    recorded: bool,
    #[prost(message, repeated, tag = "5")]
    args: Vec<PhysicalExprNode>,
}

#[derive(Clone, PartialEq, Message)]
struct Expand {
    #[prost(message, optional, tag = "1")]
    call: Option<CallNode>,
    #[prost(message, optional, tag = "2")]
    generated: Option<datafusion_proto::protobuf::Schema>,
    #[prost(bool, tag = "3")]
    outer: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ListingNode {
    #[prost(string, repeated, tag = "1")]
    patterns: Vec<String>,
    #[prost(bool, tag = "2")]
    recursive: bool,
    #[prost(int64, optional, tag = "3")]
    modified_after_us: Option<i64>,
    #[prost(uint64, optional, tag = "4")]
    files_max: Option<u64>,
    #[prost(bool, tag = "5")]
    details: bool,
    #[prost(bool, tag = "6")]
    skip_underscore: bool,
    #[prost(message, optional, tag = "7")]
    schema: Option<datafusion_proto::protobuf::Schema>,
    #[prost(message, optional, tag = "8")]
    wide: Option<datafusion_proto::protobuf::Schema>,
    #[prost(uint64, repeated, tag = "9")]
    positions: Vec<u64>,
    #[prost(message, repeated, tag = "10")]
    filters: Vec<PhysicalExprNode>,
    #[prost(uint64, optional, tag = "11")]
    limit: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct LinesNode {
    #[prost(string, repeated, tag = "1")]
    patterns: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    groups: Vec<FilesNode>,
    #[prost(message, optional, tag = "3")]
    schema: Option<datafusion_proto::protobuf::Schema>,
    #[prost(uint64, tag = "4")]
    limit: u64,
}

#[derive(Clone, PartialEq, Message)]
struct FilesNode {
    #[prost(message, repeated, tag = "1")]
    files: Vec<FileNode>,
}

#[derive(Clone, PartialEq, Message)]
struct FileNode {
    #[prost(string, tag = "1")]
    uri: String,
    #[prost(int64, optional, tag = "2")]
    size: Option<i64>,
    #[prost(string, optional, tag = "3")]
    etag: Option<String>,
    #[prost(int64, optional, tag = "4")]
    last_modified_us: Option<i64>,
    #[prost(string, optional, tag = "5")]
    content_type: Option<String>,
}

fn wrong(what: impl std::fmt::Display) -> DataFusionError {
    to_datafusion(Error::new(Kind::Internal, format!("a plan that cannot be read came from the coordinator: {what}")))
}

fn fields(schema: Option<datafusion_proto::protobuf::Schema>) -> DfResult<SchemaRef> {
    let schema = schema.ok_or_else(|| wrong("a schema is missing"))?;
    Ok(Arc::new(Schema::try_from(&schema).map_err(wrong)?))
}

fn schema_node(schema: &Schema) -> DfResult<Option<datafusion_proto::protobuf::Schema>> {
    Ok(Some(schema.try_into()?))
}

type Converter<'a> = &'a dyn PhysicalProtoConverterExtension;

impl Codec {
    fn exprs(&self, exprs: &[Arc<dyn PhysicalExpr>], converter: Converter<'_>) -> DfResult<Vec<PhysicalExprNode>> {
        exprs.iter().map(|e| converter.physical_expr_to_proto(e, self)).collect()
    }

    fn call_node(&self, call: &CallSpec, args: &[Arc<dyn PhysicalExpr>], converter: Converter<'_>) -> DfResult<CallNode> {
        Ok(CallNode {
            function: call.entry.declaration.name.clone(),
            signature: u32::try_from(call.signature).map_err(wrong)?,
            on_error: call.on_error.word().to_owned(),
            recorded: call.recorded,
            args: self.exprs(args, converter)?,
        })
    }

    fn node(&self, plan: &Arc<dyn ExecutionPlan>, converter: Converter<'_>) -> DfResult<Kinds> {
        if let Some(pack) = plan.downcast_ref::<PackExec>() {
            let step = |step: &Step| -> DfResult<StepNode> {
                Ok(StepNode {
                    call: Some(self.call_node(&step.call, &step.args, converter)?),
                    field: schema_node(&Schema::new(vec![Arc::clone(&step.field)]))?,
                    guard: step.guard.as_ref().map(|g| converter.physical_expr_to_proto(g, self)).transpose()?,
                    output: step.output,
                })
            };
            return Ok(Kinds::Pack(Pack { steps: pack.steps().iter().map(step).collect::<DfResult<_>>()? }));
        }
        if let Some(expand) = plan.downcast_ref::<ExpandExec>() {
            let ((call, args), (generated, outer)) = (expand.call(), expand.shape());
            let generated = schema_node(&Schema::new(generated.as_ref().clone()))?;
            return Ok(Kinds::Expand(Expand { call: Some(self.call_node(call, args, converter)?), generated, outer }));
        }
        if let Some(selected) = plan.downcast_ref::<SelectedExec>() {
            return Ok(Kinds::Selected(selected_node(selected)));
        }
        let Some(rows) = plan.downcast_ref::<RowsExec>() else {
            return Err(DataFusionError::NotImplemented(format!("{} cannot be sent to a worker", plan.name())));
        };
        if let Some(l) = rows.source().downcast_ref::<Listing>() {
            return Ok(Kinds::Listing(ListingNode {
                patterns: l.patterns.clone(),
                recursive: l.options.recursive,
                modified_after_us: l.options.modified_after_us,
                files_max: l.options.files_max,
                details: l.options.details,
                skip_underscore: l.options.skip_underscore,
                schema: schema_node(&l.schema)?,
                wide: schema_node(&l.wide)?,
                positions: l.positions.iter().map(|p| *p as u64).collect(),
                filters: self.exprs(&l.filters, converter)?,
                limit: l.limit.map(|n| n as u64),
            }));
        }
        if let Some(l) = rows.source().downcast_ref::<Lines>() {
            let file = |f: &FileRef| FileNode {
                uri: f.uri.clone(),
                size: f.size,
                etag: f.etag.clone(),
                last_modified_us: f.last_modified_us,
                content_type: f.content_type.clone(),
            };
            return Ok(Kinds::Lines(LinesNode {
                patterns: l.patterns.clone(),
                groups: l.groups.iter().map(|g| FilesNode { files: g.iter().map(file).collect() }).collect(),
                schema: schema_node(&l.schema)?,
                limit: l.limit as u64,
            }));
        }
        Err(DataFusionError::NotImplemented(format!("{} cannot be sent to a worker", plan.name())))
    }
}

/// Decodes one node.
struct Reader<'a> {
    codec: &'a Codec,
    place: &'a Place,
    context: &'a TaskContext,
    converter: Converter<'a>,
}

impl Reader<'_> {
    fn expr(&self, node: &PhysicalExprNode, schema: &Schema) -> DfResult<Arc<dyn PhysicalExpr>> {
        self.converter.proto_to_physical_expr(node, schema, &PhysicalPlanDecodeContext::new(self.context, self.codec))
    }

    fn call(&self, node: Option<CallNode>, schema: &Schema) -> DfResult<(CallSpec, Vec<Arc<dyn PhysicalExpr>>)> {
        let node = node.ok_or_else(|| wrong("a call is missing"))?;
        let entry = self.place.functions.get(&node.function).ok_or_else(|| wrong(format!("there is no function {}", node.function)))?;
        let args = node.args.iter().map(|a| self.expr(a, schema)).collect::<DfResult<Vec<_>>>()?;
        let on_error = OnError::parse(&node.on_error).map_err(to_datafusion)?;
        Ok((CallSpec { entry: Arc::clone(entry), signature: node.signature as usize, on_error, recorded: node.recorded }, args))
    }

    fn node(&self, kind: Kinds, inputs: &[Arc<dyn ExecutionPlan>]) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = || inputs.first().cloned().ok_or_else(|| wrong("an input is missing"));
        match kind {
            Kinds::Pack(pack) => {
                let input = input()?;
                let mut all: Vec<Arc<Field>> = input.schema().fields().iter().cloned().collect();
                let fields = pack.steps.iter().map(|s| fields(s.field.clone())).collect::<DfResult<Vec<_>>>()?;
                all.extend(fields.iter().flat_map(|f| f.fields().iter().cloned()));
                let extended = Schema::new(all);
                let mut steps = Vec::with_capacity(pack.steps.len());
                for (step, field) in pack.steps.into_iter().zip(fields) {
                    let (call, args) = self.call(step.call, &extended)?;
                    let guard = step.guard.as_ref().map(|g| self.expr(g, &extended)).transpose()?;
                    let field = field.fields().first().cloned().ok_or_else(|| wrong("a field is missing"))?;
                    steps.push(Step { field, call, args, guard, output: step.output });
                }
                Ok(Arc::new(PackExec::new(input, Arc::new(steps))))
            }
            Kinds::Expand(expand) => {
                let input = input()?;
                let (call, args) = self.call(expand.call, &input.schema())?;
                let generated = fields(expand.generated)?.fields().iter().cloned().collect();
                Ok(Arc::new(ExpandExec::new(input, call, args, Arc::new(generated), expand.outer)))
            }
            Kinds::Listing(l) => {
                let wide = fields(l.wide)?;
                let filters = l.filters.iter().map(|f| self.expr(f, &wide)).collect::<DfResult<Vec<_>>>()?;
                let options = ListOptions {
                    recursive: l.recursive,
                    modified_after_us: l.modified_after_us,
                    files_max: l.files_max,
                    details: l.details,
                    skip_underscore: l.skip_underscore,
                };
                Ok(Listing {
                    access: Arc::clone(&self.place.files),
                    patterns: l.patterns,
                    options,
                    schema: fields(l.schema)?,
                    wide,
                    positions: l.positions.iter().map(|p| *p as usize).collect(),
                    filters,
                    limit: l.limit.map(|n| n as usize),
                }
                .into_plan())
            }
            Kinds::Selected(node) => Ok(Arc::new(SelectedExec::restored(&input()?, selected_rows(node))?)),
            Kinds::Lines(l) => {
                let file = |f: FileNode| FileRef {
                    uri: f.uri,
                    size: f.size,
                    etag: f.etag,
                    last_modified_us: f.last_modified_us,
                    content_type: f.content_type,
                };
                let groups = l.groups.into_iter().map(|g| g.files.into_iter().map(file).collect::<VecDeque<_>>()).collect();
                let access = Arc::clone(&self.place.files);
                Ok(Lines { access, patterns: l.patterns, groups, schema: fields(l.schema)?, limit: l.limit as usize }.into_plan())
            }
        }
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, into: &mut Vec<u8>, converter: Converter<'_>) -> DfResult<()> {
        let node = Node { version: VERSION, kind: Some(self.node(&node, converter)?) };
        node.encode(into).map_err(wrong)
    }

    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: Converter<'_>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let node = Node::decode(bytes).map_err(wrong)?;
        if node.version != VERSION {
            return Err(wrong(format!("its nodes have version {}, here it is {VERSION}", node.version)));
        }
        let place = self.place.as_ref().ok_or_else(|| wrong("this process only sends plans"))?;
        let kind = node.kind.ok_or_else(|| wrong("a node of an unknown kind"))?;
        Reader { codec: self, place, context, converter }.node(kind, inputs)
    }
}
