//! Several processes that run one query: workers, routing, leases, shuffle store and retry around datafusion-distributed.
//!
//! In: plans of the engine. Out: streams of their rows. Invariant: nothing outside this crate names datafusion-distributed.
//! Deliberately absent: planning itself, and what a single process does alone.
