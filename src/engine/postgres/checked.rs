//! Integer arithmetic that fails instead of wrapping around.
//!
//! In: two integers of one type. Out: their sum, difference or product. Invariant: a result outside the type is 22003; the
//! name of the expression is that of the operator. Deliberately absent: division, which DataFusion checks by itself.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr_common::datum::apply;
use squilla_core::error::{Error, Kind};
use squilla_core::types::SqlType;

use crate::error::{from_datafusion, to_datafusion};

#[derive(Debug)]
struct Checked {
    op: Operator,
    signature: Signature,
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op
    }
}

impl Eq for Checked {}

impl Hash for Checked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "squilla_add",
            Operator::Minus => "squilla_subtract",
            _ => "squilla_multiply",
        }
    }

    fn display_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        match args {
            [left, right] => Ok(format!("{left} {} {right}", self.op)),
            _ => plan_err!("{} takes two arguments", self.name()),
        }
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        match args {
            [left, right] => Ok(format!("{} {} {}", left.schema_name(), self.op, right.schema_name())),
            _ => plan_err!("{} takes two arguments", self.name()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        match types {
            [left, right] if left == right && integer(left) => Ok(left.clone()),
            _ => plan_err!("{} takes two integers of one type", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return plan_err!("{} takes two arguments", self.name()) };
        let result = match self.op {
            Operator::Plus => apply(left, right, add),
            Operator::Minus => apply(left, right, sub),
            _ => apply(left, right, mul),
        };
        result.map_err(|e| match e {
            DataFusionError::ArrowError(arrow, _) if matches!(*arrow, ArrowError::ArithmeticOverflow(_)) => {
                let ty = SqlType::of_arrow(&left.data_type()).name();
                to_datafusion(Error::new(Kind::OutOfRange, format!("{ty} out of range")))
            }
            other => to_datafusion(from_datafusion(other)),
        })
    }
}

/// Whether a type has checked arithmetic.
pub fn integer(ty: &DataType) -> bool {
    matches!(ty, DataType::Int16 | DataType::Int32 | DataType::Int64)
}

static ALL: LazyLock<[Arc<ScalarUDF>; 3]> = LazyLock::new(|| {
    [Operator::Plus, Operator::Minus, Operator::Multiply]
        .map(|op| Arc::new(ScalarUDF::new_from_impl(Checked { op, signature: Signature::any(2, Volatility::Immutable) })))
});

/// The checked function of an operator.
pub fn of(op: Operator) -> Option<Arc<ScalarUDF>> {
    let [plus, minus, times] = &*ALL;
    match op {
        Operator::Plus => Some(Arc::clone(plus)),
        Operator::Minus => Some(Arc::clone(minus)),
        Operator::Multiply => Some(Arc::clone(times)),
        _ => None,
    }
}

/// The functions, for plans that come back by name.
pub fn udfs() -> Vec<ScalarUDF> {
    ALL.iter().map(|udf| udf.as_ref().clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::prelude::SessionContext;

    async fn run(sql: &str) -> DataFusionResult<String> {
        let context = SessionContext::new();
        let state = datafusion::execution::session_state::SessionStateBuilder::new_from_existing(context.state())
            .with_analyzer_rule(Arc::new(crate::postgres::cast_rule::TextCasts::new(&[])))
            .build();
        let batches = SessionContext::new_with_state(state).sql(sql).await?.collect().await?;
        Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
    }

    #[tokio::test]
    async fn arithmetic_fails_where_it_would_wrap() {
        for sql in ["SELECT 9223372036854775807 + x FROM (VALUES (1)) t(x)", "SELECT 9223372036854775807 + 1", "SELECT -9223372036854775807 * 3"] {
            let error = from_datafusion(run(sql).await.unwrap_err());
            assert_eq!((error.kind, error.message.as_str()), (Kind::OutOfRange, "bigint out of range"), "{sql}");
        }
        let grouped = run("SELECT x + 1, sum(x * 2 - 1) FROM (VALUES (1), (1)) t(x) GROUP BY x + 1 ORDER BY x + 1").await.unwrap();
        assert!(grouped.contains("| 2 ") && grouped.contains("t.x + Int64(1)"), "{grouped}");
        run("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r").await.unwrap();
    }
}
