//! The wiring: the only crate that sees every other one.
//!
//! In: the command line. Out: a database made of the functions, the models and the settings, and what serves it.
//! Deliberately absent: SQL, protocol and media; each has its crate.

#[path = "program/arguments.rs"]
pub mod arguments;
#[path = "program/docs.rs"]
pub mod docs;
#[path = "program/fixtures.rs"]
pub mod fixtures;
#[path = "program/models.rs"]
pub mod models;
#[path = "program/report.rs"]
pub mod report;
#[path = "program/serve.rs"]
pub mod serve;
#[path = "program/sql.rs"]
pub mod sql;
#[path = "program/table.rs"]
pub mod table;
#[path = "program/wiring.rs"]
pub mod wiring;
#[path = "program/worker.rs"]
pub mod worker;
