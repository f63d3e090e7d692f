//! FROM items of the client: set-returning calls become lateral functions, sources become tables of this statement, and
//! views become subqueries. Set-returning calls in a SELECT list move to FROM.
//!
//! Invariant: what this pass leaves in FROM is planned by DataFusion or by `relation`. Sources are collected here and
//! resolved afterwards (listing and schema inference are asynchronous). Deliberately absent: sources that follow from rows.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use sqlparser::ast::{
    self, AccessExpr, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement, TableAlias, TableFactor, TableWithJoins, UnaryOperator, Value, VisitMut, VisitorMut,
};
use squilla_core::declaration::Returns;
use squilla_core::error::{Error, Kind, Result};

use crate::bind::calls::{CallContext, bind_arguments, call, function_name};
use crate::bind::relation::table_factor;
use crate::bind::{json_records, set_functions, sets_alone};
use crate::catalog::data::CatalogData;
use crate::catalog::functions::FunctionEntry;
use crate::postgres::from_calls;
use crate::session::origin::VIEW_MARK;
use crate::source::options::SourceCall;
use crate::statement::{ident_text, name_parts};
use crate::udf::BUILTIN;

/// A source of this statement, under the name of its table.
#[derive(Clone, Debug)]
pub struct BoundSource {
    /// Table name in this statement.
    pub table: String,
    /// The call.
    pub call: SourceCall,
    /// An argument is a parameter without a value yet: the source is resolved when the statement is executed.
    pub late: bool,
}

/// Looks up what a name in FROM is.
pub trait Relations {
    /// OID and text of the view of this name, when it is one.
    fn view(&self, name: &[String]) -> Option<(u32, String)>;
    /// The functions of this name that users wrote in SQL.
    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<FunctionEntry>;
    /// The catalog that names are looked up in.
    fn catalog(&self) -> &CatalogData;
    /// Names and types of the columns of a table.
    fn columns(&self, name: &[String]) -> Option<Vec<(String, String)>>;
    /// Whether the name is a source (`read_files`, ...).
    fn is_source(&self, name: &str) -> bool;
    /// The value of `$n`, counted from 1; None before the statement is executed.
    fn parameter(&self, number: usize) -> Option<ScalarValue>;
}

/// Views may stand on views this deep.
const VIEW_DEPTH_MAX: usize = 64;

/// Binds the FROM items of `statement`; returns its sources.
pub fn bind(statement: &mut Statement, context: &CallContext, relations: &dyn Relations, depth_max: usize) -> Result<Vec<BoundSource>> {
    let mut ctes = HashSet::new();
    collect_ctes(statement, &mut ctes);
    let mut binder = Binder { context, relations, ctes, sources: Vec::new(), srfs: 0, views: 0, depth_max };
    match statement.visit(&mut binder) {
        ControlFlow::Continue(()) => Ok(binder.sources),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Names of all common table expressions, which hide views.
fn collect_ctes(statement: &mut Statement, into: &mut HashSet<String>) {
    struct Collect<'a>(&'a mut HashSet<String>);
    impl VisitorMut for Collect<'_> {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
                self.0.insert(ident_text(&cte.alias.name));
            }
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Collect(into));
}

struct Binder<'a> {
    context: &'a CallContext<'a>,
    relations: &'a dyn Relations,
    ctes: HashSet<String>,
    sources: Vec<BoundSource>,
    srfs: usize,
    views: usize,
    depth_max: usize,
}

impl VisitorMut for Binder<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        flow(self.select_list(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        flow(self.factor(factor))
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

fn alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: Vec::new(), at: None }
}

fn table(name: &str, alias: Option<TableAlias>) -> TableFactor {
    table_factor(ObjectName::from(vec![Ident::with_quote('"', name)]), alias)
}

