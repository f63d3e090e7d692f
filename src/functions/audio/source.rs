//! How the samples of a recording or a video are collected.
//!
//! In: a payload and the options of a row. Out: decoded samples. Invariant: their bytes are reserved as they come.

use std::any::Any;

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Outcome};
use squilla_core::values::Audio;
use squilla_media::audio::decode::{DecodeOptions, stream_audio};
use squilla_media::sandbox::job::Payload;

use crate::payload::payload;

/// Bytes that are reserved at one time.
const RESERVE_BYTES: usize = 4 << 20;

/// The options that all decoding functions share; those a function does not declare keep their meaning of "all of it".
/// `None` when one of them is NULL.
fn decode_options(call: &Call, row: usize) -> Result<Option<DecodeOptions>> {
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

/// For `with_check`: constant options of decoding must be in range.
pub(crate) fn check_options(call: &Call) -> Result<()> {
    decode_options(call, 0).map(|_| ())
}

/// The kernel of the functions that give the sound of `data` as its options say.
pub(crate) fn decoded_rows(call: &Call) -> Result<Outcome> {
    call.map_rows(|row| match (payload(call, row)?, decode_options(call, row)?) {
        (Some(payload), Some(options)) => decode(call, &payload, &options).map(Some),
        _ => Ok(None),
    })
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
