//! The DataFusion side: statements, sessions, planner rules, operators, sources, sinks, catalogs, memory.
//!
//! In: SQL text and parameters of one session. Out: streams of Arrow batches, command tags, errors with SQLSTATE.
//! The way of a statement: `statement` (parse once) -> `bind` (names and defaults of our functions, relations) ->
//! DataFusion's planner and optimizer -> `plan` (our nodes and rules) -> `exec` (our operators) -> `session` (stream).
//! Deliberately absent: sockets, the `functions` crate (kernels come in as a list) and distribution (`run::Runner`, `cluster`).

pub mod bind;
pub mod catalog;
pub mod command;
pub mod database;
pub mod error;
pub mod error_wire;
pub mod exec;
pub mod explain;
pub mod foreign;
pub mod memory;
pub mod plan;
pub mod postgres;
pub mod privileges;
pub mod run;
pub mod session;
pub mod sink;
pub mod source;
pub mod statement;
pub mod system;
pub mod table;
pub mod udf;
