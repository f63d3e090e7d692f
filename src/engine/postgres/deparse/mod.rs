//! Queries and expressions of the catalog as PostgreSQL prints them: `pg_get_viewdef` and its neighbours.
//!
//! In: the text of a view, a check, a default. Out: SQL in PostgreSQL's own layout, with columns qualified, wildcards
//! spelt out and constants given their types. Invariant: what is printed reads back to the same meaning; what this
//! version cannot lay out is printed as the parser prints it. Deliberately absent: names that only planning finds
//! (columns of files); they stay as they were written.

mod call;
mod expression;
mod from;
mod query;
mod scope;
mod typing;

use std::collections::{BTreeSet, HashMap};

use sqlparser::ast::{Query, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use squilla_core::types::SqlType;

use crate::system::objects::TableInfo;
use crate::system::view::SystemView;

use self::expression::Parent;
use self::scope::{Item, Scope};

/// Depth of nesting that the printer follows; beyond, the parser's own print is used.
const DEPTH_MAX: usize = 64;

/// Spaces of one level of a query.
const STEP: i32 = 8;

/// Names of columns, and their types where they are known.
type Columns = Vec<(String, Option<SqlType>)>;

struct Printer<'a> {
    view: &'a SystemView,
    pretty: bool,
    out: String,
    level: i32,
    depth: usize,
    /// Whether the names of output columns matter.
    named: bool,
    scopes: Vec<Scope>,
    /// Common table expressions in scope: name and output columns.
    ctes: Vec<(String, Columns)>,
    /// Columns of relations that were named: OID, number.
    used: BTreeSet<(u32, i16)>,
    /// Subqueries of FROM that were printed for their columns, by address.
    derived: HashMap<usize, String>,
}

impl<'a> Printer<'a> {
    fn new(view: &'a SystemView, pretty: bool) -> Self {
        Self {
            view,
            pretty,
            out: String::new(),
            level: 0,
            depth: 0,
            named: true,
            scopes: Vec::new(),
            ctes: Vec::new(),
            used: BTreeSet::new(),
            derived: HashMap::new(),
        }
    }

    /// A keyword on a new line; PostgreSQL's rules for how deep.
    fn keyword(&mut self, text: &str, before: i32, after: i32, plus: i32) {
        self.level += before;
        let kept = self.out.trim_end_matches(' ').len();
        self.out.truncate(kept);
        self.out.push('\n');
        let (limit, level) = (40, self.level.max(0));
        let amount = if level < limit { level } else { (limit + (level - limit) / (STEP / 2)) % limit };
        self.out.extend(std::iter::repeat_n(' ', usize::try_from(amount + plus).unwrap_or(0)));
        self.out.push_str(text);
        self.level = (self.level + after).max(0);
    }

    /// What `print` appends, by itself.
    fn aside(&mut self, print: impl FnOnce(&mut Self)) -> String {
        let before = std::mem::take(&mut self.out);
        print(self);
        std::mem::replace(&mut self.out, before)
    }
}

fn parsed(sql: &str) -> Option<Box<Query>> {
    let depth = 500;
    let statements = stacker::maybe_grow(1 << 20, 16 << 20, || {
        Parser::new(&PostgreSqlDialect {}).with_recursion_limit(depth).try_with_sql(sql).and_then(|mut p| p.parse_statements())
    });
    match statements.ok()?.pop()? {
        Statement::Query(query) => Some(query),
        _ => None,
    }
}

fn printed(view: &SystemView, sql: &str, pretty: bool) -> Option<(String, BTreeSet<(u32, i16)>)> {
    let query = parsed(sql)?;
    let mut printer = Printer::new(view, pretty);
    stacker::maybe_grow(1 << 20, 16 << 20, || printer.query(&query));
    Some((printer.out, printer.used))
}

/// The query of a view, with its closing semicolon.
pub fn view(view: &SystemView, sql: &str, pretty: bool) -> String {
    let text = printed(view, sql, pretty).map_or_else(|| format!(" {}", sql.trim().trim_end_matches(';')), |(text, _)| text);
    format!("{text};")
}

/// Numbers of the columns of `table` that a query names.
pub fn columns_used(view: &SystemView, sql: &str, table: &TableInfo) -> Vec<i16> {
    let used = printed(view, sql, true).map(|(_, used)| used).unwrap_or_default();
    used.into_iter().filter(|(oid, _)| *oid == table.oid).map(|(_, number)| number).collect()
}

