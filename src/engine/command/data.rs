//! Statements that move rows: INSERT, COPY, and what CREATE TABLE AS shares with them.
//!
//! Invariant: rows are staged by the store or the sink; nothing is visible until the statement has ended well. The work
//! runs on the statement threads and stops when the statement is cancelled.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use sqlparser::ast::{self, Insert, ObjectName, SetExpr, TableObject};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{ColumnEntry, Relation, RelationKind};
use crate::command::done;
use crate::error::from_datafusion;
use crate::session::query::{Frame, Lookup, sendable};
use crate::session::{Execution, RowStream, Session};
use crate::statement::{Copy, CopyOption, CopySource, CopyTarget, Statement, ident_text, name_parts, name_text};

/// A query's rows, with the frame they run in.
pub struct Running {
    /// Frame of the statement.
    pub frame: Frame,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Rows.
    pub stream: RowStream,
}

/// Plans and starts a query whose rows go somewhere else than to the client.
pub async fn start(session: &Arc<Session>, plan: LogicalPlan, text: &str, parameters: Vec<ScalarValue>) -> Result<Running> {
    let plan = if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters)).map_err(from_datafusion)? };
    let frame = session.frame(text)?;
    let physical = frame.stop.guard(session.physical(&plan, &frame)).await?;
    let schema = physical.schema();
    let stream = session.start(&frame, physical)?;
    Ok(Running { frame, schema, stream })
}

/// The relation that a statement writes to, with its schema and name.
pub fn target(session: &Arc<Session>, name: &ObjectName) -> Result<(String, String, Relation)> {
    let data = session.database.catalog.snapshot();
    let path = session.search_path(&data);
    let lookup = Lookup { data: &data, search_path: &path, values: None };
    let found = lookup.find(&name_parts(name)).map(|(schema, table, relation)| (schema, table, relation.clone()));
    found.ok_or_else(|| crate::catalog::relations::no_relation(&name_text(name)))
}

/// Only managed tables take rows.
fn writable(relation: &Relation, name: &str) -> Result<()> {
    match &relation.kind {
        RelationKind::Table { .. } => Ok(()),
        RelationKind::View { .. } => Err(Error::new(Kind::NotInPrerequisiteState, format!("cannot insert into view \"{name}\""))),
        RelationKind::External { .. } => {
            Err(Error::unsupported(format!("cannot insert into external table \"{name}\"")).hint("Write files with COPY (query) TO 'location'."))
        }
    }
}

/// INSERT
pub async fn insert(session: &Arc<Session>, insert: &Insert, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let TableObject::TableName(name) = &insert.table else { return Err(Error::unsupported("INSERT takes a table name")) };
    if insert.on.is_some() || insert.returning.is_some() {
        return Err(Error::unsupported("INSERT ... ON CONFLICT and RETURNING are not supported yet"));
    }
    let (schema, table, relation) = target(session, name)?;
    writable(&relation, &table)?;
    let named: Vec<String> = insert.columns.iter().filter_map(|c| c.0.last().and_then(|p| p.as_ident()).map(ident_text)).collect();
    let columns = insert_columns(&relation, &named, &table)?;
    let plan = match &insert.source {
        Some(source) => {
            let mut query = source.clone();
            no_defaults(&mut query)?;
            session.plan_query(ast::Statement::Query(query), &statement.text, &[]).await?
        }
        None => LogicalPlanBuilder::empty(true).build().map_err(from_datafusion)?,
    };
    let plan = arranged(session, plan, &relation, &columns, insert.source.is_none()).await?;
    let running = start(session, plan, &statement.text, parameters).await?;
    let stream = sendable(running.stream, running.schema);
    let rows = running.frame.stop.guard(session.database.store.append(&schema, &table, stream)).await?;
    done(format!("INSERT 0 {rows}"))
}

