//! Set-returning calls in FROM, planned: `LATERAL f(x)` becomes an Expand leaf over one empty row.
//!
//! In: a lateral table function that `relations` left in FROM. Out: a plan whose call refers to the columns on its left
//! as outer references; `plan::lateral` joins them. Everything else goes back to DataFusion.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, TableReference};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Select, SetExpr, TableFactor};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::plan::expand::Expand;
use crate::statement::{ident_text, name_text};
use crate::udf::Functions;

/// The planner of our set-returning functions.
pub struct SquillaRelationPlanner {
    /// Our functions.
    pub functions: Arc<Functions>,
}

impl std::fmt::Debug for SquillaRelationPlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SquillaRelationPlanner")
    }
}

impl RelationPlanner for SquillaRelationPlanner {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let original = |r| Ok(RelationPlanning::Original(Box::new(r)));
        let TableFactor::Function { name, args, alias, with_ordinality, .. } = &relation else { return original(relation) };
        let name = name_text(name);
        let function = self.functions.get(&name).filter(|f| f.is_set_returning());
        let (Some(udf), Some(function)) = (self.functions.udf(&name), function) else { return original(relation) };
        let mut exprs = Vec::with_capacity(args.len());
        for arg in args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else {
                return Err(DataFusionError::Internal("an argument was not bound".into()));
            };
            exprs.push(context.sql_to_expr(expr.clone(), &DFSchema::empty())?);
        }
        let empty = DFSchema::empty();
        let types: Vec<DataType> = exprs.iter().map(|e| e.get_type(&empty)).collect::<DfResult<_>>()?;
        if let Some((_, wanted)) = function.resolve(&types) {
            exprs.iter_mut().zip(wanted).for_each(|(expr, ty)| typed(expr, ty));
        }
        let call = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(udf), exprs));
        let Some(mut columns) = function.columns(&types) else {
            // What the marker says about types that it does not take.
            call.to_field(&empty)?;
            return Err(DataFusionError::Internal(format!("{name} gives no rows")));
        };
        // A function that returns SETOF one type: its column is named like the table, as in PostgreSQL.
        let lone = matches!(columns.as_slice(), [column] if *column.name() == name);
        if *with_ordinality {
            columns.push(Arc::new(SqlType::Int8.field("ordinality")));
        }
        let renamed: Vec<String> = alias.iter().flat_map(|a| &a.columns).map(|c| ident_text(&c.name)).collect();
        if renamed.len() > columns.len() {
            let table = alias.as_ref().map(|a| ident_text(&a.name)).unwrap_or_default();
            return Err(to_datafusion(Error::new(
                squilla_core::error::Kind::InvalidColumnReference,
                format!("table \"{table}\" has {} columns available but {} columns specified", columns.len(), renamed.len()),
            )));
        }
        let qualifier_name = alias.as_ref().map_or_else(|| name.clone(), |a| ident_text(&a.name));
        let generated: Vec<FieldRef> = columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let own = alias.as_ref().filter(|_| lone && i == 0).map(|_| &qualifier_name);
                let shown = renamed.get(i).or(own).unwrap_or_else(|| column.name());
                Arc::new(column.as_ref().clone().with_name(shown.clone()))
            })
            .collect();
        let qualifier = TableReference::bare(qualifier_name.clone());
        let empty = Arc::new(LogicalPlanBuilder::empty(true).build()?);
        let node = Expand::try_new(empty, call, false, Some(qualifier), generated)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

/// A parameter that nothing else types takes the type of the argument.
fn typed(expr: &mut Expr, ty: DataType) {
    if let Expr::Placeholder(placeholder) = expr
        && placeholder.field.is_none()
    {
        placeholder.field = Some(Arc::new(Field::new("", ty, true)));
    }
}

/// `SELECT 1` as a tree, to be filled: sqlparser's structs have no Default.
pub fn empty_query() -> Result<Box<Query>> {
    let statement = crate::statement::parse("SELECT 1", 100)?.into_iter().next().ok_or_else(|| Error::internal("no statement"))?;
    match &*statement.kind {
        crate::statement::StatementKind::Sql(sql) => match &**sql {
            ast::Statement::Query(query) => Ok(query.clone()),
            _ => Err(Error::internal("not a query")),
        },
        _ => Err(Error::internal("not a query")),
    }
}

/// `SELECT columns FROM name`; no columns are all of them.
pub fn table_query(name: &ObjectName, columns: &[Ident]) -> Result<Box<Query>> {
    let mut query = empty_query()?;
    let mut select = empty_select()?;
    select.projection = if columns.is_empty() {
        vec![ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())]
    } else {
        columns.iter().map(|c| ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(c.clone()))).collect()
    };
    select.from = vec![ast::TableWithJoins { relation: table_factor(name.clone(), None), joins: Vec::new() }];
    query.body = Box::new(SetExpr::Select(Box::new(select)));
    Ok(query)
}

/// A relation as an item of FROM.
pub fn table_factor(name: ObjectName, alias: Option<ast::TableAlias>) -> ast::TableFactor {
    ast::TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// The SELECT of [`empty_query`].
pub fn empty_select() -> Result<Select> {
    match *empty_query()?.body {
        SetExpr::Select(select) => Ok(*select),
        _ => Err(Error::internal("not a SELECT")),
    }
}
