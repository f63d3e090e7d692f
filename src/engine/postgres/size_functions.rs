//! Sizes of relations and databases.
//!
//! In: OIDs or names. Out: bytes, and bytes as people read them. Invariant: a managed table's size is the sum of its files;
//! relations without files have size 0. Deliberately absent: sizes of files that external tables name.

use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::RegKind;

use crate::postgres::catalog_functions::{functions, object, text};
use crate::postgres::function::Context;
use crate::system::relation::Value;

fn size(context: &Context<'_>, value: &Value) -> Result<Value> {
    let relation = object(context, RegKind::Class, value)?;
    if context.view.relation_name(relation).is_none() {
        return Ok(Value::Null);
    }
    Ok(context.view.table(relation).and_then(|t| t.bytes).unwrap_or(0).into())
}

fn database(context: &Context<'_>, value: &Value) -> Result<Value> {
    if let Value::Text(name) = value
        && *name != context.view.session.database
    {
        return Err(Error::new(Kind::UndefinedDatabase, format!("database \"{name}\" does not exist")));
    }
    Ok(context.view.tables.iter().filter_map(|t| t.bytes).sum::<u64>().into())
}

/// Bytes with PostgreSQL's units: the next unit from 10,240 of the last one, rounded half up.
pub fn pretty(bytes: i64) -> String {
    let mut size = i128::from(bytes);
    if size.abs() < 10 * 1024 {
        return format!("{size} bytes");
    }
    // Kept in half units until printed, so that rounding happens once.
    size >>= 9;
    for (i, unit) in ["kB", "MB", "GB", "TB", "PB"].iter().enumerate() {
        if size.abs() < 20 * 1024 - 1 || i == 4 {
            let rounded = (size + if size < 0 { 0 } else { 1 }) / 2;
            return format!("{rounded} {unit}");
        }
        size >>= 10;
    }
    format!("{bytes} bytes")
}

fn parse(input: &str) -> Result<i64> {
    let bad = || {
        Error::new(Kind::InvalidArgument, format!("invalid size: \"{input}\""))
            .hint("Valid units are \"bytes\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\".")
    };
    let trimmed = input.trim();
    let end = trimmed.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(trimmed.len());
    let number: f64 = trimmed.get(..end).unwrap_or("").parse().map_err(|_| bad())?;
    let factor = match trimmed.get(end..).unwrap_or("").trim().to_lowercase().as_str() {
        "" | "bytes" | "b" => 1.0,
        "kb" => 1024.0,
        "mb" => 1_048_576.0,
        "gb" => 1_073_741_824.0,
        "tb" => 1_099_511_627_776.0,
        "pb" => 1_125_899_906_842_624.0,
        _ => return Err(bad()),
    };
    Ok((number * factor) as i64)
}

functions! {
    /// Sizes.
    SIZES:
    "pg_relation_size" Stable true "bytes of a relation" { "regclass" => "bigint" = |c, a| size(c, &a[0]); "regclass, text" => "bigint" = |c, a| size(c, &a[0]); }
    "pg_table_size" Stable true "bytes of a table" { "regclass" => "bigint" = |c, a| size(c, &a[0]); }
    "pg_total_relation_size" Stable true "bytes of a table with its indexes" { "regclass" => "bigint" = |c, a| size(c, &a[0]); }
    "pg_indexes_size" Stable true "bytes of the indexes of a table" { "regclass" => "bigint" = |c, a| { object(c, RegKind::Class, &a[0])?; Ok(0.into()) }; }
    "pg_database_size" Stable true "bytes of all managed tables" { "name" => "bigint" = |c, a| database(c, &a[0]); "oid" => "bigint" = |c, a| database(c, &a[0]); }
    "pg_tablespace_size" Stable true "bytes of a tablespace" { "name" => "bigint" = |c, _| database(c, &Value::Null); "oid" => "bigint" = |c, _| database(c, &Value::Null); }
    "pg_tablespace_location" Stable true "the directory of a tablespace" { "oid" => "text" = |_, _| Ok("".into()); }
    "pg_relation_filenode" Stable true "the file number of a relation" { "regclass" => "oid" = |c, a| {
        let relation = object(c, RegKind::Class, &a[0])?;
        Ok(c.view.table(relation).filter(|t| t.is_table()).map(|t| t.oid).into())
    }; }
    "pg_size_pretty" Immutable true "bytes in units that people read" { "bigint" => "text" = |_, a| Ok(match &a[0] {
        Value::Int(bytes) => pretty(*bytes).into(),
        _ => Value::Null,
    }); }
    "pg_size_bytes" Immutable true "a size with a unit, in bytes" { "text" => "bigint" = |_, a| Ok(parse(text(a.first()))?.into()); }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_printed_as_postgresql_prints_them() {
        // Taken from PostgreSQL 15.
        for (bytes, text) in [
            (0, "0 bytes"),
            (8192, "8192 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (7_634_944, "7456 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (1_099_511_627_776, "1024 GB"),
            (-20_480, "-20 kB"),
        ] {
            assert_eq!(pretty(bytes), text);
        }
        assert_eq!(parse("1.5 kB").unwrap(), 1536);
        assert!(parse("1 furlong").is_err());
    }
}
