//! DataFusion's errors to ours.
//!
//! In: `DataFusionError` chains (External, Context, Shared, Diagnostic, Collection wrappers). Out: one
//! `squilla_core::error::Error` with the SQLSTATE PostgreSQL gives for the same mistake. Invariant: an error of ours
//! that travelled through DataFusion comes back unchanged. Messages of DataFusion are matched by their stable heads
//! only where it has no typed variant. Deliberately absent: positions for errors that carry no span.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use squilla_core::error::{Error, Kind, did_you_mean};

use crate::error_wire::{self, Travelling};

/// Wraps our error for the way through DataFusion.
pub fn to_datafusion(error: Error) -> DataFusionError {
    if error_wire::leaves_this_process() {
        return DataFusionError::External(Box::new(Travelling(error)));
    }
    DataFusionError::External(Box::new(error))
}

/// Brings an error back from DataFusion, with the position in `sql` where DataFusion knows a line and column.
pub fn from_datafusion_in(error: DataFusionError, sql: &str) -> Error {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let error = from_datafusion_in(*inner, sql);
            match diagnostic.span {
                Some(span) if error.position.is_none() => Error { position: position(sql, span.start.line, span.start.column), ..error },
                _ => error,
            }
        }
        DataFusionError::Context(_, inner) => from_datafusion_in(*inner, sql),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => from_datafusion_in(errors.swap_remove(0), sql),
        other => from_datafusion(other),
    }
}

/// The 1-based character position of a line and column.
pub fn position(sql: &str, line: u64, column: u64) -> Option<u32> {
    if line == 0 || column == 0 {
        return None;
    }
    let before: usize = sql.split('\n').take(line as usize - 1).map(|l| l.chars().count() + 1).sum();
    u32::try_from(before + column as usize).ok()
}

/// Brings an error back from DataFusion.
pub fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(source) => from_external(source),
        DataFusionError::Context(_, inner) => from_datafusion(*inner),
        DataFusionError::Diagnostic(_, inner) => from_datafusion(*inner),
        DataFusionError::Shared(shared) => match std::sync::Arc::try_unwrap(shared) {
            Ok(inner) => from_datafusion(inner),
            Err(shared) => find_ours(&shared).unwrap_or_else(|| classify(&strip(&shared.to_string()))),
        },
        DataFusionError::Collection(mut errors) if !errors.is_empty() => from_datafusion(errors.swap_remove(0)),
        DataFusionError::ArrowError(arrow, _) => from_arrow(*arrow),
        // Its readers keep the text of what went wrong below them.
        DataFusionError::ParquetError(e) => find_ours(e.as_ref())
            .or_else(|| error_wire::decode(&e.to_string()))
            .unwrap_or_else(|| Error::new(Kind::DataCorrupted, format!("parquet: {e}"))),
        DataFusionError::ObjectStore(e) => from_object_store(*e),
        DataFusionError::IoError(e) => find_ours(&e).unwrap_or_else(|| Error::io("input/output failed", e)),
        DataFusionError::SQL(e, _) => from_parser(*e),
        DataFusionError::SchemaError(e, _) => from_schema(*e),
        DataFusionError::NotImplemented(m) => Error::unsupported(lower(&m)),
        DataFusionError::ResourcesExhausted(m) => {
            Error::new(Kind::OutOfMemory, "out of memory").detail(m).hint("The limit is the setting squilla.memory_limit.")
        }
        DataFusionError::ExecutionJoin(e) => Error::internal(format!("a task of the statement failed: {e}")),
        other => classify(&strip(&other.to_string())),
    }
}

fn from_external(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match source.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(other) if other.is::<Travelling>() => other.downcast::<Travelling>().map_or_else(|e| classify(&e.to_string()), |t| t.0),
        Err(other) => match other.downcast::<DataFusionError>() {
            Ok(inner) => from_datafusion(*inner),
            Err(other) => match other.downcast::<ArrowError>() {
                Ok(arrow) => from_arrow(*arrow),
                Err(other) => find_ours(other.as_ref()).unwrap_or_else(|| classify(&other.to_string())),
            },
        },
    }
}

fn ours(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    error.downcast_ref::<Error>().cloned().or_else(|| error.downcast_ref::<Travelling>().map(|t| t.0.clone()))
}

/// Our error behind a chain of sources, cloned.
fn find_ours(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut current = Some(error);
    while let Some(e) = current {
        if let Some(ours) = ours(e) {
            return Some(ours);
        }
        if let Some(DataFusionError::External(inner)) = e.downcast_ref::<DataFusionError>()
            && let Some(ours) = ours(inner.as_ref())
        {
            return Some(ours);
        }
        current = e.source();
    }
    None
}

