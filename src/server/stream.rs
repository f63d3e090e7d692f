//! A result on its way out: batches are encoded beside the engine, the socket only sees bytes.
//!
//! In: a live stream of batches. Out: pieces of whole DataRow messages through a channel that holds two, so a reader that
//! stops reading stops the query. Invariant: no more rows are encoded than were asked for; what is left of a batch stays
//! for the next Execute; dropping the task drops the stream, which stops all work. Deliberately absent: the socket.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::BoxStream;
use squilla_core::error::Result;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::copy::{CopyOptions, write};
use crate::encode::RowEncoder;

/// Bytes after which a piece is handed over.
const PIECE_BYTES: usize = 32 << 10;
/// How long finished rows wait for company.
const LINGER: Duration = Duration::from_millis(100);

/// Bytes for the socket.
pub struct Piece {
    /// Whole messages.
    pub bytes: BytesMut,
    /// Whether they have waited long enough.
    pub urgent: bool,
}

/// A result that can be continued.
pub struct Source {
    /// COPY data instead of DataRows.
    copy: Option<CopyOptions>,
    stream: BoxStream<'static, Result<RecordBatch>>,
    encoder: RowEncoder,
    rest: Option<(RecordBatch, usize)>,
    ended: bool,
    /// No row has been written yet.
    pub first: bool,
}

/// What one run over a source did.
pub struct Pumped {
    /// The source, for the next run.
    pub source: Source,
    /// Rows sent in this run.
    pub rows: u64,
    /// Whether the result has ended.
    pub finished: bool,
}

impl Source {
    /// A source at its beginning.
    pub fn new(stream: BoxStream<'static, Result<RecordBatch>>, encoder: RowEncoder, copy: Option<CopyOptions>) -> Self {
        Self { copy, stream, encoder, rest: None, ended: false, first: true }
    }

    /// The rows that are left, for somebody else to read.
    pub fn into_rows(self) -> BoxStream<'static, Result<RecordBatch>> {
        let rest = self.rest.map(|(batch, start)| Ok(batch.slice(start, batch.num_rows() - start)));
        let rest = futures::stream::iter(rest);
        // A stream that has ended must not be asked again.
        if self.ended { rest.boxed() } else { rest.chain(self.stream).boxed() }
    }

    /// Sends at most `rows_max` rows (0: all). A closed channel ends the run early, as if it were finished.
    pub async fn pump(mut self, rows_max: usize, out: mpsc::Sender<Piece>) -> Result<Pumped> {
        let mut wanted = if rows_max == 0 { usize::MAX } else { rows_max };
        let mut rows = 0;
        let mut buffer = BytesMut::new();
        let mut since: Option<Instant> = None;
        while wanted > 0 {
            let Some((batch, start)) = self.next(&mut buffer, &mut since, &out).await? else { break };
            let count = RowEncoder::chunk_rows(&batch).min(batch.num_rows() - start).min(wanted);
            match &self.copy {
                None => self.encoder.data_rows(&batch, start..start + count, &mut buffer)?,
                Some(options) => {
                    let columns = self.encoder.encode_columns(&batch, start..start + count)?;
                    write::rows(&mut buffer, options, columns, count, &mut self.first);
                }
            }
            since.get_or_insert_with(Instant::now);
            wanted -= count;
            rows += count as u64;
            if start + count < batch.num_rows() {
                self.rest = Some((batch, start + count));
            }
            if buffer.len() >= PIECE_BYTES {
                since = None;
                if out.send(Piece { bytes: std::mem::take(&mut buffer), urgent: false }).await.is_err() {
                    break;
                }
            }
        }
        if !buffer.is_empty() {
            // Nobody listens any more when this fails; the caller knows.
            let _ = out.send(Piece { bytes: buffer, urgent: false }).await;
        }
        let finished = wanted > 0;
        Ok(Pumped { source: self, rows, finished })
    }

    /// The next rows: what is left of the last batch, or a new one. While waiting, rows that are finished leave.
    async fn next(&mut self, buffer: &mut BytesMut, since: &mut Option<Instant>, out: &mpsc::Sender<Piece>) -> Result<Option<(RecordBatch, usize)>> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        while !self.ended {
            let batch = match *since {
                None => self.stream.next().await,
                Some(at) => match timeout_at(at + LINGER, self.stream.next()).await {
                    Ok(batch) => batch,
                    Err(_) => {
                        *since = None;
                        if out.send(Piece { bytes: std::mem::take(buffer), urgent: true }).await.is_err() {
                            return Ok(None);
                        }
                        continue;
                    }
                },
            };
            match batch {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => return Ok(Some((batch, 0))),
                Some(Err(e)) => {
                    self.ended = true;
                    // The rows before the error belong to the client.
                    if !buffer.is_empty() {
                        let _ = out.send(Piece { bytes: std::mem::take(buffer), urgent: false }).await;
                    }
                    return Err(e);
                }
                None => self.ended = true,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array};
    use squilla_core::error::{Error, Kind};
    use squilla_core::types::SqlType;

    use super::*;
    use crate::encode::OutputColumn;
    use crate::encode::style::Style;

    fn batch(range: std::ops::Range<i32>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_from_iter([("x", Arc::new(Int32Array::from_iter_values(range)) as ArrayRef)]).unwrap())
    }

    fn source(batches: Vec<Result<RecordBatch>>) -> Source {
        let encoder = RowEncoder::new(vec![OutputColumn { ty: SqlType::Int4, binary: true }], Arc::new(Style::default()));
        Source::new(futures::stream::iter(batches).boxed(), encoder, None)
    }

    const ROW: usize = 15;

    #[tokio::test]
    async fn row_limits_suspend_and_continue() {
        let mut s = source(vec![batch(0..3), batch(3..3), batch(3..5)]);
        let mut counts = Vec::new();
        loop {
            let (tx, mut rx) = mpsc::channel(8);
            let pumped = s.pump(2, tx).await.unwrap();
            let mut bytes = 0;
            while let Some(piece) = rx.recv().await {
                bytes += piece.bytes.len();
            }
            assert_eq!(bytes, ROW * pumped.rows as usize);
            counts.push(pumped.rows);
            s = pumped.source;
            if pumped.finished {
                break;
            }
        }
        assert_eq!(counts, [2, 2, 1]);
    }

    #[tokio::test]
    async fn rows_before_an_error_arrive() {
        let s = source(vec![batch(0..2), Err(Error::new(Kind::DivisionByZero, "division by zero"))]);
        let (tx, mut rx) = mpsc::channel(8);
        assert!(s.pump(0, tx).await.is_err());
        assert_eq!(rx.recv().await.unwrap().bytes.len(), 2 * ROW);
    }

    #[tokio::test]
    async fn trickling_rows_do_not_wait() {
        let slow = futures::stream::unfold(0, |i| async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            (i < 3).then(|| (batch(i..i + 1), i + 1))
        });
        let encoder = RowEncoder::new(vec![OutputColumn { ty: SqlType::Int4, binary: true }], Arc::new(Style::default()));
        let (tx, mut rx) = mpsc::channel(8);
        let task = tokio::spawn(Source::new(slow.boxed(), encoder, None).pump(0, tx));
        let started = Instant::now();
        let first = rx.recv().await.unwrap();
        assert!(first.urgent && started.elapsed() < Duration::from_millis(780));
        drop(rx);
        assert!(task.await.unwrap().is_ok());
    }
}
