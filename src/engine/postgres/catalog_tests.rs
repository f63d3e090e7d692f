//! The catalog as a session sees it: queries of real clients planned and executed over a small catalog.
//!
//! In: a view with two tables and a view, and the queries in `testdata`. Out: passed or failed tests. Invariant: nothing
//! here is known to the code under test. Deliberately absent: the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DataFusionStatement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use squilla_core::declaration::Declaration;
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::postgres::{column_names, registry, rewrite};
use crate::system::objects::{ColumnInfo, RoleInfo, SchemaInfo, TableInfo, TableKind};
use crate::system::procs::{assemble, declared};
use crate::system::table::SystemTable;
use crate::system::view::{SystemView, ViewSource};

#[derive(Debug)]
struct Fixed(Arc<SystemView>);

impl ViewSource for Fixed {
    fn view(&self) -> Arc<SystemView> {
        Arc::clone(&self.0)
    }

    fn set_config(&self, _: &str, value: &str, _: bool) -> Result<String> {
        Ok(value.to_owned())
    }
}

fn column(name: &str, ty: &str, not_null: bool, default: Option<&str>) -> ColumnInfo {
    ColumnInfo {
        not_null,
        default: default.map(str::to_owned),
        comment: (name == "b").then(|| "letters".to_owned()),
        ..ColumnInfo::new(name, SqlType::parse(ty).unwrap())
    }
}

fn table(oid: u32, name: &str, kind: TableKind, columns: Vec<ColumnInfo>) -> TableInfo {
    TableInfo {
        oid,
        schema: "public".into(),
        name: name.into(),
        owner: "squilla".into(),
        comment: (name == "t").then(|| "a table".to_owned()),
        columns,
        kind,
        bytes: Some(8192),
        rows: Some(3),
        ..TableInfo::default()
    }
}

const PAGES: &str = "CREATE FUNCTION pages(data bytea, max_pages integer DEFAULT NULL, layout text DEFAULT 'plain') RETURNS TABLE(page_no integer, text text) LANGUAGE squilla IMMUTABLE STRICT AS 'pages';
    COMMENT ON FUNCTION pages IS 'The pages of a document.';";

fn view() -> SystemView {
    let role = |oid, name: &str, superuser, member_of: Vec<String>| RoleInfo {
        oid,
        name: name.into(),
        superuser,
        login: true,
        create_role: superuser,
        create_db: superuser,
        connection_limit: -1,
        has_password: false,
        member_of,
        comment: None,
    };
    let t = vec![
        column("a", "integer", true, None),
        column("b", "text", true, Some("'x'::text")),
        column("c", "numeric(10,2)", false, None),
        column("v", "vector", false, None),
        column("tags", "text[]", false, None),
    ];
    let v = vec![column("a", "integer", false, None), column("b", "text", false, None)];
    let external = TableKind::External { format: "parquet".into(), location: "s3://bucket/x/".into() };
    let tables = vec![
        table(16500, "t", TableKind::Table, t),
        table(16501, "v", TableKind::View { sql: "SELECT a, b FROM t".into() }, v.clone()),
        table(16502, "e", external, v),
    ];
    let schema = |oid, name: &str| SchemaInfo {
        oid,
        name: name.into(),
        owner: "squilla".into(),
        comment: (name == "public").then(|| "standard public schema".to_owned()),
    };
    SystemView {
        schemas: Arc::new(vec![schema(2200, "public"), schema(16490, "s")]),
        tables: Arc::new(tables.into()),
        roles: Arc::new(vec![role(10, "squilla", true, vec![]), role(16480, "ann", false, vec!["squilla".into()])]),
        procs: Arc::new(assemble(declared(&Declaration::parse(PAGES).unwrap(), "document").into_iter().chain(registry::procs())).into()),
        ..SystemView::default()
    }
}

