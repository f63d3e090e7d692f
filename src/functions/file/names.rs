//! `file` and the parts of a path.

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_core::values::FileRef;
use squilla_media::file::path;

/// A lazy reference to a file.
pub static FILE: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/file/file.sql"), Kernel::Scalar(file));

/// The last part of a path.
pub static FILE_NAME: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/file_name.sql"), Kernel::Scalar(|call| part(call, |p| Some(path::name(p)))));

/// The suffix of the name.
pub static FILE_EXT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/file_ext.sql"), Kernel::Scalar(|call| part(call, path::extension)));

/// What precedes the name.
pub static FILE_DIR: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/file/file_dir.sql"), Kernel::Scalar(|call| part(call, |p| Some(path::dir(p)))));

fn file(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| match call.text("uri", row)? {
        Some("") => Err(Error::invalid_argument("the URI of a file must not be empty")),
        uri => Ok(uri.map(|uri| FileRef { uri: uri.to_owned(), ..FileRef::default() })),
    })
}

fn part(call: &Call, of: fn(&str) -> Option<&str>) -> Result<Outcome> {
    call.map_rows(|row| Ok(call.text("path", row)?.and_then(of).map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, texts, type_matches};
    use arrow::array::AsArray;

    #[test]
    fn parts_and_references() {
        let paths = || vec![texts(&[Some("s3://b/dir/x.tar.gz"), Some("x"), None])];
        for (function, first, second) in
            [(&FILE_NAME, Some("x.tar.gz"), Some("x")), (&FILE_EXT, Some("gz"), None), (&FILE_DIR, Some("s3://b/dir"), Some(""))]
        {
            let Kernel::Scalar(kernel) = function.kernel else { panic!("another kind") };
            let out = kernel(&call(function, paths(), 3)).unwrap();
            assert_eq!(out.array.as_string::<i32>().iter().collect::<Vec<_>>(), [first, second, None]);
        }
        let out = file(&call(&FILE, paths(), 3)).unwrap();
        type_matches(&FILE, &out.array);
    }
}
