//! One opened ONNX file on one device: named inputs in, named outputs out, whatever number type the file wants.
//!
//! Invariant: a session belongs to one thread at a time (`ort` takes `&mut self`), so no lock is needed here.
//! A GPU that was asked for by name is used or the opening fails; ONNX Runtime alone would fall back in silence.
//! Deliberately absent: batching (see `batcher.rs`) and any knowledge of tasks.

use std::path::Path;

use half::f16;
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::Tensor;

use crate::device::{Device, Wish};
use crate::runtime;

/// A named input or output of a graph.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Number type; `None` for what is not a tensor.
    pub element: Option<TensorElementType>,
    /// Dimensions, outermost first; -1 = any.
    pub shape: Vec<i64>,
}

/// A value for one input.
#[derive(Debug)]
pub enum Feed<'a> {
    /// Shape and row-major values; cast to f16 or f64 when the graph wants that.
    F32(Vec<usize>, Vec<f32>),
    /// As `F32`, read where the values lie.
    View(Vec<usize>, &'a [f32]),
    /// Shape and row-major values; cast to the integer, float or bool type that the graph wants.
    I64(Vec<usize>, Vec<i64>),
    /// A value that an earlier run gave, passed back untouched (a key/value cache).
    Kept(&'a DynValue),
}

/// An opened graph.
pub struct Onnx {
    session: ort::session::Session,
    /// In the order of the file.
    pub inputs: Vec<Port>,
    /// In the order of the file.
    pub outputs: Vec<Port>,
    /// Where it runs.
    pub device: Device,
    /// Bytes of the file and of the external data beside it: the estimate of what it holds in memory.
    pub bytes: u64,
}

/// How to open a graph.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The environment; see [`runtime::environment`].
    pub environment: Environment,
    /// Where to run.
    pub wish: Wish,
    /// Threads of one run on the processor; they do not spin between runs.
    pub threads: usize,
    /// Keep memory from run to run on the processor: a little faster, and right where runs are alike.
    pub arena: bool,
}

