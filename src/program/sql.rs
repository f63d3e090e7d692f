//! `squilla sql`: statements in this process.
//!
//! Results go to standard output, notices and the progress line to standard error, so that schedulers can use both.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use squilla_core::error::{Error, Result};
use squilla_engine::session::{Execution, Session, SessionOptions};
use squilla_engine::statement::Statement;

use crate::arguments::{Format, Sql};
use crate::table::Printer;
use crate::{report, wiring};

/// Runs the statements; the first error ends the run.
pub fn run(arguments: &Sql) -> Result<()> {
    let settings = wiring::settings(&arguments.common)?;
    let text = match (&arguments.command, &arguments.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| Error::io("could not read standard input", e))?;
            text
        }
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|e| Error::io(format!("could not read {}", path.display()), e))?,
        (None, None) => return Err(Error::invalid_argument("give statements with -c or -f")),
    };
    // Connections to workers, when the settings name any, must go on while this thread waits for rows.
    let sockets = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("socket").enable_all().build();
    let sockets = sockets.map_err(|e| Error::io("could not start threads", e))?;
    let runner = wiring::cluster(&settings, arguments.common.data_dir.as_deref(), sockets.handle())?;
    let database = wiring::database(settings, arguments.common.data_dir.clone(), runner)?;
    let user = squilla_engine::catalog::data::SUPERUSER.to_owned();
    let session = Arc::new(database.connect(SessionOptions { user, database: "squilla".into(), ..SessionOptions::default() })?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Error::io("could not start", e))?;
    runtime.block_on(async {
        for statement in session.parse(&text)? {
            let result = one(&session, &statement, arguments.format).await;
            for notice in session.take_notices() {
                eprintln!("{}:  {}", notice.severity, notice.error.message);
                report::print_rest(&notice.error);
            }
            session.finish_statement();
            result?;
        }
        Ok(())
    })
}

async fn one(session: &Arc<Session>, statement: &Statement, format: Format) -> Result<()> {
    let progress = progress();
    let work = async {
        let prepared = session.prepare(statement, &[]).await?;
        session.execute(&prepared, Vec::new()).await
    };
    let execution = stoppable(session, work).await?;
    let (fields, mut stream) = match execution {
        Execution::Rows { fields, stream, .. } | Execution::CopyOut { fields, stream, .. } => (fields, stream),
        Execution::Done { tag } => {
            progress.finish_and_clear();
            if format == Format::Table {
                println!("{tag}");
            }
            return Ok(());
        }
    };
    let mut printer = Printer::new(std::io::stdout().lock(), format, fields, &session.output_style());
    let mut rows = 0u64;
    while let Some(batch) = stoppable(session, async { stream.next().await.transpose() }).await? {
        rows += batch.num_rows() as u64;
        progress.set_message(format!("{rows} rows"));
        progress.suspend(|| printer.batch(&batch))?;
    }
    progress.finish_and_clear();
    printer.finish()
}

/// Ctrl-C cancels the statement.
async fn stoppable<T>(session: &Arc<Session>, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => result,
        _ = tokio::signal::ctrl_c() => {
            session.cancel();
            work.await
        }
    }
}

/// A line with the elapsed time, only where a person looks.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
