//! Functions about the session and the server.
//!
//! In: the session part of the view, and the settings. Out: values. Invariant: `set_config` changes the session at once.
//! Deliberately absent: functions that wait or act on other sessions (`pg_sleep`, `pg_cancel_backend`): the session runs
//! those itself.

use squilla_core::error::{Error, Kind, Result};

use crate::postgres::catalog_functions::{functions, text};
use crate::postgres::function::Context;
use crate::session::advisory::{Key, Request};
use crate::system::relation::Value;
use crate::system::view::Action;

fn address(end: Option<&(String, u16)>) -> Value {
    end.map(|(address, _)| address.as_str()).into()
}

fn port(end: Option<&(String, u16)>) -> Value {
    end.map(|(_, port)| i32::from(*port)).into()
}

fn setting(context: &Context<'_>, name: &Value, missing_ok: bool) -> Result<Value> {
    match context.view.settings.show(text(Some(name))) {
        Ok(value) => Ok(value.into()),
        Err(error) if missing_ok && error.kind == Kind::UndefinedObject => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

fn encoding_name(id: i64) -> &'static str {
    match id {
        6 => "UTF8",
        0 => "SQL_ASCII",
        8 => "LATIN1",
        24 => "WIN1252",
        _ => "",
    }
}

fn encoding_id(name: &str) -> i64 {
    match name.to_uppercase().replace(['-', '_'], "").as_str() {
        "UTF8" | "UNICODE" => 6,
        "SQLASCII" => 0,
        "LATIN1" | "ISO88591" => 8,
        "WIN1252" => 24,
        _ => -1,
    }
}

fn version(context: &Context<'_>) -> String {
    let settings = &context.view.settings;
    format!(
        "PostgreSQL {} (squilla {}) on {}-{}, 64-bit",
        settings.get("server_version"),
        settings.get("squilla.version"),
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

enum Act {
    Wait,
    Try,
    Unlock,
}

/// The key of an advisory lock: one number or two.
fn key(arguments: &[Value], two: bool) -> Key {
    let number = |at: usize| match arguments.get(at) {
        Some(Value::Int(n)) => *n,
        _ => 0,
    };
    if two { Key::Two(number(0) as i32, number(1) as i32) } else { Key::One(number(0)) }
}

fn advisory(context: &Context<'_>, key: Key, act: Act, shared: bool, transaction: bool) -> Result<Value> {
    let request = Request { key, shared, transaction };
    let done = context.source.act(match act {
        Act::Wait => Action::Lock(request),
        Act::Try => Action::TryLock(request),
        Act::Unlock => Action::Unlock(request),
    })?;
    Ok(if matches!(act, Act::Wait) { Value::Null } else { done.into() })
}

functions! {
    /// The session, the server, the settings.
    SESSION:
    "version" Stable true "the server and its version" { "" => "text" = |c, _| Ok(version(c).into()); }
    "current_schema" Stable true "the schema that new objects go to" { "" => "name" = |c, _| Ok(c.view.search_path(false).into_iter().next().into()); }
    "current_schemas" Stable true "the schemas that are searched" { "boolean" => "name[]" = |c, a| Ok(c.view.search_path(a[0] == Value::Bool(true)).into()); }
    "current_database" Stable true "the database" { "" => "name" = |c, _| Ok((&c.view.session.database).into()); }
    "current_catalog" Stable true "the database" { "" => "name" = |c, _| Ok((&c.view.session.database).into()); }
    "current_user" Stable true "the role in force" { "" => "name" = |c, _| Ok((&c.view.session.current_user).into()); }
    "current_role" Stable true "the role in force" { "" => "name" = |c, _| Ok((&c.view.session.current_user).into()); }
    "user" Stable true "the role in force" { "" => "name" = |c, _| Ok((&c.view.session.current_user).into()); }
    "session_user" Stable true "who logged in" { "" => "name" = |c, _| Ok((&c.view.session.session_user).into()); }
    "pg_backend_pid" Stable true "the process id of the session" { "" => "integer" = |c, _| Ok(c.view.session.pid.into()); }
    "pg_is_in_recovery" Stable true "whether this is a standby; never" { "" => "boolean" = |_, _| Ok(false.into()); }
    "pg_postmaster_start_time" Stable true "when the server started" { "" => "timestamptz" = |c, _| Ok(c.view.session.server_start.into()); }
    "pg_conf_load_time" Stable true "when the settings were loaded" { "" => "timestamptz" = |c, _| Ok(c.view.session.config_load.into()); }
    "clock_timestamp" Volatile true "the time of the call" { "" => "timestamptz" = |_, _| Ok(chrono::Utc::now().timestamp_micros().into()); }
    "pg_jit_available" Stable true "whether queries are compiled; never" { "" => "boolean" = |_, _| Ok(false.into()); }
    "pg_trigger_depth" Stable true "nesting of triggers; there are none" { "" => "integer" = |_, _| Ok(0.into()); }
    "pg_blocking_pids" Stable true "sessions that block a session; none" { "integer" => "integer[]" = |_, _| Ok(Value::Ints(Vec::new())); }
    "txid_current" Stable true "the number of the transaction" { "" => "bigint" = |c, _| Ok(c.view.session.transaction.into()); }
    "pg_current_xact_id" Stable true "the number of the transaction" { "" => "bigint" = |c, _| Ok(c.view.session.transaction.into()); }
    "txid_current_if_assigned" Stable true "the number of the transaction, if it has one" { "" => "bigint" = |_, _| Ok(Value::Null); }
    "inet_client_addr" Stable true "the address of the client" { "" => "text" = |c, _| Ok(address(c.view.session.client.as_ref())); }
    "inet_client_port" Stable true "the port of the client" { "" => "integer" = |c, _| Ok(port(c.view.session.client.as_ref())); }
    "inet_server_addr" Stable true "the address of the server" { "" => "text" = |c, _| Ok(address(c.view.session.server.as_ref())); }
    "inet_server_port" Stable true "the port of the server" { "" => "integer" = |c, _| Ok(port(c.view.session.server.as_ref())); }
    "current_setting" Stable true "the value of a setting" {
        "text" => "text" = |c, a| setting(c, &a[0], false);
        "text, boolean" => "text" = |c, a| setting(c, &a[0], a[1] == Value::Bool(true));
    }
    "set_config" Volatile false "sets a setting" { "text, text, boolean" => "text" = |c, a| match &a[0] {
        Value::Text(name) => Ok(c.source.set_config(name, text(a.get(1)), a[2] == Value::Bool(true))?.into()),
        _ => Err(Error::new(Kind::InvalidArgument, "SET requires parameter name")),
    }; }
    "squilla_catalog_version" Stable true "a number that grows with every change of the catalog" { "" => "xid" = |c, _| Ok(c.view.session.catalog_version.into()); }
    "pg_client_encoding" Stable true "the encoding of the client" { "" => "name" = |c, _| Ok(c.view.settings.get("client_encoding").into()); }
    "getdatabaseencoding" Stable true "the encoding of the database" { "" => "name" = |_, _| Ok("UTF8".into()); }
    "pg_encoding_to_char" Stable true "the name of an encoding" { "integer" => "name" = |_, a| Ok(match &a[0] {
        Value::Int(id) => encoding_name(*id).into(),
        _ => Value::Null,
    }); }
    "pg_char_to_encoding" Stable true "the number of an encoding" { "name" => "integer" = |_, a| Ok(encoding_id(text(a.first())).into()); }
    "pg_encoding_max_length" Immutable true "the most bytes of a character" { "integer" => "integer" = |_, a| Ok((if a[0] == Value::Int(6) { 4 } else { 1 }).into()); }
    "pg_advisory_lock" Volatile true "takes an advisory lock until it is given back, waiting for it" { "bigint" => "void" = |c, a| advisory(c, key(a, false), Act::Wait, false, false); "integer, integer" => "void" = |c, a| advisory(c, key(a, true), Act::Wait, false, false); }
    "pg_try_advisory_lock" Volatile true "takes an advisory lock until it is given back, if nobody is in the way" { "bigint" => "boolean" = |c, a| advisory(c, key(a, false), Act::Try, false, false); "integer, integer" => "boolean" = |c, a| advisory(c, key(a, true), Act::Try, false, false); }
    "pg_advisory_lock_shared" Volatile true "shares an advisory lock until it is given back, waiting for it" { "bigint" => "void" = |c, a| advisory(c, key(a, false), Act::Wait, true, false); "integer, integer" => "void" = |c, a| advisory(c, key(a, true), Act::Wait, true, false); }
    "pg_try_advisory_lock_shared" Volatile true "shares an advisory lock until it is given back, if nobody is in the way" { "bigint" => "boolean" = |c, a| advisory(c, key(a, false), Act::Try, true, false); "integer, integer" => "boolean" = |c, a| advisory(c, key(a, true), Act::Try, true, false); }
    "pg_advisory_xact_lock" Volatile true "takes an advisory lock until the end of the transaction, waiting for it" { "bigint" => "void" = |c, a| advisory(c, key(a, false), Act::Wait, false, true); "integer, integer" => "void" = |c, a| advisory(c, key(a, true), Act::Wait, false, true); }
    "pg_try_advisory_xact_lock" Volatile true "takes an advisory lock until the end of the transaction, if nobody is in the way" { "bigint" => "boolean" = |c, a| advisory(c, key(a, false), Act::Try, false, true); "integer, integer" => "boolean" = |c, a| advisory(c, key(a, true), Act::Try, false, true); }
    "pg_advisory_xact_lock_shared" Volatile true "shares an advisory lock until the end of the transaction, waiting for it" { "bigint" => "void" = |c, a| advisory(c, key(a, false), Act::Wait, true, true); "integer, integer" => "void" = |c, a| advisory(c, key(a, true), Act::Wait, true, true); }
    "pg_try_advisory_xact_lock_shared" Volatile true "shares an advisory lock until the end of the transaction, if nobody is in the way" { "bigint" => "boolean" = |c, a| advisory(c, key(a, false), Act::Try, true, true); "integer, integer" => "boolean" = |c, a| advisory(c, key(a, true), Act::Try, true, true); }
    "pg_advisory_unlock" Volatile true "gives an advisory lock back" { "bigint" => "boolean" = |c, a| advisory(c, key(a, false), Act::Unlock, false, false); "integer, integer" => "boolean" = |c, a| advisory(c, key(a, true), Act::Unlock, false, false); }
    "pg_advisory_unlock_shared" Volatile true "gives an advisory lock back" { "bigint" => "boolean" = |c, a| advisory(c, key(a, false), Act::Unlock, true, false); "integer, integer" => "boolean" = |c, a| advisory(c, key(a, true), Act::Unlock, true, false); }
    "pg_advisory_unlock_all" Volatile true "gives all advisory locks of the session back" { "" => "void" = |c, _| { c.source.act(Action::UnlockAll)?; Ok(Value::Null) }; }
    "pg_notify" Volatile false "sends a notification at the commit" { "text, text" => "void" = |c, a| {
        c.source.act(Action::Notify(text(a.first()), text(a.get(1))))?;
        Ok(Value::Null)
    }; }
    "pg_notification_queue_usage" Volatile true "how full the queue of notifications is" { "" => "double precision" = |_, _| Ok(Value::Real(0.0)); }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_go_both_ways() {
        assert_eq!(encoding_id("utf-8"), 6);
        assert_eq!(encoding_name(encoding_id("LATIN1")), "LATIN1");
        assert_eq!((encoding_id("nothing"), encoding_name(99)), (-1, ""));
    }
}
