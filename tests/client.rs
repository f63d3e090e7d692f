//! The client that runs sqllogictest records, over the simple and over the extended protocol.
//!
//! In: SQL. Out: rows of PostgreSQL text: NULL as `NULL`, an empty string as `(empty)`, a line feed as `\n`. The extended
//! protocol asks for binary values and writes them as text here. Deliberately absent: parameters; records have none.

use std::fmt;
use std::time::Duration;

use futures::TryStreamExt;
use sqllogictest::{DBOutput, DefaultColumnType};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::value_text::value_text;

/// The longest that one record may take.
const RECORD_TIME_MAX: Duration = Duration::from_secs(180);

/// The longest that a login may take.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(15);

/// Which part of the protocol carries the statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One Query message, text values.
    Simple,
    /// Parse, Bind, Execute, binary values.
    Extended,
}

impl Protocol {
    /// The name used in `onlyif` and `skipif` lines.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
        }
    }
}

/// One connection.
pub struct Connection {
    client: Client,
    protocol: Protocol,
}

/// A failure as the server reported it: message, detail and hint on one line.
#[derive(Debug)]
pub struct QueryError {
    pub text: String,
    pub sqlstate: Option<String>,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(code) => write!(f, "({code}) {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for QueryError {}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => {
                let mut text = db.message().to_owned();
                if let Some(detail) = db.detail() {
                    text.push_str(&format!(" DETAIL: {detail}"));
                }
                if let Some(hint) = db.hint() {
                    text.push_str(&format!(" HINT: {hint}"));
                }
                QueryError { text, sqlstate: Some(db.code().code().to_owned()) }
            }
            None => {
                let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
                QueryError { text: format!("{error}{cause}"), sqlstate: None }
            }
        }
    }
}

/// A value of any type, as the bytes that came over the wire.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Opens a connection whose task ends with the client.
pub async fn connect(config: &str) -> Result<Client, tokio_postgres::Error> {
    let login = tokio::time::timeout(LOGIN_TIME_MAX, tokio_postgres::connect(config, NoTls)).await;
    let (client, connection) = login.unwrap_or_else(|_| panic!("no login within {LOGIN_TIME_MAX:?}"))?;
    tokio::spawn(connection);
    Ok(client)
}

impl Connection {
    /// Connects and fixes the settings that texts depend on.
    pub async fn open(config: &str, protocol: Protocol, schema: &str) -> Result<Self, QueryError> {
        let client = connect(config).await?;
        for statement in [
            "SET client_min_messages TO warning".to_owned(),
            "SET TimeZone TO 'UTC'".to_owned(),
            format!("CREATE SCHEMA IF NOT EXISTS {schema}"),
            format!("SET search_path TO {schema}, public"),
        ] {
            client.simple_query(&statement).await.map_err(|e| {
                let error = QueryError::from(e);
                QueryError { text: format!("while setting up the connection ({statement}): {}", error.text), sqlstate: error.sqlstate }
            })?;
        }
        Ok(Self { client, protocol })
    }

    async fn simple(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let mut rows = Vec::new();
        let mut columns = None;
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(description) => columns = Some(description.len()),
                SimpleQueryMessage::Row(row) => {
                    columns = Some(row.len());
                    rows.push((0..row.len()).map(|i| cell(row.get(i))).collect());
                }
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(output(columns, rows, count))
    }

    async fn extended(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let statement = self.client.prepare(sql).await?;
        if statement.columns().is_empty() {
            let count = self.client.execute(&statement, &[]).await?;
            return Ok(output(None, Vec::new(), count));
        }
        let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        let stream = self.client.query_raw(&statement, none).await?;
        let fetched: Vec<_> = stream.try_collect().await?;
        let mut rows = Vec::with_capacity(fetched.len());
        for row in &fetched {
            let mut cells = Vec::with_capacity(row.len());
            for (i, column) in row.columns().iter().enumerate() {
                let raw: Option<Raw> = row.try_get(i)?;
                let text = raw.map(|r| value_text(column.type_(), &r.0)).transpose();
                let text = text.map_err(|e| QueryError { text: format!("column {}: {e}", column.name()), sqlstate: None })?;
                cells.push(cell(text.as_deref()));
            }
            rows.push(cells);
        }
        let count = rows.len() as u64;
        Ok(output(Some(statement.columns().len()), rows, count))
    }
}

fn cell(text: Option<&str>) -> String {
    match text {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.replace('\n', "\\n"),
    }
}

fn output(columns: Option<usize>, rows: Vec<Vec<String>>, count: u64) -> DBOutput<DefaultColumnType> {
    match columns {
        Some(n) => DBOutput::Rows { types: vec![DefaultColumnType::Any; n], rows },
        None => DBOutput::StatementComplete(count),
    }
}

#[async_trait::async_trait]
impl sqllogictest::AsyncDB for Connection {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let work = async {
            match self.protocol {
                Protocol::Simple => self.simple(sql).await,
                Protocol::Extended => self.extended(sql).await,
            }
        };
        match tokio::time::timeout(RECORD_TIME_MAX, work).await {
            Ok(result) => result,
            Err(_) => Err(QueryError { text: format!("no answer within {} s", RECORD_TIME_MAX.as_secs()), sqlstate: None }),
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.protocol.name()
    }

    fn error_sql_state(error: &QueryError) -> Option<String> {
        error.sqlstate.clone()
    }
}