/// An expression over the columns of one table, which are not qualified; `expected` is the type it becomes.
pub fn expression(view: &SystemView, table: Option<&TableInfo>, sql: &str, expected: Option<&SqlType>, pretty: bool) -> String {
    let parse = || Parser::new(&PostgreSqlDialect {}).with_recursion_limit(500).try_with_sql(sql).and_then(|mut p| p.parse_expr());
    let Ok(expr) = stacker::maybe_grow(1 << 20, 16 << 20, parse) else { return sql.to_owned() };
    let mut printer = Printer::new(view, pretty);
    let items = table.map(|t| Item { bare: true, ..Item::of_table(t, &t.name) }).into_iter().collect();
    printer.scopes.push(Scope { items });
    stacker::maybe_grow(1 << 20, 16 << 20, || printer.expr(&expr, Parent::Top, expected));
    printer.out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use super::*;
    use crate::system::objects::{ColumnInfo, SchemaInfo};

    fn catalog() -> SystemView {
        let column = |name: &str, ty: &str| ColumnInfo::new(name, SqlType::parse(ty).unwrap());
        let table = |oid, name: &str, columns| TableInfo {
            oid,
            schema: "zz".into(),
            name: name.into(),
            owner: "squilla".into(),
            columns,
            ..TableInfo::default()
        };
        let t = table(
            16500,
            "t",
            vec![
                column("id", "int"),
                column("name", "text"),
                column("code", "varchar(8)"),
                column("price", "numeric(10,2)"),
                column("at", "timestamptz"),
            ],
        );
        let u = table(16501, "u", vec![column("id", "int"), column("tid", "int"), column("tags", "text[]")]);
        let schema = SchemaInfo { oid: 16490, name: "zz".into(), owner: "squilla".into(), comment: None };
        SystemView { schemas: Arc::new(vec![schema]), tables: Arc::new(vec![t, u].into()), ..SystemView::default() }
    }

    /// Taken from PostgreSQL 15 over the same two tables.
    const CASES: &[(&str, &str, &str)] = &[
        ("SELECT id FROM zz.t", " SELECT t.id\n   FROM zz.t;", " SELECT t.id\n   FROM zz.t;"),
        (
            "SELECT id, upper(name) AS n, code FROM zz.t WHERE id > 5 AND (name = 'x' OR code = 'y') ORDER BY id DESC LIMIT 10",
            " SELECT t.id,\n    upper(t.name) AS n,\n    t.code\n   FROM zz.t\n  WHERE ((t.id > 5) AND ((t.name = 'x'::text) OR ((t.code)::text = 'y'::text)))\n  ORDER BY t.id DESC\n LIMIT 10;",
            " SELECT t.id,\n    upper(t.name) AS n,\n    t.code\n   FROM zz.t\n  WHERE t.id > 5 AND (t.name = 'x'::text OR t.code::text = 'y'::text)\n  ORDER BY t.id DESC\n LIMIT 10;",
        ),
        (
            "SELECT a.*, b.tags FROM zz.t a LEFT JOIN zz.u b ON a.id = b.tid",
            " SELECT a.id,\n    a.name,\n    a.code,\n    a.price,\n    a.at,\n    b.tags\n   FROM (zz.t a\n     LEFT JOIN zz.u b ON ((a.id = b.tid)));",
            " SELECT a.id,\n    a.name,\n    a.code,\n    a.price,\n    a.at,\n    b.tags\n   FROM zz.t a\n     LEFT JOIN zz.u b ON a.id = b.tid;",
        ),
        (
            "SELECT count(*) AS n, sum(price) FROM zz.t GROUP BY code HAVING count(*) > 1",
            " SELECT count(*) AS n,\n    sum(t.price) AS sum\n   FROM zz.t\n  GROUP BY t.code\n HAVING (count(*) > 1);",
            " SELECT count(*) AS n,\n    sum(t.price) AS sum\n   FROM zz.t\n  GROUP BY t.code\n HAVING count(*) > 1;",
        ),
        (
            "SELECT id FROM zz.t UNION ALL SELECT tid FROM zz.u",
            " SELECT t.id\n   FROM zz.t\nUNION ALL\n SELECT u.tid AS id\n   FROM zz.u;",
            " SELECT t.id\n   FROM zz.t\nUNION ALL\n SELECT u.tid AS id\n   FROM zz.u;",
        ),
        (
            "SELECT CASE WHEN id > 1 THEN 'a' ELSE 'b' END AS c, id + 1 AS d FROM zz.t WHERE id IN (1, 2) AND name LIKE 'x%'",
            " SELECT\n        CASE\n            WHEN (t.id > 1) THEN 'a'::text\n            ELSE 'b'::text\n        END AS c,\n    (t.id + 1) AS d\n   FROM zz.t\n  WHERE ((t.id = ANY (ARRAY[1, 2])) AND (t.name ~~ 'x%'::text));",
            " SELECT\n        CASE\n            WHEN t.id > 1 THEN 'a'::text\n            ELSE 'b'::text\n        END AS c,\n    t.id + 1 AS d\n   FROM zz.t\n  WHERE (t.id = ANY (ARRAY[1, 2])) AND t.name ~~ 'x%'::text;",
        ),
        (
            "WITH w AS (SELECT id FROM zz.t) SELECT w.id FROM w WHERE EXISTS (SELECT 1 FROM zz.u WHERE u.tid = w.id)",
            " WITH w AS (\n         SELECT t.id\n           FROM zz.t\n        )\n SELECT w.id\n   FROM w\n  WHERE (EXISTS ( SELECT 1\n           FROM zz.u\n          WHERE (u.tid = w.id)));",
            " WITH w AS (\n         SELECT t.id\n           FROM zz.t\n        )\n SELECT w.id\n   FROM w\n  WHERE (EXISTS ( SELECT 1\n           FROM zz.u\n          WHERE u.tid = w.id));",
        ),
    ];

    #[test]
    fn views_are_laid_out_as_postgresql_lays_them_out() {
        let catalog = catalog();
        for (sql, plain, pretty) in CASES {
            assert_eq!(super::view(&catalog, sql, false), *plain, "{sql}");
            assert_eq!(super::view(&catalog, sql, true), *pretty, "{sql}");
        }
    }

    #[test]
    fn columns_of_one_table_are_not_qualified() {
        let catalog = catalog();
        let t = catalog.tables.by_oid(16500).unwrap();
        assert_eq!(expression(&catalog, Some(t), "id > 0 AND code <> ''", None, false), "((id > 0) AND ((code)::text <> ''::text))");
        assert_eq!(expression(&catalog, Some(t), "'x'", Some(&SqlType::Text), false), "'x'::text");
        assert_eq!(columns_used(&catalog, "SELECT id FROM zz.t WHERE price > 1", t), [1, 4]);
    }
}
