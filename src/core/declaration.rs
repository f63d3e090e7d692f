//! The SQL contract of a function, parsed from its file in `sql-functions/`.
//!
//! In: `CREATE FUNCTION` statements (one per overload), one `COMMENT ON FUNCTION`, and `/* example ... */` blocks.
//! Out: everything that is derived from the contract: argument names, types, defaults, volatility, strictness, result
//! columns, comment, examples. Invariant: overloads of one file share one name.
//! Deliberately absent: the kernel (`kernel.rs`) and any knowledge of how the engine calls it.

use sqlparser::ast::{self, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::error::{Error, Result};
use crate::types::SqlType;

/// One argument of one overload.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Lower-case name, as in `name => value`.
    pub name: String,
    /// Declared type.
    pub ty: SqlType,
    /// The default, when the argument may be left out.
    pub default: Option<Default>,
    /// Collects the remaining arguments.
    pub variadic: bool,
}

/// The default value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Default {
    /// Not given: the kernel sees NULL and chooses.
    Null,
    /// true or false
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A string.
    Text(String),
}

/// What a call gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Returns {
    /// One value a row.
    Value(SqlType),
    /// Rows with these columns.
    Table(Vec<(String, SqlType)>),
}

/// How a result may change between calls with equal arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Never.
    Immutable,
    /// Not within one statement.
    Stable,
    /// Any time.
    Volatile,
}

/// One overload.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Arguments in order.
    pub arguments: Vec<Argument>,
    /// Result.
    pub returns: Returns,
    /// Volatility.
    pub volatility: Volatility,
    /// A NULL in an argument without a NULL default gives NULL (no rows) without a call.
    pub strict: bool,
}

/// A whole contract file.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Function name, lower case.
    pub name: String,
    /// At least one.
    pub signatures: Vec<Signature>,
    /// The text of COMMENT ON FUNCTION.
    pub comment: String,
    /// sqllogictest records, one block each.
    pub examples: Vec<String>,
}

impl Signature {
    /// Index of the argument of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.arguments.iter().position(|a| a.name == name)
    }

    /// Arguments that must be given.
    pub fn required(&self) -> usize {
        self.arguments.iter().filter(|a| a.default.is_none() && !a.variadic).count()
    }
}

impl Argument {
    /// Whether a NULL here makes a strict call NULL.
    pub fn strict(&self) -> bool {
        self.default != Some(Default::Null)
    }
}

impl Declaration {
    /// Parses a contract file. Fails on anything that is not part of the contract, so that a slip is seen in the tests.
    pub fn parse(sql: &str) -> Result<Declaration> {
        let (code, examples) = split_examples(sql)?;
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, &code)
            .map_err(|e| Error::internal(format!("function declaration does not parse: {e}")).detail(sql.to_owned()))?;
        let mut declaration = Declaration { name: String::new(), signatures: Vec::new(), comment: String::new(), examples };
        for statement in statements {
            match statement {
                Statement::CreateFunction(create) => {
                    let name = create.name.to_string().to_lowercase();
                    if !declaration.name.is_empty() && declaration.name != name {
                        return Err(Error::internal(format!("one file declares both {} and {name}", declaration.name)));
                    }
                    declaration.name = name;
                    declaration.signatures.push(signature(&create)?);
                }
                Statement::Comment { comment: Some(comment), .. } => declaration.comment = comment,
                other => return Err(Error::internal(format!("unexpected statement in a function declaration: {other}"))),
            }
        }
        if declaration.signatures.is_empty() || declaration.comment.is_empty() {
            return Err(Error::internal(format!("function {} needs CREATE FUNCTION and COMMENT", declaration.name)));
        }
        Ok(declaration)
    }

    /// Whether a call gives rows rather than a value.
    pub fn is_set_returning(&self) -> bool {
        matches!(self.signatures.first().map(|s| &s.returns), Some(Returns::Table(_)))
    }
}

/// Takes the `/* example ... */` blocks out of the text.
fn split_examples(sql: &str) -> Result<(String, Vec<String>)> {
    let mut code = String::with_capacity(sql.len());
    let mut examples = Vec::new();
    let mut rest = sql;
    while let Some(start) = rest.find("/* example") {
        let Some(length) = rest[start..].find("*/") else {
            return Err(Error::internal("an example is not closed"));
        };
        code.push_str(&rest[..start]);
        examples.push(rest[start + "/* example".len()..start + length].trim_start_matches([' ', '\n']).to_owned());
        rest = &rest[start + length + 2..];
    }
    code.push_str(rest);
    Ok((code, examples))
}

