//! Disks that fail: full, read-only, with damaged files; and a server that is killed again and again while it is read.
//!
//! In: servers of the test's own on directories that the test breaks. Out: a clear error, the rows of before, and a server
//! that goes on. Invariant: nothing that was answered is lost, nothing that was not is half there. A full or read-only disk
//! needs a mount namespace of one's own (`unshare -rm`); where there is none, that test says so and passes.
//! `FAULT_KILLS=100` kills as often as that; `FAULT_SEED` repeats a run. Deliberately absent: crashes of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::client::connect;
use crate::server_process::{Server, squilla};

/// Rows of a batch; their values add up to nothing.
const BATCH: i64 = 7;

/// Numbers that a seed gives.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

async fn numbers(client: &Client, sql: &str) -> Option<Vec<i64>> {
    let row = client.query_one(sql, &[]).await.ok()?;
    Some((0..row.len()).map(|i| row.get::<_, i64>(i)).collect())
}

async fn code(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.unwrap_err();
    error.as_db_error().map_or_else(|| format!("{error:?}"), |e| e.code().code().to_owned())
}

const LOOK: &str = "SELECT count(*), coalesce(sum(v), 0)::bigint, count(DISTINCT batch) FROM t";

/// Whole batches only: the numbers of [`LOOK`].
fn whole(found: &[i64]) -> bool {
    found[0] == found[2] * BATCH && found[1] == 0
}

/// A transaction that keeps batches whole: few rows, many rows, changed rows, removed rows.
fn change(dice: &mut Dice, next: &mut u64) -> String {
    let batch = |n: u64, count: u64| {
        format!("INSERT INTO t SELECT {n} + g / {BATCH}, g % {BATCH} - {} FROM generate_series(0, {}) g", BATCH / 2, count * BATCH as u64 - 1)
    };
    match dice.below(6) {
        0 | 1 => {
            *next += 1;
            batch(*next - 1, 1)
        }
        2 => {
            *next += 400;
            batch(*next - 400, 400)
        }
        3 => format!("UPDATE t SET v = -v WHERE batch % 10 = {}", dice.below(10)),
        4 => format!("DELETE FROM t WHERE batch % 50 = {}", dice.below(50)),
        _ => {
            *next += 2;
            format!("BEGIN; {}; {}; COMMIT", batch(*next - 2, 1), batch(*next - 1, 1))
        }
    }
}

