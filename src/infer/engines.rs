//! Loaded models: one per model, use and device in the process, loaded once, evicted by bytes.
//!
//! In: a resolved model and what it is used as. Out: an engine, shared by every query that uses it.
//! Invariants: concurrent first users wait for one load; an engine that is in use is never torn down under its users;
//! idle engines go, oldest use first, when the bytes bound is passed.
//! Deliberately absent: pre- and post-processing (see `models.rs` and the task files).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use squilla_core::cores::Cores;
use squilla_core::error::{Error, Result};
use squilla_core::values::Tensor;
use tokenizers::Tokenizer;
use tokio::sync::OnceCell;

use crate::batcher::{Batcher, Service};
use crate::device::{Device, Wish};
use crate::manifest::{Layout, Manifest};
use crate::mel::{Mel, MelSpec};
use crate::pixels::{ImageItem, PixelSpec};
use crate::predict::{PredictItem, PredictWorker};
use crate::registry::{RegisteredModel, Task};
use crate::runtime::{self, RuntimeOptions};
use crate::session::{OpenOptions, Port};
use crate::stats::{Counters, ModelStats};
use crate::text::{TextItem, TextWorker};
use crate::tokens::{self, TextTokenizer};
use crate::vision::{GraphFacts, VisionWorker};
use crate::whisper::{SpeechItem, SpeechRules, SpeechTokens, WhisperWorker};

/// Bytes of all copies of one model's weights on the processor; beyond it, sessions have several threads.
const COPIES_BYTES_MAX: u64 = 256 << 20;

/// Sessions of one model on the processor.
const SESSIONS_MAX: usize = 16;

/// What a model is loaded as; one model may be loaded as several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Its text graph.
    Text,
    /// Its vision graph, for this task.
    Vision(Task),
    /// Encoder and decoder.
    Speech,
    /// Its graph as it is.
    Plain,
}

/// A loaded model.
pub enum Engine {
    /// See [`Use::Text`].
    Text(Batcher<TextItem, Vec<f32>>),
    /// See [`Use::Vision`].
    Vision {
        /// The queue.
        batcher: Batcher<ImageItem, Vec<Tensor>>,
        /// How images are prepared.
        spec: PixelSpec,
        /// Labels by class number; may be empty.
        labels: Vec<String>,
    },
    /// See [`Use::Speech`].
    Speech {
        /// The queue.
        batcher: Batcher<SpeechItem, SpeechTokens>,
        /// How samples are prepared.
        mel: Mel,
        /// Special tokens and rules.
        rules: SpeechRules,
        /// Tokens to text.
        tokenizer: Box<Tokenizer>,
    },
    /// See [`Use::Plain`].
    Plain {
        /// The queue.
        batcher: Batcher<PredictItem, Vec<Tensor>>,
        /// The graph's inputs.
        ports: Vec<Port>,
    },
}

/// How engines are loaded and how many bytes of them are kept.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where ONNX Runtime is.
    pub runtime: RuntimeOptions,
    /// Device of models that do not name one: 'auto', 'cpu', 'cuda:N'.
    pub device: String,
    /// The cores that models on the processor share with decoders.
    pub cores: Arc<Cores>,
    /// Bytes of models kept in memory; idle ones beyond it go.
    pub resident_bytes_max: u64,
    /// Bytes of items waiting in one model's queue: a quarter of it on a processor, eight times as many on a GPU.
    pub queue_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            runtime: RuntimeOptions::default(),
            device: "auto".to_owned(),
            cores: Cores::new(std::thread::available_parallelism().map_or(1, usize::from)),
            resident_bytes_max: 8 << 30,
            queue_bytes_max: 64 << 20,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    digest: String,
    purpose: Use,
    device: String,
    max_batch: Option<usize>,
    instances: Option<usize>,
}

#[derive(Default)]
struct Slot {
    cell: OnceCell<Arc<Engine>>,
    used: AtomicU64,
    bytes: u64,
}

struct Known {
    name: String,
    task: String,
    device: String,
    bytes: u64,
    counters: Arc<Counters>,
}

/// All loaded models of the process.
pub struct Engines {
    options: EngineOptions,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    known: Mutex<HashMap<Key, Known>>,
    tokenizers: Mutex<HashMap<String, Arc<TextTokenizer>>>,
    clock: AtomicU64,
}

