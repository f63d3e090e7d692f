//! Settings, transactions, prepared statements: what a session keeps for itself.
//!
//! Invariant: transaction blocks have PostgreSQL's status and rules. Deliberately absent: what a transaction keeps
//! (`session::transaction`), roles (`command::roles`).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use sqlparser::ast::{self, DiscardObject, Expr, Ident, ObjectName, Reset, ResetStatement, Set, TransactionMode, Value};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::SETTINGS;
use squilla_core::types::SqlType;

use crate::command::{column, done};
use crate::session::query::rows_of;
use crate::session::{Execution, NamedStatement, Notice, Prepared, ResultField, RowsTag, Session, TransactionStatus};
use crate::statement::{Statement, StatementKind, ident_text, name_text};

/// SET in all spellings.
pub fn set(session: &Session, set: &Set) -> Result<Execution> {
    match set {
        Set::SingleAssignment { scope, variable, values, .. } => {
            let local = matches!(scope, Some(ast::ContextModifier::Local));
            assign(session, &name_text(variable), values, local)?;
        }
        Set::SetTimeZone { local, value } => assign(session, "timezone", std::slice::from_ref(value), *local)?,
        Set::SetNames { charset_name, .. } => session.set("client_encoding", &ident_text(charset_name), false)?,
        Set::SetNamesDefault {} => session.set("client_encoding", "UTF8", false)?,
        Set::SetTransaction { modes, session: characteristics, .. } => {
            if *characteristics {
                apply_modes(session, modes, "default_transaction_")?;
            } else if session.inner.lock().in_block() {
                apply_modes(session, modes, "transaction_")?;
            } else {
                let error = Error::new(Kind::NoActiveTransaction, "SET TRANSACTION can only be used in transaction blocks");
                session.notify(Notice::warning("25P01", error));
            }
        }
        Set::SetSessionParam(_) => {}
        other => return Err(Error::unsupported(format!("{other} is not supported"))),
    }
    done("SET")
}

fn assign(session: &Session, name: &str, values: &[Expr], local: bool) -> Result<()> {
    if let [value] = values
        && matches!(value, Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
    {
        return session.reset(name);
    }
    let words = values.iter().map(setting_text).collect::<Result<Vec<_>>>()?;
    let mut text = words.join(", ");
    if name.eq_ignore_ascii_case("timezone") {
        if text.eq_ignore_ascii_case("local") {
            return session.reset(name);
        }
        let unknown = || Error::invalid_argument(format!("invalid value for parameter \"TimeZone\": \"{text}\""));
        text = crate::postgres::datetime::zone_name(&text).ok_or_else(unknown)?;
    }
    session.set(name, &text, local)
}

/// The text of a setting's value as written.
fn setting_text(expr: &Expr) -> Result<String> {
    match expr {
        Expr::Identifier(ident) => Ok(match ident.quote_style {
            Some(_) => format!("\"{}\"", ident.value),
            None => ident.value.clone(),
        }),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) | Value::DoubleQuotedString(s) => Ok(s.clone()),
            Value::Number(n, _) => Ok(n.to_string()),
            Value::Boolean(b) => Ok(if *b { "on" } else { "off" }.into()),
            other => Ok(other.to_string()),
        },
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => Ok(format!("-{}", setting_text(expr)?)),
        Expr::Interval(interval) => setting_text(&interval.value),
        other => Ok(other.to_string()),
    }
}

/// RESET
pub fn reset(session: &Session, statement: &ResetStatement) -> Result<Execution> {
    match &statement.reset {
        Reset::ALL => session.reset_all(),
        Reset::ConfigurationParameter(name) => session.reset(&name_text(name))?,
    }
    done("RESET")
}

/// DISCARD
pub fn discard(session: &Session, what: &DiscardObject) -> Result<Execution> {
    if matches!(what, DiscardObject::ALL) {
        if session.inner.lock().in_block() {
            return Err(Error::new(Kind::ActiveTransaction, "DISCARD ALL cannot run inside a transaction block"));
        }
        session.set_authorization(None, false)?;
        session.reset_all();
        session.unlisten(None);
        session.database.advisory.unlock_all(session.shared.pid);
        let mut inner = session.inner.lock();
        inner.prepared.clear();
        inner.transactions.drop_temporary();
        let cursors = std::mem::take(&mut inner.cursors);
        drop(inner);
        drop(cursors);
        return done("DISCARD ALL");
    }
    if matches!(what, DiscardObject::TEMP) {
        session.inner.lock().transactions.drop_temporary();
        return done("DISCARD TEMP");
    }
    if matches!(what, DiscardObject::PLANS) {
        return done("DISCARD PLANS");
    }
    done(format!("DISCARD {what}"))
}

