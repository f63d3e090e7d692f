//! The one error of the project and its SQLSTATEs.
//!
//! In: a failure anywhere, described by whoever saw it. Out: the five fields of a PostgreSQL ErrorResponse.
//! Invariant: `Kind::sqlstate` names every kind, with no wildcard arm, so a new kind cannot go out without a code.
//! Deliberately absent: an enum of other crates' errors; a foreign error is turned into text where it is caught.

use std::fmt;
use std::sync::Arc;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What went wrong, in the terms of PostgreSQL's error codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// The five-character SQLSTATE.
            pub const fn sqlstate(self) -> &'static str {
                match self { $(Kind::$name => $code,)* }
            }

            /// The kind whose SQLSTATE is `code`; the first one where several kinds share it.
            pub fn from_sqlstate(code: &str) -> Option<Kind> {
                $(if code == $code { return Some(Kind::$name); })*
                None
            }
        }
    };
}

kinds! {
    /// A bug of ours: the message says so.
    Internal = "XX000",
    /// Bytes that are not the media they claim to be, or are damaged.
    BadMedia = "22P03",
    /// An argument outside what the function takes.
    InvalidArgument = "22023",
    /// Text that does not spell a value of the type.
    InvalidText = "22P02",
    /// A number outside its type.
    OutOfRange = "22003",
    /// Division by zero.
    DivisionByZero = "22012",
    /// A date or time outside its type, or misspelt.
    InvalidDatetime = "22007",
    /// A date or time that does not exist: the thirtieth of February.
    DatetimeOverflow = "22008",
    /// A value too long for its type.
    StringTooLong = "22001",
    /// A string that is not in the encoding it claims.
    InvalidEncoding = "22021",
    /// A limit (pixels, samples, pages, bytes, seconds, depth) would be passed.
    LimitExceeded = "54000",
    /// Statement nested too deep.
    TooComplex = "54001",
    /// Too many arguments or parameters.
    TooManyArguments = "54023",
    /// Memory budget spent.
    OutOfMemory = "53200",
    /// Disk full.
    DiskFull = "53100",
    /// Too many connections.
    TooManyConnections = "53300",
    /// A configured limit of the server (queue, cursor count, ...) reached.
    ConfigurationLimit = "53400",
    /// Cancelled by the user or by statement_timeout.
    Cancelled = "57014",
    /// The server is stopping.
    AdminShutdown = "57P01",
    /// The server is not ready for queries yet.
    CannotConnectNow = "57P03",
    /// A file, object or URL that does not exist.
    UndefinedFile = "58P01",
    /// A file or directory that is there already.
    DuplicateFile = "58P02",
    /// Reading or writing failed.
    Io = "58030",
    /// Something that exists in PostgreSQL or SQL and does not exist here.
    Unsupported = "0A000",
    /// Statement that does not parse.
    Syntax = "42601",
    /// Unknown function, or no function with these argument types.
    UndefinedFunction = "42883",
    /// An option that the foreign-data wrapper does not have.
    InvalidOptionName = "HV00D",
    /// Several functions fit.
    AmbiguousFunction = "42725",
    /// Unknown column.
    UndefinedColumn = "42703",
    /// A column name that fits several columns.
    AmbiguousColumn = "42702",
    /// Unknown table or view.
    UndefinedTable = "42P01",
    /// Unknown schema.
    UndefinedSchema = "3F000",
    /// Unknown database.
    UndefinedDatabase = "3D000",
    /// Unknown type, role, model, setting, ... (anything without a code of its own).
    UndefinedObject = "42704",
    /// Table name taken.
    DuplicateTable = "42P07",
    /// Column named twice.
    DuplicateColumn = "42701",
    /// Schema name taken.
    DuplicateSchema = "42P06",
    /// Object name taken.
    DuplicateObject = "42710",
    /// Function name taken.
    DuplicateFunction = "42723",
    /// A function whose definition does not hold together.
    InvalidFunctionDefinition = "42P13",
    /// Prepared statement name taken.
    DuplicatePrepared = "42P05",
    /// Cursor name taken.
    DuplicateCursor = "42P03",
    /// Wrong kind of object (a view where a table is wanted, ...).
    WrongObjectType = "42809",
    /// Types that do not fit together.
    DatatypeMismatch = "42804",
    /// No cast between these types.
    CannotCoerce = "42846",
    /// The type of a parameter cannot be told.
    IndeterminateDatatype = "42P18",
    /// Parameter that does not exist.
    UndefinedParameter = "42P02",
    /// A column outside GROUP BY, and other misuse of aggregates.
    Grouping = "42803",
    /// Misuse of window functions.
    Windowing = "42P20",
    /// A recursive query of the wrong shape.
    InvalidRecursion = "42P19",
    /// Column reference where none is allowed.
    InvalidColumnReference = "42P10",
    /// A table definition that contradicts itself.
    InvalidTableDefinition = "42P16",
    /// Name too long or malformed.
    InvalidName = "42602",
    /// Not allowed for this role.
    InsufficientPrivilege = "42501",
    /// Objects depend on it.
    DependentObjects = "2BP01",
    /// NULL in a NOT NULL column.
    NotNullViolation = "23502",
    /// Duplicate key.
    UniqueViolation = "23505",
    /// A value that is not of the shape its column has.
    DataException = "22000",
    /// A value for a column that makes its own.
    GeneratedAlways = "428C9",
    /// A sequence is at its end.
    SequenceLimit = "2200H",
    /// A foreign key that names no key.
    InvalidForeignKey = "42830",
    /// CHECK failed.
    CheckViolation = "23514",
    /// A scalar subquery returned several rows.
    CardinalityViolation = "21000",
    /// Statement inside an aborted transaction.
    InFailedTransaction = "25P02",
    /// BEGIN inside a transaction.
    ActiveTransaction = "25001",
    /// COMMIT/ROLLBACK/SAVEPOINT outside a transaction.
    NoActiveTransaction = "25P01",
    /// Write in a read-only transaction.
    ReadOnlyTransaction = "25006",
    /// Unknown savepoint.
    UndefinedSavepoint = "3B001",
    /// Concurrent change.
    SerializationFailure = "40001",
    /// Two wait for each other.
    Deadlock = "40P01",
    /// A lock that somebody else holds.
    LockNotAvailable = "55P03",
    /// An object that somebody uses.
    ObjectInUse = "55006",
    /// A grant that cannot be made.
    InvalidGrant = "0LP01",
    /// A session that said nothing for too long.
    IdleTimeout = "57P05",
    /// A transaction that did nothing for too long.
    IdleInTransactionTimeout = "25P03",
    /// A name that the system keeps.
    ReservedName = "42939",
    /// Unknown cursor or portal.
    UndefinedCursor = "34000",
    /// A cursor moved in a way it cannot.
    InvalidCursorState = "24000",
    /// Unknown prepared statement.
    UndefinedPrepared = "26000",
    /// Wrong password.
    InvalidPassword = "28P01",
    /// Role may not connect.
    InvalidAuthorization = "28000",
    /// A message that breaks the protocol.
    ProtocolViolation = "08P01",
    /// The connection broke.
    ConnectionFailure = "08006",
    /// A setting cannot be changed now.
    CannotChangeNow = "55P02",
    /// The object is not in the state this needs.
    NotInPrerequisiteState = "55000",
    /// Bad data in COPY.
    BadCopyFormat = "22P04",
    /// Malformed binary value.
    InvalidBinary = "22P05",
    /// Bad regular expression.
    InvalidRegex = "2201B",
    /// Power that has no real value.
    InvalidPower = "2201F",
    /// Logarithm that has no real value.
    InvalidLogarithm = "2201E",
    /// Bad argument of width_bucket.
    InvalidWidthBucket = "2201G",
    /// Wrong number of subscripts.
    ArraySubscript = "2202E",
    /// NULL where a value is needed.
    NullNotAllowed = "22004",
    /// JSON path without what it names.
    JsonPath = "22033",
    /// Negative LIMIT.
    InvalidLimit = "2201W",
    /// Negative OFFSET.
    InvalidOffset = "2201X",
    /// Malformed JSON text.
    InvalidJson = "22032",
    /// Settings file with an error.
    ConfigFile = "F0000",
    /// Data on disk that is damaged.
    DataCorrupted = "XX001",
    /// Model unknown or not to be had.
    ModelUnknown = "SQ001",
    /// Model that does not fit the task or the layout.
    ModelIncompatible = "SQ002",
    /// The device (GPU, runtime library) is missing or was lost.
    DeviceLost = "SQ003",
    /// A worker was lost.
    WorkerLost = "SQ004",
    /// Too many rows failed: the error budget is spent.
    ErrorBudgetSpent = "SQ005",
    /// The object changed between listing and reading.
    SourceChanged = "SQ006",
}

