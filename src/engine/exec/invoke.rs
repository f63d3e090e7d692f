//! One call over one pack of rows: STRICT, the kernel, and what becomes of rows that failed.
//!
//! In: evaluated arguments. Out: one column. Invariant: a kernel of a strict function sees no row with a NULL in a
//! strict argument and is not called at all when no row is left; the result has one value per input row, in order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter, is_not_null, take};
use datafusion::common::runtime::SpawnedTask;
use squilla_core::columns::{self, Arg};
use squilla_core::declaration::Returns;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Env, Kernel, Outcome, guarded};
use squilla_core::types::SqlType;

use crate::error::from_arrow;
use crate::exec::env::StatementEnv;
use crate::exec::row_errors::OnError;
use crate::udf::Function;

/// The composite that on_error => 'keep' gives.
pub fn kept_type(ty: &SqlType) -> SqlType {
    let error = SqlType::Record(vec![("code".into(), SqlType::Text), ("message".into(), SqlType::Text)]);
    SqlType::Record(vec![("value".into(), ty.clone()), ("error".into(), error)])
}

/// Evaluates a cheap call where it stands.
pub fn in_place(entry: &Arc<Function>, signature: usize, args: Vec<Arg>, rows: usize, env: &Arc<Env>) -> Result<ArrayRef> {
    let (Kernel::Scalar(kernel) | Kernel::Media(kernel)) = entry.function.kernel else {
        return Err(Error::unsupported(format!("{} cannot be used in this place of a statement", entry.declaration.name))
            .hint("Compute it in a subquery or a common table expression, and use its column."));
    };
    let strict = Strict::of(entry, signature, &args, rows, None)?;
    let Some(call) = strict.call(entry, signature, args, env)? else { return strict.nulls(entry, signature) };
    let outcome = kernel(&call)?;
    if let Some((_, error)) = outcome.errors.into_iter().next() {
        return Err(error);
    }
    strict.scatter(outcome.array)
}

/// Which rows of a pack a strict function is called for.
struct Strict {
    rows: usize,
    /// None: all rows.
    kept: Option<BooleanArray>,
}

impl Strict {
    fn of(entry: &Function, signature: usize, args: &[Arg], rows: usize, guard: Option<&BooleanArray>) -> Result<Self> {
        let signature = entry.declaration.signatures.get(signature).ok_or_else(|| Error::internal("no such overload"))?;
        let mut kept: Option<BooleanArray> = guard.map(|g| BooleanArray::from_iter((0..rows).map(|i| Some(g.is_valid(i) && g.value(i)))));
        for (position, arg) in args.iter().enumerate() {
            let declared = signature.arguments.get(position).or(signature.arguments.last());
            if !signature.strict || !declared.is_some_and(|a| a.strict()) {
                continue;
            }
            let mask = if arg.array.data_type() == &arrow::datatypes::DataType::Null || (arg.constant && arg.array.is_null(0)) {
                BooleanArray::from(vec![false; rows])
            } else if arg.constant || arg.array.null_count() == 0 {
                continue;
            } else {
                is_not_null(&arg.array).map_err(from_arrow)?
            };
            kept = Some(match kept {
                Some(kept) => arrow::compute::and(&kept, &mask).map_err(from_arrow)?,
                None => mask,
            });
        }
        Ok(Self { rows, kept: kept.filter(|k| k.true_count() < rows) })
    }

    fn call_rows(&self) -> usize {
        self.kept.as_ref().map_or(self.rows, BooleanArray::true_count)
    }

    /// The call over the kept rows; None when no row is left.
    fn call(&self, entry: &Arc<Function>, signature: usize, args: Vec<Arg>, env: &Arc<Env>) -> Result<Option<Call>> {
        let rows = self.call_rows();
        if rows == 0 {
            return Ok(None);
        }
        let args = match &self.kept {
            None => args,
            Some(kept) => args
                .into_iter()
                .map(|arg| if arg.constant { Ok(arg) } else { Ok(Arg { array: filter(&arg.array, kept).map_err(from_arrow)?, constant: false }) })
                .collect::<Result<_>>()?,
        };
        Ok(Some(Call { function: Arc::clone(&entry.declaration), signature, args, rows, env: Arc::clone(env) }))
    }

    fn nulls(&self, entry: &Function, signature: usize) -> Result<ArrayRef> {
        match entry.declaration.signatures.get(signature).map(|s| &s.returns) {
            Some(Returns::Value(ty)) => Ok(columns::nulls(ty, self.rows)),
            Some(Returns::Table(fields)) => Ok(columns::nulls(&SqlType::Array(Box::new(SqlType::Record(fields.clone()))), self.rows)),
            None => Err(Error::internal("no such overload")),
        }
    }

    /// Indices of the original rows of the kept ones.
    fn original_rows(&self) -> Vec<usize> {
        match &self.kept {
            None => (0..self.rows).collect(),
            Some(kept) => (0..self.rows).filter(|i| kept.value(*i)).collect(),
        }
    }

