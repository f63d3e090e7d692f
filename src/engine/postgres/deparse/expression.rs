//! Expressions.
//!
//! In: the tree of an expression and the type that it becomes. Out: its text. Invariant: parentheses stand where PostgreSQL
//! puts them: around every operator in the plain form, where they are needed in the pretty one. Deliberately absent:
//! constants folded; what was written stays.

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use squilla_core::types::SqlType;

use crate::catalog::data::spelling;
use crate::postgres::syntax::folded;
use crate::postgres::type_planner::sql_type;
use crate::statement::name_parts;
use crate::system::procs::{quote_identifier, quote_literal};

use super::scope::find;
use super::typing::{common, textual};
use super::{DEPTH_MAX, Printer};

/// What an expression stands in, which decides about parentheses in the pretty form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parent {
    /// A clause.
    Top,
    /// The arguments of a function, an array, a CASE.
    Function,
    /// AND
    And,
    /// OR
    Or,
    /// NOT
    Not,
    /// An operator by its rank: 1 adds, 2 multiplies, 0 is any other; and whether this is its right side.
    Operator(u8, bool),
    /// A cast, a subscript, IS NULL.
    Tight,
}

fn operator_rank(op: &BinaryOperator) -> u8 {
    match op {
        BinaryOperator::Plus | BinaryOperator::Minus => 1,
        BinaryOperator::Multiply | BinaryOperator::Divide | BinaryOperator::Modulo => 2,
        _ => 0,
    }
}

