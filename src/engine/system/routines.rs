//! `information_schema.routines` and `parameters`.
//!
//! In: the functions of the view. Out: rows, a function once an overload. Invariant: `specific_name` is name and OID, as in
//! PostgreSQL. Deliberately absent: aggregates and window functions, which the standard does not count as routines.

use squilla_core::error::Result;

use crate::postgres::definitions;
use crate::system::information::facts;
use crate::system::procs::{Mode, Proc};
use crate::system::relation::{Rows, Value};
use crate::system::types;
use crate::system::view::SystemView;
use crate::system::{classes, oids};

fn functions(view: &SystemView) -> impl Iterator<Item = (&Proc, String, &str)> {
    view.procs
        .iter()
        .filter(|p| p.kind == "f")
        .map(|p| (p, format!("{}_{}", p.name, p.oid), view.schema_name(p.schema).unwrap_or(oids::CATALOG_SCHEMA)))
}

/// Fills `routines`.
pub fn routines(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let database = &view.session.database;
    for (p, specific, schema) in functions(view) {
        let Some(ty) = types::by_oid(p.returns) else { continue };
        let facts = facts(ty, None);
        let language = definitions::language(p.language).to_uppercase();
        let sql = p.language == oids::LANGUAGE_SQL_OID;
        rows.push([
            ("specific_catalog", database.into()),
            ("specific_schema", schema.into()),
            ("specific_name", specific.into()),
            ("routine_catalog", database.into()),
            ("routine_schema", schema.into()),
            ("routine_name", (&p.name).into()),
            ("routine_type", "FUNCTION".into()),
            ("data_type", facts.data_type.into()),
            ("type_udt_catalog", database.into()),
            ("type_udt_schema", facts.udt_schema.into()),
            ("type_udt_name", facts.udt_name.into()),
            ("dtd_identifier", "0".into()),
            ("routine_body", (if sql { "SQL" } else { "EXTERNAL" }).into()),
            ("routine_definition", (&p.source).into()),
            ("external_language", language.into()),
            ("parameter_style", "GENERAL".into()),
            ("is_deterministic", (if p.volatility == "i" { "YES" } else { "NO" }).into()),
            ("sql_data_access", "MODIFIES".into()),
            ("is_null_call", (if p.strict { "YES" } else { "NO" }).into()),
            ("schema_level_routine", "YES".into()),
            ("max_dynamic_result_sets", 0.into()),
            ("security_type", "INVOKER".into()),
            ("as_locator", "NO".into()),
            ("is_udt_dependent", "NO".into()),
        ]);
    }
    Ok(())
}

/// Fills `parameters`.
pub fn parameters(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let database = &view.session.database;
    for (p, specific, schema) in functions(view) {
        for (i, a) in p.arguments.iter().enumerate() {
            let Some(ty) = types::by_oid(a.ty).or_else(|| classes::type_row(&squilla_core::types::SqlType::Text)) else { continue };
            let facts = facts(ty, None);
            let name: Value = if a.name.is_empty() { Value::Null } else { (&a.name).into() };
            rows.push([
                ("specific_catalog", database.into()),
                ("specific_schema", schema.into()),
                ("specific_name", (&specific).into()),
                ("ordinal_position", (i + 1).into()),
                ("parameter_mode", (if a.mode == Mode::Table { "OUT" } else { "IN" }).into()),
                ("is_result", "NO".into()),
                ("as_locator", "NO".into()),
                ("parameter_name", name),
                ("data_type", facts.data_type.into()),
                ("udt_catalog", database.into()),
                ("udt_schema", facts.udt_schema.into()),
                ("udt_name", facts.udt_name.into()),
                ("dtd_identifier", (i + 1).to_string().into()),
                ("parameter_default", a.default.clone().into()),
            ]);
        }
    }
    Ok(())
}
