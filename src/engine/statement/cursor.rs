//! DECLARE, FETCH, MOVE and CLOSE.
//!
//! In: the tokens from one of these words on. Out: what is asked of a cursor. Invariant: a count is within 64 bits, and a
//! direction is one of five, whatever of PostgreSQL's many spellings it came in. Deliberately absent: the cursors.

use sqlparser::ast::Query;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::{Parsed, StatementKind, accept, expect, ident_text};

/// `DECLARE name [BINARY] [INSENSITIVE] [[NO] SCROLL] CURSOR [WITH HOLD] FOR query`
#[derive(Clone, Debug)]
pub struct Declare {
    /// Name.
    pub name: String,
    /// BINARY
    pub binary: bool,
    /// SCROLL (true) or NO SCROLL (false).
    pub scroll: Option<bool>,
    /// WITH HOLD
    pub hold: bool,
    /// The query.
    pub query: Box<Query>,
}

/// Where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This many rows on; less than zero is back, zero the row that the cursor is on.
    Forward(i64),
    /// All rows up to the end.
    ForwardAll,
    /// All rows back to the start.
    BackwardAll,
    /// The row with this number; less than zero counts from the end.
    Absolute(i64),
    /// The row this far away.
    Relative(i64),
}

/// `FETCH [direction] [FROM | IN] name`
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Name.
    pub name: String,
    /// Where to go.
    pub direction: Direction,
    /// MOVE: the rows are not wanted.
    pub only_move: bool,
}

/// Parses what begins with one of the words.
pub(super) fn parse(parser: &mut Parser) -> Parsed<Option<StatementKind>> {
    if accept(parser, "DECLARE") {
        return declare(parser).map(|d| Some(StatementKind::Declare(Box::new(d))));
    }
    for (word, only_move) in [("FETCH", false), ("MOVE", true)] {
        if accept(parser, word) {
            let direction = direction(parser)?;
            let _ = accept(parser, "FROM") || accept(parser, "IN");
            let name = ident_text(&parser.parse_identifier()?);
            return Ok(Some(StatementKind::Fetch(Fetch { name, direction, only_move })));
        }
    }
    if accept(parser, "CLOSE") {
        let name = if accept(parser, "ALL") { None } else { Some(ident_text(&parser.parse_identifier()?)) };
        return Ok(Some(StatementKind::Close(name)));
    }
    Ok(None)
}

fn declare(parser: &mut Parser) -> Parsed<Declare> {
    let name = ident_text(&parser.parse_identifier()?);
    let (mut binary, mut scroll) = (false, None);
    loop {
        if accept(parser, "BINARY") {
            binary = true;
        } else if accept(parser, "INSENSITIVE") || accept(parser, "ASENSITIVE") {
            // A cursor never sees later changes: both words say so.
        } else if accept(parser, "NO") {
            expect(parser, "SCROLL")?;
            scroll = Some(false);
        } else if accept(parser, "SCROLL") {
            scroll = Some(true);
        } else {
            break;
        }
    }
    expect(parser, "CURSOR")?;
    let hold = accept(parser, "WITH");
    if hold || accept(parser, "WITHOUT") {
        expect(parser, "HOLD")?;
    }
    expect(parser, "FOR")?;
    Ok(Declare { name, binary, scroll, hold, query: parser.parse_query()? })
}

fn direction(parser: &mut Parser) -> Parsed<Direction> {
    // A cursor may be named like one of the words: what follows tells.
    let named = |p: &Parser| matches!(p.peek_nth_token(1).token, Token::EOF | Token::SemiColon);
    if named(parser) {
        return Ok(Direction::Forward(1));
    }
    for (word, direction) in [
        ("NEXT", Direction::Forward(1)),
        ("PRIOR", Direction::Forward(-1)),
        ("FIRST", Direction::Absolute(1)),
        ("LAST", Direction::Absolute(-1)),
        ("ALL", Direction::ForwardAll),
    ] {
        if accept(parser, word) {
            return Ok(direction);
        }
    }
    for (word, make) in [("ABSOLUTE", Direction::Absolute as fn(i64) -> Direction), ("RELATIVE", Direction::Relative)] {
        if accept(parser, word) {
            return count(parser)?
                .map(make)
                .ok_or_else(|| ParserError::ParserError(format!("Expected: a number, found: {}", parser.peek_token_ref())));
        }
    }
    for (word, sign, all) in [("FORWARD", 1, Direction::ForwardAll), ("BACKWARD", -1, Direction::BackwardAll)] {
        if accept(parser, word) {
            if accept(parser, "ALL") {
                return Ok(all);
            }
            return Ok(Direction::Forward(count(parser)?.unwrap_or(1).saturating_mul(sign)));
        }
    }
    Ok(Direction::Forward(count(parser)?.unwrap_or(1)))
}

/// A number, if one is next.
fn count(parser: &mut Parser) -> Parsed<Option<i64>> {
    let negative = matches!(parser.peek_token_ref().token, Token::Minus);
    if negative || matches!(parser.peek_token_ref().token, Token::Plus) {
        parser.next_token();
    }
    let Token::Number(text, _) = &parser.peek_token_ref().token else {
        return if negative { parser.expected("a number", parser.peek_token()) } else { Ok(None) };
    };
    let signed = if negative { format!("-{text}") } else { text.clone() };
    let number = signed.parse::<i64>().map_err(|_| ParserError::ParserError(format!("Expected: a number, found: {text}")))?;
    parser.next_token();
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::statement::parse as statements;

    #[test]
    fn every_spelling_of_fetch() {
        for (sql, wanted) in [
            ("FETCH c", Direction::Forward(1)),
            ("FETCH next", Direction::Forward(1)),
            ("FETCH FROM c", Direction::Forward(1)),
            ("FETCH 5 IN c", Direction::Forward(5)),
            ("FETCH -5 c", Direction::Forward(-5)),
            ("FETCH PRIOR FROM c", Direction::Forward(-1)),
            ("MOVE BACKWARD 3 IN c", Direction::Forward(-3)),
            ("FETCH BACKWARD c", Direction::Forward(-1)),
            ("FETCH FORWARD ALL FROM c", Direction::ForwardAll),
            ("FETCH LAST c", Direction::Absolute(-1)),
            ("FETCH ABSOLUTE -2 FROM c", Direction::Absolute(-2)),
            ("FETCH RELATIVE 0 FROM c", Direction::Relative(0)),
            ("MOVE ALL FROM c", Direction::ForwardAll),
            ("MOVE BACKWARD ALL FROM c", Direction::BackwardAll),
        ] {
            let parsed = statements(sql, 100).unwrap();
            let StatementKind::Fetch(fetch) = &*parsed[0].kind else { panic!("{sql}") };
            assert_eq!((fetch.direction, fetch.only_move), (wanted, sql.starts_with("MOVE")), "{sql}");
        }
        assert!(statements("FETCH 99999999999999999999 FROM c", 100).is_err());
    }

    #[test]
    fn cursors_are_declared() {
        let parsed = statements("DECLARE \"C\" BINARY INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SELECT 1", 100).unwrap();
        let StatementKind::Declare(d) = &*parsed[0].kind else { panic!() };
        assert_eq!((d.name.as_str(), d.binary, d.scroll, d.hold), ("C", true, Some(false), true));
    }
}
