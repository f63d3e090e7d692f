//! Arrow columns as kernels read and write them.
//!
//! In: an argument (a column, or a constant that stands for every row). Out: typed getters per row; and builders that
//! turn `Result<Option<T>>` per row into an array plus the list of rows that failed.
//! Invariant: a getter accepts every Arrow encoding of its SQL type (Utf8/LargeUtf8/Utf8View, Binary/..., lists of any
//! offset size) and returns None for NULL; constants are read at row 0.
//! Deliberately absent: casts between SQL types; the engine has coerced arguments to their declared types.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Float32Array, Float32Builder, Float64Array, GenericBinaryArray, Int32Array,
    Int32Builder, Int64Array, LargeBinaryArray, LargeBinaryBuilder, LargeListArray, ListArray, ListBuilder, StringBuilder, StringViewArray,
    StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};

use crate::error::{Error, Result};
use crate::types::SqlType;
use crate::values::{Audio, BoundingBox, FileRef, Image, ImageView, PixelType, Tensor};

/// An argument of a call: one value for all rows, or one a row.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Length 1 when `constant`, else the number of rows.
    pub array: ArrayRef,
    /// One value for every row.
    pub constant: bool,
}

impl Arg {
    fn index(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    /// Whether the value of this row is NULL. Where there is no such row, as in checks while a statement is planned, the
    /// value is not known and reads as NULL.
    pub fn is_null(&self, row: usize) -> bool {
        let index = self.index(row);
        self.array.data_type() == &DataType::Null || index >= self.array.len() || self.array.is_null(index)
    }
}

fn wrong(arg: &Arg, wanted: &str) -> Error {
    Error::internal(format!("argument has Arrow type {} where {wanted} was declared", arg.array.data_type()))
}

/// Text of any encoding.
pub fn text(arg: &Arg, row: usize) -> Result<Option<&str>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    match arg.array.data_type() {
        DataType::Utf8 => Ok(Some(arg.array.as_string::<i32>().value(i))),
        DataType::LargeUtf8 => Ok(Some(arg.array.as_string::<i64>().value(i))),
        DataType::Utf8View => Ok(Some(down::<StringViewArray>(arg)?.value(i))),
        _ => Err(wrong(arg, "text")),
    }
}

/// Bytes of any encoding.
pub fn bytes(arg: &Arg, row: usize) -> Result<Option<&[u8]>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    match arg.array.data_type() {
        DataType::Binary => Ok(Some(down::<GenericBinaryArray<i32>>(arg)?.value(i))),
        DataType::LargeBinary => Ok(Some(down::<LargeBinaryArray>(arg)?.value(i))),
        DataType::BinaryView => Ok(Some(down::<BinaryViewArray>(arg)?.value(i))),
        DataType::FixedSizeBinary(_) => Ok(Some(arg.array.as_fixed_size_binary().value(i))),
        _ => Err(wrong(arg, "bytea")),
    }
}

/// Integers of any width.
pub fn int(arg: &Arg, row: usize) -> Result<Option<i64>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    match arg.array.data_type() {
        DataType::Int64 => Ok(Some(arg.array.as_primitive::<Int64Type>().value(i))),
        DataType::Int32 => Ok(Some(i64::from(arg.array.as_primitive::<Int32Type>().value(i)))),
        ty if ty.is_integer() => {
            let one = cast(&arg.array.slice(i, 1), &DataType::Int64).map_err(|e| Error::internal(e.to_string()))?;
            Ok(Some(one.as_primitive::<Int64Type>().value(0)))
        }
        _ => Err(wrong(arg, "an integer")),
    }
}

/// Numbers of any kind.
pub fn float(arg: &Arg, row: usize) -> Result<Option<f64>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    match arg.array.data_type() {
        DataType::Float64 => Ok(Some(arg.array.as_primitive::<Float64Type>().value(i))),
        DataType::Float32 => Ok(Some(f64::from(arg.array.as_primitive::<Float32Type>().value(i)))),
        ty if ty.is_numeric() => {
            let one = cast(&arg.array.slice(i, 1), &DataType::Float64).map_err(|e| Error::internal(e.to_string()))?;
            Ok(Some(one.as_primitive::<Float64Type>().value(0)))
        }
        _ => Err(wrong(arg, "a number")),
    }
}

