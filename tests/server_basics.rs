//! A server's life: it starts, says that it is ready, refuses what it must, keeps what was made, and stops.
//!
//! In: servers of the test's own. Out: what clients and process supervisors rely on.
//! Deliberately absent: limits and cancellation (`server_limits.rs`), SQL (`sqllogictest/`).

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::client::connect;
use crate::server_process::{Server, squilla};

/// Runs for some seconds on any machine and does not fit a shortcut.
const SECONDS_OF_WORK: &str = "SELECT sum(a.v % 7 + b.v % 5) FROM generate_series(1, 20000) a(v), generate_series(1, 15000) b(v)";
/// Runs for many minutes.
const MINUTES_OF_WORK: &str = "SELECT sum(a.v % 7 + b.v % 5) FROM generate_series(1, 2000000) a(v), generate_series(1, 2000000) b(v)";

async fn one_value(config: &str, sql: &str) -> String {
    let client = connect(config).await.unwrap();
    let rows = client.simple_query(sql).await.unwrap();
    rows.iter()
        .find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        })
        .unwrap()
}

#[test]
fn pg_isready_answers() {
    let server = Server::start(&[]);
    let output = Command::new("pg_isready").args(["-h", "127.0.0.1", "-p", &server.port.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn any_user_from_loopback_is_the_superuser_at_first() {
    let server = Server::start(&[]);
    for user in ["squilla", "alice", "postgres"] {
        let config = format!("host=127.0.0.1 port={} user={user} dbname=squilla", server.port);
        assert_eq!(one_value(&config, "SHOW is_superuser").await, "on", "{user}");
    }
}

#[tokio::test]
async fn drivers_find_the_version_they_look_for() {
    let server = Server::start(&[]);
    assert!(one_value(&server.config(), "SELECT version()").await.starts_with("PostgreSQL 1"));
    let number: u32 = one_value(&server.config(), "SHOW server_version_num").await.parse().unwrap();
    assert!(number >= 120_000, "{number}");
}

#[tokio::test]
async fn an_unknown_database_is_refused() {
    let server = Server::start(&[]);
    let error = connect(&format!("host=127.0.0.1 port={} user=squilla dbname=nowhere", server.port)).await.err().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("3D000"), "{error:?}");
}

#[tokio::test]
async fn roles_ask_for_their_passwords() {
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    client.simple_query("CREATE ROLE alice LOGIN PASSWORD 'right'").await.unwrap();
    let log_in =
        |user: &str, password: &str| connect_owned(format!("host=127.0.0.1 port={} user={user} password={password} dbname=squilla", server.port));
    assert_eq!(log_in("alice", "right").await, None);
    assert_eq!(log_in("alice", "wrong").await.as_deref(), Some("28P01"));
    assert!(log_in("mallory", "right").await.is_some_and(|code| code.starts_with("28")));
}

/// Nothing, or the SQLSTATE with which the login is refused.
async fn connect_owned(config: String) -> Option<String> {
    connect(&config).await.err().map(|e| e.code().map_or_else(|| format!("{e:?}"), |c| c.code().to_owned()))
}

#[test]
fn a_taken_port_is_an_error_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let output = squilla(&["serve", "--listen", &address, "--http-listen", "off", "--data-dir"]).arg(data.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&taken.local_addr().unwrap().port().to_string()), "{text}");
    assert!(text.to_lowercase().contains("hint") && text.contains("--listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_running_statement_end() {
    let mut server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    let running = tokio::spawn(async move { client.simple_query(SECONDS_OF_WORK).await.map(|m| m.len()) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("TERM");
    running.await.unwrap().expect("the statement ends");
    let status = server.wait(Duration::from_secs(10)).expect("the server ends after the last statement");
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_stops_fast() {
    let mut server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    let running = tokio::spawn(async move { client.simple_query(MINUTES_OF_WORK).await.map(|m| m.len()) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.signal("INT");
    server.wait(Duration::from_secs(5)).expect("the server ends");
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn definitions_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("numbers.csv");
    std::fs::write(&file, "n,word\n1,one\n2,two\n").unwrap();
    let mut server = Server::start_on(data.path(), &[]);
    let client = connect(&server.config()).await.unwrap();
    for statement in [
        "CREATE SCHEMA lasting".to_owned(),
        "CREATE TABLE lasting.t AS SELECT g AS n FROM generate_series(1, 3) g".to_owned(),
        "CREATE VIEW lasting.v AS SELECT n * 10 AS n FROM lasting.t".to_owned(),
        format!("CREATE EXTERNAL TABLE lasting.e STORED AS CSV LOCATION '{}' OPTIONS ('has_header' 'true')", file.display()),
    ] {
        client.simple_query(&statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    drop(client);
    server.signal("TERM");
    server.wait(Duration::from_secs(20)).expect("the server ends");
    drop(server);
    let server = Server::start_on(data.path(), &[]);
    let config = server.config();
    assert_eq!(one_value(&config, "SELECT sum(n) FROM lasting.t").await, "6");
    assert_eq!(one_value(&config, "SELECT sum(n) FROM lasting.v").await, "60");
    assert_eq!(one_value(&config, "SELECT string_agg(word, ',' ORDER BY n) FROM lasting.e").await, "one,two");
}

#[test]
fn health_and_metrics_are_on_loopback() {
    let data = tempfile::tempdir().unwrap();
    let http = crate::server_process::free_port();
    let address = format!("127.0.0.1:{http}");
    let server = Server::start_on(data.path(), &["--http-listen", &address]);
    for (path, word) in [("healthz", ""), ("readyz", ""), ("metrics", "squilla_")] {
        let output = Command::new("curl").args(["-fsS", "--max-time", "5", &format!("http://{address}/{path}")]).output().unwrap();
        assert!(output.status.success(), "{path}: {}\n{}", String::from_utf8_lossy(&output.stderr), server.log_text());
        assert!(String::from_utf8_lossy(&output.stdout).contains(word), "{path}");
    }
}

/// Unmodified psql, the commands of a first session.
#[test]
fn psql_meta_commands_work() {
    let server = Server::start(&[]);
    let psql = |input: &str| {
        let port = server.port.to_string();
        let mut command = Command::new("psql");
        command.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "squilla", "-d", "squilla", "-v", "ON_ERROR_STOP=1", "-c", input]);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !errors.contains("ERROR"), "{input}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    psql("CREATE TABLE first (id int, name text)");
    psql("CREATE VIEW second AS SELECT id FROM first");
    assert!(psql("\\dt").contains("first"));
    assert!(psql("\\dv").contains("second"));
    assert!(psql("\\d").contains("second"));
    let columns = psql("\\d first");
    assert!(columns.contains("id") && columns.contains("integer") && columns.contains("text"), "{columns}");
    assert!(psql("\\dn").contains("public"));
    assert!(psql("\\l").contains("squilla"));
    let functions = psql("\\df+ decode_image");
    assert!(functions.contains("max_pixels") && functions.contains("DEFAULT"), "{functions}");
    psql("\\du");
    psql("\\d+ first");
    psql("\\conninfo");
}
