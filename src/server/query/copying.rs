//! COPY in a conversation: rows out as they come, rows in while they are stored.
//!
//! In: what executing a COPY gave. Out: its messages. Invariant: neither direction holds the data. Deliberately absent: the
//! formats (`copy`).

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyDone, CopyOutResponse};
use squilla_core::error::{Error, Result};
use squilla_engine::session::{CopyIn, ResultField, RowStream};
use squilla_engine::statement::copy::CopyOption;
use tokio::task::JoinHandle;

use super::{Conversation, Done};
use crate::backend::caught;
use crate::copy::receive::{self, Incoming};
use crate::copy::{CopyFormat, CopyOptions, Value, write};
use crate::encode::{OutputColumn, RowEncoder};
use crate::running::{Stop, deliver, stopped};
use crate::stream::Source;

impl Conversation {
    pub(super) async fn copy_out(&mut self, fields: &[ResultField], stream: RowStream, options: &[(String, CopyOption)]) -> Done {
        let names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
        let given = options.iter().map(|(name, value)| (name.as_str(), Value::from(value)));
        let options = CopyOptions::new(given, &names, false).map_err(Stop::Failed)?;
        let binary = options.format == CopyFormat::Binary;
        let columns: Vec<OutputColumn> = fields.iter().map(|f| OutputColumn { ty: f.ty.clone(), binary }).collect();
        let formats = vec![i16::from(binary); columns.len()];
        self.wire.put(PgWireBackendMessage::CopyOutResponse(CopyOutResponse::new(i8::from(binary), columns.len() as i16, formats)));
        write::begin(&mut self.wire.output, &options, &names);
        let style = self.backend.style(&columns);
        let source = Source::new(stream, RowEncoder::new(columns, style), Some(options.clone()));
        let pumped = deliver(source, 0, &mut self.wire, &self.backend).await?;
        write::end(&mut self.wire.output, &options, pumped.source.first);
        self.wire.put(PgWireBackendMessage::CopyDone(CopyDone::new()));
        self.complete(format!("COPY {}", pumped.rows));
        Ok(())
    }

    /// COPY FROM: the engine stores while the data come in.
    pub(super) async fn copy_in(&mut self, copy: CopyIn) -> Done {
        let CopyIn { table, columns, options, file, batches, rows } = copy;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let given = options.iter().map(|(name, value)| (name.as_str(), Value::from(value)));
        let options = CopyOptions::new(given, &names, true).map_err(Stop::Failed)?;
        let incoming = Incoming { table: &table, columns: &columns, options, input: self.backend.input() };
        let storing = Storing(self.backend.spawn(caught(rows)));
        match file {
            Some(mut bytes) => self.running(receive::read(&mut bytes, &incoming, &batches)).await?,
            None => {
                let (cancel, deadline) = (self.backend.cancelled(), self.backend.deadline());
                tokio::select! {
                    biased;
                    stop = stopped(cancel, deadline) => return Err(stop),
                    done = receive::receive(&mut self.wire, &incoming, &batches) => done?,
                }
            }
        }
        drop(batches);
        let rows = self.running(storing.rows()).await?;
        self.complete(format!("COPY {rows}"));
        Ok(())
    }
}

/// The storing half of a COPY; it stops when this is dropped.
struct Storing(JoinHandle<Result<u64>>);

impl Drop for Storing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Storing {
    async fn rows(mut self) -> Result<u64> {
        (&mut self.0).await.unwrap_or_else(|e| Err(Error::internal(format!("storing the rows failed: {e}"))))
    }
}
