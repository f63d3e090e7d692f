//! Whole columns against the text and bytes PostgreSQL 15 sends.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, IntervalMonthDayNano};
use arrow::record_batch::RecordBatch;
use bytes::BytesMut;
use squilla_core::columns::Output;
use squilla_core::types::{RegKind, SqlType};
use squilla_core::values::{Audio, BoundingBox, FileRef, Image, PixelType, Tensor};

use super::cells::Cells;
use super::column::column;
use super::style::{ImageOutput, Style};
use super::zone::Zone;
use super::{OutputColumn, RowEncoder};

fn texts_in(style: &Style, array: ArrayRef, ty: &SqlType) -> Vec<Option<String>> {
    let mut cells = Cells::default();
    column(&mut cells, &array, ty, false, style).unwrap();
    assert_eq!(cells.len(), array.len());
    (0..cells.len()).map(|i| cells.value(i).map(|v| String::from_utf8(v.to_vec()).unwrap())).collect()
}

fn texts(array: impl Array + 'static, ty: &SqlType) -> Vec<Option<String>> {
    texts_in(&Style::default(), Arc::new(array), ty)
}

fn binary(array: impl Array + 'static, ty: &SqlType) -> Vec<Option<Vec<u8>>> {
    let mut cells = Cells::default();
    let array: ArrayRef = Arc::new(array);
    column(&mut cells, &array, ty, true, &Style::default()).unwrap();
    (0..cells.len()).map(|i| cells.value(i).map(<[u8]>::to_vec)).collect()
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|v| (*v != "<null>").then(|| (*v).to_owned())).collect()
}

#[test]
fn scalars_in_text() {
    assert_eq!(texts(BooleanArray::from(vec![Some(true), None, Some(false)]), &SqlType::Bool), some(&["t", "<null>", "f"]));
    assert_eq!(texts(Int16Array::from(vec![i16::MIN, 7]), &SqlType::Int2), some(&["-32768", "7"]));
    assert_eq!(texts(Int8Array::from(vec![-1]), &SqlType::Int2), some(&["-1"]));
    assert_eq!(texts(Int64Array::from(vec![i64::MIN]), &SqlType::Int8), some(&["-9223372036854775808"]));
    assert_eq!(texts(UInt64Array::from(vec![u64::MAX]), &SqlType::Numeric(Some((20, 0)))), some(&["18446744073709551615"]));
    assert_eq!(texts(Float32Array::from(vec![0.1]), &SqlType::Float4), some(&["0.1"]));
    assert_eq!(
        texts(Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(10, 2).unwrap(), &SqlType::Numeric(None)),
        some(&["123.45", "<null>"])
    );
    assert_eq!(texts(StringViewArray::from(vec!["a", ""]), &SqlType::Text), some(&["a", ""]));
    assert_eq!(texts(LargeStringArray::from(vec!["ab"]), &SqlType::Char(Some(4))), some(&["ab  "]));
    assert_eq!(texts(StringArray::from(vec!["{\"a\": 1}"]), &SqlType::Jsonb), some(&["{\"a\": 1}"]));
    assert_eq!(texts(NullArray::new(2), &SqlType::Unknown), some(&["<null>", "<null>"]));
    assert_eq!(texts(BinaryArray::from(vec![&b"\x00\xff"[..]]), &SqlType::Bytea), some(&["\\x00ff"]));
    assert_eq!(texts(BinaryViewArray::from(vec![&b"\x81"[..]]), &SqlType::Bit), some(&["10000001"]));
    assert_eq!(texts(Int64Array::from(vec![0, 4_000_000_000]), &SqlType::Oid), some(&["0", "4000000000"]));
    let uuid = FixedSizeBinaryArray::try_from_iter([[0x11u8; 16]].iter()).unwrap();
    assert_eq!(texts(uuid, &SqlType::Uuid), some(&["11111111-1111-1111-1111-111111111111"]));
    let words: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
    assert_eq!(texts(words, &SqlType::Text), some(&["x", "y", "x"]));
}

#[test]
fn style_changes_text() {
    let mut style = Style { bytea_hex: false, zone: Zone::parse("Asia/Tokyo").unwrap(), ..Style::default() };
    assert_eq!(texts_in(&style, Arc::new(BinaryArray::from(vec![&b"a\\\x00\xff"[..]])), &SqlType::Bytea), some(&["a\\\\\\000\\377"]));
    let at: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789]).with_timezone("UTC"));
    assert_eq!(texts_in(&style, Arc::clone(&at), &SqlType::Timestamptz), some(&["2023-11-15 07:13:20.123456+09"]));
    assert_eq!(texts_in(&style, at, &SqlType::Timestamp), some(&["2023-11-14 22:13:20.123456"]));
    style.set_interval_style("iso_8601");
    let span: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000_000_000)]));
    assert_eq!(texts_in(&style, span, &SqlType::Interval), some(&["P1M2DT3S"]));
    style.reg_names = Some(Arc::new(|kind, oid| (kind == RegKind::Class && oid == 1259).then(|| "pg_class".to_owned())));
    assert_eq!(texts_in(&style, Arc::new(Int64Array::from(vec![1259, 0, 5])), &SqlType::Reg(RegKind::Class)), some(&["pg_class", "-", "5"]));
}