/// A failure: `message` is lower case without a full stop; `detail` and `hint` are sentences.
#[derive(Clone, Debug)]
pub struct Error {
    /// Decides the SQLSTATE.
    pub kind: Kind,
    /// Primary message.
    pub message: String,
    /// Secondary sentence with particulars.
    pub detail: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// Where in the data it happened: `COPY t, line 3, column a: "x"`.
    pub context: Option<String>,
    /// 1-based character position in the statement text.
    pub position: Option<u32>,
    /// The foreign error this one was made from, for logs.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a kind and a primary message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None, hint: None, context: None, position: None, source: None }
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message).hint("This is a bug in squilla. Please report it with the statement.")
    }

    /// Damaged or foreign media bytes.
    pub fn bad_media(message: impl Into<String>) -> Self {
        Self::new(Kind::BadMedia, message)
    }

    /// An argument outside what the function takes.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    /// A limit would be passed; `setting` is the one to raise.
    pub fn limit(message: impl Into<String>, setting: &str) -> Self {
        Self::new(Kind::LimitExceeded, message).hint(format!("The limit is the setting {setting}."))
    }

    /// Something not offered here.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// An I/O failure; missing files, full disks and denied permissions get their own codes.
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::UndefinedFile,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::DiskFull,
            std::io::ErrorKind::PermissionDenied => Kind::InsufficientPrivilege,
            _ => Kind::Io,
        };
        Self::new(kind, format!("{what}: {error}")).caused_by(error)
    }

    /// Adds the detail sentence.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the hint sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place in the data.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Adds the 1-based position in the statement.
    #[must_use]
    pub fn at(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// Keeps the foreign error for logs.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        self.kind.sqlstate()
    }

    /// Whether the failure is of one row's data (governed by `on_error`), not of the statement or the system.
    pub fn is_row_error(&self) -> bool {
        matches!(
            self.kind,
            Kind::BadMedia
                | Kind::InvalidArgument
                | Kind::InvalidText
                | Kind::OutOfRange
                | Kind::InvalidEncoding
                | Kind::LimitExceeded
                | Kind::UndefinedFile
                | Kind::Io
                | Kind::SourceChanged
                | Kind::InvalidJson
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

/// The nearest of `candidates` to `name`, when it is near enough to be a slip of the finger.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&name.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= 1 + c.len().min(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_five_characters_and_leads_back() {
        for kind in [Kind::Internal, Kind::BadMedia, Kind::SourceChanged, Kind::Cancelled] {
            assert_eq!(kind.sqlstate().len(), 5);
            assert_eq!(Kind::from_sqlstate(kind.sqlstate()), Some(kind));
        }
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(did_you_mean("decode_imge", ["decode_image", "pdf_pages"]), Some("decode_image"));
        assert_eq!(did_you_mean("zzz", ["decode_image", "pdf_pages"]), None);
    }
}
