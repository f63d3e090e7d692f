//! What statements that write have in common: the target, its columns, rows on their way into it.
//!
//! In: relations and streams of rows. Out: edits of the session's transaction. Invariants: rows are staged first and one
//! edit makes them the table's; keys are checked against the table without the rows that the statement deletes. Every
//! write to a table passes through here: DataFusion's own hooks are never used. Deliberately absent: the statements.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use datafusion::execution::SendableRecordBatchStream;
use sqlparser::ast::{self, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, TableFactor, TableWithJoins, Value};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use squilla_store::bitmap::Deleted;

use crate::bind::relation::table_factor;
use crate::catalog::data::{ColumnEntry, Relation, RelationKind};
use crate::catalog::relations::no_relation;
use crate::error::{from_arrow, from_datafusion, to_datafusion};
use crate::session::Session;
use crate::session::parameters::typed;
use crate::session::planning::Lookup;
use crate::statement::{StatementKind, name_parts, name_text};
use crate::table::check::checked;
use crate::table::fit::Fit;
use crate::table::stage::{Staged, fitted};
use crate::table::unique::Keys;

/// The name under which a statement's target is scanned.
pub const TARGET: &str = "$target";

/// The table that a statement writes to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// As it is now.
    pub relation: Relation,
    /// The name that expressions use.
    pub alias: String,
}

/// The relation that a statement names, with its schema and name.
pub fn find(session: &Arc<Session>, name: &ObjectName) -> Result<(String, String, Relation)> {
    let data = session.snapshot();
    let path = session.search_path(&data);
    let lookup = Lookup { data: &data, search_path: &path, values: None, beside: &[] };
    let parts = name_parts(name);
    let found = lookup.find(&parts).map(|(schema, table, relation)| (schema, table, relation.clone()));
    found.ok_or_else(|| match parts.as_slice() {
        [schema, _] | [_, schema, _] if !data.schemas.contains_key(schema) => crate::catalog::relations::no_schema(schema),
        _ => no_relation(&name_text(name)),
    })
}

impl Target {
    /// The managed table of this name; `verb` is what the statement does to it. 42P01, 42809, 55000.
    pub fn find(session: &Arc<Session>, name: &ObjectName, alias: Option<String>, verb: &str) -> Result<Self> {
        let (schema, name, relation) = find(session, name)?;
        match &relation.kind {
            RelationKind::Table { materialized: None, .. } => {}
            RelationKind::Table { .. } => {
                return Err(Error::new(Kind::WrongObjectType, format!("cannot change materialized view \"{name}\"")));
            }
            RelationKind::View { .. } => {
                return Err(Error::new(Kind::NotInPrerequisiteState, format!("cannot {verb} view \"{name}\""))
                    .detail("Views are not automatically updatable."));
            }
            RelationKind::External { .. } => {
                return Err(
                    Error::unsupported(format!("cannot {verb} external table \"{name}\"")).hint("Write files with COPY (query) TO 'location'.")
                );
            }
            RelationKind::Sequence(_) => return Err(Error::new(Kind::WrongObjectType, format!("cannot change sequence \"{name}\""))),
        }
        let alias = alias.unwrap_or_else(|| name.clone());
        Ok(Self { schema, name, relation, alias })
    }

    /// The target as an item of FROM.
    pub fn factor(&self) -> TableFactor {
        factor(TARGET, &self.alias)
    }

    /// A column of the target in an expression.
    pub fn column(&self, name: &str) -> Expr {
        Expr::CompoundIdentifier(vec![Ident::with_quote('"', &self.alias), Ident::with_quote('"', name)])
    }

    /// The position of an assigned column: 42703, 42701 when it is in `taken`.
    pub fn position(&self, name: &str, taken: &[usize]) -> Result<usize> {
        let position = self
            .relation
            .position(name)
            .ok_or_else(|| Error::new(Kind::UndefinedColumn, format!("column \"{name}\" of relation \"{}\" does not exist", self.name)))?;
        if taken.contains(&position) {
            return Err(Error::new(Kind::Syntax, format!("multiple assignments to same column \"{name}\"")));
        }
        Ok(position)
    }
}

/// A table of the statement as an item of FROM.
pub fn factor(name: &str, alias: &str) -> TableFactor {
    let alias = ast::TableAlias { explicit: true, name: Ident::with_quote('"', alias), columns: Vec::new(), at: None };
    table_factor(ObjectName::from(vec![Ident::with_quote('"', name)]), Some(alias))
}

