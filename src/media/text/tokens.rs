//! Chunks bounded by tokens, cut between words.
//!
//! In: a text and a way to count tokens. Out: byte ranges. How: each distinct word is counted once, with the white space
//! before it; tokenizers split at white space first, so the counts of words add up to the count of the text.
//! Invariant: the words of a chunk, and the special tokens that every text gets, have at most `size` tokens together.
//! Deliberately absent: cutting inside a word that fits, which would leave pieces that no tokenizer would make.

use std::collections::HashMap;
use std::ops::Range;

use squilla_core::error::{Error, Result};
use unicode_segmentation::UnicodeSegmentation;

use super::chunk::CountTokens;
use super::recursive::{Piece, merge};

/// Chunks of at most `size` tokens; each repeats whole words of the one before, `overlap` tokens at most.
pub(super) fn chunk_ranges(text: &str, size: usize, overlap: usize, count: CountTokens<'_>) -> Result<Vec<Range<usize>>> {
    let special = count(&[""])?.first().copied().unwrap_or(0);
    let room = size.checked_sub(special).filter(|room| *room > 0);
    let room =
        room.ok_or_else(|| Error::invalid_argument(format!("chunk_size must be more than the {special} special tokens of the model, not {size}")))?;
    let mut counter = Counter { text, special, count, known: HashMap::new() };
    let mut pieces = Vec::new();
    for piece in counter.pieces(words(text))? {
        if piece.len <= room {
            pieces.push(piece);
        } else {
            counter.cut(piece.range, room, &mut pieces)?;
        }
    }
    let mut out = Vec::new();
    merge(text, &pieces, room, overlap.min(room - 1), &mut out);
    Ok(out)
}

/// Words, each with the white space before it; white space at the end belongs to the last.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let (mut start, mut in_word) = (0, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && in_word {
            words.push(start..at);
            start = at;
        }
        in_word = !c.is_whitespace();
    }
    if start < text.len() {
        words.push(start..text.len());
    }
    words
}

struct Counter<'t, 'f> {
    text: &'t str,
    special: usize,
    count: CountTokens<'f>,
    known: HashMap<&'t str, usize>,
}

impl<'t> Counter<'t, '_> {
    fn part(&self, range: &Range<usize>) -> &'t str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Counts the parts that are new, in one call.
    fn pieces(&mut self, ranges: Vec<Range<usize>>) -> Result<Vec<Piece>> {
        let mut new: Vec<&'t str> = ranges.iter().map(|r| self.part(r)).filter(|part| !self.known.contains_key(part)).collect();
        new.sort_unstable();
        new.dedup();
        let counts = if new.is_empty() { Vec::new() } else { (self.count)(&new)? };
        self.known.extend(new.into_iter().zip(counts.into_iter().map(|n| n.saturating_sub(self.special))));
        let len = |range: &Range<usize>| self.known.get(self.part(range)).copied().unwrap_or(0);
        Ok(ranges.into_iter().map(|range| Piece { len: len(&range), range }).collect())
    }

    /// Cuts a word that is too long at Unicode's word boundaries (scripts without spaces have them within), and what is
    /// still too long in halves. A single character is never cut, whatever it counts.
    fn cut(&mut self, word: Range<usize>, room: usize, out: &mut Vec<Piece>) -> Result<()> {
        let base = word.start;
        let parts = self.part(&word).split_word_bound_indices().map(|(at, part)| base + at..base + at + part.len()).collect();
        let mut stack: Vec<Piece> = self.pieces(parts)?;
        stack.reverse();
        while let Some(piece) = stack.pop() {
            let middle = self.part(&piece.range).chars().count() / 2;
            if piece.len <= room || middle == 0 {
                out.push(Piece { len: piece.len.min(room), range: piece.range });
                continue;
            }
            let at = self.part(&piece.range).char_indices().nth(middle).map_or(piece.range.end, |(at, _)| piece.range.start + at);
            let halves = self.pieces(vec![piece.range.start..at, at..piece.range.end])?;
            stack.extend(halves.into_iter().rev());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Every character is a token; two special tokens.
    fn chars(texts: &[&str]) -> Result<Vec<usize>> {
        Ok(texts.iter().map(|t| 2 + t.chars().filter(|c| !c.is_whitespace()).count()).collect())
    }

    fn cut(text: &str, size: usize, overlap: usize) -> Vec<&str> {
        chunk_ranges(text, size, overlap, &chars).unwrap().into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(cut("abc de  fgh i\n", 7, 0), ["abc de", "fgh i"]);
        assert_eq!(cut("abc de  fgh i", 7, 2), ["abc de", "de  fgh", "i"]);
        assert_eq!(cut("  \n ", 7, 2), Vec::<&str>::new());
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(cut("ab cdefghijk l", 6, 0), ["ab", "cdef", "gh", "ijk l"], "in halves");
        assert_eq!(cut("データベース表を読み", 6, 0).concat(), "データベース表を読み");
        assert!(cut("データベース表を読み", 6, 0).iter().all(|c| c.chars().count() <= 4));
    }
}
