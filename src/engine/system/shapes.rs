//! Every system relation by name.
//!
//! In: a schema and a name. Out: its [`Shape`] and the function that fills it. Invariant: a relation without a filling
//! function is always empty, and the planner is told so. Deliberately absent: the rows.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::system::relation::{Fill, Shape};
use crate::system::shapes_information::INFORMATION_SCHEMA;
use crate::system::shapes_squilla::SQUILLA;
use crate::system::shapes_tables::TABLES;
use crate::system::shapes_views::VIEWS;
use crate::system::workers::{self, WORKERS};
use crate::system::{classes, cluster, dependencies, information, keys, operators, own, procs, progress, routines, statistics, text_search, types};

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Shape> {
    TABLES.iter().chain(VIEWS).chain(INFORMATION_SCHEMA).chain(SQUILLA).chain(WORKERS)
}

static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), &'static Shape>> = LazyLock::new(|| all().map(|s| ((s.schema, s.name), s)).collect());

static BY_OID: LazyLock<HashMap<u32, &'static Shape>> = LazyLock::new(|| all().map(|s| (s.oid, s)).collect());

/// The relation of this OID.
pub fn by_oid(oid: u32) -> Option<&'static Shape> {
    BY_OID.get(&oid).copied()
}

/// The relation of this name.
pub fn find(schema: &str, name: &str) -> Option<&'static Shape> {
    BY_NAME.get(&(schema, name)).copied()
}

/// The function that fills a relation; None for one that is always empty.
pub fn fill(shape: &Shape) -> Option<Fill> {
    FILL_OF.get(&shape.oid).map(|(fill, _)| *fill)
}

/// Whether the rows follow from the catalog alone, so that they stay while it does not change.
pub fn kept(shape: &Shape) -> bool {
    FILL_OF.get(&shape.oid).is_some_and(|(_, kept)| *kept)
}

static FILL_OF: LazyLock<HashMap<u32, (Fill, bool)>> = LazyLock::new(|| {
    let list = |fills: &'static [(&str, &str, Fill)], kept: bool| {
        fills.iter().filter_map(move |(schema, name, fill)| find(schema, name).map(|s| (s.oid, (*fill, kept))))
    };
    list(KEPT, true).chain(list(LIVE, false)).collect()
});

/// The relations whose rows follow from the catalog alone.
const KEPT: &[(&str, &str, Fill)] = &[
    ("pg_catalog", "pg_class", classes::pg_class),
    ("pg_catalog", "pg_attribute", classes::pg_attribute),
    ("pg_catalog", "pg_namespace", classes::pg_namespace),
    ("pg_catalog", "pg_description", classes::pg_description),
    ("pg_catalog", "pg_foreign_table", classes::pg_foreign_table),
    ("pg_catalog", "pg_rewrite", dependencies::pg_rewrite),
    ("pg_catalog", "pg_tables", dependencies::pg_tables),
    ("pg_catalog", "pg_depend", dependencies::pg_depend),
    ("pg_catalog", "pg_extension", dependencies::pg_extension),
    ("pg_catalog", "pg_shdepend", dependencies::pg_shdepend),
    ("pg_catalog", "pg_type", types::pg_type),
    ("pg_catalog", "pg_proc", procs::pg_proc),
    ("pg_catalog", "pg_aggregate", procs::pg_aggregate),
    ("pg_catalog", "pg_operator", operators::pg_operator),
    ("pg_catalog", "pg_cast", operators::pg_cast),
    ("pg_catalog", "pg_am", keys::pg_am),
    ("pg_catalog", "pg_constraint", keys::pg_constraint),
    ("pg_catalog", "pg_index", keys::pg_index),
    ("pg_catalog", "pg_opclass", keys::pg_opclass),
    ("pg_catalog", "pg_opfamily", keys::pg_opfamily),
    ("pg_catalog", "pg_sequence", keys::pg_sequence),
    ("pg_catalog", "pg_language", cluster::pg_language),
    ("pg_catalog", "pg_tablespace", cluster::pg_tablespace),
    ("pg_catalog", "pg_collation", cluster::pg_collation),
    ("pg_catalog", "pg_ts_config", text_search::pg_ts_config),
    ("pg_catalog", "pg_ts_parser", text_search::pg_ts_parser),
    ("pg_catalog", "pg_ts_dict", text_search::pg_ts_dict),
    ("pg_catalog", "pg_ts_template", text_search::pg_ts_template),
    ("pg_catalog", "pg_foreign_data_wrapper", cluster::pg_foreign_data_wrapper),
    ("pg_catalog", "pg_foreign_server", cluster::pg_foreign_server),
    ("pg_catalog", "pg_user_mappings", cluster::pg_user_mappings),
    ("information_schema", "schemata", information::schemata),
    ("information_schema", "tables", information::tables),
    ("information_schema", "foreign_tables", information::foreign_tables),
    ("pg_catalog", "pg_attrdef", classes::pg_attrdef),
    ("information_schema", "columns", information::columns),
    ("information_schema", "sequences", keys::sequences),
    ("information_schema", "table_constraints", keys::table_constraints),
    ("information_schema", "key_column_usage", keys::key_column_usage),
    ("information_schema", "referential_constraints", keys::referential_constraints),
    ("information_schema", "constraint_column_usage", keys::constraint_column_usage),
    ("information_schema", "constraint_table_usage", keys::constraint_table_usage),
    ("information_schema", "view_table_usage", information::view_table_usage),
    ("information_schema", "routines", routines::routines),
    ("information_schema", "parameters", routines::parameters),
];

