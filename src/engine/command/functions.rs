//! CREATE FUNCTION, DROP FUNCTION: functions written in SQL.
//!
//! In: the statement. Out: an entry of the catalog. Invariant: a body that is stored was planned once with the declared
//! types, so a call fails on its rows, not on its syntax. Deliberately absent: other languages, procedures, triggers,
//! VARIADIC and OUT arguments.

use std::sync::Arc;

use sqlparser::ast::{
    ArgMode, CreateFunction, CreateFunctionBody, DataType, DropFunction, Expr, FunctionBehavior, FunctionCalledOnNull, FunctionDesc,
    FunctionParallel, FunctionReturnType, OperateFunctionArg,
};
use sqlparser::parser::Parser;
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::CatalogData;
use crate::catalog::functions::{FunctionArgument, FunctionEntry, FunctionResult, no_function, type_text};
use crate::command::comments::function;
use crate::command::{create, done};
use crate::session::{Execution, Notice, Session};
use crate::statement::{Parsed, accept, expect, ident_text, name_parts, name_text};

/// CREATE [OR REPLACE] FUNCTION
pub async fn create(session: &Arc<Session>, statement: &CreateFunction) -> Result<Execution> {
    let (schema, name) = create::place(session, &statement.name, false)?;
    let entry = entry(session, statement, name)?;
    if session.database.functions.get(&entry.name).is_some() {
        return Err(Error::new(Kind::DuplicateFunction, format!("function \"{}\" is built in", entry.name)).hint("Choose another name."));
    }
    session.check_function(&entry).await?;
    let replace = statement.or_replace;
    session.edit(move |data| {
        let oid = data.allocate_oid()?;
        let signature = entry.signature();
        let functions = functions_mut(data, &schema)?;
        match functions.get(&signature) {
            Some(_) if !replace => {
                Err(Error::new(Kind::DuplicateFunction, format!("function \"{}\" already exists with same argument types", entry.name)))
            }
            Some(old) if old.returns != entry.returns => {
                Err(Error::new(Kind::InvalidFunctionDefinition, "cannot change return type of existing function")
                    .hint(format!("Use DROP FUNCTION {signature} first.")))
            }
            old => {
                // A replaced function keeps its identity.
                let (oid, owner, comment) = old.map_or((oid, entry.owner.clone(), None), |o| (o.oid, o.owner.clone(), o.comment.clone()));
                functions.insert(signature, FunctionEntry { oid, owner, comment, ..entry });
                Ok(())
            }
        }
    })?;
    done("CREATE FUNCTION")
}

/// The functions of a schema, for changing them.
pub fn functions_mut<'a>(data: &'a mut CatalogData, schema: &str) -> Result<&'a mut std::collections::BTreeMap<String, FunctionEntry>> {
    let missing = || Error::new(Kind::UndefinedSchema, format!("schema \"{schema}\" does not exist"));
    data.schemas.get_mut(schema).map(|s| &mut Arc::make_mut(s).functions).ok_or_else(missing)
}

fn argument(arg: &OperateFunctionArg) -> Result<FunctionArgument> {
    if !matches!(arg.mode, None | Some(ArgMode::In)) {
        return Err(Error::unsupported("OUT and INOUT arguments are not supported").hint("Use RETURNS TABLE."));
    }
    Ok(FunctionArgument {
        name: arg.name.as_ref().map(ident_text).unwrap_or_default(),
        ty: type_text(&arg.data_type.to_string())?,
        default: arg.default_expr.as_ref().map(Expr::to_string),
    })
}

