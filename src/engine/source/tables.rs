//! Table functions over files and external tables: from a call to a provider.
//!
//! In: a [`SourceCall`], or what CREATE EXTERNAL TABLE stored. Out: a provider with its schema settled: declared, or
//! inferred from the first files. Invariants: mistakes in arguments, missing files and missing credentials are errors
//! here, before any row; an option that a format does not have is an error. Deliberately absent: merging the schemas of
//! all files (a column that only later files have is not seen; say `schema =>`).

use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore};
use squilla_core::error::{Error, Kind, Result, did_you_mean};
use squilla_core::types::SqlType;
use squilla_core::values::FileRef;

use super::files::FileAccess;
use super::listing::ListOptions;
use super::object::{self, object_meta};
use super::options::{Arguments, Parameter, SourceCall, SourceDeclaration};
use super::read_files::{self, ListedFiles, name_of};
use super::scan::{FileSet, FilesTable, clean, infer_partitions};
use super::text::{self, TextTable};
use crate::catalog::data::{ColumnEntry, column_list, parse_spelling};
use crate::error::{from_arrow, from_datafusion};

/// Files that schema and partitions are inferred from.
const SAMPLE_FILES: u64 = 32;

const fn required(name: &'static str) -> Parameter {
    Parameter { name, ty: "text", default: None }
}

const fn optional(name: &'static str, ty: &'static str, default: &'static str) -> Parameter {
    Parameter { name, ty, default: Some(default) }
}

static SOURCES: &[SourceDeclaration] = &[
    SourceDeclaration {
        name: "read_files",
        parameters: &[
            required("pattern"),
            optional("recursive", "boolean", "true"),
            optional("modified_after", "timestamp with time zone", "NULL"),
            optional("max_files", "bigint", "NULL"),
        ],
        columns: || {
            let mut columns = read_files::columns();
            columns.push(("content", SqlType::Bytea));
            columns
        },
        comment: "The files that a path, URL or pattern names, one a row; content is read only where it is used.",
    },
    SourceDeclaration {
        name: "glob",
        parameters: &[required("pattern")],
        columns: || vec![("glob", SqlType::Text)],
        comment: "The paths that match a pattern.",
    },
    SourceDeclaration {
        name: "read_parquet",
        parameters: &[required("path"), optional("hive", "boolean", "false"), optional("schema", "text", "NULL")],
        columns: Vec::new,
        comment: "The rows of Parquet files.",
    },
    SourceDeclaration {
        name: "read_csv",
        parameters: &[
            required("path"),
            optional("header", "boolean", "true"),
            optional("delimiter", "text", "','"),
            optional("quote", "text", "'\"'"),
            optional("escape", "text", "NULL"),
            optional("null", "text", "''"),
            optional("comment", "text", "NULL"),
            optional("schema", "text", "NULL"),
            optional("ragged", "boolean", "false"),
            optional("compression", "text", "'auto'"),
            optional("hive", "boolean", "false"),
        ],
        columns: Vec::new,
        comment: "The rows of CSV files; types are inferred from the first 1,000 rows unless schema names them.",
    },
    SourceDeclaration {
        name: "read_json",
        parameters: &[
            required("path"),
            optional("schema", "text", "NULL"),
            optional("compression", "text", "'auto'"),
            optional("hive", "boolean", "false"),
        ],
        columns: Vec::new,
        comment: "The objects of JSON files, one a line or in one array.",
    },
    SourceDeclaration {
        name: "read_arrow",
        parameters: &[required("path"), optional("hive", "boolean", "false"), optional("schema", "text", "NULL")],
        columns: Vec::new,
        comment: "The rows of Arrow IPC files and streams (Feather).",
    },
    SourceDeclaration { name: "read_text", parameters: &[required("pattern")], columns: text::columns, comment: "The lines of text files." },
];

/// Every table function of this module, for system views and `\df`.
pub fn sources() -> &'static [SourceDeclaration] {
    SOURCES
}

