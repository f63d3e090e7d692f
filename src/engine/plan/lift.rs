//! Dear calls leave expressions: each plan node that uses one gets a Compute node below it.
//!
//! In: an optimized logical plan whose expressions contain marker calls with dear kernels. Out: the same plan where such
//! calls are column references to Compute nodes. Equal calls of one node are made once. Calls that a filter below has made are not made again. Calls under CASE, AND, OR and
//! COALESCE keep their condition as a guard, so they run only for rows that reach them. A `bytea` parameter that is
//! given a `file` gets `file_content(file)` put in between. Cheap conjuncts of a filter run before dear ones.
//! Invariant: the output schema of every node is unchanged. Deliberately absent: calls over both sides in the ON of outer and semi joins (0A000).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, Extension, Filter, Join, LogicalPlan, Operator, Projection};
use parking_lot::Mutex;
use squilla_core::error::Error;
use squilla_core::types::SqlType;

use crate::bind::defaults;
use crate::error::to_datafusion;
use crate::plan::compute::{Compute, StepExpr};
use crate::plan::expand::Expand;
use crate::plan::{fuse, range};
use crate::udf::{Functions, marker};

/// What a plan is lifted with, and what was changed in it.
pub struct Lifting {
    functions: Arc<Functions>,
    rewrites: Mutex<BTreeSet<&'static str>>,
    /// Names of steps are unique in a plan, so that they never meet in a join.
    next_step: AtomicU64,
}

impl Lifting {
    pub(crate) fn note(&self, rewrite: &'static str) {
        self.rewrites.lock().insert(rewrite);
    }
}

/// Lifts every dear call of `plan`. Returns the plan and the names of the rewrites that were made, for EXPLAIN.
pub fn lift(plan: LogicalPlan, functions: &Arc<Functions>) -> DfResult<(LogicalPlan, Vec<&'static str>)> {
    let lifting = Lifting { functions: Arc::clone(functions), rewrites: Mutex::default(), next_step: AtomicU64::new(0) };
    let plan = plan.transform_up_with_subqueries(|node| lift_node(node, &lifting)).data()?;
    Ok((plan, lifting.rewrites.into_inner().into_iter().collect()))
}

/// Whether an expression contains a dear call.
pub fn is_dear(expr: &Expr) -> bool {
    expr.exists(|e| Ok(dear_marker(e))).unwrap_or(false)
}

fn dear_marker(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if marker(&f.func).is_some_and(|m| m.entry.is_dear()))
}

fn unsupported(message: &str) -> datafusion::common::DataFusionError {
    to_datafusion(Error::unsupported(message).hint("Compute the value in a subquery or a common table expression first."))
}

fn lift_node(plan: LogicalPlan, functions: &Lifting) -> DfResult<Transformed<LogicalPlan>> {
    if let LogicalPlan::Extension(Extension { node }) = &plan {
        return match node.as_any().downcast_ref::<Expand>() {
            Some(expand) => lift_expand(expand, functions).map(|p| p.map_or(Transformed::no(plan), Transformed::yes)),
            None => Ok(Transformed::no(plan)),
        };
    }
    let plan = match plan {
        LogicalPlan::Filter(filter) => LogicalPlan::Filter(range::narrow(filter, functions)?),
        other => other,
    };
    if !plan.expressions().iter().any(is_dear) {
        return Ok(Transformed::yes(plan));
    }
    match plan {
        LogicalPlan::Filter(filter) => lift_filter(filter, functions).map(Transformed::yes),
        LogicalPlan::Join(join) => lift_join(join, functions).map(Transformed::yes),
        LogicalPlan::Values(values) => {
            let schema = Arc::clone(&values.schema);
            lift_values(values.values, &schema, functions).map(Transformed::yes)
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Repartition(_) => lift_unary(plan, functions).map(Transformed::yes),
        other => Err(unsupported(&format!("model and media functions cannot be used in {}", other.display()))),
    }
}

/// Projection, Aggregate, Sort, Window: expressions over one input.
fn lift_unary(plan: LogicalPlan, functions: &Lifting) -> DfResult<LogicalPlan> {
    let mut input = Arc::new(plan.inputs().into_iter().next().cloned().ok_or_else(|| unsupported("this use of a model function"))?);
    let names = NamePreserver::new(&plan);
    let output = Arc::clone(plan.schema());
    let saved: Vec<_> = plan.expressions().iter().map(|e| names.save(e)).collect();
    let mut exprs = plan.expressions();
    if matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) {
        (exprs, input) = through_projections(exprs, input)?;
    }
    let exprs = fuse::fuse(exprs, functions)?;
    let source = Arc::clone(&input);
    let mut lifter = Lifter::new(input.schema(), functions);
    lifter.below = made_below(&source);
    let mut lifted = Vec::with_capacity(exprs.len());
    for (expr, name) in exprs.into_iter().zip(saved) {
        lifted.push(name.restore(lifter.lift(expr, None)?));
    }
    let exprs = lifted;
    let whole = matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_));
    let compute = lifter.compute(input, &exprs, whole)?;
    let rebuilt = plan.with_new_exprs(exprs, vec![compute])?;
    if whole { Ok(rebuilt) } else { project_to(rebuilt, &output) }
}

