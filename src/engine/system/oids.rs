//! OIDs that never change, and OIDs that follow from a name.
//!
//! In: nothing, or what an object is called. Out: OIDs. Invariant: an object of the server keeps its OID over restarts,
//! upgrades and machines, because clients cache them; user objects get theirs from the catalog, below `DERIVED`.
//! Deliberately absent: OIDs of types (`squilla_core::types`).

/// Schema of the system relations and functions.
pub const CATALOG_SCHEMA: &str = "pg_catalog";
/// Schema of our own functions, types and views; searched without being named.
pub const OWN_SCHEMA: &str = "squilla";

/// `pg_catalog`
pub const CATALOG_SCHEMA_OID: u32 = 11;
/// `squilla`
pub const OWN_SCHEMA_OID: u32 = 13_900;
/// `information_schema`
pub const INFORMATION_SCHEMA_OID: u32 = 13_216;

/// Name, OID and comment of the schemas that are always there.
pub const SYSTEM_SCHEMAS: &[(&str, u32, &str)] = &[
    (CATALOG_SCHEMA, CATALOG_SCHEMA_OID, "system catalog schema"),
    ("information_schema", INFORMATION_SCHEMA_OID, "standard views of the catalog"),
    (OWN_SCHEMA, OWN_SCHEMA_OID, "functions, types and views of squilla"),
];

/// The extension that what is not PostgreSQL's own belongs to.
pub const EXTENSION_OID: u32 = 13_990;
/// pg_extension
pub const PG_EXTENSION: u32 = 3079;
/// The database.
pub const DATABASE_OID: u32 = 5;
/// The bootstrap superuser, owner of all system objects.
pub const SUPERUSER_OID: u32 = 10;
/// `pg_default`
pub const TABLESPACE_OID: u32 = 1663;
/// The access method of managed tables.
pub const PARQUET_AM_OID: u32 = 13_910;
/// Language of functions written in Rust here.
pub const LANGUAGE_SQUILLA_OID: u32 = 13_920;
/// Language of built-in functions.
pub const LANGUAGE_INTERNAL_OID: u32 = 12;
/// Language of SQL functions.
pub const LANGUAGE_SQL_OID: u32 = 14;
/// The wrapper of external tables.
pub const WRAPPER_OID: u32 = 13_930;
/// The server of external tables.
pub const SERVER_OID: u32 = 13_931;
/// The default collation.
pub const DEFAULT_COLLATION: u32 = 100;

/// `pg_class`, for `pg_description.classoid`.
pub const PG_CLASS: u32 = 1259;
/// `pg_proc`
pub const PG_PROC: u32 = 1255;
/// `pg_type`
pub const PG_TYPE: u32 = 1247;
/// `pg_namespace`
pub const PG_NAMESPACE: u32 = 2615;
/// `pg_database`
pub const PG_DATABASE: u32 = 1262;
/// `pg_authid`
pub const PG_AUTHID: u32 = 1260;
/// `pg_language`
pub const PG_LANGUAGE: u32 = 2612;
/// `pg_rewrite`
pub const PG_REWRITE: u32 = 2618;
/// `pg_operator`
pub const PG_OPERATOR: u32 = 2617;
/// `pg_constraint`
pub const PG_CONSTRAINT: u32 = 2606;
/// `pg_trigger`
pub const PG_TRIGGER: u32 = 2620;
/// `pg_foreign_server`
pub const PG_FOREIGN_SERVER: u32 = 1417;
/// pg_foreign_data_wrapper
pub const PG_FOREIGN_DATA_WRAPPER: u32 = 2328;
/// `pg_tablespace`
pub const PG_TABLESPACE: u32 = 1213;
/// `pg_attrdef`
pub const PG_ATTRDEF: u32 = 2604;

/// First OID of the range that names are hashed into.
pub const DERIVED: u32 = 0x4000_0000;

/// An OID from what an object is called: FNV-1a over kind and name, in the derived range.
pub fn derived(kind: &str, name: &str) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in kind.bytes().chain([0]).chain(name.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    DERIVED | (hash & 0x3fff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_oids_are_stable_and_fit_a_signed_integer() {
        assert_eq!(derived("proc", "abs(integer)"), derived("proc", "abs(integer)"));
        assert_ne!(derived("proc", "abs(integer)"), derived("proc", "abs(bigint)"));
        assert!(derived("rule", "x") <= i32::MAX as u32 && derived("rule", "x") >= DERIVED);
    }
}
