//! Rows that failed: recorded, counted against the budget, and told to the client.
//!
//! In: row errors of one statement from all its operators. Out: entries of `squilla.row_errors` (a bounded ring for the
//! whole process), the closing WARNING, and SQ005 when the budget is spent. Invariant: every nulled row is counted here,
//! even when the ring has no room for its entry. Deliberately absent: system errors; they fail the statement elsewhere.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};

/// One row that failed.
#[derive(Clone, Debug)]
pub struct RowError {
    /// Statement.
    pub query_id: i64,
    /// Function that failed.
    pub function: String,
    /// URI of the source, when the row has one.
    pub uri: Option<String>,
    /// SQLSTATE.
    pub sqlstate: &'static str,
    /// Message.
    pub message: String,
    /// Microseconds since 1970.
    pub at_us: i64,
}

/// The ring behind `squilla.row_errors`.
#[derive(Debug, Default)]
pub struct RowErrorLog {
    entries: Mutex<VecDeque<RowError>>,
}

impl RowErrorLog {
    fn push(&self, entry: RowError, entries_max: usize) {
        let mut entries = self.entries.lock();
        while entries.len() >= entries_max.max(1) {
            entries.pop_front();
        }
        if entries_max > 0 {
            entries.push_back(entry);
        }
    }

    /// A copy of all entries, oldest first.
    pub fn entries(&self) -> Vec<RowError> {
        self.entries.lock().iter().cloned().collect()
    }
}

/// What `on_error` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// NULL and an entry.
    Null,
    /// The statement fails.
    Raise,
    /// A composite (value, error).
    Keep,
}

impl OnError {
    /// The word of this policy.
    pub fn word(self) -> &'static str {
        match self {
            OnError::Null => "null",
            OnError::Raise => "raise",
            OnError::Keep => "keep",
        }
    }

    /// The policy of this word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "null" => Ok(OnError::Null),
            "raise" => Ok(OnError::Raise),
            "keep" => Ok(OnError::Keep),
            other => Err(Error::invalid_argument(format!("invalid on_error \"{other}\"")).hint("on_error is 'null', 'raise' or 'keep'.")),
        }
    }
}

/// The row errors of one statement.
pub struct StatementErrors {
    /// Identifies the statement in `squilla.row_errors`.
    pub query_id: i64,
    log: Arc<RowErrorLog>,
    log_entries_max: usize,
    ratio_max: f64,
    errors_max: u64,
    attempts: Mutex<HashMap<String, Attempts>>,
    total: AtomicU64,
    /// What the next report tells; None where nobody asks for reports.
    unreported: Option<Mutex<Unreported>>,
}

/// Attempts by function, and the rows that failed.
type Unreported = (HashMap<String, Attempts>, Vec<EntryReport>);

#[derive(Default)]
struct Attempts {
    rows: u64,
    errors: u64,
    first: Option<String>,
    reasons: HashMap<String, u64>,
}

/// What a process tells another about the rows that failed in it since it told last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    functions: Vec<FunctionReport>,
    entries: Vec<EntryReport>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FunctionReport {
    function: String,
    rows: u64,
    errors: u64,
    first: Option<String>,
    reasons: HashMap<String, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EntryReport {
    function: String,
    uri: Option<String>,
    code: String,
    message: String,
    at_us: i64,
}

impl Report {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.entries.is_empty()
    }
}

/// Entries that wait for the next report; more are counted and not kept.
const UNREPORTED_MAX: usize = 10_000;

/// Distinct reasons kept for the message of SQ005.
const REASONS_MAX: usize = 64;

impl Attempts {
    fn count(&mut self, rows: usize, failed: &[(Option<String>, Error)]) {
        self.rows += rows as u64;
        self.errors += failed.len() as u64;
        for (uri, error) in failed {
            if self.first.is_none() {
                self.first = Some(format!("{}{}", uri.as_ref().map_or_else(String::new, |u| format!("{u}, ")), error.message));
            }
            let room = self.reasons.len() < REASONS_MAX;
            if let Some(count) = self.reasons.get_mut(&error.message) {
                *count += 1;
            } else if room {
                self.reasons.insert(error.message.clone(), 1);
            }
        }
    }
}

impl StatementErrors {
    /// Budgets from the settings.
    pub fn new(query_id: i64, log: Arc<RowErrorLog>, settings: &squilla_core::settings::Settings) -> Self {
        Self {
            query_id,
            log,
            log_entries_max: settings.int("squilla.row_errors_max").max(0) as usize,
            ratio_max: settings.real("squilla.max_error_ratio"),
            errors_max: settings.int("squilla.max_errors").max(0) as u64,
            attempts: Mutex::new(HashMap::new()),
            total: AtomicU64::new(0),
            unreported: None,
        }
    }

    /// The same, for a statement of another process: what happens is kept for [`StatementErrors::report`].
    #[must_use]
    pub fn reported(mut self) -> Self {
        self.unreported = Some(Mutex::default());
        self
    }

    /// What happened since the last report.
    pub fn report(&self) -> Report {
        let Some(unreported) = &self.unreported else { return Report::default() };
        let (functions, entries) = std::mem::take(&mut *unreported.lock());
        let functions = functions
            .into_iter()
            .map(|(function, a)| FunctionReport { function, rows: a.rows, errors: a.errors, first: a.first, reasons: a.reasons })
            .collect();
        Report { functions, entries }
    }

