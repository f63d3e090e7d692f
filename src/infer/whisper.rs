//! Whisper on a device: packs of 30-second windows in, token sequences out.
//!
//! In: spectrograms with the wished language and task. Out: tokens, their mean log probability, the probability of no
//! speech, and the language. Greedy decoding with a key/value cache, the suppression lists of generation_config.json and
//! OpenAI's timestamp rules. Invariant: rows of a pack do not influence each other.
//! Deliberately absent: beam search, temperature fallback, conditioning on earlier windows (windows are independent so
//! that windows of many files share packs), word times.

use std::collections::HashMap;
use std::sync::Arc;

use ort::value::DynValue;
use serde_json::Value;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::Tensor;

use crate::batcher::{PackLimits, Size, Worker};
use crate::device::Device;
use crate::manifest::Manifest;
use crate::mel::MelSpec;
use crate::session::{Feed, Onnx, OpenOptions, tensor};
use crate::text::named;
use crate::tokens;

/// What is done with speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SpeechTask {
    /// Written down in its own language.
    #[default]
    Transcribe,
    /// Written down in English.
    Translate,
}

/// One window.
#[derive(Clone, Debug)]
pub struct SpeechItem {
    /// `bins * frames` values.
    pub mel: Vec<f32>,
    /// Language token such as `<|en|>`; `None` = detect.
    pub language: Option<u32>,
    /// See [`SpeechTask`].
    pub task: SpeechTask,
    /// Whether to predict times.
    pub timestamps: bool,
}

impl SpeechItem {
    /// Its size for the batcher: prompts of one pack have one length.
    pub fn size(&self) -> Size {
        let bytes = u32::try_from(self.mel.len() * size_of::<f32>()).unwrap_or(u32::MAX);
        Size { key: u64::from(self.timestamps) | u64::from(self.language.is_none()) << 1, length: 1, bytes }
    }
}

/// What was heard in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeechTokens {
    /// Text and time tokens, without prompt and end mark.
    pub tokens: Vec<u32>,
    /// Mean log probability of the tokens and the end mark.
    pub avg_logprob: f32,
    /// Probability that nobody speaks.
    pub no_speech_prob: f32,
    /// The language token; `None` for models of one language.
    pub language: Option<u32>,
}

/// The vocabulary's special tokens and generation rules.
#[derive(Clone, Debug)]
pub struct SpeechRules {
    /// Start of transcript.
    pub start: u32,
    /// End of text.
    pub end: u32,
    /// `<|notimestamps|>`.
    pub no_times: Option<u32>,
    /// `<|0.00|>`; later times follow in steps of 0.02 s.
    pub first_time: u32,
    /// `<|nospeech|>`.
    pub no_speech: Option<u32>,
    /// Language code ('en') to token.
    pub languages: HashMap<String, u32>,
    /// `<|transcribe|>` and `<|translate|>`.
    pub tasks: (Option<u32>, Option<u32>),
    suppress: Vec<u32>,
    suppress_first: Vec<u32>,
    initial_time_max: u32,
    positions: usize,
}

