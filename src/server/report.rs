//! Errors and notices as messages: the one place where an [`Error`] becomes fields on the wire.
//!
//! In: an error and how grave it is. Out: ErrorResponse or NoticeResponse. Invariant: every error goes out with severity,
//! SQLSTATE and message; an internal error never shows its foreign source to the client. Deliberately absent: logging.

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use squilla_core::error::Error;

/// How grave an error or notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends.
    Fatal,
    /// The statement ends.
    Error,
    /// Something to look at.
    Warning,
    /// Something to know.
    Notice,
    /// More than most want to know.
    Info,
}

impl Severity {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Fatal => "FATAL",
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Info => "INFO",
        }
    }
}

fn fields(error: &Error, severity: &str, code: &str) -> Vec<(u8, String)> {
    // A NUL would end the field for the client.
    let clean = |text: &str| text.replace('\0', "");
    let mut fields = vec![(b'S', severity.to_owned()), (b'V', severity.to_owned()), (b'C', code.to_owned()), (b'M', clean(&error.message))];
    fields.extend(error.detail.as_deref().map(|d| (b'D', clean(d))));
    fields.extend(error.hint.as_deref().map(|h| (b'H', clean(h))));
    fields.extend(error.context.as_deref().map(|w| (b'W', clean(w))));
    fields.extend(error.position.map(|p| (b'P', p.to_string())));
    fields
}

/// ErrorResponse.
pub fn error(error: &Error, severity: Severity) -> PgWireBackendMessage {
    PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields(error, severity.word(), error.sqlstate())))
}

/// NoticeResponse; `code` is the SQLSTATE (00000 for a plain notice).
pub fn notice(error: &Error, severity: &str, code: &str) -> PgWireBackendMessage {
    PgWireBackendMessage::NoticeResponse(NoticeResponse::new(fields(error, severity, code)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;
    use squilla_core::error::Kind;

    #[test]
    fn fields_are_complete() {
        let e = Error::new(Kind::Syntax, "syntax\0 error").hint("Look.").at(8);
        let PgWireBackendMessage::ErrorResponse(r) = error(&e, Severity::Error) else { panic!() };
        let text: Vec<String> = r.fields.iter().map(|(k, v)| format!("{}{v}", char::from(*k))).collect();
        assert_eq!(text, ["SERROR", "VERROR", "C42601", "Msyntax error", "HLook.", "P8"]);
    }
}
