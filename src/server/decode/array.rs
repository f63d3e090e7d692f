//! The text and binary forms of arrays, taken apart.
//!
//! In: `{1,NULL,"a b"}`, `[0:1]={1,2}`, `{{1,2},{3,4}}` or array_send's bytes. Out: the sizes of the dimensions and the
//! elements, still encoded. Invariant: the product of the sizes is the number of elements, at most six dimensions.
//! Deliberately absent: the type of elements.

use squilla_core::error::{Error, Kind, Result};
use std::borrow::Cow;

/// PostgreSQL's own limit.
const DIMENSIONS_MAX: usize = 6;

/// An array taken apart; elements are NULL where None.
#[derive(Debug, PartialEq, Eq)]
pub struct Pieces<'a> {
    /// Outermost first; empty for an empty array.
    pub sizes: Vec<usize>,
    /// Row-major.
    pub elements: Vec<Option<Cow<'a, [u8]>>>,
}

fn malformed(text: &str, detail: &str) -> Error {
    Error::new(Kind::InvalidText, format!("malformed array literal: \"{text}\"")).detail(detail.to_owned())
}

/// array_in.
pub fn from_text(text: &str) -> Result<Pieces<'_>> {
    let mut body = text.trim();
    if body.starts_with('[') {
        body = body.split_once('=').map(|(_, b)| b.trim_start()).ok_or_else(|| malformed(text, "Missing \"=\" after array dimensions."))?;
    }
    if !body.starts_with('{') {
        return Err(malformed(text, "Array value must start with \"{\" or dimension information."));
    }
    let mut reader = Reader { text, rest: body, sizes: Vec::new(), elements: Vec::new() };
    reader.level(0)?;
    if !reader.rest.trim().is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Reader { mut sizes, elements, .. } = reader;
    let sizes = if elements.is_empty() { Vec::new() } else { sizes.drain(..).flatten().collect() };
    Ok(Pieces { sizes, elements })
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    /// Size of each dimension, once a closing brace has told it.
    sizes: Vec<Option<usize>>,
    elements: Vec<Option<Cow<'a, [u8]>>>,
}

impl<'a> Reader<'a> {
    fn bad(&self, detail: &str) -> Error {
        malformed(self.text, detail)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Reads from `{` to the matching `}`.
    fn level(&mut self, depth: usize) -> Result<()> {
        if depth >= DIMENSIONS_MAX {
            return Err(Error::new(Kind::LimitExceeded, format!("number of array dimensions exceeds the maximum allowed ({DIMENSIONS_MAX})")));
        }
        if self.sizes.len() == depth {
            if !self.elements.is_empty() {
                return Err(self.bad("Multidimensional arrays must have sub-arrays with matching dimensions."));
            }
            self.sizes.push(None);
        }
        self.rest = &self.rest[1..];
        let mut count = 0;
        self.skip_blanks();
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest;
        } else {
            loop {
                self.skip_blanks();
                match self.rest.chars().next() {
                    Some('{') => self.level(depth + 1)?,
                    Some(_) if self.sizes.len() > depth + 1 => {
                        return Err(self.bad("Multidimensional arrays must have sub-arrays with matching dimensions."));
                    }
                    Some(_) => self.element()?,
                    None => return Err(self.bad("Unexpected end of input.")),
                }
                count += 1;
                self.skip_blanks();
                let next = self.rest.chars().next();
                self.rest = self.rest.get(1..).unwrap_or("");
                match next {
                    Some(',') => {}
                    Some('}') => break,
                    Some(c) => return Err(self.bad(&format!("Unexpected \"{c}\" character."))),
                    None => return Err(self.bad("Unexpected end of input.")),
                }
            }
        }
        match self.sizes[depth] {
            Some(size) if size != count => Err(self.bad("Multidimensional arrays must have sub-arrays with matching dimensions.")),
            _ => {
                self.sizes[depth] = Some(count);
                Ok(())
            }
        }
    }

