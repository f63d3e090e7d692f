//! The wiring: the only crate that sees every other one.
//!
//! In: the command line. Out: a database made of the functions, the models and the settings, and what serves it.
//! Deliberately absent: SQL, protocol and media; each has its crate.

#[path = "root/arguments.rs"]
pub mod arguments;
#[path = "root/docs.rs"]
pub mod docs;
#[path = "root/fixtures.rs"]
pub mod fixtures;
#[path = "root/models.rs"]
pub mod models;
#[path = "root/report.rs"]
pub mod report;
#[path = "root/serve.rs"]
pub mod serve;
#[path = "root/sql.rs"]
pub mod sql;
#[path = "root/table.rs"]
pub mod table;
#[path = "root/wiring.rs"]
pub mod wiring;
