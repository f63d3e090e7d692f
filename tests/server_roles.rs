//! Roles: what they may do, who they become, and how they log in.
//!
//! In: servers of the test's own, because roles are the whole server's. Out: SQLSTATEs as PostgreSQL 15 gives them.
//! Deliberately absent: what is granted over files (`squilla.allowed_paths` has a unit test).

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::client::connect;
use crate::server_process::Server;

async fn ok(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

async fn fails(client: &Client, sqlstate: &str, sql: &str) {
    let error = client.batch_execute(sql).await.err().unwrap_or_else(|| panic!("{sql} is expected to fail with {sqlstate}"));
    assert_eq!(error.code().map(|c| c.code()), Some(sqlstate), "{sql}: {error:?}");
}

async fn value(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = rows.iter().find_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None });
    row.unwrap_or_else(|| panic!("{sql}: no row")).get(0).unwrap_or("NULL").to_owned()
}

#[tokio::test]
async fn privileges_are_enforced() {
    let server = Server::start(&[]);
    let db = connect(&server.config()).await.unwrap();
    ok(&db, "CREATE ROLE readers; CREATE ROLE ann LOGIN IN ROLE readers; CREATE ROLE bob LOGIN NOINHERIT IN ROLE readers").await;
    ok(&db, "CREATE SCHEMA lake; CREATE TABLE lake.t (a int); INSERT INTO lake.t VALUES (1), (2); CREATE TABLE secret (a int)").await;
    ok(&db, "CREATE VIEW lake.v AS SELECT a FROM secret; INSERT INTO secret VALUES (7)").await;
    ok(&db, "GRANT USAGE ON SCHEMA lake TO readers; GRANT SELECT ON lake.t, lake.v TO readers").await;

    ok(&db, "SET ROLE ann").await;
    assert_eq!(value(&db, "SELECT current_user || ' ' || session_user").await, "ann squilla");
    assert_eq!(value(&db, "SHOW is_superuser").await, "off");
    assert_eq!(value(&db, "SELECT sum(a) FROM lake.t").await, "3");
    assert_eq!(value(&db, "SELECT a FROM lake.v").await, "7");
    assert_eq!(value(&db, "WITH secret AS (SELECT 5 AS a) SELECT a FROM secret").await, "5");
    for sql in [
        "SELECT * FROM secret",
        "WITH secret AS (SELECT * FROM secret) SELECT * FROM secret",
        "SELECT (SELECT max(a) FROM secret)",
        "INSERT INTO lake.t VALUES (3)",
        "INSERT INTO lake.t SELECT a FROM secret",
        "EXPLAIN SELECT * FROM secret",
        "COPY secret TO STDOUT",
        "CREATE TABLE lake.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
        "DROP TABLE lake.t",
        "TRUNCATE lake.t",
        "COMMENT ON TABLE lake.t IS 'x'",
        "CREATE ROLE other",
        "ALTER ROLE bob SUPERUSER",
        "GRANT SELECT ON secret TO ann",
        "COPY (SELECT 1) TO '/tmp/squilla-should-not-be-there.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SET session_replication_role = replica",
        "SET ROLE squilla_nobody_has",
    ] {
        let code = if sql.starts_with("SET ROLE") { "42704" } else { "42501" };
        fails(&db, code, sql).await;
    }
    ok(&db, "RESET ROLE").await;
    assert_eq!(value(&db, "SHOW is_superuser").await, "on");

    // Without INHERIT the privileges come with SET ROLE only.
    let bob = connect(&format!("host=127.0.0.1 port={} user=bob dbname=squilla", server.port)).await.unwrap();
    fails(&bob, "42501", "SELECT * FROM lake.t").await;
    ok(&bob, "SET ROLE readers").await;
    assert_eq!(value(&bob, "SELECT count(*) FROM lake.t").await, "2");
    fails(&bob, "42501", "SET ROLE ann").await;
    fails(&bob, "42501", "SET SESSION AUTHORIZATION ann").await;

    for (sql, wanted) in [
        ("SELECT has_table_privilege('ann', 'lake.t', 'SELECT')", "t"),
        ("SELECT has_table_privilege('ann', 'lake.t', 'INSERT')", "f"),
        ("SELECT has_table_privilege('bob', 'lake.t', 'SELECT')", "f"),
        ("SELECT has_schema_privilege('ann', 'lake', 'USAGE')", "t"),
        ("SELECT has_schema_privilege('ann', 'lake', 'CREATE')", "f"),
        ("SELECT has_schema_privilege('ann', 'public', 'USAGE')", "t"),
        ("SELECT pg_has_role('bob', 'readers', 'MEMBER')", "t"),
        ("SELECT pg_has_role('bob', 'readers', 'USAGE')", "f"),
        ("SELECT has_database_privilege('ann', 'squilla', 'CREATE')", "f"),
    ] {
        assert_eq!(value(&db, sql).await, wanted, "{sql}");
    }

    ok(&db, "REVOKE EXECUTE ON FUNCTION upper(text) FROM PUBLIC").await;
    ok(&db, "SET ROLE ann").await;
    fails(&db, "42501", "SELECT upper('x')").await;
    ok(&db, "RESET ROLE; GRANT EXECUTE ON FUNCTION upper TO readers; SET ROLE ann").await;
    assert_eq!(value(&db, "SELECT upper('x')").await, "X");
    ok(&db, "RESET ROLE; REVOKE SELECT ON lake.t FROM readers; SET ROLE ann").await;
    fails(&db, "42501", "SELECT * FROM lake.t").await;
}

