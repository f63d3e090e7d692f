//! `generate_series` and `unnest`: set-returning functions of PostgreSQL whose types follow from their arguments.
//!
//! In: bounds and a step, or arrays, one call for a whole batch of input rows. Out: rows, made as they are asked for.
//! Invariant: memory is that of one piece of some thousand rows, however long a series is; a NULL argument gives no rows.
//! Deliberately absent: series over floats, which PostgreSQL has not, and time zones of series (months are added in UTC).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, ListArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Months};
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::columns::Arg;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::{Call, Kernel, NumberedRows, SqlFunction};
use squilla_core::types::SqlType;

use crate::error::{from_arrow, to_datafusion};
use crate::udf::Typing;

/// Rows of one piece.
const PIECE_ROWS: usize = 8192;
/// Most elements of a series that is one array: of a select list.
const LIST_ROWS_MAX: usize = 1 << 27;
/// Name of the function that gives a series as one array.
pub const SERIES: &str = "squilla_series";

static GENERATE_SERIES: SqlFunction = SqlFunction::new(
    "CREATE FUNCTION generate_series(start anyelement, stop anyelement) RETURNS SETOF anyelement
    LANGUAGE squilla IMMUTABLE AS 'generate_series';
    CREATE FUNCTION generate_series(start anyelement, stop anyelement, step anyelement) RETURNS SETOF anyelement
    LANGUAGE squilla IMMUTABLE AS 'generate_series';
    COMMENT ON FUNCTION generate_series IS 'the values from start to stop, step apart: integers, numerics or times';",
    Kernel::Rows(series),
);

static UNNEST: SqlFunction = SqlFunction::new(
    "CREATE FUNCTION unnest(VARIADIC arrays anyarray) RETURNS SETOF anyelement LANGUAGE squilla IMMUTABLE AS 'unnest';
    COMMENT ON FUNCTION unnest IS 'the elements of an array as rows; of several arrays, side by side';",
    Kernel::Rows(unnest),
);

/// The functions, and how their calls are typed.
pub static BUILTINS: &[(&SqlFunction, Typing)] = &[(&GENERATE_SERIES, series_types), (&UNNEST, unnest_types)];

/// As `pg_proc` tells them: name, argument types, element type.
pub const SIGNATURES: &[(&str, &[u32], u32)] = &[
    ("generate_series", &[23, 23], 23),
    ("generate_series", &[23, 23, 23], 23),
    ("generate_series", &[20, 20], 20),
    ("generate_series", &[20, 20, 20], 20),
    ("generate_series", &[1700, 1700], 1700),
    ("generate_series", &[1700, 1700, 1700], 1700),
    ("generate_series", &[1114, 1114, 1186], 1114),
    ("generate_series", &[1184, 1184, 1186], 1184),
    ("unnest", &[2277], 2283),
];

