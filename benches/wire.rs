//! What one row costs on its way out: Arrow columns to DataRow messages and COPY data, text and binary.
//!
//! `cargo bench --bench wire`. Bounds: a row of four columns is about 50 bytes; writing them once at 5 GB/s takes 10 ns, and
//! the digits of its double 30 to 40 ns more.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringViewArray};
use arrow::record_batch::RecordBatch;
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use squilla_core::types::SqlType;
use squilla_server::copy::{CopyOptions, Value, write};
use squilla_server::encode::style::Style;
use squilla_server::encode::{OutputColumn, RowEncoder};

const ROWS: usize = 8192;

fn batch() -> RecordBatch {
    let rows = 0..ROWS as i64;
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(rows.clone().map(|g| g + 5_000_000)))),
        ("k", Arc::new(Int32Array::from_iter_values(rows.clone().map(|g| (g % 1000) as i32)))),
        ("v", Arc::new(Float64Array::from_iter_values(rows.clone().map(|g| g as f64 * 0.37)))),
        ("s", Arc::new(StringViewArray::from_iter_values(rows.map(|g| format!("row {}", g + 5_000_000))))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn encoder(binary: bool) -> RowEncoder {
    let types = [SqlType::Int8, SqlType::Int4, SqlType::Float8, SqlType::Text];
    RowEncoder::new(types.into_iter().map(|ty| OutputColumn { ty, binary }).collect(), Arc::new(Style::default()))
}

fn wire(c: &mut Criterion) {
    let batch = batch();
    let mut group = c.benchmark_group("8192 rows of 4 columns");
    group.throughput(Throughput::Elements(ROWS as u64));
    let chunks = || (0..ROWS).step_by(1024).map(|start| start..start + 1024);
    for (name, binary) in [("DataRow, text", false), ("DataRow, binary", true)] {
        let mut encoder = encoder(binary);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut out = BytesMut::new();
                chunks().for_each(|rows| encoder.data_rows(black_box(&batch), rows, &mut out).unwrap());
                out.len()
            });
        });
    }
    for format in ["text", "csv", "binary"] {
        let options = CopyOptions::new([("format", Value::Text(format))], &["id", "k", "v", "s"], false).unwrap();
        let mut encoder = encoder(format == "binary");
        group.bench_function(format!("COPY, {format}"), |b| {
            b.iter(|| {
                let (mut out, mut first) = (BytesMut::new(), true);
                for rows in chunks() {
                    let columns = encoder.encode_columns(black_box(&batch), rows).unwrap();
                    write::rows(&mut out, &options, columns, 1024, &mut first);
                }
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