impl Onnx {
    /// Opens a file. [`Kind::ModelIncompatible`] when the graph is refused, [`Kind::DeviceLost`] when the device is.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let (session, device) = match options.wish {
            Wish::Exactly(device) => (open_on(path, options, device)?, device),
            Wish::Auto if runtime::has_cuda_provider() => match open_on(path, options, Device::Cuda(0)) {
                Ok(session) => (session, Device::Cuda(0)),
                Err(error) => {
                    tracing::info!(model = %path.display(), %error, "no GPU: the processor is used");
                    (open_on(path, options, Device::Cpu)?, Device::Cpu)
                }
            },
            Wish::Auto => (open_on(path, options, Device::Cpu)?, Device::Cpu),
        };
        let inputs = session.inputs().iter().map(port).collect();
        let outputs = session.outputs().iter().map(port).collect();
        Ok(Self { session, inputs, outputs, device, bytes: bytes_of(path) })
    }

    /// Whether the graph has an input of this name.
    pub fn has_input(&self, name: &str) -> bool {
        self.inputs.iter().any(|p| p.name == name)
    }

    /// The first input or output whose name is one of `names`.
    pub fn find<'a>(ports: &'a [Port], names: &[&str]) -> Option<&'a Port> {
        names.iter().find_map(|name| ports.iter().find(|p| p.name == *name))
    }

    /// One of the file's custom metadata values.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.session.metadata().ok().and_then(|m| m.custom(key))
    }

    /// A value for the input `name` that several runs take.
    pub fn value(&self, name: &str, feed: Feed<'_>) -> Result<DynValue> {
        let element = self.inputs.iter().find(|p| p.name == name).and_then(|p| p.element);
        match cast(name, element, feed)? {
            SessionInputValue::Owned(value) => Ok(value),
            _ => Err(Error::internal("a value that is not its own")),
        }
    }

    /// Runs the graph. A refusal is an error of the input ([`Kind::InvalidArgument`]), a lost GPU one of the device.
    pub fn run(&mut self, feeds: Vec<(&str, Feed<'_>)>) -> Result<SessionOutputs<'_>> {
        let mut values: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(feeds.len());
        for (name, feed) in feeds {
            let element = self.inputs.iter().find(|p| p.name == name).and_then(|p| p.element);
            values.push((name.to_owned(), cast(name, element, feed)?));
        }
        self.session.run(values).map_err(|e| refused(&e.to_string()))
    }
}

fn open_on(path: &Path, options: &OpenOptions, device: Device) -> Result<ort::session::Session> {
    let fail = |what: &str, e: String| {
        let kind = if device == Device::Cpu { Kind::ModelIncompatible } else { Kind::DeviceLost };
        Error::new(kind, format!("{what} on device {device}")).detail(format!("{}: {e}.", path.display()))
    };
    let build = || -> std::result::Result<SessionBuilder, String> {
        let builder = ort::session::Session::builder(&options.environment).map_err(|e| e.to_string())?;
        let builder = builder.with_intra_threads(options.threads.max(1)).map_err(|e| e.to_string())?;
        let builder = builder.with_inter_threads(1).map_err(|e| e.to_string())?;
        let builder = builder.with_intra_op_spinning(false).map_err(|e| e.to_string())?;
        match device {
            Device::Cpu if options.arena => Ok(builder),
            Device::Cpu => builder
                .with_memory_pattern(false)
                .map_err(|e| e.to_string())?
                .with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])
                .map_err(|e| e.to_string()),
            Device::Cuda(number) => builder
                .with_execution_providers([ort::ep::CUDA::default().with_device_id(number).with_tf32(false).build().error_on_failure()])
                .map_err(|e| e.to_string()),
        }
    };
    let mut builder = build().map_err(|e| fail("no session could be made", e))?;
    builder.commit_from_file(path).map_err(|e| fail("the model cannot be loaded", e.to_string()))
}

fn port(outlet: &Outlet) -> Port {
    let (element, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (Some(*ty), shape.to_vec()),
        _ => (None, Vec::new()),
    };
    Port { name: outlet.name().to_owned(), element, shape }
}

fn bytes_of(path: &Path) -> u64 {
    let size = |p: &Path| std::fs::metadata(p).map(|m| m.len()).unwrap_or(0);
    let beside = ["_data", ".data"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        size(Path::new(&name))
    });
    size(path) + beside.iter().sum::<u64>()
}

fn refused(message: &str) -> Error {
    if message.contains("CUDA") || message.contains("CUDNN") || message.contains("CUBLAS") {
        return Error::new(Kind::DeviceLost, "the GPU failed during a model call").detail(format!("{message}."));
    }
    Error::invalid_argument("the model refused its input").detail(format!("{message}."))
}

fn bad<T: std::fmt::Display>(name: &str) -> impl Fn(T) -> Error + '_ {
    move |e| Error::internal(format!("no tensor for the input \"{name}\": {e}"))
}

