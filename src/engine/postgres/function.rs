//! How a function over the catalog becomes a DataFusion function.
//!
//! In: a table of overloads, each a Rust function from values to a value. Out: a `ScalarUDF` that picks the overload by
//! number and kind of arguments, coerces them, and evaluates row by row against one picture of the server.
//! Invariant: a strict function is not called with a NULL. Deliberately absent: speed; catalog queries are small.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::system::oids;
use crate::system::procs::{Mode, Proc, ProcArgument, internal};
use crate::system::relation::{Value, array};
use crate::system::types;
use crate::system::view::{SystemView, ViewSource};

/// What a call may look at.
pub struct Context<'a> {
    /// The picture, one for all rows of a batch.
    pub view: &'a SystemView,
    /// Where it comes from, for functions that change the session.
    pub source: &'a dyn ViewSource,
}

/// One overload in Rust.
pub type Call = fn(&Context<'_>, &[Value]) -> Result<Value>;

/// One overload: `arguments` is `type, type`; a last `VARIADIC type` takes any number.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// Types of the arguments.
    pub arguments: &'static str,
    /// Type of the result.
    pub returns: &'static str,
    /// The function.
    pub call: Call,
}

/// A function with all its overloads.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Name, without schema.
    pub name: &'static str,
    /// Volatility.
    pub volatility: Volatility,
    /// NULL for NULL.
    pub strict: bool,
    /// One sentence, for `\df+`.
    pub comment: &'static str,
    /// At least one.
    pub overloads: &'static [Overload],
}

impl Overload {
    fn parameters(&self) -> impl Iterator<Item = (SqlType, bool)> {
        self.arguments.split(", ").filter(|a| !a.is_empty()).map(|text| match text.strip_prefix("VARIADIC ") {
            Some(ty) => (parse(ty), true),
            None => (parse(text), false),
        })
    }

    /// The declared type of argument `i`, or None where there are fewer.
    fn parameter(&self, i: usize) -> Option<SqlType> {
        let mut last = None;
        for (at, (ty, variadic)) in self.parameters().enumerate() {
            if at == i {
                return Some(ty);
            }
            last = variadic.then_some(ty);
        }
        last
    }

    fn takes(&self, count: usize) -> bool {
        let (fixed, variadic) = self.parameters().fold((0, false), |(n, v), (_, variadic)| if variadic { (n, true) } else { (n + 1, v) });
        if variadic { count >= fixed } else { count == fixed }
    }
}

fn parse(name: &str) -> SqlType {
    SqlType::parse(name).unwrap_or(SqlType::Text)
}

fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_list(ty: &DataType) -> bool {
    matches!(ty, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
}

/// The Arrow type that an argument of type `given` is coerced to for a parameter, and how well it fits.
fn fit(given: &DataType, wanted: &SqlType) -> Option<(DataType, u8)> {
    let target = wanted.arrow();
    Some(match wanted {
        _ if given == &DataType::Null => (target, 1),
        SqlType::Reg(_) if is_text(given) => (DataType::Utf8, 2),
        SqlType::Reg(_) | SqlType::Oid if given.is_integer() => (DataType::Int64, 4),
        SqlType::Oid if is_text(given) => (DataType::Int64, 1),
        SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector if is_list(given) => (given.clone(), 3),
        SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector => return None,
        // Anything has a text form.
        SqlType::Text if is_text(given) => (target, 3),
        SqlType::Text => (target, 1),
        SqlType::Name if is_text(given) => (target, 4),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 if given.is_integer() => (target.clone(), if *given == target { 4 } else { 3 }),
        SqlType::Float8 | SqlType::Numeric(_) if given.is_numeric() => (DataType::Float64, 2),
        SqlType::Bool if given == &DataType::Boolean => (target, 4),
        // An untyped string literal may spell any value.
        _ if is_text(given) => (target, 1),
        _ => return None,
    })
}

/// The DataFusion side of a [`Function`].
#[derive(Debug)]
struct Udf {
    function: &'static Function,
    source: Arc<dyn ViewSource>,
    signature: Signature,
}

impl PartialEq for Udf {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.function, other.function) && Arc::ptr_eq(&self.source, &other.source)
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl Udf {
    fn choose(&self, given: &[DataType]) -> Option<(&'static Overload, Vec<DataType>)> {
        let candidates = self.function.overloads.iter().filter(|o| o.takes(given.len()));
        let scored = candidates.filter_map(|overload| {
            let fits: Option<Vec<(DataType, u8)>> = given.iter().enumerate().map(|(i, ty)| fit(ty, &overload.parameter(i)?)).collect();
            let fits = fits?;
            let score: u32 = fits.iter().map(|(_, s)| u32::from(*s)).sum();
            Some((score, overload, fits.into_iter().map(|(ty, _)| ty).collect()))
        });
        // The first of equals, as declared.
        scored.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, overload, types)| (overload, types))
    }
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match self.choose(types) {
            Some((overload, _)) => Ok(parse(overload.returns).arrow()),
            None => plan_err!("No function matches the given name and argument types '{}'", self.function.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        match self.choose(&types) {
            Some((overload, _)) => Ok(Arc::new(parse(overload.returns).field(self.function.name))),
            None => plan_err!("No function matches the given name and argument types '{}'", self.function.name),
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        match self.choose(types) {
            Some((_, types)) => Ok(types),
            None => {
                let given: Vec<String> = types.iter().map(|t| SqlType::of_arrow(t).name()).collect();
                let error = Error::new(Kind::UndefinedFunction, format!("function {}({}) does not exist", self.function.name, given.join(", ")));
                Err(to_datafusion(error.hint("No function matches the given name and argument types. You might need to add explicit type casts.")))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let Some((overload, _)) = self.choose(&types) else {
            return Err(to_datafusion(Error::internal(format!("no overload of {} at execution", self.function.name))));
        };
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) && self.function.volatility != Volatility::Volatile;
        let rows = if constant { 1 } else { args.number_rows };
        let columns: Vec<Column> = args.args.iter().map(column).collect::<Result<_>>().map_err(to_datafusion)?;
        let view = self.source.view();
        let context = Context { view: &view, source: self.source.as_ref() };
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let arguments = columns.iter().map(|c| c.value(row)).collect::<Result<Vec<_>>>().map_err(to_datafusion)?;
            let null = self.function.strict && arguments.contains(&Value::Null);
            values.push(if null { Value::Null } else { (overload.call)(&context, &arguments).map_err(to_datafusion)? });
        }
        let array = array(&parse(overload.returns), &values).map_err(to_datafusion)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

struct Column {
    array: ArrayRef,
    constant: bool,
}

fn column(value: &ColumnarValue) -> Result<Column> {
    match value {
        ColumnarValue::Array(array) => Ok(Column { array: Arc::clone(array), constant: false }),
        ColumnarValue::Scalar(scalar) => {
            let array = scalar.to_array().map_err(crate::error::from_datafusion)?;
            Ok(Column { array, constant: true })
        }
    }
}

impl Column {
    fn value(&self, row: usize) -> Result<Value> {
        value_at(&self.array, if self.constant { 0 } else { row })
    }
}

/// The value of one cell.
pub fn value_at(array: &ArrayRef, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int16 => Value::Int(i64::from(array.as_primitive::<Int16Type>().value(row))),
        DataType::Int32 => Value::Int(i64::from(array.as_primitive::<Int32Type>().value(row))),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Value::Text(array.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Value::Text(array.as_string_view().value(row).to_owned()),
        DataType::Float64 => Value::Real(array.as_primitive::<arrow::datatypes::Float64Type>().value(row)),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => Value::Int(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::List(_) => elements(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => elements(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(_, _) => elements(&array.as_fixed_size_list().value(row))?,
        other => {
            let text =
                arrow::compute::cast(&array.slice(row, 1), &DataType::Utf8).map_err(|e| Error::internal(format!("{other} as an argument: {e}")))?;
            Value::Text(text.as_string::<i32>().value(0).to_owned())
        }
    })
}

fn elements(list: &ArrayRef) -> Result<Value> {
    let values = (0..list.len()).map(|i| value_at(list, i)).collect::<Result<Vec<_>>>()?;
    if values.iter().all(|v| matches!(v, Value::Int(_))) && list.data_type().is_integer() {
        return Ok(Value::Ints(values.iter().filter_map(|v| if let Value::Int(i) = v { Some(*i) } else { None }).collect()));
    }
    Ok(Value::Texts(values.into_iter().map(text_of).collect()))
}

/// The text form of a value; None for NULL.
pub fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(v) => Some(if v { "t".into() } else { "f".into() }),
        Value::Int(v) => Some(v.to_string()),
        Value::Real(v) => Some(v.to_string()),
        Value::Text(v) => Some(v),
        Value::Ints(v) => Some(format!("{{{}}}", v.iter().map(i64::to_string).collect::<Vec<_>>().join(","))),
        Value::Texts(v) => Some(format!("{{{}}}", v.iter().map(|t| t.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(","))),
    }
}

/// The functions as DataFusion calls them.
pub fn udfs(functions: &'static [Function], source: &Arc<dyn ViewSource>) -> Vec<ScalarUDF> {
    let one =
        |function| ScalarUDF::new_from_impl(Udf { function, source: Arc::clone(source), signature: Signature::user_defined(function.volatility) });
    functions.iter().map(one).collect()
}

/// The functions as `pg_proc` tells them.
pub fn procs(functions: &'static [Function]) -> impl Iterator<Item = Proc> {
    functions.iter().flat_map(|f| {
        f.overloads.iter().map(|o| {
            let ty = |name: &str| types::by_name(name).map_or(25, |t| t.oid);
            let arguments = o.arguments.split(", ").filter(|a| !a.is_empty()).map(|text| {
                let (name, mode) = text.strip_prefix("VARIADIC ").map_or((text, Mode::In), |name| (name, Mode::Variadic));
                let element = ty(name);
                let array = types::by_oid(element).map_or(0, |t| t.array);
                ProcArgument { name: String::new(), ty: if mode == Mode::Variadic && array != 0 { array } else { element }, mode, default: None }
            });
            Proc {
                arguments: arguments.collect(),
                volatility: match f.volatility {
                    Volatility::Immutable => "i",
                    Volatility::Stable => "s",
                    Volatility::Volatile => "v",
                },
                strict: f.strict,
                comment: f.comment.to_owned(),
                schema: oids::CATALOG_SCHEMA_OID,
                ..internal(f.name, [], ty(o.returns))
            }
        })
    })
}