/// LISTEN
pub fn listen(session: &Session, channel: &Ident) -> Result<Execution> {
    session.listen(ident_text(channel));
    done("LISTEN")
}

/// UNLISTEN
pub fn unlisten(session: &Session, channel: &Ident) -> Result<Execution> {
    session.unlisten(Some(ident_text(channel)).filter(|c| c != "*"));
    done("UNLISTEN")
}

/// NOTIFY
pub fn notify(session: &Session, channel: &Ident, payload: Option<&str>) -> Result<Execution> {
    session.send_notification(&ident_text(channel), payload.unwrap_or(""))?;
    done("NOTIFY")
}

/// The columns of SHOW.
pub fn show_fields(variable: &[Ident]) -> Vec<ResultField> {
    let name = variable_name(variable);
    if name == "all" {
        return ["name", "setting", "description"].map(|n| column(n, SqlType::Text)).into();
    }
    let shown = squilla_core::settings::find(&name).map_or(name.as_str(), |s| s.name);
    vec![column(display(shown), SqlType::Text)]
}

/// PostgreSQL shows these three as they are spelt in its documentation.
fn display(name: &str) -> &str {
    match name {
        "timezone" => "TimeZone",
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        other => other,
    }
}

fn variable_name(variable: &[Ident]) -> String {
    let words: Vec<String> = variable.iter().map(ident_text).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["transaction", "isolation", "level"] => "transaction_isolation".into(),
        ["session", "characteristics", ..] => "transaction_isolation".into(),
        ["time", "zone"] => "timezone".into(),
        ["session", "authorization"] => "session_authorization".into(),
        _ => words.join("."),
    }
}

/// SHOW
pub fn show(session: &Session, variable: &[Ident]) -> Result<Execution> {
    let name = variable_name(variable);
    let settings = session.settings();
    let fields = show_fields(variable);
    let columns: Vec<Vec<String>> = if name == "all" {
        let mut all: Vec<_> = SETTINGS.iter().collect();
        all.sort_by_key(|s| s.name);
        vec![
            all.iter().map(|s| display(s.name).to_owned()).collect(),
            all.iter().map(|s| settings.show(s.name).unwrap_or_default()).collect(),
            all.iter().map(|s| s.description.to_owned()).collect(),
        ]
    } else {
        vec![vec![settings.show(&name)?]]
    };
    text_rows(fields, columns, RowsTag::Plain("SHOW"))
}

/// A result of text columns.
pub fn text_rows(fields: Vec<ResultField>, columns: Vec<Vec<String>>, tag: RowsTag) -> Result<Execution> {
    let schema = Schema::new(fields.iter().map(|f| f.ty.field(&f.name)).collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|c| Arc::new(StringArray::from(c)) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::new(schema), arrays).map_err(crate::error::from_arrow)?;
    Ok(Execution::Rows { fields: Arc::new(fields), stream: rows_of(batch), tag })
}

fn apply_modes(session: &Session, modes: &[TransactionMode], prefix: &str) -> Result<()> {
    let local = prefix == "transaction_";
    for mode in modes {
        match mode {
            TransactionMode::IsolationLevel(level) => session.set(&format!("{prefix}isolation"), &level.to_string().to_lowercase(), local)?,
            TransactionMode::AccessMode(access) => {
                let read_only = matches!(access, ast::TransactionAccessMode::ReadOnly);
                session.set(&format!("{prefix}read_only"), if read_only { "on" } else { "off" }, local)?;
            }
        }
    }
    Ok(())
}

/// BEGIN, START TRANSACTION
pub fn begin(session: &Session, modes: &[TransactionMode], begin: bool) -> Result<Execution> {
    if !session.begin_block() {
        session.notify(Notice::warning("25001", Error::new(Kind::ActiveTransaction, "there is already a transaction in progress")));
    }
    apply_modes(session, modes, "transaction_")?;
    done(if begin { "BEGIN" } else { "START TRANSACTION" })
}

/// COMMIT
pub async fn commit(session: &Session, chain: bool) -> Result<Execution> {
    let status = session.transaction_status();
    let committed = match status {
        TransactionStatus::InTransaction => session.commit_transaction().await,
        _ => Ok(()),
    };
    // The block is over even when the commit failed.
    end(session, committed.is_ok(), chain && committed.is_ok())?;
    committed?;
    done(if status == TransactionStatus::Failed { "ROLLBACK" } else { "COMMIT" })
}

