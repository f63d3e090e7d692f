//! Sessions beside each other: COPY from the client, notifications, locks, prepared statements, idle time.
//!
//! In: a server of the test's own. Out: what the other session sees. Deliberately absent: malformed messages (`protocol.rs`).

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt, stream};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use crate::client::connect;
use crate::server_process::Server;

async fn value(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = rows.iter().find_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None });
    row.unwrap_or_else(|| panic!("{sql}: no row")).get(0).unwrap_or("NULL").to_owned()
}

async fn copied(client: &Client, sql: &str, data: &[u8]) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in(sql).await?;
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::copy_from_slice(data)).await?;
    sink.as_mut().finish().await
}

#[tokio::test]
async fn copy_from_the_client() {
    let server = Server::start(&[]);
    let db = connect(&server.config()).await.unwrap();
    db.batch_execute("CREATE TABLE t (a int, b text, c date DEFAULT '2020-02-02')").await.unwrap();
    assert_eq!(copied(&db, "COPY t (a, b) FROM STDIN", b"1\tx\n2\t\\N\n").await.unwrap(), 2);
    assert_eq!(copied(&db, "COPY t FROM STDIN (FORMAT csv, HEADER match, NULL 'nil')", b"a,b,c\n3,\"y,\"\"z\",nil\n").await.unwrap(), 1);
    assert_eq!(copied(&db, "COPY t (b, a) FROM STDIN CSV DELIMITER ';' FORCE NOT NULL b", b";4\n").await.unwrap(), 1);
    assert_eq!(
        value(&db, "SELECT string_agg(concat_ws('|', a, coalesce(b, 'NULL'), coalesce(c::text, 'NULL')), ' ' ORDER BY a) FROM t").await,
        "1|x|2020-02-02 2|NULL|2020-02-02 3|y,\"z|NULL 4||2020-02-02"
    );

    for (sql, data, code, context) in [
        ("COPY t FROM STDIN", &b"5\tx\t2020-01-01\nzz\tx\t2020-01-01\n"[..], "22P02", "COPY t, line 2, column a: \"zz\""),
        ("COPY t FROM STDIN", b"5\n", "22P04", "COPY t, line 1: \"5\""),
        ("COPY t (a) FROM STDIN", b"5\t6\n", "22P04", "COPY t, line 1: \"5\t6\""),
        ("COPY t FROM STDIN CSV", b"5,\"open\n", "22P04", "COPY t, line 1"),
        ("COPY t FROM STDIN (FORMAT csv, HEADER match)", b"a,b,d\n", "22P04", "COPY t, line 1"),
        ("COPY t FROM STDIN BINARY", b"nothing of the kind", "22P04", ""),
    ] {
        let error = copied(&db, sql, data).await.err().unwrap_or_else(|| panic!("{sql}"));
        let told = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        assert_eq!(told.code().code(), code, "{sql}: {told}");
        assert!(told.where_().unwrap_or("").starts_with(context), "{sql}: {:?}", told.where_());
    }
    assert_eq!(value(&db, "SELECT count(*) FROM t").await, "4", "nothing of a COPY that failed is there");
    // On a connection of its own: the driver sends one Sync more than it waits for when Execute fails.
    let other = connect(&server.config()).await.unwrap();
    let error = copied(&other, "COPY nowhere FROM STDIN", b"").await.err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("42P01"));

    // Out in binary and in again.
    let out = db.copy_out("COPY t TO STDOUT (FORMAT binary)").await.unwrap();
    let bytes: Vec<u8> = out.map(Result::unwrap).collect::<Vec<_>>().await.concat();
    db.batch_execute("CREATE TABLE u (a int, b text, c date)").await.unwrap();
    assert_eq!(copied(&db, "COPY u FROM STDIN (FORMAT binary)", &bytes).await.unwrap(), 4);
    assert_eq!(value(&db, "SELECT count(*) FROM (SELECT * FROM t EXCEPT SELECT * FROM u) x").await, "0");

    // The server's own files go through the same reader.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "7\tp\\tq\t2021-01-01\n").unwrap();
    db.batch_execute(&format!("COPY u FROM '{}'", file.path().display())).await.unwrap();
    assert_eq!(value(&db, "SELECT b FROM u WHERE a = 7").await, "p\tq");
}

