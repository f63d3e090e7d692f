//! The query of a view with the schemas of the relations that it names.
//!
//! In: a query, and the search path of whoever defines the view. Out: the same query, where every name of a relation says its
//! schema, so that the view means the same under any search path. Invariant: names of common table expressions and of
//! temporary tables stay. Deliberately absent: functions, which the path finds when the view is used.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, Query, VisitMut, VisitorMut};

use crate::catalog::data::TEMPORARY;
use crate::session::Session;
use crate::session::planning::Lookup;
use crate::statement::{ident_text, name_parts};

/// The query with schemas.
pub fn qualified(session: &Arc<Session>, query: &Query) -> Query {
    let data = session.snapshot();
    let path = session.search_path(&data);
    let lookup = Lookup { data: &data, search_path: &path, values: None, beside: &[] };
    let mut query = query.clone();
    let _ = query.visit(&mut Qualifier { lookup, scopes: Vec::new() });
    query
}

/// The common table expressions of one query, and how many of them can be seen at this point of the walk.
struct Scope {
    names: Vec<String>,
    queries: Vec<*const Query>,
    visible: usize,
}

struct Qualifier<'a> {
    lookup: Lookup<'a>,
    scopes: Vec<Scope>,
}

impl VisitorMut for Qualifier<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut scope = Scope { names: Vec::new(), queries: Vec::new(), visible: 0 };
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                scope.names.push(ident_text(&cte.alias.name));
                scope.queries.push(std::ptr::from_ref(&*cte.query));
            }
            // WITH RECURSIVE lets each see all of them; without it each sees those before it.
            scope.visible = if with.recursive { scope.names.len() } else { 0 };
        }
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.scopes.pop();
        let ended: *const Query = query;
        if let Some(outer) = self.scopes.last_mut()
            && let Some(position) = outer.queries.iter().position(|q| std::ptr::eq(*q, ended))
        {
            outer.visible = outer.visible.max(position + 1);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        let parts = name_parts(name);
        let [plain] = parts.as_slice() else { return ControlFlow::Continue(()) };
        let is_cte = self.scopes.iter().any(|scope| scope.names.iter().take(scope.visible).any(|n| n == plain));
        if let (false, Some((schema, _, _))) = (is_cte, self.lookup.find(&parts))
            && !schema.starts_with(TEMPORARY)
        {
            *name = ObjectName::from(vec![Ident::with_quote('"', schema), Ident::with_quote('"', plain.clone())]);
        }
        ControlFlow::Continue(())
    }
}
