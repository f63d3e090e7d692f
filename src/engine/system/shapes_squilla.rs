//! The views of the schema `squilla`.
//!
//! In: nothing. Out: a list of column names and types, `!` for NOT NULL. Invariant: columns are only ever added at the
//! end. Deliberately absent: the rows (`own`).

use crate::system::relation::Shape;

/// Name, OID, kind and columns of each relation.
pub const SQUILLA: &[Shape] = &[
    Shape::new(
        "squilla",
        "functions",
        13_950,
        "v",
        "name text, family text, kind text, arguments text, result text, volatility text, strict bool, comment text",
    ),
    Shape::new(
        "squilla",
        "models",
        13_951,
        "v",
        "name text, task text, source text, digest text, device text, builtin bool, loaded bool, options text[], comment text",
    ),
    Shape::new("squilla", "row_errors", 13_952, "v", "query_id int8, function text, uri text, sqlstate text, message text, at timestamptz"),
    Shape::new(
        "squilla",
        "settings",
        13_953,
        "v",
        "name text, value text, \"default\" text, source text, changed_by text, category text, description text",
    ),
    Shape::new(
        "pg_catalog",
        "pg_stat_progress_query",
        13_954,
        "v",
        "pid int4, datid oid, datname name, usename name, query_id int8, operator text, rows int8, bytes int8, errors int8, model_items int8, percent float8, elapsed_s float8, left_s float8",
    ),
];
