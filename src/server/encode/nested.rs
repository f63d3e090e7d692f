//! Arrays of any number of dimensions, and records.
//!
//! In: list and struct columns. Out: `{1,NULL,"a b"}`, `(1,,"a b")` or their binary forms. Invariant: the elements of all
//! rows are encoded as one column first, so their type is looked at once. Quoting follows array_out and record_out.
//! Deliberately absent: lower bounds other than 1 (of the catalogs' vectors: 0); Arrow has none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::encode::cells::Cells;
use crate::encode::column::{column, to};
use crate::encode::style::Style;

/// One dimension: entry i holds entries `offsets[i]..offsets[i + 1]` of the next one.
struct Level {
    offsets: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Level {
    fn is_null(&self, entry: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(entry))
    }
}

fn is_list(ty: &DataType) -> bool {
    matches!(ty, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) | DataType::ListView(_) | DataType::LargeListView(_))
}

fn child_is_list(ty: &DataType) -> bool {
    match ty {
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::ListView(f) | DataType::LargeListView(f) => {
            is_list(f.data_type())
        }
        _ => false,
    }
}

/// The dimension of a list column and the entries below it, cut to what the column uses.
fn split(array: &ArrayRef) -> Result<(Level, ArrayRef)> {
    let (offsets, values): (Vec<usize>, ArrayRef) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (list.value_offsets().iter().map(|o| *o as usize).collect(), Arc::clone(list.values()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (list.value_offsets().iter().map(|o| *o as usize).collect(), Arc::clone(list.values()))
        }
        DataType::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            ((0..=list.len()).map(|i| i * *size as usize).collect(), Arc::clone(list.values()))
        }
        DataType::ListView(item) | DataType::LargeListView(item) => return split(&to(array, &DataType::LargeList(Arc::clone(item)))?),
        other => return Err(Error::internal(format!("Arrow type {other} is not an array"))),
    };
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let level = Level { offsets: offsets.iter().map(|o| o - first).collect(), nulls: array.nulls().cloned() };
    Ok((level, values.slice(first, last - first)))
}

/// Appends every int2vector or oidvector of a column: `1 2 3`, or an array whose first subscript is 0.
pub fn numbers(cells: &mut Cells, array: &ArrayRef, element: &SqlType, binary: bool) -> Result<()> {
    let list = to(array, &DataType::List(Arc::new(Field::new("item", DataType::Int64, true))))?;
    let list = list.as_list::<i32>();
    for row in 0..list.len() {
        if list.is_null(row) {
            cells.null();
            continue;
        }
        let values = list.value(row);
        let values = values.as_primitive::<Int64Type>().values();
        cells.write(|out| {
            if !binary {
                out.extend_from_slice(values.iter().map(i64::to_string).collect::<Vec<_>>().join(" ").as_bytes());
                return;
            }
            out.extend_from_slice(&1i32.to_be_bytes());
            out.extend_from_slice(&0i32.to_be_bytes());
            out.extend_from_slice(&element.oid().to_be_bytes());
            out.extend_from_slice(&(values.len() as i32).to_be_bytes());
            out.extend_from_slice(&0i32.to_be_bytes());
            for value in values {
                if *element == SqlType::Int2 {
                    out.extend_from_slice(&2i32.to_be_bytes());
                    out.extend_from_slice(&(*value as i16).to_be_bytes());
                } else {
                    out.extend_from_slice(&4i32.to_be_bytes());
                    out.extend_from_slice(&(*value as u32).to_be_bytes());
                }
            }
        });
    }
    Ok(())
}

/// Appends every array of a column.
pub fn lists(cells: &mut Cells, array: &ArrayRef, element: &SqlType, binary: bool, style: &Style) -> Result<()> {
    let (level, mut leaves) = split(array)?;
    let mut levels = vec![level];
    let element_is_list = matches!(element, SqlType::Vector);
    while is_list(leaves.data_type()) && (!element_is_list || child_is_list(leaves.data_type())) {
        let (level, below) = split(&leaves)?;
        levels.push(level);
        leaves = below;
    }
    let element = match element {
        SqlType::Any | SqlType::Unknown => &SqlType::of_arrow(leaves.data_type()),
        known => known,
    };
    let mut encoded = Cells::default();
    column(&mut encoded, &leaves, element, binary, style)?;
    for row in 0..array.len() {
        if array.is_null(row) {
            cells.null();
        } else if binary {
            cells.try_write(|out| binary_array(out, &levels, row, &encoded, element))?;
        } else {
            cells.write(|out| text_array(out, &levels, row, &encoded));
        }
    }
    Ok(())
}

