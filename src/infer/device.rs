//! Names of devices: 'cpu', 'cuda', 'cuda:N' and 'auto'.
//!
//! In: text from a setting or a registered model. Out: the device a session is opened on.
//! Deliberately absent: probing; see `session.rs`, which falls back to the processor only for 'auto'.

use std::fmt;

use squilla_core::error::{Error, Result};

/// A device that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(i32),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// The first GPU when there is one and the library can use it, else the processor.
    Auto,
    /// This device or an error.
    Exactly(Device),
}

impl Wish {
    /// Reads 'auto', 'cpu', 'cuda', 'cuda:N', 'gpu' or 'gpu:N'.
    pub fn parse(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let (name, number) = lower.split_once(':').map_or((lower.as_str(), None), |(n, i)| (n, Some(i)));
        match (name, number) {
            ("auto" | "", None) => Ok(Wish::Auto),
            ("cpu", None) => Ok(Wish::Exactly(Device::Cpu)),
            ("cuda" | "gpu", None) => Ok(Wish::Exactly(Device::Cuda(0))),
            ("cuda" | "gpu", Some(i)) if i.parse::<u8>().is_ok() => Ok(Wish::Exactly(Device::Cuda(i.parse::<u8>().map(i32::from).unwrap_or(0)))),
            _ => Err(Error::invalid_argument(format!("unknown device \"{text}\"")).hint("Devices are 'auto', 'cpu' and 'cuda:N'.")),
        }
    }
}

impl Device {
    /// Its number among the counters of a call: the processor is 0, GPUs follow.
    pub fn number(self) -> usize {
        match self {
            Device::Cpu => 0,
            Device::Cuda(n) => usize::try_from(n).unwrap_or(0) + 1,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Wish::parse("cuda:1").unwrap(), Wish::Exactly(Device::Cuda(1)));
        assert_eq!(Wish::parse("AUTO").unwrap(), Wish::Auto);
        assert!(Wish::parse("tpu").is_err());
        assert!(Wish::parse("cuda:x").is_err());
    }
}
