//! `pg_sleep`: waits without holding a thread.
//!
//! Deliberately absent: a wait longer than a cancel can reach; the flag is looked at ten times a second.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

/// The function.
pub static PG_SLEEP: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/system/pg_sleep.sql"), Kernel::Fetch(pg_sleep));

const STEP: Duration = Duration::from_millis(100);

fn pg_sleep(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    async move {
        let mut left = Duration::ZERO;
        for row in 0..call.rows {
            let seconds = call.float("seconds", row)?.unwrap_or(0.0);
            left += Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX / 2);
        }
        while !left.is_zero() {
            call.env.cancel.check()?;
            let step = left.min(STEP);
            tokio::time::sleep(step).await;
            left -= step;
        }
        call.map_rows(|_| Ok(Some(String::new())))
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_contract_parses() {
        assert!(super::PG_SLEEP.declaration().is_ok());
    }
}
