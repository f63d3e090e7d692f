//! What a folder of model files is: its layout, its ONNX files, labels, dimensions and digest.
//!
//! In: a located folder and what the registration overrides. Out: a [`Manifest`], from JSON files and file names alone.
//! Invariants: reading one never opens a graph (it is done while planning a query); the digest covers every file that
//! can change a result, so equal digests mean equal answers.
//! Deliberately absent: tokenizers and sessions, which are loaded on first use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use squilla_core::error::{Error, Kind, Result};

use crate::hub::Located;
use crate::registry::{RegisteredModel, Task};

/// How the files of a model are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A text encoder with a tokenizer, as sentence-transformers store it.
    TextEncoder,
    /// Two towers: `text_model.onnx` and `vision_model.onnx`.
    TwoTowers,
    /// Transformers' image classification.
    Classifier,
    /// An image encoder without a classification head.
    ImageEncoder,
    /// A grid detector with `output0`, needing letterbox and NMS.
    Yolo,
    /// A set detector with `logits` and `pred_boxes`.
    Detr,
    /// Whisper: `encoder_model.onnx` and `decoder_model_merged.onnx`.
    Whisper,
    /// A text-pair scorer.
    CrossEncoder,
    /// Any other graph.
    Plain,
}

impl Layout {
    /// The tasks that a model of this layout can do.
    pub const fn tasks(self) -> &'static [Task] {
        match self {
            Layout::TextEncoder => &[Task::EmbedText, Task::Predict],
            Layout::TwoTowers => &[Task::EmbedText, Task::EmbedImage, Task::ClassifyImage],
            Layout::Classifier => &[Task::ClassifyImage, Task::Predict],
            Layout::ImageEncoder => &[Task::EmbedImage, Task::Predict],
            Layout::Yolo | Layout::Detr => &[Task::Detect, Task::Predict],
            Layout::Whisper => &[Task::Transcribe],
            Layout::CrossEncoder => &[Task::Rerank, Task::Predict],
            Layout::Plain => &[Task::Predict],
        }
    }

    /// What it is, in words.
    pub const fn text(self) -> &'static str {
        match self {
            Layout::TextEncoder => "a text encoder",
            Layout::TwoTowers => "a text and image encoder",
            Layout::Classifier => "an image classifier",
            Layout::ImageEncoder => "an image encoder",
            Layout::Yolo | Layout::Detr => "an object detector",
            Layout::Whisper => "a speech recogniser",
            Layout::CrossEncoder => "a scorer of text pairs",
            Layout::Plain => "a plain graph",
        }
    }
}

/// A model's files, understood.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The folder with the configuration files.
    pub folder: PathBuf,
    /// See [`Layout`].
    pub layout: Layout,
    /// The graphs, relative to the folder: one, or (text, vision), or (encoder, decoder).
    pub graphs: Vec<String>,
    /// `config.json`, or null.
    pub config: Value,
    /// `preprocessor_config.json`, or null.
    pub preprocessor: Value,
    /// Labels by class number; empty when the files do not say (a graph's own metadata may).
    pub labels: Vec<String>,
    /// Length of the vector, for the embedding tasks, when the configuration says it.
    pub dims: Option<usize>,
    /// tokenizer.json, where there is one.
    pub tokenizer: Option<PathBuf>,
    /// Bytes of the graphs and their external data.
    pub bytes: u64,
    /// sha256 over the names and digests of all files that count, hex.
    pub digest: String,
}

