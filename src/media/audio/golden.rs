//! Compares decoding and resampling with FFmpeg and soxr, from files that `scripts/golden/audio.py` wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use squilla_core::limits::Limits;
use squilla_core::values::AudioView;

use crate::audio::decode::{DecodeOptions, decode_audio};
use crate::audio::info::audio_info;
use crate::audio::resample::resample_audio;
use crate::sandbox::job::Payload;

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

fn golden<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(tests_folder().join("golden/audio").join(name)).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Resampling {
    rate_in: u32,
    rate_out: u32,
    name: String,
}

/// Decibels of `wanted` over the difference, the ends left out.
fn signal_to_noise(wanted: &[f32], got: &[f32]) -> f64 {
    let margin = wanted.len() / 20;
    let (mut signal, mut noise) = (0.0_f64, 0.0_f64);
    for i in margin..wanted.len() - margin {
        signal += f64::from(wanted[i]).powi(2);
        noise += f64::from(wanted[i] - got[i]).powi(2);
    }
    10.0 * (signal / noise.max(1e-30)).log10()
}

#[test]
fn resampling_is_within_45_db_of_soxr() {
    for case in golden::<Vec<Resampling>>("resample.json") {
        let read = |end: &str| std::fs::read(tests_folder().join(format!("golden/audio/{}.{end}", case.name))).unwrap();
        let samples: Vec<f32> = read("in.i16").chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect();
        let wanted: Vec<f32> = read("out.f32").chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let got = resample_audio(AudioView { samples: &samples, sample_rate: case.rate_in, channels: 1 }, case.rate_out).unwrap();
        assert!(got.samples.len().abs_diff(wanted.len()) <= 1, "{}: {} frames, soxr {}", case.name, got.samples.len(), wanted.len());
        let decibels = signal_to_noise(&wanted, &got.samples);
        println!("{}: {decibels:.1} dB", case.name);
        assert!(decibels >= 45.0, "{}: {decibels:.1} dB", case.name);
    }
}

#[derive(Deserialize)]
struct Decoded {
    file: String,
    rate: u32,
    channels: u16,
    frames: usize,
    at: Vec<usize>,
    samples: Vec<Vec<f32>>,
}

#[test]
fn every_codec_gives_ffmpeg_s_frames() {
    let limits = Limits::default();
    for case in golden::<Vec<Decoded>>("codecs.json") {
        let payload = Payload::path(tests_folder().join(&case.file));
        let audio = decode_audio(&payload, &DecodeOptions::default(), &limits, &limits.deadline()).unwrap();
        assert_eq!((audio.sample_rate, audio.channels), (case.rate, case.channels), "{}", case.file);
        let width = usize::from(case.channels);
        assert_eq!(audio.samples.len() / width, case.frames, "{}", case.file);
        for (at, wanted) in case.at.iter().zip(&case.samples) {
            for (channel, wanted) in wanted.iter().enumerate() {
                let got = audio.samples[at * width + channel];
                assert!((got - wanted).abs() < 2e-3, "{} frame {at} channel {channel}: {got}, FFmpeg {wanted}", case.file);
            }
        }
        let info = audio_info(&payload, &limits, &limits.deadline()).unwrap();
        assert_eq!((info.sample_rate, info.channels), (case.rate, case.channels), "{}", case.file);
        let seconds = case.frames as f64 / f64::from(case.rate);
        let told = info.duration_s.unwrap();
        assert!((told - seconds).abs() < 0.11, "{}: {told} s in the header, {seconds} s decoded", case.file);
    }
}

#[test]
fn a_part_equals_the_same_part_of_the_whole() {
    let limits = Limits::default();
    for name in ["tones.mp3", "tones.flac", "tones.ogg", "tones.m4a", "tones.wav", "tones.opus", "surround.m4a"] {
        let payload = Payload::path(tests_folder().join("fixtures/audio").join(name));
        let decode = |options: DecodeOptions| decode_audio(&payload, &options, &limits, &limits.deadline()).unwrap();
        let whole = decode(DecodeOptions::default());
        let width = usize::from(whole.channels);
        let part = decode(DecodeOptions { start_s: 0.8, duration_s: Some(0.3), ..DecodeOptions::default() });
        let from = (0.8 * f64::from(whole.sample_rate)).round() as usize * width;
        assert_eq!(part.samples, whole.samples[from..from + part.samples.len()], "{name}");
        assert_eq!(part.samples.len() / width, (0.3 * f64::from(whole.sample_rate)).round() as usize, "{name}");
    }
}

#[test]
fn both_decoders_keep_to_the_limit_of_seconds() {
    let limits = Limits { audio_seconds_max: 1, ..Limits::default() };
    for name in ["tones.mp3", "tones.opus", "surround.m4a"] {
        let payload = Payload::path(tests_folder().join("fixtures/audio").join(name));
        let decode = |options: DecodeOptions| decode_audio(&payload, &options, &limits, &limits.deadline());
        assert_eq!(decode(DecodeOptions::default()).unwrap_err().sqlstate(), "54000", "{name}");
        assert!(decode(DecodeOptions { start_s: 1.0, ..DecodeOptions::default() }).is_ok(), "{name}");
    }
}

#[test]
fn every_cut_and_flip_is_harmless() {
    let limits = Limits { audio_seconds_max: 60, ..Limits::default() };
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for name in ["tones.mp3", "tones.flac", "tones.ogg", "tones.m4a", "tones.wav"] {
        let bytes = std::fs::read(tests_folder().join("fixtures/audio").join(name)).unwrap();
        for round in 0..24 {
            let mut hurt = bytes.clone();
            if round % 2 == 0 {
                hurt.truncate(random(bytes.len()));
            } else {
                for _ in 0..1 + random(40) {
                    let at = random(hurt.len());
                    hurt[at] = random(256) as u8;
                }
            }
            // Samples or a row error; a panic or a hang would fail the test.
            if let Err(error) = decode_audio(&Payload::borrowed(&hurt), &DecodeOptions::speech(), &limits, &limits.deadline()) {
                assert!(error.is_row_error(), "{name}: {error:?}");
            }
        }
    }
}
