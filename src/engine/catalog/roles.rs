//! Roles, membership and privileges, as the catalog holds them.
//!
//! In: changes asked for by statements that were allowed to ask. Out: answers to "may this role do that". Invariants: the
//! membership of roles has no circle; what is granted is kept with the role that has it, what PUBLIC has with a role of
//! that name that is in no list; an owner and a superuser may do everything. Deliberately absent: privileges of columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind, Result};

use super::data::{CatalogData, SUPERUSER};

/// The role that every role is a member of.
pub const EVERYBODY: &str = "public";

/// Privileges on one object, and whether each may be granted on.
pub type Held = BTreeMap<String, bool>;

/// A role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleEntry {
    /// pg_authid.oid
    pub oid: u32,
    /// SUPERUSER
    pub superuser: bool,
    /// LOGIN
    pub login: bool,
    /// `SCRAM-SHA-256$...`; None has no password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_verifier: Option<String>,
    /// INHERIT
    #[serde(default = "yes")]
    pub inherit: bool,
    /// CREATEDB
    #[serde(default)]
    pub create_db: bool,
    /// CREATEROLE
    #[serde(default)]
    pub create_role: bool,
    /// REPLICATION
    #[serde(default)]
    pub replication: bool,
    /// BYPASSRLS
    #[serde(default)]
    pub bypass_rls: bool,
    /// CONNECTION LIMIT; -1 is none.
    #[serde(default = "no_limit")]
    pub connection_limit: i32,
    /// VALID UNTIL of the password, microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until_us: Option<i64>,
    /// Roles that it is a member of, with whether it may pass that on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub member_of: BTreeMap<String, bool>,
    /// ALTER ROLE ... SET
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// What it was granted, by object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<String, Held>,
    /// Of PUBLIC: objects whose built-in privileges were revoked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<String>,
}

fn yes() -> bool {
    true
}

fn no_limit() -> i32 {
    -1
}

impl RoleEntry {
    /// A role that may do nothing, not even log in.
    pub fn new(oid: u32) -> Self {
        Self {
            oid,
            superuser: false,
            login: false,
            scram_verifier: None,
            inherit: true,
            create_db: false,
            create_role: false,
            replication: false,
            bypass_rls: false,
            connection_limit: -1,
            valid_until_us: None,
            member_of: BTreeMap::new(),
            settings: BTreeMap::new(),
            grants: BTreeMap::new(),
            revoked: BTreeSet::new(),
        }
    }

    /// The role that may do everything.
    pub fn superuser(oid: u32) -> Self {
        Self { superuser: true, login: true, create_db: true, create_role: true, replication: true, bypass_rls: true, ..Self::new(oid) }
    }
}

/// What privileges are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A table, view or external table by OID.
    Relation(u32),
    /// A schema by OID.
    Schema(u32),
    /// All functions of a name.
    Function(String),
    /// The database.
    Database,
}

impl Object {
    fn key(&self) -> String {
        match self {
            Object::Relation(oid) => format!("relation {oid}"),
            Object::Schema(oid) => format!("schema {oid}"),
            Object::Function(name) => format!("function {name}"),
            Object::Database => "database".into(),
        }
    }

    /// Every privilege that there is on such an object.
    pub fn privileges(&self) -> &'static [&'static str] {
        match self {
            Object::Relation(_) => &["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
            Object::Schema(_) => &["USAGE", "CREATE"],
            Object::Function(_) => &["EXECUTE"],
            Object::Database => &["CREATE", "TEMPORARY", "CONNECT"],
        }
    }

    /// What PUBLIC has from the start.
    fn built_in(&self) -> &'static [&'static str] {
        match self {
            Object::Relation(_) => &[],
            // The schema public, which is there from the start.
            Object::Schema(2200) => &["USAGE"],
            Object::Schema(_) => &[],
            Object::Function(_) => &["EXECUTE"],
            Object::Database => &["TEMPORARY", "CONNECT"],
        }
    }
}

/// 42704
pub fn no_role(name: &str) -> Error {
    Error::new(Kind::UndefinedObject, format!("role \"{name}\" does not exist"))
}

impl CatalogData {
    /// Whether the role is there and a superuser. A name that is no role is one while the only role is the first.
    pub fn is_superuser(&self, role: &str) -> bool {
        self.roles.get(role).is_some_and(|r| r.superuser)
    }

    /// The role and all roles it is a member of, at any distance; only those whose privileges it has where `inherited`.
    pub fn member_of(&self, role: &str, inherited: bool) -> BTreeSet<String> {
        let mut all = BTreeSet::from([role.to_owned()]);
        let mut next = vec![role.to_owned()];
        while let Some(name) = next.pop() {
            let Some(entry) = self.roles.get(&name).filter(|r| r.inherit || !inherited) else { continue };
            for group in entry.member_of.keys() {
                if all.insert(group.clone()) {
                    next.push(group.clone());
                }
            }
        }
        all
    }

    /// Whether the role acts for the owner: it is a superuser, the owner, or has the owner's privileges.
    pub fn owns(&self, role: &str, owner: &str) -> bool {
        self.is_superuser(role) || role == owner || self.member_of(role, true).contains(owner)
    }

