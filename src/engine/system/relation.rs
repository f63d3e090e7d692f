//! What a system relation is, and how its rows become Arrow columns.
//!
//! In: rows given column by column name. Out: one array per declared column. Invariant: a column that a row leaves out is
//! NULL, or the zero of its type where the column is NOT NULL. Deliberately absent: what the rows are (the modules next
//! to this one) and how a query reads them (`table`).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    LargeBinaryBuilder, ListArray, StringBuilder, TimestampMicrosecondBuilder, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema, SchemaRef};
use squilla_core::error::{Error, Result};
use squilla_core::types::SqlType;

use crate::system::view::SystemView;

/// Fills the rows of one relation.
pub type Fill = fn(&SystemView, &mut Rows) -> Result<()>;

/// Name and columns of a relation, as PostgreSQL declares it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Schema name.
    pub schema: &'static str,
    /// Relation name.
    pub name: &'static str,
    /// OID in `pg_class`.
    pub oid: u32,
    /// `pg_class.relkind`: `r` or `v`.
    pub kind: &'static str,
    /// `name type, name type!, ...`; `!` is NOT NULL.
    pub columns: &'static str,
}

impl Shape {
    /// One relation.
    pub const fn new(schema: &'static str, name: &'static str, oid: u32, kind: &'static str, columns: &'static str) -> Self {
        Self { schema, name, oid, kind, columns }
    }

    /// The columns, parsed.
    pub fn columns(&self) -> impl Iterator<Item = Column> {
        self.columns.split(", ").map(|text| {
            let (name, ty) = text.split_once(' ').unwrap_or((text, "text"));
            let (ty, not_null) = ty.strip_suffix('!').map_or((ty, false), |ty| (ty, true));
            Column { name: name.trim_matches('"'), type_name: ty, not_null }
        })
    }

    /// The Arrow schema.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns().map(|c| c.ty().field(c.name)).collect::<Vec<Field>>()))
    }
}

/// One column of a system relation.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name.
    pub name: &'static str,
    /// `pg_type.typname`, with `[]` for an array.
    pub type_name: &'static str,
    /// NOT NULL.
    pub not_null: bool,
}

impl Column {
    /// The type that carries the values. Types that only system catalogs have are carried by their text or elements.
    pub fn ty(&self) -> SqlType {
        carried(self.type_name)
    }
}

/// The type that carries values of a `pg_type.typname`.
pub fn carried(name: &str) -> SqlType {
    if let Some(element) = name.strip_suffix("[]") {
        return SqlType::Array(Box::new(carried(element)));
    }
    match name {
        "char" => SqlType::SingleChar,
        "xid" | "cid" => SqlType::Oid,
        other => SqlType::parse(other).unwrap_or(SqlType::Text),
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// boolean
    Bool(bool),
    /// any integer, oid, microseconds since 1970 for a timestamp, microseconds for an interval
    Int(i64),
    /// real or double precision
    Real(f64),
    /// any text
    Text(String),
    /// an array of integers or oids
    Ints(Vec<i64>),
    /// an array of texts
    Texts(Vec<Option<String>>),
}

macro_rules! from {
    ($($ty:ty => $make:expr;)*) => { $(impl From<$ty> for Value {
        fn from(value: $ty) -> Self {
            let make: fn($ty) -> Value = $make;
            make(value)
        }
    })* };
}

from! {
    bool => Value::Bool;
    i64 => Value::Int;
    i32 => |v| Value::Int(i64::from(v));
    u32 => |v| Value::Int(i64::from(v));
    u64 => |v| Value::Int(i64::try_from(v).unwrap_or(i64::MAX));
    usize => |v| Value::Int(i64::try_from(v).unwrap_or(i64::MAX));
    f64 => Value::Real;
    &str => |v| Value::Text(v.to_owned());
    &String => |v| Value::Text(v.clone());
    String => Value::Text;
    Vec<i64> => Value::Ints;
    Vec<u32> => |v| Value::Ints(v.into_iter().map(i64::from).collect());
    Vec<String> => |v| Value::Texts(v.into_iter().map(Some).collect());
    Vec<&str> => |v| Value::Texts(v.into_iter().map(|s| Some(s.to_owned())).collect());
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// The rows of a relation while they are made.
#[derive(Debug)]
pub struct Rows {
    relation: &'static str,
    columns: Vec<Column>,
    index: HashMap<&'static str, usize>,
    cells: Vec<Vec<Value>>,
    rows: usize,
    unknown: Option<String>,
}

impl Rows {
    /// No rows yet.
    pub fn new(shape: &Shape) -> Self {
        let columns: Vec<Column> = shape.columns().collect();
        let index = columns.iter().enumerate().map(|(i, c)| (c.name, i)).collect();
        Self { relation: shape.name, cells: vec![Vec::new(); columns.len()], columns, index, rows: 0, unknown: None }
    }

    /// Appends a row; columns not named are NULL or zero.
    pub fn push<const N: usize>(&mut self, values: [(&str, Value); N]) {
        self.push_all(values);
    }

    /// [`Rows::push`] of columns whose number is not known beforehand.
    pub fn push_all<'a>(&mut self, values: impl IntoIterator<Item = (&'a str, Value)>) {
        self.rows += 1;
        for (name, value) in values {
            match self.index.get(name) {
                Some(&i) => self.cells[i].push(value),
                None => self.unknown = Some(name.to_owned()),
            }
        }
        for (column, cells) in self.columns.iter().zip(&mut self.cells) {
            if cells.len() < self.rows {
                cells.push(if column.not_null { zero(&column.ty()) } else { Value::Null });
            }
        }
    }

    /// Number of rows so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The columns as arrays. Fails only when a row named a column that the relation does not have.
    pub fn finish(self) -> Result<Vec<ArrayRef>> {
        if let Some(name) = self.unknown {
            return Err(Error::internal(format!("system relation {} has no column {name}", self.relation)));
        }
        self.columns.iter().zip(&self.cells).map(|(column, cells)| array(&column.ty(), cells)).collect()
    }
}

