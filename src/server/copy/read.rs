//! COPY data to rows.
//!
//! In: the bytes of CopyData messages, cut anywhere. Out: columns of values, some rows at a time. Invariant: memory holds
//! one unfinished row and one batch; a row is complete or nothing of it is kept. Deliberately absent: constraints and
//! defaults (the engine's), encodings other than UTF-8.

use arrow::array::ArrayRef;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::copy::write::SIGNATURE;
use crate::copy::{CopyFormat, CopyOptions, Header};
use crate::decode::{ColumnReader, Input, utf8};

/// Rows of one batch.
const BATCH_ROWS: usize = 8192;
/// Bytes of one batch.
const BATCH_BYTES: usize = 8 << 20;
/// The longest row.
const ROW_MAX: usize = 1 << 30;

/// Reads the rows of one COPY FROM STDIN.
pub struct CopyReader {
    table: String,
    options: CopyOptions,
    names: Vec<String>,
    columns: Vec<ColumnReader>,
    input: Input,
    buffer: Vec<u8>,
    /// How far the buffer has been searched for the end of a row, and whether that place is inside quotes.
    searched: usize,
    quoted: bool,
    line: u64,
    rows: usize,
    bytes: usize,
    begun: bool,
    ended: bool,
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::BadCopyFormat, message)
}

impl CopyReader {
    /// A reader of rows of `table` with these columns.
    pub fn new(table: &str, options: CopyOptions, columns: &[(String, SqlType)], input: Input) -> Result<Self> {
        Ok(Self {
            table: table.to_owned(),
            options,
            names: columns.iter().map(|(name, _)| name.clone()).collect(),
            columns: columns.iter().map(|(_, ty)| ColumnReader::new(ty)).collect::<Result<_>>()?,
            input,
            buffer: Vec::new(),
            searched: 0,
            quoted: false,
            line: 0,
            rows: 0,
            bytes: 0,
            begun: false,
            ended: false,
        })
    }

