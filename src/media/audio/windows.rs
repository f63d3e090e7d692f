//! Long recordings, cut into windows that overlap or end in silence.
//!
//! In: samples in memory, or a payload that is decoded as it is cut. Out: [`AudioWindow`]s in order. Invariant: the
//! windows cover the recording without a hole, the last one ends where the recording ends, and at most one window and one
//! decoded block are in memory. Deliberately absent: speech detection; a window may be silent.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};

use squilla_core::error::{Error, Result};
use squilla_core::limits::Limits;
use squilla_core::values::{Audio, AudioView};

use crate::audio::decode::{DecodeOptions, SampleFormat, stream_audio};
use crate::sandbox::job::Payload;

/// Where a window may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// After exactly `window_s` seconds.
    None,
    /// In the middle of the quietest 50 ms of the last fifth of the window, so that words are not cut.
    Silence,
}

impl Align {
    /// `none` or `silence`. Anything else is 22023.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "silence" => Ok(Self::Silence),
            other => Err(Error::invalid_argument(format!("unknown alignment \"{other}\"")).hint("Use none or silence.")),
        }
    }
}

/// How to cut.
#[derive(Clone, Copy, Debug)]
pub struct WindowOptions {
    /// Seconds of a window.
    pub window_s: f64,
    /// Seconds that a window repeats of the one before.
    pub overlap_s: f64,
    /// Where it may end.
    pub align: Align,
}

impl WindowOptions {
    /// Fails with 22023 when the window is not positive or the overlap leaves no progress.
    pub fn check(&self) -> Result<()> {
        if !(self.window_s.is_finite() && self.window_s >= 0.01) {
            return Err(Error::invalid_argument(format!("window_s {} is out of range", self.window_s)).detail("It is 0.01 or more."));
        }
        let shortest = if self.align == Align::Silence { self.window_s * 0.8 } else { self.window_s };
        if !(self.overlap_s.is_finite() && self.overlap_s >= 0.0 && self.overlap_s < shortest) {
            return Err(Error::invalid_argument(format!("overlap_s {} is out of range", self.overlap_s))
                .detail(format!("It is 0 or more and less than {shortest} s.")));
        }
        Ok(())
    }
}

/// One window of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioWindow {
    /// 0, 1, 2, ...
    pub number: u64,
    /// Seconds from the start of what was decoded.
    pub start_s: f64,
    /// Seconds; `start_s` plus the length of `audio`.
    pub end_s: f64,
    /// The samples.
    pub audio: Audio,
}

/// Receives windows; `Ok(false)` stops.
pub type WindowSink<'a> = dyn FnMut(AudioWindow) -> Result<bool> + 'a;

/// Decodes a recording and hands out its windows as they fill. The row's time starts anew with each window.
pub fn for_each_window(
    payload: &Payload<'_>,
    decode: &DecodeOptions,
    windows: &WindowOptions,
    limits: &Limits,
    emit: &mut WindowSink<'_>,
) -> Result<()> {
    windows.check()?;
    let mut cutter: Option<Cutter> = None;
    let mut stopped = false;
    stream_audio(payload, decode, limits, &mut || limits.deadline(), &mut |format, block| {
        let cutter = cutter.get_or_insert_with(|| Cutter::new(format, windows));
        stopped = cutter.push(block, emit)?.is_break();
        Ok(!stopped)
    })?;
    match cutter {
        Some(cutter) if !stopped => cutter.finish(emit),
        _ => Ok(()),
    }
}

/// The windows of samples in memory.
pub fn audio_segments(audio: AudioView<'_>, windows: &WindowOptions, emit: &mut WindowSink<'_>) -> Result<()> {
    windows.check()?;
    let format = SampleFormat { rate: audio.sample_rate.max(1), channels: audio.channels.max(1) };
    let mut cutter = Cutter::new(format, windows);
    // In pieces of about a window, so that the copy in the cutter stays small.
    let piece = (cutter.window.max(1)) * usize::from(format.channels);
    for block in audio.samples.chunks(piece) {
        if cutter.push(block, emit)?.is_break() {
            return Ok(());
        }
    }
    cutter.finish(emit)
}

