//! Functions and operators over json and jsonb.
//!
//! In: values of any type, JSON as text. Out: jsonb, text, booleans, arrays of jsonb. Invariant: jsonb that leaves here is
//! printed as PostgreSQL prints it. Deliberately absent: SQL/JSON paths, and changing a value in place (`jsonb_set`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayBuilder, ArrayRef, AsArray, BooleanBuilder, Int32Builder, ListArray, StringBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde_json::{Map, Value};
use sqlparser::ast::BinaryOperator;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::{from_arrow, to_datafusion};
use crate::postgres::json_value::{contains, exists, item, kind, of_cell, parse, print, step, text, write};
use crate::postgres::{input, json_edit};

/// Name of the function that makes one JSON array of an array of JSON.
pub const JOIN: &str = "squilla_json_join";
/// The same, as json.
pub const JOIN_TEXT: &str = "squilla_json_join_text";
/// Items of a JSON array, as an array.
pub const ITEMS: &str = "squilla_json_items";
/// Items of a JSON array, as an array of text.
pub const ITEM_TEXTS: &str = "squilla_json_item_texts";
/// Keys of a JSON object, as an array.
pub const KEYS: &str = "squilla_json_keys";
/// Values of a JSON object, in the order of its keys.
pub const VALUES: &str = "squilla_json_values";
/// Values of a JSON object as text, in the order of its keys.
pub const VALUE_TEXTS: &str = "squilla_json_value_texts";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Get,
    GetText,
    Path,
    PathText,
    Contains,
    Contained,
    Exists,
    ExistsAny,
    ExistsAll,
    To,
    ToText,
    Object,
    ObjectText,
    Array,
    ArrayText,
    JoinText,
    TypeOf,
    Length,
    Join,
    Items,
    ItemTexts,
    Keys,
    Values,
    ValueTexts,
}

const FUNCTIONS: &[(&str, Work, &[&str])] = &[
    ("jsonb_get", Work::Get, &["jsonb_object_field", "jsonb_array_element", "json_object_field", "json_array_element"]),
    ("jsonb_get_text", Work::GetText, &["jsonb_object_field_text", "jsonb_array_element_text", "json_object_field_text", "json_array_element_text"]),
    ("squilla_json_path", Work::Path, &[]),
    ("squilla_json_path_text", Work::PathText, &[]),
    ("jsonb_contains", Work::Contains, &[]),
    ("jsonb_contained", Work::Contained, &[]),
    ("jsonb_exists", Work::Exists, &[]),
    ("jsonb_exists_any", Work::ExistsAny, &[]),
    ("jsonb_exists_all", Work::ExistsAll, &[]),
    ("to_jsonb", Work::To, &[]),
    ("to_json", Work::ToText, &["row_to_json", "array_to_json"]),
    ("jsonb_build_object", Work::Object, &[]),
    ("json_build_object", Work::ObjectText, &[]),
    ("jsonb_build_array", Work::Array, &[]),
    ("json_build_array", Work::ArrayText, &[]),
    (JOIN_TEXT, Work::JoinText, &[]),
    ("jsonb_typeof", Work::TypeOf, &["json_typeof"]),
    ("jsonb_array_length", Work::Length, &["json_array_length"]),
    (JOIN, Work::Join, &[]),
    (ITEMS, Work::Items, &[]),
    (ITEM_TEXTS, Work::ItemTexts, &[]),
    (KEYS, Work::Keys, &[]),
    (VALUES, Work::Values, &[]),
    (VALUE_TEXTS, Work::ValueTexts, &[]),
];

/// The function of an operator whose left operand is JSON.
pub fn operator(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Arrow => "jsonb_get",
        BinaryOperator::LongArrow => "jsonb_get_text",
        BinaryOperator::HashArrow => "squilla_json_path",
        BinaryOperator::HashLongArrow => "squilla_json_path_text",
        BinaryOperator::AtArrow => "jsonb_contains",
        BinaryOperator::ArrowAt => "jsonb_contained",
        BinaryOperator::Question => "jsonb_exists",
        BinaryOperator::QuestionPipe => "jsonb_exists_any",
        BinaryOperator::QuestionAnd => "jsonb_exists_all",
        BinaryOperator::StringConcat => json_edit::CONCAT,
        BinaryOperator::Minus => json_edit::DELETE,
        BinaryOperator::AtQuestion => "jsonb_path_exists_opr",
        BinaryOperator::AtAt => "jsonb_path_match_opr",
        BinaryOperator::HashMinus => json_edit::DELETE_PATH,
        _ => return None,
    })
}

