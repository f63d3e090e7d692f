//! DECLARE, FETCH, MOVE, CLOSE.
//!
//! In: what is asked of a cursor. Out: its rows. Invariant: a cursor lives until its transaction ends, or with HOLD until it
//! is closed or the session ends; one declared in a transaction that is rolled back goes with it. Deliberately absent: how
//! rows are kept (`session::cursor`), and the portals of the protocol.

use std::sync::Arc;

use datafusion::common::{ParamValues, ScalarValue};
use futures::{StreamExt, TryStreamExt, stream};
use sqlparser::ast;
use squilla_core::error::{Error, Kind, Result};

use crate::command::done;
use crate::error::from_datafusion;
use crate::session::cursor::{Cursor, Rows, fetch as fetch_rows};
use crate::session::stream::Stop;
use crate::session::{Execution, ResultField, RowStream, RowsTag, Session};
use crate::statement::Statement;
use crate::statement::cursor::{Declare, Direction, Fetch};

fn unknown(name: &str) -> Error {
    Error::new(Kind::UndefinedCursor, format!("cursor \"{name}\" does not exist"))
}

/// DECLARE
pub async fn declare(session: &Arc<Session>, declare: &Declare, statement: &Statement, parameters: Vec<ScalarValue>) -> Result<Execution> {
    {
        let inner = session.inner.lock();
        if !declare.hold && !inner.in_block() {
            return Err(Error::new(Kind::NoActiveTransaction, "DECLARE CURSOR can only be used in transaction blocks"));
        }
        if inner.cursors.contains_key(&declare.name) {
            return Err(Error::new(Kind::DuplicateCursor, format!("cursor \"{}\" already exists", declare.name)));
        }
        if inner.cursors.len() as i64 >= inner.settings.int("squilla.max_cursors") {
            return Err(Error::limit("too many open cursors", "squilla.max_cursors"));
        }
    }
    let plan = session.plan_query(ast::Statement::Query(declare.query.clone()), &statement.source, &[]).await?;
    let fields = Arc::new(session.result_fields(&plan));
    let plan = if parameters.is_empty() { plan } else { plan.with_param_values(ParamValues::from(parameters)).map_err(from_datafusion)? };
    let mut frame = session.frame(&statement.text)?;
    let physical = frame.stop.guard(session.physical(&plan, &frame)).await?;
    // The query lives longer than this statement: each FETCH has a time limit of its own.
    frame.stop = Stop { flag: frame.stop.flag.clone(), token: tokio_util::sync::CancellationToken::new(), deadline: None };
    let owner = Arc::clone(session);
    // Nothing runs before the first row is asked for.
    let source = stream::once(async move { owner.start(&frame, physical) }).try_flatten().boxed();
    let settings = session.settings();
    let bytes_max = settings.int("squilla.cursor_memory").max(1) as usize;
    let rows = Rows::new(source, declare.scroll, bytes_max, Arc::clone(session.database.base().runtime_env()));
    let mut inner = session.inner.lock();
    let cursor = Cursor {
        text: Arc::clone(&statement.text),
        fields,
        hold: declare.hold,
        binary: declare.binary,
        scroll: declare.scroll != Some(false),
        created_us: chrono::Utc::now().timestamp_micros(),
        savepoints: inner.savepoints.len(),
        fresh: true,
        rows: Arc::new(tokio::sync::Mutex::new(rows)),
    };
    inner.cursors.insert(declare.name.clone(), cursor);
    done("DECLARE CURSOR")
}

/// The columns of a cursor, for a FETCH that is described before it runs.
pub fn fields(session: &Session, fetch: &Fetch) -> Option<Vec<ResultField>> {
    if fetch.only_move {
        return None;
    }
    session.inner.lock().cursors.get(&fetch.name).map(|c| c.fields.to_vec())
}

/// FETCH, MOVE
pub async fn fetch(session: &Arc<Session>, fetch: &Fetch, statement: &Statement) -> Result<Execution> {
    let cursor = session.inner.lock().cursors.get(&fetch.name).cloned().ok_or_else(|| unknown(&fetch.name))?;
    let stop = session.stop(&statement.text);
    let mut stream = fetch_rows(Arc::clone(&cursor.rows), fetch.direction, stop);
    if fetch.only_move {
        let mut moved = 0;
        while let Some(batch) = stream.try_next().await? {
            moved += batch.num_rows();
        }
        return done(format!("MOVE {moved}"));
    }
    Ok(Execution::Rows { fields: Arc::clone(&cursor.fields), stream, tag: RowsTag::Fetch { binary: cursor.binary } })
}

impl Session {
    /// The columns of a cursor, and whether it was declared BINARY.
    pub fn cursor(&self, name: &str) -> Option<(Arc<Vec<ResultField>>, bool)> {
        self.inner.lock().cursors.get(name).map(|c| (Arc::clone(&c.fields), c.binary))
    }

    /// The next rows of a cursor, at most `most` (0: all), for an Execute message that names it.
    pub fn read_cursor(&self, name: &str, most: u64) -> Result<RowStream> {
        let cursor = self.inner.lock().cursors.get(name).cloned().ok_or_else(|| unknown(name))?;
        let direction = match i64::try_from(most) {
            Ok(count) if count > 0 => Direction::Forward(count),
            _ => Direction::ForwardAll,
        };
        Ok(fetch_rows(cursor.rows, direction, self.stop(&cursor.text)))
    }

    /// A portal of the protocol becomes a cursor of SQL: it has given `position` rows and goes on from there.
    pub fn adopt_cursor(&self, name: &str, text: Arc<str>, fields: Arc<Vec<ResultField>>, source: RowStream, position: u64) {
        let spill = Arc::clone(self.database.base().runtime_env());
        let mut inner = self.inner.lock();
        let bytes_max = inner.settings.int("squilla.cursor_memory").max(1) as usize;
        let cursor = Cursor {
            text,
            fields,
            hold: false,
            binary: false,
            scroll: false,
            created_us: chrono::Utc::now().timestamp_micros(),
            savepoints: inner.savepoints.len(),
            fresh: true,
            rows: Arc::new(tokio::sync::Mutex::new(Rows::adopted(source, position, bytes_max, spill))),
        };
        inner.cursors.insert(name.to_owned(), cursor);
    }

    /// Closes a cursor; one that is not there is closed as well.
    pub fn close_cursor(&self, name: &str) {
        let closed = self.inner.lock().cursors.remove(name);
        drop(closed);
    }
}

/// CLOSE
pub fn close(session: &Session, name: Option<&str>) -> Result<Execution> {
    let mut inner = session.inner.lock();
    let Some(name) = name else {
        inner.cursors.clear();
        return done("CLOSE CURSOR ALL");
    };
    inner.cursors.remove(name).map(drop).ok_or_else(|| unknown(name))?;
    done("CLOSE CURSOR")
}
