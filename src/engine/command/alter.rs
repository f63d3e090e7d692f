//! ALTER TABLE and its kin.
//!
//! In: actions on a relation. Out: edits of its definition; where rows must be looked at, a query over them; where they
//! must change, new files. Invariant: renaming, adding a column without a default, dropping one and widening a type touch
//! no file. Deliberately absent: views that name a column that is renamed (views bind by name, when used).

use std::ops::ControlFlow;
use std::sync::Arc;

use futures::StreamExt;
use sqlparser::ast::{
    self, AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, Expr, GeneratedAs, Ident, RenameTableNameKind, SelectItem, VisitMut,
    VisitorMut,
};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{CatalogData, ColumnEntry, Constraint, ConstraintKind, Identity, Relation, RelationKind, spelling};
use crate::catalog::relations::{dependent, find_column};
use crate::command::columns::{Declared, Wanted, name_indexes, range_of, sequence};
use crate::command::create::add_sequence;
use crate::command::ddl::cascades;
use crate::command::done;
use crate::command::write::{self, Into, Positions, Target, factor, item, parsed, put, select};
use crate::postgres::deparse::columns_used;
use crate::postgres::syntax::cast;
use crate::session::parameters::typed;
use crate::session::query::sendable;
use crate::session::view::SessionView;
use crate::session::{Execution, Notice, Session};
use crate::statement::{ident_text, name_parts, name_text};
use crate::system::view::ViewSource;
use crate::table::check::checked;
use crate::table::fit::{Fit, stored_schema};
use crate::table::stage::fitted;
use crate::table::unique::Keys;

const OLD: &str = "$old";

/// ALTER TABLE
pub async fn alter_table(session: &Arc<Session>, alter: &AlterTable) -> Result<Execution> {
    let (schema, mut name, found) = match write::find(session, &alter.name) {
        Err(error) if alter.if_exists && error.kind == Kind::UndefinedTable => {
            session.notify(Notice::plain(format!("relation \"{}\" does not exist, skipping", name_text(&alter.name))));
            return done("ALTER TABLE");
        }
        other => other?,
    };
    let renames = alter.operations.iter().all(|o| {
        matches!(o, AlterTableOperation::RenameTable { .. } | AlterTableOperation::RenameColumn { .. } | AlterTableOperation::OwnerTo { .. })
    });
    if !matches!(found.kind, RelationKind::Table { .. }) && !renames {
        return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a table")));
    }
    for operation in &alter.operations {
        let relation = session.snapshot().relation(&schema, &name)?.clone();
        let target = Target { schema: schema.clone(), alias: name.clone(), name: name.clone(), relation };
        if let Some(renamed) = one(session, &target, operation).await? {
            name = renamed;
        }
    }
    done("ALTER TABLE")
}

/// One action; the new name when it renames the table.
async fn one(session: &Arc<Session>, target: &Target, operation: &AlterTableOperation) -> Result<Option<String>> {
    match operation {
        AlterTableOperation::RenameTable { table_name } => {
            let (RenameTableNameKind::To(to) | RenameTableNameKind::As(to)) = table_name;
            let to = name_parts(to).pop().unwrap_or_default();
            session.edit(|data| data.rename_relation(&target.schema, &target.name, &to))?;
            return Ok(Some(to));
        }
        AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
            rename_column(session, target, &ident_text(old_column_name), &ident_text(new_column_name))?;
        }
        AlterTableOperation::AddColumn { if_not_exists, column_def, .. } => add_column(session, target, column_def, *if_not_exists).await?,
        AlterTableOperation::DropColumn { column_names, if_exists, drop_behavior, .. } => {
            let cascade = matches!(drop_behavior, Some(ast::DropBehavior::Cascade));
            column_names.iter().try_for_each(|c| drop_column(session, target, &ident_text(c), *if_exists, cascade))?;
        }
        AlterTableOperation::AlterColumn { column_name, op } => alter_column(session, target, &ident_text(column_name), op).await?,
        AlterTableOperation::AddConstraint { constraint, .. } => {
            let mut declared = Declared { constraints: target.relation.constraints.clone(), ..Declared::default() };
            declared.constraint(session, &target.name, constraint)?;
            if let Some(made) = declared.constraints.pop() {
                add_constraint(session, target, made).await?;
            }
        }
        AlterTableOperation::DropConstraint { if_exists, name, .. } => drop_constraint(session, target, &ident_text(name), *if_exists)?,
        AlterTableOperation::RenameConstraint { old_name, new_name } => {
            let (from, to) = (ident_text(old_name), ident_text(new_name));
            session.edit(|data| {
                let relation = data.relation_mut(&target.schema, &target.name)?;
                let found = relation.constraints.iter_mut().find(|c| c.name == from).ok_or_else(|| no_constraint(&from, &target.name))?;
                found.name = to;
                Ok(())
            })?;
        }
        AlterTableOperation::OwnerTo { new_owner } => set_owner(session, target, new_owner.to_string())?,
        other => return Err(Error::unsupported(format!("ALTER TABLE {other} is not supported"))),
    }
    Ok(None)
}

