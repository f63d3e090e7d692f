//! CREATE, ALTER and DROP SERVER and USER MAPPING: how object stores are reached.
//!
//! In: statements. Out: entries of the catalog, and the connections that file access uses from then on. Invariants:
//! options are those of the store's API, checked when they are given; what a mapping holds is shown to nobody.
//! Deliberately absent: mappings for single roles, since open stores are shared by all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result};

use super::done;
use crate::catalog::data::{CatalogData, MappingEntry, ServerEntry};
use crate::foreign::{Change, Foreign, MappingRole};
use crate::session::{Execution, Notice, Session};
use crate::source::buckets::{Connection, check_option, is_secret};
use crate::source::location::Cloud;

/// Runs one of the statements.
pub fn run(session: &Arc<Session>, statement: &Foreign) -> Result<Execution> {
    if !session.superuser() {
        return Err(Error::new(Kind::InsufficientPrivilege, "must be superuser to change servers"));
    }
    let tag = match statement {
        Foreign::CreateServer { if_not_exists, name, wrapper, options } => {
            create(session, *if_not_exists, name, wrapper, options)?;
            "CREATE SERVER"
        }
        Foreign::AlterServer { name, changes } => {
            session.database.catalog.update(|data| {
                let server = server(data, name)?;
                let cloud = cloud_of(&server.wrapper)?;
                alter(&mut server.options, changes, cloud)?;
                distinct(data)
            })?;
            "ALTER SERVER"
        }
        Foreign::DropServer { if_exists, names, cascade } => {
            drop(session, *if_exists, names, *cascade)?;
            "DROP SERVER"
        }
        Foreign::CreateMapping { if_not_exists, role, server, options } => {
            for_all(role)?;
            create_mapping(session, *if_not_exists, server, options)?;
            "CREATE USER MAPPING"
        }
        Foreign::AlterMapping { role, server: name, changes } => {
            for_all(role)?;
            session.database.catalog.update(|data| {
                let server = server(data, name)?;
                let cloud = cloud_of(&server.wrapper)?;
                let mapping = server.mapping.as_mut().ok_or_else(|| no_mapping(name))?;
                alter(&mut mapping.options, changes, cloud)
            })?;
            "ALTER USER MAPPING"
        }
        Foreign::DropMapping { if_exists, role, server: name } => {
            for_all(role)?;
            let dropped = session.database.catalog.update(|data| Ok(server(data, name)?.mapping.take()))?;
            if dropped.is_none() {
                if !if_exists {
                    return Err(no_mapping(name));
                }
                session.notify(Notice::plain(format!("user mapping for \"public\" does not exist for server \"{name}\", skipping")));
            }
            "DROP USER MAPPING"
        }
    };
    session.database.files.set_connections(connections(&session.database.catalog.snapshot())?);
    done(tag)
}

/// How buckets are reached, as the catalog says.
pub fn connections(data: &CatalogData) -> Result<HashMap<(Cloud, Option<String>), Connection>> {
    connections_of(&data.servers)
}

/// The same, of servers that came without their catalog.
pub fn connections_of(servers: &BTreeMap<String, ServerEntry>) -> Result<HashMap<(Cloud, Option<String>), Connection>> {
    let mut out = HashMap::new();
    for server in servers.values() {
        let mapped = server.mapping.iter().flat_map(|m| &m.options);
        let all = server.options.iter().chain(mapped).filter(|(k, _)| *k != "bucket");
        let connection = Connection { options: all.map(|(k, v)| (k.clone(), v.clone())).collect() };
        out.insert((cloud_of(&server.wrapper)?, server.options.get("bucket").cloned()), connection);
    }
    Ok(out)
}

/// The wrappers there are.
pub const WRAPPERS: [&str; 3] = ["s3", "gcs", "azure"];

fn cloud_of(wrapper: &str) -> Result<Cloud> {
    match wrapper {
        "s3" => Ok(Cloud::S3),
        "gcs" => Ok(Cloud::Gcs),
        "azure" => Ok(Cloud::Azure),
        other => Err(Error::new(Kind::UndefinedObject, format!("foreign-data wrapper \"{other}\" does not exist"))
            .hint(format!("Wrappers are {}.", WRAPPERS.join(", ")))),
    }
}

fn server<'a>(data: &'a mut CatalogData, name: &str) -> Result<&'a mut ServerEntry> {
    data.servers.get_mut(name).ok_or_else(|| Error::new(Kind::UndefinedObject, format!("server \"{name}\" does not exist")))
}

fn no_mapping(server: &str) -> Error {
    Error::new(Kind::UndefinedObject, format!("user mapping for \"public\" does not exist for server \"{server}\""))
}

fn for_all(role: &MappingRole) -> Result<()> {
    match role {
        MappingRole::Public => Ok(()),
        _ => Err(Error::unsupported("user mappings for single roles are not supported").hint("Write FOR PUBLIC; GRANT says who may read files.")),
    }
}

