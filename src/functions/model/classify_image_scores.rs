//! `classify_image_scores`: the best labels of a picture with their probabilities.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, StringArray};
use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::classify_image::{check as check_labels, scores};
use super::service::{count_option, lists};

/// `classify_image_scores`: image (or the bytes of an image file) to setof (label, score), best first. Errors as
/// `classify_image`.
pub static CLASSIFY_IMAGE_SCORES: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/classify_image_scores.sql"), Kernel::ExpandList(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    count_option(call, "top_k")?;
    check_labels(call)
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let top_k = count_option(&call, "top_k")?.unwrap_or(5);
        let rows = scores(&call, top_k).await?;
        lists(&call, rows, |items| {
            let labels: ArrayRef = Arc::new(StringArray::from_iter_values(items.iter().map(|(_, (label, _))| label)));
            let scores: ArrayRef = Arc::new(Float32Array::from_iter_values(items.iter().map(|(_, (_, score))| *score)));
            Ok(vec![labels, scores])
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::{list_matches, model_call};
    use crate::testing::{bytes_column, constant_text, fixture, int, null};
    use arrow::array::AsArray;
    use arrow::datatypes::Float32Type;

    #[test]
    fn best_first_and_bad_rows_alone() {
        let files = bytes_column(&[Some(fixture("model/circle.png")), Some(vec![1])]);
        let args = vec![files, null(), int(3), constant_text("tiny/resnet-shapes")];
        let outcome = futures::executor::block_on(kernel(model_call(&CLASSIFY_IMAGE_SCORES, 1, args, 2))).unwrap();
        list_matches(&CLASSIFY_IMAGE_SCORES, &outcome.array);
        assert_eq!(outcome.errors[0].0, 1);
        let first = outcome.array.as_list::<i32>().value(0);
        let first = first.as_struct();
        assert_eq!(first.column(0).as_string::<i32>().value(0), "circle");
        let scores = first.column(1).as_primitive::<Float32Type>().values().to_vec();
        assert_eq!(scores.len(), 3);
        assert!((scores[0] - 0.958).abs() < 0.002 && scores.is_sorted_by(|a, b| a >= b));
    }
}