/// Arrow's errors.
pub fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(source) => from_external(source),
        ArrowError::DivideByZero => Error::new(Kind::DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(m) => Error::new(Kind::OutOfRange, "value out of range").detail(m),
        ArrowError::CastError(m) => cast(&m),
        ArrowError::ParseError(m) => Error::new(Kind::InvalidText, lower(&m)),
        ArrowError::ParquetError(m) => Error::new(Kind::DataCorrupted, format!("parquet: {m}")),
        ArrowError::IoError(m, e) => find_ours(&e).unwrap_or_else(|| Error::io(m, e)),
        other => classify(&strip(&other.to_string())),
    }
}

fn cast(message: &str) -> Error {
    // Arrow: "Cannot cast string 'abc' to value of Int64 type"
    if let Some(rest) = message.strip_prefix("Cannot cast string '")
        && let Some((value, ty)) = rest.rsplit_once("' to value of ")
    {
        let name = match ty.trim_end_matches(" type") {
            "Int8" | "Int16" => "smallint",
            "Int32" => "integer",
            "Int64" => "bigint",
            "Float32" => "real",
            "Float64" => "double precision",
            "Boolean" => "boolean",
            other => other,
        };
        if matches!(name, "smallint" | "integer" | "bigint") && value.trim().parse::<i128>().is_ok() {
            return Error::new(Kind::OutOfRange, format!("value \"{value}\" is out of range for type {name}"));
        }
        return Error::new(Kind::InvalidText, format!("invalid input syntax for type {name}: \"{value}\""));
    }
    // Arrow: "value of 10000000000 is out of range Int32"
    if let Some((_, ty)) = message.rsplit_once(" is out of range ") {
        let name = match ty {
            "Int8" | "Int16" => "smallint",
            "Int32" => "integer",
            "Int64" => "bigint",
            _ => "numeric",
        };
        return Error::new(Kind::OutOfRange, format!("{name} out of range"));
    }
    let overflow = message.contains("overflow") || message.contains("Can't cast value");
    Error::new(if overflow { Kind::OutOfRange } else { Kind::InvalidText }, lower(message))
}

/// Object stores' errors; credentials never appear in them.
pub fn from_object_store(error: object_store::Error) -> Error {
    use object_store::Error as E;
    // The file store of `source::object` passes our errors through.
    if let Some(ours) = find_ours(&error) {
        return ours;
    }
    match &error {
        E::NotFound { path, .. } => Error::new(Kind::UndefinedFile, format!("could not open \"{path}\": no such file or object")),
        E::Unauthenticated { path, .. } | E::PermissionDenied { path, .. } => {
            Error::new(Kind::InsufficientPrivilege, format!("permission denied for \"{path}\""))
                .hint("Check the credentials of the object store (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT, AWS_REGION).")
        }
        E::AlreadyExists { path, .. } => Error::new(Kind::DuplicateObject, format!("\"{path}\" exists already")),
        E::Precondition { path, .. } | E::NotModified { path, .. } => {
            Error::new(Kind::SourceChanged, format!("\"{path}\" changed while it was read"))
        }
        _ => Error::new(Kind::Io, lower(&error.to_string())),
    }
}

/// Parser errors: 42601, with the position where the parser names one.
pub fn from_parser(error: ParserError) -> Error {
    match error {
        ParserError::TokenizerError(m) | ParserError::ParserError(m) => Error::new(Kind::Syntax, lower(&m)),
        ParserError::RecursionLimitExceeded => {
            Error::new(Kind::TooComplex, "statement is nested too deep").hint("The limit is the setting squilla.max_statement_depth.")
        }
    }
}

fn from_schema(error: SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let shown = field.relation.as_ref().map_or_else(|| format!("\"{}\"", field.name), |r| format!("{r}.{}", field.name));
            let near = squilla_core::error::did_you_mean(&field.name, valid_fields.iter().map(|c| c.name.as_str()));
            let known_relation = field
                .relation
                .as_ref()
                .is_none_or(|r| valid_fields.iter().any(|c| c.relation.as_ref().is_some_and(|v| v.resolved_eq(r) || v.table() == r.table())));
            if !known_relation && let Some(relation) = &field.relation {
                return Error::new(Kind::UndefinedTable, format!("missing FROM-clause entry for table \"{}\"", relation.table()));
            }
            let error = Error::new(Kind::UndefinedColumn, format!("column {shown} does not exist"));
            match near {
                Some(near) => error.hint(format!("Perhaps you meant to reference the column \"{near}\".")),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => Error::new(Kind::AmbiguousColumn, format!("column reference \"{}\" is ambiguous", field.name)),
        SchemaError::DuplicateQualifiedField { qualifier, name } => {
            Error::new(Kind::DuplicateColumn, format!("column \"{name}\" of \"{qualifier}\" specified more than once"))
        }
        SchemaError::DuplicateUnqualifiedField { name } => Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once")),
    }
}

