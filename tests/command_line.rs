//! The command line: what scripts and schedulers rely on.
//!
//! In: the binary. Out: exit codes, standard output and standard error of `version`, `sql`, `models` and wrong calls.
//! Deliberately absent: the server (`server_basics.rs`).

use std::process::Output;

use crate::server_process::squilla;

/// Runs the binary with a data folder of its own.
fn run(arguments: &[&str]) -> Output {
    let data = tempfile::tempdir().unwrap();
    squilla(arguments).env("XDG_DATA_HOME", data.path()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", err(output)))
}

#[test]
fn version_is_one_line() {
    let output = run(&["version"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output).lines().next(), Some(concat!("squilla ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn sql_prints_csv() {
    let output = run(&["sql", "--format", "csv", "-c", "SELECT 1 AS a, 'x,y' AS b, NULL::int AS c UNION ALL SELECT 2, 'z', 3 ORDER BY a"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), "a,b,c\n1,\"x,y\",\n2,z,3\n");
}

#[test]
fn sql_prints_json() {
    let output = run(&["sql", "--format", "json", "-c", "SELECT 1 AS a, 'x' AS b, NULL::int AS c"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    let row = value.as_array().map_or(&value, |rows| &rows[0]);
    assert_eq!(row["a"], 1);
    assert_eq!(row["b"], "x");
    assert!(row["c"].is_null());
}

#[test]
fn sql_prints_a_table() {
    let output = run(&["sql", "-c", "SELECT 42 AS answer"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("answer") && out(&output).contains("42"), "{}", out(&output));
}

#[test]
fn sql_runs_a_file_of_statements() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.sql");
    std::fs::write(&script, "CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 10) g;\nSELECT sum(n) AS total FROM t;\nDROP TABLE t;\n")
        .unwrap();
    let output = run(&["sql", "--format", "csv", "-f", script.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("total\n55\n"), "{}", out(&output));
}

#[test]
fn a_failing_statement_is_exit_code_1() {
    for sql in ["SELEC 1", "SELECT nothing", "SELECT 1/0"] {
        let output = run(&["sql", "-c", sql]);
        assert_eq!(code(&output), 1, "{sql}: {}", out(&output));
        assert!(!err(&output).is_empty(), "{sql}");
        assert!(!err(&output).contains("panicked"), "{sql}: {}", err(&output));
    }
}

#[test]
fn errors_come_with_their_hint() {
    let output = run(&["sql", "-c", "SELECT decode_imge('\\x00'::bytea)"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("decode_image"), "{}", err(&output));
}

/// Every row is broken: more than five percent of them.
const ALL_ROWS_BROKEN: &str = "SELECT count(decode_image(decode(md5(g::text), 'hex'))) FROM generate_series(1, 500) g";

#[test]
fn a_spent_error_budget_is_exit_code_2() {
    let output = run(&["sql", "-c", ALL_ROWS_BROKEN]);
    assert_eq!(code(&output), 2, "{}{}", out(&output), err(&output));
    assert!(err(&output).contains("decode_image"), "the reasons are named: {}", err(&output));
}

#[test]
fn rows_within_the_budget_are_exit_code_0_with_a_warning() {
    let sql = format!("SET squilla.max_error_ratio = 1; {ALL_ROWS_BROKEN}");
    let output = run(&["sql", "--format", "csv", "-c", &sql]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("\n0\n"), "{}", out(&output));
    assert!(err(&output).contains("500 of 500 rows failed in decode_image"), "{}", err(&output));
}

#[test]
fn models_are_listed() {
    let output = run(&["models", "list"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("minilm-l6-v2"), "{}", out(&output));
}

#[test]
fn wrong_calls_are_refused() {
    for arguments in [&["sql", "--format", "xml", "-c", "SELECT 1"][..], &["nonsense"], &["serve", "--listen", "not-an-address"]] {
        let output = run(arguments);
        assert_ne!(code(&output), 0, "{arguments:?}");
        assert!(!err(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn reference_pages_are_those_of_the_declarations() {
    let output = squilla(&["docs", "--check"]).current_dir(crate::server_process::repository()).output().unwrap();
    assert_eq!(code(&output), 0, "run `make docs` and commit the difference: {}", err(&output));
}
