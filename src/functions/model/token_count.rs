//! `token_count`: how many tokens a model makes of a text.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::models::{Models, Resolved};
use squilla_infer::registry::Task;

use super::service::{name, service};

/// `token_count`: text to integer. Errors: SQ001 unknown model, SQ002 model without a tokenizer.
pub static TOKEN_COUNT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/model/token_count.sql"), Kernel::Media(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    if call.rows == 0 && !call.arg("model")?.constant { Ok(()) } else { tokenizer(call).map(|_| ()) }
}

fn tokenizer(call: &Call) -> Result<(std::sync::Arc<Models>, Resolved)> {
    let models = service(call)?;
    let resolved = models.resolve_tokenizer(&name(call, Task::EmbedText)?)?;
    Ok((models, resolved))
}

fn kernel(call: &Call) -> Result<Outcome> {
    let (models, resolved) = tokenizer(call)?;
    call.map_rows(|row| {
        let Some(text) = call.text("text", row)? else { return Ok(None) };
        let count = models.token_count(&resolved, &[text])?.pop().unwrap_or(Ok(0))?;
        i32::try_from(count).map(Some).map_err(|_| Error::internal("a text of too many tokens"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{constant_text, texts, type_matches};
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    #[test]
    fn special_tokens_count() {
        let rows = texts(&[Some("a"), None, Some("a photo of a red circle")]);
        let outcome = kernel(&model_call(&TOKEN_COUNT, 0, vec![rows, constant_text("tiny/clip-random")], 3)).unwrap();
        type_matches(&TOKEN_COUNT, &outcome.array);
        let counts = outcome.array.as_primitive::<Int32Type>();
        assert_eq!((counts.value(0), counts.value(2)), (3, 8));
        let wrong = model_call(&TOKEN_COUNT, 0, vec![texts(&[]), constant_text("tiny/resnet-shapes")], 0);
        assert_eq!(check(&wrong).unwrap_err().sqlstate(), "SQ002");
    }
}
