//! `has_*_privilege` and `pg_has_role`.
//!
//! In: a role, an object and a privilege. Out: whether the role has it. Invariant: the object, the role and the words are
//! checked; every role may then use every object, because the server enforces no grants yet. Deliberately absent: grants.

use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::RegKind;

use crate::postgres::catalog_functions::{functions, object, oid, text};
use crate::postgres::function::Context;
use crate::postgres::names;
use crate::system::information::is_member;
use crate::system::relation::Value;

const TABLE: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];
const COLUMN: &[&str] = &["SELECT", "INSERT", "UPDATE", "REFERENCES"];
const USAGE: &[&str] = &["USAGE"];
const SCHEMA: &[&str] = &["USAGE", "CREATE"];
const DATABASE: &[&str] = &["CREATE", "CONNECT", "TEMPORARY", "TEMP"];
const FUNCTION: &[&str] = &["EXECUTE"];
const SEQUENCE: &[&str] = &["USAGE", "SELECT", "UPDATE"];
const PARAMETER: &[&str] = &["SET", "ALTER SYSTEM"];
const TABLESPACE: &[&str] = &["CREATE"];

/// Checks the last argument: a comma-separated list of privileges, each perhaps WITH GRANT OPTION.
fn words(arguments: &[Value], known: &[&str]) -> Result<()> {
    for word in text(arguments.last()).split(',') {
        let upper = word.trim().to_uppercase();
        let bare = upper.strip_suffix(" WITH GRANT OPTION").unwrap_or(&upper);
        if !known.contains(&bare) {
            return Err(Error::invalid_argument(format!("unrecognized privilege type: \"{}\"", word.trim())));
        }
    }
    Ok(())
}

fn role(context: &Context<'_>, value: &Value) -> Result<()> {
    match value {
        Value::Text(name) if name != "public" => names::resolve(context.view, RegKind::Role, name).map(|_| ()),
        _ => Ok(()),
    }
}

/// The object is the last argument but one, the role, if given, the one before; a column stands in between.
fn relation(context: &Context<'_>, arguments: &[Value], known: &[&str], columns: usize) -> Result<Value> {
    words(arguments, known)?;
    let at = arguments.len().saturating_sub(2 + columns);
    if at > 0 {
        role(context, &arguments[0])?;
    }
    let table = object(context, RegKind::Class, &arguments[at])?;
    if context.view.relation_name(table).is_none() {
        return Ok(Value::Null);
    }
    if columns > 0
        && let (Value::Text(column), Some(info)) = (&arguments[at + 1], context.view.table(table))
        && !info.columns.iter().any(|c| c.name == *column)
    {
        return Err(Error::new(Kind::UndefinedColumn, format!("column \"{column}\" of relation \"{}\" does not exist", info.name)));
    }
    Ok(true.into())
}

fn named(context: &Context<'_>, arguments: &[Value], known: &[&str], kind: RegKind) -> Result<Value> {
    words(arguments, known)?;
    if arguments.len() > 2 {
        role(context, &arguments[0])?;
    }
    object(context, kind, &arguments[arguments.len().saturating_sub(2)])?;
    Ok(true.into())
}

fn database(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    words(arguments, DATABASE)?;
    match &arguments[arguments.len().saturating_sub(2)] {
        Value::Text(name) if *name != context.view.session.database => {
            Err(Error::new(Kind::UndefinedDatabase, format!("database \"{name}\" does not exist")))
        }
        _ => Ok(true.into()),
    }
}

fn any(arguments: &[Value], known: &[&str]) -> Result<Value> {
    words(arguments, known)?;
    Ok(true.into())
}

fn member(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    words(arguments, &["USAGE", "MEMBER", "SET"])?;
    let wanted = object(context, RegKind::Role, &arguments[arguments.len().saturating_sub(2)])?;
    let wanted_name = context.view.roles.iter().find(|r| r.oid == wanted).map(|r| r.name.as_str());
    let Some(wanted_name) = wanted_name else { return Ok(Value::Null) };
    if arguments.len() < 3 {
        return Ok(is_member(context.view, wanted_name).into());
    }
    let who = object(context, RegKind::Role, &arguments[0])?;
    let holder = context.view.roles.iter().find(|r| r.oid == who);
    Ok(holder.map(|r| r.superuser || r.oid == wanted || r.member_of.iter().any(|m| m == wanted_name)).into())
}

