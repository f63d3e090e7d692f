//! The extended protocol as drivers use it: parameters, prepared statements, portals with row limits, error fields.
//!
//! In: the shared server (or PostgreSQL itself, see `main.rs`: all of this holds there, too). Out: values and SQLSTATEs.
//! Types are written out, because that literals have PostgreSQL's types is a matter of the records.
//! Deliberately absent: text of results, which the records check over both protocols.

use tokio_postgres::types::Type;

use crate::client::connect;
use crate::server_process::shared;

#[tokio::test]
async fn parameters_have_the_types_of_their_places() {
    let client = connect(&shared()).await.unwrap();
    let row = client
        .query_one(
            "SELECT $1::int4 + 1::int4, $2::text || 'x', $3::float8 * 2, NOT $4::bool, $5::bytea",
            &[&1i32, &"a", &1.5f64, &true, &&[0u8, 255][..]],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 2);
    assert_eq!(row.get::<_, &str>(1), "ax");
    assert!((row.get::<_, f64>(2) - 3.0).abs() < 1e-12);
    assert!(!row.get::<_, bool>(3));
    assert_eq!(row.get::<_, &[u8]>(4), [0, 255]);
}

#[tokio::test]
async fn types_of_parameters_follow_from_columns_and_operators() {
    let client = connect(&shared()).await.unwrap();
    let made = "CREATE TEMP TABLE typed (id int, name text, code varchar(2), price numeric(9,2), tags text[])";
    client.batch_execute(made).await.unwrap();
    for (sql, types) in [
        ("INSERT INTO typed VALUES ($1, $2, $3, $4, $5)", "int4 text varchar numeric _text"),
        ("INSERT INTO typed (price, id) SELECT $1, $2", "numeric int4"),
        ("UPDATE typed SET price = $1 WHERE id = $2", "numeric int4"),
        ("DELETE FROM typed WHERE name = $1 AND id > $2", "text int4"),
        ("SELECT 1 FROM typed WHERE id = ANY($1) AND name <> ALL($2)", "_int4 _text"),
        ("SELECT 1 FROM typed WHERE code = $1 OR name = $1", "text"),
        ("SELECT $1 || 'x', $2::numeric, $3::\"pg_catalog\".\"int4\"", "text numeric int4"),
    ] {
        let statement = client.prepare(sql).await.unwrap();
        let found: Vec<&str> = statement.params().iter().map(|t| t.name()).collect();
        assert_eq!(found.join(" "), types, "{sql}");
    }
}

#[tokio::test]
async fn null_and_array_parameters() {
    let client = connect(&shared()).await.unwrap();
    let row =
        client.query_one("SELECT $1::int4 IS NULL, $2::int4[], $3::text[]", &[&None::<i32>, &vec![1, 2], &vec![Some("a"), None]]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, Vec<i32>>(1), [1, 2]);
    assert_eq!(row.get::<_, Vec<Option<String>>>(2), [Some("a".to_owned()), None]);
}

#[tokio::test]
async fn a_parameter_may_come_twice_and_in_limit() {
    let client = connect(&shared()).await.unwrap();
    let rows = client
        .query("SELECT g FROM generate_series(1, $1::int4) g WHERE g <> $2::int4 AND g < $1::int4 LIMIT $3", &[&10i32, &2i32, &3i64])
        .await
        .unwrap();
    let values: Vec<i32> = rows.iter().map(|r| r.get(0)).collect();
    assert_eq!(values, [1, 3, 4]);
}

#[tokio::test]
async fn a_prepared_statement_is_described_and_used_again() {
    let client = connect(&shared()).await.unwrap();
    let statement = client.prepare("SELECT $1::int8 AS n, 'x'::text AS t WHERE $2::bool").await.unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::BOOL]);
    let columns: Vec<_> = statement.columns().iter().map(|c| (c.name(), c.type_().clone())).collect();
    assert_eq!(columns, [("n", Type::INT8), ("t", Type::TEXT)]);
    for n in [1i64, -5] {
        assert_eq!(client.query_one(&statement, &[&n, &true]).await.unwrap().get::<_, i64>(0), n);
    }
    assert!(client.query_opt(&statement, &[&1i64, &false]).await.unwrap().is_none());
}

