//! CREATE, ALTER and DROP ROLE, GRANT and REVOKE, SET ROLE, OWNER TO.
//!
//! In: a parsed statement. Out: one catalog change, or a change of the session's own role. Invariant: who asks is checked
//! against the catalog that the change is made to, so that a right taken away meanwhile does not count.
//! Deliberately absent: default privileges, which are read and have no effect, and privileges of columns.

use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result};

use crate::catalog::data::{CatalogData, SUPERUSER};
use crate::catalog::relations::DropKind;
use crate::catalog::roles::{EVERYBODY, Object, RoleEntry, no_role};
use crate::command::done;
use crate::command::write::find as target;
use crate::session::{Execution, Notice, Session};
use crate::statement::name_text;
use crate::statement::role::{Objects, RoleName, RoleOption, RoleStatement};

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::InsufficientPrivilege, message)
}

/// Who asks, and the names that stand for roles of the session.
struct Asker {
    current: String,
    session_user: String,
}

impl Asker {
    fn name(&self, role: &RoleName) -> String {
        match role {
            RoleName::Named(name) => name.clone(),
            RoleName::Current => self.current.clone(),
            RoleName::Session => self.session_user.clone(),
            RoleName::Public => EVERYBODY.to_owned(),
        }
    }

    /// A role that is there.
    fn known(&self, data: &CatalogData, role: &RoleName) -> Result<String> {
        let name = self.name(role);
        if name == EVERYBODY || !data.roles.contains_key(&name) { Err(no_role(&name)) } else { Ok(name) }
    }

    fn superuser(&self, data: &CatalogData) -> bool {
        data.is_superuser(&self.current)
    }

    fn makes_roles(&self, data: &CatalogData) -> bool {
        self.superuser(data) || data.roles.get(&self.current).is_some_and(|r| r.create_role)
    }
}

/// Runs a statement about roles.
pub fn run(session: &Arc<Session>, statement: &RoleStatement) -> Result<Execution> {
    let asker = Asker { current: session.role(), session_user: session.session_user() };
    match statement {
        RoleStatement::Create { name, user, options } => create(session, &asker, name, *user, options),
        RoleStatement::Alter { role, options } => alter(session, &asker, role, options),
        RoleStatement::Rename { role, to } => rename(session, &asker, role, to),
        RoleStatement::Configure { role, name, value } => configure(session, &asker, role.as_ref(), name.as_deref(), value.as_deref()),
        RoleStatement::Drop { names, if_exists } => drop_roles(session, &asker, names, *if_exists),
        RoleStatement::Privileges { grant, privileges, objects, roles, option } => {
            privileges_on(session, &asker, *grant, privileges.as_deref(), objects, roles, *option)
        }
        RoleStatement::Membership { grant, roles, members, admin } => membership(session, &asker, *grant, roles, members, *admin),
        RoleStatement::Reassign { from, to } => reassign(session, &asker, from, to),
        RoleStatement::DropOwned { roles, cascade } => drop_owned(session, &asker, roles, *cascade),
        RoleStatement::DefaultPrivileges => done("ALTER DEFAULT PRIVILEGES"),
        RoleStatement::SetRole { role, local, reset } => {
            session.set_role(role.as_ref().map(|r| asker.name(r)).as_deref(), *local)?;
            done(if *reset { "RESET" } else { "SET" })
        }
        RoleStatement::SetAuthorization { role, local, reset } => {
            session.set_authorization(role.as_ref().map(|r| asker.name(r)).as_deref(), *local)?;
            done(if *reset { "RESET" } else { "SET" })
        }
        RoleStatement::Owner { what, if_exists, name, role } => owner(session, &asker, what, *if_exists, name, role),
    }
}

