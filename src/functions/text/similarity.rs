//! How alike two texts are, by their letters: the functions of fuzzystrmatch and pg_trgm, and Jaro-Winkler.
//!
//! Invariant: `levenshtein`, `soundex` and `similarity` give what PostgreSQL's extensions give in a UTF-8 database.

use std::collections::BTreeSet;

use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};

/// Edits that turn one text into the other.
pub static LEVENSHTEIN: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/text/levenshtein.sql"), Kernel::Scalar(levenshtein_kernel));

/// The same, exact up to a bound.
pub static LEVENSHTEIN_LESS_EQUAL: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/text/levenshtein_less_equal.sql"), Kernel::Scalar(levenshtein_less_equal_kernel));

/// Likeness of names, 0 to 1.
pub static JARO_WINKLER: SqlFunction = SqlFunction::new(
    include_str!("../../../sql-functions/text/jaro_winkler.sql"),
    Kernel::Scalar(|call| call.map_rows(|row| Ok(call.text("a", row)?.zip(call.text("b", row)?).map(|(a, b)| jaro_winkler(a, b))))),
);

/// Share of common trigrams, 0 to 1.
pub static SIMILARITY: SqlFunction = SqlFunction::new(
    include_str!("../../../sql-functions/text/similarity.sql"),
    Kernel::Scalar(|call| call.map_rows(|row| Ok(call.text("a", row)?.zip(call.text("b", row)?).map(|(a, b)| similarity(a, b))))),
);

/// How an English name sounds.
pub static SOUNDEX: SqlFunction = SqlFunction::new(
    include_str!("../../../sql-functions/text/soundex.sql"),
    Kernel::Scalar(|call| call.map_rows(|row| Ok(call.text("source", row)?.map(soundex)))),
);

/// Most characters of an argument of levenshtein; the work is the product of the lengths.
const LEVENSHTEIN_CHARS_MAX: usize = 255;

/// What an insertion, a deletion and a substitution cost.
type Costs = (i64, i64, i64);

fn costs(call: &Call, row: usize) -> Result<Costs> {
    let cost = |name: &str| call.int(name, row).map(|v| v.unwrap_or(1));
    Ok((cost("ins_cost")?, cost("del_cost")?, cost("sub_cost")?))
}

fn levenshtein_kernel(call: &Call) -> Result<Outcome> {
    let mut rows = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        rows.push(match (call.text("source", row)?, call.text("target", row)?) {
            (Some(source), Some(target)) => Some(i32::try_from(levenshtein(source, target, costs(call, row)?)?).unwrap_or(i32::MAX)),
            _ => None,
        });
    }
    Ok(Outcome::ok(std::sync::Arc::new(arrow::array::Int32Array::from(rows))))
}

fn levenshtein_less_equal_kernel(call: &Call) -> Result<Outcome> {
    let mut rows = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        rows.push(match (call.text("source", row)?, call.text("target", row)?, call.int("max_d", row)?) {
            (Some(source), Some(target), Some(max)) => {
                let distance = levenshtein(source, target, (1, 1, 1))?;
                let bounded = if max >= 0 && distance > max { max + 1 } else { distance };
                Some(i32::try_from(bounded).unwrap_or(i32::MAX))
            }
            _ => None,
        });
    }
    Ok(Outcome::ok(std::sync::Arc::new(arrow::array::Int32Array::from(rows))))
}

/// The least cost of edits from `source` to `target`. 22023 for texts of more than 255 characters, as in PostgreSQL.
fn levenshtein(source: &str, target: &str, (insert, delete, substitute): Costs) -> Result<i64> {
    let source: Vec<char> = source.chars().collect();
    let target: Vec<char> = target.chars().collect();
    if source.len() > LEVENSHTEIN_CHARS_MAX || target.len() > LEVENSHTEIN_CHARS_MAX {
        return Err(Error::invalid_argument(format!("levenshtein argument exceeds maximum length of {LEVENSHTEIN_CHARS_MAX} characters")));
    }
    let mut costs: Vec<i64> = (0..=target.len() as i64).map(|i| i * insert).collect();
    for s in &source {
        let mut diagonal = costs[0];
        costs[0] += delete;
        for (i, t) in target.iter().enumerate() {
            let replaced = diagonal + if s == t { 0 } else { substitute };
            diagonal = costs[i + 1];
            costs[i + 1] = replaced.min(costs[i] + insert).min(diagonal + delete);
        }
    }
    Ok(costs.last().copied().unwrap_or(0))
}

