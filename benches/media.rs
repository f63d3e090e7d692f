//! What one row costs before a model sees it: decode, resize, make ready, tokenise, and the queue in front of a model.
//!
//! `cargo bench --bench media`. Bounds: a 500x375 JPEG has 0.56 MB of pixels, so at 500 MB/s of libjpeg-turbo it takes
//! about 1.1 ms; a resize reads those pixels once, 0.1 to 0.3 ms; a queue hands an item over in a few microseconds.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use squilla_core::cores::Cores;
use squilla_core::counters::Caller;
use squilla_core::error::Result;
use squilla_core::limits::Limits;
use squilla_core::values::{Image, PixelType};
use squilla_infer::batcher::{Batcher, PackLimits, Service, Size, Worker};
use squilla_infer::pixels::PixelSpec;
use squilla_media::image::convert::Mode;
use squilla_media::image::decode::decode_at_least;
use squilla_media::image::encode::{encode_image, parse_format};
use squilla_media::image::resize::{Filter, Fit, resize_image};

const WHOLE: (u32, u32) = (u32::MAX, u32::MAX);

/// A picture with detail at every scale, as photographs have.
fn picture(width: u32, height: u32) -> Image {
    let mut state = 1u32;
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 28) as u8;
            let wave = |step: u32| ((x / step + y / (step + 1)) % 64) as u8;
            data.extend_from_slice(&[wave(3) + noise, wave(7) * 2 + noise, wave(31) * 3 + noise]);
        }
    }
    Image { data, width, height, channels: 3, pixel: PixelType::U8 }
}

fn pictures(c: &mut Criterion) {
    let limits = Limits::default();
    for (name, width, height) in [("500x375", 500, 375), ("4032x3024", 4032, 3024)] {
        let source = picture(width, height);
        let file = encode_image(&source.view(), parse_format("jpeg").unwrap(), 90).unwrap();
        let mut group = c.benchmark_group(format!("jpeg {name}"));
        group.throughput(Throughput::Bytes(source.data.len() as u64)).sample_size(20);
        group.bench_function("decode", |b| b.iter(|| decode_at_least(black_box(&file), Some(Mode::RGB), true, WHOLE, &limits).unwrap()));
        group.bench_function("decode for a 256 pixel model", |b| {
            b.iter(|| decode_at_least(black_box(&file), Some(Mode::RGB), true, (512, 512), &limits).unwrap());
        });
        group.bench_function("resize to 224", |b| {
            b.iter(|| resize_image(&black_box(&source).view(), 224, 224, Fit::Cover, Filter::Triangle).unwrap());
        });
        let config = serde_json::json!({"size": {"shortest_edge": 256}, "resample": 2, "do_center_crop": true, "do_normalize": true,
            "crop_size": {"height": 224, "width": 224}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]});
        let spec = PixelSpec::read(&config, None, false);
        group.bench_function("make ready for a model", |b| b.iter(|| spec.apply(&black_box(&source).view()).unwrap()));
        group.finish();
    }
}

fn texts(c: &mut Criterion) {
    let home = std::env::var_os("HF_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/squilla/hf"));
    let snapshots = home.join("hub/models--sentence-transformers--all-MiniLM-L6-v2/snapshots");
    let Some(Ok(folder)) = std::fs::read_dir(snapshots).ok().and_then(|mut entries| entries.next()) else {
        eprintln!("no MiniLM in the model cache: make setup");
        return;
    };
    let tokenizer = squilla_infer::tokens::open(&folder.path().join("tokenizer.json")).unwrap();
    let text = "The quick brown fox jumps over the lazy dog and reads seven books about rivers. ".repeat(25);
    let mut group = c.benchmark_group("text");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("tokenise 2000 letters", |b| b.iter(|| tokenizer.encode_fast(black_box(text.as_str()), true).unwrap().len()));
    group.finish();
}

struct Nothing;

impl Worker for Nothing {
    type Item = u64;
    type Out = u64;

    fn limits(&self) -> PackLimits {
        PackLimits { items: 16, padded: 1 << 20 }
    }

    fn run(&mut self, items: &[&u64]) -> Result<Vec<u64>> {
        Ok(items.iter().map(|item| **item).collect())
    }
}

fn queue(c: &mut Criterion) {
    let service = Service { instances: 1, queue_bytes: 64 << 20, cores: Some((Cores::new(2), 1)), counters: Arc::default() };
    let batcher = block_on(Batcher::start("bench", service, || Ok(Nothing))).unwrap();
    let caller = Caller::default();
    let mut group = c.benchmark_group("batcher");
    for count in [1u64, 256] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} items through a model that does nothing"), |b| {
            b.iter(|| {
                let items = (0..count).map(|i| (i, Size { key: 0, length: 1, bytes: 64 })).collect();
                block_on(batcher.run(&caller, items)).unwrap().len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pictures, texts, queue);
criterion_main!(benches);
