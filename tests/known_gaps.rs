//! The records that are known to fail: `tests/sqllogictest/known_gaps.txt`, the visible list of what is left to do.
//!
//! In: the file and, for `GAPS=write`, what failed in a run. Out: which records may fail over which protocol. One line is
//! `path | simple, extended or both | first line of the SQL | reason`; the second record of a file with the same first
//! line has ` #2` behind it, and so on. Invariant: a record that is listed must fail, and a line must name a record.
//! Deliberately absent: line numbers, which change with every edit.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::client::Protocol;
use crate::server_process::repository;

/// The longest reason that is written for a new gap.
const REASON_CHARS: usize = 80;

const HEAD: &str = "\
# Records that are known to fail: path | protocol | first line of the SQL | reason.
# A listed record that passes fails the test until its line is gone; `GAPS=write make test` rewrites the file.
";

/// A record: the file and its first line, numbered if the file has several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The script, relative to the repository.
    pub path: String,
    /// First line of the SQL, ` #n` behind the n-th of its kind.
    pub line: String,
}

/// Names the records of one script, in their order.
#[derive(Default)]
pub struct Keys {
    seen: HashMap<String, usize>,
}

impl Keys {
    /// The name of the next record.
    pub fn next(&mut self, path: &str, sql: &str) -> RecordKey {
        let first = sql.trim().lines().next().unwrap_or_default().trim().to_owned();
        let count = self.seen.entry(first.clone()).or_default();
        *count += 1;
        let line = if *count == 1 { first } else { format!("{first} #{count}") };
        RecordKey { path: path.to_owned(), line }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Gap {
    simple: bool,
    extended: bool,
    reason: String,
}

impl Gap {
    fn is_over(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Simple => self.simple,
            Protocol::Extended => self.extended,
        }
    }

    fn set_over(&mut self, protocol: Protocol, fails: bool) {
        match protocol {
            Protocol::Simple => self.simple = fails,
            Protocol::Extended => self.extended = fails,
        }
    }
}

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Gaps(BTreeMap<RecordKey, Gap>);

/// The file of the list.
pub fn file() -> PathBuf {
    repository().join("tests/sqllogictest/known_gaps.txt")
}

/// Whether this run rewrites the list.
pub fn rewrites() -> bool {
    std::env::var("GAPS").is_ok_and(|v| v == "write")
}

impl Gaps {
    /// Reads the list; no file is an empty list.
    pub fn read(path: &Path) -> Result<Gaps, String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn parse(text: &str) -> Result<Gaps, String> {
        let mut gaps = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
            // The SQL may have a bar, too; path, protocol and reason have none.
            let (path, rest) = line.split_once(" | ").ok_or_else(|| wrong("no protocol"))?;
            let (protocol, rest) = rest.split_once(" | ").ok_or_else(|| wrong("no SQL"))?;
            let (sql, reason) = rest.rsplit_once(" | ").ok_or_else(|| wrong("no reason"))?;
            let (simple, extended) = match protocol {
                "simple" => (true, false),
                "extended" => (false, true),
                "both" => (true, true),
                _ => return Err(wrong("the protocol is simple, extended or both")),
            };
            let key = RecordKey { path: path.to_owned(), line: sql.to_owned() };
            if reason.trim().is_empty() || gaps.insert(key, Gap { simple, extended, reason: reason.to_owned() }).is_some() {
                return Err(wrong("no reason, or the record is listed twice"));
            }
        }
        Ok(Gaps(gaps))
    }

    /// The records of one protocol that may fail.
    pub fn over(&self, protocol: Protocol) -> Vec<&RecordKey> {
        self.0.iter().filter(|(_, gap)| gap.is_over(protocol)).map(|(key, _)| key).collect()
    }

    /// Takes over what failed in a run over one protocol, for the scripts that ran; reasons that are there stay.
    pub fn update(&mut self, protocol: Protocol, scripts: &[String], failed: &[(RecordKey, String)]) {
        for (_, gap) in self.0.iter_mut().filter(|(key, _)| scripts.contains(&key.path)) {
            gap.set_over(protocol, false);
        }
        for (key, error) in failed {
            let gap = self.0.entry(key.clone()).or_insert_with(|| Gap { reason: reason(error), ..Gap::default() });
            gap.set_over(protocol, true);
        }
        self.0.retain(|_, gap| gap.simple || gap.extended);
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut out = HEAD.to_owned();
        for (key, gap) in &self.0 {
            let protocol = match (gap.simple, gap.extended) {
                (true, true) => "both",
                (true, false) => "simple",
                _ => "extended",
            };
            out.push_str(&format!("{} | {protocol} | {} | {}\n", key.path, key.line, gap.reason));
        }
        out
    }
}

/// The beginning of an error on one line, without a bar.
fn reason(error: &str) -> String {
    let line = error.split_whitespace().collect::<Vec<_>>().join(" ").replace(" | ", " / ");
    line.chars().take(REASON_CHARS).collect::<String>().trim_end().to_owned()
}

#[test]
fn the_list_is_read_and_written() {
    let text = format!("{HEAD}a.slt | both | SELECT 'a' | | 'b' | no operator\nb.slt | extended | SELECT 1 #2 | wrong\n");
    let mut gaps = Gaps::parse(&text).unwrap();
    assert_eq!(gaps.text(), text);
    assert_eq!(gaps.over(Protocol::Simple).len(), 1);
    let mut keys = Keys::default();
    assert_eq!(keys.next("b.slt", "SELECT 1\nFROM t").line, "SELECT 1");
    let second = keys.next("b.slt", "SELECT 1\nFROM u");
    assert_eq!(second.line, "SELECT 1 #2");
    gaps.update(Protocol::Simple, &["a.slt".into(), "b.slt".into()], &[(second, "another | reason".into())]);
    assert_eq!(gaps.text(), text.replace("| both |", "| extended |").replace("b.slt | extended", "b.slt | both"));
    gaps.update(Protocol::Extended, &["a.slt".into()], &[]);
    assert_eq!(gaps.over(Protocol::Extended).len(), 1);
    assert!(Gaps::parse("a.slt | both | SELECT 1").is_err());
    assert!(Gaps::parse("a.slt | text | SELECT 1 | x").is_err());
}