#[derive(Debug)]
struct Json {
    name: &'static str,
    work: Work,
    aliases: Vec<String>,
    signature: Signature,
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.work == other.work
    }
}

impl Eq for Json {}

impl Hash for Json {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.work.hash(state);
    }
}

impl Json {
    fn result(&self) -> SqlType {
        match self.work {
            Work::Get | Work::Path | Work::To | Work::Object | Work::Array | Work::Join => SqlType::Jsonb,
            Work::ToText | Work::ObjectText | Work::ArrayText | Work::JoinText => SqlType::Json,
            Work::GetText | Work::PathText | Work::TypeOf => SqlType::Text,
            Work::Contains | Work::Contained | Work::Exists | Work::ExistsAny | Work::ExistsAll => SqlType::Bool,
            Work::Length => SqlType::Int4,
            Work::Items | Work::Values => SqlType::Array(Box::new(SqlType::Jsonb)),
            Work::ItemTexts | Work::Keys | Work::ValueTexts => SqlType::Array(Box::new(SqlType::Text)),
        }
    }

    fn takes(&self) -> std::ops::RangeInclusive<usize> {
        match self.work {
            Work::Get
            | Work::GetText
            | Work::Path
            | Work::PathText
            | Work::Contains
            | Work::Contained
            | Work::Exists
            | Work::ExistsAny
            | Work::ExistsAll => 2..=2,
            Work::Object | Work::Array | Work::ObjectText | Work::ArrayText => 0..=usize::MAX,
            _ => 1..=1,
        }
    }
}

impl ScalarUDFImpl for Json {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        if !self.takes().contains(&types.len()) {
            return plan_err!("No function matches the given name and argument types '{}'", self.name);
        }
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.result().arrow())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        Ok(Arc::new(self.result().field(self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let types: Vec<SqlType> = args.arg_fields.iter().map(|f| SqlType::of_field(f)).collect();
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<DataFusionResult<Vec<_>>>()?;
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let rows = Rows { arrays: &arrays, types: &types, zone, count: args.number_rows };
        self.call(&rows).map(ColumnarValue::Array).map_err(to_datafusion)
    }
}

/// The arguments of a call.
struct Rows<'a> {
    arrays: &'a [ArrayRef],
    types: &'a [SqlType],
    zone: &'a str,
    count: usize,
}

impl Rows<'_> {
    /// The JSON that an argument spells; None for NULL.
    fn json(&self, argument: usize, row: usize) -> Result<Option<Value>> {
        let Some(array) = self.arrays.get(argument) else { return Err(Error::internal("a missing argument")) };
        if array.is_null(row) || array.data_type() == &DataType::Null {
            return Ok(None);
        }
        match array.data_type() {
            DataType::Utf8 => parse(array.as_string::<i32>().value(row)).map(Some),
            DataType::Utf8View => parse(array.as_string_view().value(row)).map(Some),
            DataType::LargeUtf8 => parse(array.as_string::<i64>().value(row)).map(Some),
            other => Err(Error::new(Kind::UndefinedFunction, format!("no function over {} takes JSON", SqlType::of_arrow(other).name()))),
        }
    }

    fn cell(&self, argument: usize, row: usize) -> Result<Value> {
        match (self.arrays.get(argument), self.types.get(argument)) {
            (Some(array), Some(ty)) => of_cell(array, row, ty, self.zone),
            _ => Err(Error::internal("a missing argument")),
        }
    }

    /// An argument as text, whatever its type.
    fn text(&self, argument: usize, row: usize) -> Result<Option<String>> {
        match (self.arrays.get(argument), self.types.get(argument)) {
            (Some(array), Some(ty)) => crate::postgres::output::text(array, row, ty, self.zone),
            _ => Err(Error::internal("a missing argument")),
        }
    }

    /// A text[] argument, or the text of one.
    fn texts(&self, argument: usize, row: usize) -> Result<Option<Vec<Option<String>>>> {
        let Some(spelled) = self.text(argument, row)? else { return Ok(None) };
        input::array_elements(&spelled).map(Some)
    }
}

impl Json {
    fn call(&self, rows: &Rows<'_>) -> Result<ArrayRef> {
        match self.work {
            Work::Contains | Work::Contained | Work::Exists | Work::ExistsAny | Work::ExistsAll => self.tests(rows),
            Work::Items | Work::ItemTexts | Work::Keys | Work::Values | Work::ValueTexts => self.lists(rows),
            Work::Length => {
                let mut builder = Int32Builder::new();
                for row in 0..rows.count {
                    builder.append_option(match rows.json(0, row)? {
                        None => None,
                        Some(Value::Array(items)) => i32::try_from(items.len()).ok(),
                        Some(_) => return Err(Error::new(Kind::InvalidArgument, "cannot get array length of a non-array")),
                    });
                }
                Ok(Arc::new(builder.finish()))
            }
            _ => {
                let mut builder = StringBuilder::new();
                for row in 0..rows.count {
                    builder.append_option(self.one(rows, row)?);
                }
                Ok(Arc::new(builder.finish()))
            }
        }
    }

