//! `squilla sql`: statements in this process.
//!
//! Results go to standard output, notices and the progress line to standard error, so that schedulers can use both.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use indicatif::{ProgressBar, ProgressStyle};
use squilla_core::error::{Error, Result};
use squilla_engine::session::{CopyIn, Execution, Session, SessionOptions};
use squilla_engine::statement::Statement;
use squilla_server::backend::input;
use squilla_server::copy::receive::{self, Incoming};
use squilla_server::copy::{CopyOptions, Value};

use crate::arguments::{Format, Sql};
use crate::table::Printer;
use crate::{report, wiring};

/// Runs the statements; the first error ends the run.
pub fn run(arguments: &Sql) -> Result<()> {
    let settings = wiring::settings(&arguments.common)?;
    let texts = match &arguments.file {
        None if arguments.command.is_empty() => return Err(Error::invalid_argument("give statements with -c or -f")),
        None => arguments.command.clone(),
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| Error::io("could not read standard input", e))?;
            vec![text]
        }
        Some(path) => vec![std::fs::read_to_string(path).map_err(|e| Error::io(format!("could not read {}", path.display()), e))?],
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
        for text in &texts {
            for statement in session.parse(text)? {
                let result = one(&session, &statement, arguments.format).await;
                for notice in session.take_notices() {
                    eprintln!("{}:  {}", notice.severity, notice.error.message);
                    report::print_rest(&notice.error);
                }
                session.finish_statement();
                result?;
            }
        }
        Ok(())
    })
}

async fn one(session: &Arc<Session>, statement: &Statement, format: Format) -> Result<()> {
    let progress = progress();
    let _ticker = Ticker::start(session, &progress);
    let work = async {
        let prepared = session.prepare(statement, &[]).await?;
        session.execute(&prepared, Vec::new()).await
    };
    let execution = stoppable(session, work).await?;
    let (fields, mut stream) = match execution {
        Execution::CopyIn(copy) => {
            let rows = stoppable(session, copy_in(session, *copy)).await?;
            progress.finish_and_clear();
            if format == Format::Table {
                println!("COPY {rows}");
            }
            return Ok(());
        }
        Execution::Rows { fields, stream, .. } | Execution::CopyOut { fields, stream, .. } => (fields, stream),
        Execution::Done { tag } => {
            progress.finish_and_clear();
            if format == Format::Table {
                println!("{tag}");
            }
            return Ok(());
        }
    };
    let mut printer = Printer::new(std::io::stdout().lock(), format, fields, &session.output_style(), squilla_server::backend::reg_names(session));
    while let Some(batch) = stoppable(session, async { stream.next().await.transpose() }).await? {
        progress.suspend(|| printer.batch(&batch))?;
    }
    progress.finish_and_clear();
    printer.finish()
}

/// COPY FROM a file, or from standard input.
async fn copy_in(session: &Arc<Session>, copy: CopyIn) -> Result<u64> {
    let CopyIn { table, columns, options, file, batches, rows } = copy;
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let options = CopyOptions::new(options.iter().map(|(name, value)| (name.as_str(), Value::from(value))), &names, true)?;
    let incoming = Incoming { table: &table, columns: &columns, options, input: input(session) };
    let mut bytes = file.unwrap_or_else(standard_input);
    let reading = async {
        let done = receive::read(&mut bytes, &incoming, &batches).await;
        drop(batches);
        done
    };
    // The rows flow from one to the other: both have to run.
    let (read, stored) = futures::join!(reading, rows);
    read.and(stored)
}

/// Standard input in steps of 64 KiB.
fn standard_input() -> BoxStream<'static, Result<Bytes>> {
    futures::stream::try_unfold((), |()| async {
        let read = tokio::task::spawn_blocking(|| {
            let mut chunk = vec![0; 64 << 10];
            let count = std::io::stdin().read(&mut chunk)?;
            chunk.truncate(count);
            Ok::<_, std::io::Error>(chunk)
        });
        let chunk = read.await.map_err(|e| Error::internal(format!("reading standard input failed: {e}")))?;
        let chunk = chunk.map_err(|e| Error::io("could not read standard input", e))?;
        Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), ())))
    })
    .boxed()
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

/// A bar with the share that is done, the elapsed time and what the statement is at; only where a person looks.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:20}] {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Brings the bar up to date until it is dropped.
struct Ticker(tokio::task::JoinHandle<()>);

impl Ticker {
    fn start(session: &Arc<Session>, bar: &ProgressBar) -> Self {
        let (shared, bar) = (Arc::clone(&session.shared), bar.clone());
        Self(tokio::spawn(async move {
            while !bar.is_finished() {
                tokio::time::sleep(Duration::from_millis(250)).await;
                if let Some(progress) = shared.progress().filter(|_| !bar.is_hidden()) {
                    bar.set_position(progress.done.map_or(0, |done| (done * 1000.0) as u64));
                    bar.set_message(progress.text());
                }
            }
        }))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.abort();
    }
}
