//! Calls: arguments with the casts that PostgreSQL adds, aggregates with their clauses, windows.
//!
//! In: the tree of a call. Out: its text. Invariant: a name that is a keyword is quoted, except for the forms that SQL
//! writes as functions. Deliberately absent: numeric coercion of arguments; overloads are not resolved here.

use sqlparser::ast::{
    AccessExpr, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, OrderByExpr, Subscript,
    WindowType,
};
use squilla_core::types::{RegKind, SqlType};

use crate::postgres::names;
use crate::postgres::syntax::{folded, function_name, literal};
use crate::statement::name_parts;
use crate::system::procs::{quote_identifier, quote_literal};
use crate::system::types;

use super::Printer;
use super::expression::Parent;
use super::typing::argument;

/// Expressions that look like functions.
const UPPER: &[&str] = &["coalesce", "greatest", "least", "nullif"];

impl Printer<'_> {
    /// `name(expr)`
    pub fn simple_call(&mut self, name: &str, expr: &Expr) {
        self.out.push_str(name);
        self.out.push('(');
        self.expr(expr, Parent::Function, None);
        self.out.push(')');
    }

    /// The forms of SQL that are functions: SUBSTRING, POSITION, TRIM, OVERLAY.
    pub fn special(&mut self, expr: &Expr) {
        let text = Some(&SqlType::Text);
        match expr {
            Expr::Substring { expr, substring_from, substring_for, special, .. } => {
                self.out.push_str(if *special { "\"substring\"(" } else { "SUBSTRING(" });
                self.coerced(expr, text);
                for (word, part) in [(" FROM ", substring_from), (" FOR ", substring_for)] {
                    if let Some(part) = part {
                        self.out.push_str(if *special { ", " } else { word });
                        self.expr(part, Parent::Function, text);
                    }
                }
                self.out.push(')');
            }
            Expr::Position { expr, r#in } => {
                self.out.push_str("POSITION((");
                self.expr(expr, Parent::Function, text);
                self.out.push_str(") IN (");
                self.coerced(r#in, text);
                self.out.push_str("))");
            }
            Expr::Trim { trim_where, trim_what, expr, .. } => {
                self.out.push_str(&format!("TRIM({} FROM ", trim_where.map_or_else(|| "BOTH".to_owned(), |w| w.to_string())));
                if let Some(what) = trim_what {
                    let kept = self.out.len() - "FROM ".len();
                    self.out.truncate(kept);
                    self.expr(what, Parent::Function, text);
                    self.out.push_str(" FROM ");
                }
                self.coerced(expr, text);
                self.out.push(')');
            }
            other => self.out.push_str(&other.to_string()),
        }
    }

    /// Subscripts and fields.
    pub fn access(&mut self, root: &Expr, chain: &[AccessExpr]) {
        let simple = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let fields = chain.iter().any(|a| matches!(a, AccessExpr::Dot(_)));
        if !simple || fields {
            self.out.push('(');
        }
        self.expr(root, Parent::Tight, None);
        if !simple || fields {
            self.out.push(')');
        }
        for step in chain {
            match step {
                AccessExpr::Dot(Expr::Identifier(id)) => self.out.push_str(&format!(".{}", quote_identifier(&folded(id)))),
                AccessExpr::Dot(other) => self.out.push_str(&format!(".{other}")),
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    self.out.push('[');
                    self.expr(index, Parent::Function, Some(&SqlType::Int4));
                    self.out.push(']');
                }
                AccessExpr::Subscript(slice) => self.out.push_str(&format!("[{slice}]")),
            }
        }
    }

    /// One argument of a call; `ty` is the declared type.
    pub fn argument(&mut self, arg: &FunctionArg, ty: Option<&SqlType>) {
        match arg {
            FunctionArg::Named { name, .. } => self.out.push_str(&format!("{} => ", quote_identifier(&folded(name)))),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), .. } => self.out.push_str(&format!("{} => ", quote_identifier(&folded(name)))),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => self.out.push('*'),
            _ => {}
        }
        match argument(arg) {
            Some(expr) => self.coerced(expr, ty),
            None if matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard)) => {}
            None => self.out.push_str(&arg.to_string()),
        }
    }

    /// The sequence of `nextval('s')`, which is a regclass; false for other arguments.
    fn sequence(&mut self, function: &str, arg: &FunctionArg) -> bool {
        if !matches!(function, "nextval" | "currval" | "setval") {
            return false;
        }
        let Some(text) = argument(arg).and_then(literal) else { return false };
        let oid = names::find(self.view, RegKind::Class, text).ok().flatten();
        let shown = oid.map_or_else(|| text.to_owned(), |oid| names::print(self.view, RegKind::Class, oid));
        self.out.push_str(&format!("{}::regclass", quote_literal(&shown)));
        true
    }

    /// A call with all its clauses.
    pub fn call(&mut self, function: &Function, whole: &Expr) {
        let name = function_name(whole).unwrap_or_else(|| name_parts(&function.name).pop().unwrap_or_default());
        let FunctionArguments::List(list) = &function.args else {
            return match &function.args {
                FunctionArguments::Subquery(query) => {
                    self.out.push_str(&format!("{}(", name.to_uppercase()));
                    self.query(query);
                    self.out.push(')');
                }
                _ => self.out.push_str(&name.to_uppercase()),
            };
        };
        let shown = if UPPER.contains(&name.as_str()) { name.to_uppercase() } else { quote_identifier(&name) };
        self.out.push_str(&shown);
        self.out.push('(');
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            self.out.push_str("DISTINCT ");
        }
        let count = list.args.len();
        let declared: Vec<Option<SqlType>> = self
            .view
            .procs
            .named(&name)
            .find(|p| p.inputs().count() == count)
            .map(|p| p.inputs().map(|a| types::by_oid(a.ty).filter(|t| t.kind != "p").and_then(|t| SqlType::parse(&t.name))).collect())
            .unwrap_or_default();
        let same = UPPER.contains(&name.as_str()).then(|| self.type_of(whole)).flatten();
        for (i, arg) in list.args.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            // Only text is coerced: numbers have overloads that are not looked at here.
            if i == 0 && self.sequence(&name, arg) {
                continue;
            }
            let ty = declared.get(i).cloned().flatten().filter(|t| *t == SqlType::Text || argument(arg).is_some_and(|e| self.type_of(e).is_none()));
            self.argument(arg, ty.as_ref().or(same.as_ref()));
        }
        for clause in &list.clauses {
            if let FunctionArgumentClause::OrderBy(order) = clause {
                self.out.push_str(" ORDER BY ");
                self.order_list(order);
            }
        }
        self.out.push(')');
        if !function.within_group.is_empty() {
            self.out.push_str(" WITHIN GROUP (ORDER BY ");
            self.order_list(&function.within_group);
            self.out.push(')');
        }
        if let Some(filter) = &function.filter {
            self.out.push_str(" FILTER (WHERE ");
            self.expr(filter, Parent::Top, None);
            self.out.push(')');
        }
        match &function.over {
            Some(WindowType::NamedWindow(window)) => self.out.push_str(&format!(" OVER {}", quote_identifier(&folded(window)))),
            Some(WindowType::WindowSpec(spec)) => {
                self.out.push_str(" OVER (");
                let mut space = "";
                if !spec.partition_by.is_empty() {
                    self.out.push_str("PARTITION BY ");
                    self.list(&spec.partition_by, Parent::Top);
                    space = " ";
                }
                if !spec.order_by.is_empty() {
                    self.out.push_str(&format!("{space}ORDER BY "));
                    self.order_list(&spec.order_by);
                    space = " ";
                }
                if let Some(frame) = &spec.window_frame {
                    let end = frame.end_bound.as_ref().map(|e| format!(" AND {e}")).unwrap_or_else(|| " AND CURRENT ROW".into());
                    self.out.push_str(&format!("{space}{} BETWEEN {}{end}", frame.units, frame.start_bound));
                }
                self.out.push(')');
            }
            None => {}
        }
    }

    fn order_list(&mut self, order: &[OrderByExpr]) {
        for (i, item) in order.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.sorted(&item.expr);
            self.direction(item);
        }
    }
}
