//! A server with workers, as separate processes on loopback: placement, losses, strangers, cancel.
//!
//! In: processes of the test's own, killed and frozen by signals. Out: answers, SQLSTATEs and times. Deliberately absent:
//! SQL as such; `WORKERS=3` runs the records on a cluster.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::client::connect;
use crate::server_process::{Server, repository};

/// A server and its workers.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) workers: Vec<Server>,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Cluster {
        let workers: Vec<Server> = (0..count).map(|_| Server::worker(&[])).collect();
        Cluster::of(workers, &[]).await
    }

    /// A server of these workers; waits until it has seen them.
    pub(crate) async fn of(workers: Vec<Server>, arguments: &[&str]) -> Cluster {
        let list = workers.iter().map(Server::address).collect::<Vec<_>>().join(",");
        let mut all = vec!["--workers", list.as_str(), "--set", "squilla.distributed=on"];
        all.extend(arguments);
        let server = Server::start(&all);
        let cluster = Cluster { server, workers };
        cluster.until("every worker is seen", |rows| rows.iter().all(|r| !matches!(r[1].as_deref(), Some("unreachable")) || r[2].is_some())).await;
        cluster
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.server.config()).await.unwrap()
    }

    /// Waits until the rows of `squilla.workers` (address, state, error, statements) are so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&[Vec<Option<String>>]) -> bool) {
        let client = self.connect().await;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let rows = rows(&client, "SELECT address, state, error, statements FROM squilla.workers ORDER BY address").await;
            if !rows.is_empty() && so(&rows) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {rows:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until no worker has work; how long that took.
    pub(crate) async fn until_idle(&self) -> Duration {
        let start = Instant::now();
        self.until("no worker has work", |rows| rows.iter().all(|r| r[1].as_deref() != Some("ready") || r[3].as_deref() == Some("0"))).await;
        start.elapsed()
    }
}

pub(crate) async fn try_rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |m| match m {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    try_rows(client, sql).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}"))
}

pub(crate) async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await.remove(0).remove(0).unwrap_or_default()
}

pub(crate) async fn failure(client: &Client, sql: &str) -> (String, String) {
    let error = match try_rows(client, sql).await {
        Ok(rows) => panic!("{} rows and no error: {sql}", rows.len()),
        Err(error) => error,
    };
    let db = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    (db.code().code().to_owned(), format!("{} {} {}", db.message(), db.detail().unwrap_or_default(), db.hint().unwrap_or_default()))
}

pub(crate) fn image_model() -> String {
    repository().join("models/tiny/resnet-shapes").to_string_lossy().into_owned()
}

fn images() -> String {
    repository().join("tests/fixtures/image/*").to_string_lossy().into_owned()
}