fn context() -> SessionContext {
    let source: Arc<dyn ViewSource> = Arc::new(Fixed(Arc::new(view())));
    let functions = registry::functions(&source);
    let mut config = SessionConfig::new().with_target_partitions(1).with_default_catalog_and_schema("squilla", "public");
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let state = registry::install(SessionStateBuilder::new().with_config(config).with_default_features(), &functions).build();
    let mut context = SessionContext::new_with_state(state);
    registry::register(&mut context, &functions).unwrap();
    let catalog = MemoryCatalogProvider::new();
    for name in ["pg_catalog", "information_schema", "squilla", "public"] {
        let schema = MemorySchemaProvider::new();
        for relation in SystemTable::names(name) {
            schema.register_table(relation.clone(), Arc::new(SystemTable::new(name, &relation, Arc::clone(&source)).unwrap())).unwrap();
        }
        if name == "public" {
            for relation in SystemTable::names("pg_catalog") {
                schema.register_table(relation.clone(), Arc::new(SystemTable::new("pg_catalog", &relation, Arc::clone(&source)).unwrap())).unwrap();
            }
        }
        catalog.register_schema(name, Arc::new(schema)).unwrap();
    }
    context.register_catalog("squilla", Arc::new(catalog));
    context
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(crate::error::from_parser)?;
    let mut statement = statements.pop().ok_or_else(|| Error::internal("no statement"))?;
    rewrite::rewrite(&mut statement)?;
    let state = context.state();
    let plan = state.statement_to_plan(DataFusionStatement::Statement(Box::new(statement))).await.map_err(crate::error::from_datafusion)?;
    let frame = context.execute_logical_plan(plan).await.map_err(crate::error::from_datafusion)?;
    frame.collect().await.map_err(crate::error::from_datafusion)
}

/// Rows as lines, columns between bars.
async fn rows(context: &SessionContext, sql: &str) -> Vec<String> {
    let batches = run(context, sql).await.unwrap_or_else(|e| panic!("{sql}: {e} {e:?}"));
    if batches.iter().all(|b| b.num_rows() == 0) {
        return Vec::new();
    }
    let table = pretty_format_batches(&batches).unwrap().to_string();
    table
        .lines()
        .filter(|l| l.starts_with('|'))
        .skip(1)
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect()
}

/// Those that need the binder (lateral calls over outer columns) are records: `tests/sqllogictest/postgres/psql_meta_commands.slt`.
#[tokio::test]
async fn every_query_of_psql_runs() {
    let context = context();
    let mut failed = Vec::new();
    let text = include_str!("testdata/psql.sql");
    let queries: Vec<&str> = text.split("\n-- ").skip(1).collect();
    for query in &queries {
        let (command, sql) = query.split_once('\n').unwrap();
        if let Err(error) = run(&context, sql.trim().trim_end_matches(';')).await {
            failed.push(format!(
                "{command}: {} {} {:?}\n    {}",
                error.kind.sqlstate(),
                error.message,
                error.detail,
                sql.lines().take(40).collect::<Vec<_>>().join("\n    ")
            ));
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), queries.len(), failed.join("\n"));
}

