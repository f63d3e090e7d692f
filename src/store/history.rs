//! What came and went between two snapshots, and which versions are still whole.
//!
//! In: a table and two snapshots. Out: events, oldest first. Invariants: events of commits that only put parts together are
//! left out; a range that reaches back to what was forgotten is an error, never a part of the truth. Deliberately absent: the
//! values of rows.

use rusqlite::params;
use squilla_core::error::{Error, Result};

use crate::bitmap::Deleted;
use crate::ledger::{Ledger, signed, sql, unsigned};
use crate::rows::{COMPACTION, Event, FileRow, Snapshot};

/// The counter that says up to which snapshot versions of a table were forgotten.
pub(crate) fn forgotten(table: u32) -> String {
    format!("forgotten:{table}")
}

/// A range of events: what marks their snapshot, and which rows of the file are not theirs.
const SORTS: &[(bool, &str)] = &[
    // A file came, without the rows that the same transaction deleted.
    (
        false,
        "SELECT s.id, s.at_us, f.id, f.path, f.rows, f.bytes, f.inline, f.sums, d.bitmap, NULL FROM file f \
         JOIN snapshot s ON s.id = f.begin_snapshot LEFT JOIN deletion d ON d.file = f.id AND d.begin_snapshot = f.begin_snapshot",
    ),
    // A file went, with the rows that had not been deleted before.
    (
        true,
        "SELECT s.id, s.at_us, f.id, f.path, f.rows, f.bytes, f.inline, f.sums, d.bitmap, NULL FROM file f \
         JOIN snapshot s ON s.id = f.end_snapshot LEFT JOIN deletion d ON d.file = f.id AND d.begin_snapshot < f.end_snapshot \
         AND d.end_snapshot = f.end_snapshot",
    ),
    // Rows were deleted beside those that had been before.
    (
        true,
        "SELECT s.id, s.at_us, f.id, f.path, f.rows, f.bytes, f.inline, f.sums, p.bitmap, d.bitmap FROM deletion d \
         JOIN file f ON f.id = d.file AND d.begin_snapshot > f.begin_snapshot JOIN snapshot s ON s.id = d.begin_snapshot \
         LEFT JOIN deletion p ON p.file = d.file AND p.end_snapshot = d.begin_snapshot",
    ),
];

impl Ledger {
    /// Whether all rows of a table at a snapshot are still there.
    pub fn is_whole(&self, table: u32, snapshot: u64) -> Result<bool> {
        Ok(snapshot >= self.counter(&forgotten(table))? || self.tags(table)?.iter().any(|(_, tagged)| *tagged == snapshot))
    }

    /// What came and went after snapshot `from`, up to and with `to`. 22023 when a part of that was forgotten.
    pub fn events(&self, table: u32, from: u64, to: u64) -> Result<Vec<Event>> {
        if from < self.counter(&forgotten(table))? {
            return Err(Error::invalid_argument(format!("changes since version {from} are no longer kept"))
                .hint("How long they are is the setting squilla.version_retention."));
        }
        let mut events = Vec::new();
        for (removed, text) in SORTS {
            let whole = format!("{text} WHERE f.table_oid = ?1 AND s.id > ?2 AND s.id <= ?3 AND s.transaction_id NOT LIKE '{COMPACTION}%'");
            let mut statement = sql(self.connection.prepare_cached(&whole))?;
            let rows = sql(statement.query_map(params![table, signed(from), signed(to)], |r| {
                let snapshot = Snapshot { id: unsigned(r.get(0)?), at_us: r.get(1)? };
                let (id, path, rows, bytes) = (unsigned(r.get(2)?), r.get(3)?, unsigned(r.get(4)?), unsigned(r.get(5)?));
                let file = FileRow { id, table, path, rows, bytes, inline: r.get(6)?, sums: r.get(7)? };
                Ok((snapshot, file, r.get::<_, Option<Vec<u8>>>(8)?, r.get::<_, Option<Vec<u8>>>(9)?))
            }))?;
            for row in rows {
                let (snapshot, file, before, deleted) = sql(row)?;
                let before = before.map_or_else(|| Ok(Deleted::default()), |bytes| Deleted::from_bytes(&bytes))?;
                let others = match deleted {
                    Some(bytes) => Deleted::from_bytes(&bytes)?.without(&before).others(file.rows),
                    None => before,
                };
                if others.len() < file.rows {
                    events.push(Event { snapshot, removed: *removed, file, others });
                }
            }
        }
        events.sort_by_key(|e| (e.snapshot.id, !e.removed, e.file.id));
        Ok(events)
    }
}
