//! Arrow batches to DataRow messages.
//!
//! In: record batches and, once a result, the SQL type and wire format of each column. Out: bytes of complete messages.
//! Invariant: a chunk of rows is encoded column by column into wire values, then rows are copied together; the chunk is
//! sized by bytes so that memory stays bounded whatever a row holds. Deliberately absent: sockets, row limits, COPY.

pub mod cells;
pub mod column;
pub mod datetime;
pub mod interval;
pub mod media;
pub mod nested;
pub mod number;
pub mod style;
pub mod zone;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::encode::cells::Cells;
use crate::encode::column::column;
use crate::encode::style::Style;

/// The longest message PostgreSQL's clients accept.
const MESSAGE_MAX: usize = 0x3fff_ffff;
/// About how many bytes of values are encoded at a time.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_ROWS: usize = 1024;

/// A column of a result as the client asked for it.
#[derive(Clone, Debug)]
pub struct OutputColumn {
    /// Its type.
    pub ty: SqlType,
    /// Whether the client wants the binary format.
    pub binary: bool,
}

/// Encodes the batches of one result.
pub struct RowEncoder {
    columns: Vec<OutputColumn>,
    style: Arc<Style>,
    cells: Vec<Cells>,
}

impl RowEncoder {
    /// An encoder for results with these columns.
    pub fn new(columns: Vec<OutputColumn>, style: Arc<Style>) -> Self {
        let cells = columns.iter().map(|_| Cells::default()).collect();
        Self { columns, style, cells }
    }

    /// How many rows of `batch` to encode at a time.
    pub fn chunk_rows(batch: &RecordBatch) -> usize {
        let bytes: usize = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        (CHUNK_BYTES / (bytes / batch.num_rows().max(1)).max(1)).clamp(1, CHUNK_ROWS)
    }

    /// Encodes a range of rows, column by column.
    pub fn encode_columns(&mut self, batch: &RecordBatch, rows: Range<usize>) -> Result<&[Cells]> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::internal(format!("a result of {} columns was described with {}", batch.num_columns(), self.columns.len())));
        }
        for ((cells, output), array) in self.cells.iter_mut().zip(&self.columns).zip(batch.columns()) {
            cells.clear();
            column(cells, &array.slice(rows.start, rows.len()), &output.ty, output.binary, &self.style)?;
        }
        Ok(&self.cells)
    }

    /// Appends a DataRow for each row of the range.
    pub fn data_rows(&mut self, batch: &RecordBatch, rows: Range<usize>, out: &mut BytesMut) -> Result<()> {
        let count = self.columns.len() as u16;
        self.encode_columns(batch, rows.clone())?;
        out.reserve(self.cells.iter().map(Cells::bytes).sum::<usize>() + rows.len() * 7);
        for row in 0..rows.len() {
            let length = 6 + self.cells.iter().map(|c| c.field(row).len()).sum::<usize>();
            if length > MESSAGE_MAX {
                return Err(Error::new(Kind::LimitExceeded, format!("a row of {length} bytes is too large for the protocol"))
                    .detail(format!("A message holds at most {MESSAGE_MAX} bytes.")));
            }
            out.put_u8(b'D');
            out.put_u32(length as u32);
            out.put_u16(count);
            for cells in &self.cells {
                out.extend_from_slice(cells.field(row));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