/// The provider of a call; None when the name is none of [`sources`].
pub async fn resolve(call: &SourceCall, access: &Arc<FileAccess>, state: &dyn Session) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(declaration) = SOURCES.iter().find(|d| d.name == call.name) else { return Ok(None) };
    let arguments = Arguments::bind(call, declaration)?;
    let access = Arc::clone(access);
    Ok(Some(match declaration.name {
        "read_files" => {
            let options = ListOptions {
                recursive: arguments.boolean("recursive")?.unwrap_or(true),
                modified_after_us: arguments.time_us("modified_after")?,
                files_max: arguments.count("max_files")?,
                ..ListOptions::default()
            };
            Arc::new(ListedFiles::new(Arc::clone(&access), checked(&access, arguments.paths("pattern")?, &options)?, options))
        }
        "glob" => {
            let options = ListOptions { details: false, ..ListOptions::default() };
            Arc::new(ListedFiles::glob(Arc::clone(&access), checked(&access, arguments.paths("pattern")?, &options)?, options))
        }
        "read_text" => {
            let options = table_listing();
            Arc::new(TextTable::new(Arc::clone(&access), checked(&access, arguments.paths("pattern")?, &options)?, options))
        }
        format => {
            let table = Spec {
                format: format.trim_start_matches("read_"),
                patterns: arguments.paths("path")?,
                columns: declared(&arguments)?,
                partitions: None,
            };
            table.provider(&access, &arguments, state).await?
        }
    }))
}

/// The provider of an external table. Options are those of `read_<format>`, as text.
pub async fn external(
    columns: &[ColumnEntry],
    format: &str,
    location: &str,
    options: &[(String, String)],
    partitioned_by: &[String],
    access: &Arc<FileAccess>,
    state: &dyn Session,
) -> Result<Arc<dyn TableProvider>> {
    let (call, declaration) = external_call(format, location, options)?;
    if declaration.name == "read_text" {
        return resolve(&call, access, state).await?.ok_or_else(|| Error::internal("read_text is no source"));
    }
    let arguments = Arguments::bind(&call, declaration)?;
    let all = columns.iter().map(|c| Ok((c.name.clone(), c.sql_type()?))).collect::<Result<Vec<_>>>()?;
    let partitions: Vec<(String, SqlType)> =
        partitioned_by.iter().map(|name| (name.clone(), all.iter().find(|(n, _)| n == name).map_or(SqlType::Text, |(_, ty)| ty.clone()))).collect();
    let own: Vec<(String, SqlType)> = all.into_iter().filter(|(n, _)| !partitioned_by.contains(n)).collect();
    let table = Spec {
        format: declaration.name.trim_start_matches("read_"),
        patterns: vec![location.to_owned()],
        columns: if own.is_empty() { declared(&arguments)? } else { Some(own) },
        partitions: (!partitions.is_empty()).then_some(partitions),
    };
    table.provider(access, &arguments, state).await
}

/// Checks the format and the names of the options of CREATE EXTERNAL TABLE, without looking at files.
pub fn check_external(format: &str, location: &str, options: &[(String, String)]) -> Result<()> {
    let (call, declaration) = external_call(format, location, options)?;
    Arguments::bind(&call, declaration).map(|_| ())
}

fn external_call(format: &str, location: &str, options: &[(String, String)]) -> Result<(SourceCall, &'static SourceDeclaration)> {
    let formats = ["parquet", "csv", "json", "arrow", "text"];
    let wanted = match format.to_lowercase().as_str() {
        "ndjson" | "jsonl" => "json".to_owned(),
        "feather" | "ipc" => "arrow".to_owned(),
        other => other.to_owned(),
    };
    let declaration = formats.contains(&wanted.as_str()).then(|| SOURCES.iter().find(|d| d.name.strip_prefix("read_") == Some(&wanted))).flatten();
    let Some(declaration) = declaration else {
        let error = Error::unsupported(format!("external tables of the format \"{format}\" are not supported"));
        return Err(match did_you_mean(format, formats) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error.hint(format!("Formats are {}.", formats.join(", "))),
        });
    };
    let named = options.iter().map(|(name, value)| {
        let name = name.to_lowercase();
        let name = name.strip_prefix("format.").unwrap_or(&name);
        // The spelling of other systems that read the same statement.
        let name = match name {
            "has_header" => "header",
            "sep" | "field_delimiter" => "delimiter",
            "null_value" | "nullstr" => "null",
            "hive_partitioning" => "hive",
            other => other,
        };
        (name.to_owned(), ScalarValue::from(value.as_str()))
    });
    let call = SourceCall { name: declaration.name.to_owned(), positional: vec![ScalarValue::from(location)], named: named.collect() };
    Ok((call, declaration))
}

