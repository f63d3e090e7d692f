//! GRANT and REVOKE, of privileges and of membership.
//!
//! In: the tokens after GRANT or REVOKE. Out: a [`RoleStatement`]. Invariant: a list before ON is of privileges, before TO or
//! FROM of roles. Deliberately absent: privileges of columns, which are refused here, and whether anything exists.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::role::{Objects, Privileges, RoleName, RoleStatement, role};
use super::{Parsed, accept, expect, is_word};

/// A privilege or the name of a role, with the columns that may follow.
fn word_or_role(parser: &mut Parser) -> Parsed<(RoleName, bool)> {
    let name = role(parser)?;
    if let RoleName::Named(first) = &name
        && first == "alter"
        && accept(parser, "SYSTEM")
    {
        return Ok((RoleName::Named("alter system".into()), false));
    }
    let columns = parser.consume_token(&Token::LParen);
    if columns {
        parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok((name, columns))
}

/// `ALL [PRIVILEGES]`, or words.
fn privileges(parser: &mut Parser) -> Parsed<(Privileges, Vec<RoleName>)> {
    if accept(parser, "ALL") {
        accept(parser, "PRIVILEGES");
        if parser.consume_token(&Token::LParen) {
            return Err(ParserError::ParserError("privileges of columns are not supported".into()));
        }
        return Ok((None, Vec::new()));
    }
    let list = parser.parse_comma_separated(word_or_role)?;
    if list.iter().any(|(_, columns)| *columns) {
        return Err(ParserError::ParserError("privileges of columns are not supported".into()));
    }
    let names: Vec<RoleName> = list.into_iter().map(|(name, _)| name).collect();
    let words = names.iter().map(|n| if let RoleName::Named(n) = n { n.clone() } else { String::new() }).collect();
    Ok((Some(words), names))
}

fn grantees(parser: &mut Parser) -> Parsed<Vec<RoleName>> {
    parser.parse_comma_separated(|p| {
        accept(p, "GROUP");
        role(p)
    })
}

/// `GRANTED BY role`: whoever it names, the grant is the owner's.
fn granted_by(parser: &mut Parser) -> Parsed<()> {
    if accept(parser, "GRANTED") {
        expect(parser, "BY")?;
        role(parser)?;
    }
    Ok(())
}

/// After GRANT.
pub(super) fn grant(parser: &mut Parser) -> Parsed<RoleStatement> {
    let (privileges, names) = privileges(parser)?;
    if accept(parser, "ON") {
        let objects = objects(parser)?;
        expect(parser, "TO")?;
        let roles = grantees(parser)?;
        let option = accept(parser, "WITH");
        if option {
            expect(parser, "GRANT")?;
            expect(parser, "OPTION")?;
        }
        granted_by(parser)?;
        return Ok(RoleStatement::Privileges { grant: true, privileges, objects, roles, option });
    }
    expect(parser, "TO")?;
    let members = grantees(parser)?;
    let admin = accept(parser, "WITH");
    if admin {
        expect(parser, "ADMIN")?;
        expect(parser, "OPTION")?;
    }
    granted_by(parser)?;
    Ok(RoleStatement::Membership { grant: true, roles: names, members, admin })
}

/// After REVOKE.
pub(super) fn revoke(parser: &mut Parser) -> Parsed<RoleStatement> {
    let mut option = false;
    for word in ["GRANT", "ADMIN"] {
        if is_word(&parser.peek_nth_token_ref(1).token, "OPTION") && accept(parser, word) {
            expect(parser, "OPTION")?;
            expect(parser, "FOR")?;
            option = true;
        }
    }
    let (privileges, names) = privileges(parser)?;
    let on = accept(parser, "ON");
    let objects = if on { objects(parser)? } else { Objects::None };
    expect(parser, "FROM")?;
    let from = grantees(parser)?;
    granted_by(parser)?;
    let _ = accept(parser, "CASCADE") || accept(parser, "RESTRICT");
    Ok(if on {
        RoleStatement::Privileges { grant: false, privileges, objects, roles: from, option }
    } else {
        RoleStatement::Membership { grant: false, roles: names, members: from, admin: option }
    })
}

/// After ON.
fn objects(parser: &mut Parser) -> Parsed<Objects> {
    let names = |p: &mut Parser| p.parse_comma_separated(|p| p.parse_object_name(false).map(|n| super::name_text(&n)));
    if accept(parser, "ALL") {
        let tables = accept(parser, "TABLES");
        if !tables && !["FUNCTIONS", "PROCEDURES", "ROUTINES", "SEQUENCES"].into_iter().any(|w| accept(parser, w)) {
            return parser.expected("TABLES, SEQUENCES or FUNCTIONS", parser.peek_token());
        }
        expect(parser, "IN")?;
        expect(parser, "SCHEMA")?;
        let schemas = names(parser)?;
        return Ok(if tables { Objects::AllTables(schemas) } else { Objects::None });
    }
    if accept(parser, "SCHEMA") {
        return Ok(Objects::Schemas(names(parser)?));
    }
    if accept(parser, "DATABASE") {
        return Ok(Objects::Databases(names(parser)?));
    }
    if ["FUNCTION", "PROCEDURE", "ROUTINE"].into_iter().any(|w| accept(parser, w)) {
        return Ok(Objects::Functions(parser.parse_comma_separated(function)?));
    }
    for word in ["FOREIGN", "LANGUAGE", "TABLESPACE", "PARAMETER", "LARGE", "TYPE", "DOMAIN"] {
        // A table may have such a name: then no other name follows.
        let followed = matches!(parser.peek_nth_token_ref(1).token, Token::Word(_)) && !is_word(&parser.peek_nth_token_ref(1).token, "TO");
        if followed && !is_word(&parser.peek_nth_token_ref(1).token, "FROM") && accept(parser, word) {
            while !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF)
                && !is_word(&parser.peek_token_ref().token, "TO")
                && !is_word(&parser.peek_token_ref().token, "FROM")
            {
                parser.next_token();
            }
            return Ok(Objects::Other(word.to_lowercase()));
        }
    }
    if !accept(parser, "SEQUENCE") {
        accept(parser, "TABLE");
    }
    Ok(Objects::Tables(parser.parse_comma_separated(|p| p.parse_object_name(false))?))
}

/// A function's name with argument types, which may be left out.
fn function(parser: &mut Parser) -> Parsed<String> {
    let name = super::name_parts(&parser.parse_object_name(false)?).pop().unwrap_or_default();
    if parser.consume_token(&Token::LParen) {
        let mut depth = 1;
        while depth > 0 {
            match parser.next_token().token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::EOF => return parser.expected(")", parser.peek_token()),
                _ => {}
            }
        }
    }
    Ok(name)
}
