//! Primary keys and unique constraints.
//!
//! In: the rows that a statement adds, and what the table has without the rows that it deletes. Out: 23505 with the key,
//! or the hashes of the new keys for the commit. Invariants: rows with NULL in a key differ from all others unless the
//! constraint says NULLS NOT DISTINCT; existing keys are read with a filter that lets the reader skip what cannot match.
//! Deliberately absent: an index; what other transactions add at the same time (`catalog::keys`).

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{SortOptions, sort_to_indices, take};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use datafusion::prelude::ident;
use futures::StreamExt;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use super::fit::value_text;
use crate::catalog::data::{Constraint, ConstraintKind, Relation};
use crate::catalog::keys::NewKeys;
use crate::error::{from_arrow, from_datafusion};
use crate::exec::conform::conform;
use crate::session::Session;

/// So many keys at most are looked for by value; more by their range.
const LIST_MAX: usize = 256;
/// What a key takes beside its own bytes: its place in the set, and the allocation.
const KEY_BYTES: usize = 48;

/// The keys of one constraint.
struct KeySet {
    constraint: Constraint,
    positions: Vec<usize>,
    converter: RowConverter,
    keys: HashMap<Box<[u8]>, ()>,
    values: Vec<ArrayRef>,
    range: Option<(ScalarValue, ScalarValue)>,
    nulls_count: bool,
}

/// The keys that a statement adds.
pub struct Keys {
    table: u32,
    sets: Mutex<Vec<KeySet>>,
    /// What the keys take.
    memory: MemoryReservation,
}

impl Keys {
    /// For the unique constraints of a table that touch one of `columns` (None: all); None when there is none.
    pub fn new(relation: &Relation, columns: Option<&[usize]>, pool: &Arc<dyn MemoryPool>) -> Result<Option<Arc<Keys>>> {
        let mut sets = Vec::new();
        for constraint in relation.constraints.iter().filter(|c| c.is_unique()) {
            let positions: Vec<usize> = constraint.columns.iter().filter_map(|c| relation.position(c)).collect();
            if columns.is_some_and(|changed| !positions.iter().any(|p| changed.contains(p))) {
                continue;
            }
            sets.push(KeySet::new(relation, constraint.clone(), positions)?);
        }
        let memory = MemoryConsumer::new("keys of the statement").register(pool);
        Ok((!sets.is_empty()).then(|| Arc::new(Keys { table: relation.oid, sets: Mutex::new(sets), memory })))
    }

    /// Adds the keys of rows in the table's shape; 23505 when one was there already, 53200 when there is no memory for more.
    pub fn add(&self, batch: &RecordBatch) -> Result<()> {
        for set in self.sets.lock().iter_mut() {
            let bytes = set.add(batch)?;
            self.memory.try_grow(bytes).map_err(from_datafusion)?;
        }
        Ok(())
    }

