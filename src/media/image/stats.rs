//! Numbers that tell good pictures from bad ones.
//!
//! In: an image. Out: brightness, contrast, sharpness, entropy, and the mean and deviation of each channel. Invariant: all
//! of them are of the 8-bit picture, whatever its depth. Deliberately absent: anything that needs a model.

use squilla_core::error::{Error, Result};
use squilla_core::values::{ImageView, PixelType};

use crate::image::convert::{Mode, convert};

/// The numbers of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageStats {
    /// Mean of each channel, 0 to 255.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Mean of the grey picture, 0 to 255.
    pub brightness: f32,
    /// Standard deviation of the grey picture.
    pub contrast: f32,
    /// Variance of the Laplacian of the grey picture; low where nothing is in focus.
    pub sharpness: f32,
    /// Bits a grey value carries, 0 to 8; low for empty pictures.
    pub entropy: f32,
}

/// Measures a picture. Errors: `InvalidArgument` when it has no pixels.
pub fn image_stats(image: &ImageView<'_>) -> Result<ImageStats> {
    if image.width == 0 || image.height == 0 {
        return Err(Error::invalid_argument("an image without pixels has no statistics"));
    }
    let channels = usize::from(image.channels);
    let eight = convert(image, Mode::new(image.channels, PixelType::U8));
    let (mut mean, mut std) = (Vec::new(), Vec::new());
    for channel in 0..channels {
        let mut counts = [0_u64; 256];
        eight.iter().skip(channel).step_by(channels).for_each(|&v| counts[usize::from(v)] += 1);
        let (m, s) = moments(&counts);
        mean.push(m as f32);
        std.push(s as f32);
    }
    let grey = convert(image, Mode::L);
    let mut counts = [0_u64; 256];
    grey.iter().for_each(|&v| counts[usize::from(v)] += 1);
    let (brightness, contrast) = moments(&counts);
    Ok(ImageStats {
        mean,
        std,
        brightness: brightness as f32,
        contrast: contrast as f32,
        sharpness: sharpness(&grey, image.width as usize) as f32,
        entropy: entropy(&counts) as f32,
    })
}

/// Mean and standard deviation of the values that were counted.
fn moments(counts: &[u64; 256]) -> (f64, f64) {
    let each = || counts.iter().enumerate().map(|(value, &count)| (value as u64, count));
    let total: u64 = counts.iter().sum();
    // Whole numbers stay exact: 255 squared times 2^40 pixels fit.
    let sum: u64 = each().map(|(value, count)| value * count).sum();
    let squares: u64 = each().map(|(value, count)| value * value * count).sum();
    let mean = sum as f64 / total as f64;
    (mean, (squares as f64 / total as f64 - mean * mean).max(0.0).sqrt())
}

/// Shannon's, in bits.
fn entropy(counts: &[u64; 256]) -> f64 {
    let total: u64 = counts.iter().sum();
    let shares = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total as f64);
    // Not -0 for a picture of one value.
    shares.map(|p| -p * p.log2()).sum::<f64>().max(0.0)
}

/// Variance of the four-neighbour Laplacian over the inner pixels; 0 for pictures without any.
fn sharpness(grey: &[u8], width: usize) -> f64 {
    let (mut count, mut sum, mut squares) = (0_u64, 0_i64, 0_u64);
    let rows: Vec<&[u8]> = grey.chunks_exact(width).collect();
    for three in rows.windows(3) {
        for x in 1..width.saturating_sub(1) {
            let around = [three[0][x], three[2][x], three[1][x - 1], three[1][x + 1]].map(i64::from);
            let edge = around.iter().sum::<i64>() - 4 * i64::from(three[1][x]);
            count += 1;
            sum += edge;
            squares += (edge * edge).unsigned_abs();
        }
    }
    if count == 0 {
        return 0.0;
    }
    let mean = sum as f64 / count as f64;
    (squares as f64 / count as f64 - mean * mean).max(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_checkerboard_is_sharp_and_a_wall_is_not() {
        let board: Vec<u8> = (0..64).map(|i| if (i / 8 + i % 8) % 2 == 0 { 0 } else { 255 }).collect();
        let view = ImageView { data: &board, width: 8, height: 8, channels: 1, pixel: PixelType::U8 };
        let stats = image_stats(&view).unwrap();
        assert_eq!((stats.brightness, stats.contrast, stats.entropy), (127.5, 127.5, 1.0));
        assert_eq!(stats.sharpness, 1020.0 * 1020.0);
        let wall = ImageView { data: &[9; 64], ..view };
        let stats = image_stats(&wall).unwrap();
        assert_eq!((stats.mean, stats.contrast, stats.sharpness, stats.entropy), (vec![9.0], 0.0, 0.0, 0.0));
    }

    #[test]
    fn channels_and_tiny_pictures() {
        let view = ImageView { data: &[255, 0, 0, 255, 255, 0], width: 2, height: 1, channels: 3, pixel: PixelType::U8 };
        let stats = image_stats(&view).unwrap();
        assert_eq!((stats.mean, stats.std, stats.sharpness), (vec![255.0, 127.5, 0.0], vec![0.0, 127.5, 0.0], 0.0));
    }
}