/// Booleans.
pub fn boolean(arg: &Arg, row: usize) -> Result<Option<bool>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    Ok(Some(down::<BooleanArray>(arg)?.value(arg.index(row))))
}

/// An interval, in seconds; a month counts 30 days and a day 24 hours.
pub fn interval_seconds(arg: &Arg, row: usize) -> Result<Option<f64>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let array = arg.array.as_primitive_opt::<arrow::datatypes::IntervalMonthDayNanoType>().ok_or_else(|| wrong(arg, "interval"))?;
    let v = array.value(arg.index(row));
    Ok(Some((f64::from(v.months) * 30.0 + f64::from(v.days)) * 86_400.0 + v.nanoseconds as f64 / 1e9))
}

/// The values of one row of a list column.
pub fn list(arg: &Arg, row: usize) -> Result<Option<ArrayRef>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    match arg.array.data_type() {
        DataType::List(_) => Ok(Some(down::<ListArray>(arg)?.value(i))),
        DataType::LargeList(_) => Ok(Some(down::<LargeListArray>(arg)?.value(i))),
        DataType::FixedSizeList(_, _) => Ok(Some(arg.array.as_fixed_size_list().value(i))),
        _ => Err(wrong(arg, "an array")),
    }
}

/// real[], double precision[] or vector, as f32; NULL elements are an error.
pub fn floats(arg: &Arg, row: usize) -> Result<Option<Float32Array>> {
    let Some(values) = list(arg, row)? else { return Ok(None) };
    if values.null_count() > 0 {
        return Err(Error::invalid_argument("array must not contain nulls"));
    }
    let values = match values.data_type() {
        DataType::Float32 => values,
        _ => cast(&values, &DataType::Float32).map_err(|_| wrong(arg, "an array of numbers"))?,
    };
    Ok(Some(values.as_primitive::<Float32Type>().clone()))
}

/// text[]; NULL elements are left out.
pub fn texts(arg: &Arg, row: usize) -> Result<Option<Vec<String>>> {
    let Some(values) = list(arg, row)? else { return Ok(None) };
    let inner = Arg { array: values, constant: false };
    let mut out = Vec::with_capacity(inner.array.len());
    for i in 0..inner.array.len() {
        out.extend(text(&inner, i)?.map(str::to_owned));
    }
    Ok(Some(out))
}

fn down<T: 'static>(arg: &Arg) -> Result<&T> {
    arg.array.as_any().downcast_ref::<T>().ok_or_else(|| wrong(arg, std::any::type_name::<T>()))
}

fn child<'a, T: 'static>(s: &'a StructArray, name: &str) -> Result<&'a T> {
    s.column_by_name(name)
        .and_then(|c| c.as_any().downcast_ref::<T>())
        .ok_or_else(|| Error::internal(format!("field \"{name}\" is missing from {}", s.data_type())))
}

/// An image value.
pub fn image(arg: &Arg, row: usize) -> Result<Option<ImageView<'_>>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    let s = down::<StructArray>(arg)?;
    let view = ImageView {
        data: child::<LargeBinaryArray>(s, "data")?.value(i),
        width: child::<Int32Array>(s, "width")?.value(i) as u32,
        height: child::<Int32Array>(s, "height")?.value(i) as u32,
        channels: child::<Int32Array>(s, "channels")?.value(i) as u8,
        pixel: PixelType::parse(child::<arrow::array::StringArray>(s, "dtype")?.value(i))?,
    };
    let wanted = view.width as usize * view.height as usize * view.channels as usize * view.pixel.bytes();
    if view.data.len() != wanted || !(1..=4).contains(&view.channels) {
        return Err(Error::bad_media(format!("image value holds {} bytes where its size asks for {wanted}", view.data.len())));
    }
    Ok(Some(view))
}

/// An audio value. The samples are copied only when they are not contiguous f32.
pub fn audio(arg: &Arg, row: usize) -> Result<Option<Audio>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    let s = down::<StructArray>(arg)?;
    let samples = child::<ListArray>(s, "samples")?.value(i);
    Ok(Some(Audio {
        samples: samples.as_primitive::<Float32Type>().values().to_vec(),
        sample_rate: child::<Int32Array>(s, "sample_rate")?.value(i) as u32,
        channels: child::<Int32Array>(s, "channels")?.value(i) as u16,
    }))
}