    /// 23505 when `relation`, which has lost the rows that the statement deletes, has one of the keys; else their hashes.
    pub async fn check(&self, session: &Arc<Session>, relation: &Relation) -> Result<Vec<NewKeys>> {
        let sets = std::mem::take(&mut *self.sets.lock());
        let mut out = Vec::with_capacity(sets.len());
        for set in sets.into_iter().filter(|s| !s.keys.is_empty()) {
            if relation.files().is_some_and(|f| !f.is_empty()) {
                set.look(session, relation).await?;
            }
            let hashes: HashSet<u64> = set.keys.keys().map(|k| hash(k)).collect();
            out.push(NewKeys { table: self.table, constraint: set.constraint.oid, hashes: Arc::new(hashes) });
        }
        Ok(out)
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl KeySet {
    fn new(relation: &Relation, constraint: Constraint, positions: Vec<usize>) -> Result<Self> {
        let types = positions.iter().filter_map(|p| relation.columns.get(*p)).map(|c| Ok(SortField::new(c.sql_type()?.arrow())));
        let converter = RowConverter::new(types.collect::<Result<Vec<_>>>()?)
            .map_err(|_| Error::unsupported(format!("the columns of constraint \"{}\" have a type that cannot be a key", constraint.name)))?;
        let nulls_count = matches!(constraint.kind, ConstraintKind::Unique { nulls_not_distinct: true });
        Ok(Self { constraint, positions, converter, keys: HashMap::new(), values: Vec::new(), range: None, nulls_count })
    }

    /// The bytes that the keys take, about.
    fn add(&mut self, batch: &RecordBatch) -> Result<usize> {
        let columns: Vec<ArrayRef> = self.positions.iter().filter_map(|p| batch.columns().get(*p).cloned()).collect();
        let rows = self.converter.convert_columns(&columns).map_err(from_arrow)?;
        let mut bytes = 0;
        for row in 0..batch.num_rows() {
            if self.is_null(&columns, row) {
                continue;
            }
            let key = rows.row(row);
            bytes += key.data().len() + KEY_BYTES;
            if self.keys.insert(key.data().into(), ()).is_some() {
                return Err(self.violation(&columns, row));
            }
        }
        self.remember(&columns).map(|()| bytes)
    }

    fn is_null(&self, columns: &[ArrayRef], row: usize) -> bool {
        !self.nulls_count && columns.iter().any(|c| c.is_null(row))
    }

    fn violation(&self, columns: &[ArrayRef], row: usize) -> Error {
        let values: Vec<String> = columns.iter().map(|c| value_text(c, row).unwrap_or_else(|| "null".into())).collect();
        Error::new(Kind::UniqueViolation, format!("duplicate key value violates unique constraint \"{}\"", self.constraint.name)).detail(format!(
            "Key ({})=({}) already exists.",
            self.constraint.columns.join(", "),
            values.join(", ")
        ))
    }

    /// What a filter over existing rows needs: the values of the first column while they are few, and their range.
    fn remember(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let Some(first) = columns.first().filter(|c| c.len() > c.null_count()) else { return Ok(()) };
        if self.values.iter().map(|v| v.len()).sum::<usize>() <= LIST_MAX {
            self.values.push(Arc::clone(first));
        }
        let edge = |descending| -> Result<ScalarValue> {
            let options = SortOptions { descending, nulls_first: false };
            let index = sort_to_indices(first, Some(options), Some(1)).map_err(from_arrow)?;
            let value = take(first, &index, None).map_err(from_arrow)?;
            ScalarValue::try_from_array(&value, 0).map_err(from_datafusion)
        };
        let (low, high) = (edge(false)?, edge(true)?);
        self.range = Some(match self.range.take() {
            Some((a, b)) => (if low < a { low } else { a }, if high > b { high } else { b }),
            None => (low, high),
        });
        Ok(())
    }

    fn filter(&self, relation: &Relation) -> Result<Option<Expr>> {
        let Some(column) = self.positions.first().and_then(|p| relation.columns.get(*p)) else { return Ok(None) };
        // A key with NULL is not found by a comparison; other types have no order that the reader knows.
        let ordered = column.sql_type()?.arrow();
        if self.nulls_count || !(ordered.is_numeric() || ordered.is_temporal() || ordered == SqlType::Text.arrow()) {
            return Ok(None);
        }
        let name = ident(&column.name);
        let count: usize = self.values.iter().map(|v| v.len()).sum();
        if count <= LIST_MAX {
            let mut list = Vec::with_capacity(count);
            for values in &self.values {
                for row in (0..values.len()).filter(|r| !values.is_null(*r)) {
                    list.push(lit(ScalarValue::try_from_array(values, row).map_err(from_datafusion)?));
                }
            }
            return Ok(match list.len() {
                1 => list.pop().map(|value| name.eq(value)),
                _ => Some(name.in_list(list, false)),
            });
        }
        Ok(self.range.clone().map(|(low, high)| name.clone().gt_eq(lit(low)).and(name.lt_eq(lit(high)))))
    }

    /// Looks for the keys in the table.
    async fn look(&self, session: &Arc<Session>, relation: &Relation) -> Result<()> {
        let provider = session.database.store.scan(relation)?;
        let scan = LogicalPlanBuilder::scan("existing", datafusion::datasource::provider_as_source(provider), None).map_err(from_datafusion)?;
        let scan = match self.filter(relation)? {
            Some(filter) => scan.filter(filter).map_err(from_datafusion)?,
            None => scan,
        };
        let columns = self.positions.iter().filter_map(|p| relation.columns.get(*p));
        let plan = scan.project(columns.map(|c| ident(&c.name))).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
        let types: Vec<_> =
            self.positions.iter().filter_map(|p| relation.columns.get(*p)).map(|c| Ok(c.sql_type()?.arrow())).collect::<Result<_>>()?;
        let mut stream = session.run_within(plan).await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let columns = batch.columns().iter().zip(&types).map(|(c, ty)| conform(c, ty)).collect::<Result<Vec<_>>>()?;
            let rows = self.converter.convert_columns(&columns).map_err(from_arrow)?;
            let found = (0..batch.num_rows()).find(|r| !self.is_null(&columns, *r) && self.keys.contains_key(rows.row(*r).data()));
            if let Some(row) = found {
                return Err(self.violation(&columns, row));
            }
        }
        Ok(())
    }
}
