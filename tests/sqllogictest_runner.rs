//! Runs the sqllogictest records: every `tests/sqllogictest/**/*.slt` and every example in `sql-functions/**/*.sql`.
//!
//! In: files. Out: one test per protocol; all failed records are reported, each with file and line. Invariant: a file has
//! its own connections and its own schema, so that files do not see each other. Variables for `control substitution on`:
//! `$__TEST_DIR__` (a temporary folder), `$FIXTURES` (tests/fixtures), `$REPOSITORY` and `$PROTOCOL` (simple, extended).
//! Deliberately absent: any knowledge of what the records test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use sqllogictest::{
    DefaultColumnType, Record, RecordOutput, Runner, TestError, TestErrorKind, default_column_validator, default_normalizer, default_validator,
};

use crate::client::{Connection, Protocol, connect};
use crate::known_gaps::{self, Gaps, Keys, RecordKey};
use crate::server_process::{external, repository, shared};

/// Files that run at the same time.
const CONCURRENCY: usize = 2;

/// A script with the file it came from.
struct Script {
    /// Relative to the repository.
    path: PathBuf,
    /// The records; blank lines stand for what surrounds an example, so that line numbers are those of the file.
    text: String,
}

#[derive(Default)]
struct Outcome {
    /// Names and results of the records that ran: the failure in full, and in short.
    records: Vec<(RecordKey, Result<(), Failure>)>,
    /// What failed that is no record.
    failures: Vec<String>,
}

struct Failure {
    text: String,
    reason: String,
}

#[test]
fn records_over_the_simple_protocol() {
    run(Protocol::Simple);
}

#[test]
fn records_over_the_extended_protocol() {
    run(Protocol::Extended);
}

/// Examples and records are found and read; an empty set would let the two tests above pass without a check.
#[test]
fn every_script_parses() {
    let scripts = scripts();
    assert!(!scripts.is_empty());
    for script in scripts {
        let records = sqllogictest::parse_with_name::<DefaultColumnType>(&script.text, script.path.to_string_lossy().into_owned());
        let records = records.unwrap_or_else(|e| panic!("{e}"));
        assert!(records.iter().any(is_check), "{} has no record", script.path.display());
    }
}

/// The two protocols take turns: records name schemas and models that the whole server knows.
static TURN: Mutex<()> = Mutex::new(());

fn run(protocol: Protocol) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let filter = std::env::var("SLT").unwrap_or_default();
    let scripts: Vec<Script> = scripts().into_iter().filter(|s| s.path.to_string_lossy().contains(&filter)).collect();
    let update = protocol == Protocol::Simple && std::env::var("UPDATE").is_ok_and(|v| v == "1");
    let config = shared();
    let config = config.as_str();
    let names: Vec<String> = scripts.iter().map(|s| s.path.to_string_lossy().into_owned()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcomes: Vec<Outcome> = runtime.block_on(async {
        connect(config).await.expect("the server takes connections"); // else UPDATE would write this failure into every file
        futures::stream::iter(scripts).map(|script| run_script(script, config, protocol, update)).buffer_unordered(CONCURRENCY).collect().await
    });
    let verdict = judge(outcomes, protocol, &names);
    let summary = format!(
        "{} protocol: {} records passed, {} failed, {} known gaps, in {} scripts\n",
        protocol.name(),
        verdict.passed,
        verdict.failures.len(),
        verdict.gaps,
        names.len()
    );
    let _ = std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("records-{}.txt", protocol.name())), &summary);
    assert!(verdict.failures.is_empty(), "{}\n{summary}", verdict.failures.join("\n"));
}

struct Verdict {
    passed: usize,
    gaps: usize,
    failures: Vec<String>,
}

/// Compares what failed with the list of known gaps. The list is about the product, not about a server named by
/// SQUILLA_TEST_SERVER.
fn judge(outcomes: Vec<Outcome>, protocol: Protocol, names: &[String]) -> Verdict {
    let path = known_gaps::file();
    let mut gaps = if external().is_some() { Gaps::default() } else { Gaps::read(&path).unwrap_or_else(|e| panic!("{e}")) };
    if known_gaps::rewrites() && external().is_none() {
        let records = outcomes.iter().flat_map(|o| &o.records);
        let failed: Vec<_> = records.filter_map(|(key, result)| result.as_ref().err().map(|f| (key.clone(), f.reason.clone()))).collect();
        gaps.update(protocol, names, &failed);
        std::fs::write(&path, gaps.text()).unwrap();
    }
    let mut listed: BTreeSet<&RecordKey> = gaps.over(protocol).into_iter().filter(|key| names.contains(&key.path)).collect();
    let mut verdict = Verdict { passed: 0, gaps: 0, failures: Vec::new() };
    for outcome in outcomes {
        verdict.failures.extend(outcome.failures);
        for (key, result) in outcome.records {
            match (listed.remove(&key), result) {
                (false, Ok(())) => verdict.passed += 1,
                (true, Err(_)) => verdict.gaps += 1,
                (true, Ok(())) => {
                    verdict.failures.push(format!("now passes: take it out of known_gaps.txt\n[SQL] {}\nat {}\n", key.line, key.path));
                }
                (false, Err(failure)) => verdict.failures.push(failure.text),
            }
        }
    }
    // A script that was left unread fails by itself; its lines say nothing new.
    let missing = listed.iter().map(|key| format!("known_gaps.txt lists a record that did not run\n[SQL] {}\nat {}\n", key.line, key.path));
    verdict.failures.extend(missing);
    verdict
}