fn set_owner(session: &Arc<Session>, target: &Target, owner: String) -> Result<()> {
    let owner = match owner.to_lowercase().as_str() {
        "current_user" | "current_role" | "session_user" => session.role(),
        _ => owner.trim_matches('"').to_owned(),
    };
    session.edit(|data| {
        if !data.roles.contains_key(&owner) {
            return Err(Error::new(Kind::UndefinedObject, format!("role \"{owner}\" does not exist")));
        }
        data.relation_mut(&target.schema, &target.name)?.owner = owner;
        Ok(())
    })
}

fn no_constraint(name: &str, table: &str) -> Error {
    Error::new(Kind::UndefinedObject, format!("constraint \"{name}\" of relation \"{table}\" does not exist"))
}

/// ALTER TABLE RENAME COLUMN: 42703, 42701.
pub fn rename_column(session: &Arc<Session>, target: &Target, from: &str, to: &str) -> Result<()> {
    // CHECK constraints name columns in their text.
    let mut checks = Vec::new();
    for constraint in &target.relation.constraints {
        if let ConstraintKind::Check { expression } = &constraint.kind {
            let mut expr = parsed(session, expression)?;
            let _ = expr.visit(&mut Rename { from, to });
            checks.push((constraint.name.clone(), expr.to_string()));
        }
    }
    session.edit(|data| {
        let relation = data.relation_mut(&target.schema, &target.name)?;
        if relation.position(to).is_some() {
            return Err(Error::new(Kind::DuplicateColumn, format!("column \"{to}\" of relation \"{}\" already exists", target.name)));
        }
        find_column(relation, &target.name, from)?.name = to.to_owned();
        for constraint in &mut relation.constraints {
            constraint.columns.iter_mut().filter(|c| *c == from).for_each(|c| *c = to.to_owned());
            if let ConstraintKind::Check { expression } = &mut constraint.kind
                && let Some((_, text)) = checks.iter().find(|(name, _)| *name == constraint.name)
            {
                expression.clone_from(text);
            }
        }
        Ok(())
    })
}

