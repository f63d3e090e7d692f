//! MinHash signatures: near-duplicate texts share most of their entries.
//!
//! In: a text. Out: `num_hashes` numbers in 0..2^32, the least hash of its character n-grams under so many hash functions.
//! Invariant: depends on nothing but the arguments, on any machine, for ever: signatures are stored.
//! Deliberately absent: normalisation beyond lower case and single spaces.

use squilla_core::error::{Error, Result};

/// Most hash functions.
pub const HASHES_MAX: i64 = 4096;

/// How a signature is made.
#[derive(Clone, Debug)]
pub struct MinHash {
    ngram: usize,
    /// Odd multiplier and addend of each hash function.
    functions: Vec<(u64, u64)>,
}

impl MinHash {
    /// 22023 unless `1 <= num_hashes <= 4096` and `ngram >= 1`.
    pub fn new(num_hashes: i64, ngram: i64, seed: i64) -> Result<Self> {
        if !(1..=HASHES_MAX).contains(&num_hashes) {
            return Err(Error::invalid_argument(format!("num_hashes must be between 1 and {HASHES_MAX}, not {num_hashes}")));
        }
        let ngram = usize::try_from(ngram).ok().filter(|n| *n > 0);
        let ngram = ngram.ok_or_else(|| Error::invalid_argument("ngram must be at least 1"))?;
        let mut state = seed as u64;
        let functions = (0..num_hashes).map(|_| (split_mix(&mut state) | 1, split_mix(&mut state))).collect();
        Ok(Self { ngram, functions })
    }

    /// The signature. A text shorter than one n-gram counts as one; a text of white space has all entries 2^32 - 1.
    pub fn signature(&self, text: &str) -> Vec<i64> {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        let text = words.join(" ");
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut least = vec![u32::MAX; self.functions.len()];
        if text.is_empty() {
            return least.into_iter().map(i64::from).collect();
        }
        let windows = starts.len().saturating_sub(self.ngram).max(1);
        let mut hashes: Vec<u64> = (0..windows)
            .map(|i| {
                let end = starts.get(i + self.ngram).copied().unwrap_or(text.len());
                fnv(text.as_bytes().get(starts[i]..end).unwrap_or_default())
            })
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        for hash in hashes {
            for (entry, (multiply, add)) in least.iter_mut().zip(&self.functions) {
                *entry = (*entry).min((hash.wrapping_mul(*multiply).wrapping_add(*add) >> 32) as u32);
            }
        }
        least.into_iter().map(i64::from).collect()
    }
}

/// The share of equal entries: an estimate of the Jaccard similarity. 22023 for signatures of different lengths.
pub fn similarity(a: &[i64], b: &[i64]) -> Result<f64> {
    if a.len() != b.len() {
        return Err(Error::invalid_argument(format!("different signature lengths {} and {}", a.len(), b.len())));
    }
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    Ok(if a.is_empty() { 0.0 } else { equal as f64 / a.len() as f64 })
}

/// One hash per band of the signature. Texts that share a band are candidates. 22023 unless the bands divide it evenly.
pub fn bands(signature: &[i64], bands: i64) -> Result<Vec<i64>> {
    let count = usize::try_from(bands).ok().filter(|b| *b > 0 && *b <= signature.len() && signature.len().is_multiple_of(*b));
    let Some(count) = count else {
        return Err(Error::invalid_argument(format!("bands must divide the signature's length {}, not {bands}", signature.len())));
    };
    let hash = |(number, rows): (usize, &[i64])| {
        // The band's number is hashed too: equal rows in different bands are no candidates.
        let bytes: Vec<u8> = [number as i64].iter().chain(rows).flat_map(|v| v.to_le_bytes()).collect();
        let mut state = fnv(&bytes);
        split_mix(&mut state) as i64
    };
    Ok(signature.chunks(signature.len() / count).enumerate().map(hash).collect())
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn near_texts_are_near() {
        let minhash = MinHash::new(256, 5, 1).unwrap();
        let base = "The quick brown fox jumps over the lazy dog and runs far away into the dark green forest.";
        let a = minhash.signature(base);
        let b = minhash.signature(&base.replace("dark", "deep").replace(' ', "  ").to_uppercase());
        let c = minhash.signature("An entirely different sentence about spreadsheets, taxes and quarterly results.");
        assert!(similarity(&a, &b).unwrap() > 0.7);
        assert!(similarity(&a, &c).unwrap() < 0.1);
        assert_eq!(similarity(&a, &a).unwrap(), 1.0);
        assert!(similarity(&a, &[1]).is_err());
    }

    #[test]
    fn the_estimate_is_close_to_the_jaccard_similarity() {
        // 300 of 500 distinct words are shared: J of the word sets is 0.6; with ngram 1 on one-character words it is exact.
        let word = |i: u32| char::from_u32(0x4e00 + i).unwrap().to_string();
        let text = |range: std::ops::Range<u32>| range.map(word).collect::<String>();
        let minhash = MinHash::new(2048, 1, 7).unwrap();
        let estimate = similarity(&minhash.signature(&text(0..400)), &minhash.signature(&text(100..500))).unwrap();
        assert!((estimate - 0.6).abs() < 0.04, "{estimate}");
    }

    #[test]
    fn bands_divide_the_signature() {
        let signature = MinHash::new(128, 5, 1).unwrap().signature("some text to be hashed");
        assert_eq!(bands(&signature, 16).unwrap().len(), 16);
        for bad in [0, -1, 3, 256] {
            assert!(bands(&signature, bad).is_err());
        }
    }

    #[test]
    fn signatures_never_change() {
        assert_eq!(MinHash::new(2, 5, 1).unwrap().signature("Hello world"), MinHash::new(2, 5, 1).unwrap().signature("hello  WORLD"));
        let blank = MinHash::new(3, 5, 1).unwrap().signature(" \n");
        assert_eq!(blank, [i64::from(u32::MAX); 3]);
    }
}