/// `(expression).*`, which the parser was given as a field.
fn all_fields(item: SelectItem) -> SelectItem {
    match item {
        SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { root, access_chain }) if matches!(access_chain.as_slice(), [AccessExpr::Dot(Expr::Identifier(name))] if name.value == crate::statement::spelled::ALL_FIELDS) => {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(*root), ast::WildcardAdditionalOptions::default())
        }
        item => item,
    }
}

impl Binder<'_> {
    /// The name of a set-returning function of ours that moves from a SELECT list to FROM; those of PostgreSQL stay, as
    /// several of them advance together.
    fn set_returning(&self, name: &ObjectName) -> Option<String> {
        let name = function_name(name)?;
        self.context.functions.get(&name).filter(|f| f.is_set_returning() && f.family != BUILTIN).map(|_| name)
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        match factor {
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                let args = std::mem::take(&mut args.args);
                let (name, alias, ordinality) = (name.clone(), alias.take(), *with_ordinality);
                *factor = self.function(name, args, alias, ordinality)?;
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => {
                let args = std::mem::take(args);
                let (name, alias, ordinality) = (name.clone(), alias.take(), *with_ordinality);
                *factor = self.function(name, args, alias, ordinality)?;
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
                let args = std::mem::take(array_exprs).into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
                let (alias, ordinality) = (alias.take(), *with_ordinality);
                *factor = self.function(ObjectName::from(vec![Ident::new("unnest")]), args, alias, ordinality)?;
            }
            TableFactor::Table { name, alias, args: None, .. } => {
                let parts = name_parts(name);
                let hidden = parts.len() == 1 && parts.first().is_some_and(|n| self.ctes.contains(n));
                if !hidden && let Some((oid, text)) = self.relations.view(&parts) {
                    self.views += 1;
                    if self.views > VIEW_DEPTH_MAX * 16 {
                        return Err(Error::new(Kind::TooComplex, "too many views in one statement"));
                    }
                    let subquery = marked(view_query(&text, self.depth_max)?, oid)?;
                    let alias = alias.take().or_else(|| parts.last().map(|n| self::alias(n)));
                    *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn function(&mut self, name: ObjectName, args: Vec<FunctionArg>, alias: Option<TableAlias>, with_ordinality: bool) -> Result<TableFactor> {
        let plain = function_name(&name).unwrap_or_default();
        if let Some(rows) = self.written_in_sql(&name, &args, alias.as_ref())? {
            return Ok(rows);
        }
        if self.relations.is_source(&plain) {
            return self.source(plain, args, alias);
        }
        if let Some(rows) = json_records::expanded(&plain, &args, alias.as_ref(), |name| self.relations.columns(name))? {
            return Ok(rows);
        }
        // Set-returning functions of PostgreSQL that unnest what another function gives.
        let (plain, args, alias) = match from_calls::unnested(&plain, &args, alias.as_ref())? {
            Some(unnested) => ("unnest".to_owned(), unnested.args, Some(unnested.alias)),
            None => (plain, args, alias),
        };
        if let Some(declared) = self.context.functions.get(&plain).filter(|f| f.is_set_returning()) {
            let args = bind_arguments(declared, args, self.context)?.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
            let alias = alias.or_else(|| Some(self::alias(&plain)));
            return Ok(TableFactor::Function { lateral: true, name: ObjectName::from(vec![Ident::new(plain)]), args, with_ordinality, alias });
        }
        if from_calls::gives_a_table(&plain) {
            let name = ObjectName::from(vec![Ident::new(plain)]);
            return Ok(TableFactor::Function { lateral: false, name, args, with_ordinality: false, alias });
        }
        // A scalar function in FROM gives one row, as in PostgreSQL.
        self.scalar_in_from(&name, &plain, args, alias)
    }

    /// A call of a function that a user wrote in SQL, as a subquery.
    fn written_in_sql(&mut self, name: &ObjectName, args: &[FunctionArg], alias: Option<&TableAlias>) -> Result<Option<TableFactor>> {
        let parts = name_parts(name);
        let (schema, plain) = match parts.as_slice() {
            [name] if self.relations.is_source(name) || self.context.functions.get(name).is_some() => return Ok(None),
            [name] => (None, name),
            [schema, name] | [_, schema, name] => (Some(schema.as_str()), name),
            _ => return Ok(None),
        };
        let found = self.relations.functions(schema, plain);
        let Some(first) = found.first() else { return Ok(None) };
        if !first.is_set() {
            let column = alias.map_or_else(|| plain.clone(), |a| a.columns.first().map_or_else(|| ident_text(&a.name), |c| ident_text(&c.name)));
            let mut function = call(plain, args.to_vec());
            if let Expr::Function(f) = &mut function {
                f.name = name.clone();
            }
            return self.one_row(plain, function, column, alias.cloned()).map(Some);
        }
        self.views += 1;
        if self.views > VIEW_DEPTH_MAX * 16 {
            return Err(Error::new(Kind::TooComplex, "too many functions in one statement"));
        }
        set_functions::in_from(plain, &found, args.to_vec(), alias.cloned(), self.relations.catalog(), self.depth_max).map(Some)
    }

    fn scalar_in_from(&self, path: &ObjectName, name: &str, args: Vec<FunctionArg>, given: Option<TableAlias>) -> Result<TableFactor> {
        let name = if name.is_empty() { path.to_string() } else { name.to_owned() };
        let name = name.as_str();
        let column =
            given.as_ref().map_or_else(|| name.to_owned(), |a| a.columns.first().map_or_else(|| ident_text(&a.name), |c| ident_text(&c.name)));
        self.one_row(name, call(name, args), column, given)
    }

    /// `(SELECT expr AS column) alias`
    fn one_row(&self, name: &str, expr: Expr, column: String, given: Option<TableAlias>) -> Result<TableFactor> {
        let mut select = crate::bind::relation::empty_select()?;
        select.projection = vec![SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', column) }];
        let mut subquery = crate::bind::relation::empty_query()?;
        subquery.body = Box::new(ast::SetExpr::Select(Box::new(select)));
        let alias = given.map_or_else(|| alias(name), |a| TableAlias { columns: Vec::new(), ..a });
        Ok(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None })
    }

    /// A source: its table, and for `read_files` the lazily read content.
    fn source(&mut self, name: String, args: Vec<FunctionArg>, given: Option<TableAlias>) -> Result<TableFactor> {
        let mut source = SourceCall { name: name.clone(), positional: Vec::new(), named: Vec::new() };
        let mut late = false;
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => source.positional.push(self.value(&e, &name, &mut late)?),
                FunctionArg::Named { name: label, arg: FunctionArgExpr::Expr(e), .. } => {
                    source.named.push((ident_text(&label), self.value(&e, &name, &mut late)?))
                }
                FunctionArg::ExprNamed { name: Expr::Identifier(label), arg: FunctionArgExpr::Expr(e), .. } => {
                    source.named.push((ident_text(&label), self.value(&e, &name, &mut late)?));
                }
                other => return Err(Error::new(Kind::Syntax, format!("invalid argument of {name}: {other}"))),
            }
        }
        let known = self.sources.iter().find(|s| !late && s.call == source).map(|s| s.table.clone());
        let table_name = known.unwrap_or_else(|| format!("__source_{}", self.sources.len()));
        if !self.sources.iter().any(|s| s.table == table_name) {
            self.sources.push(BoundSource { table: table_name.clone(), call: source, late });
        }
        let alias = given.unwrap_or_else(|| alias(&name));
        if name != "read_files" {
            return Ok(table(&table_name, Some(alias)));
        }
        let file = Expr::Identifier(Ident::new("file"));
        let content = SelectItem::ExprWithAlias {
            expr: call("file_content", vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(file))]),
            alias: Ident::new("content"),
        };
        let mut select = crate::bind::relation::empty_select()?;
        select.projection = vec![SelectItem::Wildcard(ast::WildcardAdditionalOptions::default()), content];
        select.from = vec![TableWithJoins { relation: table(&table_name, None), joins: Vec::new() }];
        let mut subquery = crate::bind::relation::empty_query()?;
        subquery.body = Box::new(ast::SetExpr::Select(Box::new(select)));
        Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None })
    }

    /// The value of an argument of a source: a constant, or a parameter, which may have no value yet.
    fn value(&self, expr: &Expr, function: &str, late: &mut bool) -> Result<ScalarValue> {
        let Some(number) = parameter(expr) else { return constant(expr, function) };
        Ok(self.relations.parameter(number).unwrap_or_else(|| {
            *late = true;
            ScalarValue::Null
        }))
    }

    /// Set-returning calls of a SELECT list move to FROM: the item shows their columns.
    fn select_list(&mut self, select: &mut Select) -> Result<()> {
        sets_alone::into_from(select)?;
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            items.push(match all_fields(item) {
                SelectItem::UnnamedExpr(Expr::Function(f)) if self.set_returning(&f.name).is_some() => {
                    let name = self.move_to_from(&Expr::Function(f), select)?;
                    let options = ast::WildcardAdditionalOptions::default();
                    SelectItem::QualifiedWildcard(
                        SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![Ident::with_quote('"', name)])),
                        options,
                    )
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options) => match self.call_in(&expr) {
                    Some(f) => {
                        let name = self.move_to_from(&f, select)?;
                        SelectItem::QualifiedWildcard(
                            SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![Ident::with_quote('"', name)])),
                            options,
                        )
                    }
                    None => SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options),
                },
                SelectItem::UnnamedExpr(expr) => SelectItem::UnnamedExpr(self.field_of_call(expr, select)?),
                SelectItem::ExprWithAlias { expr, alias } => SelectItem::ExprWithAlias { expr: self.field_of_call(expr, select)?, alias },
                other => other,
            });
        }
        select.projection = items;
        Ok(())
    }

    /// The set-returning call that `expr` is, parentheses aside.
    fn call_in(&self, expr: &Expr) -> Option<Expr> {
        match expr {
            Expr::Nested(inner) => self.call_in(inner),
            Expr::Function(f) if self.set_returning(&f.name).is_some() => Some(expr.clone()),
            // Those of PostgreSQL with several columns, of which one or all are wanted.
            Expr::Function(f) if function_name(&f.name).is_some_and(|name| from_calls::gives_columns(&name)) => Some(expr.clone()),
            _ => None,
        }
    }

    /// `(f(x)).column`, or `f(x) AS y` for a call of one column.
    fn field_of_call(&mut self, expr: Expr, select: &mut Select) -> Result<Expr> {
        if let Expr::CompoundFieldAccess { root, access_chain } = &expr
            && let Some(f) = self.call_in(root)
            && let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice()
        {
            let name = self.move_to_from(&f, select)?;
            return Ok(Expr::CompoundIdentifier(vec![Ident::with_quote('"', name), field.clone()]));
        }
        let Some(f) = self.call_in(&expr) else { return Ok(expr) };
        let Expr::Function(function) = &f else { return Ok(expr) };
        let declared = function_name(&function.name).and_then(|n| self.context.functions.get(&n).cloned());
        match declared.and_then(|d| d.declaration.signatures.first().map(|s| s.returns.clone())) {
            Some(Returns::Table(columns)) if columns.len() == 1 => {
                let name = self.move_to_from(&f, select)?;
                let column = columns.into_iter().next().map(|(c, _)| c).unwrap_or_default();
                Ok(Expr::CompoundIdentifier(vec![Ident::with_quote('"', name), Ident::with_quote('"', column)]))
            }
            Some(Returns::Table(columns)) => {
                let name = self.move_to_from(&f, select)?;
                let fields = columns.into_iter().flat_map(|(column, _)| {
                    let label = Expr::Value(Value::SingleQuotedString(column.clone()).into());
                    [label, Expr::CompoundIdentifier(vec![Ident::with_quote('"', &name), Ident::with_quote('"', column)])]
                });
                Ok(call("named_struct", fields.map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect()))
            }
            _ => Err(Error::internal("a set-returning call without columns")),
        }
    }

    fn move_to_from(&mut self, expr: &Expr, select: &mut Select) -> Result<String> {
        let Expr::Function(function) = expr else { return Err(Error::internal("not a call")) };
        let FunctionArguments::List(list) = &function.args else { return Err(Error::internal("a call without arguments")) };
        self.srfs += 1;
        let name = format!("__rows_{}", self.srfs);
        let factor = self.function(function.name.clone(), list.args.clone(), Some(alias(&name)), false)?;
        select.from.push(TableWithJoins { relation: factor, joins: Vec::new() });
        Ok(name)
    }
}