struct Rename<'a> {
    from: &'a str,
    to: &'a str,
}

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) if ident_text(name) == self.from => *name = Ident::with_quote('"', self.to),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last_mut().filter(|n| ident_text(n) == self.from) {
                    *last = Ident::with_quote('"', self.to);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

async fn add_column(session: &Arc<Session>, target: &Target, column: &ColumnDef, if_not_exists: bool) -> Result<()> {
    let name = ident_text(&column.name);
    if target.relation.position(&name).is_some() {
        let message = format!("column \"{name}\" of relation \"{}\" already exists", target.name);
        if if_not_exists {
            session.notify(Notice::plain(format!("{message}, skipping")));
            return Ok(());
        }
        return Err(Error::new(Kind::DuplicateColumn, message));
    }
    let mut declared = Declared { constraints: target.relation.constraints.clone(), ..Declared::default() };
    let before = declared.constraints.len();
    declared.column(session, &target.name, column)?;
    let made = declared.constraints.split_off(before);
    let Some(entry) = declared.columns.pop() else { return Ok(()) };
    // Old rows get the default now; without one they have NULL, which files do not have to say.
    let filled = entry.default.is_some() || !declared.sequences.is_empty();
    let rows = target.relation.files().is_some_and(|f| f.live_rows() > 0);
    if entry.not_null && !filled && rows {
        return Err(Error::new(Kind::NotNullViolation, format!("column \"{name}\" of relation \"{}\" contains null values", target.name)));
    }
    let owner = target.relation.owner.clone();
    session.edit(|data| {
        let relation = data.relation_mut(&target.schema, &target.name)?;
        relation.columns.push(entry.clone());
        relation.number_columns();
        for Wanted { column, sequence } in &declared.sequences {
            add_sequence(data, (&target.schema, &target.name), target.relation.oid, column, sequence.clone(), &owner)?;
        }
        Ok(())
    })?;
    if filled && rows {
        let default = session.snapshot().relation(&target.schema, &target.name)?.columns.last().and_then(|c| c.default.clone());
        let value = default.map_or_else(|| Ok(write::null()), |text| parsed(session, &text))?;
        rewrite(session, target, |column| if column.name == name { value.clone() } else { target.column(&column.name) }).await?;
    }
    for constraint in made {
        let relation = session.snapshot().relation(&target.schema, &target.name)?.clone();
        add_constraint(session, &Target { relation, ..target.clone() }, constraint).await?;
    }
    Ok(())
}

/// Writes all rows anew, with these values for the columns that the table has now.
async fn rewrite(session: &Arc<Session>, target: &Target, value: impl Fn(&ColumnEntry) -> Expr) -> Result<()> {
    let now = session.snapshot().relation(&target.schema, &target.name)?.clone();
    let items: Vec<SelectItem> = now.columns.iter().map(|c| item(value(c), &c.name)).collect();
    let from = vec![ast::TableWithJoins { relation: factor(OLD, &target.alias), joins: Vec::new() }];
    let query = ast::Statement::Query(Box::new(select(items, from, None)?));
    let old = session.database.store.scan(&target.relation)?;
    let plan = session.plan_query_over(query, "", &[], vec![(OLD.to_owned(), old)]).await?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    let rows = sendable(session.run_within(plan).await?, schema);
    session.edit(|data| {
        data.relation_mut(&target.schema, &target.name)?.files_mut().into_iter().for_each(|f| f.clear());
        Ok(())
    })?;
    let into = Target { relation: now.definition(), ..target.clone() };
    put(session, Into { target: &into, changed: None, keep: false }, rows, Positions::default).await.map(|_| ())
}

/// The views that name a column: OID, kind and name.
fn views_of_column(session: &Arc<Session>, target: &Target, name: &str) -> Vec<(u32, String)> {
    let oid = target.relation.oid;
    let data = session.snapshot();
    let views: Vec<(&String, &String, &Arc<Relation>)> = data
        .schemas
        .iter()
        .flat_map(|(schema, entry)| entry.relations.iter().map(move |(name, relation)| (schema, name, relation)))
        .filter(|(_, _, relation)| relation.depends_on().contains(&oid))
        .collect();
    let Some(position) = target.relation.position(name).filter(|_| !views.is_empty()) else { return Vec::new() };
    let catalog = SessionView(Arc::downgrade(session)).view();
    let Some(table) = catalog.tables.by_oid(oid) else { return Vec::new() };
    let uses = |view: &Relation| {
        let sql = match &view.kind {
            RelationKind::View { sql, .. } => sql,
            RelationKind::Table { materialized: Some(of), .. } => &of.sql,
            _ => return false,
        };
        columns_used(&catalog, sql, table).iter().any(|number| usize::try_from(*number) == Ok(position + 1))
    };
    views.into_iter().filter(|(_, _, view)| uses(view)).map(|(_, name, view)| (view.oid, format!("{} {name}", view.kind.word()))).collect()
}

/// ALTER TABLE DROP COLUMN: 42703, 2BP01 when a view names it and CASCADE is not said.
fn drop_column(session: &Arc<Session>, target: &Target, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
    let views = views_of_column(session, target, name);
    if !views.is_empty() && !cascade {
        let what = format!("column {name} of table {}", target.name);
        let lines: Vec<String> = views.iter().map(|(_, view)| format!("{view} depends on {what}")).collect();
        return Err(dependent(&what, &lines));
    }
    let views: Vec<u32> = views.into_iter().map(|(oid, _)| oid).collect();
    let dropped = session.edit(|data| {
        drop_one(session, data, target, name, if_exists)?;
        Ok(data.drop_views(&views))
    })?;
    cascades(session, &dropped);
    Ok(())
}

fn drop_one(session: &Arc<Session>, data: &mut CatalogData, target: &Target, name: &str, if_exists: bool) -> Result<()> {
    let relation = data.relation_mut(&target.schema, &target.name)?;
    let Some(position) = relation.position(name) else {
        let message = format!("column \"{name}\" of relation \"{}\" does not exist", target.name);
        if if_exists {
            session.notify(Notice::plain(format!("{message}, skipping")));
            return Ok(());
        }
        return Err(Error::new(Kind::UndefinedColumn, message));
    };
    let gone = relation.columns.remove(position);
    relation.constraints.retain(|c| !c.columns.iter().any(|n| n == name));
    if let RelationKind::Table { used_names, .. } = &mut relation.kind {
        used_names.push(gone.physical().to_owned());
    }
    let oid = relation.oid;
    let owned = data.owned_sequences(oid);
    for (schema, sequence) in owned {
        let of_column = |r: &Relation| matches!(&r.kind, RelationKind::Sequence(s) if s.owned_by == Some((oid, gone.id)));
        if of_column(data.relation(&schema, &sequence)?) {
            data.schema_mut(&schema)?.relations.remove(&sequence);
        }
    }
    Ok(())
}

async fn alter_column(session: &Arc<Session>, target: &Target, name: &str, operation: &AlterColumnOperation) -> Result<()> {
    let set = |change: &dyn Fn(&mut ColumnEntry)| {
        session.edit(|data| {
            change(find_column(data.relation_mut(&target.schema, &target.name)?, &target.name, name)?);
            Ok(())
        })
    };
    match operation {
        AlterColumnOperation::SetNotNull => {
            no_nulls(session, target, &[name.to_owned()]).await?;
            set(&|c| c.not_null = true)
        }
        AlterColumnOperation::DropNotNull => {
            let key = target.relation.constraints.iter().any(|c| c.kind == ConstraintKind::PrimaryKey && c.columns.iter().any(|n| n == name));
            if key {
                return Err(Error::new(Kind::InvalidTableDefinition, format!("column \"{name}\" is in a primary key")));
            }
            set(&|c| c.not_null = false)
        }
        AlterColumnOperation::SetDefault { value } => set(&|c| c.default = Some(value.to_string())),
        AlterColumnOperation::DropDefault => set(&|c| c.default = None),
        AlterColumnOperation::SetDataType { data_type, using, .. } => {
            let text = data_type.to_string();
            let ty = SqlType::parse(&text).or_else(|| SqlType::parse(&text.replace(' ', "")));
            let ty = ty.ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{}\" does not exist", text.to_lowercase())))?;
            let position = target.position(name, &[])?;
            let old = target.relation.columns.get(position).map(ColumnEntry::sql_type).transpose()?;
            set(&|c| c.ty = spelling(&ty))?;
            if using.is_none() && old.is_some_and(|old| widens(&old, &ty)) {
                return Ok(());
            }
            let value = match using {
                Some(expr) => expr.clone(),
                None => cast(target.column(name), data_type.clone()),
            };
            rewrite(session, target, |c| if c.name == name { typed(value.clone(), &ty) } else { target.column(&c.name) }).await
        }
        AlterColumnOperation::AddGenerated { generated_as, sequence_options } => {
            let position = target.position(name, &[])?;
            let column = target.relation.columns.get(position).ok_or_else(|| Error::internal("a column vanished"))?;
            if column.identity.is_some() {
                let message = format!("column \"{name}\" of relation \"{}\" is already an identity column", target.name);
                return Err(Error::new(Kind::NotInPrerequisiteState, message));
            }
            if !column.not_null {
                let message = format!("column \"{name}\" of relation \"{}\" must be declared NOT NULL before identity can be added", target.name);
                return Err(Error::new(Kind::NotInPrerequisiteState, message));
            }
            let identity = if matches!(generated_as, Some(GeneratedAs::Always)) { Identity::Always } else { Identity::ByDefault };
            let entry = sequence(sequence_options.as_deref().unwrap_or(&[]), range_of(&column.sql_type()?))?;
            session.edit(|data| {
                add_sequence(data, (&target.schema, &target.name), target.relation.oid, name, entry.clone(), &target.relation.owner)?;
                find_column(data.relation_mut(&target.schema, &target.name)?, &target.name, name)?.identity = Some(identity);
                Ok(())
            })
        }
    }
}

