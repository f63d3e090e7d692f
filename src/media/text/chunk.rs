//! Text to chunks: the entry point, the options and the exact positions of every chunk.
//!
//! In: a text, a way to cut and, optionally, a tokenizer. Out: chunks that borrow from the text, in order.
//! Invariant: a chunk's text is the characters `start_char..end_char` of the input, unchanged; apart from white space every
//! character is in at least one chunk; no chunk is longer than `chunk_size` (characters, or tokens for `by tokens`).
//! Deliberately absent: tokenizers; whoever has one passes a closure.

use std::ops::Range;

use squilla_core::error::{Error, Result, did_you_mean};

use super::recursive::{RecursiveSplitter, Separators};
use super::sentence;

/// Gives the byte range of each token of a text, in order.
pub type Tokenize<'f> = &'f dyn Fn(&str) -> Result<Vec<Range<usize>>>;

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkBy {
    /// Every `chunk_size` characters, whatever they are; white space is kept.
    Chars,
    /// Every `chunk_size` tokens of the tokenizer.
    Tokens,
    /// Between sentences; a sentence that is too long is cut as by [`ChunkBy::Recursive`].
    Sentence,
    /// At blank lines, else lines, else spaces, else anywhere: LangChain's `RecursiveCharacterTextSplitter`.
    Recursive,
    /// The same with headings, fences and rules first: LangChain's `from_language(Language.MARKDOWN)`.
    Markdown,
}

impl ChunkBy {
    /// The names users write.
    pub const NAMES: [&'static str; 5] = ["chars", "tokens", "sentence", "recursive", "markdown"];

    /// Reads a name; 22023 for any other.
    pub fn parse(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "chars" => Ok(Self::Chars),
            "tokens" => Ok(Self::Tokens),
            "sentence" => Ok(Self::Sentence),
            "recursive" => Ok(Self::Recursive),
            "markdown" => Ok(Self::Markdown),
            _ => {
                let near = did_you_mean(name, Self::NAMES).map(|n| format!(" Did you mean \"{n}\"?")).unwrap_or_default();
                Err(Error::invalid_argument(format!("unknown way to chunk text \"{name}\""))
                    .hint(format!("Use one of {}.{near}", Self::NAMES.join(", "))))
            }
        }
    }
}

/// How to cut.
#[derive(Clone, Copy, Debug)]
pub struct ChunkOptions {
    /// Most characters (tokens for [`ChunkBy::Tokens`]) of a chunk; at least 1.
    pub chunk_size: usize,
    /// Most characters (tokens) that a chunk repeats from the one before; less than `chunk_size`.
    pub overlap: usize,
    /// Where to cut.
    pub by: ChunkBy,
}

impl ChunkOptions {
    /// Checks the sizes: 22023 unless `chunk_size >= 1` and `0 <= overlap < chunk_size`.
    pub fn new(chunk_size: i64, overlap: i64, by: ChunkBy) -> Result<Self> {
        let size = usize::try_from(chunk_size).unwrap_or(0);
        if size == 0 {
            return Err(Error::invalid_argument(format!("chunk_size must be at least 1, not {chunk_size}")));
        }
        match usize::try_from(overlap) {
            Ok(overlap) if overlap < size => Ok(Self { chunk_size: size, overlap, by }),
            _ => Err(Error::invalid_argument(format!(
                "overlap must be at least 0 and less than chunk_size ({chunk_size}), not {overlap}"
            ))),
        }
    }
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// 1, 2, ...
    pub chunk_no: usize,
    /// The characters.
    pub text: &'a str,
    /// Position of the first character in the whole text, from 0, in characters.
    pub start_char: usize,
    /// Position after the last character.
    pub end_char: usize,
    /// Tokens of this chunk; None without a tokenizer.
    pub token_count: Option<usize>,
}

