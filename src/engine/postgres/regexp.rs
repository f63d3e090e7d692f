//! Regular expressions: `regexp_*`, and `substring` by a pattern.
//!
//! In: text, a pattern, flags. Out: parts of the text. Invariant: a pattern that does not parse is 2201B; positions count
//! characters from 1. Deliberately absent: back references within a pattern and look-around.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ScalarUDF, Volatility};
use regex::{Captures, Regex, RegexBuilder};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::types::SqlType;

use crate::postgres::scalar::{Args, Scalar, Shape, untyped};

/// All matches of a pattern as an array of arrays: what `regexp_matches` unnests.
pub const MATCHES: &str = "squilla_regexp_matches";

/// The syntax of PostgreSQL's escapes that the crate does not have.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.strip_prefix("***:").or_else(|| pattern.strip_prefix("(?:e)")).unwrap_or(pattern);
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        if c == '\\' {
            let (escape, used) = match after.chars().next() {
                Some('m') => ("\\b{start}", 1),
                Some('M') => ("\\b{end}", 1),
                Some('y') => ("\\b", 1),
                Some('Y') => ("\\B", 1),
                Some('Z') => ("\\z", 1),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                    rest = after.get(other.len_utf8()..).unwrap_or("");
                    continue;
                }
                None => ("\\\\", 0),
            };
            out.push_str(escape);
            rest = after.get(used..).unwrap_or("");
            continue;
        }
        out.push(c);
        rest = after;
    }
    out
}

/// A pattern with its flags, and whether it is for every match.
fn compiled(pattern: &str, flags: &str) -> Result<(Regex, bool)> {
    let (mut insensitive, mut global, mut lines, mut dot, mut literal, mut loose) = (false, false, false, true, false, false);
    for flag in flags.chars() {
        match flag {
            'i' => insensitive = true,
            'c' => insensitive = false,
            'g' => global = true,
            'n' | 'm' => (lines, dot) = (true, false),
            'p' => dot = false,
            'w' => lines = true,
            's' => (lines, dot) = (false, true),
            'q' => literal = true,
            'x' => loose = true,
            't' | 'e' => {}
            other => return Err(Error::invalid_argument(format!("invalid regular expression option: \"{other}\""))),
        }
    }
    let body = if literal { regex::escape(pattern) } else { translated(pattern) };
    let built = RegexBuilder::new(&body)
        .case_insensitive(insensitive)
        .multi_line(lines)
        .dot_matches_new_line(dot)
        .ignore_whitespace(loose)
        .size_limit(16 << 20)
        .build()
        .map_err(|e| Error::new(Kind::InvalidRegex, format!("invalid regular expression: {}", e.to_string().lines().last().unwrap_or("").trim())))?;
    Ok((built, global))
}

/// Patterns of one call.
#[derive(Default)]
struct Patterns(HashMap<(String, String), (Regex, bool)>);

impl Patterns {
    fn get(&mut self, pattern: &str, flags: &str) -> Result<(Regex, bool)> {
        let key = (pattern.to_owned(), flags.to_owned());
        if let Some(found) = self.0.get(&key) {
            return Ok(found.clone());
        }
        let made = compiled(pattern, flags)?;
        self.0.insert(key, made.clone());
        Ok(made)
    }
}

/// The text arguments of a row; None where one is NULL.
fn row_texts(columns: &[arrow::array::StringArray], row: usize) -> Option<Vec<&str>> {
    columns.iter().map(|c| c.is_valid(row).then(|| c.value(row))).collect()
}

fn text_columns(args: &Args<'_>) -> Result<Vec<arrow::array::StringArray>> {
    (0..args.columns.len()).map(|at| args.texts(at)).collect()
}

/// PostgreSQL's replacement: `\1`, `\&`, `\\`.
fn expanded(template: &str, found: &Captures<'_>, out: &mut String) {
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(found.get(0).map_or("", |m| m.as_str())),
            Some(d) if d.is_ascii_digit() => out.push_str(found.get(d as usize - '0' as usize).map_or("", |m| m.as_str())),
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}

/// The byte at which the character of this number (from 1) begins.
fn start_of(text: &str, character: i64) -> usize {
    let skipped = usize::try_from(character.max(1) - 1).unwrap_or(0);
    text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at)
}

