//! Functions that users wrote in SQL: arguments in declared order, bodies as syntax trees, and calls in FROM as subqueries.
//!
//! In: calls and entries of the catalog. Out: expressions and queries. Invariant: a body in FROM sees its arguments only
//! where a parameter stood. Deliberately absent: calls in expressions (`session::sql_functions`).

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, Value, VisitMut, VisitorMut,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::CatalogData;
use crate::catalog::functions::{FunctionEntry, no_function};
use crate::postgres::casts::typed_cast;
use crate::statement::{ident_text, name_parts};

/// The query of a body.
pub fn body_query(function: &FunctionEntry, depth_max: usize) -> Result<Box<Query>> {
    let statements = crate::statement::parse(&function.body, depth_max)?;
    let [statement] = statements.as_slice() else {
        return Err(Error::unsupported("a function with several statements is not supported"));
    };
    match &*statement.kind {
        crate::statement::StatementKind::Sql(sql) => match &**sql {
            Statement::Query(query) => Ok(query.clone()),
            _ => Err(Error::unsupported("a function whose body is not a query is not supported")),
        },
        _ => Err(Error::unsupported("a function whose body is not a query is not supported")),
    }
}

fn expression(text: &str) -> Result<Expr> {
    let parse = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut p| p.parse_expr());
    parse.map_err(crate::error::from_parser)
}

/// The arguments of a call in declared order with defaults filled in, and the overloads that take so many. 42883.
pub fn arguments(name: &str, found: &[FunctionEntry], args: Vec<FunctionArg>) -> Result<(Vec<Expr>, Vec<FunctionEntry>)> {
    let mut positional = Vec::new();
    let mut named: Vec<(String, Expr)> = Vec::new();
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => positional.push(e),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => named.push((ident_text(&name), e)),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(e), .. } => named.push((ident_text(&name), e)),
            other => return Err(Error::new(Kind::Syntax, format!("invalid argument of {name}: {other}"))),
        }
    }
    let takes = |f: &&FunctionEntry| {
        let rest = f.arguments.get(positional.len()..).unwrap_or_default();
        positional.len() <= f.arguments.len()
            && named.iter().all(|(n, _)| rest.iter().any(|a| a.name == *n))
            && rest.iter().all(|a| a.default.is_some() || named.iter().any(|(n, _)| *n == a.name))
    };
    // The fewest arguments: defaults are for when no overload takes just what was given.
    let Some(best) = found.iter().filter(takes).min_by_key(|f| f.arguments.len()) else {
        return Err(no_function(&format!("{name}({})", vec!["..."; positional.len().min(1)].join("")))
            .hint("No function matches the given name and argument types. You might need to add explicit type casts."));
    };
    let fitting: Vec<FunctionEntry> = if named.is_empty() {
        found.iter().filter(takes).filter(|f| f.arguments.len() == best.arguments.len()).cloned().collect()
    } else {
        vec![best.clone()]
    };
    let mut given = positional;
    for argument in best.arguments.get(given.len()..).unwrap_or_default() {
        given.push(match (named.iter().position(|(n, _)| *n == argument.name), &argument.default) {
            (Some(at), _) => named.swap_remove(at).1,
            (None, Some(default)) => expression(default)?,
            (None, None) => return Err(no_function(name)),
        });
    }
    Ok((given, fitting))
}

/// Names of arguments in a body become parameters, unless a relation of the body has a column of that name.
pub fn parameters_for_names(statement: &mut Statement, function: &FunctionEntry, data: &CatalogData) {
    struct Names<'a> {
        function: &'a FunctionEntry,
        columns: HashSet<String>,
    }
    impl VisitorMut for Names<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let name = match &*expr {
                Expr::Identifier(id) if !self.columns.contains(&ident_text(id)) => ident_text(id),
                Expr::CompoundIdentifier(ids) => match ids.as_slice() {
                    [function, argument] if ident_text(function) == self.function.name => ident_text(argument),
                    _ => return ControlFlow::Continue(()),
                },
                _ => return ControlFlow::Continue(()),
            };
            if let Some(at) = self.function.arguments.iter().position(|a| !a.name.is_empty() && a.name == name) {
                *expr = Expr::value(Value::Placeholder(format!("${}", at + 1)));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names { function, columns: columns_named(statement, data) };
    let _ = statement.visit(&mut names);
}

