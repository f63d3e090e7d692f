//! Statements that write, in leases of files: what a lost, stopping, new or slow worker costs them, and files that kill workers.
//!
//! In: a server and workers of the test's own. Out: the rows, once each, and how many leases were made for them. Deliberately
//! absent: named jobs over a restarted server (`cluster`).

use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::client::connect;
use crate::cluster::{Cluster, failure, pictures, rows, value};
use crate::server_process::{Server, free_port};

/// Widths of pictures, each of which takes some time on a worker.
fn widths(media: &std::path::Path, seconds: f64) -> String {
    format!(
        "SELECT name, image_width(decode_image(content)) AS width FROM (SELECT name, content, pg_sleep({seconds} + 0 * size) AS s \
         FROM read_files('{}/*.jpg')) t WHERE s IS NULL OR s IS NOT NULL",
        media.display()
    )
}

const SUMMARY: &str = "count(*) || ' ' || count(DISTINCT name) || ' ' || sum(width)";

/// Files that unnamed statements left behind.
fn left(data: &std::path::Path) -> usize {
    std::fs::read_dir(data.join("jobs/.unnamed")).map_or(0, |folders| folders.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_costs_a_statement_that_writes_its_leases_only() {
    let (data, media) = (tempfile::tempdir().unwrap(), pictures());
    let workers: Vec<Server> = (0..3).map(|_| Server::worker(&[])).collect();
    let list = workers.iter().map(Server::address).collect::<Vec<_>>().join(",");
    let server = Server::start_on(data.path(), &["--workers", &list]);
    let mut cluster = Cluster { server, workers };
    cluster.until("all are ready", |rows| rows.iter().all(|r| r[1].as_deref() == Some("ready"))).await;
    for (round, write) in ["CREATE TABLE widths AS ", "COPY (", "INSERT INTO widths "].into_iter().enumerate() {
        let client = cluster.connect().await;
        let out = media.path().join("out.parquet");
        let end = if write == "COPY (" { format!(") TO '{}' (FORMAT parquet)", out.display()) } else { String::new() };
        let before: usize = value(&client, "SELECT count(*) FROM squilla.shuffles").await.parse().unwrap();
        let sql = format!("{write}{}{end}", widths(media.path(), 0.3));
        let statement = tokio::spawn(async move { client.simple_query(&sql).await.map(|_| client) });
        if round < 2 {
            tokio::time::sleep(Duration::from_millis(900)).await;
            cluster.workers[round].signal("KILL");
            cluster.workers[round].wait(Duration::from_secs(5)).unwrap();
        }
        let client = statement.await.unwrap().unwrap_or_else(|e| panic!("{write}: {e:?}"));
        let from = if write == "COPY (" { format!("read_parquet('{}')", out.display()) } else { "widths".to_owned() };
        let times = if round == 2 { 2 } else { 1 };
        let expected = format!("{} 24 {}", 24 * times, 24 * times * 120);
        assert_eq!(value(&client, &format!("SELECT {SUMMARY} FROM {from}")).await, expected, "{write}");
        let made: usize = value(&client, "SELECT count(*) FROM squilla.shuffles").await.parse().unwrap();
        // A file is a lease here. What the lost worker told before counts; what it had then is made again.
        assert!((made - before) <= 24 + 4, "{write}: {} leases were made", made - before);
        assert_eq!(left(data.path()), 0, "{write}: a statement without a name keeps nothing");
    }
    let log = cluster.server.log_text();
    assert!(!log.contains("runs again") && log.contains("a lease is made again"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_hands_its_leases_back_and_one_that_comes_takes_some() {
    let (media, port) = (pictures(), free_port());
    let workers: Vec<Server> = (0..2).map(|_| Server::worker(&[])).collect();
    let list = format!("{},{},127.0.0.1:{port}", workers[0].address(), workers[1].address());
    let server = Server::start(&["--workers", &list, "--set", "squilla.distributed=on"]);
    let mut cluster = Cluster { server, workers };
    cluster.until("two are ready", |rows| rows.iter().filter(|r| r[1].as_deref() == Some("ready")).count() == 2).await;
    let client = cluster.connect().await;
    let sql = format!("CREATE TABLE widths AS {}", widths(media.path(), 0.8));
    let statement = tokio::spawn(async move { client.simple_query(&sql).await.map(|_| client) });
    tokio::time::sleep(Duration::from_millis(1000)).await;
    cluster.workers[0].signal("TERM");
    let stopping = Instant::now();
    let came = Server::worker_at(port, "exec \"$@\"", "127.0.0.1", &[]);
    // 24 files of 0.8 s, four at a time: the statement runs for longer than the worker has leases.
    let status = cluster.workers[0].wait(Duration::from_secs(6)).expect("it ends when its leases have");
    assert!(status.success(), "{:?}", stopping.elapsed());
    let client = statement.await.unwrap().unwrap();
    assert_eq!(value(&client, &format!("SELECT {SUMMARY} FROM widths")).await, "24 24 2880");
    let log = cluster.server.log_text();
    assert!(!log.contains("made again") && !log.contains("runs again"), "no lease was lost: {log}");
    let by_worker = rows(&client, "SELECT worker, count(*) FROM squilla.shuffles GROUP BY worker").await;
    assert!(by_worker.iter().any(|r| r[0].as_deref() == Some(&came.address())), "{by_worker:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_kills_workers_is_left_out() {
    let media = tempfile::tempdir().unwrap();
    std::fs::write(media.path().join("poison.jpg"), "not a picture").unwrap();
    let port = free_port();
    let worker = Server::worker_at(port, "exec \"$@\"", "127.0.0.1", &[]);
    let mut cluster = Cluster::of(vec![worker], &[]).await;
    let client = cluster.connect().await;
    let sql = format!("CREATE TABLE widths AS {}", widths(media.path(), 60.0));
    let statement = tokio::spawn(async move { client.simple_query(&sql).await.map(|_| client) });
    for _ in 0..3 {
        cluster.until("it works on the file", |rows| rows[0][1].as_deref() == Some("ready") && rows[0][3].as_deref() == Some("1")).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.workers[0].signal("KILL");
        cluster.workers[0].wait(Duration::from_secs(5)).unwrap();
        cluster.workers[0] = Server::worker_at(port, "exec \"$@\"", "127.0.0.1", &[]);
    }
    let client = statement.await.unwrap().unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM widths").await, "0");
    let told = rows(&client, "SELECT function, sqlstate, uri FROM squilla.row_errors WHERE function = 'lease'").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0][1].as_deref() == Some("SQ004") && told[0][2].as_deref().is_some_and(|u| u.contains("poison.jpg")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_rows_are_leased_and_joins_keep_their_sides() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // What a killed server left.
    std::fs::create_dir_all(data.path().join("jobs/.unnamed/old")).unwrap();
    let workers: Vec<Server> = (0..2).map(|_| Server::worker(&[])).collect();
    let list = workers.iter().map(Server::address).collect::<Vec<_>>().join(",");
    let server = Server::start_on(data.path(), &["--workers", &list, "--set", "squilla.distributed=on"]);
    let cluster = Cluster { server, workers };
    cluster.until("all are ready", |rows| rows.iter().all(|r| r[1].as_deref() == Some("ready"))).await;
    assert_eq!(left(data.path()), 0);
    let client = cluster.connect().await;
    for i in 0..12 {
        let range = format!("generate_series({}, {}) g", i * 1000 + 1, (i + 1) * 1000);
        client.simple_query(&format!("COPY (SELECT g AS id FROM {range}) TO '{}/{i:02}.parquet'", files.path().display())).await.unwrap();
    }
    let read = format!("read_parquet('{}/*.parquet')", files.path().display());
    client.simple_query(&format!("CREATE TABLE twice AS SELECT id, id * 2 AS doubled FROM {read} WHERE id % 3 <> 0")).await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) || ' ' || sum(doubled) FROM twice").await, "8000 96000000");
    assert_eq!(left(data.path()), 0);
    // Calls on one side of a join that deals rows by their values: the other side must meet them.
    let media = pictures();
    client.simple_query("CREATE TABLE names AS SELECT lpad(g::text, 2, '0') || '.jpg' AS name, g FROM generate_series(0, 23) g").await.unwrap();
    let join = format!("SELECT w.name, width, g FROM ({}) w JOIN names n ON n.name = w.name", widths(media.path(), 0.0));
    client.simple_query(&format!("CREATE TABLE joined AS {join}")).await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) || ' ' || sum(g) FROM joined").await, "24 276");
    // The same under a name, and over the rows of a table, some of them deleted.
    client.simple_query("SET squilla.resume = 'joined'").await.unwrap();
    client.simple_query(&format!("CREATE TABLE again AS {join}")).await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) || ' ' || sum(g) FROM again").await, "24 276");
    client.simple_query("RESET squilla.resume").await.unwrap();
    client.simple_query("DELETE FROM twice WHERE id % 2 = 0").await.unwrap();
    client.simple_query("CREATE TABLE odd AS SELECT id FROM twice").await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) || ' ' || sum(id % 2) FROM odd").await, "4000 4000");
    drop(connect(&cluster.server.config()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_leases_of_all_workers() {
    let cluster = Cluster::start(2).await;
    let (client, media) = (cluster.connect().await, pictures());
    let token = client.cancel_token();
    let sql = format!("CREATE TABLE widths AS {}", widths(media.path(), 60.0));
    let statement = tokio::spawn(async move { failure(&client, &sql).await });
    cluster.until("the workers have work", |rows| rows.iter().all(|r| r[3].as_deref() == Some("1"))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    token.cancel_query(NoTls).await.unwrap();
    // Half a second between questions to the workers is part of what is seen.
    let took = cluster.until_idle().await;
    assert!(took < Duration::from_millis(1600), "{took:?}");
    assert_eq!(statement.await.unwrap().0, "57014");
}