/// Cuts `text`. Text of nothing but white space gives no chunk, except by chars.
///
/// Errors: 22023 for [`ChunkBy::Tokens`] without a tokenizer; whatever the tokenizer fails with.
pub fn chunk_text<'a>(text: &'a str, options: &ChunkOptions, tokenize: Option<Tokenize<'_>>) -> Result<Vec<Chunk<'a>>> {
    let (size, overlap) = (options.chunk_size, options.overlap);
    let ranges = match options.by {
        ChunkBy::Chars => char_windows(text, size, overlap),
        ChunkBy::Tokens => {
            let tokenize = tokenize
                .ok_or_else(|| Error::invalid_argument("chunking by tokens needs a tokenizer").hint("Name one by model =>."))?;
            token_windows(text, &tokenize(text)?, size, overlap)
        }
        ChunkBy::Sentence => sentence::chunk_ranges(text, size, overlap),
        ChunkBy::Recursive => RecursiveSplitter::new(text, size, overlap, Separators::Plain).ranges(),
        ChunkBy::Markdown => RecursiveSplitter::new(text, size, overlap, Separators::Markdown).ranges(),
    };
    let mut cursor = CharCursor { text, byte: 0, chars: 0 };
    let mut chunks = Vec::with_capacity(ranges.len());
    for range in ranges {
        let start_char = cursor.move_to(range.start);
        let piece = text.get(range).unwrap_or_default();
        let token_count = tokenize.map(|t| t(piece).map(|spans| spans.len())).transpose()?;
        let end_char = start_char + piece.chars().count();
        chunks.push(Chunk { chunk_no: chunks.len() + 1, text: piece, start_char, end_char, token_count });
    }
    Ok(chunks)
}

/// White space as Python's `str.strip` sees it: Unicode's, and the four ASCII separators 1C-1F.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The range without white space at its ends; None when nothing is left.
pub(super) fn strip(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let piece = text.get(range.clone())?;
    let left = piece.trim_start_matches(is_space);
    let kept = left.trim_end_matches(is_space);
    let start = range.end - left.len();
    (!kept.is_empty()).then_some(start..start + kept.len())
}

/// Windows of `size` characters, each starting `size - overlap` after the one before.
pub(super) fn char_windows(text: &str, size: usize, overlap: usize) -> Vec<Range<usize>> {
    let step = size - overlap.min(size - 1);
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, byte_after(text, 0, size));
    while start < text.len() {
        ranges.push(start..end);
        if end == text.len() {
            break;
        }
        start = byte_after(text, start, step);
        end = byte_after(text, end, step);
    }
    ranges
}

/// The byte position `chars` characters after `from`, or the end of the text.
fn byte_after(text: &str, from: usize, chars: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.char_indices().nth(chars).map_or(text.len(), |(at, _)| from + at)
}

/// Windows of `size` tokens. A window reaches to the next window's first new token, so that characters which belong to no
/// token are not lost, and is stripped of white space.
fn token_windows(text: &str, tokens: &[Range<usize>], size: usize, overlap: usize) -> Vec<Range<usize>> {
    let tokens: Vec<&Range<usize>> = tokens.iter().filter(|t| t.start < t.end && t.end <= text.len()).collect();
    if tokens.is_empty() {
        return strip(text, 0..text.len()).into_iter().collect();
    }
    let mut ranges = Vec::new();
    let mut first = 0;
    loop {
        let after = first + size;
        let start = if first == 0 { 0 } else { tokens.get(first).map_or(text.len(), |t| t.start) };
        let end = tokens.get(after).map_or(text.len(), |t| t.start);
        // A token of a byte-level vocabulary may begin inside a character: that character stays whole, on both sides.
        let start = (0..=start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        ranges.extend(strip(text, start..end));
        if after >= tokens.len() {
            return ranges;
        }
        first += size - overlap;
    }
}

/// Turns byte positions into character positions without counting from the start each time.
struct CharCursor<'a> {
    text: &'a str,
    byte: usize,
    chars: usize,
}