/// Expressions over a projection that only picks columns, as expressions over its input: so that a chain of calls that was
/// written in several subqueries becomes one Compute node, and values inside it never leave their pack.
fn through_projections(mut exprs: Vec<Expr>, mut input: Arc<LogicalPlan>) -> DfResult<(Vec<Expr>, Arc<LogicalPlan>)> {
    loop {
        let projection = match &*input {
            LogicalPlan::SubqueryAlias(alias) => match &*alias.input {
                LogicalPlan::Projection(projection) => projection.clone(),
                _ => return Ok((exprs, input)),
            },
            LogicalPlan::Projection(projection) => projection.clone(),
            _ => return Ok((exprs, input)),
        };
        if !projection.expr.iter().all(|e| matches!(e.clone().unalias(), Expr::Column(_))) {
            return Ok((exprs, input));
        }
        let schema = Arc::clone(input.schema());
        exprs = exprs
            .into_iter()
            .map(|expr| {
                expr.transform(|e| match &e {
                    Expr::Column(column) => {
                        let inner = schema.maybe_index_of_column(column).and_then(|i| projection.expr.get(i)).cloned();
                        Ok(inner.map_or(Transformed::no(e), |inner| Transformed::yes(inner.unalias())))
                    }
                    _ => Ok(Transformed::no(e)),
                })
                .data()
            })
            .collect::<DfResult<_>>()?;
        input = projection.input;
    }
}

/// Drops the columns that lifting added.
fn project_to(plan: LogicalPlan, output: &DFSchema) -> DfResult<LogicalPlan> {
    let exprs: Vec<Expr> = output.iter().map(|(q, f)| Expr::from((q, f))).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

fn lift_filter(filter: Filter, functions: &Lifting) -> DfResult<LogicalPlan> {
    let output = Arc::clone(filter.input.schema());
    let (dear, cheap): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate).into_iter().partition(is_dear);
    let dear = fuse::fuse(dear, functions)?;
    let input = match conjunction(cheap) {
        Some(cheap) => {
            functions.note("cheap predicates before dear ones");
            Arc::new(LogicalPlan::Filter(Filter::try_new(cheap, filter.input)?))
        }
        None => filter.input,
    };
    let mut lifter = Lifter::new(input.schema(), functions);
    let mut lifted = Vec::with_capacity(dear.len());
    for expr in dear {
        lifted.push(lifter.lift(expr, None)?);
    }
    let compute = Arc::new(lifter.compute(input, &lifted, false)?);
    let predicate = conjunction(lifted).ok_or_else(|| unsupported("an empty filter"))?;
    project_to(LogicalPlan::Filter(Filter::try_new(predicate, compute)?), &output)
}

/// Calls in a join's ON. Those of one side are computed below that side; in an inner join, those beyond the equal keys are
/// computed above it, for the rows that meet; in the others they decide which rows meet, and one that reads both sides cannot
/// be computed anywhere.
fn lift_join(join: Join, functions: &Lifting) -> DfResult<LogicalPlan> {
    let output = Arc::clone(&join.schema);
    let (left_schema, right_schema) = (Arc::clone(join.left.schema()), Arc::clone(join.right.schema()));
    let mut left = Lifter::new(&left_schema, functions);
    let mut right = Lifter::new(&right_schema, functions);
    let mut on = Vec::with_capacity(join.on.len());
    for (l, r) in join.on {
        on.push((left.lift(l, None)?, right.lift(r, None)?));
    }
    let inner = join.join_type == JoinType::Inner;
    let conjuncts = join.filter.map(split_conjunction_owned).unwrap_or_default();
    let (above, inside): (Vec<Expr>, Vec<Expr>) = conjuncts.into_iter().partition(|e| inner && is_dear(e));
    let mut filters = Vec::with_capacity(inside.len());
    for conjunct in inside {
        let lifted = conjunct.transform_down(|e| {
            if !dear_marker(&e) {
                return Ok(Transformed::no(e));
            }
            let reads = |schema: &DFSchema| e.column_refs().iter().all(|c| schema.has_column(c));
            let lifted = match (reads(&left_schema), reads(&right_schema)) {
                (true, _) => left.lift(e, None)?,
                (_, true) => right.lift(e, None)?,
                _ => return Err(unsupported("model and media functions over columns of both sides cannot be used in the ON condition of this join")),
            };
            Ok(Transformed::new(lifted, true, TreeNodeRecursion::Jump))
        });
        filters.push(lifted.data()?);
    }
    let left = Arc::new(left.compute(join.left, on.iter().map(|(l, _)| l).chain(&filters), false)?);
    let right = Arc::new(right.compute(join.right, on.iter().map(|(_, r)| r).chain(&filters), false)?);
    let joined = Join::try_new(left, right, on, conjunction(filters), join.join_type, join.join_constraint, join.null_equality, join.null_aware)?;
    let mut plan = LogicalPlan::Join(joined);
    if let Some(above) = conjunction(above) {
        plan = lift_filter(Filter::try_new(above, Arc::new(plan))?, functions)?;
    }
    project_to(plan, &output)
}

