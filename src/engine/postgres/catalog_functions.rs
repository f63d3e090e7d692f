//! Functions that describe objects: visibility, names of types, definitions, comments, reg* casts.
//!
//! In: OIDs or names. Out: text and flags. Invariant: an OID that names nothing gives NULL, as in PostgreSQL.
//! Deliberately absent: definitions of things that do not exist here (triggers, partitions): those give NULL.

use datafusion::logical_expr::Volatility::Stable;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::RegKind;

use crate::postgres::function::{Context, Function, Overload};
use crate::postgres::{definitions, deparse, names};
use crate::system::procs::{Mode, Proc, quote_identifier};
use crate::system::relation::Value;
use crate::system::{dependencies, oids, procs, types};

/// An argument as an OID, where it is an integer.
pub fn oid(value: &Value) -> u32 {
    match value {
        Value::Int(v) => u32::try_from(*v).unwrap_or(0),
        _ => 0,
    }
}

/// An argument as text; empty where it is none.
pub fn text(value: Option<&Value>) -> &str {
    match value {
        Some(Value::Text(v)) => v,
        _ => "",
    }
}

/// An OID given as a number or as a name.
pub fn object(context: &Context<'_>, kind: RegKind, value: &Value) -> Result<u32> {
    match value {
        Value::Text(name) => names::resolve(context.view, kind, name),
        other => Ok(oid(other)),
    }
}