fn end(session: &Session, commit: bool, chain: bool) -> Result<()> {
    if session.transaction_status() == TransactionStatus::Idle {
        if chain {
            let command = if commit { "COMMIT" } else { "ROLLBACK" };
            return Err(Error::new(Kind::NoActiveTransaction, format!("{command} AND CHAIN can only be used in transaction blocks")));
        }
        session.notify(Notice::warning("25P01", Error::new(Kind::NoActiveTransaction, "there is no transaction in progress")));
    }
    let modes = chain.then(|| session.settings());
    session.end_block(commit);
    if let Some(before) = modes {
        session.begin_block();
        for mode in ["transaction_isolation", "transaction_read_only", "transaction_deferrable"] {
            session.set(mode, before.get(mode), true)?;
        }
    }
    Ok(())
}

/// ROLLBACK [TO SAVEPOINT]
pub fn rollback(session: &Session, savepoint: Option<&Ident>, chain: bool) -> Result<Execution> {
    match savepoint {
        Some(name) => session.rollback_to_savepoint(&ident_text(name))?,
        None => end(session, false, chain)?,
    }
    done("ROLLBACK")
}

/// SAVEPOINT
pub fn savepoint(session: &Session, name: &Ident) -> Result<Execution> {
    session.savepoint(ident_text(name))?;
    done("SAVEPOINT")
}

/// RELEASE SAVEPOINT
pub fn release(session: &Session, name: &Ident) -> Result<Execution> {
    session.release_savepoint(&ident_text(name))?;
    done("RELEASE")
}

/// PREPARE
pub async fn prepare(session: &Arc<Session>, name: &Ident, types: &[ast::DataType], inner: &ast::Statement, outer: &Statement) -> Result<Execution> {
    let name = ident_text(name);
    let max = session.settings().int("squilla.max_prepared_statements").max(1) as usize;
    {
        let state = session.inner.lock();
        if state.prepared.contains_key(&name) {
            return Err(Error::new(Kind::DuplicatePrepared, format!("prepared statement \"{name}\" already exists")));
        }
        if state.prepared.len() >= max {
            return Err(Error::new(Kind::ConfigurationLimit, "too many prepared statements")
                .hint("The limit is the setting squilla.max_prepared_statements."));
        }
    }
    let given: Vec<Option<SqlType>> = types.iter().map(|t| SqlType::parse(&t.to_string())).collect();
    let statement =
        Statement { kind: Arc::new(StatementKind::Sql(Box::new(inner.clone()))), text: Arc::clone(&outer.text), source: Arc::clone(&outer.source) };
    let prepared: Prepared = session.prepare_inner(statement, given).await?;
    session.inner.lock().prepared.insert(name, NamedStatement::new(prepared, Arc::clone(&outer.text), true));
    done("PREPARE")
}

/// EXECUTE
pub async fn execute(session: &Arc<Session>, name: &ObjectName, given: &[Expr]) -> Result<Execution> {
    let name = name_text(name);
    let prepared = session.inner.lock().prepared.get(&name).map(|named| named.prepared.clone());
    let prepared = prepared.ok_or_else(|| Error::new(Kind::UndefinedPrepared, format!("prepared statement \"{name}\" does not exist")))?;
    let wanted = prepared.parameter_types();
    if wanted.len() != given.len() {
        return Err(Error::new(Kind::Syntax, format!("wrong number of parameters for prepared statement \"{name}\"")).detail(format!(
            "Expected {} parameters but got {}.",
            wanted.len(),
            given.len()
        )));
    }
    let mut values = Vec::with_capacity(given.len());
    for (expr, ty) in given.iter().zip(wanted) {
        values.push(constant(session, expr, ty).await?);
    }
    session.execute_inner(prepared, values).await
}

/// The value of a constant expression.
async fn constant(session: &Arc<Session>, expr: &Expr, ty: &SqlType) -> Result<ScalarValue> {
    let mut query = crate::bind::relation::empty_query()?;
    let mut select = crate::bind::relation::empty_select()?;
    select.projection = vec![ast::SelectItem::UnnamedExpr(crate::session::parameters::typed(expr.clone(), ty))];
    query.body = Box::new(ast::SetExpr::Select(Box::new(select)));
    let plan = session.plan_query(ast::Statement::Query(query), "", &[]).await?;
    let mut stream = session.run_plan(plan, "EXECUTE").await?;
    let batch = futures::StreamExt::next(&mut stream).await.ok_or_else(|| Error::internal("a constant gave no row"))??;
    ScalarValue::try_from_array(batch.column(0), 0).map_err(crate::error::from_datafusion)
}

/// DEALLOCATE
pub fn deallocate(session: &Session, name: &Ident) -> Result<Execution> {
    let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
    let name = ident_text(name);
    let mut inner = session.inner.lock();
    if all {
        inner.prepared.clear();
        return done("DEALLOCATE ALL");
    }
    match inner.prepared.remove(&name) {
        Some(_) => done("DEALLOCATE"),
        None => Err(Error::new(Kind::UndefinedPrepared, format!("prepared statement \"{name}\" does not exist"))),
    }
}