impl Manifest {
    /// Reads a folder. Fails with [`Kind::ModelIncompatible`] when there is no graph in it.
    pub fn read(located: &Located, model: &RegisteredModel) -> Result<Self> {
        let folder = located.folder.clone();
        let config = json(&folder.join("config.json"))?;
        let preprocessor = json(&folder.join("preprocessor_config.json"))?;
        let file = model.file.clone().or_else(|| located.file.clone());
        let tokenizer = match &model.tokenizer {
            Some(path) => Some(PathBuf::from(path.strip_prefix("file://").unwrap_or(path))),
            None => Some(folder.join("tokenizer.json")).filter(|p| p.is_file()),
        };
        let (layout, graphs) = arrange(&folder, &config, &preprocessor, file.as_deref(), tokenizer.is_some(), model)?;
        for graph in &graphs {
            if !folder.join(graph).is_file() {
                return Err(Error::new(Kind::ModelIncompatible, format!("model \"{}\" has no file {graph}", model.name))
                    .detail(format!("It was looked for in {}.", folder.display())));
            }
        }
        let labels = match &model.labels {
            Some(text) => given_labels(text)?,
            None => config_labels(&config, &folder),
        };
        let dims = dims(&folder, &config, layout);
        let files = counted(&folder, &graphs, tokenizer.as_deref());
        let bytes = files.iter().filter(|(n, _)| n.contains(".onnx")).map(|(_, p)| size(p)).sum();
        let digest = digest(&files, model, graphs.len())?;
        Ok(Self { folder, layout, graphs, config, preprocessor, labels, dims, tokenizer, bytes, digest })
    }

    /// Fails with [`Kind::ModelIncompatible`] when a model of this layout cannot do the task.
    pub fn require(&self, task: Task, name: &str) -> Result<()> {
        if self.layout.tasks().contains(&task) {
            return Ok(());
        }
        let can = self.layout.tasks().iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
        Err(Error::new(Kind::ModelIncompatible, format!("model \"{name}\" cannot be used by {task}"))
            .detail(format!("The model is {}.", self.layout.text()))
            .hint(format!("It can be used by {can}.")))
    }

    /// The path of a graph: 0 = the only one, the text tower or the encoder; 1 = the vision tower or the decoder.
    pub fn graph(&self, number: usize) -> Result<PathBuf> {
        let name = self.graphs.get(number).ok_or_else(|| Error::internal("a model lacks a graph"))?;
        Ok(self.folder.join(name))
    }

    /// A JSON file of the folder; null when it is not there.
    pub fn json(&self, name: &str) -> Result<Value> {
        json(&self.folder.join(name))
    }
}

fn json(path: &Path) -> Result<Value> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(Error::io(path.display(), error)),
    };
    serde_json::from_str(&text)
        .map_err(|e| Error::new(Kind::ModelIncompatible, "a configuration file of the model is not JSON").detail(format!("{}: {e}.", path.display())))
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map(|m| m.len()).unwrap_or(0)
}

fn arrange(
    folder: &Path,
    config: &Value,
    preprocessor: &Value,
    file: Option<&str>,
    tokenizer: bool,
    model: &RegisteredModel,
) -> Result<(Layout, Vec<String>)> {
    let first = |names: &[&str]| names.iter().find(|n| folder.join(n).is_file()).map(|n| (*n).to_owned());
    let pair = |a: &str, b: &str| {
        let find = |stem: &str| first(&[&format!("onnx/{stem}.onnx"), &format!("{stem}.onnx")]);
        Some(vec![find(a)?, find(b)?])
    };
    if file.is_none() {
        if let Some(graphs) = pair("encoder_model", "decoder_model_merged") {
            return Ok((Layout::Whisper, graphs));
        }
        if let Some(graphs) = pair("text_model", "vision_model") {
            return Ok((Layout::TwoTowers, graphs));
        }
    }
    let graph = file.map(str::to_owned).or_else(|| first(&["onnx/model.onnx", "model.onnx"])).or_else(|| only_graph(folder)).ok_or_else(|| {
        Error::new(Kind::ModelIncompatible, format!("model \"{}\" has no ONNX file", model.name))
            .detail(format!("It was looked for in {}.", folder.display()))
    })?;
    let kind = config["model_type"].as_str().unwrap_or("").to_ascii_lowercase();
    let head = config["architectures"][0].as_str().unwrap_or("");
    let detects = config["task"] == "detect" || head.ends_with("ForObjectDetection") || model.task == Some(Task::Detect);
    let layout = if kind.starts_with("yolo") && kind != "yolos" || detects && head.is_empty() {
        Layout::Yolo
    } else if detects {
        Layout::Detr
    } else if head.ends_with("ForImageClassification") || model.task == Some(Task::ClassifyImage) {
        Layout::Classifier
    } else if head.ends_with("ForSequenceClassification") || model.task == Some(Task::Rerank) {
        Layout::CrossEncoder
    } else if !preprocessor.is_null() || model.task == Some(Task::EmbedImage) {
        Layout::ImageEncoder
    } else if tokenizer && (folder.join("modules.json").is_file() || head.ends_with("Model") || model.task == Some(Task::EmbedText)) {
        Layout::TextEncoder
    } else {
        Layout::Plain
    };
    Ok((layout, vec![graph]))
}