impl SpeechRules {
    /// Reads generation_config.json and tokenizer.json.
    pub fn read(manifest: &Manifest, tokenizer: &tokenizers::Tokenizer) -> Result<Self> {
        let generation = manifest.json("generation_config.json")?;
        let pick = |key: &str| if generation[key].is_null() { &manifest.config[key] } else { &generation[key] };
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let list = |key: &str| pick(key).as_array().map(|a| a.iter().filter_map(id).collect()).unwrap_or_default();
        let token = |text: &str| tokenizer.token_to_id(text);
        let lacks = |what: &str| Error::new(Kind::ModelIncompatible, format!("the speech model has no {what} token"));
        let no_times = id(&generation["no_timestamps_token_id"]).or_else(|| token("<|notimestamps|>"));
        let mut languages: HashMap<String, u32> = HashMap::new();
        for (name, number) in generation["lang_to_id"].as_object().into_iter().flatten() {
            let code = name.trim_start_matches("<|").trim_end_matches("|>").to_owned();
            languages.extend(id(number).map(|n| (code, n)));
        }
        let task = |name: &str, text: &str| id(&generation["task_to_id"][name]).or_else(|| token(text));
        Ok(Self {
            start: id(pick("decoder_start_token_id")).or_else(|| token("<|startoftranscript|>")).ok_or_else(|| lacks("start"))?,
            end: id(pick("eos_token_id")).or_else(|| token("<|endoftext|>")).ok_or_else(|| lacks("end"))?,
            first_time: token("<|0.00|>").or_else(|| no_times.map(|n| n + 1)).ok_or_else(|| lacks("time"))?,
            no_times,
            no_speech: token("<|nospeech|>").or_else(|| token("<|nocaptions|>")),
            tasks: if languages.is_empty() { (None, None) } else { (task("transcribe", "<|transcribe|>"), task("translate", "<|translate|>")) },
            languages,
            suppress: list("suppress_tokens"),
            suppress_first: list("begin_suppress_tokens"),
            initial_time_max: id(&generation["max_initial_timestamp_index"]).unwrap_or(50),
            positions: pick("max_length").as_u64().or(manifest.config["max_target_positions"].as_u64()).unwrap_or(448) as usize,
        })
    }

    /// The token of a language: 'en', 'EN' or '<|en|>'.
    pub fn language(&self, code: &str) -> Result<Option<u32>> {
        let code = plain(code);
        if self.languages.is_empty() && code == "en" {
            return Ok(None);
        }
        self.languages.get(&code).copied().map(Some).ok_or_else(|| unknown_language(&code, self.languages.keys().map(String::as_str).collect()))
    }

    /// The code of a language token.
    pub fn language_code(&self, token: Option<u32>) -> Option<String> {
        token.and_then(|t| self.languages.iter().find(|(_, id)| **id == t).map(|(code, _)| code.clone()))
    }

    /// Forbids what Whisper's rules forbid after `said`.
    fn mask(&self, logits: &mut [f32], said: &[u32], timestamps: bool) {
        fn forbid(logits: &mut [f32], tokens: impl Iterator<Item = u32>) {
            tokens.for_each(|t| {
                if let Some(v) = logits.get_mut(t as usize) {
                    *v = f32::NEG_INFINITY
                }
            });
        }
        forbid(logits, self.suppress.iter().copied());
        if said.is_empty() {
            forbid(logits, self.suppress_first.iter().copied());
        }
        if !timestamps {
            return;
        }
        let all = logits.len() as u32;
        forbid(logits, self.no_times.into_iter());
        let is_time = |t: &u32| *t >= self.first_time;
        let last = said.last().is_some_and(is_time);
        let before = said.len() < 2 || said.get(said.len() - 2).is_some_and(is_time);
        if last && before {
            forbid(logits, self.first_time..all);
        } else if last {
            forbid(logits, 0..self.end);
        }
        if let Some(time) = said.iter().rev().find(|t| is_time(t)) {
            // Times do not run backwards, and a segment is not empty.
            let least = if last && !before { *time } else { *time + 1 };
            forbid(logits, self.first_time..least);
        }
        if said.is_empty() {
            forbid(logits, 0..self.first_time);
            forbid(logits, self.first_time + self.initial_time_max + 1..all);
        }
        // Where the times together are likelier than any word, a time it is.
        let split = (self.first_time as usize).min(logits.len());
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let times = logits[split..].iter().map(|v| (v - max).exp()).sum::<f32>().ln() + max;
        let word = logits[..split].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if times > word {
            forbid(logits, 0..self.first_time);
        }
    }
}

/// 'en' of 'EN' or '<|en|>'.
fn plain(code: &str) -> String {
    code.trim().trim_start_matches("<|").trim_end_matches("|>").to_ascii_lowercase()
}

