//! `pg_type` and its neighbours.
//!
//! In: the types that SQL can name here. Out: rows with PostgreSQL's OIDs, and ours above 16384. Invariant: the OID of a
//! `SqlType` is the OID of the row of its name; every array type names its element and back.
//! Deliberately absent: domains, enums and ranges.

use std::sync::LazyLock;

use squilla_core::error::Result;
use squilla_core::types::SqlType;

use crate::system::relation::{Rows, Value};
use crate::system::view::SystemView;
use crate::system::{classes, oids, procs};

/// One row of `pg_type`.
#[derive(Clone, Debug)]
pub struct TypeRow {
    /// OID.
    pub oid: u32,
    /// `typname`.
    pub name: String,
    /// Bytes, -1 for varying, -2 for a C string.
    pub len: i16,
    /// Passed by value.
    pub by_value: bool,
    /// `b` base, `p` pseudo.
    pub kind: &'static str,
    /// `typcategory`.
    pub category: &'static str,
    /// Preferred in its category.
    pub preferred: bool,
    /// Element of an array.
    pub element: u32,
    /// Array over this type.
    pub array: u32,
    /// c, s, i, d
    pub align: &'static str,
    /// p, e, m, x
    pub storage: &'static str,
    /// 0, or the collation.
    pub collation: u32,
    /// input, output, receive and send functions.
    pub functions: [String; 4],
    /// Comment.
    pub comment: &'static str,
}

