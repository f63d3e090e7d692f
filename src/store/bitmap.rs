//! Sets of row positions of one file: which of its rows are deleted.
//!
//! In: positions, or the bytes of a set (the portable format of Roaring bitmaps). Out: the same. Invariant: positions are
//! below 2^32, the most rows that a file of ours has. Deliberately absent: which file they belong to.

use roaring::RoaringBitmap;
use squilla_core::error::{Error, Kind, Result};

/// Deleted rows of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deleted(RoaringBitmap);

impl Deleted {
    /// Marks a row: false when it was marked already.
    pub fn insert(&mut self, row: u32) -> bool {
        self.0.insert(row)
    }

    /// Whether a row is marked.
    pub fn contains(&self, row: u32) -> bool {
        self.0.contains(row)
    }

    /// Rows marked.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether no row is marked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter()
    }

    /// The rows from `first` to `last` in order.
    pub fn between(&self, first: u32, last: u32) -> impl Iterator<Item = u32> + '_ {
        self.0.range(first..=last.max(first)).take_while(move |_| first <= last)
    }

    /// Whether rows lie so far apart that a list of their runs is dear: more than one run in `rows_a_run` rows of `rows`.
    pub fn is_scattered(&self, rows: u64, rows_a_run: u64) -> bool {
        let most = usize::try_from(rows / rows_a_run.max(1)).unwrap_or(usize::MAX);
        self.len() > most as u64 && self.runs().nth(most).is_some()
    }

    /// Runs of rows in order: first row and length.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut rows = self.0.iter().peekable();
        std::iter::from_fn(move || {
            let first = rows.next()?;
            let mut length = 1;
            while rows.next_if(|next| u64::from(*next) == u64::from(first) + u64::from(length)).is_some() {
                length += 1;
            }
            Some((first, length))
        })
    }

    /// The rows of both.
    pub fn union(&self, other: &Deleted) -> Deleted {
        Deleted(&self.0 | &other.0)
    }

    /// The rows of this one that the other does not have.
    pub fn without(&self, other: &Deleted) -> Deleted {
        Deleted(&self.0 - &other.0)
    }

    /// All rows of a file of so many that are not in the set.
    pub fn others(&self, rows: u64) -> Deleted {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..u32::try_from(rows).unwrap_or(u32::MAX));
        Deleted(all - &self.0)
    }

    /// Whether the two share a row.
    pub fn meets(&self, other: &Deleted) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// The bytes of the set.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut out).map_err(|e| Error::internal(format!("a set of deleted rows does not serialize: {e}")))?;
        Ok(out)
    }

    /// The inverse of [`Deleted::bytes`]; XX001 for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        RoaringBitmap::deserialize_from(bytes)
            .map(Deleted)
            .map_err(|e| Error::new(Kind::DataCorrupted, format!("the catalog has a damaged set of deleted rows: {e}")))
    }
}

impl FromIterator<u32> for Deleted {
    fn from_iter<T: IntoIterator<Item = u32>>(rows: T) -> Self {
        Deleted(rows.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn runs_are_maximal() {
        let set: Deleted = [0, 1, 2, 5, 7, 8, u32::MAX].into_iter().collect();
        assert_eq!(set.runs().collect::<Vec<_>>(), [(0, 3), (5, 1), (7, 2), (u32::MAX, 1)]);
        assert_eq!(set.between(1, 7).collect::<Vec<_>>(), [1, 2, 5, 7]);
        assert!(set.is_scattered(8, 4) && !set.is_scattered(800, 4));
        assert_eq!(Deleted::from_bytes(&set.bytes().unwrap()).unwrap(), set);
        assert_eq!(Deleted::from_bytes(&[1, 2, 3]).unwrap_err().sqlstate(), "XX001");
    }

    #[test]
    fn sets_combine() {
        let (a, b): (Deleted, Deleted) = ([1, 2].into_iter().collect(), [2, 3].into_iter().collect());
        assert_eq!(a.union(&b).len(), 3);
        assert_eq!(a.others(4).iter().collect::<Vec<_>>(), [0, 3]);
        assert!(a.meets(&b) && !a.without(&b).meets(&b));
    }
}