fn table_listing() -> ListOptions {
    ListOptions { skip_underscore: true, ..ListOptions::default() }
}

/// The patterns, once each is known to be listable. A listing that is not polled reads nothing.
fn checked(access: &Arc<FileAccess>, patterns: Vec<String>, options: &ListOptions) -> Result<Vec<String>> {
    drop(access.list_all_chunks(&patterns, options)?);
    Ok(patterns)
}

/// `schema => 'a integer, b text'`
fn declared(arguments: &Arguments) -> Result<Option<Vec<(String, SqlType)>>> {
    let Some(text) = arguments.text("schema")? else { return Ok(None) };
    let list = column_list(text).ok_or_else(|| {
        Error::invalid_argument(format!("malformed schema \"{text}\"")).hint("Write names and types: schema => 'id bigint, name text'.")
    })?;
    let columns = list.into_iter().map(|(name, ty)| {
        let parsed = parse_spelling(&ty).ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{ty}\" does not exist")))?;
        Ok((name, parsed))
    });
    columns.collect::<Result<Vec<_>>>().map(Some)
}

/// A table over files of one format.
struct Spec {
    format: &'static str,
    patterns: Vec<String>,
    columns: Option<Vec<(String, SqlType)>>,
    partitions: Option<Vec<(String, SqlType)>>,
}

impl Spec {
    async fn provider(&self, access: &Arc<FileAccess>, arguments: &Arguments, state: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let options = table_listing();
        let sample: Vec<FileRef> =
            access.list_all_chunks(&self.patterns, &ListOptions { files_max: Some(SAMPLE_FILES), ..options.clone() })?.try_concat().await?;
        let (format, order) = self.reader(access, arguments, &sample, state).await?;
        let partitions = match &self.partitions {
            Some(partitions) => partitions.clone(),
            None if arguments.boolean("hive")?.unwrap_or(false) => infer_partitions(&sample),
            None => Vec::new(),
        };
        let file_schema = match &self.columns {
            Some(columns) => Arc::new(Schema::new(columns.iter().map(|(name, ty)| ty.field(name)).collect::<Vec<_>>())),
            None => ordered(self.infer(access, &format, &sample, state).await?, &order),
        };
        let kept: Vec<_> = file_schema.fields().iter().filter(|f| !partitions.iter().any(|(name, _)| name == f.name())).cloned().collect();
        let files = FileSet::Listed { patterns: self.patterns.clone(), options };
        let table =
            |schema: Schema, partitions| FilesTable::new(Arc::clone(access), files, format, Arc::new(schema), partitions, self.format == "parquet");
        match arguments.text("null").ok().flatten() {
            Some(null) if self.format == "csv" && !null.is_empty() => {
                let texts: Vec<_> = kept.iter().map(|f| SqlType::Text.field(f.name())).collect();
                with_null(Arc::new(table(Schema::new(texts), partitions)), &kept, null)
            }
            _ => Ok(Arc::new(table(Schema::new(kept), partitions))),
        }
    }

    /// The reader, and the order of columns where the reader's inference loses it.
    async fn reader(
        &self,
        access: &Arc<FileAccess>,
        arguments: &Arguments,
        sample: &[FileRef],
        state: &dyn Session,
    ) -> Result<(Arc<dyn FileFormat>, Vec<String>)> {
        Ok(match self.format {
            "parquet" => (Arc::new(ParquetFormat::new().with_options(state.default_table_options().parquet).with_skip_metadata(false)), Vec::new()),
            "csv" => (Arc::new(csv_reader(arguments, sample)?), Vec::new()),
            "arrow" => (Arc::new(ArrowFormat), Vec::new()),
            "json" => {
                let compression = compression(arguments, sample)?;
                let (array, keys) = peek_json(access, sample, compression).await?;
                (Arc::new(JsonFormat::default().with_file_compression_type(compression).with_newline_delimited(!array)), keys)
            }
            other => return Err(Error::internal(format!("there is no reader of {other}"))),
        })
    }

