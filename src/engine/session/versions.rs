//! `tag_version`, `restore_table`, `optimize_table`: functions over tables that change the catalog.
//!
//! In: names of tables and versions. Out: what was done. Invariant: each is part of the session's transaction, or one of
//! its own; `optimize_table` always is one of its own. Deliberately absent: what a version is (`table::versions`).

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Result};

use crate::error::{from_arrow, to_datafusion};
use crate::session::Session;
use crate::table::{compact, versions};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Act {
    Tag,
    Restore,
    Optimize,
}

/// The functions of one session.
pub fn functions(session: &Arc<Session>) -> Vec<ScalarUDF> {
    [(Act::Tag, 3), (Act::Restore, 2), (Act::Optimize, 1)]
        .into_iter()
        .map(|(act, count)| {
            ScalarUDF::new_from_impl(Change { act, session: Arc::downgrade(session), signature: Signature::any(count, Volatility::Volatile) })
        })
        .collect()
}

struct Change {
    act: Act,
    session: Weak<Session>,
    signature: Signature,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.act)
    }
}

impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        self.act == other.act
    }
}

impl Eq for Change {}

impl Hash for Change {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.act.hash(state);
    }
}

impl Change {
    fn texts(args: &[ArrayRef], row: usize) -> Result<Option<Vec<String>>> {
        let mut out = Vec::with_capacity(args.len());
        for arg in args {
            let text = cast(arg, &DataType::Utf8).map_err(from_arrow)?;
            if text.is_null(row) {
                return Ok(None);
            }
            out.push(text.as_string::<i32>().value(row).to_owned());
        }
        Ok(Some(out))
    }

    fn one(&self, session: &Arc<Session>, texts: &[String]) -> Result<i64> {
        match (self.act, texts) {
            (Act::Tag, [table, version, tag]) => versions::tag(session, table, version, tag).map(|()| 1),
            (Act::Restore, [table, version]) => versions::restore(session, table, version).map(|rows| rows as i64),
            (Act::Optimize, [table]) => {
                session.may_write("optimize_table()")?;
                let (_, _, relation) = versions::table(session, table)?;
                let (database, oid) = (Arc::clone(&session.database), relation.oid);
                // The function is called on a statement's thread, which must not run what it waits for.
                let task = session.database.planning()?.spawn(async move { compact::optimize(&database, oid).await });
                let done = futures::executor::block_on(task).map_err(|e| Error::internal(format!("compaction failed: {e}")))?;
                done.map(i64::from)
            }
            _ => Err(Error::internal("a function with a wrong number of arguments")),
        }
    }
}

impl ScalarUDFImpl for Change {
    fn name(&self) -> &str {
        match self.act {
            Act::Tag => "tag_version",
            Act::Restore => "restore_table",
            Act::Optimize => "optimize_table",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(if self.act == Act::Restore { DataType::Int64 } else { DataType::Boolean })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let session = self.session.upgrade().ok_or_else(|| to_datafusion(Error::internal("the session has ended")))?;
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let mut done: Vec<Option<i64>> = Vec::with_capacity(rows);
        for row in 0..rows {
            let texts = Self::texts(&arrays, row).map_err(to_datafusion)?;
            done.push(texts.map(|t| self.one(&session, &t)).transpose().map_err(to_datafusion)?);
        }
        Ok(ColumnarValue::Array(match self.act {
            Act::Restore => Arc::new(Int64Array::from(done)),
            _ => Arc::new(done.into_iter().map(|d| d.map(|n| n != 0)).collect::<BooleanArray>()),
        }))
    }
}