/// 42939 for names that PostgreSQL keeps for itself.
fn check_name(name: &str) -> Result<()> {
    if name == EVERYBODY || name == "none" {
        return Err(Error::new(Kind::ReservedName, format!("role name \"{name}\" is reserved")));
    }
    if name.starts_with("pg_") {
        return Err(
            Error::new(Kind::ReservedName, format!("role name \"{name}\" is reserved")).detail("Role names starting with \"pg_\" are reserved.")
        );
    }
    Ok(())
}

fn create(session: &Session, asker: &Asker, name: &RoleName, user: bool, options: &[RoleOption]) -> Result<Execution> {
    let name = asker.name(name);
    check_name(&name)?;
    session.edit(|data| {
        if !asker.makes_roles(data) {
            return Err(denied("permission denied to create role"));
        }
        if data.roles.contains_key(&name) {
            return Err(Error::new(Kind::DuplicateObject, format!("role \"{name}\" already exists")));
        }
        let entry = RoleEntry { login: user, ..RoleEntry::new(data.allocate_oid()?) };
        data.roles.insert(name.clone(), entry);
        apply(session, asker, data, &name, options)
    })?;
    done("CREATE ROLE")
}

fn alter(session: &Session, asker: &Asker, role: &RoleName, options: &[RoleOption]) -> Result<Execution> {
    session.edit(|data| {
        let name = asker.known(data, role)?;
        // Everybody may change the own password.
        let own_password = name == asker.current && options.iter().all(|o| matches!(o, RoleOption::Password(_)));
        if data.is_superuser(&name) && !asker.superuser(data) {
            return Err(denied("must be superuser to alter superuser roles or change superuser attribute"));
        }
        if !own_password && !asker.makes_roles(data) {
            return Err(denied("permission denied"));
        }
        apply(session, asker, data, &name, options)
    })?;
    session.refresh_role();
    done("ALTER ROLE")
}

fn apply(session: &Session, asker: &Asker, data: &mut CatalogData, name: &str, options: &[RoleOption]) -> Result<()> {
    for option in options {
        match option {
            RoleOption::InRole(groups) => {
                for group in groups {
                    let group = asker.known(data, group)?;
                    data.add_member(&group, name, false)?;
                }
            }
            RoleOption::Members(members) | RoleOption::Admins(members) => {
                for member in members {
                    let member = asker.known(data, member)?;
                    data.add_member(name, &member, matches!(option, RoleOption::Admins(_)))?;
                }
            }
            RoleOption::Attribute("SUPERUSER", on) if data.is_superuser(name) != *on && !asker.superuser(data) => {
                return Err(denied("must be superuser to create superusers"));
            }
            RoleOption::Attribute("SUPERUSER", false) if name == SUPERUSER => {
                return Err(Error::new(Kind::DependentObjects, format!("role {name} must stay a superuser: it is required by the database system")));
            }
            option => {
                let entry = data.roles.get_mut(name).ok_or_else(|| no_role(name))?;
                set_option(session, entry, option)?;
            }
        }
    }
    Ok(())
}

fn set_option(session: &Session, entry: &mut RoleEntry, option: &RoleOption) -> Result<()> {
    match option {
        RoleOption::Attribute(word, on) => match *word {
            "SUPERUSER" => entry.superuser = *on,
            "CREATEDB" => entry.create_db = *on,
            "CREATEROLE" => entry.create_role = *on,
            "INHERIT" => entry.inherit = *on,
            "LOGIN" => entry.login = *on,
            "REPLICATION" => entry.replication = *on,
            _ => entry.bypass_rls = *on,
        },
        RoleOption::ConnectionLimit(limit) if *limit < -1 => {
            return Err(Error::invalid_argument(format!("invalid connection limit: {limit}")));
        }
        RoleOption::ConnectionLimit(limit) => entry.connection_limit = *limit,
        RoleOption::Password(password) => entry.scram_verifier = verifier(session, password.as_deref())?,
        RoleOption::ValidUntil(text) => entry.valid_until_us = moment(text)?,
        RoleOption::InRole(_) | RoleOption::Members(_) | RoleOption::Admins(_) => {}
    }
    Ok(())
}

