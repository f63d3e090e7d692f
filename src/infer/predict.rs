//! Any graph on a device: tensors by input in, f32 tensors of every output out.
//!
//! In: one item = one row: a tensor for each input, without the batch dimension. Out: a tensor for each tensor output,
//! without the batch dimension. Invariant: only rows of equal shapes share a pack; graphs with a fixed batch of 1 run
//! row by row. Deliberately absent: text inputs and outputs that are no tensors.

use std::hash::{DefaultHasher, Hash, Hasher};

use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::Tensor;

use crate::batcher::{PackLimits, Size, Worker};
use crate::device::Device;
use crate::manifest::Manifest;
use crate::session::{Feed, Onnx, OpenOptions, Port, rows, tensor};

/// One row: a tensor for each input of the graph, in the graph's order, without the batch dimension.
#[derive(Clone, Debug)]
pub struct PredictItem {
    /// Values.
    pub inputs: Vec<Tensor>,
}

impl PredictItem {
    /// Its size for the batcher.
    pub fn size(&self) -> Size {
        let mut hasher = DefaultHasher::new();
        self.inputs.iter().for_each(|t| t.shape.hash(&mut hasher));
        let bytes = self.inputs.iter().map(|t| t.data.len() * size_of::<f32>()).sum::<usize>();
        Size { key: hasher.finish(), length: 1, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }
}

/// Arranges a row of numbers as the inputs of a graph: all of them as the features of a single input, or one number for
/// each input.
pub fn arrange(numbers: &[f32], ports: &[Port]) -> Result<PredictItem> {
    let shape_of = |port: &Port| -> Vec<usize> { port.shape.iter().skip(1).map(|d| usize::try_from(*d).unwrap_or(0)).collect() };
    let wrong = |wanted: String| Err(Error::invalid_argument(format!("the model takes {wanted} numbers, {} were given", numbers.len())));
    match ports {
        [one] => {
            let mut shape = shape_of(one);
            // At most one free dimension can be told from the count of numbers.
            let fixed: usize = shape.iter().filter(|d| **d > 0).product();
            if let Some(free) = shape.iter_mut().find(|d| **d == 0) {
                *free = numbers.len() / fixed.max(1);
            }
            if shape.iter().product::<usize>() != numbers.len() {
                return wrong(shape.iter().product::<usize>().to_string());
            }
            Ok(PredictItem { inputs: vec![Tensor { data: numbers.to_vec(), shape }] })
        }
        many if many.len() == numbers.len() => {
            let inputs = many.iter().zip(numbers);
            let one = |(port, n): (&Port, &f32)| Tensor { data: vec![*n], shape: vec![1; port.shape.len().saturating_sub(1)] };
            Ok(PredictItem { inputs: inputs.map(one).collect() })
        }
        many => wrong(many.len().to_string()),
    }
}

/// A graph on one device.
pub struct PredictWorker {
    onnx: Onnx,
    outputs: Vec<String>,
    limits: PackLimits,
}

impl PredictWorker {
    /// Opens the graph of a model and tells its inputs.
    pub fn open(manifest: &Manifest, options: &OpenOptions, max_batch: Option<usize>, ports: &std::sync::OnceLock<Vec<Port>>) -> Result<Self> {
        let onnx = Onnx::open(&manifest.graph(0)?, options)?;
        let _ = ports.set(onnx.inputs.clone());
        let outputs: Vec<String> = onnx.outputs.iter().filter(|p| p.element.is_some()).map(|p| p.name.clone()).collect();
        if outputs.is_empty() {
            return Err(Error::new(Kind::ModelIncompatible, "the graph has no tensor output"));
        }
        let single = onnx.inputs.iter().any(|p| p.shape.first() == Some(&1) || p.shape.is_empty());
        let default = if onnx.device == Device::Cpu { 256 } else { 4_096 };
        let items = if single { 1 } else { max_batch.unwrap_or(default) };
        Ok(Self { onnx, outputs, limits: PackLimits { items, padded: usize::MAX } })
    }
}

impl Worker for PredictWorker {
    type Item = PredictItem;
    type Out = Vec<Tensor>;

    fn limits(&self) -> PackLimits {
        self.limits
    }

    fn device(&self) -> Device {
        self.onnx.device
    }

    fn run(&mut self, items: &[&PredictItem]) -> Result<Vec<Vec<Tensor>>> {
        let ports: Vec<(String, usize)> = self.onnx.inputs.iter().map(|p| (p.name.clone(), p.shape.len())).collect();
        if items.iter().any(|i| i.inputs.len() != ports.len()) {
            return Err(Error::invalid_argument(format!("the model has {} inputs", ports.len())));
        }
        let mut feeds = Vec::with_capacity(ports.len());
        for (number, (name, rank)) in ports.iter().enumerate() {
            let data: Vec<f32> = items.iter().flat_map(|i| i.inputs[number].data.iter().copied()).collect();
            let mut shape = items.first().map(|i| i.inputs[number].shape.clone()).unwrap_or_default();
            if *rank > 0 {
                shape.insert(0, items.len());
            }
            feeds.push((name.as_str(), Feed::F32(shape, data)));
        }
        let names = &self.outputs;
        let outputs = self.onnx.run(feeds)?;
        let mut out: Vec<Vec<Tensor>> = items.iter().map(|_| Vec::with_capacity(names.len())).collect();
        for (name, value) in outputs.iter().filter(|(n, _)| names.iter().any(|k| k == n)) {
            let whole = tensor(name, &value)?;
            if items.len() == 1 && whole.shape.first() != Some(&1) {
                out[0].push(whole);
                continue;
            }
            for (item, row) in out.iter_mut().zip(rows(whole, items.len())?) {
                item.push(row);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_become_inputs() {
        let port = |shape: &[i64]| Port { name: "x".into(), element: None, shape: shape.to_vec() };
        let shape = |n: usize, ports: &[Port]| arrange(&vec![1.0; n], ports).map(|i| i.inputs[0].shape.clone());
        assert_eq!(shape(4, &[port(&[-1, 4])]).unwrap(), [4]);
        assert_eq!(shape(5, &[port(&[-1, -1])]).unwrap(), [5]);
        assert_eq!(shape(6, &[port(&[-1, 2, 3])]).unwrap(), [2, 3]);
        assert!(shape(3, &[port(&[-1, 4])]).is_err());
        assert_eq!(arrange(&[1.0, 2.0], &[port(&[-1, 1]), port(&[-1, 1])]).unwrap().inputs.len(), 2);
        assert!(arrange(&[1.0], &[port(&[-1, 1]), port(&[-1, 1])]).is_err());
    }
}
