//! COPY, and what all statements that move rows share.
//!
//! Invariant: rows are staged by the store or the sink; nothing is visible until the statement has ended well. The work
//! runs on the statement threads and stops when the statement is cancelled.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{self, ObjectName, SetExpr};
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{ColumnEntry, Relation};
use crate::command::done;
use crate::command::insert::{arranged, insert_columns};
use crate::command::write::{Target, append};
use crate::error::from_datafusion;
use crate::session::query::{Frame, sendable};
use crate::session::{Execution, RowStream, Session};
use crate::statement::{Copy, CopyOption, CopySource, CopyTarget, Statement, ident_text};

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
    let target = Target::find(session, name, None, "copy to")?;
    let (relation, table) = (&target.relation, target.name.clone());
    let named: Vec<String> = columns.iter().map(ident_text).collect();
    let positions = insert_columns(relation, &named, &table)?;
    let call = source_call(copy, location, relation, &positions)?;
    let frame = session.frame(&statement.text)?;
    let provider = crate::source::tables::resolve(&call, &session.database.files, &frame.state).await?;
    let provider = provider.ok_or_else(|| Error::internal("no reader for COPY"))?;
    let scan = LogicalPlanBuilder::scan(table.clone(), datafusion::datasource::provider_as_source(provider), None);
    let plan = scan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
    let plan = arranged(session, plan, relation, &positions, false).await?;
    let running = start(session, plan, &statement.text, Vec::new()).await?;
    let stream = sendable(running.stream, running.schema);
    let rows = running.frame.stop.guard(append(session, &target, stream)).await?;
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
