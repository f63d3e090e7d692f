//! YUV 4:2:0 to RGB with the matrix and range that the video declares.
//!
//! In: three planes of 8 bits. Out: interleaved RGB. Invariant: the same numbers on every machine, within 2 of FFmpeg's
//! own converter where that one knows the matrix. Each chroma sample colours its square of four pixels.
//! Deliberately absent: transfer functions and gamut mapping; HDR video comes out flat, as from other tools.

use ffmpeg_next::color::Space;

/// One plane of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// Rows of `stride` bytes.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl<'a> Plane<'a> {
    fn row(&self, y: usize) -> &'a [u8] {
        self.data.get(y * self.stride..).unwrap_or_default()
    }
}

/// Factors of the conversion, times 8192: with samples shifted up by 7 bits, the high half of a product is the colour in
/// sixteenths. Everything fits 16 bits, so the loops below become vector instructions of the oldest x86-64 machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    luma: i16,
    black: i16,
    red_v: i16,
    green_u: i16,
    green_v: i16,
    blue_u: i16,
}

impl Matrix {
    /// The matrix of a colour space; what is not specified is BT.601, as in FFmpeg. `full` means 0..=255 luma.
    pub fn of(space: Space, full: bool) -> Self {
        let (red, blue) = match space {
            Space::BT709 => (0.2126, 0.0722),
            Space::BT2020NCL | Space::BT2020CL => (0.2627, 0.0593),
            Space::SMPTE240M => (0.212, 0.087),
            Space::FCC => (0.30, 0.11),
            _ => (0.299, 0.114),
        };
        let green = 1.0 - red - blue;
        let (luma, chroma) = if full { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |value: f64| (value * 8192.0).round() as i16;
        Self {
            luma: fixed(luma),
            black: if full { 0 } else { 16 },
            red_v: fixed(2.0 * (1.0 - red) * chroma),
            green_u: fixed(-2.0 * (1.0 - blue) * blue / green * chroma),
            green_v: fixed(-2.0 * (1.0 - red) * red / green * chroma),
            blue_u: fixed(2.0 * (1.0 - blue) * chroma),
        }
    }
}

/// One row of numbers per colour, padded to whole groups of four pixels.
struct Rows<T> {
    red: Vec<T>,
    green: Vec<T>,
    blue: Vec<T>,
}

impl<T: Clone + Default> Rows<T> {
    fn new(width: usize) -> Self {
        let row = vec![T::default(); width];
        Self { red: row.clone(), green: row.clone(), blue: row }
    }
}

/// The picture as `width * height * 3` bytes of RGB. Where planes are too short the colours are arbitrary.
pub fn to_rgb(y: Plane<'_>, u: Plane<'_>, v: Plane<'_>, width: usize, height: usize, matrix: Matrix) -> Vec<u8> {
    let mut out = vec![0_u8; width * height * 3];
    let padded = width.next_multiple_of(4);
    let mut luma = vec![0_i16; padded];
    let mut chroma = Rows::<i16>::new(padded);
    let mut pixels = Rows::<u8>::new(padded);
    for (line, row) in out.chunks_exact_mut(width.max(1) * 3).enumerate() {
        for (luma, sample) in luma.iter_mut().zip(y.row(line)) {
            *luma = product((i16::from(*sample) - matrix.black) << 7, matrix.luma);
        }
        if line % 2 == 0 {
            spread_chroma(u.row(line / 2), v.row(line / 2), matrix, &mut chroma);
        }
        add(&luma, &chroma.red, &mut pixels.red);
        add(&luma, &chroma.green, &mut pixels.green);
        add(&luma, &chroma.blue, &mut pixels.blue);
        interleave(&pixels, row);
    }
    out
}

/// What chroma adds to each colour, two equal numbers for each sample: it serves two pixels of two lines.
fn spread_chroma(us: &[u8], vs: &[u8], m: Matrix, out: &mut Rows<i16>) {
    let pairs = out.red.chunks_exact_mut(2).zip(out.green.chunks_exact_mut(2)).zip(out.blue.chunks_exact_mut(2));
    for ((u, v), ((red, green), blue)) in us.iter().zip(vs).zip(pairs) {
        let (u, v) = ((i16::from(*u) - 128) << 7, (i16::from(*v) - 128) << 7);
        red.fill(product(v, m.red_v));
        green.fill(product(u, m.green_u) + product(v, m.green_v));
        blue.fill(product(u, m.blue_u));
    }
}

/// The high half of a product.
#[inline(always)]
fn product(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// Sums in sixteenths, rounded and clipped to bytes.
fn add(luma: &[i16], chroma: &[i16], out: &mut [u8]) {
    for ((luma, chroma), out) in luma.iter().zip(chroma).zip(out) {
        *out = ((luma + chroma + 8) >> 4).clamp(0, 255) as u8;
    }
}

/// Three rows of bytes to one row of RGB, four pixels in three words at a time.
fn interleave(rows: &Rows<u8>, out: &mut [u8]) {
    let word = |bytes: &[u8]| match bytes {
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    };
    let colors = rows.red.chunks_exact(4).zip(rows.green.chunks_exact(4)).zip(rows.blue.chunks_exact(4));
    for (out, ((red, green), blue)) in out.chunks_mut(12).zip(colors) {
        let (r, g, b) = (word(red), word(green), word(blue));
        let words = [
            (r & 0xff) | (g & 0xff) << 8 | (b & 0xff) << 16 | (r & 0xff00) << 16,
            (g & 0xff00) >> 8 | (b & 0xff00) | (r & 0xff_0000) | (g & 0xff_0000) << 8,
            (b & 0xff_0000) >> 16 | (r & 0xff00_0000) >> 16 | (g & 0xff00_0000) >> 8 | (b & 0xff00_0000),
        ];
        for (out, word) in out.chunks_mut(4).zip(words) {
            let bytes = word.to_le_bytes();
            match out.len() {
                4 => out.copy_from_slice(&bytes),
                rest => out.copy_from_slice(bytes.get(..rest).unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn one(y: u8, u: u8, v: u8, matrix: Matrix) -> [u8; 3] {
        let plane = |data| Plane { data, stride: 1 };
        to_rgb(plane(&[y]), plane(&[u]), plane(&[v]), 1, 1, matrix).try_into().unwrap()
    }

    #[test]
    fn black_white_and_primaries() {
        let sd = Matrix::of(Space::Unspecified, false);
        assert_eq!(one(16, 128, 128, sd), [0, 0, 0]);
        assert_eq!(one(235, 128, 128, sd), [255, 255, 255]);
        assert_eq!(one(0, 128, 128, Matrix::of(Space::BT709, true)), [0, 0, 0]);
        assert_eq!(one(255, 128, 128, Matrix::of(Space::BT709, true)), [255, 255, 255]);
        // Pure red in BT.601 and in BT.709.
        let near = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 2);
        assert!(near(one(81, 90, 240, sd), [255, 0, 0]));
        assert!(near(one(63, 102, 240, Matrix::of(Space::BT709, false)), [255, 0, 0]));
    }

    #[test]
    fn odd_sizes_are_filled() {
        let y = Plane { data: &[235; 9], stride: 3 };
        let c = Plane { data: &[128; 4], stride: 2 };
        assert_eq!(to_rgb(y, c, c, 3, 3, Matrix::of(Space::Unspecified, false)), [255; 27]);
    }

    #[test]
    fn short_planes_are_harmless() {
        let y = Plane { data: &[235; 3], stride: 4 };
        assert_eq!(to_rgb(y, y, y, 4, 4, Matrix::of(Space::Unspecified, false)).len(), 48);
    }
}
