//! Queries: lists, FROM, joins, set operations, WITH.
//!
//! In: the tree of a query. Out: its text. Invariant: line breaks and their depth are those of PostgreSQL's ruleutils.
//! Deliberately absent: data-modifying WITH, GROUPING SETS laid out over lines.

use sqlparser::ast::{
    Cte, CteAsMaterialized, Distinct, Expr, GroupByExpr, Ident, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Value,
};
use squilla_core::types::SqlType;

use crate::postgres::column_names;
use crate::postgres::syntax::folded;
use crate::statement::name_parts;
use crate::system::procs::quote_identifier;

use super::expression::Parent;
use super::scope::Item;
use super::{DEPTH_MAX, Printer, STEP};

/// Output columns: name, and type where known.
pub type Columns = Vec<(String, Option<SqlType>)>;

impl Printer<'_> {
    /// Prints a query; its output columns.
    pub fn query(&mut self, query: &Query) -> Columns {
        let named = std::mem::replace(&mut self.named, true);
        let columns = self.query_named(query, None);
        self.named = named;
        columns
    }

    /// A query inside an expression.
    pub fn inner(&mut self, query: &Query) {
        let named = std::mem::replace(&mut self.named, false);
        self.query_named(query, None);
        self.named = named;
    }

    fn query_named(&mut self, query: &Query, names: Option<&Columns>) -> Columns {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.depth -= 1;
            self.out.push_str(&query.to_string());
            return Vec::new();
        }
        let named = std::mem::replace(&mut self.named, true);
        let (level, ctes) = (self.level, self.ctes.len());
        if let Some(with) = &query.with {
            self.level += STEP;
            self.out.push(' ');
            self.out.push_str(if with.recursive { "WITH RECURSIVE " } else { "WITH " });
            for (i, cte) in with.cte_tables.iter().enumerate() {
                if i > 0 {
                    self.out.push_str(", ");
                }
                self.cte(cte, with.recursive);
            }
            self.level -= STEP;
            self.keyword("", 0, 0, 0);
        }
        self.named = named;
        let columns = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, query.order_by.as_ref(), names),
            body => {
                let columns = self.set(body, names);
                self.order_by(query.order_by.as_ref(), &columns, &[]);
                columns
            }
        };
        self.limits(query);
        self.level = level;
        self.ctes.truncate(ctes);
        self.depth -= 1;
        columns
    }

    fn cte(&mut self, cte: &Cte, recursive: bool) {
        let name = folded(&cte.alias.name);
        self.out.push_str(&quote_identifier(&name));
        let given: Vec<String> = cte.alias.columns.iter().map(|c| folded(&c.name)).collect();
        if !given.is_empty() {
            self.out.push_str(&format!("({})", given.iter().map(|c| quote_identifier(c)).collect::<Vec<_>>().join(", ")));
        }
        self.out.push_str(" AS ");
        match cte.materialized {
            Some(CteAsMaterialized::Materialized) => self.out.push_str("MATERIALIZED "),
            Some(CteAsMaterialized::NotMaterialized) => self.out.push_str("NOT MATERIALIZED "),
            None => {}
        }
        self.out.push('(');
        self.keyword("", 0, 0, 0);
        if recursive {
            let first = match cte.query.body.as_ref() {
                // Printed for its columns alone; deep nests of these are not worth it.
                SetExpr::SetOperation { left, .. } if self.depth < 8 => self.output_of(left),
                _ => Vec::new(),
            };
            self.ctes.push((name.clone(), renamed(first, &given)));
        }
        let columns = self.query(&cte.query);
        self.keyword("", 0, 0, 0);
        self.out.push(')');
        if recursive {
            self.ctes.pop();
        }
        self.ctes.push((name, renamed(columns, &given)));
    }

    /// The output columns of a body, without printing it.
    fn output_of(&mut self, body: &SetExpr) -> Columns {
        let mut columns = Vec::new();
        let used = self.used.clone();
        let level = self.level;
        self.aside(|p| columns = p.set(body, None));
        (self.used, self.level) = (used, level);
        columns
    }

    /// One side of a set operation, or the operation.
    fn set(&mut self, body: &SetExpr, names: Option<&Columns>) -> Columns {
        match body {
            SetExpr::Select(select) => {
                let level = self.level;
                let columns = self.select(select, None, names);
                self.level = level;
                columns
            }
            SetExpr::Query(query) => {
                // Only what has WITH, ORDER BY or LIMIT of its own needs its parentheses.
                let needed = query.with.is_some() || query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some();
                if needed {
                    self.out.push('(');
                }
                let columns = if needed { self.query_named(query, names) } else { self.set(&query.body, names) };
                if needed {
                    self.out.push(')');
                }
                columns
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let same = |side: &SetExpr| matches!(side, SetExpr::SetOperation { op: o, set_quantifier: q, .. } if o == op && q == set_quantifier);
                let nested = |side: &SetExpr| match side {
                    SetExpr::SetOperation { .. } => true,
                    SetExpr::Query(q) => matches!(q.body.as_ref(), SetExpr::SetOperation { .. }) && q.order_by.is_none() && q.limit_clause.is_none(),
                    _ => false,
                };
                let around = nested(left) && !same(left);
                if around {
                    self.out.push('(');
                    self.keyword("", STEP, 0, 0);
                }
                let columns = self.set(left, names);
                if around {
                    self.keyword(") ", -STEP, 0, 0);
                } else {
                    self.keyword("", 0, 0, 0);
                }
                self.out.push_str(match op {
                    SetOperator::Intersect => "INTERSECT ",
                    SetOperator::Except | SetOperator::Minus => "EXCEPT ",
                    SetOperator::Union => "UNION ",
                });
                if *set_quantifier == SetQuantifier::All {
                    self.out.push_str("ALL ");
                }
                let around = nested(right);
                if around {
                    self.out.push('(');
                }
                let step = if around { STEP } else { 0 };
                self.keyword("", step, 0, 0);
                self.set(right, Some(&columns));
                self.level -= step;
                if around {
                    self.keyword(")", 0, 0, 0);
                }
                columns
            }
            SetExpr::Values(values) => {
                self.level += STEP;
                self.out.push_str(" VALUES ");
                let mut types: Vec<Option<SqlType>> = Vec::new();
                for (i, row) in values.rows.iter().enumerate() {
                    self.out.push_str(if i > 0 { ", (" } else { "(" });
                    for (n, value) in row.content.iter().enumerate() {
                        if n > 0 {
                            self.out.push(',');
                        }
                        let ty = self.type_of(value).or(Some(SqlType::Text));
                        self.expr(value, Parent::Function, ty.as_ref());
                        if i == 0 {
                            types.push(ty);
                        }
                    }
                    self.out.push(')');
                }
                self.level -= STEP;
                types.into_iter().enumerate().map(|(i, ty)| (format!("column{}", i + 1), ty)).collect()
            }
            other => {
                self.out.push_str(&format!(" {other}"));
                Vec::new()
            }
        }
    }

    fn select(&mut self, select: &Select, order_by: Option<&OrderBy>, names: Option<&Columns>) -> Columns {
        self.level += STEP;
        self.out.push_str(" SELECT");
        let scope = self.scope(&select.from);
        self.scopes.push(scope);
        match &select.distinct {
            Some(Distinct::Distinct) => self.out.push_str(" DISTINCT"),
            Some(Distinct::On(list)) => {
                self.out.push_str(" DISTINCT ON (");
                self.list(list, Parent::Function);
                self.out.push(')');
            }
            _ => {}
        }
        let items = self.expanded(&select.projection);
        let columns = self.targets(&items, names);
        if !select.from.is_empty() {
            self.keyword(" FROM ", -STEP, STEP, 2);
            for (i, from) in select.from.iter().enumerate() {
                if i > 0 {
                    self.out.push_str(", ");
                    self.keyword("", -STEP, STEP, 4);
                }
                self.joined(from);
            }
        }
        if let Some(condition) = &select.selection {
            self.keyword(" WHERE ", -STEP, STEP, 1);
            self.expr(condition, Parent::Top, None);
        }
        if let GroupByExpr::Expressions(list, _) = &select.group_by
            && !list.is_empty()
        {
            self.keyword(" GROUP BY ", -STEP, STEP, 1);
            for (i, expr) in list.iter().enumerate() {
                if i > 0 {
                    self.out.push_str(", ");
                }
                let expr = place(expr).and_then(|n| items.get(n)).map_or(expr, |(e, _)| e);
                let expr = self.output(expr, &items).unwrap_or(expr).clone();
                self.sorted(&expr);
            }
        }
        if let Some(condition) = &select.having {
            self.keyword(" HAVING ", -STEP, STEP, 0);
            self.expr(condition, Parent::Top, None);
        }
        self.order_by(order_by, &columns, &items);
        self.scopes.pop();
        columns
    }

    /// The select list with wildcards spelt out: expression, and the name that was given.
    fn expanded(&self, projection: &[SelectItem]) -> Vec<(Expr, Option<String>)> {
        let columns = |item: &Item| {
            let alias = item.alias.clone();
            let column = move |name: &String| {
                (Expr::CompoundIdentifier(vec![Ident::with_quote('"', &alias), Ident::with_quote('"', name)]), Some(name.clone()))
            };
            item.columns.iter().map(|(name, _)| column(name)).collect::<Vec<_>>()
        };
        let items = self.scopes.last().map(|s| s.items.as_slice()).unwrap_or_default();
        let mut all = Vec::new();
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => all.push((expr.clone(), None)),
                SelectItem::ExprWithAlias { expr, alias } => all.push((expr.clone(), Some(folded(alias)))),
                SelectItem::Wildcard(_) if items.iter().all(|i| !i.columns.is_empty()) && !items.is_empty() => {
                    items.iter().for_each(|i| all.extend(columns(i)));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let alias = name_parts(name).pop().unwrap_or_default();
                    match items.iter().find(|i| i.alias == alias && !i.columns.is_empty()) {
                        Some(item) => all.extend(columns(item)),
                        None => all.push((Expr::Identifier(Ident::new(item.to_string())), Some(String::new()))),
                    }
                }
                other => all.push((Expr::Identifier(Ident::new(other.to_string())), Some(String::new()))),
            }
        }
        all
    }

    fn targets(&mut self, items: &[(Expr, Option<String>)], names: Option<&Columns>) -> Columns {
        let mut columns = Vec::new();
        let mut after = ' ';
        for (i, (expr, alias)) in items.iter().enumerate() {
            self.out.push_str(if i == 0 { "" } else { "," });
            self.out.push(after);
            let ty = self.type_of(expr);
            let expected = ty.clone().or(Some(SqlType::Text));
            let mut text = self.aside(|p| p.expr(expr, Parent::Top, expected.as_ref()));
            // What could not be spelt out has an empty name: it is printed as it was written.
            let written = alias.as_deref() == Some("");
            let own = match expr {
                Expr::Identifier(id) => folded(id),
                Expr::CompoundIdentifier(ids) => ids.last().map(folded).unwrap_or_default(),
                // In an expression a subquery's output without a name of its own stays without.
                _ if !self.named => "?column?".to_owned(),
                _ => String::new(),
            };
            let name = names.and_then(|n| n.get(i)).map(|(n, _)| n.clone()).or_else(|| alias.clone()).unwrap_or_else(|| column_names::name(expr));
            if written {
                text = expr.to_string();
            } else if name != own {
                text.push_str(&format!(" AS {}", quote_identifier(&name)));
            }
            if text.starts_with('\n') {
                let kept = self.out.trim_end_matches(' ').len();
                self.out.truncate(kept);
            } else if i > 0 {
                self.keyword("", -STEP, STEP, 4);
            }
            self.out.push_str(&text);
            after = ' ';
            columns.push((name, expected));
        }
        columns
    }

    /// The expression that an output name in GROUP BY or ORDER BY stands for, where no column has that name.
    fn output<'e>(&self, expr: &Expr, items: &'e [(Expr, Option<String>)]) -> Option<&'e Expr> {
        let Expr::Identifier(id) = expr else { return None };
        let name = folded(id);
        if super::scope::find(self.scopes.get(self.scopes.len().saturating_sub(1)..).unwrap_or_default(), None, &name).is_some() {
            return None;
        }
        items.iter().find(|(_, alias)| alias.as_ref() == Some(&name)).map(|(e, _)| e)
    }

    fn order_by(&mut self, order_by: Option<&OrderBy>, columns: &Columns, items: &[(Expr, Option<String>)]) {
        let Some(OrderByKind::Expressions(list)) = order_by.map(|o| &o.kind) else { return };
        self.keyword(" ORDER BY ", -STEP, STEP, 1);
        for (i, item) in list.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            let number = match &item.expr {
                Expr::Identifier(id) => columns.iter().position(|(name, _)| *name == folded(id)),
                other => place(other),
            };
            // Of a set operation only places can be named.
            if items.is_empty()
                && let Some(n) = number
            {
                self.out.push_str(&(n + 1).to_string());
            } else {
                let expr = place(&item.expr).and_then(|n| items.get(n)).map_or(&item.expr, |(e, _)| e);
                let expr = self.output(expr, items).unwrap_or(expr).clone();
                self.sorted(&expr);
            }
            self.direction(item);
        }
    }

    /// An expression of GROUP BY or ORDER BY: what is more than a column stands in parentheses.
    pub fn sorted(&mut self, expr: &Expr) {
        let simple = match expr {
            Expr::Nested(inner) => return self.sorted(inner),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => true,
            Expr::Function(_) | Expr::Extract { .. } | Expr::Substring { .. } => false,
            _ => !self.pretty,
        };
        if !simple {
            self.out.push('(');
        }
        self.expr(expr, Parent::Top, None);
        if !simple {
            self.out.push(')');
        }
    }

    /// DESC, NULLS FIRST
    pub fn direction(&mut self, item: &OrderByExpr) {
        let descending = item.options.asc == Some(false);
        if descending {
            self.out.push_str(" DESC");
        }
        match item.options.nulls_first {
            Some(true) if !descending => self.out.push_str(" NULLS FIRST"),
            Some(false) if descending => self.out.push_str(" NULLS LAST"),
            _ => {}
        }
    }

    fn limits(&mut self, query: &Query) {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            if let Some(offset) = offset {
                self.keyword(" OFFSET ", -STEP, STEP, 0);
                self.expr(&offset.value, Parent::Top, Some(&SqlType::Int8));
            }
            if let Some(limit) = limit {
                self.keyword(" LIMIT ", -STEP, STEP, 0);
                self.expr(limit, Parent::Top, Some(&SqlType::Int8));
            }
        }
        if let Some(quantity) = query.fetch.as_ref().and_then(|f| f.quantity.as_ref()) {
            self.keyword(" LIMIT ", -STEP, STEP, 0);
            self.expr(quantity, Parent::Top, Some(&SqlType::Int8));
        }
    }
}

/// Columns under other names.
pub fn renamed(mut columns: Columns, names: &[String]) -> Columns {
    for (i, name) in names.iter().enumerate() {
        match columns.get_mut(i) {
            Some(column) => column.0.clone_from(name),
            None => columns.push((name.clone(), None)),
        }
    }
    columns
}

/// `1` in ORDER BY or GROUP BY as an index.
fn place(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => n.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}