/// Whether every stored value is one of the new type as it is.
fn widens(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::{Float4, Float8, Int2, Int4, Int8, Numeric, Text, Varchar};
    match (from, to) {
        _ if from == to => true,
        (Int2, Int4 | Int8) | (Int4, Int8) | (Float4, Float8) | (Varchar(_), Text | Varchar(None)) | (Text, Varchar(None)) => true,
        (Varchar(Some(a)), Varchar(Some(b))) => a <= b,
        (Numeric(Some((p, s))), Numeric(Some((q, t)))) => s == t && p <= q,
        _ => false,
    }
}

/// 23502 when one of the columns has a NULL.
async fn no_nulls(session: &Arc<Session>, target: &Target, columns: &[String]) -> Result<()> {
    for name in columns {
        let position = target.position(name, &[])?;
        let mut rows = all_rows(session, target).await?;
        while let Some(batch) = rows.next().await {
            if batch?.column(position).logical_null_count() > 0 {
                let message = format!("column \"{name}\" of relation \"{}\" contains null values", target.name);
                return Err(Error::new(Kind::NotNullViolation, message));
            }
        }
    }
    Ok(())
}

async fn all_rows(session: &Arc<Session>, target: &Target) -> Result<crate::session::RowStream> {
    let provider = session.database.store.scan(&target.relation)?;
    let scan = datafusion::logical_expr::LogicalPlanBuilder::scan(OLD, datafusion::datasource::provider_as_source(provider), None);
    let plan = scan.and_then(datafusion::logical_expr::LogicalPlanBuilder::build).map_err(crate::error::from_datafusion)?;
    session.run_within(plan).await
}

