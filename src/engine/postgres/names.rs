//! Names to OIDs and back: what regclass, regproc, regtype, regnamespace and regrole read and print.
//!
//! In: a name as SQL writes it, or an OID. Out: the other. Invariant: a printed name reads back to the same OID; a name is
//! printed without its schema exactly when the search path finds it. Deliberately absent: casts (`rewrite`).

use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::RegKind;

use crate::system::oids;
use crate::system::procs::{Proc, quote_identifier};
use crate::system::types;
use crate::system::view::SystemView;

/// The parts of a dotted name, folded to lower case outside quotes. Fails on an empty part or an open quote.
pub fn parts(name: &str) -> Result<Vec<String>> {
    let bad = || Error::new(Kind::InvalidName, format!("invalid name syntax: \"{name}\""));
    let mut parts = Vec::new();
    let mut rest = name.trim();
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut part = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next() {
                    Some((_, '"')) if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                        part.push('"');
                    }
                    Some((at, '"')) => break at + 1,
                    Some((_, c)) => part.push(c),
                    None => return Err(bad()),
                }
            };
            parts.push(part);
            rest = quoted.get(end..).unwrap_or("").trim_start();
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let part = rest.get(..end).unwrap_or("").trim();
            if part.is_empty() || part.contains(char::is_whitespace) {
                return Err(bad());
            }
            parts.push(part.to_lowercase());
            rest = rest.get(end..).unwrap_or("");
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => return Ok(parts),
            None => return Err(bad()),
        }
    }
}

fn schema_and_name(name: &str) -> Result<(Option<String>, String)> {
    let mut parts = parts(name)?;
    let last = parts.pop().unwrap_or_default();
    Ok((parts.pop(), last))
}

/// The OID that a name means, or None where nothing has that name.
pub fn find(view: &SystemView, kind: RegKind, name: &str) -> Result<Option<u32>> {
    if name == "-" {
        return Ok(Some(0));
    }
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        return name.parse().map(Some).map_err(|_| Error::new(Kind::OutOfRange, format!("value \"{name}\" is out of range for type oid")));
    }
    Ok(match kind {
        RegKind::Class => {
            let (schema, name) = schema_and_name(name)?;
            view.relation_oid(schema.as_deref(), &name)
        }
        RegKind::Type => types::by_name(name).map(|t| t.oid),
        RegKind::Namespace => {
            let (_, name) = schema_and_name(name)?;
            view.schema_oid(&name)
        }
        RegKind::Role => {
            let (_, name) = schema_and_name(name)?;
            view.roles.iter().find(|r| r.name == name).map(|r| r.oid)
        }
        RegKind::Proc | RegKind::Procedure => return function(view, name),
    })
}

/// A function by `name` or `name(types)`.
fn function(view: &SystemView, text: &str) -> Result<Option<u32>> {
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.trim_end().trim_end_matches(')'))),
        None => (text, None),
    };
    let (schema, name) = schema_and_name(name)?;
    let schema = match schema {
        Some(schema) => match view.schema_oid(&schema) {
            Some(oid) => Some(oid),
            None => return Ok(None),
        },
        None => None,
    };
    let mut candidates = view.procs.named(&name).filter(|p| schema.is_none_or(|s| s == p.schema));
    let Some(arguments) = arguments else {
        let first = candidates.next().map(|p| p.oid);
        return match candidates.next() {
            Some(_) => Err(Error::new(Kind::AmbiguousFunction, format!("more than one function named \"{name}\""))),
            None => Ok(first),
        };
    };
    let wanted: Option<Vec<u32>> =
        if arguments.trim().is_empty() { Some(Vec::new()) } else { arguments.split(',').map(|a| types::by_name(a.trim()).map(|t| t.oid)).collect() };
    Ok(wanted.and_then(|wanted| candidates.find(|p| p.inputs().map(|a| a.ty).eq(wanted.iter().copied())).map(|p| p.oid)))
}