struct Base(u32, &'static str, i16, &'static str, u32, u32, &'static str, u32, &'static str, &'static str);

#[rustfmt::skip]
#[expect(clippy::too_many_arguments, reason = "one row of a table")]
const fn t(oid: u32, name: &'static str, len: i16, flags: &'static str, element: u32, array: u32, layout: &'static str, collation: u32, functions: &'static str, comment: &'static str) -> Base {
    Base(oid, name, len, flags, element, array, layout, collation, functions, comment)
}

/// oid, name, length, flags (by value, kind, category, preferred), element, array, alignment and storage, collation,
/// functions, comment.
#[rustfmt::skip]
const BASES: &[Base] = &[
    t(16, "bool", 1, "tbBt", 0, 1000, "cp", 0, "boolin boolout boolrecv boolsend", "boolean, 'true'/'false'"),
    t(17, "bytea", -1, "fbUf", 0, 1001, "ix", 0, "byteain byteaout bytearecv byteasend", "variable-length string, binary values escaped"),
    t(18, "char", 1, "tbZf", 0, 1002, "cp", 0, "charin charout charrecv charsend", "single character"),
    t(19, "name", 64, "fbSf", 18, 1003, "cp", 950, "namein nameout namerecv namesend", "63-byte type for storing system identifiers"),
    t(20, "int8", 8, "tbNf", 0, 1016, "dp", 0, "int8in int8out int8recv int8send", "~18 digit integer, 8-byte storage"),
    t(21, "int2", 2, "tbNf", 0, 1005, "sp", 0, "int2in int2out int2recv int2send", "-32 thousand to 32 thousand, 2-byte storage"),
    t(22, "int2vector", -1, "fbAf", 21, 1006, "ip", 0, "int2vectorin int2vectorout int2vectorrecv int2vectorsend", "array of int2, used in system tables"),
    t(23, "int4", 4, "tbNf", 0, 1007, "ip", 0, "int4in int4out int4recv int4send", "-2 billion to 2 billion integer, 4-byte storage"),
    t(24, "regproc", 4, "tbNf", 0, 1008, "ip", 0, "regprocin regprocout regprocrecv regprocsend", "registered procedure"),
    t(25, "text", -1, "fbSt", 0, 1009, "ix", 100, "textin textout textrecv textsend", "variable-length string, no limit specified"),
    t(26, "oid", 4, "tbNt", 0, 1028, "ip", 0, "oidin oidout oidrecv oidsend", "object identifier(oid), maximum 4 billion"),
    t(27, "tid", 6, "fbUf", 0, 1010, "sp", 0, "tidin tidout tidrecv tidsend", "(block, offset), physical location of tuple"),
    t(28, "xid", 4, "tbUf", 0, 1011, "ip", 0, "xidin xidout xidrecv xidsend", "transaction id"),
    t(29, "cid", 4, "tbUf", 0, 1012, "ip", 0, "cidin cidout cidrecv cidsend", "command identifier type, sequence in transaction id"),
    t(30, "oidvector", -1, "fbAf", 26, 1013, "ip", 0, "oidvectorin oidvectorout oidvectorrecv oidvectorsend", "array of oids, used in system tables"),
    t(114, "json", -1, "fbUf", 0, 199, "ix", 0, "json_in json_out json_recv json_send", "JSON stored as text"),
    t(194, "pg_node_tree", -1, "fbZf", 0, 0, "ix", 100, "pg_node_tree_in pg_node_tree_out pg_node_tree_recv pg_node_tree_send", "string representing an internal node tree"),
    t(700, "float4", 4, "tbNf", 0, 1021, "ip", 0, "float4in float4out float4recv float4send", "single-precision floating point number, 4-byte storage"),
    t(701, "float8", 8, "tbNt", 0, 1022, "dp", 0, "float8in float8out float8recv float8send", "double-precision floating point number, 8-byte storage"),
    t(705, "unknown", -2, "fpXf", 0, 0, "cp", 0, "unknownin unknownout unknownrecv unknownsend", "pseudo-type representing an undetermined type"),
    t(869, "inet", -1, "fbIt", 0, 1041, "im", 0, "inet_in inet_out inet_recv inet_send", "IP address/netmask, host address, netmask optional"),
    t(1033, "aclitem", 12, "fbUf", 0, 1034, "ip", 0, "aclitemin aclitemout - -", "access control list"),
    t(1042, "bpchar", -1, "fbSf", 0, 1014, "ix", 100, "bpcharin bpcharout bpcharrecv bpcharsend", "char(length), blank-padded string, fixed storage length"),
    t(1043, "varchar", -1, "fbSf", 0, 1015, "ix", 100, "varcharin varcharout varcharrecv varcharsend", "varchar(length), non-blank-padded string, variable storage length"),
    t(1082, "date", 4, "tbDf", 0, 1182, "ip", 0, "date_in date_out date_recv date_send", "date"),
    t(1083, "time", 8, "tbDf", 0, 1183, "dp", 0, "time_in time_out time_recv time_send", "time of day"),
    t(1114, "timestamp", 8, "tbDf", 0, 1115, "dp", 0, "timestamp_in timestamp_out timestamp_recv timestamp_send", "date and time"),
    t(1184, "timestamptz", 8, "tbDt", 0, 1185, "dp", 0, "timestamptz_in timestamptz_out timestamptz_recv timestamptz_send", "date and time with time zone"),
    t(1186, "interval", 16, "fbTt", 0, 1187, "dp", 0, "interval_in interval_out interval_recv interval_send", "@ <number> <units>, time interval"),
    t(1560, "bit", -1, "fbVf", 0, 1561, "ix", 0, "bit_in bit_out bit_recv bit_send", "fixed-length bit string"),
    t(1562, "varbit", -1, "fbVt", 0, 1563, "ix", 0, "varbit_in varbit_out varbit_recv varbit_send", "variable-length bit string"),
    t(1700, "numeric", -1, "fbNf", 0, 1231, "im", 0, "numeric_in numeric_out numeric_recv numeric_send", "numeric(precision, decimal), arbitrary precision number"),
    t(2202, "regprocedure", 4, "tbNf", 0, 2207, "ip", 0, "regprocedurein regprocedureout regprocedurerecv regproceduresend", "registered procedure (with args)"),
    t(2205, "regclass", 4, "tbNf", 0, 2210, "ip", 0, "regclassin regclassout regclassrecv regclasssend", "registered class"),
    t(2206, "regtype", 4, "tbNf", 0, 2211, "ip", 0, "regtypein regtypeout regtyperecv regtypesend", "registered type"),
    t(2249, "record", -1, "fpPf", 0, 2287, "dx", 0, "record_in record_out record_recv record_send", "pseudo-type representing any composite type"),
    t(2275, "cstring", -2, "fpPf", 0, 1263, "cp", 0, "cstring_in cstring_out cstring_recv cstring_send", "C-style string"),
    t(2276, "any", 4, "tpPf", 0, 0, "ip", 0, "any_in any_out - -", "pseudo-type representing any type"),
    t(2277, "anyarray", -1, "fpPf", 0, 0, "dx", 0, "anyarray_in anyarray_out anyarray_recv anyarray_send", "pseudo-type representing a polymorphic array type"),
    t(2278, "void", 4, "tpPf", 0, 0, "ip", 0, "void_in void_out void_recv void_send", "pseudo-type for the result of a function with no real result"),
    t(2279, "trigger", 4, "tpPf", 0, 0, "ip", 0, "trigger_in trigger_out - -", "pseudo-type for the result of a trigger function"),
    t(2281, "internal", 8, "tpPf", 0, 0, "dp", 0, "internal_in internal_out - -", "pseudo-type representing an internal data structure"),
    t(2283, "anyelement", 4, "tpPf", 0, 0, "ip", 0, "anyelement_in anyelement_out - -", "pseudo-type representing a polymorphic base type"),
    t(2950, "uuid", 16, "fbUf", 0, 2951, "cp", 0, "uuid_in uuid_out uuid_recv uuid_send", "UUID datatype"),
    t(3220, "pg_lsn", 8, "tbUf", 0, 3221, "dp", 0, "pg_lsn_in pg_lsn_out pg_lsn_recv pg_lsn_send", "PostgreSQL LSN datatype"),
    t(3802, "jsonb", -1, "fbUf", 0, 3807, "ix", 0, "jsonb_in jsonb_out jsonb_recv jsonb_send", "Binary JSON"),
    t(4089, "regnamespace", 4, "tbNf", 0, 4090, "ip", 0, "regnamespacein regnamespaceout regnamespacerecv regnamespacesend", "registered namespace"),
    t(4096, "regrole", 4, "tbNf", 0, 4097, "ip", 0, "regrolein regroleout regrolerecv regrolesend", "registered role"),
    t(16385, "vector", -1, "fbUf", 0, 16386, "ix", 0, "vector_in vector_out vector_recv vector_send", "vector of real numbers"),
    t(16401, "file", -1, "fbUf", 0, 16402, "ix", 0, "file_in file_out file_recv file_send", "reference to a file or object, read when it is needed"),
    t(16403, "image", -1, "fbUf", 0, 16404, "ix", 0, "image_in image_out image_recv image_send", "decoded picture"),
    t(16405, "audio", -1, "fbUf", 0, 16406, "ix", 0, "audio_in audio_out audio_recv audio_send", "decoded sound"),
    t(16407, "tensor", -1, "fbUf", 0, 16408, "ix", 0, "tensor_in tensor_out tensor_recv tensor_send", "array of real numbers of any shape"),
    t(16409, "box2d", -1, "fbUf", 0, 16410, "ix", 0, "box2d_in box2d_out box2d_recv box2d_send", "rectangle in pixels"),
];

fn row(base: &Base) -> TypeRow {
    let Base(oid, name, len, flags, element, array, layout, collation, functions, comment) = base;
    let mut names = functions.split(' ').map(str::to_owned);
    TypeRow {
        oid: *oid,
        name: (*name).to_owned(),
        len: *len,
        by_value: flags.starts_with('t'),
        kind: flags.get(1..2).unwrap_or("b"),
        category: flags.get(2..3).unwrap_or("U"),
        preferred: flags.ends_with('t'),
        element: *element,
        array: *array,
        align: layout.get(0..1).unwrap_or("i"),
        storage: layout.get(1..2).unwrap_or("x"),
        collation: *collation,
        functions: std::array::from_fn(|_| names.next().unwrap_or_default()),
        comment,
    }
}

fn array_over(base: &TypeRow) -> TypeRow {
    TypeRow {
        oid: base.array,
        name: format!("_{}", base.name),
        len: -1,
        by_value: false,
        kind: if base.kind == "p" && base.name != "record" && base.name != "cstring" { "b" } else { base.kind },
        category: if base.kind == "p" { "P" } else { "A" },
        preferred: false,
        element: base.oid,
        array: 0,
        align: if base.align == "d" { "d" } else { "i" },
        storage: "x",
        collation: base.collation,
        functions: ["array_in", "array_out", "array_recv", "array_send"].map(str::to_owned),
        comment: "",
    }
}

/// Every type, base types before arrays.
pub static TYPES: LazyLock<Vec<TypeRow>> = LazyLock::new(|| {
    let mut rows: Vec<TypeRow> = BASES.iter().map(row).collect();
    let arrays: Vec<TypeRow> = rows.iter().filter(|r| r.array != 0).map(array_over).collect();
    rows.extend(arrays);
    rows
});

/// The type of this OID.
pub fn by_oid(oid: u32) -> Option<&'static TypeRow> {
    TYPES.iter().find(|t| t.oid == oid)
}