fn unknown_language(code: &str, mut known: Vec<&str>) -> Error {
    known.sort_unstable();
    Error::invalid_argument(format!("the model does not know the language \"{code}\""))
        .hint(format!("It knows {}.", if known.is_empty() { "en".to_owned() } else { known.join(", ") }))
}

/// Fails with 22023 when the model's files list languages and not this one. Loads no graph and no tokenizer.
pub fn check_language(manifest: &Manifest, code: &str) -> Result<()> {
    let generation = manifest.json("generation_config.json")?;
    let Some(listed) = generation["lang_to_id"].as_object().filter(|l| !l.is_empty()) else { return Ok(()) };
    let known: Vec<String> = listed.keys().map(|name| plain(name)).collect();
    let code = plain(code);
    if known.contains(&code) { Ok(()) } else { Err(unknown_language(&code, known.iter().map(String::as_str).collect())) }
}

/// Encoder and decoder on one device.
pub struct WhisperWorker {
    encoder: Onnx,
    decoder: Onnx,
    rules: Arc<SpeechRules>,
    mel: MelSpec,
    /// Names below `past_key_values.` with heads and head size.
    cache: Vec<(String, usize, usize)>,
    limits: PackLimits,
}

struct Row {
    prompt: Vec<i64>,
    said: Vec<u32>,
    done: bool,
    sum: f32,
    no_speech: f32,
    language: Option<u32>,
}

impl WhisperWorker {
    /// Opens both graphs.
    pub fn open(manifest: &Manifest, options: &OpenOptions, max_batch: Option<usize>) -> Result<Self> {
        let encoder = Onnx::open(&manifest.graph(0)?, options)?;
        // A step of the decoder reads all weights for a few positions: memory is what it waits for, and threads that wait for each
        // other cost more than they save.
        let fewer = OpenOptions { threads: (options.threads / 2).max(1), ..options.clone() };
        let decoder = Onnx::open(&manifest.graph(1)?, &fewer)?;
        let path = manifest.tokenizer.as_deref().ok_or_else(|| Error::new(Kind::ModelIncompatible, "the speech model has no tokenizer.json"))?;
        let rules = Arc::new(SpeechRules::read(manifest, &tokens::open(path)?)?);
        let number = |key: &str| manifest.config[key].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let heads = number("decoder_attention_heads");
        let width = number("d_model");
        let mut cache = Vec::new();
        for port in &decoder.inputs {
            if let Some(name) = port.name.strip_prefix("past_key_values.") {
                let fixed = |i: usize| port.shape.get(i).and_then(|n| usize::try_from(*n).ok()).filter(|n| *n > 0);
                let heads = fixed(1).or(heads).unwrap_or(1);
                let size = fixed(3).or(width.map(|w| w / heads)).unwrap_or(64);
                cache.push((name.to_owned(), heads, size));
            }
        }
        if cache.is_empty() || !decoder.has_input("use_cache_branch") {
            return Err(Error::new(Kind::ModelIncompatible, "the decoder is not a merged decoder with a key/value cache"));
        }
        // On a processor two windows at a time are nearly as fast as many, and attention over 1,500 places takes 54 MB a window.
        let items = max_batch.unwrap_or(if encoder.device == Device::Cpu { 2 } else { 64 });
        let mel = MelSpec::read(&manifest.preprocessor);
        Ok(Self { encoder, decoder, rules, mel, cache, limits: PackLimits { items, padded: usize::MAX } })
    }

    /// On a processor one window after the other: a batch saves no time there and takes the memory of all its windows.
    fn encode(&mut self, items: &[&SpeechItem]) -> Result<DynValue> {
        if self.encoder.device != Device::Cpu || items.len() < 2 {
            return self.encode_together(items);
        }
        let (mut shape, mut data) = (Vec::new(), Vec::new());
        for item in items {
            let hidden = tensor("hidden states", &self.encode_together(std::slice::from_ref(item))?)?;
            shape = hidden.shape;
            data.extend(hidden.data);
        }
        if let Some(count) = shape.first_mut() {
            *count = items.len();
        }
        self.decoder.value("encoder_hidden_states", Feed::F32(shape, data))
    }

