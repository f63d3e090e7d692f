//! Errors and notices on standard error.

use squilla_core::error::{Error, Kind};

/// Prints an error as psql prints it.
pub fn print(error: &Error) {
    eprintln!("ERROR:  {}: {}", error.sqlstate(), error.message);
    print_rest(error);
}

/// Prints detail, hint and context.
pub fn print_rest(error: &Error) {
    if let Some(detail) = &error.detail {
        eprintln!("DETAIL:  {detail}");
    }
    if let Some(hint) = &error.hint {
        eprintln!("HINT:  {hint}");
    }
    if let Some(context) = &error.context {
        eprintln!("CONTEXT:  {context}");
    }
}

/// 2 for a spent error budget, so that schedulers can tell it from a wrong statement; else 1.
pub fn exit_code(error: &Error) -> u8 {
    if error.kind == Kind::ErrorBudgetSpent { 2 } else { 1 }
}
