//! The model service: names to models, and one async call per task.
//!
//! In: names at plan time, values at run time. Out: one result per value, in order; `Err` of a call concerns the system.
//! Invariants: [`Models::resolve`] raises for an unknown model, missing files or a task that the files do not fit,
//! before any row is run; preparing (tokens, pixels, spectrograms) runs on the caller's thread, only graphs run on the
//! model's thread; results do not depend on how rows were packed (int8 graphs with dynamic scales excepted: there the
//! scale is the pack's). Deliberately absent: SQL, caching of results, retries.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, FuturesOrdered, StreamExt};
use parking_lot::Mutex;
use squilla_core::cores::Cores;
use squilla_core::counters::Caller;
use squilla_core::error::{Error, Kind, Result, did_you_mean};
use squilla_core::values::Tensor;

use crate::batcher::{Batcher, Size};
use crate::engines::{Engine, EngineOptions, Engines, Use};
use crate::hub::{Hub, HubOptions, Source};
use crate::manifest::{Layout, Manifest};
use crate::predict::{PredictItem, arrange};
use crate::registry::{RegisteredModel, Registry, Task};
use crate::speech::{self, SpeechOptions, Transcript};
use crate::stats::ModelStats;
use crate::text::{TextItem, normalise};
use crate::whisper::SpeechItem;

/// A model that a query may use: found, understood, not yet loaded.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The name that was asked for.
    pub name: String,
    /// What it is used for.
    pub task: Task,
    /// sha256 of its files, hex: part of plans, cache keys and provenance.
    pub digest: String,
    /// Length of its vectors, when its files say it.
    pub dims: Option<usize>,
    /// Its files.
    pub manifest: Arc<Manifest>,
    /// How it was registered.
    pub model: Arc<RegisteredModel>,
}

/// What is wished of an embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedOptions {
    /// 'query' or 'document', for models with a prompt for each.
    pub kind: Option<String>,
    /// Scale to length 1.
    pub normalize: bool,
    /// Keep the first so many numbers (models trained for it).
    pub dims: Option<usize>,
    /// Cut texts that are too long; otherwise they are row errors.
    pub truncate: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { kind: None, normalize: true, dims: None, truncate: true }
    }
}

/// Scores by label, best first.
pub type Scores = Vec<(String, f32)>;

struct Inner {
    registry: Registry,
    hub: Hub,
    engines: Engines,
    labels: Mutex<LabelVectors>,
    resolved: Mutex<HashMap<(Task, String), Found>>,
}

/// Vectors by model digest and label.
type LabelVectors = HashMap<(String, String), Arc<Vec<f32>>>;

/// A model found a moment ago: packs of one query do not read its files again and again.
struct Found {
    at: Instant,
    changes: u64,
    resolved: Resolved,
}

/// How long files are taken to be what they were.
const FOUND_FOR: Duration = Duration::from_secs(5);

/// The model service of a process. Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>, Caller);

/// What a model says of one text.
type Values = Result<Vec<f32>>;

/// Texts that are cut into tokens before the model gets them.
const TEXTS: usize = 16;

/// Windows of one recording in memory at one time.
const WINDOWS: usize = 8;

impl Models {
    /// A service with no model loaded.
    pub fn new(hub: HubOptions, engines: EngineOptions) -> Self {
        Self(
            Arc::new(Inner {
                registry: Registry::default(),
                hub: Hub::new(hub),
                engines: Engines::new(engines),
                labels: Mutex::default(),
                resolved: Mutex::default(),
            }),
            Caller::default(),
        )
    }

