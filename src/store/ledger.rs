//! The catalog on disk: SQLite.
//!
//! In: commits. Out: what is alive at a snapshot. Invariants: all commits of one call are one SQLite transaction, so after
//! a crash either all or none of them happened; a row that has ended is never changed again; identifiers are never given
//! out twice. Deliberately absent: conflicts between transactions (the engine finds them before it commits).

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use squilla_core::error::{Error, Kind, Result};

use crate::bitmap::Deleted;
use crate::fault;
use crate::history::forgotten;
use crate::rows::{Change, Class, Commit, FileRow, Loaded, ObjectRow, Snapshot, Version};

/// The format that this version writes.
pub const FORMAT: i64 = 2;
/// The file below the data directory.
pub const FILE: &str = "catalog.sqlite";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshot (id INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, transaction_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS object (
  class TEXT NOT NULL, id TEXT NOT NULL, begin_snapshot INTEGER NOT NULL, end_snapshot INTEGER, body TEXT NOT NULL,
  PRIMARY KEY (class, id, begin_snapshot)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS object_end ON object (end_snapshot) WHERE end_snapshot IS NOT NULL;
CREATE TABLE IF NOT EXISTS file (
  id INTEGER PRIMARY KEY, table_oid INTEGER NOT NULL, begin_snapshot INTEGER NOT NULL, end_snapshot INTEGER,
  path TEXT, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, inline BLOB, sums BLOB);
CREATE INDEX IF NOT EXISTS file_table ON file (table_oid, begin_snapshot);
CREATE INDEX IF NOT EXISTS file_path ON file (path) WHERE path IS NOT NULL;
CREATE INDEX IF NOT EXISTS file_end ON file (end_snapshot) WHERE end_snapshot IS NOT NULL;
CREATE TABLE IF NOT EXISTS deletion (
  file INTEGER NOT NULL, begin_snapshot INTEGER NOT NULL, end_snapshot INTEGER, rows INTEGER NOT NULL, bitmap BLOB NOT NULL,
  PRIMARY KEY (file, begin_snapshot)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deletion_begin ON deletion (begin_snapshot);
CREATE TABLE IF NOT EXISTS tag (table_oid INTEGER NOT NULL, name TEXT NOT NULL, snapshot INTEGER NOT NULL,
  PRIMARY KEY (table_oid, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sequence (oid INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE VIEW IF NOT EXISTS relation_now AS
  SELECT CAST(r.id AS INTEGER) AS oid, json_extract(s.body, '$.name') AS schema_name, json_extract(r.body, '$.name') AS name, r.body AS body
  FROM object r JOIN object s ON s.class = 'schema' AND s.end_snapshot IS NULL AND s.id = CAST(json_extract(r.body, '$.schema') AS TEXT)
  WHERE r.class = 'relation' AND r.end_snapshot IS NULL;
CREATE VIEW IF NOT EXISTS file_now AS
  SELECT f.table_oid, f.id, f.path, f.rows, coalesce(d.rows, 0) AS deleted_rows, f.bytes
  FROM file f LEFT JOIN deletion d ON d.file = f.id AND d.end_snapshot IS NULL WHERE f.end_snapshot IS NULL;
";

/// The catalog.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) connection: Connection,
    head: Snapshot,
    durable: bool,
}

/// A failure of SQLite in our terms.
pub fn from_sqlite(error: &rusqlite::Error) -> Error {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::new(Kind::DiskFull, "could not write the catalog: the disk is full"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::new(Kind::DataCorrupted, "the catalog is damaged")
            .detail(format!("{text}."))
            .hint("Restore catalog.sqlite from a backup, or recover its tables with the sqlite3 program."),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::new(Kind::Io, format!("could not use the catalog: {text}"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(Kind::NotInPrerequisiteState, "the catalog is locked by another program")
        }
        _ => Error::internal(format!("the catalog failed: {text}")),
    }
}

pub(crate) fn sql<T>(result: rusqlite::Result<T>) -> Result<T> {
    result.map_err(|e| from_sqlite(&e))
}

impl Ledger {
    /// Opens or creates the catalog below a directory; without one it lives in memory. XX001 for a damaged file, 55000
    /// for one of a newer version.
    pub fn open(directory: Option<&Path>) -> Result<Ledger> {
        let connection = match directory {
            Some(directory) => sql(Connection::open(directory.join(FILE)))?,
            None => sql(Connection::open_in_memory())?,
        };
        sql(connection.busy_timeout(std::time::Duration::from_secs(5)))?;
        let _: String = sql(connection.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)))?;
        sql(connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000;"))?;
        let found: i64 = sql(connection.query_row("PRAGMA user_version", [], |r| r.get(0)))?;
        if found > FORMAT {
            return Err(Error::new(Kind::NotInPrerequisiteState, "the catalog was written by a newer version of squilla")
                .detail(format!("Its format is {found}; this version reads up to {FORMAT}.")));
        }
        if found < FORMAT {
            // Only then: what is damaged stays as it is for those who mend it.
            let steps = if found == 0 { TABLES } else { "ALTER TABLE file ADD COLUMN sums BLOB;" };
            sql(connection.execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {FORMAT}; COMMIT;")))?;
        }
        connection.set_prepared_statement_cache_capacity(64);
        let head = sql(connection
            .query_row("SELECT id, at_us FROM snapshot ORDER BY id DESC LIMIT 1", [], |r| Ok(Snapshot { id: unsigned(r.get(0)?), at_us: r.get(1)? }))
            .optional())?;
        Ok(Ledger { connection, head: head.unwrap_or(Snapshot { id: 0, at_us: 0 }), durable: true })
    }

    /// The newest snapshot; id 0 when there is none.
    pub fn head(&self) -> &Snapshot {
        &self.head
    }

    /// A counter: the least number that was not given out.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let found: Option<i64> = sql(self.connection.query_row("SELECT value FROM counter WHERE name = ?1", [name], |r| r.get(0)).optional())?;
        Ok(found.map_or(0, unsigned))
    }

    /// Makes snapshots of the commits, in order and in one SQLite transaction: the ids. `counters` are raised with it.
    /// `durable` waits for the disk. On failure none happened.
    pub fn commit(&mut self, commits: &[Commit], counters: &[(&str, u64)], durable: bool) -> Result<Vec<Snapshot>> {
        if durable != self.durable {
            sql(self.connection.execute_batch(if durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" }))?;
            self.durable = durable;
        }
        fault::reach("commit_begun");
        let made = self.write(commits, counters);
        match made {
            Ok(made) => {
                if let Some(last) = made.last() {
                    self.head = last.clone();
                }
                fault::reach("commit_done");
                Ok(made)
            }
            Err(error) => self.resolve(commits, error),
        }
    }

    fn write(&mut self, commits: &[Commit], counters: &[(&str, u64)]) -> Result<Vec<Snapshot>> {
        let transaction = sql(self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate))?;
        let mut made = Vec::with_capacity(commits.len());
        let mut last = self.head.clone();
        for commit in commits {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
            last = Snapshot { id: last.id + 1, at_us: now.max(last.at_us + 1) };
            sql(sql(transaction.prepare_cached("INSERT INTO snapshot VALUES (?1, ?2, ?3)"))?.execute(params![
                signed(last.id),
                last.at_us,
                commit.transaction
            ]))?;
            for change in &commit.changes {
                apply(&transaction, change, signed(last.id))?;
                fault::reach("commit_half_written");
            }
            made.push(last.clone());
        }
        for (name, value) in counters {
            sql(sql(
                transaction.prepare_cached("INSERT INTO counter VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)")
            )?
            .execute(params![name, signed(*value)]))?;
        }
        fault::reach("commit_written");
        sql(transaction.commit())?;
        Ok(made)
    }

    /// A commit that failed may have happened all the same: its transaction id tells.
    fn resolve(&mut self, commits: &[Commit], error: Error) -> Result<Vec<Snapshot>> {
        let mut made = Vec::with_capacity(commits.len());
        for commit in commits {
            let found = self
                .connection
                .query_row("SELECT id, at_us FROM snapshot WHERE transaction_id = ?1", [&commit.transaction], |r| {
                    Ok(Snapshot { id: unsigned(r.get(0)?), at_us: r.get(1)? })
                })
                .optional();
            match found {
                Ok(Some(snapshot)) => made.push(snapshot),
                _ => return Err(error),
            }
        }
        if let Some(last) = made.last() {
            self.head = last.clone();
        }
        Ok(made)
    }

    /// What is alive at a snapshot; None is now.
    pub fn load(&self, at: Option<u64>) -> Result<Loaded> {
        Ok(Loaded { objects: self.objects(at)?, files: self.files(at, None)?, deleted: self.deleted(at, None)? })
    }

    /// The objects of one sort with one id that were alive at a snapshot.
    pub fn object_at(&self, class: Class, id: &str, at: u64) -> Result<Option<String>> {
        let text = "SELECT body FROM object WHERE class = ?1 AND id = ?2 AND begin_snapshot <= ?3 AND (end_snapshot IS NULL OR end_snapshot > ?3)";
        sql(self.connection.query_row(text, params![class.word(), id, signed(at)], |r| r.get(0)).optional())
    }

    fn objects(&self, at: Option<u64>) -> Result<Vec<ObjectRow>> {
        let at = at.map_or(i64::MAX, signed);
        let mut statement = sql(self
            .connection
            .prepare_cached("SELECT class, id, body FROM object WHERE begin_snapshot <= ?1 AND (end_snapshot IS NULL OR end_snapshot > ?1)"))?;
        let rows = sql(statement.query_map([at], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?))))?;
        let mut out = Vec::new();
        for row in rows {
            let (class, id, body) = sql(row)?;
            let class = Class::parse(&class)
                .ok_or_else(|| Error::new(Kind::DataCorrupted, format!("the catalog has an object of the unknown class \"{class}\"")))?;
            out.push(ObjectRow { class, id, body });
        }
        Ok(out)
    }

    /// Files alive at a snapshot, of one table or of all.
    pub fn files(&self, at: Option<u64>, table: Option<u32>) -> Result<Vec<FileRow>> {
        let at = at.map_or(i64::MAX, signed);
        let mut statement = sql(self.connection.prepare_cached(
            "SELECT id, table_oid, path, rows, bytes, inline, sums FROM file \
             WHERE (?2 IS NULL OR table_oid = ?2) AND begin_snapshot <= ?1 AND (end_snapshot IS NULL OR end_snapshot > ?1) ORDER BY id",
        ))?;
        let rows = sql(statement.query_map(params![at, table], |r| {
            Ok(FileRow {
                id: unsigned(r.get(0)?),
                table: r.get(1)?,
                path: r.get(2)?,
                rows: unsigned(r.get(3)?),
                bytes: unsigned(r.get(4)?),
                inline: r.get(5)?,
                sums: r.get(6)?,
            })
        }))?;
        rows.map(sql).collect()
    }

    /// Deleted rows at a snapshot, of the files of one table or of all.
    pub fn deleted(&self, at: Option<u64>, table: Option<u32>) -> Result<Vec<(u64, Deleted)>> {
        let at = at.map_or(i64::MAX, signed);
        let mut statement = sql(self.connection.prepare_cached(
            "SELECT d.file, d.bitmap FROM deletion d JOIN file f ON f.id = d.file \
             WHERE (?2 IS NULL OR f.table_oid = ?2) AND d.begin_snapshot <= ?1 AND (d.end_snapshot IS NULL OR d.end_snapshot > ?1)",
        ))?;
        let rows = sql(statement.query_map(params![at, table], |r| Ok((unsigned(r.get(0)?), r.get::<_, Vec<u8>>(1)?))))?;
        rows.map(|row| sql(row).and_then(|(file, bytes)| Ok((file, Deleted::from_bytes(&bytes)?)))).collect()
    }

    /// The snapshots that changed the contents of a table, oldest first.
    pub fn versions(&self, table: u32) -> Result<Vec<Version>> {
        let mut by_snapshot: HashMap<i64, (u64, u64)> = HashMap::new();
        let mut each = |text: &str, f: &dyn Fn(&mut (u64, u64), u64)| -> Result<()> {
            let mut statement = sql(self.connection.prepare_cached(text))?;
            let rows = sql(statement.query_map([table], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?))))?;
            for row in rows {
                let (snapshot, rows) = sql(row)?;
                f(by_snapshot.entry(snapshot).or_default(), unsigned(rows));
            }
            Ok(())
        };
        each("SELECT begin_snapshot, rows FROM file WHERE table_oid = ?1", &|v, n| v.0 += n)?;
        each(
            "SELECT f.end_snapshot, f.rows - coalesce((SELECT d.rows FROM deletion d WHERE d.file = f.id AND d.end_snapshot = f.end_snapshot), 0) \
             FROM file f WHERE f.table_oid = ?1 AND f.end_snapshot IS NOT NULL",
            &|v, n| v.1 += n,
        )?;
        each(
            "SELECT d.begin_snapshot, d.rows - coalesce((SELECT p.rows FROM deletion p WHERE p.file = d.file AND p.end_snapshot = d.begin_snapshot), 0) \
             FROM deletion d JOIN file f ON f.id = d.file WHERE f.table_oid = ?1",
            &|v, n| v.1 += n,
        )?;
        let made: Option<i64> = sql(self.connection.query_row(
            "SELECT min(begin_snapshot) FROM object WHERE class = 'relation' AND id = ?1",
            [table.to_string()],
            |r| r.get(0),
        ))?;
        by_snapshot.entry(made.unwrap_or(0)).or_default();
        let tags = self.tags(table)?;
        let mut out = Vec::with_capacity(by_snapshot.len());
        for (id, (rows_added, rows_removed)) in by_snapshot {
            let Some(snapshot) = self.snapshot(unsigned(id))? else { continue };
            let tags = tags.iter().filter(|(_, s)| *s == snapshot.id).map(|(name, _)| name.clone()).collect();
            out.push(Version { snapshot, rows_added, rows_removed, tags });
        }
        out.sort_by_key(|v| v.snapshot.id);
        Ok(out)
    }

    /// A snapshot by its id.
    pub fn snapshot(&self, id: u64) -> Result<Option<Snapshot>> {
        let text = "SELECT id, at_us FROM snapshot WHERE id = ?1";
        sql(self.connection.query_row(text, [signed(id)], |r| Ok(Snapshot { id: unsigned(r.get(0)?), at_us: r.get(1)? })).optional())
    }

    /// The newest snapshot at or before a time.
    pub fn snapshot_at(&self, at_us: i64) -> Result<Option<Snapshot>> {
        let text = "SELECT id, at_us FROM snapshot WHERE at_us <= ?1 ORDER BY id DESC LIMIT 1";
        sql(self.connection.query_row(text, [at_us], |r| Ok(Snapshot { id: unsigned(r.get(0)?), at_us: r.get(1)? })).optional())
    }

    /// Names of versions of a table.
    pub fn tags(&self, table: u32) -> Result<Vec<(String, u64)>> {
        let mut statement = sql(self.connection.prepare_cached("SELECT name, snapshot FROM tag WHERE table_oid = ?1 ORDER BY name"))?;
        let rows = sql(statement.query_map([table], |r| Ok((r.get(0)?, unsigned(r.get(1)?)))))?;
        rows.map(sql).collect()
    }

    /// Names a version of a table; None takes the name away. 42710 when the name is taken.
    pub fn tag(&mut self, table: u32, name: &str, snapshot: Option<u64>) -> Result<()> {
        let Some(snapshot) = snapshot else {
            return sql(self.connection.execute("DELETE FROM tag WHERE table_oid = ?1 AND name = ?2", params![table, name])).map(|_| ());
        };
        let made = sql(self.connection.execute("INSERT OR IGNORE INTO tag VALUES (?1, ?2, ?3)", params![table, name, signed(snapshot)]))?;
        if made == 0 {
            return Err(Error::new(Kind::DuplicateObject, format!("tag \"{name}\" already exists")));
        }
        Ok(())
    }

    /// The next value of each sequence that was not given out.
    pub fn sequences(&self) -> Result<Vec<(u32, i64)>> {
        let mut statement = sql(self.connection.prepare("SELECT oid, next FROM sequence"))?;
        let rows = sql(statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?))))?;
        rows.map(sql).collect()
    }

    /// Remembers the next value of a sequence. It is not part of any snapshot: values given out are not taken back.
    pub fn set_sequence(&mut self, oid: u32, next: i64) -> Result<()> {
        let text = "INSERT INTO sequence VALUES (?1, ?2) ON CONFLICT (oid) DO UPDATE SET next = excluded.next";
        sql(sql(self.connection.prepare_cached(text))?.execute(params![oid, next])).map(|_| ())
    }

    /// Paths of all files that any snapshot names.
    pub fn paths(&self) -> Result<Vec<String>> {
        let mut statement = sql(self.connection.prepare("SELECT DISTINCT path FROM file WHERE path IS NOT NULL"))?;
        let rows = sql(statement.query_map([], |r| r.get(0)))?;
        rows.map(sql).collect()
    }

    /// Forgets what ended at or before `horizon` and no tag holds: paths of files that no row names any more.
    /// `keep` says which of them somebody still reads.
    pub fn expire(&mut self, horizon: u64, table: Option<u32>, keep: &dyn Fn(u64) -> bool) -> Result<Vec<String>> {
        let transaction = sql(self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate))?;
        let mut doomed: Vec<(i64, Option<String>, u32, i64)> = Vec::new();
        {
            let mut statement = sql(transaction.prepare(
                "SELECT f.id, f.path, f.table_oid, f.end_snapshot FROM file f WHERE f.end_snapshot <= ?1 AND (?2 IS NULL OR f.table_oid = ?2) AND NOT EXISTS \
                 (SELECT 1 FROM tag t WHERE t.table_oid = f.table_oid AND t.snapshot >= f.begin_snapshot AND t.snapshot < f.end_snapshot)",
            ))?;
            let rows = sql(statement.query_map(params![signed(horizon), table], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))))?;
            for row in rows {
                let row: (i64, Option<String>, u32, i64) = sql(row)?;
                if !keep(unsigned(row.0)) {
                    doomed.push(row);
                }
            }
        }
        let mut paths = Vec::new();
        for (id, path, table, end) in doomed {
            let text = "INSERT INTO counter VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
            sql(sql(transaction.prepare_cached(text))?.execute(params![forgotten(table), end]))?;
            sql(transaction.execute("DELETE FROM deletion WHERE file = ?1", [id]))?;
            sql(transaction.execute("DELETE FROM file WHERE id = ?1", [id]))?;
            if let Some(path) = path {
                let named: bool = sql(transaction.query_row("SELECT EXISTS (SELECT 1 FROM file WHERE path = ?1)", [&path], |r| r.get(0)))?;
                if !named {
                    paths.push(path);
                }
            }
        }
        if table.is_none() {
            let held = "(SELECT coalesce(min(snapshot), 9223372036854775807) FROM tag)";
            sql(transaction.execute(&format!("DELETE FROM object WHERE end_snapshot <= min(?1, {held})"), [signed(horizon)]))?;
            sql(transaction.execute("DELETE FROM tag WHERE table_oid NOT IN (SELECT CAST(id AS INTEGER) FROM object WHERE class = 'relation')", []))?;
        }
        sql(transaction.commit())?;
        Ok(paths)
    }

    /// Moves the log into the file and gives space back.
    pub fn compact(&mut self) -> Result<()> {
        sql(self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);"))
    }
}

