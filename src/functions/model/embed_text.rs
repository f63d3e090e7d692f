//! `embed_text`: a text to a vector.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::models::{EmbedOptions, Models, Resolved};
use squilla_infer::registry::Task;

use super::service::{boolean_option, check_model, count_option, model};

/// `embed_text`: text to vector. Errors: SQ001 unknown model, SQ002 not a text encoder, 22023 bad option or text too long.
pub static EMBED_TEXT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/embed_text.sql"), Kernel::Model(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    options(call)?;
    check_model(call, Task::EmbedText)
}

fn options(call: &Call) -> Result<EmbedOptions> {
    let kind = call.option_text("kind")?;
    if let Some(kind) = kind.filter(|k| !matches!(*k, "query" | "document")) {
        return Err(Error::invalid_argument(format!("unknown kind \"{kind}\"")).hint("Kinds are query and document."));
    }
    Ok(EmbedOptions {
        kind: kind.map(str::to_owned),
        normalize: boolean_option(call, "normalize")?.unwrap_or(true),
        dims: count_option(call, "dims")?,
        truncate: boolean_option(call, "truncate")?.unwrap_or(true),
    })
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let (models, resolved) = model(&call, Task::EmbedText)?;
        let options = options(&call)?;
        let texts = (0..call.rows).map(|row| call.text("text", row)).collect::<Result<Vec<_>>>()?;
        call.collect_rows(distinct(&models, &resolved, &texts, &options).await?)
    })
}

/// The vector of each text, each distinct text embedded once.
pub(super) async fn distinct(
    models: &Models,
    model: &Resolved,
    texts: &[Option<&str>],
    options: &EmbedOptions,
) -> Result<Vec<Result<Option<Vec<f32>>>>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut unique = Vec::new();
    for text in texts.iter().flatten() {
        places.entry(text).or_insert_with(|| {
            unique.push(*text);
            unique.len() - 1
        });
    }
    models.shared(texts.iter().flatten().count() - unique.len());
    let vectors = models.embed_text(model, &unique, options).await?;
    let of = |text: &str| {
        let vector = places.get(text).and_then(|place| vectors.get(*place));
        vector.ok_or_else(|| Error::internal("a text has no vector"))?.clone().map(Some)
    };
    Ok(texts.iter().map(|text| text.map_or(Ok(None), of)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{constant_text, int, null, texts, type_matches};
    use arrow::array::Array;
    use squilla_core::columns::{Arg, floats};

    #[test]
    fn equal_texts_have_equal_vectors_of_length_one() {
        let rows = texts(&[Some("a red circle"), None, Some("stripes"), Some("a red circle")]);
        let outcome = futures::executor::block_on(kernel(model_call(&EMBED_TEXT, 0, vec![rows, constant_text("tiny/clip-random")], 4))).unwrap();
        type_matches(&EMBED_TEXT, &outcome.array);
        assert_eq!((outcome.array.null_count(), outcome.errors.len()), (1, 0));
        let arg = Arg { array: outcome.array, constant: false };
        let vector = |row| floats(&arg, row).unwrap().unwrap().values().to_vec();
        assert_eq!(vector(0), vector(3));
        assert_eq!(vector(0).len(), 32);
        assert!((vector(2).iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn wrong_models_and_options_raise_when_planned() {
        let with = |name: &str, dims| check(&model_call(&EMBED_TEXT, 0, vec![texts(&[]), constant_text(name), dims], 0));
        assert!(with("tiny/clip-random", null()).is_ok());
        assert_eq!(with("tiny/clip-randon", null()).unwrap_err().sqlstate(), "SQ001");
        assert_eq!(with("tiny/resnet-shapes", null()).unwrap_err().sqlstate(), "SQ002");
        assert_eq!(with("tiny/clip-random", int(0)).unwrap_err().sqlstate(), "22023");
        let none = check(&model_call(&EMBED_TEXT, 0, vec![texts(&[])], 0)).unwrap_err();
        assert!(none.hint.unwrap().contains("squilla.default_model.embed_text"));
    }
}
