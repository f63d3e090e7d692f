//! Text to sentences, and sentences to chunks.
//!
//! In: a text. Out: byte ranges of sentences that cover the text, or of chunks.
//! Invariant: sentence boundaries are those of Unicode's UAX 29, without the ones after an abbreviation or an initial.
//! Deliberately absent: models of sentence boundaries, lists of abbreviations of languages other than English and German.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::recursive::{Piece, RecursiveSplitter, Separators, merge};

/// Words that end in a full stop and, in running text, seldom end a sentence; without the stop, lower case.
const ABBREVIATIONS: [&str; 38] = [
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "e.g", "i.e", "cf", "fig", "figs", "eq", "eqs", "sec", "no", "nos", "vol", "pp",
    "approx", "al", "gen", "col", "lt", "sgt", "rev", "hon", "inc", "ltd", "z.b", "d.h", "bzw", "ca", "nr", "abb", "vgl",
];

/// The sentences of `text`, each with the white space that follows it; together they are the text.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut joins = false;
    for (at, sentence) in text.split_sentence_bound_indices() {
        let range = at..at + sentence.len();
        match out.last_mut() {
            Some(last) if joins => last.end = range.end,
            _ => out.push(range),
        }
        joins = ends_in_abbreviation(sentence);
    }
    out
}

/// Whether the sentence ends in an abbreviation or an initial, on the same line as what follows.
fn ends_in_abbreviation(sentence: &str) -> bool {
    let body = sentence.trim_end_matches([' ', '\t', '\u{a0}']);
    let Some(body) = body.strip_suffix('.') else { return false };
    let word = body.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let mut letters = word.chars();
    let initial = matches!((letters.next(), letters.next()), (Some(c), None) if c.is_uppercase() && c != 'I');
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// Chunks of whole sentences; a sentence longer than `size` is cut as by the recursive splitter.
pub(super) fn chunk_ranges(text: &str, size: usize, overlap: usize) -> Vec<Range<usize>> {
    let mut splitter = RecursiveSplitter::new(text, size, overlap, Separators::Plain);
    let mut whole: Vec<Piece> = Vec::new();
    for range in sentences(text) {
        let len = text.get(range.clone()).unwrap_or_default().chars().count();
        if len <= size {
            whole.push(Piece { range, len });
        } else {
            merge(text, &whole, size, overlap, splitter.out());
            whole.clear();
            splitter.split_part(range);
        }
    }
    merge(text, &whole, size, overlap, splitter.out());
    std::mem::take(splitter.out())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn sentences_end_where_readers_end_them() {
        assert_eq!(parts("Hello there. How are you? Fine!"), ["Hello there. ", "How are you? ", "Fine!"]);
        assert_eq!(parts("Dr. Smith met J. Doe. They left."), ["Dr. Smith met J. Doe. ", "They left."]);
        assert_eq!(parts("It costs 3.50 euros. Yes."), ["It costs 3.50 euros. ", "Yes."]);
        assert_eq!(parts("これは文です。次の文。"), ["これは文です。", "次の文。"]);
        assert_eq!(parts(""), Vec::<&str>::new());
    }

    #[test]
    fn chunks_hold_whole_sentences_and_overlap_by_whole_sentences() {
        let text = "One is here. Two is here. Three is here.";
        let chunks: Vec<&str> = chunk_ranges(text, 27, 14).into_iter().map(|r| &text[r]).collect();
        assert_eq!(chunks, ["One is here. Two is here.", "Two is here. Three is here."]);
    }
}