    async fn infer(&self, access: &Arc<FileAccess>, format: &Arc<dyn FileFormat>, sample: &[FileRef], state: &dyn Session) -> Result<SchemaRef> {
        let typed = matches!(self.format, "parquet" | "arrow");
        let sample: Vec<&FileRef> = sample.iter().filter(|f| typed || f.size != Some(0)).collect();
        if sample.is_empty() {
            return Err(Error::new(Kind::UndefinedFile, format!("no file with rows matches \"{}\"", self.patterns.join("\", \"")))
                .hint("Columns are inferred from files. Name them with schema => where there may be none."));
        }
        object::register(state.runtime_env(), access)?;
        let store = state.runtime_env().object_store(object::store_url()?).map_err(from_datafusion)?;
        let canonical = !typed;
        // One at a time: metadata of files differs, and would keep their schemas from merging.
        let mut schemas = Vec::with_capacity(sample.len());
        for file in sample {
            let found = self.infer_one(format, &store, &object_meta(file)?, file, state).await?;
            schemas.push(clean(&found, canonical));
            if canonical {
                break;
            }
        }
        let merged = Schema::try_merge(schemas).map_err(|e| {
            Error::new(Kind::DatatypeMismatch, "the files have columns of one name and different types")
                .detail(format!("{}.", from_arrow(e).message))
                .hint("Name the columns with schema =>.")
        })?;
        Ok(Arc::new(merged))
    }

    async fn infer_one(
        &self,
        format: &Arc<dyn FileFormat>,
        store: &Arc<dyn ObjectStore>,
        meta: &ObjectMeta,
        file: &FileRef,
        state: &dyn Session,
    ) -> Result<SchemaRef> {
        format.infer_schema(state, store, std::slice::from_ref(meta)).await.map_err(|e| {
            let inner = from_datafusion(e);
            let foreign = matches!(
                inner.kind,
                Kind::UndefinedFile | Kind::Io | Kind::InsufficientPrivilege | Kind::SourceChanged | Kind::Cancelled | Kind::OutOfMemory
            );
            if foreign {
                return inner;
            }
            Error::new(Kind::BadCopyFormat, format!("\"{}\" is not a readable {} file", file.uri, self.format)).detail(format!("{}.", inner.message))
        })
    }
}

fn csv_reader(arguments: &Arguments, sample: &[FileRef]) -> Result<CsvFormat> {
    // PostgreSQL: the NULL string is matched whole, and only that.
    let null = arguments.text("null")?.filter(|n| !n.is_empty()).map(|n| format!("^{}$", regex::escape(n)));
    Ok(CsvFormat::default()
        .with_has_header(arguments.boolean("header")?.unwrap_or(true))
        .with_delimiter(arguments.byte("delimiter")?.unwrap_or(b','))
        .with_quote(arguments.byte("quote")?.unwrap_or(b'"'))
        .with_escape(arguments.byte("escape")?)
        .with_comment(arguments.byte("comment")?)
        .with_null_regex(null)
        .with_truncated_rows(arguments.boolean("ragged")?.unwrap_or(false))
        // A quoted value may hold line ends, as everywhere; splitting one file among threads would break it.
        .with_newlines_in_values(true)
        .with_file_compression_type(compression(arguments, sample)?))
}

