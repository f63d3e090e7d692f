//! `predict`: a row of numbers through any ONNX graph.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::columns;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::registry::Task;

use super::service::{check_model, model};

/// `predict`: model and numbers to real[], the first output of the graph. Errors: SQ001 unknown model, SQ002 not a single
/// graph, 22023 another count of numbers than the graph takes.
pub static PREDICT: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/model/predict.sql"), Kernel::Model(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    check_model(call, Task::Predict)
}

/// The numbers of a row; `None` when one is NULL. An array given as the only input counts as its elements.
fn numbers(call: &Call, row: usize) -> Result<Option<Vec<f32>>> {
    let first = call.signature()?.position("inputs").ok_or_else(|| Error::internal("predict has no inputs"))?;
    let mut out = Vec::with_capacity(call.args.len());
    for arg in call.args.get(first..).unwrap_or_default() {
        if matches!(arg.array.data_type(), t if t.is_nested()) {
            let Some(values) = columns::floats(arg, row)? else { return Ok(None) };
            out.extend_from_slice(values.values());
            continue;
        }
        let Some(value) = columns::float(arg, row)? else { return Ok(None) };
        out.push(value as f32);
    }
    Ok(Some(out))
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let (models, resolved) = model(&call, Task::Predict)?;
        let (mut rows, mut given) = (Vec::with_capacity(call.rows), Vec::new());
        for row in 0..call.rows {
            let numbers = numbers(&call, row)?;
            rows.push(numbers.is_some());
            given.extend(numbers);
        }
        let mut results = models.predict_rows(&resolved, &given).await?.into_iter();
        let lost = || Err(Error::internal("a row has no prediction"));
        call.collect_rows(rows.into_iter().map(|some| if some { results.next().unwrap_or_else(lost).map(Some) } else { Ok(None) }).collect())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{column, constant_text, type_matches};
    use arrow::array::{Array, AsArray, Float64Array};
    use arrow::datatypes::Float32Type;

    fn predict(columns: Vec<Vec<Option<f64>>>) -> Outcome {
        let rows = columns[0].len();
        let mut args = vec![constant_text("models/linear")];
        args.extend(columns.into_iter().map(|c| column(Float64Array::from(c))));
        futures::executor::block_on(kernel(model_call(&PREDICT, 0, args, rows))).unwrap()
    }

    #[test]
    fn numbers_go_in_and_come_out() {
        // The graph of the fixture: y = x0 + 2 x1 + 3 x2.
        let outcome = predict(vec![vec![Some(1.0), Some(0.0), None], vec![Some(1.0), Some(1.0), Some(1.0)], vec![Some(1.0), Some(-1.0), Some(1.0)]]);
        type_matches(&PREDICT, &outcome.array);
        let lists = outcome.array.as_list::<i32>();
        assert_eq!(lists.value(0).as_primitive::<Float32Type>().values().to_vec(), [6.0]);
        assert_eq!(lists.value(1).as_primitive::<Float32Type>().values().to_vec(), [-1.0]);
        assert!(lists.is_null(2));
        assert_eq!(predict(vec![vec![Some(1.0)]]).errors[0].1.sqlstate(), "22023");
    }
}
