//! `pg_cancel_backend` and `pg_terminate_backend`: functions that act on other sessions.
//!
//! Invariant: a role that is no superuser reaches its own sessions only (42501). Deliberately absent: signals.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind};

use crate::error::to_datafusion;
use crate::session::Session;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Act {
    Cancel,
    Terminate,
}

/// What [`functions`] makes.
pub const NAMES: &[&str] = &["pg_cancel_backend", "pg_terminate_backend"];

/// The functions of one session.
pub fn functions(session: &Arc<Session>) -> Vec<ScalarUDF> {
    [Act::Cancel, Act::Terminate]
        .into_iter()
        .map(|act| ScalarUDF::new_from_impl(Admin { act, session: Arc::downgrade(session), signature: Signature::numeric(1, Volatility::Volatile) }))
        .collect()
}

struct Admin {
    act: Act,
    session: Weak<Session>,
    signature: Signature,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.act)
    }
}

impl PartialEq for Admin {
    fn eq(&self, other: &Self) -> bool {
        self.act == other.act
    }
}

impl Eq for Admin {}

impl Hash for Admin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.act.hash(state);
    }
}

impl Admin {
    fn one(&self, pid: i64) -> DfResult<bool> {
        let Some(session) = self.session.upgrade() else { return Ok(false) };
        let Some(target) = i32::try_from(pid).ok().and_then(|pid| session.database.session(pid)) else { return Ok(false) };
        if !session.superuser() && !session.database.catalog.snapshot().member_of(&session.role(), true).contains(&target.user) {
            return Err(to_datafusion(Error::new(Kind::InsufficientPrivilege, "permission denied to stop another role's statement")));
        }
        match self.act {
            Act::Cancel => target.cancel(),
            Act::Terminate => target.terminate(),
        }
        Ok(true)
    }
}

impl ScalarUDFImpl for Admin {
    fn name(&self) -> &str {
        match self.act {
            Act::Cancel => "pg_cancel_backend",
            Act::Terminate => "pg_terminate_backend",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(pids) = arrays.first() else { return Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(Vec::<bool>::new())))) };
        let pids = cast(pids, &DataType::Int64)?;
        let pids = pids.as_primitive::<Int64Type>();
        let done = (0..pids.len()).map(|i| if pids.is_null(i) { Ok(None) } else { self.one(pids.value(i)).map(Some) });
        Ok(ColumnarValue::Array(Arc::new(done.collect::<DfResult<BooleanArray>>()?)))
    }
}