/// Libraries that a process has loaded.
pub(crate) fn maps(server: &Server) -> String {
    std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_run_on_workers_only_and_a_lone_worker_will_do() {
    let cluster = Cluster::start(1).await;
    let client = cluster.connect().await;
    let (model, files) = (image_model(), images());
    let one = format!("SELECT classify_image(decode_image(fixture('model/square.jpg')), model => '{model}') IS NOT NULL");
    assert_eq!(value(&client, &one).await, "t");
    let many = format!(
        "SELECT count(label) FROM (SELECT name, classify_image(decode_image(content, on_error => 'null'), model => '{model}', on_error => 'null') AS label
         FROM read_files('{files}') ORDER BY name LIMIT 9) t"
    );
    assert!(value(&client, &many).await.parse::<i64>().unwrap() >= 3);
    assert!(!maps(&cluster.server).contains("onnxruntime"), "the coordinator loaded the model runtime");
    assert!(maps(&cluster.workers[0]).contains("onnxruntime"), "the worker did not");
    let plan = rows(&client, &format!("EXPLAIN {one}")).await;
    assert!(plan.iter().any(|r| r[0].as_deref().is_some_and(|l| l.contains("Distributed"))), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_row_errors_and_errors_cross_the_wire() {
    let cluster = Cluster::start(2).await;
    let client = cluster.connect().await;
    let broken = repository().join("tests/fixtures/image/{scene,truncated,bomb}.*").to_string_lossy().into_owned();
    let sql = format!("SELECT name, image_width(decode_image(content, on_error => 'null')) FROM read_files('{broken}') ORDER BY name");
    let found = rows(&client, &sql).await;
    assert!(found.iter().any(|r| r[1].is_none()) && found.iter().any(|r| r[1].as_deref() == Some("120")), "{found:?}");
    let told = rows(&client, "SELECT function, sqlstate, uri FROM squilla.row_errors").await;
    assert!(told.iter().any(|r| r[0].as_deref() == Some("decode_image") && r[2].as_deref().is_some_and(|u| u.contains("truncated"))), "{told:?}");
    let (code, text) = failure(&client, &sql.replace("'null'", "'raise'")).await;
    assert!(code == "22P03" || code == "54000", "{code} {text}");
    assert!(text.contains("Source: "), "the detail crosses: {text}");
    client.simple_query("SET squilla.max_image_pixels = 10").await.unwrap();
    let all_null = rows(&client, &sql).await;
    assert!(all_null.iter().all(|r| r[1].is_none()), "the limit of the session crosses: {all_null:?}");
    let role = value(&client, "SELECT count(*) FROM squilla.workers WHERE state = 'ready' AND device IS NOT NULL").await;
    assert_eq!(role, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_every_worker_within_a_second() {
    let cluster = Cluster::start(2).await;
    let client = cluster.connect().await;
    let token = client.cancel_token();
    let cancelled = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        token.cancel_query(NoTls).await.unwrap();
        Instant::now()
    });
    let (code, _) = failure(&client, &sleeping(60, 20)).await;
    assert_eq!(code, "57014");
    let at = cancelled.await.unwrap();
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    // Half a second between questions to the workers is part of what is seen.
    let took = cluster.until_idle().await;
    assert!(took < Duration::from_millis(1600), "{took:?}");
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

/// Rows that each take seconds on a worker.
pub(crate) fn sleeping(seconds: u32, rows: u32) -> String {
    format!(
        "SELECT count(CASE WHEN s IS NULL THEN 1 ELSE 2 END) FROM (SELECT pg_sleep({seconds} + 0 * n) AS s FROM generate_series(1, {rows}) g(n)) t"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_has_sent_nothing_survives_a_killed_and_a_frozen_worker() {
    for signal in ["KILL", "STOP"] {
        let cluster = Cluster::start(3).await;
        let client = cluster.connect().await;
        let expected = "12";
        let sql = sleeping(2, 12);
        let victim = cluster.workers[0].pid();
        let statement = tokio::spawn(async move { (try_rows(&client, &sql).await, Instant::now()) });
        tokio::time::sleep(Duration::from_millis(800)).await;
        let start = Instant::now();
        cluster.workers[0].signal(signal);
        let (answer, end) = statement.await.unwrap();
        let answer = answer.unwrap_or_else(|e| panic!("{signal}: {e:?}"));
        assert_eq!(answer[0][0].as_deref(), Some(expected), "{signal}");
        assert!(end.duration_since(start) < Duration::from_secs(30), "{signal}: {:?}", end.duration_since(start));
        cluster.until("the worker is off the list", |rows| rows.iter().filter(|r| r[1].as_deref() == Some("ready")).count() == 2).await;
        if signal == "STOP" {
            cluster.workers[0].signal("CONT");
            cluster.until("the worker is back", |rows| rows.iter().all(|r| r[1].as_deref() == Some("ready"))).await;
        }
        let _ = victim;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_has_sent_rows_fails_at_once_and_names_the_worker() {
    use futures::TryStreamExt;
    let cluster = Cluster::start(2).await;
    let client = cluster.connect().await;
    let sql = "SELECT n, pg_sleep(0.02 + 0 * n) FROM generate_series(1, 4000) g(n)";
    let mut stream = Box::pin(client.simple_query_raw(sql).await.unwrap());
    let mut received = 0;
    let mut killed = None;
    let error = loop {
        match stream.try_next().await {
            Ok(Some(SimpleQueryMessage::Row(_))) => received += 1,
            Ok(Some(_)) => {}
            Ok(None) => panic!("the statement ended with {received} rows"),
            Err(error) => break error,
        }
        if received == 1 {
            cluster.workers[1].signal("KILL");
            killed = Some(Instant::now());
        }
    };
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "SQ004", "{error:?}");
    assert!(error.message().contains(&format!("127.0.0.1:{}", cluster.workers[1].port)), "{error:?}");
    assert!(error.hint().is_some_and(|h| h.contains("squilla.workers")), "{error:?}");
    assert!(killed.unwrap().elapsed() < Duration::from_secs(2), "{:?}", killed.unwrap().elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_stay_deleted_on_workers() {
    let cluster = Cluster::start(2).await;
    let client = cluster.connect().await;
    client.simple_query("CREATE TABLE kept AS SELECT g AS id FROM generate_series(1, 200000) g").await.unwrap();
    if let Err(error) = client.simple_query("DELETE FROM kept WHERE id % 3 = 0").await {
        // A server without DELETE has nothing to keep.
        assert_eq!(error.code().map(|c| c.code()), Some("0A000"), "{error:?}");
        return;
    }
    let plan = rows(&client, "EXPLAIN SELECT count(*), sum(id) FROM kept").await;
    assert!(plan.iter().any(|r| r[0].as_deref().is_some_and(|l| l.contains("Distributed"))), "{plan:?}");
    assert_eq!(rows(&client, "SELECT count(*), sum(id) FROM kept").await, [[Some("133334".into()), Some("13333466667".into())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_worker_what_needs_one_fails_in_time_and_the_rest_goes_on() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.connect().await;
    cluster.workers[0].signal("KILL");
    cluster.workers[0].wait(Duration::from_secs(5)).unwrap();
    let start = Instant::now();
    let model = image_model();
    let (code, text) = failure(&client, &format!("SELECT classify_image(decode_image(fixture('model/square.jpg')), model => '{model}')")).await;
    assert_eq!(code, "57P01", "{text}");
    assert!(text.contains(&format!("127.0.0.1:{}", cluster.workers[0].port)) && text.contains("squilla worker"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let files = images();
    assert!(value(&client, &format!("SELECT count(*) FROM read_files('{files}')")).await.parse::<i64>().unwrap() > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("a secret of some length: {name}")).unwrap();
        format!("squilla.cluster_token_file={}", path.display())
    };
    let (ours, theirs) = (token("ours"), token("theirs"));
    let workers = vec![Server::worker(&["--set", &ours]), Server::worker(&["--set", &theirs])];
    let cluster = Cluster::of(workers, &["--set", &ours]).await;
    cluster.until("one is ready", |rows| rows.iter().any(|r| r[1].as_deref() == Some("ready"))).await;
    let client = cluster.connect().await;
    let refused = rows(&client, "SELECT address, error FROM squilla.workers WHERE state <> 'ready'").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0][1].as_deref().is_some_and(|e| e.contains("refused")), "{refused:?}");
    assert_eq!(value(&client, &sleeping(0, 4)).await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_nobody_has_is_named() {
    let cluster = Cluster::of(vec![Server::worker(&["--labels", "gpu=0,zone=a"])], &[]).await;
    let client = cluster.connect().await;
    client.simple_query("SET squilla.model_labels = 'gpu=1'").await.unwrap();
    let model = image_model();
    let sql = format!("SELECT classify_image(decode_image(fixture('model/square.jpg')), model => '{model}') IS NOT NULL");
    let (code, text) = failure(&client, &sql).await;
    assert_eq!(code, "SQ003", "{text}");
    assert!(text.contains("gpu=1") && text.contains("gpu=0"), "{text}");
    assert_eq!(value(&client, &sleeping(0, 4)).await, "4");
    client.simple_query("SET squilla.model_labels = 'zone=a'").await.unwrap();
    assert_eq!(value(&client, &sql).await, "t");
}

#[test]
fn a_worker_does_not_open_itself_to_other_machines() {
    let out = crate::server_process::squilla(&["worker", "--listen", "0.0.0.0:0"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("28000") && text.contains("squilla.cluster_token_file"), "{text}");
    let out = crate::server_process::squilla(&["worker", "--listen", "127.0.0.1:0", "--spill-dir", "/proc/nowhere"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("/proc/nowhere") && text.contains("--spill-dir"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_one_authority_let_in_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("/bin/sh").args(["-ec", CERTIFICATES]).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let set = |who: &str| -> Vec<String> {
        let file = |name: &str| folder.path().join(name).display().to_string();
        [("ca", format!("{who}-ca.pem")), ("cert", format!("{who}.pem")), ("key", format!("{who}.key"))]
            .iter()
            .flat_map(|(setting, name)| ["--set".to_owned(), format!("squilla.cluster_{setting}={}", file(name))])
            .collect()
    };
    let (ours, theirs) = (set("ours"), set("theirs"));
    let texts = |list: &[String]| -> Vec<&'static str> { list.iter().map(|s| &*s.clone().leak()).collect() };
    let workers = vec![Server::worker(&texts(&ours)), Server::worker(&texts(&theirs))];
    let cluster = Cluster::of(workers, &texts(&ours)).await;
    cluster.until("one is ready", |rows| rows.iter().any(|r| r[1].as_deref() == Some("ready"))).await;
    let client = cluster.connect().await;
    assert_eq!(value(&client, "SELECT count(*) FROM squilla.workers WHERE state = 'ready'").await, "1");
    assert_eq!(value(&client, &sleeping(0, 4)).await, "4");
}

/// Two authorities, each with a certificate for 127.0.0.1.
const CERTIFICATES: &str = r#"
for who in ours theirs; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$who authority" -keyout $who-ca.key -out $who-ca.pem
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=worker" -keyout $who.key -out $who.csr
  printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > ext
  openssl x509 -req -in $who.csr -CA $who-ca.pem -CAkey $who-ca.key -CAcreateserial -days 2 -extfile ext -out $who.pem
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_takes_no_more_and_ends() {
    let mut cluster = Cluster::start(2).await;
    cluster.workers[0].signal("TERM");
    let status = cluster.workers[0].wait(Duration::from_secs(15)).expect("it ends");
    assert!(status.success());
    cluster.until("one is left", |rows| rows.iter().filter(|r| r[1].as_deref() == Some("ready")).count() == 1).await;
    let client = cluster.connect().await;
    assert_eq!(value(&client, &sleeping(0, 4)).await, "4");
}

/// Twenty-four copies of a picture.
pub(crate) fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..24 {
        std::fs::copy(repository().join("tests/fixtures/image/scene.jpg"), folder.path().join(format!("{i:02}.jpg"))).unwrap();
    }
    folder
}

/// Leases of all jobs that are kept.
fn leases(data: &std::path::Path) -> usize {
    let roles = std::fs::read_dir(data.join("jobs")).into_iter().flatten().flatten();
    let folders = roles.flat_map(|r| std::fs::read_dir(r.path()).into_iter().flatten().flatten());
    let files = folders.flat_map(|f| std::fs::read_dir(f.path()).into_iter().flatten().flatten());
    files.filter(|f| f.path().extension().is_some_and(|e| e == "arrow")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_job_goes_on_where_a_killed_server_was() {
    let (data, media) = (tempfile::tempdir().unwrap(), pictures());
    let workers: Vec<Server> = (0..2).map(|_| Server::worker(&[])).collect();
    let list = workers.iter().map(|w| format!("127.0.0.1:{}", w.port)).collect::<Vec<_>>().join(",");
    let start = || Server::start_on(data.path(), &["--workers", &list]);
    let settings = "SET squilla.resume = 'pictures'; SET squilla.lease_bytes = 1";
    let insert = format!(
        "INSERT INTO widths SELECT name, image_width(decode_image(content)) FROM (SELECT name, content, pg_sleep(0.4 + 0 * size) AS s \
         FROM read_files('{}/*.jpg')) t WHERE s IS NULL OR s IS NOT NULL",
        media.path().display()
    );
    let mut server = start();
    let client = connect(&server.config()).await.unwrap();
    client.simple_query("CREATE TABLE widths (name text, width integer)").await.unwrap();
    client.simple_query(settings).await.unwrap();
    let killed = tokio::spawn({
        let insert = insert.clone();
        async move { client.simple_query(&insert).await.is_err() }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while leases(data.path()) < 8 {
        assert!(Instant::now() < deadline, "{} leases", leases(data.path()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.signal("KILL");
    server.wait(Duration::from_secs(5)).unwrap();
    assert!(killed.await.unwrap());
    let done = leases(data.path());
    assert!((8..24).contains(&done), "{done}");
    let server = start();
    let client = connect(&server.config()).await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM widths").await, "0", "nothing of the killed statement is visible");
    client.simple_query(settings).await.unwrap();
    client.simple_query(&insert).await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) || ' ' || count(DISTINCT name) || ' ' || sum(width) FROM widths").await, "24 24 2880");
    // What was done before was not done again: the workers made one task a lease.
    let made: usize = value(&client, "SELECT count(*) FROM squilla.shuffles").await.parse().unwrap();
    assert!(made <= 24 - done + 1, "{made} leases were made, {done} were there");
    assert_eq!(leases(data.path()), 0, "a committed job keeps nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_job_loses_a_worker_and_its_leases_only() {
    let mut cluster = Cluster::start(2).await;
    let (client, media) = (cluster.connect().await, pictures());
    client.simple_query("SET squilla.resume = 'lossy'; SET squilla.lease_bytes = 1").await.unwrap();
    let out = media.path().join("out.parquet");
    let copy = format!(
        "COPY (SELECT name, image_width(decode_image(content)) AS width FROM (SELECT name, content, pg_sleep(0.3 + 0 * size) AS s \
         FROM read_files('{}/*.jpg')) t WHERE s IS NULL OR s IS NOT NULL) TO '{}' (FORMAT parquet)",
        media.path().display(),
        out.display()
    );
    let statement = tokio::spawn(async move { client.simple_query(&copy).await.map(|_| client) });
    tokio::time::sleep(Duration::from_millis(1200)).await;
    cluster.workers[0].signal("KILL");
    cluster.workers[0].wait(Duration::from_secs(5)).unwrap();
    let client = statement.await.unwrap().unwrap();
    let sql = format!("SELECT count(*) || ' ' || count(DISTINCT name) || ' ' || sum(width) FROM read_parquet('{}')", out.display());
    assert_eq!(value(&client, &sql).await, "24 24 2880");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stay_the_same_under_kills() {
    let cluster = Cluster::start(3).await;
    let client = cluster.connect().await;
    client.simple_query("CREATE TABLE facts AS SELECT g AS id, g % 101 AS k, 'name ' || g AS name FROM generate_series(1, 300000) g").await.unwrap();
    let sql = "SELECT a.k, count(*), sum(a.id), min(b.name) FROM facts a JOIN facts b ON a.id = b.id WHERE b.k < 60 GROUP BY a.k ORDER BY a.k";
    let expected = rows(&client, sql).await;
    client.simple_query("SET squilla.distributed = off").await.unwrap();
    assert_eq!(rows(&client, sql).await, expected, "here and there");
    client.simple_query("SET squilla.distributed = on").await.unwrap();
    let mut workers: Vec<Option<Server>> = cluster.workers.into_iter().map(Some).collect();
    // Another moment in each round; one worker stays.
    for (round, worker) in workers.iter_mut().take(2).enumerate() {
        let victim = worker.take().unwrap();
        let pid = victim.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(15 + 35 * round as u64));
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
            victim
        });
        for _ in 0..3 {
            match try_rows(&client, sql).await {
                Ok(found) => assert_eq!(found, expected, "round {round}"),
                Err(error) => assert_eq!(error.code().map(|c| c.code()), Some("SQ004"), "{error:?}"),
            }
        }
        drop(killer.join().unwrap());
    }
    assert_eq!(rows(&client, sql).await, expected);
}
