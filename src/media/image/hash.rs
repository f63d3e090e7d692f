//! Hashes of what an image looks like.
//!
//! In: an image, a method and a size. Out: `size * size` bits, row by row. Invariant: the bits equal those of the Python
//! library imagehash on the same pixels, hence a resizer of its own that rounds as Pillow does (up to version 12: later ones
//! resize some pictures vertically first, and the last bit of a value may differ). Deliberately absent: colour
//! hashes, and any index over hashes.

use squilla_core::error::{Error, Result};
use squilla_core::values::ImageView;

use crate::image::convert::{Mode, convert};
use crate::image::haar::Square;
use crate::image::resize::one_of;

/// What the bits compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Low frequencies with their median.
    Phash,
    /// Each pixel with its left neighbour.
    Dhash,
    /// Each pixel with the mean.
    Ahash,
    /// Low wavelet coefficients with their median.
    Whash,
}

impl Method {
    /// By name.
    pub fn parse(name: &str) -> Result<Self> {
        one_of("hash method", name, &[("phash", Method::Phash), ("dhash", Method::Dhash), ("ahash", Method::Ahash), ("whash", Method::Whash)])
    }
}

/// Larger hashes than 64 x 64 bits compare noise.
const SIZE_MAX: usize = 64;

/// The `size * size` bits of an image, row by row. Errors: `InvalidArgument` for a size outside 2 to 64, or one that is no
/// power of two for whash.
pub fn image_hash(image: &ImageView<'_>, method: Method, size: usize) -> Result<Vec<bool>> {
    if !(2..=SIZE_MAX).contains(&size) {
        return Err(Error::invalid_argument(format!("hash size {size} is not between 2 and {SIZE_MAX}")));
    }
    let data = convert(image, Mode::L);
    let grey = Grey { data: &data, width: image.width as usize, height: image.height as usize };
    match method {
        Method::Phash => Ok(phash(&grey, size)),
        Method::Dhash => {
            let small = grey.resized(size + 1, size);
            Ok(small.chunks_exact(size + 1).flat_map(|row| row.windows(2).map(|pair| pair[1] > pair[0])).collect())
        }
        Method::Ahash => {
            let small = grey.resized(size, size);
            let sum: u64 = small.iter().map(|&v| u64::from(v)).sum();
            Ok(small.iter().map(|&v| u64::from(v) * small.len() as u64 > sum).collect())
        }
        Method::Whash if size.is_power_of_two() => Ok(whash(&grey, size)),
        Method::Whash => Err(Error::invalid_argument(format!("hash size {size} of whash is not a power of two"))),
    }
}

/// The bits as a number, the first one highest. Errors: `InvalidArgument` for more than 64 bits.
pub fn hash_u64(bits: &[bool]) -> Result<u64> {
    if bits.len() > 64 {
        return Err(Error::invalid_argument(format!("a hash of {} bits does not fit 64", bits.len())));
    }
    Ok(bits.iter().fold(0, |number, &bit| number << 1 | u64::from(bit)))
}

/// The type II cosine transform of the picture at four times the size; the lowest frequencies with their median.
fn phash(grey: &Grey<'_>, size: usize) -> Vec<bool> {
    let side = size * 4;
    let small = grey.resized(side, side);
    // Down the columns first, as the reference does. Of each column only the frequencies that are looked at are kept.
    let mut low = vec![0.0; size * side];
    for x in 0..side {
        let column: Vec<f64> = small.iter().skip(x).step_by(side).map(|&pixel| f64::from(pixel)).collect();
        for (y, value) in cosine_transform(&column).into_iter().take(size).enumerate() {
            low[y * side + x] = value;
        }
    }
    let low: Vec<f64> = low.chunks_exact(side).flat_map(|row| cosine_transform(row).into_iter().take(size)).collect();
    above_median(&low)
}

