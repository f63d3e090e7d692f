//! The same random statements on PostgreSQL and here: the same rows, counts and SQLSTATEs.
//!
//! In: a seed (`DIFFERENTIAL_SEED`), a time (`DIFFERENTIAL_SECONDS`, 15 without), a PostgreSQL: that of
//! `DIFFERENTIAL_POSTGRES` (a connection string to a database that may be filled), or one that this test makes with the newest
//! `/usr/lib/postgresql/*/bin`. Without either it says so and passes. Out: the first statement whose answers differ, with
//! those before it. Invariant: statements are a function of the seed alone. Deliberately absent: several sessions at once.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::client::connect;
use crate::server_process::Server;

/// Statements between two fresh starts.
const ROUND: usize = 120;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// A PostgreSQL of the test's own.
struct Postgres {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: a fast shutdown.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|e| e.path().join("bin"));
    versions.filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists()).max()
}

/// PostgreSQL refuses to run as root: then it is the user nobody.
fn as_somebody(program: &Path) -> Command {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    command
}

impl Postgres {
    fn start() -> Option<Postgres> {
        let bin = programs()?;
        let data = tempfile::tempdir().unwrap();
        let owned = Command::new("chown").args(["nobody:nogroup"]).arg(data.path()).status();
        let directory = data.path().join("cluster");
        let made = as_somebody(&bin.join("initdb"))
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!("initdb: {made:?}, chown: {owned:?}");
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = as_somebody(&bin.join("postgres"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-D"])
            .arg(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Postgres { child, port, _data: data })
    }
}

/// What a server answers: rows or the number of changed rows, or the SQLSTATE.
async fn answer(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let told = client.simple_query(sql).await;
    let messages = told.map_err(|e| e.as_db_error().map_or_else(|| format!("{e:?}"), |e| e.code().code().to_owned()))?;
    let mut out = Vec::new();
    for message in &messages {
        match message {
            SimpleQueryMessage::Row(row) => out.push((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join("|")),
            SimpleQueryMessage::CommandComplete(count) => out.push(format!("#{count}")),
            _ => {}
        }
    }
    Ok(out)
}

/// PostgreSQL looks at unique keys row by row: whether `SET a = a + 1` meets a key that is about to move is a matter of the order of
/// rows on its pages. Here keys are looked at when the statement ends, so it succeeds wherever the result has no key twice.
const MOVES_KEYS: &str = "SET a = a + 1";

/// Whether the two went apart as far as `MOVES_KEYS` lets them. Then no key may be there twice here.
async fn keys_moved(ours: &Client, sql: &str, found: &Result<Vec<String>, String>, expected: &Result<Vec<String>, String>) -> bool {
    let (Ok(_), Err(code), Some(table)) = (found, expected, sql.strip_prefix("UPDATE ").and_then(|s| s.split(' ').next())) else { return false };
    let twice = format!("SELECT a FROM {table} WHERE a IS NOT NULL GROUP BY a HAVING count(*) > 1");
    code == "23505" && sql.contains(MOVES_KEYS) && answer(ours, &twice).await == Ok(vec!["#0".into()])
}

/// Of several violated constraints PostgreSQL tells that of the first row, we that of the first check.
fn same(found: &Result<Vec<String>, String>, expected: &Result<Vec<String>, String>) -> bool {
    match (found, expected) {
        (Err(ours), Err(theirs)) if ours.starts_with("23") => theirs.starts_with("23"),
        _ => found == expected,
    }
}

const TABLES: &[&str] = &["t0", "t1", "t2"];

fn number(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => "NULL".into(),
        1 => "-1".into(),
        _ => dice.below(12).to_string(),
    }
}

fn text(dice: &mut Dice) -> String {
    dice.pick(&["NULL", "''", "'x'", "'y'", "'Zoë'", "'it''s'", "'12'"]).into()
}

fn money(dice: &mut Dice) -> String {
    dice.pick(&["NULL", "0", "1.5", "2.25", "-3.999", "100000000", "7"]).into()
}

fn condition(dice: &mut Dice) -> String {
    match dice.below(9) {
        0 => format!("a = {}", number(dice)),
        1 => format!("a > {}", number(dice)),
        2 => format!("b = {}", text(dice)),
        3 => "b IS NULL".into(),
        4 => format!("c < {}", money(dice)),
        5 => format!("a IN ({}, {})", number(dice), number(dice)),
        6 => format!("a IN (SELECT a FROM {} WHERE c > 1)", dice.pick(TABLES)),
        7 => format!("NOT EXISTS (SELECT 1 FROM {} o WHERE o.a = {}.a AND o.b = 'x')", dice.pick(TABLES), "q"),
        _ => format!("a % 2 = 0 AND c IS NOT NULL OR b LIKE {}", dice.pick(&["'x%'", "'%s'", "'_'"])),
    }
}

fn rows(dice: &mut Dice) -> String {
    let one = |dice: &mut Dice| format!("({}, {}, {})", number(dice), text(dice), money(dice));
    (0..=dice.below(3)).map(|_| one(dice)).collect::<Vec<_>>().join(", ")
}

fn statement(dice: &mut Dice) -> String {
    let table = dice.pick(TABLES);
    let other = dice.pick(TABLES);
    // Definitions are rarer than changes of rows.
    let sort = match dice.below(46) {
        0 => dice.below(6),
        n => n.min(33),
    };
    match sort {
        0 => format!("CREATE TABLE {table} (a int, b text, c numeric(10,2))"),
        1 => format!("CREATE TABLE {table} (a int PRIMARY KEY, b text, c numeric(10,2) DEFAULT 1)"),
        2 => format!("CREATE TABLE {table} (a int, b text NOT NULL UNIQUE, c numeric(10,2) CHECK (c >= 0))"),
        3 => format!("DROP TABLE {table}"),
        4 => format!("CREATE TABLE {table} AS SELECT a, b, c FROM {other} WHERE a > 2"),
        5 => format!("TRUNCATE {table}"),
        6..=11 => format!("INSERT INTO {table} VALUES {}", rows(dice)),
        12 => format!("INSERT INTO {table} (b, a) VALUES ({}, {})", text(dice), number(dice)),
        13 => format!("INSERT INTO {table} SELECT a + 20, b || 'z', c FROM {other} WHERE a IS NOT NULL"),
        14 => format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING", rows(dice)),
        15 => {
            format!("INSERT INTO {table} VALUES ({}, 'up', 5) ON CONFLICT (a) DO UPDATE SET c = excluded.c + 1, b = {table}.b || '!'", number(dice))
        }
        16 | 17 => format!("UPDATE {table} q SET c = c + 1 WHERE {}", condition(dice)),
        18 => format!("UPDATE {table} q {MOVES_KEYS}, b = {} WHERE {}", text(dice), condition(dice)),
        19 => format!("UPDATE {table} q SET b = o.b FROM (SELECT a, min(b) AS b FROM {other} GROUP BY a) o WHERE o.a = q.a"),
        20 | 21 => format!("DELETE FROM {table} q WHERE {}", condition(dice)),
        22 => format!("DELETE FROM {table} q USING {other} o WHERE o.a = q.a AND o.c > 2"),
        23 => "BEGIN".into(),
        24 => dice.pick(&["COMMIT", "ROLLBACK"]).into(),
        25 => dice.pick(&["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"]).into(),
        26 => format!("ALTER TABLE {table} RENAME TO {other}"),
        27 => format!("ALTER TABLE {table} ADD COLUMN d int{}", dice.pick(&["", " DEFAULT 3"])),
        28 => format!("ALTER TABLE {table} DROP COLUMN d"),
        29 => format!("SELECT * FROM {table} q WHERE {} ORDER BY 1, 2, 3", condition(dice)),
        30 => format!("SELECT b, count(*), sum(c), min(a), max(a) FROM {table} GROUP BY b ORDER BY 1, 2, 3"),
        31 => format!("SELECT q.a, o.b FROM {table} q LEFT JOIN {other} o ON o.a = q.a ORDER BY 1, 2"),
        32 => format!("WITH gone AS (DELETE FROM {table} WHERE a = {} RETURNING a, b, c) SELECT a, b, c FROM gone ORDER BY 1, 2, 3", number(dice)),
        _ => format!("SELECT count(*), sum(a), sum(c), count(DISTINCT b) FROM {table}"),
    }
}

/// Differences that are told together.
const DIFFERENCES_MAX: usize = 10;

const RESET: &[&str] = &[
    "ROLLBACK",
    "DROP TABLE IF EXISTS t0, t1, t2",
    "CREATE TABLE t0 (a int, b text, c numeric(10,2))",
    "CREATE TABLE t1 (a int PRIMARY KEY, b text, c numeric(10,2) DEFAULT 1)",
    "INSERT INTO t0 SELECT g, 'x', g / 2.0 FROM generate_series(1, 5) g",
];

async fn reset(client: &Client) {
    for sql in RESET {
        client.batch_execute(sql).await.unwrap();
    }
}

#[tokio::test]
async fn random_statements_have_postgresqls_answers() {
    let variable = |name: &str, otherwise: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise);
    let (seconds, first) = (variable("DIFFERENTIAL_SECONDS", 15), variable("DIFFERENTIAL_SEED", 1));
    let given = std::env::var("DIFFERENTIAL_POSTGRES").ok();
    let own = if given.is_none() { Postgres::start() } else { None };
    let Some(config) = given.or_else(|| own.as_ref().map(|p| format!("host=127.0.0.1 port={} user=postgres dbname=postgres", p.port))) else {
        println!("skipped: no PostgreSQL is installed, and DIFFERENTIAL_POSTGRES names none");
        return;
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let theirs = loop {
        // It answers before it lets clients in.
        match connect(&config).await {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let server = Server::start(&[]);
    let ours = connect(&server.config()).await.unwrap();
    for client in [&theirs, &ours] {
        client.batch_execute("SET client_min_messages TO error; SET lc_messages TO 'C'").await.unwrap();
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut statements, mut errors, mut differences) = (first, 0, 0, Vec::new());
    while Instant::now() < until && differences.len() < DIFFERENCES_MAX {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        reset(&theirs).await;
        reset(&ours).await;
        let mut said: Vec<String> = Vec::new();
        for _ in 0..ROUND {
            let sql = statement(&mut dice);
            let (expected, found) = (answer(&theirs, &sql).await, answer(&ours, &sql).await);
            statements += 1;
            errors += usize::from(expected.is_err());
            if keys_moved(&ours, &sql, &found, &expected).await {
                break; // The tables differ from here on.
            }
            let equal = same(&found, &expected);
            said.push(sql);
            if !equal {
                differences.push(format!("seed {seed}: {found:?} instead of {expected:?} after:\n{};\n", said.join(";\n")));
                break;
            }
        }
        seed += 1;
    }
    println!("{statements} statements, {errors} of them errors, seeds {first} to {}", seed - 1);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