    /// The results that are text or jsonb.
    fn one(&self, rows: &Rows<'_>, row: usize) -> Result<Option<String>> {
        let shown = |value: Option<&Value>| match self.work {
            Work::GetText | Work::PathText => value.and_then(text),
            _ => value.map(print),
        };
        match self.work {
            Work::Get | Work::GetText => {
                let Some(value) = rows.json(0, row)? else { return Ok(None) };
                let by_number = rows.arrays.get(1).is_some_and(|a| a.data_type().is_integer());
                if by_number {
                    let at = cast(&rows.arrays[1], &DataType::Int64).map_err(from_arrow)?;
                    let at = at.as_primitive::<Int64Type>();
                    let items = if let Value::Array(items) = &value { items.as_slice() } else { &[] };
                    return Ok(if at.is_null(row) { None } else { shown(item(items, at.value(row))) });
                }
                let Some(key) = rows.text(1, row)? else { return Ok(None) };
                Ok(shown(if let Value::Object(fields) = &value { fields.get(&key) } else { None }))
            }
            Work::Path | Work::PathText => {
                let (Some(value), Some(path)) = (rows.json(0, row)?, rows.texts(1, row)?) else { return Ok(None) };
                Ok(shown(path.iter().try_fold(&value, |value, key| step(value, key.as_deref()?))))
            }
            Work::To => {
                let value = rows.cell(0, row)?;
                let null = rows.arrays.first().is_none_or(|a| a.is_null(row) || a.data_type() == &DataType::Null);
                Ok((!null).then(|| print(&value)))
            }
            Work::Array => {
                (0..rows.arrays.len()).map(|i| rows.cell(i, row)).collect::<Result<Vec<_>>>().map(|items| Some(print(&Value::Array(items))))
            }
            Work::Object => object(rows, row).map(Some),
            Work::ToText | Work::ArrayText | Work::ObjectText => written(self.work, rows, row),
            Work::JoinText => joined(rows, row),
            Work::TypeOf => Ok(rows.json(0, row)?.map(|v| kind(&v).to_owned())),
            Work::Join => join(rows, row),
            _ => Err(Error::internal("no text")),
        }
    }

    fn tests(&self, rows: &Rows<'_>) -> Result<ArrayRef> {
        let mut builder = BooleanBuilder::new();
        for row in 0..rows.count {
            let Some(value) = rows.json(0, row)? else {
                builder.append_null();
                continue;
            };
            builder.append_option(match self.work {
                Work::Contains => rows.json(1, row)?.map(|other| contains(&value, &other)),
                Work::Contained => rows.json(1, row)?.map(|other| contains(&other, &value)),
                Work::Exists => rows.text(1, row)?.map(|key| exists(&value, &key)),
                Work::ExistsAny => rows.texts(1, row)?.map(|keys| keys.iter().flatten().any(|key| exists(&value, key))),
                _ => rows.texts(1, row)?.map(|keys| keys.iter().flatten().all(|key| exists(&value, key))),
            });
        }
        Ok(Arc::new(builder.finish()))
    }

    fn lists(&self, rows: &Rows<'_>) -> Result<ArrayRef> {
        let mut values = StringBuilder::new();
        let mut lengths = Vec::with_capacity(rows.count);
        for row in 0..rows.count {
            let before = values.len();
            match (self.work, rows.json(0, row)?) {
                (_, None) => {}
                (Work::Items, Some(Value::Array(items))) => items.iter().for_each(|v| values.append_value(print(v))),
                (Work::ItemTexts, Some(Value::Array(items))) => items.iter().for_each(|v| values.append_option(text(v))),
                (Work::Items | Work::ItemTexts, Some(_)) => {
                    return Err(Error::new(Kind::InvalidArgument, "cannot extract elements from a scalar or an object"));
                }
                (work, Some(Value::Object(fields))) => {
                    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
                    fields.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
                    fields.into_iter().for_each(|(key, value)| match work {
                        Work::Keys => values.append_value(key),
                        Work::Values => values.append_value(print(value)),
                        _ => values.append_option(text(value)),
                    });
                }
                (_, Some(other)) => return Err(Error::new(Kind::InvalidArgument, format!("an object was expected, not {}", kind(&other)))),
            }
            lengths.push(values.len() - before);
        }
        let DataType::List(field) = self.result().arrow() else { return Err(Error::internal("a list was expected")) };
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(values.finish()), None);
        Ok(Arc::new(list.map_err(from_arrow)?))
    }
}

