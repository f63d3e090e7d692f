//! `COPY (query) TO 'location'`.
//!
//! In: a stream of batches, a location and options. Out: the rows written. Invariant: the file or object is visible whole
//! or not at all, whether the statement fails, is cancelled, or is dropped; PARTITION_BY and MAX_FILE_SIZE make a
//! directory of files, for which the same holds (`super::directory`). The format is the option FORMAT, else the suffix of
//! the location, else Parquet for a directory. Deliberately absent: COPY TO STDOUT (the server).

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use squilla_core::error::{Error, Kind, Result, did_you_mean};

use super::csv::{CsvEncoder, CsvOptions, has_column};
use super::directory::{self, Layout};
use super::encode::{self, Encoder};
use super::json::JsonEncoder;
use super::parquet::{ParquetEncoder, ParquetOptions};
use super::target::Target;
use crate::source::files::FileAccess;
use crate::source::read_files::{extension_of, name_of};
use crate::statement::copy::CopyOption;

/// How the file is written.
#[derive(Clone, Debug)]
pub enum CopyFormat {
    /// FORMAT parquet
    Parquet(ParquetOptions),
    /// FORMAT csv
    Csv(CsvOptions),
    /// FORMAT json: one object a line
    Json,
}

impl CopyFormat {
    /// Suffix of the files.
    pub fn extension(&self) -> &'static str {
        match self {
            CopyFormat::Parquet(_) => "parquet",
            CopyFormat::Csv(_) => "csv",
            CopyFormat::Json => "json",
        }
    }
}

/// Writes the stream to `location` (a path, `s3://...`, or a URL that takes PUT): the rows.
///
/// 42601 for an option that the format does not have, 22023 for a wrong value, 0A000 for a format that is not offered,
/// 58P01 for a missing directory.
pub async fn copy_to(stream: SendableRecordBatchStream, location: &str, options: &[(String, CopyOption)], access: &Arc<FileAccess>) -> Result<u64> {
    let schema = stream.schema();
    let (options, layout) = Layout::take(options, &schema)?;
    let format = parse_options(location, &options, &schema)?;
    if let Some(layout) = layout {
        return directory::copy_to(stream, location, format, layout, access).await;
    }
    let (mut target, writer) = Target::create(location, format.extension(), access).await?;
    let encoder = encoder(format, &schema, writer)?;
    match encode::run(stream, encoder, &mut target).await {
        Ok(rows) => target.commit().await.map(|()| rows),
        Err(error) => {
            target.abort().await;
            Err(error)
        }
    }
}

pub(super) fn encoder(format: CopyFormat, schema: &SchemaRef, writer: Box<dyn Write + Send>) -> Result<Box<dyn Encoder>> {
    Ok(match format {
        CopyFormat::Parquet(options) => Box::new(ParquetEncoder::new(writer, schema, &options)?),
        CopyFormat::Csv(options) => Box::new(CsvEncoder::new(writer, schema, options)?),
        CopyFormat::Json => Box::new(JsonEncoder::new(writer, schema)),
    })
}

/// Reads FORMAT and the options that go with it.
pub fn parse_options(location: &str, options: &[(String, CopyOption)], schema: &SchemaRef) -> Result<CopyFormat> {
    for (i, (name, _)) in options.iter().enumerate() {
        if options.iter().take(i).any(|(n, _)| n == name) {
            return Err(Error::new(Kind::Syntax, "conflicting or redundant options").detail(format!("Option \"{name}\" is given twice.")));
        }
    }
    let named = options.iter().find(|(n, _)| n == "format").map(|(_, v)| value(v, "format")).transpose()?;
    let suffix = extension_of(location).map(str::to_lowercase);
    let format = match (named.map(str::to_lowercase), suffix.as_deref()) {
        (Some(format), _) => format,
        (None, Some("parquet" | "pq")) => "parquet".into(),
        (None, Some("csv" | "tsv")) => "csv".into(),
        (None, Some("json" | "ndjson" | "jsonl")) => "json".into(),
        (None, None) if name_of(location).is_empty() => "parquet".into(),
        (None, _) => {
            return Err(Error::invalid_argument(format!("the format of \"{location}\" is not told by its suffix"))
                .hint("Say (FORMAT parquet), (FORMAT csv) or (FORMAT json)."));
        }
    };
    let rest: Vec<(&str, &CopyOption)> = options.iter().filter(|(n, _)| n != "format").map(|(n, v)| (n.as_str(), v)).collect();
    match format.as_str() {
        "parquet" => parquet_options(&rest).map(CopyFormat::Parquet),
        "csv" => csv_options(&rest, suffix.as_deref() == Some("tsv"), schema).map(CopyFormat::Csv),
        "json" | "ndjson" | "jsonl" => match rest.first() {
            None => Ok(CopyFormat::Json),
            Some((name, _)) => Err(unknown(name, "json", &[])),
        },
        other => {
            let error = Error::unsupported(format!("COPY format \"{other}\" is not supported for files"));
            Err(match did_you_mean(other, ["parquet", "csv", "json"]) {
                Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
                None => error.hint("Formats are parquet, csv and json."),
            })
        }
    }
}

