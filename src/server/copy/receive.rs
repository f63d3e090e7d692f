//! COPY FROM: data that flow in, from the client or from a file.
//!
//! In: CopyData messages of the client, or the bytes of a file. Out: record batches through a channel that holds back a fast client. Invariant:
//! the receiving end gets an error instead of the last batch unless the client said CopyDone and every row was good, so
//! that a COPY is stored whole or not at all. Deliberately absent: storing (the engine's).

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::CopyInResponse;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;
use tokio::sync::mpsc;

use crate::copy::read::CopyReader;
use crate::copy::{CopyFormat, CopyOptions};
use crate::decode::Input;
use crate::frontend::Frontend;
use crate::running::Stop;
use crate::wire::{Broken, Wire};

/// The receiving end: batches, or the error that makes them void.
pub type Batches = mpsc::Sender<Result<RecordBatch>>;

/// What is read, and how.
pub struct Incoming<'a> {
    /// Name of the table, for messages.
    pub table: &'a str,
    /// Columns of a row.
    pub columns: &'a [(String, SqlType)],
    /// Checked options.
    pub options: CopyOptions,
    /// What reading values depends on.
    pub input: Input,
}

impl Incoming<'_> {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|(name, ty)| ty.field(name)).collect::<Vec<_>>()))
    }

    fn reader(&self) -> Result<CopyReader> {
        CopyReader::new(self.table, self.options.clone(), self.columns, self.input.clone())
    }
}

/// Asks the client for data and passes them on until it is done.
///
/// An `Ok` with a closed channel means that the receiver gave up; it knows why.
pub async fn receive(wire: &mut Wire, incoming: &Incoming<'_>, batches: &Batches) -> std::result::Result<(), Stop> {
    let binary = incoming.options.format == CopyFormat::Binary;
    let count = incoming.columns.len();
    let reader = incoming.reader().map_err(Stop::Failed)?;
    let formats = vec![i16::from(binary); count];
    wire.put(PgWireBackendMessage::CopyInResponse(CopyInResponse::new(i8::from(binary), count as i16, formats)));
    wire.flush().await.map_err(|_| Stop::Gone)?;
    let done = flow(wire, reader, &incoming.schema(), batches).await;
    if let Err(stop) = &done {
        let error = match stop {
            Stop::Failed(e) | Stop::Fatal(e) => e.clone(),
            Stop::Gone => Error::new(Kind::ConnectionFailure, "the client went away during COPY"),
        };
        void(batches, error).await;
    }
    done
}

/// Reads the bytes of a file to their end.
pub async fn read(bytes: &mut BoxStream<'static, Result<Bytes>>, incoming: &Incoming<'_>, batches: &Batches) -> Result<()> {
    let work = async {
        let (mut reader, schema) = (incoming.reader()?, incoming.schema());
        while let Some(chunk) = bytes.next().await {
            reader.feed(&chunk?)?;
            if !pass(&mut reader, &schema, batches, false).await? {
                return Ok(());
            }
        }
        reader.finish()?;
        pass(&mut reader, &schema, batches, true).await.map(drop)
    };
    let done = work.await;
    if let Err(error) = &done {
        void(batches, error.clone()).await;
    }
    done
}

/// Nothing that was sent counts. A receiver that is gone has stored nothing anyway.
async fn void(batches: &Batches, error: Error) {
    let _ = batches.send(Err(error)).await;
}

async fn flow(wire: &mut Wire, mut reader: CopyReader, schema: &SchemaRef, batches: &Batches) -> std::result::Result<(), Stop> {
    loop {
        match wire.next().await {
            Ok(Frontend::CopyData(bytes)) => {
                reader.feed(&bytes).map_err(Stop::Failed)?;
                if !pass(&mut reader, schema, batches, false).await.map_err(Stop::Failed)? {
                    return Ok(());
                }
            }
            Ok(Frontend::CopyDone) => {
                reader.finish().map_err(Stop::Failed)?;
                pass(&mut reader, schema, batches, true).await.map_err(Stop::Failed)?;
                return Ok(());
            }
            Ok(Frontend::CopyFail(reason)) => return Err(Stop::Failed(Error::new(Kind::Cancelled, format!("COPY from stdin failed: {reason}")))),
            // Clients pipeline these behind the Execute that began the COPY.
            Ok(Frontend::Flush | Frontend::Sync) => {}
            Ok(Frontend::Terminate) | Err(Broken::Gone) => return Err(Stop::Gone),
            Ok(_) => return Err(Stop::Failed(Error::new(Kind::ProtocolViolation, "unexpected message type during COPY from stdin"))),
            Err(Broken::Message(e, _)) => return Err(Stop::Failed(e)),
            Err(Broken::Fatal(e)) => return Err(Stop::Fatal(e)),
        }
    }
}

/// Passes on what is ready; false once nobody receives any more.
async fn pass(reader: &mut CopyReader, schema: &SchemaRef, batches: &Batches, all: bool) -> Result<bool> {
    while let Some((columns, rows)) = reader.take(all)? {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|e| Error::internal(e.to_string()))?;
        if batches.send(Ok(batch)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BytesMut;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::decode::datetime::Clock;
    use crate::encode::zone::Zone;

    async fn copied(messages: &[u8]) -> (std::result::Result<(), Stop>, Vec<Result<usize>>) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(messages).await.unwrap();
        client.shutdown().await.unwrap();
        let mut wire = Wire::new(Box::new(server), BytesMut::new(), 1 << 20);
        let (sender, mut receiver) = mpsc::channel(8);
        let columns = vec![("a".to_owned(), SqlType::Int4)];
        let input = Input { clock: Clock { zone: Zone::utc(), day_first: false, now_us: 0 }, reg_oids: None };
        let incoming = Incoming { table: "t", columns: &columns, options: CopyOptions::default(), input };
        let done = receive(&mut wire, &incoming, &sender).await;
        drop(sender);
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv().await {
            all.push(batch.map(|b| b.num_rows()));
        }
        (done, all)
    }

    #[tokio::test]
    async fn good_data_arrive_whole() {
        let (done, batches) = copied(b"d\0\0\0\x061\nd\0\0\0\x0622\x53\0\0\0\x04d\0\0\0\x05\nc\0\0\0\x04").await;
        assert!(done.is_ok());
        assert!(matches!(batches.as_slice(), [Ok(2)]));
    }

    #[tokio::test]
    async fn everything_else_makes_them_void() {
        for messages in [
            &b"d\0\0\0\x061\nf\0\0\0\x06x\0"[..],
            b"d\0\0\0\x061\n",
            b"d\0\0\0\x06z\nc\0\0\0\x04",
            b"d\0\0\0\x061\nQ\0\0\0\x06x\0",
            b"d\0\0\0\x061\nX\0\0\0\x04",
        ] {
            let (done, batches) = copied(messages).await;
            assert!(done.is_err() && matches!(batches.last(), Some(Err(_))), "{messages:?}");
        }
    }
}
