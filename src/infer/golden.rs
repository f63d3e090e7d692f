//! The reference outputs in `tests/golden/model`, compared with what this crate gives. Test code only.
//!
//! The tiny models are read from `models/tiny`; all-MiniLM-L6-v2 from the hub cache, where `make setup` puts it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use futures::executor::block_on;
use serde_json::Value;
use squilla_core::cores::Cores;
use squilla_core::error::Result;
use squilla_core::values::{BoundingBox, Image, PixelType, Tensor};

use crate::detect::{DetectOptions, Detection, iou};
use crate::engines::EngineOptions;
use crate::hub::HubOptions;
use crate::models::{EmbedOptions, Models, Resolved, Scores};
use crate::pictures::{Picture, Pictures};
use crate::pixels::PixelSpec;
use crate::registry::{RegisteredModel, Task};
use crate::runtime::{self, RuntimeOptions};
use crate::speech::SpeechOptions;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cache() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")).join("squilla")
}

static NORMAL: &EmbedOptions = &EmbedOptions { kind: None, normalize: true, dims: None, truncate: true };

pub fn service() -> Models {
    service_with(2)
}

fn service_with(cores: usize) -> Models {
    let home = std::env::var_os("HF_HOME").map_or_else(|| cache().join("hf"), PathBuf::from);
    let named = std::env::var_os("SQUILLA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let candidates = runtime::candidates(named.as_deref(), &cache());
    let engines = EngineOptions {
        runtime: RuntimeOptions { library: None, candidates },
        device: "cpu".into(),
        cores: Cores::new(cores),
        ..EngineOptions::default()
    };
    let models = Models::new(HubOptions { home, offline: true, ..HubOptions::default() }, engines);
    for name in ["resnet-shapes", "yolo-shapes", "yolos-random", "clip-random", "whisper-commands"] {
        let source = root().join("models/tiny").join(name).display().to_string();
        models.registry().add(RegisteredModel { name: name.into(), source, ..Default::default() }, false).unwrap();
    }
    models
}

fn golden(name: &str) -> Value {
    let path = root().join("tests/golden/model").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn floats(name: &str) -> Tensor {
    let bytes = std::fs::read(root().join("tests/golden/model").join(format!("{name}.f32"))).unwrap();
    let data = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let shape = golden("shapes.json")[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    Tensor { data, shape }
}

pub fn image(file: &str) -> Image {
    let bytes = std::fs::read(root().join("tests/golden/model").join(file)).unwrap();
    let (data, width, height) = if file.ends_with(".jpg") {
        let image = turbojpeg::decompress(&bytes, turbojpeg::PixelFormat::RGB).unwrap();
        (image.pixels, image.width as u32, image.height as u32)
    } else {
        let image = image::load_from_memory(&bytes).unwrap().to_rgb8();
        let (w, h) = image.dimensions();
        (image.into_raw(), w, h)
    };
    Image { data, width, height, channels: 3, pixel: PixelType::U8 }
}

fn wav(file: &str) -> Vec<f32> {
    let bytes = std::fs::read(root().join("tests/golden/model").join(file)).unwrap();
    bytes[44..].chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

/// The model, loaded, and the images made ready for it.
fn ready(models: &Models, model: &Resolved, images: &[Image]) -> (Pictures, Vec<Picture>) {
    let pictures = block_on(models.pictures(model)).unwrap();
    let ready = images.iter().map(|image| pictures.prepare(&image.view()).unwrap()).collect();
    (pictures, ready)
}

fn classify(models: &Models, model: &Resolved, images: &[Image], labels: Option<&[String]>, top_k: usize) -> Result<Vec<Result<Scores>>> {
    let (pictures, ready) = ready(models, model, images);
    block_on(models.classify(model, &pictures, ready, labels, top_k))
}

fn detect(models: &Models, model: &Resolved, images: &[Image], options: &DetectOptions) -> Result<Vec<Result<Vec<Detection>>>> {
    let (pictures, ready) = ready(models, model, images);
    block_on(models.detect(model, &pictures, ready, options))
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn minilm(models: &Models, name: &str) -> Resolved {
    models.resolve(Task::EmbedText, name).unwrap_or_else(|e| panic!("run \"make setup\" to install MiniLM: {e} {:?}", e.detail))
}

#[test]
fn minilm_embeddings() {
    let (models, facts, want) = (service(), golden("minilm.json"), floats("minilm_embeddings"));
    let texts = strings(&facts["texts"]);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let model = minilm(&models, "minilm-l6-v2");
    assert_eq!(model.dims, Some(384));
    let got = block_on(models.embed_text(&model, &texts, &EmbedOptions::default())).unwrap();
    for (row, (vector, want)) in got.iter().zip(want.data.chunks_exact(384)).enumerate() {
        let vector = vector.as_ref().unwrap();
        assert!(cosine(vector, want) >= 0.9999, "text {row}");
        assert!(vector.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-5), "text {row}");
    }
    let ids = facts["input_ids"].as_array().unwrap();
    let counts = models.token_count(&model, &texts).unwrap();
    for (i, count) in counts.into_iter().enumerate() {
        let (count, want) = (count.unwrap(), ids[i].as_array().unwrap().len());
        assert!(count == want || (want == 256 && count > 256));
    }
    // Alone and in a pack: the same vector.
    for i in [0, 8, 19] {
        let alone = block_on(models.embed_text(&model, &texts[i..=i], &EmbedOptions::default())).unwrap();
        assert!(cosine(alone[0].as_ref().unwrap(), got[i].as_ref().unwrap()) > 0.999_999);
    }
    let strict = EmbedOptions { truncate: false, ..EmbedOptions::default() };
    let rows = block_on(models.embed_text(&model, &texts, &strict)).unwrap();
    assert_eq!(rows.iter().filter(|r| r.is_err()).count(), ids.iter().filter(|i| i.as_array().unwrap().len() == 256).count());
    let short = EmbedOptions { dims: Some(8), ..EmbedOptions::default() };
    assert_eq!(block_on(models.embed_text(&model, &texts[..1], &short)).unwrap()[0].as_ref().unwrap().len(), 8);
    let stats = models.stats();
    assert_eq!(stats[0].name, "minilm-l6-v2");
    assert!(stats[0].items >= 24 && stats[0].busy_s > 0.0 && stats[0].fill > 0.0);
}

#[test]
fn minilm_int8_embeddings() {
    let (models, facts, want) = (service(), golden("minilm.json"), floats("minilm_embeddings"));
    let texts = strings(&facts["texts"]);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let model = minilm(&models, "minilm-l6-v2-int8");
    let got = block_on(models.embed_text(&model, &texts, &EmbedOptions::default())).unwrap();
    let worst = got.iter().zip(want.data.chunks_exact(384)).map(|(g, w)| cosine(g.as_ref().unwrap(), w)).fold(1.0, f64::min);
    assert!(worst >= 0.96, "{worst}");
}

#[test]
fn classifier_labels_and_scores() {
    let (models, facts, logits) = (service(), golden("classifier.json"), floats("classifier_logits"));
    let rows = facts["rows"].as_array().unwrap();
    let images: Vec<Image> = rows.iter().map(|r| image(r["file"].as_str().unwrap())).collect();
    let model = models.resolve(Task::ClassifyImage, "resnet-shapes").unwrap();
    let got = classify(&models, &model, &images, None, 10).unwrap();
    let labels = &model.manifest.labels;
    let mut worst = 0.0f32;
    for (i, (scores, row)) in got.iter().zip(rows).enumerate() {
        let scores = scores.as_ref().unwrap();
        assert_eq!(scores[0].0, row["label"].as_str().unwrap(), "image {i}");
        // Differences of log probabilities are differences of logits, up to a constant.
        let want = &logits.data[i * 10..(i + 1) * 10];
        let at = |label: &str| want[labels.iter().position(|l| l == label).unwrap()];
        let top = at(&scores[0].0);
        for (label, score) in scores {
            let mine = (score / scores[0].1).ln();
            worst = worst.max((mine - (at(label) - top)).abs());
        }
    }
    assert!(worst < 0.25, "logits differ by {worst}");
    println!("classifier: largest difference of logits {worst}");
    // The preprocessing equals the reference to one or two levels of 255.
    let want = floats("classifier_pixel_values_first2");
    let spec = PixelSpec::read(&model.manifest.preprocessor, None, false);
    let size = 3 * 64 * 64;
    for (i, image) in images.iter().take(2).enumerate() {
        let (item, _) = spec.apply(&image.view()).unwrap();
        let largest = item.planes.iter().zip(&want.data[i * size..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("classifier: image {i}, largest difference of pixels {largest}");
        assert!(largest <= 0.03);
    }
    assert_eq!(classify(&models, &model, &images[..1], Some(&["a".into()]), 1).unwrap_err().sqlstate(), "SQ002");
}

fn bbox(value: &Value) -> BoundingBox {
    let n: Vec<f32> = value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    BoundingBox { x1: n[0], y1: n[1], x2: n[2], y2: n[3] }
}

#[test]
fn detector_boxes() {
    let (models, facts) = (service(), golden("detector.json"));
    let rows = facts["rows"].as_array().unwrap();
    let images: Vec<Image> = rows.iter().map(|r| image(r["file"].as_str().unwrap())).collect();
    let model = models.resolve(Task::Detect, "yolo-shapes").unwrap();
    let got = detect(&models, &model, &images, &DetectOptions::default()).unwrap();
    let mut worst = 1.0f32;
    for (found, row) in got.iter().zip(rows) {
        let (found, file) = (found.as_ref().unwrap(), row["file"].as_str().unwrap());
        let want = row["detections"].as_array().unwrap();
        assert_eq!(found.len(), want.len(), "{file}");
        for (mine, want) in found.iter().zip(want) {
            assert_eq!(mine.label, want["label"].as_str().unwrap(), "{file}");
            assert!((f64::from(mine.score) - want["score"].as_f64().unwrap()).abs() < 0.02, "{file}: {mine:?} {want}");
            let overlap = iou(&mine.bbox, &bbox(&want["box"]));
            worst = worst.min(overlap);
            assert!(overlap >= 0.99, "{file}: {overlap} {mine:?} {want}");
        }
    }
    println!("detector: smallest IoU {worst}");
    let only = DetectOptions { classes: Some(vec!["rng".into()]), ..DetectOptions::default() };
    assert!(detect(&models, &model, &images[..1], &only).unwrap_err().hint.unwrap().contains("ring"));
}

#[test]
fn set_detector_boxes() {
    let (models, facts) = (service(), golden("yolos.json"));
    let rows = facts["rows"].as_array().unwrap();
    let images: Vec<Image> = rows.iter().map(|r| image(r["file"].as_str().unwrap())).collect();
    let model = models.resolve(Task::Detect, "yolos-random").unwrap();
    let all = DetectOptions { min_score: 0.0, ..DetectOptions::default() };
    let got = detect(&models, &model, &images, &all).unwrap();
    for (found, row) in got.iter().zip(rows) {
        let found = found.as_ref().unwrap();
        let want = row["queries"].as_array().unwrap();
        assert_eq!(found.len(), want.len());
        for query in want {
            let near = found.iter().any(|d| {
                d.label == query["label"].as_str().unwrap()
                    && (f64::from(d.score) - query["score"].as_f64().unwrap()).abs() < 1e-3
                    && iou(&d.bbox, &bbox(&query["box"])) >= 0.99
            });
            assert!(near, "{}: {query}", row["file"]);
        }
    }
}

#[test]
fn clip_towers() {
    let (models, facts) = (service(), golden("clip.json"));
    let captions = strings(&facts["captions"]);
    let texts: Vec<&str> = captions.iter().map(String::as_str).collect();
    let model = models.resolve(Task::EmbedImage, "clip-random").unwrap();
    assert_eq!(model.dims, Some(32));
    let text = models.resolve(Task::EmbedText, "clip-random").unwrap();
    let got = block_on(models.embed_text(&text, &texts, &EmbedOptions::default())).unwrap();
    for (vector, want) in got.iter().zip(floats("clip_text").data.chunks_exact(32)) {
        assert!(cosine(vector.as_ref().unwrap(), want) >= 0.9999);
    }
    let images: Vec<Image> = strings(&facts["images"]).iter().map(|f| image(f)).collect();
    let (pictures, made) = ready(&models, &model, &images);
    let got = block_on(models.embed_image(&pictures, made, &EmbedOptions::default())).unwrap();
    let want = floats("clip_image");
    let worst = got.iter().zip(want.data.chunks_exact(32)).map(|(g, w)| cosine(g.as_ref().unwrap(), w)).fold(1.0, f64::min);
    assert!(worst >= 0.9995, "{worst}");
    // Zero-shot: the label whose text is nearest to the image.
    let classifier = models.resolve(Task::ClassifyImage, "clip-random").unwrap();
    let labels = ["a circle".to_owned(), "stripes".to_owned()];
    let scores = classify(&models, &classifier, &images[..3], Some(&labels), 2).unwrap();
    assert!(scores.iter().all(|s| (s.as_ref().unwrap().iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-5));
    assert!(classify(&models, &classifier, &images[..1], None, 2).is_err());
}

#[test]
fn whisper_spectrogram() {
    let mel = crate::mel::Mel::new(crate::mel::MelSpec::read(&Value::Null));
    let want = floats("whisper_input_features_first2_400");
    for i in 0..2 {
        let got = mel.spectrogram(&wav(&format!("audio/utt_0{i}.wav"))).unwrap();
        assert_eq!(got.len(), 80 * 3000);
        for bin in 0..80 {
            for frame in 0..400 {
                let (a, b) = (got[bin * 3000 + frame], want.data[(i * 80 + bin) * 400 + frame]);
                assert!((a - b).abs() < 1e-3, "utterance {i}, bin {bin}, frame {frame}: {a} {b}");
            }
        }
    }
}

#[test]
fn whisper_transcripts() {
    let (models, facts) = (service(), golden("whisper.json"));
    let rows = facts["rows"].as_array().unwrap();
    let audios: Vec<Vec<f32>> = rows.iter().map(|r| wav(r["file"].as_str().unwrap())).collect();
    let audios: Vec<&[f32]> = audios.iter().map(Vec::as_slice).collect();
    let model = models.resolve(Task::Transcribe, "whisper-commands").unwrap();
    let english = SpeechOptions { language: Some("en".into()), ..SpeechOptions::default() };
    let got = block_on(models.transcribe(&model, &audios, &english)).unwrap();
    for (transcript, row) in got.iter().zip(rows) {
        let transcript = transcript.as_ref().unwrap();
        assert_eq!(transcript.text, row["text"].as_str().unwrap(), "{}", row["file"]);
        assert_eq!(transcript.segments[0].language.as_deref(), Some("en"));
    }
    let timed = SpeechOptions { timestamps: true, language: None, ..english.clone() };
    let got = block_on(models.transcribe(&model, &audios, &timed)).unwrap();
    for (transcript, row) in got.iter().zip(rows) {
        let (transcript, times) = (transcript.as_ref().unwrap(), row["segments"].as_array().unwrap());
        let first = transcript.segments.first().unwrap();
        assert!((first.start_s - times[0].as_f64().unwrap()).abs() < 1e-6, "{}: {first:?}", row["file"]);
        if let [_, end] = times.as_slice() {
            let length = row["seconds"].as_f64().unwrap();
            assert!((first.end_s - end.as_f64().unwrap().min(length)).abs() < 2e-3, "{}: {first:?}", row["file"]);
        }
    }
    let silence = wav("audio/silence.wav");
    let got = block_on(models.transcribe(&model, &[&silence, &[]], &english)).unwrap();
    assert!(got.iter().all(|t| t.as_ref().unwrap().text.is_empty()));
    let wrong = SpeechOptions { language: Some("xx".into()), ..SpeechOptions::default() };
    assert_eq!(block_on(models.transcribe(&model, &audios[..1], &wrong)).unwrap_err().sqlstate(), "22023");
}

#[test]
fn whisper_tokens_are_those_of_the_reference() {
    use crate::batcher::Worker;
    let (models, facts) = (service(), golden("whisper.json"));
    let model = models.resolve(Task::Transcribe, "whisper-commands").unwrap();
    let candidates = runtime::candidates(None, &cache());
    let environment = runtime::environment(&RuntimeOptions { library: None, candidates }).unwrap();
    let open = crate::session::OpenOptions { environment, wish: crate::device::Wish::parse("cpu").unwrap(), threads: 2, arena: true };
    let mut worker = crate::whisper::WhisperWorker::open(&model.manifest, &open, None).unwrap();
    let mel = crate::mel::Mel::new(crate::mel::MelSpec::read(&model.manifest.preprocessor));
    let (mut wrong, mut worst) = (Vec::new(), 0.0f64);
    for (key, timestamps) in [("tokens", false), ("tokens_timestamps", true)] {
        for rows in facts["rows"].as_array().unwrap().chunks(8) {
            let item = |r: &Value| crate::whisper::SpeechItem {
                mel: mel.spectrogram(&wav(r["file"].as_str().unwrap())).unwrap(),
                language: Some(357),
                task: crate::whisper::SpeechTask::Transcribe,
                timestamps,
            };
            let items: Vec<_> = rows.iter().map(item).collect();
            let got = worker.run(&items.iter().collect::<Vec<_>>()).unwrap();
            for (heard, row) in got.iter().zip(rows) {
                let want: Vec<u32> = row[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
                if heard.tokens != want {
                    wrong.push((row["file"].clone(), key, heard.tokens.clone(), want));
                }
                worst = worst.max((f64::from(heard.no_speech_prob) - row["no_speech_prob"].as_f64().unwrap()).abs());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(worst < 1e-3);
}

#[test]
fn long_audio_is_cut_into_windows() {
    let models = service();
    let model = models.resolve(Task::Transcribe, "whisper-commands").unwrap();
    let facts = golden("whisper.json");
    let rows = &facts["rows"].as_array().unwrap()[..2];
    let mut audio = wav(rows[0]["file"].as_str().unwrap());
    audio.resize(29 * 16_000, 0.0);
    audio.extend(wav(rows[1]["file"].as_str().unwrap()));
    let english = SpeechOptions { language: Some("en".into()), ..SpeechOptions::default() };
    let got = block_on(models.transcribe(&model, &[&audio], &english)).unwrap().remove(0).unwrap();
    assert_eq!(got.segments.len(), 2, "{got:?}");
    assert!(got.segments[1].start_s > 20.0 && got.segments[1].start_s < 29.1);
    let words = |s: &Value| s["text"].as_str().unwrap().to_owned();
    assert_eq!(got.text, format!("{} {}", words(&rows[0]), words(&rows[1])));
}

#[test]
fn plain_graphs_predict() {
    let models = service();
    let model = models.resolve(Task::Predict, "resnet-shapes").unwrap();
    let spec = PixelSpec::read(&model.manifest.preprocessor, None, false);
    let (item, _) = spec.apply(&image("images/cls_00_circle_64x64.png").view()).unwrap();
    let input = Tensor { data: item.planes, shape: vec![3, 64, 64] };
    let got = block_on(models.predict(&model, vec![vec![input.clone()], vec![input]])).unwrap();
    let want = &floats("classifier_logits").data[..10];
    for row in got {
        let row = row.unwrap();
        assert_eq!(row[0].shape, [10]);
        assert!(row[0].data.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.05));
    }
    let bad = block_on(models.predict_rows(&model, &[vec![1.0, 2.0]])).unwrap();
    assert_eq!(bad[0].as_ref().unwrap_err().sqlstate(), "22023");
}

#[test]
fn wrong_names_and_tasks_raise_when_resolved() {
    let models = service();
    let error = models.resolve(Task::EmbedText, "minilm-l6-v3").unwrap_err();
    assert_eq!(error.sqlstate(), "SQ001");
    assert!(error.hint.unwrap().contains("minilm-l6-v2"));
    assert_eq!(models.resolve(Task::Transcribe, "resnet-shapes").unwrap_err().sqlstate(), "SQ002");
    assert_eq!(models.resolve(Task::Detect, "nobody/nothing").unwrap_err().sqlstate(), "SQ001");
    assert_eq!(models.resolve(Task::Detect, "/nowhere/model.onnx").unwrap_err().sqlstate(), "SQ001");
    let path = root().join("models/tiny/yolo-shapes/onnx/model.onnx");
    assert!(models.resolve(Task::Detect, &path.display().to_string()).is_ok());
}

#[test]
fn engines_are_loaded_once_and_evicted_by_bytes() {
    let models = service();
    let model = models.resolve(Task::ClassifyImage, "resnet-shapes").unwrap();
    let picture = image("images/cls_00_circle_64x64.png");
    let loads = futures::future::join_all((0..8).map(|_| models.pictures(&model)));
    let loaded = block_on(loads).into_iter().collect::<Result<Vec<_>>>().unwrap();
    let all = futures::future::join_all(loaded.iter().map(|p| models.classify(&model, p, vec![p.prepare(&picture.view()).unwrap()], None, 1)));
    assert!(block_on(all).iter().all(Result::is_ok));
    assert_eq!(models.stats().len(), 1);
    assert_eq!(models.stats()[0].calls, 8);
    assert_eq!(models.unload(Some(&model)), 1);
    assert!(!models.stats()[0].loaded);
    block_on(models.warm(&model)).unwrap();
    assert!(models.stats()[0].loaded);
}

/// Results for every largest pack from 1 to 64: texts and pictures of all lengths and sizes, several callers at once.
#[test]
fn results_do_not_depend_on_packing() {
    let words: Vec<String> = (0..96).map(|i| (0..(1 + i * 7 % 60)).map(|n| format!("w{} ", (n * 31 + i) % 97)).collect()).collect();
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    let images: Vec<Image> = strings(&golden("clip.json")["images"]).iter().map(|f| image(f)).cycle().take(40).collect();
    type Answers = Vec<Vec<f32>>;
    let mut first: Option<(Answers, Answers)> = None;
    for max_batch in 1..=64 {
        let models = service();
        let source = root().join("models/tiny/clip-random").display().to_string();
        let registered = RegisteredModel { name: "m".into(), source, max_batch: Some(max_batch), ..Default::default() };
        models.registry().add(registered, false).unwrap();
        let text = models.resolve(Task::EmbedText, "m").unwrap();
        let vision = models.resolve(Task::EmbedImage, "m").unwrap();
        let parts = [0..32, 32..33, 33..96].map(|range| models.embed_text(&text, &texts[range], NORMAL));
        let vectors = block_on(futures::future::join_all(parts)).into_iter().flat_map(Result::unwrap).map(Result::unwrap).collect::<Vec<_>>();
        let (pictures, made) = ready(&models, &vision, &images);
        let seen = block_on(models.embed_image(&pictures, made, NORMAL)).unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let (texts_alone, seen_alone) = first.get_or_insert_with(|| (vectors.clone(), seen.clone()));
        for (mine, alone) in vectors.iter().zip(texts_alone).chain(seen.iter().zip(seen_alone)) {
            assert!(cosine(mine, alone) > 0.999_999, "packs of {max_batch}");
        }
    }
}

/// Items per second and per second of the device; `cargo test -p squilla-infer throughput -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let words: Vec<String> = (0..256).map(|i| (0..(20 + i * 37 % 180)).map(|n| format!("word{} ", (n * 31 + i) % 97)).collect()).collect();
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    for (instances, threads) in [(1, 1), (1, 2), (2, 2)] {
        let models = service_with(threads);
        let source = "sentence-transformers/all-MiniLM-L6-v2".to_owned();
        let model = RegisteredModel { name: "m".into(), source, instances: Some(instances), ..Default::default() };
        models.registry().add(model, false).unwrap();
        let model = models.resolve(Task::EmbedText, "m").unwrap();
        block_on(models.warm(&model)).unwrap();
        let start = std::time::Instant::now();
        let calls = (0..4).map(|part| models.embed_text(&model, &texts[part * 64..(part + 1) * 64], NORMAL));
        let futures: Vec<_> = calls.collect();
        block_on(futures::future::join_all(futures));
        let (wall, stats) = (start.elapsed().as_secs_f64(), &models.stats()[0]);
        println!(
            "MiniLM, {instances} sessions, {threads} threads: {:.1} texts/s, fill {:.2}, {} packs, busy {:.1} s",
            256.0 / wall,
            stats.fill,
            stats.packs,
            stats.busy_s
        );
    }
    let picture = image("images/det_05_160x160.jpg");
    for instances in [1, 2] {
        let models = service_with(2);
        let source = root().join("models/tiny/yolo-shapes").display().to_string();
        models.registry().add(RegisteredModel { name: "y".into(), source, instances: Some(instances), ..Default::default() }, false).unwrap();
        let model = models.resolve(Task::Detect, "y").unwrap();
        block_on(models.warm(&model)).unwrap();
        let start = std::time::Instant::now();
        let pictures = block_on(models.pictures(&model)).unwrap();
        let made = vec![pictures.prepare(&picture.view()).unwrap(); 256];
        block_on(models.detect(&model, &pictures, made, &DetectOptions::default())).unwrap();
        println!("detector, {instances} sessions: {:.1} images/s, busy {:.2} s", 256.0 / start.elapsed().as_secs_f64(), models.stats()[0].busy_s);
    }
}
