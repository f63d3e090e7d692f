//! Crashes: the server dies at every step of a commit, or at any moment, and starts again.
//!
//! In: servers of the test's own that end at a fault point or are killed. Out: all or nothing of each transaction is
//! there, every row that is there can be read, and no file is left that no snapshot names. Invariant: a transaction that
//! was answered is there after the restart. Deliberately absent: crashes of the machine.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use crate::client::connect;
use crate::server_process::Server;

/// The steps of a commit at which the process ends, and whether the transaction is there afterwards.
const STEPS: &[(&str, bool)] = &[
    ("file_created", false),
    ("file_written", false),
    ("file_renamed", false),
    ("file_synced", false),
    ("commit_begun", false),
    ("commit_half_written", false),
    ("commit_written", false),
    ("commit_done", true),
    ("commit_published", true),
];

async fn rows(config: &str, sql: &str) -> Vec<String> {
    let client = connect(config).await.unwrap();
    let messages = client.simple_query(sql).await.unwrap();
    let row = |m: &SimpleQueryMessage| match m {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join(" ")),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

async fn execute(config: &str, sql: &str) -> bool {
    match connect(config).await {
        Ok(client) => client.batch_execute(sql).await.is_ok(),
        Err(_) => false,
    }
}

/// Parquet files below the data directory, unfinished ones too.
fn files(data: &Path) -> usize {
    fn count(directory: &Path) -> usize {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
    }
    count(&data.join("data"))
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_commit_leaves_all_or_nothing() {
    for (step, done) in STEPS {
        let data = tempfile::tempdir().unwrap();
        {
            let server = Server::start_on(data.path(), &[]);
            assert!(execute(&server.config(), "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (-1, 'kept')").await);
            server.signal("KILL");
        }
        {
            let mut server = Server::start_on(data.path(), &["--set", &format!("squilla.fault_point={step}")]);
            let change = "BEGIN; INSERT INTO t SELECT g, 'v' FROM generate_series(1, 20000) g; DELETE FROM t WHERE id % 2 = 0; \
                          CREATE TABLE u AS SELECT 1 AS a; COMMIT";
            assert!(!execute(&server.config(), change).await, "{step}");
            assert!(server.wait(Duration::from_secs(20)).is_some(), "{step}: the server is still there");
        }
        let started = Instant::now();
        let server = Server::start_on(data.path(), &[]);
        assert!(started.elapsed() < Duration::from_secs(20), "{step}: {:?}", started.elapsed());
        let expected = if *done { "10001 10000" } else { "1 0" };
        let found = rows(&server.config(), "SELECT count(*), count(*) FILTER (WHERE id > 0) FROM t").await;
        assert_eq!(found, [expected], "{step}");
        let tables = rows(&server.config(), "SELECT count(*) FROM pg_class WHERE relname = 'u'").await;
        assert_eq!(tables, [if *done { "1" } else { "0" }], "{step}");
        assert_eq!(files(data.path()), usize::from(*done), "{step}: files");
    }
}

#[tokio::test]
async fn a_crash_while_files_are_removed_leaves_none_behind() {
    let data = tempfile::tempdir().unwrap();
    {
        let mut server = Server::start_on(data.path(), &["--set", "squilla.fault_point=vacuum_forgotten"]);
        let config = server.config();
        for statement in ["CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 20000) g", "TRUNCATE t", "INSERT INTO t VALUES (1)"] {
            assert!(execute(&config, statement).await);
        }
        assert_eq!(files(data.path()), 1);
        assert!(!execute(&config, "SET squilla.version_retention = 0; VACUUM").await);
        assert!(server.wait(Duration::from_secs(20)).is_some());
    }
    let server = Server::start_on(data.path(), &[]);
    assert_eq!(files(data.path()), 0);
    assert_eq!(rows(&server.config(), "SELECT id FROM t").await, ["1"]);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut answered = 0_u64;
    for round in 0..5_u64 {
        let server = Server::start_on(data.path(), &[]);
        let config = server.config();
        if round == 0 {
            assert!(execute(&config, "CREATE TABLE t (id bigint PRIMARY KEY, pair bigint)").await);
        }
        let found = rows(&config, "SELECT count(*), count(DISTINCT id), coalesce(sum(pair), 0) FROM t").await;
        let counts: Vec<u64> = found[0].split(' ').map(|n| n.parse().unwrap()).collect();
        assert!(counts[0] >= answered && counts[0].is_multiple_of(2), "{counts:?}, {answered} were answered");
        assert_eq!((counts[0], counts[2]), (counts[1], counts[0]), "{counts:?}");
        let writer = tokio::spawn(async move {
            let client = connect(&config).await.unwrap();
            let mut count = 0_u64;
            loop {
                let id = counts[0] + count;
                let insert = format!("INSERT INTO t VALUES ({id}, 1), ({}, 1)", id + 1);
                if client.batch_execute(&insert).await.is_err() {
                    return counts[0] + count;
                }
                count += 2;
            }
        });
        tokio::time::sleep(Duration::from_millis(300 + 170 * round)).await;
        server.signal("KILL");
        answered = writer.await.unwrap();
    }
    assert!(answered > 0);
}

#[test]
fn a_second_server_is_told_who_has_the_directory() {
    let data = tempfile::tempdir().unwrap();
    let first = Server::start_on(data.path(), &[]);
    let second = crate::server_process::squilla(&["serve", "--listen", "127.0.0.1:0", "--http-listen", "off", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
    assert!(said.contains(&first.pid().to_string()), "{said}");
}