fn zero(ty: &SqlType) -> Value {
    match ty {
        SqlType::Bool => Value::Bool(false),
        SqlType::Float4 | SqlType::Float8 => Value::Real(0.0),
        SqlType::Array(element) if element.arrow() == DataType::Utf8 => Value::Texts(Vec::new()),
        SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector => Value::Ints(Vec::new()),
        ty if ty.arrow() == DataType::Utf8 => Value::Text(String::new()),
        SqlType::Bytea => Value::Text(String::new()),
        _ => Value::Int(0),
    }
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(v) => Some(*v),
        Value::Bool(v) => Some(i64::from(*v)),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(v) => Some(v),
        _ => None,
    }
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Real(v) => Some(*v),
        Value::Int(v) => Some(*v as f64),
        _ => None,
    }
}

macro_rules! build {
    ($builder:ty, $cells:expr, $get:expr) => {{
        let mut builder = <$builder>::new();
        $cells.iter().for_each(|cell| builder.append_option($get(cell)));
        Arc::new(builder.finish())
    }};
}

/// A column of one type.
pub fn array(ty: &SqlType, cells: &[Value]) -> Result<ArrayRef> {
    Ok(match ty {
        SqlType::Array(element) => return list(element, cells),
        SqlType::Int2Vector => return list(&SqlType::Int2, cells),
        SqlType::OidVector => return list(&SqlType::Oid, cells),
        SqlType::Bool => build!(BooleanBuilder, cells, |c: &Value| match c {
            Value::Bool(v) => Some(*v),
            _ => None,
        }),
        SqlType::Int2 => build!(Int16Builder, cells, |c| int(c).and_then(|v| i16::try_from(v).ok())),
        SqlType::Int4 => build!(Int32Builder, cells, |c| int(c).and_then(|v| i32::try_from(v).ok())),
        SqlType::Int8 | SqlType::Oid | SqlType::Reg(_) => build!(Int64Builder, cells, int),
        SqlType::Float4 => build!(Float32Builder, cells, |c| real(c).map(|v| v as f32)),
        SqlType::Float8 => build!(Float64Builder, cells, real),
        SqlType::Bytea => build!(LargeBinaryBuilder, cells, |c| text(c).map(str::as_bytes)),
        SqlType::Timestamptz => {
            let mut builder = TimestampMicrosecondBuilder::new().with_timezone("UTC");
            cells.iter().for_each(|cell| builder.append_option(int(cell)));
            Arc::new(builder.finish())
        }
        // Microseconds.
        SqlType::Interval => build!(IntervalMonthDayNanoBuilder, cells, |c| int(c).map(|v| IntervalMonthDayNano::new(0, 0, v * 1000))),
        ty if ty.arrow() == DataType::Utf8 => build!(StringBuilder, cells, text),
        ty if cells.iter().all(|c| *c == Value::Null) => new_null_array(&ty.arrow(), cells.len()),
        ty => return Err(Error::internal(format!("system relations hold no {}", ty.name()))),
    })
}

fn list(element: &SqlType, cells: &[Value]) -> Result<ArrayRef> {
    let mut values = Vec::new();
    let mut lengths = Vec::with_capacity(cells.len());
    for cell in cells {
        let before = values.len();
        match cell {
            Value::Ints(list) => values.extend(list.iter().map(|v| Value::Int(*v))),
            Value::Texts(list) => values.extend(list.iter().map(|v| v.as_deref().map_or(Value::Null, Value::from))),
            _ => {}
        }
        lengths.push(values.len() - before);
    }
    let nulls: NullBuffer = cells.iter().map(|c| matches!(c, Value::Ints(_) | Value::Texts(_))).collect();
    let list = ListArray::try_new(Arc::new(element.field("item")), OffsetBuffer::from_lengths(lengths), array(element, &values)?, Some(nulls));
    Ok(Arc::new(list.map_err(|e| Error::internal(format!("system relation: {e}")))?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{Array, AsArray};

    #[test]
    fn missing_columns_are_null_or_zero() {
        let shape = Shape::new("s", "r", 1, "r", "oid oid!, a name, \"char\" char!, l int2[], m text[]!");
        let mut rows = Rows::new(&shape);
        rows.push([("oid", 7u32.into()), ("l", vec![1i64, 2].into())]);
        rows.push([("a", "x".into())]);
        let columns = rows.finish().unwrap();
        assert_eq!(columns[0].as_primitive::<arrow::datatypes::Int64Type>().values(), &[7, 0]);
        assert!(columns[1].is_null(0) && columns[1].as_string::<i32>().value(1) == "x");
        assert_eq!(columns[2].as_string::<i32>().value(0), "");
        assert!(columns[3].is_null(1) && !columns[4].is_null(1));
        for (column, field) in columns.iter().zip(shape.schema().fields()) {
            assert_eq!(column.data_type(), field.data_type());
        }
    }
}
