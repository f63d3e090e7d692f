//! What a SQL function is to the engine: its declaration and one kernel.
//!
//! In: a [`Call`]: one pack of rows, arguments in declared order with defaults filled in. Out: an [`Outcome`]: a column
//! of the declared type plus the rows that failed (NULL in the column), or a stream of row batches for set-returning
//! functions. Invariant: a bad row is reported in `errors` and never fails its neighbours; `Err` from a kernel means
//! the whole statement must fail (unknown option, lost device, cancelled). STRICT is the engine's: a kernel of a strict
//! function never sees NULL in an argument whose default is not NULL.
//! Deliberately absent: on_error, budgets, retries (the engine's), and any registry; `squilla-functions` has the list.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::columns::{self, Arg, Output};
use crate::cores::Cores;
use crate::counters::{CallCounters, Caller};
use crate::declaration::{Declaration, Signature};
use crate::error::{Error, Kind, Result};
use crate::limits::Limits;
use crate::values::{Audio, BoundingBox, FileRef, ImageView, Tensor};

/// A row that failed, and why.
pub type RowFailure = (usize, Error);

/// The result of a scalar call: `array.len() == rows`, NULL in every row named in `errors`.
#[derive(Debug)]
pub struct Outcome {
    /// One value a row.
    pub array: ArrayRef,
    /// Rows that failed.
    pub errors: Vec<RowFailure>,
}

/// The rows that one input row of a set-returning function expands to, as batches of the declared columns.
/// Bounded: each batch holds at most about 16 MiB of media or 1,024 rows. `Err` ends the expansion of this row: it is a
/// row error when [`Error::is_row_error`], and what came before stays. Dropping the iterator stops the work.
pub type Expansion = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// The rows of a cheap set-returning function over many input rows: columns of the result in pieces of some thousand rows,
/// each with the number of the input row that every result row belongs to, ascending over all pieces.
pub type NumberedRows = Box<dyn Iterator<Item = Result<(UInt32Array, Vec<ArrayRef>)>> + Send>;