/// Columns of the relations that a statement names.
fn columns_named(statement: &mut Statement, data: &CatalogData) -> HashSet<String> {
    struct Relations<'a>(&'a CatalogData, HashSet<String>);
    impl VisitorMut for Relations<'_> {
        type Break = ();
        fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
            let parts = name_parts(name);
            let Some(last) = parts.last() else { return ControlFlow::Continue(()) };
            let schema = parts.len().checked_sub(2).and_then(|i| parts.get(i));
            for (_, entry) in self.0.schemas.iter().filter(|(s, _)| schema.is_none_or(|wanted| wanted == *s)) {
                self.1.extend(entry.relations.get(last).iter().flat_map(|r| r.columns.iter().map(|c| c.name.clone())));
            }
            ControlFlow::Continue(())
        }
    }
    let mut relations = Relations(data, HashSet::new());
    let _ = statement.visit(&mut relations);
    relations.1
}

/// Puts arguments where parameters stand.
fn with_arguments(query: &mut Query, arguments: &[Expr]) {
    struct Place<'a>(&'a [Expr]);
    impl VisitorMut for Place<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let argument = match &*expr {
                Expr::Value(v) => match &v.value {
                    Value::Placeholder(name) => name.trim_start_matches('$').parse::<usize>().ok().and_then(|n| self.0.get(n.checked_sub(1)?)),
                    _ => None,
                },
                _ => None,
            };
            if let Some(argument) = argument {
                *expr = argument.clone();
            }
            ControlFlow::Continue(())
        }
    }
    let _ = query.visit(&mut Place(arguments));
}

/// Whether an expression names a column.
fn names_columns(expr: &Expr) -> bool {
    ast::visit_expressions(expr, |e| match e {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// A call in FROM as a subquery. Columns of items on its left may be arguments of bodies without a FROM of their own.
pub fn in_from(
    name: &str,
    found: &[FunctionEntry],
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
    data: &CatalogData,
    depth_max: usize,
) -> Result<TableFactor> {
    let (given, fitting) = arguments(name, found, args)?;
    let Some(function) = fitting.first() else { return Err(no_function(name)) };
    let mut statement = Statement::Query(body_query(function, depth_max)?);
    parameters_for_names(&mut statement, function, data);
    let Statement::Query(mut body) = statement else { return Err(Error::internal("a body that is not a query")) };
    let lateral = given.iter().any(names_columns);
    let from = matches!(body.body.as_ref(), SetExpr::Select(s) if s.from.is_empty());
    if lateral && !from {
        return Err(Error::unsupported(format!("columns as arguments of {name}, whose body reads relations, are not supported in FROM")));
    }
    let given: Vec<Expr> = given.into_iter().zip(function.types()).map(|(e, ty)| typed_cast(e, &ty)).collect();
    with_arguments(&mut body, &given);
    let columns = function.columns();
    let inner = TableAlias {
        explicit: true,
        name: Ident::new("squilla_body"),
        columns: (0..columns.len()).map(|i| TableAliasColumnDef::from_name(format!("squilla_{i}"))).collect(),
        at: None,
    };
    let mut outer = crate::bind::relation::empty_query()?;
    if let SetExpr::Select(select) = outer.body.as_mut() {
        let item = |(i, (column, ty)): (usize, &(String, squilla_core::types::SqlType))| SelectItem::ExprWithAlias {
            expr: typed_cast(Expr::Identifier(Ident::new(format!("squilla_{i}"))), ty),
            alias: Ident::with_quote('"', column),
        };
        select.projection = columns.iter().enumerate().map(item).collect();
        let relation = TableFactor::Derived { lateral, subquery: body, alias: Some(inner), sample: None };
        select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    }
    let mut alias = alias.unwrap_or_else(|| TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: Vec::new(), at: None });
    // A function of one unnamed column: the alias names it too.
    if alias.columns.is_empty() && columns.len() == 1 && columns.first().is_some_and(|(c, _)| *c == function.name) {
        alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
    }
    Ok(TableFactor::Derived { lateral, subquery: outer, alias: Some(alias), sample: None })
}
