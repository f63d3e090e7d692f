//! What the operators of one statement share.
//!
//! Invariant: one [`StatementEnv`] per statement, reachable from every task through the session configuration.

use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{Env, Memory};

use crate::exec::row_errors::{OnError, StatementErrors};

/// The environment of one statement.
pub struct StatementEnv {
    /// What kernels see.
    pub env: Arc<Env>,
    /// Failed rows.
    pub errors: Arc<StatementErrors>,
    /// What becomes of failing rows where a function has no argument for it (`squilla.on_error`).
    pub on_error: OnError,
    /// Packs that one operator works on at a time.
    pub packs_in_flight: usize,
    /// Bytes of media that one pack may hold.
    pub pack_bytes: usize,
}

impl StatementEnv {
    /// The environment of the statement that `context` belongs to.
    pub fn of(context: &TaskContext) -> Result<Arc<StatementEnv>> {
        context.session_config().get_extension::<StatementEnv>().ok_or_else(|| Error::internal("a task has no statement environment"))
    }
}

/// Reserves kernels' bytes from DataFusion's memory pool.
pub struct PoolMemory {
    /// The pool of the process.
    pub pool: Arc<dyn MemoryPool>,
}

impl Memory for PoolMemory {
    fn reserve(&self, bytes: usize) -> Result<Box<dyn std::any::Any + Send>> {
        if let MemoryLimit::Finite(all) = self.pool.memory_limit()
            && bytes > all
        {
            // No waiting and no other order of the work would make room for it: it is the row that is at fault.
            return Err(Error::limit(format!("one row takes {bytes} bytes, more than all statements may use"), "squilla.memory_limit"));
        }
        let reservation = MemoryConsumer::new("media").register(&self.pool);
        reservation.try_grow(bytes).map_err(|e| {
            Error::new(Kind::OutOfMemory, "out of memory").detail(e.strip_backtrace()).hint("The limit is the setting squilla.memory_limit.")
        })?;
        Ok(Box::new(reservation))
    }
}