    fn element(&mut self) -> Result<()> {
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let mut value = Vec::new();
            let mut bytes = quoted.bytes().enumerate();
            loop {
                match bytes.next() {
                    Some((at, b'"')) => {
                        self.rest = &quoted[at + 1..];
                        break;
                    }
                    Some((_, b'\\')) => value.push(bytes.next().ok_or_else(|| self.bad("Unexpected end of input."))?.1),
                    Some((_, byte)) => value.push(byte),
                    None => return Err(self.bad("Unexpected end of input.")),
                }
            }
            self.elements.push(Some(Cow::Owned(value)));
            return Ok(());
        }
        let end = self.rest.find(['{', '}', ',', '"']).unwrap_or(self.rest.len());
        let raw = self.rest[..end].trim_end();
        self.rest = &self.rest[end..];
        match raw {
            "" => return Err(self.bad("Unexpected \",\" or \"}\" character.")),
            _ if raw.eq_ignore_ascii_case("null") => self.elements.push(None),
            _ if raw.contains('\\') => {
                let mut value = Vec::new();
                let mut bytes = raw.bytes();
                while let Some(byte) = bytes.next() {
                    value.push(if byte == b'\\' { bytes.next().unwrap_or(b'\\') } else { byte });
                }
                self.elements.push(Some(Cow::Owned(value)));
            }
            _ => self.elements.push(Some(Cow::Borrowed(raw.as_bytes()))),
        }
        Ok(())
    }
}

/// array_recv.
pub fn from_binary(bytes: &[u8]) -> Result<Pieces<'_>> {
    let wrong = || Error::new(Kind::InvalidBinary, "invalid binary array value");
    let word = |at: usize| bytes.get(at..at + 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])).ok_or_else(wrong);
    let dimensions = usize::try_from(word(0)?).ok().filter(|d| *d <= DIMENSIONS_MAX).ok_or_else(wrong)?;
    word(8)?;
    let mut at = 12;
    let mut sizes = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        sizes.push(usize::try_from(word(at)?).map_err(|_| wrong())?);
        word(at + 4)?;
        at += 8;
    }
    let count = sizes.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).ok_or_else(wrong)?;
    let count = if sizes.is_empty() { 0 } else { count };
    // Every element has a length word, so a count beyond the bytes is a lie.
    if count > bytes.len() / 4 {
        return Err(wrong());
    }
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let length = word(at)?;
        at += 4;
        if length == -1 {
            elements.push(None);
            continue;
        }
        let end = usize::try_from(length).ok().and_then(|l| at.checked_add(l)).ok_or_else(wrong)?;
        elements.push(Some(Cow::Borrowed(bytes.get(at..end).ok_or_else(wrong)?)));
        at = end;
    }
    if at != bytes.len() {
        return Err(wrong());
    }
    if count == 0 {
        sizes.clear();
    }
    Ok(Pieces { sizes, elements })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(text: &str) -> (Vec<usize>, Vec<Option<String>>) {
        let p = from_text(text).unwrap();
        (p.sizes, p.elements.iter().map(|e| e.as_ref().map(|b| String::from_utf8(b.to_vec()).unwrap())).collect())
    }

    #[test]
    fn literals_are_taken_apart() {
        let s = |t: &str| Some(t.to_owned());
        assert_eq!(texts("{}"), (vec![], vec![]));
        assert_eq!(texts(" { 1 , NULL,\"NULL\", \"a \\\"b\\\\\",c d } "), (vec![5], vec![s("1"), None, s("NULL"), s("a \"b\\"), s("c d")]));
        assert_eq!(texts("[0:1]={5,6}"), (vec![2], vec![s("5"), s("6")]));
        assert_eq!(texts("{{1,2},{3,4}}"), (vec![2, 2], vec![s("1"), s("2"), s("3"), s("4")]));
        for wrong in ["", "1", "{", "{1", "{1,}", "{1}x", "{{1},{2,3}}", "{{1},2}", "{1,{2}}", "{\"a}", "{{{{{{{1}}}}}}}"] {
            assert!(from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_taken_apart() {
        let bytes: Vec<u8> = [1, 1, 23, 2, 1, 4, 7, -1].iter().flat_map(|w: &i32| w.to_be_bytes()).collect();
        let p = from_binary(&bytes).unwrap();
        assert_eq!((p.sizes, p.elements.len(), p.elements[1].is_none()), (vec![2], 2, true));
        assert!(from_binary(&bytes[..20]).is_err());
        let lie: Vec<u8> = [1, 0, 23, i32::MAX, 1].iter().flat_map(|w: &i32| w.to_be_bytes()).collect();
        assert!(from_binary(&lie).is_err());
        assert_eq!(from_binary(&[0; 12]).unwrap().sizes, Vec::<usize>::new());
    }
}
