//! Aggregates over ordered rows: `percentile_cont`, `percentile_disc` and `mode`, each `WITHIN GROUP (ORDER BY x)`.
//!
//! In: x, the fractions, whether the order is descending. Out: the value at each fraction, or the most frequent value.
//! Invariant: NULLs are passed over; a fraction outside 0 to 1 is 22003; an array of fractions gives an array. Memory is that
//! of the values of a group. Deliberately absent: percentile_cont of intervals, hypothetical-set aggregates.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind};

use crate::error::to_datafusion;

/// Which aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Cont,
    Disc,
    Mode,
}

/// The aggregate behind `name(...) WITHIN GROUP (...)`.
pub fn behind(name: &str) -> Option<&'static str> {
    match name {
        "percentile_cont" => Some("squilla_percentile_cont"),
        "percentile_disc" => Some("squilla_percentile_disc"),
        "mode" => Some("squilla_mode"),
        _ => None,
    }
}

#[derive(Debug)]
struct Ordered {
    way: Way,
    signature: Signature,
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.way == other.way
    }
}

impl Eq for Ordered {}

impl Hash for Ordered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.way.hash(state);
    }
}

fn is_list(ty: &DataType) -> bool {
    matches!(ty, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
}

impl AggregateUDFImpl for Ordered {
    fn name(&self) -> &str {
        match self.way {
            Way::Cont => "squilla_percentile_cont",
            Way::Disc => "squilla_percentile_disc",
            Way::Mode => "squilla_mode",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let [value, fraction, descending] = types else { return plan_err!("{} takes three arguments", self.name()) };
        let value = if self.way == Way::Cont { DataType::Float64 } else { value.clone() };
        let list = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
        let fraction = if is_list(fraction) { list } else { DataType::Float64 };
        Ok(vec![value, fraction, descending.clone()])
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match types {
            [value, fraction, _] if is_list(fraction) => Ok(DataType::List(Arc::new(Field::new("item", value.clone(), true)))),
            [value, _, _] => Ok(value.clone()),
            _ => plan_err!("{} takes three arguments", self.name()),
        }
    }

    fn return_field(&self, fields: &[FieldRef]) -> DataFusionResult<FieldRef> {
        let types: Vec<DataType> = fields.iter().map(|f| f.data_type().clone()).collect();
        let metadata = fields.first().filter(|_| !types.get(1).is_some_and(is_list)).map(|f| f.metadata().clone()).unwrap_or_default();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true).with_metadata(metadata)))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let ty = args.expr_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        let result = args.return_field.data_type().clone();
        Ok(Box::new(Values { way: self.way, ty, result, values: Vec::new(), fractions: None, descending: false }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let ty = args.input_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        let list = |ty| DataType::List(Arc::new(Field::new("item", ty, true)));
        Ok(vec![
            Arc::new(Field::new(format!("{}[values]", args.name), list(ty), true)),
            Arc::new(Field::new(format!("{}[fractions]", args.name), list(DataType::Float64), true)),
            Arc::new(Field::new(format!("{}[descending]", args.name), DataType::Boolean, true)),
        ])
    }
}

#[derive(Debug)]
struct Values {
    way: Way,
    ty: DataType,
    result: DataType,
    values: Vec<ScalarValue>,
    fractions: Option<Vec<Option<f64>>>,
    descending: bool,
}

fn items(array: &ArrayRef, row: usize) -> DataFusionResult<Vec<ScalarValue>> {
    let Some(list) = array.as_list_opt::<i32>() else { return Ok(vec![ScalarValue::try_from_array(array, row)?]) };
    if list.is_null(row) {
        return Ok(Vec::new());
    }
    let items = list.value(row);
    (0..items.len()).map(|at| ScalarValue::try_from_array(&items, at)).collect()
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(value) => *value,
        _ => None,
    }
}

