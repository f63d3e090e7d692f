//! nextval, currval, lastval, setval.
//!
//! In: names or OIDs of sequences. Out: values. Invariants: a value is given out once, whatever becomes of the transaction;
//! currval is what this session was given last (55000 before that). Deliberately absent: what a sequence is (`catalog`).

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{Relation, RelationKind, SequenceEntry};
use crate::error::to_datafusion;
use crate::session::Session;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Act {
    Next,
    Current,
    Last,
    Set,
}

/// The functions of one session.
pub fn functions(session: &Arc<Session>) -> Vec<ScalarUDF> {
    [Act::Next, Act::Current, Act::Last, Act::Set]
        .into_iter()
        .map(|act| {
            let signature = if act == Act::Last { Signature::nullary(Volatility::Volatile) } else { Signature::variadic_any(Volatility::Volatile) };
            ScalarUDF::new_from_impl(Sequence { act, session: Arc::downgrade(session), signature })
        })
        .collect()
}

struct Sequence {
    act: Act,
    session: Weak<Session>,
    signature: Signature,
}

impl std::fmt::Debug for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.act)
    }
}

impl PartialEq for Sequence {
    fn eq(&self, other: &Self) -> bool {
        self.act == other.act
    }
}

impl Eq for Sequence {}

impl Hash for Sequence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.act.hash(state);
    }
}

/// The sequence that a row names, by OID or by name.
fn find(session: &Session, names: &ArrayRef, row: usize) -> Result<(u32, String, SequenceEntry)> {
    let data = session.snapshot();
    let (shown, found): (String, Option<(&str, &Relation)>) = if names.data_type().is_integer() {
        let oids = cast(names, &DataType::Int64).map_err(crate::error::from_arrow)?;
        let oid = oids.as_primitive::<Int64Type>().value(row);
        (oid.to_string(), u32::try_from(oid).ok().and_then(|oid| data.relation_by_oid(oid)).map(|(_, name, r)| (name, r)))
    } else {
        let texts = cast(names, &DataType::Utf8).map_err(crate::error::from_arrow)?;
        let text = texts.as_string::<i32>().value(row).to_owned();
        let parsed = crate::postgres::names::parts(&text)?;
        let found = match parsed.as_slice() {
            [name] => {
                let path = session.search_path(&data);
                let schema = data.resolve(&path, name).map(|(schema, _)| schema.to_owned());
                schema.and_then(|s| data.schemas.get(&s)).and_then(|s| s.relations.get_key_value(name))
            }
            [schema, name] | [_, schema, name] => data.schemas.get(schema).and_then(|s| s.relations.get_key_value(name)),
            _ => None,
        };
        (text, found.map(|(name, relation)| (name.as_str(), relation.as_ref())))
    };
    let (name, relation) = found.ok_or_else(|| crate::catalog::relations::no_relation(&shown))?;
    match &relation.kind {
        RelationKind::Sequence(sequence) => Ok((relation.oid, name.to_owned(), sequence.clone())),
        _ => Err(Error::new(Kind::WrongObjectType, format!("\"{name}\" is not a sequence"))),
    }
}

impl Sequence {
    fn values(&self, args: &[ArrayRef], rows: usize) -> Result<Vec<Option<i64>>> {
        let session = self.session.upgrade().ok_or_else(|| Error::internal("the session has ended"))?;
        if self.act == Act::Last {
            let last = session.inner.lock().given.last;
            let last = last.ok_or_else(|| Error::new(Kind::NotInPrerequisiteState, "lastval is not yet defined in this session"))?;
            return Ok(vec![Some(last); rows]);
        }
        let Some(names) = args.first() else { return Err(wrong(self.name(), args)) };
        if self.act == Act::Next && rows > 1 && all_equal(names) && !names.is_null(0) {
            return Ok(next(&session, names, 0, rows)?.into_iter().map(Some).collect());
        }
        (0..rows).map(|row| if names.is_null(row) { Ok(None) } else { self.one(&session, args, names, row).map(Some) }).collect()
    }

    fn one(&self, session: &Session, args: &[ArrayRef], names: &ArrayRef, row: usize) -> Result<i64> {
        match self.act {
            Act::Next => next(session, names, row, 1)?.pop().ok_or_else(|| Error::internal("a sequence gave no value")),
            Act::Set => set(session, args, names, row),
            Act::Current | Act::Last => {
                let (oid, name, _) = find(session, names, row)?;
                let given = session.inner.lock().given.by_sequence.get(&oid).copied();
                let undefined = || format!("currval of sequence \"{name}\" is not yet defined in this session");
                given.ok_or_else(|| Error::new(Kind::NotInPrerequisiteState, undefined()))
            }
        }
    }
}

fn wrong(name: &str, args: &[ArrayRef]) -> Error {
    let types: Vec<String> = args.iter().map(|a| a.data_type().to_string().to_lowercase()).collect();
    Error::new(Kind::UndefinedFunction, format!("function {name}({}) does not exist", types.join(", ")))
}

fn all_equal(array: &ArrayRef) -> bool {
    let first = array.slice(0, 1);
    (1..array.len()).all(|i| array.slice(i, 1).as_ref() == first.as_ref())
}

fn next(session: &Session, names: &ArrayRef, row: usize, count: usize) -> Result<Vec<i64>> {
    let (oid, name, sequence) = find(session, names, row)?;
    session.may_write("nextval()")?;
    let values = session.database.catalog.next_values(oid, &name, &sequence, count)?;
    if let Some(last) = values.last() {
        session.inner.lock().given.remember(oid, *last);
    }
    Ok(values)
}

fn set(session: &Session, args: &[ArrayRef], names: &ArrayRef, row: usize) -> Result<i64> {
    let (oid, name, sequence) = find(session, names, row)?;
    session.may_write("setval()")?;
    let value = args.get(1).ok_or_else(|| wrong("setval", args))?;
    let value = cast(value, &DataType::Int64).map_err(crate::error::from_arrow)?;
    let value = value.as_primitive::<Int64Type>().value(row);
    if value < sequence.min || value > sequence.max {
        let bounds = format!("({}..{})", sequence.min, sequence.max);
        return Err(Error::new(Kind::OutOfRange, format!("setval: value {value} is out of bounds for sequence \"{name}\" {bounds}")));
    }
    let called = args.get(2).and_then(|c| c.as_boolean_opt()).is_none_or(|c| c.value(row));
    let next = if called { value.saturating_add(sequence.increment) } else { value };
    session.database.catalog.set_value(oid, next)?;
    if called {
        session.inner.lock().given.remember(oid, value);
    }
    Ok(value)
}

/// What sequences gave a session.
#[derive(Debug, Default)]
pub(crate) struct Given {
    by_sequence: std::collections::HashMap<u32, i64>,
    last: Option<i64>,
}

impl Given {
    fn remember(&mut self, oid: u32, value: i64) {
        self.by_sequence.insert(oid, value);
        self.last = Some(value);
    }
}

impl ScalarUDFImpl for Sequence {
    fn name(&self) -> &str {
        match self.act {
            Act::Next => "nextval",
            Act::Current => "currval",
            Act::Last => "lastval",
            Act::Set => "setval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        // Every row is a value of its own, even where the argument is a constant.
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let values = self.values(&arrays, rows).map_err(to_datafusion)?;
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(values))))
    }
}