    fn encode_together(&mut self, items: &[&SpeechItem]) -> Result<DynValue> {
        let (bins, frames) = (self.mel.bins, self.mel.frames());
        let data: Vec<f32> = items.iter().flat_map(|i| i.mel.iter().copied()).collect();
        let shape = vec![items.len(), bins, frames];
        let mut outputs = self.encoder.run(vec![("input_features", Feed::F32(shape, data))])?;
        let name = outputs.keys().next().map(str::to_owned).unwrap_or_default();
        outputs.remove(&name).ok_or_else(|| Error::new(Kind::ModelIncompatible, "the encoder gives no output"))
    }

    /// One step: logits of all new positions, and the cache brought up to date.
    fn step(&mut self, ids: Vec<i64>, count: usize, hidden: &DynValue, past: &mut HashMap<String, DynValue>) -> Result<Tensor> {
        let first = past.is_empty();
        let length = ids.len() / count.max(1);
        let names: Vec<String> = self.cache.iter().map(|(name, ..)| format!("past_key_values.{name}")).collect();
        let mut feeds = vec![("input_ids", Feed::I64(vec![count, length], ids))];
        if self.decoder.has_input("encoder_hidden_states") {
            feeds.push(("encoder_hidden_states", Feed::Kept(hidden)));
        }
        if self.decoder.has_input("encoder_attention_mask") {
            let frames = hidden.dtype().tensor_shape().and_then(|s| s.get(1).copied()).and_then(|n| usize::try_from(n).ok()).unwrap_or(1500);
            feeds.push(("encoder_attention_mask", Feed::I64(vec![count, frames], vec![1; count * frames])));
        }
        feeds.push(("use_cache_branch", Feed::I64(vec![1], vec![i64::from(!first)])));
        for ((name, heads, size), full) in self.cache.iter().zip(&names) {
            let value = match past.get(name) {
                Some(value) => Feed::Kept(value),
                None => Feed::F32(vec![count, *heads, 0, *size], Vec::new()),
            };
            feeds.push((full, value));
        }
        let mut outputs = self.decoder.run(feeds)?;
        let logits = named(&outputs, "logits")?;
        for (name, ..) in &self.cache {
            // The encoder's part never changes after the first step, and the cached branch gives it empty.
            if first || name.contains("decoder") {
                let value = outputs.remove(format!("present.{name}"));
                let value = value.ok_or_else(|| Error::new(Kind::ModelIncompatible, format!("the decoder gives no present.{name}")))?;
                past.insert(name.clone(), value);
            }
        }
        Ok(logits)
    }

    fn prompt(&self, item: &SpeechItem, language: Option<u32>) -> Vec<i64> {
        let task = match item.task {
            SpeechTask::Transcribe => self.rules.tasks.0,
            SpeechTask::Translate => self.rules.tasks.1,
        };
        let no_times = self.rules.no_times.filter(|_| !item.timestamps);
        [Some(self.rules.start), language, task, no_times].into_iter().flatten().map(i64::from).collect()
    }

    fn detect_languages(&mut self, hidden: &DynValue, count: usize) -> Result<Vec<Option<u32>>> {
        let logits = self.step(vec![i64::from(self.rules.start); count], count, hidden, &mut HashMap::new())?;
        let vocabulary = logits.shape.last().copied().unwrap_or(1).max(1);
        let best = |row: &[f32]| {
            let score = |id: &u32| row.get(*id as usize).copied().unwrap_or(f32::NEG_INFINITY);
            self.rules.languages.values().copied().max_by(|a, b| score(a).total_cmp(&score(b)).then(b.cmp(a)))
        };
        Ok(logits.data.chunks_exact(vocabulary).map(best).collect())
    }

