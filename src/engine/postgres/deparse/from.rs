//! FROM: relations, subqueries, functions, joins.
//!
//! In: the items of FROM. Out: their columns, and their text. Invariant: a relation is printed without its schema exactly
//! when the search path finds it. Deliberately absent: columns of files.

use sqlparser::ast::{FunctionArg, Ident, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins};
use squilla_core::types::SqlType;

use crate::postgres::syntax::folded;
use crate::statement::name_parts;
use crate::system::procs::{Mode, quote_identifier};
use crate::system::{shapes, types};

use super::expression::Parent;
use super::query::{Columns, renamed};
use super::scope::{Item, Scope};
use super::{Printer, STEP};

impl Printer<'_> {
    /// The items of FROM with their columns.
    pub fn scope(&mut self, from: &[TableWithJoins]) -> Scope {
        let mut scope = Scope::default();
        for tables in from {
            self.add(&tables.relation, &mut scope);
            tables.joins.iter().for_each(|join| self.add(&join.relation, &mut scope));
        }
        scope
    }

    fn add(&mut self, factor: &TableFactor, scope: &mut Scope) {
        let rename = |mut item: Item, alias: Option<&TableAlias>| {
            if let Some(alias) = alias {
                let given: Vec<String> = alias.columns.iter().map(|c| folded(&c.name)).collect();
                item.columns = renamed(std::mem::take(&mut item.columns), &given);
            }
            item
        };
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let parts = name_parts(name);
                let own = alias.as_ref().map(|a| folded(&a.name)).or_else(|| parts.last().cloned()).unwrap_or_default();
                scope.items.push(rename(self.relation(&parts, &own), alias.as_ref()));
            }
            TableFactor::Table { name, alias, args: Some(args), .. } => scope.items.push(self.called(name, &args.args, alias.as_ref())),
            TableFactor::Function { name, alias, args, .. } => scope.items.push(self.called(name, args, alias.as_ref())),
            TableFactor::Derived { subquery, alias, .. } => {
                let own = alias.as_ref().map(|a| folded(&a.name)).unwrap_or_default();
                let level = self.level;
                let mut columns = Vec::new();
                self.scopes.push(scope.clone());
                let text = self.aside(|p| columns = p.query(subquery));
                self.scopes.pop();
                self.level = level;
                // Printed once: printing it again where it stands would double the work with every level.
                self.derived.insert(std::ptr::from_ref(subquery.as_ref()) as usize, text);
                scope.items.push(rename(Item::derived(&own, columns), alias.as_ref()));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.add(&table_with_joins.relation, scope);
                table_with_joins.joins.iter().for_each(|join| self.add(&join.relation, scope));
            }
            TableFactor::UNNEST { alias, .. } => {
                let own = alias.as_ref().map_or_else(|| "unnest".to_owned(), |a| folded(&a.name));
                let column = alias.as_ref().and_then(|a| a.columns.first()).map_or_else(|| own.clone(), |c| folded(&c.name));
                scope.items.push(Item::derived(&own, vec![(column, None)]));
            }
            _ => scope.items.push(Item::derived("", Vec::new())),
        }
    }

    fn relation(&self, parts: &[String], alias: &str) -> Item {
        if let [name] = parts
            && let Some((_, columns)) = self.ctes.iter().rev().find(|(n, _)| n == name)
        {
            return Item::derived(alias, columns.clone());
        }
        let oid = match parts {
            [name] => self.view.relation_oid(None, name),
            [.., schema, name] => self.view.relation_oid(Some(schema), name),
            [] => None,
        };
        match oid.and_then(|oid| self.view.tables.by_oid(oid)) {
            Some(table) => Item::of_table(table, alias),
            None => oid.and_then(shapes::by_oid).map_or_else(|| Item::derived(alias, Vec::new()), |s| Item::of_shape(s, alias)),
        }
    }

    /// The columns of a function in FROM.
    fn called(&self, name: &ObjectName, _: &[FunctionArg], alias: Option<&TableAlias>) -> Item {
        let plain = name_parts(name).pop().unwrap_or_default();
        let own = alias.map_or_else(|| plain.clone(), |a| folded(&a.name));
        let given: Vec<String> = alias.iter().flat_map(|a| &a.columns).map(|c| folded(&c.name)).collect();
        let proc = self.view.procs.named(&plain).find(|p| p.set).or_else(|| self.view.procs.named(&plain).next());
        let table = proc.iter().flat_map(|p| p.arguments.iter().filter(|a| a.mode == Mode::Table));
        let mut columns: Columns =
            table.map(|a| (a.name.clone(), types::by_oid(a.ty).and_then(|t| SqlType::parse(&types::format_type(t.oid, None))))).collect();
        if columns.is_empty() && (proc.is_some_and(|p| p.returns != 2249) || plain == "generate_series") {
            let ty = proc.and_then(|p| types::by_oid(p.returns)).and_then(|t| SqlType::parse(&types::format_type(t.oid, None)));
            columns.push((own.clone(), ty));
        }
        Item::derived(&own, renamed(columns, &given))
    }

    /// One item of FROM with its joins.
    pub fn joined(&mut self, tables: &TableWithJoins) {
        if !self.pretty {
            self.out.extend(std::iter::repeat_n('(', tables.joins.len()));
        }
        self.factor(&tables.relation);
        for join in &tables.joins {
            self.join(join);
            if !self.pretty {
                self.out.push(')');
            }
        }
    }

    fn join(&mut self, join: &Join) {
        let (word, constraint) = match &join.join_operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) => (" JOIN ", c),
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (" LEFT JOIN ", c),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (" RIGHT JOIN ", c),
            JoinOperator::FullOuter(c) => (" FULL JOIN ", c),
            JoinOperator::CrossJoin(c) => (" CROSS JOIN ", c),
            _ => {
                self.out.push_str(&join.to_string());
                return;
            }
        };
        let word = if matches!(constraint, JoinConstraint::Natural) { format!(" NATURAL{word}") } else { word.to_owned() };
        self.keyword(&word, -STEP, STEP, 4);
        let around = self.pretty
            && !matches!(
                join.relation,
                TableFactor::Table { args: None, .. } | TableFactor::Derived { .. } | TableFactor::Table { .. } | TableFactor::Function { .. }
            );
        if around {
            self.out.push('(');
        }
        self.factor(&join.relation);
        if around {
            self.out.push(')');
        }
        match constraint {
            JoinConstraint::On(condition) => {
                self.out.push_str(" ON ");
                if !self.pretty {
                    self.out.push('(');
                }
                self.expr(condition, Parent::Top, None);
                if !self.pretty {
                    self.out.push(')');
                }
            }
            JoinConstraint::Using(columns) => {
                let names: Vec<String> = columns.iter().map(|c| quote_identifier(&name_parts(c).pop().unwrap_or_default())).collect();
                self.out.push_str(&format!(" USING ({})", names.join(", ")));
            }
            JoinConstraint::Natural | JoinConstraint::None => {}
        }
    }

    fn factor(&mut self, factor: &TableFactor) {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let parts = name_parts(name);
                let text = self.relation_text(&parts);
                self.out.push_str(&text);
                let same = alias.as_ref().is_none_or(|a| parts.last() == Some(&folded(&a.name)));
                if let Some(alias) = alias.as_ref().filter(|a| !same || !a.columns.is_empty()) {
                    self.alias(alias, None);
                }
            }
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                self.function(name, &args.args, alias.as_ref(), *with_ordinality, false);
            }
            TableFactor::Function { name, alias, args, with_ordinality, lateral } => {
                self.function(name, args, alias.as_ref(), *with_ordinality, *lateral);
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                self.out.push_str(if *lateral { "LATERAL (" } else { "(" });
                match self.derived.remove(&(std::ptr::from_ref(subquery.as_ref()) as usize)) {
                    Some(text) => self.out.push_str(&text),
                    None => drop(self.query(subquery)),
                }
                self.out.push(')');
                if let Some(alias) = alias {
                    self.alias(alias, None);
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.joined(table_with_joins);
                if let Some(alias) = alias {
                    self.alias(alias, None);
                }
            }
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn relation_text(&self, parts: &[String]) -> String {
        let oid = match parts {
            [name] if self.ctes.iter().any(|(n, _)| n == name) => None,
            [name] => self.view.relation_oid(None, name),
            [.., schema, name] => self.view.relation_oid(Some(schema), name),
            [] => None,
        };
        match oid {
            Some(oid) => crate::postgres::names::print(self.view, squilla_core::types::RegKind::Class, oid),
            None => parts.iter().map(|p| quote_identifier(p)).collect::<Vec<_>>().join("."),
        }
    }

    fn function(&mut self, name: &ObjectName, args: &[FunctionArg], alias: Option<&TableAlias>, ordinality: bool, lateral: bool) {
        if lateral {
            self.out.push_str("LATERAL ");
        }
        let plain = name_parts(name).pop().unwrap_or_default();
        self.out.push_str(&quote_identifier(&plain));
        self.out.push('(');
        for (i, arg) in args.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.argument(arg, None);
        }
        self.out.push(')');
        if ordinality {
            self.out.push_str(" WITH ORDINALITY");
        }
        let columns = self.called(name, args, alias).columns;
        let own = TableAlias { explicit: true, name: Ident::new(plain), columns: Vec::new(), at: None };
        self.alias(alias.unwrap_or(&own), Some(&columns));
    }

    fn alias(&mut self, alias: &TableAlias, known: Option<&Columns>) {
        self.out.push_str(&format!(" {}", quote_identifier(&folded(&alias.name))));
        let names: Vec<String> = match known.filter(|k| !k.is_empty()) {
            Some(columns) => columns.iter().map(|(name, _)| quote_identifier(name)).collect(),
            None => alias.columns.iter().map(|c| quote_identifier(&folded(&c.name))).collect(),
        };
        if !names.is_empty() {
            self.out.push_str(&format!("({})", names.join(", ")));
        }
    }
}