/// What is kept of a password: never the password.
fn verifier(session: &Session, password: Option<&str>) -> Result<Option<String>> {
    let Some(password) = password else { return Ok(None) };
    if password.is_empty() {
        session.notify(Notice::plain("empty string is not a valid password, clearing password"));
        return Ok(None);
    }
    let hashed_md5 = password.len() == 35 && password.starts_with("md5") && password.bytes().skip(3).all(|b| b.is_ascii_hexdigit());
    if hashed_md5 {
        return Err(Error::unsupported("MD5 passwords are not supported").hint("Give the password itself, or a SCRAM-SHA-256 verifier."));
    }
    if password.starts_with("SCRAM-SHA-256$") && password.matches(['$', ':']).count() == 4 {
        return Ok(Some(password.to_owned()));
    }
    Ok(Some(postgres_protocol::password::scram_sha_256(password.as_bytes())))
}

/// `VALID UNTIL`, microseconds since 1970; None is for ever.
fn moment(text: &str) -> Result<Option<i64>> {
    if text.eq_ignore_ascii_case("infinity") {
        return Ok(None);
    }
    let zoned = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"].iter().find_map(|f| chrono::DateTime::parse_from_str(text, f).ok());
    let plain = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|f| chrono::NaiveDateTime::parse_from_str(text, f).ok())
        .or_else(|| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0)));
    let us = zoned.map(|z| z.timestamp_micros()).or_else(|| plain.map(|p| p.and_utc().timestamp_micros()));
    us.map(Some).ok_or_else(|| Error::new(Kind::InvalidDatetime, format!("invalid input syntax for type timestamp with time zone: \"{text}\"")))
}

fn rename(session: &Session, asker: &Asker, role: &RoleName, to: &str) -> Result<Execution> {
    check_name(to)?;
    session.edit(|data| {
        let name = asker.known(data, role)?;
        for (used, what) in [(&asker.session_user, "session user"), (&asker.current, "current user")] {
            if name == *used {
                return Err(Error::unsupported(format!("{what} cannot be renamed")));
            }
        }
        if name == SUPERUSER {
            return Err(Error::unsupported(format!("role {name} cannot be renamed: it is required by the database system")));
        }
        if data.is_superuser(&name) && !asker.superuser(data) || !asker.makes_roles(data) {
            return Err(denied("permission denied to rename role"));
        }
        data.rename_role(&name, to)
    })?;
    done("ALTER ROLE")
}

/// ALTER ROLE ... SET and RESET: what new sessions of the role begin with.
fn configure(session: &Session, asker: &Asker, role: Option<&RoleName>, name: Option<&str>, value: Option<&str>) -> Result<Execution> {
    if let (Some(name), Some(value)) = (name, value) {
        // A throw-away copy tells whether the name and the value are good.
        session.settings().set(name, value, squilla_core::settings::Source::Session, session.superuser())?;
    }
    session.edit(|data| {
        let roles: Vec<String> = match role {
            Some(role) => vec![asker.known(data, role)?],
            None => data.listed_roles().map(|(name, _)| name.clone()).collect(),
        };
        for role in roles {
            if role != asker.current && !asker.makes_roles(data) || data.is_superuser(&role) && !asker.superuser(data) {
                return Err(denied("permission denied"));
            }
            let entry = data.roles.get_mut(&role).ok_or_else(|| no_role(&role))?;
            match (name, value) {
                (None, _) => entry.settings.clear(),
                (Some(name), None) => drop(entry.settings.remove(&name.to_lowercase())),
                (Some(name), Some(value)) => drop(entry.settings.insert(name.to_lowercase(), value.to_owned())),
            }
        }
        Ok(())
    })?;
    done("ALTER ROLE")
}

