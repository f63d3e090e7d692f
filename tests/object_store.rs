//! Buckets and URLs, on a server of the S3 API that runs beside the test (moto, from the Python package index; `make setup`
//! installs it).
//!
//! In: statements through `squilla sql`. Out: what they read from, and leave in, a bucket. Invariant: nothing of a
//! statement that failed is in the bucket. Deliberately absent: the clouds themselves, whose log-in is the library's.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::server_process::squilla;

struct S3 {
    port: u16,
    _process: Child,
}

/// The one server of this test run; it ends with the run's process group.
fn s3() -> &'static S3 {
    static SERVER: OnceLock<S3> = OnceLock::new();
    SERVER.get_or_init(|| {
        let cache = std::env::var_os("SQUILLA_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
            caches.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")).join("squilla")
        });
        let python = cache.join("venv/bin/python");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Stops with the test process, however that ends: the pipe of its standard input closes.
        let script = format!(
            "import sys, threading\nfrom moto.server import ThreadedMotoServer\ns = ThreadedMotoServer(ip_address='127.0.0.1', port={port})\ns.start()\nsys.stdin.read()\ns.stop()\n"
        );
        let process = Command::new(&python).args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|e| panic!("{}: {e}; run `make setup`, which installs the S3 server", python.display()));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the S3 server did not start; run `make setup`, which installs it");
            std::thread::sleep(Duration::from_millis(50));
        }
        S3 { port, _process: process }
    })
}

fn put(path: &str, body: &str) {
    let status = Command::new("curl")
        .args([
            "-sSf",
            "-X",
            "PUT",
            "-H",
            "content-type: application/octet-stream",
            "-H",
            "x-amz-acl: public-read",
            "--data-binary",
            body,
            &format!("http://127.0.0.1:{}/{path}", s3().port),
        ])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{path}");
}