    /// The same service for the calls of one caller: callers share devices fairly, and each has its cost counted.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self(Arc::clone(&self.0), caller)
    }

    /// Whose calls these are.
    pub(crate) fn caller(&self) -> &Caller {
        &self.1
    }

    /// `count` items of the caller take the results of equal ones.
    pub fn shared(&self, count: usize) {
        self.1.counters.shared(count);
    }

    /// The budget of cores that models on the processor share with decoders.
    pub fn cores(&self) -> &Arc<Cores> {
        self.0.engines.cores()
    }

    /// Work of the processor between two waits, within the budget of cores and without holding up other tasks of a
    /// runtime's thread.
    pub(crate) async fn prepare<T>(&self, work: impl FnOnce() -> T) -> T {
        let _permit = self.cores().acquire(1).await;
        tokio::task::block_in_place(work)
    }

    /// The registered models.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Counters of every model used since the start.
    pub fn stats(&self) -> Vec<ModelStats> {
        self.0.engines.stats()
    }

    /// Takes a model out of memory; running calls end first. How many engines went.
    pub fn unload(&self, model: Option<&Resolved>) -> usize {
        self.0.engines.unload(model.map(|m| m.digest.as_str()))
    }

    /// Finds a model and checks that its files fit the task. `name` is a registered or built-in name, `org/name[@rev]`,
    /// a path or a URL. Blocking: reads small files, and downloads what is missing unless downloads are switched off.
    pub fn resolve(&self, task: Task, name: &str) -> Result<Resolved> {
        let (key, changes) = ((task, name.to_owned()), self.0.registry.changes());
        if let Some(found) = self.0.resolved.lock().get(&key).filter(|f| f.changes == changes && f.at.elapsed() < FOUND_FOR) {
            return Ok(found.resolved.clone());
        }
        let (model, manifest) = self.describe(name, task)?;
        manifest.require(task, name)?;
        let resolved = Resolved {
            name: name.to_owned(),
            task,
            digest: manifest.digest.clone(),
            dims: manifest.dims,
            manifest: Arc::new(manifest),
            model: Arc::new(model),
        };
        let mut all = self.0.resolved.lock();
        if all.len() >= 256 {
            all.clear();
        }
        all.insert(key, Found { at: Instant::now(), changes, resolved: resolved.clone() });
        Ok(resolved)
    }

    /// The digest of a model whose files were read a while ago.
    pub fn digest(&self, name: &str) -> Option<String> {
        let model = self.0.registry.get(name)?;
        let resolved = self.0.resolved.lock();
        resolved.values().map(|found| &found.resolved).find(|r| r.name == name && *r.model == model).map(|r| r.digest.clone())
    }

    /// What the files of a model are, whatever it is used for.
    pub fn describe(&self, name: &str, task: Task) -> Result<(RegisteredModel, Manifest)> {
        let mut model = self.find(name)?;
        let located = self.0.hub.locate(name, &Source::parse(&model.source), model.file.as_deref())?;
        if model.task.is_none() {
            // A bare graph fits what it is used for.
            model.task = Some(task).filter(|_| located.file.is_some());
        }
        let manifest = Manifest::read(&located, &model)?;
        Ok((model, manifest))
    }

    /// Downloads a model into the cache, even if it is there. Returns its folder. Blocking.
    pub fn pull(&self, name: &str) -> Result<PathBuf> {
        let model = self.find(name)?;
        Ok(self.0.hub.pull(name, &Source::parse(&model.source), model.file.as_deref())?.folder)
    }

    /// Finds a model for [`Models::token_count`]: any whose files hold a tokenizer. Blocking, as [`Models::resolve`].
    pub fn resolve_tokenizer(&self, name: &str) -> Result<Resolved> {
        let (model, manifest) = self.describe(name, Task::EmbedText)?;
        let task = manifest.layout.tasks().first().copied().unwrap_or(Task::EmbedText);
        if manifest.tokenizer.is_none() {
            return Err(Error::new(Kind::ModelIncompatible, format!("model \"{name}\" has no tokenizer")));
        }
        let (digest, dims) = (manifest.digest.clone(), manifest.dims);
        Ok(Resolved { name: name.to_owned(), task, digest, dims, manifest: Arc::new(manifest), model: Arc::new(model) })
    }

    /// Loads a model before the first row needs it.
    pub async fn warm(&self, model: &Resolved) -> Result<()> {
        self.engine(model, use_of(model)).await.map(|_| ())
    }

    fn find(&self, name: &str) -> Result<RegisteredModel> {
        if let Some(model) = self.0.registry.get(name) {
            return Ok(model);
        }
        if name.trim().is_empty() {
            return Err(Error::new(Kind::ModelUnknown, "no model is named"));
        }
        if !matches!(Source::parse(name), Source::Name(_)) {
            return Ok(RegisteredModel::from_source(name));
        }
        let known: Vec<String> = self.0.registry.list().into_iter().map(|m| m.name).chain(self.0.hub.repositories()).collect();
        let error = Error::new(Kind::ModelUnknown, format!("model \"{name}\" does not exist"));
        Err(match did_you_mean(name, known.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error.hint("Name a registered model (CREATE MODEL), org/name of the hub, or a path."),
        })
    }

    pub(crate) async fn engine(&self, model: &Resolved, purpose: Use) -> Result<Arc<Engine>> {
        self.0.engines.get(&model.model, &model.manifest, purpose, model.task).await
    }

    /// One vector per text.
    pub async fn embed_text(&self, model: &Resolved, texts: &[&str], options: &EmbedOptions) -> Result<Vec<Result<Vec<f32>>>> {
        let tokenizer = self.0.engines.tokenizer(&model.manifest)?;
        let kind = options.kind.as_deref();
        let encode = |text: &&str| {
            let ids = tokenizer.encode(&tokenizer.prompted(text, kind), options.truncate)?;
            Ok(TextItem { ids, types: Vec::new() })
        };
        let vectors = self.run_text(model, texts, encode).await?;
        Ok(vectors.into_iter().map(|v| finish(v?, options)).collect())
    }

    /// One score from 0 to 1 (or the raw score of models with several outputs) per pair.
    pub async fn rerank(&self, model: &Resolved, pairs: &[(&str, &str)]) -> Result<Vec<Result<f32>>> {
        let tokenizer = self.0.engines.tokenizer(&model.manifest)?;
        let encode = |(query, text): &(&str, &str)| {
            let (ids, types) = tokenizer.encode_pair(query, text)?;
            Ok(TextItem { ids, types })
        };
        let scores = self.run_text(model, pairs, encode).await?;
        Ok(scores
            .into_iter()
            .map(|s| match s?.as_slice() {
                [one] => Ok(1.0 / (1.0 + (-one).exp())),
                many => many.last().copied().ok_or_else(|| Error::internal("a pair has no score")),
            })
            .collect())
    }

    /// Tokens of each text, special ones included, as the model counts them. Loads no graph.
    pub fn token_count(&self, model: &Resolved, texts: &[&str]) -> Result<Vec<Result<usize>>> {
        let tokenizer = self.0.engines.tokenizer(&model.manifest)?;
        Ok(texts.iter().map(|t| tokenizer.count(t)).collect())
    }

    /// Tokens are made a few texts at a time, so that a model begins with the first ones while others are still cut up.
    async fn run_text<T>(&self, model: &Resolved, texts: &[T], encode: impl Fn(&T) -> Result<TextItem>) -> Result<Vec<Result<Vec<f32>>>> {
        let engine = self.engine(model, Use::Text).await?;
        let Engine::Text(batcher) = engine.as_ref() else { return Err(wrong_engine()) };
        let mut calls: FuturesOrdered<BoxFuture<'_, Result<Vec<Values>>>> = FuturesOrdered::new();
        let mut out = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(TEXTS) {
            let tokens: Vec<Result<TextItem>> = self.prepare(|| chunk.iter().map(&encode).collect()).await;
            calls.push_back(Box::pin(run_each(batcher, self.caller(), tokens, TextItem::size)));
            // Looks at those before, so that their items are in the queue while the next texts are cut up.
            while let Poll::Ready(Some(done)) = futures::poll!(calls.next()) {
                out.extend(done?);
            }
        }
        while let Some(done) = calls.next().await {
            out.extend(done?);
        }
        Ok(out)
    }

    /// Vectors of "This is a photo of LABEL.", each computed once per model.
    pub(crate) async fn label_vectors(&self, model: &Resolved, labels: &[String]) -> Result<Vec<Arc<Vec<f32>>>> {
        let key = |label: &String| (model.digest.clone(), label.clone());
        let missing: Vec<&String> = {
            let known = self.0.labels.lock();
            labels.iter().filter(|l| !known.contains_key(&key(l))).collect()
        };
        let prompts: Vec<String> = missing.iter().map(|l| format!("This is a photo of {l}.")).collect();
        let texts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let vectors = self.embed_text(model, &texts, &EmbedOptions::default()).await?;
        let mut found = HashMap::new();
        for (label, vector) in missing.into_iter().zip(vectors) {
            found.insert(key(label), Arc::new(vector?));
        }
        let mut known = self.0.labels.lock();
        let of = |label: &String| known.get(&key(label)).or_else(|| found.get(&key(label))).cloned();
        let out: Option<Vec<_>> = labels.iter().map(of).collect();
        if known.len() > 10_000 {
            known.clear();
        }
        known.extend(found);
        out.ok_or_else(|| Error::internal("a label has no vector"))
    }

    /// What is said in each audio (16 kHz, mono, -1.0 to 1.0). Windows of all audios share packs.
    pub async fn transcribe(&self, model: &Resolved, audios: &[&[f32]], options: &SpeechOptions) -> Result<Vec<Result<Transcript>>> {
        let engine = self.engine(model, Use::Speech).await?;
        let Engine::Speech { rules, .. } = engine.as_ref() else { return Err(wrong_engine()) };
        let language = options.language.as_deref().map(|code| rules.language(code)).transpose()?.flatten();
        // Boxed and collected: a lazy closure over borrowed samples would make this future unfit for other threads.
        let mut calls: Vec<BoxFuture<'_, Result<Transcript>>> = Vec::with_capacity(audios.len());
        for samples in audios {
            calls.push(Box::pin(self.transcribe_one(&engine, samples, language, options)));
        }
        let mut done = stream::iter(calls).buffered(32);
        let mut out = Vec::with_capacity(audios.len());
        while let Some(transcript) = done.next().await {
            match transcript {
                Err(error) if !error.is_row_error() => return Err(error),
                row => out.push(row),
            }
        }
        Ok(out)
    }

    async fn transcribe_one(&self, engine: &Engine, samples: &[f32], language: Option<u32>, options: &SpeechOptions) -> Result<Transcript> {
        let Engine::Speech { batcher, mel, rules, tokenizer } = engine else { return Err(wrong_engine()) };
        let rate = mel.spec().rate;
        let windows = speech::windows(samples, mel.spec().samples, rate);
        let heard = stream::iter(windows.into_iter().map(|window| async move {
            let mel = self.prepare(|| mel.spectrogram(&samples[window.clone()])).await?;
            let item = SpeechItem { mel, language, task: options.task, timestamps: options.timestamps };
            let size = item.size();
            let tokens =
                batcher.run(self.caller(), vec![(item, size)]).await?.pop().unwrap_or_else(|| Err(Error::internal("a window has no result")))?;
            let seconds = |n: usize| n as f64 / f64::from(rate);
            speech::segments(&tokens, rules, tokenizer, seconds(window.start), seconds(window.len()))
        }));
        let mut heard = heard.buffered(WINDOWS);
        let mut segments = Vec::new();
        while let Some(window) = heard.next().await {
            segments.extend(window?);
        }
        Ok(speech::transcript(segments))
    }

    /// The first output of a plain graph for each row of numbers, flattened.
    pub async fn predict_rows(&self, model: &Resolved, rows: &[Vec<f32>]) -> Result<Vec<Result<Vec<f32>>>> {
        let engine = self.engine(model, Use::Plain).await?;
        let Engine::Plain { ports, .. } = engine.as_ref() else { return Err(wrong_engine()) };
        let items = rows.iter().map(|row| arrange(row, ports)).collect();
        let outputs = run_plain(&engine, self.caller(), items).await?;
        Ok(outputs.into_iter().map(|o| Ok(first(&o?)?.data.clone())).collect())
    }

    /// Every tensor output of a plain graph for each row; a row is a tensor for each input, without batch dimension.
    pub async fn predict(&self, model: &Resolved, rows: Vec<Vec<Tensor>>) -> Result<Vec<Result<Vec<Tensor>>>> {
        let engine = self.engine(model, Use::Plain).await?;
        run_plain(&engine, self.caller(), rows.into_iter().map(|inputs| Ok(PredictItem { inputs })).collect()).await
    }
}

