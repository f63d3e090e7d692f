//! What belongs to the whole server: the database, roles, settings, languages, access methods, foreign servers.
//!
//! In: roles and settings of the view. Out: rows. Invariant: there is one database, and it is the one connected to.
//! Deliberately absent: replication, tablespaces of the user, other databases.

use squilla_core::error::Result;
use squilla_core::settings::{Context, SETTINGS, SettingKind, Source};

use crate::catalog::data::SUPERUSER;
use crate::catalog::roles::Object;
use crate::system::acl;
use crate::system::objects::RoleInfo;
use crate::system::oids;
use crate::system::relation::{Rows, Value};
use crate::system::view::SystemView;

/// Fills `pg_database`.
pub fn pg_database(view: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", oids::DATABASE_OID.into()),
        ("datname", (&view.session.database).into()),
        ("datdba", oids::SUPERUSER_OID.into()),
        ("encoding", 6.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("dattablespace", oids::TABLESPACE_OID.into()),
        ("datcollate", view.settings.get("lc_collate").into()),
        ("datctype", view.settings.get("lc_ctype").into()),
        ("datacl", acl::items(&view.catalog, &Object::Database, SUPERUSER).into()),
    ]);
    Ok(())
}

fn password(role: &RoleInfo) -> Value {
    role.has_password.then_some("********").into()
}

