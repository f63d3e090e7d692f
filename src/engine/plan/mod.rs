//! Our logical nodes, the rules that make them, and their way to operators.
//!
//! `lateral` (an analyzer rule) turns joins with set-returning calls into Expand nodes; `lift` (after optimization) takes
//! dear calls out of expressions into Compute nodes; `physical` makes operators of both.

pub mod compute;
pub mod decorrelate;
pub mod expand;
pub mod lateral;
pub mod lift;
pub mod physical;
