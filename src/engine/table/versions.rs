//! Old versions of tables: `table_at`, `table_versions`, `table_changes`, and what names, restores and forgets them.
//!
//! In: a table and a version (its number, a time, a tag). Out: its rows as they were. Invariant: a version is a snapshot
//! of the whole catalog, so the same number means the same moment for every table. Deliberately absent: versions of views.

use std::sync::Arc;

use arrow::array::{Int64Array, ListBuilder, RecordBatch, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use squilla_store::ledger::Ledger;

use crate::catalog::data::{Relation, RelationKind};
use crate::catalog::files::{DataFile, Files, OnDisk};
use crate::catalog::load;
use crate::error::{from_arrow, from_datafusion};
use crate::exec::conform::conform;
use crate::postgres::input;
use crate::session::Session;
use crate::source::options::{Arguments, Parameter, SourceCall, SourceDeclaration};
use crate::table::changes;

/// The functions of this file that stand in FROM.
pub static FUNCTIONS: &[SourceDeclaration] = &[
    SourceDeclaration {
        name: "table_at",
        parameters: &[Parameter { name: "table", ty: "text", default: None }, Parameter { name: "version", ty: "text", default: None }],
        columns: Vec::new,
        comment: "The rows of a table as they were at a version: a number, a time or a tag.",
    },
    SourceDeclaration {
        name: "table_versions",
        parameters: &[Parameter { name: "table", ty: "text", default: None }],
        columns,
        comment: "The versions of a table, oldest first.",
    },
    SourceDeclaration {
        name: "table_changes",
        parameters: &[
            Parameter { name: "table", ty: "text", default: None },
            Parameter { name: "from", ty: "text", default: None },
            Parameter { name: "to", ty: "text", default: Some("") },
        ],
        columns: changes::columns,
        comment: "The rows that came and went after a version, up to another one; without one up to now.",
    },
];

fn columns() -> Vec<(&'static str, SqlType)> {
    vec![
        ("version", SqlType::Int8),
        ("committed_at", SqlType::Timestamptz),
        ("rows_added", SqlType::Int8),
        ("rows_removed", SqlType::Int8),
        ("tags", SqlType::Array(Box::new(SqlType::Text))),
    ]
}

/// The provider of a call; None when the name is none of [`FUNCTIONS`].
pub fn resolve(session: &Arc<Session>, call: &SourceCall) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(declaration) = FUNCTIONS.iter().find(|d| d.name == call.name) else { return Ok(None) };
    let arguments = Arguments::bind(call, declaration)?;
    let (_, _, relation) = table(session, arguments.text("table")?.unwrap_or_default())?;
    let ledger = session.database.catalog.ledger().lock();
    if declaration.name == "table_versions" {
        return versions(&ledger, relation.oid).map(Some);
    }
    let text = |name: &str| -> Result<String> {
        Ok(match arguments.count(name) {
            Ok(Some(number)) => number.to_string(),
            _ => arguments.text(name)?.unwrap_or_default().to_owned(),
        })
    };
    if declaration.name == "table_changes" {
        let from = version(&ledger, relation.oid, &text("from")?)?;
        let to = match text("to")?.as_str() {
            "" => ledger.head().id,
            to => version(&ledger, relation.oid, to)?,
        };
        if to < from {
            return Err(Error::invalid_argument(format!("version {to} is before version {from}")));
        }
        let events = ledger.events(relation.oid, from, to)?;
        drop(ledger);
        return changes::provider(&session.database.store, &relation, events).map(Some);
    }
    let text = text("version")?;
    let version = version(&ledger, relation.oid, &text)?;
    let old = at(&ledger, &relation, version)?;
    drop(ledger);
    session.database.store.scan(&old).map(Some)
}

/// The managed table of a name in text: schema, name, relation.
pub fn table(session: &Arc<Session>, name: &str) -> Result<(String, String, Relation)> {
    let parts = crate::postgres::names::parts(name)?;
    let data = session.snapshot();
    let path = session.search_path(&data);
    let lookup = crate::session::planning::Lookup { data: &data, search_path: &path, values: None, beside: &[] };
    let found = lookup.find(&parts).ok_or_else(|| crate::catalog::relations::no_relation(name))?;
    match found.2.kind {
        RelationKind::Table { .. } => Ok((found.0, found.1, found.2.clone())),
        _ => Err(Error::new(Kind::WrongObjectType, format!("\"{}\" is not a table", found.1))),
    }
}

/// A version by its number, its tag, or a time: the newest one not after it. 22023 when there is none.
pub fn version(ledger: &Ledger, table: u32, text: &str) -> Result<u64> {
    let unknown = || Error::invalid_argument(format!("there is no version \"{text}\"")).hint("See table_versions('table').");
    if let Ok(number) = text.trim().parse::<u64>() {
        return if number <= ledger.head().id { Ok(number) } else { Err(unknown()) };
    }
    if let Some((_, snapshot)) = ledger.tags(table)?.into_iter().find(|(name, _)| name == text) {
        return Ok(snapshot);
    }
    let given: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
    let time = input::convert(&given, &SqlType::Timestamptz, None).map_err(|_| unknown())?;
    let time = conform(&time, &SqlType::Timestamptz.arrow())?;
    let time = arrow::array::AsArray::as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>(&time).ok_or_else(unknown)?.value(0);
    ledger.snapshot_at(time)?.map(|s| s.id).ok_or_else(unknown)
}