impl Values {
    fn told(&mut self, fractions: &ArrayRef, descending: &ArrayRef, row: usize) -> DataFusionResult<()> {
        if self.fractions.is_none() {
            self.fractions = Some(items(fractions, row)?.iter().map(number).collect());
            self.descending = descending.as_boolean().is_valid(row) && descending.as_boolean().value(row);
        }
        Ok(())
    }

    fn at(&self, fraction: Option<f64>) -> DataFusionResult<ScalarValue> {
        let Some(fraction) = fraction.filter(|_| !self.values.is_empty()) else { return ScalarValue::try_from(&self.ty) };
        if !(0.0..=1.0).contains(&fraction) {
            return Err(to_datafusion(Error::new(Kind::OutOfRange, format!("percentile value {fraction} is not between 0 and 1"))));
        }
        let count = self.values.len();
        let value = |at: usize| self.values.get(at).cloned().map_or_else(|| ScalarValue::try_from(&self.ty), Ok);
        if self.way == Way::Disc {
            return value(((fraction * count as f64).ceil() as usize).max(1) - 1);
        }
        let place = fraction * (count - 1) as f64;
        let (low, high) = (value(place.floor() as usize)?, value(place.ceil() as usize)?);
        Ok(ScalarValue::Float64(number(&low).zip(number(&high)).map(|(l, h)| l + (h - l) * place.fract())))
    }

    /// The value that comes most often; the first of several.
    fn mode(&self) -> DataFusionResult<ScalarValue> {
        let (mut best, mut most, mut start) = (None, 0, 0);
        for at in 0..self.values.len() {
            if self.values.get(at) != self.values.get(start) {
                start = at;
            }
            if at - start + 1 > most {
                (best, most) = (self.values.get(at), at - start + 1);
            }
        }
        best.cloned().map_or_else(|| ScalarValue::try_from(&self.ty), Ok)
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let [values, fractions, descending] = values else { return plan_err!("three arguments are expected") };
        for row in 0..values.len() {
            self.told(fractions, descending, row)?;
            if values.is_valid(row) {
                self.values.push(ScalarValue::try_from_array(values, row)?);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let [values, fractions, descending] = states else { return plan_err!("three states are expected") };
        for row in 0..values.len() {
            let own = items(values, row)?;
            if fractions.is_valid(row) {
                self.told(fractions, descending, row)?;
            }
            self.values.extend(own);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let descending = self.descending;
        self.values.sort_by(|a, b| {
            let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        });
        if self.way == Way::Mode {
            return self.mode();
        }
        let fractions = self.fractions.clone().unwrap_or_default();
        let found = fractions.into_iter().map(|f| self.at(f)).collect::<DataFusionResult<Vec<_>>>()?;
        match &self.result {
            ty @ DataType::List(_) if is_list(ty) && !is_list(&self.ty) => Ok(ScalarValue::List(ScalarValue::new_list_nullable(&found, &self.ty))),
            _ => found.into_iter().next().map_or_else(|| ScalarValue::try_from(&self.ty), Ok),
        }
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let fractions = match &self.fractions {
            Some(own) => {
                let own: Vec<ScalarValue> = own.iter().map(|f| ScalarValue::Float64(*f)).collect();
                ScalarValue::List(ScalarValue::new_list_nullable(&own, &DataType::Float64))
            }
            None => ScalarValue::try_from(&DataType::List(Arc::new(Field::new("item", DataType::Float64, true))))?,
        };
        let values = ScalarValue::List(ScalarValue::new_list_nullable(&self.values, &self.ty));
        Ok(vec![values, fractions, ScalarValue::Boolean(Some(self.descending))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + ScalarValue::size_of_vec(&self.values)
    }
}

/// The aggregates.
pub fn udafs() -> Vec<AggregateUDF> {
    [Way::Cont, Way::Disc, Way::Mode]
        .map(|way| AggregateUDF::new_from_impl(Ordered { way, signature: Signature::user_defined(Volatility::Immutable) }))
        .into()
}
