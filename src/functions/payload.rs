//! A recording, video or document as an argument, as what the decoders read.
//!
//! In: the argument `data` of a row, bytes or a file. Out: a payload: borrowed bytes, a local path, or the bytes of a remote file.
//! Invariant: a local file is not read here, so only the process that decodes holds it in memory. Deliberately absent: pictures,
//! whose bytes the engine reads or whose header alone is asked for.

use std::borrow::Cow;

use squilla_core::error::Result;
use squilla_core::kernel::Call;
use squilla_core::types::SqlType;
use squilla_media::sandbox::job::Payload;

/// Whether the overload called takes this type as `data`.
pub(crate) fn takes(call: &Call, ty: &SqlType) -> Result<bool> {
    Ok(call.signature()?.arguments.iter().any(|a| a.name == "data" && a.ty == *ty))
}

/// The media of `row`; None when NULL. Blocks while a remote file is read.
pub(crate) fn payload(call: &Call, row: usize) -> Result<Option<Payload<'_>>> {
    if !takes(call, &SqlType::File)? {
        return Ok(call.bytes("data", row)?.map(Payload::borrowed));
    }
    let Some(file) = call.file("data", row)? else { return Ok(None) };
    if let Some(path) = call.env.files.local_path(&file.uri) {
        return Ok(Some(Payload::path(path)));
    }
    let bytes = futures::executor::block_on(call.env.files.read(&file, None, call.env.limits.file_bytes_max))?;
    Ok(Some(Payload::Bytes(Cow::Owned(Vec::from(bytes)))))
}