fn signature(create: &ast::CreateFunction) -> Result<Signature> {
    let mut arguments = Vec::new();
    for argument in create.args.iter().flatten() {
        let name = argument.name.as_ref().ok_or_else(|| Error::internal(format!("{}: an argument has no name", create.name)))?;
        arguments.push(Argument {
            // The parser leaves the quotes of a name such as "offset" on.
            name: name.value.trim_matches('"').to_lowercase(),
            ty: sql_type(&argument.data_type.to_string())?,
            default: argument.default_expr.as_ref().map(default_value).transpose()?,
            variadic: argument.mode == Some(ast::ArgMode::Variadic),
        });
    }
    let returns = match &create.return_type {
        Some(ast::FunctionReturnType::DataType(ast::DataType::Table(columns))) => {
            let columns = columns.iter().flatten();
            Returns::Table(columns.map(|c| Ok((c.name.value.clone(), sql_type(&c.data_type.to_string())?))).collect::<Result<_>>()?)
        }
        Some(ast::FunctionReturnType::SetOf(ty)) => Returns::Table(vec![(create.name.to_string().to_lowercase(), sql_type(&ty.to_string())?)]),
        Some(ast::FunctionReturnType::DataType(ty)) => Returns::Value(sql_type(&ty.to_string())?),
        None => return Err(Error::internal(format!("{} has no RETURNS", create.name))),
    };
    let volatility = match create.behavior {
        Some(ast::FunctionBehavior::Immutable) => Volatility::Immutable,
        Some(ast::FunctionBehavior::Stable) => Volatility::Stable,
        Some(ast::FunctionBehavior::Volatile) | None => Volatility::Volatile,
    };
    let strict = matches!(create.called_on_null, Some(ast::FunctionCalledOnNull::Strict | ast::FunctionCalledOnNull::ReturnsNullOnNullInput));
    Ok(Signature { arguments, returns, volatility, strict })
}

fn sql_type(name: &str) -> Result<SqlType> {
    let name = name.replace('"', "");
    SqlType::parse(&name).ok_or_else(|| Error::internal(format!("unknown type \"{name}\" in a function declaration")))
}

fn default_value(expr: &ast::Expr) -> Result<Default> {
    let unknown = || Error::internal(format!("a default must be a literal, not {expr}"));
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Null => Ok(Default::Null),
            ast::Value::Boolean(b) => Ok(Default::Bool(*b)),
            ast::Value::Number(n, _) => Ok(Default::Number(n.to_string())),
            ast::Value::SingleQuotedString(s) => Ok(Default::Text(s.clone())),
            _ => Err(unknown()),
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: inner } => match default_value(inner)? {
            Default::Number(n) => Ok(Default::Number(format!("-{n}"))),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SQL: &str = "
CREATE FUNCTION decode_image(data bytea, mode text DEFAULT 'RGB', max_pixels bigint DEFAULT NULL, auto_orient boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'decode_image';
COMMENT ON FUNCTION decode_image IS 'Decodes.';
/* example
query I
SELECT 1
----
1
*/
";

    #[test]
    fn contract_is_read() {
        let d = Declaration::parse(SQL).unwrap();
        assert_eq!(d.name, "decode_image");
        assert_eq!(d.signatures[0].arguments.len(), 5);
        assert_eq!(d.signatures[0].arguments[1].default, Some(Default::Text("RGB".into())));
        assert_eq!(d.signatures[0].returns, Returns::Value(SqlType::Image));
        assert!(d.signatures[0].strict);
        assert_eq!(d.examples.len(), 1);
        assert!(d.examples[0].starts_with("query I"));
    }

    #[test]
    fn tables_and_variadics_are_read() {
        let d = Declaration::parse(
            "CREATE FUNCTION f(model text, VARIADIC inputs real[]) RETURNS TABLE(a bigint, b text, \"box\" box2d, score real) LANGUAGE squilla STABLE AS 'f';
             COMMENT ON FUNCTION f IS 'x';",
        )
        .unwrap();
        assert!(d.is_set_returning());
        assert!(d.signatures[0].arguments[1].variadic);
        assert_eq!(
            d.signatures[0].returns,
            Returns::Table(vec![
                ("a".into(), SqlType::Int8),
                ("b".into(), SqlType::Text),
                ("box".into(), SqlType::Box2d),
                ("score".into(), SqlType::Float4)
            ])
        );
    }
}
