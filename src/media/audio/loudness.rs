//! Loudness as listeners hear it: ITU-R BS.1770-4, in LUFS.
//!
//! In: interleaved floats. Out: the integrated loudness. Invariant: the same filters at every rate, derived from the
//! analogue ones of the standard, and its two gates. Deliberately absent: true peak and loudness range.

use squilla_core::values::AudioView;

/// What stands for silence and for recordings too short to measure.
pub const LUFS_MIN: f64 = -70.0;

/// Integrated loudness; [`LUFS_MIN`] when no block of 400 ms is louder than that.
pub fn lufs(audio: AudioView<'_>) -> f64 {
    let width = usize::from(audio.channels.max(1));
    let step = audio.sample_rate as usize / 10;
    let frames = audio.samples.len() / width;
    if step == 0 || frames < 4 * step {
        return LUFS_MIN;
    }
    // Mean square of each 100 ms, all channels weighted and summed; four of them in a row are a block.
    let mut steps = vec![0.0; frames / step];
    for channel in 0..width {
        let weight = weight(channel, width);
        let mut filters = [shelf(audio.sample_rate.into()), high_pass(audio.sample_rate.into())];
        let samples = audio.samples.iter().skip(channel).step_by(width);
        for (index, sample) in samples.enumerate() {
            let filtered = filters.iter_mut().fold(f64::from(*sample), |value, filter| filter.run(value));
            if let Some(power) = steps.get_mut(index / step) {
                *power += weight * filtered * filtered / step as f64;
            }
        }
    }
    let blocks: Vec<f64> = steps.windows(4).map(|four| four.iter().sum::<f64>() / 4.0).collect();
    let loudness = |power: f64| -0.691 + 10.0 * power.max(1e-20).log10();
    let mean_above = |gate: f64| {
        let loud: Vec<f64> = blocks.iter().copied().filter(|power| loudness(*power) > gate).collect();
        (!loud.is_empty()).then(|| loud.iter().sum::<f64>() / loud.len() as f64)
    };
    let gated = mean_above(LUFS_MIN).and_then(|mean| mean_above(loudness(mean) - 10.0));
    gated.map_or(LUFS_MIN, |power| loudness(power).max(LUFS_MIN))
}

/// In 5.1 (left, right, centre, low, surrounds) the low channel is not heard and the surrounds count more.
fn weight(channel: usize, channels: usize) -> f64 {
    match (channels, channel) {
        (6, 3) => 0.0,
        (6, 4 | 5) => 1.41,
        _ => 1.0,
    }
}

/// A filter of second order.
struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    memory: [f64; 2],
}

impl Biquad {
    fn run(&mut self, x: f64) -> f64 {
        let [m1, m2] = self.memory;
        let y = self.b[0] * x + m1;
        self.memory = [self.b[1] * x - self.a[0] * y + m2, self.b[2] * x - self.a[1] * y];
        y
    }
}

/// The head's effect: a shelf of 4 dB above 1.7 kHz.
fn shelf(rate: f64) -> Biquad {
    let (k, q) = ((std::f64::consts::PI * 1_681.974_450_955_533 / rate).tan(), 0.707_175_236_955_419_6);
    let high = 10_f64.powf(3.999_843_853_973_347 / 20.0);
    let band = high.powf(0.499_666_774_154_541_6);
    let norm = 1.0 + k / q + k * k;
    Biquad {
        b: [(high + band * k / q + k * k) / norm, 2.0 * (k * k - high) / norm, (high - band * k / q + k * k) / norm],
        a: [2.0 * (k * k - 1.0) / norm, (1.0 - k / q + k * k) / norm],
        memory: [0.0; 2],
    }
}

/// The ear's deafness to the lowest tones.
fn high_pass(rate: f64) -> Biquad {
    let (k, q) = ((std::f64::consts::PI * 38.135_470_876_024_44 / rate).tan(), 0.500_327_037_323_877_3);
    let norm = 1.0 + k / q + k * k;
    Biquad { b: [1.0, -2.0, 1.0], a: [2.0 * (k * k - 1.0) / norm, (1.0 - k / q + k * k) / norm], memory: [0.0; 2] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// The standard's own check: a sine of 997 Hz at full scale in one channel is -3.01 LUFS.
    #[test]
    fn the_reference_tone() {
        for rate in [16_000_u32, 44_100, 48_000] {
            let samples: Vec<f32> = (0..rate * 3).map(|i| (f64::from(i) * 997.0 * std::f64::consts::TAU / f64::from(rate)).sin() as f32).collect();
            let got = lufs(AudioView { samples: &samples, sample_rate: rate, channels: 1 });
            assert!((got + 3.01).abs() < 0.05, "{rate}: {got}");
            let stereo: Vec<f32> = samples.iter().flat_map(|s| [*s * 0.1, *s * 0.1]).collect();
            let got = lufs(AudioView { samples: &stereo, sample_rate: rate, channels: 2 });
            assert!((got + 20.0).abs() < 0.05, "{rate}: {got}");
        }
    }

    #[test]
    fn silence_and_shortness() {
        assert_eq!(lufs(AudioView { samples: &[0.0; 48_000], sample_rate: 48_000, channels: 1 }), LUFS_MIN);
        assert_eq!(lufs(AudioView { samples: &[1.0; 100], sample_rate: 48_000, channels: 1 }), LUFS_MIN);
        assert_eq!(lufs(AudioView { samples: &[1.0; 100], sample_rate: 5, channels: 1 }), LUFS_MIN);
    }
}
