//! RETURNING: expressions over the rows that a statement wrote or deleted.
//!
//! In: those rows, in the table's shape, with what else the statement's FROM had if RETURNING names it. Out: rows for the
//! client. Invariant: they are computed from the rows as they were written, so a default is not evaluated twice.
//! Deliberately absent: subqueries that see the table as it was before.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;
use sqlparser::ast::{self, Expr, Ident, SelectItem, TableWithJoins, VisitMut, VisitorMut};
use squilla_core::error::Result;

use crate::command::write::{Target, factor, item, outside, select};
use crate::error::from_arrow;
use crate::session::query::rows_of;
use crate::session::{Execution, ResultField, RowsTag, Session};
use crate::statement::ident_text;

const ROWS: &str = "$returned";

/// A RETURNING list, and the columns of other tables that it names.
#[derive(Clone, Debug)]
pub struct Returning {
    items: Vec<SelectItem>,
    /// Expressions to be read beside the rows.
    pub others: Vec<Expr>,
}

impl Returning {
    /// The list of a statement.
    pub fn new(items: &[SelectItem], target: &Target) -> Self {
        let mut items = items.to_vec();
        let mut others = Others { target, found: Vec::new() };
        for item in &mut items {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let name = match &*expr {
                    Expr::CompoundIdentifier(parts) => parts.last().cloned(),
                    _ => None,
                };
                let _ = expr.visit(&mut others);
                // A column of another table keeps its name.
                if let (SelectItem::UnnamedExpr(expr), Some(name)) = (&*item, name) {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: name };
                }
            }
        }
        Self { items, others: others.found }
    }

    /// The names of the other columns in the rows.
    pub fn other_name(index: usize) -> String {
        format!("$other{index}")
    }

    async fn plan(&self, session: &Arc<Session>, target: &Target, batches: Vec<RecordBatch>, schema: SchemaRef) -> Result<LogicalPlan> {
        let table: Arc<dyn TableProvider> = Arc::new(outside(MemTable::try_new(schema, vec![batches]))?);
        let from = vec![TableWithJoins { relation: factor(ROWS, &target.alias), joins: Vec::new() }];
        let items = self.items.iter().cloned().map(|i| without_others(i, target, self.others.is_empty())).collect::<Vec<_>>();
        let query = select(items.into_iter().flatten().collect(), from, None)?;
        session.plan_query_over(ast::Statement::Query(Box::new(query)), "", &[], vec![(ROWS.to_owned(), table)]).await
    }

    /// The columns of the result, over rows of this schema.
    pub async fn fields(&self, session: &Arc<Session>, target: &Target, schema: SchemaRef) -> Result<Vec<ResultField>> {
        let plan = self.plan(session, target, Vec::new(), schema).await?;
        Ok(session.result_fields(&plan))
    }

    /// The rows of the result; `word` begins the command tag.
    pub async fn rows(
        &self,
        session: &Arc<Session>,
        target: &Target,
        batches: Vec<RecordBatch>,
        schema: SchemaRef,
        word: &'static str,
    ) -> Result<Execution> {
        let plan = self.plan(session, target, batches, schema).await?;
        let fields = Arc::new(session.result_fields(&plan));
        let rows: Vec<RecordBatch> = session.run_within(plan).await?.try_collect().await?;
        let stream = match rows.first() {
            Some(first) => rows_of(arrow::compute::concat_batches(&first.schema(), &rows).map_err(from_arrow)?),
            None => Box::pin(futures::stream::empty()),
        };
        Ok(Execution::Rows { fields, stream, tag: RowsTag::Changed(word) })
    }
}

/// `*` is the table's columns alone when others stand beside them.
fn without_others(given: SelectItem, target: &Target, alone: bool) -> Vec<SelectItem> {
    match given {
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) if !alone => {
            target.relation.columns.iter().map(|c| item(target.column(&c.name), &c.name)).collect()
        }
        other => vec![other],
    }
}

/// Columns of other tables of the statement.
struct Others<'a> {
    target: &'a Target,
    found: Vec<Expr>,
}

impl VisitorMut for Others<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let Some(table) = parts.len().checked_sub(2).and_then(|i| parts.get(i))
            && ident_text(table) != self.target.alias
        {
            let index = self.found.iter().position(|e| e == expr).unwrap_or_else(|| {
                self.found.push(expr.clone());
                self.found.len() - 1
            });
            *expr = Expr::Identifier(Ident::with_quote('"', Returning::other_name(index)));
        }
        ControlFlow::Continue(())
    }
}
