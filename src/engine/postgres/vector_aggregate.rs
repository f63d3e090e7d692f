//! `avg` and `sum` of vectors, beside those of numbers.
//!
//! In: a column. Out: numbers are DataFusion's own; vectors are added place by place in double precision. Invariant: NULLs
//! are passed over, nothing but NULLs gives NULL, vectors of different lengths are 22023. Deliberately absent: DISTINCT
//! over vectors, and windows that take vectors out again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_aggregate::{average::avg_udaf, sum::sum_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature, Volatility,
};
use squilla_core::error::{Error, Kind};
use squilla_core::numeric::QUOTIENT;
use squilla_core::types::SqlType;

use crate::error::to_datafusion;

#[derive(Debug)]
struct OrVectors {
    numbers: Arc<AggregateUDF>,
    mean: bool,
    signature: Signature,
}

impl PartialEq for OrVectors {
    fn eq(&self, other: &Self) -> bool {
        self.mean == other.mean
    }
}

impl Eq for OrVectors {}

impl Hash for OrVectors {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mean.hash(state);
    }
}

fn vector(types: &[DataType]) -> bool {
    matches!(types, [DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)] if item.data_type() == &DataType::Float32)
}

fn vectors(fields: &[FieldRef]) -> bool {
    matches!(fields, [field] if vector(std::slice::from_ref(field.data_type())))
}

/// What a mean of decimals is taken of: four digits less than a quotient has.
const MEAN_INPUT: DataType = DataType::Decimal256(72, 24);

fn exact(ty: &DataType) -> bool {
    match ty {
        DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => {
            *s <= 24 || *ty == QUOTIENT
        }
        other => other.is_integer(),
    }
}

fn sums() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Float64, true)))
}

impl AggregateUDFImpl for OrVectors {
    fn name(&self) -> &str {
        self.numbers.name()
    }

    fn aliases(&self) -> &[String] {
        self.numbers.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        if vector(types) {
            return Ok(vec![SqlType::Vector.arrow()]);
        }
        match types {
            // A mean of exact numbers has the digits of a quotient, a sum of bigint does not wrap around.
            [ty] if self.mean && exact(ty) => return Ok(vec![MEAN_INPUT]),
            [DataType::Int64] if !self.mean => return Ok(vec![DataType::Decimal128(20, 0)]),
            _ => {}
        }
        let fields: Vec<FieldRef> = types.iter().map(|ty| Arc::new(Field::new("", ty.clone(), true))).collect();
        Ok(fields_with_udf(&fields, self.numbers.as_ref())?.iter().map(|f| f.data_type().clone()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        if vector(types) { Ok(SqlType::Vector.arrow()) } else { self.numbers.return_type(types) }
    }

    fn return_field(&self, fields: &[FieldRef]) -> DataFusionResult<FieldRef> {
        if vectors(fields) { Ok(Arc::new(SqlType::Vector.field(self.name()))) } else { self.numbers.return_field(fields) }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        if !vectors(args.expr_fields) {
            return self.numbers.accumulator(args);
        }
        if args.is_distinct {
            return Err(to_datafusion(Error::unsupported(format!("{}(DISTINCT vector) is not supported", self.name()))));
        }
        Ok(Box::new(Sum { mean: self.mean, sum: None, rows: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        if !vectors(args.input_fields) {
            return self.numbers.state_fields(args);
        }
        Ok(vec![
            Arc::new(Field::new(format!("{}[sum]", args.name), sums(), true)),
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, false)),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !vectors(args.expr_fields) && self.numbers.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        self.numbers.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        if vectors(args.expr_fields) { self.accumulator(args) } else { self.numbers.create_sliding_accumulator(args) }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, ty: &DataType) -> SetMonotonicity {
        if vector(std::slice::from_ref(ty)) { SetMonotonicity::NotMonotonic } else { self.numbers.inner().set_monotonicity(ty) }
    }
}

#[derive(Debug)]
struct Sum {
    mean: bool,
    sum: Option<Vec<f64>>,
    rows: i64,
}

impl Sum {
    fn add(&mut self, values: &Float64Array) -> DataFusionResult<()> {
        match &mut self.sum {
            None => self.sum = Some(values.iter().map(|v| v.unwrap_or(0.0)).collect()),
            Some(sum) if sum.len() == values.len() => sum.iter_mut().zip(values.values()).for_each(|(sum, value)| *sum += value),
            Some(sum) => {
                let text = format!("different vector dimensions {} and {}", sum.len(), values.len());
                return Err(to_datafusion(Error::new(Kind::InvalidArgument, text)));
            }
        }
        Ok(())
    }

    fn list(&self, values: ArrayRef) -> DataFusionResult<ScalarValue> {
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths([values.len()]), values, None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        let wide = cast(values, &sums())?;
        let wide = wide.as_list::<i32>();
        for row in (0..wide.len()).filter(|row| wide.is_valid(*row)) {
            self.add(wide.value(row).as_primitive::<Float64Type>())?;
            self.rows += 1;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let [sums, counts] = states else { return Ok(()) };
        let (sums, counts) = (sums.as_list::<i32>(), counts.as_primitive::<Int64Type>());
        for row in (0..sums.len()).filter(|row| sums.is_valid(*row)) {
            self.add(sums.value(row).as_primitive::<Float64Type>())?;
            self.rows += counts.value(row);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let Some(sum) = &self.sum else { return ScalarValue::try_from(&SqlType::Vector.arrow()) };
        let divisor = if self.mean { self.rows as f64 } else { 1.0 };
        let values: Float32Array = sum.iter().map(|v| Some((v / divisor) as f32)).collect();
        if values.values().iter().any(|v| !v.is_finite()) {
            return Err(to_datafusion(Error::new(Kind::OutOfRange, "value out of range: overflow")));
        }
        let list = self.list(Arc::new(values))?;
        // The names of list items differ between what casts and what builders make.
        list.cast_to(&SqlType::Vector.arrow())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let sum = match &self.sum {
            Some(sum) => self.list(Arc::new(Float64Array::from(sum.clone())))?,
            None => ScalarValue::try_from(&sums())?,
        };
        Ok(vec![sum, ScalarValue::Int64(Some(self.rows))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.sum.as_ref().map_or(0, |s| s.capacity() * size_of::<f64>())
    }
}

/// `avg` and `sum`.
pub fn udafs() -> Vec<AggregateUDF> {
    [(avg_udaf(), true), (sum_udaf(), false)]
        .map(|(numbers, mean)| AggregateUDF::new_from_impl(OrVectors { numbers, mean, signature: Signature::user_defined(Volatility::Immutable) }))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::datatypes::Float32Type;

    fn column(rows: Vec<Option<Vec<Option<f32>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
    }

    #[test]
    fn means_skip_nulls_and_refuse_other_lengths() {
        let mut part = Sum { mean: true, sum: None, rows: 0 };
        assert!(part.evaluate().unwrap().is_null());
        part.update_batch(&[column(vec![Some(vec![Some(1.0), Some(2.0)]), None])]).unwrap();
        let state: Vec<ArrayRef> = part.state().unwrap().iter().map(|s| s.to_array().unwrap()).collect();
        let mut all = Sum { mean: true, sum: None, rows: 0 };
        all.update_batch(&[column(vec![Some(vec![Some(3.0), Some(4.0)])])]).unwrap();
        all.merge_batch(&state).unwrap();
        let mean = all.evaluate().unwrap().to_array().unwrap();
        assert_eq!(mean.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &[2.0, 3.0]);
        assert!(all.update_batch(&[column(vec![Some(vec![Some(3.0)])])]).is_err());
    }
}
