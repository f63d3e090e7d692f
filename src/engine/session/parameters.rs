//! Parameters of a statement: the types of their places, and from the arrays that the protocol decodes to values.
//!
//! In: a statement and the types that a client declared; one Arrow array of length 1 a parameter. Out: types, and
//! [`Parameters`]. Invariants: a declared type stays; a value keeps the array's type. Deliberately absent: the wire.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::array::ArrayRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast::{self, VisitMut, VisitorMut};
use squilla_core::error::{Error, Result};
use squilla_core::numeric;
use squilla_core::types::SqlType;

use crate::error::from_datafusion;
use crate::postgres::type_planner::sql_type;
use crate::session::Parameters;

/// The values of `$1`, `$2`, ...: the first row of each array.
///
/// # Errors
/// XX000 for an array without a row or of a type that no value has.
pub fn values(arrays: &[ArrayRef]) -> Result<Parameters> {
    let values = arrays.iter().map(|array| ScalarValue::try_from_array(array, 0));
    values.collect::<std::result::Result<_, _>>().map_err(|e| Error::internal(format!("a parameter cannot be used: {e}")))
}

/// Types of parameters that the client left open and their place tells: `$1::int4`, LIMIT and OFFSET.
pub(super) fn by_place(statement: &mut ast::Statement, given: &[Option<SqlType>]) -> Vec<Option<SqlType>> {
    struct Places(Vec<Option<SqlType>>);
    impl Places {
        fn set(&mut self, expr: &ast::Expr, ty: Option<SqlType>) {
            let ast::Expr::Value(value) = expr else { return };
            let ast::Value::Placeholder(name) = &value.value else { return };
            let Some(index) = name.trim_start_matches('$').parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < PARAMETERS_MAX)
            else {
                return;
            };
            if self.0.len() <= index {
                self.0.resize(index + 1, None);
            }
            if let Some(slot) = self.0.get_mut(index).filter(|s| s.is_none()) {
                *slot = ty;
            }
        }
    }
    impl VisitorMut for Places {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Cast { expr, data_type, .. } = expr {
                self.set(expr, sql_type(data_type));
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
            if let ast::TableFactor::Table { name, args: Some(args), .. } = factor {
                for (expr, ty) in crate::source::late::argument_types(&name.to_string().to_lowercase(), &args.args) {
                    self.set(expr, Some(ty));
                }
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
            if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
                limit.iter().chain(offset.iter().map(|o| &o.value)).for_each(|e| self.set(e, Some(SqlType::Int8)));
            }
            ControlFlow::Continue(())
        }
    }
    let mut places = Places(given.iter().map(|t| t.clone().filter(|t| *t != SqlType::Unknown)).collect());
    let _ = statement.visit(&mut places);
    places.0
}

/// Most parameters that a message can carry.
const PARAMETERS_MAX: usize = 65_535;

/// `$n` whose type the client declared becomes a cast to that type.
pub(super) fn declare(statement: &mut ast::Statement, given: &[Option<SqlType>]) {
    struct Declare<'a>(&'a [Option<SqlType>]);
    impl VisitorMut for Declare<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            let ast::Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
            let ast::Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
            let number = name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
            let declared = number.checked_sub(1).and_then(|i| self.0.get(i)).and_then(Option::as_ref);
            if let Some(ty) = declared.filter(|t| !matches!(t, SqlType::Unknown)) {
                *expr = typed(expr.clone(), ty);
            }
            ControlFlow::Continue(())
        }
    }
    if !given.is_empty() {
        let _ = statement.visit(&mut Declare(given));
    }
}

/// A numeric with a fraction becomes the literal that it is: its scale is known only with the value.
pub(super) fn spell(statement: &mut ast::Statement, given: &[Option<SqlType>], values: &[ScalarValue]) {
    struct Spell<'a>(&'a [Option<SqlType>], &'a [ScalarValue]);
    impl VisitorMut for Spell<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            let ast::Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
            let ast::Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
            let index = name.trim_start_matches('$').parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            let numeric = index.and_then(|i| self.0.get(i)).is_some_and(|ty| *ty == Some(SqlType::Numeric(None)));
            let (digits, scale) = match index.and_then(|i| self.1.get(i)).filter(|_| numeric) {
                Some(ScalarValue::Decimal128(Some(v), _, scale)) => (v.to_string(), *scale),
                Some(ScalarValue::Decimal256(Some(v), _, scale)) => (v.to_string(), *scale),
                _ => return ControlFlow::Continue(()),
            };
            if scale > 0 {
                let text = numeric::text(&digits, scale, numeric::Style::Exact);
                let number = |text: &str| ast::Expr::value(ast::Value::Number(text.to_owned(), false));
                *expr = match text.strip_prefix('-') {
                    Some(positive) => {
                        let minus = ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: Box::new(number(positive)) };
                        ast::Expr::Nested(Box::new(minus))
                    }
                    None => number(&text),
                };
            }
            ControlFlow::Continue(())
        }
    }
    if given.contains(&Some(SqlType::Numeric(None))) {
        let _ = statement.visit(&mut Spell(given, values));
    }
}

/// `expr` as a value of this type.
pub fn typed(expr: ast::Expr, ty: &SqlType) -> ast::Expr {
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    let parsed = sqlparser::parser::Parser::new(&dialect).try_with_sql(&ty.name()).and_then(|mut p| p.parse_data_type());
    let data_type = parsed.unwrap_or(ast::DataType::Text);
    ast::Expr::Cast { kind: ast::CastKind::DoubleColon, expr: Box::new(expr), data_type, array: false, format: None }
}

/// Types of `$1`...: what the client declared, else what the plan needs, else text.
pub fn types(plan: &LogicalPlan, given: &[Option<SqlType>]) -> Result<Vec<SqlType>> {
    let inferred = inferred(plan).map_err(from_datafusion)?;
    let highest = inferred.keys().filter_map(|k| k.trim_start_matches('$').parse::<usize>().ok()).max().unwrap_or(0).max(given.len());
    Ok((1..=highest)
        .map(|n| match given.get(n - 1).and_then(Clone::clone).filter(|t| *t != SqlType::Unknown) {
            Some(ty) => ty,
            None => inferred.get(&format!("${n}")).and_then(Clone::clone).unwrap_or(SqlType::Text),
        })
        .collect())
}

/// What the places of parameters in a plan ask for: the first of several, and text of any length where texts of different
/// lengths meet. None where a parameter stands without a type.
fn inferred(plan: &LogicalPlan) -> DfResult<HashMap<String, Option<SqlType>>> {
    let text = |ty: &SqlType| matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Name);
    let mut found: HashMap<String, Option<SqlType>> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::Placeholder(placeholder) = e {
                    // Fields, not Arrow types: an oid is stored as a bigint.
                    let ty = placeholder.field.as_ref().map(|f| SqlType::of_field(f)).filter(|t| *t != SqlType::Unknown);
                    let known = found.entry(placeholder.id.clone()).or_default();
                    *known = match (known.take(), ty) {
                        (Some(a), Some(b)) if a != b && text(&a) && text(&b) => Some(SqlType::Text),
                        (a, b) => a.or(b),
                    };
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}
