//! Functions that describe objects: visibility, names of types, definitions, comments, reg* casts.
//!
//! In: OIDs or names. Out: text and flags. Invariant: an OID that names nothing gives NULL, as in PostgreSQL.
//! Deliberately absent: definitions of things that do not exist here (triggers, partitions): those give NULL.

use datafusion::logical_expr::Volatility::Stable;
use squilla_core::error::Result;
use squilla_core::types::RegKind;

use crate::postgres::function::{Context, Function, Overload};
use crate::postgres::names;
use crate::system::procs::{Mode, Proc, quote_identifier};
use crate::system::relation::Value;
use crate::system::types;
use crate::system::view::TableKind;
use crate::system::{classes, oids, procs};

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
    visible("pg_ts_config_is_visible", NOTHING),
    visible("pg_ts_dict_is_visible", NOTHING),
    visible("pg_ts_parser_is_visible", NOTHING),
    visible("pg_ts_template_is_visible", NOTHING),
];

fn with_proc(context: &Context<'_>, arguments: &[Value], print: impl Fn(&Proc) -> Value) -> Result<Value> {
    Ok(names::proc(context.view, oid(&arguments[0])).map_or(Value::Null, print))
}

fn function_definition(context: &Context<'_>, p: &Proc) -> String {
    let volatility = match p.volatility {
        "i" => " IMMUTABLE",
        "s" => " STABLE",
        _ => "",
    };
    let schema = context.view.schema_name(p.schema).unwrap_or(oids::CATALOG_SCHEMA);
    let language = if p.language == oids::LANGUAGE_SQUILLA_OID { "squilla" } else { "internal" };
    let strict = if p.strict { " STRICT" } else { "" };
    format!(
        "CREATE OR REPLACE FUNCTION {}.{}({})\n RETURNS {}\n LANGUAGE {language}\n{volatility} PARALLEL SAFE{strict}\nAS $function${}$function$\n",
        quote_identifier(schema),
        quote_identifier(&p.name),
        p.arguments_text(true),
        p.result_text(),
        p.source
    )
}

fn view_definition(context: &Context<'_>, relation: u32) -> Value {
    match context.view.table(relation).map(|t| &t.kind) {
        Some(TableKind::View { sql }) => format!(" {};", sql.trim().trim_end_matches(';')).into(),
        _ => Value::Null,
    }
}

