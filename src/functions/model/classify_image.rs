//! `classify_image`: the label of a picture.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::models::{Models, Resolved, Scores};
use squilla_infer::pictures::{Picture, Pictures, check_labels};
use squilla_infer::registry::Task;

use super::pictures::{PictureModel, each_picture};
use super::service::{check_model, known, model, texts_option};

/// `classify_image`: image (or the bytes of an image file) to its best label. Errors: SQ001 unknown model, SQ002 not a
/// classifier or labels that do not fit it, 22P03 not an image.
pub static CLASSIFY_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/classify_image.sql"), Kernel::Model(kernel)).with_check(check);

pub(super) fn check(call: &Call) -> Result<()> {
    let labels = labels(call)?;
    check_model(call, Task::ClassifyImage)?;
    if known(call)? && call.arg("labels")?.constant {
        check_labels(&model(call, Task::ClassifyImage)?.1, labels.as_deref())?;
    }
    Ok(())
}

fn labels(call: &Call) -> Result<Option<Vec<String>>> {
    let labels = texts_option(call, "labels")?;
    if labels.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::invalid_argument("the list of labels is empty"));
    }
    Ok(labels)
}

struct Classifier {
    models: Arc<Models>,
    model: Resolved,
    labels: Option<Vec<String>>,
    top_k: usize,
}

impl PictureModel for Classifier {
    type Out = Scores;

    fn model(&self) -> (&Models, &Resolved) {
        (&self.models, &self.model)
    }

    fn run<'a>(&'a self, pictures: &'a Pictures, ready: Vec<Picture>) -> BoxFuture<'a, Result<Vec<Result<Scores>>>> {
        Box::pin(self.models.classify(&self.model, pictures, ready, self.labels.as_deref(), self.top_k))
    }
}

/// The best `top_k` labels of each row's picture.
pub(super) async fn scores(call: &Call, top_k: usize) -> Result<Vec<Result<Option<Scores>>>> {
    let (models, model) = model(call, Task::ClassifyImage)?;
    let classifier = Classifier { models, model, labels: labels(call)?, top_k };
    each_picture(call, "image", "data", &classifier).await
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let rows = scores(&call, 1).await?;
        let best = |scores: Option<Scores>| scores.and_then(|s| s.into_iter().next()).map(|(label, _)| label);
        call.collect_rows(rows.into_iter().map(|row| row.map(best)).collect())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::picture;
    use crate::model::testing::{list_of_texts, model_call};
    use crate::testing::{constant_text, null, type_matches};
    use arrow::array::AsArray;
    use squilla_core::columns::{Arg, Output};
    use squilla_core::values::Image;

    fn labels(model: &str, labels: Arg) -> Result<Vec<String>> {
        let images = Image::build(vec![Some(picture("model/circle.png")), Some(picture("model/square.jpg"))]).unwrap();
        let args = vec![Arg { array: images, constant: false }, labels, constant_text(model)];
        let outcome = futures::executor::block_on(kernel(model_call(&CLASSIFY_IMAGE, 0, args, 2)))?;
        type_matches(&CLASSIFY_IMAGE, &outcome.array);
        Ok(outcome.array.as_string::<i32>().iter().map(|v| v.unwrap().to_owned()).collect())
    }

    #[test]
    fn own_classes_and_given_labels() {
        assert_eq!(labels("tiny/resnet-shapes", null()).unwrap(), ["circle", "square"]);
        let given = labels("tiny/clip-random", list_of_texts(&["a circle", "stripes"])).unwrap();
        assert!(given.iter().all(|l| l == "a circle" || l == "stripes"));
        assert_eq!(labels("tiny/resnet-shapes", list_of_texts(&["x"])).unwrap_err().sqlstate(), "SQ002");
        assert_eq!(labels("tiny/clip-random", null()).unwrap_err().sqlstate(), "SQ002");
        assert_eq!(labels("tiny/clip-random", list_of_texts(&[])).unwrap_err().sqlstate(), "22023");
    }
}
