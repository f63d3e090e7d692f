//! Calls of functions that users wrote in SQL: planned as a marker, then replaced by the planned body.
//!
//! In: a bound statement whose calls may mean functions of the catalog. Out: a plan in which their bodies stand, with
//! the arguments in place of the parameters. Invariant: names in a body mean what they meant to the body, never a column of
//! the caller: bodies are planned by themselves. Deliberately absent: several statements in a body, and functions with
//! rows, which stand in FROM (`bind::set_functions`).

use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility, lit, when,
};
use futures::future::BoxFuture;
use sqlparser::ast::{self, VisitMut, VisitorMut};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::bind::set_functions::{arguments, body_query, parameters_for_names};
use crate::catalog::data::CatalogData;
use crate::catalog::functions::{FunctionEntry, FunctionResult};
use crate::error::to_datafusion;
use crate::postgres::casts::typed_cast;
use crate::session::Session;
use crate::statement::name_parts;

/// Functions may call functions this deep.
pub const DEPTH_MAX: usize = 32;

/// Overloads with one name and one number of arguments, as a function that DataFusion can plan.
#[derive(Debug)]
struct Marker {
    name: String,
    overloads: Arc<Vec<FunctionEntry>>,
    signature: Signature,
}

impl PartialEq for Marker {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Marker {}

impl Hash for Marker {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

fn textual(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// How well a value fits a parameter; None does not.
fn fit(given: &DataType, wanted: &SqlType) -> Option<u32> {
    let target = wanted.arrow();
    Some(match given {
        given if *given == target => 5,
        DataType::Null => 2,
        given if given.is_integer() && target.is_integer() => 4,
        given if given.is_numeric() && target.is_numeric() => 3,
        given if textual(given) && textual(&target) => 4,
        // A string literal may spell any value.
        given if textual(given) => 1,
        DataType::Timestamp(..) | DataType::Date32 if matches!(target, DataType::Timestamp(..)) => 3,
        DataType::List(_) | DataType::LargeList(_) if matches!(target, DataType::List(_)) => 2,
        _ => return None,
    })
}

impl Marker {
    fn choose(&self, given: &[DataType]) -> DfResult<(usize, &FunctionEntry)> {
        let score = |f: &FunctionEntry| -> Option<u32> {
            f.types().iter().zip(given).map(|(wanted, given)| fit(given, wanted)).try_fold(0, |sum, score| Some(sum + score?))
        };
        let best = self.overloads.iter().enumerate().filter_map(|(i, f)| Some((score(f)?, i, f)));
        // The first of equals.
        let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, i, f)| (i, f)).ok_or_else(|| {
            let types: Vec<String> = given.iter().map(|t| SqlType::of_arrow(t).name()).collect();
            let name = self.overloads.first().map_or("", |f| f.name.as_str());
            let error = Error::new(Kind::UndefinedFunction, format!("function {name}({}) does not exist", types.join(", ")));
            to_datafusion(error.hint("No function matches the given name and argument types. You might need to add explicit type casts."))
        })
    }
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        Ok(result_type(self.choose(given)?.1).arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(result_type(self.choose(&types)?.1).field(&self.name)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal(format!("{} was not replaced by its body", self.name)))
    }
}

/// The expression of a query that is nothing but `SELECT expression`.
fn plain_value(query: &ast::Query) -> Option<&ast::Expr> {
    let bare = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let ast::SetExpr::Select(select) = query.body.as_ref() else { return None };
    let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(list, _) if list.is_empty());
    if !bare || grouped || !select.from.is_empty() || select.selection.is_some() || select.having.is_some() || select.distinct.is_some() {
        return None;
    }
    match select.projection.as_slice() {
        [ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }] => {
            Some(expr).filter(|e| !crate::postgres::subquery::aggregates(e))
        }
        _ => None,
    }
}

fn result_type(function: &FunctionEntry) -> SqlType {
    function.columns().pop().map_or(SqlType::Text, |(_, ty)| ty)
}

/// Functions that a statement calls, with the markers that stand for them.
#[derive(Debug, Default)]
pub struct Called(Vec<Arc<ScalarUDF>>);

impl Called {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The markers, for the state that plans.
    pub fn udfs(&self) -> &[Arc<ScalarUDF>] {
        &self.0
    }
}

