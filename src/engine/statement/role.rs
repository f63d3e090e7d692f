//! Roles and privileges: CREATE, ALTER, DROP ROLE, GRANT, REVOKE, SET ROLE, OWNER TO.
//!
//! In: the tokens of such a statement. Out: a [`RoleStatement`]. Invariant: names are folded, and the words that stand for
//! a role (CURRENT_USER, PUBLIC) are kept apart from roles of that name. Deliberately absent: whether anything exists.

use std::sync::Arc;

use sqlparser::ast::ObjectName;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::{Parsed, accept, expect, grant, ident_text, is_word, option_value};

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// A role.
    Named(String),
    /// CURRENT_USER, CURRENT_ROLE
    Current,
    /// SESSION_USER
    Session,
    /// PUBLIC
    Public,
}

/// One option of CREATE and ALTER ROLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleOption {
    /// SUPERUSER, NOSUPERUSER and their like, by the word without NO.
    Attribute(&'static str, bool),
    /// CONNECTION LIMIT
    ConnectionLimit(i32),
    /// PASSWORD; None is NULL.
    Password(Option<String>),
    /// VALID UNTIL
    ValidUntil(String),
    /// IN ROLE
    InRole(Vec<RoleName>),
    /// ROLE, USER
    Members(Vec<RoleName>),
    /// ADMIN
    Admins(Vec<RoleName>),
}

/// The text of a statement about roles that others may see: nothing after PASSWORD.
pub fn shown(text: &str) -> Arc<str> {
    match text.to_ascii_lowercase().find("password").and_then(|at| text.get(..at)) {
        Some(before) => Arc::from(format!("{before}PASSWORD ...")),
        None => Arc::from(text),
    }
}

/// Whether a text is about the password of a role.
pub fn sets_password(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains("password") && [" role ", " user ", " group "].iter().any(|word| lower.contains(word))
}

/// What privileges are about.
#[derive(Clone, Debug)]
pub enum Objects {
    /// Tables, views and external tables.
    Tables(Vec<ObjectName>),
    /// ALL TABLES IN SCHEMA
    AllTables(Vec<String>),
    /// Schemas.
    Schemas(Vec<String>),
    /// Functions by name; argument types are read and forgotten, for a grant covers all of a name.
    Functions(Vec<String>),
    /// ALL FUNCTIONS IN SCHEMA, ALL SEQUENCES IN SCHEMA: nothing of the user's is there to grant.
    None,
    /// Databases.
    Databases(Vec<String>),
    /// What does not exist here, by its word.
    Other(String),
}

/// A list of privileges; None is ALL.
pub type Privileges = Option<Vec<String>>;

