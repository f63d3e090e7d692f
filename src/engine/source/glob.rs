//! Patterns of paths: `*`, `?`, `[a-z]`, `[!a]`, `{jpg,png}` within a segment, `**` for any number of directories.
//!
//! In: the pattern after its literal directory, split at slashes. Out: sets of states, so that a walk visits every
//! directory once and gives every file once, however many ways it matches. Invariants: a name that begins with a dot
//! matches only a segment whose pattern begins with one; matching is by case.
//! Deliberately absent: braces with a slash inside, and any I/O.

use regex::Regex;
use squilla_core::error::{Error, Result};

/// Whether the text has any of `* ? [ {`.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// A compiled pattern, relative to its literal directory.
#[derive(Clone, Debug)]
pub struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
enum Segment {
    Literal(String),
    Match {
        regex: Regex,
        dotted: bool,
    },
    /// `**`
    Any,
}

/// Positions in a pattern that a path so far may have reached. At most 64 segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u64);

impl States {
    /// No way on.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Splits `path` into its literal directory (with a final slash, or empty) and the pattern after it.
pub fn split(path: &str) -> (&str, &str) {
    let first = path.find(['*', '?', '[', '{']).unwrap_or(path.len());
    let cut = path.get(..first).and_then(|head| head.rfind('/')).map_or(0, |slash| slash + 1);
    path.split_at(cut)
}

impl Pattern {
    /// Compiles the part after the literal directory. 22023 when it is malformed.
    pub fn compile(text: &str) -> Result<Self> {
        let mut segments: Vec<Segment> = Vec::new();
        for part in text.split('/').filter(|p| !p.is_empty()) {
            let segment = match part {
                "**" if matches!(segments.last(), Some(Segment::Any)) => continue,
                "**" => Segment::Any,
                part if is_pattern(part) || part.contains('\\') => {
                    let regex = translate(part)?;
                    let regex = Regex::new(&format!("^(?s:{regex})$")).map_err(|_| malformed(text, "a character class is not valid"))?;
                    Segment::Match { regex, dotted: part.starts_with('.') }
                }
                literal => Segment::Literal(literal.to_owned()),
            };
            segments.push(segment);
        }
        if segments.len() > 63 {
            return Err(malformed(text, "it has more than 63 segments"));
        }
        Ok(Self { segments })
    }

    /// Everything below a directory, or what is in it.
    pub fn everything(recursive: bool) -> Self {
        let any_name = || Regex::new("^(?s:.*)$").ok().map(|regex| Segment::Match { regex, dotted: false });
        Self { segments: if recursive { vec![Segment::Any] } else { any_name().into_iter().collect() } }
    }

    /// Whether it reaches below the directories that it names.
    pub fn is_recursive(&self) -> bool {
        self.segments.iter().any(|s| matches!(s, Segment::Any))
    }

    /// Segments that a path must at least have.
    pub fn depth_max(&self) -> Option<usize> {
        (!self.is_recursive()).then_some(self.segments.len())
    }

    /// Where every walk begins.
    pub fn start(&self) -> States {
        self.close(1)
    }

    /// `**` matches no directory at all, too. A final `**` is not passed over: it needs a name.
    fn close(&self, mut states: u64) -> States {
        for (i, segment) in self.segments.iter().enumerate() {
            if states & (1 << i) != 0 && matches!(segment, Segment::Any) && i + 1 < self.segments.len() {
                states |= 1 << (i + 1);
            }
        }
        States(states)
    }

    /// Where a directory of this name leads.
    pub fn enter(&self, states: States, name: &str) -> States {
        let mut next = 0;
        for (i, segment) in self.segments.iter().enumerate().filter(|(i, _)| states.0 & (1 << i) != 0) {
            match segment {
                Segment::Any if !name.starts_with('.') => next |= 1 << i,
                other if i + 1 < self.segments.len() && other.fits(name) => next |= 1 << (i + 1),
                _ => {}
            }
        }
        self.close(next)
    }

    /// Whether a file of this name, here, matches the whole pattern.
    pub fn accepts(&self, states: States, name: &str) -> bool {
        let Some((last, i)) = self.segments.last().zip(self.segments.len().checked_sub(1)) else { return false };
        states.0 & (1 << i) != 0 && last.fits(name)
    }

    /// The only name that can follow, when there is one: a directory need not be read to find it.
    pub fn only_name(&self, states: States) -> Option<&str> {
        let at = states.0.trailing_zeros() as usize;
        match self.segments.get(at) {
            Some(Segment::Literal(name)) if states.0 == 1 << at => Some(name),
            _ => None,
        }
    }