/// Positions of the table's columns that the statement gives, in the statement's order.
fn insert_columns(relation: &Relation, named: &[String], table: &str) -> Result<Vec<usize>> {
    if named.is_empty() {
        return Ok((0..relation.columns.len()).collect());
    }
    let mut positions = Vec::with_capacity(named.len());
    for name in named {
        let position = relation.columns.iter().position(|c| c.name == *name);
        let position =
            position.ok_or_else(|| Error::new(Kind::UndefinedColumn, format!("column \"{name}\" of relation \"{table}\" does not exist")))?;
        if positions.contains(&position) {
            return Err(Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once")));
        }
        positions.push(position);
    }
    Ok(positions)
}

/// `VALUES (DEFAULT)` is not planned by DataFusion.
fn no_defaults(query: &mut ast::Query) -> Result<()> {
    if let SetExpr::Values(values) = &*query.body {
        let default = |e: &ast::Expr| matches!(e, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"));
        if values.rows.iter().any(|row| row.iter().any(default)) {
            return Err(Error::unsupported("DEFAULT in VALUES is not supported yet").hint("Leave the column out of the column list."));
        }
    }
    Ok(())
}

/// The rows in the table's column order; columns that are not given take their default or NULL.
async fn arranged(session: &Arc<Session>, plan: LogicalPlan, relation: &Relation, columns: &[usize], only_defaults: bool) -> Result<LogicalPlan> {
    let given = if only_defaults { 0 } else { plan.schema().fields().len() };
    if given > columns.len() {
        return Err(Error::new(Kind::Syntax, "INSERT has more expressions than target columns"));
    }
    let full = columns.len() == relation.columns.len() && columns.iter().enumerate().all(|(i, c)| i == *c);
    if given < columns.len() && !full && !only_defaults {
        return Err(Error::new(Kind::Syntax, "INSERT has more target columns than expressions"));
    }
    let mut exprs: Vec<Expr> = Vec::with_capacity(relation.columns.len());
    for (position, column) in relation.columns.iter().enumerate() {
        let ty = column.sql_type()?;
        let source = columns.iter().position(|c| *c == position).filter(|i| *i < given);
        let expr = match (source, &column.default) {
            (Some(index), _) => {
                let (qualifier, field) = plan.schema().qualified_field(index);
                assignable(&SqlType::of_field(field), field.data_type(), &ty, &column.name)?;
                Expr::from((qualifier, field))
            }
            (None, Some(default)) => default_value(session, default).await?,
            (None, None) => cast(lit(ScalarValue::Null), ty.arrow()),
        };
        exprs.push(expr.alias(&column.name));
    }
    LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

/// PostgreSQL's assignment rule, roughly: text does not become a number or a time by itself.
fn assignable(from: &SqlType, arrow: &DataType, to: &SqlType, column: &str) -> Result<()> {
    let text = |t: &SqlType| matches!(t, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name);
    let ok = from == to
        || *from == SqlType::Unknown
        || text(to)
        || text(from)
        || (arrow.is_numeric() && to.arrow().is_numeric())
        || (arrow.is_temporal() && to.arrow().is_temporal())
        || matches!(
            (from, to),
            (SqlType::Array(_), SqlType::Array(_) | SqlType::Vector)
                | (SqlType::Vector, SqlType::Array(_))
                | (SqlType::Record(_), SqlType::Record(_))
                | (SqlType::Bytea, SqlType::Bit)
                | (SqlType::Bit, SqlType::Bytea)
        );
    if ok {
        return Ok(());
    }
    Err(Error::new(Kind::DatatypeMismatch, format!("column \"{column}\" is of type {} but expression is of type {}", to.name(), from.name()))
        .hint("You will need to rewrite or cast the expression."))
}

/// A column's default, planned.
async fn default_value(session: &Arc<Session>, text: &str) -> Result<Expr> {
    let parsed = session.parse(&format!("SELECT {text}"))?;
    let Some(crate::statement::StatementKind::Sql(sql)) = parsed.first().map(|s| (*s.kind).clone()) else {
        return Err(Error::internal("a default that is not an expression"));
    };
    match session.plan_query(*sql, text, &[]).await? {
        LogicalPlan::Projection(p) => p.expr.into_iter().next().map(Expr::unalias).ok_or_else(|| Error::internal("an empty default")),
        _ => Err(Error::internal("a default that is not an expression")),
    }
}

/// The plan of a COPY's source.
async fn copy_plan(session: &Arc<Session>, copy: &Copy, statement: &Statement) -> Result<LogicalPlan> {
    let query = match &copy.source {
        CopySource::Query(query) => query.clone(),
        CopySource::Table { name, columns } => {
            let list: Vec<String> = columns.iter().map(|c| format!("\"{}\"", ident_text(c).replace('"', "\"\""))).collect();
            let mut query = crate::bind::relation::empty_query()?;
            let mut select = crate::bind::relation::empty_select()?;
            select.projection = if list.is_empty() {
                vec![ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())]
            } else {
                columns.iter().map(|c| ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(c.clone()))).collect()
            };
            select.from = vec![ast::TableWithJoins { relation: table_factor(name), joins: Vec::new() }];
            query.body = Box::new(SetExpr::Select(Box::new(select)));
            query
        }
    };
    session.plan_query(ast::Statement::Query(query), &statement.text, &[]).await
}

fn table_factor(name: &ObjectName) -> ast::TableFactor {
    ast::TableFactor::Table {
        name: name.clone(),
        alias: None,
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

fn superuser(session: &Session) -> Result<()> {
    if session.superuser {
        return Ok(());
    }
    Err(Error::new(Kind::InsufficientPrivilege, "must be superuser to COPY to or from a file")
        .hint("Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone."))
}

/// COPY ... TO 'location'
pub async fn copy_to(session: &Arc<Session>, copy: &Copy, location: &str, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    superuser(session)?;
    let plan = copy_plan(session, copy, statement).await?;
    let running = start(session, plan, &statement.text, parameters).await?;
    let stream = sendable(running.stream, visible_names(&running.schema));
    let rows = running.frame.stop.guard(crate::sink::copy::copy_to(stream, location, &copy.options, &session.database.files)).await?;
    done(format!("COPY {rows}"))
}

/// Names of columns without the marks of repeated ones.
fn visible_names(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_name(crate::postgres::column_names::shown(f.name()))).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// COPY ... TO STDOUT
pub async fn copy_out(session: &Arc<Session>, copy: &Copy, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    let plan = copy_plan(session, copy, statement).await?;
    let fields = Arc::new(session.result_fields(&plan));
    let running = start(session, plan, &statement.text, parameters).await?;
    Ok(Execution::CopyOut { fields, stream: running.stream, options: copy.options.clone() })
}

/// COPY table FROM 'location': INSERT of a scan.
pub async fn copy_from(session: &Arc<Session>, copy: &Copy, location: &str, statement: &Statement) -> Result<Execution> {
    superuser(session)?;
    debug_assert!(copy.target != CopyTarget::Stdin);
    let CopySource::Table { name, columns } = &copy.source else { return Err(Error::new(Kind::Syntax, "COPY FROM takes a table")) };
    let (schema, table, relation) = target(session, name)?;
    writable(&relation, &table)?;
    let named: Vec<String> = columns.iter().map(ident_text).collect();
    let positions = insert_columns(&relation, &named, &table)?;
    let call = source_call(copy, location, &relation, &positions)?;
    let frame = session.frame(&statement.text)?;
    let provider = crate::source::tables::resolve(&call, &session.database.files, &frame.state).await?;
    let provider = provider.ok_or_else(|| Error::internal("no reader for COPY"))?;
    let scan = LogicalPlanBuilder::scan(table.clone(), datafusion::datasource::provider_as_source(provider), None);
    let plan = scan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
    let plan = arranged(session, plan, &relation, &positions, false).await?;
    let running = start(session, plan, &statement.text, Vec::new()).await?;
    let stream = sendable(running.stream, running.schema);
    let rows = running.frame.stop.guard(session.database.store.append(&schema, &table, stream)).await?;
    done(format!("COPY {rows}"))
}

/// The reader of COPY FROM: its format from the option, else from the file's name, else PostgreSQL's text.
fn source_call(copy: &Copy, location: &str, relation: &Relation, positions: &[usize]) -> Result<crate::source::options::SourceCall> {
    let option = |name: &str| copy.options.iter().find(|(n, _)| n == name).map(|(_, v)| v);
    let text = |value: &CopyOption| match value {
        CopyOption::Value(v) => v.clone(),
        CopyOption::Flag => "true".into(),
        CopyOption::List(list) => list.join(","),
    };
    let format = option("format").map(text).map(|f| f.to_lowercase());
    let format = format.unwrap_or_else(|| location.rsplit('.').next().unwrap_or("").to_lowercase());
    let mut named: Vec<(String, ScalarValue)> = Vec::new();
    let name = match format.as_str() {
        "parquet" => "read_parquet",
        "json" | "ndjson" | "jsonl" => "read_json",
        "csv" => {
            let header = option("header").map(text).is_some_and(|h| squilla_core::settings::parse_bool(&h).unwrap_or(true));
            named.push(("header".into(), ScalarValue::Boolean(Some(header))));
            for key in ["delimiter", "quote", "null"] {
                named.extend(option(key).map(|v| (key.to_owned(), ScalarValue::Utf8(Some(text(v))))));
            }
            let columns: Vec<&ColumnEntry> = positions.iter().filter_map(|p| relation.columns.get(*p)).collect();
            let schema: Vec<String> = columns.iter().map(|c| format!("\"{}\" {}", c.name.replace('"', "\"\""), c.ty)).collect();
            named.push(("schema".into(), ScalarValue::Utf8(Some(schema.join(", ")))));
            "read_csv"
        }
        other => return Err(Error::unsupported(format!("COPY FROM does not read the format \"{other}\"")).hint("Formats are parquet, csv and json.")),
    };
    Ok(crate::source::options::SourceCall { name: name.into(), positional: vec![ScalarValue::Utf8(Some(location.to_owned()))], named })
}
