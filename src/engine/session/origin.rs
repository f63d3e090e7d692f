//! Where a result column comes from: the table's OID and the column's number, for RowDescription.
//!
//! In: a plan as it was made from the statement, before any optimization. Out: the origin of each output column that is a
//! column of a relation, passed through unchanged. Invariant: a column of a view is the view's, as in PostgreSQL.
//! Deliberately absent: columns of set operations and of merged joins, which PostgreSQL leaves without origin too.

use datafusion::common::TableReference;
use datafusion::logical_expr::{Distinct, Expr, JoinType, LogicalPlan, TableScan};

use crate::catalog::data::CatalogData;
use crate::session::relations::PATH_SCHEMA;
use crate::system::shapes;

/// Aliases of the subqueries that views become begin so; the OID of the view follows.
pub const VIEW_MARK: &str = "\u{1}view ";

/// Names to OIDs, in one snapshot.
pub struct Origins<'a> {
    /// Snapshot.
    pub data: &'a CatalogData,
    /// Schemas of unqualified names.
    pub path: &'a [String],
}

impl Origins<'_> {
    /// OID of the relation and number of its column, from 1.
    pub fn of(&self, plan: &LogicalPlan, index: usize) -> Option<(u32, i16)> {
        match plan {
            LogicalPlan::Projection(p) => self.through(p.expr.get(index)?, &p.input),
            LogicalPlan::SubqueryAlias(alias) => match alias.alias.table().strip_prefix(VIEW_MARK) {
                Some(oid) => Some((oid.parse().ok()?, i16::try_from(index + 1).ok()?)),
                None => self.of(&alias.input, index),
            },
            LogicalPlan::Filter(filter) => self.of(&filter.input, index),
            LogicalPlan::Sort(sort) => self.of(&sort.input, index),
            LogicalPlan::Limit(limit) => self.of(&limit.input, index),
            LogicalPlan::Distinct(Distinct::All(input)) => self.of(input, index),
            LogicalPlan::Window(window) if index < window.input.schema().fields().len() => self.of(&window.input, index),
            LogicalPlan::Aggregate(aggregate) => self.through(aggregate.group_expr.get(index)?, &aggregate.input),
            LogicalPlan::Join(join) if matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) => {
                let left = join.left.schema().fields().len();
                if index < left { self.of(&join.left, index) } else { self.of(&join.right, index - left) }
            }
            LogicalPlan::TableScan(scan) => self.scanned(scan, index),
            _ => None,
        }
    }

    fn through(&self, expr: &Expr, input: &LogicalPlan) -> Option<(u32, i16)> {
        match expr {
            Expr::Alias(alias) => self.through(&alias.expr, input),
            Expr::Column(column) => self.of(input, input.schema().maybe_index_of_column(column)?),
            _ => None,
        }
    }

    fn scanned(&self, scan: &TableScan, index: usize) -> Option<(u32, i16)> {
        let place = match &scan.projection {
            Some(projection) => *projection.get(index)?,
            None => index,
        };
        Some((self.relation(&scan.table_name)?, i16::try_from(place + 1).ok()?))
    }

    fn relation(&self, name: &TableReference) -> Option<u32> {
        let table = name.table();
        match name.schema().filter(|s| *s != PATH_SCHEMA) {
            Some(schema) => {
                let user = self.data.schemas.get(schema).and_then(|s| s.relations.get(table)).map(|r| r.oid);
                user.or_else(|| shapes::find(schema, table).map(|s| s.oid))
            }
            None => {
                let system = shapes::find("pg_catalog", table).map(|s| s.oid);
                system.or_else(|| self.data.resolve(self.path, table).map(|(_, r)| r.oid))
            }
        }
    }
}