#[tokio::test]
async fn kills_at_any_moment_leave_whole_transactions_for_every_reader() {
    let (kills, seed) = (variable("FAULT_KILLS", 4), variable("FAULT_SEED", 11));
    let mut dice = Dice(seed);
    let data = tempfile::tempdir().unwrap();
    let reads = Arc::new(AtomicU64::new(0));
    let (mut next, mut slowest) = (0_u64, Duration::ZERO);
    for round in 0..=kills {
        let started = Instant::now();
        let server = Server::start_on(data.path(), &[]);
        slowest = slowest.max(started.elapsed());
        let client = connect(&server.config()).await.unwrap();
        if round == 0 {
            client.batch_execute("CREATE TABLE t (batch bigint, v int)").await.unwrap();
        }
        let found = numbers(&client, LOOK).await.unwrap();
        assert!(whole(&found), "seed {seed}, start {round}: {found:?}");
        if round == kills {
            client.batch_execute("SELECT optimize_table('t')").await.unwrap();
            client.batch_execute("SET squilla.version_retention = 0; VACUUM").await.unwrap();
            assert!(whole(&numbers(&client, LOOK).await.unwrap()));
            assert!(files(data.path()) <= 1, "files that nothing names: {}", files(data.path()));
            break;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (config, stop, reads) = (server.config(), Arc::clone(&stop), Arc::clone(&reads));
            tokio::spawn(async move {
                let Ok(client) = connect(&config).await else { return };
                while !stop.load(Ordering::Relaxed) {
                    let Some(found) = numbers(&client, LOOK).await else { return };
                    assert!(whole(&found), "seed {seed}, round {round}: a reader saw {found:?}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let until = Instant::now() + Duration::from_millis(100 + dice.below(700));
        let writing = async { while client.batch_execute(&change(&mut dice, &mut next)).await.is_ok() {} };
        let killing = async {
            tokio::time::sleep_until(until.into()).await;
            server.signal("KILL");
        };
        tokio::join!(writing, killing);
        stop.store(true, Ordering::Relaxed);
        reader.await.unwrap();
        // Numbers of batches that were not committed are given again: they must not meet older ones.
        next += 1000;
    }
    println!("{kills} kills, {} reads, slowest start {slowest:?}", reads.load(Ordering::Relaxed));
}

/// Files below the data directory.
fn files(data: &Path) -> usize {
    fn count(directory: &Path) -> usize {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
    }
    count(&data.join("data"))
}

/// Whether this machine gives a test mounts of its own.
fn own_mounts() -> bool {
    let allowed = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output().is_ok_and(|o| o.status.success());
    if !allowed {
        println!("skipped: unshare -rm is not allowed here");
    }
    allowed
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_else() {
    if !own_mounts() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=16m tmpfs \"$0\" && exec \"$@\"";
    let server = Server::start_behind(&["unshare", "-rm", "sh", "-c", mount], data.path(), &[]);
    let client = connect(&server.config()).await.unwrap();
    client.batch_execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'kept')").await.unwrap();
    let large = "INSERT INTO t SELECT g, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text) FROM generate_series(1, 1200000) g";
    assert_eq!(code(&client, large).await, "53100");
    assert_eq!(numbers(&client, "SELECT count(*), min(id)::bigint FROM t").await.unwrap(), [1, 1]);
    // What was staged has gone: there is room again.
    client.batch_execute("INSERT INTO t VALUES (2, 'after')").await.unwrap();
    // The catalog fills the disk.
    let filler = "INSERT INTO t SELECT g, repeat('x', 200) || g FROM generate_series(1, 900) g";
    let mut refused = None;
    for _ in 0..400 {
        if let Err(error) = client.batch_execute(filler).await {
            refused = error.as_db_error().map(|e| e.code().code().to_owned());
            break;
        }
    }
    if let Some(code) = refused {
        assert_eq!(code, "53100");
    }
    let rows = numbers(&client, "SELECT count(*), count(*) % 900 FROM t").await.unwrap();
    assert_eq!(rows[1], 2, "{rows:?}");
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_an_error_and_nothing_else() {
    if !own_mounts() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    {
        let server = Server::start_on(data.path(), &[]);
        let client = connect(&server.config()).await.unwrap();
        client.batch_execute("CREATE TABLE t (id int); INSERT INTO t SELECT g FROM generate_series(1, 5000) g").await.unwrap();
    }
    let mount = "mount --bind \"$0/data\" \"$0/data\" && mount -o remount,ro,bind \"$0/data\" && exec \"$@\"";
    let server = Server::start_behind(&["unshare", "-rm", "sh", "-c", mount], data.path(), &[]);
    let client = connect(&server.config()).await.unwrap();
    let refused = code(&client, "INSERT INTO t SELECT g FROM generate_series(1, 5000) g").await;
    assert!(["42501", "58030"].contains(&refused.as_str()), "{refused}");
    assert_eq!(numbers(&client, "SELECT count(*) FROM t").await.unwrap(), [5000]);
    // Rows of the catalog are elsewhere.
    client.batch_execute("INSERT INTO t VALUES (5001)").await.unwrap();
    assert_eq!(numbers(&client, "SELECT count(*) FROM t").await.unwrap(), [5001]);
}

/// The Parquet files below a data directory.
fn parquet(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path());
    entries
        .flat_map(|path| if path.is_dir() { parquet(&path) } else { vec![path] })
        .filter(|p| p.extension().is_some_and(|e| e == "parquet"))
        .collect()
}

#[tokio::test]
async fn a_damaged_file_fails_the_statements_that_read_it() {
    let data = tempfile::tempdir().unwrap();
    {
        let server = Server::start_on(data.path(), &[]);
        let client = connect(&server.config()).await.unwrap();
        client.batch_execute("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 50000) g").await.unwrap();
    }
    let damaged = parquet(&data.path().join("data"));
    assert_eq!(damaged.len(), 1);
    let whole = std::fs::read(&damaged[0]).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let nonsense = vec![0xa5; whole.len()];
    // One bit at many places: of values, of headers, of the footer.
    let bits = (0..6).map(|i| {
        let mut bytes = whole.clone();
        bytes[i * (whole.len() - 1) / 5] ^= 1 << (i % 8);
        bytes
    });
    for bytes in [cut, nonsense, Vec::new()].into_iter().chain(bits) {
        std::fs::write(&damaged[0], &bytes).unwrap();
        // A server that has read nothing of the file yet.
        let server = Server::start_on(data.path(), &[]);
        let client = connect(&server.config()).await.unwrap();
        client.batch_execute("CREATE TABLE IF NOT EXISTS other AS SELECT 1 AS a").await.unwrap();
        let refused = code(&client, "SELECT sum(id), max(v) FROM t").await;
        assert_eq!(refused, "XX001", "{} bytes", bytes.len());
        assert_eq!(numbers(&client, "SELECT a::bigint FROM other").await.unwrap(), [1]);
    }
    let server = Server::start_on(data.path(), &[]);
    let client = connect(&server.config()).await.unwrap();
    std::fs::remove_file(&damaged[0]).unwrap();
    let refused = code(&client, "SELECT sum(id), max(v) FROM t").await;
    assert!(["XX001", "58030", "58P01"].contains(&refused.as_str()), "without a file: {refused}");
    std::fs::write(&damaged[0], &whole).unwrap();
    assert_eq!(numbers(&client, "SELECT count(*), max(length(v))::bigint FROM t").await.unwrap(), [50000, 32]);
}

#[tokio::test]
async fn a_damaged_catalog_is_refused_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    {
        let mut server = Server::start_on(data.path(), &[]);
        let client = connect(&server.config()).await.unwrap();
        client.batch_execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 900) g").await.unwrap();
        drop(client);
        server.signal("TERM");
        assert!(server.wait(Duration::from_secs(20)).is_some());
    }
    let catalog = data.path().join("catalog.sqlite");
    let mut bytes = std::fs::read(&catalog).unwrap();
    bytes.iter_mut().skip(4096).for_each(|b| *b ^= 0x5a);
    std::fs::write(&catalog, &bytes).unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--http-listen", "off", "--data-dir"];
    let refused = squilla(&arguments).arg(data.path()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && said.contains("damaged"), "{said}");
    assert!(std::fs::read(&catalog).unwrap() == bytes, "the damaged catalog was changed");
}