/// Takes DataFusion's own heads ("Error during planning: ", ...) and backtraces off a message.
fn strip(message: &str) -> String {
    let mut text = message.split("\n\nbacktrace:").next().unwrap_or(message);
    for head in [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Invalid argument error: ",
        "External error: ",
        "Optimizer rule ",
        "type_coercion\ncaused by\n",
        "Schema error: ",
        "Compute error: ",
    ] {
        text = text.strip_prefix(head).unwrap_or(text);
    }
    text.to_owned()
}

fn lower(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut chars = message.chars();
    match chars.next() {
        // A word in capitals (JSON, UDF) stays as it is.
        Some(first) if first.is_uppercase() && !chars.clone().next().is_some_and(char::is_uppercase) => first.to_lowercase().chain(chars).collect(),
        _ => message.to_owned(),
    }
}

const NO_FUNCTION: &str = "No function matches the given name and argument types. You might need to add explicit type casts.";

/// `Int64 + Boolean` in a message: an operator that these types do not have.
fn operator(text: &str) -> Option<Error> {
    let heads = [
        "Cannot coerce arithmetic expression ",
        "Cannot infer common argument type for comparison operation ",
        "Cannot infer common argument type for logical boolean operation ",
        "Cannot infer common argument type for regex operation ",
        "Cannot infer common type for bitwise operation ",
        "Cannot infer common string type for string concat operation ",
        "Cannot infer common argument type for operation ",
    ];
    let at = heads.iter().find_map(|head| text.find(head).map(|at| at + head.len()))?;
    let rest = text.get(at..)?.lines().next()?.trim_end_matches(" to valid types");
    let (left, rest) = type_name(rest)?;
    let (op, right) = rest.trim_start().split_once(' ')?;
    let (right, _) = type_name(right)?;
    if matches!(op, "AND" | "OR") {
        let wrong = if left == "boolean" { right } else { left };
        return Some(Error::new(Kind::DatatypeMismatch, format!("argument of {op} must be type boolean, not type {wrong}")));
    }
    let op = match op {
        "!=" => "<>",
        other => other,
    };
    Some(
        Error::new(Kind::UndefinedFunction, format!("operator does not exist: {left} {op} {right}"))
            .hint("No operator matches the given name and argument types. You might need to add explicit type casts."),
    )
}

/// The SQL name of the Arrow type that a text begins with, and the rest of the text.
fn type_name(text: &str) -> Option<(String, &str)> {
    let word = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(word);
    let mut inside = "";
    if rest.starts_with('(') {
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0
        });
        let end = end?.0;
        inside = rest.get(1..end)?;
        rest = rest.get(end + 1..)?;
    }
    let sql = match name {
        "Int8" | "Int16" => "smallint".to_owned(),
        "Int32" => "integer".to_owned(),
        "Int64" => "bigint".to_owned(),
        "Float32" => "real".to_owned(),
        "Float64" => "double precision".to_owned(),
        "Boolean" => "boolean".to_owned(),
        "Utf8" | "LargeUtf8" | "Utf8View" => "text".to_owned(),
        "Null" => "unknown".to_owned(),
        "Date32" | "Date64" => "date".to_owned(),
        "Time32" | "Time64" => "time without time zone".to_owned(),
        "Timestamp" if inside.contains("None") || !inside.contains(',') => "timestamp without time zone".to_owned(),
        "Timestamp" => "timestamp with time zone".to_owned(),
        "Interval" | "Duration" => "interval".to_owned(),
        "Binary" | "LargeBinary" | "BinaryView" | "FixedSizeBinary" => "bytea".to_owned(),
        "Struct" => "record".to_owned(),
        name if name.starts_with("Decimal") => "numeric".to_owned(),
        "List" | "LargeList" | "FixedSizeList" => {
            let element = inside.rsplit(' ').next().unwrap_or(inside);
            format!("{}[]", type_name(element).map_or_else(|| "unknown".to_owned(), |(n, _)| n))
        }
        _ => return None,
    };
    Some((sql, rest))
}