    /// Puts the results of the kept rows back in their places.
    fn scatter(&self, array: ArrayRef) -> Result<ArrayRef> {
        let Some(kept) = &self.kept else { return Ok(array) };
        let mut next = 0u32;
        let indices: UInt32Array = (0..self.rows)
            .map(|i| {
                kept.value(i).then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        take(&array, &indices, None).map_err(from_arrow)
    }
}

/// A call as an operator runs it.
#[derive(Clone)]
pub struct CallSpec {
    /// The function.
    pub entry: Arc<Function>,
    /// The overload.
    pub signature: usize,
    /// What becomes of failing rows.
    pub on_error: OnError,
    /// Whether failures are recorded and counted (`try()` does not).
    pub recorded: bool,
}

/// The error of a row, with the file that the row came from.
pub fn of_file(mut error: Error, uri: Option<String>) -> Error {
    if let Some(uri) = uri {
        let before = error.detail.take().map(|detail| format!("{detail} ")).unwrap_or_default();
        error.detail = Some(format!("{before}Source: {uri}."));
    }
    error
}

/// Runs a call over a pack: its values, and how many rows failed. `env` is what the call sees. `uri` names the source of a row for the error log.
pub async fn run(
    spec: &CallSpec,
    args: Vec<Arg>,
    rows: usize,
    guard: Option<&BooleanArray>,
    statement: &Arc<StatementEnv>,
    env: &Arc<Env>,
    uri: impl Fn(usize) -> Option<String>,
) -> Result<(ArrayRef, usize)> {
    env.cancel.check()?;
    let strict = Strict::of(&spec.entry, spec.signature, &args, rows, guard)?;
    let Some(call) = strict.call(&spec.entry, spec.signature, args, env)? else {
        let nulls = strict.nulls(&spec.entry, spec.signature)?;
        let nulls = if spec.on_error == OnError::Keep { keep(nulls, &[], rows)? } else { nulls };
        return Ok((nulls, 0));
    };
    let called = call.rows;
    let outcome = kernel(spec, call).await?;
    if outcome.array.len() != called {
        return Err(Error::internal(format!("{} gave {} values for {called} rows", spec.entry.declaration.name, outcome.array.len())));
    }
    let original = strict.original_rows();
    let errors: Vec<(usize, Error)> = outcome.errors.into_iter().filter_map(|(row, error)| original.get(row).map(|r| (*r, error))).collect();
    let array = strict.scatter(outcome.array)?;
    match spec.on_error {
        OnError::Raise => {
            if let Some((row, error)) = errors.into_iter().next() {
                return Err(of_file(error, uri(row)));
            }
            if spec.recorded {
                statement.errors.record(&spec.entry.declaration.name, called, &[])?;
            }
            Ok((array, 0))
        }
        OnError::Null => {
            let count = errors.len();
            if spec.recorded {
                let failed: Vec<_> = errors.into_iter().map(|(row, error)| (uri(row), error)).collect();
                statement.errors.record(&spec.entry.declaration.name, called, &failed)?;
            }
            Ok((array, count))
        }
        OnError::Keep => keep(array, &errors, rows).map(|kept| (kept, errors.len())),
    }
}

async fn kernel(spec: &CallSpec, call: Call) -> Result<Outcome> {
    match spec.entry.function.kernel {
        Kernel::Scalar(f) => f(&call),
        Kernel::Media(f) => {
            let permit = call.env.cores.acquire(1).await;
            let task = SpawnedTask::spawn_blocking(move || {
                let _permit = permit;
                guarded(|| f(&call))
            });
            task.await.map_err(|e| Error::internal(format!("a decoding task failed: {e}")))?
        }
        Kernel::Fetch(f) | Kernel::Model(f) | Kernel::ExpandList(f) => f(Arc::new(call)).await,
        Kernel::Expand(_) | Kernel::Rows(_) => Err(Error::internal("a set-returning call cannot be a value")),
    }
}

/// The composite (value, error) of on_error => 'keep'.
fn keep(values: ArrayRef, errors: &[(usize, Error)], rows: usize) -> Result<ArrayRef> {
    let mut codes: Vec<Option<&str>> = vec![None; rows];
    let mut messages: Vec<Option<&str>> = vec![None; rows];
    for (row, error) in errors {
        if let (Some(code), Some(message)) = (codes.get_mut(*row), messages.get_mut(*row)) {
            (*code, *message) = (Some(error.sqlstate()), Some(error.message.as_str()));
        }
    }
    let failed: NullBuffer = codes.iter().map(Option::is_some).collect();
    let text = SqlType::Text.arrow();
    let fields = |names: [(&str, arrow::datatypes::DataType); 2]| -> arrow::datatypes::Fields {
        names.into_iter().map(|(n, t)| arrow::datatypes::Field::new(n, t, true)).collect()
    };
    let error = StructArray::try_new(
        fields([("code", text.clone()), ("message", text)]),
        vec![Arc::new(StringArray::from(codes)), Arc::new(StringArray::from(messages))],
        Some(failed),
    )
    .map_err(from_arrow)?;
    let kept_fields = fields([("value", values.data_type().clone()), ("error", error.data_type().clone())]);
    let kept = StructArray::try_new(kept_fields, vec![values, Arc::new(error)], None).map_err(from_arrow)?;
    Ok(Arc::new(kept))
}
