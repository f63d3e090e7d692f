//! A recording or a video as an argument, and how its samples are collected.
//!
//! In: the argument `data` of a row: bytes or a file. Out: a payload for the decoders, or decoded samples whose bytes are
//! reserved as they come. Invariant: a local file is not read here; the decoder seeks in it.

use std::any::Any;
use std::borrow::Cow;

use squilla_core::error::{Error, Result};
use squilla_core::kernel::Call;
use squilla_core::types::SqlType;
use squilla_core::values::Audio;
use squilla_media::audio::decode::{DecodeOptions, stream_audio};
use squilla_media::sandbox::job::Payload;

/// Bytes that are reserved at one time.
const RESERVE_BYTES: usize = 4 << 20;

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

/// The options that all decoding functions share; those a function does not declare keep their meaning of "all of it".
/// `None` when one of them is NULL.
pub(crate) fn decode_options(call: &Call, row: usize) -> Result<Option<DecodeOptions>> {
    let (Some(rate), Some(mono)) = (call.int("sample_rate", row)?, call.boolean("mono", row)?) else { return Ok(None) };
    let rate = u32::try_from(rate).map_err(|_| Error::invalid_argument(format!("sample rate {rate} is out of range")))?;
    let number = |name: &str| -> Result<Option<f64>> { if call.find(name)?.is_some() { call.float(name, row) } else { Ok(None) } };
    let options = DecodeOptions {
        sample_rate: (rate > 0).then_some(rate),
        mono,
        start_s: number("start_s")?.unwrap_or(0.0),
        duration_s: number("duration_s")?,
    };
    options.check()?;
    Ok(Some(options))
}

/// Decodes a whole recording. The samples are reserved from the statement's memory while they grow; the reservations end
/// with the row, when the samples move into the result column.
pub(crate) fn decode(call: &Call, payload: &Payload<'_>, options: &DecodeOptions) -> Result<Audio> {
    let limits = &call.env.limits;
    let mut held: Vec<Box<dyn Any + Send>> = Vec::new();
    let mut reserved = 0;
    let mut audio = Audio { samples: Vec::new(), sample_rate: 0, channels: 0 };
    let deadline = limits.deadline();
    stream_audio(payload, options, limits, &mut || deadline, &mut |format, block| {
        call.env.cancel.check()?;
        let bytes = (audio.samples.len() + block.len()) * size_of::<f32>();
        while reserved < bytes {
            held.push(call.env.memory.reserve(RESERVE_BYTES)?);
            reserved += RESERVE_BYTES;
        }
        audio.sample_rate = format.rate;
        audio.channels = format.channels;
        audio.samples.extend_from_slice(block);
        Ok(true)
    })?;
    Ok(audio)
}
