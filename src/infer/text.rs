//! Text encoders on a device: packs of token numbers in, one vector per text out.
//!
//! In: token numbers. Out: the pooled vector, not yet normalised.
//! Invariants: padding is masked out of pooling; a pack's rows have near lengths (the batcher's work), so little is padded.
//! Deliberately absent: tokenizing, normalising and shortening, which run on the caller's side.

use ort::session::SessionOutputs;
use serde_json::Value;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::Tensor;

use crate::batcher::{PackLimits, Size, Worker};
use crate::device::Device;
use crate::manifest::{Layout, Manifest};
use crate::session::{Feed, Onnx, OpenOptions, tensor};

/// One text, tokenized.
#[derive(Clone, Debug)]
pub struct TextItem {
    /// Token numbers.
    pub ids: Vec<u32>,
    /// Segment numbers of a pair; empty for a single text.
    pub types: Vec<u32>,
}

impl TextItem {
    /// Its size for the batcher.
    pub fn size(&self) -> Size {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Size { key: 0, length: count(self.ids.len()), bytes: count((self.ids.len() + self.types.len()) * size_of::<u32>()) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooling {
    Mean,
    MeanRoot,
    Cls,
    Max,
    Last,
    /// The graph gives a vector itself.
    Done,
}

/// A text encoder or pair scorer on one device.
pub struct TextWorker {
    onnx: Onnx,
    output: String,
    pooling: Pooling,
    pad: i64,
    limits: PackLimits,
}

impl TextWorker {
    /// Opens the text graph of a model.
    pub fn open(manifest: &Manifest, options: &OpenOptions, max_batch: Option<usize>) -> Result<Self> {
        let onnx = Onnx::open(&manifest.graph(0)?, options)?;
        if !onnx.has_input("input_ids") {
            return Err(Error::new(Kind::ModelIncompatible, "the graph has no input named input_ids"));
        }
        let vectors = ["sentence_embedding", "text_embeds", "pooled_embedding"];
        let (output, pooling) = match Onnx::find(&onnx.outputs, &vectors) {
            Some(port) => (port.name.clone(), Pooling::Done),
            None if manifest.layout == Layout::CrossEncoder => {
                let port = Onnx::find(&onnx.outputs, &["logits"]).or(onnx.outputs.first());
                (port.map(|p| p.name.clone()).unwrap_or_default(), Pooling::Done)
            }
            None => {
                let port = Onnx::find(&onnx.outputs, &["last_hidden_state", "token_embeddings"]).or(onnx.outputs.first());
                (port.map(|p| p.name.clone()).unwrap_or_default(), pooling(&manifest.json("1_Pooling/config.json")?))
            }
        };
        let items = max_batch.unwrap_or(if onnx.device == Device::Cpu { 32 } else { 256 });
        // On a processor, more than 512 tokens no longer fit its caches: two texts of 256 tokens at a time take a fifth less
        // time than 16 (benches/pipelines).
        let padded = if onnx.device == Device::Cpu { 512 } else { 65_536 };
        let pad = pad_id(manifest)?;
        Ok(Self { onnx, output, pooling, pad, limits: PackLimits { items, padded } })
    }
}

impl Worker for TextWorker {
    type Item = TextItem;
    type Out = Vec<f32>;

    fn limits(&self) -> PackLimits {
        self.limits
    }

    fn device(&self) -> Device {
        self.onnx.device
    }

    fn run(&mut self, items: &[&TextItem]) -> Result<Vec<Vec<f32>>> {
        let (count, length) = (items.len(), items.iter().map(|i| i.ids.len()).max().unwrap_or(0).max(1));
        let mut ids = vec![self.pad; count * length];
        let mut mask = vec![0i64; count * length];
        let mut types = vec![0i64; count * length];
        for (row, item) in items.iter().enumerate() {
            for (column, id) in item.ids.iter().enumerate() {
                ids[row * length + column] = i64::from(*id);
                mask[row * length + column] = 1;
            }
            for (column, segment) in item.types.iter().enumerate() {
                types[row * length + column] = i64::from(*segment);
            }
        }
        let shape = vec![count, length];
        let mut feeds = vec![("input_ids", Feed::I64(shape.clone(), ids))];
        if self.onnx.has_input("attention_mask") {
            feeds.push(("attention_mask", Feed::I64(shape.clone(), mask.clone())));
        }
        if self.onnx.has_input("token_type_ids") {
            feeds.push(("token_type_ids", Feed::I64(shape.clone(), types)));
        }
        if self.onnx.has_input("position_ids") {
            let positions = (0..count).flat_map(|_| 0..length as i64).collect();
            feeds.push(("position_ids", Feed::I64(shape, positions)));
        }
        let output = self.output.clone();
        let outputs = self.onnx.run(feeds)?;
        let tensor = named(&outputs, &output)?;
        pool(&tensor, &mask, count, length, self.pooling)
    }
}

/// An output by name, as f32.
pub fn named(outputs: &SessionOutputs<'_>, name: &str) -> Result<Tensor> {
    let found = outputs.iter().find(|(n, _)| *n == name);
    let (_, value) = found.ok_or_else(|| Error::new(Kind::ModelIncompatible, format!("the graph gives no output \"{name}\"")))?;
    tensor(name, &value)
}

fn pool(tensor: &Tensor, mask: &[i64], count: usize, length: usize, pooling: Pooling) -> Result<Vec<Vec<f32>>> {
    let wrong = || Error::new(Kind::ModelIncompatible, format!("the text encoder gave an output of shape {:?}", tensor.shape));
    if pooling == Pooling::Done {
        if tensor.shape.first() != Some(&count) {
            return Err(wrong());
        }
        let dims = tensor.data.len() / count.max(1);
        return Ok(tensor.data.chunks_exact(dims.max(1)).map(<[f32]>::to_vec).collect());
    }
    let [batch, tokens, dims] = tensor.shape[..] else { return Err(wrong()) };
    if batch != count || tokens != length || dims == 0 {
        return Err(wrong());
    }
    let row = |i: usize| -> Vec<f32> {
        let vectors = tensor.data[i * length * dims..(i + 1) * length * dims].chunks_exact(dims);
        let mut kept = vectors.zip(&mask[i * length..(i + 1) * length]).filter(|(_, m)| **m == 1).map(|(v, _)| v);
        match pooling {
            Pooling::Cls => kept.next().map_or_else(|| vec![0.0; dims], <[f32]>::to_vec),
            Pooling::Last => kept.next_back().map_or_else(|| vec![0.0; dims], <[f32]>::to_vec),
            Pooling::Max => kept.fold(vec![f32::NEG_INFINITY; dims], |mut a, v| {
                a.iter_mut().zip(v).for_each(|(a, v)| *a = a.max(*v));
                a
            }),
            Pooling::Mean | Pooling::MeanRoot | Pooling::Done => {
                let (mut sum, mut n) = (vec![0.0f32; dims], 0.0f32);
                for v in kept {
                    sum.iter_mut().zip(v).for_each(|(s, v)| *s += *v);
                    n += 1.0;
                }
                let by = if pooling == Pooling::MeanRoot { n.sqrt() } else { n }.max(1e-9);
                sum.iter_mut().for_each(|s| *s /= by);
                sum
            }
        }
    };
    Ok((0..count).map(row).collect())
}

fn pooling(config: &Value) -> Pooling {
    let on = |key: &str| config[key] == true;
    if on("pooling_mode_cls_token") {
        Pooling::Cls
    } else if on("pooling_mode_max_tokens") {
        Pooling::Max
    } else if on("pooling_mode_mean_sqrt_len_tokens") {
        Pooling::MeanRoot
    } else if on("pooling_mode_lasttoken") {
        Pooling::Last
    } else {
        Pooling::Mean
    }
}

fn pad_id(manifest: &Manifest) -> Result<i64> {
    let config = if manifest.layout == Layout::TwoTowers { &manifest.config["text_config"] } else { &manifest.config };
    if let Some(id) = config["pad_token_id"].as_i64() {
        return Ok(id);
    }
    Ok(0)
}

/// Scales a vector to length 1; a zero vector stays as it is.
pub fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if norm > 1e-12 {
        vector.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pooling_ignores_padding() {
        let tensor = Tensor { data: vec![1.0, 2.0, 3.0, 6.0, 9.0, 9.0], shape: vec![1, 3, 2] };
        let of = |p| pool(&tensor, &[1, 1, 0], 1, 3, p).unwrap().remove(0);
        assert_eq!(of(Pooling::Mean), [2.0, 4.0]);
        assert_eq!(of(Pooling::Cls), [1.0, 2.0]);
        assert_eq!(of(Pooling::Max), [3.0, 6.0]);
        assert_eq!(of(Pooling::Last), [3.0, 6.0]);
        assert!(pool(&tensor, &[1, 1, 0], 2, 3, Pooling::Mean).is_err());
    }

    #[test]
    fn normalising_gives_length_one() {
        let mut v = [3.0, 4.0];
        normalise(&mut v);
        assert_eq!(v, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalise(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
