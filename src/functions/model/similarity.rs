//! `text_similarity` and `image_similarity`: how near two values are in the space of an encoder.
//!
//! In: pairs. Out: the cosine of their vectors, -1 to 1. Invariant: each distinct text of a pack is embedded once.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::models::EmbedOptions;
use squilla_infer::registry::Task;

use super::embed_image::Embedder;
use super::embed_text::distinct;
use super::pictures::each_picture;
use super::service::{check_model, model};

/// `text_similarity`: two texts to real. Errors: SQ001 unknown model, SQ002 not a text encoder.
pub static TEXT_SIMILARITY: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/text_similarity.sql"), Kernel::Model(texts)).with_check(check_text);

/// `image_similarity`: two images (or the bytes of image files) to real. Errors: SQ001 unknown model, SQ002 not an image
/// encoder, 22P03 not an image.
pub static IMAGE_SIMILARITY: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/image_similarity.sql"), Kernel::Model(images)).with_check(check_image);

fn check_text(call: &Call) -> Result<()> {
    check_model(call, Task::EmbedText)
}

fn check_image(call: &Call) -> Result<()> {
    check_model(call, Task::EmbedImage)
}

type Vectors = Vec<Result<Option<Vec<f32>>>>;

/// Both vectors have length 1.
fn cosines(call: &Call, a: Vectors, b: Vectors) -> Result<Outcome> {
    let dot = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).map(|(x, y)| x * y).sum::<f32>().clamp(-1.0, 1.0);
    call.collect_rows(a.into_iter().zip(b).map(|(a, b)| Ok(a?.zip(b?).map(|(a, b)| dot(a, b)))).collect())
}

fn texts(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let (models, resolved) = model(&call, Task::EmbedText)?;
        let column = |name: &str| (0..call.rows).map(|row| call.text(name, row)).collect::<Result<Vec<_>>>();
        let both = [column("a")?, column("b")?].concat();
        let mut vectors = distinct(&models, &resolved, &both, &EmbedOptions::default()).await?;
        let second = vectors.split_off(call.rows);
        cosines(&call, vectors, second)
    })
}

fn images(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let embedder = Embedder::new(&call, EmbedOptions::default())?;
        let first = each_picture(&call, "a", "data_a", &embedder).await?;
        let second = each_picture(&call, "b", "data_b", &embedder).await?;
        cosines(&call, first, second)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{bytes, bytes_column, constant_text, fixture, texts as column, type_matches};
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float32Type;

    #[test]
    fn equal_values_are_nearest() {
        let args = vec![column(&[Some("a red circle"), Some("stripes"), None]), constant_text("stripes"), constant_text("tiny/clip-random")];
        let outcome = futures::executor::block_on(texts(model_call(&TEXT_SIMILARITY, 0, args, 3))).unwrap();
        type_matches(&TEXT_SIMILARITY, &outcome.array);
        let got = outcome.array.as_primitive::<Float32Type>();
        assert!((got.value(1) - 1.0).abs() < 1e-5 && got.value(0) < 0.99 && got.is_null(2));
        let circle = fixture("model/circle.png");
        let args = vec![bytes(&circle), bytes_column(&[Some(circle.clone()), Some(fixture("model/square.jpg"))]), constant_text("tiny/clip-random")];
        let outcome = futures::executor::block_on(images(model_call(&IMAGE_SIMILARITY, 1, args, 2))).unwrap();
        let got = outcome.array.as_primitive::<Float32Type>();
        assert!((got.value(0) - 1.0).abs() < 1e-5 && got.value(1) < got.value(0));
    }
}