/// A tensor value.
pub fn tensor(arg: &Arg, row: usize) -> Result<Option<Tensor>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    let s = down::<StructArray>(arg)?;
    let data = child::<ListArray>(s, "data")?.value(i);
    let shape = child::<ListArray>(s, "shape")?.value(i);
    Ok(Some(Tensor {
        data: data.as_primitive::<Float32Type>().values().to_vec(),
        shape: shape.as_primitive::<Int32Type>().values().iter().map(|d| *d as usize).collect(),
    }))
}

/// A box value.
pub fn bounding_box(arg: &Arg, row: usize) -> Result<Option<BoundingBox>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let i = arg.index(row);
    let s = down::<StructArray>(arg)?;
    let f = |name: &str| Ok::<f32, Error>(child::<Float32Array>(s, name)?.value(i));
    Ok(Some(BoundingBox { x1: f("x1")?, y1: f("y1")?, x2: f("x2")?, y2: f("y2")? }))
}

/// A file reference; a text argument is taken as its URI.
pub fn file(arg: &Arg, row: usize) -> Result<Option<FileRef>> {
    if arg.is_null(row) {
        return Ok(None);
    }
    let Some(s) = arg.array.as_struct_opt() else {
        return Ok(text(arg, row)?.map(|uri| FileRef { uri: uri.to_owned(), ..FileRef::default() }));
    };
    let i = arg.index(row);
    let string = |name: &str| -> Result<Option<String>> {
        let column = s.column_by_name(name).ok_or_else(|| Error::internal(format!("file value without {name}")))?;
        Ok(text(&Arg { array: Arc::clone(column), constant: false }, i)?.map(str::to_owned))
    };
    let size = child::<Int64Array>(s, "size")?;
    let modified = s.column_by_name("last_modified").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    Ok(Some(FileRef {
        uri: string("uri")?.unwrap_or_default(),
        size: (!size.is_null(i)).then(|| size.value(i)),
        etag: string("etag")?,
        last_modified_us: modified.and_then(|m| (!m.is_null(i)).then(|| m.value(i))),
        content_type: string("content_type")?,
    }))
}

/// A value that a kernel can return, and how a column of them is built.
pub trait Output: Sized {
    /// Builds the array; `None` is NULL.
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef>;
}

macro_rules! simple_output {
    ($ty:ty, $array:ty) => {
        impl Output for $ty {
            fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
                Ok(Arc::new(<$array>::from_iter(rows)))
            }
        }
    };
}

simple_output!(bool, BooleanArray);
simple_output!(i32, Int32Array);
simple_output!(i64, Int64Array);
simple_output!(f32, Float32Array);
simple_output!(f64, Float64Array);

impl Output for String {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        Ok(Arc::new(arrow::array::StringArray::from_iter(rows)))
    }
}

impl Output for Vec<u8> {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let total = rows.iter().flatten().map(Vec::len).sum();
        let mut builder = LargeBinaryBuilder::with_capacity(rows.len(), total);
        rows.into_iter().for_each(|row| builder.append_option(row));
        Ok(Arc::new(builder.finish()))
    }
}

impl Output for Vec<f32> {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let mut builder = ListBuilder::new(Float32Builder::with_capacity(rows.iter().flatten().map(Vec::len).sum()));
        for row in rows {
            if let Some(values) = &row {
                builder.values().append_slice(values);
            }
            builder.append(row.is_some());
        }
        Ok(Arc::new(builder.finish()))
    }
}

impl Output for Vec<i32> {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let mut builder = ListBuilder::new(Int32Builder::new());
        for row in rows {
            if let Some(values) = &row {
                builder.values().append_slice(values);
            }
            builder.append(row.is_some());
        }
        Ok(Arc::new(builder.finish()))
    }
}

impl Output for Vec<i64> {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        Ok(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
            rows.into_iter().map(|r| r.map(|v| v.into_iter().map(Some).collect::<Vec<_>>())),
        )))
    }
}

impl Output for Vec<String> {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let mut builder = ListBuilder::new(StringBuilder::new());
        for row in rows {
            row.iter().flatten().for_each(|v| builder.values().append_value(v));
            builder.append(row.is_some());
        }
        Ok(Arc::new(builder.finish()))
    }
}

