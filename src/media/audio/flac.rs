//! Samples to bytes of a FLAC file.
//!
//! In: interleaved floats. Out: a FLAC stream of 16-bit samples with the fixed predictors and Rice codes of the format
//! (RFC 9639). Invariant: any FLAC decoder gives back exactly the 16-bit samples. Deliberately absent: linear prediction
//! and mid-side coding, which would save some more bytes for much more code; the checksum of the whole sound.

use squilla_core::error::{Error, Result};
use squilla_core::values::AudioView;

use crate::audio::encode::to_i16;

/// Frames of a block.
const BLOCK_FRAMES: usize = 4096;

/// Highest order of the fixed predictors.
const ORDER_MAX: usize = 4;

/// A block is cut into at most two to this power parts with a Rice parameter each.
const PARTITIONS_MAX_LOG2: usize = 5;

/// A FLAC file. Fails with 22023 on more than 8 channels or a rate above 655350 Hz, which the format cannot say.
pub fn encode_flac(audio: AudioView<'_>) -> Result<Vec<u8>> {
    let channels = usize::from(audio.channels.max(1));
    if channels > 8 || audio.sample_rate > 655_350 || audio.sample_rate == 0 {
        let what = format!("flac cannot hold {channels} channels at {} Hz", audio.sample_rate);
        return Err(Error::invalid_argument(what).detail("It holds up to 8 channels at up to 655350 Hz."));
    }
    let frames = audio.samples.len() / channels;
    let mut out = stream_header(audio.sample_rate, channels, frames);
    let mut planes = vec![Vec::with_capacity(BLOCK_FRAMES); channels];
    for (number, block) in audio.samples.chunks(BLOCK_FRAMES * channels).enumerate() {
        planes.iter_mut().for_each(Vec::clear);
        for frame in block.chunks_exact(channels) {
            frame.iter().zip(&mut planes).for_each(|(sample, plane)| plane.push(i32::from(to_i16(*sample))));
        }
        if planes.iter().all(|plane| !plane.is_empty()) {
            write_frame(&mut out, number as u64, &planes);
        }
    }
    Ok(out)
}

fn stream_header(rate: u32, channels: usize, frames: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    b"fLaC".iter().for_each(|byte| bits.put(u64::from(*byte), 8));
    bits.put(0x80, 8);
    bits.put(34, 24);
    bits.put(BLOCK_FRAMES as u64, 16);
    bits.put(BLOCK_FRAMES as u64, 16);
    bits.put(0, 24);
    bits.put(0, 24);
    bits.put(u64::from(rate), 20);
    bits.put(channels as u64 - 1, 3);
    bits.put(15, 5);
    bits.put((frames as u64) & ((1 << 36) - 1), 36);
    // No checksum of the sound: sixteen zeros say so.
    (0..16).for_each(|_| bits.put(0, 8));
    bits.bytes
}

fn write_frame(out: &mut Vec<u8>, number: u64, planes: &[Vec<i32>]) {
    let frames = planes.first().map_or(0, Vec::len);
    let mut bits = Bits::default();
    bits.put(0b11_1111_1111_1110, 14);
    bits.put(0, 2);
    bits.put(if frames == BLOCK_FRAMES { 0b1100 } else { 0b0111 }, 4);
    bits.put(0, 4);
    bits.put(planes.len() as u64 - 1, 4);
    bits.put(0b1000, 4);
    put_number(&mut bits, number);
    if frames != BLOCK_FRAMES {
        bits.put(frames as u64 - 1, 16);
    }
    bits.put(u64::from(crc8(&bits.bytes)), 8);
    for plane in planes {
        write_subframe(&mut bits, plane);
    }
    bits.align();
    let check = crc16(&bits.bytes);
    out.extend_from_slice(&bits.bytes);
    out.extend_from_slice(&check.to_be_bytes());
}

/// The frame number in the way of UTF-8, up to 36 bits.
fn put_number(bits: &mut Bits, number: u64) {
    if number < 0x80 {
        bits.put(number, 8);
        return;
    }
    let mut more = 1;
    while more < 6 && number >= 1 << (6 * more + 6 - more) {
        more += 1;
    }
    let mark = (0xff00_u64 >> (more + 1)) & 0xff;
    bits.put(mark | (number >> (6 * more)), 8);
    for part in (0..more).rev() {
        bits.put(0x80 | ((number >> (6 * part)) & 0x3f), 8);
    }
}

