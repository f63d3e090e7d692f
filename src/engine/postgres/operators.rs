//! Operators and collations by their names.
//!
//! In: `OPERATOR(schema.op)`, operators of vectors, COLLATE, comparisons of rows. Out: the operator that the parser knows, the
//! function behind it, comparisons of columns one by one. Invariant: an operator that is not known is 42883. Deliberately
//! absent: operators whose meaning depends on types (`expression_planner`).

use sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, ObjectName, UnaryOperator, Value};
use squilla_core::error::{Error, Kind, Result};

use crate::postgres::syntax::{folded, function_name, literal, parts, text};

/// `OPERATOR(pg_catalog.~)` is `~`.
pub fn plain(op: &mut BinaryOperator) -> Result<()> {
    use BinaryOperator as Op;
    let BinaryOperator::PGCustomBinaryOperator(path) = op else { return Ok(()) };
    let symbol = path.last().cloned().unwrap_or_default();
    *op = match symbol.as_str() {
        "=" => Op::Eq,
        "<>" | "!=" => Op::NotEq,
        "<" => Op::Lt,
        "<=" => Op::LtEq,
        ">" => Op::Gt,
        ">=" => Op::GtEq,
        "+" => Op::Plus,
        "-" => Op::Minus,
        "*" => Op::Multiply,
        "/" => Op::Divide,
        "%" => Op::Modulo,
        "||" => Op::StringConcat,
        "~" => Op::PGRegexMatch,
        "~*" => Op::PGRegexIMatch,
        "!~" => Op::PGRegexNotMatch,
        "!~*" => Op::PGRegexNotIMatch,
        "~~" => Op::PGLikeMatch,
        "~~*" => Op::PGILikeMatch,
        "!~~" => Op::PGNotLikeMatch,
        "!~~*" => Op::PGNotILikeMatch,
        "@>" => Op::AtArrow,
        "<@" => Op::ArrowAt,
        "&&" => Op::PGOverlap,
        "<->" => Op::LtDashGt,
        "<=>" => Op::Spaceship,
        other @ ("<#>" | "<+>") => Op::Custom(other.to_owned()),
        _ => return Err(Error::new(Kind::UndefinedFunction, format!("operator does not exist: {symbol}"))),
    };
    Ok(())
}

/// The function that an operator calls, whatever the types.
pub fn call_behind(op: &BinaryOperator) -> Option<&'static str> {
    match op {
        BinaryOperator::LtDashGt => Some("l2_distance"),
        BinaryOperator::PGStartsWith => Some("starts_with"),
        BinaryOperator::Spaceship => Some("cosine_distance"),
        BinaryOperator::Custom(symbol) if symbol == "<#>" => Some("vector_negative_inner_product"),
        BinaryOperator::Custom(symbol) if symbol == "<+>" => Some("l1_distance"),
        _ => None,
    }
}

/// Text is ordered by code point whatever the collation; only collations that do so are taken.
pub fn collate(collation: &ObjectName) -> Result<()> {
    let name = parts(collation).and_then(|p| p.last().cloned()).unwrap_or_default();
    match name.to_lowercase().as_str() {
        "default" | "c" | "posix" | "ucs_basic" | "c.utf8" | "c.utf-8" => Ok(()),
        _ => Err(Error::new(Kind::UndefinedObject, format!("collation \"{name}\" for encoding \"UTF8\" does not exist"))),
    }
}

/// The columns of `(a, b)` and `ROW(a, b)`.
fn row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(columns) => Some(columns.clone()),
        Expr::Function(_) if function_name(expr).as_deref() == Some("row") => match expr {
            Expr::Function(f) => match &f.args {
                sqlparser::ast::FunctionArguments::List(list) => crate::postgres::syntax::arguments(&list.args),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    let part = |e: Expr| match e {
        e @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::Nested(_)) => Box::new(e),
        e => Box::new(Expr::Nested(Box::new(e))),
    };
    Expr::BinaryOp { left: part(left), op, right: part(right) }
}

fn joined(parts: Vec<Expr>, op: &BinaryOperator) -> Option<Expr> {
    let all = parts.into_iter().reduce(|left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) });
    all.map(|e| Expr::Nested(Box::new(e)))
}

