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

/// Factors of the conversion, times 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    luma: i32,
    black: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
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
        let fixed = |value: f64| (value * 65_536.0).round() as i32;
        Self {
            luma: fixed(luma),
            black: if full { 0 } else { 16 },
            red_v: fixed(2.0 * (1.0 - red) * chroma),
            green_u: fixed(2.0 * (1.0 - blue) * blue / green * chroma),
            green_v: fixed(2.0 * (1.0 - red) * red / green * chroma),
            blue_u: fixed(2.0 * (1.0 - blue) * chroma),
        }
    }
}

/// The picture as `width * height * 3` bytes of RGB. Planes that are too short leave black.
pub fn to_rgb(y: Plane<'_>, u: Plane<'_>, v: Plane<'_>, width: usize, height: usize, matrix: Matrix) -> Vec<u8> {
    let mut out = vec![0_u8; width * height * 3];
    for (line, row) in out.chunks_exact_mut(width.max(1) * 3).enumerate() {
        let luma = y.row(line);
        let (us, vs) = (u.row(line / 2), v.row(line / 2));
        let mut pairs = row.chunks_exact_mut(6);
        for (((pixels, luma), u), v) in (&mut pairs).zip(luma.chunks_exact(2)).zip(us).zip(vs) {
            let chroma = Chroma::of(*u, *v, matrix);
            let (first, second) = pixels.split_at_mut(3);
            chroma.pixel(luma[0], first, matrix);
            chroma.pixel(luma[1], second, matrix);
        }
        let rest = pairs.into_remainder();
        if let (Some(luma), Some(u), Some(v), false) =
            (luma.get(width - 1), us.get(width / 2), vs.get(width / 2), rest.is_empty())
        {
            Chroma::of(*u, *v, matrix).pixel(*luma, rest, matrix);
        }
    }
    out
}

#[derive(Clone, Copy)]
struct Chroma {
    red: i32,
    green: i32,
    blue: i32,
}

impl Chroma {
    #[inline(always)]
    fn of(u: u8, v: u8, m: Matrix) -> Self {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        Self { red: m.red_v * v, green: -m.green_u * u - m.green_v * v, blue: m.blue_u * u }
    }

    #[inline(always)]
    fn pixel(self, luma: u8, out: &mut [u8], m: Matrix) {
        let base = (i32::from(luma) - m.black) * m.luma + 32_768;
        let clip = |value: i32| (value >> 16).clamp(0, 255) as u8;
        if let [red, green, blue] = out {
            *red = clip(base + self.red);
            *green = clip(base + self.green);
            *blue = clip(base + self.blue);
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
