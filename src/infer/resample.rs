//! A picture at another size, bit for bit as Pillow's `Image.resize` gives it.
//!
//! In: 8-bit RGB, the size to reach, and the window of the result that is wanted. Out: that window, 8-bit RGB. Invariants:
//! coefficients have 22 bits, the first pass runs across, the second one down, with 8-bit values between them, as in
//! Pillow, so models see the levels that they were trained with; only what the window needs is computed.
//! Deliberately absent: alpha, other depths, and equality where one side grows much while the other shrinks: there Pillow 13
//! gives other levels, up to 9 of them on noise.

use crate::pixels::Filter;

/// Bits of a coefficient after the point: what Pillow has for 8-bit pixels.
const PRECISION: u32 = 32 - 8 - 2;

/// The part of the result that is wanted, in pixels of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// The pixels that make one new pixel: the first of them, and a weight each.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// `part` of the picture `rgb` of `size` at the size `to`. Pixels that are not there are black; none of the sizes is 0.
pub fn resample(rgb: &[u8], size: (u32, u32), to: (u32, u32), part: Part, filter: Filter) -> Vec<u8> {
    if filter == Filter::Nearest {
        return nearest(rgb, size, to, part);
    }
    let down = taps(size.1, to.1, part.top, part.height, filter);
    // Only the rows that the second pass looks at go through the first one.
    let first = down.iter().map(|t| t.first).min().unwrap_or(0);
    let last = down.iter().map(|t| t.first + t.weights.len()).max().unwrap_or(0);
    let stride = size.0 as usize * 3;
    let rows = rgb.get(first * stride..(last * stride).min(rgb.len())).unwrap_or_default();
    let width = part.width as usize * 3;
    let lines = if size.0 == to.0 {
        let cut = part.left as usize * 3;
        rows.chunks_exact(stride).flat_map(|row| row.get(cut..cut + width).unwrap_or_default()).copied().collect()
    } else {
        across(rows, stride, &taps(size.0, to.0, part.left, part.width, filter))
    };
    if size.1 == to.1 {
        return lines;
    }
    downwards(&lines, width, first, &down)
}

/// The weights of `count` new pixels from `from` on, where `old` pixels become `new` ones.
fn taps(old: u32, new: u32, from: u32, count: u32, filter: Filter) -> Vec<Taps> {
    if old == new {
        return (from..from + count).map(|i| Taps { first: i as usize, weights: vec![1 << PRECISION] }).collect();
    }
    let scale = f64::from(old) / f64::from(new);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let taps_of = |i: u32| {
        let centre = (f64::from(i) + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as u32;
        let last = ((centre + support + 0.5) as u32).min(old);
        let raw: Vec<f64> = (first..last).map(|x| filter.weight((f64::from(x) - centre + 0.5) * stretch.recip())).collect();
        let sum: f64 = raw.iter().sum();
        let whole = |w: &f64| {
            let scaled = (if sum == 0.0 { *w } else { w / sum }) * f64::from(1 << PRECISION);
            (scaled + 0.5_f64.copysign(scaled)) as i32
        };
        Taps { first: first as usize, weights: raw.iter().map(whole).collect() }
    };
    (from..from + count).map(taps_of).collect()
}

fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn across(rows: &[u8], stride: usize, taps: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() / stride * taps.len() * 3);
    for row in rows.chunks_exact(stride) {
        for tap in taps {
            let (pixels, _) = row.get(tap.first * 3..).unwrap_or_default().as_chunks::<3>();
            let (mut r, mut g, mut b) = (HALF, HALF, HALF);
            for ([red, green, blue], weight) in pixels.iter().zip(&tap.weights) {
                r += i32::from(*red) * weight;
                g += i32::from(*green) * weight;
                b += i32::from(*blue) * weight;
            }
            out.extend_from_slice(&[level(r), level(g), level(b)]);
        }
    }
    out
}