/// The windows of a recording as an iterator: a thread decodes, one window ahead of the consumer.
/// Dropping the iterator ends the thread at its next window.
#[derive(Debug)]
pub struct AudioWindows {
    windows: Receiver<Result<AudioWindow>>,
}

impl AudioWindows {
    /// Starts decoding. Options are checked here; everything else shows in the iteration.
    pub fn start(payload: Payload<'static>, decode: DecodeOptions, windows: WindowOptions, limits: Limits) -> Result<Self> {
        decode.check()?;
        windows.check()?;
        let (send, receive) = sync_channel(1);
        std::thread::Builder::new()
            .name("audio-windows".to_owned())
            .spawn(move || {
                let result = for_each_window(&payload, &decode, &windows, &limits, &mut |window| Ok(send.send(Ok(window)).is_ok()));
                if let Err(error) = result {
                    // Nobody listens any more: nobody needs the error.
                    let _ = send.send(Err(error));
                }
            })
            .map_err(|e| Error::io("could not start a decoding thread", e))?;
        Ok(Self { windows: receive })
    }
}

impl Iterator for AudioWindows {
    type Item = Result<AudioWindow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.windows.recv().ok()
    }
}

/// Collects samples until a window is full.
struct Cutter {
    format: SampleFormat,
    /// Frames of a window, of the overlap.
    window: usize,
    overlap: usize,
    align: Align,
    buffer: Vec<f32>,
    /// Frame number of the first frame in the buffer.
    start: u64,
    number: u64,
}

impl Cutter {
    fn new(format: SampleFormat, options: &WindowOptions) -> Self {
        let frames = |seconds: f64| (seconds * f64::from(format.rate)).round() as usize;
        let window = frames(options.window_s).max(1);
        let shortest = if options.align == Align::Silence { (window * 4 / 5).max(1) } else { window };
        Self { format, window, overlap: frames(options.overlap_s).min(shortest - 1), align: options.align, buffer: Vec::new(), start: 0, number: 0 }
    }

