//! Rows to COPY data.
//!
//! In: encoded columns. Out: one CopyData message a row, as PostgreSQL sends them. Invariant: what is written reads back
//! to the same values with the same options. Deliberately absent: where the rows come from (stream).

use bytes::{BufMut, BytesMut};

use crate::copy::{CopyFormat, CopyOptions, Header};
use crate::encode::cells::Cells;

/// What a binary COPY begins with: signature, flags, length of the extension.
pub const SIGNATURE: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Appends a CopyData message whose body `write` appends.
fn message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(b'd');
    out.put_u32(0);
    write(out);
    let length = (out.len() - start - 1) as u32;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

/// What comes before the rows.
pub fn begin(out: &mut BytesMut, options: &CopyOptions, names: &[&str]) {
    match options.format {
        // The signature leaves with the first row, as PostgreSQL sends it and drivers expect it.
        CopyFormat::Binary => {}
        _ if options.header == Header::None => {}
        CopyFormat::Text => message(out, |out| {
            for (i, name) in names.iter().enumerate() {
                if i > 0 {
                    out.put_u8(options.delimiter);
                }
                text_field(out, name.as_bytes(), options.delimiter);
            }
            out.put_u8(b'\n');
        }),
        CopyFormat::Csv => message(out, |out| {
            for (i, name) in names.iter().enumerate() {
                if i > 0 {
                    out.put_u8(options.delimiter);
                }
                csv_field(out, name.as_bytes(), options, false, names.len() == 1);
            }
            out.put_u8(b'\n');
        }),
    }
}

/// Appends the rows held by `columns`; `first` says whether no row was written before, and tells so afterwards.
pub fn rows(out: &mut BytesMut, options: &CopyOptions, columns: &[Cells], count: usize, first: &mut bool) {
    out.reserve(columns.iter().map(Cells::bytes).sum::<usize>() + count * (8 + columns.len()));
    for row in 0..count {
        let first = std::mem::take(first);
        message(out, |out| match options.format {
            CopyFormat::Binary => {
                if first {
                    out.put_slice(SIGNATURE);
                }
                out.put_u16(columns.len() as u16);
                columns.iter().for_each(|c| out.put_slice(c.field(row)));
            }
            CopyFormat::Text => {
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        out.put_u8(options.delimiter);
                    }
                    match column.value(row) {
                        Some(value) => text_field(out, value, options.delimiter),
                        None => out.put_slice(options.null.as_bytes()),
                    }
                }
                out.put_u8(b'\n');
            }
            CopyFormat::Csv => {
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        out.put_u8(options.delimiter);
                    }
                    match column.value(row) {
                        Some(value) => csv_field(out, value, options, options.force_quote.has(i), columns.len() == 1),
                        None => out.put_slice(options.null.as_bytes()),
                    }
                }
                out.put_u8(b'\n');
            }
        });
    }
}

/// What comes after the rows; `first` says that there were none.
pub fn end(out: &mut BytesMut, options: &CopyOptions, first: bool) {
    if options.format == CopyFormat::Binary {
        message(out, |out| {
            if first {
                out.put_slice(SIGNATURE);
            }
            out.put_i16(-1);
        });
    }
}

fn text_field(out: &mut BytesMut, value: &[u8], delimiter: u8) {
    // Without a way out of the loop, many bytes are looked at at a time; next to no value has anything to escape.
    if !value.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == b'\\') | (*byte == delimiter)) {
        return out.put_slice(value);
    }
    let mut start = 0;
    for (at, byte) in value.iter().enumerate() {
        let escaped = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            other if *other == delimiter => delimiter,
            _ => continue,
        };
        out.put_slice(&value[start..at]);
        out.put_slice(&[b'\\', escaped]);
        start = at + 1;
    }
    out.put_slice(&value[start..]);
}

fn csv_field(out: &mut BytesMut, value: &[u8], options: &CopyOptions, force: bool, alone: bool) {
    let special = |b: &u8| (*b == options.delimiter) | (*b == options.quote) | (*b == b'\n') | (*b == b'\r');
    let quoted = force || value == options.null.as_bytes() || (alone && value == b"\\.") || value.iter().fold(false, |found, b| found | special(b));
    if !quoted {
        return out.put_slice(value);
    }
    out.put_u8(options.quote);
    for byte in value {
        if *byte == options.quote || *byte == options.escape {
            out.put_u8(options.escape);
        }
        out.put_u8(*byte);
    }
    out.put_u8(options.quote);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::copy::{Columns, Value};

    fn written(options: &CopyOptions, rows_in: &[&[Option<&str>]]) -> Vec<String> {
        let width = rows_in[0].len();
        let mut columns: Vec<Cells> = (0..width).map(|_| Cells::default()).collect();
        for row in rows_in {
            for (column, value) in columns.iter_mut().zip(*row) {
                match value {
                    Some(v) => column.push(v.as_bytes()),
                    None => column.null(),
                }
            }
        }
        let mut out = BytesMut::new();
        rows(&mut out, options, &columns, rows_in.len(), &mut true);
        let mut lines = Vec::new();
        let mut rest = &out[..];
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            lines.push(String::from_utf8_lossy(&rest[5..1 + length]).into_owned());
            rest = &rest[1 + length..];
        }
        lines
    }

    #[test]
    fn text_escapes() {
        let rows: &[&[Option<&str>]] = &[&[Some("a\tb\\c\n"), None], &[Some(""), Some("\\N")]];
        assert_eq!(written(&CopyOptions::default(), rows), ["a\\tb\\\\c\\n\t\\N\n", "\t\\\\N\n"]);
    }

    #[test]
    fn csv_quotes() {
        let mut options = CopyOptions::new([("csv", Value::Flag)], &["a", "b"], false).unwrap();
        let rows: &[&[Option<&str>]] = &[&[Some("a,b"), None], &[Some(""), Some("say \"x\"")], &[Some("plain"), Some("two\nlines")]];
        assert_eq!(written(&options, rows), ["\"a,b\",\n", "\"\",\"say \"\"x\"\"\"\n", "plain,\"two\nlines\"\n"]);
        options.force_quote = Columns::All;
        assert_eq!(written(&options, &[&[Some("1"), None]]), ["\"1\",\n"]);
        assert_eq!(written(&options, &[&[Some("\\.")]]), ["\"\\.\"\n"]);
    }
}
