//! Functions whose types follow from their arguments, in few lines each.
//!
//! In: a name, a rule for types, and the work over columns. Out: a `ScalarUDF`. Invariant: two functions are equal when
//! their names are, so a plan finds them again by name. Deliberately absent: functions over the catalog (`function`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::{from_arrow, to_datafusion};

/// The arguments of a call.
pub struct Args<'a> {
    /// One column each, of the types that the rule gave.
    pub columns: Vec<ArrayRef>,
    /// Types with their metadata.
    pub fields: &'a [FieldRef],
    /// Type of the result.
    pub returns: &'a DataType,
    /// Rows.
    pub rows: usize,
    /// The session's time zone.
    pub zone: &'a str,
}

impl Args<'_> {
    /// An argument.
    pub fn column(&self, at: usize) -> Result<&ArrayRef> {
        self.columns.get(at).ok_or_else(|| Error::internal("a missing argument"))
    }

    /// An argument as text.
    pub fn texts(&self, at: usize) -> Result<StringArray> {
        Ok(cast(self.column(at)?, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    /// An argument as bigint.
    pub fn ints(&self, at: usize) -> Result<arrow::array::Int64Array> {
        Ok(cast(self.column(at)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    /// An argument as double precision.
    pub fn floats(&self, at: usize) -> Result<Float64Array> {
        Ok(cast(self.column(at)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    /// The SQL type of an argument.
    pub fn ty(&self, at: usize) -> SqlType {
        self.fields.get(at).map_or(SqlType::Unknown, |f| SqlType::of_field(f))
    }
}

/// A cast that fails where a value does not fit.
pub fn cast(column: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    if column.data_type() == ty {
        return Ok(Arc::clone(column));
    }
    cast_with_options(column, ty, &CastOptions { safe: false, ..CastOptions::default() }).map_err(from_arrow)
}

/// What a call looks like when it is planned.
pub struct Shape<'a> {
    /// Types of the arguments, with metadata.
    pub fields: &'a [FieldRef],
    /// Constant arguments.
    pub constants: &'a [Option<&'a ScalarValue>],
}

impl Shape<'_> {
    /// The SQL type of an argument.
    pub fn ty(&self, at: usize) -> SqlType {
        self.fields.get(at).map_or(SqlType::Unknown, |f| SqlType::of_field(f))
    }

    /// A constant whole number.
    pub fn int(&self, at: usize) -> Option<i64> {
        match self.constants.get(at).copied().flatten()?.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(value) => value,
            _ => None,
        }
    }
}

/// A function.
#[derive(Clone, Copy)]
pub struct Scalar {
    /// Name.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// How its result may change.
    pub volatility: Volatility,
    /// The types that arguments are cast to; None where it does not take these.
    pub takes: fn(&[DataType]) -> Option<Vec<DataType>>,
    /// The type of the result, from the types that `takes` gave.
    pub returns: fn(&Shape<'_>) -> Option<Field>,
    /// The work.
    pub run: fn(&Args<'_>) -> Result<ArrayRef>,
}

impl Scalar {
    /// As DataFusion calls it.
    pub fn udf(self) -> ScalarUDF {
        let aliases = self.aliases.iter().map(|a| (*a).to_owned()).collect();
        ScalarUDF::new_from_impl(Udf { function: self, aliases, signature: Signature::user_defined(self.volatility) })
    }
}

/// Whether a type is text.
pub fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether a type is text, or nothing yet.
pub fn untyped(ty: &DataType) -> bool {
    is_text(ty) || *ty == DataType::Null
}

/// The 42883 of a call with types that a function does not take.
pub fn no_function(name: &str, types: &[DataType]) -> Error {
    let names: Vec<String> = types.iter().map(|t| SqlType::of_arrow(t).name()).collect();
    Error::new(Kind::UndefinedFunction, format!("function {name}({}) does not exist", names.join(", ")))
        .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

struct Udf {
    function: Scalar,
    aliases: Vec<String>,
    signature: Signature,
}

impl std::fmt::Debug for Udf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for Udf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        (self.function.takes)(types).ok_or_else(|| to_datafusion(no_function(self.function.name, types)))
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect();
        let shape = Shape { fields: &fields, constants: &[] };
        (self.function.returns)(&shape).map(|f| f.data_type().clone()).ok_or_else(|| to_datafusion(no_function(self.function.name, types)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let shape = Shape { fields: args.arg_fields, constants: args.scalar_arguments };
        match (self.function.returns)(&shape) {
            Some(field) => Ok(Arc::new(field.with_name(self.function.name).with_nullable(true))),
            None => {
                let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
                Err(to_datafusion(no_function(self.function.name, &types)))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) && self.function.volatility != Volatility::Volatile;
        let rows = if constant { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|a| a.to_array(rows)).collect::<DataFusionResult<Vec<_>>>()?;
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let call = Args { columns, fields: &args.arg_fields, returns: args.return_field.data_type(), rows, zone };
        let array = (self.function.run)(&call).map_err(to_datafusion)?;
        if constant && array.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}
