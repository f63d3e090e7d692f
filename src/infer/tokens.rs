//! Text to token numbers, as a model's tokenizer.json says.
//!
//! In: texts. Out: token numbers with the special tokens, cut at the model's limit, unpadded.
//! Deliberately absent: padding, which depends on the pack (see `text.rs`).

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use squilla_core::error::{Error, Kind, Result};
use tokenizers::{Tokenizer, TruncationParams};

use crate::manifest::{Layout, Manifest};

/// A tokenizer and what its model's files say about its use.
pub struct TextTokenizer {
    whole: Tokenizer,
    cut: Tokenizer,
    /// Longest input in tokens, special ones included.
    pub max_tokens: usize,
    lower: bool,
    prompts: HashMap<String, String>,
}

/// Reads a tokenizer.json without its own padding and truncation.
pub fn open(path: &Path) -> Result<Tokenizer> {
    let fail =
        |e: String| Error::new(Kind::ModelIncompatible, "the tokenizer of the model cannot be loaded").detail(format!("{}: {e}.", path.display()));
    let mut tokenizer = Tokenizer::from_file(path).map_err(|e| fail(e.to_string()))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| fail(e.to_string()))?;
    Ok(tokenizer)
}

impl TextTokenizer {
    /// The tokenizer of a model. [`Kind::ModelIncompatible`] when it has none.
    pub fn open(manifest: &Manifest) -> Result<Self> {
        let path = manifest.tokenizer.as_deref().ok_or_else(|| {
            Error::new(Kind::ModelIncompatible, "the model has no tokenizer.json")
                .detail(format!("It was looked for in {}.", manifest.folder.display()))
        })?;
        let whole = open(path)?;
        let sentence = manifest.json("sentence_bert_config.json")?;
        let max_tokens = max_tokens(manifest, &sentence)?;
        let mut cut = whole.clone();
        cut.with_truncation(Some(TruncationParams { max_length: max_tokens, ..TruncationParams::default() }))
            .map_err(|e| Error::new(Kind::ModelIncompatible, format!("the tokenizer of the model cannot be used: {e}")))?;
        let prompts = manifest.json("config_sentence_transformers.json")?["prompts"]
            .as_object()
            .map(|m| m.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect())
            .unwrap_or_default();
        Ok(Self { whole, cut, max_tokens, lower: sentence["do_lower_case"] == true, prompts })
    }

    /// The text with what the model wants before it: `kind` is 'query' or 'document'.
    pub fn prompted(&self, text: &str, kind: Option<&str>) -> String {
        let prompt = kind
            .and_then(|k| self.prompts.get(k).or_else(|| self.prompts.get(if k == "document" { "passage" } else { k })))
            .map_or("", String::as_str);
        if self.lower { format!("{prompt}{}", text.to_lowercase()) } else { format!("{prompt}{text}") }
    }

    /// Token numbers of a text, cut at the limit; without `truncate` a longer text is an error.
    pub fn encode(&self, text: &str, truncate: bool) -> Result<Vec<u32>> {
        let tokenizer = if truncate { &self.cut } else { &self.whole };
        let encoding = tokenizer.encode_fast(text, true).map_err(refused)?;
        let ids = encoding.get_ids().to_vec();
        if ids.len() > self.max_tokens {
            return Err(Error::invalid_argument(format!("the text has {} tokens, the model takes {}", ids.len(), self.max_tokens))
                .hint("Cut the text into chunks, or pass truncate => true."));
        }
        Ok(ids)
    }

    /// Token numbers and segment numbers of a pair of texts, the longer one cut at the limit.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = self.cut.encode((first, second), true).map_err(refused)?;
        Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()))
    }

    /// Tokens of a text, special ones included, however long it is.
    pub fn count(&self, text: &str) -> Result<usize> {
        Ok(self.whole.encode_fast(text, true).map_err(refused)?.len())
    }
}

fn refused(error: tokenizers::Error) -> Error {
    Error::invalid_argument("the tokenizer refused the text").detail(format!("{error}."))
}

fn max_tokens(manifest: &Manifest, sentence: &Value) -> Result<usize> {
    let config = &manifest.config;
    let number = |v: &Value| v.as_f64().filter(|n| (2.0..1e6).contains(n)).map(|n| n as usize);
    if manifest.layout == Layout::TwoTowers {
        let text = &config["text_config"]["max_position_embeddings"];
        return Ok(number(text).unwrap_or(77));
    }
    // RoBERTa and its kin count positions from the padding number on.
    let offset = if config["model_type"].as_str().is_some_and(|t| t.contains("roberta")) { 2 } else { 0 };
    let positions = number(&config["max_position_embeddings"]).map(|n| n - offset);
    let tokenizer = manifest.json("tokenizer_config.json")?;
    let wanted = number(&sentence["max_seq_length"]).or_else(|| number(&tokenizer["model_max_length"]));
    Ok(match (wanted, positions) {
        (Some(a), Some(b)) => a.min(b),
        (Some(n), None) | (None, Some(n)) => n,
        (None, None) => 512,
    })
}