fn only_graph(folder: &Path) -> Option<String> {
    let list = |below: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder.join(below)).ok();
        let names = entries.into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.filter(|n| n.ends_with(".onnx")).map(|n| format!("{below}{n}")).collect()
    };
    let mut all = list("");
    all.extend(list("onnx/"));
    if all.len() == 1 { all.pop() } else { None }
}

fn config_labels(config: &Value, folder: &Path) -> Vec<String> {
    let Some(map) = config["id2label"].as_object() else {
        return std::fs::read_to_string(folder.join("labels.txt")).map(|t| t.lines().map(str::to_owned).collect()).unwrap_or_default();
    };
    let mut labels: Vec<(usize, String)> = map.iter().filter_map(|(k, v)| Some((k.parse().ok()?, v.as_str()?.to_owned()))).collect();
    labels.sort();
    // A gap in the numbers would shift every later label: fill it with the number.
    let count = labels.last().map_or(0, |(n, _)| n + 1).min(1_000_000);
    let mut out: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    for (number, label) in labels {
        if let Some(slot) = out.get_mut(number) {
            *slot = label;
        }
    }
    out
}

fn given_labels(text: &str) -> Result<Vec<String>> {
    let path = Path::new(text.strip_prefix("file://").unwrap_or(text));
    if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path.display(), e))?;
        return Ok(text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect());
    }
    if text.contains('/') && !text.contains(',') {
        return Err(Error::invalid_argument(format!("the file of labels {text} does not exist")));
    }
    Ok(text.split(',').map(|l| l.trim().to_owned()).collect())
}

fn dims(folder: &Path, config: &Value, layout: Layout) -> Option<usize> {
    let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
    match layout {
        Layout::TwoTowers => number(&config["projection_dim"]).or_else(|| number(&config["text_config"]["hidden_size"])),
        Layout::TextEncoder => json(&folder.join("1_Pooling/config.json"))
            .ok()
            .and_then(|pooling| number(&pooling["word_embedding_dimension"]))
            .or_else(|| number(&config["hidden_size"]))
            .or_else(|| number(&config["d_model"])),
        Layout::ImageEncoder => number(&config["hidden_size"]).or_else(|| config["hidden_sizes"].as_array().and_then(|a| number(a.last()?))),
        _ => None,
    }
}

/// Every file whose bytes can change a result: (name, path), sorted by name.
fn counted(folder: &Path, graphs: &[String], tokenizer: Option<&Path>) -> Vec<(String, PathBuf)> {
    let mut out: Vec<(String, PathBuf)> = Vec::new();
    for graph in graphs {
        for end in ["", "_data", ".data"] {
            out.push((format!("{graph}{end}"), folder.join(format!("{graph}{end}"))));
        }
    }
    let names = [
        "config.json",
        "preprocessor_config.json",
        "generation_config.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "tokenizer_config.json",
        "labels.txt",
    ];
    out.extend(names.iter().map(|n| ((*n).to_owned(), folder.join(n))));
    out.extend(tokenizer.map(|p| ("tokenizer.json".to_owned(), p.to_path_buf())));
    out.retain(|(_, path)| path.is_file());
    out.sort();
    out
}