fn number(text: &str) -> Result<i64> {
    text.trim().parse().map_err(|_| Error::new(Kind::InvalidText, format!("invalid input syntax for type integer: \"{text}\"")))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `regexp_replace(text, pattern, replacement [, start [, n]] [, flags])`.
fn replace(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let mut builder = StringBuilder::new();
    for row in 0..args.rows {
        let Some(given) = row_texts(&columns, row) else {
            builder.append_null();
            continue;
        };
        let (text, pattern, template) = (given[0], given[1], given[2]);
        let (mut start, mut which, mut flags) = (1, None, "");
        for (at, extra) in given.iter().copied().enumerate().skip(3) {
            if is_number(extra) && flags.is_empty() {
                if at == 3 {
                    start = number(extra)?;
                } else {
                    which = Some(number(extra)?);
                }
            } else {
                flags = extra;
            }
        }
        let (regex, global) = patterns.get(pattern, flags)?;
        let from = start_of(text, start);
        let which = which.unwrap_or(if global { 0 } else { 1 });
        let mut out = text.get(..from).unwrap_or("").to_owned();
        let (rest, mut last) = (text.get(from..).unwrap_or(""), 0);
        for (count, found) in regex.captures_iter(rest).enumerate() {
            let Some(whole) = found.get(0) else { continue };
            if which != 0 && count as i64 + 1 != which {
                continue;
            }
            out.push_str(rest.get(last..whole.start()).unwrap_or(""));
            expanded(template, &found, &mut out);
            last = whole.end();
            if which != 0 {
                break;
            }
        }
        out.push_str(rest.get(last..).unwrap_or(""));
        builder.append_value(out);
    }
    Ok(Arc::new(builder.finish()))
}

/// The groups of a match, or the match where there are none.
fn groups(found: &Captures<'_>) -> Vec<Option<String>> {
    if found.len() == 1 {
        return vec![found.get(0).map(|m| m.as_str().to_owned())];
    }
    found.iter().skip(1).map(|m| m.map(|m| m.as_str().to_owned())).collect()
}

fn first_match(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    for row in 0..args.rows {
        let Some(given) = row_texts(&columns, row) else {
            builder.append(false);
            continue;
        };
        let (regex, _) = patterns.get(given[1], given.get(2).copied().unwrap_or(""))?;
        match regex.captures(given[0]) {
            Some(found) => {
                groups(&found).into_iter().for_each(|g| builder.values().append_option(g));
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Every match as the text of an array: rows of `regexp_matches` are made from these.
fn all_matches(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let inner = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    let field = Field::new("item", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true);
    let mut builder = ListBuilder::new(inner).with_field(field);
    for row in 0..args.rows {
        if let Some(given) = row_texts(&columns, row) {
            let (regex, global) = patterns.get(given[1], given.get(2).copied().unwrap_or(""))?;
            for found in regex.captures_iter(given[0]).take(if global { usize::MAX } else { 1 }) {
                groups(&found).into_iter().for_each(|g| builder.values().values().append_option(g));
                builder.values().append(true);
            }
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn split(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    for row in 0..args.rows {
        let Some(given) = row_texts(&columns, row) else {
            builder.append(false);
            continue;
        };
        let (regex, _) = patterns.get(given[1], given.get(2).copied().unwrap_or(""))?;
        let text = given[0];
        let mut last = 0;
        for found in regex.find_iter(text) {
            // An empty match splits between characters, not at the ends.
            if found.is_empty() && (found.start() == 0 || found.start() >= text.len() || found.start() == last) {
                continue;
            }
            builder.values().append_value(text.get(last..found.start()).unwrap_or(""));
            last = found.end();
        }
        builder.values().append_value(text.get(last..).unwrap_or(""));
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn like(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let rows = (0..args.rows).map(|row| match row_texts(&columns, row) {
        Some(given) => patterns.get(given[1], given.get(2).copied().unwrap_or("")).map(|(regex, _)| Some(regex.is_match(given[0]))),
        None => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<BooleanArray>>()?))
}

/// `regexp_count(text, pattern [, start [, flags]])`.
fn count(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let rows = (0..args.rows).map(|row| match row_texts(&columns, row) {
        Some(given) => {
            let start = given.get(2).map_or(Ok(1), |s| number(s))?;
            let (regex, _) = patterns.get(given[1], given.get(3).copied().unwrap_or(""))?;
            let text = given[0].get(start_of(given[0], start)..).unwrap_or("");
            Ok(i32::try_from(regex.find_iter(text).count()).ok())
        }
        None => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<Int32Array>>()?))
}

/// The match that `start`, `n` and a group tell: its first byte and its text.
fn chosen<'t>(patterns: &mut Patterns, given: &[&'t str], flags_at: usize) -> Result<Option<(usize, usize, &'t str)>> {
    let at = |i: usize, otherwise: i64| given.get(i).map_or(Ok(otherwise), |s| number(s));
    let (start, which) = (at(2, 1)?, at(3, 1)?);
    let group = at(flags_at + 1, 0)?;
    let (regex, _) = patterns.get(given[1], given.get(flags_at).copied().unwrap_or(""))?;
    let from = start_of(given[0], start);
    let text = given[0].get(from..).unwrap_or("");
    let found = regex.captures_iter(text).nth(usize::try_from(which - 1).unwrap_or(0));
    let part = found.and_then(|f| f.get(usize::try_from(group).unwrap_or(0)));
    Ok(part.map(|m| (from + m.start(), from + m.end(), m.as_str())))
}

/// `regexp_substr(text, pattern [, start [, n [, flags [, group]]]])`.
fn part(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let mut builder = StringBuilder::new();
    for row in 0..args.rows {
        let found = match row_texts(&columns, row) {
            Some(given) => chosen(&mut patterns, &given, 4)?.map(|(_, _, text)| text.to_owned()),
            None => None,
        };
        builder.append_option(found);
    }
    Ok(Arc::new(builder.finish()))
}

/// `regexp_instr(text, pattern [, start [, n [, end [, flags [, group]]]]])`.
fn position(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let rows = (0..args.rows).map(|row| match row_texts(&columns, row) {
        Some(given) => {
            let end = given.get(4).map_or(Ok(0), |s| number(s))? == 1;
            let place = chosen(&mut patterns, &given, 5)?.map(|(first, last, _)| if end { last } else { first });
            let counted = place.map_or(0, |at| given[0].get(..at).map_or(0, |t| t.chars().count()) + 1);
            Ok(i32::try_from(counted).ok())
        }
        None => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<Int32Array>>()?))
}

/// `substring(text from pattern)`: the first group of the first match, or the match.
fn substring(args: &Args<'_>) -> Result<ArrayRef> {
    let columns = text_columns(args)?;
    let mut patterns = Patterns::default();
    let mut builder = StringBuilder::new();
    for row in 0..args.rows {
        let found = match row_texts(&columns, row) {
            Some(given) => patterns.get(given[1], "")?.0.captures(given[0]).and_then(|f| groups(&f).into_iter().next().flatten()),
            None => None,
        };
        builder.append_option(found);
    }
    Ok(Arc::new(builder.finish()))
}

/// Name of `substring(text from pattern)`.
pub const SUBSTRING: &str = "squilla_substring_regex";

fn texts(types: &[DataType], counts: std::ops::RangeInclusive<usize>) -> Option<Vec<DataType>> {
    let fits = |(at, ty): (usize, &DataType)| untyped(ty) || (at >= 2 && ty.is_integer());
    (counts.contains(&types.len()) && types.iter().enumerate().all(fits)).then(|| vec![DataType::Utf8; types.len()])
}

fn text_array() -> Field {
    SqlType::Array(Box::new(SqlType::Text)).field("")
}

/// The functions.
pub fn udfs() -> Vec<ScalarUDF> {
    let make = |name, takes, returns, run| Scalar { name, aliases: &[], volatility: Volatility::Immutable, takes, returns, run };
    let a_text = |_: &Shape<'_>| Some(Field::new("", DataType::Utf8, true));
    let an_int = |_: &Shape<'_>| Some(Field::new("", DataType::Int32, true));
    let lists = |_: &Shape<'_>| Some(text_array());
    let nested = |_: &Shape<'_>| Some(Field::new("", DataType::List(Arc::new(text_array().with_name("item"))), true));
    [
        make("regexp_replace", |t| texts(t, 3..=6), a_text, replace),
        make("regexp_match", |t| texts(t, 2..=3), lists, first_match),
        make(MATCHES, |t| texts(t, 2..=3), nested, all_matches),
        make("regexp_split_to_array", |t| texts(t, 2..=3), lists, split),
        make("regexp_like", |t| texts(t, 2..=3), |_: &Shape<'_>| Some(Field::new("", DataType::Boolean, true)), like),
        make("regexp_count", |t| texts(t, 2..=4), an_int, count),
        make("regexp_instr", |t| texts(t, 2..=7), an_int, position),
        make("regexp_substr", |t| texts(t, 2..=6), a_text, part),
        make(SUBSTRING, |t| texts(t, 2..=2), a_text, substring),
    ]
    .map(Scalar::udf)
    .into()
}