impl Engines {
    /// No model loaded yet.
    pub fn new(options: EngineOptions) -> Self {
        Self { options, slots: Mutex::default(), known: Mutex::default(), tokenizers: Mutex::default(), clock: AtomicU64::new(1) }
    }

    /// See [`EngineOptions::cores`].
    pub fn cores(&self) -> &Arc<Cores> {
        &self.options.cores
    }

    /// The tokenizer of a model; loads no graph.
    pub fn tokenizer(&self, manifest: &Manifest) -> Result<Arc<TextTokenizer>> {
        if let Some(tokenizer) = self.tokenizers.lock().get(&manifest.digest) {
            return Ok(Arc::clone(tokenizer));
        }
        let tokenizer = Arc::new(TextTokenizer::open(manifest)?);
        let mut all = self.tokenizers.lock();
        if all.len() >= 64 {
            all.clear();
        }
        all.insert(manifest.digest.clone(), Arc::clone(&tokenizer));
        Ok(tokenizer)
    }

    /// The engine of a model for a use, loaded if need be.
    pub async fn get(&self, model: &RegisteredModel, manifest: &Arc<Manifest>, purpose: Use, task: Task) -> Result<Arc<Engine>> {
        let key = Key {
            digest: manifest.digest.clone(),
            purpose,
            device: model.device.clone().unwrap_or_else(|| self.options.device.clone()),
            max_batch: model.max_batch,
            instances: model.instances,
        };
        let slot = {
            let mut slots = self.slots.lock();
            let bytes = manifest.bytes;
            Arc::clone(slots.entry(key.clone()).or_insert_with(|| Arc::new(Slot { bytes, ..Slot::default() })))
        };
        slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let engine = slot.cell.get_or_try_init(|| self.load(model, manifest, &key, task)).await?;
        let engine = Arc::clone(engine);
        self.evict(&key);
        Ok(engine)
    }

    /// Counters of every model that was loaded since the start, by name.
    pub fn stats(&self) -> Vec<ModelStats> {
        let slots = self.slots.lock();
        let loaded = |key: &Key| slots.get(key).is_some_and(|s| s.cell.initialized());
        let mut all: Vec<ModelStats> = self
            .known
            .lock()
            .iter()
            .map(|(key, known)| ModelStats {
                name: known.name.clone(),
                task: known.task.clone(),
                digest: key.digest.clone(),
                device: known.device.clone(),
                bytes: known.bytes,
                loaded: loaded(key),
                ..known.counters.read()
            })
            .collect();
        all.sort_by(|a, b| (&a.name, &a.task).cmp(&(&b.name, &b.task)));
        all
    }

    /// Forgets the engines of a model (by digest, or all); those in use end with their last user. How many went.
    pub fn unload(&self, digest: Option<&str>) -> usize {
        let mut slots = self.slots.lock();
        let before = slots.len();
        slots.retain(|key, _| digest.is_some_and(|d| key.digest != d));
        before - slots.len()
    }

