//! Whether a role may run a statement.
//!
//! In: a statement as parsed, and the catalog. Out: nothing, or 42501 naming what is denied. Invariants: a name is looked up
//! as the planner looks it up, common table expressions first; what a view reads is asked of the view's owner. Superusers
//! are asked nothing. Deliberately absent: files (`source::confined`), and privileges of columns.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{self, Expr, ObjectName, ObjectType, Query, SchemaName, SetExpr, TableFactor, TableObject, TableWithJoins, Visit, Visitor};
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{CatalogData, Relation, RelationKind, SUPERUSER};
use crate::catalog::functions::FunctionEntry;
use crate::catalog::roles::Object;
use crate::command::comments::CommentObject;
use crate::command::with;
use crate::session::Session;
use crate::session::planning::Lookup;
use crate::statement::copy::CopySource;
use crate::statement::{Statement, StatementKind, ident_text, name_parts, name_text};

fn denied(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::InsufficientPrivilege, format!("permission denied for {what}"))
}

/// How deep views may stand on views.
const VIEWS_DEEP_MAX: usize = 64;

/// One check: who asks, and where names are looked up.
struct Check<'a> {
    session: &'a Session,
    data: &'a CatalogData,
    search_path: &'a [String],
    role: &'a str,
    depth: usize,
}

/// Fails with 42501 when the session's role may not run the statement.
pub fn check(session: &Arc<Session>, statement: &Statement) -> Result<()> {
    if session.superuser() {
        return Ok(());
    }
    let data = session.snapshot();
    let search_path = session.search_path(&data);
    let role = session.role();
    Check { session, data: &data, search_path: &search_path, role: &role, depth: 0 }.statement(statement)
}

