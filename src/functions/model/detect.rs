//! `detect`: the objects in a picture, one row each.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, StringArray};
use futures::future::BoxFuture;
use squilla_core::columns::Output;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::values::BoundingBox;
use squilla_infer::detect::{DetectOptions, Detection};
use squilla_infer::models::{Models, Resolved};
use squilla_infer::pictures::{Picture, Pictures};
use squilla_infer::registry::Task;

use super::pictures::{PictureModel, each_picture};
use super::service::{check_model, count_option, lists, model, share_option, texts_option};

/// `detect`: image (or the bytes of an image file) to setof (det_no, label, class_id, score, box, x1, y1, x2, y2), best
/// first. Errors: SQ001 unknown model, SQ002 not a detector, 22023 bad option, 22P03 not an image.
pub static DETECT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/detect.sql"), Kernel::ExpandList(kernel)).with_check(check);

pub(super) fn check(call: &Call) -> Result<()> {
    options(call)?;
    check_model(call, Task::Detect)
}

fn options(call: &Call) -> Result<DetectOptions> {
    let default = DetectOptions::default();
    Ok(DetectOptions {
        min_score: share_option(call, "min_score", default.min_score)?,
        iou: share_option(call, "iou", default.iou)?,
        classes: texts_option(call, "classes")?,
        max_detections: count_option(call, "max_detections")?.unwrap_or(default.max_detections),
    })
}

struct Detector {
    models: Arc<Models>,
    model: Resolved,
    options: DetectOptions,
}

impl PictureModel for Detector {
    type Out = Vec<Detection>;

    const PLACES: bool = true;

    fn model(&self) -> (&Models, &Resolved) {
        (&self.models, &self.model)
    }

    fn run<'a>(&'a self, pictures: &'a Pictures, ready: Vec<Picture>) -> BoxFuture<'a, Result<Vec<Result<Vec<Detection>>>>> {
        Box::pin(self.models.detect(&self.model, pictures, ready, &self.options))
    }
}

/// The objects in each row's picture.
pub(super) async fn objects(call: &Call) -> Result<Vec<Result<Option<Vec<Detection>>>>> {
    let (models, model) = model(call, Task::Detect)?;
    each_picture(call, "image", "data", &Detector { models, model, options: options(call)? }).await
}

/// The columns label, class_id, score and box.
pub(super) fn columns(items: &[(usize, Detection)]) -> Result<Vec<ArrayRef>> {
    let class = |d: &Detection| i32::try_from(d.class_id).unwrap_or(i32::MAX);
    Ok(vec![
        Arc::new(StringArray::from_iter_values(items.iter().map(|(_, d)| &d.label))),
        Arc::new(Int32Array::from_iter_values(items.iter().map(|(_, d)| class(d)))),
        Arc::new(Float32Array::from_iter_values(items.iter().map(|(_, d)| d.score))),
        BoundingBox::build(items.iter().map(|(_, d)| Some(d.bbox)).collect())?,
    ])
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let rows = objects(&call).await?;
        lists(&call, rows, |items| {
            let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
            let side =
                |get: fn(&BoundingBox) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter_values(items.iter().map(|(_, d)| get(&d.bbox)))) };
            let mut out: Vec<ArrayRef> = vec![Arc::new(Int32Array::from_iter_values(items.iter().map(|(n, _)| number(*n))))];
            out.extend(columns(items)?);
            out.extend([side(|b| b.x1), side(|b| b.y1), side(|b| b.x2), side(|b| b.y2)]);
            Ok(out)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::{list_matches, list_of_texts, model_call};
    use crate::testing::{bytes_column, constant, constant_text, fixture, int, null};
    use arrow::array::{AsArray, Float32Array};
    use squilla_core::columns::Arg;

    fn found(min_score: f32, classes: Arg) -> Result<Vec<Vec<String>>> {
        let files = bytes_column(&[Some(fixture("model/shapes.jpg")), None]);
        let number = |v: f32| constant(Float32Array::from(vec![v]));
        let args = vec![files, number(min_score), number(0.45), classes, int(300), constant_text("tiny/yolo-shapes")];
        let outcome = futures::executor::block_on(kernel(model_call(&DETECT, 1, args, 2)))?;
        list_matches(&DETECT, &outcome.array);
        let lists = outcome.array.as_list::<i32>();
        let labels = |row| lists.value(row).as_struct().column(1).as_string::<i32>().iter().map(|l| l.unwrap().to_owned()).collect();
        Ok((0..2).map(labels).collect())
    }

    #[test]
    fn objects_of_each_row() {
        let all = found(0.25, null()).unwrap();
        assert_eq!(all, [vec!["circle", "circle", "circle", "triangle"], vec![]]);
        assert_eq!(found(0.9, null()).unwrap()[0].len(), 2);
        assert_eq!(found(0.25, list_of_texts(&["triangle"])).unwrap()[0], ["triangle"]);
        assert_eq!(found(2.0, null()).unwrap_err().sqlstate(), "22023");
        assert_eq!(found(0.25, list_of_texts(&["dog"])).unwrap_err().sqlstate(), "22023");
    }
}