    /// Whether a role has a privilege on an object of this owner; `grantable` asks whether it may pass it on.
    pub fn may(&self, role: &str, object: &Object, owner: &str, privilege: &str, grantable: bool) -> bool {
        if self.owns(role, owner) {
            return true;
        }
        let key = object.key();
        let held =
            |name: &str| self.roles.get(name).and_then(|r| r.grants.get(&key)).and_then(|h| h.get(privilege)).is_some_and(|g| *g || !grantable);
        self.member_of(role, true).iter().any(|name| held(name)) || held(EVERYBODY) || (!grantable && self.built_in(object, privilege))
    }

    fn built_in(&self, object: &Object, privilege: &str) -> bool {
        object.built_in().contains(&privilege) && self.roles.get(EVERYBODY).is_none_or(|everybody| !everybody.revoked.contains(&object.key()))
    }

    /// Who has been granted what on an object: role (`public` for all), privileges with their grant options.
    pub fn grants_on(&self, object: &Object) -> Vec<(String, Held)> {
        let key = object.key();
        let mut all: Vec<(String, Held)> =
            self.roles.iter().filter_map(|(name, role)| role.grants.get(&key).map(|held| (name.clone(), held.clone()))).collect();
        let built_in: Vec<&str> = object.built_in().iter().copied().filter(|p| self.built_in(object, p)).collect();
        if !built_in.is_empty() {
            let held: Held = built_in.into_iter().map(|p| (p.to_owned(), false)).collect();
            match all.iter_mut().find(|(name, _)| name == EVERYBODY) {
                Some((_, there)) => there.extend(held),
                None => all.push((EVERYBODY.to_owned(), held)),
            }
        }
        all
    }

    fn entry(&mut self, role: &str) -> Result<&mut RoleEntry> {
        if role == EVERYBODY {
            return Ok(self.roles.entry(EVERYBODY.to_owned()).or_insert_with(|| RoleEntry::new(0)));
        }
        self.roles.get_mut(role).ok_or_else(|| no_role(role))
    }

    /// Gives privileges.
    pub fn grant(&mut self, role: &str, object: &Object, privileges: &[String], grantable: bool) -> Result<()> {
        let key = object.key();
        let restored = role == EVERYBODY && object.built_in().iter().any(|p| privileges.iter().any(|q| q == p));
        let entry = self.entry(role)?;
        if restored {
            entry.revoked.remove(&key);
        }
        let held = entry.grants.entry(key).or_default();
        for privilege in privileges {
            *held.entry(privilege.clone()).or_insert(false) |= grantable;
        }
        Ok(())
    }

    /// Takes privileges back, or only the right to pass them on.
    pub fn revoke(&mut self, role: &str, object: &Object, privileges: &[String], only_option: bool) -> Result<()> {
        let key = object.key();
        let built_in = object.built_in();
        let entry = self.entry(role)?;
        if role == EVERYBODY && !only_option && built_in.iter().any(|p| privileges.iter().any(|q| q == p)) {
            let rest: Vec<String> = built_in.iter().filter(|p| !privileges.iter().any(|q| q == *p)).map(|p| (*p).to_owned()).collect();
            if entry.revoked.insert(key.clone()) && !rest.is_empty() {
                let held = entry.grants.entry(key.clone()).or_default();
                held.extend(rest.into_iter().map(|p| (p, false)));
            }
        }
        let Some(held) = entry.grants.get_mut(&key) else { return Ok(()) };
        for privilege in privileges {
            if only_option {
                held.get_mut(privilege).into_iter().for_each(|g| *g = false);
            } else {
                held.remove(privilege);
            }
        }
        if held.is_empty() {
            entry.grants.remove(&key);
        }
        Ok(())
    }

    /// Makes a role a member of another.
    pub fn add_member(&mut self, group: &str, member: &str, admin: bool) -> Result<()> {
        if !self.roles.contains_key(group) {
            return Err(no_role(group));
        }
        if self.member_of(group, false).contains(member) {
            return Err(Error::new(Kind::InvalidGrant, format!("role \"{member}\" is a member of role \"{group}\"")));
        }
        *self.entry(member)?.member_of.entry(group.to_owned()).or_insert(false) |= admin;
        Ok(())
    }

    /// The roles that are made by users and by the start: all but the one that stands for PUBLIC.
    pub fn listed_roles(&self) -> impl Iterator<Item = (&String, &RoleEntry)> {
        self.roles.iter().filter(|(name, _)| *name != EVERYBODY)
    }

    /// What keeps a role from being dropped, as sentences.
    pub fn role_dependents(&self, role: &str) -> Vec<String> {
        let mut all = Vec::new();
        for (schema_name, schema) in &self.schemas {
            if schema.owner == role {
                all.push(format!("owner of schema {schema_name}"));
            }
            for (name, relation) in &schema.relations {
                if relation.owner == role {
                    all.push(format!("owner of {} {name}", relation.kind.word()));
                }
            }
        }
        let Some(entry) = self.roles.get(role) else { return all };
        for (schema_name, schema) in &self.schemas {
            if entry.grants.contains_key(&Object::Schema(schema.oid).key()) {
                all.push(format!("privileges for schema {schema_name}"));
            }
            for (name, relation) in &schema.relations {
                if entry.grants.contains_key(&Object::Relation(relation.oid).key()) {
                    all.push(format!("privileges for {} {name}", relation.kind.word()));
                }
            }
        }
        all
    }