    /// Whether a relative path matches.
    pub fn matches(&self, path: &str) -> bool {
        let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut states = self.start();
        for directory in directories.split('/').filter(|d| !d.is_empty()) {
            states = self.enter(states, directory);
            if states.is_empty() {
                return false;
            }
        }
        self.accepts(states, name)
    }
}

impl Segment {
    fn fits(&self, name: &str) -> bool {
        match self {
            Segment::Literal(literal) => literal == name,
            Segment::Match { regex, dotted } => (*dotted || !name.starts_with('.')) && regex.is_match(name),
            Segment::Any => !name.starts_with('.'),
        }
    }
}

fn malformed(pattern: &str, why: &str) -> Error {
    Error::invalid_argument(format!("malformed pattern \"{pattern}\"")).detail(format!("In it, {why}."))
}

/// One segment as a regular expression.
fn translate(segment: &str) -> Result<String> {
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut chars = segment.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '\\' => push_literal(&mut out, chars.next().ok_or_else(|| malformed(segment, "a backslash ends it"))?),
            '[' => {
                out.push('[');
                if chars.next_if(|c| matches!(c, '!' | '^')).is_some() {
                    out.push('^');
                }
                let mut empty = true;
                loop {
                    match chars.next() {
                        None => return Err(malformed(segment, "a [ has no ]")),
                        Some(']') if !empty => break,
                        Some('-') if !empty && chars.peek() != Some(&']') => out.push('-'),
                        Some(inside) => push_literal(&mut out, inside),
                    }
                    empty = false;
                }
                out.push(']');
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            other => push_literal(&mut out, other),
        }
    }
    if depth > 0 {
        return Err(malformed(segment, "a { has no } in the same segment"));
    }
    Ok(out)
}

fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Pattern::compile(pattern).unwrap().matches(path)
    }

    #[test]
    fn the_forms() {
        for (pattern, yes, no) in [
            ("*.jpg", "a.jpg", "a.png"),
            ("*.jpg", "é.jpg", "d/a.jpg"),
            ("**/*.jpg", "a.jpg", "a.jpgx"),
            ("**/*.jpg", "x/y/a.jpg", ".h/a.jpg"),
            ("a/**/b/*.txt", "a/b/1.txt", "a/c/1.txt"),
            ("a/**/b/*.txt", "a/x/b/y/b/1.txt", "x/b/1.txt"),
            ("**", "a/b/c", "a/.b/c"),
            ("*.{jpg,jp{e,}g}", "a.jpeg", "a.gif"),
            ("[a-c]?.txt", "b1.txt", "d1.txt"),
            ("[!a-c].txt", "d.txt", "a.txt"),
            ("[]x].txt", "].txt", "y.txt"),
            ("a+(b).t?t", "a+(b).txt", "aab.txt"),
            ("*", "x", ".x"),
            (".*", ".x", "x"),
            ("part-[0-9]*", "part-0.parquet", "part-x"),
            ("\\[1\\].jpg", "[1].jpg", "1.jpg"),
        ] {
            assert!(fits(pattern, yes), "{pattern} {yes}");
            assert!(!fits(pattern, no), "{pattern} {no}");
        }
        assert!(Pattern::everything(true).matches("a/b"));
        assert!(!Pattern::everything(false).matches("a/b"));
        assert!(Pattern::everything(false).matches("b"));
    }

    #[test]
    fn literal_directories_are_split_off() {
        assert_eq!(split("/data/x/*.jpg"), ("/data/x/", "*.jpg"));
        assert_eq!(split("/data/x/a.jpg"), ("/data/x/", "a.jpg"));
        assert_eq!(split("*.jpg"), ("", "*.jpg"));
        assert_eq!(split("a{b,c}/d"), ("", "a{b,c}/d"));
    }

    #[test]
    fn literal_segments_are_known() {
        let p = Pattern::compile("*/images/*.jpg").unwrap();
        assert_eq!(p.only_name(p.start()), None);
        assert_eq!(p.only_name(p.enter(p.start(), "x")), Some("images"));
    }

    #[test]
    fn malformed_patterns() {
        for bad in ["[a", "{a,b", "a\\", "x/{a/b}"] {
            assert_eq!(Pattern::compile(bad).unwrap_err().sqlstate(), "22023", "{bad}");
        }
    }
}