/// The type II cosine transform, folded in the middle again and again: what cancels by symmetry is exactly zero then, as it is
/// in the reference, and does not depend on rounding.
fn cosine_transform(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let wave = |k: usize, i: usize| (std::f64::consts::PI * k as f64 * (2 * i + 1) as f64 / (2 * n) as f64).cos();
    if n % 2 == 1 {
        return (0..n).map(|k| 2.0 * values.iter().enumerate().map(|(i, v)| v * wave(k, i)).sum::<f64>()).collect();
    }
    let pairs = || values[..n / 2].iter().zip(values.iter().rev());
    let sums: Vec<f64> = pairs().map(|(a, b)| a + b).collect();
    let differences: Vec<f64> = pairs().map(|(a, b)| a - b).collect();
    let odd = |k: usize| 2.0 * differences.iter().enumerate().map(|(i, v)| v * wave(k, i)).sum::<f64>();
    cosine_transform(&sums).into_iter().enumerate().flat_map(|(k, even)| [even, odd(2 * k + 1)]).collect()
}

/// Haar coefficients at the size of the hash, the overall average taken out, with their median.
fn whash(grey: &Grey<'_>, size: usize) -> Vec<bool> {
    let side = grey.width.min(grey.height).max(1).ilog2();
    let side = (1_usize << side).max(size);
    let pixels = grey.resized(side, side).iter().map(|&pixel| f64::from(pixel) / 255.0).collect();
    let mut square = Square::new(pixels, side);
    square.clear_average();
    let mut level = side;
    while level > size {
        square.analyse(level);
        level /= 2;
    }
    above_median(&square.corner(size))
}

fn above_median(values: &[f64]) -> Vec<bool> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[upper] } else { (sorted[upper - 1] + sorted[upper]) / 2.0 };
    values.iter().map(|&v| v > median).collect()
}

/// An 8-bit grey picture.
struct Grey<'a> {
    data: &'a [u8],
    width: usize,
    height: usize,
}

/// Binary digits behind the point of a weight, as in Pillow.
const PRECISION: u32 = 22;

/// For one new pixel: the first old pixel, and the weights of it and its successors.
struct Weights {
    first: usize,
    weights: Vec<i64>,
}

impl Grey<'_> {
    /// Pillow's LANCZOS, bit by bit.
    fn resized(&self, width: usize, height: usize) -> Vec<u8> {
        let mut rows = Vec::with_capacity(width * self.height);
        if width == self.width {
            rows.extend_from_slice(self.data);
        } else {
            let weights = lanczos(self.width, width);
            for row in self.data.chunks_exact(self.width) {
                rows.extend(weights.iter().map(|w| {
                    let old = row[w.first..].iter().zip(&w.weights);
                    rounded(old.map(|(&v, &weight)| i64::from(v) * weight).sum())
                }));
            }
        }
        if height == self.height {
            return rows;
        }
        let mut out = Vec::with_capacity(width * height);
        let mut sums = vec![0_i64; width];
        for w in lanczos(self.height, height) {
            sums.fill(0);
            for (row, &weight) in rows.chunks_exact(width).skip(w.first).zip(&w.weights) {
                for (sum, &v) in sums.iter_mut().zip(row) {
                    *sum += i64::from(v) * weight;
                }
            }
            out.extend(sums.iter().map(|&sum| rounded(sum)));
        }
        out
    }
}

fn rounded(sum: i64) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

fn lanczos(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 3.0 * stretch;
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    let filter = |x: f64| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 };
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // `as` truncates toward zero and takes negatives to 0, as the reference does.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let ss = 1.0 / stretch;
            let raw: Vec<f64> = (first..end).map(|x| filter((x as f64 - center + 0.5) * ss)).collect();
            let total: f64 = raw.iter().sum();
            let unit = f64::from(1_u32 << PRECISION);
            let whole = |w: f64| if w < 0.0 { (w * unit - 0.5) as i64 } else { (w * unit + 0.5) as i64 };
            Weights { first, weights: raw.iter().map(|&w| whole(if total == 0.0 { w } else { w / total })).collect() }
        })
        .collect()
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