/// What a statement about roles asks.
#[derive(Clone, Debug)]
pub enum RoleStatement {
    /// CREATE ROLE, USER, GROUP
    Create {
        /// Name.
        name: RoleName,
        /// CREATE USER: LOGIN unless said otherwise.
        user: bool,
        /// Options in order.
        options: Vec<RoleOption>,
    },
    /// ALTER ROLE ... options
    Alter {
        /// Role.
        role: RoleName,
        /// Options in order.
        options: Vec<RoleOption>,
    },
    /// ALTER ROLE ... RENAME TO
    Rename {
        /// Role.
        role: RoleName,
        /// New name.
        to: String,
    },
    /// ALTER ROLE ... SET, RESET
    Configure {
        /// Role; None is ALL.
        role: Option<RoleName>,
        /// Setting; None is RESET ALL.
        name: Option<String>,
        /// Value; None is RESET.
        value: Option<String>,
    },
    /// DROP ROLE
    Drop {
        /// Names.
        names: Vec<RoleName>,
        /// IF EXISTS
        if_exists: bool,
    },
    /// GRANT, REVOKE of privileges
    Privileges {
        /// GRANT (true) or REVOKE.
        grant: bool,
        /// Which.
        privileges: Privileges,
        /// On what.
        objects: Objects,
        /// To or from whom.
        roles: Vec<RoleName>,
        /// WITH GRANT OPTION, or GRANT OPTION FOR.
        option: bool,
    },
    /// GRANT, REVOKE of membership
    Membership {
        /// GRANT (true) or REVOKE.
        grant: bool,
        /// Roles granted.
        roles: Vec<RoleName>,
        /// Who becomes a member.
        members: Vec<RoleName>,
        /// WITH ADMIN OPTION, or ADMIN OPTION FOR.
        admin: bool,
    },
    /// REASSIGN OWNED
    Reassign {
        /// Owners now.
        from: Vec<RoleName>,
        /// Owner then.
        to: RoleName,
    },
    /// DROP OWNED
    DropOwned {
        /// Owners.
        roles: Vec<RoleName>,
        /// CASCADE
        cascade: bool,
    },
    /// ALTER DEFAULT PRIVILEGES: read and without effect.
    DefaultPrivileges,
    /// `SET [LOCAL] ROLE`, RESET ROLE; None is NONE.
    SetRole {
        /// Role.
        role: Option<RoleName>,
        /// LOCAL
        local: bool,
        /// RESET rather than SET.
        reset: bool,
    },
    /// SET SESSION AUTHORIZATION; None is DEFAULT.
    SetAuthorization {
        /// Role.
        role: Option<RoleName>,
        /// LOCAL
        local: bool,
        /// RESET rather than SET.
        reset: bool,
    },
    /// ALTER TABLE, VIEW, SCHEMA ... OWNER TO
    Owner {
        /// TABLE, VIEW or SCHEMA.
        what: &'static str,
        /// IF EXISTS
        if_exists: bool,
        /// Object.
        name: ObjectName,
        /// New owner.
        role: RoleName,
    },
}

impl RoleStatement {
    /// The command, where it changes the catalog.
    pub fn writes(&self) -> Option<&'static str> {
        Some(match self {
            RoleStatement::Create { .. } => "CREATE ROLE",
            RoleStatement::Alter { .. } | RoleStatement::Rename { .. } | RoleStatement::Configure { .. } => "ALTER ROLE",
            RoleStatement::Drop { .. } => "DROP ROLE",
            RoleStatement::Privileges { grant: true, .. } => "GRANT",
            RoleStatement::Privileges { .. } => "REVOKE",
            RoleStatement::Membership { grant: true, .. } => "GRANT ROLE",
            RoleStatement::Membership { .. } => "REVOKE ROLE",
            RoleStatement::Reassign { .. } => "REASSIGN OWNED",
            RoleStatement::DropOwned { .. } => "DROP OWNED",
            RoleStatement::DefaultPrivileges => "ALTER DEFAULT PRIVILEGES",
            RoleStatement::Owner { .. } => "ALTER TABLE",
            RoleStatement::SetRole { .. } | RoleStatement::SetAuthorization { .. } => return None,
        })
    }
}

const ATTRIBUTES: &[&str] = &["SUPERUSER", "CREATEDB", "CREATEROLE", "INHERIT", "LOGIN", "REPLICATION", "BYPASSRLS"];

/// Parses a statement about roles; None when it is about something else.
pub(super) fn parse(parser: &mut Parser) -> Parsed<Option<RoleStatement>> {
    let word = |p: &Parser, at: usize, list: &[&str]| list.iter().any(|w| is_word(&p.peek_nth_token_ref(at).token, w));
    let role_word = &["ROLE", "USER", "GROUP"];
    if word(parser, 0, &["CREATE"]) && word(parser, 1, role_word) && !word(parser, 2, &["MAPPING"]) {
        parser.next_token();
        let user = word(parser, 0, &["USER"]);
        parser.next_token();
        let name = role(parser)?;
        return Ok(Some(RoleStatement::Create { name, user, options: options(parser)? }));
    }
    if word(parser, 0, &["ALTER"]) && word(parser, 1, role_word) && !word(parser, 2, &["MAPPING"]) {
        parser.next_token();
        parser.next_token();
        return alter(parser).map(Some);
    }
    if word(parser, 0, &["DROP"]) && word(parser, 1, role_word) && !word(parser, 2, &["MAPPING"]) {
        parser.next_token();
        parser.next_token();
        let if_exists = accept(parser, "IF");
        if if_exists {
            expect(parser, "EXISTS")?;
        }
        return Ok(Some(RoleStatement::Drop { names: roles(parser)?, if_exists }));
    }
    if accept(parser, "GRANT") {
        return grant::grant(parser).map(Some);
    }
    if accept(parser, "REVOKE") {
        return grant::revoke(parser).map(Some);
    }
    if word(parser, 1, &["OWNED"]) && word(parser, 0, &["REASSIGN", "DROP"]) {
        return owned(parser).map(Some);
    }
    if word(parser, 0, &["ALTER"]) && word(parser, 1, &["DEFAULT"]) && word(parser, 2, &["PRIVILEGES"]) {
        while !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            parser.next_token();
        }
        return Ok(Some(RoleStatement::DefaultPrivileges));
    }
    if word(parser, 0, &["SET", "RESET"]) {
        return parser.maybe_parse(switch);
    }
    if word(parser, 0, &["ALTER"]) {
        return parser.maybe_parse(owner);
    }
    Ok(None)
}