/// The reader of CSV knows no NULL string but the empty one: values are read as text, compared, and cast.
fn with_null(table: Arc<dyn TableProvider>, fields: &[FieldRef], null: &str) -> Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| {
        let column = Expr::Column(Column::new_unqualified(field.name()));
        match fields.iter().find(|f| f.name() == field.name()) {
            Some(wanted) => cast(nullif(column, lit(null)), wanted.data_type().clone())
                .alias_with_metadata(wanted.name(), Some(FieldMetadata::from(wanted.as_ref()))),
            None => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    let plan = LogicalPlanBuilder::scan("csv", provider_as_source(table), None).and_then(|b| b.project(columns)).and_then(LogicalPlanBuilder::build);
    Ok(Arc::new(ViewTable::new(plan.map_err(from_datafusion)?, None)))
}

/// As said, or by the suffix of the first file.
fn compression(arguments: &Arguments, sample: &[FileRef]) -> Result<FileCompressionType> {
    match arguments.text("compression")?.map(str::to_lowercase).as_deref() {
        None | Some("auto") => {
            let suffix = sample.first().and_then(|f| name_of(&f.uri).rsplit_once('.')).map_or("", |(_, suffix)| suffix);
            Ok(suffix.parse().unwrap_or(FileCompressionType::UNCOMPRESSED))
        }
        Some("none") => Ok(FileCompressionType::UNCOMPRESSED),
        Some(named) => {
            let suffix = match named {
                "gzip" => "gz",
                "zstd" => "zst",
                "bzip2" => "bz2",
                other => other,
            };
            suffix.parse().map_err(|_| {
                Error::invalid_argument(format!("unknown compression \"{named}\"")).hint("Compressions are auto, none, gzip, zstd, bzip2, xz.")
            })
        }
    }
}

/// Whether the first file is one array rather than objects line by line, and the names in its first object in order.
async fn peek_json(access: &Arc<FileAccess>, sample: &[FileRef], compression: FileCompressionType) -> Result<(bool, Vec<String>)> {
    let Some(first) = sample.iter().find(|f| f.size != Some(0)) else { return Ok((false, Vec::new())) };
    let bytes = access.stream(first).await?.map_err(crate::error::to_datafusion);
    let mut bytes = compression.convert_stream(Box::pin(bytes)).map_err(from_datafusion)?;
    let mut head = Vec::new();
    while let Some(chunk) = bytes.try_next().await.map_err(from_datafusion)? {
        head.extend_from_slice(&chunk);
        let start = head.iter().position(|b| !b.is_ascii_whitespace() && !matches!(b, 0xef | 0xbb | 0xbf)).unwrap_or(head.len());
        let text = head.get(start..).unwrap_or_default();
        let array = text.first() == Some(&b'[');
        let object = text.get(usize::from(array)..).unwrap_or_default();
        if let Some(Ok(keys)) = serde_json::Deserializer::from_slice(object).into_iter::<Keys>().next() {
            return Ok((array, keys.0));
        }
        // Not whole yet, or not JSON: that is for the reader to say.
        if head.len() > PEEK_BYTES_MAX {
            return Ok((array, Vec::new()));
        }
    }
    Ok((head.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'['), Vec::new()))
}

const PEEK_BYTES_MAX: usize = 4 << 20;

