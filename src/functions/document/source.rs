//! A document argument, bytes or file, as what the decoders read.
//!
//! In: the argument `data` of a row. Out: a payload: borrowed bytes, a local path, or the bytes of a remote file.
//! Invariant: a local file is not read here, so only one process holds it in memory.

use std::borrow::Cow;

use squilla_core::error::Result;
use squilla_core::kernel::Call;
use squilla_core::types::SqlType;
use squilla_media::sandbox::job::Payload;

/// The document of `row`; None when NULL. Blocks while a remote file is read.
pub(super) fn payload(call: &Call, row: usize) -> Result<Option<Payload<'_>>> {
    let is_file = call.signature()?.arguments.iter().any(|a| a.name == "data" && a.ty == SqlType::File);
    if !is_file {
        return Ok(call.bytes("data", row)?.map(Payload::borrowed));
    }
    let Some(file) = call.file("data", row)? else { return Ok(None) };
    if let Some(path) = call.env.files.local_path(&file.uri) {
        return Ok(Some(Payload::path(path)));
    }
    let bytes = futures::executor::block_on(call.env.files.read(&file, None, call.env.limits.file_bytes_max))?;
    Ok(Some(Payload::Bytes(Cow::Owned(Vec::from(bytes)))))
}
