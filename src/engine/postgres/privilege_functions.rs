//! `has_*_privilege` and `pg_has_role`.
//!
//! In: a role, an object and a privilege. Out: whether the role has it. Invariant: they say what `privileges` enforces.
//! Deliberately absent: privileges of columns; a column is as its table.

use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::RegKind;

use crate::catalog::data::SUPERUSER;
use crate::catalog::roles::{EVERYBODY, Object};
use crate::postgres::catalog_functions::{functions, object, oid, text};
use crate::postgres::function::Context;
use crate::system::acl;
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

/// The last argument: a comma-separated list of privileges, each perhaps WITH GRANT OPTION.
fn words(arguments: &[Value], known: &[&str]) -> Result<Vec<(String, bool)>> {
    text(arguments.last())
        .split(',')
        .map(|word| {
            let upper = word.trim().to_uppercase();
            let (bare, grantable) = upper.strip_suffix(" WITH GRANT OPTION").map_or((upper.as_str(), false), |bare| (bare, true));
            if !known.contains(&bare) {
                return Err(Error::invalid_argument(format!("unrecognized privilege type: \"{}\"", word.trim())));
            }
            Ok((if bare == "TEMP" { "TEMPORARY".to_owned() } else { bare.to_owned() }, grantable))
        })
        .collect()
}

/// The role that is asked about; without one, the current role.
fn role(context: &Context<'_>, value: Option<&Value>) -> Result<String> {
    let view = context.view;
    match value {
        None => Ok(view.session.current_user.clone()),
        Some(Value::Text(name)) if name == EVERYBODY => Ok(name.clone()),
        Some(value) => {
            let wanted = object(context, RegKind::Role, value)?;
            Ok(view.roles.iter().find(|r| r.oid == wanted).map_or_else(String::new, |r| r.name.clone()))
        }
    }
}

/// Whether the role has any of the privileges.
fn has(context: &Context<'_>, role: &str, wanted: &[(String, bool)], on: &Object, owner: &str) -> Value {
    let catalog = &context.view.catalog;
    wanted.iter().any(|(privilege, grantable)| catalog.may(role, on, owner, privilege, *grantable)).into()
}

/// The object is the last argument but one, the role, if given, the one before; a column stands in between.
fn relation(context: &Context<'_>, arguments: &[Value], known: &[&str], columns: usize) -> Result<Value> {
    let wanted = words(arguments, known)?;
    let at = arguments.len().saturating_sub(2 + columns);
    let role = role(context, arguments.first().filter(|_| at > 0))?;
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
    Ok(match context.view.table(table) {
        Some(info) => has(context, &role, &wanted, &Object::Relation(table), &info.owner),
        // Relations of the system: everybody reads, superusers do what can be done.
        None => (context.view.catalog.is_superuser(&role) || wanted.iter().any(|(p, grantable)| p == "SELECT" && !grantable)).into(),
    })
}

/// An object of one argument, with the role before it.
fn on(context: &Context<'_>, arguments: &[Value], known: &[&str], kind: RegKind, find: impl Fn(u32) -> Option<(Object, String)>) -> Result<Value> {
    let wanted = words(arguments, known)?;
    let role = role(context, arguments.first().filter(|_| arguments.len() > 2))?;
    let oid = object(context, kind, &arguments[arguments.len().saturating_sub(2)])?;
    Ok(match find(oid) {
        Some((object, owner)) => has(context, &role, &wanted, &object, &owner),
        None => (context.view.catalog.is_superuser(&role) || wanted.iter().any(|(p, grantable)| p == "USAGE" && !grantable)).into(),
    })
}

fn schema(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    on(context, arguments, SCHEMA, RegKind::Namespace, |oid| {
        context.view.schemas.iter().find(|s| s.oid == oid).map(|s| (Object::Schema(oid), s.owner.clone()))
    })
}

fn function(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    on(context, arguments, FUNCTION, RegKind::Proc, |oid| {
        let proc = context.view.procs.iter().find(|p| p.oid == oid);
        Some((Object::Function(proc.map_or_else(String::new, |p| p.name.clone())), SUPERUSER.to_owned()))
    })
}

/// Types belong to everybody.
fn ty(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    on(context, arguments, USAGE, RegKind::Type, |_| None)
}

fn database(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    let wanted = words(arguments, DATABASE)?;
    let role = role(context, arguments.first().filter(|_| arguments.len() > 2))?;
    match &arguments[arguments.len().saturating_sub(2)] {
        Value::Text(name) if *name != context.view.session.database => {
            Err(Error::new(Kind::UndefinedDatabase, format!("database \"{name}\" does not exist")))
        }
        _ => Ok(has(context, &role, &wanted, &Object::Database, SUPERUSER)),
    }
}

fn any(arguments: &[Value], known: &[&str]) -> Result<Value> {
    words(arguments, known)?;
    Ok(true.into())
}

fn member(context: &Context<'_>, arguments: &[Value]) -> Result<Value> {
    let wanted_words = words(arguments, &["USAGE", "MEMBER", "SET"])?;
    let wanted = object(context, RegKind::Role, &arguments[arguments.len().saturating_sub(2)])?;
    let wanted_name = context.view.roles.iter().find(|r| r.oid == wanted).map(|r| r.name.as_str());
    let Some(wanted_name) = wanted_name else { return Ok(Value::Null) };
    if arguments.len() < 3 {
        return Ok(is_member(context.view, wanted_name).into());
    }
    let who = object(context, RegKind::Role, &arguments[0])?;
    let holder = context.view.roles.iter().find(|r| r.oid == who);
    let catalog = &context.view.catalog;
    // USAGE asks for privileges that hold at once, MEMBER for those that SET ROLE gives as well.
    let inherited = wanted_words.iter().all(|(w, _)| w == "USAGE");
    Ok(holder.map(|r| r.superuser || catalog.member_of(&r.name, inherited).contains(wanted_name)).into())
}

functions! {
    /// Privileges.
    PRIVILEGES:
    "acldefault" Immutable true "the privileges on an object that was granted nothing" {
        "\"char\", oid" => "text[]" = |c, a| {
            let owner = c.view.roles.iter().find(|r| r.oid == oid(&a[1])).map_or("unknown", |r| r.name.as_str());
            Ok(acl::defaults(text(a.first()), owner).into())
        };
    }
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
        "regnamespace, text" => "boolean" = schema;
        "regrole, regnamespace, text" => "boolean" = schema;
    }
    "has_type_privilege" Stable true "whether a role may use a type" {
        "regtype, text" => "boolean" = ty;
        "regrole, regtype, text" => "boolean" = ty;
    }
    "has_function_privilege" Stable true "whether a role may call a function" {
        "regproc, text" => "boolean" = function;
        "regrole, regproc, text" => "boolean" = function;
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