/// The names of an object, in order.
struct Keys(Vec<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The columns in this order, those that it does not name last.
fn ordered(schema: SchemaRef, order: &[String]) -> SchemaRef {
    if order.is_empty() {
        return schema;
    }
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.sort_by_key(|f| order.iter().position(|name| name == f.name()).unwrap_or(usize::MAX));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use datafusion::arrow::array::RecordBatch;
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn read(name: &str, path: &str, named: &[(&str, ScalarValue)]) -> Result<(SchemaRef, String)> {
        let context = SessionContext::new();
        let named = named.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        let call = SourceCall { name: name.into(), positional: vec![path.into()], named };
        let provider = resolve(&call, &FileAccess::new(), &context.state()).await?.unwrap();
        let schema = provider.schema();
        let batches: Vec<RecordBatch> = context.read_table(provider).map_err(from_datafusion)?.collect().await.map_err(from_datafusion)?;
        Ok((schema, pretty_format_batches(&batches).map_err(from_arrow)?.to_string()))
    }

    fn types(schema: &Schema) -> Vec<String> {
        schema.fields().iter().map(|f| format!("{} {}", f.name(), SqlType::of_field(f).name())).collect()
    }

    #[tokio::test]
    async fn csv_and_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}/t.csv", dir.path().display());
        std::fs::write(&path, "n,word,at,price\n1,\"a\nb\",2024-01-02 03:04:05,1.5\n2,,,\n").unwrap();
        let (schema, rows) = read("read_csv", &path, &[]).await.unwrap();
        assert_eq!(types(&schema), ["n bigint", "word text", "at timestamp without time zone", "price double precision"]);
        assert!(rows.contains("2024-01-02T03:04:05") && rows.lines().count() == 7, "{rows}");
        std::fs::write(&path, "1;NA\n2;x\n").unwrap();
        let named = [("header", false.into()), ("delimiter", ";".into()), ("null", "NA".into()), ("schema", "id integer, word varchar(5)".into())];
        let (schema, rows) = read("read_csv", &path, &named).await.unwrap();
        assert_eq!(types(&schema), ["id integer", "word character varying"]);
        assert!(!rows.contains("NA"), "{rows}");
        let error = read("read_csv", &path, &[("schema", "id integer, word integer".into()), ("delimiter", ";".into()), ("header", false.into())])
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), "22P02", "{error:?}");
        assert_eq!(read("read_csv", &path, &[("delimeter", ";".into())]).await.unwrap_err().sqlstate(), "42883");
        assert_eq!(read("read_csv", &path, &[("schema", "id nonsense".into())]).await.unwrap_err().sqlstate(), "42704");
        // A file that goes between planning and reading is still told by name.
        let context = SessionContext::new();
        for (name, file) in [("read_csv", "gone.csv"), ("read_parquet", "gone.parquet")] {
            let gone = format!("{}/{file}", dir.path().display());
            let options = [("format".to_owned(), crate::statement::copy::CopyOption::Value(name.trim_start_matches("read_").into()))];
            let one = context.sql("SELECT * FROM (VALUES (1), (2)) v(n)").await.unwrap().execute_stream().await.unwrap();
            crate::sink::copy::copy_to(one, &gone, &options, &FileAccess::new()).await.unwrap();
            let call = SourceCall { name: name.into(), positional: vec![gone.as_str().into()], named: vec![] };
            let provider = resolve(&call, &FileAccess::new(), &context.state()).await.unwrap().unwrap();
            let plan = context.read_table(provider).unwrap().create_physical_plan().await.unwrap();
            std::fs::remove_file(&gone).unwrap();
            let error = from_datafusion(datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap_err());
            assert_eq!((error.sqlstate(), error.message.contains(file)), ("58P01", true), "{error:?}");
        }
        assert_eq!(read("read_csv", "/none/x.csv", &[]).await.unwrap_err().sqlstate(), "58P01");
        let error = read("read_parquet", &path, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate(), "22P04", "{error:?}");
        assert_eq!(read("read_csv", &format!("{}/*.none", dir.path().display()), &[]).await.unwrap_err().sqlstate(), "58P01");
    }

    #[tokio::test]
    async fn json_in_lines_and_arrays() {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}/t.json", dir.path().display());
        for text in [
            "{\"z\": 1, \"tags\": [\"a\"], \"o\": {\"k\": true}}\n{\"z\": 2.5, \"new\": null}\n",
            " [{\"z\": 1, \"tags\": [\"a\"], \"o\": {\"k\": true}},\n {\"z\": 2.5, \"new\": null}]",
        ] {
            std::fs::write(&path, text).unwrap();
            let (schema, rows) = read("read_json", &path, &[]).await.unwrap();
            assert_eq!(types(&schema), ["z double precision", "tags text[]", "o record", "new text"]);
            assert_eq!(rows.lines().count(), 6, "{rows}");
        }
    }

    #[tokio::test]
    async fn hive_partitions_and_external_tables() {
        let dir = tempfile::tempdir().unwrap();
        for (year, n) in [(2023, 1), (2024, 2)] {
            let sub = dir.path().join(format!("year={year}"));
            std::fs::create_dir(&sub).unwrap();
            std::fs::write(sub.join("x.csv"), format!("n\n{n}\n")).unwrap();
        }
        std::fs::write(dir.path().join("_SUCCESS"), "").unwrap();
        let root = dir.path().display().to_string();
        let (schema, rows) = read("read_csv", &root, &[("hive", true.into())]).await.unwrap();
        assert_eq!(types(&schema), ["n bigint", "year bigint"]);
        assert!(rows.contains("| 2 | 2024 |"), "{rows}");
        let context = SessionContext::new();
        let columns = [ColumnEntry::new("n", &SqlType::Int4), ColumnEntry::new("year", &SqlType::Text)];
        let options = [("has_header".to_owned(), "true".to_owned())];
        let provider = external(&columns, "CSV", &root, &options, &["year".into()], &FileAccess::new(), &context.state()).await.unwrap();
        assert_eq!(types(&provider.schema()), ["n integer", "year text"]);
        let kept = context.read_table(provider).unwrap().filter(datafusion::prelude::col("year").eq(datafusion::prelude::lit("2023"))).unwrap();
        assert_eq!(kept.count().await.unwrap(), 1);
        assert_eq!(check_external("avro", "/x", &[]).unwrap_err().sqlstate(), "0A000");
        assert_eq!(check_external("csv", "/x", &[("nonsense".into(), "1".into())]).unwrap_err().sqlstate(), "42883");
    }
}
