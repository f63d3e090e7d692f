//! Arrays with the places of their elements: what `_pg_expandarray` and `generate_subscripts` unnest.
//!
//! In: arrays. Out: arrays. Invariant: places count from 1, those of int2vector and oidvector from 0. Deliberately absent:
//! arrays of several dimensions, of which there are none; the calls (`from_calls`), but for `array_to_string`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, FunctionArguments};
use squilla_core::types::SqlType;

use crate::postgres::syntax::{arguments, call, function_name, text};

/// The function behind `_pg_expandarray`: each element with its place.
pub const EXPAND: &str = "squilla_expand_array";

/// The function behind `generate_subscripts`: the places of an array's elements.
pub const SUBSCRIPTS: &str = "squilla_subscripts";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Expand {
    signature: Signature,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Subscripts {
    signature: Signature,
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::new_from_impl(Expand { signature: Signature::any(1, Volatility::Immutable) }),
        ScalarUDF::new_from_impl(Subscripts { signature: Signature::any(1, Volatility::Immutable) }),
    ]
}

impl ScalarUDFImpl for Subscripts {
    fn name(&self) -> &str {
        SUBSCRIPTS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::List(Arc::new(Field::new("item", DataType::Int32, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let first = match args.arg_fields.first().map(|f| SqlType::of_field(f)) {
            Some(SqlType::Int2Vector | SqlType::OidVector) => 0,
            _ => 1,
        };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(list) = arrays.first().and_then(|a| a.as_list_opt::<i32>()) else { return plan_err!("an array was expected") };
        let lengths = list.offsets().windows(2).map(|w| (w[1] - w[0]).max(0)).collect::<Vec<i32>>();
        let values: Int32Array = lengths.iter().flat_map(|n| first..first + n).collect::<Vec<i32>>().into();
        let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|n| usize::try_from(*n).unwrap_or(0)));
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(item, offsets, Arc::new(values), list.nulls().cloned())?)))
    }
}

fn pairs(element: &FieldRef) -> Fields {
    Fields::from(vec![element.as_ref().clone().with_name("x").with_nullable(true), Field::new("n", DataType::Int32, true)])
}

impl ScalarUDFImpl for Expand {
    fn name(&self) -> &str {
        EXPAND
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match types {
            [DataType::List(element)] => Ok(DataType::List(Arc::new(Field::new("item", DataType::Struct(pairs(element)), true)))),
            _ => plan_err!("an array was expected"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(list) = arrays.first().and_then(|a| a.as_list_opt::<i32>()) else { return plan_err!("an array was expected") };
        let DataType::List(element) = list.data_type() else { return plan_err!("an array was expected") };
        // The values of a slice may begin before its first list: places follow the offsets.
        let mut places = vec![0_i32; list.values().len()];
        for window in list.offsets().windows(2) {
            let (start, end) = (window[0] as usize, window[1] as usize);
            for (n, place) in places.iter_mut().take(end).skip(start).enumerate() {
                *place = i32::try_from(n + 1).unwrap_or(i32::MAX);
            }
        }
        let fields = pairs(element);
        let values = StructArray::try_new(fields.clone(), vec![Arc::clone(list.values()), Arc::new(Int32Array::from(places)) as ArrayRef], None)?;
        let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
        let list = ListArray::try_new(item, list.offsets().clone(), Arc::new(values), list.nulls().cloned())?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}

/// `array_to_string(a, s)`, which is an empty text for an array without elements; None for other calls.
pub fn joined(expr: &Expr) -> Option<Expr> {
    if function_name(expr).as_deref() != Some("array_to_string") {
        return None;
    }
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let given = arguments(&list.args)?;
    let [array, separator, ..] = given.as_slice() else { return None };
    let known = |e: &Expr| Box::new(Expr::IsNotNull(Box::new(Expr::Nested(Box::new(e.clone())))));
    let both = Expr::BinaryOp { left: known(array), op: BinaryOperator::And, right: known(separator) };
    let empty = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition: both, result: text("") }],
        else_result: None,
    };
    Some(call("coalesce", vec![call("array_to_string", given), empty]))
}