    /// Takes a report of another process in. Fails with SQ005 when the budget of all is spent.
    pub fn absorb(&self, report: Report) -> Result<()> {
        for entry in report.entries {
            // The ring keeps codes as the constants that they are.
            let sqlstate = Kind::from_sqlstate(&entry.code).unwrap_or(Kind::Internal).sqlstate();
            let entry =
                RowError { query_id: self.query_id, function: entry.function, uri: entry.uri, sqlstate, message: entry.message, at_us: entry.at_us };
            self.log.push(entry, self.log_entries_max);
        }
        let mut all = self.attempts.lock();
        for told in report.functions {
            let total = self.total.fetch_add(told.errors, Ordering::Relaxed) + told.errors;
            let entry = all.entry(told.function.clone()).or_default();
            entry.rows += told.rows;
            entry.errors += told.errors;
            entry.first = entry.first.take().or(told.first);
            for (reason, count) in told.reasons {
                *entry.reasons.entry(reason).or_default() += count;
            }
            if told.errors > 0 {
                self.within_budget(&told.function, entry, total)?;
            }
        }
        Ok(())
    }

    fn keep_for_report(&self, function: &str, rows: usize, failed: &[(Option<String>, Error)]) {
        let Some(unreported) = &self.unreported else { return };
        let (functions, entries) = &mut *unreported.lock();
        let attempts = functions.entry(function.to_owned()).or_default();
        attempts.count(rows, failed);
        for (uri, error) in failed.iter().take(UNREPORTED_MAX.saturating_sub(entries.len())) {
            entries.push(EntryReport {
                function: function.to_owned(),
                uri: uri.clone(),
                code: error.sqlstate().to_owned(),
                message: error.message.clone(),
                at_us: chrono::Utc::now().timestamp_micros(),
            });
        }
    }

    /// Rows that failed so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a pack: `rows` went through `function`, these failed. Fails with SQ005 when the budget is spent.
    pub fn record(&self, function: &str, rows: usize, failed: &[(Option<String>, Error)]) -> Result<()> {
        let mut all = self.attempts.lock();
        let entry = all.entry(function.to_owned()).or_default();
        entry.count(rows, failed);
        self.keep_for_report(function, rows, failed);
        for (uri, error) in failed {
            self.log.push(
                RowError {
                    query_id: self.query_id,
                    function: function.to_owned(),
                    uri: uri.clone(),
                    sqlstate: error.sqlstate(),
                    message: error.message.clone(),
                    at_us: chrono::Utc::now().timestamp_micros(),
                },
                self.log_entries_max,
            );
        }
        let total = self.total.fetch_add(failed.len() as u64, Ordering::Relaxed) + failed.len() as u64;
        if failed.is_empty() {
            return Ok(());
        }
        self.within_budget(function, entry, total)
    }

    /// The budget once more, when no more rows come: a ratio that was unknown at the last failure is known now.
    pub fn check_end(&self) -> Result<()> {
        let all = self.attempts.lock();
        let total = self.total();
        all.iter().filter(|(_, a)| a.errors > 0).try_for_each(|(function, attempts)| self.within_budget(function, attempts, total))
    }

    fn within_budget(&self, function: &str, entry: &Attempts, total: u64) -> Result<()> {
        let over_ratio = entry.rows >= 100 && entry.errors as f64 > self.ratio_max * entry.rows as f64;
        let over_count = self.errors_max > 0 && total > self.errors_max;
        if !(over_ratio || over_count) {
            return Ok(());
        }
        let mut reasons: Vec<_> = entry.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let top: Vec<String> = reasons.iter().take(3).map(|(reason, count)| format!("{count} x {reason}")).collect();
        let setting = if over_ratio { "squilla.max_error_ratio" } else { "squilla.max_errors" };
        Err(Error::new(Kind::ErrorBudgetSpent, format!("{} of {} rows failed in {function}: the error budget is spent", entry.errors, entry.rows))
            .detail(format!("Most frequent: {}.", top.join("; ")))
            .hint(format!("The budget is the setting {setting}. See squilla.row_errors where query_id = {}.", self.query_id)))
    }

    /// The warning that closes a statement with failed rows.
    pub fn warning(&self) -> Option<Error> {
        let all = self.attempts.lock();
        let mut parts: Vec<String> = Vec::new();
        let mut names: Vec<_> = all.iter().filter(|(_, a)| a.errors > 0).collect();
        names.sort_by(|a, b| b.1.errors.cmp(&a.1.errors).then(a.0.cmp(b.0)));
        for (function, attempts) in names {
            let first = attempts.first.as_deref().unwrap_or_default();
            parts.push(format!("{} of {} rows failed in {function} (first: {first})", attempts.errors, attempts.rows));
        }
        if parts.is_empty() {
            return None;
        }
        // 01000 is PostgreSQL's plain warning; the kind only carries the text here.
        Some(Error::new(Kind::Internal, parts.join("; ")).hint(format!("See squilla.row_errors where query_id = {}.", self.query_id)))
    }
}