    fn push(&mut self, block: &[f32], emit: &mut WindowSink<'_>) -> Result<ControlFlow<()>> {
        let width = usize::from(self.format.channels.max(1));
        self.buffer.extend_from_slice(block);
        // One frame more than a window must be there: else this window might be the last one, which ends with the sound.
        while self.buffer.len() / width > self.window {
            let end = self.cut(width);
            if !emit(self.take(end, width))? {
                return Ok(ControlFlow::Break(()));
            }
            let advance = end - self.overlap;
            self.buffer.drain(..advance * width);
            self.start += advance as u64;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(mut self, emit: &mut WindowSink<'_>) -> Result<()> {
        let width = usize::from(self.format.channels.max(1));
        let rest = self.buffer.len() / width;
        // After a cut the buffer holds the overlap and at least one frame more, so the rest is never only a repetition.
        if rest > 0 {
            emit(self.take(rest, width))?;
        }
        Ok(())
    }

    fn take(&mut self, frames: usize, width: usize) -> AudioWindow {
        let rate = f64::from(self.format.rate.max(1));
        let samples = self.buffer.get(..frames * width).unwrap_or_default().to_vec();
        let window = AudioWindow {
            number: self.number,
            start_s: self.start as f64 / rate,
            end_s: (self.start + frames as u64) as f64 / rate,
            audio: Audio { samples, sample_rate: self.format.rate, channels: self.format.channels },
        };
        self.number += 1;
        window
    }

    /// The frame at which the window in the buffer ends.
    fn cut(&self, width: usize) -> usize {
        if self.align == Align::None {
            return self.window;
        }
        let rate = self.format.rate as usize;
        let span = (rate / 20).max(1);
        let hop = (rate / 100).max(1);
        let first = self.window * 4 / 5;
        let energy = |at: usize| -> f32 { self.buffer.get(at * width..(at + span) * width).unwrap_or_default().iter().map(|s| s * s).sum() };
        let mut best = (f32::INFINITY, self.window);
        let mut at = first;
        while at + span <= self.window {
            let here = energy(at);
            // The last of equals: the longest window.
            if here <= best.0 {
                best = (here, at + span / 2);
            }
            at += hop;
        }
        best.1.clamp(first.max(self.overlap + 1), self.window)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::audio::encode::{WavSample, encode_wav};

    fn cut(samples: &[f32], window_s: f64, overlap_s: f64, align: Align) -> Vec<AudioWindow> {
        let mut out = Vec::new();
        let audio = AudioView { samples, sample_rate: 1000, channels: 1 };
        audio_segments(audio, &WindowOptions { window_s, overlap_s, align }, &mut |w| {
            out.push(w);
            Ok(true)
        })
        .unwrap();
        out
    }

    #[test]
    fn windows_cover_everything_once() {
        let samples: Vec<f32> = (0..2500).map(|i| i as f32).collect();
        let windows = cut(&samples, 1.0, 0.0, Align::None);
        assert_eq!(windows.iter().map(|w| w.audio.samples.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!((windows[2].number, windows[2].start_s, windows[2].end_s), (2, 2.0, 2.5));
        assert_eq!(cut(&samples[..2000], 1.0, 0.0, Align::None).len(), 2);
        assert_eq!(cut(&[], 1.0, 0.0, Align::None).len(), 0);
    }

    #[test]
    fn overlap_repeats_and_never_ends_in_a_repetition() {
        let samples: Vec<f32> = (0..2000).map(|i| i as f32).collect();
        let windows = cut(&samples, 1.0, 0.25, Align::None);
        let spans: Vec<_> = windows.iter().map(|w| (w.start_s, w.end_s)).collect();
        assert_eq!(spans, [(0.0, 1.0), (0.75, 1.75), (1.5, 2.0)]);
        assert_eq!(windows[1].audio.samples[0], 750.0);
        // 1750 frames: the second window ends the recording, and there is no third one of overlap alone.
        assert_eq!(cut(&samples[..1750], 1.0, 0.25, Align::None).len(), 2);
    }

    #[test]
    fn silence_is_where_it_cuts() {
        let mut samples = vec![0.5_f32; 3000];
        samples[850..920].fill(0.0);
        let windows = cut(&samples, 1.0, 0.0, Align::Silence);
        assert!((0.85..=0.92).contains(&windows[0].end_s), "{}", windows[0].end_s);
        let total: usize = windows.iter().map(|w| w.audio.samples.len()).sum();
        assert_eq!(total, 3000);
    }

    #[test]
    fn bad_options_are_refused() {
        for (window_s, overlap_s, align) in
            [(0.0, 0.0, Align::None), (1.0, 1.0, Align::None), (1.0, 0.9, Align::Silence), (f64::NAN, 0.0, Align::None)]
        {
            assert_eq!(WindowOptions { window_s, overlap_s, align }.check().unwrap_err().sqlstate(), "22023");
        }
        assert_eq!(Align::parse("loud").unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn a_stream_equals_the_whole_and_can_stop() {
        let samples: Vec<f32> = (0..200_000).map(|i| ((i * 31) % 512) as f32 / 512.0).collect();
        let audio = AudioView { samples: &samples, sample_rate: 8000, channels: 1 };
        let bytes = encode_wav(audio, WavSample::Float32).unwrap();
        let options = WindowOptions { window_s: 3.0, overlap_s: 0.5, align: Align::Silence };
        let mut whole = Vec::new();
        audio_segments(audio, &options, &mut |w| {
            whole.push(w);
            Ok(true)
        })
        .unwrap();
        let start = |bytes: Vec<u8>| AudioWindows::start(Payload::Bytes(bytes.into()), DecodeOptions::default(), options, Limits::default()).unwrap();
        let streamed: Vec<_> = start(bytes.clone()).map(|w| w.unwrap()).collect();
        assert_eq!(streamed, whole);
        assert_eq!(start(bytes).next().unwrap().unwrap(), whole[0]);
        let broken = AudioWindows::start(Payload::borrowed(b"no"), DecodeOptions::default(), options, Limits::default());
        assert!(broken.unwrap().next().unwrap().is_err());
    }
}
