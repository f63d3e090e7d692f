//! What unit tests of kernels share: calls, columns, files of the local disk.
//!
//! In: arguments by hand. Out: a [`Call`] as the engine would make it. Compiled for tests only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, LargeBinaryArray, NullArray, RecordBatch, StringArray};
use async_trait::async_trait;
use bytes::Bytes;
use squilla_core::columns::Arg;
use squilla_core::cores::Cores;
use squilla_core::declaration::Returns;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{Call, CancelFlag, Env, Files, Memory, SqlFunction};
use squilla_core::limits::Limits;
use squilla_core::values::FileRef;

/// The local disk.
struct Disk;

fn disk_path(uri: &str) -> PathBuf {
    PathBuf::from(uri.strip_prefix("file://").unwrap_or(uri))
}

#[async_trait]
impl Files for Disk {
    async fn head(&self, uri: &str) -> Result<FileRef> {
        let meta = std::fs::metadata(disk_path(uri)).map_err(|e| Error::io(uri, e))?;
        Ok(FileRef { uri: uri.to_owned(), size: Some(meta.len() as i64), etag: Some("1".into()), last_modified_us: Some(0), content_type: None })
    }

    async fn read(&self, file: &FileRef, range: Option<(u64, u64)>, bytes_max: u64) -> Result<Bytes> {
        let bytes = std::fs::read(disk_path(&file.uri)).map_err(|e| Error::io(&file.uri, e))?;
        let (start, end) = range.map_or((0, bytes.len()), |(start, length)| {
            let start = (start as usize).min(bytes.len());
            (start, start.saturating_add(length as usize).min(bytes.len()))
        });
        if (end - start) as u64 > bytes_max {
            return Err(Error::new(Kind::LimitExceeded, "too many bytes"));
        }
        Ok(Bytes::from(bytes[start..end].to_vec()))
    }

    fn local_path(&self, uri: &str) -> Option<PathBuf> {
        Some(disk_path(uri))
    }
}

struct Plenty;

impl Memory for Plenty {
    fn reserve(&self, _: usize) -> Result<Box<dyn Any + Send>> {
        Ok(Box::new(()))
    }
}

/// A call of the first overload whose arguments have these Arrow types; missing arguments are NULL.
pub fn call(function: &SqlFunction, args: Vec<Arg>, rows: usize) -> Arc<Call> {
    call_overload(function, 0, args, rows)
}

/// A call of one overload.
pub fn call_overload(function: &SqlFunction, signature: usize, mut args: Vec<Arg>, rows: usize) -> Arc<Call> {
    let declaration = function.declaration().unwrap();
    args.resize_with(declaration.signatures[signature].arguments.len(), null);
    let env = Env {
        limits: Limits::default(),
        files: Arc::new(Disk),
        memory: Arc::new(Plenty),
        cancel: CancelFlag::default(),
        cores: Cores::new(2),
        counters: Arc::default(),
        models: Arc::new(()),
        default_models: Arc::new(|_| None),
    };
    Arc::new(Call { function: declaration, signature, args, rows, env: Arc::new(env) })
}

/// A constant.
pub fn constant(array: impl Array + 'static) -> Arg {
    Arg { array: Arc::new(array), constant: true }
}

/// A column.
pub fn column(array: impl Array + 'static) -> Arg {
    Arg { array: Arc::new(array), constant: false }
}

/// The constant NULL.
pub fn null() -> Arg {
    constant(NullArray::new(1))
}

/// A constant text.
pub fn constant_text(text: &str) -> Arg {
    constant(StringArray::from(vec![text]))
}

/// A column of texts.
pub fn texts(rows: &[Option<&str>]) -> Arg {
    column(StringArray::from(rows.to_vec()))
}

/// A constant integer.
pub fn int(value: i32) -> Arg {
    constant(Int32Array::from(vec![value]))
}

/// A constant bytea.
pub fn bytes(value: &[u8]) -> Arg {
    constant(LargeBinaryArray::from_vec(vec![value]))
}

/// A column of bytea.
pub fn bytes_column(rows: &[Option<Vec<u8>>]) -> Arg {
    column(LargeBinaryArray::from_opt_vec(rows.iter().map(Option::as_deref).collect()))
}

/// A file under `tests/fixtures`.
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixture_path(name)).unwrap()
}

/// Where it is.
pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Asserts that a batch has the columns the function declares.
pub fn columns_match(function: &SqlFunction, batch: &RecordBatch) {
    let declaration = function.declaration().unwrap();
    let Returns::Table(columns) = &declaration.signatures[0].returns else { panic!("{} is not set-returning", declaration.name) };
    let declared: Vec<_> = columns.iter().map(|(name, ty)| (name.clone(), ty.arrow())).collect();
    let schema = batch.schema();
    let given: Vec<_> = schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
    assert_eq!(given, declared);
}

/// Asserts that a scalar result has the declared type.
pub fn type_matches(function: &SqlFunction, array: &ArrayRef) {
    let declaration = function.declaration().unwrap();
    let Returns::Value(ty) = &declaration.signatures[0].returns else { panic!("{} is set-returning", declaration.name) };
    assert_eq!(array.data_type(), &ty.arrow());
}