/// VALUES with calls: a union of one-row projections.
fn lift_values(rows: Vec<Vec<Expr>>, schema: &DFSchema, functions: &Lifting) -> DfResult<LogicalPlan> {
    let mut builder: Option<datafusion::logical_expr::LogicalPlanBuilder> = None;
    for row in rows {
        let exprs = row.into_iter().zip(schema.fields()).map(|(e, f)| e.alias(f.name()));
        let one = datafusion::logical_expr::LogicalPlanBuilder::empty(true).project(exprs)?.build()?;
        let one = lift_unary(one, functions)?;
        builder = Some(match builder {
            None => datafusion::logical_expr::LogicalPlanBuilder::from(one),
            Some(b) => b.union(one)?,
        });
    }
    builder.ok_or_else(|| unsupported("empty VALUES"))?.build()
}

fn lift_expand(expand: &Expand, functions: &Lifting) -> DfResult<Option<LogicalPlan>> {
    let Expr::ScalarFunction(call) = &expand.call else { return Ok(None) };
    let mut lifter = Lifter::new(expand.input.schema(), functions);
    let call = lifter.arguments(call.clone(), None, true)?;
    if lifter.steps.is_empty() {
        return Ok(None);
    }
    let output = Arc::clone(&expand.schema);
    let compute = Arc::new(lifter.compute(Arc::clone(&expand.input), &call.args, false)?);
    let node = Expand::try_new(compute, Expr::ScalarFunction(call), expand.outer, expand.qualifier.clone(), expand.generated.clone())?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    project_to(plan, &output).map(Some)
}

/// Collects the steps of one Compute node.
struct Lifter<'a> {
    functions: &'a Lifting,
    /// Input columns and steps so far.
    schema: DFSchema,
    steps: Vec<StepExpr>,
    known: HashMap<(Expr, Option<Expr>), usize>,
    recorded: bool,
    /// A Compute node below whose columns are still there.
    below: Option<&'a Compute>,
}

/// The Compute node whose columns `input` still has: below filters.
fn made_below(input: &LogicalPlan) -> Option<&Compute> {
    match input {
        LogicalPlan::Filter(filter) => made_below(&filter.input),
        LogicalPlan::Extension(Extension { node }) => node.as_any().downcast_ref::<Compute>(),
        _ => None,
    }
}

impl<'a> Lifter<'a> {
    fn new(input: &DFSchema, functions: &'a Lifting) -> Self {
        Self { functions, schema: input.clone(), steps: Vec::new(), known: HashMap::new(), recorded: true, below: None }
    }

    /// The column of a call that a node below has made already. Tried by lifting the call as if it were part of that node: it
    /// was made there when nothing has to be added.
    fn reuse(&self, call: &ScalarFunction) -> Option<Expr> {
        let below = self.below?;
        let known = below.steps.iter().enumerate().filter(|(_, s)| s.guard.is_none()).map(|(i, s)| ((s.call.clone(), None), i));
        let schema = below.extended.as_ref().clone();
        let mut probe =
            Lifter { functions: self.functions, schema, steps: below.steps.clone(), known: known.collect(), recorded: self.recorded, below: None };
        let lifted = probe.lift(Expr::ScalarFunction(call.clone()), None).ok()?;
        let Expr::Column(column) = &lifted else { return None };
        let made = probe.steps.len() == below.steps.len() && below.steps.iter().any(|s| s.output && s.name == column.name);
        made.then_some(lifted)
    }

