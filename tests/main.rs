//! The one integration-test binary: everything that needs a running server or reads the whole tree.
//!
//! In: the release binary that cargo built, the files under `tests/`, `sql-functions/`, `demo/` and `scripts/`.
//! Out: one test per area. Servers listen on free loopback ports, keep their data in temporary folders and end with the
//! test process. Deliberately absent: unit tests, which live beside the code they test.
//!
//! - `SLT=lateral cargo test ... sqllogictest` runs the files whose path contains the word.
//! - `GAPS=write` rewrites `tests/sqllogictest/known_gaps.txt`, the list of the records that are known to fail.
//! - `UPDATE=1` rewrites the expected results of the .slt files; review the difference.
//! - `SQUILLA_TEST_SERVER='host=127.0.0.1 port=5432 user=postgres dbname=postgres'` runs the records against that server,
//!   under the label `postgres`: how records about PostgreSQL's own behaviour are checked against PostgreSQL.
//! - `WORKERS=3` gives the shared server that many workers: every record, and the four workloads, on a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, missing_docs)]

mod acceptance;
mod client;
mod cluster;
mod cluster_faults;
mod cluster_leases;
mod command_line;
mod demo;
mod differential;
mod faults;
mod faults_disk;
mod hostile_media;
mod known_gaps;
mod media_engine;
mod object_store;
mod protocol;
mod rewrites;
mod server_basics;
mod server_limits;
mod server_process;
mod server_roles;
mod server_sessions;
mod short_statements;
mod sqllogictest_runner;
mod tidy;
mod value_text;