macro_rules! functions {
    ($(#[$doc:meta])* $list:ident: $($name:literal $volatility:ident $strict:literal $comment:literal { $($arguments:literal => $returns:literal = $call:expr;)* })*) => {
        $(#[$doc])*
        pub static $list: &[$crate::postgres::function::Function] = &[$($crate::postgres::function::Function {
            name: $name, volatility: datafusion::logical_expr::Volatility::$volatility, strict: $strict, comment: $comment,
            overloads: &[$($crate::postgres::function::Overload { arguments: $arguments, returns: $returns, call: $call },)*],
        },)*];
    };
}
pub(crate) use functions;

const fn visible(name: &'static str, call: &'static [Overload]) -> Function {
    Function { name, volatility: Stable, strict: true, comment: "whether a name means this object without its schema", overloads: call }
}

const NOTHING: &[Overload] = &[Overload { arguments: "oid", returns: "boolean", call: |_, _| Ok(Value::Null) }];

/// All objects of the kind are in pg_catalog.
const ALWAYS: &[Overload] = &[Overload { arguments: "oid", returns: "boolean", call: |_, _| Ok(true.into()) }];

/// `pg_*_is_visible`.
pub static VISIBILITY: &[Function] = &[
    visible("pg_table_is_visible", &[Overload { arguments: "oid", returns: "boolean", call: |c, a| Ok(c.view.relation_visible(oid(&a[0])).into()) }]),
    visible(
        "pg_type_is_visible",
        &[Overload { arguments: "oid", returns: "boolean", call: |_, a| Ok(types::by_oid(oid(&a[0])).map(|_| true).into()) }],
    ),
    visible(
        "pg_function_is_visible",
        &[Overload { arguments: "oid", returns: "boolean", call: |c, a| Ok(names::proc_visible(c.view, oid(&a[0])).into()) }],
    ),
    visible("pg_operator_is_visible", &[Overload { arguments: "oid", returns: "boolean", call: |_, _| Ok(true.into()) }]),
    visible("pg_collation_is_visible", &[Overload { arguments: "oid", returns: "boolean", call: |_, _| Ok(true.into()) }]),
    visible("pg_opclass_is_visible", NOTHING),
    visible("pg_opfamily_is_visible", NOTHING),
    visible("pg_conversion_is_visible", NOTHING),
    visible("pg_statistics_obj_is_visible", NOTHING),
    visible("pg_ts_config_is_visible", ALWAYS),
    visible("pg_ts_dict_is_visible", ALWAYS),
    visible("pg_ts_parser_is_visible", ALWAYS),
    visible("pg_ts_template_is_visible", ALWAYS),
];

fn with_proc(context: &Context<'_>, arguments: &[Value], print: impl Fn(&Proc) -> Value) -> Result<Value> {
    Ok(names::proc(context.view, oid(&arguments[0])).map_or(Value::Null, print))
}

fn view_definition(context: &Context<'_>, relation: u32, pretty: bool) -> Value {
    context.view.table(relation).and_then(|t| t.query()).map(|sql| deparse::view(context.view, sql, pretty)).into()
}

fn rule_definition(context: &Context<'_>, rule: u32, pretty: bool) -> Value {
    let table = context.view.tables.iter().find(|t| dependencies::rule_oid(t.oid) == rule);
    table.and_then(|t| t.query().map(|sql| definitions::rule(context.view, t, sql, pretty))).into()
}

fn index_definition(context: &Context<'_>, index: u32, pretty: bool) -> Value {
    context.view.tables.index(index).map(|(t, i)| definitions::index(context.view, t, i, pretty)).into()
}

/// One column of an index; the whole of it where the number is 0.
fn index_part(context: &Context<'_>, arguments: &[Value]) -> Value {
    let pretty = arguments[2] == Value::Bool(true);
    let Value::Int(number) = arguments[1] else { return Value::Null };
    if number == 0 {
        return index_definition(context, oid(&arguments[0]), pretty);
    }
    let Some((t, i)) = context.view.tables.index(oid(&arguments[0])) else { return Value::Null };
    let column = usize::try_from(number).ok().and_then(|n| i.columns.get(n.checked_sub(1)?));
    column.map_or_else(String::new, |c| definitions::index_column(context.view, t, c)).into()
}

fn constraint_definition(context: &Context<'_>, constraint: u32, pretty: bool) -> Value {
    context.view.tables.constraint(constraint).map(|(t, c)| definitions::constraint(context.view, t, c, pretty)).into()
}

/// An expression that the catalog holds as SQL, over the columns of its relation.
fn expression(context: &Context<'_>, arguments: &[Value], pretty: bool) -> Value {
    let table = context.view.table(oid(&arguments[1]));
    deparse::expression(context.view, table, text(arguments.first()), None, pretty).into()
}

fn serial_sequence(context: &Context<'_>, table: &Value, column: &str) -> Result<Value> {
    let relation = object(context, RegKind::Class, table)?;
    let Some(t) = context.view.table(relation) else { return Ok(Value::Null) };
    let found = t.columns.iter().find(|c| c.name == column);
    let missing = || Error::new(Kind::UndefinedColumn, format!("column \"{column}\" of relation \"{}\" does not exist", t.name));
    let sequence = found.ok_or_else(missing)?.sequence.and_then(|s| context.view.table(s));
    Ok(sequence.map(|s| format!("{}.{}", quote_identifier(&s.schema), quote_identifier(&s.name))).into())
}

functions! {
    /// Definitions and names of types, functions and relations.
    DEFINITIONS:
    "format_type" Stable false "the SQL name of a type" { "oid, integer" => "text" = |_, a| match (&a[0], &a[1]) {
        (Value::Int(_), Value::Int(m)) => Ok(types::format_type(oid(&a[0]), i32::try_from(*m).ok()).into()),
        (Value::Int(_), _) => Ok(types::format_type(oid(&a[0]), None).into()),
        _ => Ok(Value::Null),
    }; }
    "pg_get_userbyid" Stable true "the name of a role" { "oid" => "name" = |c, a| {
        let role = oid(&a[0]);
        Ok(c.view.roles.iter().find(|r| r.oid == role).map_or_else(|| format!("unknown (OID={role})"), |r| r.name.clone()).into())
    }; }
    "pg_get_expr" Stable true "an expression of the catalog as SQL" {
        "text, oid" => "text" = |c, a| Ok(expression(c, a, false));
        "text, oid, boolean" => "text" = |c, a| Ok(expression(c, a, a[2] == Value::Bool(true)));
    }
    "pg_get_function_arguments" Stable true "the arguments of a function, with defaults" { "oid" => "text" = |c, a| with_proc(c, a, |p| p.arguments_text(true).into()); }
    "pg_get_function_identity_arguments" Stable true "the arguments that tell an overload" { "oid" => "text" = |c, a| with_proc(c, a, |p| p.arguments_text(false).into()); }
    "pg_get_function_result" Stable true "what a function returns" { "oid" => "text" = |c, a| with_proc(c, a, |p| p.result_text().into()); }
    "pg_get_function_arg_default" Stable true "the default of one argument" { "oid, integer" => "text" = |c, a| with_proc(c, a, |p| {
        let at = if let Value::Int(n) = a[1] { usize::try_from(n - 1).unwrap_or(usize::MAX) } else { usize::MAX };
        p.arguments.iter().filter(|x| x.mode != Mode::Table).nth(at).and_then(|x| x.default.clone()).into()
    }); }
    "pg_get_function_sqlbody" Stable true "the body of a function in standard SQL; there is none" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_functiondef" Stable true "the statement that creates a function" { "oid" => "text" = |c, a| with_proc(c, a, |p| definitions::function(c.view, p).into()); }
    "pg_get_viewdef" Stable true "the query of a view" {
        "oid" => "text" = |c, a| Ok(view_definition(c, oid(&a[0]), false));
        "oid, boolean" => "text" = |c, a| Ok(view_definition(c, oid(&a[0]), a[1] == Value::Bool(true)));
        "oid, integer" => "text" = |c, a| Ok(view_definition(c, oid(&a[0]), true));
        "regclass" => "text" = |c, a| Ok(view_definition(c, object(c, RegKind::Class, &a[0])?, false));
        "regclass, boolean" => "text" = |c, a| Ok(view_definition(c, object(c, RegKind::Class, &a[0])?, a[1] == Value::Bool(true)));
    }
    "pg_get_ruledef" Stable true "the statement that creates a rule" {
        "oid" => "text" = |c, a| Ok(rule_definition(c, oid(&a[0]), false));
        "oid, boolean" => "text" = |c, a| Ok(rule_definition(c, oid(&a[0]), a[1] == Value::Bool(true)));
    }
    "pg_get_indexdef" Stable true "the statement that creates an index" {
        "oid" => "text" = |c, a| Ok(index_definition(c, oid(&a[0]), false));
        "oid, integer, boolean" => "text" = |c, a| Ok(index_part(c, a));
    }
    "pg_get_constraintdef" Stable true "a constraint as SQL" {
        "oid" => "text" = |c, a| Ok(constraint_definition(c, oid(&a[0]), false));
        "oid, boolean" => "text" = |c, a| Ok(constraint_definition(c, oid(&a[0]), a[1] == Value::Bool(true)));
    }
    "pg_get_triggerdef" Stable true "the statement that creates a trigger" {
        "oid" => "text" = |_, _| Ok(Value::Null);
        "oid, boolean" => "text" = |_, _| Ok(Value::Null);
    }
    "pg_get_partkeydef" Stable true "the partition key of a table" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_partition_constraintdef" Stable true "the constraint of a partition" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_statisticsobjdef" Stable true "the statement that creates extended statistics" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_statisticsobjdef_columns" Stable true "the columns of extended statistics" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_serial_sequence" Stable true "the sequence behind a column" { "text, text" => "text" = |c, a| serial_sequence(c, &a[0], text(a.get(1))); }
    "oidvectortypes" Stable true "the names of a list of types" { "oidvector" => "text" = |_, a| Ok(match &a[0] {
        Value::Ints(oids) => oids.iter().map(|o| types::format_type(u32::try_from(*o).unwrap_or(0), None)).collect::<Vec<_>>().join(", ").into(),
        _ => "".into(),
    }); }
    "pg_relation_is_publishable" Stable true "whether logical replication could publish a relation" { "regclass" => "boolean" = |c, a| {
        let relation = object(c, RegKind::Class, &a[0])?;
        Ok(c.view.table(relation).map(|t| t.is_table()).into())
    }; }
    "pg_relation_is_updatable" Stable true "which changes a relation takes" { "regclass, boolean" => "integer" = |c, a| {
        let relation = object(c, RegKind::Class, &a[0])?;
        Ok((if c.view.table(relation).is_some_and(|t| t.is_table()) { 28 } else { 0 }).into())
    }; }
    "parse_ident" Immutable true "the parts of a dotted name" {
        "text" => "text[]" = |_, a| Ok(names::parts(text(a.first()))?.into());
        "text, boolean" => "text[]" = |_, a| Ok(names::parts(text(a.first()))?.into());
    }
    "pg_stat_get_numscans" Stable true "scans of a table since the server started" { "oid" => "bigint" = |c, a| Ok(c.view.live.counters(oid(&a[0])).map(|n| n.scans).into()); }
    "pg_stat_get_live_tuples" Stable true "rows of a table" { "oid" => "bigint" = |c, a| Ok(c.view.table(oid(&a[0])).and_then(|t| t.rows).into()); }
    "pg_stat_get_dead_tuples" Stable true "rows of a table that are deleted and not yet removed; there are none" { "oid" => "bigint" = |c, a| Ok(c.view.table(oid(&a[0])).map(|_| 0).into()); }
    "pg_is_other_temp_schema" Stable true "whether a schema is another session's temporary one" { "oid" => "boolean" = |_, _| Ok(false.into()); }
    "pg_my_temp_schema" Stable true "the temporary schema of the session; 0 is none" { "" => "oid" = |_, _| Ok(0.into()); }
}

fn comment(context: &Context<'_>, object: u32, class: u32) -> Value {
    let view = context.view;
    let kept = |key: String| view.comments.get(&key).filter(|text| !text.is_empty()).cloned();
    let found = match class {
        oids::PG_CLASS => match view.tables.by_oid(object) {
            Some(t) => t.comment.clone(),
            None => view.tables.index(object).and_then(|(_, i)| i.comment.clone()).or_else(|| system(view, object, class)),
        },
        oids::PG_CONSTRAINT => view.tables.constraint(object).and_then(|(_, c)| c.comment.clone()),
        oids::PG_NAMESPACE => view.schemas.iter().find(|s| s.oid == object).and_then(|s| s.comment.clone()).or_else(|| system(view, object, class)),
        oids::PG_AUTHID => view.roles.iter().find(|r| r.oid == object).and_then(|r| r.comment.clone()),
        oids::PG_DATABASE if object == oids::DATABASE_OID => kept(format!("database {}", view.session.database)),
        oids::PG_PROC => names::proc(view, object).map(|p| p.comment.clone()).filter(|text| !text.is_empty()),
        oids::PG_TYPE => types::by_oid(object).map(|t| t.comment.to_owned()).filter(|text| !text.is_empty()),
        _ => system(view, object, class),
    };
    found.into()
}

fn system(view: &crate::system::view::SystemView, object: u32, class: u32) -> Option<String> {
    // Classes without system comments are not looked for among those of thousands of functions.
    if ![oids::PG_CLASS, oids::PG_NAMESPACE, oids::PG_OPERATOR].contains(&class) || view.tables.by_oid(object).is_some() {
        return None;
    }
    procs::descriptions(view).into_iter().find(|(o, c, _)| *o == object && *c == class).map(|(_, _, text)| text.to_owned())
}

fn class_oid(name: &str) -> u32 {
    crate::system::shapes::find(oids::CATALOG_SCHEMA, name).map_or(0, |s| s.oid)
}

functions! {
    /// Comments.
    COMMENTS:
    "obj_description" Stable true "the comment of an object" {
        "oid, name" => "text" = |c, a| Ok(comment(c, oid(&a[0]), class_oid(text(a.get(1)))));
        "oid" => "text" = |c, a| Ok([oids::PG_CLASS, oids::PG_PROC, oids::PG_TYPE, oids::PG_NAMESPACE].iter().map(|class| comment(c, oid(&a[0]), *class)).find(|v| *v != Value::Null).unwrap_or(Value::Null));
    }
    "shobj_description" Stable true "the comment of a role or database" { "oid, name" => "text" = |c, a| Ok(comment(c, oid(&a[0]), class_oid(text(a.get(1))))); }
    "col_description" Stable true "the comment of a column" { "oid, integer" => "text" = |c, a| {
        let Value::Int(number) = a[1] else { return Ok(Value::Null) };
        let column = c.view.table(oid(&a[0])).and_then(|t| t.columns.get(usize::try_from(number - 1).ok()?));
        Ok(column.and_then(|column| column.comment.clone()).into())
    }; }
}

fn cast(context: &Context<'_>, kind: RegKind, value: &Value) -> Result<Value> {
    Ok(object(context, kind, value)?.into())
}

fn lookup(context: &Context<'_>, kind: RegKind, value: &Value) -> Result<Value> {
    Ok(names::find(context.view, kind, text(Some(value)))?.into())
}

fn printed(context: &Context<'_>, kind: RegKind, value: &Value) -> Result<Value> {
    Ok(names::print(context.view, kind, oid(value)).into())
}

functions! {
    /// Casts to and from the reg* types, and `to_reg*`.
    REG:
    "regclass" Stable true "a relation by its name" { "regclass" => "regclass" = |c, a| cast(c, RegKind::Class, &a[0]); }
    "regproc" Stable true "a function by its name" { "regproc" => "regproc" = |c, a| cast(c, RegKind::Proc, &a[0]); }
    "regprocedure" Stable true "a function by its name and types" { "regprocedure" => "regprocedure" = |c, a| cast(c, RegKind::Procedure, &a[0]); }
    "regprocedure_text" Stable true "the name of a function with its types" { "oid" => "text" = |c, a| printed(c, RegKind::Procedure, &a[0]); }
    "regtype" Stable true "a type by its name" { "regtype" => "regtype" = |c, a| cast(c, RegKind::Type, &a[0]); }
    "regnamespace" Stable true "a schema by its name" { "regnamespace" => "regnamespace" = |c, a| cast(c, RegKind::Namespace, &a[0]); }
    "regrole" Stable true "a role by its name" { "regrole" => "regrole" = |c, a| cast(c, RegKind::Role, &a[0]); }
    "regclass_text" Stable true "the name of a relation" { "oid" => "text" = |c, a| printed(c, RegKind::Class, &a[0]); }
    "regproc_text" Stable true "the name of a function" { "oid" => "text" = |c, a| printed(c, RegKind::Proc, &a[0]); }
    "regtype_text" Stable true "the name of a type" { "oid" => "text" = |c, a| printed(c, RegKind::Type, &a[0]); }
    "regnamespace_text" Stable true "the name of a schema" { "oid" => "text" = |c, a| printed(c, RegKind::Namespace, &a[0]); }
    "regrole_text" Stable true "the name of a role" { "oid" => "text" = |c, a| printed(c, RegKind::Role, &a[0]); }
    "to_regclass" Stable true "a relation by its name, or NULL" { "text" => "regclass" = |c, a| lookup(c, RegKind::Class, &a[0]); }
    "to_regproc" Stable true "a function by its name, or NULL" { "text" => "regproc" = |c, a| lookup(c, RegKind::Proc, &a[0]); }
    "to_regprocedure" Stable true "a function by name and types, or NULL" { "text" => "regprocedure" = |c, a| lookup(c, RegKind::Procedure, &a[0]); }
    "to_regtype" Stable true "a type by its name, or NULL" { "text" => "regtype" = |c, a| lookup(c, RegKind::Type, &a[0]); }
    "to_regnamespace" Stable true "a schema by its name, or NULL" { "text" => "regnamespace" = |c, a| lookup(c, RegKind::Namespace, &a[0]); }
    "to_regrole" Stable true "a role by its name, or NULL" { "text" => "regrole" = |c, a| lookup(c, RegKind::Role, &a[0]); }
}
