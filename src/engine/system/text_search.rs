//! The catalog of text search: the configuration that PostgreSQL calls `simple`, with its parser and dictionary.
//!
//! In: nothing. Out: one row each, with PostgreSQL's OIDs. Invariant: `\dF`, `\dFp`, `\dFd` and `\dFt` name the same things.
//! Deliberately absent: languages, and the functions of text search.

use squilla_core::error::Result;

use crate::system::oids;
use crate::system::relation::Rows;
use crate::system::view::SystemView;

const CONFIGURATION: u32 = 3748;
const PARSER: u32 = 3722;
const DICTIONARY: u32 = 3765;
const TEMPLATE: u32 = 3727;

/// Fills `pg_ts_config`.
pub fn pg_ts_config(_: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", CONFIGURATION.into()),
        ("cfgname", "simple".into()),
        ("cfgnamespace", oids::CATALOG_SCHEMA_OID.into()),
        ("cfgowner", oids::SUPERUSER_OID.into()),
        ("cfgparser", PARSER.into()),
    ]);
    Ok(())
}

/// Fills `pg_ts_parser`.
pub fn pg_ts_parser(_: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([("oid", PARSER.into()), ("prsname", "default".into()), ("prsnamespace", oids::CATALOG_SCHEMA_OID.into())]);
    Ok(())
}

/// Fills `pg_ts_dict`.
pub fn pg_ts_dict(_: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", DICTIONARY.into()),
        ("dictname", "simple".into()),
        ("dictnamespace", oids::CATALOG_SCHEMA_OID.into()),
        ("dictowner", oids::SUPERUSER_OID.into()),
        ("dicttemplate", TEMPLATE.into()),
    ]);
    Ok(())
}

/// Fills `pg_ts_template`.
pub fn pg_ts_template(_: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([("oid", TEMPLATE.into()), ("tmplname", "simple".into()), ("tmplnamespace", oids::CATALOG_SCHEMA_OID.into())]);
    Ok(())
}
