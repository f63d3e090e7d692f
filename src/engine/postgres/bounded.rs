//! String functions whose result may be far longer than their arguments, held to PostgreSQL's limit for one value.
//!
//! In: DataFusion's `repeat`, `lpad` and `rpad`. Out: the same, with 54000 before a value beyond 1 GB is made.
//! Deliberately absent: the functions themselves.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::Result as DfResult;
use datafusion::functions::{string, unicode};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use squilla_core::error::{Error, Kind};

use crate::error::to_datafusion;

/// Bytes of the longest value: PostgreSQL's limit.
const BYTES_MAX: u64 = (1 << 30) - 1;

/// How the second argument tells the length of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rule {
    /// Copies of the first.
    Times,
    /// Characters of the result.
    Characters,
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    rule: Rule,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.name().hash(state);
    }
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> DfResult<()> {
        let (Some(text), Some(count)) = (args.args.first(), args.args.get(1)) else { return Ok(()) };
        let rows = match (text, count) {
            (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)) => 1,
            _ => args.number_rows,
        };
        let counts = cast(&count.to_array(rows)?, &DataType::Int64)?;
        let counts = counts.as_primitive::<Int64Type>();
        let texts = cast(&text.to_array(rows)?, &DataType::LargeUtf8)?;
        let texts = texts.as_string::<i64>();
        for row in (0..rows).filter(|row| counts.is_valid(*row) && texts.is_valid(*row)) {
            let count = u64::try_from(counts.value(row)).unwrap_or(0);
            let bytes = match self.rule {
                Rule::Times => count.saturating_mul(texts.value_length(row) as u64),
                Rule::Characters => count,
            };
            if bytes > BYTES_MAX {
                return Err(to_datafusion(Error::new(Kind::LimitExceeded, "requested length too large")));
            }
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }
}

/// The functions, in place of DataFusion's.
pub fn udfs() -> Vec<ScalarUDF> {
    [(string::repeat(), Rule::Times), (unicode::lpad(), Rule::Characters), (unicode::rpad(), Rule::Characters)]
        .into_iter()
        .map(|(inner, rule)| ScalarUDF::new_from_impl(Bounded { inner, rule }))
        .collect()
}