#[test]
fn scalars_in_binary() {
    assert_eq!(binary(Int32Array::from(vec![Some(5), None]), &SqlType::Int4), [Some(vec![0, 0, 0, 5]), None]);
    assert_eq!(binary(Float64Array::from(vec![1.5]), &SqlType::Float8), [Some(1.5f64.to_be_bytes().to_vec())]);
    assert_eq!(binary(BooleanArray::from(vec![true]), &SqlType::Bool), [Some(vec![1])]);
    assert_eq!(binary(StringArray::from(vec!["{}"]), &SqlType::Jsonb), [Some(b"\x01{}".to_vec())]);
    assert_eq!(binary(StringArray::from(vec!["{}"]), &SqlType::Json), [Some(b"{}".to_vec())]);
    assert_eq!(binary(Date32Array::from(vec![10_958]), &SqlType::Date), [Some(vec![0, 0, 0, 1])]);
    assert_eq!(binary(Time64MicrosecondArray::from(vec![1]), &SqlType::Time), [Some(vec![0, 0, 0, 0, 0, 0, 0, 1])]);
    let d = Decimal128Array::from(vec![15]).with_precision_and_scale(4, 1).unwrap();
    assert_eq!(binary(d, &SqlType::Numeric(None)), [Some(vec![0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x13, 0x88])]);
    assert_eq!(binary(StringArray::from(vec!["00000000-0000-0000-0000-0000000000ff"]), &SqlType::Uuid).concat_last(), 0xff);
    let span = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3000)]);
    assert_eq!(binary(span, &SqlType::Interval), [Some(vec![0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1])]);
}

trait ConcatLast {
    fn concat_last(&self) -> u8;
}

impl ConcatLast for Vec<Option<Vec<u8>>> {
    fn concat_last(&self) -> u8 {
        *self.iter().flatten().flatten().last().unwrap()
    }
}

#[test]
fn arrays_quote_what_they_must() {
    let mut builder = ListBuilder::new(StringBuilder::new());
    builder.values().append_value("a");
    builder.values().append_value("b c");
    builder.values().append_null();
    builder.values().append_value("");
    builder.values().append_value("Null");
    builder.values().append_value("x\"y\\z");
    builder.append(true);
    builder.append(false);
    builder.append(true);
    let list = builder.finish();
    let ty = SqlType::Array(Box::new(SqlType::Text));
    assert_eq!(texts(list.clone(), &ty), some(&["{a,\"b c\",NULL,\"\",\"Null\",\"x\\\"y\\\\z\"}", "<null>", "{}"]));
    assert_eq!(texts(list.slice(1, 2), &ty), some(&["<null>", "{}"]));
    assert_eq!(binary(list.slice(2, 1), &ty), [Some(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25])]);
}

fn matrix() -> ListArray {
    let inner = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])]);
    let field = Arc::new(Field::new("item", inner.data_type().clone(), true));
    ListArray::new(field, OffsetBuffer::from_lengths([2]), Arc::new(inner), None)
}

#[test]
fn arrays_of_arrays_are_matrices() {
    let ty = SqlType::Array(Box::new(SqlType::Int4));
    assert_eq!(texts(matrix(), &ty), some(&["{{1,2},{3,NULL}}"]));
    let bytes = binary(matrix(), &ty)[0].clone().unwrap();
    let words: Vec<i32> = bytes.chunks(4).map(|c| i32::from_be_bytes(c.try_into().unwrap())).collect();
    assert_eq!(words, [2, 1, 23, 2, 1, 2, 1, 4, 1, 4, 2, 4, 3, -1]);
}

#[test]
fn records_follow_record_out() {
    let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let b: ArrayRef = Arc::new(StringArray::from(vec![Some("b c"), Some("")]));
    let c: ArrayRef = Arc::new(matrix_twice());
    let ty = SqlType::Record(vec![("a".into(), SqlType::Int4), ("b".into(), SqlType::Text), ("c".into(), SqlType::Array(Box::new(SqlType::Int4)))]);
    let fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true), Field::new("c", c.data_type().clone(), true)];
    let record = StructArray::new(fields.into(), vec![a, b, c], Some(NullBuffer::from(vec![true, true])));
    assert_eq!(texts(record.clone(), &ty), some(&["(1,\"b c\",\"{5,6}\")", "(,\"\",)"]));
    let bytes = binary(record, &ty)[1].clone().unwrap();
    assert_eq!(&bytes[..12], [0, 0, 0, 3, 0, 0, 0, 23, 255, 255, 255, 255]);
}