fn write_subframe(bits: &mut Bits, samples: &[i32]) {
    let first = samples.first().copied().unwrap_or(0);
    if samples.iter().all(|sample| *sample == first) {
        bits.put(0, 8);
        bits.put_signed(first);
        return;
    }
    let mut residual = samples.to_vec();
    let mut best = (u64::MAX, 0);
    for order in 0..=ORDER_MAX.min(samples.len() - 1) {
        // Each order is the difference of the one before.
        if order > 0 {
            residual = residual.windows(2).map(|pair| pair[1] - pair[0]).collect();
        }
        let size: u64 = residual.iter().map(|value| u64::from(zigzag(*value))).sum();
        if size < best.0 {
            best = (size, order);
        }
    }
    let order = best.1;
    residual = samples.to_vec();
    for _ in 0..order {
        residual = residual.windows(2).map(|pair| pair[1] - pair[0]).collect();
    }
    let (cost, plan) = plan_rice(&residual, samples.len(), order);
    if cost + 16 * order as u64 >= 16 * samples.len() as u64 {
        bits.put(0b0000_0010, 8);
        samples.iter().for_each(|sample| bits.put_signed(*sample));
        return;
    }
    bits.put((0b001000 | order as u64) << 1, 8);
    samples.iter().take(order).for_each(|sample| bits.put_signed(*sample));
    bits.put(0, 2);
    bits.put(plan.len().trailing_zeros().into(), 4);
    let part = samples.len() / plan.len();
    let mut rest = &residual[..];
    for (index, parameter) in plan.iter().enumerate() {
        let (here, later) = rest.split_at((if index == 0 { part - order } else { part }).min(rest.len()));
        rest = later;
        bits.put(u64::from(*parameter), 4);
        here.iter().for_each(|value| bits.put_rice(zigzag(*value), *parameter));
    }
}

/// The cheapest Rice parameters, one per part, and what they cost in bits.
fn plan_rice(residual: &[i32], frames: usize, order: usize) -> (u64, Vec<u32>) {
    let mut best = (u64::MAX, vec![0]);
    for log2 in 0..=PARTITIONS_MAX_LOG2 {
        let parts = 1 << log2;
        if !frames.is_multiple_of(parts) || frames / parts <= order {
            break;
        }
        let mut rest = residual;
        let mut cost = 6;
        let mut plan = Vec::with_capacity(parts);
        for index in 0..parts {
            let length = frames / parts - if index == 0 { order } else { 0 };
            let (here, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            let (bits, parameter) =
                (0..=14_u32).map(|k| (here.iter().map(|v| u64::from(zigzag(*v) >> k) + 1 + u64::from(k)).sum::<u64>(), k)).min().unwrap_or((0, 0));
            cost += 4 + bits;
            plan.push(parameter);
        }
        if cost < best.0 {
            best = (cost, plan);
        }
    }
    best
}

/// 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// Bits, the highest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    /// Appends the lowest `width` bits of `value`; `width` is at most 48.
    fn put(&mut self, value: u64, width: u32) {
        self.held = (self.held << width) | (value & ((1 << width) - 1));
        self.count += width;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.held >> self.count) as u8);
        }
        self.held &= (1 << self.count) - 1;
    }

    fn put_signed(&mut self, sample: i32) {
        self.put(sample as u64 & 0xffff, 16);
    }

    fn put_rice(&mut self, value: u32, parameter: u32) {
        let mut zeros = value >> parameter;
        while zeros >= 32 {
            self.put(0, 32);
            zeros -= 32;
        }
        self.put(1, zeros + 1);
        self.put(u64::from(value), parameter);
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ byte, |c: u8, _| if c & 0x80 != 0 { (c << 1) ^ 0x07 } else { c << 1 }))
}

fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = (index as u16) << 8;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x8005 } else { crc << 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc: u16, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::audio::decode::{DecodeOptions, decode_audio};
    use crate::sandbox::job::Payload;
    use squilla_core::limits::Limits;

    fn back(samples: &[f32], channels: u16) -> usize {
        let bytes = encode_flac(AudioView { samples, sample_rate: 44_100, channels }).unwrap();
        let limits = Limits::default();
        let audio = decode_audio(&Payload::borrowed(&bytes), &DecodeOptions::default(), &limits, &limits.deadline()).unwrap();
        assert_eq!((audio.sample_rate, audio.channels), (44_100, channels));
        let wanted: Vec<f32> = samples.iter().map(|s| f32::from(to_i16(*s)) / 32_768.0).collect();
        assert_eq!(audio.samples, wanted);
        bytes.len()
    }

    #[test]
    fn tones_noise_silence_and_extremes_come_back() {
        let tone: Vec<f32> = (0..30_000).map(|i| (i as f32 * 0.05).sin() * 0.7).collect();
        assert!(back(&tone, 1) < 30_000 * 2 * 2 / 3, "a tone becomes smaller");
        back(&tone[..29_998], 2);
        let mut state = 1_u32;
        let noise: Vec<f32> = (0..9000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect();
        assert!(back(&noise, 3) < 9000 * 2 + 600, "noise hardly grows");
        assert!(back(&[0.0; 20_000], 1) < 300);
        back(&[1.0, -1.0, 1.0, -1.0, 0.5], 1);
        back(&[0.25], 1);
        back(&tone[..4097], 1);
    }

    #[test]
    fn what_the_format_cannot_say_is_refused() {
        let audio = AudioView { samples: &[0.0; 9], sample_rate: 8000, channels: 9 };
        assert_eq!(encode_flac(audio).unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn long_numbers() {
        let coded = |number| {
            let mut bits = Bits::default();
            put_number(&mut bits, number);
            bits.bytes
        };
        assert_eq!(coded(0x7f), [0x7f]);
        assert_eq!(coded(0x80), "\u{80}".as_bytes());
        assert_eq!(coded(0x7ff), "\u{7ff}".as_bytes());
        assert_eq!(coded(0x800), "\u{800}".as_bytes());
        assert_eq!(coded(0x1_0000), "\u{10000}".as_bytes());
    }
}