/// A role, or a word that stands for one.
pub(super) fn role(parser: &mut Parser) -> Parsed<RoleName> {
    let ident = parser.parse_identifier()?;
    let name = ident_text(&ident);
    if ident.quote_style.is_none() {
        match name.as_str() {
            "current_user" | "current_role" | "user" => return Ok(RoleName::Current),
            "session_user" => return Ok(RoleName::Session),
            "public" => return Ok(RoleName::Public),
            _ => {}
        }
    }
    Ok(RoleName::Named(name))
}

fn roles(parser: &mut Parser) -> Parsed<Vec<RoleName>> {
    parser.parse_comma_separated(role)
}

fn text(parser: &mut Parser) -> Parsed<String> {
    match parser.peek_token_ref().token.clone() {
        Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => {
            parser.next_token();
            Ok(s)
        }
        _ => parser.expected("a quoted string", parser.peek_token()),
    }
}

fn options(parser: &mut Parser) -> Parsed<Vec<RoleOption>> {
    accept(parser, "WITH");
    let mut options = Vec::new();
    loop {
        let attribute = ATTRIBUTES.iter().find_map(|word| {
            let plain = accept(parser, word);
            (plain || accept(parser, &format!("NO{word}"))).then_some(RoleOption::Attribute(word, plain))
        });
        options.push(if let Some(attribute) = attribute {
            attribute
        } else if accept(parser, "CONNECTION") {
            expect(parser, "LIMIT")?;
            let limit = option_value(parser)?;
            RoleOption::ConnectionLimit(limit.parse().map_err(|_| ParserError::ParserError(format!("Expected: a number, found: {limit}")))?)
        } else if accept(parser, "ENCRYPTED") || is_word(&parser.peek_token_ref().token, "PASSWORD") {
            expect(parser, "PASSWORD")?;
            RoleOption::Password(if accept(parser, "NULL") { None } else { Some(text(parser)?) })
        } else if accept(parser, "VALID") {
            expect(parser, "UNTIL")?;
            RoleOption::ValidUntil(text(parser)?)
        } else if accept(parser, "IN") {
            if !accept(parser, "ROLE") {
                expect(parser, "GROUP")?;
            }
            RoleOption::InRole(roles(parser)?)
        } else if accept(parser, "ROLE") || accept(parser, "USER") {
            RoleOption::Members(roles(parser)?)
        } else if accept(parser, "ADMIN") {
            RoleOption::Admins(roles(parser)?)
        } else if accept(parser, "SYSID") {
            option_value(parser)?;
            continue;
        } else {
            return Ok(options);
        });
    }
}