impl CharCursor<'_> {
    fn move_to(&mut self, byte: usize) -> usize {
        if byte >= self.byte {
            self.chars += self.text.get(self.byte..byte).unwrap_or_default().chars().count();
        } else {
            self.chars -= self.text.get(byte..self.byte).unwrap_or_default().chars().count();
        }
        self.byte = byte;
        self.chars
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn cut(text: &str, size: i64, overlap: i64, by: ChunkBy) -> Vec<Chunk<'_>> {
        chunk_text(text, &ChunkOptions::new(size, overlap, by).unwrap(), Some(&words)).unwrap()
    }

    fn words(text: &str) -> Result<Vec<Range<usize>>> {
        let mut spans = Vec::new();
        let mut start = None;
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            match (start, c.is_whitespace()) {
                (None, false) => start = Some(at),
                (Some(from), true) => {
                    spans.push(from..at);
                    start = None;
                }
                _ => {}
            }
        }
        Ok(spans)
    }

    fn texts<'a>(chunks: &[Chunk<'a>]) -> Vec<&'a str> {
        chunks.iter().map(|c| c.text).collect()
    }

    #[test]
    fn chars_are_windows() {
        assert_eq!(texts(&cut("abcdefgh", 4, 1, ChunkBy::Chars)), ["abcd", "defg", "gh"]);
        assert_eq!(texts(&cut("äöü", 2, 0, ChunkBy::Chars)), ["äö", "ü"]);
        assert!(cut("", 4, 1, ChunkBy::Chars).is_empty());
    }

    #[test]
    fn tokens_are_windows_with_counts() {
        let chunks = cut("one two  three four five", 2, 1, ChunkBy::Tokens);
        assert_eq!(texts(&chunks), ["one two", "two  three", "three four", "four five"]);
        assert_eq!(chunks[1].token_count, Some(2));
        assert_eq!((chunks[1].start_char, chunks[1].end_char), (4, 14));
    }

    #[test]
    fn bad_sizes_are_refused() {
        for (size, overlap) in [(0, 0), (-5, 0), (4, 4), (4, -1)] {
            assert_eq!(ChunkOptions::new(size, overlap, ChunkBy::Chars).unwrap_err().sqlstate(), "22023");
        }
        assert!(ChunkBy::parse("recursiv").unwrap_err().hint.unwrap().contains("Did you mean \"recursive\"?"));
        let options = ChunkOptions::new(4, 0, ChunkBy::Tokens).unwrap();
        assert_eq!(chunk_text("a", &options, None).unwrap_err().sqlstate(), "22023");
    }

    /// Words, spaces, line ends, markdown marks and wide characters from a fixed seed.
    fn random_text(seed: u64, len: usize) -> String {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let parts = ["a", "word", "Ünï", "語", " ", " ", "\n", "\n\n", ". ", "! ", "\n# ", "```\n", "\u{1c}", "\u{a0}", "🦑", "\n---\n", "longerword"];
        let mut text = String::new();
        while text.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(parts[(state % parts.len() as u64) as usize]);
        }
        text
    }

    #[test]
    fn every_chunk_is_a_substring_within_bounds_and_nothing_is_lost() {
        for seed in 1..120_u64 {
            let text = random_text(seed, (seed as usize * 7) % 900);
            let chars: Vec<char> = text.chars().collect();
            for by in [ChunkBy::Chars, ChunkBy::Tokens, ChunkBy::Sentence, ChunkBy::Recursive, ChunkBy::Markdown] {
                for (size, overlap) in [(1, 0), (2, 1), (7, 3), (40, 10), (200, 0), (200, 199)] {
                    let chunks = cut(&text, size, overlap, by);
                    let mut covered = vec![false; chars.len()];
                    for (i, chunk) in chunks.iter().enumerate() {
                        assert_eq!(chunk.chunk_no, i + 1);
                        let slice: String = chars[chunk.start_char..chunk.end_char].iter().collect();
                        assert_eq!(slice, chunk.text, "seed {seed} {by:?} {size}/{overlap}");
                        let len = if by == ChunkBy::Tokens { chunk.token_count.unwrap() } else { slice.chars().count() };
                        assert!(len <= size as usize, "seed {seed} {by:?} {size}/{overlap}: {len}");
                        covered[chunk.start_char..chunk.end_char].fill(true);
                    }
                    let lost = covered.iter().zip(&chars).find(|(covered, c)| !**covered && !is_space(**c));
                    assert!(lost.is_none(), "seed {seed} {by:?} {size}/{overlap}: lost {lost:?}");
                }
            }
        }
    }
}
