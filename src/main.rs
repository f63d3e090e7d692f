//! The command line: `squilla serve | worker | sql | models | docs | version`, and the hidden body of decoder processes.
//!
//! In: arguments, environment, squilla.toml. Out: an exit code: 0 done, 1 error, 2 error budget spent, 64 wrong arguments.
//! Deliberately absent: anything a library crate does.

use std::process::ExitCode;

use clap::Parser;
use squilla::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake in the arguments (EX_USAGE).
            let code = if error.use_stderr() { 64 } else { 0 };
            // Nobody is left to tell when this fails.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match arguments.command {
        Command::Serve(serve) => squilla::serve::run(&serve),
        Command::Worker(worker) => squilla::worker::run(&worker),
        Command::Sql(sql) => squilla::sql::run(&sql),
        Command::Models(models) => squilla::models::run(&models),
        Command::Docs(docs) => squilla::docs::run(&docs),
        Command::Version => {
            println!("squilla {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::MediaWorker => return ExitCode::from(u8::try_from(squilla_media::sandbox::worker_main()).unwrap_or(1)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            squilla::report::print(&error);
            ExitCode::from(squilla::report::exit_code(&error))
        }
    }
}