/// After ALTER ROLE.
fn alter(parser: &mut Parser) -> Parsed<RoleStatement> {
    let target = if accept(parser, "ALL") { None } else { Some(role(parser)?) };
    if accept(parser, "IN") {
        expect(parser, "DATABASE")?;
        parser.parse_identifier()?;
    }
    if accept(parser, "SET") {
        let name = super::name_text(&parser.parse_object_name(false)?);
        if accept(parser, "FROM") {
            return parser.expected("TO or =", parser.peek_token());
        }
        if !accept(parser, "TO") {
            parser.expect_token(&Token::Eq)?;
        }
        if accept(parser, "DEFAULT") {
            return Ok(RoleStatement::Configure { role: target, name: Some(name), value: None });
        }
        let values = parser.parse_comma_separated(option_value)?;
        return Ok(RoleStatement::Configure { role: target, name: Some(name), value: Some(values.join(", ")) });
    }
    if accept(parser, "RESET") {
        let name = if accept(parser, "ALL") { None } else { Some(super::name_text(&parser.parse_object_name(false)?)) };
        return Ok(RoleStatement::Configure { role: target, name, value: None });
    }
    let Some(target) = target else { return parser.expected("SET or RESET", parser.peek_token()) };
    if accept(parser, "RENAME") {
        expect(parser, "TO")?;
        return Ok(RoleStatement::Rename { role: target, to: ident_text(&parser.parse_identifier()?) });
    }
    for (word, grant) in [("ADD", true), ("DROP", false)] {
        if accept(parser, word) {
            expect(parser, "USER")?;
            return Ok(RoleStatement::Membership { grant, roles: vec![target], members: roles(parser)?, admin: false });
        }
    }
    Ok(RoleStatement::Alter { role: target, options: options(parser)? })
}

fn owned(parser: &mut Parser) -> Parsed<RoleStatement> {
    let drop = accept(parser, "DROP");
    if !drop {
        expect(parser, "REASSIGN")?;
    }
    expect(parser, "OWNED")?;
    expect(parser, "BY")?;
    let from = roles(parser)?;
    if drop {
        let cascade = accept(parser, "CASCADE");
        accept(parser, "RESTRICT");
        return Ok(RoleStatement::DropOwned { roles: from, cascade });
    }
    expect(parser, "TO")?;
    Ok(RoleStatement::Reassign { from, to: role(parser)? })
}

/// SET ROLE, SET SESSION AUTHORIZATION and their RESET; an error means that it is another SET.
fn switch(parser: &mut Parser) -> Parsed<RoleStatement> {
    let reset = accept(parser, "RESET");
    if !reset {
        expect(parser, "SET")?;
    }
    let local = !reset && accept(parser, "LOCAL");
    let session = !local && accept(parser, "SESSION");
    if session && accept(parser, "AUTHORIZATION") {
        return authorization(parser, local, reset);
    }
    if session && accept(parser, "SESSION") || local && accept(parser, "SESSION") {
        expect(parser, "AUTHORIZATION")?;
        return authorization(parser, local, reset);
    }
    expect(parser, "ROLE")?;
    if reset {
        return Ok(RoleStatement::SetRole { role: None, local, reset });
    }
    if accept(parser, "TO") || parser.consume_token(&Token::Eq) {
        // `SET role TO x` is the same setting.
    }
    let role = if accept(parser, "NONE") || accept(parser, "DEFAULT") { None } else { Some(name_or_text(parser)?) };
    Ok(RoleStatement::SetRole { role, local, reset })
}

fn authorization(parser: &mut Parser, local: bool, reset: bool) -> Parsed<RoleStatement> {
    let role = if reset || accept(parser, "DEFAULT") { None } else { Some(name_or_text(parser)?) };
    Ok(RoleStatement::SetAuthorization { role, local, reset })
}

/// A role by identifier or by string.
fn name_or_text(parser: &mut Parser) -> Parsed<RoleName> {
    match text(parser) {
        Ok(name) => Ok(RoleName::Named(name)),
        Err(_) => role(parser),
    }
}

