//! Casts that DataFusion's own CAST does not do as PostgreSQL does: two functions that the rewrite puts in their place.
//!
//! In: any value, and the name of a type as a constant. Out: the value as that type, with the type's metadata.
//! Invariant: the name of the target type is the second argument, so a plan with such a cast can be sent to a worker by
//! name. Deliberately absent: when to use them (`rewrite`, `cast_rule`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::error::to_datafusion;
use crate::postgres::{input, output};

/// Name of the function behind `x::type`.
pub const CAST: &str = "squilla_cast";
/// Name of the function behind `x::text`.
pub const TEXT: &str = "squilla_text";

/// The type that a cast names; 42704 for an unknown one.
pub fn target(name: &str) -> Result<SqlType> {
    SqlType::parse(name).ok_or_else(|| Error::new(Kind::UndefinedObject, format!("type \"{name}\" does not exist")))
}

/// The n of `vector(n)`.
fn dimensions(name: &str) -> Option<usize> {
    name.split_once('(')?.1.split(')').next()?.trim().parse().ok()
}

#[derive(Debug)]
struct Cast {
    signature: Signature,
}

impl PartialEq for Cast {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Cast {}

impl Hash for Cast {
    fn hash<H: Hasher>(&self, state: &mut H) {
        CAST.hash(state);
    }
}

impl ScalarUDFImpl for Cast {
    fn name(&self) -> &str {
        CAST
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        plan_err!("the type of a cast follows from its second argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let name = args.scalar_arguments.get(1).copied().flatten().and_then(|v| v.try_as_str().flatten());
        let Some(name) = name else { return plan_err!("a cast needs a constant type name") };
        Ok(Arc::new(target(name).map_err(to_datafusion)?.field(CAST)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [value, ColumnarValue::Scalar(name)] = args.args.as_slice() else { return plan_err!("a cast needs a value and a constant type name") };
        let name = name.try_as_str().flatten().unwrap_or_default();
        let ty = target(name).map_err(to_datafusion)?;
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let convert = |array| input::convert_in(array, &ty, dimensions(name), zone).map_err(to_datafusion);
        Ok(match value {
            ColumnarValue::Array(array) => ColumnarValue::Array(convert(array)?),
            ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(ScalarValue::try_from_array(&convert(&scalar.to_array()?)?, 0)?),
        })
    }
}

#[derive(Debug)]
struct Text {
    signature: Signature,
}

impl PartialEq for Text {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        TEXT.hash(state);
    }
}

impl ScalarUDFImpl for Text {
    fn name(&self) -> &str {
        TEXT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let ([value], [field]) = (args.args.as_slice(), args.arg_fields.as_slice()) else { return plan_err!("{TEXT} takes one argument") };
        let ty = SqlType::of_field(field);
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        Ok(match value {
            ColumnarValue::Array(array) => ColumnarValue::Array(output::texts(array, &ty, zone).map_err(to_datafusion)?),
            ColumnarValue::Scalar(scalar) => {
                let array = output::texts(&scalar.to_array()?, &ty, zone).map_err(to_datafusion)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
            }
        })
    }
}

/// `squilla_cast(value, 'type')`.
pub fn cast_udf() -> ScalarUDF {
    ScalarUDF::new_from_impl(Cast { signature: Signature::any(2, Volatility::Immutable) })
}

/// `squilla_text(value)`.
pub fn text_udf() -> ScalarUDF {
    ScalarUDF::new_from_impl(Text { signature: Signature::any(1, Volatility::Stable) })
}
