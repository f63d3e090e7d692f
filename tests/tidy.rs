//! The rules of the house, as tests: who may import whom, file sizes, headers, words, licences.
//!
//! In: the files of the repository as git knows them. Out: a list of what breaks a rule, with the place.
//! Deliberately absent: style that rustfmt and clippy check.

use std::path::PathBuf;
use std::process::Command;

use crate::server_process::repository;

/// Which crates a crate may import. A new edge is a design decision: `docs/design/`.
const FLOORS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("media", &["core"]),
    ("infer", &["core"]),
    ("store", &["core"]),
    ("functions", &["core", "media", "infer"]),
    ("engine", &["core", "infer", "store"]),
    ("cluster", &["core", "engine"]),
    ("server", &["core", "engine"]),
    ("console", &["core", "engine"]),
];

/// Libraries that only some crates may use, outside their tests.
const RESERVED: &[(&str, &[&str])] = &[
    ("datafusion", &["engine", "cluster"]),
    ("pgwire", &["server"]),
    ("ort", &["infer"]),
    ("rusqlite", &["store"]),
    ("axum", &["console"]),
    ("ffmpeg-next", &["media"]),
    ("turbojpeg", &["media"]),
];

/// A file longer than this is two files.
const FILE_LINES_MAX: usize = 600;

fn tracked() -> Vec<PathBuf> {
    let out = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(repository()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(PathBuf::from).filter(|p| repository().join(p).is_file()).collect()
}

fn read(path: &PathBuf) -> Option<String> {
    String::from_utf8(std::fs::read(repository().join(path)).ok()?).ok()
}

fn manifest(path: &str) -> toml::Table {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}")).parse().unwrap()
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_keep_to_their_floors() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("src")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !repository().join(format!("src/{name}/Cargo.toml")).exists() {
            continue;
        }
        let Some((_, allowed)) = FLOORS.iter().find(|(c, _)| *c == name) else {
            found.push(format!("src/{name} is not in the table of floors"));
            continue;
        };
        let manifest = manifest(&format!("src/{name}/Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for dependency in manifest.get(section).and_then(|d| d.as_table()).into_iter().flatten().map(|(key, _)| key) {
                if let Some(other) = dependency.strip_prefix("squilla-")
                    && !allowed.contains(&other)
                {
                    found.push(format!("{name} may not import {other}"));
                }
                let reserved = RESERVED.iter().find(|(library, _)| library == dependency);
                if section == "dependencies" && reserved.is_some_and(|(_, users)| !users.contains(&name.as_str())) {
                    found.push(format!("{name} may not use {dependency}"));
                }
            }
        }
    }
    assert_none("edges against the floors", &found);
}

#[test]
fn media_knows_no_async_runtime() {
    let manifest = manifest("src/media/Cargo.toml");
    for dependency in ["tokio", "futures", "async-trait"] {
        assert!(manifest["dependencies"].get(dependency).is_none(), "media may not use {dependency}");
    }
}

#[test]
fn sources_are_short_and_say_what_they_are() {
    let mut found = Vec::new();
    for path in tracked().iter().filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        let Some(text) = read(path) else { continue };
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{} has {lines} lines, at most {FILE_LINES_MAX}", path.display()));
        }
        if !text.starts_with("//! ") {
            found.push(format!("{} does not begin with a header (//! what flows in and out)", path.display()));
        }
        if ["utils.rs", "util.rs", "common.rs", "misc.rs", "helpers.rs"].iter().any(|n| path.ends_with(n)) {
            found.push(format!("{} has a name that says nothing", path.display()));
        }
    }
    assert_none("files", &found);
}

