//! What all statements that move rows share.
//!
//! Invariant: rows are staged by the store or the sink; nothing is visible until the statement has ended well. The work
//! runs on the statement threads and stops when the statement is cancelled.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use squilla_core::error::Result;

use crate::error::from_datafusion;
use crate::session::query::Frame;
use crate::session::{RowStream, Session};

/// A query's rows, with the frame they run in.
pub struct Running {
    /// Frame of the statement.
    pub frame: Frame,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Rows.
    pub stream: RowStream,
}

/// Plans and starts a query whose rows go somewhere else than to the client.
pub async fn start(session: &Arc<Session>, plan: LogicalPlan, text: &str, parameters: Vec<ScalarValue>) -> Result<Running> {
    let plan = if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters)).map_err(from_datafusion)? };
    let frame = session.frame(text)?;
    let physical = frame.stop.guard(session.physical(&plan, &frame)).await?;
    let schema = physical.schema();
    let stream = session.start(&frame, physical)?;
    Ok(Running { frame, schema, stream })
}