fn result(create: &CreateFunction) -> Result<FunctionResult> {
    let ty = match &create.return_type {
        Some(FunctionReturnType::DataType(DataType::Table(columns))) => {
            let column = |c: &sqlparser::ast::ColumnDef| Ok((ident_text(&c.name), type_text(&c.data_type.to_string())?));
            return Ok(FunctionResult::Table(columns.iter().flatten().map(column).collect::<Result<_>>()?));
        }
        Some(FunctionReturnType::SetOf(ty)) => return Ok(FunctionResult::Set(type_text(&ty.to_string())?)),
        Some(FunctionReturnType::DataType(ty)) => ty.to_string(),
        None => return Err(Error::new(Kind::InvalidFunctionDefinition, "function result type must be specified")),
    };
    match ty.to_lowercase().as_str() {
        "trigger" | "event_trigger" => Err(Error::unsupported("trigger functions are not supported")),
        _ => Ok(FunctionResult::Value(type_text(&ty)?)),
    }
}

fn body(create: &CreateFunction) -> Result<String> {
    let text = |expr: &Expr| match expr {
        Expr::Value(v) => v.value.clone().into_string(),
        _ => None,
    };
    match &create.function_body {
        Some(CreateFunctionBody::AsBeforeOptions { body, .. } | CreateFunctionBody::AsAfterOptions(body)) => {
            text(body).ok_or_else(|| Error::new(Kind::Syntax, "the body of a function must be a string"))
        }
        Some(CreateFunctionBody::Return(expr) | CreateFunctionBody::AsReturnExpr(expr)) => Ok(format!("SELECT {expr}")),
        Some(_) => Err(Error::unsupported("this form of function body is not supported").hint("Write AS $$ SELECT ... $$.")),
        None => Err(Error::new(Kind::InvalidFunctionDefinition, "no function body specified")),
    }
}

fn entry(session: &Arc<Session>, create: &CreateFunction, name: String) -> Result<FunctionEntry> {
    let language = create.language.as_ref().map_or_else(|| "sql".to_owned(), ident_text);
    if language != "sql" {
        return Err(Error::new(Kind::UndefinedObject, format!("language \"{language}\" does not exist")).hint("Functions are written in SQL here."));
    }
    let arguments = create.args.iter().flatten().map(argument).collect::<Result<Vec<_>>>()?;
    if let Some(at) = arguments.iter().position(|a| a.default.is_some())
        && arguments.iter().skip(at).any(|a| a.default.is_none())
    {
        return Err(Error::new(Kind::InvalidFunctionDefinition, "input parameters after one with a default value must also have defaults"));
    }
    Ok(FunctionEntry {
        oid: 0,
        name,
        owner: session.role(),
        arguments,
        returns: result(create)?,
        volatility: match create.behavior {
            Some(FunctionBehavior::Immutable) => 'i',
            Some(FunctionBehavior::Stable) => 's',
            _ => 'v',
        },
        strict: matches!(create.called_on_null, Some(FunctionCalledOnNull::Strict | FunctionCalledOnNull::ReturnsNullOnNullInput)),
        parallel: match create.parallel {
            Some(FunctionParallel::Safe) => 's',
            Some(FunctionParallel::Restricted) => 'r',
            _ => 'u',
        },
        body: body(create)?,
        comment: None,
    })
}

/// The schema and signature of the one function that a name, and types where they are given, mean.
pub fn find(session: &Arc<Session>, what: &FunctionDesc) -> Result<(String, String)> {
    let data = session.snapshot();
    let parts = name_parts(&what.name);
    let path = session.search_path(&data);
    let (schemas, name) = match parts.as_slice() {
        [name] => (path, name.clone()),
        [.., schema, name] => (vec![schema.clone()], name.clone()),
        [] => return Err(Error::new(Kind::InvalidName, "improper name")),
    };
    let wanted = match &what.args {
        Some(args) => Some(args.iter().map(argument).collect::<Result<Vec<_>>>()?.into_iter().map(|a| a.ty).collect::<Vec<_>>()),
        None => None,
    };
    let shown = wanted.as_ref().map_or_else(|| name_text(&what.name), |types| format!("{}({})", name_text(&what.name), types.join(", ")));
    for schema in schemas {
        let Some(entry) = data.schemas.get(&schema) else { continue };
        let mut fitting = entry
            .functions
            .iter()
            .filter(|(_, f)| f.name == name)
            .filter(|(_, f)| wanted.as_ref().is_none_or(|types| f.arguments.iter().map(|a| &a.ty).eq(types.iter())));
        match (fitting.next(), fitting.next()) {
            (Some((signature, _)), None) => return Ok((schema.clone(), signature.clone())),
            (Some(_), Some(_)) => {
                return Err(Error::new(Kind::AmbiguousFunction, format!("function name \"{shown}\" is not unique"))
                    .hint("Specify the argument list to select the function unambiguously."));
            }
            _ => {}
        }
    }
    Err(match wanted {
        Some(_) => no_function(&shown),
        None => Error::new(Kind::UndefinedFunction, format!("could not find a function named \"{shown}\"")),
    })
}

