//! Our operators: packs of rows through chains of calls, rows expanded to rows, and what becomes of rows that fail.

pub mod cancel;
pub mod conform;
pub mod env;
pub mod expand;
pub mod held;
pub mod invoke;
pub mod measure;
pub mod pack;
pub mod row_errors;