fn drop_roles(session: &Session, asker: &Asker, names: &[RoleName], if_exists: bool) -> Result<Execution> {
    session.edit(|data| {
        if !asker.makes_roles(data) {
            return Err(denied("permission denied to drop role"));
        }
        for role in names {
            let name = match asker.known(data, role) {
                Err(_) if if_exists => {
                    session.notify(Notice::plain(format!("role \"{}\" does not exist, skipping", asker.name(role))));
                    continue;
                }
                other => other?,
            };
            if name == asker.current {
                return Err(Error::new(Kind::ObjectInUse, "current user cannot be dropped"));
            }
            if name == asker.session_user {
                return Err(Error::new(Kind::ObjectInUse, "session user cannot be dropped"));
            }
            if data.is_superuser(&name) && !asker.superuser(data) {
                return Err(denied("must be superuser to drop superusers"));
            }
            data.drop_role(&name)?;
        }
        Ok(())
    })?;
    done("DROP ROLE")
}

/// An object with its owner and what messages call it.
struct Target {
    object: Object,
    owner: String,
    shown: String,
}

fn targets(session: &Arc<Session>, objects: &Objects) -> Result<Vec<Target>> {
    let data = session.snapshot();
    Ok(match objects {
        Objects::Tables(names) => {
            let mut all = Vec::new();
            for name in names {
                let (_, table, relation) = target(session, name)?;
                let word = relation_word(relation.kind.word());
                all.push(Target { object: Object::Relation(relation.oid), owner: relation.owner.clone(), shown: format!("{word} {table}") });
            }
            all
        }
        Objects::AllTables(names) => {
            let mut all = Vec::new();
            for name in names {
                for (table, relation) in &data.schema(name)?.relations {
                    let word = relation_word(relation.kind.word());
                    all.push(Target { object: Object::Relation(relation.oid), owner: relation.owner.clone(), shown: format!("{word} {table}") });
                }
            }
            all
        }
        Objects::Schemas(names) => {
            let mut all = Vec::new();
            for name in names {
                let entry = data.schema(name)?;
                all.push(Target { object: Object::Schema(entry.oid), owner: entry.owner.clone(), shown: format!("schema {name}") });
            }
            all
        }
        Objects::Functions(names) => {
            let snapshot = session.snapshot();
            let procs = Arc::clone(&session.database.objects(&snapshot).procs);
            let path = session.search_path(&snapshot);
            let mut all = Vec::new();
            for name in names {
                if procs.named(name).next().is_none() {
                    return Err(Error::new(Kind::UndefinedFunction, format!("function {name} does not exist")));
                }
                let written = snapshot.functions_named(None, &path, name);
                let owner = written.first().map_or_else(|| SUPERUSER.into(), |f| f.owner.clone());
                all.push(Target { object: Object::Function(name.clone()), owner, shown: format!("function {name}") });
            }
            all
        }
        Objects::Databases(names) => {
            if let Some(other) = names.iter().find(|n| *n != SUPERUSER) {
                return Err(Error::new(Kind::UndefinedDatabase, format!("database \"{other}\" does not exist")));
            }
            vec![Target { object: Object::Database, owner: SUPERUSER.into(), shown: format!("database {SUPERUSER}") }]
        }
        Objects::None => Vec::new(),
        Objects::Other(word) => return Err(Error::unsupported(format!("privileges on a {word} are not supported"))),
    })
}

/// What PostgreSQL calls it when it refuses access.
fn relation_word(word: &str) -> &str {
    if word == "external table" { "foreign table" } else { word }
}

