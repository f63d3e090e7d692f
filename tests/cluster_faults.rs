//! What fails around a cluster: full disks, cut networks, gone clients, expired certificates, plans that are too large, models
//! that no worker can run, tables that no worker sees.
//!
//! In: servers and workers of the test's own, some of them behind mounts or networks of their own. Out: the SQLSTATE, the
//! worker's name and the remedy; and that what can run elsewhere does. Where the system allows no such mounts or networks, a
//! test says so and passes. Deliberately absent: killed and frozen workers (`cluster`), leases (`cluster_leases`).

use std::process::Command;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::cluster::{Cluster, failure, image_model, maps, pictures, rows, sleeping, try_rows, value};
use crate::server_process::{Server, free_port, repository};

/// A shell's command as one that may be refused.
fn allowed(what: &str, script: &str) -> bool {
    let allowed = Command::new("/bin/sh").args(["-ec", script]).output().is_ok_and(|o| o.status.success());
    if !allowed {
        println!("skipped: {what} are not allowed here");
    }
    allowed
}

/// Whether this machine gives a test mounts of its own.
fn own_mounts() -> bool {
    allowed("mounts of one's own", "unshare -rm mount -t tmpfs tmpfs /mnt")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spill_directory_is_53100_and_names_worker_and_remedy() {
    let small = Server::worker(&["--set", "squilla.spill_bytes_max=1MB"]);
    let mut workers = vec![(small, "squilla.spill_bytes_max")];
    if own_mounts() {
        let script = "exec unshare -rm sh -ec 'mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$@\"' \"$0\" \"$@\"";
        workers.push((Server::worker_behind(script, "127.0.0.1", &[]), "--spill-dir"));
    }
    for (worker, remedy) in workers {
        let address = worker.address();
        let cluster = Cluster::of(vec![worker], &[]).await;
        let client = cluster.connect().await;
        client.simple_query("CREATE TABLE many AS SELECT g AS id FROM generate_series(1, 1200000) g").await.unwrap();
        // The reader is slower than the worker: what it does not take waits in memory, then in the directory.
        let parts = (0..8).map(|i| format!("md5((id * 8 + {i})::text)")).collect::<Vec<_>>().join(" || ");
        client.simple_query(&format!("BEGIN; DECLARE slow CURSOR FOR SELECT {parts} FROM many; FETCH 1 FROM slow")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let (code, text) = failure(&client, "FETCH 1200000 FROM slow").await;
        assert_eq!(code, "53100", "{remedy}: {text}");
        assert!(text.contains(&address) && text.contains(remedy), "{text}");
        client.simple_query("ROLLBACK").await.unwrap();
        assert_eq!(value(&client, "SELECT count(*) FROM many").await, "1200000", "the worker goes on");
    }
}

/// A network namespace of the test's own, joined to this one by a cable; it goes with the value.
struct Network {
    name: String,
    here: String,
    there: String,
}

impl Network {
    fn new() -> Option<Network> {
        let number = std::process::id() % 250;
        let name = format!("squilla-{}", std::process::id());
        let (here, there) = (format!("10.93.{number}.1"), format!("10.93.{number}.2"));
        let script = format!(
            "ip netns add {name}; ip link add sq{number}a type veth peer name sq{number}b netns {name}
             ip addr add {here}/30 dev sq{number}a; ip link set sq{number}a up
             ip netns exec {name} ip addr add {there}/30 dev sq{number}b
             ip netns exec {name} ip link set sq{number}b up; ip netns exec {name} ip link set lo up"
        );
        let network = Network { name, here, there };
        allowed("network namespaces", &script).then_some(network)
    }

    /// Pulls the cable, or puts it in again.
    fn cable(&self, state: &str) {
        let number = std::process::id() % 250;
        let done = Command::new("ip").args(["netns", "exec", &self.name, "ip", "link", "set", &format!("sq{number}b"), state]).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_is_a_lost_worker() {
    let Some(network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a token of some length").unwrap();
    let token = format!("squilla.cluster_token_file={}", token.display());
    let away = format!("exec ip netns exec {} \"$@\"", network.name);
    let workers = vec![
        Server::worker_behind(&away, &network.there, &["--set", &token]),
        Server::worker_behind("exec \"$@\"", &network.here, &["--set", &token]),
        Server::worker_behind("exec \"$@\"", &network.here, &["--set", &token]),
    ];
    let cluster = Cluster::of(workers, &["--set", &token]).await;
    cluster.until("all are ready", |rows| rows.iter().all(|r| r[1].as_deref() == Some("ready"))).await;
    let client = cluster.connect().await;
    let sql = sleeping(2, 12);
    let statement = tokio::spawn(async move { (try_rows(&client, &sql).await, Instant::now()) });
    tokio::time::sleep(Duration::from_millis(800)).await;
    network.cable("down");
    let cut = Instant::now();
    let (answer, end) = statement.await.unwrap();
    assert_eq!(answer.unwrap()[0][0].as_deref(), Some("12"), "it ran again on the others");
    assert!(end.duration_since(cut) < Duration::from_secs(30), "{:?}", end.duration_since(cut));
    assert!(cluster.server.log_text().contains("runs again"), "{}", cluster.server.log_text());
    cluster.until("the worker is off the list", |rows| rows.iter().filter(|r| r[1].as_deref() == Some("ready")).count() == 2).await;
    network.cable("up");
    cluster.until("the worker is back", |rows| rows.iter().all(|r| r[1].as_deref() == Some("ready"))).await;
    // One that has sent rows cannot be repeated.
    let client = cluster.connect().await;
    let mut stream = Box::pin(client.simple_query_raw("SELECT n, pg_sleep(0.02 + 0 * n) FROM generate_series(1, 6000) g(n)").await.unwrap());
    let mut received = 0;
    let error = loop {
        match stream.try_next().await {
            Ok(Some(SimpleQueryMessage::Row(_))) => received += 1,
            Ok(Some(_)) => {}
            Ok(None) => panic!("the statement ended with {received} rows"),
            Err(error) => break error,
        }
        if received == 1 {
            network.cable("down");
        }
    };
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "SQ004", "{error:?}");
    assert!(error.message().contains(&network.there), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_leaves_no_work_behind() {
    let cluster = Cluster::start(2).await;
    let (client, connection) = tokio_postgres::connect(&cluster.server.config(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let statement = tokio::spawn(async move { client.simple_query(&sleeping(60, 20)).await.map(drop) });
    cluster.until("the workers have work", |rows| rows.iter().any(|r| r[3].as_deref() == Some("1"))).await;
    connection.abort();
    statement.abort();
    // Half a second between questions to the workers is part of what is seen.
    let took = cluster.until_idle().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// An authority, a certificate for 127.0.0.1, and one that has expired.
const CERTIFICATES: &str = r#"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=authority" -keyout ca.key -out ca.pem
printf '[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=index.txt\nserial=serial\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' > ca.cnf
: > index.txt; echo 01 > serial
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > ext
for who in good:20250101000000Z:20490101000000Z old:20200101000000Z:20210101000000Z; do
  name=${who%%:*} dates=${who#*:}
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr
  openssl ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in $name.csr -out $name.pem -extfile ext -startdate ${dates%:*} -enddate ${dates#*:}
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_named_on_either_side() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("/bin/sh").args(["-ec", CERTIFICATES]).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let set = |who: &str| -> Vec<String> {
        let file = |name: &str| folder.path().join(name).display().to_string();
        [("ca", "ca.pem".to_owned()), ("cert", format!("{who}.pem")), ("key", format!("{who}.key"))]
            .iter()
            .flat_map(|(setting, name)| ["--set".to_owned(), format!("squilla.cluster_{setting}={}", file(name))])
            .collect()
    };
    for (server, worker) in [("good", "old"), ("old", "good")] {
        let (of_server, of_worker) = (set(server), set(worker));
        let texts = |list: &'_ [String]| -> Vec<String> { list.to_vec() };
        let worker = Server::worker(&texts(&of_worker).iter().map(String::as_str).collect::<Vec<_>>());
        let cluster = Cluster::of(vec![worker], &texts(&of_server).iter().map(String::as_str).collect::<Vec<_>>()).await;
        cluster.until("it is refused", |rows| rows[0][2].is_some()).await;
        let client = cluster.connect().await;
        let refused = rows(&client, "SELECT state, error FROM squilla.workers").await;
        assert_eq!(refused[0][0].as_deref(), Some("unreachable"), "{refused:?}");
        assert!(refused[0][1].as_deref().is_some_and(|e| e.to_lowercase().contains("expired")), "{server}: {refused:?}");
        assert_eq!(value(&client, &sleeping(0, 4)).await, "4", "what needs no worker runs");
        let model = image_model();
        let (code, text) = failure(&client, &format!("SELECT classify_image(decode_image(fixture('model/square.jpg')), model => '{model}')")).await;
        assert!(code == "57P01" && text.to_lowercase().contains("expired"), "{code} {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_over_the_limit_runs_here_or_names_the_workers() {
    let cluster = Cluster::of(vec![Server::worker(&["--set", "squilla.plan_bytes_max=100kB"])], &[]).await;
    let client = cluster.connect().await;
    let files = repository().join("tests/fixtures/image/*").to_string_lossy().into_owned();
    let many = (0..20_000).map(|i| format!("'name {i}'")).collect::<Vec<_>>().join(",");
    let sql = format!("SELECT count(*) FROM read_files('{files}') WHERE name || '' NOT IN ({many})");
    assert!(value(&client, &sql).await.parse::<i64>().unwrap() > 5, "without a model it runs in the server");
    let model = image_model();
    let sql = format!(
        "SELECT classify_image(decode_image(content, on_error => 'null'), model => '{model}', on_error => 'null')
         FROM read_files('{files}') WHERE name || '' NOT IN ({many})"
    );
    let (code, text) = failure(&client, &sql).await;
    assert_eq!(code, "54000", "{text}");
    assert!(text.contains(&cluster.workers[0].address()) && text.contains("squilla.plan_bytes_max"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_for_a_device_that_no_worker_has_is_named() {
    let cluster = Cluster::of(vec![Server::worker(&["--device", "cpu"])], &[]).await;
    let client = cluster.connect().await;
    let model = image_model();
    client.simple_query(&format!("CREATE MODEL for_gpu FOR classify_image WITH (source = 'file://{model}', device = 'cuda:0')")).await.unwrap();
    let sql = |model: &str| format!("SELECT classify_image(decode_image(fixture('model/square.jpg')), model => '{model}') IS NOT NULL");
    let (code, text) = failure(&client, &sql("for_gpu")).await;
    assert_eq!(code, "SQ003", "{text}");
    assert!(text.contains("device=cuda") && text.contains(&cluster.workers[0].address()) && text.contains("device=cpu"), "{text}");
    assert_eq!(value(&client, &sql(&model)).await, "t", "another model runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_run_where_the_labels_fit_and_nowhere_else() {
    let workers = vec![Server::worker(&["--labels", "gpu=0"]), Server::worker(&["--labels", "gpu=1"]), Server::worker(&[])];
    let cluster = Cluster::of(workers, &[]).await;
    cluster.until("all are ready", |rows| rows.iter().all(|r| r[1].as_deref() == Some("ready"))).await;
    let (client, media, model) = (cluster.connect().await, pictures(), image_model());
    client.simple_query("SET squilla.model_labels = 'gpu=1'").await.unwrap();
    let labels =
        format!("SELECT classify_image(decode_image(content), model => '{model}') AS label FROM read_files('{}/*.jpg')", media.path().display());
    assert_eq!(value(&client, &format!("SELECT count(label) FROM ({labels}) t")).await, "24");
    client.simple_query(&format!("CREATE TABLE labels AS {labels}")).await.unwrap();
    assert_eq!(value(&client, "SELECT count(label) FROM labels").await, "24");
    let loaded: Vec<bool> = cluster.workers.iter().map(|w| maps(w).contains("onnxruntime")).collect();
    assert_eq!(loaded, [false, true, false]);
    assert!(!maps(&cluster.server).contains("onnxruntime"), "the coordinator loaded the model runtime");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_leaves_the_data_directory_to_its_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_on(data.path(), &[]);
    // As in a container whose environment names the directory for both.
    let worker = Server::worker(&["--data-dir", &data.path().display().to_string()]);
    let cluster = Cluster::of(vec![worker], &[]).await;
    assert_eq!(value(&cluster.connect().await, &sleeping(0, 4)).await, "4");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_see_the_tables_gets_none() {
    if !own_mounts() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let script = format!("exec unshare -rm sh -ec 'mount -t tmpfs tmpfs {} && exec \"$@\"' \"$0\" \"$@\"", data.path().display());
    let worker = Server::worker_behind(&script, "127.0.0.1", &[]);
    let address = worker.address();
    let server = Server::start_on(data.path(), &["--workers", &address, "--set", "squilla.distributed=on"]);
    let cluster = Cluster { server, workers: vec![worker] };
    cluster.until("it is ready", |rows| rows[0][1].as_deref() == Some("ready")).await;
    let client = cluster.connect().await;
    let picture = repository().join("tests/fixtures/model/square.jpg").display().to_string();
    client.simple_query(&format!("CREATE TABLE pictures AS SELECT '{picture}' AS path, g FROM generate_series(1, 5000) g")).await.unwrap();
    assert_eq!(value(&client, "SELECT count(DISTINCT g) FROM pictures").await, "5000", "it runs in the server");
    let model = image_model();
    let sql = format!("SELECT classify_image(decode_image(file_content(path)), model => '{model}') IS NOT NULL FROM pictures WHERE g < 4");
    let (code, text) = failure(&client, &sql).await;
    assert_eq!(code, "55000", "{text}");
    assert!(text.contains(&address) && text.contains(&data.path().display().to_string()) && text.contains("Mount"), "{text}");
    let sql = format!("SELECT classify_image(decode_image(fixture('model/square.jpg')), model => '{model}') IS NOT NULL");
    assert_eq!(value(&client, &sql).await, "t", "models over other rows run on the worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let limits = ["--set", "squilla.cluster_statements=1", "--set", "squilla.cluster_queue=1"];
    let cluster = Cluster::of(vec![Server::worker(&[])], &limits).await;
    let clients = [cluster.connect().await, cluster.connect().await, cluster.connect().await];
    let [first, second, third] = clients;
    let running = tokio::spawn(async move { value(&first, &sleeping(3, 2)).await });
    cluster.until("it runs", |rows| rows[0][3].as_deref() == Some("1")).await;
    let waiting = tokio::spawn(async move { value(&second, &sleeping(0, 3)).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (code, text) = failure(&third, &sleeping(0, 4)).await;
    assert!(code == "53400" && text.contains("squilla.cluster_queue"), "{code} {text}");
    assert_eq!((running.await.unwrap(), waiting.await.unwrap()), ("2".to_owned(), "3".to_owned()));
    assert_eq!(value(&third, &sleeping(0, 4)).await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_tells_what_stages_sent() {
    let cluster = Cluster::start(2).await;
    let client = cluster.connect().await;
    client.simple_query("CREATE TABLE many AS SELECT g AS id, g % 1000 AS k FROM generate_series(1, 300000) g").await.unwrap();
    let sql = "EXPLAIN ANALYZE SELECT k, count(*) FROM many GROUP BY k";
    let plan: Vec<String> = rows(&client, sql).await.into_iter().map(|r| r[0].clone().unwrap_or_default()).collect();
    let stages: Vec<&String> = plan.iter().filter(|l| l.starts_with("Stage ")).collect();
    assert!(stages.len() >= 2, "{plan:?}");
    for stage in stages {
        assert!(stage.contains("tasks=") && stage.contains("memory_bytes=") && stage.contains("spilled_bytes=0"), "{stage}");
    }
    let json = value(&client, "EXPLAIN (ANALYZE, FORMAT json) SELECT k, count(*) FROM many GROUP BY k").await;
    assert!(json.contains("\"Wire Bytes\""), "{json}");
}

#[test]
fn a_port_that_is_taken_is_an_error_of_the_worker() {
    let port = free_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let out = crate::server_process::squilla(&["worker", "--listen", &format!("127.0.0.1:{port}")]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains(&port.to_string()), "{text}");
    drop(taken);
}