fn checked(options: &[(String, String)], cloud: Cloud) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, value) in options {
        check_option(cloud, name)?;
        if out.insert(name.clone(), value.clone()).is_some() {
            return Err(Error::new(Kind::DuplicateObject, format!("option \"{name}\" provided more than once")));
        }
    }
    Ok(out)
}

fn create(session: &Session, if_not_exists: bool, name: &str, wrapper: &str, options: &[(String, String)]) -> Result<()> {
    let cloud = cloud_of(wrapper)?;
    let options = checked(options, cloud)?;
    if let Some(secret) = options.keys().find(|k| is_secret(k)) {
        // PostgreSQL shows the options of servers to everybody.
        return Err(Error::new(Kind::InvalidOptionName, format!("invalid option \"{secret}\""))
            .hint("Secrets are options of the user mapping: CREATE USER MAPPING FOR PUBLIC SERVER ..."));
    }
    let existed = session.database.catalog.update(|data| {
        if data.servers.contains_key(name) {
            return match if_not_exists {
                true => Ok(true),
                false => Err(Error::new(Kind::DuplicateObject, format!("server \"{name}\" already exists"))),
            };
        }
        let oid = data.allocate_oid()?;
        let entry = ServerEntry { oid, owner: session.role(), wrapper: wrapper.to_owned(), options, mapping: None };
        data.servers.insert(name.to_owned(), entry);
        distinct(data)?;
        Ok(false)
    })?;
    if existed {
        session.notify(Notice::plain(format!("server \"{name}\" already exists, skipping")));
    }
    Ok(())
}

/// Two servers for one bucket would leave it open which one serves it.
fn distinct(data: &CatalogData) -> Result<()> {
    let mut seen: HashMap<(&str, Option<&String>), &String> = HashMap::new();
    for (name, server) in &data.servers {
        let bucket = server.options.get("bucket");
        if let Some(other) = seen.insert((&server.wrapper, bucket), name) {
            let what = bucket.map_or("every bucket".to_owned(), |b| format!("bucket \"{b}\""));
            return Err(Error::new(Kind::DuplicateObject, format!("server \"{other}\" serves {what} already"))
                .hint("The option bucket says which bucket a server is for."));
        }
    }
    Ok(())
}

fn drop(session: &Session, if_exists: bool, names: &[String], cascade: bool) -> Result<()> {
    let missing = session.database.catalog.update(|data| {
        let mut missing = Vec::new();
        for name in names {
            match data.servers.get(name) {
                None if if_exists => missing.push(name.clone()),
                None => return Err(Error::new(Kind::UndefinedObject, format!("server \"{name}\" does not exist"))),
                Some(server) if server.mapping.is_some() && !cascade => {
                    return Err(Error::new(Kind::DependentObjects, format!("cannot drop server {name} because other objects depend on it"))
                        .detail(format!("user mapping for public on server {name} depends on server {name}"))
                        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                Some(_) => {
                    data.servers.remove(name);
                }
            }
        }
        Ok(missing)
    })?;
    for name in missing {
        session.notify(Notice::plain(format!("server \"{name}\" does not exist, skipping")));
    }
    Ok(())
}

fn create_mapping(session: &Session, if_not_exists: bool, name: &str, options: &[(String, String)]) -> Result<()> {
    let existed = session.database.catalog.update(|data| {
        let entry = server(data, name)?;
        let options = checked(options, cloud_of(&entry.wrapper)?)?;
        if entry.mapping.is_some() {
            return match if_not_exists {
                true => Ok(true),
                false => Err(Error::new(Kind::DuplicateObject, format!("user mapping for \"public\" already exists for server \"{name}\""))),
            };
        }
        let oid = data.allocate_oid()?;
        server(data, name)?.mapping = Some(MappingEntry { oid, options });
        Ok(false)
    })?;
    if existed {
        session.notify(Notice::plain(format!("user mapping for \"public\" already exists for server \"{name}\", skipping")));
    }
    Ok(())
}

fn alter(options: &mut BTreeMap<String, String>, changes: &[Change], cloud: Cloud) -> Result<()> {
    let missing = |name: &str| Error::new(Kind::UndefinedObject, format!("option \"{name}\" not found"));
    for change in changes {
        match change {
            Change::Add(name, value) => {
                check_option(cloud, name)?;
                if options.insert(name.clone(), value.clone()).is_some() {
                    return Err(Error::new(Kind::DuplicateObject, format!("option \"{name}\" provided more than once")));
                }
            }
            Change::Set(name, value) => match options.get_mut(name) {
                Some(current) => *current = value.clone(),
                None => return Err(missing(name)),
            },
            Change::Drop(name) => {
                options.remove(name).ok_or_else(|| missing(name))?;
            }
        }
    }
    Ok(())
}
