//! The values of one column, already in wire form, before rows are put together.
//!
//! In: bytes of one value after another. Out: for every row a slice that begins with the four-byte length PostgreSQL
//! wants in front of a field (-1 for NULL), so that building a DataRow is one copy a field whatever the type.
//! Invariant: `ends` is ascending and `ends[i]` is where value i ends in `data`; buffers are kept between batches.
//! Deliberately absent: any knowledge of types.

/// Encoded values of one column.
#[derive(Debug, Default)]
pub struct Cells {
    data: Vec<u8>,
    ends: Vec<usize>,
    open: usize,
}

const NULL: [u8; 4] = (-1i32).to_be_bytes();

impl Cells {
    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        // A batch of huge values must not hold its memory for the rest of the connection.
        if self.data.capacity() > 4 << 20 {
            self.data = Vec::new();
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all values with their lengths.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Makes room for `rows` values of about `bytes` bytes each.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.ends.reserve(rows);
        self.data.reserve(rows.saturating_mul(bytes + 4));
    }

    /// Appends NULL.
    #[inline]
    pub fn null(&mut self) {
        self.data.extend_from_slice(&NULL);
        self.ends.push(self.data.len());
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(&(value.len() as i32).to_be_bytes());
        self.data.extend_from_slice(value);
        self.ends.push(self.data.len());
    }

    /// Appends the value that `write` appends to the buffer it is given.
    #[inline]
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.open = self.data.len();
        self.data.extend_from_slice(&NULL);
        write(&mut self.data);
        self.close();
    }

    /// As [`Cells::write`], for writers that can fail; a failed value leaves nothing behind.
    #[inline]
    pub fn try_write<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        self.open = self.data.len();
        self.data.extend_from_slice(&NULL);
        let done = write(&mut self.data);
        match done {
            Ok(()) => self.close(),
            Err(_) => self.data.truncate(self.open),
        }
        done
    }

    #[inline]
    fn close(&mut self) {
        let length = (self.data.len() - self.open - 4) as i32;
        self.data[self.open..self.open + 4].copy_from_slice(&length.to_be_bytes());
        self.ends.push(self.data.len());
    }

    /// Value `row` with its length in front, as a DataRow carries it.
    #[inline]
    pub fn field(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.data[start..self.ends[row]]
    }

    /// Value `row` alone; None for NULL.
    #[inline]
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let field = self.field(row);
        if field.len() == 4 && field == NULL { None } else { Some(&field[4..]) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_come_back_with_their_lengths() {
        let mut cells = Cells::default();
        cells.push(b"ab");
        cells.null();
        cells.write(|out| out.extend_from_slice(b""));
        assert!(
            cells
                .try_write(|out| {
                    out.push(1);
                    Err::<(), ()>(())
                })
                .is_err()
        );
        cells.write(|out| out.push(7));
        assert_eq!(cells.field(0), b"\0\0\0\x02ab");
        assert_eq!(cells.value(1), None);
        assert_eq!(cells.value(2), Some(&b""[..]));
        assert_eq!(cells.value(3), Some(&[7u8][..]));
        assert_eq!(cells.len(), 4);
    }
}