async fn run_script(script: Script, config: &str, protocol: Protocol, update: bool) -> Outcome {
    let name = script.path.to_string_lossy().into_owned();
    let schema = format!("slt_{}_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_lowercase(), protocol.name());
    let schema = schema[schema.len().saturating_sub(60)..].to_owned();
    let mut outcome = Outcome::default();
    let scratch = tempfile::tempdir().unwrap();
    let (connection_config, connection_schema) = (config.to_owned(), schema.clone());
    let mut runner = Runner::new(move || {
        let (config, schema) = (connection_config.clone(), connection_schema.clone());
        async move { Connection::open(&config, protocol, &schema).await }
    });
    if external().is_some() {
        runner.add_label("postgres");
    }
    runner.set_var("FIXTURES".into(), repository().join("tests/fixtures").to_string_lossy().into_owned());
    runner.set_var("REPOSITORY".into(), repository().to_string_lossy().into_owned());
    runner.set_var("SCRATCH".into(), scratch.path().to_string_lossy().into_owned());
    runner.set_var("PROTOCOL".into(), protocol.name().to_owned());
    if update && script.path.extension().is_some_and(|e| e == "slt") {
        let path = repository().join(&script.path);
        if let Err(error) = runner.update_test_file(&path, " ", default_validator, default_normalizer, default_column_validator).await {
            outcome.failures.push(format!("{name}: {error}"));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, by_sqlstate(&text)).unwrap();
    } else {
        run_records(&mut runner, &script, &name, &mut outcome).await;
    }
    drop(runner);
    if let Ok(client) = connect(config).await {
        let _ = client.simple_query(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await;
    }
    outcome
}

/// Errors are expected by their SQLSTATE, not by their wording: `error \(22012\) division by zero` becomes `error (22012)`.
fn by_sqlstate(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let code = ["statement error \\(", "query error \\("].iter().find_map(|head| line.strip_prefix(head)).and_then(|rest| rest.get(..5));
        match code {
            Some(code) => out.push_str(&format!("statement error ({code})\n")),
            None => out.push_str(line),
        }
    }
    out
}

async fn run_records<M>(runner: &mut Runner<Connection, M>, script: &Script, name: &str, outcome: &mut Outcome)
where
    M: sqllogictest::MakeConnection<Conn = Connection>,
{
    let records = match sqllogictest::parse_with_name::<DefaultColumnType>(&script.text, name.to_owned()) {
        Ok(records) => records,
        Err(error) => return outcome.failures.push(error.to_string()),
    };
    let mut keys = Keys::default();
    for record in records {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        let key = sql(&record).map(|sql| keys.next(name, sql));
        match (runner.run_async(record).await, key) {
            // A record for the other protocol.
            (Ok(RecordOutput::Nothing), _) | (Ok(_), None) => {}
            (Ok(_), Some(key)) => outcome.records.push((key, Ok(()))),
            (Err(error), Some(key)) => {
                let failure = Failure { text: error.display(false).to_string(), reason: reason(&error) };
                outcome.records.push((key, Err(failure)));
            }
            (Err(error), None) => outcome.failures.push(error.display(false).to_string()),
        }
    }
}

/// The statement of a record.
fn sql(record: &Record<DefaultColumnType>) -> Option<&str> {
    match record {
        Record::Statement { sql, .. } | Record::Query { sql, .. } => Some(sql),
        _ => None,
    }
}

/// What went wrong, in a few words.
fn reason(error: &TestError) -> String {
    match error.kind() {
        TestErrorKind::Ok { .. } => "is expected to fail and does not".to_owned(),
        TestErrorKind::Fail { err, .. } => err.to_string(),
        TestErrorKind::ErrorMismatch { err, expected_err, .. } => format!("{} is expected: {err}", expected_err.trim()),
        TestErrorKind::StatementResultMismatch { expected, actual, .. } => format!("{actual} rows instead of {expected}"),
        TestErrorKind::QueryResultMismatch { expected, actual, .. } => {
            let differs = actual.lines().zip(expected.lines()).find(|(a, e)| a != e);
            differs.map_or_else(|| "another number of rows".to_owned(), |(a, e)| format!("{a} instead of {e}"))
        }
        other => other.display(false).to_string(),
    }
}

fn is_check(record: &Record<DefaultColumnType>) -> bool {
    matches!(record, Record::Statement { .. } | Record::Query { .. })
}

/// All scripts, in a stable order.
fn scripts() -> Vec<Script> {
    let root = repository();
    let mut out = Vec::new();
    for path in files(&root.join("tests/sqllogictest"), "slt") {
        let text = std::fs::read_to_string(&path).unwrap();
        out.push(Script { path: path.strip_prefix(&root).unwrap().to_owned(), text });
    }
    for path in files(&root.join("sql-functions"), "sql") {
        let sql = std::fs::read_to_string(&path).unwrap();
        let mut text = String::new();
        let mut from = 0;
        for example in examples(&sql) {
            let at = from + sql[from..].find(example).unwrap();
            let line = sql[..at].matches('\n').count();
            text.push_str(&"\n".repeat(line.saturating_sub(text.matches('\n').count())));
            text.push_str(example.trim_end());
            text.push_str("\n\n");
            from = at;
        }
        if !text.is_empty() {
            out.push(Script { path: path.strip_prefix(&root).unwrap().to_owned(), text });
        }
    }
    out
}

/// The texts of the example blocks of a contract. That contracts parse is tested where they are compiled in.
fn examples(sql: &str) -> Vec<&str> {
    let blocks = sql.split("/* example").skip(1);
    blocks.map(|b| b.split("*/").next().unwrap().trim_start_matches([' ', '\n'])).collect()
}

/// Files below a folder with an extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
    out.sort();
    out
}