#[tokio::test]
async fn relations_join_and_functions_answer() {
    let context = context();
    let cases: &[(&str, &[&str])] = &[
        (
            "SELECT c.relname, n.nspname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' ORDER BY 1",
            &["e|public|f", "t|public|r", "v|public|v"],
        ),
        (
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 't'::regclass ORDER BY attnum",
            &["a|integer|true", "b|text|true", "c|numeric(10,2)|false", "v|vector|false", "tags|text[]|false"],
        ),
        ("SELECT 't'::regclass::text, 16500::oid::regclass::text, 'pg_class'::regclass::oid::text", &["t|t|1259"]),
        (
            "SELECT 'information_schema.columns'::regclass::text, 23::regtype::text, 'double precision'::regtype::oid::text",
            &["information_schema.columns|integer|701"],
        ),
        (
            "SELECT typinput::text, typelem::regtype::text FROM pg_type WHERE typname IN ('_int4', 'vector') ORDER BY 1",
            &["array_in|integer", "vector_in|-"],
        ),
        (
            "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid), proargmodes FROM pg_proc WHERE proname = 'pages'",
            &[
                "data bytea, max_pages integer DEFAULT NULL::integer, layout text DEFAULT 'plain'::text|TABLE(page_no integer, text text)|[i, i, i, t, t]",
            ],
        ),
        ("SELECT obj_description('t'::regclass, 'pg_class'), col_description('t'::regclass, 2)", &["a table|letters"]),
        (
            "SELECT current_user, session_user, current_schema, current_database(), current_schemas(false)",
            &["squilla|squilla|public|squilla|[public]"],
        ),
        ("SELECT pg_get_viewdef('v'::regclass), pg_get_viewdef(16500)", &["SELECT t.a,|", "t.b|", "FROM t;|"]),
        (
            "SELECT has_table_privilege('t', 'select'), has_table_privilege('squilla', 't', 'insert'), has_schema_privilege('public', 'USAGE')",
            &["true|true|true"],
        ),
        (
            "SELECT rolname, ARRAY(SELECT b.rolname FROM pg_auth_members m JOIN pg_roles b ON m.roleid = b.oid WHERE m.member = r.oid) AS memberof FROM pg_roles r ORDER BY 1",
            &["ann|[squilla]", "squilla|[]"],
        ),
        (
            "SELECT (SELECT description FROM pg_description d WHERE d.objoid = c.oid AND d.objsubid = 0) FROM pg_class c WHERE relname IN ('t', 'v') ORDER BY relname",
            &["a table", ""],
        ),
        (
            "SELECT table_name, column_name, data_type, udt_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 't' ORDER BY ordinal_position",
            &["t|a|integer|int4", "t|b|text|text", "t|c|numeric|numeric", "t|v|USER-DEFINED|vector", "t|tags|ARRAY|_text"],
        ),
        ("SELECT name, kind, result FROM squilla.functions", &["pages|table|TABLE(page_no integer, text text)"]),
        ("SELECT count(*) > 50 FROM pg_settings", &["true"]),
        ("SELECT current_setting('server_version_num')::int >= 150000, current_setting('no.such', true)", &["true|"]),
        ("SELECT set_config('work_mem', '64MB', false)", &["64MB"]),
        (
            "SELECT '[1,2]'::vector, '{1,2}'::int[], '\\x41'::bytea, '1 day 2 hours'::interval::text, '{\"a\":1}'::jsonb",
            &["[1.0, 2.0]|[1, 2]|41|1 day 02:00:00|{\"a\": 1}"],
        ),
        (
            "SELECT '{1,2}'::int[]::text, '\\x4142'::bytea::text, 1.5::float8::text, 1e20::float8::text, timestamp '2024-01-02 03:04:05.5'::text",
            &["{1,2}|\\x4142|1.5|1e+20|2024-01-02 03:04:05.5"],
        ),
        ("SELECT 2 = ANY ('{1,2}'), 'b' = ANY (ARRAY['a','b']), 3 <> ALL (ARRAY[1,2])", &["true|true|true"]),
        (
            "SELECT 'abc' SIMILAR TO 'a%', 'abc' NOT SIMILAR TO '(b|c)%', 'a_b' LIKE 'a/_b' ESCAPE '/', 'axb' LIKE 'a/_b' ESCAPE '/'",
            &["true|true|true|false"],
        ),
        ("SELECT interval '1' day = interval '24 hours', INTERVAL '1.5 hours'::text, interval '-1 day'::text", &["true|01:30:00|-1 days"]),
        ("SELECT NULL, NULL, 1, 1", &["||1|1"]),
        ("SELECT pg_typeof(1::int2)::text, pg_typeof('{a}'::text[])::text, pg_typeof('[1]'::vector)::text", &["smallint|text[]|vector"]),
        ("SELECT timestamp '2024-01-01 12:00:00' AT TIME ZONE '+02:00' = timestamptz '2024-01-01 10:00:00Z'", &["true"]),
        ("SELECT DISTINCT ON (relkind) relkind, relname FROM pg_class WHERE relnamespace = 2200 ORDER BY relkind, relname", &["f|e", "r|t", "v|v"]),
        ("SELECT x FROM generate_series(1, 3) x", &["1", "2", "3"]),
        ("SELECT generate_series(1, 2)", &["1", "2"]),
        ("SELECT tableoid::regclass::text FROM pg_language WHERE lanname = 'sql'", &["pg_language"]),
        ("SELECT quote_ident('a b'), quote_literal('it''s'), format('%I.%s', 'A', 1), quote_nullable(NULL)", &["\"a b\"|'it''s'|\"A\".1|NULL"]),
        ("SELECT to_regclass('nothing'), to_regtype('int4')::text, to_regclass('public.t')::text", &["|integer|t"]),
        ("SELECT pg_size_pretty(pg_total_relation_size('t'))", &["8192 bytes"]),
        ("SELECT word, catcode FROM pg_get_keywords() WHERE word IN ('select', 'abort') ORDER BY 1", &["abort|U", "select|R"]),
        ("SELECT count(*) FROM pg_class WHERE oid = '16500' AND relname ~ '^t$' AND relkind = 'r'::\"char\"", &["1"]),
        ("SELECT 'a' COLLATE \"C\" < 'b' COLLATE pg_catalog.\"default\"", &["true"]),
        ("SELECT array_upper('{4,5}'::int[], 1), array_lower('{4,5}'::int[], 1), array_to_string(ARRAY['a',NULL,'b'], ',')", &["2|1|a,b"]),
        ("SELECT CASE WHEN 1 = 1 THEN (SELECT relname FROM pg_class WHERE oid = 16500) END", &["t"]),
        (
            "SELECT mod(10, 3), sign(-3.5), 1.5::int, -1.5::int, '{\"bb\": 1,\"a\":[true,null]}'::jsonb::text",
            &["1|-1.0|2|-2|{\"a\": [true, null], \"bb\": 1}"],
        ),
        (
            "SELECT 'abcdef'::varchar(3), timestamp '2026-11-20 12:30'::text, timestamptz '2026-11-20 12:30+02'::text",
            &["abc|2026-11-20 12:30:00|2026-11-20 10:30:00+00"],
        ),
        ("SELECT pg_typeof(array_length(ARRAY[1], 1))::text, pg_typeof(row_number() OVER ())::text, cardinality(ARRAY[1,2])", &["integer|bigint|2"]),
        (
            "SELECT pg_typeof(1)::text, pg_typeof(-1)::text, pg_typeof(3000000000)::text, pg_typeof(ARRAY[1])::text, pg_typeof(x)::text, pg_typeof(coalesce(x, 0))::text FROM (VALUES (1)) v(x)",
            &["integer|integer|bigint|integer[]|integer|integer"],
        ),
        ("SELECT 1000000::bigint * 1000000, 2147483647::bigint + 1", &["1000000000000|2147483648"]),
        ("SELECT CASE WHEN true THEN 1 ELSE 2 END, x FROM (SELECT 1 AS x UNION ALL SELECT 2) t GROUP BY 1, 2 ORDER BY 2 LIMIT 1", &["1|1"]),
        ("SELECT encode('\\x0102'::bytea, 'hex'), encode('\\x0102'::bytea, 'base64'), decode('ff', 'hex')", &["0102|AQI=|ff"]),
        ("SELECT indrelid FROM pg_index", &[]),
        (
            "SELECT relname, (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > c.relnatts - 2) FROM pg_class c WHERE c.relnamespace = 2200 ORDER BY 1",
            &["e|2", "t|2", "v|2"],
        ),
        (
            "SELECT relname FROM pg_class c WHERE relnamespace = 2200 AND (SELECT max(attnum) FROM pg_attribute a WHERE a.attrelid <= c.oid AND a.attrelid >= c.oid) > 2",
            &["t"],
        ),
        (
            "SELECT relname, ARRAY(SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > c.relnatts ORDER BY 1) FROM pg_class c WHERE c.oid = 16500",
            &["t|[]"],
        ),
        ("SELECT x.count FROM (SELECT count(*) FROM pg_namespace) x", &["5"]),
    ];
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        match run(&context, sql).await {
            Err(error) => wrong.push(format!("{sql}\n    {} {} {:?}", error.kind.sqlstate(), error.message, error.detail)),
            Ok(_) => {
                let given = rows(&context, sql).await;
                if given != *expected {
                    wrong.push(format!("{sql}\n    gave {given:?}\n    want {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn mistakes_have_their_code() {
    let context = context();
    for (sql, state) in [
        ("SELECT 'nothing'::regclass", "42P01"),
        ("SELECT 'x'::nothing", "42704"),
        ("SELECT '[1,x]'::vector", "22P02"),
        ("SELECT interval 'soon'", "22007"),
        ("SELECT current_setting('no.such')", "42704"),
        ("SELECT has_table_privilege('t', 'fly')", "22023"),
        ("SELECT (SELECT relname FROM pg_class)", "21000"),
        ("SELECT (SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid) FROM pg_class c", "21000"),
        ("SELECT 'a' COLLATE \"de_DE\"", "42704"),
        ("SELECT format_type(1)", "42883"),
    ] {
        match run(&context, sql).await {
            Ok(batches) => panic!("{sql}: {}", pretty_format_batches(&batches).unwrap()),
            Err(error) => assert_eq!(error.kind.sqlstate(), state, "{sql}: {error}"),
        }
    }
}

#[tokio::test]
async fn output_columns_have_their_names() {
    let context = context();
    let batches = run(&context, "SELECT 1, NULL, NULL, count(*), max(relname)::text, 'a'::varchar, current_user FROM pg_class").await.unwrap();
    let schema = batches[0].schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| column_names::shown(f.name())).collect();
    assert_eq!(names, ["?column?", "?column?", "?column?", "count", "max", "varchar", "current_user"]);
}
