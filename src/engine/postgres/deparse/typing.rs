//! Types of expressions, as far as text and catalog tell them.
//!
//! In: an expression in its scopes. Out: its type, or None where only planning would know. Invariant: a type that is given
//! is the one that PostgreSQL gives. Deliberately absent: resolution of overloads by anything but the first argument.

use sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SelectItem, SetExpr, UnaryOperator, Value};
use squilla_core::types::SqlType;

use crate::postgres::common_type::rank;
use crate::postgres::syntax::{folded, function_name};
use crate::postgres::type_planner::sql_type;
use crate::system::types;

use super::Printer;
use super::scope::find;

/// Whether a type is text of some sort.
pub fn textual(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name)
}

/// The type that two operands meet at, where PostgreSQL has no operator over both: it casts one of them.
pub fn common(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    if textual(left) && textual(right) {
        return Some(SqlType::Text);
    }
    let (a, b) = (rank(left)?, rank(right)?);
    let (integers, floats) = (a < 3 && b < 3, a > 3 && b > 3);
    if a == b || integers || floats {
        return None;
    }
    // An integer or a numeric beside a real is a double.
    Some(if a.max(b) >= 4 { SqlType::Float8 } else { SqlType::Numeric(None) })
}

fn wider(left: SqlType, right: SqlType) -> SqlType {
    match (rank(&left), rank(&right)) {
        (Some(a), Some(b)) if a.max(b) == 4 && a.min(b) < 4 => SqlType::Float8,
        (Some(a), Some(b)) if b > a => right,
        _ => left,
    }
}

/// Whether an operator gives a truth value.
pub fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        op,
        Op::Eq
            | Op::NotEq
            | Op::Lt
            | Op::LtEq
            | Op::Gt
            | Op::GtEq
            | Op::And
            | Op::Or
            | Op::AtArrow
            | Op::ArrowAt
            | Op::PGOverlap
            | Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch
            | Op::PGLikeMatch
            | Op::PGILikeMatch
            | Op::PGNotLikeMatch
            | Op::PGNotILikeMatch
            | Op::Question
    )
}