/// `(a, b) op (c, d)`: rows compare by their columns, the first one first, and NULL as columns do. None for other operators
/// and for rows of different lengths.
pub fn of_rows(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    let (left, right) = (row(left)?, row(right)?);
    if left.len() != right.len() || left.is_empty() {
        return None;
    }
    let pairs = || left.iter().cloned().zip(right.iter().cloned());
    let strict = match op {
        Eq => return joined(pairs().map(|(l, r)| binary(l, Eq, r)).collect(), &And),
        NotEq => return joined(pairs().map(|(l, r)| binary(l, NotEq, r)).collect(), &Or),
        Lt | LtEq => Lt,
        Gt | GtEq => Gt,
        _ => return None,
    };
    // From the last column: it decides where all before it are equal.
    let mut rest: Option<Expr> = None;
    for (l, r) in pairs().collect::<Vec<_>>().into_iter().rev() {
        rest = Some(match rest {
            None => binary(l, op.clone(), r),
            Some(behind) => {
                let equal = joined(vec![binary(l.clone(), Eq, r.clone()), behind], &And)?;
                joined(vec![binary(l, strict.clone(), r), equal], &Or)?
            }
        });
    }
    rest
}

/// `(a, b) IS [NOT] NULL`: each column is, or is not.
pub fn row_is_null(value: &Expr, negated: bool) -> Option<Expr> {
    let columns = row(value)?;
    let test = |e: Expr| if negated { Expr::IsNotNull(Box::new(e)) } else { Expr::IsNull(Box::new(e)) };
    joined(columns.into_iter().map(test).collect(), &BinaryOperator::And)
}

/// `- interval`: the parser's own sign reaches the first field alone.
pub fn negative_interval(op: &UnaryOperator, operand: &Expr) -> Option<Expr> {
    let inner = match operand {
        Expr::Nested(inner) => inner.as_ref(),
        other => other,
    };
    if !matches!((op, inner), (UnaryOperator::Minus, Expr::Interval(_))) {
        return None;
    }
    let minus_one = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(Expr::value(Value::Number("1".into(), false))) };
    Some(Expr::Nested(Box::new(binary(inner.clone(), BinaryOperator::Multiply, minus_one))))
}

/// `AT TIME ZONE INTERVAL '-03:00'`: the offset as the name of a zone.
pub fn offset(zone: Expr) -> Expr {
    let Expr::Interval(interval) = &zone else { return zone };
    let Some(parts) = literal(&interval.value).and_then(|t| crate::postgres::interval::parse(t, None).ok()) else { return zone };
    let minutes = parts.nanos / 60_000_000_000;
    let sign = if minutes < 0 { '-' } else { '+' };
    text(format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60))
}

/// Functions of PostgreSQL whose arguments have names, with how many of them must be given; the others are zero.
const NAMED: &[(&str, usize, &[&str])] = &[
    ("make_interval", 0, &["years", "months", "weeks", "days", "hours", "mins", "secs"]),
    ("make_date", 3, &["year", "month", "day"]),
    ("make_time", 3, &["hour", "min", "sec"]),
    ("make_timestamp", 6, &["year", "month", "mday", "hour", "min", "sec"]),
];

/// `make_interval(days => 3)` with its arguments in order.
///
/// # Errors
/// 42883 for a name that the function does not have, 42601 for one that is given twice.
pub fn named_arguments(function: &ObjectName, args: &mut Vec<FunctionArg>) -> Result<()> {
    let named = |arg: &FunctionArg| match arg {
        FunctionArg::Named { name, .. } => Some(folded(name)),
        FunctionArg::ExprNamed { name: Expr::Identifier(name), .. } => Some(folded(name)),
        _ => None,
    };
    if !args.iter().any(|a| named(a).is_some()) {
        return Ok(());
    }
    let name = function.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default();
    let Some((_, required, names)) = NAMED.iter().find(|(known, ..)| *known == name) else { return Ok(()) };
    let missing = || {
        Error::new(Kind::UndefinedFunction, format!("function {name} does not exist"))
            .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
    };
    let mut placed: Vec<Option<FunctionArg>> = vec![None; names.len()];
    for (at, arg) in std::mem::take(args).into_iter().enumerate() {
        let place = match named(&arg) {
            Some(wanted) => names.iter().position(|n| *n == wanted).ok_or_else(missing)?,
            None => at,
        };
        let plain = match arg {
            FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } => FunctionArg::Unnamed(arg),
            other => other,
        };
        let slot = placed.get_mut(place).ok_or_else(missing)?;
        if slot.replace(plain).is_some() {
            return Err(Error::new(Kind::Syntax, format!("argument name \"{}\" used more than once", names.get(place).copied().unwrap_or_default())));
        }
    }
    for (at, slot) in placed.into_iter().enumerate() {
        let zero = || FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::value(Value::Number("0".into(), false))));
        match slot {
            None if at < *required => return Err(missing()),
            slot => args.push(slot.unwrap_or_else(zero)),
        }
    }
    Ok(())
}
