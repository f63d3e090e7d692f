//! `embed_image`: a picture to a vector.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::models::{EmbedOptions, Models, Resolved};
use squilla_infer::pictures::{Picture, Pictures};
use squilla_infer::registry::Task;

use super::pictures::{PictureModel, each_picture};
use super::service::{boolean_option, check_model, count_option, model};

/// `embed_image`: image (or the bytes of an image file) to vector. Errors: SQ001 unknown model, SQ002 not an image
/// encoder, 22P03 not an image.
pub static EMBED_IMAGE: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/embed_image.sql"), Kernel::Model(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    options(call)?;
    check_model(call, Task::EmbedImage)
}

fn options(call: &Call) -> Result<EmbedOptions> {
    let normalize = boolean_option(call, "normalize")?.unwrap_or(true);
    Ok(EmbedOptions { normalize, dims: count_option(call, "dims")?, ..EmbedOptions::default() })
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let embedder = Embedder::new(&call, options(&call)?)?;
        call.collect_rows(each_picture(&call, "image", "data", &embedder).await?)
    })
}

/// Pictures to vectors.
pub(super) struct Embedder {
    models: Arc<Models>,
    model: Resolved,
    options: EmbedOptions,
}

impl Embedder {
    /// With the model of the call.
    pub(super) fn new(call: &Call, options: EmbedOptions) -> Result<Self> {
        let (models, model) = model(call, Task::EmbedImage)?;
        Ok(Self { models, model, options })
    }
}

impl PictureModel for Embedder {
    type Out = Vec<f32>;

    fn model(&self) -> (&Models, &Resolved) {
        (&self.models, &self.model)
    }

    fn run<'a>(&'a self, pictures: &'a Pictures, ready: Vec<Picture>) -> BoxFuture<'a, Result<Vec<Result<Vec<f32>>>>> {
        Box::pin(self.models.embed_image(pictures, ready, &self.options))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{bytes_column, constant_text, fixture, type_matches};
    use arrow::array::Array;

    #[test]
    fn files_are_decoded_and_bad_ones_fail_alone() {
        let files = [Some(fixture("model/circle.png")), Some(b"junk".to_vec()), None, Some(fixture("model/square.jpg"))];
        let args = vec![bytes_column(&files), constant_text("tiny/clip-random")];
        let outcome = futures::executor::block_on(kernel(model_call(&EMBED_IMAGE, 1, args, 4))).unwrap();
        type_matches(&EMBED_IMAGE, &outcome.array);
        assert_eq!(outcome.array.null_count(), 2);
        assert_eq!(outcome.errors.iter().map(|(row, e)| (*row, e.sqlstate())).collect::<Vec<_>>(), [(1, "22P03")]);
    }
}
