//! Our logical nodes, the rules that make them, and their way to operators.
//!
//! `lateral` (an analyzer rule) turns joins with set-returning calls into Expand nodes; `lift` (after optimization) takes
//! dear calls out of expressions into Compute nodes, with `fuse` (decoding folded into model calls) and `range` (conditions
//! that bound a set-returning call); `physical` makes operators of both, and `media_batches` keeps DataFusion's operators from
//! gathering thousands of pictures.

pub mod compute;
pub mod decorrelate;
pub mod expand;
pub mod fuse;
pub mod lateral;
pub mod lift;
pub mod media_batches;
pub mod physical;
pub mod range;