/// The type of this `typname`, or of a spelling such as `double precision` or `text[]`.
pub fn by_name(name: &str) -> Option<&'static TypeRow> {
    let lower = name.trim().to_lowercase();
    let bare = lower.strip_prefix("pg_catalog.").or_else(|| lower.strip_prefix("squilla.")).unwrap_or(&lower).trim_matches('"').to_owned();
    if let Some(row) = TYPES.iter().find(|t| t.name == bare && (bare != "char" || lower.contains('"'))) {
        return Some(row);
    }
    if let Some(element) = bare.strip_suffix("[]") {
        let array = by_name(element)?.array;
        return by_oid(array);
    }
    SqlType::parse(&bare).filter(|t| !matches!(t, SqlType::Record(_))).and_then(|t| by_oid(t.oid()))
}

/// The schema that a type lives in.
pub fn schema_oid(ty: &TypeRow) -> u32 {
    if ty.oid > 16_384 { oids::OWN_SCHEMA_OID } else { oids::CATALOG_SCHEMA_OID }
}

/// What `format_type` prints.
pub fn format_type(oid: u32, modifier: Option<i32>) -> String {
    if oid == 0 {
        return "-".into();
    }
    let Some(row) = by_oid(oid) else { return "???".into() };
    if row.category == "A" && row.element != 0 && row.name.starts_with('_') {
        return format!("{}[]", format_type(row.element, modifier));
    }
    let modifier = modifier.filter(|m| *m >= 0);
    match (row.name.as_str(), modifier) {
        ("bpchar", None) => "character".into(),
        ("bpchar", Some(m)) => format!("character({})", m - 4),
        ("varchar", Some(m)) => format!("character varying({})", m - 4),
        ("numeric", Some(m)) => format!("numeric({},{})", ((m - 4) >> 16) & 0xffff, (m - 4) & 0x7ff),
        ("vector", Some(m)) => format!("vector({m})"),
        ("bit", Some(m)) => format!("bit({m})"),
        ("varbit", None) => "bit varying".into(),
        ("varbit", Some(m)) => format!("bit varying({m})"),
        ("timestamp", Some(m)) => format!("timestamp({m}) without time zone"),
        ("timestamptz", Some(m)) => format!("timestamp({m}) with time zone"),
        ("time", Some(m)) => format!("time({m}) without time zone"),
        ("char", _) => "\"char\"".into(),
        ("any", _) => "\"any\"".into(),
        (name, _) => SqlType::parse(name).map_or_else(|| name.to_owned(), |t| t.name()),
    }
}

