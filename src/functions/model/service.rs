//! What the model functions share: the model of a call, options that are one value for the whole statement, results.
//!
//! In: a call. Out: the model service and the resolved model; columns of lists of composites.
//! Invariant: a model that is unknown or does not fit is an error of the statement when it is planned, never of a row.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use squilla_core::columns::{self, Arg};
use squilla_core::declaration::Returns;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{Call, Outcome};
use squilla_core::types::SqlType;
use squilla_infer::models::{Models, Resolved};
use squilla_infer::registry::Task;

/// The model service, for the calls of this statement.
pub(super) fn service(call: &Call) -> Result<Arc<Models>> {
    Ok(Arc::new(call.env.models::<Models>()?.for_caller(call.env.caller())))
}

/// The name given as `model`, or the default of the task.
pub(super) fn name(call: &Call, task: Task) -> Result<String> {
    if let Some(name) = call.option_text("model")? {
        return Ok(name.to_owned());
    }
    (call.env.default_models)(task.name()).filter(|name| !name.is_empty()).ok_or_else(|| {
        Error::new(Kind::ModelUnknown, format!("{} needs a model", call.function.name))
            .hint(format!("Pass model => 'name' or set squilla.default_model.{task}."))
    })
}

/// The service and the model of a call.
pub(super) fn model(call: &Call, task: Task) -> Result<(Arc<Models>, Resolved)> {
    let models = service(call)?;
    let resolved = models.resolve(task, &name(call, task)?)?;
    Ok((models, resolved))
}

/// Whether the model is known: while a statement is being planned it may not be, when rows come it must be a constant.
pub(super) fn known(call: &Call) -> Result<bool> {
    Ok(call.rows > 0 || call.arg("model")?.constant)
}

/// For `with_check`: raises when the model does not exist or does not fit the task.
pub(super) fn check_model(call: &Call, task: Task) -> Result<()> {
    if known(call)? { model(call, task).map(|_| ()) } else { Ok(()) }
}

/// An option that must be one value for the whole statement; `None` when NULL or not known yet.
fn option<'a, T>(call: &'a Call, name: &str, read: impl FnOnce(&'a Arg) -> Result<Option<T>>) -> Result<Option<T>> {
    let arg = call.arg(name)?;
    match (arg.constant, call.rows) {
        (true, _) => read(arg),
        (false, 0) => Ok(None),
        (false, _) => Err(Error::invalid_argument(format!("argument \"{name}\" of {} must be a constant", call.function.name))),
    }
}

/// A number option.
pub(super) fn float_option(call: &Call, name: &str) -> Result<Option<f64>> {
    option(call, name, |arg| columns::float(arg, 0))
}

/// A whole number option, at least 1.
pub(super) fn count_option(call: &Call, name: &str) -> Result<Option<usize>> {
    let Some(value) = option(call, name, |arg| columns::int(arg, 0))? else { return Ok(None) };
    match usize::try_from(value) {
        Ok(value) if value > 0 => Ok(Some(value)),
        _ => Err(Error::invalid_argument(format!("{name} must be at least 1"))),
    }
}

/// A boolean option.
pub(super) fn boolean_option(call: &Call, name: &str) -> Result<Option<bool>> {
    option(call, name, |arg| columns::boolean(arg, 0))
}

/// A text[] option.
pub(super) fn texts_option(call: &Call, name: &str) -> Result<Option<Vec<String>>> {
    option(call, name, |arg| columns::texts(arg, 0))
}

/// A share option, 0 to 1.
pub(super) fn share_option(call: &Call, name: &str, default: f32) -> Result<f32> {
    match float_option(call, name)? {
        None => Ok(default),
        Some(value) if (0.0..=1.0).contains(&value) => Ok(value as f32),
        Some(value) => Err(Error::invalid_argument(format!("{name} is {value}, it must be between 0 and 1"))),
    }
}

/// Rows of `Vec<T>` as a column of lists of the composite that the function declares. `build` makes the columns of all
/// items of all rows, in order.
pub(super) fn lists<T>(
    call: &Call,
    rows: Vec<Result<Option<Vec<T>>>>,
    build: impl FnOnce(&[(usize, T)]) -> Result<Vec<ArrayRef>>,
) -> Result<Outcome> {
    let composite = match &call.signature()?.returns {
        Returns::Table(columns) => SqlType::Record(columns.clone()),
        Returns::Value(SqlType::Array(element)) => element.as_ref().clone(),
        Returns::Value(other) => return Err(Error::internal(format!("{} is not a list of composites", other.name()))),
    };
    let (mut items, mut lengths, mut valid, mut errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (row, result) in rows.into_iter().enumerate() {
        let list = match result {
            Ok(list) => list,
            Err(error) if error.is_row_error() => {
                errors.push((row, error));
                None
            }
            Err(error) => return Err(error),
        };
        valid.push(list.is_some());
        let list = list.unwrap_or_default();
        lengths.push(list.len());
        // Numbered from 1 within its row.
        items.extend(list.into_iter().enumerate().map(|(number, item)| (number + 1, item)));
    }
    let nulls = NullBuffer::new_valid(items.len());
    let values = columns::structure(&composite, build(&items)?, nulls)?;
    let array = columns::list_of(values, lengths, Some(NullBuffer::from(valid)))?;
    Ok(Outcome { array, errors })
}
