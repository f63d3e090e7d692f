//! `detections`: the objects in a picture, as one array.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

use super::detect::{check, columns, objects};
use super::service::lists;

/// `detections`: image (or the bytes of an image file) to detection[], best first. Errors as `detect`.
pub static DETECTIONS: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/detections.sql"), Kernel::Model(kernel)).with_check(check);

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let rows = objects(&call).await?;
        lists(&call, rows, columns)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::picture;
    use crate::model::testing::model_call;
    use crate::testing::{constant, constant_text, int, null, type_matches};
    use arrow::array::{AsArray, Float32Array};
    use squilla_core::columns::{Arg, Output};
    use squilla_core::values::Image;

    #[test]
    fn an_array_a_row() {
        let images = Arg { array: Image::build(vec![Some(picture("model/shapes.jpg"))]).unwrap(), constant: false };
        let number = |v: f32| constant(Float32Array::from(vec![v]));
        let args = vec![images, number(0.25), number(0.45), null(), int(2), constant_text("tiny/yolo-shapes")];
        let outcome = futures::executor::block_on(kernel(model_call(&DETECTIONS, 0, args, 1))).unwrap();
        type_matches(&DETECTIONS, &outcome.array);
        assert_eq!(outcome.array.as_list::<i32>().value(0).len(), 2);
    }
}
