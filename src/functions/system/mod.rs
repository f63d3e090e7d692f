//! Functions about the server itself that need no catalog: one file each, and their list.

pub mod pg_sleep;
pub mod try_value;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[&pg_sleep::PG_SLEEP, &try_value::TRY];
