//! Files of any kind: telling what they are.

pub mod mime;
pub mod path;
