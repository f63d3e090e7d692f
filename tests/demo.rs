//! `make demo` without its build: the scripts that a new user runs first, over the sample of the four workloads.
//!
//! In: `scripts/demo.sh`, `scripts/stop.sh`, `demo/*.sql`, psql. Out: the four statements print their answers, the broken files are
//! named, a second run finds the server of the first one, and the last line of the demo says how to stop it. Deliberately
//! absent: the numbers themselves, which `tests/acceptance.rs` compares with the truth.

use std::path::Path;
use std::process::Command;

use crate::acceptance::sample;
use crate::server_process::{binary, free_port, repository};

/// Runs a script of the demo with its own data folder; its output.
fn run(script: &str, data: &Path, port: u16) -> String {
    let mut command = Command::new("bash");
    command.arg(repository().join("scripts").join(script)).env("SQUILLA_DATA", data).env("SQUILLA_PORT", port.to_string());
    command.env("MEDIA", sample()).env("CARGO_TARGET_DIR", binary().parent().and_then(Path::parent).unwrap());
    let output = command.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {said}\n{errors}");
    said.into_owned()
}

/// Stops what the demo started when a check fails.
struct Stop<'a>(&'a Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let script = repository().join("scripts/stop.sh");
        let _ = Command::new("bash").arg(script).env("SQUILLA_DATA", self.0).output();
    }
}

/// The lines between a heading and the next one.
fn part<'a>(said: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = said.lines().skip_while(|line| !line.starts_with(&format!("== {heading}"))).skip(1);
    lines.take_while(|line| !line.starts_with("== ")).collect()
}

#[test]
fn the_demo_answers_and_is_found_again() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let _stop = Stop(data.path());
    let first = run("demo.sh", data.path(), port);
    let pid = std::fs::read_to_string(data.path().join("demo.pid")).unwrap();
    for (heading, answer) in [("1.", "speech_"), ("2.", ".pdf"), ("3.", "circle"), ("4.", "kB"), ("Broken", "22P03")] {
        let lines = part(&first, heading);
        assert!(lines.iter().any(|line| line.contains(answer)), "{heading} without {answer}:\n{first}");
        assert!(lines.iter().any(|line| line.starts_with("Time:")), "{heading} without its time:\n{first}");
    }
    assert!(first.contains(&format!("psql -h 127.0.0.1 -p {port} -U squilla squilla")) && first.contains("make stop"), "{first}");

    let second = run("demo.sh", data.path(), port);
    assert!(!second.contains("starting the server"), "{second}");
    assert_eq!(std::fs::read_to_string(data.path().join("demo.pid")).unwrap(), pid);

    assert!(run("stop.sh", data.path(), port).contains("stopped"));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(run("stop.sh", data.path(), port).contains("no server"));
}
