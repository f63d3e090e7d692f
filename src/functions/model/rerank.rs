//! `rerank`: how well a document answers a query.

use std::sync::Arc;

use futures::future::BoxFuture;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_infer::registry::Task;

use super::service::{check_model, model};

/// `rerank`: query and document to real, 0 to 1. Errors: SQ001 unknown model, SQ002 not a scorer of text pairs.
pub static RERANK: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/model/rerank.sql"), Kernel::Model(kernel)).with_check(check);

fn check(call: &Call) -> Result<()> {
    check_model(call, Task::Rerank)
}

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let (models, resolved) = model(&call, Task::Rerank)?;
        let (mut some, mut pairs) = (Vec::with_capacity(call.rows), Vec::new());
        for row in 0..call.rows {
            let pair = call.text("query", row)?.zip(call.text("document", row)?);
            some.push(pair.is_some());
            pairs.extend(pair);
        }
        let mut scores = models.rerank(&resolved, &pairs).await?.into_iter();
        let lost = || Err(Error::internal("a pair has no score"));
        call.collect_rows(some.into_iter().map(|some| if some { scores.next().unwrap_or_else(lost).map(Some) } else { Ok(None) }).collect())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::testing::model_call;
    use crate::testing::{constant_text, texts};

    #[test]
    fn an_encoder_is_no_scorer() {
        let call = model_call(&RERANK, 0, vec![texts(&[]), texts(&[]), constant_text("tiny/clip-random")], 0);
        assert_eq!(check(&call).unwrap_err().sqlstate(), "SQ002");
    }
}
