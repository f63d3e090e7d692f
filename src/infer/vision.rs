//! Vision graphs on a device: packs of image tensors in, the wanted outputs of each image out.
//!
//! In: [`ImageItem`]s of one size. Out: for each image the rows of the outputs that its task reads.
//! Deliberately absent: what the outputs mean (see `detect.rs`, `classify.rs`).

use std::sync::{Arc, OnceLock};

use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::Tensor;

use crate::batcher::{PackLimits, Size, Worker};
use crate::device::Device;
use crate::manifest::{Layout, Manifest};
use crate::pixels::ImageItem;
use crate::registry::Task;
use crate::session::{Feed, Onnx, OpenOptions, rows};
use crate::text::named;

/// What a graph says about itself once it is open.
#[derive(Clone, Debug, Default)]
pub struct GraphFacts {
    /// Width and height of the input, where fixed.
    pub size: Option<(u32, u32)>,
    /// Labels in the file's own metadata.
    pub labels: Vec<String>,
    /// Device it runs on.
    pub device: String,
}

impl ImageItem {
    /// Its size for the batcher: only images of one size share a pack.
    pub fn size(&self) -> Size {
        let bytes = u32::try_from(self.planes.len() * size_of::<f32>()).unwrap_or(u32::MAX);
        Size { key: (self.width as u64) << 32 | self.height as u64, length: 1, bytes }
    }
}

/// A vision graph on one device.
pub struct VisionWorker {
    onnx: Onnx,
    input: String,
    outputs: Vec<String>,
    fixed: Option<usize>,
    limits: PackLimits,
    /// The pixels of a pack; kept, so that they lie in memory that is there already.
    pixels: Vec<f32>,
}

impl VisionWorker {
    /// Opens the vision graph of a model for a task, and tells what the graph says about itself.
    pub fn open(manifest: &Manifest, task: Task, options: &OpenOptions, max_batch: Option<usize>, facts: &Arc<OnceLock<GraphFacts>>) -> Result<Self> {
        let tower = usize::from(manifest.layout == Layout::TwoTowers);
        let onnx = Onnx::open(&manifest.graph(tower)?, options)?;
        let port = Onnx::find(&onnx.inputs, &["pixel_values", "images", "input"]).or(onnx.inputs.first());
        let port = port.cloned().ok_or_else(|| Error::new(Kind::ModelIncompatible, "the graph has no input"))?;
        if port.shape.len() != 4 {
            return Err(Error::new(
                Kind::ModelIncompatible,
                format!("the input \"{}\" has {} dimensions, an image model has 4", port.name, port.shape.len()),
            ));
        }
        let names: &[&[&str]] = match (task, manifest.layout) {
            (Task::Detect, Layout::Detr) => &[&["logits"], &["pred_boxes"]],
            (Task::Detect, _) => &[&["output0", "output"]],
            (Task::ClassifyImage, Layout::Classifier) => &[&["logits"]],
            _ => &[&["image_embeds", "pooler_output", "last_hidden_state"]],
        };
        let output = |names: &&[&str]| {
            let found = Onnx::find(&onnx.outputs, names);
            found.or(onnx.outputs.first().filter(|_| names.len() != 1 || names[0] != "pred_boxes")).map(|p| p.name.clone())
        };
        let outputs: Option<Vec<String>> = names.iter().map(output).collect();
        let outputs = outputs.ok_or_else(|| Error::new(Kind::ModelIncompatible, format!("the graph has not the outputs that {task} reads")))?;
        let dimension = |i: usize| u32::try_from(port.shape[i]).ok().filter(|n| *n > 0);
        let known = GraphFacts {
            size: dimension(3).zip(dimension(2)),
            labels: onnx.metadata("names").map(|text| python_names(&text)).unwrap_or_default(),
            device: onnx.device.to_string(),
        };
        let _ = facts.set(known);
        let fixed = usize::try_from(port.shape[0]).ok().filter(|n| *n > 0);
        let default = match (task, onnx.device) {
            // Small detectors run best one by one on a processor; the others gain nothing from more than a few.
            (Task::Detect, Device::Cpu) => 1,
            (_, Device::Cpu) => 4,
            (Task::Detect, Device::Cuda(_)) => 32,
            (_, Device::Cuda(_)) => 128,
        };
        let items = fixed.unwrap_or_else(|| max_batch.unwrap_or(default));
        Ok(Self { onnx, input: port.name, outputs, fixed, limits: PackLimits { items, padded: usize::MAX }, pixels: Vec::new() })
    }
}