    /// Takes over bytes; call [`CopyReader::take`] until it gives nothing before feeding more.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > ROW_MAX {
            return Err(Error::new(Kind::LimitExceeded, "a row of COPY data is too long"));
        }
        self.parse(false)
    }

    /// The data have ended: reads what is left.
    pub fn finish(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.parse(true)?;
        match self.options.format {
            CopyFormat::Binary if !self.begun => Err(bad("COPY file signature not recognized")),
            // Between rows the trailer may be missing, as in PostgreSQL.
            CopyFormat::Binary if !self.ended && !self.buffer.is_empty() => Err(bad("unexpected EOF in COPY data")),
            CopyFormat::Csv if self.quoted => {
                self.line += 1;
                let place = self.place(None, Some(&self.buffer));
                Err(bad("unterminated CSV quoted field").context(place))
            }
            _ => Ok(()),
        }
    }

    /// A batch once it is full, or with `all` whatever there is.
    pub fn take(&mut self, all: bool) -> Result<Option<(Vec<ArrayRef>, usize)>> {
        if self.rows == 0 || !(all || self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES) {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let columns = self.columns.iter_mut().map(ColumnReader::finish).collect::<Result<_>>()?;
        Ok(Some((columns, rows)))
    }

    /// Where an error is: the line, and its column or text where they help.
    fn place(&self, column: Option<(usize, Option<&[u8]>)>, line: Option<&[u8]>) -> String {
        let mut place = format!("COPY {}, line {}", self.table, self.line);
        match (column, line) {
            (Some((at, value)), _) => {
                let name = self.names.get(at).map_or("", String::as_str);
                let value = value.map_or_else(|| "null input".to_owned(), |v| format!("\"{}\"", shortened(v)));
                place.push_str(&format!(", column {name}: {value}"));
            }
            (None, Some(line)) => place.push_str(&format!(": \"{}\"", shortened(line))),
            (None, None) => {}
        }
        place
    }

    fn located(&self, error: Error) -> Error {
        let place = self.place(None, None);
        error.context(place)
    }

    fn parse(&mut self, last: bool) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        loop {
            if self.ended {
                start = buffer.len();
                break;
            }
            let used = match self.options.format {
                CopyFormat::Binary => self.binary_row(&buffer[start..])?,
                _ => self.line(&buffer[start..], last)?,
            };
            match used {
                Some(used) => start += used,
                None => break,
            }
        }
        self.buffer = buffer;
        self.buffer.drain(..start);
        Ok(())
    }

    /// Reads one line from the start of `bytes`; how many bytes it took, or None where it is not complete.
    fn line(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        let Some((end, used)) = self.end_of_line(bytes, last) else { return Ok(None) };
        self.searched = 0;
        self.quoted = false;
        self.line += 1;
        let line = &bytes[..end];
        if line == b"\\." {
            self.ended = true;
            return Ok(Some(used));
        }
        let fields = match self.options.format {
            CopyFormat::Csv => csv_fields(line, &self.options),
            _ => text_fields(line, &self.options),
        };
        if self.line == 1 && self.options.header != Header::None {
            self.check_header(&fields).map_err(|e| e.context(self.place(None, Some(line))))?;
            return Ok(Some(used));
        }
        self.row(line, &fields)?;
        self.bytes += used;
        Ok(Some(used))
    }

    /// End of the line and of its newline.
    fn end_of_line(&mut self, bytes: &[u8], last: bool) -> Option<(usize, usize)> {
        let csv = self.options.format == CopyFormat::Csv;
        let mut at = self.searched;
        while at < bytes.len() {
            let byte = bytes[at];
            if csv {
                if self.quoted && byte == self.options.escape && self.options.escape != self.options.quote {
                    at += 2;
                    continue;
                }
                // A doubled quote leaves and enters again, which is the same for finding the end.
                self.quoted ^= byte == self.options.quote;
            } else if byte == b'\\' {
                // An escaped newline is data; `\.` is two ordinary characters here.
                at += 2;
                continue;
            }
            match byte {
                b'\n' if !self.quoted => return Some((at, at + 1)),
                b'\r' if !self.quoted => match bytes.get(at + 1) {
                    Some(b'\n') => return Some((at, at + 2)),
                    Some(_) => return Some((at, at + 1)),
                    None if last => return Some((at, at + 1)),
                    None => break,
                },
                _ => at += 1,
            }
        }
        if last && !bytes.is_empty() && !self.quoted {
            return Some((bytes.len(), bytes.len()));
        }
        // An escape at the very end has not been seen whole.
        self.searched = at.min(bytes.len());
        if at > bytes.len() {
            self.searched = bytes.len() - 1;
        }
        None
    }

    fn check_header(&self, fields: &[(Option<Vec<u8>>, bool)]) -> Result<()> {
        if self.options.header != Header::Match {
            return Ok(());
        }
        if fields.len() != self.names.len() {
            return Err(bad(format!("wrong number of fields in header line: got {}, expected {}", fields.len(), self.names.len())));
        }
        for (i, ((value, _), name)) in fields.iter().zip(&self.names).enumerate() {
            if value.as_deref() != Some(name.as_bytes()) {
                let got = value.as_deref().map_or("null value".into(), |v| format!("\"{}\"", String::from_utf8_lossy(v)));
                return Err(bad(format!("column name mismatch in header line field {}: got {got}, expected \"{name}\"", i + 1)));
            }
        }
        Ok(())
    }

    fn row(&mut self, line: &[u8], fields: &[(Option<Vec<u8>>, bool)]) -> Result<()> {
        if fields.len() > self.columns.len() {
            return Err(bad("extra data after last expected column").context(self.place(None, Some(line))));
        }
        if fields.len() < self.columns.len() {
            let name = self.names.get(fields.len()).map_or("", String::as_str);
            return Err(bad(format!("missing data for column \"{name}\"")).context(self.place(None, Some(line))));
        }
        for (i, (value, quoted)) in fields.iter().enumerate() {
            let null = self.options.null.as_bytes();
            let value = match (value, self.options.format) {
                (Some(v), CopyFormat::Csv) if v == null => {
                    let is_null = if *quoted { self.options.force_null.has(i) } else { !self.options.force_not_null.has(i) };
                    if is_null { None } else { Some(v) }
                }
                (value, _) => value.as_ref(),
            };
            match value {
                Some(bytes) => {
                    let text = utf8(bytes).map_err(|e| self.located(e))?;
                    let read = self.columns[i].text(text, &self.input);
                    read.map_err(|e| e.context(self.place(Some((i, Some(bytes))), None)))?;
                }
                None => self.columns[i].null(),
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn binary_row(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        if !self.begun {
            let known = bytes.len().min(11);
            if bytes[..known] != SIGNATURE[..known] {
                return Err(bad("COPY file signature not recognized"));
            }
            let Some(head) = bytes.get(11..19) else { return Ok(None) };
            if head[..2] != [0, 0] {
                return Err(bad("unrecognized critical flags in COPY file header"));
            }
            let extension = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            if extension > ROW_MAX {
                return Err(bad("invalid COPY file header (wrong length)"));
            }
            if bytes.len() < 19 + extension {
                return Ok(None);
            }
            self.begun = true;
            return Ok(Some(19 + extension));
        }
        let Some(count) = bytes.get(..2) else { return Ok(None) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        self.line += 1;
        if usize::try_from(count).ok() != Some(self.columns.len()) {
            return Err(self.located(bad(format!("row field count is {count}, expected {}", self.columns.len()))));
        }
        let Some(spans) = binary_fields(bytes, self.columns.len()).map_err(|e| self.located(e))? else {
            self.line -= 1;
            return Ok(None);
        };
        let mut used = 2;
        for (i, span) in spans.into_iter().enumerate() {
            match span {
                Some((from, to)) => {
                    let read = self.columns[i].binary(&bytes[from..to], &self.input);
                    read.map_err(|e| {
                        let name = self.names.get(i).map_or("", String::as_str);
                        e.context(format!("COPY {}, line {}, column {name}", self.table, self.line))
                    })?;
                    used = to;
                }
                None => {
                    self.columns[i].null();
                    used += 4;
                }
            }
        }
        self.rows += 1;
        self.bytes += used;
        Ok(Some(used))
    }
}

/// The first 100 bytes of a value, as text.
fn shortened(bytes: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(bytes);
    if text.len() <= MOST {
        return text.into_owned();
    }
    let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", text.get(..end).unwrap_or_default())
}

/// Where the fields of a binary row are; None while the row is not complete.
#[allow(clippy::type_complexity)]
fn binary_fields(bytes: &[u8], count: usize) -> Result<Option<Vec<Option<(usize, usize)>>>> {
    let mut spans = Vec::with_capacity(count);
    let mut at = 2;
    for _ in 0..count {
        let Some(length) = bytes.get(at..at + 4) else { return Ok(None) };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        at += 4;
        if length == -1 {
            spans.push(None);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| bad("invalid field size"))?;
        if bytes.len() < at + length {
            return Ok(None);
        }
        spans.push(Some((at, at + length)));
        at += length;
    }
    Ok(Some(spans))
}

/// Fields of a line of text; NULL where None.
fn text_fields(line: &[u8], options: &CopyOptions) -> Vec<(Option<Vec<u8>>, bool)> {
    let mut fields = Vec::new();
    let mut start = 0;
    let mut at = 0;
    loop {
        match line.get(at) {
            Some(b'\\') => at += 2,
            Some(byte) if *byte != options.delimiter => at += 1,
            end => {
                let raw = &line[start..at.min(line.len())];
                fields.push((if raw == options.null.as_bytes() { None } else { Some(unescape(raw)) }, false));
                if end.is_none() {
                    return fields;
                }
                at += 1;
                start = at;
            }
        }
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    if !raw.contains(&b'\\') {
        return raw.to_vec();
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    let digits = |from: usize, most: usize, radix: u32| raw[from..].iter().take(most).take_while(|b| char::from(**b).is_digit(radix)).count();
    let value = |from: usize, count: usize, radix: u32| {
        raw[from..from + count].iter().fold(0u32, |n, b| n * radix + char::from(*b).to_digit(radix).unwrap_or(0))
    };
    while at < raw.len() {
        if raw[at] != b'\\' || at + 1 == raw.len() {
            out.push(raw[at]);
            at += 1;
            continue;
        }
        let next = raw[at + 1];
        at += 2;
        match next {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0b),
            b'0'..=b'7' => {
                let count = digits(at - 1, 3, 8);
                out.push(value(at - 1, count, 8) as u8);
                at += count - 1;
            }
            b'x' if digits(at, 2, 16) > 0 => {
                let count = digits(at, 2, 16);
                out.push(value(at, count, 16) as u8);
                at += count;
            }
            other => out.push(other),
        }
    }
    out
}

/// Fields of a CSV line, with whether any part was in quotes.
fn csv_fields(line: &[u8], options: &CopyOptions) -> Vec<(Option<Vec<u8>>, bool)> {
    let mut fields = Vec::new();
    let (mut value, mut inside, mut quoted) = (Vec::new(), false, false);
    let mut at = 0;
    while at < line.len() {
        let byte = line[at];
        at += 1;
        if inside {
            if byte == options.escape && line.get(at).is_some_and(|next| *next == options.quote || *next == options.escape) {
                value.push(line[at]);
                at += 1;
            } else if byte == options.quote {
                inside = false;
            } else {
                value.push(byte);
            }
        } else if byte == options.quote {
            (inside, quoted) = (true, true);
        } else if byte == options.delimiter {
            fields.push((Some(std::mem::take(&mut value)), std::mem::take(&mut quoted)));
        } else {
            value.push(byte);
        }
    }
    fields.push((Some(value), quoted));
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::copy::{Columns, Value};
    use crate::decode::datetime::Clock;
    use crate::encode::cells::Cells;
    use crate::encode::column::column;
    use crate::encode::style::Style;
    use crate::encode::zone::Zone;

    fn columns() -> Vec<(String, SqlType)> {
        vec![("a".into(), SqlType::Int4), ("b".into(), SqlType::Text)]
    }

    fn read(options: CopyOptions, data: &[u8], step: usize) -> Result<Vec<String>> {
        let input = Input { clock: Clock { zone: Zone::utc(), day_first: false, now_us: 0 }, reg_oids: None };
        let mut reader = CopyReader::new("t", options, &columns(), input)?;
        for part in data.chunks(step) {
            reader.feed(part)?;
        }
        reader.finish()?;
        let Some((arrays, rows)) = reader.take(true)? else { return Ok(Vec::new()) };
        let mut cells = [Cells::default(), Cells::default()];
        for ((cells, array), (_, ty)) in cells.iter_mut().zip(&arrays).zip(columns()) {
            column(cells, array, &ty, false, &Style::default())?;
        }
        let show = |c: &Cells, row| c.value(row).map_or("NULL".to_owned(), |v| String::from_utf8_lossy(v).into_owned());
        Ok((0..rows).map(|row| format!("{}|{}", show(&cells[0], row), show(&cells[1], row))).collect())
    }

    #[test]
    fn text_rows_however_they_are_cut() {
        let data = b"1\tx\\ty\n\\N\t\\N\n3\ta\\\\b\\\nc\\x41\\101\r\n4\t\n\\.\nrest";
        for step in 1..data.len() {
            assert_eq!(read(CopyOptions::default(), data, step).unwrap(), ["1|x\ty", "NULL|NULL", "3|a\\b\ncAA", "4|"], "{step}");
        }
        assert_eq!(read(CopyOptions::default(), b"7\tlast", 100).unwrap(), ["7|last"]);
    }

    #[test]
    fn csv_rows_however_they_are_cut() {
        let mut options = CopyOptions::new([("csv", Value::Flag), ("header", Value::Text("match"))], &["a", "b"], true).unwrap();
        let data = b"a,b\r\n1,\"x,\"\"y\"\"\r\nz\"\r\n,\n3,\"\"\n";
        for step in 1..data.len() {
            assert_eq!(read(options.clone(), data, step).unwrap(), ["1|x,\"y\"\r\nz", "NULL|NULL", "3|"], "{step}");
        }
        options.force_null = Columns::All;
        assert_eq!(read(options.clone(), b"a,b\n1,\"\"\n", 9).unwrap(), ["1|NULL"]);
        assert!(read(options.clone(), b"a,c\n", 9).is_err());
        assert!(read(options, b"a,b\n1,\"open\n", 99).is_err());
    }

    #[test]
    fn binary_rows_however_they_are_cut() {
        let options = CopyOptions::new([("format", Value::Text("binary"))], &["a", "b"], true).unwrap();
        let mut data = SIGNATURE.to_vec();
        data.extend_from_slice(b"\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x02hi\0\x02\xff\xff\xff\xff\0\0\0\0\xff\xff");
        for step in 1..data.len() {
            assert_eq!(read(options.clone(), &data, step).unwrap(), ["5|hi", "NULL|"], "{step}");
        }
        assert!(read(options.clone(), &data[..data.len() - 3], 99).is_err());
        assert!(read(options.clone(), b"not binary at all", 99).is_err());
        assert!(read(options, b"", 1).is_err());
    }

    #[test]
    fn bad_rows_name_their_line() {
        for bad in [&b"1\n"[..], b"zz\tx\n", b"1\t\xff\xfe\n", b"1\tx\tz\n", b"\0\x01\x02\n"] {
            let e = read(CopyOptions::default(), &[b"1\tok\n", bad].concat(), 99).unwrap_err();
            assert!(e.context.unwrap_or_default().starts_with("COPY t, line 2"), "{bad:?}");
        }
        let place = |data: &[u8]| read(CopyOptions::default(), data, 99).unwrap_err().context.unwrap_or_default();
        assert_eq!(place(b"zz\tx\n"), "COPY t, line 1, column a: \"zz\"");
        assert_eq!(place(b"1\n"), "COPY t, line 1: \"1\"");
    }
}