fn cast<'a>(name: &str, element: Option<TensorElementType>, feed: Feed<'a>) -> Result<SessionInputValue<'a>> {
    use TensorElementType as E;
    macro_rules! make {
        ($shape:expr, $data:expr) => {
            OrtTensor::from_array(($shape, $data)).map(SessionInputValue::from).map_err(bad(name))
        };
    }
    match (feed, element) {
        (Feed::Kept(value), _) => Ok(SessionInputValue::from(value)),
        (Feed::View(s, d), Some(E::Float32) | None) => TensorRef::from_array_view((s, d)).map(SessionInputValue::from).map_err(bad(name)),
        (Feed::View(s, d), _) => cast(name, element, Feed::F32(s, d.to_vec())),
        (Feed::F32(s, d), Some(E::Float16)) => make!(s, d.into_iter().map(f16::from_f32).collect::<Vec<_>>()),
        (Feed::F32(s, d), Some(E::Float64)) => make!(s, d.into_iter().map(f64::from).collect::<Vec<_>>()),
        (Feed::F32(s, d), Some(E::Int64)) => make!(s, d.into_iter().map(|v| v as i64).collect::<Vec<_>>()),
        (Feed::F32(s, d), Some(E::Int32)) => make!(s, d.into_iter().map(|v| v as i32).collect::<Vec<_>>()),
        (Feed::F32(s, d), Some(E::Bool)) => make!(s, d.into_iter().map(|v| v != 0.0).collect::<Vec<_>>()),
        (Feed::F32(s, d), Some(E::Uint8)) => make!(s, d.into_iter().map(|v| v as u8).collect::<Vec<_>>()),
        (Feed::F32(s, d), Some(E::Float32) | None) => make!(s, d),
        (Feed::I64(s, d), Some(E::Int32)) => make!(s, d.into_iter().map(|v| v as i32).collect::<Vec<_>>()),
        (Feed::I64(s, d), Some(E::Bool)) => make!(s, d.into_iter().map(|v| v != 0).collect::<Vec<_>>()),
        (Feed::I64(s, d), Some(E::Float32)) => make!(s, d.into_iter().map(|v| v as f32).collect::<Vec<_>>()),
        (Feed::I64(s, d), Some(E::Float16)) => {
            make!(s, d.into_iter().map(|v| f16::from_f32(v as f32)).collect::<Vec<_>>())
        }
        (Feed::I64(s, d), Some(E::Int64) | None) => make!(s, d),
        (_, Some(other)) => {
            Err(Error::new(Kind::ModelIncompatible, format!("the input \"{name}\" of the model has the unsupported number type {other}")))
        }
    }
}

/// An output as f32, whatever its number type.
pub fn tensor(name: &str, value: &DynValue) -> Result<Tensor> {
    use TensorElementType as E;
    macro_rules! take {
        ($t:ty, $f:expr) => {
            value.try_extract_tensor::<$t>().map(|(shape, data)| (shape.to_vec(), data.iter().map($f).collect()))
        };
    }
    let taken: ort::Result<(Vec<i64>, Vec<f32>)> = match value.dtype().tensor_type() {
        Some(E::Float32) => value.try_extract_tensor::<f32>().map(|(s, d)| (s.to_vec(), d.to_vec())),
        Some(E::Float16) => take!(f16, |v| v.to_f32()),
        Some(E::Float64) => take!(f64, |v| *v as f32),
        Some(E::Int64) => take!(i64, |v| *v as f32),
        Some(E::Int32) => take!(i32, |v| *v as f32),
        Some(E::Uint8) => take!(u8, |v| f32::from(*v)),
        Some(E::Bool) => take!(bool, |v| f32::from(u8::from(*v))),
        other => {
            let what = other.map_or_else(|| "no tensor".to_owned(), |t| t.to_string());
            return Err(Error::new(Kind::ModelIncompatible, format!("the output \"{name}\" of the model has the unsupported type {what}")));
        }
    };
    let (shape, data) = taken.map_err(|e| Error::internal(format!("the output \"{name}\" cannot be read: {e}")))?;
    Ok(Tensor { data, shape: shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect() })
}

/// Cuts a tensor with a leading batch dimension into its rows; each row keeps the other dimensions.
pub fn rows(tensor: Tensor, count: usize) -> Result<Vec<Tensor>> {
    if tensor.shape.first() != Some(&count) || count == 0 {
        return Err(Error::new(Kind::ModelIncompatible, format!("the model gave an output of shape {:?} for {count} inputs", tensor.shape)));
    }
    let shape = tensor.shape[1..].to_vec();
    if count == 1 {
        return Ok(vec![Tensor { data: tensor.data, shape }]);
    }
    let size = tensor.data.len() / count;
    Ok((0..count).map(|i| Tensor { data: tensor.data[i * size..(i + 1) * size].to_vec(), shape: shape.clone() }).collect())
}