fn apply(transaction: &rusqlite::Transaction, change: &Change, snapshot: i64) -> Result<()> {
    let run = |text: &str, values: &[&dyn rusqlite::ToSql]| sql(sql(transaction.prepare_cached(text))?.execute(values)).map(|_| ());
    match change {
        Change::Object { class, id, body } => {
            let class = class.word();
            run("UPDATE object SET end_snapshot = ?3 WHERE class = ?1 AND id = ?2 AND end_snapshot IS NULL", params![class, id, snapshot])?;
            match body {
                Some(body) => run("INSERT INTO object VALUES (?1, ?2, ?3, NULL, ?4)", params![class, id, snapshot, body]),
                None => Ok(()),
            }
        }
        Change::FileAdded(file) => run(
            "INSERT INTO file VALUES (?1, ?2, ?3, NULL, ?4, ?5, ?6, ?7, ?8)",
            params![signed(file.id), file.table, snapshot, file.path, signed(file.rows), signed(file.bytes), file.inline, file.sums],
        ),
        Change::FileRemoved(file) => {
            run("UPDATE deletion SET end_snapshot = ?2 WHERE file = ?1 AND end_snapshot IS NULL", params![signed(*file), snapshot])?;
            run("UPDATE file SET end_snapshot = ?2 WHERE id = ?1", params![signed(*file), snapshot])
        }
        Change::Deleted { file, rows } => {
            run("UPDATE deletion SET end_snapshot = ?2 WHERE file = ?1 AND end_snapshot IS NULL", params![signed(*file), snapshot])?;
            run("INSERT INTO deletion VALUES (?1, ?2, NULL, ?3, ?4)", params![signed(*file), snapshot, signed(rows.len()), rows.bytes()?])
        }
    }
}

pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