fn untyped(ty: &DataType) -> bool {
    matches!(ty, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The element type of a series over these bounds, and the type of its step.
fn element(actual: &[DataType]) -> Option<(DataType, DataType)> {
    let [start, stop, rest @ ..] = actual else { return None };
    let step = rest.first();
    let bounds = [start, stop];
    let all = || bounds.into_iter().chain(step).filter(|t| !untyped(t));
    if rest.len() > 1 {
        return None;
    }
    if bounds.iter().any(|t| t.is_temporal()) {
        let zoned = |t: &&DataType| matches!(t, DataType::Timestamp(_, Some(_)));
        let clock = |t: &&DataType| matches!(t, DataType::Timestamp(_, None));
        let times = bounds.iter().all(|t| untyped(t) || matches!(t, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64));
        let interval = step.is_some_and(|s| untyped(s) || matches!(s, DataType::Interval(_) | DataType::Duration(_)));
        // A date is turned into a timestamptz where nothing asks for a timestamp.
        let local = bounds.into_iter().any(|t| clock(&t)) && !bounds.into_iter().any(|t| zoned(&t));
        let ty = if local { SqlType::Timestamp } else { SqlType::Timestamptz };
        return (times && interval).then(|| (ty.arrow(), SqlType::Interval.arrow()));
    }
    if all().all(DataType::is_integer) {
        let wide = all().any(|t| !matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16));
        let ty = if wide { DataType::Int64 } else { DataType::Int32 };
        return Some((ty.clone(), ty));
    }
    let scale = |t: &DataType| match t {
        DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => Some((*s).max(0)),
        t if t.is_integer() => Some(0),
        _ => None,
    };
    let scales: Option<Vec<i8>> = all().map(scale).collect();
    let ty = DataType::Decimal128(38, scales?.into_iter().max()?);
    Some((ty.clone(), ty))
}

fn series_types(actual: &[DataType]) -> Option<(Vec<DataType>, Vec<FieldRef>)> {
    let (element, step) = element(actual)?;
    let types = [element.clone(), element.clone(), step].into_iter().take(actual.len()).collect();
    Some((types, vec![Arc::new(Field::new("generate_series", element, true))]))
}

fn item(ty: &DataType) -> Option<&FieldRef> {
    match ty {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// The element of an array of any number of dimensions.
fn innermost(item: &FieldRef) -> &FieldRef {
    match item.data_type() {
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _)
            if !matches!(SqlType::of_field(item), SqlType::Vector) =>
        {
            innermost(inner)
        }
        _ => item,
    }
}

fn unnest_types(actual: &[DataType]) -> Option<(Vec<DataType>, Vec<FieldRef>)> {
    let mut types = Vec::with_capacity(actual.len());
    let mut columns = Vec::with_capacity(actual.len());
    for ty in actual {
        let (ty, element) = match ty {
            DataType::Null => {
                let item = Arc::new(Field::new("item", DataType::Utf8, true));
                (DataType::List(Arc::clone(&item)), item)
            }
            ty => (ty.clone(), Arc::clone(innermost(item(ty)?))),
        };
        let list = match &ty {
            DataType::List(_) => ty.clone(),
            other => DataType::List(Arc::clone(item(other)?)),
        };
        types.push(list);
        columns.push(Arc::new(element.as_ref().clone().with_name("unnest").with_nullable(true)));
    }
    // Rows of one composite are its fields.
    if let [column] = columns.as_slice()
        && let (DataType::Struct(fields), SqlType::Record(_)) = (column.data_type(), SqlType::of_field(column))
    {
        columns = fields.iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    }
    (!actual.is_empty()).then_some((types, columns))
}

/// A series of one row, at its next value.
enum Series {
    Int { at: i64, stop: i64, step: i64, max: i64 },
    Decimal { at: i128, stop: i128, step: i128 },
    Time { at: i64, stop: i64, step: IntervalMonthDayNano },
    End,
}

fn zero_step() -> Error {
    Error::invalid_argument("step size cannot equal zero")
}

impl Series {
    /// The series of a row; none for NULL.
    fn of(args: &[Arg], row: usize) -> Result<Series> {
        if args.iter().any(|a| a.is_null(row)) {
            return Ok(Series::End);
        }
        let [start, stop, rest @ ..] = args else { return Err(Error::internal("a series without bounds")) };
        let at = |arg: &Arg| if arg.constant { 0 } else { row };
        match start.array.data_type() {
            DataType::Int32 | DataType::Int64 => {
                let narrow = start.array.data_type() == &DataType::Int32;
                let value = |arg: &Arg| match arg.array.data_type() {
                    DataType::Int32 => i64::from(arg.array.as_primitive::<Int32Type>().value(at(arg))),
                    _ => arg.array.as_primitive::<Int64Type>().value(at(arg)),
                };
                let step = rest.first().map_or(1, value);
                let max = if narrow { i64::from(i32::MAX) } else { i64::MAX };
                if step == 0 { Err(zero_step()) } else { Ok(Series::Int { at: value(start), stop: value(stop), step, max }) }
            }
            DataType::Decimal128(_, scale) => {
                let value = |arg: &Arg| arg.array.as_primitive::<Decimal128Type>().value(at(arg));
                let one =
                    10i128.checked_pow(u32::from(scale.unsigned_abs())).ok_or_else(|| Error::new(Kind::OutOfRange, "numeric field overflow"))?;
                let step = rest.first().map_or(one, value);
                if step == 0 { Err(zero_step()) } else { Ok(Series::Decimal { at: value(start), stop: value(stop), step }) }
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let value = |arg: &Arg| arg.array.as_primitive::<TimestampMicrosecondType>().value(at(arg));
                let Some(step) = rest.first() else { return Err(Error::internal("a series of times without a step")) };
                let step = step.array.as_primitive::<IntervalMonthDayNanoType>().value(at(step));
                if span(step) == 0 { Err(zero_step()) } else { Ok(Series::Time { at: value(start), stop: value(stop), step }) }
            }
            other => Err(Error::internal(format!("a series over Arrow type {other}"))),
        }
    }

    fn next(&mut self) -> Result<Option<i128>> {
        let (value, after) = match self {
            Series::End => return Ok(None),
            Series::Int { at, stop, step, max } => {
                let value = *at;
                if (*step > 0 && value > *stop) || (*step < 0 && value < *stop) {
                    (None, false)
                } else {
                    let next = value.checked_add(*step).filter(|n| *n <= *max && *n >= -*max - 1);
                    *at = next.unwrap_or(value);
                    (Some(i128::from(value)), next.is_some())
                }
            }
            Series::Decimal { at, stop, step } => {
                let value = *at;
                if (*step > 0 && value > *stop) || (*step < 0 && value < *stop) {
                    (None, false)
                } else {
                    let next = value.checked_add(*step);
                    *at = next.unwrap_or(value);
                    (Some(value), next.is_some())
                }
            }
            Series::Time { at, stop, step } => {
                let value = *at;
                if (span(*step) > 0 && value > *stop) || (span(*step) < 0 && value < *stop) {
                    (None, false)
                } else {
                    *at = shifted(value, *step)?;
                    (Some(i128::from(value)), true)
                }
            }
        };
        if !after {
            *self = Series::End;
        }
        Ok(value)
    }
}

/// How long an interval is, with months of 30 days: what its sign is told by.
fn span(step: IntervalMonthDayNano) -> i128 {
    (i128::from(step.months) * 30 + i128::from(step.days)) * 86_400_000_000_000 + i128::from(step.nanoseconds)
}

/// A time with an interval added: months by the calendar, then days, then the rest.
pub fn shifted(micros: i64, step: IntervalMonthDayNano) -> Result<i64> {
    let out = || Error::new(Kind::DatetimeOverflow, "timestamp out of range");
    let mut at = DateTime::from_timestamp_micros(micros).ok_or_else(out)?;
    let months = Months::new(step.months.unsigned_abs());
    at = if step.months < 0 { at.checked_sub_months(months) } else { at.checked_add_months(months) }.ok_or_else(out)?;
    let days = i64::from(step.days).checked_mul(86_400_000_000).ok_or_else(out)?;
    at.timestamp_micros().checked_add(days).and_then(|t| t.checked_add(step.nanoseconds / 1000)).ok_or_else(out)
}

/// Values of a series as a column of its type.
fn column(values: Vec<i128>, ty: &DataType) -> Result<ArrayRef> {
    let narrow = || values.iter().map(|v| *v as i64);
    Ok(match ty {
        DataType::Int32 => Arc::new(Int32Array::from_iter_values(values.iter().map(|v| *v as i32))),
        DataType::Int64 => Arc::new(Int64Array::from_iter_values(narrow())),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(TimestampMicrosecondArray::from_iter_values(narrow()).with_timezone_opt(zone.clone()))
        }
        DataType::Decimal128(p, s) => Arc::new(Decimal128Array::from(values).with_precision_and_scale(*p, *s).map_err(from_arrow)?),
        other => return Err(Error::internal(format!("a series over Arrow type {other}"))),
    })
}

fn series(call: Arc<Call>) -> Result<NumberedRows> {
    let ty = call.args.first().map(|a| a.array.data_type().clone()).ok_or_else(|| Error::internal("a series without bounds"))?;
    let (mut row, mut current) = (0, Series::End);
    let mut next = move || -> Result<Option<(UInt32Array, Vec<ArrayRef>)>> {
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        while values.len() < PIECE_ROWS {
            match current.next()? {
                Some(value) => {
                    rows.push(row as u32 - 1);
                    values.push(value);
                }
                None if row < call.rows => {
                    current = Series::of(&call.args, row)?;
                    row += 1;
                }
                None => break,
            }
        }
        Ok(if values.is_empty() { None } else { Some((UInt32Array::from(rows), vec![column(values, &ty)?])) })
    };
    Ok(Box::new(std::iter::from_fn(move || next().transpose())))
}

/// Arrays without NULL inside their dimensions, as one list a row over all their elements.
fn flat(array: &ArrayRef) -> Result<ListArray> {
    let mut list = array.as_list_opt::<i32>().cloned().ok_or_else(|| Error::internal("an array was expected"))?;
    while let DataType::List(item) = list.data_type()
        && matches!(item.data_type(), DataType::List(_))
        && !matches!(SqlType::of_field(item), SqlType::Vector)
    {
        let inner = list.values().as_list::<i32>();
        let offsets: Vec<i32> = list.value_offsets().iter().map(|o| inner.value_offsets().get(*o as usize).copied().unwrap_or(0)).collect();
        let DataType::List(field) = inner.data_type() else { break };
        let offsets = OffsetBuffer::new(offsets.into());
        list = ListArray::try_new(Arc::clone(field), offsets, Arc::clone(inner.values()), list.nulls().cloned()).map_err(from_arrow)?;
    }
    Ok(list)
}

fn unnest(call: Arc<Call>) -> Result<NumberedRows> {
    let lists = call.args.iter().map(|a| flat(&a.array).map(|list| (list, a.constant))).collect::<Result<Vec<_>>>()?;
    let range = move |lists: &[(ListArray, bool)], which: usize, row: usize| -> (usize, usize) {
        let Some((list, constant)) = lists.get(which) else { return (0, 0) };
        let row = if *constant { 0 } else { row };
        if list.is_null(row) { (0, 0) } else { (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize) }
    };
    let (mut row, mut done) = (0, 0);
    let mut next = move || -> Result<Option<(UInt32Array, Vec<ArrayRef>)>> {
        let mut rows = Vec::new();
        let mut places: Vec<Vec<Option<u64>>> = vec![Vec::new(); lists.len()];
        while rows.len() < PIECE_ROWS && row < call.rows {
            let ranges: Vec<(usize, usize)> = (0..lists.len()).map(|i| range(&lists, i, row)).collect();
            let length = ranges.iter().map(|(start, end)| end - start).max().unwrap_or(0);
            let taken = (length - done).min(PIECE_ROWS - rows.len());
            for at in done..done + taken {
                rows.push(row as u32);
                for (places, (start, end)) in places.iter_mut().zip(&ranges) {
                    places.push((start + at < *end).then_some((start + at) as u64));
                }
            }
            done += taken;
            if done == length {
                (row, done) = (row + 1, 0);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = lists.iter().zip(places).map(|((list, _), places)| take(list.values(), &UInt64Array::from(places), None).map_err(from_arrow));
        let mut columns = columns.collect::<Result<Vec<_>>>()?;
        if let [column] = columns.as_slice()
            && let Some(structs) = column.as_struct_opt()
            && matches!(SqlType::of_arrow(column.data_type()), SqlType::Record(_))
        {
            let fields = structs.columns().iter().map(|c| masked(c, structs.nulls()));
            columns = fields.collect::<Result<Vec<_>>>()?;
        }
        Ok(Some((UInt32Array::from(rows), columns)))
    };
    Ok(Box::new(std::iter::from_fn(move || next().transpose())))
}

/// A field of a composite: NULL where the composite is.
fn masked(column: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    match nulls {
        None => Ok(Arc::clone(column)),
        Some(nulls) => {
            let places: UInt32Array = (0..column.len()).map(|i| nulls.is_valid(i).then_some(i as u32)).collect();
            take(column, &places, None).map_err(from_arrow)
        }
    }
}

/// A series as one array: what a select list unnests.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    signature: Signature,
}

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &str {
        SERIES
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        match series_types(types) {
            Some((types, _)) => Ok(types),
            None => {
                let names: Vec<String> = types.iter().map(|t| SqlType::of_arrow(t).name()).collect();
                let error = Error::new(Kind::UndefinedFunction, format!("function generate_series({}) does not exist", names.join(", ")));
                Err(to_datafusion(error.hint("No function matches the given name and argument types. You might need to add explicit type casts.")))
            }
        }
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match element(types) {
            Some((element, _)) => Ok(DataType::List(Arc::new(Field::new("item", element, true)))),
            None => plan_err!("a series needs bounds"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = args.args.iter().map(|a| Ok(Arg { array: a.to_array(args.number_rows)?, constant: false }));
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        whole(&columns, args.number_rows).map(ColumnarValue::Array).map_err(to_datafusion)
    }
}

fn whole(args: &[Arg], rows: usize) -> Result<ArrayRef> {
    let ty = args.first().map(|a| a.array.data_type().clone()).ok_or_else(|| Error::internal("a series without bounds"))?;
    let (mut values, mut lengths) = (Vec::new(), Vec::with_capacity(rows));
    for row in 0..rows {
        let before = values.len();
        let mut series = Series::of(args, row)?;
        while let Some(value) = series.next()? {
            if values.len() >= LIST_ROWS_MAX {
                return Err(Error::new(Kind::LimitExceeded, "a series in a select list is too long").hint("Write it in FROM."));
            }
            values.push(value);
        }
        lengths.push(values.len() - before);
    }
    let field = Arc::new(Field::new("item", ty.clone(), true));
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), column(values, &ty)?, None).map_err(from_arrow)?;
    Ok(Arc::new(list))
}

/// `squilla_series(start, stop [, step])`.
pub fn udf() -> ScalarUDF {
    ScalarUDF::new_from_impl(Whole { signature: Signature::user_defined(Volatility::Immutable) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(mut series: Series) -> Vec<i128> {
        std::iter::from_fn(|| series.next().unwrap()).collect()
    }

    #[test]
    fn series_end_where_their_type_does() {
        assert_eq!(values(Series::Int { at: 1, stop: 7, step: 3, max: i64::MAX }), [1, 4, 7]);
        assert_eq!(values(Series::Int { at: 3, stop: 1, step: -1, max: i64::MAX }), [3, 2, 1]);
        let last = i64::from(i32::MAX);
        assert_eq!(values(Series::Int { at: last - 1, stop: last, step: 1, max: last }).len(), 2);
        let day = IntervalMonthDayNano::new(0, 1, 0);
        assert_eq!(values(Series::Time { at: 0, stop: 86_400_000_000, step: day }).len(), 2);
    }

    #[test]
    fn months_keep_to_the_calendar() {
        // 31 January and a month is 28 February.
        let january = chrono::NaiveDate::from_ymd_opt(2026, 1, 31).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros();
        let february = chrono::NaiveDate::from_ymd_opt(2026, 2, 28).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros();
        assert_eq!(shifted(january, IntervalMonthDayNano::new(1, 0, 0)).unwrap(), february);
    }

    #[test]
    fn types_follow_the_arguments() {
        let of = |types: &[DataType]| element(types).map(|(e, _)| e);
        assert_eq!(of(&[DataType::Int32, DataType::Null]), Some(DataType::Int32));
        assert_eq!(of(&[DataType::Int32, DataType::Int64]), Some(DataType::Int64));
        assert_eq!(of(&[DataType::Int32, DataType::Decimal128(2, 1)]), Some(DataType::Decimal128(38, 1)));
        assert_eq!(of(&[DataType::Date32, DataType::Date32, DataType::Utf8]), Some(SqlType::Timestamptz.arrow()));
        assert_eq!(of(&[DataType::Float64, DataType::Float64]), None);
    }
}