    fn decode(&mut self, items: &[&SpeechItem], hidden: &DynValue, mut rows: Vec<Row>) -> Result<Vec<Row>> {
        let rules = Arc::clone(&self.rules);
        let count = items.len();
        let longest = rows.first().map_or(0, |r| r.prompt.len());
        // Half of the positions is what OpenAI allows a window.
        let steps = (rules.positions / 2).min(rules.positions.saturating_sub(longest + 1));
        let mut past = HashMap::new();
        let mut ids: Vec<i64> = rows.iter().flat_map(|r| r.prompt.iter().copied()).collect();
        for step in 0..steps {
            let mut logits = self.step(std::mem::take(&mut ids), count, hidden, &mut past)?;
            let [batch, length, vocabulary] = logits.shape[..] else {
                return Err(Error::new(Kind::ModelIncompatible, format!("the decoder gave logits of shape {:?}", logits.shape)));
            };
            if batch != count || length == 0 || vocabulary == 0 {
                return Err(Error::new(Kind::ModelIncompatible, format!("the decoder gave logits of shape {:?}", logits.shape)));
            }
            for (i, (row, item)) in rows.iter_mut().zip(items).enumerate() {
                let at = |position: usize| (i * length + position) * vocabulary;
                if step == 0 {
                    let first = &logits.data[at(0)..][..vocabulary];
                    row.no_speech = rules.no_speech.map_or(0.0, |t| log_probability(first, t).exp());
                }
                if !row.done {
                    let last = &mut logits.data[at(length - 1)..][..vocabulary];
                    rules.mask(last, &row.said, item.timestamps);
                    let token = argmax(last);
                    row.sum += log_probability(last, token);
                    row.done = token == rules.end;
                    if !row.done {
                        row.said.push(token);
                    }
                }
                ids.push(i64::from(if row.done { rules.end } else { row.said.last().copied().unwrap_or(rules.end) }));
            }
            if rows.iter().all(|r| r.done) {
                break;
            }
        }
        Ok(rows)
    }
}

impl Worker for WhisperWorker {
    type Item = SpeechItem;
    type Out = SpeechTokens;

    fn limits(&self) -> PackLimits {
        self.limits
    }

    fn device(&self) -> Device {
        self.encoder.device
    }

    fn run(&mut self, items: &[&SpeechItem]) -> Result<Vec<SpeechTokens>> {
        let size = self.mel.bins * self.mel.frames();
        if items.iter().any(|i| i.mel.len() != size) {
            return Err(Error::internal("a spectrogram of the wrong size"));
        }
        let hidden = self.encode(items)?;
        let unknown = items.iter().any(|i| i.language.is_none()) && !self.rules.languages.is_empty();
        let heard = if unknown { self.detect_languages(&hidden, items.len())? } else { vec![None; items.len()] };
        let rows = items
            .iter()
            .zip(heard)
            .map(|(item, heard)| {
                let language = item.language.or(heard);
                let prompt = self.prompt(item, language);
                Row { prompt, said: Vec::new(), done: false, sum: 0.0, no_speech: 0.0, language }
            })
            .collect();
        let rows = self.decode(items, &hidden, rows)?;
        Ok(rows
            .into_iter()
            .map(|row| SpeechTokens {
                avg_logprob: row.sum / (row.said.len() + 1) as f32,
                tokens: row.said,
                no_speech_prob: row.no_speech,
                language: row.language,
            })
            .collect())
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0usize, f32::NEG_INFINITY);
    logits.iter().enumerate().for_each(|(i, v)| {
        if *v > best.1 {
            best = (i, *v)
        }
    });
    best.0 as u32
}

fn log_probability(logits: &[f32], token: u32) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // What is e^-25 of the largest adds nothing that a float of 32 bits would show.
    let sum = logits.iter().map(|v| v - max).filter(|v| *v > -25.0).map(f32::exp).sum::<f32>().ln();
    logits.get(token as usize).map_or(f32::NEG_INFINITY, |v| v - max - sum)
}
