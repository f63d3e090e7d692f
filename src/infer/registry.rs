//! Names of models: those that users registered and those built in.
//!
//! In: what CREATE MODEL said, or a name in a query. Out: a [`RegisteredModel`], which says where to find it.
//! Invariant: a registered name hides a built-in one of the same spelling.
//! Deliberately absent: persistence (the catalog stores [`RegisteredModel`] as JSON) and looking at any file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result, did_you_mean};

/// What a model is used for; spelt like the SQL function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Text to vector.
    EmbedText,
    /// Image to vector.
    EmbedImage,
    /// Image to labels.
    ClassifyImage,
    /// Image to boxes.
    Detect,
    /// Speech to text.
    Transcribe,
    /// Numbers or tensors to numbers or tensors.
    Predict,
    /// A pair of texts to a score.
    Rerank,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 7] = [Task::EmbedText, Task::EmbedImage, Task::ClassifyImage, Task::Detect, Task::Transcribe, Task::Predict, Task::Rerank];

    /// The name in SQL: 'embed_text', ...
    pub const fn name(self) -> &'static str {
        match self {
            Task::EmbedText => "embed_text",
            Task::EmbedImage => "embed_image",
            Task::ClassifyImage => "classify_image",
            Task::Detect => "detect",
            Task::Transcribe => "transcribe",
            Task::Predict => "predict",
            Task::Rerank => "rerank",
        }
    }

    /// The inverse of [`Task::name`].
    pub fn parse(name: &str) -> Result<Self> {
        let name = name.trim().to_ascii_lowercase();
        Task::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| {
            let names = Task::ALL.map(Task::name);
            let error = Error::invalid_argument(format!("unknown model task \"{name}\""));
            match did_you_mean(&name, names) {
                Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
                None => error.hint(format!("Tasks are {}.", names.join(", "))),
            }
        })
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model by name. Everything but `name` and `source` is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisteredModel {
    /// The name in SQL.
    pub name: String,
    /// The task it was registered for; `None` = any that its files fit.
    pub task: Option<Task>,
    /// `org/name[@revision]`, `file:///folder-or-file`, a path, `https://...`, `s3://...`.
    pub source: String,
    /// Only 'onnx' exists today.
    pub format: Option<String>,
    /// The ONNX file inside the source, where there are several; e.g. `onnx/model_int8.onnx`.
    pub file: Option<String>,
    /// sha256 (hex) that the model's digest, or its single ONNX file, must have.
    pub sha256: Option<String>,
    /// 'auto', 'cpu' or 'cuda:N'.
    pub device: Option<String>,
    /// Items of one run at most.
    pub max_batch: Option<usize>,
    /// Sessions that work in parallel.
    pub instances: Option<usize>,
    /// A tokenizer.json outside the source.
    pub tokenizer: Option<String>,
    /// A file with one label per line, or the labels themselves separated by commas.
    pub labels: Option<String>,
    /// Free text.
    pub comment: Option<String>,
}

impl RegisteredModel {
    /// A model named by its source alone.
    pub fn from_source(source: &str) -> Self {
        Self { name: source.to_owned(), source: source.to_owned(), ..Self::default() }
    }

    /// Refuses what no model can have.
    pub fn check(&self) -> Result<()> {
        if self.name.is_empty() {
            return Err(Error::invalid_argument("a model needs a name"));
        }
        if self.source.is_empty() {
            return Err(Error::invalid_argument(format!("the model \"{}\" needs a source", self.name)));
        }
        if let Some(format) = self.format.as_deref().filter(|f| !f.eq_ignore_ascii_case("onnx")) {
            return Err(Error::unsupported(format!("the model format \"{format}\" is not supported")).hint("The format is 'onnx'."));
        }
        if let Some(device) = &self.device {
            crate::device::Wish::parse(device)?;
        }
        if self.max_batch == Some(0) || self.instances == Some(0) {
            return Err(Error::invalid_argument("max_batch and instances must be at least 1"));
        }
        if let Some(sha) = self.sha256.as_deref().filter(|s| s.len() != 64 || hex::decode(s).is_err()) {
            return Err(Error::invalid_argument(format!("\"{sha}\" is not a sha256 in hexadecimal")));
        }
        Ok(())
    }
}