    fn evict(&self, keep: &Key) {
        let mut slots = self.slots.lock();
        let loaded = |s: &Slot| s.cell.initialized();
        let mut total: u64 = slots.values().filter(|s| loaded(s)).map(|s| s.bytes).sum();
        while total > self.options.resident_bytes_max {
            let idle = slots
                .iter()
                .filter(|(key, slot)| *key != keep && slot.cell.get().is_some_and(|e| Arc::strong_count(e) == 1))
                .min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed))
                .map(|(key, slot)| (key.clone(), slot.bytes));
            let Some((key, bytes)) = idle else { return };
            tracing::info!(digest = %key.digest, bytes, "a model is evicted from memory");
            slots.remove(&key);
            total = total.saturating_sub(bytes);
        }
    }

    async fn load(&self, model: &RegisteredModel, manifest: &Arc<Manifest>, key: &Key, task: Task) -> Result<Arc<Engine>> {
        let started = std::time::Instant::now();
        let wish = Wish::parse(&key.device)?;
        let environment = runtime::environment(&self.options.runtime)?;
        let on_cpu = wish == Wish::Exactly(Device::Cpu) || (wish == Wish::Auto && !runtime::has_cuda_provider());
        // On the processor one thread a session wastes nothing on waiting for its brothers, so a model gets as many
        // sessions as there are cores, as long as the copies of its weights stay within bounds.
        let threads = self.options.cores.total();
        let copies = usize::try_from(COPIES_BYTES_MAX / manifest.bytes.max(1)).unwrap_or(usize::MAX);
        let side_by_side = if on_cpu { threads.min(copies).clamp(1, SESSIONS_MAX) } else { 1 };
        let instances = key.instances.unwrap_or(side_by_side).max(1);
        let threads = (threads / instances).max(1);
        // A decoder's cache is larger at each step: an arena would keep a block of every size that there was.
        let open = OpenOptions { environment, wish, threads, arena: key.purpose != Use::Speech };
        let counters = {
            let mut known = self.known.lock();
            let entry = known.entry(key.clone()).or_insert_with(|| Known {
                name: model.name.clone(),
                task: task.name().to_owned(),
                device: key.device.clone(),
                bytes: manifest.bytes,
                counters: Arc::default(),
            });
            Arc::clone(&entry.counters)
        };
        let cores = on_cpu.then(|| (Arc::clone(&self.options.cores), threads));
        // A processor takes a few items at a time, a GPU hundreds.
        let queue_bytes = if on_cpu { self.options.queue_bytes_max / 4 } else { self.options.queue_bytes_max * 8 };
        let service = Service { instances, queue_bytes, cores, counters };
        let plan = Plan { name: model.name.clone(), service, open, max_batch: key.max_batch };
        let engine = match key.purpose {
            Use::Text => Engine::Text(plan.text(manifest).await?),
            Use::Vision(task) => plan.vision(manifest, task).await?,
            Use::Speech => plan.speech(manifest).await?,
            Use::Plain => plan.plain(manifest).await?,
        };
        tracing::info!(model = model.name, task = %task, ms = started.elapsed().as_millis() as u64, "a model is loaded");
        Ok(Arc::new(engine))
    }
}

/// One load.
struct Plan {
    name: String,
    service: Service,
    open: OpenOptions,
    max_batch: Option<usize>,
}

impl Plan {
    async fn text(self, manifest: &Arc<Manifest>) -> Result<Batcher<TextItem, Vec<f32>>> {
        let (manifest, open, max) = (Arc::clone(manifest), self.open, self.max_batch);
        let load = move || TextWorker::open(&manifest, &open, max);
        Batcher::start(&self.name, self.service, load).await
    }

    async fn vision(self, manifest: &Arc<Manifest>, task: Task) -> Result<Engine> {
        let facts = Arc::new(OnceLock::<GraphFacts>::new());
        let (inner, owned, open, max) = (Arc::clone(&facts), Arc::clone(manifest), self.open, self.max_batch);
        let load = move || VisionWorker::open(&owned, task, &open, max, &inner);
        let batcher = Batcher::start(&self.name, self.service, load).await?;
        let facts = facts.get().cloned().unwrap_or_default();
        let letterbox = manifest.layout == Layout::Yolo && manifest.preprocessor.is_null();
        let spec = PixelSpec::read(&manifest.preprocessor, facts.size, letterbox);
        let labels = if manifest.labels.is_empty() { facts.labels } else { manifest.labels.clone() };
        Ok(Engine::Vision { batcher, spec, labels })
    }

    async fn speech(self, manifest: &Arc<Manifest>) -> Result<Engine> {
        let path = manifest.tokenizer.as_deref();
        let path = path.ok_or_else(|| Error::new(squilla_core::error::Kind::ModelIncompatible, "the speech model has no tokenizer.json"))?;
        let tokenizer = Box::new(tokens::open(path)?);
        let rules = SpeechRules::read(manifest, &tokenizer)?;
        let (owned, open, max) = (Arc::clone(manifest), self.open, self.max_batch);
        let load = move || WhisperWorker::open(&owned, &open, max);
        let batcher = Batcher::start(&self.name, self.service, load).await?;
        Ok(Engine::Speech { batcher, mel: Mel::new(MelSpec::read(&manifest.preprocessor)), rules, tokenizer })
    }

    async fn plain(self, manifest: &Arc<Manifest>) -> Result<Engine> {
        let ports = Arc::new(OnceLock::new());
        let (inner, owned, open, max) = (Arc::clone(&ports), Arc::clone(manifest), self.open, self.max_batch);
        let load = move || PredictWorker::open(&owned, &open, max, &inner);
        let batcher = Batcher::start(&self.name, self.service, load).await?;
        Ok(Engine::Plain { batcher, ports: ports.get().cloned().unwrap_or_default() })
    }
}
