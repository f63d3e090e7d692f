//! Results as text: aligned tables, CSV, JSON, in the text forms of the PostgreSQL encoder.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;
use squilla_core::values::ImageView;
use squilla_engine::session::{OutputStyle, ResultField};
use squilla_server::encode::style::{RegNames, Style};
use squilla_server::encode::{OutputColumn, RowEncoder};

use crate::arguments::Format;

/// Pixels to a file, for `squilla.image_output`.
pub fn encode_image(image: ImageView<'_>, format: &str) -> Result<Vec<u8>> {
    let format = squilla_media::image::encode::parse_format(format)?;
    squilla_media::image::encode::encode_image(&image, format, 85)
}

/// Rows that a table may hold back to align its columns.
const ALIGNED_ROWS_MAX: usize = 1000;

/// Writes one result.
pub struct Printer<W: Write> {
    out: W,
    format: Format,
    fields: Arc<Vec<ResultField>>,
    encoder: RowEncoder,
    rows: u64,
    held: Vec<Vec<Option<String>>>,
    widths: Option<Vec<usize>>,
}

impl<W: Write> Printer<W> {
    /// A printer of a result with these columns.
    pub fn new(out: W, format: Format, fields: Arc<Vec<ResultField>>, output: &OutputStyle, names: RegNames) -> Self {
        let columns = fields.iter().map(|f| OutputColumn { ty: f.ty.clone(), binary: false }).collect();
        let mut style = Style { image_encoder: Some(encode_image), bytea_hex: output.bytea_output != "escape", ..Style::default() };
        style.reg_names = Some(names);
        style.extra_float_digits = output.extra_float_digits;
        style.set_date_style(&output.date_style);
        style.set_interval_style(&output.interval_style);
        style.set_image_output(&output.image_output);
        Self { out, format, fields, encoder: RowEncoder::new(columns, Arc::new(style)), rows: 0, held: Vec::new(), widths: None }
    }

    fn io(error: std::io::Error) -> Error {
        Error::io("could not write the result", error)
    }

    /// Writes a batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let step = RowEncoder::chunk_rows(batch);
        for start in (0..batch.num_rows()).step_by(step) {
            let end = (start + step).min(batch.num_rows());
            let cells = self.encoder.encode_columns(batch, start..end)?;
            let mut rows = Vec::with_capacity(end - start);
            for row in 0..end - start {
                rows.push(cells.iter().map(|c| c.value(row).map(|v| String::from_utf8_lossy(v).into_owned())).collect::<Vec<_>>());
            }
            for row in rows {
                self.row(row)?;
            }
        }
        Ok(())
    }

    fn row(&mut self, row: Vec<Option<String>>) -> Result<()> {
        match self.format {
            Format::Csv => {
                if self.rows == 0 {
                    self.csv_header()?;
                }
                let line: Vec<String> = row.iter().map(|v| v.as_deref().map_or_else(String::new, quoted)).collect();
                writeln!(self.out, "{}", line.join(",")).map_err(Self::io)?;
            }
            Format::Json => {
                let open = if self.rows == 0 { "[" } else { ",\n " };
                let object = self.object(&row)?;
                write!(self.out, "{open}{object}").map_err(Self::io)?;
            }
            Format::Table => {
                self.held.push(row);
                if self.widths.is_some() || self.held.len() >= ALIGNED_ROWS_MAX {
                    self.flush_table()?;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn csv_header(&mut self) -> Result<()> {
        let names: Vec<String> = self.fields.iter().map(|f| quoted(&f.name)).collect();
        writeln!(self.out, "{}", names.join(",")).map_err(Self::io)
    }

    fn object(&self, row: &[Option<String>]) -> Result<String> {
        let mut map = serde_json::Map::new();
        for (field, value) in self.fields.iter().zip(row) {
            map.insert(field.name.clone(), value.as_deref().map_or(serde_json::Value::Null, |v| json_value(&field.ty, v)));
        }
        serde_json::to_string(&map).map_err(|e| Error::internal(e.to_string()))
    }

    fn flush_table(&mut self) -> Result<()> {
        if self.widths.is_none() {
            let widths: Vec<usize> = self
                .fields
                .iter()
                .enumerate()
                .map(|(i, f)| {
                    self.held.iter().filter_map(|r| r.get(i)?.as_ref()).map(|v| v.chars().count()).chain([f.name.chars().count()]).max().unwrap_or(0)
                })
                .collect();
            let names: Vec<String> = self.fields.iter().zip(&widths).map(|(f, w)| format!(" {:^w$} ", f.name)).collect();
            writeln!(self.out, "{}", names.join("|").trim_end()).map_err(Self::io)?;
            let lines: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
            writeln!(self.out, "{}", lines.join("+")).map_err(Self::io)?;
            self.widths = Some(widths);
        }
        let widths = self.widths.clone().unwrap_or_default();
        for row in std::mem::take(&mut self.held) {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .zip(self.fields.iter())
                .map(|((v, w), f)| {
                    let text = v.as_deref().unwrap_or("");
                    if f.ty.arrow().is_numeric() { format!(" {text:>w$} ") } else { format!(" {text:<w$} ") }
                })
                .collect();
            writeln!(self.out, "{}", cells.join("|").trim_end()).map_err(Self::io)?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<()> {
        match self.format {
            Format::Csv if self.rows == 0 => self.csv_header()?,
            Format::Csv => {}
            Format::Json if self.rows == 0 => writeln!(self.out, "[]").map_err(Self::io)?,
            Format::Json => writeln!(self.out, "]").map_err(Self::io)?,
            Format::Table => {
                self.flush_table()?;
                let word = if self.rows == 1 { "row" } else { "rows" };
                writeln!(self.out, "({} {word})\n", self.rows).map_err(Self::io)?;
            }
        }
        self.out.flush().map_err(Self::io)
    }
}

/// A CSV field, quoted where it must be.
fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn json_value(ty: &SqlType, text: &str) -> serde_json::Value {
    match ty {
        SqlType::Bool => serde_json::Value::Bool(text == "t"),
        SqlType::Json
        | SqlType::Jsonb
        | SqlType::Vector
        | SqlType::Tensor
        | SqlType::Int2
        | SqlType::Int4
        | SqlType::Int8
        | SqlType::Float4
        | SqlType::Float8
        | SqlType::Numeric(_)
        | SqlType::Oid => serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned())),
        _ => serde_json::Value::String(text.to_owned()),
    }
}