fn jaro(a: &[char], b: &[char]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return f64::from(u8::from(a.is_empty() && b.is_empty()));
    }
    let reach = (a.len().max(b.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; b.len()];
    let mut from_a = Vec::new();
    for (i, c) in a.iter().enumerate() {
        let window = i.saturating_sub(reach)..(i + reach + 1).min(b.len());
        if let Some(j) = window.into_iter().find(|j| !taken[*j] && b[*j] == *c) {
            taken[j] = true;
            from_a.push(*c);
        }
    }
    if from_a.is_empty() {
        return 0.0;
    }
    let from_b = b.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(c, _)| c);
    let moved = from_a.iter().zip(from_b).filter(|(a, b)| a != b).count() as f64 / 2.0;
    let matches = from_a.len() as f64;
    (matches / a.len() as f64 + matches / b.len() as f64 + (matches - moved) / matches) / 3.0
}

/// Winkler's bonus: a tenth of what is missing per equal character at the head, four at most.
fn jaro_winkler(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let jaro = jaro(&a, &b);
    let head = a.iter().zip(&b).take(4).take_while(|(a, b)| a == b).count() as f64;
    if jaro > 0.7 { jaro + head * 0.1 * (1.0 - jaro) } else { jaro }
}

/// Trigrams of the words, each word with two spaces before and one after, lower case.
fn trigrams(text: &str) -> BTreeSet<[char; 3]> {
    let lower = text.to_lowercase();
    let mut out = BTreeSet::new();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        let padded: Vec<char> = [' ', ' '].into_iter().chain(word.chars()).chain([' ']).collect();
        out.extend(padded.windows(3).filter_map(|w| <[char; 3]>::try_from(w).ok()));
    }
    out
}

fn similarity(a: &str, b: &str) -> f32 {
    let (a, b) = (trigrams(a), trigrams(b));
    let shared = a.intersection(&b).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 0.0 } else { shared as f32 / all as f32 }
}

/// fuzzystrmatch's soundex: one letter, three digits; empty for a text without ASCII letters.
fn soundex(text: &str) -> String {
    let code = |c: char| b"01230120022455012623010202".get(c as usize - 'A' as usize).map_or('0', |d| char::from(*d));
    let letters = text.chars().skip_while(|c| !c.is_ascii_alphabetic());
    let mut out = String::new();
    let mut last = '0';
    for c in letters {
        if out.len() == 4 {
            break;
        }
        if !c.is_ascii_alphabetic() {
            last = '0';
            continue;
        }
        let c = c.to_ascii_uppercase();
        let digit = code(c);
        if out.is_empty() {
            out.push(c);
        } else if digit != '0' && digit != last {
            out.push(digit);
        }
        // H and W do not part equal sounds in every variant; fuzzystrmatch compares neighbours only.
        last = digit;
    }
    while !out.is_empty() && out.len() < 4 {
        out.push('0');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, int, texts, type_matches};

    #[test]
    fn levenshtein_counts_edits() {
        assert_eq!(levenshtein("GUMBO", "GAMBOL", (1, 1, 1)).unwrap(), 2);
        assert_eq!(levenshtein("GUMBO", "GAMBOL", (2, 1, 1)).unwrap(), 3);
        assert_eq!(levenshtein("", "äöü", (1, 1, 1)).unwrap(), 3);
        assert_eq!(levenshtein("äöü", "", (1, 2, 1)).unwrap(), 6);
        assert!(levenshtein(&"x".repeat(256), "", (1, 1, 1)).is_err());
        let args = vec![texts(&[Some("extensive"), None]), texts(&[Some("exhaustive"), Some("x")]), int(2)];
        let out = levenshtein_less_equal_kernel(&call(&LEVENSHTEIN_LESS_EQUAL, args, 2)).unwrap();
        type_matches(&LEVENSHTEIN_LESS_EQUAL, &out.array);
        assert_eq!(out.array.as_ref(), &arrow::array::Int32Array::from(vec![Some(3), None]));
    }

    #[test]
    fn likeness_matches_the_published_examples() {
        assert!((jaro_winkler("MARTHA", "MARHTA") - 0.9611).abs() < 1e-4);
        assert!((jaro_winkler("DIXON", "DICKSONX") - 0.8133).abs() < 1e-4);
        assert_eq!((jaro_winkler("", ""), jaro_winkler("a", ""), jaro_winkler("abc", "xyz")), (1.0, 0.0, 0.0));
        // The example of pg_trgm's documentation.
        assert_eq!(similarity("word", "two words"), 0.363_636_37);
        assert_eq!(similarity("", ""), 0.0);
    }

    #[test]
    fn soundex_matches_fuzzystrmatch() {
        for (name, code) in
            [("Anne", "A500"), ("Andrew", "A536"), ("Margaret", "M626"), ("hello world!", "H464"), ("Ashcraft", "A226"), ("", ""), ("12", "")]
        {
            assert_eq!(soundex(name), code, "{name}");
        }
    }
}
