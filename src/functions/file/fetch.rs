//! Many files at once.
//!
//! In: a call and what to do for one row. Out: the column. Invariant: results come in the order of the rows, at most
//! [`ROWS_AT_ONCE`] requests wait at one time, and none is begun after the statement was cancelled.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use squilla_core::columns::Output;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Outcome};

/// Requests of one pack under way; the limits per host and on bytes are those of [`squilla_core::kernel::Files`].
const ROWS_AT_ONCE: usize = 32;

/// Runs `each` for every row.
pub(super) async fn rows<T, F, W>(call: Arc<Call>, each: F) -> Result<Outcome>
where
    T: Output,
    F: Fn(Arc<Call>, usize) -> W,
    W: Future<Output = Result<Option<T>>>,
{
    let results: Vec<Result<Option<T>>> = futures::stream::iter(0..call.rows)
        .map(|row| {
            let started = call.env.cancel.check().map(|()| each(Arc::clone(&call), row));
            async { started?.await }
        })
        .buffered(ROWS_AT_ONCE)
        .collect()
        .await;
    call.collect_rows(results)
}
