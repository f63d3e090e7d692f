//! SQL type names to Arrow fields.
//!
//! In: a type of the syntax tree. Out: a field with the metadata of the type. Invariant: every type in `pg_type` that a
//! column can have is understood; an unknown name is 42704. Deliberately absent: values.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{DataType, ObjectName};
use squilla_core::error::{Error, Kind};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::postgres::syntax::folded;

/// The planner.
#[derive(Debug, Default)]
pub struct PostgresTypes;

/// The SQL type of a type name in the syntax tree.
pub fn sql_type(ty: &DataType) -> Option<SqlType> {
    match ty {
        // float(n): up to 24 bits are single precision.
        DataType::Float(sqlparser::ast::ExactNumberInfo::Precision(n)) => Some(if *n <= 24 { SqlType::Float4 } else { SqlType::Float8 }),
        DataType::Regclass => SqlType::parse("regclass"),
        DataType::Custom(name, modifiers) => SqlType::parse(&ty.to_string()).or_else(|| SqlType::parse(&unquoted(name, modifiers))),
        other => SqlType::parse(&other.to_string()),
    }
}

/// `"pg_catalog"."int4"` as `int4`.
fn unquoted(name: &ObjectName, modifiers: &[String]) -> String {
    let mut parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(folded).collect();
    if parts.len() > 1 && parts.first().is_some_and(|schema| schema == "pg_catalog") {
        parts.remove(0);
    }
    let name = parts.join(".");
    if modifiers.is_empty() { name } else { format!("{name}({})", modifiers.join(",")) }
}

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, ty: &DataType) -> DataFusionResult<Option<FieldRef>> {
        match sql_type(ty) {
            Some(sql) => Ok(Some(Arc::new(sql.field("")))),
            None if matches!(ty, DataType::Custom(_, _)) => {
                Err(to_datafusion(Error::new(Kind::UndefinedObject, format!("type \"{ty}\" does not exist"))))
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    #[test]
    fn names_of_every_spelling() {
        for (text, name) in [
            ("int4", "integer"),
            ("pg_catalog.text", "text"),
            ("pg_catalog.regtype", "regtype"),
            ("regclass", "regclass"),
            ("\"char\"", "\"char\""),
            ("double precision", "double precision"),
            ("float(10)", "real"),
            ("numeric(10,2)", "numeric"),
            ("varchar(10)", "character varying"),
            ("timestamp with time zone", "timestamp with time zone"),
            ("timestamptz", "timestamp with time zone"),
            ("pg_catalog.int2[]", "smallint[]"),
            ("vector(3)", "vector"),
            ("jsonb", "jsonb"),
            ("file", "file"),
            ("bytea", "bytea"),
            ("interval", "interval"),
            ("text[]", "text[]"),
        ] {
            let ty = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).unwrap().parse_data_type().unwrap();
            assert_eq!(sql_type(&ty).map(|t| t.name()).as_deref(), Some(name), "{text}: {ty:?}");
        }
    }
}