fn object(rows: &Rows<'_>, row: usize) -> Result<String> {
    if !rows.arrays.len().is_multiple_of(2) {
        return Err(Error::new(Kind::InvalidArgument, "argument list must have even number of elements")
            .hint("The arguments of jsonb_build_object() must consist of alternating keys and values."));
    }
    let mut fields = Map::new();
    for key in (0..rows.arrays.len()).step_by(2) {
        let name = rows.text(key, row)?.ok_or_else(|| Error::new(Kind::InvalidArgument, format!("argument {}: key must not be null", key + 1)))?;
        fields.insert(name, rows.cell(key + 1, row)?);
    }
    Ok(print(&Value::Object(fields)))
}

/// An array whose items are JSON, as one JSON array.
fn join(rows: &Rows<'_>, row: usize) -> Result<Option<String>> {
    let Some(lists) = rows.arrays.first().and_then(|a| a.as_list_opt::<i32>()) else { return Err(Error::internal("a list was expected")) };
    if lists.is_null(row) {
        return Ok(None);
    }
    let items = cast(&lists.value(row), &DataType::Utf8).map_err(from_arrow)?;
    let items = items.as_string::<i32>().iter().map(|item| item.map_or(Ok(Value::Null), parse)).collect::<Result<Vec<_>>>()?;
    Ok(Some(print(&Value::Array(items))))
}

/// The functions that give json, whose text keeps the order of fields and the spelling of numbers.
fn written(work: Work, rows: &Rows<'_>, row: usize) -> Result<Option<String>> {
    let mut out = String::new();
    let cell = |at: usize, out: &mut String| match (rows.arrays.get(at), rows.types.get(at)) {
        (Some(array), Some(ty)) => write(array, row, ty, rows.zone, out),
        _ => Err(Error::internal("a missing argument")),
    };
    match work {
        Work::ToText => {
            if rows.arrays.first().is_none_or(|a| a.is_null(row) || a.data_type() == &DataType::Null) {
                return Ok(None);
            }
            cell(0, &mut out)?;
        }
        Work::ArrayText => {
            out.push('[');
            for at in 0..rows.arrays.len() {
                out.push_str(if at > 0 { ", " } else { "" });
                cell(at, &mut out)?;
            }
            out.push(']');
        }
        _ => {
            if !rows.arrays.len().is_multiple_of(2) {
                return Err(Error::new(Kind::InvalidArgument, "argument list must have even number of elements")
                    .hint("The arguments of json_build_object() must consist of alternating keys and values."));
            }
            out.push('{');
            for at in (0..rows.arrays.len()).step_by(2) {
                let key = rows.text(at, row)?.ok_or_else(|| Error::new(Kind::InvalidArgument, format!("argument {} cannot be null", at + 1)))?;
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(&Value::from(key).to_string());
                out.push_str(" : ");
                cell(at + 1, &mut out)?;
            }
            out.push('}');
        }
    }
    Ok(Some(out))
}

/// An array whose items are JSON, as one JSON array with the blanks that `json_agg` puts in.
fn joined(rows: &Rows<'_>, row: usize) -> Result<Option<String>> {
    let Some(lists) = rows.arrays.first().and_then(|a| a.as_list_opt::<i32>()) else { return Err(Error::internal("a list was expected")) };
    if lists.is_null(row) {
        return Ok(None);
    }
    let items = cast(&lists.value(row), &DataType::Utf8).map_err(from_arrow)?;
    let mut out = String::from("[");
    for (at, item) in items.as_string::<i32>().iter().enumerate() {
        let item = item.unwrap_or("null");
        if at > 0 {
            out.push_str(if item.starts_with(['{', '[']) { ", \n " } else { ", " });
        }
        out.push_str(item);
    }
    out.push(']');
    Ok(Some(out))
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    FUNCTIONS
        .iter()
        .map(|(name, work, aliases)| {
            let aliases = aliases.iter().map(|a| (*a).to_owned()).collect();
            // Times and floats print by settings of the session.
            let volatility = if matches!(work, Work::To | Work::Object | Work::Array | Work::ToText | Work::ObjectText | Work::ArrayText) {
                Volatility::Stable
            } else {
                Volatility::Immutable
            };
            ScalarUDF::new_from_impl(Json { name, work: *work, aliases, signature: Signature::user_defined(volatility) })
        })
        .collect()
}