pub(super) fn value<'a>(option: &'a CopyOption, name: &str) -> Result<&'a str> {
    match option {
        CopyOption::Value(value) => Ok(value),
        _ => Err(Error::new(Kind::Syntax, format!("option \"{name}\" requires a value"))),
    }
}

pub(super) fn flag(option: &CopyOption, name: &str) -> Result<bool> {
    match option {
        CopyOption::Flag => Ok(true),
        CopyOption::Value(text) => {
            squilla_core::settings::parse_bool(text).ok_or_else(|| Error::new(Kind::Syntax, format!("{name} requires a Boolean value")))
        }
        CopyOption::List(_) => Err(Error::new(Kind::Syntax, format!("{name} requires a Boolean value"))),
    }
}

fn byte(option: &CopyOption, name: &str) -> Result<u8> {
    match value(option, name)?.as_bytes() {
        [byte] if !matches!(byte, b'\n' | b'\r') => Ok(*byte),
        _ => Err(Error::invalid_argument(format!("COPY {name} must be a single one-byte character"))),
    }
}

fn count(option: &CopyOption, name: &str) -> Result<usize> {
    value(option, name)?
        .parse()
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::invalid_argument(format!("option \"{name}\" must be a positive number")))
}

fn unknown(name: &str, format: &str, valid: &[&'static str]) -> Error {
    let error = Error::new(Kind::Syntax, format!("option \"{name}\" not recognized for format {format}"));
    match did_you_mean(name, valid.iter().copied()) {
        Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
        None if valid.is_empty() => error,
        None => error.hint(format!("Options are {}.", valid.join(", "))),
    }
}

fn parquet_options(options: &[(&str, &CopyOption)]) -> Result<ParquetOptions> {
    let mut out = ParquetOptions::default();
    for (name, option) in options {
        match *name {
            "compression" => {
                let text = value(option, name)?.to_lowercase();
                out.compression = match text.as_str() {
                    "zstd" => out.compression,
                    "snappy" => Compression::SNAPPY,
                    "lz4" | "lz4_raw" => Compression::LZ4_RAW,
                    "none" | "uncompressed" => Compression::UNCOMPRESSED,
                    other => {
                        return Err(
                            Error::invalid_argument(format!("unknown compression \"{other}\"")).hint("Compressions are zstd, snappy, lz4 and none.")
                        );
                    }
                };
            }
            "compression_level" => {
                let level = i32::try_from(count(option, name)?).unwrap_or(i32::MAX);
                out.compression =
                    Compression::ZSTD(ZstdLevel::try_new(level).map_err(|_| Error::invalid_argument("compression_level must be from 1 to 22"))?);
            }
            "row_group_size" => out.group_rows = count(option, name)?,
            "row_group_bytes" => out.group_bytes = count(option, name)?,
            other => return Err(unknown(other, "parquet", &["compression", "compression_level", "row_group_size", "row_group_bytes"])),
        }
    }
    Ok(out)
}

fn csv_options(options: &[(&str, &CopyOption)], tabs: bool, schema: &SchemaRef) -> Result<CsvOptions> {
    let mut out = CsvOptions { delimiter: if tabs { b'\t' } else { b',' }, ..CsvOptions::default() };
    let mut escape = None;
    for (name, option) in options {
        match *name {
            "header" => out.header = flag(option, "header")?,
            "delimiter" => out.delimiter = byte(option, "delimiter")?,
            "quote" => out.quote = byte(option, "quote")?,
            "escape" => escape = Some(byte(option, "escape")?),
            "null" => out.null = value(option, "null")?.to_owned(),
            "force_quote" => {
                out.force_quote = match option {
                    CopyOption::List(names) => names.clone(),
                    CopyOption::Value(name) => vec![name.clone()],
                    CopyOption::Flag => return Err(Error::new(Kind::Syntax, "option \"force_quote\" requires a list of columns")),
                };
                if let Some(missing) = out.force_quote.iter().find(|n| *n != "*" && !has_column(schema, n)) {
                    return Err(Error::new(Kind::UndefinedColumn, format!("column \"{missing}\" does not exist")));
                }
            }
            "encoding" => {
                let text = value(option, "encoding")?.to_uppercase();
                if !matches!(text.as_str(), "UTF8" | "UTF-8" | "UNICODE") {
                    return Err(Error::unsupported(format!("encoding \"{text}\" is not supported")).hint("Files are written in UTF8."));
                }
            }
            other => return Err(unknown(other, "csv", &["header", "delimiter", "quote", "escape", "null", "force_quote", "encoding"])),
        }
    }
    out.escape = escape.unwrap_or(out.quote);
    if out.delimiter == out.quote {
        return Err(Error::invalid_argument("COPY delimiter and quote must be different"));
    }
    if out.null.as_bytes().iter().any(|b| *b == out.delimiter || *b == out.quote || matches!(b, b'\n' | b'\r')) {
        return Err(Error::invalid_argument("the COPY NULL string must not have the delimiter, the quote or a line end in it"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::path::Path;

    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{Int64Type, Schema};
    use datafusion::common::ScalarValue;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::prelude::SessionContext;
    use futures::StreamExt;
    use object_store::memory::InMemory;
    use squilla_core::types::SqlType;

    use super::*;
    use crate::source::options::SourceCall;
    use crate::source::tables::resolve;

    fn batch(from: i64, n: i64) -> RecordBatch {
        let schema = Schema::new(vec![SqlType::Int8.field("n"), SqlType::Varchar(Some(9)).field("t"), SqlType::Interval.field("i")]);
        let intervals = (0..n).map(|i| Some(datafusion::arrow::datatypes::IntervalMonthDayNano::new(i as i32, 1, 5_000_000_000)));
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new((from..from + n).map(Some).collect::<Int64Array>()),
                Arc::new((from..from + n).map(|i| Some(format!("v{i}"))).collect::<StringArray>()),
                Arc::new(intervals.collect::<datafusion::arrow::array::IntervalMonthDayNanoArray>()),
            ],
        )
        .unwrap()
    }

    fn stream(fail: bool) -> SendableRecordBatchStream {
        let schema = batch(0, 1).schema();
        let items = (0..3).map(move |i| {
            if fail && i == 2 {
                Err(crate::error::to_datafusion(Error::new(Kind::DivisionByZero, "division by zero")))
            } else {
                Ok(batch(i * 10, 10))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(items)))
    }

    async fn sum(call: &str, path: &str, access: &Arc<FileAccess>) -> (usize, i64, String) {
        let context = SessionContext::new();
        let call = SourceCall { name: call.into(), positional: vec![ScalarValue::from(path)], named: vec![] };
        let provider = resolve(&call, access, &context.state()).await.unwrap().unwrap();
        assert_eq!(provider.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["n", "t", "i"]);
        let marks = provider.schema().field(1).metadata().get("squilla.length").cloned().unwrap_or_default();
        let batches = context.read_table(provider).unwrap().collect().await.unwrap();
        let total = batches.iter().map(|b| b.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>()).sum();
        (batches.iter().map(RecordBatch::num_rows).sum(), total, marks)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn every_format_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let access = FileAccess::new();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        let header = [("header".to_owned(), CopyOption::Flag)];
        assert_eq!(copy_to(stream(false), &at("t.parquet"), &[], &access).await.unwrap(), 30);
        assert_eq!(copy_to(stream(false), &at("t.csv"), &header, &access).await.unwrap(), 30);
        assert_eq!(copy_to(stream(false), &at("t.json"), &[], &access).await.unwrap(), 30);
        let copied = copy_to(stream(false), &at("out/"), &[("format".into(), CopyOption::Value("parquet".into()))], &access).await;
        assert_eq!(copied.unwrap(), 30);
        assert_eq!(names(dir.path()), ["out", "t.csv", "t.json", "t.parquet"]);
        assert_eq!(names(&dir.path().join("out")), ["part-0.parquet"]);
        assert_eq!(sum("read_parquet", &at("t.parquet"), &access).await, (30, 435, "9".into()));
        assert_eq!(sum("read_parquet", &at("out"), &access).await, (30, 435, "9".into()));
        assert_eq!(sum("read_csv", &at("t.csv"), &access).await, (30, 435, String::new()));
        assert_eq!(sum("read_json", &at("t.json"), &access).await, (30, 435, String::new()));
    }

    #[tokio::test]
    async fn failure_and_drop_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let access = FileAccess::new();
        let path = format!("{}/t.csv", dir.path().display());
        std::fs::write(&path, "old").unwrap();
        assert_eq!(copy_to(stream(true), &path, &[], &access).await.unwrap_err().sqlstate(), "22012");
        assert_eq!(names(dir.path()), ["t.csv"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        let never =
            RecordBatchStreamAdapter::new(batch(0, 1).schema(), futures::stream::once(async { Ok(batch(0, 1)) }).chain(futures::stream::pending()));
        let copying = copy_to(Box::pin(never), &path, &[], &access);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(100), copying).await.is_err());
        assert_eq!(names(dir.path()), ["t.csv"]);
        assert_eq!(copy_to(stream(true), &format!("{}/d/", dir.path().display()), &[], &access).await.unwrap_err().sqlstate(), "22012");
        assert_eq!(names(dir.path()), ["t.csv"]);
        assert_eq!(copy_to(stream(false), &format!("{}/no/x.csv", dir.path().display()), &[], &access).await.unwrap_err().sqlstate(), "58P01");
    }

    #[tokio::test]
    async fn objects() {
        let access = FileAccess::new();
        let store = Arc::new(InMemory::new());
        access.register_bucket("b", Arc::clone(&store) as Arc<dyn object_store::ObjectStore>);
        assert_eq!(copy_to(stream(false), "s3://b/x/", &[], &access).await.unwrap(), 30);
        assert_eq!(sum("read_parquet", "s3://b/x/part-0.parquet", &access).await, (30, 435, "9".into()));
        assert!(copy_to(stream(true), "s3://b/y.csv", &[], &access).await.is_err());
        assert!(object_store::ObjectStoreExt::head(&*store, &"y.csv".into()).await.is_err());
    }

    #[test]
    fn options_are_checked() {
        let schema = batch(0, 1).schema();
        let code = |location: &str, name: &str, option: CopyOption| parse_options(location, &[(name.into(), option)], &schema).unwrap_err();
        assert_eq!(code("x.csv", "headr", CopyOption::Flag).hint.as_deref(), Some("Did you mean \"header\"?"));
        assert_eq!(code("x.csv", "delimiter", CopyOption::Value("||".into())).sqlstate(), "22023");
        assert_eq!(code("x.bin", "format", CopyOption::Value("avro".into())).sqlstate(), "0A000");
        assert_eq!(code("x.parquet", "compression", CopyOption::Value("rar".into())).sqlstate(), "22023");
        assert_eq!(code("x.csv", "force_quote", CopyOption::List(vec!["none".into()])).sqlstate(), "42703");
        assert_eq!(parse_options("x", &[], &schema).unwrap_err().sqlstate(), "22023");
        assert!(matches!(parse_options("s3://b/x/", &[], &schema), Ok(CopyFormat::Parquet(_))));
    }
}