impl Worker for VisionWorker {
    type Item = ImageItem;
    type Out = Vec<Tensor>;

    fn limits(&self) -> PackLimits {
        self.limits
    }

    fn device(&self) -> Device {
        self.onnx.device
    }

    fn run(&mut self, items: &[&ImageItem]) -> Result<Vec<Vec<Tensor>>> {
        let Some(first) = items.first() else { return Ok(Vec::new()) };
        let (width, height) = (first.width, first.height);
        // A graph for a fixed number of images gets black ones to make up the number.
        let count = self.fixed.unwrap_or(items.len()).max(items.len());
        let pixels = if count == 1 {
            &first.planes
        } else {
            self.pixels.clear();
            items.iter().for_each(|item| self.pixels.extend_from_slice(&item.planes));
            self.pixels.resize(count * first.planes.len(), 0.0);
            &self.pixels
        };
        let mut feeds = vec![(self.input.as_str(), Feed::View(vec![count, 3, height, width], pixels))];
        let mask = self.onnx.inputs.iter().find(|p| p.name == "pixel_mask").map(|p| p.shape.clone());
        if let Some(shape) = mask {
            let side = |i: usize, own: usize| shape.get(i).and_then(|n| usize::try_from(*n).ok()).filter(|n| *n > 0).unwrap_or(own);
            let (h, w) = (side(1, height), side(2, width));
            feeds.push(("pixel_mask", Feed::I64(vec![count, h, w], vec![1; count * h * w])));
        }
        let outputs = self.onnx.run(feeds)?;
        let mut out: Vec<Vec<Tensor>> = (0..items.len()).map(|_| Vec::with_capacity(self.outputs.len())).collect();
        for name in &self.outputs {
            let tensor = named(&outputs, name)?;
            for (item, row) in out.iter_mut().zip(rows(tensor, count)?) {
                item.push(row);
            }
        }
        Ok(out)
    }
}

/// Reads `{0: 'person', 1: "traffic light"}`, as exporters write it into the graph.
fn python_names(text: &str) -> Vec<String> {
    let mut labels: Vec<(usize, String)> = Vec::new();
    let mut rest = text.trim().trim_start_matches('{').trim_end_matches('}');
    while let Some((number, after)) = rest.split_once(':') {
        let Ok(number) = number.trim().trim_start_matches(',').trim().parse() else { break };
        let after = after.trim_start();
        let Some(quote) = after.chars().next().filter(|c| matches!(c, '\'' | '"')) else { break };
        let Some((label, tail)) = after[1..].split_once(quote) else { break };
        labels.push((number, label.to_owned()));
        rest = tail.trim_start().trim_start_matches(',');
    }
    labels.sort();
    labels.into_iter().map(|(_, label)| label).collect()
}

/// The vector of an image: a vector output as it is, the first token of a sequence, the mean over a feature map.
pub fn image_vector(tensor: &Tensor) -> Result<Vec<f32>> {
    match tensor.shape[..] {
        [_] => Ok(tensor.data.clone()),
        [_, dims] => Ok(tensor.data.get(..dims).map(<[f32]>::to_vec).unwrap_or_default()),
        [channels, h, w] if h * w > 0 => {
            let mean = |c: usize| tensor.data[c * h * w..(c + 1) * h * w].iter().sum::<f32>() / (h * w) as f32;
            Ok((0..channels).map(mean).collect())
        }
        _ => Err(Error::new(Kind::ModelIncompatible, format!("the image encoder gave an output of shape {:?}", tensor.shape))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_in_metadata() {
        assert_eq!(python_names("{0: 'person', 1: \"it's\", 2: 'x, y: z'}"), ["person", "it's", "x, y: z"]);
        assert!(python_names("nonsense").is_empty());
    }

    #[test]
    fn vectors_of_images() {
        let t = |data: &[f32], shape: &[usize]| Tensor { data: data.to_vec(), shape: shape.to_vec() };
        assert_eq!(image_vector(&t(&[1., 2.], &[2])).unwrap(), [1., 2.]);
        assert_eq!(image_vector(&t(&[1., 2., 3., 4.], &[2, 2])).unwrap(), [1., 2.]);
        assert_eq!(image_vector(&t(&[1., 3., 5., 7.], &[2, 2, 1])).unwrap(), [2., 6.]);
    }
}