/// A kernel in one of its kinds.
#[derive(Clone, Copy)]
pub enum Kernel {
    /// Cheap and pure: evaluated in place. Its failures fail the statement.
    Scalar(fn(&Call) -> Result<Outcome>),
    /// Row to value on the CPU, dear in time or bytes: evaluated in packs on blocking threads.
    Media(fn(&Call) -> Result<Outcome>),
    /// Waits for I/O: evaluated in packs, many rows at once.
    Fetch(fn(Arc<Call>) -> BoxFuture<'static, Result<Outcome>>),
    /// Runs a model: evaluated in packs, batched on the device over all partitions and queries.
    Model(fn(Arc<Call>) -> BoxFuture<'static, Result<Outcome>>),
    /// One row to many, lazily, on a blocking thread: the call has exactly one row. The iterator owns what it needs.
    Expand(fn(Arc<Call>) -> Result<Expansion>),
    /// One row to a few: the outcome is a list-of-struct column whose struct has the declared columns.
    ExpandList(fn(Arc<Call>) -> BoxFuture<'static, Result<Outcome>>),
    /// One row to many, cheap and lazily: the call has a whole batch, and the work is done where the reader asks for it.
    /// The kernel itself gives no rows for NULL arguments.
    Rows(fn(Arc<Call>) -> Result<NumberedRows>),
}

/// See [`SqlFunction::ranged`].
#[derive(Clone, Copy, Debug)]
pub struct Ranged {
    /// The generated column.
    pub column: &'static str,
    /// Argument that bounds it from below, inclusive.
    pub from: &'static str,
    /// Argument that bounds it from above, exclusive.
    pub to: &'static str,
    /// Arguments whose meaning depends on where the rows start: with one of these given, `from` stays as it is.
    pub anchored: &'static [&'static str],
}

/// One SQL function.
pub struct SqlFunction {
    sql: &'static str,
    /// The code.
    pub kernel: Kernel,
    /// Checks constant arguments when the statement is planned: a [`Call`] of zero rows whose non-constant arguments
    /// are empty columns. Getters read constants at any row, and what is not known yet as NULL. Errors here are plan errors.
    pub check: Option<fn(&Call) -> Result<()>>,
    /// Whether, with every other argument at its default, the call only decodes its first one: a function that also takes
    /// the bytes may be given them instead.
    pub decodes: bool,
    /// A generated column that grows from row to row, and the arguments that bound it from below (inclusive) and from
    /// above (exclusive) without changing the rows in between, unless one of the last arguments is given.
    pub ranged: Option<Ranged>,
    declaration: OnceLock<Arc<Declaration>>,
}

impl SqlFunction {
    /// A function with this contract and kernel.
    pub const fn new(sql: &'static str, kernel: Kernel) -> Self {
        Self { sql, kernel, check: None, decodes: false, ranged: None, declaration: OnceLock::new() }
    }

    /// See [`SqlFunction::decodes`].
    #[must_use]
    pub const fn that_decodes(mut self) -> Self {
        self.decodes = true;
        self
    }

    /// See [`SqlFunction::ranged`].
    #[must_use]
    pub const fn with_range(mut self, ranged: Ranged) -> Self {
        self.ranged = Some(ranged);
        self
    }

    /// Adds a check of constant arguments at plan time.
    #[must_use]
    pub const fn with_check(mut self, check: fn(&Call) -> Result<()>) -> Self {
        self.check = Some(check);
        self
    }

    /// The parsed contract. A contract that does not parse is an error here and in the tests of `squilla-functions`.
    pub fn declaration(&self) -> Result<Arc<Declaration>> {
        if let Some(declaration) = self.declaration.get() {
            return Ok(Arc::clone(declaration));
        }
        let parsed = Arc::new(Declaration::parse(self.sql)?);
        Ok(Arc::clone(self.declaration.get_or_init(|| parsed)))
    }
}

/// Reads files and objects for kernels. Implemented by the engine over its object stores.
#[async_trait]
pub trait Files: Send + Sync {
    /// One HEAD (stat): fills in what is known about the file.
    async fn head(&self, uri: &str) -> Result<FileRef>;
    /// The bytes of the file, or of `range` (start, length). Fails with 54000 above `bytes_max`, and with SQ006 when the
    /// file carries an etag that no longer holds.
    async fn read(&self, file: &FileRef, range: Option<(u64, u64)>, bytes_max: u64) -> Result<Bytes>;
    /// The path of a file on this machine, for decoders that seek; None for remote objects.
    fn local_path(&self, uri: &str) -> Option<PathBuf>;
}

/// Reserves bytes from the memory pool of the statement before they are allocated.
pub trait Memory: Send + Sync {
    /// Fails with 53200 when the pool has not enough. The bytes return when the reservation is dropped.
    fn reserve(&self, bytes: usize) -> Result<Box<dyn Any + Send>>;
}

/// Set when the statement must stop: cancelled, timed out, or its client is gone.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Tells the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work must stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A number that no other living flag has: tells statements apart.
    pub fn id(&self) -> u64 {
        Arc::as_ptr(&self.0) as usize as u64
    }

    /// Fails with 57014 once set.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(Kind::Cancelled, "canceling statement due to user request")) } else { Ok(()) }
    }
}

/// The default model of a task.
pub type DefaultModels = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What kernels share within one statement.
#[derive(Clone)]
pub struct Env {
    /// Limits, from the settings at the start of the statement.
    pub limits: Limits,
    /// File access.
    pub files: Arc<dyn Files>,
    /// Memory pool.
    pub memory: Arc<dyn Memory>,
    /// Cancellation.
    pub cancel: CancelFlag,
    /// The cores that decoding and models share.
    pub cores: Arc<Cores>,
    /// Where the cost of the operator's calls is counted.
    pub counters: Arc<CallCounters>,
    /// The model service (`squilla_infer::models::Models`), typed where it is used.
    pub models: Arc<dyn Any + Send + Sync>,
    /// `squilla.default_model.<task>` by task.
    pub default_models: DefaultModels,
}

impl Env {
    /// Whose calls these are, for services that many statements share.
    pub fn caller(&self) -> Caller {
        Caller { owner: self.cancel.id(), counters: Arc::clone(&self.counters) }
    }

    /// The model service as `T`.
    pub fn models<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        Arc::clone(&self.models).downcast::<T>().map_err(|_| Error::internal("the model service has another type"))
    }
}

/// One pack of rows of one call.
pub struct Call {
    /// Name of the function, for messages.
    pub function: Arc<Declaration>,
    /// The overload chosen.
    pub signature: usize,
    /// Arguments in declared order; variadic ones follow one another at the end.
    pub args: Vec<Arg>,
    /// Rows of this pack.
    pub rows: usize,
    /// Statement environment.
    pub env: Arc<Env>,
}

impl Call {
    /// The overload chosen.
    pub fn signature(&self) -> Result<&Signature> {
        self.function.signatures.get(self.signature).ok_or_else(|| Error::internal("no such overload"))
    }