/// `ALTER kind name OWNER TO role`; an error means that it is another ALTER.
fn owner(parser: &mut Parser) -> Parsed<RoleStatement> {
    expect(parser, "ALTER")?;
    accept(parser, "FOREIGN");
    accept(parser, "EXTERNAL");
    let what = ["TABLE", "VIEW", "SCHEMA"].into_iter().find(|w| accept(parser, w));
    let Some(what) = what else { return parser.expected("TABLE, VIEW or SCHEMA", parser.peek_token()) };
    let if_exists = accept(parser, "IF");
    if if_exists {
        expect(parser, "EXISTS")?;
    }
    accept(parser, "ONLY");
    let name = parser.parse_object_name(false)?;
    expect(parser, "OWNER")?;
    expect(parser, "TO")?;
    Ok(RoleStatement::Owner { what, if_exists, name, role: role(parser)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::statement::{StatementKind, parse as statements};

    fn one(sql: &str) -> RoleStatement {
        let parsed = statements(sql, 100).unwrap_or_else(|e| panic!("{sql}: {e}"));
        match &*parsed[0].kind {
            StatementKind::Role(role) => (**role).clone(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn options_are_read_in_order() {
        let RoleStatement::Create { name, user, options } =
            one("CREATE USER ann WITH NOSUPERUSER PASSWORD 'x' VALID UNTIL 'infinity' CONNECTION LIMIT -1 IN ROLE a, b NOLOGIN")
        else {
            panic!()
        };
        assert_eq!((name, user, options.len()), (RoleName::Named("ann".into()), true, 6));
        assert_eq!(options.first(), Some(&RoleOption::Attribute("SUPERUSER", false)));
        assert_eq!(options.last(), Some(&RoleOption::Attribute("LOGIN", false)));
    }

    #[test]
    fn grants_of_both_kinds() {
        let RoleStatement::Privileges { privileges, objects: Objects::Tables(t), option, .. } =
            one("GRANT SELECT, INSERT ON TABLE a.b, c TO ann, PUBLIC WITH GRANT OPTION")
        else {
            panic!()
        };
        assert_eq!((privileges.unwrap().len(), t.len(), option), (2, 2, true));
        assert!(matches!(one("GRANT readers TO ann WITH ADMIN OPTION"), RoleStatement::Membership { grant: true, admin: true, .. }));
        assert!(matches!(one("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM ann CASCADE"), RoleStatement::Privileges { privileges: None, .. }));
        assert!(matches!(one("REVOKE GRANT OPTION FOR SELECT ON t FROM ann"), RoleStatement::Privileges { grant: false, option: true, .. }));
        assert!(matches!(one("GRANT EXECUTE ON FUNCTION f(int, text) TO ann"), RoleStatement::Privileges { objects: Objects::Functions(_), .. }));
        assert!(matches!(one("GRANT USAGE ON LANGUAGE sql TO ann"), RoleStatement::Privileges { objects: Objects::Other(_), .. }));
    }

    #[test]
    fn the_rest() {
        assert!(matches!(one("SET ROLE ann"), RoleStatement::SetRole { role: Some(_), local: false, .. }));
        assert!(matches!(one("SET LOCAL ROLE 'ann'"), RoleStatement::SetRole { role: Some(_), local: true, .. }));
        assert!(matches!(one("RESET ROLE"), RoleStatement::SetRole { role: None, reset: true, .. }));
        assert!(matches!(one("SET SESSION AUTHORIZATION DEFAULT"), RoleStatement::SetAuthorization { role: None, .. }));
        assert!(matches!(one("RESET SESSION AUTHORIZATION"), RoleStatement::SetAuthorization { reset: true, .. }));
        assert!(matches!(one("ALTER TABLE IF EXISTS a.t OWNER TO ann"), RoleStatement::Owner { if_exists: true, .. }));
        assert!(matches!(one("ALTER ROLE ann SET search_path = a, b"), RoleStatement::Configure { value: Some(_), .. }));
        assert!(matches!(one("ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO x"), RoleStatement::DefaultPrivileges));
        assert!(matches!(one("DROP ROLE IF EXISTS a, b"), RoleStatement::Drop { if_exists: true, .. }));
        assert!(matches!(one("REASSIGN OWNED BY a TO CURRENT_USER"), RoleStatement::Reassign { to: RoleName::Current, .. }));
        assert!(matches!(&*statements("SET search_path = a", 100).unwrap()[0].kind, StatementKind::Sql(_)));
    }
}