fn text_array(out: &mut Vec<u8>, levels: &[Level], row: usize, leaves: &Cells) {
    let Some((level, below)) = levels.split_first() else { return };
    out.push(b'{');
    for entry in level.offsets[row]..level.offsets[row + 1] {
        if entry > level.offsets[row] {
            out.push(b',');
        }
        match below.first() {
            Some(next) if next.is_null(entry) => out.extend_from_slice(b"NULL"),
            Some(_) => text_array(out, below, entry, leaves),
            None => match leaves.value(entry) {
                Some(value) => array_element(out, value),
                None => out.extend_from_slice(b"NULL"),
            },
        }
    }
    out.push(b'}');
}

/// Appends an element of an array's text form, quoted where it has to be.
pub fn array_element(out: &mut Vec<u8>, value: &[u8]) {
    let quote = value.is_empty()
        || value.eq_ignore_ascii_case(b"null")
        || value.iter().any(|b| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
    if !quote {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn binary_array(out: &mut Vec<u8>, levels: &[Level], row: usize, leaves: &Cells, element: &SqlType) -> Result<()> {
    let mut entries = row..row + 1;
    let mut sizes = Vec::with_capacity(levels.len());
    for level in levels {
        let mut size = None;
        for entry in entries.clone() {
            let here = level.offsets[entry + 1] - level.offsets[entry];
            if level.is_null(entry) && entry != row || size.is_some_and(|s| s != here) {
                return Err(Error::new(Kind::InvalidArgument, "multidimensional arrays must have sub-arrays with matching dimensions"));
            }
            size = Some(here);
        }
        sizes.push(size.unwrap_or(0));
        entries = level.offsets[entries.start]..level.offsets[entries.end];
    }
    let some_null = entries.clone().any(|leaf| leaves.value(leaf).is_none());
    let dimensions = if entries.is_empty() { &[][..] } else { &sizes[..] };
    out.extend_from_slice(&(dimensions.len() as i32).to_be_bytes());
    out.extend_from_slice(&i32::from(some_null).to_be_bytes());
    out.extend_from_slice(&element.oid().to_be_bytes());
    for size in dimensions {
        out.extend_from_slice(&(*size as i32).to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
    }
    for leaf in entries {
        out.extend_from_slice(leaves.field(leaf));
    }
    Ok(())
}

/// Appends every record of a column.
pub fn records(cells: &mut Cells, array: &ArrayRef, fields: &[(String, SqlType)], binary: bool, style: &Style) -> Result<()> {
    let Some(record) = array.as_struct_opt() else {
        return Err(Error::internal(format!("Arrow type {} is not a record", array.data_type())));
    };
    if record.num_columns() != fields.len() {
        return Err(Error::internal(format!("a record of {} fields was declared with {}", record.num_columns(), fields.len())));
    }
    let mut encoded = Vec::with_capacity(fields.len());
    for (child, (_, ty)) in record.columns().iter().zip(fields) {
        let mut column_cells = Cells::default();
        column(&mut column_cells, child, ty, binary, style)?;
        encoded.push(column_cells);
    }
    for row in 0..record.len() {
        if record.is_null(row) {
            cells.null();
            continue;
        }
        cells.write(|out| {
            if binary {
                out.extend_from_slice(&(fields.len() as i32).to_be_bytes());
                for (child, (_, ty)) in encoded.iter().zip(fields) {
                    out.extend_from_slice(&ty.oid().to_be_bytes());
                    out.extend_from_slice(child.field(row));
                }
            } else {
                text_record(out, encoded.iter().map(|child| child.value(row)));
            }
        });
    }
    Ok(())
}

fn text_record<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = Option<&'a [u8]>>) {
    out.push(b'(');
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let Some(value) = value else { continue };
        let quote =
            value.is_empty() || value.iter().any(|b| matches!(b, b'"' | b'\\' | b'(' | b')' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
        if !quote {
            out.extend_from_slice(value);
            continue;
        }
        out.push(b'"');
        for byte in value {
            if matches!(byte, b'"' | b'\\') {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b')');
}