fn symbol(op: &BinaryOperator) -> String {
    use BinaryOperator as Op;
    match op {
        Op::NotEq => "<>".into(),
        Op::PGLikeMatch => "~~".into(),
        Op::PGILikeMatch => "~~*".into(),
        Op::PGNotLikeMatch => "!~~".into(),
        Op::PGNotILikeMatch => "!~~*".into(),
        Op::PGCustomBinaryOperator(path) => path.last().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}

impl Printer<'_> {
    /// Prints an expression. `expected` is the type that an untyped constant gets.
    pub fn expr(&mut self, expr: &Expr, parent: Parent, expected: Option<&SqlType>) {
        self.depth += 1;
        if self.depth > DEPTH_MAX * 8 {
            self.out.push_str(&expr.to_string());
        } else {
            self.any(expr, parent, expected);
        }
        self.depth -= 1;
    }

    /// Prints `body`, in parentheses in the plain form, or where `needed` in the pretty one.
    fn around(&mut self, needed: bool, body: impl FnOnce(&mut Self)) {
        let put = !self.pretty || needed;
        if put {
            self.out.push('(');
        }
        body(self);
        if put {
            self.out.push(')');
        }
    }

    fn any(&mut self, expr: &Expr, parent: Parent, expected: Option<&SqlType>) {
        let loose = matches!(parent, Parent::Operator(..) | Parent::Tight);
        match expr {
            Expr::Nested(inner) => self.any(inner, parent, expected),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.column(expr),
            Expr::Value(v) => self.constant(&v.value, expected),
            Expr::TypedString(typed) => self.typed(typed.value.value.clone().into_string().as_deref(), sql_type(&typed.data_type), expr),
            Expr::Interval(interval) => {
                let words = match interval.value.as_ref() {
                    Expr::Value(v) => v.value.clone().into_string(),
                    _ => None,
                };
                let unit = interval.leading_field.as_ref().map_or_else(String::new, |f| format!(" {}", f.to_string().to_lowercase()));
                self.typed(words.map(|w| format!("{w}{unit}")).as_deref(), Some(SqlType::Interval), expr);
            }
            Expr::Cast { expr: inner, .. } => self.cast(inner, expr, parent),
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => self.logic(left, op, right, parent),
            Expr::BinaryOp { left, op, right } => self.operator(left, op, right, parent),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                self.around(loose || parent == Parent::Not, |p| {
                    p.out.push_str("NOT ");
                    p.expr(expr, Parent::Not, None);
                });
            }
            Expr::UnaryOp { op, expr: inner } => match (op, inner.as_ref()) {
                (UnaryOperator::Minus, Expr::Value(v)) if matches!(v.value, Value::Number(..)) => {
                    let ty = self.type_of(inner).unwrap_or(SqlType::Int4);
                    self.out.push_str(&format!("'-{inner}'::{}", ty.name()));
                }
                (UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::BitwiseNot, _) => self.around(loose, |p| {
                    p.out.push_str(&format!("{op} "));
                    p.expr(inner, Parent::Operator(0, true), expected);
                }),
                _ => self.out.push_str(&expr.to_string()),
            },
            Expr::IsNull(e) => self.test(e, "IS NULL", loose),
            Expr::IsNotNull(e) => self.test(e, "IS NOT NULL", loose),
            Expr::IsTrue(e) => self.test(e, "IS TRUE", loose),
            Expr::IsNotTrue(e) => self.test(e, "IS NOT TRUE", loose),
            Expr::IsFalse(e) => self.test(e, "IS FALSE", loose),
            Expr::IsNotFalse(e) => self.test(e, "IS NOT FALSE", loose),
            Expr::IsUnknown(e) => self.test(e, "IS UNKNOWN", loose),
            Expr::IsNotUnknown(e) => self.test(e, "IS NOT UNKNOWN", loose),
            Expr::IsDistinctFrom(a, b) => self.sides(a, "IS DISTINCT FROM", b, loose),
            Expr::IsNotDistinctFrom(a, b) => {
                self.around(true, |p| {
                    p.out.push_str("NOT ");
                    p.around(true, |p| p.bare_sides(a, "IS DISTINCT FROM", b));
                });
            }
            Expr::Between { expr, negated, low, high } => self.between(expr, *negated, low, high, parent),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated, parent),
            Expr::Like { negated, expr, pattern, .. } => self.sides(expr, if *negated { "!~~" } else { "~~" }, pattern, loose),
            Expr::ILike { negated, expr, pattern, .. } => self.sides(expr, if *negated { "!~~*" } else { "~~*" }, pattern, loose),
            Expr::AnyOp { left, compare_op, right, .. } => self.quantified(left, compare_op, "ANY", right, parent),
            Expr::AllOp { left, compare_op, right } => self.quantified(left, compare_op, "ALL", right, parent),
            Expr::Exists { .. } | Expr::Subquery(_) | Expr::InSubquery { .. } => self.subquery(expr, loose),
            Expr::Case { .. } => self.case(expr, expected),
            Expr::Function(function) => self.call(function, expr),
            Expr::Array(array) => {
                let element = match expected {
                    Some(SqlType::Array(element)) => Some(element.as_ref().clone()),
                    _ => array.elem.iter().find_map(|e| self.type_of(e)).or(Some(SqlType::Text)),
                };
                self.out.push_str("ARRAY[");
                self.typed_list(&array.elem, element.as_ref());
                self.out.push(']');
            }
            Expr::Tuple(list) => {
                self.out.push_str("ROW(");
                self.list(list, Parent::Function);
                self.out.push(')');
            }
            Expr::Collate { expr: inner, collation } => self.around(loose, |p| {
                p.expr(inner, Parent::Tight, expected);
                p.out.push_str(&format!(" COLLATE \"{}\"", name_parts(collation).pop().unwrap_or_default()));
            }),
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.out.push('(');
                self.expr(timestamp, Parent::Tight, None);
                self.out.push_str(" AT TIME ZONE ");
                self.expr(time_zone, Parent::Tight, Some(&SqlType::Text));
                self.out.push(')');
            }
            Expr::Extract { field, expr, .. } => {
                self.out.push_str(&format!("EXTRACT({} FROM ", field.to_string().to_lowercase()));
                self.expr(expr, Parent::Function, Some(&SqlType::Timestamptz));
                self.out.push(')');
            }
            Expr::Ceil { expr, .. } => self.simple_call("ceil", expr),
            Expr::Floor { expr, .. } => self.simple_call("floor", expr),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            other => self.special(other),
        }
    }

    /// EXISTS, IN and scalar subqueries.
    fn subquery(&mut self, expr: &Expr, loose: bool) {
        match expr {
            Expr::Exists { subquery, negated } => {
                let body = |p: &mut Self| {
                    p.out.push_str("(EXISTS (");
                    p.inner(subquery);
                    p.out.push_str("))");
                };
                if *negated {
                    self.around(loose, |p| {
                        p.out.push_str("NOT ");
                        body(p);
                    });
                } else {
                    body(self);
                }
            }
            Expr::Subquery(query) => {
                self.out.push('(');
                self.inner(query);
                self.out.push(')');
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let body = |p: &mut Self| {
                    p.out.push('(');
                    p.expr(expr, Parent::Operator(0, false), None);
                    p.out.push_str(" IN (");
                    p.inner(subquery);
                    p.out.push_str("))");
                };
                if *negated {
                    self.around(loose, |p| {
                        p.out.push_str("NOT ");
                        body(p);
                    });
                } else {
                    body(self);
                }
            }
            _ => {}
        }
    }

    fn case(&mut self, expr: &Expr, expected: Option<&SqlType>) {
        let Expr::Case { operand, conditions, else_result, .. } = expr else { return };
        let ty = self.type_of(expr).or_else(|| expected.cloned()).or(Some(SqlType::Text));
        let over = operand.as_deref().and_then(|o| self.type_of(o)).map(|t| relabelled(&t).unwrap_or(t));
        self.keyword("CASE", 0, 4, 0);
        if let Some(operand) = operand {
            self.out.push(' ');
            self.expr(operand, Parent::Function, None);
        }
        for branch in conditions {
            self.keyword("WHEN ", 0, 0, 0);
            self.expr(&branch.condition, Parent::Function, over.as_ref());
            self.out.push_str(" THEN ");
            self.expr(&branch.result, Parent::Function, ty.as_ref());
        }
        self.keyword("ELSE ", 0, 0, 0);
        match else_result {
            Some(result) => self.expr(result, Parent::Function, ty.as_ref()),
            None => self.constant(&Value::Null, ty.as_ref()),
        }
        self.keyword("END", -4, 0, 0);
    }

    fn column(&mut self, expr: &Expr) {
        let (table, column) = match expr {
            Expr::Identifier(id) => (None, folded(id)),
            Expr::CompoundIdentifier(ids) => match ids.as_slice() {
                [.., table, column] => (Some(folded(table)), folded(column)),
                _ => return,
            },
            _ => return,
        };
        let found = find(&self.scopes, table.as_deref(), &column);
        if let Some(source) = found.as_ref().and_then(|f| f.source) {
            self.used.insert(source);
        }
        let bare_word = matches!(expr, Expr::Identifier(id) if id.quote_style.is_none() && found.is_none());
        if bare_word && BARE.contains(&column.as_str()) {
            self.out.push_str(&column.to_uppercase());
            return;
        }
        let alias = match found {
            Some(found) => found.alias,
            None => table,
        };
        if let Some(alias) = alias {
            self.out.push_str(&format!("{}.", quote_identifier(&alias)));
        }
        self.out.push_str(&quote_identifier(&column));
    }

    fn constant(&mut self, value: &Value, expected: Option<&SqlType>) {
        match value {
            Value::Null => {
                self.out.push_str("NULL");
                if let Some(ty) = expected {
                    self.out.push_str(&format!("::{}", spelling(ty)));
                }
            }
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) => self.text_constant(s, expected.unwrap_or(&SqlType::Text)),
            Value::DollarQuotedString(s) => self.text_constant(&s.value, expected.unwrap_or(&SqlType::Text)),
            Value::Number(n, _) => {
                let own = if n.parse::<i32>().is_ok() {
                    SqlType::Int4
                } else if n.parse::<i64>().is_ok() {
                    SqlType::Int8
                } else {
                    SqlType::Numeric(None)
                };
                match (&own, expected) {
                    (SqlType::Int4, Some(ty @ (SqlType::Numeric(_) | SqlType::Float8))) => {
                        self.out.push_str(&if self.pretty { format!("{n}::{}", ty.name()) } else { format!("({n})::{}", ty.name()) });
                    }
                    (SqlType::Int8, _) => self.out.push_str(&format!("'{n}'::bigint")),
                    (SqlType::Numeric(_), Some(SqlType::Float8)) => {
                        self.out.push_str(&if self.pretty { format!("{n}::double precision") } else { format!("({n})::double precision") });
                    }
                    _ => self.out.push_str(n),
                }
            }
            other => self.out.push_str(&other.to_string()),
        }
    }

    /// A string literal that is read as a value of this type.
    fn text_constant(&mut self, text: &str, ty: &SqlType) {
        match ty {
            SqlType::Int4 if text.trim().parse::<i32>().is_ok_and(|n| n >= 0) => self.out.push_str(text.trim()),
            SqlType::Numeric(_) if text.trim().parse::<f64>().is_ok_and(|n| n >= 0.0) => self.out.push_str(text.trim()),
            SqlType::Bool => match squilla_core::settings::parse_bool(text.trim()) {
                Some(value) => self.out.push_str(if value { "true" } else { "false" }),
                None => self.out.push_str(&quote_literal(text)),
            },
            ty => self.out.push_str(&format!("{}::{}", quote_literal(text), spelling(ty))),
        }
    }

    fn typed(&mut self, text: Option<&str>, ty: Option<SqlType>, whole: &Expr) {
        match (text, ty) {
            (Some(text), Some(ty)) => self.text_constant(text, &ty),
            _ => self.out.push_str(&whole.to_string()),
        }
    }

    fn cast(&mut self, inner: &Expr, whole: &Expr, parent: Parent) {
        let Expr::Cast { data_type, .. } = whole else { return };
        let Some(ty) = sql_type(data_type) else {
            // A type that only the catalog's text knows.
            self.around(true, |p| p.expr(inner, Parent::Tight, None));
            self.out.push_str(&format!("::{}", data_type.to_string().to_lowercase()));
            return;
        };
        if let Expr::Value(v) = inner
            && let Some(text) = v.value.clone().into_string()
        {
            return self.text_constant(&text, &ty);
        }
        if matches!(inner, Expr::Value(v) if v.value == Value::Null) {
            return self.constant(&Value::Null, Some(&ty));
        }
        let _ = parent;
        self.cast_to(inner, &ty);
    }

    /// `(x)::type`, or `x::type` where pretty.
    fn cast_to(&mut self, inner: &Expr, ty: &SqlType) {
        self.around(false, |p| p.expr(inner, Parent::Tight, None));
        self.out.push_str(&format!("::{}", spelling(ty)));
    }

    /// An operand with the cast that PostgreSQL adds to reach `target`.
    pub fn coerced(&mut self, expr: &Expr, target: Option<&SqlType>) {
        self.coerced_in(expr, target, Parent::Function);
    }

    fn coerced_in(&mut self, expr: &Expr, target: Option<&SqlType>, parent: Parent) {
        let own = self.type_of(expr);
        let constant = matches!(expr, Expr::Value(_));
        match (own, target) {
            (Some(own), Some(target)) if !constant && differs(&own, target) => self.cast_to(expr, target),
            _ => self.expr(expr, parent, target),
        }
    }

    fn logic(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, parent: Parent) {
        let (word, own) = if *op == BinaryOperator::And { (" AND ", Parent::And) } else { (" OR ", Parent::Or) };
        let needed = match parent {
            Parent::And | Parent::Not => own == Parent::Or || parent == Parent::Not,
            Parent::Operator(..) | Parent::Tight => true,
            _ => false,
        };
        let mut parts = Vec::new();
        flatten(left, op, &mut parts);
        flatten(right, op, &mut parts);
        self.around(needed, |p| {
            for (i, part) in parts.into_iter().enumerate() {
                if i > 0 {
                    p.out.push_str(word);
                }
                p.expr(part, own, Some(&SqlType::Bool));
            }
        });
    }

    fn operator(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, parent: Parent) {
        let rank = operator_rank(op);
        let needed = match parent {
            Parent::Operator(outer, second) => !(rank > 0 && outer > 0 && (rank > outer || rank == outer && !second)),
            Parent::Tight => true,
            _ => false,
        };
        self.around(needed, |p| p.bare_operator(left, &symbol(op), right, rank));
    }

    fn sides(&mut self, left: &Expr, word: &str, right: &Expr, needed: bool) {
        self.around(needed, |p| p.bare_sides(left, word, right));
    }

    fn bare_sides(&mut self, left: &Expr, word: &str, right: &Expr) {
        self.bare_operator(left, word, right, 0);
    }

    fn bare_operator(&mut self, left: &Expr, word: &str, right: &Expr, rank: u8) {
        let (l, r) = (self.type_of(left), self.type_of(right));
        let json = matches!(word, "->" | "->>" | "#>" | "#>>");
        let pattern = matches!(word, "~" | "~*" | "!~" | "!~*" | "~~" | "~~*" | "!~~" | "!~~*");
        let (to_left, to_right) = match (&l, &r) {
            _ if json => (None, r.clone().or(Some(if word.starts_with('#') { SqlType::Array(Box::new(SqlType::Text)) } else { SqlType::Text }))),
            _ if pattern || word == "||" && !matches!((&l, &r), (Some(SqlType::Array(_) | SqlType::Jsonb), _) | (_, Some(SqlType::Array(_)))) => {
                let side = |ty: &Option<SqlType>| match ty {
                    Some(t) if textual(t) && *t != SqlType::Name => Some(SqlType::Text),
                    Some(_) => None,
                    None => Some(SqlType::Text),
                };
                (side(&l), side(&r))
            }
            (Some(l), Some(r)) => {
                let both = common(l, r).filter(|t| *t != SqlType::Text || l != r);
                (both.clone(), both)
            }
            // An untyped constant takes the type of the other side; of varchar, text.
            (Some(l), None) => (relabelled(l), Some(relabelled(l).unwrap_or_else(|| l.clone()))),
            (None, Some(r)) => (Some(relabelled(r).unwrap_or_else(|| r.clone())), relabelled(r)),
            (None, None) => (None, None),
        };
        self.coerced_in(left, to_left.as_ref(), Parent::Operator(rank, false));
        self.out.push_str(&format!(" {word} "));
        self.coerced_in(right, to_right.as_ref(), Parent::Operator(rank, true));
    }

    fn test(&mut self, expr: &Expr, words: &str, needed: bool) {
        self.around(needed, |p| {
            p.expr(expr, Parent::Tight, None);
            p.out.push_str(&format!(" {words}"));
        });
    }

    fn between(&mut self, expr: &Expr, negated: bool, low: &Expr, high: &Expr, parent: Parent) {
        let needed = match parent {
            Parent::Top | Parent::Function => false,
            Parent::And => negated,
            Parent::Or => false,
            _ => true,
        };
        self.around(needed, |p| {
            p.sides(expr, if negated { "<" } else { ">=" }, low, false);
            p.out.push_str(if negated { " OR " } else { " AND " });
            p.sides(expr, if negated { ">" } else { "<=" }, high, false);
        });
    }

    fn in_list(&mut self, expr: &Expr, list: &[Expr], negated: bool, parent: Parent) {
        let ty = self.type_of(expr);
        if let [only] = list {
            return self.sides(expr, if negated { "<>" } else { "=" }, only, matches!(parent, Parent::Operator(..) | Parent::Tight));
        }
        let around = !self.pretty || !matches!(parent, Parent::Top | Parent::Function);
        if around {
            self.out.push('(');
        }
        let text = ty.as_ref().and_then(relabelled);
        self.coerced_in(expr, text.as_ref(), Parent::Operator(0, false));
        self.out.push_str(if negated { " <> ALL (" } else { " = ANY (" });
        let element = ty.or_else(|| list.iter().find_map(|e| self.type_of(e))).unwrap_or(SqlType::Text);
        let element = match element {
            SqlType::Varchar(_) => SqlType::Varchar(None),
            other => other,
        };
        let array = |p: &mut Self| {
            p.out.push_str("ARRAY[");
            p.typed_list(list, Some(&element));
            p.out.push(']');
        };
        match text {
            Some(text) => {
                self.around(false, array);
                self.out.push_str(&format!("::{}[]", text.name()));
            }
            None => array(self),
        }
        self.out.push_str(if around { "))" } else { ")" });
    }

    fn quantified(&mut self, left: &Expr, op: &BinaryOperator, word: &str, right: &Expr, parent: Parent) {
        let around = !self.pretty || !matches!(parent, Parent::Top | Parent::Function);
        if around {
            self.out.push('(');
        }
        let array = self.type_of(left).map(|t| SqlType::Array(Box::new(relabelled(&t).unwrap_or(t))));
        let text = self.type_of(left).as_ref().and_then(relabelled);
        self.coerced_in(left, text.as_ref(), Parent::Operator(0, false));
        self.out.push_str(&format!(" {} {word} (", symbol(op)));
        match right {
            Expr::Subquery(query) => self.inner(query),
            other => self.expr(other, Parent::Top, array.as_ref()),
        }
        self.out.push_str(if around { "))" } else { ")" });
    }

    /// Expressions with commas.
    pub fn list(&mut self, list: &[Expr], parent: Parent) {
        for (i, expr) in list.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.expr(expr, parent, Some(&SqlType::Text));
        }
    }

    fn typed_list(&mut self, list: &[Expr], ty: Option<&SqlType>) {
        for (i, expr) in list.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.expr(expr, Parent::Function, ty);
        }
    }
}

