//! What a client may cost: cancelled work stops, time limits hold, slow readers and hostile statements stay bounded.
//!
//! In: servers of the test's own, measured from outside (clock, resident memory, CPU time). Out: SQLSTATEs and bounds.
//! Deliberately absent: the decoders' limits, which sqllogictest records cover.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::client::connect;
use crate::server_process::Server;

/// Work for many minutes, in one aggregate: no row leaves before the end.
const AGGREGATE: &str = "SELECT sum(a.v % 7 + b.v % 5) FROM generate_series(1, 2000000) a(v), generate_series(1, 2000000) b(v)";
/// Work for many minutes that sends rows all the time.
const STREAM: &str = "SELECT a.v, b.v FROM generate_series(1, 2000000) a(v), generate_series(1, 2000000) b(v)";
/// Half a gigabyte and more of result.
const WIDE: &str = "SELECT g, repeat('x', 1000) FROM generate_series(1, 3000000) g";

fn state(error: &tokio_postgres::Error) -> String {
    error.code().map(|c| c.code().to_owned()).unwrap_or_else(|| format!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_a_statement_within_a_second() {
    let server = Server::start(&[]);
    for (name, sql) in [("aggregate", AGGREGATE), ("stream", STREAM)] {
        for extended in [false, true] {
            let client = connect(&server.config()).await.unwrap();
            let token = client.cancel_token();
            let cancelled = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let start = Instant::now();
                token.cancel_query(NoTls).await.unwrap();
                start
            });
            let result = if extended { drain_extended(&client, sql).await } else { drain_simple(&client, sql).await };
            let took = cancelled.await.unwrap().elapsed();
            let error = result.expect_err(name);
            assert_eq!(state(&error), "57014", "{name}, extended {extended}");
            assert!(took < Duration::from_secs(1), "{name}, extended {extended}: {took:?}");
            client.simple_query("SELECT 1").await.expect("the connection goes on");
        }
    }
}

async fn drain_simple(client: &tokio_postgres::Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    use futures::TryStreamExt;
    let stream = client.simple_query_raw(sql).await?;
    stream.try_for_each(|_| async { Ok(()) }).await
}

async fn drain_extended(client: &tokio_postgres::Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    use futures::TryStreamExt;
    let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    let stream = client.query_raw(sql, none).await?;
    stream.try_for_each(|_| async { Ok(()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_timeout_covers_execution() {
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    client.simple_query("SET statement_timeout = '500ms'").await.unwrap();
    for sql in [AGGREGATE, STREAM] {
        let start = Instant::now();
        let error = drain_simple(&client, sql).await.unwrap_err();
        assert_eq!(state(&error), "57014");
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }
    client.simple_query("RESET statement_timeout").await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
}

#[test]
fn a_client_that_leaves_takes_its_work_with_it() {
    let server = Server::start(&[]);
    let mut socket = log_in(server.port);
    send_query(&mut socket, AGGREGATE);
    std::thread::sleep(Duration::from_millis(700));
    drop(socket);
    std::thread::sleep(Duration::from_millis(1500));
    let before = cpu_seconds(&server);
    std::thread::sleep(Duration::from_secs(2));
    let spent = cpu_seconds(&server) - before;
    assert!(spent < 0.5, "{spent} CPU seconds in 2 s after the client has left");
}

#[test]
fn a_reader_that_stops_reading_costs_bounded_memory() {
    for extended in [false, true] {
        let server = Server::start(&[]);
        let mut socket = log_in(server.port);
        let before = server.resident_bytes();
        if extended {
            send_extended(&mut socket, WIDE)
        } else {
            send_query(&mut socket, WIDE)
        }
        let mut first = [0; 1000];
        socket.read_exact(&mut first).unwrap();
        std::thread::sleep(Duration::from_secs(4));
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 300 << 20, "extended {extended}: {} MB more", grown >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_statements_are_refused_and_nothing_else() {
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    for sql in [
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}1", "- ".repeat(20_000)),
        format!("SELECT 1{}", " + 1".repeat(50_000)),
        format!("SELECT {}true", "NOT ".repeat(20_000)),
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(3_000), ") t".repeat(3_000)),
    ] {
        let start = &sql[..40];
        match client.simple_query(&sql).await {
            Ok(_) => {} // a statement of this depth may also simply work
            Err(error) => assert!(["54001", "42601", "54000"].contains(&state(&error).as_str()), "{start}: {}", state(&error)),
        }
        client.simple_query("SELECT 1").await.unwrap_or_else(|e| panic!("after {start}: {e:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_independent() {
    let server = Server::start(&[]);
    let busy = connect(&server.config()).await.unwrap();
    let token = busy.cancel_token();
    let running = tokio::spawn(async move { drain_simple(&busy, AGGREGATE).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..20 {
        let start = Instant::now();
        let client = connect(&server.config()).await.unwrap();
        client.simple_query("SELECT 1").await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?} beside a busy statement", start.elapsed());
    }
    token.cancel_query(NoTls).await.unwrap();
    assert_eq!(state(&running.await.unwrap().unwrap_err()), "57014");
}

/// User and system time of the server process and of its children that have ended.
fn cpu_seconds(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Logs in over a bare socket and reads up to ReadyForQuery.
fn log_in(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut body = 196_608u32.to_be_bytes().to_vec();
    body.extend_from_slice(b"user\0tester\0database\0squilla\0\0");
    socket.write_all(&u32::try_from(body.len() + 4).unwrap().to_be_bytes()).unwrap();
    socket.write_all(&body).unwrap();
    loop {
        let mut head = [0; 5];
        socket.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut rest = vec![0; length];
        socket.read_exact(&mut rest).unwrap();
        match head[0] {
            b'Z' => return socket,
            b'E' => panic!("{}", String::from_utf8_lossy(&rest)),
            _ => {}
        }
    }
}

fn send_query(socket: &mut TcpStream, sql: &str) {
    socket.write_all(&message(b'Q', format!("{sql}\0").as_bytes())).unwrap();
}

fn send_extended(socket: &mut TcpStream, sql: &str) {
    let mut bytes = message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    bytes.extend(message(b'B', b"\0\0\0\0\0\0\0\0"));
    bytes.extend(message(b'E', b"\0\0\0\0\0"));
    bytes.extend(message(b'S', b""));
    socket.write_all(&bytes).unwrap();
}
