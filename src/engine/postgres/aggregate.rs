//! The aggregate behind a scalar subquery.
//!
//! In: the rows of `(SELECT x ...)`. Out: NULL for none, the value for one, 21000 for several. Invariant: the type and its
//! metadata are those of x. Deliberately absent: subqueries that aggregate by themselves; they need none of this.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind};

use crate::error::to_datafusion;

/// Name of the aggregate.
pub const SINGLE: &str = "squilla_single";

#[derive(Debug)]
struct Single {
    signature: Signature,
}

impl PartialEq for Single {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Single {}

impl Hash for Single {
    fn hash<H: Hasher>(&self, state: &mut H) {
        SINGLE.hash(state);
    }
}

impl AggregateUDFImpl for Single {
    fn name(&self) -> &str {
        SINGLE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match types {
            [ty] => Ok(ty.clone()),
            _ => plan_err!("{SINGLE} takes one argument"),
        }
    }

    fn return_field(&self, fields: &[FieldRef]) -> DataFusionResult<FieldRef> {
        match fields {
            [field] => Ok(Arc::new(Field::new(SINGLE, field.data_type().clone(), true).with_metadata(field.metadata().clone()))),
            _ => plan_err!("{SINGLE} takes one argument"),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(Seen { value: ScalarValue::try_from(args.return_field.data_type())?, rows: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let ty = args.return_field.data_type().clone();
        Ok(vec![
            Arc::new(Field::new(format!("{}[value]", args.name), ty, true)),
            Arc::new(Field::new(format!("{}[rows]", args.name), DataType::Int64, false)),
        ])
    }
}

#[derive(Debug)]
struct Seen {
    value: ScalarValue,
    rows: i64,
}

impl Seen {
    fn take(&mut self, values: &ArrayRef, row: usize, rows: i64) -> DataFusionResult<()> {
        self.rows += rows;
        if self.rows > 1 {
            return Err(to_datafusion(Error::new(Kind::CardinalityViolation, "more than one row returned by a subquery used as an expression")));
        }
        if rows > 0 {
            self.value = ScalarValue::try_from_array(values, row)?;
        }
        Ok(())
    }
}

impl Accumulator for Seen {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        (0..values[0].len()).try_for_each(|row| self.take(&values[0], row, 1))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = states[1].as_primitive::<Int64Type>();
        (0..rows.len()).try_for_each(|row| self.take(&states[0], row, rows.value(row)))
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        Ok(self.value.clone())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(Some(self.rows))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.value.size()
    }
}

/// `squilla_single(x)`.
pub fn single_udaf() -> AggregateUDF {
    AggregateUDF::new_from_impl(Single { signature: Signature::any(1, Volatility::Immutable) })
}
