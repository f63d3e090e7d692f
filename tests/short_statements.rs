//! Statements without a plan of operators answer as planned ones do: the same reads in two sessions, of which one has
//! `squilla.short_statements` off, over both protocols, while rows and definitions change.
//!
//! In: a seed (`SHORT_SEED`). Out: the first read whose rows or columns differ. Invariant: what is read is a function of the
//! seed alone. Deliberately absent: what PostgreSQL answers (`differential`).

use std::collections::HashMap;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use crate::client::connect;
use crate::server_process::Server;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// The bytes of a value.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Bytes(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A parameter that is an int4 or int8, as the statement asks.
#[derive(Debug)]
struct Number(Option<i64>);

impl ToSql for Number {
    fn to_sql(&self, ty: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self.0, ty) {
            (None, _) => Ok(IsNull::Yes),
            (Some(n), &Type::INT4) => (n as i32).to_sql(ty, out),
            (Some(n), _) => n.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

const TABLES: &[&str] = &[
    "CREATE TABLE a (id int PRIMARY KEY, g text, n bigint, f float8, at timestamptz, UNIQUE (g, n))",
    "CREATE TABLE b (id bigint PRIMARY KEY, g varchar(30) NOT NULL UNIQUE, n smallint, m numeric(12,3), tags text[])",
    "INSERT INTO a SELECT i, 'g' || i % 50, i / 50, i / 7.0, timestamptz '2026-01-01 00:00+00' + i * interval '1 hour' FROM generate_series(1, 20000) s(i)",
    "INSERT INTO b SELECT i * 10, 'name ' || i, i % 100, i / 8.0, ARRAY['t' || i, NULL] FROM generate_series(1, 20000) s(i)",
];

fn change(dice: &mut Dice) -> String {
    let (key, n) = (dice.below(20_100), dice.below(9));
    match dice.below(8) {
        0 => format!("INSERT INTO a VALUES ({}, 'new {key}', {n}, 0.5, NULL) ON CONFLICT DO NOTHING", 20_000 + key % 200),
        1 => format!("INSERT INTO b VALUES ({}, 'new {key}', {n}, NULL, NULL) ON CONFLICT DO NOTHING", key * 10 + 1),
        2 => format!("UPDATE a SET f = f + 1, g = 'up {key}' WHERE id = {key}"),
        3 => format!("UPDATE b SET m = m + 1 WHERE id = {}", key * 10),
        4 => format!("DELETE FROM a WHERE id BETWEEN {key} AND {}", key + n),
        5 => format!("DELETE FROM b WHERE id = {}", key * 10),
        6 => format!("ALTER TABLE {} ADD COLUMN c{key} int DEFAULT {n}", dice.pick(&["a", "b"])),
        _ => format!("INSERT INTO a SELECT i, 'more', i, NULL, NULL FROM generate_series({0}, {0} + 20) s(i) ON CONFLICT DO NOTHING", 30_000 + key),
    }
}

/// A read with `$1` in the place of the key, and the key. Half of the keys are near rows that change.
fn read(dice: &mut Dice) -> (&'static str, i64) {
    let queries = [
        "SELECT * FROM a WHERE id = $1",
        "SELECT q.g, q.n FROM a AS q WHERE q.id = $1",
        "SELECT f * 2 AS twice, upper(g), at, id % 2 = 0 FROM a WHERE id = $1 AND n > 3",
        "SELECT * FROM public.b WHERE b.id = $1",
        "SELECT m, tags, CASE WHEN n > 50 THEN 'high' ELSE g END FROM b WHERE (id = $1) AND m IS NOT NULL",
        "SELECT n + 1, g || '!', m::text FROM b WHERE $1 = id",
        "SELECT id FROM a WHERE g = 'g7' AND n = $1",
        "SELECT count(*) FROM a WHERE id = $1",
        "SELECT a.id, b.id FROM a JOIN b ON b.id = a.id * 10 WHERE a.id = $1",
        "SELECT id FROM b WHERE id = $1 OR id = 30 ORDER BY id",
    ];
    let query = queries[dice.below(queries.len())];
    let key = match dice.below(12) {
        0 => 3_000_000_000,
        1 => -1,
        _ => dice.below(20_200) as i64,
    };
    (
        query,
        if query.contains("FROM b") || query.contains("public.b") {
            key * 10
        } else if query.contains("n = $1") {
            key % 400
        } else {
            key
        },
    )
}

async fn simple(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let told = client.simple_query(sql).await.map_err(|e| e.as_db_error().map_or_else(|| e.to_string(), |e| e.code().code().to_owned()))?;
    let rows = told.iter().filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None });
    Ok(rows.map(|row| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()).collect())
}

/// The columns of a prepared statement, and the bytes of its rows for a key.
async fn extended(client: &Client, statement: &Statement, key: Option<i64>) -> Result<Vec<Vec<Option<Vec<u8>>>>, String> {
    // A key that is no int4 cannot be sent as one.
    let narrow = statement.params().first() == Some(&Type::INT4);
    let key = if narrow { key.map(|k| i64::from(k as i32)) } else { key };
    let rows =
        client.query(statement, &[&Number(key)]).await.map_err(|e| e.as_db_error().map_or_else(|| e.to_string(), |e| e.code().code().to_owned()))?;
    Ok(rows.iter().map(|row| (0..row.len()).map(|i| row.get::<_, Option<Bytes>>(i).map(|b| b.0)).collect()).collect())
}

fn columns(statement: &Statement) -> Vec<(String, u32, Option<u32>, Option<i16>)> {
    statement.columns().iter().map(|c| (c.name().to_owned(), c.type_().oid(), c.table_oid(), c.column_id())).collect()
}

#[tokio::test]
async fn short_statements_answer_as_planned_ones_do() {
    let server = Server::start(&[]);
    let (short, planned, writer) =
        (connect(&server.config()).await.unwrap(), connect(&server.config()).await.unwrap(), connect(&server.config()).await.unwrap());
    planned.batch_execute("SET squilla.short_statements = off").await.unwrap();
    for sql in TABLES {
        writer.batch_execute(sql).await.unwrap();
    }
    let seed = std::env::var("SHORT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1_u64);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut known, mut rows) = (HashMap::new(), 0);
    for round in 0..60 {
        let sql = change(&mut dice);
        writer.batch_execute(&sql).await.unwrap();
        if sql.starts_with("ALTER") {
            // Statements that were prepared before have the columns of before.
            known.clear();
        }
        for _ in 0..25 {
            let (query, key) = read(&mut dice);
            let text = query.replace("$1", &key.to_string());
            let (found, expected) = (simple(&short, &text).await, simple(&planned, &text).await);
            assert_eq!(found, expected, "seed {seed}, round {round} after {sql}: {text}");
            if !known.contains_key(query) {
                known.insert(query, (short.prepare(query).await.unwrap(), planned.prepare(query).await.unwrap()));
            }
            let (ours, theirs) = &known[query];
            assert_eq!(columns(ours), columns(theirs), "{query}");
            assert_eq!(ours.params(), theirs.params(), "{query}");
            let key = if dice.below(20) == 0 { None } else { Some(key) };
            let (found, expected) = (extended(&short, ours, key).await, extended(&planned, theirs, key).await);
            assert_eq!(found, expected, "seed {seed}, round {round} after {sql}: {query} with {key:?}");
            rows += found.map_or(0, |rows| rows.len());
        }
    }
    assert!(rows > 300, "only {rows} rows were read");
}