/// Messages with a wording of their own in PostgreSQL.
fn known(text: &str) -> Option<Error> {
    let quoted = |after: &str| text.split_once(after).and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned);
    if text.contains("must appear in the GROUP BY") || text.contains("must be in GROUP BY") {
        let column = quoted("column \"").or_else(|| quoted("references: "))?;
        return Some(Error::new(
            Kind::Grouping,
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"),
        ));
    }
    if text.contains("is too large to store in a Decimal") || text.contains("is too small to store in a Decimal") {
        return Some(Error::new(Kind::OutOfRange, "numeric field overflow").detail(format!("{}.", text.lines().next().unwrap_or(text))));
    }
    if text.contains("LIMIT must be >= 0") {
        return Some(Error::new(Kind::InvalidLimit, "LIMIT must not be negative"));
    }
    if text.contains("OFFSET must be >=0") || text.contains("OFFSET must be >= 0") {
        return Some(Error::new(Kind::InvalidOffset, "OFFSET must not be negative"));
    }
    if text.contains("UNION queries have different number of columns") || text.contains("query has different number of columns") {
        return Some(Error::new(Kind::Syntax, "each UNION query must have the same number of columns"));
    }
    if text.contains("WHERE clause cannot contain aggregates") || text.contains("Aggregate functions are not allowed in the WHERE clause") {
        return Some(Error::new(Kind::Grouping, "aggregate functions are not allowed in WHERE"));
    }
    None
}

/// Untyped messages: by their stable words.
fn classify(message: &str) -> Error {
    let text = message.trim();
    if let Some(ours) = error_wire::decode(text) {
        return ours;
    }
    // Our own refusal of argument types, wrapped as text by DataFusion.
    let text = text.split_once("user-defined coercion failed with: ").map_or(text, |(_, rest)| rest.trim_start_matches("External error: "));
    let has = |words: &str| text.contains(words);
    if let Some(name) = text.strip_prefix("Invalid function '").and_then(|r| r.split('\'').next()) {
        let error = Error::new(Kind::UndefinedFunction, format!("function {name} does not exist"));
        // DataFusion names the nearest function, however far it is.
        let near = text.split("Did you mean '").nth(1).and_then(|r| r.split('\'').next());
        return match near.and_then(|near| did_you_mean(name, [near])) {
            Some(near) => error.hint(format!("Perhaps you meant {near}.")),
            None => error.hint(NO_FUNCTION),
        };
    }
    if let Some(name) = text.strip_prefix("table function '").and_then(|r| r.strip_suffix("' not found")) {
        return Error::new(Kind::UndefinedFunction, format!("function {name} does not exist"));
    }
    if has("table '") && has("' not found") {
        let name = text.split("table '").nth(1).and_then(|r| r.split('\'').next()).unwrap_or_default();
        let short = name.strip_prefix("squilla.").unwrap_or(name).trim_start_matches("public.").trim_start_matches("$path.");
        return Error::new(Kind::UndefinedTable, format!("relation \"{short}\" does not exist"));
    }
    if let Some(error) = operator(text).or_else(|| known(text)) {
        return error;
    }
    if let Some((_, rest)) = text.split_once("rder by column out of bounds, specified: ") {
        let place = rest.split(',').next().unwrap_or_default();
        return Error::new(Kind::InvalidColumnReference, format!("ORDER BY position {place} is not in select list"));
    }
    if has("field position must not be zero") {
        return Error::invalid_argument("field position must not be zero");
    }
    let kind = if has("ivide by zero") {
        return Error::new(Kind::DivisionByZero, "division by zero");
    } else if has("verflow") || has("out of range") {
        Kind::OutOfRange
    } else if has("Cannot cast") || has("Error parsing") || has("Parser error") {
        return cast(text.trim_start_matches("Cast error: ").trim_start_matches("Parser error: "));
    } else if has("No function matches") || has("Failed to coerce arguments") || has("does not support") && has("arguments") || has("Function '") {
        Kind::UndefinedFunction
    } else if has("must be in the GROUP BY") || has("must appear in the GROUP BY") || has("GROUP BY") && has("could not be resolved") {
        Kind::Grouping
    } else if has("Parquet error") || has("Parquet argument error") {
        Kind::DataCorrupted
    } else if has("Cannot coerce")
        || has("Cannot infer common")
        || has("type mismatch")
        || has("Cannot automatically convert")
        || has("Incompatible")
        || has("UNION query")
    {
        Kind::DatatypeMismatch
    } else if has("Memory pool") || has("Resources exhausted") {
        Kind::OutOfMemory
    } else if has("No space left") || has("disk space") || has("spill") && has("limit") {
        Kind::DiskFull
    } else if has("more than one row") {
        return Error::new(Kind::CardinalityViolation, "more than one row returned by a subquery used as an expression");
    } else if has("This feature is not implemented") || has("not supported") || has("not implemented") || has("Unsupported") || has("unsupported") {
        Kind::Unsupported
    } else if has("schema '") && has("not found") || has("failed to resolve schema") {
        Kind::UndefinedSchema
    } else if has("Internal error") {
        Kind::Internal
    } else {
        Kind::Syntax
    };
    let short = text.lines().next().unwrap_or(text);
    Error::new(kind, lower(short.trim_start_matches("This feature is not implemented: ")))
}