/// Keys of a bucket and the number of uploads under way in it.
fn content(bucket: &str) -> (Vec<String>, usize) {
    let get = |query: &str| {
        let output = Command::new("curl").args(["-sSf", &format!("http://127.0.0.1:{}/{bucket}?{query}", s3().port)]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let keys = get("list-type=2").split("<Key>").skip(1).map(|part| part.split('<').next().unwrap().to_owned()).collect();
    (keys, get("uploads").matches("<UploadId>").count())
}

fn run(sql: &str) -> Output {
    let data = tempfile::tempdir().unwrap();
    squilla(&["sql", "--format", "csv", "-c", sql])
        .env("XDG_DATA_HOME", data.path())
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", s3().port))
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
        .env("AWS_REGION", "us-east-1")
        .output()
        .unwrap()
}

fn rows(sql: &str) -> String {
    let output = run(sql);
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn error(sql: &str) -> String {
    let output = run(sql);
    assert!(!output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("a-secret-of-this-test"), "{text}");
    text
}

#[test]
fn a_bucket_is_listed_and_read() {
    put("listed", "");
    for key in ["a/1.txt", "a/2.txt", "a/sub/3.txt", "b.txt"] {
        put(&format!("listed/{key}"), &format!("text of {key}"));
    }
    assert_eq!(rows("SELECT count(*) AS n FROM read_files('s3://listed/**')"), "n\n4\n");
    assert_eq!(rows("SELECT uri FROM read_files('s3://listed/a/*.txt') ORDER BY 1"), "uri\ns3://listed/a/1.txt\ns3://listed/a/2.txt\n");
    assert_eq!(rows("SELECT convert_from(content, 'UTF8') AS t, size FROM read_files('s3://listed/a/sub/*')"), "t,size\ntext of a/sub/3.txt,19\n");
    assert_eq!(rows("SELECT convert_from(file_content('s3://listed/b.txt', \"offset\" => 5, length => 2), 'UTF8') AS t"), "t\nof\n");
    assert!(error("SELECT * FROM read_files('s3://listed/none/x')").contains("58P01"));
    assert!(error("SELECT * FROM read_files('s3://no-such-bucket/x/*')").contains("58P01"));
}

#[test]
fn every_format_goes_there_and_back() {
    put("formats", "");
    for (format, reader) in [("parquet", "read_parquet"), ("csv", "read_csv"), ("json", "read_json")] {
        // More than one part of an upload.
        let header = if format == "csv" { ", HEADER" } else { "" };
        rows(&format!(
            "COPY (SELECT g AS n, repeat(md5(g::text), 6) AS t FROM generate_series(1, 200000) g) TO 's3://formats/x/{format}.{format}' (FORMAT {format}{header})"
        ));
        assert_eq!(
            rows(&format!("SELECT count(*) AS n, sum(n) AS s, min(length(t)) AS l FROM {reader}('s3://formats/x/{format}.{format}')")),
            "n,s,l\n200000,20000100000,192\n"
        );
    }
    assert_eq!(content("formats").1, 0);
}

#[test]
fn a_failed_copy_leaves_nothing() {
    put("failed", "");
    let text =
        error("COPY (SELECT 1 / (g - 150000) AS n, repeat('x', 200) AS t FROM generate_series(1, 200000) g) TO 's3://failed/x.csv' (FORMAT csv)");
    assert!(text.contains("division by zero"), "{text}");
    error(
        "COPY (SELECT 1 / (g - 150000) AS n, g % 3 AS k, repeat('x', 200) AS t FROM generate_series(1, 200000) g) TO 's3://failed/y' (FORMAT csv, PARTITION_BY (k))",
    );
    assert_eq!(content("failed"), (Vec::new(), 0));
}

#[test]
fn partitions_come_with_a_manifest() {
    put("parts", "");
    let copy = |n: u32, more: &str| {
        format!("COPY (SELECT g AS n, g % 2 AS k FROM generate_series(1, {n}) g) TO 's3://parts/x' (FORMAT parquet, PARTITION_BY (k){more})")
    };
    rows(&copy(10, ""));
    assert_eq!(rows("SELECT k, sum(n) AS s FROM read_parquet('s3://parts/x', hive => true) GROUP BY k ORDER BY k"), "k,s\n0,30\n1,25\n");
    assert!(content("parts").0.contains(&"x/_manifest.json".to_owned()));
    assert!(error(&copy(4, "")).contains("58P02"));
    rows(&copy(4, ", OVERWRITE"));
    assert_eq!(rows("SELECT k, sum(n) AS s FROM read_parquet('s3://parts/x', hive => true) GROUP BY k ORDER BY k"), "k,s\n0,6\n1,4\n");
    assert_eq!(content("parts").0.len(), 3);
}

#[test]
fn connections_are_made_by_sql() {
    put("lake", "");
    put("lake/t.csv", "a\n1\n2\n");
    let port = s3().port;
    let script = format!(
        "CREATE SERVER lake FOREIGN DATA WRAPPER s3 OPTIONS (bucket 'lake', endpoint 'http://127.0.0.1:{port}', region 'us-east-1');
         CREATE USER MAPPING FOR PUBLIC SERVER lake OPTIONS (access_key_id 'key', secret_access_key 'a-secret-of-this-test');
         SELECT sum(a) AS s FROM read_csv('s3://lake/t.csv');
         SELECT srvname, usename, umoptions FROM pg_user_mappings;
         SELECT srvname, srvoptions::text AS options FROM pg_foreign_server WHERE srvname = 'lake';"
    );
    let data = tempfile::tempdir().unwrap();
    let output = squilla(&["sql", "--format", "csv", "-c", &script]).env("XDG_DATA_HOME", data.path()).env_remove("AWS_ENDPOINT").output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    assert!(out.contains("s\n3\n") && out.contains("lake,public,\n"), "{out}");
    assert!(!out.contains("a-secret-of-this-test") && !err.contains("a-secret-of-this-test"), "{out}{err}");
}

#[test]
fn urls_are_read_and_written() {
    put("urls", "");
    put("urls/t.csv", "a,b\n1,x\n2,y\n");
    let url = format!("http://127.0.0.1:{}/urls", s3().port);
    assert_eq!(rows(&format!("SELECT sum(a) AS s FROM read_csv('{url}/t.csv')")), "s\n3\n");
    rows(&format!("COPY (SELECT 7 AS n) TO '{url}/out.json' (FORMAT json)"));
    // What was put there is not public.
    assert_eq!(rows("SELECT n FROM read_json('s3://urls/out.json')"), "n\n7\n");
    assert!(error(&format!("SELECT * FROM read_csv('{url}/none.csv')")).contains("58P01"));
}