    /// Drops a role that nothing depends on.
    pub fn drop_role(&mut self, role: &str) -> Result<()> {
        if !self.roles.contains_key(role) || role == EVERYBODY {
            return Err(no_role(role));
        }
        if role == SUPERUSER {
            return Err(Error::new(Kind::DependentObjects, format!("cannot drop role {role} because it is required by the database system")));
        }
        let dependents = self.role_dependents(role);
        if !dependents.is_empty() {
            return Err(Error::new(Kind::DependentObjects, format!("role \"{role}\" cannot be dropped because some objects depend on it"))
                .detail(dependents.join("\n")));
        }
        self.roles.remove(role);
        for other in self.roles.values_mut() {
            other.member_of.remove(role);
        }
        Ok(())
    }

    /// Renames a role wherever it is named.
    pub fn rename_role(&mut self, from: &str, to: &str) -> Result<()> {
        if self.roles.contains_key(to) {
            return Err(Error::new(Kind::DuplicateObject, format!("role \"{to}\" already exists")));
        }
        let entry = self.roles.remove(from).ok_or_else(|| no_role(from))?;
        self.roles.insert(to.to_owned(), entry);
        for role in self.roles.values_mut() {
            if let Some(admin) = role.member_of.remove(from) {
                role.member_of.insert(to.to_owned(), admin);
            }
        }
        self.reassign(from, to);
        Ok(())
    }

    /// Gives everything that one role owns to another.
    pub fn reassign(&mut self, from: &str, to: &str) {
        for schema in self.schemas.values_mut().filter(|s| s.owner == from || s.relations.values().any(|r| r.owner == from)) {
            let schema = Arc::make_mut(schema);
            if schema.owner == from {
                to.clone_into(&mut schema.owner);
            }
            for relation in schema.relations.values_mut().filter(|r| r.owner == from) {
                to.clone_into(&mut Arc::make_mut(relation).owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn data() -> CatalogData {
        let mut data = CatalogData::default();
        for (i, name) in ["ann", "readers", "all_readers"].into_iter().enumerate() {
            data.roles.insert(name.into(), RoleEntry::new(100 + i as u32));
        }
        data
    }

    #[test]
    fn privileges_come_through_membership() {
        let mut data = data();
        let table = Object::Relation(7);
        let select = ["SELECT".to_owned()];
        data.add_member("readers", "ann", false).unwrap();
        data.add_member("all_readers", "readers", false).unwrap();
        assert_eq!(data.add_member("ann", "all_readers", false).unwrap_err().sqlstate(), "0LP01");
        data.grant("all_readers", &table, &select, true).unwrap();
        assert!(data.may("ann", &table, "squilla", "SELECT", true) && !data.may("ann", &table, "squilla", "INSERT", false));
        data.revoke("all_readers", &table, &select, true).unwrap();
        assert!(data.may("ann", &table, "squilla", "SELECT", false) && !data.may("ann", &table, "squilla", "SELECT", true));
        data.roles.get_mut("readers").unwrap().inherit = false;
        assert!(!data.may("ann", &table, "squilla", "SELECT", false));
        assert!(data.member_of("ann", false).contains("all_readers"));
    }

    #[test]
    fn everybody_has_what_is_built_in_until_it_is_revoked() {
        let mut data = data();
        let function = Object::Function("f".into());
        assert!(data.may("ann", &function, SUPERUSER, "EXECUTE", false));
        data.revoke(EVERYBODY, &function, &["EXECUTE".into()], false).unwrap();
        assert!(!data.may("ann", &function, SUPERUSER, "EXECUTE", false));
        data.grant("ann", &function, &["EXECUTE".into()], false).unwrap();
        assert!(data.may("ann", &function, SUPERUSER, "EXECUTE", false));
        data.revoke(EVERYBODY, &Object::Database, &["CONNECT".into()], false).unwrap();
        assert!(data.may("ann", &Object::Database, SUPERUSER, "TEMPORARY", false));
        assert!(!data.may("ann", &Object::Database, SUPERUSER, "CONNECT", false));
        assert_eq!(data.listed_roles().count(), 4);
    }

    #[test]
    fn roles_with_dependents_stay() {
        let mut data = data();
        data.create_schema("s", "ann").unwrap();
        assert_eq!(data.drop_role("ann").unwrap_err().sqlstate(), "2BP01");
        data.reassign("ann", SUPERUSER);
        data.drop_role("ann").unwrap();
        assert_eq!(data.drop_role("ann").unwrap_err().sqlstate(), "42704");
        data.rename_role("readers", "lesers").unwrap();
        assert!(data.roles.contains_key("lesers"));
    }
}