fn digest(files: &[(String, PathBuf)], model: &RegisteredModel, graphs: usize) -> Result<String> {
    let mut all = Sha256::new();
    let mut single = String::new();
    for (name, path) in files {
        let digest = file_digest(path, model.sha256.is_none())?;
        if name.ends_with(".onnx") {
            single.clone_from(&digest);
        }
        all.update(format!("{name} {digest}\n"));
    }
    // What the registration overrides changes answers as much as a file does.
    all.update(format!("labels {:?}\n", model.labels));
    let digest = hex::encode(all.finalize());
    match &model.sha256 {
        Some(pinned) if !pinned.eq_ignore_ascii_case(&digest) && (graphs != 1 || !pinned.eq_ignore_ascii_case(&single)) => {
            Err(Error::new(Kind::ModelIncompatible, format!("the files of model \"{}\" are not those it was registered with", model.name))
                .detail(format!("Expected sha256 {pinned}; the files have {digest}.")))
        }
        _ => Ok(digest),
    }
}

type Stamp = (u64, Option<SystemTime>);

/// The sha256 of a file. A hub cache names its blobs by it, which is taken for true unless a digest is pinned; other files
/// are read once per process and change of stamp.
fn file_digest(path: &Path, trust_name: bool) -> Result<String> {
    static KNOWN: Mutex<Option<HashMap<PathBuf, (Stamp, String)>>> = Mutex::new(None);
    let real = path.canonicalize().map_err(|e| Error::io(path.display(), e))?;
    let in_blobs = real.parent().and_then(Path::file_name).is_some_and(|n| n == "blobs");
    if let Some(name) = real.file_name().and_then(|n| n.to_str()).filter(|n| trust_name && in_blobs && n.len() == 64) {
        return Ok(name.to_owned());
    }
    let meta = std::fs::metadata(&real).map_err(|e| Error::io(path.display(), e))?;
    let stamp = (meta.len(), meta.modified().ok());
    if let Some((known, digest)) = KNOWN.lock().as_ref().and_then(|m| m.get(&real))
        && *known == stamp
    {
        return Ok(digest.clone());
    }
    let mut file = std::fs::File::open(&real).map_err(|e| Error::io(path.display(), e))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(|e| Error::io(path.display(), e))?;
    let digest = hex::encode(hasher.finalize());
    KNOWN.lock().get_or_insert_default().insert(real, (stamp, digest.clone()));
    Ok(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn tiny(name: &str, change: impl FnOnce(&mut RegisteredModel)) -> Result<Manifest> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny").join(name);
        let mut model = RegisteredModel::from_source(name);
        change(&mut model);
        Manifest::read(&Located { folder, file: None }, &model)
    }

    #[test]
    fn layouts_are_recognised() {
        let layout = |name: &str| tiny(name, |_| ()).unwrap().layout;
        assert_eq!(layout("resnet-shapes"), Layout::Classifier);
        assert_eq!(layout("yolo-shapes"), Layout::Yolo);
        assert_eq!(layout("yolos-random"), Layout::Detr);
        assert_eq!(layout("clip-random"), Layout::TwoTowers);
        assert_eq!(layout("whisper-commands"), Layout::Whisper);
    }

    #[test]
    fn facts_are_read_and_the_digest_is_pinned() {
        let clip = tiny("clip-random", |_| ()).unwrap();
        assert_eq!(clip.dims, Some(32));
        let resnet = tiny("resnet-shapes", |_| ()).unwrap();
        assert_eq!(resnet.labels[9], "gradient");
        assert!(tiny("resnet-shapes", |m| m.sha256 = Some(resnet.digest.clone())).is_ok());
        assert_eq!(tiny("resnet-shapes", |m| m.sha256 = Some("0".repeat(64))).unwrap_err().sqlstate(), "SQ002");
        let other = tiny("resnet-shapes", |m| m.labels = Some("a, b".into())).unwrap();
        assert_eq!(other.labels, ["a", "b"]);
        assert_ne!(other.digest, resnet.digest);
        let error = resnet.require(Task::Detect, "r").unwrap_err();
        assert_eq!(error.sqlstate(), "SQ002");
        assert!(error.hint.unwrap().contains("classify_image"));
        assert!(tiny("resnet-shapes", |m| m.file = Some("none.onnx".into())).is_err());
    }
}
