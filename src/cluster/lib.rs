//! Nothing yet: the place of several processes that run one query, with workers, routing, leases, shuffle store and retry
//! around datafusion-distributed, which nothing outside this crate will name.
//!
//! In and out: nothing. The dependencies are declared, so that they are compiled with the feature set they will have.
//! Deliberately absent: planning itself, and what a single process does alone.