/// The OID that a name means; an error where nothing has that name.
pub fn resolve(view: &SystemView, kind: RegKind, name: &str) -> Result<u32> {
    let missing = || match kind {
        RegKind::Class => Error::new(Kind::UndefinedTable, format!("relation \"{name}\" does not exist")),
        RegKind::Proc | RegKind::Procedure => Error::new(Kind::UndefinedFunction, format!("function \"{name}\" does not exist")),
        RegKind::Type => Error::new(Kind::UndefinedObject, format!("type \"{name}\" does not exist")),
        RegKind::Namespace => Error::new(Kind::UndefinedSchema, format!("schema \"{name}\" does not exist")),
        RegKind::Role => Error::new(Kind::UndefinedObject, format!("role \"{name}\" does not exist")),
    };
    find(view, kind, name)?.ok_or_else(missing)
}

fn qualified(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) => format!("{}.{}", quote_identifier(schema), quote_identifier(name)),
        None => quote_identifier(name),
    }
}

/// The text of an OID of this kind: its name, or the number where nothing has that OID.
pub fn print(view: &SystemView, kind: RegKind, oid: u32) -> String {
    if oid == 0 {
        return "-".into();
    }
    let name = match kind {
        RegKind::Class => view.relation_name(oid).map(|(schema, name)| qualified((view.relation_visible(oid) != Some(true)).then_some(schema), name)),
        RegKind::Type => types::by_oid(oid).map(|_| types::format_type(oid, None)),
        RegKind::Namespace => view.schema_name(oid).map(quote_identifier),
        RegKind::Role => view.roles.iter().find(|r| r.oid == oid).map(|r| quote_identifier(&r.name)),
        RegKind::Proc => proc(view, oid).map(|p| qualified(hidden(view, p), &p.name)),
        RegKind::Procedure => proc(view, oid).map(|p| {
            let types: Vec<String> = p.inputs().map(|a| types::format_type(a.ty, None)).collect();
            format!("{}({})", qualified(hidden(view, p), &p.name), types.join(","))
        }),
    };
    name.unwrap_or_else(|| oid.to_string())
}

/// The schema of a function that an unqualified call does not find.
fn hidden<'a>(view: &'a SystemView, proc: &Proc) -> Option<&'a str> {
    view.schema_name(proc.schema).filter(|_| proc_visible(view, proc.oid) == Some(false))
}

/// The function of this OID.
pub fn proc(view: &SystemView, oid: u32) -> Option<&Proc> {
    view.procs.by_oid(oid)
}

/// Whether an unqualified call of this name can mean this function.
pub fn proc_visible(view: &SystemView, oid: u32) -> Option<bool> {
    let proc = proc(view, oid)?;
    Some(
        [oids::CATALOG_SCHEMA_OID, oids::OWN_SCHEMA_OID].contains(&proc.schema)
            || view.search_path(false).iter().any(|s| view.schema_oid(s) == Some(proc.schema)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_folded_and_unquoted() {
        assert_eq!(parts("Public.T").unwrap(), ["public", "t"]);
        assert_eq!(parts("\"A \"\"b\"\"\".\"c.d\"").unwrap(), ["A \"b\"", "c.d"]);
        assert!(parts("").is_err() && parts("a.").is_err() && parts("\"a").is_err() && parts("a b").is_err());
    }

    #[test]
    fn system_relations_resolve_without_their_schema() {
        let view = SystemView::default();
        assert_eq!(resolve(&view, RegKind::Class, "pg_class").unwrap(), 1259);
        assert_eq!(print(&view, RegKind::Class, 1259), "pg_class");
        assert_eq!(resolve(&view, RegKind::Class, "nothing").unwrap_err().kind, Kind::UndefinedTable);
        assert_eq!(resolve(&view, RegKind::Type, "double precision").unwrap(), 701);
        assert_eq!(print(&view, RegKind::Type, 1009), "text[]");
        assert_eq!(find(&view, RegKind::Class, "17").unwrap(), Some(17));
        assert_eq!(print(&view, RegKind::Class, 0), "-");
        let hidden = resolve(&view, RegKind::Class, "information_schema.columns").unwrap();
        assert_eq!(print(&view, RegKind::Class, hidden), "information_schema.columns");
    }
}
