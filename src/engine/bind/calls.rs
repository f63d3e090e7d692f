//! Calls of our functions: arguments by name or position to declared order, defaults filled in.
//!
//! Invariant: after this pass every call of ours has exactly as many arguments as one of its signatures. Errors: 42883
//! for an argument that does not exist (with the valid ones and the nearest) or is missing; 42601 for a positional
//! argument after a named one.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Statement,
    Value, VisitMut, VisitorMut,
};
use squilla_core::declaration::Signature;
use squilla_core::error::{Error, Kind, Result, did_you_mean};
use squilla_core::settings::Settings;
use squilla_core::types::SqlType;

use crate::bind::defaults;
use crate::postgres::syntax::{literal, text};
use crate::session::parameters::typed;
use crate::statement::ident_text;
use crate::udf::{Function as Declared, Functions};

/// What the pass needs to know.
pub struct CallContext<'a> {
    /// Our functions.
    pub functions: &'a Functions,
    /// The session's settings: on_error and default models.
    pub settings: &'a Settings,
}

/// Binds every call in `statement`.
pub fn bind(statement: &mut Statement, context: &CallContext) -> Result<()> {
    match statement.visit(&mut Binder { context }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Binder<'a> {
    context: &'a CallContext<'a>,
}

impl VisitorMut for Binder<'_> {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let result = match expr {
            Expr::Function(function) => bind_function(function, self.context),
            Expr::BinaryOp { left, op, right } => {
                if let Some(name) = vector_operator(op) {
                    let args = [left, right].map(|side| {
                        let side = std::mem::replace(&mut **side, Expr::Value(Value::Null.into()));
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(as_vector(side)))
                    });
                    *expr = call(name, args.into());
                    match expr {
                        Expr::Function(function) => bind_function(function, self.context),
                        _ => Ok(()),
                    }
                } else {
                    Ok(())
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let [AccessExpr::Dot(field)] = access_chain.as_slice()
                    && let Some(field) = literal(field)
                {
                    let name = text(field);
                    let root = std::mem::replace(&mut **root, Expr::Value(Value::Null.into()));
                    *expr = call("get_field", [root, name].map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).into());
                }
                Ok(())
            }
            _ => Ok(()),
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// pgvector's operators by the function behind them.
fn vector_operator(op: &BinaryOperator) -> Option<&'static str> {
    match op {
        BinaryOperator::LtDashGt => Some("l2_distance"),
        BinaryOperator::Spaceship => Some("cosine_distance"),
        BinaryOperator::Custom(op) => custom_operator(op),
        BinaryOperator::PGCustomBinaryOperator(parts) => custom_operator(parts.last()?),
        _ => None,
    }
}

fn custom_operator(op: &str) -> Option<&'static str> {
    match op {
        "<->" => Some("l2_distance"),
        "<=>" => Some("cosine_distance"),
        "<#>" => Some("vector_negative_inner_product"),
        "<+>" => Some("l1_distance"),
        "<~>" => Some("hamming_distance"),
        "<%>" => Some("jaccard_distance"),
        _ => None,
    }
}

/// A string literal where a vector is wanted is its text form, as PostgreSQL resolves unknown literals.
fn as_vector(expr: Expr) -> Expr {
    match &expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) if text.trim_start().starts_with('[') => input(expr, &SqlType::Vector),
            _ => expr,
        },
        _ => expr,
    }
}

