//! From a stream of batches to bytes.
//!
//! In: a stream and an [`Encoder`]. Out: rows written and the encoder's bytes in its writer. Invariants: encoding runs on
//! blocking threads while the next batch is made, and holds a thread only while it works; an encoder whose stream fails
//! or is dropped is never finished. Deliberately absent: where the bytes go.

use std::io::{self, Write};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use parking_lot::Mutex;
use squilla_core::error::{Error, Result};
use tokio::task::JoinHandle;

use super::target::Target;
use crate::error::from_datafusion;

/// Turns batches into bytes.
pub trait Encoder: Send {
    /// Adds rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Writes what ends the file and flushes.
    fn finish(&mut self) -> Result<()>;
}

/// Bytes on their way from an encoder to an upload.
#[derive(Clone, Debug, Default)]
pub struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    /// What was written since the last call, once it is `least` bytes or more.
    pub fn take(&self, least: usize) -> Option<Vec<u8>> {
        let mut bytes = self.0.lock();
        (bytes.len() >= least && !bytes.is_empty()).then(|| std::mem::take(&mut *bytes))
    }
}

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Busy = JoinHandle<(Box<dyn Encoder>, Result<()>)>;

fn begin(mut encoder: Box<dyn Encoder>, step: impl FnOnce(&mut dyn Encoder) -> Result<()> + Send + 'static) -> Busy {
    tokio::task::spawn_blocking(move || {
        let result = step(encoder.as_mut());
        (encoder, result)
    })
}

async fn end(busy: Busy) -> Result<Box<dyn Encoder>> {
    let (encoder, result) = busy.await.map_err(|e| Error::internal(format!("an encoder failed: {e}")))?;
    result.map(|()| encoder)
}

/// Writes the whole stream through `encoder`, handing bytes on to `target` as they come: the rows.
pub async fn run(mut stream: SendableRecordBatchStream, encoder: Box<dyn Encoder>, target: &mut Target) -> Result<u64> {
    let mut rows = 0;
    let mut busy = begin(encoder, |_| Ok(()));
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(from_datafusion)?;
        let encoder = end(busy).await?;
        target.advance().await?;
        rows += batch.num_rows() as u64;
        busy = begin(encoder, move |e| e.write(&batch));
    }
    let encoder = end(busy).await?;
    end(begin(encoder, |e| e.finish())).await?;
    Ok(rows)
}