/// The privileges meant for this object.
fn meant(privileges: Option<&[String]>, object: &Object) -> Result<Vec<String>> {
    let known = object.privileges();
    let Some(words) = privileges else { return Ok(known.iter().map(|p| (*p).to_owned()).collect()) };
    words
        .iter()
        .map(|word| {
            let upper = match word.to_uppercase().as_str() {
                "TEMP" => "TEMPORARY".to_owned(),
                other => other.to_owned(),
            };
            if known.contains(&upper.as_str()) {
                return Ok(upper);
            }
            let kind = match object {
                Object::Relation(_) => "relation",
                Object::Schema(_) => "schema",
                Object::Function(_) => "function",
                Object::Database => "database",
            };
            let all = [
                "SELECT",
                "INSERT",
                "UPDATE",
                "DELETE",
                "TRUNCATE",
                "REFERENCES",
                "TRIGGER",
                "USAGE",
                "CREATE",
                "EXECUTE",
                "TEMPORARY",
                "CONNECT",
                "SET",
                "ALTER SYSTEM",
            ];
            Err(if all.contains(&upper.as_str()) {
                Error::new(Kind::InvalidGrant, format!("invalid privilege type {upper} for {kind}"))
            } else {
                Error::new(Kind::Syntax, format!("unrecognized privilege type \"{word}\""))
            })
        })
        .collect()
}

fn privileges_on(
    session: &Arc<Session>,
    asker: &Asker,
    grant: bool,
    privileges: Option<&[String]>,
    objects: &Objects,
    roles: &[RoleName],
    option: bool,
) -> Result<Execution> {
    let targets = targets(session, objects)?;
    session.edit(|data| {
        for role in roles {
            if *role != RoleName::Public {
                asker.known(data, role)?;
            } else if grant && option {
                return Err(Error::new(Kind::InvalidGrant, "grant options can only be granted to roles"));
            }
        }
        for target in &targets {
            let wanted = meant(privileges, &target.object)?;
            let allowed: Vec<String> = wanted.iter().filter(|p| data.may(&asker.current, &target.object, &target.owner, p, true)).cloned().collect();
            if allowed.is_empty() {
                return Err(denied(format!("permission denied for {}", target.shown)));
            }
            for role in roles {
                let role = asker.name(role);
                if grant {
                    data.grant(&role, &target.object, &allowed, option)?;
                } else {
                    data.revoke(&role, &target.object, &allowed, option)?;
                }
            }
        }
        Ok(())
    })?;
    done(if grant { "GRANT" } else { "REVOKE" })
}

fn membership(session: &Session, asker: &Asker, grant: bool, roles: &[RoleName], members: &[RoleName], admin: bool) -> Result<Execution> {
    session.edit(|data| {
        for group in roles {
            let group = asker.known(data, group)?;
            let may = if data.is_superuser(&group) {
                asker.superuser(data)
            } else {
                let admin = data.roles.get(&asker.current).and_then(|r| r.member_of.get(&group)).is_some_and(|a| *a);
                admin || asker.makes_roles(data)
            };
            if !may {
                let message = if data.is_superuser(&group) {
                    "must be superuser to alter superusers".into()
                } else {
                    format!("must have admin option on role \"{group}\"")
                };
                return Err(denied(message));
            }
            for member in members {
                let member = asker.known(data, member)?;
                let before = data.roles.get(&member).and_then(|r| r.member_of.get(&group)).copied();
                match (grant, before) {
                    (true, Some(had)) if had || !admin => {
                        session.notify(Notice::plain(format!("role \"{member}\" is already a member of role \"{group}\"")));
                    }
                    (true, _) => data.add_member(&group, &member, admin)?,
                    (false, None) => session.notify(Notice::warning(
                        "01000",
                        Error::new(Kind::InvalidGrant, format!("role \"{member}\" is not a member of role \"{group}\"")),
                    )),
                    (false, Some(_)) => {
                        let entry = data.roles.get_mut(&member).ok_or_else(|| no_role(&member))?;
                        if admin {
                            entry.member_of.insert(group.clone(), false);
                        } else {
                            entry.member_of.remove(&group);
                        }
                    }
                }
            }
        }
        Ok(())
    })?;
    done(if grant { "GRANT ROLE" } else { "REVOKE ROLE" })
}