/// A plain call.
pub fn call(name: &str, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The folded name of a function, without the schemas whose functions are found anyway.
pub fn function_name(name: &ObjectName) -> Option<String> {
    let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(ident_text).collect();
    match parts.as_slice() {
        [name] => Some(name.clone()),
        [schema, name] if matches!(schema.as_str(), "pg_catalog" | "public" | "squilla") => Some(name.clone()),
        _ => None,
    }
}

fn bind_function(function: &mut Function, context: &CallContext) -> Result<()> {
    let Some(name) = function_name(&function.name) else { return Ok(()) };
    let Some(declared) = context.functions.get(&name) else { return Ok(()) };
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    list.args = bind_arguments(declared, std::mem::take(&mut list.args), context)?
        .into_iter()
        .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
        .collect();
    function.name = ObjectName::from(vec![Ident::new(name)]);
    Ok(())
}

/// Arguments as given: by position, then by name.
struct Given {
    positional: Vec<Expr>,
    named: Vec<(String, Expr)>,
}

fn given(name: &str, args: Vec<FunctionArg>) -> Result<Given> {
    let mut given = Given { positional: Vec::new(), named: Vec::new() };
    for arg in args {
        let (label, value) = match arg {
            FunctionArg::Named { name, arg, .. } => (Some(ident_text(&name)), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(ident), arg, .. } => (Some(ident_text(&ident)), arg),
            // PostgreSQL's older spelling, `name := value`.
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Assignment, right })) => match *left {
                Expr::Identifier(ident) => (Some(ident_text(&ident)), FunctionArgExpr::Expr(*right)),
                other => return Err(Error::new(Kind::Syntax, format!("invalid argument of {name}: {other} := ..."))),
            },
            FunctionArg::Unnamed(arg) => (None, arg),
            other => return Err(Error::new(Kind::Syntax, format!("invalid argument of {name}: {other}"))),
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(Error::new(Kind::UndefinedFunction, format!("function {name}(*) does not exist")));
        };
        match label {
            Some(label) if given.named.iter().any(|(n, _)| *n == label) => {
                return Err(Error::new(Kind::Syntax, format!("argument name \"{label}\" used more than once")));
            }
            Some(label) => given.named.push((label, value)),
            None if !given.named.is_empty() => return Err(Error::new(Kind::Syntax, "positional argument cannot follow named argument")),
            None => given.positional.push(value),
        }
    }
    Ok(given)
}

/// The arguments of a call in declared order, defaults filled in.
pub fn bind_arguments(declared: &Declared, args: Vec<FunctionArg>, context: &CallContext) -> Result<Vec<Expr>> {
    let declaration = &declared.declaration;
    let mut given = given(&declaration.name, args)?;
    let signature = declaration.signatures.iter().filter(|s| fits(s, &given)).min_by_key(|s| mismatch(s, &given.positional));
    let Some(signature) = signature else { return Err(no_fit(&declaration.name, &declaration.signatures, &given)) };
    let mut bound = Vec::with_capacity(signature.arguments.len());
    let mut positional = std::mem::take(&mut given.positional).into_iter();
    for argument in &signature.arguments {
        if argument.variadic {
            bound.extend(positional.by_ref());
            continue;
        }
        let named = given.named.iter().position(|(name, _)| *name == argument.name);
        let value = match (positional.next(), named) {
            (Some(value), _) => value,
            (None, Some(index)) => given.named.swap_remove(index).1,
            (None, None) => session_default(&declaration.name, &argument.name, context).unwrap_or_else(|| defaults::expression(argument)),
        };
        bound.push(literal_as(value, &argument.ty)?);
    }
    Ok(bound)
}

/// What the session decides where the call does not: on_error and the model.
fn session_default(function: &str, argument: &str, context: &CallContext) -> Option<Expr> {
    let text = match argument {
        "on_error" => context.settings.get("squilla.on_error").to_owned(),
        "model" => context.settings.get(&format!("squilla.default_model.{}", task(function)?)).to_owned(),
        _ => return None,
    };
    (!text.is_empty()).then(|| Expr::Value(Value::SingleQuotedString(text).into()))
}

/// The task whose default model a function uses.
fn task(function: &str) -> Option<&'static str> {
    Some(match function {
        "embed_text" | "token_count" | "chunk_text" | "text_similarity" => "embed_text",
        "embed_image" | "image_similarity" => "embed_image",
        "classify_image" | "classify_image_scores" => "classify_image",
        "detect" | "detections" => "detect",
        "transcribe" | "transcribe_segments" => "transcribe",
        _ => return None,
    })
}

fn fits(signature: &Signature, given: &Given) -> bool {
    let variadic = signature.arguments.last().is_some_and(|a| a.variadic);
    let fixed = signature.arguments.len() - usize::from(variadic);
    if given.positional.len() > fixed && !variadic {
        return false;
    }
    let known = given.named.iter().all(|(name, _)| signature.position(name).is_some_and(|p| p >= given.positional.len()));
    let complete = signature
        .arguments
        .iter()
        .enumerate()
        .all(|(i, a)| i < given.positional.len() || a.default.is_some() || a.variadic || given.named.iter().any(|(name, _)| *name == a.name));
    known && complete
}