#[tokio::test]
async fn the_client_may_name_parameter_types() {
    let client = connect(&shared()).await.unwrap();
    let statement = client.prepare_typed("SELECT $1 + 1::int4, $2", &[Type::INT4, Type::TEXT]).await.unwrap();
    assert_eq!(statement.params(), [Type::INT4, Type::TEXT]);
    let row = client.query_one(&statement, &[&41i32, &"t"]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (42, "t"));
}

#[tokio::test]
async fn a_portal_gives_as_many_rows_as_asked_for() {
    let mut client = connect(&shared()).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT g::int4 FROM generate_series(1, 10) g", &[]).await.unwrap();
    for (at_most, expected) in [(3, vec![1, 2, 3]), (4, vec![4, 5, 6, 7]), (0, vec![8, 9, 10])] {
        let rows = transaction.query_portal(&portal, at_most).await.unwrap();
        let values: Vec<i32> = rows.iter().map(|r| r.get(0)).collect();
        assert_eq!(values, expected);
    }
    assert!(transaction.query_portal(&portal, 5).await.unwrap().is_empty());
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn portals_are_independent() {
    let mut client = connect(&shared()).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let first = transaction.bind("SELECT g::int4 FROM generate_series(1, 4) g", &[]).await.unwrap();
    let second = transaction.bind("SELECT (-g)::int4 FROM generate_series(1, 4) g", &[]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(transaction.query_portal(&first, 1).await.unwrap()[0].get::<_, i32>(0));
        seen.push(transaction.query_portal(&second, 1).await.unwrap()[0].get::<_, i32>(0));
    }
    assert_eq!(seen, [1, -1, 2, -2, 3, -3, 4, -4]);
}

#[tokio::test]
async fn one_parse_takes_one_statement() {
    let client = connect(&shared()).await.unwrap();
    let error = client.prepare("SELECT 1; SELECT 2").await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "42601");
    client.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_simple_query_takes_several() {
    let client = connect(&shared()).await.unwrap();
    let messages = client.simple_query("SELECT 1; SELECT 2 WHERE false; SELECT 3").await.unwrap();
    let values: Vec<String> = messages
        .iter()
        .filter_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect();
    assert_eq!(values, ["1", "3"]);
    let error = client.simple_query("SELECT 1; SELECT nothing; SELECT 3").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42703");
}

#[tokio::test]
async fn an_empty_query_is_fine() {
    let client = connect(&shared()).await.unwrap();
    client.simple_query("").await.unwrap();
    client.simple_query(" -- nothing but a comment").await.unwrap();
    assert_eq!(client.execute("", &[]).await.unwrap(), 0);
}

#[tokio::test]
async fn errors_say_where() {
    use tokio_postgres::error::ErrorPosition::Original;
    let client = connect(&shared()).await.unwrap();
    for (sql, code, position) in [
        ("SELECT nothing", "42703", 8),
        ("SELECT 1 FROM nowhere", "42P01", 15),
        ("SELECT 'ä', nothing", "42703", 13),
        ("SELECT 1 FROM FROM", "42601", 15),
        ("SELECT 1;\n SELECT nothing", "42703", 19),
    ] {
        let error = client.simple_query(sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.severity(), error.code().code()), ("ERROR", code), "{sql}");
        assert_eq!(error.position(), Some(&Original(position)), "{sql}");
    }
}

#[tokio::test]
async fn an_error_leaves_the_connection_and_the_statement_usable() {
    let client = connect(&shared()).await.unwrap();
    let statement = client.prepare("SELECT 10::int4 / $1::int4").await.unwrap();
    for _ in 0..3 {
        let error = client.query(&statement, &[&0i32]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22012");
        assert_eq!(client.query_one(&statement, &[&5i32]).await.unwrap().get::<_, i32>(0), 2);
    }
}

#[tokio::test]
async fn statements_in_flight_are_answered_in_order() {
    let client = connect(&shared()).await.unwrap();
    let numbered = (0..50).map(|n| {
        let client = &client;
        async move { client.query_one("SELECT $1::int4", &[&n]).await.unwrap().get::<_, i32>(0) }
    });
    assert_eq!(futures::future::join_all(numbered).await, (0..50).collect::<Vec<i32>>());
}
