//! WITH RECURSIVE inside a lateral subquery.
//!
//! In: a recursive query whose first term refers to the left side. Out: one recursion for all left rows: every row of the
//! work table carries its left row. Invariant: rows of one left row never meet those of another. Deliberately absent: terms in
//! which the work table stands under anything but names, conditions and inner joins (0A000).

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result as DfResult, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, RecursiveQuery, lit};

use super::{Part, Work, named, unsupported};

/// The work table of a recursion that carries the left side.
struct Table<'a> {
    /// What the recursive term calls it.
    name: &'a str,
    /// What it is called with the left side in it.
    wide: String,
    schema: Arc<Schema>,
    /// Columns of the left side: as the work table has them, and as the subquery refers to them.
    carried: Vec<(String, Column)>,
}

impl Work<'_> {
    /// The recursion over `part`.
    pub(super) fn recursive(&self, query: &RecursiveQuery, part: Part, soft: bool) -> DfResult<Part> {
        if !soft {
            return self.recursion(query, part);
        }
        // Every left row stays: the recursion runs apart and meets its left rows again by their numbers.
        let mut wanted = self.references(query)?;
        if let Expr::Column(row) = &self.row {
            wanted.insert(row.clone());
        }
        let carried = part.carried.iter().filter(|c| wanted.contains(*c)).cloned().collect();
        let own = Part { plan: part.plan.clone(), carried, matched: None, alone: true };
        let found = self.recursion(query, own)?;
        let row = self.fresh("row");
        let columns = query.schema.iter().map(|(q, f)| Expr::Column(Column::from((q, f))));
        let list: Vec<Expr> = std::iter::once(self.row.clone().alias(&row)).chain(columns).collect();
        let rows = LogicalPlanBuilder::from(found.plan).project(list)?.build()?;
        let on = self.row.clone().eq(Expr::Column(Column::new_unqualified(row)));
        self.joined(&rows, part, true, on)
    }

    /// The columns of the left side that the query reads.
    fn references(&self, query: &RecursiveQuery) -> DfResult<HashSet<Column>> {
        let mut found = HashSet::new();
        for term in [&query.static_term, &query.recursive_term] {
            term.apply_with_subqueries(|node| {
                node.apply_expressions(|expr| {
                    expr.apply(|e| {
                        if let Expr::OuterReferenceColumn(_, column) = e {
                            found.extend(self.names.get(column).cloned());
                        }
                        Ok(TreeNodeRecursion::Continue)
                    })
                })
            })?;
        }
        Ok(found)
    }

    fn recursion(&self, query: &RecursiveQuery, part: Part) -> DfResult<Part> {
        let first = self.over(&query.static_term, part, false)?;
        let carried: Vec<(String, Column)> = first.carried.iter().map(|c| (self.fresh("carried"), c.clone())).collect();
        let wide = |columns: Vec<Column>| -> Vec<Expr> {
            let left = carried.iter().map(|(name, column)| Expr::Column(column.clone()).alias(name));
            let values = columns.into_iter().zip(query.schema.iter()).map(|(c, (_, f))| Expr::Column(c).alias(f.name()));
            left.chain(values).collect()
        };
        let list = wide(query.static_term.schema().columns());
        let first = LogicalPlanBuilder::from(first.plan).project(list)?.build()?;
        let schema = Arc::new(first.schema().as_arrow().clone());
        let table = Table { name: &query.name, wide: self.fresh("recursive"), schema, carried: carried.clone() };
        let next = self.through(&query.recursive_term, &table)?;
        let list = wide(query.recursive_term.schema().columns());
        let next = LogicalPlanBuilder::from(next.plan).project(list)?.build()?;
        let plan = LogicalPlanBuilder::from(first).to_recursive_query(table.wide, next, query.is_distinct)?.build()?;
        // The names that the operators above refer to.
        let mut list: Vec<Expr> =
            carried.iter().map(|(name, c)| Expr::Column(Column::new_unqualified(name)).alias_qualified(c.relation.clone(), &c.name)).collect();
        list.extend(query.schema.iter().map(|(q, f)| named(Expr::Column(Column::new_unqualified(f.name())), q, f.name())));
        let plan = LogicalPlanBuilder::from(plan).project(list)?.build()?;
        Ok(Part { plan, carried: carried.into_iter().map(|(_, c)| c).collect(), matched: None, alone: true })
    }

    /// A plan that reads the work table, which brings the left side with it.
    fn through(&self, plan: &LogicalPlan, table: &Table<'_>) -> DfResult<Part> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.table_name.table() == table.name => {
                let source = provider_as_source(Arc::new(CteWorkTable::new(&table.wide, Arc::clone(&table.schema))));
                let wide = TableReference::bare(table.wide.clone());
                let mut list: Vec<Expr> = table
                    .carried
                    .iter()
                    .map(|(name, c)| Expr::Column(Column::new(Some(wide.clone()), name)).alias_qualified(c.relation.clone(), &c.name))
                    .collect();
                let columns = scan.projected_schema.iter();
                list.extend(columns.map(|(q, f)| named(Expr::Column(Column::new(Some(wide.clone()), f.name())), q, f.name())));
                let plan = LogicalPlanBuilder::scan(table.wide.as_str(), source, None)?.project(list)?.build()?;
                Ok(Part { plan, carried: table.carried.iter().map(|(_, c)| c.clone()).collect(), matched: None, alone: true })
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let part = self.through(&alias.input, table)?;
                let mut list = Self::kept(&part);
                list.extend(alias.input.schema().columns().into_iter().map(|c| {
                    let name = c.name.clone();
                    Expr::Column(c).alias_qualified(Some(alias.alias.clone()), name)
                }));
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).project(list)?.build()?, ..part })
            }
            LogicalPlan::Projection(projection) => {
                let part = self.through(&projection.input, table)?;
                let mut list = Self::kept(&part);
                for (expr, (q, f)) in projection.expr.iter().zip(projection.schema.iter()) {
                    list.push(named(self.inward(expr)?, q, f.name()));
                }
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).project(list)?.build()?, ..part })
            }
            LogicalPlan::Filter(filter) => {
                let part = self.through(&filter.input, table)?;
                let predicate = self.inward(&filter.predicate)?;
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).filter(predicate)?.build()?, ..part })
            }
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
                let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).chain(join.filter.clone()).reduce(Expr::and);
                let on = self.inward(&on.unwrap_or_else(|| lit(true)))?;
                let (with, without) = if reads(&join.left, table.name) { (&join.left, &join.right) } else { (&join.right, &join.left) };
                let part = self.through(with, table)?;
                let part = self.over(without, part, false)?;
                Ok(Part { plan: LogicalPlanBuilder::from(part.plan).filter(on)?.build()?, ..part })
            }
            _ => Err(unsupported("this use of a recursive query")),
        }
    }
}

fn reads(plan: &LogicalPlan, name: &str) -> bool {
    let mut found = false;
    let _ = plan.apply(|node| {
        found |= matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.table() == name);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