functions! {
    /// Privileges.
    PRIVILEGES:
    "has_table_privilege" Stable true "whether a role may use a relation" {
        "regclass, text" => "boolean" = |c, a| relation(c, a, TABLE, 0);
        "regrole, regclass, text" => "boolean" = |c, a| relation(c, a, TABLE, 0);
    }
    "has_any_column_privilege" Stable true "whether a role may use any column of a relation" {
        "regclass, text" => "boolean" = |c, a| relation(c, a, COLUMN, 0);
        "regrole, regclass, text" => "boolean" = |c, a| relation(c, a, COLUMN, 0);
    }
    "has_column_privilege" Stable true "whether a role may use a column" {
        "regclass, text, text" => "boolean" = |c, a| relation(c, a, COLUMN, 1);
        "regclass, smallint, text" => "boolean" = |c, a| relation(c, a, COLUMN, 1);
        "regrole, regclass, text, text" => "boolean" = |c, a| relation(c, a, COLUMN, 1);
        "regrole, regclass, smallint, text" => "boolean" = |c, a| relation(c, a, COLUMN, 1);
    }
    "has_sequence_privilege" Stable true "whether a role may use a sequence" {
        "regclass, text" => "boolean" = |c, a| relation(c, a, SEQUENCE, 0);
        "regrole, regclass, text" => "boolean" = |c, a| relation(c, a, SEQUENCE, 0);
    }
    "has_schema_privilege" Stable true "whether a role may use a schema" {
        "regnamespace, text" => "boolean" = |c, a| named(c, a, SCHEMA, RegKind::Namespace);
        "regrole, regnamespace, text" => "boolean" = |c, a| named(c, a, SCHEMA, RegKind::Namespace);
    }
    "has_type_privilege" Stable true "whether a role may use a type" {
        "regtype, text" => "boolean" = |c, a| named(c, a, USAGE, RegKind::Type);
        "regrole, regtype, text" => "boolean" = |c, a| named(c, a, USAGE, RegKind::Type);
    }
    "has_function_privilege" Stable true "whether a role may call a function" {
        "regproc, text" => "boolean" = |c, a| named(c, a, FUNCTION, RegKind::Proc);
        "regrole, regproc, text" => "boolean" = |c, a| named(c, a, FUNCTION, RegKind::Proc);
    }
    "has_database_privilege" Stable true "whether a role may use a database" {
        "name, text" => "boolean" = |c, a| database(c, a);
        "oid, text" => "boolean" = |c, a| database(c, a);
        "regrole, name, text" => "boolean" = |c, a| database(c, a);
        "regrole, oid, text" => "boolean" = |c, a| database(c, a);
    }
    "has_language_privilege" Stable true "whether a role may use a language" { "text, text" => "boolean" = |_, a| any(a, USAGE); "regrole, text, text" => "boolean" = |_, a| any(a, USAGE); }
    "has_server_privilege" Stable true "whether a role may use a foreign server" { "text, text" => "boolean" = |_, a| any(a, USAGE); "regrole, text, text" => "boolean" = |_, a| any(a, USAGE); }
    "has_foreign_data_wrapper_privilege" Stable true "whether a role may use a foreign-data wrapper" { "text, text" => "boolean" = |_, a| any(a, USAGE); "regrole, text, text" => "boolean" = |_, a| any(a, USAGE); }
    "has_tablespace_privilege" Stable true "whether a role may use a tablespace" { "text, text" => "boolean" = |_, a| any(a, TABLESPACE); "regrole, text, text" => "boolean" = |_, a| any(a, TABLESPACE); }
    "has_parameter_privilege" Stable true "whether a role may set a parameter" { "text, text" => "boolean" = |_, a| any(a, PARAMETER); "regrole, text, text" => "boolean" = |_, a| any(a, PARAMETER); }
    "pg_has_role" Stable true "whether a role is a member of another" {
        "regrole, text" => "boolean" = |c, a| member(c, a);
        "regrole, regrole, text" => "boolean" = |c, a| member(c, a);
    }
    "row_security_active" Stable true "whether row security applies; there is none" { "regclass" => "boolean" = |c, a| { object(c, RegKind::Class, &a[0])?; Ok(false.into()) }; }
    "pg_column_is_updatable" Stable true "whether a column can be changed" { "regclass, smallint, boolean" => "boolean" = |c, a| {
        let table = object(c, RegKind::Class, &a[0])?;
        Ok(c.view.table(table).is_some_and(|t| t.is_table() && oid(&a[1]) as usize <= t.columns.len()).into())
    }; }
}
