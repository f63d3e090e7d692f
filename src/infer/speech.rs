//! Audio of any length to text: windows, and what is made of their tokens.
//!
//! In: 16 kHz mono samples. Out: segments with times, text, and what the model thought of them.
//! Invariants: windows cover the audio without gap or overlap; long audio is cut at its quietest moment within the last
//! third of each window, so that words are not split and windows do not depend on each other.
//! Deliberately absent: decoding files, resampling, speaker names, word times.

use std::ops::Range;

use squilla_core::error::{Error, Result};
use tokenizers::Tokenizer;

use crate::whisper::{SpeechRules, SpeechTask, SpeechTokens};

/// What is wished of a transcript.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpeechOptions {
    /// 'en', 'de', ...; `None` = detect for each window.
    pub language: Option<String>,
    /// See [`SpeechTask`].
    pub task: SpeechTask,
    /// Whether the model predicts times within a window.
    pub timestamps: bool,
}

/// A stretch of speech.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the audio.
    pub start_s: f64,
    /// Seconds from the start of the audio.
    pub end_s: f64,
    /// Without leading and trailing blanks.
    pub text: String,
    /// Mean log probability of the window's tokens.
    pub avg_logprob: f32,
    /// Probability that nobody speaks in the window.
    pub no_speech_prob: f32,
    /// Language code, where the model has several.
    pub language: Option<String>,
}

/// What was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// All segments' texts, joined by blanks.
    pub text: String,
    /// In order of time; windows without speech give none.
    pub segments: Vec<Segment>,
}

/// Windows of at most `longest` samples.
pub fn windows(samples: &[f32], longest: usize, rate: u32) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    while samples.len() - start > longest {
        let end = start + quietest(&samples[start..start + longest], longest * 2 / 3, rate);
        out.push(start..end);
        start = end;
    }
    if start < samples.len() {
        out.push(start..samples.len());
    }
    out
}

/// The middle of the quietest 0.2 s from `from` on.
fn quietest(samples: &[f32], from: usize, rate: u32) -> usize {
    let (step, span) = ((rate as usize / 50).max(1), 10);
    let energies: Vec<f64> = samples[from..].chunks(step).map(|c| c.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()).collect();
    let mut best = (f64::INFINITY, energies.len());
    for (i, window) in energies.windows(span).enumerate() {
        let sum: f64 = window.iter().sum();
        // The later of equals: windows as long as possible.
        if sum <= best.0 {
            best = (sum, i + span / 2);
        }
    }
    (from + best.1 * step).clamp(1, samples.len())
}

/// The segments of a window that starts at `offset_s` and lasts `length_s`. A window without speech gives none.
pub fn segments(heard: &SpeechTokens, rules: &SpeechRules, tokenizer: &Tokenizer, offset_s: f64, length_s: f64) -> Result<Vec<Segment>> {
    // OpenAI's thresholds: silence, unless the words are very sure.
    if heard.no_speech_prob > 0.6 && heard.avg_logprob < -1.0 {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    let mut start = 0.0;
    let mut words: Vec<u32> = Vec::new();
    let mut close = |words: &mut Vec<u32>, start: f64, end: f64| -> Result<()> {
        let text = tokenizer.decode(words, true).map_err(|e| Error::internal(format!("tokens cannot be decoded: {e}")))?;
        words.clear();
        let text = text.trim();
        if !text.is_empty() {
            out.push(Segment {
                start_s: offset_s + start.min(length_s),
                end_s: offset_s + end.min(length_s).max(start.min(length_s)),
                text: text.to_owned(),
                avg_logprob: heard.avg_logprob,
                no_speech_prob: heard.no_speech_prob,
                language: rules.language_code(heard.language),
            });
        }
        Ok(())
    };
    for token in &heard.tokens {
        if *token >= rules.first_time {
            let time = f64::from(*token - rules.first_time) * 0.02;
            close(&mut words, start, time)?;
            start = time;
        } else if *token < rules.end {
            words.push(*token);
        }
    }
    close(&mut words, start, length_s)?;
    Ok(out)
}

/// Joins the segments of all windows.
pub fn transcript(segments: Vec<Segment>) -> Transcript {
    let text = segments.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
    Transcript { text, segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_and_end_in_quiet() {
        let rate = 16_000;
        let loud = |seconds: usize| (0..seconds * 16_000).map(|i| if i % 2 == 0 { 0.5 } else { -0.5 }).collect::<Vec<f32>>();
        let audio = [loud(24), vec![0.0; 16_000], loud(40)].concat();
        let cut = windows(&audio, 30 * 16_000, rate);
        assert_eq!(cut.first().map(|w| w.start), Some(0));
        assert_eq!(cut.last().map(|w| w.end), Some(audio.len()));
        assert!(cut.windows(2).all(|p| p[0].end == p[1].start));
        assert!(cut.iter().all(|w| !w.is_empty() && w.len() <= 30 * 16_000));
        assert!((24 * 16_000..=25 * 16_000).contains(&cut[0].end), "cut at {}", cut[0].end);
        assert!(windows(&[], 10, rate).is_empty());
        assert_eq!(windows(&[0.0; 10], 10, rate).first(), Some(&(0..10)));
    }
}