/// DROP FUNCTION [IF EXISTS]
pub fn drop(session: &Arc<Session>, drop: &DropFunction) -> Result<Execution> {
    for what in &drop.func_desc {
        let (schema, signature) = match find(session, what) {
            Err(error) if drop.if_exists && error.kind == Kind::UndefinedFunction => {
                session.notify(Notice::plain(format!("function {} does not exist, skipping", name_text(&what.name))));
                continue;
            }
            other => other?,
        };
        session.edit(|data| {
            functions_mut(data, &schema)?.remove(&signature);
            Ok(())
        })?;
    }
    done("DROP FUNCTION")
}

/// ALTER FUNCTION name(types) action
#[derive(Clone, Debug)]
pub struct AlterFunction {
    /// Which one.
    pub function: FunctionDesc,
    /// What becomes of it.
    pub action: FunctionAction,
}

/// What ALTER FUNCTION does.
#[derive(Clone, Debug)]
pub enum FunctionAction {
    /// OWNER TO
    Owner(String),
    /// RENAME TO
    Rename(String),
    /// SET SCHEMA
    Schema(String),
}

/// Parses from ALTER on.
pub fn parse_alter(parser: &mut Parser) -> Parsed<AlterFunction> {
    expect(parser, "ALTER")?;
    expect(parser, "FUNCTION")?;
    let function = function(parser)?;
    let action = if accept(parser, "OWNER") {
        expect(parser, "TO")?;
        FunctionAction::Owner(ident_text(&parser.parse_identifier()?))
    } else if accept(parser, "RENAME") {
        expect(parser, "TO")?;
        FunctionAction::Rename(ident_text(&parser.parse_identifier()?))
    } else {
        expect(parser, "SET")?;
        expect(parser, "SCHEMA")?;
        FunctionAction::Schema(ident_text(&parser.parse_identifier()?))
    };
    Ok(AlterFunction { function, action })
}

/// ALTER FUNCTION
pub fn alter(session: &Arc<Session>, alter: &AlterFunction) -> Result<Execution> {
    let (schema, signature) = find(session, &alter.function)?;
    session.edit(|data| {
        if let FunctionAction::Owner(role) = &alter.action
            && !data.roles.contains_key(role)
        {
            return Err(Error::new(Kind::UndefinedObject, format!("role \"{role}\" does not exist")));
        }
        let mut entry = functions_mut(data, &schema)?.remove(&signature).ok_or_else(|| no_function(&signature))?;
        let mut into = schema.clone();
        match &alter.action {
            FunctionAction::Owner(role) => entry.owner.clone_from(role),
            FunctionAction::Rename(name) => entry.name.clone_from(name),
            FunctionAction::Schema(name) => into.clone_from(name),
        }
        let (shown, signature) = (entry.name.clone(), entry.signature());
        if functions_mut(data, &into)?.insert(signature, entry).is_some() {
            let message = format!("function \"{shown}\" already exists in schema \"{into}\"");
            return Err(Error::new(Kind::DuplicateFunction, message));
        }
        Ok(())
    })?;
    done("ALTER FUNCTION")
}