fn reassign(session: &Session, asker: &Asker, from: &[RoleName], to: &RoleName) -> Result<Execution> {
    session.edit(|data| {
        let to = asker.known(data, to)?;
        for role in from {
            let role = asker.known(data, role)?;
            if !data.owns(&asker.current, &role) || !data.owns(&asker.current, &to) {
                return Err(denied("permission denied to reassign objects"));
            }
            if role == SUPERUSER {
                return Err(Error::new(
                    Kind::DependentObjects,
                    format!("cannot reassign ownership of objects owned by role {role} because they are required by the database system"),
                ));
            }
            data.reassign(&role, &to);
        }
        Ok(())
    })?;
    done("REASSIGN OWNED")
}

/// DROP OWNED: the privileges of the roles go, and what they own.
fn drop_owned(session: &Arc<Session>, asker: &Asker, roles: &[RoleName], cascade: bool) -> Result<Execution> {
    session.edit(|data| {
        for role in roles {
            let role = asker.known(data, role)?;
            if !data.owns(&asker.current, &role) {
                return Err(denied("permission denied to drop objects"));
            }
            if role == SUPERUSER {
                return Err(Error::new(
                    Kind::DependentObjects,
                    format!("cannot drop objects owned by role {role} because they are required by the database system"),
                ));
            }
            let mut relations = Vec::new();
            for (schema, entry) in &data.schemas {
                for (name, relation) in entry.relations.iter().filter(|(_, r)| r.owner == role) {
                    let kind = match relation.kind.word() {
                        "view" => DropKind::View,
                        "external table" => DropKind::External,
                        _ => DropKind::Table,
                    };
                    relations.push((kind, schema.clone(), name.clone()));
                }
            }
            for (kind, schema, name) in relations {
                // A view may have gone with its table.
                data.drop_relation(kind, &schema, &name, true, cascade)?;
            }
            let schemas: Vec<String> = data.schemas.iter().filter(|(_, s)| s.owner == role).map(|(name, _)| name.clone()).collect();
            for schema in schemas {
                data.drop_schema(&schema, cascade)?;
            }
            if let Some(entry) = data.roles.get_mut(&role) {
                entry.grants.clear();
            }
        }
        Ok(())
    })?;
    done("DROP OWNED")
}

fn owner(
    session: &Arc<Session>,
    asker: &Asker,
    what: &str,
    if_exists: bool,
    name: &sqlparser::ast::ObjectName,
    role: &RoleName,
) -> Result<Execution> {
    let tag = format!("ALTER {what}");
    let check = |data: &CatalogData, owner: &str, shown: String| {
        let to = asker.known(data, role)?;
        if !data.owns(&asker.current, owner) {
            return Err(denied(format!("must be owner of {shown}")));
        }
        if !asker.superuser(data) && !data.member_of(&asker.current, false).contains(&to) {
            return Err(denied(format!("must be member of role \"{to}\"")));
        }
        Ok(to)
    };
    if what == "SCHEMA" {
        let schema = name_text(name);
        session.edit(|data| {
            let missing = || Error::new(Kind::UndefinedSchema, format!("schema \"{schema}\" does not exist"));
            let owner = data.schemas.get(&schema).ok_or_else(missing)?.owner.clone();
            let to = check(data, &owner, format!("schema {schema}"))?;
            data.schemas.get_mut(&schema).into_iter().for_each(|s| Arc::make_mut(s).owner.clone_from(&to));
            Ok(())
        })?;
        return done(tag);
    }
    let (schema, table, relation) = match target(session, name) {
        Err(e) if if_exists && e.kind == Kind::UndefinedTable => {
            session.notify(Notice::plain(format!("relation \"{}\" does not exist, skipping", name_text(name))));
            return done(tag);
        }
        other => other?,
    };
    session.edit(|data| {
        let to = check(data, &relation.owner, format!("{} {table}", relation_word(relation.kind.word())))?;
        data.relation_mut(&schema, &table)?.owner.clone_from(&to);
        Ok(())
    })?;
    done(tag)
}
