//! RETURNING: expressions over the rows that a statement wrote or deleted.
//!
//! In: those rows, in the table's shape, with what else the statement's FROM had if RETURNING names it. Out: rows for the
//! client. Invariant: they are computed from the rows as they were written, so a default is not evaluated twice.
//! Deliberately absent: subqueries that see the table as it was before.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::{self, Expr, Ident, SelectItem, TableWithJoins, VisitMut, VisitorMut};
use squilla_core::error::Result;

use crate::command::write::{Target, factor, item, select};
use crate::exec::held::Held;
use crate::session::{Execution, ResultField, RowsTag, Session};
use crate::statement::ident_text;
use crate::table::fit::stored_schema;

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

    async fn plan(&self, session: &Arc<Session>, target: &Target, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
        let from = vec![TableWithJoins { relation: factor(ROWS, &target.alias), joins: Vec::new() }];
        let items = self.items.iter().cloned().map(|i| without_others(i, target, self.others.is_empty())).collect::<Vec<_>>();
        let query = select(items.into_iter().flatten().collect(), from, None)?;
        session.plan_query_over(ast::Statement::Query(Box::new(query)), "", &[], vec![(ROWS.to_owned(), table)]).await
    }

    /// The columns of the result, over rows of this schema.
    pub async fn fields(&self, session: &Arc<Session>, target: &Target, schema: SchemaRef) -> Result<Vec<ResultField>> {
        let plan = self.plan(session, target, Arc::new(EmptyTable::new(schema))).await?;
        Ok(session.result_fields(&plan))
    }

    /// The rows of the result over those that were written; `word` begins the command tag. They are all there before the
    /// statement is over: an error among them is the statement's.
    pub async fn rows(&self, session: &Arc<Session>, target: &Target, written: Option<Held>, word: &'static str) -> Result<Execution> {
        let table: Arc<dyn TableProvider> = match written {
            Some(held) => held.table(stored_schema(&target.relation.columns)?)?,
            None => Arc::new(EmptyTable::new(stored_schema(&target.relation.columns)?)),
        };
        self.rows_over(session, target, table, word).await
    }

    /// The same over a table of the rows and what else RETURNING needs.
    pub async fn rows_over(&self, session: &Arc<Session>, target: &Target, table: Arc<dyn TableProvider>, word: &'static str) -> Result<Execution> {
        let plan = self.plan(session, target, table).await?;
        let fields = Arc::new(session.result_fields(&plan));
        let stream = session.held_within(plan).await?.stream();
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