    /// The argument of this declared name; None when this overload has none.
    pub fn find(&self, name: &str) -> Result<Option<&Arg>> {
        Ok(self.signature()?.position(name).and_then(|i| self.args.get(i)))
    }

    /// The argument of this declared name.
    pub fn arg(&self, name: &str) -> Result<&Arg> {
        self.find(name)?.ok_or_else(|| Error::internal(format!("{} has no argument {name}", self.function.name)))
    }

    /// text
    pub fn text(&self, name: &str, row: usize) -> Result<Option<&str>> {
        columns::text(self.arg(name)?, row)
    }

    /// bytea
    pub fn bytes(&self, name: &str, row: usize) -> Result<Option<&[u8]>> {
        columns::bytes(self.arg(name)?, row)
    }

    /// smallint, integer, bigint
    pub fn int(&self, name: &str, row: usize) -> Result<Option<i64>> {
        columns::int(self.arg(name)?, row)
    }

    /// any number
    pub fn float(&self, name: &str, row: usize) -> Result<Option<f64>> {
        columns::float(self.arg(name)?, row)
    }

    /// boolean
    pub fn boolean(&self, name: &str, row: usize) -> Result<Option<bool>> {
        columns::boolean(self.arg(name)?, row)
    }

    /// interval, in seconds
    pub fn interval_seconds(&self, name: &str, row: usize) -> Result<Option<f64>> {
        columns::interval_seconds(self.arg(name)?, row)
    }

    /// image
    pub fn image(&self, name: &str, row: usize) -> Result<Option<ImageView<'_>>> {
        columns::image(self.arg(name)?, row)
    }

    /// audio
    pub fn audio(&self, name: &str, row: usize) -> Result<Option<Audio>> {
        columns::audio(self.arg(name)?, row)
    }

    /// tensor
    pub fn tensor(&self, name: &str, row: usize) -> Result<Option<Tensor>> {
        columns::tensor(self.arg(name)?, row)
    }

    /// box2d
    pub fn bounding_box(&self, name: &str, row: usize) -> Result<Option<BoundingBox>> {
        columns::bounding_box(self.arg(name)?, row)
    }

    /// file (or its URI as text)
    pub fn file(&self, name: &str, row: usize) -> Result<Option<FileRef>> {
        columns::file(self.arg(name)?, row)
    }

    /// real[], double precision[], vector
    pub fn floats(&self, name: &str, row: usize) -> Result<Option<arrow::array::Float32Array>> {
        columns::floats(self.arg(name)?, row)
    }

    /// text[]
    pub fn texts(&self, name: &str, row: usize) -> Result<Option<Vec<String>>> {
        columns::texts(self.arg(name)?, row)
    }

    /// A text option that must be one value for the whole statement; None when NULL.
    pub fn option_text(&self, name: &str) -> Result<Option<&str>> {
        let arg = self.arg(name)?;
        if !arg.constant {
            if self.rows == 0 {
                return Ok(None);
            }
            return Err(Error::invalid_argument(format!("argument \"{name}\" of {} must be a constant", self.function.name)));
        }
        columns::text(arg, 0)
    }

    /// Runs `f` for each row and collects values and row errors. A row error ([`Error::is_row_error`]) or a panic fails
    /// that row; any other error fails the call. Checks for cancellation before each row.
    pub fn map_rows<T: Output>(&self, mut f: impl FnMut(usize) -> Result<Option<T>>) -> Result<Outcome> {
        let mut values = Vec::with_capacity(self.rows);
        let mut errors = Vec::new();
        for row in 0..self.rows {
            self.env.cancel.check()?;
            match guarded(|| f(row)) {
                Ok(value) => values.push(value),
                Err(error) if error.is_row_error() => {
                    values.push(None);
                    errors.push((row, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome { array: T::build(values)?, errors })
    }

    /// The same for results that were computed elsewhere (a fetch or a model): one `Result` a row, in order.
    pub fn collect_rows<T: Output>(&self, rows: Vec<Result<Option<T>>>) -> Result<Outcome> {
        if rows.len() != self.rows {
            return Err(Error::internal(format!("{} gave {} results for {} rows", self.function.name, rows.len(), self.rows)));
        }
        let mut rows = rows.into_iter();
        self.map_rows(|_| rows.next().unwrap_or(Ok(None)))
    }
}

/// Runs `f`, turning a panic inside a decoder into a row error.
pub fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::bad_media(format!("the decoder failed on this input: {what}")))
    })
}

impl Outcome {
    /// An outcome without errors.
    pub fn ok(array: ArrayRef) -> Self {
        Self { array, errors: Vec::new() }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }
}
