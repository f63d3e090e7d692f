//! Schemas, views, external tables, indexes, DROP and TRUNCATE.
//!
//! Invariant: every statement is one edit of the session's transaction. Deliberately absent: CREATE TABLE (`create`),
//! ALTER TABLE (`alter`).

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{self, CreateIndex, CreateView, ObjectName, ObjectType, Query, SchemaName, Truncate, TruncateIdentityOption, Visit, Visitor};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::catalog::data::{ColumnEntry, Constraint, ConstraintKind, Relation, RelationKind};
use crate::catalog::relations::{DropKind, Dropped};
use crate::command::columns::{Declared, free_name, index_columns};
use crate::command::create::{ensure_temporary, entries, owner_column, place};
use crate::command::qualify::qualified;
use crate::command::write::{Target, find};
use crate::command::{alter, create, done};
use crate::session::planning::Lookup;
use crate::session::{Execution, Notice, Session, TransactionStatus};
use crate::statement::alter::{AlterAction, AlterRelation};
use crate::statement::{CreateExternalTable, Statement, ident_text, name_parts, name_text, quoted};

/// OIDs of the relations that a query names.
pub fn depends_on(session: &Arc<Session>, query: &Query) -> Vec<u32> {
    struct Names(Vec<Vec<String>>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            self.0.push(name_parts(name));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    let _ = query.visit(&mut names);
    let data = session.snapshot();
    let path = session.search_path(&data);
    let lookup = Lookup { data: &data, search_path: &path, values: None, beside: &[] };
    let mut oids: Vec<u32> = names.0.iter().filter_map(|n| lookup.find(n)).map(|(_, _, r)| r.oid).collect();
    oids.sort_unstable();
    oids.dedup();
    oids
}

/// CREATE VIEW
pub async fn create_view(session: &Arc<Session>, create: &CreateView, statement: &Statement) -> Result<Execution> {
    if create.materialized {
        return create::materialized(session, create, statement).await;
    }
    let (schema, name) = place(session, &create.name, create.temporary)?;
    let plan = session.plan_query(ast::Statement::Query(create.query.clone()), &statement.text, &[]).await?;
    let mut columns = entries(session, &plan, &[])?;
    let mut query = qualified(session, &create.query).to_string();
    if !create.columns.is_empty() {
        if create.columns.len() > columns.len() {
            return Err(Error::new(Kind::Syntax, "CREATE VIEW specifies more column names than columns"));
        }
        let names: Vec<String> = create.columns.iter().map(|c| ident_text(&c.name)).collect();
        columns.iter_mut().zip(&names).for_each(|(c, n)| c.name.clone_from(n));
        let quoted: Vec<String> = columns.iter().map(|c| format!("\"{}\"", c.name.replace('"', "\"\""))).collect();
        query = format!("SELECT * FROM ({query}) AS view_columns ({})", quoted.join(", "));
    }
    let kind = RelationKind::View { sql: query, depends_on: depends_on(session, &create.query) };
    let owner = session.role();
    session.edit(|data| {
        ensure_temporary(data, &schema, &owner)?;
        if create.or_replace {
            if let Some(old) = data.schema(&schema)?.relations.get(&name) {
                replaceable(old, &columns)?;
            }
            data.replace_view(&schema, &name, &owner, columns, kind)
        } else {
            data.create_relation(&schema, &name, &owner, columns, kind)
        }
    })?;
    done("CREATE VIEW")
}

/// Whether a view of these columns may replace the view: it may only add some at the end.
fn replaceable(old: &Relation, columns: &[ColumnEntry]) -> Result<()> {
    if !matches!(old.kind, RelationKind::View { .. }) {
        return Ok(());
    }
    for (i, was) in old.columns.iter().enumerate() {
        let Some(is) = columns.get(i) else { return Err(Error::new(Kind::InvalidTableDefinition, "cannot drop columns from view")) };
        if is.name != was.name {
            let message = format!("cannot change name of view column \"{}\" to \"{}\"", was.name, is.name);
            return Err(
                Error::new(Kind::InvalidTableDefinition, message).hint("Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.")
            );
        }
        if is.ty != was.ty {
            let message = format!("cannot change data type of view column \"{}\" from {} to {}", was.name, was.ty, is.ty);
            return Err(Error::new(Kind::InvalidTableDefinition, message));
        }
    }
    Ok(())
}

/// CREATE EXTERNAL TABLE
pub async fn create_external(session: &Arc<Session>, create: &CreateExternalTable) -> Result<Execution> {
    let (schema, name) = place(session, &create.name, false)?;
    let snapshot = session.snapshot();
    let taken = snapshot.schemas.get(&schema).is_some_and(|s| s.relations.contains_key(&name));
    if taken && create.if_not_exists {
        session.notify(Notice::plain(format!("relation \"{name}\" already exists, skipping")));
        return done("CREATE EXTERNAL TABLE");
    }
    if let Some(allowed) = session.allowed_paths() {
        allowed.check(&create.location)?;
    }
    let columns = Declared::table(session, &name, &create.columns, &[])?.columns;
    crate::source::tables::check_external(&create.format, &create.location, &create.options)?;
    // The files are looked at now: a wrong path or format is told here, and their columns are kept for \d.
    let frame = session.frame("CREATE EXTERNAL TABLE")?;
    let (access, location) = (&session.database.files, create.location.as_str());
    let made = crate::source::tables::external(&columns, &create.format, location, &create.options, &create.partitioned_by, access, &*frame.state);
    let found = frame.stop.guard(made).await?.schema();
    let columns =
        if columns.is_empty() { found.fields().iter().map(|f| ColumnEntry::new(f.name().clone(), &SqlType::of_field(f))).collect() } else { columns };
    let kind = RelationKind::External {
        format: create.format.clone(),
        location: create.location.clone(),
        options: create.options.clone(),
        partitioned_by: create.partitioned_by.clone(),
    };
    let owner = session.role();
    session.edit(|data| {
        if taken && create.or_replace {
            data.drop_relation(DropKind::External, &schema, &name, false, false)?;
        }
        data.create_relation(&schema, &name, &owner, columns, kind)
    })?;
    done("CREATE EXTERNAL TABLE")
}

/// LOCK TABLE: the tables must be there. Readers see a snapshot and writers meet at the commit, so nothing waits.
pub fn lock(session: &Arc<Session>, lock: &ast::Lock) -> Result<Execution> {
    if session.transaction_status() == TransactionStatus::Idle {
        return Err(Error::new(Kind::NoActiveTransaction, "LOCK TABLE can only be used in transaction blocks"));
    }
    for table in &lock.tables {
        find(session, &table.name)?;
    }
    done("LOCK TABLE")
}

/// CREATE SCHEMA
pub fn create_schema(session: &Arc<Session>, name: &SchemaName, if_not_exists: bool) -> Result<Execution> {
    let (name, owner) = match name {
        SchemaName::Simple(name) => (name_text(name), session.role()),
        SchemaName::UnnamedAuthorization(owner) => (ident_text(owner), ident_text(owner)),
        SchemaName::NamedAuthorization(name, owner) => (name_text(name), ident_text(owner)),
    };
    if if_not_exists && session.snapshot().schemas.contains_key(&name) {
        session.notify(Notice::plain(format!("schema \"{name}\" already exists, skipping")));
        return done("CREATE SCHEMA");
    }
    session.edit(|data| data.create_schema(&name, &owner))?;
    done("CREATE SCHEMA")
}

/// ALTER SCHEMA
pub fn alter_schema(session: &Arc<Session>, alter: &ast::AlterSchema) -> Result<Execution> {
    let name = name_text(&alter.name);
    session.edit(|data| {
        for operation in &alter.operations {
            match operation {
                ast::AlterSchemaOperation::Rename { name: to } => data.rename_schema(&name, &name_text(to))?,
                ast::AlterSchemaOperation::OwnerTo { owner } => data.schema_mut(&name)?.owner = owner.to_string().trim_matches('"').to_owned(),
                other => return Err(Error::unsupported(format!("ALTER SCHEMA {other} is not supported"))),
            }
        }
        Ok(())
    })?;
    done("ALTER SCHEMA")
}

/// DROP TABLE, VIEW, SCHEMA, SEQUENCE, INDEX, MATERIALIZED VIEW
pub fn drop(session: &Arc<Session>, what: ObjectType, if_exists: bool, names: &[ObjectName], cascade: bool) -> Result<Execution> {
    let kind = match what {
        ObjectType::Table => DropKind::Table,
        ObjectType::View => DropKind::View,
        ObjectType::Sequence => DropKind::Sequence,
        ObjectType::MaterializedView => DropKind::Materialized,
        ObjectType::Schema => return drop_schemas(session, if_exists, names, cascade),
        ObjectType::Index => return drop_indexes(session, if_exists, names),
        other => return Err(Error::unsupported(format!("DROP {other} is not supported"))),
    };
    let path = session.search_path(&session.snapshot());
    let mut missing = Vec::new();
    let dropped = session.edit(|data| {
        let mut dropped: Vec<Vec<Dropped>> = Vec::new();
        for name in names {
            let parts = name_parts(name);
            let (schema, table) = match parts.as_slice() {
                [table] => (data.resolve(&path, table).map_or_else(|| "public".to_owned(), |(s, _)| s.to_owned()), table.clone()),
                [schema, table] | [_, schema, table] => (schema.clone(), table.clone()),
                _ => return Err(Error::new(Kind::InvalidName, "improper name")),
            };
            if kind == DropKind::Sequence && !cascade {
                needed(data, &schema, &table)?;
            }
            let gone = data.drop_relation(kind, &schema, &table, if_exists, cascade)?;
            if gone.is_empty() {
                missing.push(table);
            }
            dropped.push(gone);
        }
        Ok(dropped)
    })?;
    for table in missing {
        session.notify(Notice::plain(format!("{} \"{table}\" does not exist, skipping", kind.word())));
    }
    let along: Vec<Dropped> = dropped.into_iter().flat_map(|d| d.into_iter().skip(1)).collect();
    cascades(session, &along);
    done(format!("DROP {}", kind.word().to_uppercase()))
}

/// 2BP01 when a default needs the sequence.
fn needed(data: &crate::catalog::data::CatalogData, schema: &str, name: &str) -> Result<()> {
    let Ok(Relation { kind: RelationKind::Sequence(sequence), .. }) = data.relation(schema, name) else { return Ok(()) };
    let Some((table, column)) = sequence.owned_by else { return Ok(()) };
    let Some((_, table, relation)) = data.relation_by_oid(table) else { return Ok(()) };
    match relation.columns.iter().find(|c| c.id == column && c.default.is_some()) {
        Some(column) => Err(Error::new(Kind::DependentObjects, format!("cannot drop sequence {name} because other objects depend on it"))
            .detail(format!("default value for column {} of table {table} depends on sequence {name}", column.name))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")),
        None => Ok(()),
    }
}

/// The notice of what went along; sequences of columns go without a word.
pub fn cascades(session: &Arc<Session>, along: &[Dropped]) {
    let lines: Vec<String> = along
        .iter()
        .filter(|d| !matches!(d.relation.kind, RelationKind::Sequence(_)))
        .map(|d| format!("drop cascades to {} {}", d.relation.kind.word(), d.name))
        .collect();
    match lines.as_slice() {
        [] => {}
        [line] => session.notify(Notice::plain(line.clone())),
        lines => {
            let mut notice = Notice::plain(format!("drop cascades to {} other objects", lines.len()));
            notice.error = notice.error.detail(lines.join("\n"));
            session.notify(notice);
        }
    }
}

fn drop_schemas(session: &Arc<Session>, if_exists: bool, names: &[ObjectName], cascade: bool) -> Result<Execution> {
    let mut missing = Vec::new();
    let dropped = session.edit(|data| {
        let mut dropped = Vec::new();
        for name in names.iter().map(name_text) {
            if if_exists && !data.schemas.contains_key(&name) {
                missing.push(name);
                continue;
            }
            dropped.extend(data.drop_schema(&name, cascade)?);
        }
        Ok(dropped)
    })?;
    for name in missing {
        session.notify(Notice::plain(format!("schema \"{name}\" does not exist, skipping")));
    }
    cascades(session, &dropped);
    done("DROP SCHEMA")
}

/// CREATE INDEX: a unique one is a constraint; others would only be faster, and scans skip what cannot match.
pub async fn create_index(session: &Arc<Session>, create: &CreateIndex) -> Result<Execution> {
    let target = Target::find(session, &create.table_name, None, "create an index on")?;
    let given = create.name.as_ref().and_then(|n| name_parts(n).pop());
    if !create.unique {
        for column in create.columns.iter().filter_map(|c| match &c.column.expr {
            ast::Expr::Identifier(name) => Some(ident_text(name)),
            _ => None,
        }) {
            if target.relation.position(&column).is_none() {
                return Err(Error::new(Kind::UndefinedColumn, format!("column \"{column}\" does not exist")));
            }
        }
        session.notify(Notice::plain("the index is accepted and not built"));
        return done("CREATE INDEX");
    }
    if create.predicate.is_some() {
        return Err(Error::unsupported("partial unique indexes are not supported"));
    }
    let columns = index_columns(&create.columns)?;
    let data = session.snapshot();
    let entry = data.schema(&target.schema)?;
    let taken = |n: &str| target.relation.constraints.iter().any(|c| c.name == n) || entry.has_index(n, 0) || entry.relations.contains_key(n);
    let name = given.unwrap_or_else(|| free_name(&format!("{}_{}_idx", target.name, columns.join("_")), taken));
    if taken(&name) {
        if create.if_not_exists {
            session.notify(Notice::plain(format!("relation \"{name}\" already exists, skipping")));
            return done("CREATE INDEX");
        }
        return Err(Error::new(Kind::DuplicateTable, format!("relation \"{name}\" already exists")));
    }
    let kind = ConstraintKind::Unique { nulls_not_distinct: create.nulls_distinct == Some(false) };
    alter::add_constraint(session, &target, Constraint { oid: 0, name, columns, kind }).await?;
    done("CREATE INDEX")
}

fn drop_indexes(session: &Arc<Session>, if_exists: bool, names: &[ObjectName]) -> Result<Execution> {
    for name in names {
        let name = name_parts(name).pop().unwrap_or_default();
        let data = session.snapshot();
        let path = session.search_path(&data);
        let holder = path.iter().filter_map(|s| data.schemas.get_key_value(s)).find_map(|(schema, entry)| {
            let mut relations = entry.relations.iter();
            relations
                .find(|(_, r)| r.constraints.iter().any(|c| c.is_unique() && c.name == name))
                .map(|(t, r)| (schema.clone(), t.clone(), r.clone()))
        });
        match holder {
            Some((schema, table, relation)) => {
                let target = Target { schema, alias: table.clone(), name: table, relation: Relation::clone(&relation) };
                alter::drop_constraint(session, &target, &name, false)?;
            }
            None if if_exists => session.notify(Notice::plain(format!("index \"{name}\" does not exist, skipping"))),
            None => return Err(Error::new(Kind::UndefinedObject, format!("index \"{name}\" does not exist"))),
        }
    }
    done("DROP INDEX")
}

/// TRUNCATE
pub fn truncate(session: &Arc<Session>, truncate: &Truncate) -> Result<Execution> {
    for table in &truncate.table_names {
        let (schema, name, relation) = find(session, &table.name)?;
        if !matches!(relation.kind, RelationKind::Table { materialized: None, .. }) {
            return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a table")));
        }
        let data = session.snapshot();
        let target = Target { schema, alias: name.clone(), name, relation };
        crate::command::update::clear(session, &target)?;
        if matches!(truncate.identity, Some(TruncateIdentityOption::Restart)) {
            for (schema, name) in data.owned_sequences(target.relation.oid) {
                if let RelationKind::Sequence(sequence) = &data.relation(&schema, &name)?.kind {
                    session.database.catalog.set_value(data.relation(&schema, &name)?.oid, sequence.start)?;
                }
            }
        }
    }
    done("TRUNCATE TABLE")
}

/// VACUUM: old versions go, and the files that only they had.
pub fn vacuum(session: &Arc<Session>, vacuum: &ast::VacuumStatement) -> Result<Execution> {
    if session.transaction_status() != TransactionStatus::Idle {
        return Err(Error::new(Kind::ActiveTransaction, "VACUUM cannot run inside a transaction block"));
    }
    let table = vacuum.table_name.as_ref().map(|n| find(session, n)).transpose()?;
    let name = table.map(|(schema, name, _)| format!("{}.{}", quoted(&schema), quoted(&name)));
    crate::table::versions::vacuum(session, name.as_deref())?;
    done("VACUUM")
}

/// ALTER VIEW, MATERIALIZED VIEW, SEQUENCE, ...; SET SCHEMA of tables
pub fn alter_relation(session: &Arc<Session>, alter: &AlterRelation) -> Result<Execution> {
    let tag = format!("ALTER {}", alter.what);
    let (schema, name, relation) = match find(session, &alter.name) {
        Err(error) if alter.if_exists && error.kind == Kind::UndefinedTable => {
            session.notify(Notice::plain(format!("relation \"{}\" does not exist, skipping", name_text(&alter.name))));
            return done(tag);
        }
        other => other?,
    };
    let fits = match alter.what {
        "VIEW" => matches!(relation.kind, RelationKind::View { .. }),
        "MATERIALIZED VIEW" => matches!(relation.kind, RelationKind::Table { materialized: Some(_), .. }),
        "SEQUENCE" => matches!(relation.kind, RelationKind::Sequence(_)),
        "FOREIGN TABLE" | "EXTERNAL TABLE" => matches!(relation.kind, RelationKind::External { .. }),
        "INDEX" => false,
        _ => true,
    };
    if !fits {
        return Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a {}", alter.what.to_lowercase())));
    }
    let target = Target { schema, alias: name.clone(), name, relation };
    match &alter.action {
        AlterAction::Rename(to) => session.edit(|data| data.rename_relation(&target.schema, &target.name, to))?,
        AlterAction::RenameColumn(from, to) => alter::rename_column(session, &target, from, to)?,
        AlterAction::SetSchema(to) => session.edit(|data| {
            for (schema, sequence) in data.owned_sequences(target.relation.oid) {
                data.move_relation(&schema, &sequence, to)?;
            }
            data.move_relation(&target.schema, &target.name, to)
        })?,
        AlterAction::Owner(owner) => session.edit(|data| {
            data.relation_mut(&target.schema, &target.name)?.owner.clone_from(owner);
            Ok(())
        })?,
        AlterAction::Restart(value) => {
            let RelationKind::Sequence(sequence) = &target.relation.kind else { return Err(not_a_sequence(&target.name)) };
            session.database.catalog.set_value(target.relation.oid, value.unwrap_or(sequence.start))?;
        }
        AlterAction::OwnedBy(column) => {
            let owner = column.as_ref().map(|c| owner_column(session, c)).transpose()?.flatten();
            session.edit(|data| match &mut data.relation_mut(&target.schema, &target.name)?.kind {
                RelationKind::Sequence(sequence) => {
                    sequence.owned_by = owner;
                    Ok(())
                }
                _ => Err(not_a_sequence(&target.name)),
            })?;
        }
    }
    done(tag)
}

fn not_a_sequence(name: &str) -> Error {
    Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a sequence"))
}