fn matrix_twice() -> ListArray {
    ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(5), Some(6)]), None])
}

#[test]
fn media_types_stay_small() {
    let image = Image { data: vec![0; 6], width: 2, height: 1, channels: 3, pixel: PixelType::U8 };
    let images = Image::build(vec![Some(image), None]).unwrap();
    assert_eq!(texts_in(&Style::default(), Arc::clone(&images), &SqlType::Image), some(&["<image 2x1 RGB>", "<null>"]));
    let mut style = Style { image_output: ImageOutput::Png, image_encoder: Some(|_, format| Ok(format.as_bytes().to_vec())), ..Style::default() };
    assert_eq!(texts_in(&style, Arc::clone(&images), &SqlType::Image), some(&["\\x706e67", "<null>"]));
    style.set_image_output("jsonb");
    assert_eq!(texts_in(&style, images, &SqlType::Image), some(&["{\"mode\": \"RGB\", \"dtype\": \"u8\", \"width\": 2, \"height\": 1}", "<null>"]));
    let audio = Audio::build(vec![Some(Audio { samples: vec![0.0; 16_000 * 12], sample_rate: 16_000, channels: 1 })]).unwrap();
    assert_eq!(texts_in(&Style::default(), audio, &SqlType::Audio), some(&["<audio 12.0 s 16000 Hz mono>"]));
    let tensor = Tensor::build(vec![Some(Tensor { data: vec![1.0, 0.5], shape: vec![2, 1] })]).unwrap();
    assert_eq!(texts_in(&Style::default(), tensor, &SqlType::Tensor), some(&["{\"data\": [1, 0.5], \"dtype\": \"f32\", \"shape\": [2, 1]}"]));
    let boxes = BoundingBox::build(vec![Some(BoundingBox { x1: 1.0, y1: 2.5, x2: 3.0, y2: 4.0 })]).unwrap();
    assert_eq!(texts_in(&Style::default(), boxes, &SqlType::Box2d), some(&["(1,2.5),(3,4)"]));
    let files = FileRef::build(vec![Some(FileRef { uri: "s3://b/k".into(), ..FileRef::default() }), None]).unwrap();
    assert_eq!(texts_in(&Style::default(), files, &SqlType::File), some(&["s3://b/k", "<null>"]));
}

#[test]
fn vectors_are_pgvectors() {
    let list = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0), Some(-2.5), Some(3e-5)]), None]);
    assert_eq!(texts(list.clone(), &SqlType::Vector), some(&["[1,-2.5,3e-05]", "<null>"]));
    assert_eq!(binary(list.clone(), &SqlType::Vector)[0].as_deref().map(|b| b[..8].to_vec()), Some(vec![0, 3, 0, 0, 0x3f, 0x80, 0, 0]));
    let field = Arc::new(SqlType::Vector.field("item"));
    let inner = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0), Some(2.0)])]);
    let two = ListArray::new(field, OffsetBuffer::from_lengths([1]), Arc::new(inner), None);
    assert_eq!(texts(two, &SqlType::Array(Box::new(SqlType::Vector))), some(&["{\"[1,2]\"}"]));
}

#[test]
fn rows_are_whole_messages() {
    let batch = RecordBatch::try_from_iter([
        ("a", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec![Some("x"), Some(""), None])) as ArrayRef),
    ])
    .unwrap();
    let columns = vec![OutputColumn { ty: SqlType::Int4, binary: true }, OutputColumn { ty: SqlType::Text, binary: false }];
    let mut encoder = RowEncoder::new(columns, Arc::new(Style::default()));
    let mut out = BytesMut::new();
    encoder.data_rows(&batch, 0..2, &mut out).unwrap();
    encoder.data_rows(&batch, 2..3, &mut out).unwrap();
    let row = |fields: &[u8]| [b"D".as_slice(), &(fields.len() as u32 + 6).to_be_bytes(), &[0, 2], fields].concat();
    let wanted = [
        row(&[0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, b'x']),
        row(&[255, 255, 255, 255, 0, 0, 0, 0]),
        row(&[0, 0, 0, 4, 0, 0, 0, 3, 255, 255, 255, 255]),
    ]
    .concat();
    assert_eq!(&out[..], &wanted[..]);
    assert_eq!(RowEncoder::chunk_rows(&batch), 1024);
}
