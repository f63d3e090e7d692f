//! `fixture('path')`: bytes of a small file, for the examples of the function reference.
//!
//! Invariant: registered only when SQUILLA_FIXTURES names a directory; a path outside it is refused.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

/// Where the files are; set once from the environment.
static DIRECTORY: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();

const SQL: &str = "
CREATE FUNCTION fixture(path text) RETURNS bytea LANGUAGE squilla STABLE STRICT AS 'fixture';
COMMENT ON FUNCTION fixture IS 'The bytes of a file under the directory that SQUILLA_FIXTURES names. For tests.';
";

static FIXTURE: SqlFunction = SqlFunction::new(SQL, Kernel::Scalar(fixture));

/// The list with the one function.
pub static FUNCTIONS: &[&SqlFunction] = &[&FIXTURE];

/// Sets the directory; true when there is one.
pub fn enable(directory: Option<std::path::PathBuf>) -> bool {
    if let Some(directory) = directory {
        let _ = DIRECTORY.set(directory);
    }
    DIRECTORY.get().is_some()
}

fn fixture(call: &Call) -> Result<Outcome> {
    let directory = DIRECTORY.get().ok_or_else(|| Error::unsupported("fixture() is for tests"))?;
    call.map_rows(|row| {
        let Some(path) = call.text("path", row)? else { return Ok(None) };
        if path.split('/').any(|part| part == "..") || path.starts_with('/') {
            return Err(Error::invalid_argument("a fixture is a relative path"));
        }
        std::fs::read(directory.join(path)).map(Some).map_err(|e| Error::io(format!("could not read fixture {path}"), e))
    })
}