/// The relations that depend on who asks, on settings or on what runs. Definitions do: they leave out schemas that the
/// search path finds.
const LIVE: &[(&str, &str, Fill)] = &[
    ("pg_catalog", "pg_shdescription", cluster::pg_shdescription),
    ("pg_catalog", "pg_views", dependencies::pg_views),
    ("pg_catalog", "pg_matviews", dependencies::pg_matviews),
    ("pg_catalog", "pg_indexes", keys::pg_indexes),
    ("pg_catalog", "pg_sequences", keys::pg_sequences),
    ("pg_catalog", "pg_database", cluster::pg_database),
    ("pg_catalog", "pg_roles", cluster::pg_roles),
    ("pg_catalog", "pg_authid", cluster::pg_authid),
    ("pg_catalog", "pg_user", cluster::pg_user),
    ("pg_catalog", "pg_shadow", cluster::pg_shadow),
    ("pg_catalog", "pg_group", cluster::pg_group),
    ("pg_catalog", "pg_auth_members", cluster::pg_auth_members),
    ("pg_catalog", "pg_settings", cluster::pg_settings),
    ("pg_catalog", "pg_stat_activity", statistics::pg_stat_activity),
    ("pg_catalog", "pg_stat_progress_query", statistics::pg_stat_progress_query),
    ("pg_catalog", "pg_stat_database", statistics::pg_stat_database),
    ("pg_catalog", "pg_stat_user_tables", statistics::pg_stat_user_tables),
    ("pg_catalog", "pg_stat_all_tables", statistics::pg_stat_user_tables),
    ("pg_catalog", "pg_stat_user_indexes", statistics::pg_stat_user_indexes),
    ("pg_catalog", "pg_stat_all_indexes", statistics::pg_stat_user_indexes),
    ("pg_catalog", "pg_statio_user_tables", statistics::pg_statio_user_tables),
    ("pg_catalog", "pg_statio_all_tables", statistics::pg_statio_user_tables),
    ("pg_catalog", "pg_stat_ssl", statistics::pg_stat_ssl),
    ("pg_catalog", "pg_prepared_statements", statistics::pg_prepared_statements),
    ("pg_catalog", "pg_cursors", statistics::pg_cursors),
    ("pg_catalog", "pg_locks", progress::pg_locks),
    ("pg_catalog", "pg_stat_progress_copy", progress::pg_stat_progress_copy),
    ("pg_catalog", "pg_timezone_names", progress::pg_timezone_names),
    ("pg_catalog", "pg_timezone_abbrevs", progress::pg_timezone_abbrevs),
    ("information_schema", "information_schema_catalog_name", information::catalog_name),
    ("information_schema", "views", information::views),
    ("information_schema", "view_column_usage", information::view_column_usage),
    ("information_schema", "check_constraints", keys::check_constraints),
    ("information_schema", "enabled_roles", information::enabled_roles),
    ("information_schema", "applicable_roles", information::applicable_roles),
    ("information_schema", "table_privileges", information::table_privileges),
    ("information_schema", "role_table_grants", information::table_privileges),
    ("information_schema", "column_privileges", information::column_privileges),
    ("information_schema", "role_column_grants", information::column_privileges),
    ("information_schema", "character_sets", information::character_sets),
    ("information_schema", "collations", information::collations),
    ("squilla", "functions", own::functions),
    ("squilla", "models", own::models),
    ("squilla", "row_errors", own::row_errors),
    ("squilla", "settings", own::settings),
    ("squilla", "workers", workers::workers),
    ("squilla", "devices", workers::devices),
    ("squilla", "shuffles", workers::shuffles),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::system::relation::Rows;
    use crate::system::view::SystemView;

    #[test]
    fn names_and_oids_are_unique_and_every_filled_relation_exists() {
        let mut oids: Vec<u32> = all().map(|s| s.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), all().count());
        assert_eq!(BY_NAME.len(), all().count());
        for (schema, name, _) in KEPT.iter().chain(LIVE) {
            assert!(find(schema, name).is_some(), "{schema}.{name}");
        }
    }

    #[test]
    fn every_relation_gives_its_declared_columns() {
        let view = SystemView::default();
        for shape in all() {
            let mut rows = Rows::new(shape);
            if let Some(fill) = fill(shape) {
                fill(&view, &mut rows).unwrap();
            }
            let columns = rows.finish().unwrap();
            for (column, field) in columns.iter().zip(shape.schema().fields()) {
                assert_eq!(column.data_type(), field.data_type(), "{}.{}", shape.name, field.name());
            }
        }
    }
}
