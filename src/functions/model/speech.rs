//! What `transcribe` and `transcribe_segments` share: samples from any overload, and the transcripts of a pack of rows.
//!
//! In: a call whose overload takes `audio audio`, `data bytea` or `data file`. Out: one transcript a row.
//! Invariants: recordings are decoded within the budget of cores, a few ahead of the model; a recording that cannot be decoded
//! fails its row only. Deliberately absent: windows and packs (the model service's).

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, guarded};
use squilla_core::values::Audio;
use squilla_infer::registry::Task;
use squilla_infer::speech::{SpeechOptions, Transcript};
use squilla_infer::whisper::{SpeechTask, check_language};
use squilla_media::audio::decode::DecodeOptions;
use squilla_media::audio::resample::{mix_to_mono, resample_audio};

use super::service::{check_model, known, model};
use crate::audio::source::decode;
use crate::payload::payload;

/// Hertz that speech models take.
const RATE: u32 = 16_000;

/// Recordings of one pack in memory at one time: enough, over the packs under way, to keep the model busy.
const RECORDINGS: usize = 2;

pub(super) fn check(call: &Call) -> Result<()> {
    let options = options(call, false)?;
    check_model(call, Task::Transcribe)?;
    match options.language.filter(|_| call.arg("language").is_ok_and(|a| a.constant)) {
        Some(language) if known(call)? => check_language(&model(call, Task::Transcribe)?.1.manifest, &language),
        _ => Ok(()),
    }
}

fn options(call: &Call, timestamps: bool) -> Result<SpeechOptions> {
    let task = match call.option_text("task")? {
        None | Some("transcribe") => SpeechTask::Transcribe,
        Some("translate") => SpeechTask::Translate,
        Some(other) => {
            let error = Error::invalid_argument(format!("unknown task \"{other}\""));
            return Err(error.hint("Tasks are transcribe and translate."));
        }
    };
    let language = call.option_text("language")?.map(str::to_owned);
    Ok(SpeechOptions { language, task, timestamps })
}

/// The transcript of each row's recording.
pub(super) async fn transcripts(call: &Arc<Call>, timestamps: bool) -> Result<Vec<Result<Option<Transcript>>>> {
    let (models, resolved) = model(call, Task::Transcribe)?;
    let options = options(call, timestamps)?;
    let (models, resolved, options) = (&models, &resolved, &options);
    let rows = (0..call.rows).map(|row| async move {
        call.env.cancel.check()?;
        let Some(samples) = decoded(call, row).await? else { return Ok(None) };
        let mut transcripts = models.transcribe(resolved, &[&samples], options).await?;
        transcripts.pop().unwrap_or_else(|| Err(Error::internal("a recording has no transcript"))).map(Some)
    });
    let mut rows = stream::iter(rows).buffered(RECORDINGS);
    let mut out = Vec::with_capacity(call.rows);
    while let Some(row) = rows.next().await {
        out.push(row);
    }
    Ok(out)
}

/// Decodes within the budget of cores, without holding up other tasks of the thread.
async fn decoded(call: &Call, row: usize) -> Result<Option<Vec<f32>>> {
    let _permit = call.env.cores.acquire(1).await;
    tokio::task::block_in_place(|| guarded(|| samples(call, row)))
}

/// 16 kHz, one channel.
fn samples(call: &Call, row: usize) -> Result<Option<Vec<f32>>> {
    if call.find("audio")?.is_some() {
        return call.audio("audio", row)?.map(speech_samples).transpose();
    }
    let Some(payload) = payload(call, row)? else { return Ok(None) };
    decode(call, &payload, &DecodeOptions::speech()).map(|audio| Some(audio.samples))
}

fn speech_samples(audio: Audio) -> Result<Vec<f32>> {
    let Audio { samples, sample_rate, channels } = audio;
    let mono = if channels <= 1 {
        samples
    } else {
        let mut mono = Vec::with_capacity(samples.len() / usize::from(channels));
        mix_to_mono(&samples, channels, &mut mono);
        mono
    };
    if sample_rate == RATE {
        return Ok(mono);
    }
    let audio = Audio { samples: mono, sample_rate, channels: 1 };
    resample_audio(audio.view(), RATE).map(|audio| audio.samples)
}