impl Output for Image {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
        let column = |get: fn(&Image) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.as_ref().map(get)))) };
        let width = column(|i| i.width as i32);
        let height = column(|i| i.height as i32);
        let channels = column(|i| i32::from(i.channels));
        let dtype: ArrayRef = Arc::new(arrow::array::StringArray::from_iter(rows.iter().map(|r| r.as_ref().map(|i| i.pixel.name()))));
        let data = Vec::<u8>::build(rows.into_iter().map(|r| r.map(|i| i.data)).collect())?;
        structure(&SqlType::Image, vec![data, width, height, channels, dtype], nulls)
    }
}

impl Output for Audio {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
        let rate: ArrayRef = Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.as_ref().map(|a| a.sample_rate as i32))));
        let channels: ArrayRef = Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.as_ref().map(|a| i32::from(a.channels)))));
        let samples = Vec::<f32>::build(rows.into_iter().map(|r| r.map(|a| a.samples)).collect())?;
        structure(&SqlType::Audio, vec![samples, rate, channels], nulls)
    }
}

impl Output for Tensor {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
        let shape = Vec::<i32>::build(rows.iter().map(|r| r.as_ref().map(|t| t.shape.iter().map(|d| *d as i32).collect())).collect())?;
        let data = Vec::<f32>::build(rows.into_iter().map(|r| r.map(|t| t.data)).collect())?;
        structure(&SqlType::Tensor, vec![data, shape], nulls)
    }
}

impl Output for BoundingBox {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
        let column = |get: fn(&BoundingBox) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter(rows.iter().map(|r| r.as_ref().map(get)))) };
        let columns = vec![column(|b| b.x1), column(|b| b.y1), column(|b| b.x2), column(|b| b.y2)];
        structure(&SqlType::Box2d, columns, nulls)
    }
}

impl Output for FileRef {
    fn build(rows: Vec<Option<Self>>) -> Result<ArrayRef> {
        let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
        let string = |get: fn(&FileRef) -> Option<&String>| -> ArrayRef {
            Arc::new(arrow::array::StringArray::from_iter(rows.iter().map(|r| r.as_ref().and_then(get))))
        };
        let size: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.as_ref().and_then(|f| f.size))));
        let modified: ArrayRef = Arc::new(
            arrow::array::TimestampMicrosecondArray::from_iter(rows.iter().map(|r| r.as_ref().and_then(|f| f.last_modified_us))).with_timezone("UTC"),
        );
        let columns = vec![string(|f| Some(&f.uri)), size, string(|f| f.etag.as_ref()), modified, string(|f| f.content_type.as_ref())];
        structure(&SqlType::File, columns, nulls)
    }
}

/// A struct column of a SQL type from its field columns, cast to the declared Arrow types where they differ.
pub fn structure(ty: &SqlType, columns: Vec<ArrayRef>, nulls: NullBuffer) -> Result<ArrayRef> {
    let DataType::Struct(fields) = ty.arrow() else {
        return Err(Error::internal(format!("{} is not a composite", ty.name())));
    };
    StructArray::try_new(fields, columns, Some(nulls)).map(|s| Arc::new(s) as ArrayRef).map_err(|e| Error::internal(e.to_string()))
}

/// An array of length `rows` that holds only NULL, of the Arrow type of `ty`.
pub fn nulls(ty: &SqlType, rows: usize) -> ArrayRef {
    arrow::array::new_null_array(&ty.arrow(), rows)
}

/// A list column of composites: `offsets[i]..offsets[i + 1]` of `values` belong to row i.
pub fn list_of(values: ArrayRef, lengths: impl IntoIterator<Item = usize>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    ListArray::try_new(field, offsets, values, nulls).map(|l| Arc::new(l) as ArrayRef).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn images_survive_a_column() {
        let one = Image { data: vec![1, 2, 3, 4, 5, 6], width: 2, height: 1, channels: 3, pixel: PixelType::U8 };
        let array = Image::build(vec![Some(one.clone()), None]).unwrap();
        let arg = Arg { array, constant: false };
        assert_eq!(image(&arg, 0).unwrap().unwrap().to_owned(), one);
        assert!(image(&arg, 1).unwrap().is_none());
    }

    #[test]
    fn files_survive_a_column() {
        let f = FileRef { uri: "a".into(), size: Some(3), last_modified_us: Some(5), ..FileRef::default() };
        let array = FileRef::build(vec![Some(f.clone())]).unwrap();
        assert_eq!(file(&Arg { array, constant: true }, 7).unwrap().unwrap(), f);
    }
}
