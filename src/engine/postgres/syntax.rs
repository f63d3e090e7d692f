//! Small pieces of syntax trees: made, and taken apart.
//!
//! In: names and expressions. Out: nodes of sqlparser's tree. Invariant: what is made here prints as valid SQL.
//! Deliberately absent: decisions.

use sqlparser::ast::{
    AccessExpr, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments,
    Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, ObjectName, ObjectNamePart, OneOrManyWithParens, OrderByExpr, Value,
};

/// A string literal.
pub fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_empty_span())
}

/// The text of a string literal of any kind.
pub fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) | Value::UnicodeStringLiteral(s) | Value::NationalStringLiteral(s) => {
                Some(s)
            }
            Value::DollarQuotedString(s) => Some(&s.value),
            _ => None,
        },
        Expr::Nested(inner) => literal(inner),
        _ => None,
    }
}

/// Names after a point are names of fields, whatever else is called so: `a.b[1]` is the column `a.b`, `(f()).n` is a field.
pub fn plain_access(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    while let (Expr::Identifier(_) | Expr::CompoundIdentifier(_), Some(AccessExpr::Dot(Expr::Identifier(_)))) = (root.as_ref(), access_chain.first())
    {
        let AccessExpr::Dot(Expr::Identifier(field)) = access_chain.remove(0) else { return };
        let mut names = match root.as_ref() {
            Expr::Identifier(name) => vec![name.clone()],
            Expr::CompoundIdentifier(names) => names.clone(),
            _ => return,
        };
        names.push(field);
        **root = Expr::CompoundIdentifier(names);
    }
    for access in access_chain.iter_mut() {
        if let AccessExpr::Dot(name) = access
            && let Expr::Identifier(id) = name
        {
            *name = text(folded(id));
        }
    }
    if access_chain.is_empty() {
        *expr = std::mem::replace(root.as_mut(), Expr::value(Value::Null));
    }
}

/// `name(arguments)`.
pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(function(name, arguments, Vec::new()))
}

/// `name(argument ORDER BY ...)`.
pub fn aggregate(name: &str, argument: Expr, order: Vec<OrderByExpr>) -> Expr {
    let clauses = if order.is_empty() { Vec::new() } else { vec![FunctionArgumentClause::OrderBy(order)] };
    Expr::Function(function(name, vec![argument], clauses))
}

fn function(name: &str, arguments: Vec<Expr>, clauses: Vec<FunctionArgumentClause>) -> Function {
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect(),
            clauses,
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// `parameter -> body`.
pub fn lambda(parameter: Ident, body: Expr) -> Expr {
    Expr::Lambda(LambdaFunction {
        params: OneOrManyWithParens::One(LambdaFunctionParameter { name: parameter, data_type: None }),
        body: Box::new(body),
        syntax: LambdaSyntax::Arrow,
    })
}

/// `expr::type`.
pub fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::DoubleColon, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The parts of a name, folded to lower case outside quotes; None when a part is no identifier.
pub fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| part.as_ident().map(folded)).collect()
}

/// An identifier as it is looked up.
pub fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Takes `pg_catalog.`, `squilla.` or `information_schema.` off the name of a function.
pub fn strip_schema(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(_)] = name.0.as_slice()
        && ["pg_catalog", "squilla", "information_schema"].contains(&folded(schema).as_str())
    {
        name.0.remove(0);
    }
}

/// The last part of the name of a called function, folded.
pub fn function_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(f) => f.name.0.last().and_then(ObjectNamePart::as_ident).map(folded),
        _ => None,
    }
}

/// The plain arguments of a call; None when one is named or a wildcard.
pub fn arguments(args: &[FunctionArg]) -> Option<Vec<Expr>> {
    args.iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect()
}
