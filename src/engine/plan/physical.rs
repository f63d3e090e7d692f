//! Operators for our logical nodes.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use squilla_core::error::Error;
use squilla_core::kernel::Kernel;

use crate::error::to_datafusion;
use crate::exec::env::StatementEnv;
use crate::exec::expand::ExpandExec;
use crate::exec::invoke::CallSpec;
use crate::exec::pack::{PackExec, Step};
use crate::exec::row_errors::OnError;
use crate::plan::compute::Compute;
use crate::plan::expand::Expand;
use crate::plan::media_batches;
use crate::udf::marker;

/// DataFusion's planner with our nodes.
#[derive(Debug, Default)]
pub struct SquillaQueryPlanner;

#[async_trait]
impl QueryPlanner for SquillaQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> DfResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Nodes)]);
        media_batches::small(planner.create_physical_plan(plan, session).await?)
    }
}

struct Nodes;

#[async_trait]
impl ExtensionPlanner for Nodes {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let input = || inputs.first().cloned().ok_or_else(|| DataFusionError::Internal("a node of ours has one input".into()));
        if let Some(compute) = node.as_any().downcast_ref::<Compute>() {
            let steps = steps(compute, planner, session, context)?;
            return Ok(Some(Arc::new(PackExec::new(input()?, Arc::new(steps)))));
        }
        if let Some(expand) = node.as_any().downcast_ref::<Expand>() {
            // Asking for the type runs the function's check of constants, which nothing did while the FROM item was planned.
            expand.call.to_field(expand.input.schema())?;
            let (call, args) = call(&expand.call, true, expand.input.schema(), planner, session, context)?;
            let generated = Arc::new(expand.generated.clone());
            return Ok(Some(Arc::new(ExpandExec::new(input()?, call, args, generated, expand.outer))));
        }
        Ok(None)
    }
}

fn steps(compute: &Compute, planner: &dyn PhysicalPlanner, session: &dyn Session, context: &PhysicalPlanningContext) -> DfResult<Vec<Step>> {
    let mut steps = Vec::with_capacity(compute.steps.len());
    for (index, step) in compute.steps.iter().enumerate() {
        let (call, args) = call(&step.call, step.recorded, &compute.extended, planner, session, context)?;
        let guard = step.guard.as_ref().map(|g| planner.create_physical_expr(g, &compute.extended, session, context)).transpose()?;
        let field = compute.extended.field(compute.input.schema().fields().len() + index);
        steps.push(Step { field: Arc::new(Field::clone(field)), call, args, guard, output: step.output });
    }
    Ok(steps)
}

type CallWithArgs = (CallSpec, Vec<Arc<dyn PhysicalExpr>>);

fn call(
    expr: &Expr,
    recorded: bool,
    schema: &DFSchema,
    planner: &dyn PhysicalPlanner,
    session: &dyn Session,
    context: &PhysicalPlanningContext,
) -> DfResult<CallWithArgs> {
    let Expr::ScalarFunction(function) = expr else {
        return Err(to_datafusion(Error::internal(format!("not a call: {expr}"))));
    };
    let marker = marker(&function.func).ok_or_else(|| to_datafusion(Error::internal(format!("not a call of ours: {expr}"))))?;
    let types: Vec<DataType> = function.args.iter().map(|a| a.get_type(schema)).collect::<DfResult<_>>()?;
    let (signature, _) = marker.entry.resolve(&types).ok_or_else(|| to_datafusion(Error::internal(format!("no overload for {expr}"))))?;
    let position = marker.entry.declaration.signatures.get(signature).and_then(|s| s.position("on_error"));
    let given = position.and_then(|p| function.args.get(p)).and_then(|a| match a {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    });
    let on_error = match (given, marker.entry.function.kernel) {
        (Some(word), _) => OnError::parse(&word).map_err(to_datafusion)?,
        // A model function without the argument does as the session says; it cannot give a composite.
        (None, Kernel::Model(_)) => match session.config().get_extension::<StatementEnv>().map(|s| s.on_error) {
            Some(OnError::Raise) | None => OnError::Raise,
            Some(_) => OnError::Null,
        },
        (None, _) => OnError::Raise,
    };
    let args = function.args.iter().map(|a| planner.create_physical_expr(a, schema, session, context)).collect::<DfResult<Vec<_>>>()?;
    Ok((CallSpec { entry: Arc::clone(&marker.entry), signature, on_error, recorded }, args))
}
