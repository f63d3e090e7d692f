//! The recursive splitter: cuts at the coarsest separator present, merges the pieces up to the size, recurses into long ones.
//!
//! In: a text. Out: byte ranges of chunks, stripped of white space.
//! Invariant: equals LangChain's `RecursiveCharacterTextSplitter` with `length_function=len`, `keep_separator=True` and
//! `strip_whitespace=True` (separators at the head of the piece that follows), chunk for chunk; the golden files prove it.
//! Because separators stay in the pieces, pieces are adjacent ranges of the text and no string is ever built.
//! Deliberately absent: other length functions, separators chosen by the user.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::OnceLock;

use regex::Regex;

use super::chunk::{char_windows, strip};

/// Which list of separators, coarsest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separators {
    /// Blank line, line, space, character.
    Plain,
    /// Heading, end of a fence, rules, then as plain.
    Markdown,
}

/// One separator.
enum Separator {
    Literal(&'static str),
    Pattern(Regex),
}

impl Separator {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => text.contains(literal),
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }

    /// Byte positions at which the separator begins.
    fn starts(&self, text: &str) -> Vec<usize> {
        match self {
            Self::Literal(literal) => text.match_indices(literal).map(|(at, _)| at).collect(),
            Self::Pattern(pattern) => pattern.find_iter(text).map(|m| m.start()).collect(),
        }
    }
}

impl Separators {
    /// The list without its last member, "every character", which stands behind every list.
    fn list(self) -> &'static [Separator] {
        static PLAIN: [Separator; 3] = [Separator::Literal("\n\n"), Separator::Literal("\n"), Separator::Literal(" ")];
        static MARKDOWN: OnceLock<Vec<Separator>> = OnceLock::new();
        match self {
            Self::Plain => &PLAIN,
            Self::Markdown => MARKDOWN.get_or_init(|| {
                let patterns = ["\n#{1,6} ", "```\n", "\n\\*\\*\\*+\n", "\n---+\n", "\n___+\n"];
                let patterns = patterns.iter().filter_map(|p| Regex::new(p).ok()).map(Separator::Pattern);
                patterns.chain(["\n\n", "\n", " "].map(Separator::Literal)).collect()
            }),
        }
    }
}

/// A piece between two cuts and its length in characters.
pub(super) struct Piece {
    /// Bytes of the text.
    pub(super) range: Range<usize>,
    /// Characters.
    pub(super) len: usize,
}

/// The state of one split.
pub(super) struct RecursiveSplitter<'t> {
    text: &'t str,
    size: usize,
    overlap: usize,
    separators: &'static [Separator],
    out: Vec<Range<usize>>,
}

impl<'t> RecursiveSplitter<'t> {
    /// `size` and `overlap` in characters, `overlap < size`.
    pub(super) fn new(text: &'t str, size: usize, overlap: usize, separators: Separators) -> Self {
        Self { text, size, overlap, separators: separators.list(), out: Vec::new() }
    }

    /// Splits the whole text.
    pub(super) fn ranges(mut self) -> Vec<Range<usize>> {
        self.split(0..self.text.len(), 0);
        self.out
    }

    /// Splits a part of the text, appending to what is there.
    pub(super) fn split_part(&mut self, part: Range<usize>) {
        self.split(part, 0);
    }

    /// What has been appended.
    pub(super) fn out(&mut self) -> &mut Vec<Range<usize>> {
        &mut self.out
    }

    /// Splits `part` with the separators from number `from` on. The recursion is as deep as the list is long.
    fn split(&mut self, part: Range<usize>, from: usize) {
        let text = self.text.get(part.clone()).unwrap_or_default();
        let separators = self.separators;
        let rest = separators.get(from..).unwrap_or_default();
        let Some((number, separator)) = rest.iter().enumerate().find(|(_, s)| s.is_in(text)) else {
            self.split_anywhere(part);
            return;
        };
        let mut cuts = separator.starts(text);
        cuts.push(text.len());
        let mut good: Vec<Piece> = Vec::new();
        let mut start = part.start;
        for cut in cuts {
            let range = start..part.start + cut;
            start = range.end;
            if range.is_empty() {
                continue;
            }
            let len = self.text.get(range.clone()).unwrap_or_default().chars().count();
            // A piece of exactly the size is split further, as LangChain does.
            if len < self.size {
                good.push(Piece { range, len });
            } else {
                merge(self.text, &good, self.size, self.overlap, &mut self.out);
                good.clear();
                self.split(range, from + number + 1);
            }
        }
        merge(self.text, &good, self.size, self.overlap, &mut self.out);
    }

    /// Splits between any two characters: merging single characters comes down to windows.
    fn split_anywhere(&mut self, part: Range<usize>) {
        let text = self.text.get(part.clone()).unwrap_or_default();
        let windows = char_windows(text, self.size, self.overlap);
        let windows = windows.into_iter().map(|w| part.start + w.start..part.start + w.end);
        if self.size == 1 {
            // Each character is as long as a chunk and is taken as it is, white space too.
            self.out.extend(windows);
        } else {
            self.out.extend(windows.filter_map(|w| strip(self.text, w)));
        }
    }
}

/// Joins adjacent pieces into chunks of at most `size` characters; each repeats whole pieces of the one before, `overlap`
/// characters at most.
pub(super) fn merge(text: &str, pieces: &[Piece], size: usize, overlap: usize, out: &mut Vec<Range<usize>>) {
    let mut current: VecDeque<&Piece> = VecDeque::new();
    let mut total = 0;
    let join = |current: &VecDeque<&Piece>| match (current.front(), current.back()) {
        (Some(first), Some(last)) => strip(text, first.range.start..last.range.end),
        _ => None,
    };
    for piece in pieces {
        if total + piece.len > size {
            out.extend(join(&current));
            while total > overlap || (total > 0 && total + piece.len > size) {
                total -= current.pop_front().map_or(total, |first| first.len);
            }
        }
        current.push_back(piece);
        total += piece.len;
    }
    out.extend(join(&current));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::text::chunk::{ChunkBy, ChunkOptions, chunk_text};

    #[derive(serde::Deserialize)]
    struct Case {
        by: String,
        chunk_size: i64,
        overlap: i64,
        chunks: Vec<String>,
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        cases: Vec<Case>,
    }

    #[test]
    fn chunks_equal_the_golden_corpus() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/text");
        let mut cases = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let golden: Golden = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for case in golden.cases {
                let options = ChunkOptions::new(case.chunk_size, case.overlap, ChunkBy::parse(&case.by).unwrap()).unwrap();
                let chunks = chunk_text(&golden.text, &options, None).unwrap();
                let chunks: Vec<&str> = chunks.iter().map(|c| c.text).collect();
                assert_eq!(chunks, case.chunks, "{} {} {}/{}", path.display(), case.by, case.chunk_size, case.overlap);
                cases += 1;
            }
        }
        assert!(cases > 50, "only {cases} cases");
    }
}