/// `SELECT items FROM from WHERE selection`
pub fn select(items: Vec<SelectItem>, from: Vec<TableWithJoins>, selection: Option<Expr>) -> Result<Query> {
    let mut query = crate::bind::relation::empty_query()?;
    let mut select = crate::bind::relation::empty_select()?;
    select.projection = items;
    select.from = from;
    select.selection = selection;
    *query.body = SetExpr::Select(Box::new(select));
    Ok(*query)
}

/// `expr AS "name"`
pub fn item(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

/// Whether an expression is the word DEFAULT.
pub fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// NULL
pub fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

/// The expression of a text that stands in the catalog.
pub fn parsed(session: &Arc<Session>, text: &str) -> Result<Expr> {
    let statements = session.parse(&format!("SELECT {text}"))?;
    let Some(StatementKind::Sql(sql)) = statements.into_iter().next().map(|s| (*s.kind).clone()) else {
        return Err(Error::internal("an expression of the catalog is none"));
    };
    let ast::Statement::Query(query) = *sql else { return Err(Error::internal("an expression of the catalog is none")) };
    let SetExpr::Select(select) = *query.body else { return Err(Error::internal("an expression of the catalog is none")) };
    match select.projection.into_iter().next() {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Ok(expr),
        _ => Err(Error::internal("an expression of the catalog is none")),
    }
}

/// A given value for a column: DEFAULT becomes its default, a bare parameter takes its type.
pub fn given(session: &Arc<Session>, expr: Expr, column: &ColumnEntry) -> Result<Expr> {
    if is_default(&expr) {
        let default = column.default.as_ref().map_or_else(|| Ok(null()), |text| parsed(session, text))?;
        return if matches!(default, Expr::Value(_)) { as_column(default, column) } else { Ok(default) };
    }
    if column.identity == Some(crate::catalog::data::Identity::Always) {
        return Err(Error::new(Kind::GeneratedAlways, format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name))
            .detail(format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name)));
    }
    of_type(expr, column)
}

/// A bare parameter as the type of the column that it goes into.
pub fn of_type(expr: Expr, column: &ColumnEntry) -> Result<Expr> {
    if is_parameter(&expr) { as_column(expr, column) } else { Ok(expr) }
}

/// Whether an expression is a bare parameter.
pub fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(v.value, Value::Placeholder(_)))
}

/// A literal or parameter as the type of the column that it goes into.
pub fn as_column(expr: Expr, column: &ColumnEntry) -> Result<Expr> {
    match expr {
        // A parameter that has its type already.
        Expr::Cast { .. } => Ok(expr),
        expr => Ok(typed(expr, &column.sql_type()?)),
    }
}

/// Rows of the target that the statement deletes or replaces.
#[derive(Debug, Default)]
pub struct Positions(BTreeMap<u64, Deleted>);

impl Positions {
    /// Adds a row: false when it was there.
    pub fn insert(&mut self, file: i64, row: i64) -> bool {
        self.0.entry(file as u64).or_default().insert(row as u32)
    }

    /// Rows.
    pub fn len(&self) -> u64 {
        self.0.values().map(Deleted::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the positions in the first two columns of a batch; the rows whose position is new.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (files, rows) = positions(batch)?;
        let fresh: BooleanArray = (0..batch.num_rows()).map(|i| Some(self.insert(files.value(i), rows.value(i)))).collect();
        filter_record_batch(batch, &fresh).map_err(from_arrow)
    }

    /// The relation without these rows.
    pub fn apply(&self, relation: &mut Relation) {
        if let Some(files) = relation.files_mut() {
            self.0.iter().for_each(|(file, rows)| files.delete(*file, rows));
        }
    }
}

/// The first two columns of a batch.
pub fn positions(batch: &RecordBatch) -> Result<(&arrow::array::Int64Array, &arrow::array::Int64Array)> {
    let column = |i: usize| batch.columns().get(i).and_then(|c| c.as_primitive_opt::<Int64Type>());
    column(0).zip(column(1)).ok_or_else(|| Error::internal("rows without positions"))
}

/// Stages rows for a table: they are fitted and checked, not yet the table's. `changed` are the columns that may have new
/// keys (None: all); `without` are rows that go.
pub struct Into<'a> {
    /// Where.
    pub target: &'a Target,
    /// Columns whose values are new; None is all.
    pub changed: Option<Vec<usize>>,
    /// Hand the rows back.
    pub keep: bool,
}