/// Fills `pg_roles`.
pub fn pg_roles(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for r in view.roles.iter() {
        rows.push([
            ("rolname", (&r.name).into()),
            ("rolsuper", r.superuser.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", (r.create_role || r.superuser).into()),
            ("rolcreatedb", (r.create_db || r.superuser).into()),
            ("rolcanlogin", r.login.into()),
            ("rolreplication", false.into()),
            ("rolconnlimit", r.connection_limit.into()),
            ("rolpassword", "********".into()),
            ("rolbypassrls", r.superuser.into()),
            ("oid", r.oid.into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_authid`. The verifier itself is never shown.
pub fn pg_authid(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for r in view.roles.iter() {
        rows.push([
            ("oid", r.oid.into()),
            ("rolname", (&r.name).into()),
            ("rolsuper", r.superuser.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", (r.create_role || r.superuser).into()),
            ("rolcreatedb", (r.create_db || r.superuser).into()),
            ("rolcanlogin", r.login.into()),
            ("rolbypassrls", r.superuser.into()),
            ("rolconnlimit", r.connection_limit.into()),
            ("rolpassword", password(r)),
        ]);
    }
    Ok(())
}

fn users(view: &SystemView, rows: &mut Rows, hidden: bool) {
    for r in view.roles.iter().filter(|r| r.login) {
        rows.push([
            ("usename", (&r.name).into()),
            ("usesysid", r.oid.into()),
            ("usecreatedb", (r.create_db || r.superuser).into()),
            ("usesuper", r.superuser.into()),
            ("userepl", false.into()),
            ("usebypassrls", r.superuser.into()),
            ("passwd", if hidden { "********".into() } else { password(r) }),
        ]);
    }
}

/// Fills `pg_user`.
pub fn pg_user(view: &SystemView, rows: &mut Rows) -> Result<()> {
    users(view, rows, true);
    Ok(())
}

/// Fills `pg_shadow`.
pub fn pg_shadow(view: &SystemView, rows: &mut Rows) -> Result<()> {
    users(view, rows, false);
    Ok(())
}

/// Fills `pg_group`: roles that cannot log in, and their members.
pub fn pg_group(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for g in view.roles.iter().filter(|r| !r.login) {
        let members: Vec<u32> = view.roles.iter().filter(|r| r.member_of.contains(&g.name)).map(|r| r.oid).collect();
        rows.push([("groname", (&g.name).into()), ("grosysid", g.oid.into()), ("grolist", members.into())]);
    }
    Ok(())
}

/// Fills `pg_auth_members`.
pub fn pg_auth_members(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for member in view.roles.iter() {
        for role in &member.member_of {
            rows.push([("roleid", view.role_oid(role).into()), ("member", member.oid.into()), ("grantor", oids::SUPERUSER_OID.into())]);
        }
    }
    Ok(())
}

/// Fills `pg_shdescription`: comments of roles and of the database.
pub fn pg_shdescription(view: &SystemView, rows: &mut Rows) -> Result<()> {
    if let Some(comment) = view.comments.get(&format!("database {}", view.session.database)).filter(|c| !c.is_empty()) {
        rows.push([("objoid", oids::DATABASE_OID.into()), ("classoid", oids::PG_DATABASE.into()), ("description", comment.into())]);
    }
    for r in view.roles.iter() {
        if let Some(comment) = &r.comment {
            rows.push([("objoid", r.oid.into()), ("classoid", oids::PG_AUTHID.into()), ("description", comment.into())]);
        }
    }
    Ok(())
}

/// Fills `pg_settings`.
pub fn pg_settings(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for s in SETTINGS {
        let (kind, min, max, choices, unit) = match s.kind {
            SettingKind::Bool => ("bool", Value::Null, Value::Null, Value::Null, Value::Null),
            SettingKind::Int { min, max, unit } => ("integer", min.to_string().into(), max.to_string().into(), Value::Null, unit_name(unit)),
            SettingKind::Real { min, max } => ("real", min.to_string().into(), max.to_string().into(), Value::Null, Value::Null),
            SettingKind::Enum(choices) => ("enum", Value::Null, Value::Null, choices.to_vec().into(), Value::Null),
            SettingKind::Text => ("string", Value::Null, Value::Null, Value::Null, Value::Null),
        };
        rows.push([
            ("name", s.name.into()),
            ("setting", view.settings.get(s.name).into()),
            ("unit", unit),
            ("category", s.category.into()),
            ("short_desc", s.description.into()),
            ("context", context(s.context).into()),
            ("vartype", kind.into()),
            ("source", source(view.settings.source(s.name)).into()),
            ("min_val", min),
            ("max_val", max),
            ("enumvals", choices),
            ("boot_val", s.default.into()),
            ("reset_val", s.default.into()),
            ("pending_restart", false.into()),
        ]);
    }
    Ok(())
}

fn unit_name(unit: squilla_core::settings::Unit) -> Value {
    use squilla_core::settings::Unit;
    match unit {
        Unit::None => Value::Null,
        Unit::Ms => "ms".into(),
        Unit::S => "s".into(),
        Unit::Bytes => "B".into(),
        Unit::Kb => "kB".into(),
    }
}

/// The word of `pg_settings.context`.
pub fn context(context: Context) -> &'static str {
    match context {
        Context::Internal => "internal",
        Context::Postmaster => "postmaster",
        Context::Superuser => "superuser",
        Context::User => "user",
    }
}

fn source(source: Source) -> &'static str {
    source.name()
}

/// Fills `pg_language`.
pub fn pg_language(_: &SystemView, rows: &mut Rows) -> Result<()> {
    for (oid, name) in [(oids::LANGUAGE_INTERNAL_OID, "internal"), (oids::LANGUAGE_SQL_OID, "sql"), (oids::LANGUAGE_SQUILLA_OID, "squilla")] {
        rows.push([
            ("oid", oid.into()),
            ("lanname", name.into()),
            ("lanowner", oids::SUPERUSER_OID.into()),
            ("lanpltrusted", (name == "sql").into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_tablespace`.
pub fn pg_tablespace(_: &SystemView, rows: &mut Rows) -> Result<()> {
    for (oid, name) in [(oids::TABLESPACE_OID, "pg_default"), (1664, "pg_global")] {
        rows.push([("oid", oid.into()), ("spcname", name.into()), ("spcowner", oids::SUPERUSER_OID.into())]);
    }
    Ok(())
}

/// Fills `pg_collation`: text is compared by code point everywhere.
pub fn pg_collation(_: &SystemView, rows: &mut Rows) -> Result<()> {
    for (oid, name, provider) in [(oids::DEFAULT_COLLATION, "default", "d"), (950, "C", "c"), (951, "POSIX", "c")] {
        let locale: Value = if provider == "d" { Value::Null } else { name.into() };
        rows.push([
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", oids::CATALOG_SCHEMA_OID.into()),
            ("collowner", oids::SUPERUSER_OID.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", (-1).into()),
            ("collcollate", locale.clone()),
            ("collctype", locale),
        ]);
    }
    Ok(())
}

/// OIDs and names of the foreign-data wrappers.
pub fn wrappers() -> impl Iterator<Item = (u32, &'static str)> {
    std::iter::once((oids::WRAPPER_OID, "squilla_files")).chain((oids::WRAPPER_OID + 10..).zip(crate::command::servers::WRAPPERS))
}

/// Fills `pg_foreign_data_wrapper`: the reader of external tables, and those of object stores.
pub fn pg_foreign_data_wrapper(_: &SystemView, rows: &mut Rows) -> Result<()> {
    for (oid, name) in wrappers() {
        rows.push([("oid", oid.into()), ("fdwname", name.into()), ("fdwowner", oids::SUPERUSER_OID.into())]);
    }
    Ok(())
}

/// Fills `pg_foreign_server`: that of local files, and those made by CREATE SERVER.
pub fn pg_foreign_server(view: &SystemView, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("oid", oids::SERVER_OID.into()),
        ("srvname", "squilla_files".into()),
        ("srvowner", oids::SUPERUSER_OID.into()),
        ("srvfdw", oids::WRAPPER_OID.into()),
    ]);
    for server in view.servers.iter() {
        let wrapper = crate::command::servers::WRAPPERS.into_iter().zip(oids::WRAPPER_OID + 10..).find(|(w, _)| *w == server.wrapper);
        rows.push([
            ("oid", server.oid.into()),
            ("srvname", server.name.as_str().into()),
            ("srvowner", view.roles.iter().find(|r| r.name == server.owner).map_or(oids::SUPERUSER_OID, |r| r.oid).into()),
            ("srvfdw", wrapper.map_or(0, |(_, oid)| oid).into()),
            ("srvoptions", Some(server.options.clone()).filter(|o| !o.is_empty()).into()),
        ]);
    }
    Ok(())
}

/// Fills `pg_user_mappings`. Options are secrets: nobody sees them.
pub fn pg_user_mappings(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for server in view.servers.iter() {
        let Some(mapping) = server.mapping else { continue };
        rows.push([
            ("umid", mapping.into()),
            ("srvid", server.oid.into()),
            ("srvname", server.name.as_str().into()),
            ("umuser", 0_u32.into()),
            ("usename", "public".into()),
        ]);
    }
    Ok(())
}
