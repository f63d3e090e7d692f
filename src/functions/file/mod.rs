//! The file functions and their list.

mod content;
mod data_uri;
mod fetch;
mod hash;
mod info;
mod kind;
mod names;

use squilla_core::kernel::SqlFunction;

/// The functions of this family.
pub static FUNCTIONS: &[&SqlFunction] = &[
    &names::FILE,
    &names::FILE_NAME,
    &names::FILE_EXT,
    &names::FILE_DIR,
    &content::FILE_CONTENT,
    &content::FILE_TEXT,
    &info::FILE_INFO,
    &info::FILE_SIZE,
    &info::FILE_ETAG,
    &info::FILE_LAST_MODIFIED,
    &info::FILE_EXISTS,
    &kind::FILE_MIME,
    &hash::CONTENT_HASH,
    &data_uri::DATA_URI,
];