/// Fits, checks and stages rows, then makes them the table's in place of `gone`. `gone` is asked for once the rows have
/// been read.
pub async fn put(
    session: &Arc<Session>,
    into: Into<'_>,
    stream: SendableRecordBatchStream,
    gone: impl FnOnce() -> Positions,
) -> Result<(Staged, u64)> {
    let Into { target, changed, keep } = into;
    let relation = &target.relation;
    let keys = Keys::new(relation, changed.as_deref(), &session.database.base().runtime_env().memory_pool)?;
    let zone = session.settings().get("timezone").to_owned();
    let fit = Arc::new(Fit::new(&target.name, &relation.columns, &zone)?);
    let rows = fitted(stream, fit, keys.clone());
    let rows = checked(session, relation, &target.name, rows).await?;
    let keep = keep.then(|| session.holder());
    let staged = session.database.store.stage(relation, rows, keep).await?;
    let gone = gone();
    if let Some(keys) = keys {
        let mut rest = relation.clone();
        gone.apply(&mut rest);
        let new = keys.check(session, &rest).await?;
        session.add_keys(new);
    }
    let count = gone.len();
    session.wrote(relation.oid);
    let (oid, name) = (relation.oid, target.name.clone());
    session.edit(|data| {
        let place = data.relation_by_oid(oid).map(|(s, n, _)| (s.to_owned(), n.to_owned()));
        let (schema, table) = place.ok_or_else(|| no_relation(&name))?;
        let relation = data.relation_mut(&schema, &table)?;
        gone.apply(relation);
        if let Some(files) = relation.files_mut() {
            files.add(staged.files.iter().cloned());
        }
        Ok(())
    })?;
    Ok((staged, count))
}

/// Adds the rows of a stream to a table: the rows written.
pub async fn append(session: &Arc<Session>, target: &Target, stream: SendableRecordBatchStream) -> Result<u64> {
    let (staged, _) = put(session, Into { target, changed: None, keep: false }, stream, Positions::default).await?;
    Ok(staged.rows)
}

/// The columns of a batch from `first` on under the names of a table's columns.
pub fn values(batch: &RecordBatch, first: usize, relation: &Relation) -> Result<RecordBatch> {
    let columns = batch.columns().iter().skip(first).take(relation.columns.len()).cloned().collect::<Vec<_>>();
    let fields =
        batch.schema().fields().iter().skip(first).zip(&relation.columns).map(|(f, c)| f.as_ref().clone().with_name(&c.name)).collect::<Vec<_>>();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), columns, &options).map_err(from_arrow)
}

/// Batches as a stream.
pub fn stream_of(batches: Vec<RecordBatch>, schema: arrow::datatypes::SchemaRef) -> SendableRecordBatchStream {
    let rows = futures::stream::iter(batches.into_iter().map(Ok::<_, datafusion::common::DataFusionError>));
    Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, rows))
}

/// PostgreSQL's assignment rule, roughly: text does not become a number or a time by itself.
pub fn assignable(field: &arrow::datatypes::Field, column: &ColumnEntry) -> Result<()> {
    let (from, to, arrow) = (SqlType::of_field(field), column.sql_type()?, field.data_type());
    let text = |t: &SqlType| matches!(t, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name);
    let ok = from == to
        || from == SqlType::Unknown
        || text(&to)
        || text(&from)
        || (arrow.is_numeric() && to.arrow().is_numeric())
        || (arrow.is_temporal() && to.arrow().is_temporal())
        || matches!(
            (&from, &to),
            (SqlType::Array(_), SqlType::Array(_) | SqlType::Vector)
                | (SqlType::Vector, SqlType::Array(_))
                | (SqlType::Record(_), SqlType::Record(_))
                | (SqlType::Bytea, SqlType::Bit)
                | (SqlType::Bit, SqlType::Bytea)
        );
    if ok {
        return Ok(());
    }
    Err(Error::new(Kind::DatatypeMismatch, format!("column \"{}\" is of type {} but expression is of type {}", column.name, to.name(), from.name()))
        .hint("You will need to rewrite or cast the expression."))
}

/// An error inside a stream that DataFusion reads.
pub fn inside<T>(result: Result<T>) -> datafusion::common::Result<T> {
    result.map_err(to_datafusion)
}

/// An error of DataFusion.
pub fn outside<T>(result: datafusion::common::Result<T>) -> Result<T> {
    result.map_err(from_datafusion)
}

/// The query of a text that stands in the catalog.
pub fn query_of(session: &Arc<Session>, text: &str) -> Result<Box<Query>> {
    let statements = session.parse(text)?;
    match statements.into_iter().next().map(|s| (*s.kind).clone()) {
        Some(StatementKind::Sql(sql)) => match *sql {
            ast::Statement::Query(query) => Ok(query),
            _ => Err(Error::internal("a query of the catalog is none")),
        },
        _ => Err(Error::internal("a query of the catalog is none")),
    }
}