#[tokio::test]
async fn roles_are_made_changed_and_dropped() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start_on(data.path(), &[]);
    let db = connect(&server.config()).await.unwrap();
    ok(&db, "CREATE ROLE keeper LOGIN CONNECTION LIMIT 1; CREATE GROUP crew; CREATE USER mate").await;
    fails(&db, "42710", "CREATE ROLE keeper").await;
    fails(&db, "42939", "CREATE ROLE pg_x").await;
    fails(&db, "42704", "ALTER ROLE nobody LOGIN").await;
    fails(&db, "42704", "DROP ROLE nobody").await;
    ok(&db, "DROP ROLE IF EXISTS nobody").await;
    ok(&db, "GRANT crew TO mate WITH ADMIN OPTION; GRANT keeper TO crew").await;
    fails(&db, "0LP01", "GRANT mate TO keeper").await;
    ok(&db, "CREATE TABLE things (a int)").await;
    fails(&db, "0LP01", "GRANT USAGE ON TABLE things TO mate").await;
    fails(&db, "42601", "GRANT NONSENSE ON TABLE things TO mate").await;
    ok(&db, "ALTER ROLE mate SET search_path = a, b").await;
    fails(&db, "42704", "ALTER ROLE mate SET no_such_setting = 1").await;
    ok(&db, "CREATE SCHEMA theirs AUTHORIZATION keeper").await;
    fails(&db, "2BP01", "DROP ROLE keeper").await;
    fails(&db, "55006", "DROP ROLE squilla").await;
    ok(&db, "ALTER ROLE crew RENAME TO sailors").await;
    drop(db);
    server.signal("TERM");
    server.wait(std::time::Duration::from_secs(20)).expect("the server ends");

    let server = Server::start_on(data.path(), &[]);
    let db = connect(&format!("host=127.0.0.1 port={} user=squilla dbname=squilla", server.port)).await.unwrap();
    assert_eq!(
        value(&db, "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'").await,
        "keeper,mate,sailors,squilla"
    );
    assert_eq!(value(&db, "SELECT pg_has_role('mate', 'keeper', 'MEMBER')").await, "t");
    let as_role = |user: &str| format!("host=127.0.0.1 port={} user={user} dbname=squilla", server.port);
    let mate = connect(&as_role("mate")).await.unwrap();
    assert_eq!(value(&mate, "SHOW search_path").await, "a, b");
    let first = connect(&as_role("keeper")).await.unwrap();
    let code = |e: tokio_postgres::Error| e.code().map(|c| c.code().to_owned());
    assert_eq!(connect(&as_role("keeper")).await.err().and_then(code).as_deref(), Some("53300"));
    assert_eq!(connect(&as_role("sailors")).await.err().and_then(code).as_deref(), Some("28000"));
    assert_eq!(connect(&as_role("stranger")).await.err().and_then(code).as_deref(), Some("28000"));
    ok(&first, "SELECT 1").await;
    ok(&db, "REASSIGN OWNED BY keeper TO mate; DROP ROLE keeper; ALTER SCHEMA theirs OWNER TO squilla; DROP ROLE mate, sailors").await;
}

#[tokio::test]
async fn passwords_and_rules() {
    let rules = "host all ghost all reject; host all all 127.0.0.1/32 scram-sha-256";
    let server = Server::start(&["--set", &format!("squilla.hba={rules}")]);
    let login = |user: &str, password: &str| format!("host=127.0.0.1 port={} user={user} password={password} dbname=squilla", server.port);
    let code = |e: tokio_postgres::Error| e.code().map(|c| c.code().to_owned());
    // Rules leave no way in without a password, and nobody has one yet.
    assert_eq!(connect(&login("squilla", "x")).await.err().and_then(code).as_deref(), Some("28P01"));
    assert_eq!(connect(&login("ghost", "x")).await.err().and_then(code).as_deref(), Some("28000"));

    let server = Server::start(&[]);
    let login = |user: &str, password: &str| format!("host=127.0.0.1 port={} user={user} password={password} dbname=squilla", server.port);
    let db = connect(&server.config()).await.unwrap();
    let verifier =
        "SCRAM-SHA-256$4096:Rz4Q0vTqB9m9LAVp7ZoFkA==$4qHhkFKXzZ3N3lJvYyN3bE5hCq0p0iVq2xJtYcX5w8Q=:cF5c1n7lFhrJ1r6m8k0G5K2b3u4i5o6p7a8s9d0f1g4=";
    ok(&db, &format!("CREATE ROLE hashed LOGIN PASSWORD '{verifier}'; CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'")).await;
    ok(&db, "CREATE ROLE no_login PASSWORD 'pw'; ALTER ROLE squilla PASSWORD 'top'").await;
    let stored = value(&db, "SELECT rolpassword IS NULL FROM pg_roles WHERE rolname = 'hashed'").await;
    assert_eq!(stored, "f", "the password is shown as stars");
    assert!(connect(&login("squilla", "top")).await.is_ok());
    for (user, password, wanted) in
        [("squilla", "wrong", "28P01"), ("hashed", "x", "28P01"), ("late", "x", "28P01"), ("no_login", "pw", "28000"), ("stranger", "x", "28P01")]
    {
        assert_eq!(connect(&login(user, password)).await.err().and_then(code).as_deref(), Some(wanted), "{user}");
    }
}
