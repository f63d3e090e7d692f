//! Samples to Whisper's log-mel spectrogram.
//!
//! In: up to one window of 16 kHz mono samples. Out: `bins * frames` values, row-major, as WhisperFeatureExtractor gives.
//! Invariant: a window is padded with silence to its full length, so every spectrogram has the same shape.
//! Deliberately absent: resampling and cutting long audio into windows (see `speech.rs`).

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};
use serde_json::Value;
use squilla_core::error::{Error, Result};

/// What preprocessor_config.json says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MelSpec {
    /// Mel bins: 80, or 128 for the third generation.
    pub bins: usize,
    /// Samples of one Fourier transform.
    pub fft: usize,
    /// Samples from frame to frame.
    pub hop: usize,
    /// Samples of a window.
    pub samples: usize,
    /// Hertz.
    pub rate: u32,
}

/// A planned spectrogram; shared by all callers.
pub struct Mel {
    spec: MelSpec,
    transform: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    /// For each bin: the first frequency with a weight, and the weights from there on.
    filters: Vec<(usize, Vec<f64>)>,
}

impl MelSpec {
    /// Reads preprocessor_config.json.
    pub fn read(config: &Value) -> Self {
        let number = |key: &str, default: usize| {
            config[key].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=1 << 24).contains(n)).unwrap_or(default)
        };
        let rate = number("sampling_rate", 16_000);
        Self {
            bins: number("feature_size", 80),
            fft: number("n_fft", 400).max(2),
            hop: number("hop_length", 160),
            samples: number("n_samples", number("chunk_length", 30) * rate),
            rate: u32::try_from(rate).unwrap_or(16_000),
        }
    }

    /// Frames of a window.
    pub fn frames(&self) -> usize {
        self.samples / self.hop
    }
}

impl Mel {
    /// Plans the spectrogram.
    pub fn new(spec: MelSpec) -> Self {
        let transform = RealFftPlanner::<f64>::new().plan_fft_forward(spec.fft);
        // The periodic Hann window.
        let turn = 2.0 * std::f64::consts::PI / spec.fft as f64;
        let window = (0..spec.fft).map(|n| 0.5 - 0.5 * (turn * n as f64).cos()).collect();
        let filters = filters(&spec);
        Self { spec, transform, window, filters }
    }

    /// See [`MelSpec`].
    pub fn spec(&self) -> &MelSpec {
        &self.spec
    }

    /// The log-mel spectrogram of a window; samples beyond its length are ignored.
    pub fn spectrogram(&self, samples: &[f32]) -> Result<Vec<f32>> {
        let (fft, hop, frames) = (self.spec.fft, self.spec.hop, self.spec.frames());
        let samples = &samples[..samples.len().min(self.spec.samples)];
        let half = (fft / 2) as i64;
        let length = self.spec.samples as i64;
        // Reflected at both ends of the padded window, so that frames are centred.
        let at = |i: i64| -> f64 {
            let i = if i < 0 {
                -i
            } else if i >= length {
                2 * length - 2 - i
            } else {
                i
            };
            usize::try_from(i).ok().and_then(|i| samples.get(i)).map_or(0.0, |v| f64::from(*v))
        };
        let floor = (1e-10f64).log10();
        let mut out = vec![floor; self.spec.bins * frames];
        let (mut input, mut spectrum) = (self.transform.make_input_vec(), self.transform.make_output_vec());
        let mut scratch = self.transform.make_scratch_vec();
        let mut power = vec![0.0f64; spectrum.len()];
        let mut highest = floor;
        for frame in 0..frames {
            let start = (frame * hop) as i64 - half;
            // Frames wholly in the padding are silent: the floor is already there.
            if start >= samples.len() as i64 && start + (fft as i64) < 2 * length - 1 - samples.len() as i64 {
                continue;
            }
            for (i, (value, weight)) in input.iter_mut().zip(&self.window).enumerate() {
                *value = at(start + i as i64) * weight;
            }
            self.transform
                .process_with_scratch(&mut input, &mut spectrum, &mut scratch)
                .map_err(|e| Error::internal(format!("the Fourier transform failed: {e}")))?;
            power.iter_mut().zip(&spectrum).for_each(|(p, c)| *p = c.re * c.re + c.im * c.im);
            for (bin, (first, weights)) in self.filters.iter().enumerate() {
                let energy: f64 = weights.iter().zip(&power[*first..]).map(|(w, p)| w * p).sum();
                let value = energy.max(1e-10).log10();
                highest = highest.max(value);
                out[bin * frames + frame] = value;
            }
        }
        Ok(out.into_iter().map(|v| ((v.max(highest - 8.0) + 4.0) / 4.0) as f32).collect())
    }
}

fn hertz_to_mel(hertz: f64) -> f64 {
    // Slaney's scale: linear below 1 kHz, logarithmic above.
    if hertz < 1000.0 { 3.0 * hertz / 200.0 } else { 15.0 + (hertz / 1000.0).ln() * (27.0 / 6.4f64.ln()) }
}

fn mel_to_hertz(mel: f64) -> f64 {
    if mel < 15.0 { 200.0 * mel / 3.0 } else { 1000.0 * ((6.4f64.ln() / 27.0) * (mel - 15.0)).exp() }
}

fn filters(spec: &MelSpec) -> Vec<(usize, Vec<f64>)> {
    let (count, top) = (spec.fft / 2 + 1, 8000.0f64.min(f64::from(spec.rate) / 2.0));
    let highest = hertz_to_mel(top);
    let edge = |i: usize| mel_to_hertz(highest * i as f64 / (spec.bins + 1) as f64);
    let frequency = |k: usize| f64::from(spec.rate) / 2.0 * k as f64 / (count - 1) as f64;
    (0..spec.bins)
        .map(|bin| {
            let (low, middle, high) = (edge(bin), edge(bin + 1), edge(bin + 2));
            let weight = |k: usize| {
                let f = frequency(k);
                ((f - low) / (middle - low)).min((high - f) / (high - middle)).max(0.0) * 2.0 / (high - low)
            };
            let first = (0..count).find(|k| weight(*k) > 0.0).unwrap_or(0);
            let weights: Vec<f64> = (first..count).map(weight).take_while(|w| *w > 0.0).collect();
            (first, weights)
        })
        .collect()
}
