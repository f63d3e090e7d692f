//! Page ranges as users write them: `1-10,12,20-`.
//!
//! In: text. Out: the page numbers of a document, ascending, each once. Invariant: page numbers start at 1.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};

/// Some pages of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRange(Vec<RangeInclusive<u32>>);

impl PageRange {
    /// Every page.
    pub fn all() -> Self {
        Self(vec![1..=u32::MAX])
    }

    /// Reads numbers and ranges between commas; a range may lack its end. 22023 for anything else, and for page 0.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid_argument(format!("invalid page range \"{text}\""))
                .hint("Write page numbers from 1 and ranges between commas, such as 1-10,12,20-.")
        };
        let number = |part: &str| part.trim().parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(bad);
        let part = |part: &str| match part.split_once('-') {
            None => number(part).map(|n| n..=n),
            Some((from, "")) => number(from).map(|n| n..=u32::MAX),
            Some((from, to)) => match (number(from)?, number(to)?) {
                (from, to) if from <= to => Ok(from..=to),
                _ => Err(bad()),
            },
        };
        text.split(',').map(|p| part(p.trim())).collect::<Result<_>>().map(Self)
    }

    /// The pages that a document of `count` pages has, at most `max` of them.
    pub fn pages(&self, count: u32, max: u32) -> Vec<u32> {
        let mut ranges = self.0.clone();
        ranges.sort_by_key(|r| *r.start());
        let mut pages = Vec::new();
        let mut next = 1;
        for range in ranges {
            for page in next.max(*range.start())..=count.min(*range.end()) {
                if pages.len() >= max as usize {
                    return pages;
                }
                pages.push(page);
                next = page + 1;
            }
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn ranges_select_ascending_pages_once() {
        let pages = |text: &str, count, max| PageRange::parse(text).unwrap().pages(count, max);
        assert_eq!(pages("1-3,2,5", 9, 100), [1, 2, 3, 5]);
        assert_eq!(pages("8-, 1", 9, 100), [1, 8, 9]);
        assert_eq!(pages("12-14", 9, 100), [0_u32; 0]);
        assert_eq!(pages("1-4294967295", 3, 2), [1, 2]);
        assert_eq!(PageRange::all().pages(3, 100), [1, 2, 3]);
        assert_eq!(pages("5,1-", 3, 100), [1, 2, 3]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "0", "3-1", "a", "1,,2", "-5", "1-2-3", "99999999999"] {
            assert_eq!(PageRange::parse(text).unwrap_err().sqlstate(), "22023", "{text}");
        }
    }
}