    /// The node; steps that `used` expressions read leave it, others live only inside their pack. `whole`: nothing but
    /// `used` reads the node's columns.
    fn compute<'e>(mut self, input: Arc<LogicalPlan>, used: impl IntoIterator<Item = &'e Expr>, whole: bool) -> DfResult<LogicalPlan> {
        if self.steps.is_empty() {
            return Ok(Arc::unwrap_or_clone(input));
        }
        let mut read = HashSet::new();
        for expr in used {
            expr.apply(|e| {
                if let Expr::Column(column) = e {
                    read.insert(column.name.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        for step in &mut self.steps {
            step.output = read.contains(&step.name);
        }
        // A Compute node right below becomes part of this one, when only `used` reads it.
        if whole
            && let LogicalPlan::Extension(Extension { node }) = &*input
            && let Some(below) = node.as_any().downcast_ref::<Compute>()
        {
            let mut steps = below.steps.clone();
            steps.iter_mut().for_each(|s| s.output = read.contains(&s.name));
            steps.append(&mut self.steps);
            let merged = Compute::try_new(Arc::clone(&below.input), steps)?;
            return Ok(LogicalPlan::Extension(Extension { node: Arc::new(merged) }));
        }
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Compute::try_new(input, self.steps)?) }))
    }

    /// `expr` with its dear calls replaced by columns. `guard` is true for the rows that reach `expr`.
    fn lift(&mut self, expr: Expr, guard: Option<&Expr>) -> DfResult<Expr> {
        if !is_dear(&expr) {
            return Ok(expr);
        }
        match expr {
            Expr::ScalarFunction(function) if dear_marker(&Expr::ScalarFunction(function.clone())) => {
                if let Some(made) = self.reuse(&function) {
                    self.functions.note("one evaluation of equal calls");
                    return Ok(made);
                }
                let function = self.arguments(function, guard, true)?;
                self.step(Expr::ScalarFunction(function), guard)
            }
            Expr::ScalarFunction(function) if function.name() == "try" => self.tried(function, guard),
            Expr::ScalarFunction(function) if function.name() == "coalesce" => self.coalesce(function, guard),
            Expr::ScalarFunction(function) => self.arguments(function, guard, false).map(Expr::ScalarFunction),
            Expr::Case(case) => self.case(case, guard),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let left = self.lift(*left, guard)?;
                // The right side matters only where the left side does not decide.
                let open = if op == Operator::And { left.clone().is_not_false() } else { left.clone().is_not_true() };
                let right = self.lift(*right, Some(&and(guard, open)))?;
                Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            other => {
                // Any other expression: its children one by one, with the same guard.
                other
                    .map_children(|child| {
                        let lifted = self.lift(child, guard)?;
                        Ok(Transformed::yes(lifted))
                    })
                    .data()
            }
        }
    }

    /// Lifts a call's arguments; a file given for bytes is fetched when `ours`.
    fn arguments(&mut self, mut function: ScalarFunction, guard: Option<&Expr>, ours: bool) -> DfResult<ScalarFunction> {
        let mut args = Vec::with_capacity(function.args.len());
        for arg in std::mem::take(&mut function.args) {
            args.push(self.lift(arg, guard)?);
        }
        if ours && let Some(marker) = marker(&function.func) {
            let types: Vec<DataType> = args.iter().map(|a| a.get_type(&self.schema)).collect::<DfResult<_>>()?;
            if let Some((signature, _)) = marker.entry.resolve(&types)
                && let Some(signature) = marker.entry.declaration.signatures.get(signature)
            {
                let on_error = signature.position("on_error").and_then(|p| args.get(p)).cloned();
                for (position, declared) in signature.arguments.iter().enumerate() {
                    let file = types.get(position).is_some_and(|t| SqlType::of_arrow(t) == SqlType::File);
                    if declared.ty == SqlType::Bytea
                        && file
                        && let Some(arg) = args.get_mut(position)
                    {
                        let fetch = self.fetch(arg.clone(), on_error.clone())?;
                        *arg = self.step(fetch, guard)?;
                    }
                }
            }
        }
        function.args = args;
        Ok(function)
    }

    /// `file_content(file)` with the defaults of its declaration and the policy of the call around it.
    fn fetch(&self, file: Expr, on_error: Option<Expr>) -> DfResult<Expr> {
        let udf = self.functions.functions.udf("file_content").ok_or_else(|| to_datafusion(Error::internal("file_content is not declared")))?;
        let entry = &marker(udf).ok_or_else(|| to_datafusion(Error::internal("file_content is not ours")))?.entry;
        let signature = entry.declaration.signatures.iter().find(|s| s.arguments.first().is_some_and(|a| a.ty == SqlType::File));
        let signature =
            signature.or(entry.declaration.signatures.first()).ok_or_else(|| to_datafusion(Error::internal("file_content has no overload")))?;
        let mut args = vec![file];
        for argument in signature.arguments.iter().skip(1) {
            let policy = on_error.clone().filter(|_| argument.name == "on_error");
            args.push(policy.unwrap_or_else(|| Expr::Literal(defaults::scalar(argument), None)));
        }
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(udf), args)))
    }

    /// The column of a call, made once for equal calls under equal guards.
    fn step(&mut self, call: Expr, guard: Option<&Expr>) -> DfResult<Expr> {
        let key = (call.clone(), guard.cloned());
        if let Some(step) = self.known.get(&key).and_then(|index| self.steps.get(*index)).filter(|s| s.recorded == self.recorded) {
            self.functions.note("one evaluation of equal calls");
            return Ok(Compute::column(&step.name));
        }
        let name = format!("__call_{}", self.functions.next_step.fetch_add(1, Ordering::Relaxed));
        let (_, field) = call.to_field(&self.schema)?;
        let field = Arc::new(field.as_ref().clone().with_name(&name).with_nullable(true));
        let mut fields: Vec<_> = self.schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        fields.push((None, field));
        self.schema = DFSchema::new_with_metadata(fields, self.schema.metadata().clone())?;
        self.known.insert(key, self.steps.len());
        self.steps.push(StepExpr { name: name.clone(), call, guard: guard.cloned(), output: true, recorded: self.recorded });
        Ok(Compute::column(&name))
    }

    /// try(expr): errors of the calls inside give NULL and are not recorded.
    fn tried(&mut self, mut function: ScalarFunction, guard: Option<&Expr>) -> DfResult<Expr> {
        let inner = function.args.pop().ok_or_else(|| unsupported("try() without an argument"))?;
        let inner = inner.transform_up(|e| Ok(set_policy(e, "null"))).data()?;
        let before = std::mem::replace(&mut self.recorded, false);
        let lifted = self.lift(inner, guard);
        self.recorded = before;
        lifted
    }

    fn coalesce(&mut self, mut function: ScalarFunction, guard: Option<&Expr>) -> DfResult<Expr> {
        let mut open = guard.cloned();
        let mut args = Vec::with_capacity(function.args.len());
        for arg in std::mem::take(&mut function.args) {
            let lifted = self.lift(arg, open.as_ref())?;
            open = Some(and(open.as_ref(), lifted.clone().is_null()));
            args.push(lifted);
        }
        function.args = args;
        Ok(Expr::ScalarFunction(function))
    }

    fn case(&mut self, case: Case, guard: Option<&Expr>) -> DfResult<Expr> {
        let subject = case.expr.map(|e| self.lift(*e, guard)).transpose()?;
        let mut open = guard.cloned();
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in case.when_then_expr {
            let when = self.lift(*when, open.as_ref())?;
            let condition = match &subject {
                Some(subject) => subject.clone().eq(when.clone()),
                None => when.clone(),
            };
            let then = self.lift(*then, Some(&and(open.as_ref(), condition.clone().is_true())))?;
            open = Some(and(open.as_ref(), condition.is_not_true()));
            branches.push((Box::new(when), Box::new(then)));
        }
        let otherwise = case.else_expr.map(|e| self.lift(*e, open.as_ref())).transpose()?;
        Ok(Expr::Case(Case::new(subject.map(Box::new), branches, otherwise.map(Box::new))))
    }
}

fn and(guard: Option<&Expr>, condition: Expr) -> Expr {
    match guard {
        Some(guard) => guard.clone().and(condition),
        None => condition,
    }
}

/// A call of ours with its on_error argument set.
fn set_policy(expr: Expr, policy: &str) -> Transformed<Expr> {
    let Expr::ScalarFunction(mut function) = expr else { return Transformed::no(expr) };
    let position = marker(&function.func).and_then(|m| {
        m.entry.declaration.signatures.iter().filter(|s| s.arguments.len() == function.args.len()).find_map(|s| s.position("on_error"))
    });
    match position.and_then(|p| function.args.get_mut(p)) {
        Some(arg) => {
            *arg = Expr::Literal(ScalarValue::Utf8(Some(policy.to_owned())), None);
            Transformed::yes(Expr::ScalarFunction(function))
        }
        None => Transformed::no(Expr::ScalarFunction(function)),
    }
}
