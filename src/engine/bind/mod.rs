//! From the client's AST to one that DataFusion's planner takes.
//!
//! In: a parsed statement. Out: the same statement where calls of our functions have their arguments in declared order
//! with defaults filled in, set-returning calls stand in FROM as lateral functions, sources are names of tables made for
//! this statement, views are subqueries, and pgvector's operators are calls. Invariant: the AST is changed by structure,
//! never by printing and parsing text. Deliberately absent: types; those are DataFusion's and the markers' business.

pub mod calls;
pub mod defaults;
pub mod json_records;
pub mod relation;
pub mod relations;
pub mod set_functions;
pub mod sets_alone;