/// A table as it was. 22023 when it was not there, or when its files are gone.
pub fn at(ledger: &Ledger, relation: &Relation, version: u64) -> Result<Relation> {
    let kept = if ledger.is_whole(relation.oid, version)? { load::relation_at(ledger, relation.oid, version)? } else { None };
    kept.ok_or_else(|| Error::invalid_argument(format!("the table did not exist at version {version}, or that version is no longer kept")))
}

fn versions(ledger: &Ledger, table: u32) -> Result<Arc<dyn TableProvider>> {
    let all = ledger.versions(table)?;
    let fields: Vec<_> = columns().into_iter().map(|(name, ty)| ty.field(name)).collect();
    let schema = Arc::new(Schema::new(fields));
    let numbers = |f: &dyn Fn(&squilla_store::rows::Version) -> u64| Arc::new(Int64Array::from_iter_values(all.iter().map(|v| f(v) as i64)));
    let times = TimestampMicrosecondArray::from_iter_values(all.iter().map(|v| v.snapshot.at_us)).with_timezone("UTC");
    let mut tags = ListBuilder::new(StringBuilder::new());
    for version in &all {
        version.tags.iter().for_each(|t| tags.values().append_value(t));
        tags.append(true);
    }
    let arrays: Vec<arrow::array::ArrayRef> =
        vec![numbers(&|v| v.snapshot.id), Arc::new(times), numbers(&|v| v.rows_added), numbers(&|v| v.rows_removed), Arc::new(tags.finish())];
    let arrays = arrays.iter().zip(schema.fields()).map(|(a, f)| conform(a, f.data_type())).collect::<Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(from_arrow)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]]).map_err(from_datafusion)?))
}

/// `restore_table`: the table has the rows of a version again. Its columns must be the same.
pub fn restore(session: &Arc<Session>, name: &str, text: &str) -> Result<u64> {
    session.may_write("restore_table()")?;
    let (schema, name, relation) = table(session, name)?;
    let old = {
        let ledger = session.database.catalog.ledger().lock();
        let version = version(&ledger, relation.oid, text)?;
        at(&ledger, &relation, version)?
    };
    let shape = |r: &Relation| r.columns.iter().map(|c| (c.id, c.ty.clone())).collect::<Vec<_>>();
    if shape(&old) != shape(&relation) {
        return Err(Error::new(Kind::NotInPrerequisiteState, "the table had other columns at that version")
            .hint("Read it with table_at() and write what is wanted with INSERT."));
    }
    let (Some(was), Some(is)) = (old.files(), relation.files()) else { return Ok(0) };
    // A file that is there as it was stays; what has changed comes back as a part of its own.
    let mut files = Vec::new();
    for file in was.iter() {
        let kept = is.get(file.id).filter(|now| now.same_deleted(file));
        files.push(match kept {
            Some(now) => Arc::clone(now),
            None => Arc::new(DataFile { id: session.database.store.next_file(), disk: Arc::new(OnDisk::kept()), ..DataFile::clone(file) }),
        });
    }
    let rows = files.iter().map(|f| f.live_rows()).sum();
    session.edit(|data| {
        if let Some(slot) = data.relation_mut(&schema, &name)?.files_mut() {
            *slot = Files::new(files);
        }
        Ok(())
    })?;
    Ok(rows)
}

/// `tag_version`: names a version; an empty version takes the name away.
pub fn tag(session: &Arc<Session>, name: &str, text: &str, tag: &str) -> Result<()> {
    session.may_write("tag_version()")?;
    let (_, _, relation) = table(session, name)?;
    let mut ledger = session.database.catalog.ledger().lock();
    let version = if text.is_empty() { None } else { Some(version(&ledger, relation.oid, text)?) };
    ledger.tag(relation.oid, tag, version)
}

/// VACUUM: forgets versions that are older than the retention; how many files went.
pub fn vacuum(session: &Arc<Session>, name: Option<&str>) -> Result<usize> {
    let oid = name.map(|n| table(session, n)).transpose()?.map(|(_, _, r)| r.oid);
    let seconds = session.settings().int("squilla.version_retention");
    let database = &session.database;
    let horizon_us = chrono::Utc::now().timestamp_micros().saturating_sub(seconds.saturating_mul(1_000_000));
    let paths = {
        let mut ledger = database.catalog.ledger().lock();
        let horizon = if seconds == 0 { ledger.head().id } else { ledger.snapshot_at(horizon_us)?.map_or(0, |s| s.id) };
        let paths = ledger.expire(horizon, oid, &crate::catalog::files::in_use)?;
        ledger.compact()?;
        paths
    };
    squilla_store::fault::reach("vacuum_forgotten");
    let directory = database.catalog.data_directory();
    paths.iter().for_each(|p| crate::catalog::files::remove(&directory.join(p)));
    Ok(paths.len())
}