impl Check<'_> {
    fn statement(&self, statement: &Statement) -> Result<()> {
        match &*statement.kind {
            StatementKind::Sql(sql) => self.sql(sql),
            StatementKind::Declare(declare) => self.reads(&*declare.query),
            StatementKind::Explain(explain) => self.statement(&explain.statement),
            StatementKind::CreateExternalTable(create) => self.creates(&create.name),
            StatementKind::Copy(copy) => match &copy.source {
                CopySource::Query(query) => self.reads(&**query),
                CopySource::Table { name, .. } => self.uses(name, if copy.to { "SELECT" } else { "INSERT" }),
            },
            // These look for themselves, or concern the session alone.
            StatementKind::CreateModel(_) | StatementKind::DropModel { .. } | StatementKind::Role(_) | StatementKind::Foreign(_) => Ok(()),
            StatementKind::Fetch(_) | StatementKind::Close(_) => Ok(()),
            StatementKind::Alter(alter) => self.owns(&alter.name),
            StatementKind::Refresh(refresh) => self.owns(&refresh.name),
            StatementKind::Comment(comment) => self.comments(&comment.object),
            StatementKind::AlterFunction(alter) => self.owns_functions(&alter.function.name),
        }
    }

    fn sql(&self, sql: &ast::Statement) -> Result<()> {
        use ast::Statement as S;
        match sql {
            S::Query(query) => {
                with::changes(query).into_iter().try_for_each(|change| self.sql(change))?;
                self.reads(&**query)
            }
            S::Insert(insert) => {
                self.writes(sql)?;
                insert.source.iter().flat_map(|q| with::changes(q)).try_for_each(|change| self.sql(change))?;
                self.reads(&insert.source)?;
                self.reads(&insert.returning)
            }
            S::Update(update) => {
                self.writes(sql)?;
                self.reads(&update.from)?;
                self.reads(&update.assignments)?;
                self.reads(&update.selection)?;
                self.reads(&update.returning)
            }
            S::Delete(delete) => {
                self.writes(sql)?;
                self.reads(&delete.using)?;
                self.reads(&delete.selection)?;
                self.reads(&delete.returning)
            }
            S::Merge(merge) => {
                self.writes(sql)?;
                self.reads(&merge.source)
            }
            S::CreateTable(create) => {
                self.creates(&create.name)?;
                self.reads(&create.query)
            }
            S::CreateView(create) => {
                self.creates(&create.name)?;
                self.reads(&*create.query)
            }
            S::CreateIndex(create) => self.owns(&create.table_name),
            S::CreateSequence { name, .. } => self.creates(name),
            S::CreateSchema { schema_name, .. } => self.creates_schema(schema_name),
            S::Truncate(truncate) => truncate.table_names.iter().try_for_each(|t| self.uses(&t.name, "TRUNCATE")),
            S::AlterTable(alter) => self.owns(&alter.name),
            S::Drop { object_type: ObjectType::Schema, names, .. } => names.iter().try_for_each(|n| self.owns_schema(&name_text(n))),
            S::Drop { names, .. } => names.iter().try_for_each(|n| self.owns(n)),
            S::CreateFunction(create) => {
                self.creates(&create.name)?;
                let replaced = name_parts(&create.name);
                self.functions(&replaced).iter().filter(|_| create.or_replace).try_for_each(|f| self.owns_function(f))
            }
            S::DropFunction(drop) => drop.func_desc.iter().try_for_each(|what| self.owns_functions(&what.name)),
            _ => Ok(()),
        }
    }

    /// What a statement that changes rows needs of the table that it changes.
    fn writes(&self, sql: &ast::Statement) -> Result<()> {
        use ast::Statement as S;
        match sql {
            S::Insert(insert) => {
                let TableObject::TableName(name) = &insert.table else { return Ok(()) };
                self.uses(name, "INSERT")?;
                if insert.returning.is_some() { self.uses(name, "SELECT") } else { Ok(()) }
            }
            S::Update(update) => self.changes(&update.table, "UPDATE", update.selection.is_some() || update.returning.is_some()),
            S::Delete(delete) => {
                let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
                let also_reads = delete.selection.is_some() || delete.returning.is_some();
                from.iter().try_for_each(|table| self.changes(table, "DELETE", also_reads))
            }
            S::Merge(merge) => {
                let TableFactor::Table { name, .. } = &merge.table else { return Ok(()) };
                ["SELECT", "INSERT", "UPDATE", "DELETE"].into_iter().try_for_each(|privilege| self.uses(name, privilege))
            }
            _ => Ok(()),
        }
    }

    fn find(&self, name: &ObjectName) -> Option<(String, String, &Relation)> {
        Lookup { data: self.data, search_path: self.search_path, values: None, beside: &[] }.find(&name_parts(name))
    }

    /// A schema that a name spells out must be open to the role.
    fn schema(&self, name: &[String]) -> Result<()> {
        let [.., schema, _] = name else { return Ok(()) };
        match self.data.schemas.get(schema) {
            Some(entry) if !self.data.may(self.role, &Object::Schema(entry.oid), &entry.owner, "USAGE", false) => {
                Err(denied(format!("schema {schema}")))
            }
            _ => Ok(()),
        }
    }

    /// The role has this privilege on the relation; one that is not there fails elsewhere, with a better word.
    fn uses(&self, name: &ObjectName, privilege: &str) -> Result<()> {
        self.schema(&name_parts(name))?;
        let Some((_, table, relation)) = self.find(name) else { return Ok(()) };
        if !self.data.may(self.role, &Object::Relation(relation.oid), &relation.owner, privilege, false) {
            return Err(denied(format!("{} {table}", word(relation))));
        }
        match &relation.kind {
            RelationKind::View { sql, .. } if privilege == "SELECT" => self.view(sql, &relation.owner),
            _ => Ok(()),
        }
    }

    /// What a view reads is its owner's affair.
    fn view(&self, sql: &str, owner: &str) -> Result<()> {
        if self.data.is_superuser(owner) || self.depth >= VIEWS_DEEP_MAX {
            return Ok(());
        }
        let owner = Check { role: owner, depth: self.depth + 1, ..*self };
        self.session.parse(sql)?.iter().try_for_each(|statement| owner.statement(statement))
    }

    fn changes(&self, table: &TableWithJoins, privilege: &str, also_reads: bool) -> Result<()> {
        let TableFactor::Table { name, .. } = &table.relation else { return Ok(()) };
        self.uses(name, privilege)?;
        if also_reads { self.uses(name, "SELECT") } else { Ok(()) }
    }

    fn creates(&self, name: &ObjectName) -> Result<()> {
        let parts = name_parts(name);
        let schema = match parts.as_slice() {
            [.., schema, _] => schema.clone(),
            _ => match self.search_path.iter().find(|s| self.data.schemas.contains_key(*s)) {
                Some(schema) => schema.clone(),
                None => return Ok(()),
            },
        };
        let Some(entry) = self.data.schemas.get(&schema) else { return Ok(()) };
        if self.data.may(self.role, &Object::Schema(entry.oid), &entry.owner, "CREATE", false) {
            return Ok(());
        }
        Err(denied(format!("schema {schema}")))
    }

    fn creates_schema(&self, name: &SchemaName) -> Result<()> {
        if !self.data.may(self.role, &Object::Database, SUPERUSER, "CREATE", false) {
            return Err(denied(format!("database {SUPERUSER}")));
        }
        let (SchemaName::UnnamedAuthorization(owner) | SchemaName::NamedAuthorization(_, owner)) = name else { return Ok(()) };
        let owner = ident_text(owner);
        if self.data.member_of(self.role, false).contains(&owner) {
            return Ok(());
        }
        Err(Error::new(Kind::InsufficientPrivilege, format!("must be member of role \"{owner}\"")))
    }

    fn owns(&self, name: &ObjectName) -> Result<()> {
        self.schema(&name_parts(name))?;
        let Some((schema, table, relation)) = self.find(name) else { return Ok(()) };
        let owner = self.data.schemas.get(&schema).map_or("", |s| s.owner.as_str());
        if self.data.owns(self.role, &relation.owner) || self.data.owns(self.role, owner) {
            return Ok(());
        }
        Err(Error::new(Kind::InsufficientPrivilege, format!("must be owner of {} {table}", word(relation))))
    }

    fn owns_schema(&self, name: &str) -> Result<()> {
        match self.data.schemas.get(name) {
            Some(entry) if !self.data.owns(self.role, &entry.owner) => {
                Err(Error::new(Kind::InsufficientPrivilege, format!("must be owner of schema {name}")))
            }
            _ => Ok(()),
        }
    }

    fn comments(&self, what: &CommentObject) -> Result<()> {
        match what {
            CommentObject::Relation(name) | CommentObject::Column(name, _) | CommentObject::Constraint(_, name) => self.owns(name),
            CommentObject::Schema(name) => self.owns_schema(&name_text(name)),
            CommentObject::Function(what) => self.owns_functions(&what.name),
            CommentObject::Database(_) => Err(Error::new(Kind::InsufficientPrivilege, format!("must be owner of database {SUPERUSER}"))),
            CommentObject::Role(_) if self.data.roles.get(self.role).is_some_and(|r| r.create_role) => Ok(()),
            CommentObject::Role(_) => Err(denied("roles")),
            CommentObject::Model(name) => Err(denied(format!("model {name}"))),
            CommentObject::Other(..) => Ok(()),
        }
    }

    /// The functions in SQL that a name means.
    fn functions(&self, name: &[String]) -> Vec<FunctionEntry> {
        match name {
            [.., schema, name] => self.data.functions_named(Some(schema), self.search_path, name),
            [name] => self.data.functions_named(None, self.search_path, name),
            [] => Vec::new(),
        }
    }

    fn owns_function(&self, function: &FunctionEntry) -> Result<()> {
        if self.data.owns(self.role, &function.owner) {
            return Ok(());
        }
        Err(Error::new(Kind::InsufficientPrivilege, format!("must be owner of function {}", function.name)))
    }

    fn owns_functions(&self, name: &ObjectName) -> Result<()> {
        self.functions(&name_parts(name)).iter().try_for_each(|f| self.owns_function(f))
    }

    /// Every relation that a piece of a statement reads, and every function that it calls.
    fn reads(&self, piece: &impl Visit) -> Result<()> {
        let mut reader = Reader { check: self, scopes: Vec::new() };
        match piece.visit(&mut reader) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// The role may call the function, and read what the body of one in SQL reads: it runs with the caller's privileges.
    fn calls(&self, name: &ObjectName) -> Result<()> {
        let parts = name_parts(name);
        let plain = parts.last().cloned().unwrap_or_default();
        if !self.data.may(self.role, &Object::Function(plain.clone()), SUPERUSER, "EXECUTE", false) {
            return Err(denied(format!("function {plain}")));
        }
        let functions = self.functions(&parts);
        if functions.is_empty() || self.depth >= VIEWS_DEEP_MAX {
            return Ok(());
        }
        self.schema(&parts)?;
        let inside = Check { depth: self.depth + 1, ..*self };
        functions.iter().try_for_each(|f| self.session.parse(&f.body)?.iter().try_for_each(|statement| inside.statement(statement)))
    }
}

