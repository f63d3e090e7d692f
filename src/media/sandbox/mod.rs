//! Decoders that can hang or abort run here, in child processes that can be killed.
//!
//! In: a [`job::Job`] and its payload. Out: the job's chunks, or one row error when it fails, crashes, runs out of memory
//! or out of time. Invariant: whatever the child does, the server lives on and the next job gets a healthy child.
//! `job.rs` says how to add a job, `worker.rs` lists the jobs, `pool.rs` runs them, `wire.rs` frames them.
//! Deliberately absent: images and common audio, whose decoders are trusted and run in process.

pub mod job;
pub mod pool;
pub mod wire;
pub mod worker;

/// The body of the hidden subcommand `media-worker`: serves jobs on standard input (a socket) until the parent hangs up.
/// Returns the exit code of the process.
pub fn worker_main() -> i32 {
    worker::serve_standard_input()
}