/// The built-in names: (name, source, file, task).
const BUILT_IN: [(&str, &str, Option<&str>, Task); 6] = [
    ("minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2", Some("onnx/model.onnx"), Task::EmbedText),
    ("minilm-l6-v2-int8", "sentence-transformers/all-MiniLM-L6-v2", Some("onnx/model_int8.onnx"), Task::EmbedText),
    ("whisper-tiny", "onnx-community/whisper-tiny", None, Task::Transcribe),
    ("resnet18", "Xenova/resnet-18", None, Task::ClassifyImage),
    ("yolo11n", "https://github.com/ultralytics/assets/releases/download/v8.3.0/yolo11n.onnx", None, Task::Detect),
    ("clip-vit-b32", "Xenova/clip-vit-base-patch32", None, Task::EmbedImage),
];

/// The models known by name.
#[derive(Debug, Default)]
pub struct Registry {
    models: RwLock<BTreeMap<String, RegisteredModel>>,
    changes: AtomicU64,
}

impl Registry {
    /// Adds a model; fails when the name is taken and `replace` is not set.
    pub fn add(&self, model: RegisteredModel, replace: bool) -> Result<()> {
        model.check()?;
        let mut models = self.models.write();
        if !replace && models.contains_key(&model.name) {
            return Err(Error::new(Kind::DuplicateObject, format!("model \"{}\" already exists", model.name)));
        }
        models.insert(model.name.clone(), model);
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Removes a model; fails when it is not registered.
    pub fn remove(&self, name: &str) -> Result<RegisteredModel> {
        self.changes.fetch_add(1, Ordering::Release);
        self.models.write().remove(name).ok_or_else(|| Error::new(Kind::ModelUnknown, format!("model \"{name}\" does not exist")))
    }

    /// A number that is another one after every change.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The registered models by name, then the built-in ones that no registered name hides.
    pub fn list(&self) -> Vec<RegisteredModel> {
        let models = self.models.read();
        let mut all: Vec<RegisteredModel> = models.values().cloned().collect();
        all.extend(built_in().filter(|m| !models.contains_key(&m.name)));
        all
    }

    /// The model of this name: registered, or built in.
    pub fn get(&self, name: &str) -> Option<RegisteredModel> {
        if let Some(model) = self.models.read().get(name) {
            return Some(model.clone());
        }
        built_in().find(|m| m.name == name)
    }
}

fn built_in() -> impl Iterator<Item = RegisteredModel> {
    BUILT_IN.into_iter().map(|(name, source, file, task)| RegisteredModel {
        name: name.to_owned(),
        task: Some(task),
        source: source.to_owned(),
        file: file.map(str::to_owned),
        ..RegisteredModel::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_registered_name_hides_a_built_in_one() {
        let registry = Registry::default();
        assert_eq!(registry.get("resnet18").unwrap().task, Some(Task::ClassifyImage));
        let mine = RegisteredModel { name: "resnet18".into(), source: "/tmp/x".into(), ..Default::default() };
        registry.add(mine.clone(), false).unwrap();
        assert_eq!(registry.add(mine.clone(), false).unwrap_err().sqlstate(), "42710");
        assert_eq!(registry.get("resnet18").unwrap(), mine);
        assert_eq!(registry.list().iter().filter(|m| m.name == "resnet18").count(), 1);
        registry.remove("resnet18").unwrap();
        assert!(registry.remove("resnet18").is_err());
    }

    #[test]
    fn options_are_checked_and_survive_json() {
        let model = RegisteredModel { name: "m".into(), source: "a/b".into(), task: Some(Task::Detect), max_batch: Some(4), ..Default::default() };
        let text = serde_json::to_string(&model).unwrap();
        assert!(text.contains("\"detect\""));
        assert_eq!(serde_json::from_str::<RegisteredModel>(&text).unwrap(), model);
        assert!(RegisteredModel { max_batch: Some(0), ..model.clone() }.check().is_err());
        assert!(RegisteredModel { format: Some("gguf".into()), ..model.clone() }.check().is_err());
        assert!(RegisteredModel { sha256: Some("12".into()), ..model }.check().is_err());
        assert!(Task::parse("embed_txt").unwrap_err().hint.unwrap().contains("embed_text"));
    }
}
