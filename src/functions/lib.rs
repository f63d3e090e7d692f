//! One kernel per SQL function, and `FUNCTIONS`, the one list of them.
//!
//! In: calls with packs of rows (`squilla_core::kernel::Call`). Out: columns and row errors. A function is two files
//! (its contract in `sql-functions/<family>/<name>.sql`, its kernel in `<family>/<name>.rs`) and two lines in the
//! family's `mod.rs`. Deliberately absent: DataFusion, SQL parsing beyond the contract, any state of its own.
//!
//! Conventions of every function:
//! - A parameter declared `bytea` also accepts a `file` value: the engine inserts `file_content(file)`. Declare a `file`
//!   overload only where the kernel itself reads ranges or paths (`Env::files`: head, read, local_path).
//! - A function that can fail on a row takes `on_error text DEFAULT NULL` as its last argument and ignores it: the
//!   policy is the engine's. Model functions take `model text DEFAULT NULL`.
//! - An option whose absence lets the kernel decide has DEFAULT NULL; other defaults are literals. STRICT means: NULL in
//!   an argument whose default is not NULL gives NULL (no rows) without a call; the engine does that.
//! - `Kernel::Scalar` is for cheap functions that do not fail on data; dear ones are `Media`. `with_check` validates
//!   constant options when the statement is planned.
//! - Set-returning functions declare `RETURNS TABLE(...)`. `Expand` yields batches of exactly those columns (it runs on a
//!   blocking thread, where `futures::executor::block_on` of `Env::files` is allowed); `ExpandList` gives a column of
//!   list of struct with those fields.
//! - Examples in a contract are sqllogictest records run against a server. `fixture('image/dog.jpg')` gives the bytes of
//!   a small file under `tests/fixtures`. The default of on_error is 'null'; an example of an error says 'raise' and
//!   matches the SQLSTATE: `statement error (22P03)`. Model examples use the models under `models/tiny` by their hub names
//!   (`tiny/resnet-shapes`, ...) and `sentence-transformers/all-MiniLM-L6-v2`.

pub mod audio;
pub mod document;
pub mod expansion;
pub mod file;
pub mod image;
pub mod model;
mod payload;
pub mod system;
#[cfg(test)]
pub mod testing;
pub mod text;
pub mod vector;
pub mod video;

use squilla_core::kernel::SqlFunction;

/// Every function, by family.
pub static FAMILIES: &[(&str, &[&SqlFunction])] = &[
    ("file", file::FUNCTIONS),
    ("image", image::FUNCTIONS),
    ("audio", audio::FUNCTIONS),
    ("video", video::FUNCTIONS),
    ("document", document::FUNCTIONS),
    ("text", text::FUNCTIONS),
    ("vector", vector::FUNCTIONS),
    ("model", model::FUNCTIONS),
    ("system", system::FUNCTIONS),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Contracts and kernels name each other: every contract file has a row here, and every row a contract file.
    #[test]
    fn contracts_and_kernels_match() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql-functions");
        for (family, functions) in FAMILIES {
            let mut files: Vec<String> = std::fs::read_dir(root.join(family))
                .map(|d| d.map(|e| e.unwrap().file_name().to_string_lossy().trim_end_matches(".sql").to_owned()).collect())
                .unwrap_or_default();
            let mut kernels: Vec<String> = functions.iter().map(|f| f.declaration().unwrap().name.clone()).collect();
            files.sort();
            kernels.sort();
            assert_eq!(files, kernels, "family {family}");
        }
    }

    #[test]
    fn every_contract_has_an_example() {
        for (_, functions) in FAMILIES {
            for f in *functions {
                let d = f.declaration().unwrap();
                assert!(!d.examples.is_empty(), "{} has no example", d.name);
            }
        }
    }
}