fn rule_definition(context: &Context<'_>, rule: u32) -> Value {
    let table = context.view.tables.iter().find(|t| classes::rule_oid(t.oid) == rule);
    match table.map(|t| (t, &t.kind)) {
        Some((t, TableKind::View { sql })) => format!(
            "CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {}.{} DO INSTEAD  {};",
            quote_identifier(&t.schema),
            quote_identifier(&t.name),
            sql.trim_end_matches(';')
        )
        .into(),
        _ => Value::Null,
    }
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
        "text, oid" => "text" = |_, a| Ok(a[0].clone());
        "text, oid, boolean" => "text" = |_, a| Ok(a[0].clone());
    }
    "pg_get_function_arguments" Stable true "the arguments of a function, with defaults" { "oid" => "text" = |c, a| with_proc(c, a, |p| p.arguments_text(true).into()); }
    "pg_get_function_identity_arguments" Stable true "the arguments that tell an overload" { "oid" => "text" = |c, a| with_proc(c, a, |p| p.arguments_text(false).into()); }
    "pg_get_function_result" Stable true "what a function returns" { "oid" => "text" = |c, a| with_proc(c, a, |p| p.result_text().into()); }
    "pg_get_function_arg_default" Stable true "the default of one argument" { "oid, integer" => "text" = |c, a| with_proc(c, a, |p| {
        let at = if let Value::Int(n) = a[1] { usize::try_from(n - 1).unwrap_or(usize::MAX) } else { usize::MAX };
        p.arguments.iter().filter(|x| x.mode != Mode::Table).nth(at).and_then(|x| x.default.clone()).into()
    }); }
    "pg_get_function_sqlbody" Stable true "the body of a function in standard SQL; there is none" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_functiondef" Stable true "the statement that creates a function" { "oid" => "text" = |c, a| with_proc(c, a, |p| function_definition(c, p).into()); }
    "pg_get_viewdef" Stable true "the query of a view" {
        "oid" => "text" = |c, a| Ok(view_definition(c, oid(&a[0])));
        "oid, boolean" => "text" = |c, a| Ok(view_definition(c, oid(&a[0])));
        "oid, integer" => "text" = |c, a| Ok(view_definition(c, oid(&a[0])));
        "regclass" => "text" = |c, a| Ok(view_definition(c, object(c, RegKind::Class, &a[0])?));
        "regclass, boolean" => "text" = |c, a| Ok(view_definition(c, object(c, RegKind::Class, &a[0])?));
    }
    "pg_get_ruledef" Stable true "the statement that creates a rule" {
        "oid" => "text" = |c, a| Ok(rule_definition(c, oid(&a[0])));
        "oid, boolean" => "text" = |c, a| Ok(rule_definition(c, oid(&a[0])));
    }
    "pg_get_indexdef" Stable true "the statement that creates an index" {
        "oid" => "text" = |_, _| Ok(Value::Null);
        "oid, integer, boolean" => "text" = |_, _| Ok(Value::Null);
    }
    "pg_get_constraintdef" Stable true "a constraint as SQL" {
        "oid" => "text" = |_, _| Ok(Value::Null);
        "oid, boolean" => "text" = |_, _| Ok(Value::Null);
    }
    "pg_get_triggerdef" Stable true "the statement that creates a trigger" {
        "oid" => "text" = |_, _| Ok(Value::Null);
        "oid, boolean" => "text" = |_, _| Ok(Value::Null);
    }
    "pg_get_partkeydef" Stable true "the partition key of a table" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_partition_constraintdef" Stable true "the constraint of a partition" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_statisticsobjdef" Stable true "the statement that creates extended statistics" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_statisticsobjdef_columns" Stable true "the columns of extended statistics" { "oid" => "text" = |_, _| Ok(Value::Null); }
    "pg_get_serial_sequence" Stable true "the sequence behind a column" { "text, text" => "text" = |c, a| {
        names::resolve(c.view, RegKind::Class, text(a.first()))?;
        Ok(Value::Null)
    }; }
    "oidvectortypes" Stable true "the names of a list of types" { "oid[]" => "text" = |_, a| Ok(match &a[0] {
        Value::Ints(oids) => oids.iter().map(|o| types::format_type(u32::try_from(*o).unwrap_or(0), None)).collect::<Vec<_>>().join(", ").into(),
        _ => "".into(),
    }); }
    "pg_relation_is_publishable" Stable true "whether logical replication could publish a relation" { "regclass" => "boolean" = |c, a| {
        let relation = object(c, RegKind::Class, &a[0])?;
        Ok(c.view.table(relation).map(|t| t.kind == TableKind::Table).into())
    }; }
    "pg_relation_is_updatable" Stable true "which changes a relation takes" { "regclass, boolean" => "integer" = |c, a| {
        let relation = object(c, RegKind::Class, &a[0])?;
        Ok((if c.view.table(relation).is_some_and(|t| t.kind == TableKind::Table) { 28 } else { 0 }).into())
    }; }
    "pg_is_other_temp_schema" Stable true "whether a schema is another session's temporary one" { "oid" => "boolean" = |_, _| Ok(false.into()); }
    "pg_my_temp_schema" Stable true "the temporary schema of the session; 0 is none" { "" => "oid" = |_, _| Ok(0.into()); }
}

fn comment(context: &Context<'_>, object: u32, class: u32) -> Value {
    let view = context.view;
    let found = match class {
        oids::PG_CLASS => view
            .table(object)
            .and_then(|t| t.comment.clone())
            .or_else(|| classes::descriptions().find(|(o, _, _)| *o == object).map(|(_, _, text)| text.to_owned())),
        oids::PG_NAMESPACE => view.schemas.iter().find(|s| s.oid == object).and_then(|s| s.comment.clone()).or_else(|| system(view, object, class)),
        oids::PG_AUTHID => view.roles.iter().find(|r| r.oid == object).and_then(|r| r.comment.clone()),
        oids::PG_PROC => names::proc(view, object).map(|p| p.comment.clone()).filter(|text| !text.is_empty()),
        _ => system(view, object, class),
    };
    found.into()
}

fn system(view: &crate::system::view::SystemView, object: u32, class: u32) -> Option<String> {
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
    "to_regprocedure" Stable true "a function by name and types, or NULL" { "text" => "regproc" = |c, a| lookup(c, RegKind::Proc, &a[0]); }
    "to_regtype" Stable true "a type by its name, or NULL" { "text" => "regtype" = |c, a| lookup(c, RegKind::Type, &a[0]); }
    "to_regnamespace" Stable true "a schema by its name, or NULL" { "text" => "regnamespace" = |c, a| lookup(c, RegKind::Namespace, &a[0]); }
    "to_regrole" Stable true "a role by its name, or NULL" { "text" => "regrole" = |c, a| lookup(c, RegKind::Role, &a[0]); }
}