/// Finds the calls of user functions in a statement, puts their arguments in declared order and marks them.
/// `built_in` tells names that mean something else.
pub fn mark(statement: &mut ast::Statement, data: &CatalogData, path: &[String], built_in: &dyn Fn(&str) -> bool) -> Result<Called> {
    if data.schemas.values().all(|s| s.functions.is_empty()) {
        return Ok(Called::default());
    }
    let mut marks = Marks { data, path, built_in, called: Called::default() };
    match statement.visit(&mut marks) {
        ControlFlow::Continue(()) => Ok(marks.called),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Marks<'a> {
    data: &'a CatalogData,
    path: &'a [String],
    built_in: &'a dyn Fn(&str) -> bool,
    called: Called,
}

impl VisitorMut for Marks<'_> {
    type Break = Box<Error>;

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Box<Error>> {
        let ast::Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        match self.function(function) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Marks<'_> {
    fn function(&mut self, function: &mut ast::Function) -> Result<()> {
        let parts = name_parts(&function.name);
        let (schema, name) = match parts.as_slice() {
            [name] if !(self.built_in)(name) => (None, name),
            [schema, name] | [_, schema, name] => (Some(schema.as_str()), name),
            _ => return Ok(()),
        };
        let found = self.data.functions_named(schema, self.path, name);
        let (Some(first), ast::FunctionArguments::List(list)) = (found.first(), &mut function.args) else { return Ok(()) };
        if first.is_set() {
            return Err(Error::unsupported(format!("set-returning function {name} in a select list")).hint("Call it in FROM."));
        }
        let (given, fitting) = arguments(name, &found, std::mem::take(&mut list.args))?;
        list.args = given.into_iter().map(|e| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e))).collect();
        let marker = format!("squilla_sql_{}", fitting.first().map_or(0, |f| f.oid));
        function.name = ast::ObjectName::from(vec![ast::Ident::new(&marker)]);
        if !self.called.0.iter().any(|u| u.name() == marker) {
            let signature = Signature::user_defined(volatility(&fitting));
            self.called.0.push(Arc::new(ScalarUDF::new_from_impl(Marker { name: marker, overloads: Arc::new(fitting), signature })));
        }
        Ok(())
    }
}

fn volatility(functions: &[FunctionEntry]) -> Volatility {
    match functions.iter().map(|f| f.volatility).max() {
        Some('i') => Volatility::Immutable,
        Some('s') => Volatility::Stable,
        _ => Volatility::Volatile,
    }
}

/// A planned body: one expression over its parameters.
struct Body {
    expr: Expr,
    strict: bool,
}

impl Session {
    /// Puts the bodies of the called functions where their markers stand.
    pub fn call_functions<'a>(self: &'a Arc<Self>, plan: LogicalPlan, called: &'a Called, depth: usize) -> BoxFuture<'a, Result<LogicalPlan>> {
        Box::pin(async move {
            if depth >= DEPTH_MAX {
                return Err(Error::new(Kind::TooComplex, "functions call functions too deep"));
            }
            let mut bodies = Vec::new();
            for udf in &called.0 {
                let Some(marker) = udf.inner().downcast_ref::<Marker>() else { continue };
                let mut of_overloads = Vec::new();
                for function in marker.overloads.iter() {
                    of_overloads.push(self.plan_function(function, depth + 1).await?);
                }
                bodies.push((marker.name.clone(), of_overloads));
            }
            replaced(plan, &bodies).map_err(crate::error::from_datafusion)
        })
    }

    async fn plan_function(self: &Arc<Self>, function: &FunctionEntry, depth: usize) -> Result<Body> {
        let query = body_query(function, self.database_depth())?;
        let ty = result_type(function);
        let value = match plain_value(&query) {
            Some(value) => ast::Expr::Nested(Box::new(value.clone())),
            None => ast::Expr::Subquery(query),
        };
        let value = if ty == SqlType::Void { value } else { typed_cast(value, &ty) };
        let mut outer = crate::bind::relation::empty_query()?;
        if let ast::SetExpr::Select(select) = outer.body.as_mut() {
            select.projection = vec![ast::SelectItem::UnnamedExpr(value)];
        }
        let mut statement = ast::Statement::Query(outer);
        parameters_for_names(&mut statement, function, &self.snapshot());
        let given: Vec<Option<SqlType>> = function.types().into_iter().map(Some).collect();
        let plan = self.plan_body(statement, &function.body, &given, depth).await?;
        match plan {
            LogicalPlan::Projection(p) if p.expr.len() == 1 && matches!(p.input.as_ref(), LogicalPlan::EmptyRelation(_)) => {
                let expr = p.expr.first().cloned().map(Expr::unalias).ok_or_else(|| Error::internal("a body without a value"))?;
                Ok(Body { expr, strict: function.strict })
            }
            _ => Err(Error::unsupported(format!("the body of function {} is not a plain query", function.name))),
        }
    }

    fn database_depth(&self) -> usize {
        self.settings().int("squilla.max_statement_depth").max(16) as usize
    }