/// `lines` begin with row `first` of the picture.
fn downwards(lines: &[u8], width: usize, first: usize, taps: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(width * taps.len());
    let mut sums = vec![HALF; width];
    for tap in taps {
        sums.fill(HALF);
        let rows = lines.get((tap.first - first) * width..).unwrap_or_default();
        for (row, weight) in rows.chunks_exact(width).zip(&tap.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        out.extend(sums.iter().map(|sum| level(*sum)));
    }
    out
}

fn nearest(rgb: &[u8], size: (u32, u32), to: (u32, u32), part: Part) -> Vec<u8> {
    // Summed up step by step, as in Pillow: rounding then falls on the same side.
    let places = |old: u32, new: u32, from: u32, count: u32| -> Vec<usize> {
        let scale = f64::from(old) / f64::from(new);
        let mut at = scale * 0.5;
        let all = (0..from + count).map(|_| {
            let place = at as usize;
            at += scale;
            place.min(old as usize - 1)
        });
        all.skip(from as usize).collect()
    };
    let columns = places(size.0, to.0, part.left, part.width);
    let stride = size.0 as usize * 3;
    let mut out = Vec::with_capacity(part.width as usize * part.height as usize * 3);
    for y in places(size.1, to.1, part.top, part.height) {
        let row = rgb.get(y * stride..(y + 1) * stride).unwrap_or_default();
        columns.iter().for_each(|x| out.extend_from_slice(row.get(x * 3..x * 3 + 3).unwrap_or(&[0; 3])));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture that any two ways of rounding would tell apart.
    fn noise(width: u32, height: u32) -> Vec<u8> {
        (0..width * height * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
    }

    fn sum(bytes: &[u8]) -> u32 {
        bytes.iter().fold(17, |sum: u32, b| sum.wrapping_mul(31).wrapping_add(u32::from(*b)))
    }

    fn whole((width, height): (u32, u32)) -> Part {
        Part { left: 0, top: 0, width, height }
    }

    /// The sums are those of `Image.resize` of Pillow 13 on the same noise (`scripts/golden/resample.py`).
    #[test]
    fn equal_to_pillow() {
        let cases = [
            (Filter::Nearest, (64, 64), (73, 73), 2619892897),
            (Filter::Nearest, (333, 257), (94, 73), 3274434163),
            (Filter::Nearest, (120, 90), (120, 73), 4217593713),
            (Filter::Nearest, (90, 140), (73, 140), 516659482),
            (Filter::Nearest, (37, 53), (120, 200), 3345868677),
            (Filter::Nearest, (500, 375), (341, 256), 999488908),
            (Filter::Lanczos, (64, 64), (73, 73), 4205753940),
            (Filter::Lanczos, (333, 257), (94, 73), 3135751446),
            (Filter::Lanczos, (120, 90), (120, 73), 1041631960),
            (Filter::Lanczos, (90, 140), (73, 140), 2916106839),
            (Filter::Lanczos, (37, 53), (120, 200), 2392440770),
            (Filter::Lanczos, (500, 375), (341, 256), 1351200126),
            (Filter::Bilinear, (64, 64), (73, 73), 308813825),
            (Filter::Bilinear, (333, 257), (94, 73), 3982394935),
            (Filter::Bilinear, (120, 90), (120, 73), 322032563),
            (Filter::Bilinear, (90, 140), (73, 140), 3934221128),
            (Filter::Bilinear, (37, 53), (120, 200), 4034849848),
            (Filter::Bilinear, (500, 375), (341, 256), 1179561861),
            (Filter::Bicubic, (64, 64), (73, 73), 2095583827),
            (Filter::Bicubic, (333, 257), (94, 73), 2270287218),
            (Filter::Bicubic, (120, 90), (120, 73), 1940168801),
            (Filter::Bicubic, (90, 140), (73, 140), 2792940270),
            (Filter::Bicubic, (37, 53), (120, 200), 5468004),
            (Filter::Bicubic, (500, 375), (341, 256), 2221627683),
            (Filter::Box, (64, 64), (73, 73), 2619892897),
            (Filter::Box, (333, 257), (94, 73), 553126032),
            (Filter::Box, (120, 90), (120, 73), 2207161556),
            (Filter::Box, (90, 140), (73, 140), 3697336762),
            (Filter::Box, (37, 53), (120, 200), 3345868677),
            (Filter::Box, (500, 375), (341, 256), 3646229308),
            (Filter::Hamming, (64, 64), (73, 73), 304300242),
            (Filter::Hamming, (333, 257), (94, 73), 1861563196),
            (Filter::Hamming, (120, 90), (120, 73), 2486523695),
            (Filter::Hamming, (90, 140), (73, 140), 999563711),
            (Filter::Hamming, (37, 53), (120, 200), 336363013),
            (Filter::Hamming, (500, 375), (341, 256), 2613058265),
        ];
        for (filter, size, to, wanted) in cases {
            let made = resample(&noise(size.0, size.1), size, to, whole(to), filter);
            assert_eq!(sum(&made), wanted, "{filter:?} {size:?} to {to:?}");
        }
    }

    #[test]
    fn a_part_is_cut_from_the_whole() {
        let (size, to) = ((61, 47), (40, 90));
        let rgb = noise(size.0, size.1);
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Lanczos] {
            let all = resample(&rgb, size, to, whole(to), filter);
            let part = Part { left: 7, top: 30, width: 11, height: 40 };
            let cut: Vec<u8> = (30..70).flat_map(|y| all[(y * 40 + 7) * 3..(y * 40 + 18) * 3].to_vec()).collect();
            assert_eq!(resample(&rgb, size, to, part, filter), cut, "{filter:?}");
        }
    }
}
