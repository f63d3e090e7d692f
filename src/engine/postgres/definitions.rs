//! Statements that would create what is there: indexes, constraints, functions, rules.
//!
//! In: objects of the picture. Out: SQL as PostgreSQL's `pg_get_*def` print it. Invariant: relations are qualified in the
//! plain form, and in the pretty one only where the search path does not find them. Deliberately absent: tables
//! themselves (PostgreSQL has no function for them either).

use squilla_core::types::{RegKind, SqlType};

use crate::postgres::{deparse, names};
use crate::system::objects::{ColumnInfo, ConstraintInfo, ConstraintKind, IndexColumn, IndexInfo, TableInfo};
use crate::system::oids;
use crate::system::procs::{Proc, quote_identifier, quote_literal};
use crate::system::view::SystemView;

/// An expression over the columns of a table.
pub fn expression(view: &SystemView, table: &TableInfo, sql: &str, pretty: bool) -> String {
    deparse::expression(view, Some(table), sql, None, pretty)
}

/// The default of a column, with the type that its constants become.
pub fn default(view: &SystemView, table: &TableInfo, column: &ColumnInfo) -> Option<String> {
    let sql = column.default.as_deref()?;
    let expected = match &column.ty {
        // Lengths are no part of a constant's type.
        SqlType::Varchar(_) => SqlType::Varchar(None),
        SqlType::Char(_) => SqlType::Char(None),
        SqlType::Numeric(_) if sql.trim_start().starts_with(|c: char| c.is_ascii_digit()) => return Some(sql.trim().to_owned()),
        SqlType::Int2 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 if !sql.trim_start().starts_with('\'') => SqlType::Int4,
        other => other.clone(),
    };
    Some(deparse::expression(view, Some(table), sql, Some(&expected), false))
}

fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

fn table_name(view: &SystemView, table: &TableInfo, pretty: bool) -> String {
    if pretty { names::print(view, RegKind::Class, table.oid) } else { qualified(&table.schema, &table.name) }
}

fn columns(table: &TableInfo, numbers: &[i16]) -> String {
    numbers.iter().filter_map(|n| table.column(*n)).map(|c| quote_identifier(&c.name)).collect::<Vec<_>>().join(", ")
}

/// One column of an index, without its order.
pub fn index_column(view: &SystemView, table: &TableInfo, column: &IndexColumn) -> String {
    match (&column.expression, table.column(column.number)) {
        (Some(sql), _) => {
            let text = deparse::expression(view, Some(table), sql, None, false);
            // A call stands by itself, everything else in parentheses.
            let call = text.ends_with(')') && text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
            if call || text.starts_with('(') { text } else { format!("({text})") }
        }
        (None, Some(found)) => quote_identifier(&found.name),
        (None, None) => String::new(),
    }
}

/// `pg_get_indexdef`
pub fn index(view: &SystemView, table: &TableInfo, index: &IndexInfo, pretty: bool) -> String {
    let keys: Vec<String> = index
        .columns
        .iter()
        .map(|c| {
            let order = match (c.descending, c.nulls_first) {
                (false, false) => "",
                (false, true) => " NULLS FIRST",
                (true, true) => " DESC",
                (true, false) => " DESC NULLS LAST",
            };
            format!("{}{order}", index_column(view, table, c))
        })
        .collect();
    let unique = if index.unique { "UNIQUE " } else { "" };
    let condition = index.predicate.as_ref().map_or_else(String::new, |sql| {
        let text = deparse::expression(view, Some(table), sql, None, pretty);
        format!(" WHERE {text}")
    });
    format!(
        "CREATE {unique}INDEX {} ON {} USING {} ({}){condition}",
        quote_identifier(&index.name),
        table_name(view, table, pretty),
        quote_identifier(&index.method),
        keys.join(", ")
    )
}

fn action(word: &str, code: char) -> String {
    let what = match code {
        'c' => "CASCADE",
        'r' => "RESTRICT",
        'n' => "SET NULL",
        'd' => "SET DEFAULT",
        _ => return String::new(),
    };
    format!(" ON {word} {what}")
}

/// `pg_get_constraintdef`
pub fn constraint(view: &SystemView, table: &TableInfo, constraint: &ConstraintInfo, pretty: bool) -> String {
    let own = columns(table, &constraint.columns);
    match &constraint.kind {
        ConstraintKind::Primary => format!("PRIMARY KEY ({own})"),
        ConstraintKind::Unique { nulls_not_distinct } => format!("UNIQUE {}({own})", if *nulls_not_distinct { "NULLS NOT DISTINCT " } else { "" }),
        ConstraintKind::Check { expression } => format!("CHECK ({})", deparse::expression(view, Some(table), expression, None, pretty)),
        ConstraintKind::Foreign { table: target, columns: keys, on_update, on_delete } => {
            let referred = view.tables.by_oid(*target);
            let name = referred.map_or_else(|| target.to_string(), |t| names::print(view, RegKind::Class, t.oid));
            let keys = referred.map_or_else(String::new, |t| columns(t, keys));
            format!("FOREIGN KEY ({own}) REFERENCES {name}({keys}){}{}", action("UPDATE", *on_update), action("DELETE", *on_delete))
        }
    }
}

/// A delimiter of dollar quotes that the body does not hold.
fn dollar(body: &str) -> String {
    let mut word = "function".to_owned();
    while body.contains(&format!("${word}$")) {
        word.push('x');
    }
    format!("${word}$")
}

/// `pg_get_functiondef`
pub fn function(view: &SystemView, p: &Proc) -> String {
    let mut facts = Vec::new();
    match p.volatility {
        "i" => facts.push("IMMUTABLE"),
        "s" => facts.push("STABLE"),
        _ => {}
    }
    if p.parallel == "s" {
        facts.push("PARALLEL SAFE");
    }
    if p.strict {
        facts.push("STRICT");
    }
    let facts = if facts.is_empty() { String::new() } else { format!(" {}\n", facts.join(" ")) };
    let schema = view.schema_name(p.schema).unwrap_or(oids::CATALOG_SCHEMA);
    let quote = dollar(&p.source);
    let body = if p.language == oids::LANGUAGE_INTERNAL_OID { quote_literal(&p.source) } else { format!("{quote}{}{quote}", p.source) };
    format!(
        "CREATE OR REPLACE FUNCTION {}({})\n RETURNS {}\n LANGUAGE {}\n{facts}AS {body}\n",
        qualified(schema, &p.name),
        p.arguments_text(true),
        p.result_text(),
        language(p.language),
    )
}

/// Name of a language.
pub fn language(oid: u32) -> &'static str {
    match oid {
        oids::LANGUAGE_SQUILLA_OID => "squilla",
        oids::LANGUAGE_SQL_OID => "sql",
        _ => "internal",
    }
}

/// `pg_get_ruledef`: the rule behind a view.
pub fn rule(view: &SystemView, table: &TableInfo, sql: &str, pretty: bool) -> String {
    format!("CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {} DO INSTEAD {}", table_name(view, table, pretty), deparse::view(view, sql, pretty))
}