#[tokio::test]
async fn notifications_arrive_after_the_commit() {
    let server = Server::start(&[]);
    let (listener, mut connection) = tokio_postgres::connect(&server.config(), NoTls).await.unwrap();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(n) = message {
                let _ = sender.send(format!("{}={}", n.channel(), n.payload()));
            }
        }
    });
    listener.batch_execute("LISTEN news").await.unwrap();
    let speaker = connect(&server.config()).await.unwrap();
    speaker.batch_execute("NOTIFY news, 'one'; NOTIFY other, 'x'").await.unwrap();
    let soon = Duration::from_secs(5);
    assert_eq!(tokio::time::timeout(soon, heard.recv()).await.unwrap().unwrap(), "news=one");
    speaker.batch_execute("BEGIN").await.unwrap();
    speaker.batch_execute("SELECT pg_notify('news', 'two')").await.unwrap();
    speaker.batch_execute("NOTIFY news, 'two'").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), heard.recv()).await.is_err(), "nothing leaves before the commit");
    speaker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(tokio::time::timeout(soon, heard.recv()).await.unwrap().unwrap(), "news=two");
    speaker.batch_execute("BEGIN; NOTIFY news, 'three'; ROLLBACK").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), heard.recv()).await.is_err(), "the same once, and none of a rollback");
}

#[tokio::test]
async fn advisory_locks_keep_others_out() {
    let server = Server::start(&[]);
    let (a, b) = (connect(&server.config()).await.unwrap(), connect(&server.config()).await.unwrap());
    assert_eq!(value(&a, "SELECT pg_try_advisory_lock(1)").await, "t");
    assert_eq!(value(&b, "SELECT pg_try_advisory_lock(1)").await, "f");
    b.batch_execute("SET lock_timeout = 200").await.unwrap();
    let error = b.simple_query("SELECT pg_advisory_lock(1)").await.err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("55P03"));
    b.batch_execute("SET lock_timeout = 0; SET statement_timeout = 300").await.unwrap();
    let error = b.simple_query("SELECT pg_advisory_lock(1)").await.err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("57014"));
    b.batch_execute("SET statement_timeout = 0").await.unwrap();
    let started = Instant::now();
    let waiting = tokio::spawn(async move { value(&b, "SELECT pg_advisory_lock(1) IS NULL").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(a);
    waiting.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "the end of a session gives its locks back");
}

#[tokio::test]
async fn prepared_statements_have_one_name_space() {
    let server = Server::start(&[]);
    let db = connect(&server.config()).await.unwrap();
    let statement = db.prepare("SELECT $1::int + 1").await.unwrap();
    let name = value(&db, "SELECT name FROM pg_prepared_statements WHERE NOT from_sql AND statement LIKE 'SELECT $1::int%'").await;
    assert_eq!(value(&db, &format!("EXECUTE {name}(41)")).await, "42");
    db.batch_execute(&format!("DEALLOCATE {name}")).await.unwrap();
    let error = db.query(&statement, &[&1i32]).await.err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("26000"));
}

#[tokio::test]
async fn idle_sessions_end() {
    let server = Server::start(&[]);
    let (client, connection) = tokio_postgres::connect(&server.config(), NoTls).await.unwrap();
    let ended = tokio::spawn(connection);
    client.batch_execute("SET idle_session_timeout = 200").await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap().err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("57P05"), "{error:?}");
    let (client, connection) = tokio_postgres::connect(&server.config(), NoTls).await.unwrap();
    let ended = tokio::spawn(connection);
    client.batch_execute("SET idle_in_transaction_session_timeout = 200").await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap().err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("25P03"), "{error:?}");
}