/// The query of a view under a name that tells the view, for the origin of result columns.
fn marked(query: Box<Query>, oid: u32) -> Result<Box<Query>> {
    let mut select = crate::bind::relation::empty_select()?;
    select.projection = vec![SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())];
    let relation = TableFactor::Derived { lateral: false, subquery: query, alias: Some(alias(&format!("{VIEW_MARK}{oid}"))), sample: None };
    select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    let mut outer = crate::bind::relation::empty_query()?;
    outer.body = Box::new(ast::SetExpr::Select(Box::new(select)));
    Ok(outer)
}

fn view_query(text: &str, depth_max: usize) -> Result<Box<Query>> {
    let statement = crate::statement::parse(text, depth_max)?.into_iter().next().ok_or_else(|| Error::internal("a view without text"))?;
    match &*statement.kind {
        crate::statement::StatementKind::Sql(sql) => match &**sql {
            Statement::Query(query) => Ok(query.clone()),
            _ => Err(Error::internal("a view that is not a query")),
        },
        _ => Err(Error::internal("a view that is not a query")),
    }
}

/// The number of a parameter, whatever it is cast to.
fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => parameter(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.trim_start_matches('$').parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The value of a constant argument of a source.
fn constant(expr: &Expr, function: &str) -> Result<ScalarValue> {
    let refuse = || {
        Error::unsupported(format!("arguments of {function} must be constants, not {expr}"))
            .hint("Sources are listed when the statement is planned. To read files named in a column, use file_content(column).")
    };
    match expr {
        Expr::Nested(inner) => constant(inner, function),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) => Ok(ScalarValue::Utf8(Some(s.clone()))),
            Value::DollarQuotedString(s) => Ok(ScalarValue::Utf8(Some(s.value.clone()))),
            Value::Boolean(b) => Ok(ScalarValue::Boolean(Some(*b))),
            Value::Null => Ok(ScalarValue::Null),
            Value::Number(n, _) => n
                .parse::<i64>()
                .map(|n| ScalarValue::Int64(Some(n)))
                .or_else(|_| n.parse::<f64>().map(|n| ScalarValue::Float64(Some(n))))
                .map_err(|_| refuse()),
            _ => Err(refuse()),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match constant(expr, function)? {
            ScalarValue::Int64(Some(n)) => Ok(ScalarValue::Int64(Some(-n))),
            ScalarValue::Float64(Some(n)) => Ok(ScalarValue::Float64(Some(-n))),
            _ => Err(refuse()),
        },
        Expr::Array(array) => {
            let values = array.elem.iter().map(|e| constant(e, function)).collect::<Result<Vec<_>>>()?;
            let ty = values.first().map_or(datafusion::arrow::datatypes::DataType::Utf8, ScalarValue::data_type);
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &ty)))
        }
        // 'text'::timestamptz and timestamptz 'text': the source reads the text.
        Expr::Cast { expr, data_type: DataType::Timestamp(..) | DataType::Date | DataType::Text | DataType::Varchar(_), .. } => {
            constant(expr, function)
        }
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(s) => Ok(ScalarValue::Utf8(Some(s.clone()))),
            _ => Err(refuse()),
        },
        _ => Err(refuse()),
    }
}