    /// Plans the body of a function that is about to be stored: its errors are told now.
    pub async fn check_function(self: &Arc<Self>, function: &FunctionEntry) -> Result<()> {
        let query = body_query(function, self.database_depth())?;
        let mut statement = ast::Statement::Query(query);
        parameters_for_names(&mut statement, function, &self.snapshot());
        let given: Vec<Option<SqlType>> = function.types().into_iter().map(Some).collect();
        let plan = self.plan_body(statement, &function.body, &given, 0).await?;
        let wanted = function.columns();
        let found = plan.schema().fields().len();
        let void = matches!(&function.returns, FunctionResult::Value(ty) if ty == "void");
        if !void && found != wanted.len() {
            let types: Vec<String> = wanted.iter().map(|(_, ty)| ty.name()).collect();
            let returns = if wanted.len() == 1 { types.join(", ") } else { "record".into() };
            let detail = if found < wanted.len() { "Final statement returns too few columns." } else { "Final statement returns too many columns." };
            let message = format!("return type mismatch in function declared to return {returns}");
            return Err(Error::new(Kind::InvalidFunctionDefinition, message).detail(detail));
        }
        Ok(())
    }
}

fn replaced(plan: LogicalPlan, bodies: &[(String, Vec<Body>)]) -> DfResult<LogicalPlan> {
    let node = |node: LogicalPlan| {
        let names = NamePreserver::new(&node);
        let schema = merge_schema(&node.inputs());
        let changed = node.map_expressions(|expr| {
            let saved = names.save(&expr);
            let changed = expr.transform_up(|e| one(e, bodies, &schema))?;
            Ok(if changed.transformed { changed.update_data(|e| saved.restore(e)) } else { changed })
        })?;
        if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
    };
    plan.transform_up_with_subqueries(node).map(|t| t.data)
}

fn one(expr: Expr, bodies: &[(String, Vec<Body>)], schema: &datafusion::common::DFSchema) -> DfResult<Transformed<Expr>> {
    use datafusion::logical_expr::ExprSchemable;
    let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
    let Some(marker) = call.func.inner().downcast_ref::<Marker>() else { return Ok(Transformed::no(expr)) };
    let types = call.args.iter().map(|a| a.get_type(schema)).collect::<DfResult<Vec<_>>>()?;
    let (at, _) = marker.choose(&types)?;
    let body = bodies.iter().find(|(name, _)| *name == marker.name).and_then(|(_, overloads)| overloads.get(at));
    let body = body.ok_or_else(|| DataFusionError::Internal(format!("{} has no body", marker.name)))?;
    let value = with_arguments(body.expr.clone(), &call.args, schema)?;
    if !body.strict {
        return Ok(Transformed::yes(value));
    }
    // NULL for NULL, without a look at the body.
    let given = call.args.iter().cloned().map(Expr::is_not_null).reduce(Expr::and);
    Ok(Transformed::yes(match given {
        Some(given) => when(given, value).otherwise(lit(datafusion::common::ScalarValue::Null))?,
        None => value,
    }))
}

/// The body with arguments for parameters. Inside its subqueries the columns of the caller are outer references.
fn with_arguments(expr: Expr, arguments: &[Expr], schema: &datafusion::common::DFSchema) -> DfResult<Expr> {
    let outer = |argument: &Expr| {
        argument.clone().transform(|e| match e {
            Expr::Column(column) => {
                let (_, field) = schema.qualified_field_from_column(&column)?;
                Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)))
            }
            other => Ok(Transformed::no(other)),
        })
    };
    let outers = arguments.iter().map(|a| outer(a).map(|t| t.data)).collect::<DfResult<Vec<_>>>()?;
    let within = |subquery: Subquery| -> DfResult<Subquery> {
        let plan = subquery.subquery.as_ref().clone();
        let plan = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            let changed = node.map_expressions(|e| {
                let saved = names.save(&e);
                let changed = e.transform_up(|e| Ok(placed(e, &outers)))?;
                Ok(if changed.transformed { changed.update_data(|e| saved.restore(e)) } else { changed })
            })?;
            if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
        })?;
        let mut references = subquery.outer_ref_columns;
        for argument in &outers {
            argument.apply(|e| {
                if matches!(e, Expr::OuterReferenceColumn(..)) && !references.contains(e) {
                    references.push(e.clone());
                }
                Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
            })?;
        }
        Ok(Subquery { subquery: Arc::new(plan.data), outer_ref_columns: references, spans: subquery.spans })
    };
    let value = expr.transform_up(|e| match e {
        Expr::ScalarSubquery(subquery) => Ok(Transformed::yes(Expr::ScalarSubquery(within(subquery)?))),
        Expr::Exists(Exists { subquery, negated }) => Ok(Transformed::yes(Expr::Exists(Exists { subquery: within(subquery)?, negated }))),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery: within(subquery)?, negated })))
        }
        other => Ok(placed(other, arguments)),
    })?;
    Ok(value.data)
}

fn placed(expr: Expr, arguments: &[Expr]) -> Transformed<Expr> {
    let argument = match &expr {
        Expr::Placeholder(p) => p.id.trim_start_matches('$').parse::<usize>().ok().and_then(|n| arguments.get(n.checked_sub(1)?)),
        _ => None,
    };
    match argument {
        Some(argument) => Transformed::yes(argument.clone()),
        None => Transformed::no(expr),
    }
}