/// Machine paths and the like do not belong into the tree. The words are put together here so that this file is clean.
#[test]
fn nothing_speaks_of_one_machine() {
    let words: Vec<String> =
        [("/ro", "ot/"), ("/wo", "rk/"), ("/ho", "me/runner"), ("../sha", "red"), ("TODO", ": remove"), ("FIX", "ME"), ("XX", "X:")]
            .iter()
            .map(|(a, b)| format!("{a}{b}"))
            .collect();
    let mut found = Vec::new();
    for path in tracked() {
        if path.ends_with("Cargo.lock") || path.starts_with("models") || path.starts_with("tests/golden") || path.starts_with("tests/fixtures") {
            continue;
        }
        let Some(text) = read(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|w| line.contains(w.as_str())) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert_none("words", &found);
}

#[test]
fn the_change_log_has_a_place_for_the_next_change() {
    let text = std::fs::read_to_string(repository().join("CHANGELOG.md")).unwrap();
    assert!(text.contains("\n## Unreleased\n"));
}

#[test]
fn documents_link_to_files_that_exist() {
    let mut found = Vec::new();
    for path in tracked().iter().filter(|p| p.extension().is_some_and(|e| e == "md") && !p.starts_with("models")) {
        let Some(text) = read(path) else { continue };
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") || file.contains(' ') {
                continue;
            }
            let folder = path.parent().unwrap();
            if !repository().join(folder).join(file).exists() {
                found.push(format!("{}: {file}", path.display()));
            }
        }
    }
    assert_none("links to nothing", &found);
}

/// Every dependency offers a licence that deny.toml allows.
#[test]
fn licences() {
    let deny = manifest("deny.toml");
    let list = |key: &str| -> Vec<String> {
        let value = deny["licenses"].get(key).and_then(|v| v.as_array()).cloned().unwrap_or_default();
        value.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let allowed = list("allow");
    let clarified: Vec<(String, String)> = deny["licenses"]
        .get("clarify")
        .and_then(|v| v.as_array())
        .into_iter()
        .flatten()
        .map(|c| (c["crate"].as_str().unwrap().to_owned(), c["expression"].as_str().unwrap().to_owned()))
        .collect();
    let exceptions: Vec<(String, Vec<String>)> = deny["licenses"]
        .get("exceptions")
        .and_then(|v| v.as_array())
        .into_iter()
        .flatten()
        .map(|e| (e["crate"].as_str().unwrap().to_owned(), e["allow"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect()))
        .collect();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let mut allow = allowed.clone();
        allow.extend(exceptions.iter().filter(|(c, _)| c == name).flat_map(|(_, a)| a.clone()));
        let stated = package["license"].as_str().map(str::to_owned);
        match stated.or_else(|| clarified.iter().find(|(c, _)| c == name).map(|(_, e)| e.clone())) {
            Some(expression) if permits(&expression, &allow) => {}
            Some(expression) => found.push(format!("{name}: {expression}")),
            None => found.push(format!("{name}: no licence stated")),
        }
    }
    assert_none("licences that deny.toml does not allow", &found);
}

/// Whether an SPDX expression can be met with the allowed licences. AND binds tighter than OR; a slash is an old OR.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let mut at = 0;
    alternatives(&tokens, &mut at, allowed)
}

fn alternatives(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut any = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        any |= all_of(tokens, at, allowed);
    }
    any
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut all = licence(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        all &= licence(tokens, at, allowed);
    }
    all
}

fn licence(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if *token == "(" {
        let inner = alternatives(tokens, at, allowed);
        *at += 1; // the closing parenthesis
        return inner;
    }
    let mut name = (*token).to_owned();
    if tokens.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", tokens.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    assert!(permits("MIT OR GPL-3.0", &allowed));
    assert!(permits("(MIT OR GPL-3.0) AND Apache-2.0", &allowed));
    assert!(permits("GPL-2.0/MIT", &allowed));
    assert!(permits("Apache-2.0 WITH LLVM-exception OR GPL-3.0", &allowed));
    assert!(!permits("MIT AND GPL-3.0", &allowed));
    assert!(!permits("GPL-3.0", &allowed));
}
