//! The Haar wavelet transform, with the rounding of the Python library PyWavelets.
//!
//! In: a square of doubles whose side is a power of two. Out: its coefficients, or the square of its coefficients. Invariant:
//! every sum is made in the order of the reference, for wavelet hashes compare values that differ by rounding alone (flat
//! backgrounds). Deliberately absent: other wavelets.

/// 1 / sqrt(2), as the reference has it.
const C: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// A square of values; transforms work on its top left corner.
pub(crate) struct Square {
    values: Vec<f64>,
    side: usize,
    row: Vec<f64>,
}

impl Square {
    /// `side * side` values, row by row.
    pub(crate) fn new(values: Vec<f64>, side: usize) -> Self {
        Self { values, side, row: vec![0.0; side] }
    }

    /// One level, of the corner of `size * size`: averages go to the top left quarter, details to the others.
    pub(crate) fn analyse(&mut self, size: usize) {
        let half = size / 2;
        let mut lower = vec![0.0; half * size];
        for i in 0..half {
            for x in 0..size {
                let (even, odd) = (self.values[2 * i * self.side + x], self.values[(2 * i + 1) * self.side + x]);
                // Row i is written after rows 2i and 2i + 1 are read.
                self.values[i * self.side + x] = C * odd + C * even;
                lower[i * size + x] = -C * odd + C * even;
            }
        }
        for (i, row) in lower.chunks_exact(size).enumerate() {
            let at = (half + i) * self.side;
            self.values[at..at + size].copy_from_slice(row);
        }
        for y in 0..size {
            let row = &mut self.values[y * self.side..y * self.side + size];
            self.row[..size].copy_from_slice(row);
            for (i, pair) in self.row[..size].chunks_exact(2).enumerate() {
                row[i] = C * pair[1] + C * pair[0];
                row[half + i] = -C * pair[1] + C * pair[0];
            }
        }
    }

    /// Undoes [`Square::analyse`].
    pub(crate) fn synthesise(&mut self, size: usize) {
        let half = size / 2;
        for y in 0..size {
            let row = &mut self.values[y * self.side..y * self.side + size];
            self.row[..size].copy_from_slice(row);
            for i in 0..half {
                let (average, detail) = (self.row[i], self.row[half + i]);
                row[2 * i] = C * average + C * detail;
                row[2 * i + 1] = C * average + -C * detail;
            }
        }
        let upper: Vec<f64> = self.values.chunks_exact(self.side).take(half).flat_map(|row| row[..size].iter().copied()).collect();
        for i in 0..half {
            for x in 0..size {
                let (average, detail) = (upper[i * size + x], self.values[(half + i) * self.side + x]);
                // Rows 2i and 2i + 1 stand above row half + i, but for the last ones, which are read before.
                self.values[2 * i * self.side + x] = C * average + C * detail;
                self.values[(2 * i + 1) * self.side + x] = C * average + -C * detail;
            }
        }
    }

    /// Sets the average of everything to zero: the one coefficient left after all levels.
    pub(crate) fn clear_average(&mut self) {
        let levels = self.side.ilog2();
        (0..levels).for_each(|level| self.analyse(self.side >> level));
        self.values[0] *= 0.0;
        (0..levels).rev().for_each(|level| self.synthesise(self.side >> level));
    }

    /// The corner of `size * size`, row by row.
    pub(crate) fn corner(&self, size: usize) -> Vec<f64> {
        self.values.chunks_exact(self.side).take(size).flat_map(|row| row[..size].iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let values: Vec<f64> = (0..64).map(|i| f64::from(i * i % 37)).collect();
        let mut square = Square::new(values.clone(), 8);
        [8, 4, 2].into_iter().for_each(|size| square.analyse(size));
        assert!((square.corner(1)[0] - values.iter().sum::<f64>() / 8.0).abs() < 1e-9);
        [2, 4, 8].into_iter().for_each(|size| square.synthesise(size));
        assert!(square.corner(8).iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-9));
        square.clear_average();
        assert!(square.corner(8).iter().sum::<f64>().abs() < 1e-9);
    }
}