impl Printer<'_> {
    /// The type of an expression.
    pub fn type_of(&self, expr: &Expr) -> Option<SqlType> {
        match expr {
            Expr::Identifier(id) => find(&self.scopes, None, &folded(id))?.ty,
            Expr::CompoundIdentifier(ids) => match ids.as_slice() {
                [.., table, column] => find(&self.scopes, Some(&folded(table)), &folded(column))?.ty,
                _ => None,
            },
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => self.type_of(inner),
            Expr::Value(v) => match &v.value {
                Value::Number(n, _) if n.parse::<i32>().is_ok() => Some(SqlType::Int4),
                Value::Number(n, _) if n.parse::<i64>().is_ok() => Some(SqlType::Int8),
                Value::Number(..) => Some(SqlType::Numeric(None)),
                Value::Boolean(_) => Some(SqlType::Bool),
                _ => None,
            },
            Expr::Cast { data_type, .. } => sql_type(data_type),
            Expr::TypedString(typed) => sql_type(&typed.data_type),
            Expr::Interval(_) => Some(SqlType::Interval),
            Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::Exists { .. }
            | Expr::UnaryOp { op: UnaryOperator::Not, .. } => Some(SqlType::Bool),
            Expr::UnaryOp { expr, .. } => self.type_of(expr),
            Expr::BinaryOp { left, op, right } => self.operator_type(left, op, right),
            Expr::Case { conditions, else_result, .. } => {
                conditions.iter().map(|c| &c.result).chain(else_result.as_deref()).find_map(|e| self.type_of(e))
            }
            Expr::Array(array) => {
                let element = array.elem.iter().find_map(|e| self.type_of(e)).unwrap_or(SqlType::Text);
                Some(SqlType::Array(Box::new(element)))
            }
            Expr::Extract { .. } => Some(SqlType::Numeric(None)),
            Expr::Position { .. } => Some(SqlType::Int4),
            Expr::Substring { .. } | Expr::Trim { .. } | Expr::Overlay { .. } => Some(SqlType::Text),
            Expr::AtTimeZone { timestamp, .. } => Some(match self.type_of(timestamp)? {
                SqlType::Timestamptz => SqlType::Timestamp,
                _ => SqlType::Timestamptz,
            }),
            Expr::Function(_) => self.call_type(expr),
            Expr::Subquery(query) => self.subquery_type(query),
            _ => None,
        }
    }

    fn operator_type(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<SqlType> {
        use BinaryOperator as Op;
        if compares(op) {
            return Some(SqlType::Bool);
        }
        let (l, r) = (self.type_of(left), self.type_of(right));
        match op {
            Op::StringConcat => match (l, r) {
                (Some(array @ SqlType::Array(_)), _) | (_, Some(array @ SqlType::Array(_))) => Some(array),
                (Some(SqlType::Jsonb), _) => Some(SqlType::Jsonb),
                _ => Some(SqlType::Text),
            },
            Op::LongArrow | Op::HashLongArrow => Some(SqlType::Text),
            Op::Arrow | Op::HashArrow => l,
            Op::Minus if l == Some(SqlType::Date) && r == Some(SqlType::Date) => Some(SqlType::Int4),
            Op::Plus | Op::Minus if l == Some(SqlType::Date) && r == Some(SqlType::Interval) => Some(SqlType::Timestamp),
            Op::Minus if matches!((&l, &r), (Some(SqlType::Timestamp | SqlType::Timestamptz), Some(SqlType::Timestamp | SqlType::Timestamptz))) => {
                Some(SqlType::Interval)
            }
            _ => match (l, r) {
                (Some(l), Some(r)) => Some(wider(l, r)),
                (l, r) => l.or(r),
            },
        }
        .map(|t| if matches!(t, SqlType::Numeric(_)) { SqlType::Numeric(None) } else { t })
    }

    fn call_type(&self, expr: &Expr) -> Option<SqlType> {
        let name = function_name(expr)?;
        let Expr::Function(function) = expr else { return None };
        let arguments: Vec<&Expr> = match &function.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(argument).collect(),
            _ => Vec::new(),
        };
        let first = arguments.first().and_then(|e| self.type_of(e));
        match name.as_str() {
            "coalesce" | "greatest" | "least" | "nullif" => arguments.iter().find_map(|e| self.type_of(e)),
            "count" | "row_number" | "rank" | "dense_rank" => Some(SqlType::Int8),
            "sum" => Some(match first? {
                SqlType::Int2 | SqlType::Int4 => SqlType::Int8,
                SqlType::Int8 | SqlType::Numeric(_) => SqlType::Numeric(None),
                other => other,
            }),
            "avg" => Some(match first? {
                SqlType::Float4 | SqlType::Float8 => SqlType::Float8,
                SqlType::Interval => SqlType::Interval,
                _ => SqlType::Numeric(None),
            }),
            "min" | "max" | "first_value" | "last_value" | "lag" | "lead" | "abs" => first,
            "array_agg" => Some(SqlType::Array(Box::new(first?))),
            _ => {
                let fits = |p: &&crate::system::procs::Proc| p.inputs().count() == arguments.len();
                let proc = self.view.procs.named(&name).find(fits).or_else(|| self.view.procs.named(&name).next())?;
                let ty = types::by_oid(proc.returns).filter(|t| t.kind != "p")?;
                SqlType::parse(&types::format_type(ty.oid, None))
            }
        }
    }

    fn subquery_type(&self, query: &Query) -> Option<SqlType> {
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        match select.projection.first()? {
            // Its columns may be those of its own FROM, which are not looked at here.
            SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } if !matches!(e, Expr::Identifier(_)) => self.type_of(e),
            _ => None,
        }
    }
}

/// The expression of an argument.
pub fn argument(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(e), .. } => Some(e),
        _ => None,
    }
}