fn word(relation: &Relation) -> &'static str {
    match relation.kind.word() {
        "external table" => "foreign table",
        other => other,
    }
}

/// The common table expressions of one query, and how many of them can be seen at this point of the walk.
struct Scope {
    names: Vec<String>,
    queries: Vec<*const Query>,
    visible: usize,
}

struct Reader<'a, 'b> {
    check: &'a Check<'b>,
    scopes: Vec<Scope>,
}

impl Reader<'_, '_> {
    fn is_cte(&self, name: &[String]) -> bool {
        let [name] = name else { return false };
        self.scopes.iter().any(|scope| scope.names.iter().take(scope.visible).any(|n| n == name))
    }

    fn flow(result: Result<()>) -> ControlFlow<Error> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

impl Visitor for Reader<'_, '_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
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
        if let SetExpr::Table(table) = &*query.body {
            let parts = [table.schema_name.clone(), table.table_name.clone()];
            let name = ObjectName::from(parts.into_iter().flatten().map(ast::Ident::new).collect::<Vec<_>>());
            if !self.is_cte(&name_parts(&name)) {
                return Self::flow(self.check.uses(&name, "SELECT"));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        self.scopes.pop();
        if let Some(outer) = self.scopes.last_mut()
            && let Some(position) = outer.queries.iter().position(|q| std::ptr::eq(*q, query))
        {
            outer.visible = outer.visible.max(position + 1);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Error> {
        // INSERT, UPDATE or DELETE inside WITH.
        Self::flow(self.check.writes(statement))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        let result = match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => self.check.calls(name),
            TableFactor::Table { name, .. } if !self.is_cte(&name_parts(name)) => self.check.uses(name, "SELECT"),
            _ => Ok(()),
        };
        Self::flow(result)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Function(function) => Self::flow(self.check.calls(&function.name)),
            _ => ControlFlow::Continue(()),
        }
    }
}
