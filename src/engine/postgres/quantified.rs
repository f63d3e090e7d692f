//! EXISTS, IN, ANY and ALL over subqueries where they are values.
//!
//! In: select lists and ORDER BY. Out: the same with scalar subqueries that count rows: DataFusion plans these predicates in
//! conditions only. Invariant: NULL comes out where PostgreSQL gives it. Deliberately absent: WHERE and HAVING, and rows of
//! several columns on the left.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, GroupByExpr, Ident, LimitClause, OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias,
    TableAliasColumnDef, UnaryOperator, Value, VisitMut, VisitorMut,
};

use crate::postgres::subquery::{aggregates, wrap};
use crate::postgres::syntax::{aggregate, call};

const ROWS: &str = "squilla_rows";
const ITEM: &str = "squilla_item";

/// In the select list and GROUP BY; `outermost` where no query is around the SELECT.
pub fn in_list(select: &mut Select, outermost: bool) {
    let alone = outermost && select.from.is_empty();
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _ = expr.visit(&mut Values { depth: 0, alone });
        }
    }
    if let GroupByExpr::Expressions(list, _) = &mut select.group_by {
        for expr in list {
            let _ = expr.visit(&mut Values { depth: 0, alone });
        }
    }
}

/// In ORDER BY.
pub fn in_order(query: &mut Query) {
    if let Some(order) = &mut query.order_by
        && let OrderByKind::Expressions(list) = &mut order.kind
    {
        for item in list {
            let _ = item.expr.visit(&mut Values { depth: 0, alone: false });
        }
    }
}

/// Replaces the predicates of one expression; subqueries have their own select lists.
struct Values {
    depth: usize,
    alone: bool,
}

impl VisitorMut for Values {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Some(value) = value(expr, self.alone)
        {
            *expr = value;
        }
        ControlFlow::Continue(())
    }
}

fn value(expr: &Expr, alone: bool) -> Option<Expr> {
    match expr {
        Expr::Exists { subquery, negated } => Some(negation(exists(subquery, alone)?, *negated)),
        Expr::InSubquery { expr, subquery, negated } => Some(negation(among(expr, subquery)?, *negated)),
        Expr::AnyOp { left, compare_op, right, .. } => match (compare_op, right.as_ref()) {
            (BinaryOperator::Eq, Expr::Subquery(query)) => among(left, query),
            (op, Expr::Subquery(query)) => compared(left, op, query, true),
            _ => None,
        },
        Expr::AllOp { left, compare_op, right } => match (compare_op, right.as_ref()) {
            (BinaryOperator::NotEq, Expr::Subquery(query)) => among(left, query).map(|e| negation(e, true)),
            (op, Expr::Subquery(query)) => compared(left, op, query, false),
            _ => None,
        },
        _ => None,
    }
}

fn negation(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) } } else { expr }
}

fn alias(column: bool) -> TableAlias {
    let columns = if column { vec![TableAliasColumnDef::from_name(ITEM)] } else { Vec::new() };
    TableAlias { explicit: true, name: Ident::new(ROWS), columns, at: None }
}

fn item() -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(ROWS), Ident::new(ITEM)])
}

fn number(n: &str) -> Expr {
    Expr::value(Value::Number(n.into(), false))
}

fn greater(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Gt, right: Box::new(right) }
}

/// How many rows there are.
fn rows() -> Expr {
    aggregate("count", number("1"), Vec::new())
}

fn scalar(query: Query, column: bool, projection: Expr, condition: Option<Expr>) -> Option<Expr> {
    let mut query = wrap(query, alias(column), projection)?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.selection = condition;
    }
    Some(Expr::Subquery(Box::new(query)))
}

/// `LIMIT n` of a number above 0 leaves a row where there is one.
fn leaves_a_row(clause: &LimitClause) -> bool {
    match clause {
        LimitClause::LimitOffset { limit: Some(Expr::Value(v)), offset: None, limit_by } if limit_by.is_empty() => {
            matches!(&v.value, Value::Number(n, _) if n.parse::<u64>().is_ok_and(|n| n > 0))
        }
        _ => false,
    }
}

/// Whether the query has a row. What its list says does not matter then. `alone`: no other query is around it, so that it
/// can stop at the first row.
fn exists(query: &Query, alone: bool) -> Option<Expr> {
    let mut query = query.clone();
    let some = || greater(rows(), number("0"));
    query.limit_clause.take_if(|clause| leaves_a_row(clause));
    let plain = query.limit_clause.is_none() && query.fetch.is_none() && query.with.is_none();
    if let SetExpr::Select(select) = query.body.as_mut()
        && select.distinct.is_none()
        && select.having.is_none()
        && matches!(&select.group_by, GroupByExpr::Expressions(list, modifiers) if list.is_empty() && modifiers.is_empty())
        && !select.projection.iter().any(|i| matches!(i, SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } if aggregates(e)))
    {
        if !alone && plain {
            select.projection = vec![SelectItem::UnnamedExpr(some())];
            query.order_by = None;
            return Some(Expr::Subquery(Box::new(query)));
        }
        select.projection = vec![SelectItem::UnnamedExpr(number("1"))];
        if plain {
            query.order_by = None;
        }
    }
    if plain && alone {
        query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(number("1")), offset: None, limit_by: Vec::new() });
    }
    scalar(query, false, some(), None)
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: branches.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect(),
        else_result: Some(Box::new(otherwise)),
    }
}

fn truth(value: bool) -> Expr {
    Expr::value(Value::Boolean(value))
}

/// `left IN (query)`: true where a row is equal, else NULL where a side is NULL.
fn among(left: &Expr, query: &Query) -> Option<Expr> {
    if matches!(left, Expr::Tuple(_)) {
        return None;
    }
    let equal = Expr::BinaryOp { left: Box::new(item()), op: BinaryOperator::Eq, right: Box::new(Expr::Nested(Box::new(left.clone()))) };
    let found = scalar(query.clone(), true, greater(rows(), number("0")), Some(equal))?;
    let nulls = scalar(query.clone(), true, greater(rows(), aggregate("count", item(), Vec::new())), None)?;
    let any = scalar(query.clone(), true, greater(rows(), number("0")), None)?;
    let unknown = Expr::BinaryOp {
        left: Box::new(nulls),
        op: BinaryOperator::Or,
        right: Box::new(Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(Expr::IsNull(Box::new(Expr::Nested(Box::new(left.clone()))))),
            op: BinaryOperator::And,
            right: Box::new(any),
        }))),
    };
    Some(case(vec![(found, truth(true)), (unknown, Expr::value(Value::Null))], truth(false)))
}

/// `left op ANY (query)` and `left op ALL (query)`.
fn compared(left: &Expr, op: &BinaryOperator, query: &Query, any: bool) -> Option<Expr> {
    if matches!(left, Expr::Tuple(_)) {
        return None;
    }
    let test = || Expr::BinaryOp { left: Box::new(Expr::Nested(Box::new(left.clone()))), op: op.clone(), right: Box::new(item()) };
    let decides = call(if any { "bool_or" } else { "bool_and" }, vec![test()]);
    let known = aggregate("count", Expr::Nested(Box::new(test())), Vec::new());
    let found = if any { decides } else { negation(decides, true) };
    let branches = vec![(found, truth(any)), (greater(rows(), known), Expr::value(Value::Null))];
    scalar(query.clone(), true, case(branches, truth(!any)), None)
}