/// How badly literal arguments fit declared types: decides between overloads that take the same number of arguments.
fn mismatch(signature: &Signature, positional: &[Expr]) -> usize {
    let text = |e: &Expr| matches!(e, Expr::Value(v) if matches!(v.value, Value::SingleQuotedString(_)));
    positional
        .iter()
        .zip(&signature.arguments)
        .filter(|(e, a)| text(e) && matches!(a.ty, SqlType::Bytea | SqlType::File | SqlType::Image | SqlType::Audio))
        .count()
}

fn no_fit(name: &str, signatures: &[Signature], given: &Given) -> Error {
    let all: Vec<&str> = signatures.iter().flat_map(|s| s.arguments.iter().map(|a| a.name.as_str())).collect();
    if let Some((unknown, _)) = given.named.iter().find(|(n, _)| !all.contains(&n.as_str())) {
        let mut valid: Vec<&str> = Vec::new();
        all.iter().for_each(|n| {
            if !valid.contains(n) {
                valid.push(n)
            }
        });
        let near = did_you_mean(unknown, valid.iter().copied()).map(|n| format!(" Perhaps you meant \"{n}\".")).unwrap_or_default();
        return Error::new(Kind::UndefinedFunction, format!("function {name} has no argument named \"{unknown}\""))
            .hint(format!("Its arguments are {}.{near}", valid.join(", ")));
    }
    let forms: Vec<String> = signatures
        .iter()
        .map(|s| {
            let args = s.arguments.iter().map(|a| format!("{} {}{}", a.name, a.ty.name(), if a.default.is_some() { " DEFAULT ..." } else { "" }));
            format!("{name}({})", args.collect::<Vec<_>>().join(", "))
        })
        .collect();
    Error::new(Kind::UndefinedFunction, format!("function {name} does not exist with {} arguments", given.positional.len() + given.named.len()))
        .hint(format!("It is {}.", forms.join(" or ")))
}

/// An untyped string literal takes the type of its parameter, as in PostgreSQL.
fn literal_as(expr: Expr, ty: &SqlType) -> Result<Expr> {
    let Expr::Value(value) = &expr else { return Ok(expr) };
    if matches!(value.value, Value::Placeholder(_)) {
        return Ok(if untyped(ty) { expr } else { typed(expr, ty) });
    }
    let Value::SingleQuotedString(text) = &value.value else { return Ok(expr) };
    Ok(match ty {
        SqlType::Bytea => bytea_literal(text)?,
        SqlType::Vector | SqlType::Array(_) | SqlType::Interval | SqlType::Timestamptz | SqlType::Box2d | SqlType::Tensor | SqlType::Bit => {
            input(expr, ty)
        }
        _ => expr,
    })
}

/// Types that a parameter cannot take: those of any type, and composites.
fn untyped(ty: &SqlType) -> bool {
    match ty {
        SqlType::Any | SqlType::Record(_) | SqlType::File | SqlType::Image | SqlType::Audio | SqlType::Tensor => true,
        SqlType::Array(element) => untyped(element),
        _ => false,
    }
}

/// The input function of a type over a literal: what the cast rewrite uses too.
fn input(expr: Expr, ty: &SqlType) -> Expr {
    let name = Expr::Value(Value::SingleQuotedString(ty.name()).into());
    call(crate::postgres::cast::CAST, [expr, name].map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).into())
}

/// PostgreSQL's input syntax of bytea: `\x` and hex digits, or text with backslash escapes.
pub fn bytea_literal(text: &str) -> Result<Expr> {
    let bad = || Error::new(Kind::InvalidText, "invalid input syntax for type bytea");
    let mut hex = String::new();
    if let Some(digits) = text.strip_prefix("\\x") {
        hex.extend(digits.chars().filter(|c| !c.is_ascii_whitespace()));
        if !hex.len().is_multiple_of(2) || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
    } else {
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            let value = match byte {
                b'\\' if bytes.peek() == Some(&b'\\') => bytes.next().ok_or_else(bad)?,
                b'\\' => {
                    let digits: Vec<u8> = bytes.by_ref().take(3).collect();
                    std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok()).filter(|_| digits.len() == 3).ok_or_else(bad)?
                }
                other => other,
            };
            hex.push_str(&format!("{value:02x}"));
        }
    }
    Ok(Expr::Value(Value::HexStringLiteral(hex).into()))
}
