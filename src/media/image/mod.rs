//! Images: bytes to pixels, pixels to pixels, pixels to bytes, tensors and hashes.
//!
//! In: encoded bytes or an `ImageView`. Out: `Image`, `Tensor`, bytes, or facts from the header. Invariant: a decoder reads
//! the header (`info.rs`), checks the limits, then allocates. Deliberately absent: SQL and Arrow; colour management
//! (profiles are ignored, as Pillow does unless asked).

pub mod convert;
pub mod crop;
pub mod decode;
pub mod encode;
pub mod exif;
mod haar;
pub mod hash;
pub mod info;
mod info_tiff;
pub mod normalize;
pub mod orient;
pub mod pad;
pub mod resize;
pub mod stats;
pub mod thumbnail;