/// Adds a constraint, once the rows that are there fulfil it.
pub async fn add_constraint(session: &Arc<Session>, target: &Target, constraint: Constraint) -> Result<()> {
    for name in &constraint.columns {
        if target.relation.position(name).is_none() {
            return Err(Error::new(Kind::UndefinedColumn, format!("column \"{name}\" named in key does not exist")));
        }
    }
    let primary = constraint.kind == ConstraintKind::PrimaryKey;
    if primary {
        no_nulls(session, target, &constraint.columns).await?;
    }
    let mut with = target.relation.clone();
    with.constraints = vec![constraint.clone()];
    let fit = Arc::new(Fit::new(&target.name, &with.columns, "UTC")?);
    let schema = stored_schema(&with.columns)?;
    match &constraint.kind {
        ConstraintKind::PrimaryKey | ConstraintKind::Unique { .. } => {
            let keys = Keys::new(&with, None, &session.database.base().runtime_env().memory_pool)?;
            let mut rows = fitted(sendable(all_rows(session, target).await?, schema), fit, keys);
            while let Some(batch) = rows.next().await {
                batch.map_err(crate::error::from_datafusion).map_err(|e| unmade(e, &constraint))?;
            }
        }
        ConstraintKind::Check { .. } => {
            let rows = fitted(sendable(all_rows(session, target).await?, schema), fit, None);
            let mut rows = checked(session, &with, &target.name, rows).await?;
            while let Some(batch) = rows.next().await {
                batch.map_err(crate::error::from_datafusion).map_err(|e| match e.kind {
                    Kind::CheckViolation => Error::new(
                        Kind::CheckViolation,
                        format!("check constraint \"{}\" of relation \"{}\" is violated by some row", constraint.name, target.name),
                    ),
                    _ => e,
                })?;
            }
        }
        ConstraintKind::ForeignKey { .. } => {}
    }
    session.edit(|data| {
        let mut constraint = Constraint { oid: data.allocate_oid()?, ..constraint.clone() };
        name_indexes(data, &target.schema, &target.name, target.relation.oid, std::slice::from_mut(&mut constraint))?;
        let relation = data.relation_mut(&target.schema, &target.name)?;
        if primary {
            relation.columns.iter_mut().filter(|c| constraint.columns.contains(&c.name)).for_each(|c| c.not_null = true);
        }
        relation.constraints.push(constraint);
        Ok(())
    })
}

/// PostgreSQL says it of the index that it cannot make.
fn unmade(error: Error, constraint: &Constraint) -> Error {
    if error.kind != Kind::UniqueViolation {
        return error;
    }
    let detail = error.detail.unwrap_or_default().replace("already exists", "is duplicated");
    Error::new(Kind::UniqueViolation, format!("could not create unique index \"{}\"", constraint.name)).detail(detail)
}

/// Takes a constraint away: 42704.
pub fn drop_constraint(session: &Arc<Session>, target: &Target, name: &str, if_exists: bool) -> Result<()> {
    if !target.relation.constraints.iter().any(|c| c.name == name) {
        if if_exists {
            session.notify(Notice::plain(format!("constraint \"{name}\" of relation \"{}\" does not exist, skipping", target.name)));
            return Ok(());
        }
        return Err(no_constraint(name, &target.name));
    }
    session.edit(|data| {
        data.relation_mut(&target.schema, &target.name)?.constraints.retain(|c| c.name != name);
        Ok(())
    })
}