/// Fills `pg_type`: the types, then the row types of the user's relations and the arrays over those.
pub fn pg_type(view: &SystemView, rows: &mut Rows) -> Result<()> {
    let owner = oids::SUPERUSER_OID;
    let function = |name: &String| -> Value { if name == "-" { 0u32.into() } else { procs::type_function_oid(name).into() } };
    for t in TYPES.iter() {
        rows.push([
            ("oid", t.oid.into()),
            ("typname", (&t.name).into()),
            ("typnamespace", schema_oid(t).into()),
            ("typowner", owner.into()),
            ("typlen", i32::from(t.len).into()),
            ("typbyval", t.by_value.into()),
            ("typtype", t.kind.into()),
            ("typcategory", t.category.into()),
            ("typispreferred", t.preferred.into()),
            ("typisdefined", true.into()),
            ("typdelim", ",".into()),
            ("typsubscript", (if t.element == 0 { 0 } else { procs::type_function_oid("array_subscript_handler") }).into()),
            ("typelem", t.element.into()),
            ("typarray", t.array.into()),
            ("typinput", function(&t.functions[0])),
            ("typoutput", function(&t.functions[1])),
            ("typreceive", function(&t.functions[2])),
            ("typsend", function(&t.functions[3])),
            ("typalign", t.align.into()),
            ("typstorage", t.storage.into()),
            ("typtypmod", (-1).into()),
            ("typcollation", t.collation.into()),
        ]);
    }
    for t in view.tables.iter() {
        let (oid, array) = (classes::row_type(t), classes::row_array(t));
        if oid == 0 {
            continue;
        }
        let kinds = [(oid, t.name.clone(), "c", "C", 0, array, "record"), (array, format!("_{}", t.name), "b", "A", oid, 0, "array")];
        for (oid, name, kind, category, element, array, io) in kinds {
            let function = |suffix: &str| procs::type_function_oid(&format!("{io}_{suffix}"));
            rows.push([
                ("oid", oid.into()),
                ("typname", name.into()),
                ("typnamespace", view.schema_oid(&t.schema).into()),
                ("typowner", view.role_oid(&t.owner).into()),
                ("typlen", (-1).into()),
                ("typtype", kind.into()),
                ("typcategory", category.into()),
                ("typisdefined", true.into()),
                ("typdelim", ",".into()),
                ("typrelid", (if kind == "c" { t.oid } else { 0 }).into()),
                ("typsubscript", (if element == 0 { 0 } else { procs::type_function_oid("array_subscript_handler") }).into()),
                ("typelem", element.into()),
                ("typarray", array.into()),
                ("typinput", function("in").into()),
                ("typoutput", function("out").into()),
                ("typreceive", function("recv").into()),
                ("typsend", function("send").into()),
                ("typalign", "d".into()),
                ("typstorage", "x".into()),
                ("typtypmod", (-1).into()),
            ]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_sql_type_has_its_row() {
        for name in [
            "boolean",
            "smallint",
            "double precision",
            "character varying(10)",
            "\"char\"",
            "name",
            "regclass",
            "bytea",
            "timestamptz",
            "jsonb",
            "vector",
            "file",
            "box2d",
            "text[]",
            "vector[]",
        ] {
            let ty = SqlType::parse(name).unwrap();
            let row = by_oid(ty.oid()).unwrap_or_else(|| unreachable!("{name}"));
            assert_eq!(format_type(row.oid, None), ty.name());
            if row.array != 0 {
                assert_eq!(by_oid(row.array).unwrap().element, row.oid);
            }
        }
    }

    #[test]
    fn types_are_printed_as_postgresql_prints_them() {
        assert_eq!(format_type(1700, Some(655_366)), "numeric(10,2)");
        assert_eq!(format_type(1043, Some(24)), "character varying(20)");
        assert_eq!(format_type(1015, None), "character varying[]");
        assert_eq!(format_type(18, None), "\"char\"");
        assert_eq!(format_type(1184, None), "timestamp with time zone");
        assert_eq!(format_type(0, None), "-");
        assert_eq!(by_name("int4").unwrap().oid, 23);
        assert_eq!(by_name("pg_catalog.double precision").unwrap().oid, 701);
        assert_eq!(by_name("integer[]").unwrap().oid, 1007);
        assert_eq!(by_name("char").unwrap().oid, 1042);
        assert_eq!(by_name("\"char\"").unwrap().oid, 18);
    }
}
