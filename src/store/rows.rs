//! What the catalog keeps, as rows: objects as JSON, files, deleted rows, snapshots.
//!
//! Invariant: a row says what began and what ended with a snapshot, never what is now; what is now follows from them.
//! Deliberately absent: how rows are stored (`ledger`), what the JSON means (the engine).

use crate::bitmap::Deleted;

/// The sorts of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A schema; its id is its OID.
    Schema,
    /// A table, view, sequence or external table; its id is its OID.
    Relation,
    /// A role; its id is its name.
    Role,
    /// A model; its id is its name.
    Model,
    /// A server of SQL/MED with its user mapping; its id is its name.
    Server,
    /// A comment on something without an entry of its own.
    Comment,
}

impl Class {
    /// The word in the catalog.
    pub fn word(self) -> &'static str {
        match self {
            Class::Schema => "schema",
            Class::Relation => "relation",
            Class::Role => "role",
            Class::Model => "model",
            Class::Server => "server",
            Class::Comment => "comment",
        }
    }

    /// The inverse of [`Class::word`].
    pub fn parse(word: &str) -> Option<Class> {
        [Class::Schema, Class::Relation, Class::Role, Class::Model, Class::Server, Class::Comment].into_iter().find(|c| c.word() == word)
    }
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRow {
    /// Sort.
    pub class: Class,
    /// OID or name.
    pub id: String,
    /// JSON.
    pub body: String,
}

/// A part of a table's contents: a Parquet file, or a few rows in the catalog itself.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRow {
    /// Unique for ever.
    pub id: u64,
    /// OID of the table.
    pub table: u32,
    /// Below the directory of data; None for rows in the catalog.
    pub path: Option<String>,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Bytes of the file, or of the rows.
    pub bytes: u64,
    /// An Arrow IPC stream of the rows.
    pub inline: Option<Vec<u8>>,
    /// Checksums of the file, or of the rows ([`Sums`](crate::sums::Sums)); None for those written before there were any.
    pub sums: Option<Vec<u8>>,
}

/// One change of a snapshot.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object has this body from now on; None ends it.
    Object {
        /// Sort.
        class: Class,
        /// OID or name.
        id: String,
        /// JSON.
        body: Option<String>,
    },
    /// A file belongs to its table from now on.
    FileAdded(FileRow),
    /// A file does so no longer.
    FileRemoved(u64),
    /// These rows of a file are deleted from now on: all of them, the earlier ones too.
    Deleted {
        /// File.
        file: u64,
        /// Rows.
        rows: Deleted,
    },
}

/// What the id of a transaction begins with that only put parts of tables together.
pub const COMPACTION: &str = "compaction-";

/// Rows that came or went with one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Snapshot.
    pub snapshot: Snapshot,
    /// They went; else they came.
    pub removed: bool,
    /// The file that they are in.
    pub file: FileRow,
    /// Rows of the file that are not among them.
    pub others: Deleted,
}

/// One snapshot to be.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Unique: tells after a failure whether the commit happened.
    pub transaction: String,
    /// Changes.
    pub changes: Vec<Change>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Ascending, from 1.
    pub id: u64,
    /// Microseconds since 1970; ascending, whatever the clock does.
    pub at_us: i64,
}

/// Everything that is alive at a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Objects.
    pub objects: Vec<ObjectRow>,
    /// Files in order of their making.
    pub files: Vec<FileRow>,
    /// Deleted rows by file.
    pub deleted: Vec<(u64, Deleted)>,
}

/// A version of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Snapshot.
    pub snapshot: Snapshot,
    /// Rows added by its files.
    pub rows_added: u64,
    /// Rows that went with a file or were marked.
    pub rows_removed: u64,
    /// Names given to the snapshot for this table.
    pub tags: Vec<String>,
}
