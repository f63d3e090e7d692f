//! WITH inside WITH RECURSIVE.
//!
//! In: a query. Out: the same query, with the common table expressions that the body of a recursive one has of its own moved
//! in front of it. Invariant: nothing moves where a name would then mean something else. Deliberately absent: anything for
//! queries without recursion, which DataFusion plans as they are.

use std::collections::HashSet;

use sqlparser::ast::{Cte, Query};

use crate::postgres::syntax::folded;

/// Moves the inner WITH lists of a recursive WITH in front of what uses them.
pub fn hoist(query: &mut Query) {
    let Some(with) = query.with.as_mut().filter(|w| w.recursive) else { return };
    let mut names: HashSet<String> = with.cte_tables.iter().map(|c| folded(&c.alias.name)).collect();
    let mut all: Vec<Cte> = Vec::with_capacity(with.cte_tables.len());
    for mut cte in std::mem::take(&mut with.cte_tables) {
        let inner = cte.query.with.as_ref().map(|w| (w.recursive, w.cte_tables.iter().map(|c| folded(&c.alias.name)).collect::<Vec<_>>()));
        if let Some((false, inner)) = inner
            && inner.iter().all(|name| !names.contains(name))
            && let Some(moved) = cte.query.with.take()
        {
            names.extend(inner);
            all.extend(moved.cte_tables);
        }
        all.push(cte);
    }
    with.cte_tables = all;
}