/// What SQL writes without parentheses.
const BARE: &[&str] = &[
    "current_user",
    "current_date",
    "current_timestamp",
    "current_time",
    "localtimestamp",
    "localtime",
    "session_user",
    "current_role",
    "current_catalog",
    "current_schema",
];
fn flatten<'e>(expr: &'e Expr, op: &BinaryOperator, parts: &mut Vec<&'e Expr>) {
    match expr {
        Expr::BinaryOp { left, op: own, right } if own == op => {
            flatten(left, op, parts);
            flatten(right, op, parts);
        }
        Expr::Nested(inner) if matches!(inner.as_ref(), Expr::BinaryOp { op: own, .. } if own == op) => flatten(inner, op, parts),
        other => parts.push(other),
    }
}

/// The type that operators see a column of this type as.
fn relabelled(ty: &SqlType) -> Option<SqlType> {
    matches!(ty, SqlType::Varchar(_)).then_some(SqlType::Text)
}

fn differs(own: &SqlType, target: &SqlType) -> bool {
    match (own, target) {
        (SqlType::Numeric(_), SqlType::Numeric(_)) | (SqlType::Varchar(_), SqlType::Varchar(_)) => false,
        (SqlType::Varchar(_) | SqlType::Char(_), SqlType::Text) => true,
        (own, SqlType::Numeric(_) | SqlType::Float8) => {
            matches!(own, SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric(_) | SqlType::Float4) && own != target
        }
        _ => false,
    }
}