pub(crate) fn use_of(model: &Resolved) -> Use {
    match model.task {
        Task::EmbedText | Task::Rerank => Use::Text,
        Task::ClassifyImage if model.manifest.layout == Layout::TwoTowers => Use::Vision(Task::EmbedImage),
        task @ (Task::EmbedImage | Task::ClassifyImage | Task::Detect) => Use::Vision(task),
        Task::Transcribe => Use::Speech,
        Task::Predict => Use::Plain,
    }
}

pub(crate) fn wrong_engine() -> Error {
    Error::internal("a model was loaded for another use")
}

pub(crate) fn first(tensors: &[Tensor]) -> Result<&Tensor> {
    tensors.first().ok_or_else(|| Error::internal("a model gave no output"))
}

pub(crate) fn finish(mut vector: Vec<f32>, options: &EmbedOptions) -> Result<Vec<f32>> {
    if let Some(dims) = options.dims {
        if dims == 0 || dims > vector.len() {
            return Err(Error::invalid_argument(format!("dims must be between 1 and {}", vector.len())));
        }
        vector.truncate(dims);
    }
    if options.normalize {
        normalise(&mut vector);
    }
    Ok(vector)
}

async fn run_plain(engine: &Engine, caller: &Caller, rows: Vec<Result<PredictItem>>) -> Result<Vec<Result<Vec<Tensor>>>> {
    let Engine::Plain { batcher, .. } = engine else { return Err(wrong_engine()) };
    run_each(batcher, caller, rows, PredictItem::size).await
}

/// Runs those rows that could be prepared; the others keep their errors.
pub(crate) async fn run_each<I: Send + 'static, O: Send + 'static>(
    batcher: &Batcher<I, O>,
    caller: &Caller,
    rows: Vec<Result<I>>,
    size: impl Fn(&I) -> Size,
) -> Result<Vec<Result<O>>> {
    let (mut items, mut failed) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows {
        failed.push(row.map(|item| {
            let size = size(&item);
            items.push((item, size));
        }));
    }
    let mut results = batcher.run(caller, items).await?.into_iter();
    let lost = || Err(Error::internal("a row has no result"));
    Ok(failed.into_iter().map(|row| row.and_then(|()| results.next().unwrap_or_else(lost))).collect())
}
