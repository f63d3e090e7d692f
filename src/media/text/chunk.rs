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
use super::tokens;

/// Gives the number of tokens of each text, the special ones that a tokenizer adds to every text included.
pub type CountTokens<'f> = &'f dyn Fn(&[&str]) -> Result<Vec<usize>>;

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkBy {
    /// Every `chunk_size` characters, whatever they are; white space is kept.
    Chars,
    /// Between words, before a chunk would pass `chunk_size` tokens; within a word only when it alone is longer.
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
            _ => Err(Error::invalid_argument(format!("overlap must be at least 0 and less than chunk_size ({chunk_size}), not {overlap}"))),
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
    /// Tokens of this chunk, special ones included; None without a tokenizer.
    pub token_count: Option<usize>,
}

/// Cuts `text`. Text of nothing but white space gives no chunk, except by chars.
///
/// Errors: 22023 for [`ChunkBy::Tokens`] without a tokenizer; whatever the tokenizer fails with.
pub fn chunk_text<'a>(text: &'a str, options: &ChunkOptions, count: Option<CountTokens<'_>>) -> Result<Vec<Chunk<'a>>> {
    let (size, overlap) = (options.chunk_size, options.overlap);
    let ranges = match options.by {
        ChunkBy::Chars => char_windows(text, size, overlap),
        ChunkBy::Tokens => {
            let count = count.ok_or_else(|| Error::invalid_argument("chunking by tokens needs a tokenizer").hint("Name one by model =>."))?;
            tokens::chunk_ranges(text, size, overlap, count)?
        }
        ChunkBy::Sentence => sentence::chunk_ranges(text, size, overlap),
        ChunkBy::Recursive => RecursiveSplitter::new(text, size, overlap, Separators::Plain).ranges(),
        ChunkBy::Markdown => RecursiveSplitter::new(text, size, overlap, Separators::Markdown).ranges(),
    };
    let texts: Vec<&str> = ranges.iter().map(|range| text.get(range.clone()).unwrap_or_default()).collect();
    let counts = count.map(|count| count(&texts)).transpose()?;
    let mut cursor = CharCursor { text, byte: 0, chars: 0 };
    let chunk = |(i, (range, text)): (usize, (Range<usize>, &'a str))| {
        let start_char = cursor.move_to(range.start);
        let token_count = counts.as_ref().and_then(|counts| counts.get(i).copied());
        Chunk { chunk_no: i + 1, text, start_char, end_char: start_char + text.chars().count(), token_count }
    };
    Ok(ranges.into_iter().zip(texts).enumerate().map(chunk).collect())
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

    /// One token per word, two for words of more than six characters, one special token per text.
    fn words(texts: &[&str]) -> Result<Vec<usize>> {
        let tokens = |word: &str| 1 + usize::from(word.chars().count() > 6);
        Ok(texts.iter().map(|text| 1 + text.split_whitespace().map(tokens).sum::<usize>()).collect())
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
    fn tokens_bound_chunks_of_whole_words() {
        let chunks = cut("one two  three four five", 3, 1, ChunkBy::Tokens);
        assert_eq!(texts(&chunks), ["one two", "two  three", "three four", "four five"]);
        assert_eq!(chunks[1].token_count, Some(3));
        assert_eq!((chunks[1].start_char, chunks[1].end_char), (4, 14));
        let error = chunk_text("a b", &ChunkOptions::new(1, 0, ChunkBy::Tokens).unwrap(), Some(&words)).unwrap_err();
        assert_eq!(error.sqlstate(), "22023");
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
        let parts =
            ["a", "word", "Ünï", "語", " ", " ", "\n", "\n\n", ". ", "! ", "\n# ", "```\n", "\u{1c}", "\u{a0}", "🦑", "\n---\n", "longerword"];
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
                    if by == ChunkBy::Tokens && size == 1 {
                        continue; // The special token leaves no room.
                    }
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
