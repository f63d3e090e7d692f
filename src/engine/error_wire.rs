//! Errors of ours inside text: how they cross to another process.
//!
//! DataFusion's errors cross the wire of a cluster typed, but a foreign error inside one crosses as its text. In a worker
//! the text of ours is therefore a marked JSON object, and the coordinator finds it again wherever it stands in a chain.
//! Invariant: kind, message, detail, hint and position survive; the source does not.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Kind};

static LEAVES: AtomicBool = AtomicBool::new(false);

/// Text in front of the object. Nothing else has a unit separator in front of this word.
const MARK: &str = "\u{1f}squilla-error:";

/// From now on errors of this process are meant for another one.
pub fn leave_this_process() {
    LEAVES.store(true, Ordering::Relaxed);
}

/// Whether errors are meant for another process.
pub fn leaves_this_process() -> bool {
    LEAVES.load(Ordering::Relaxed)
}

/// An error whose text is its marked object.
#[derive(Clone, Debug)]
pub struct Travelling(pub Error);

impl fmt::Display for Travelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl std::error::Error for Travelling {}

#[derive(Serialize, Deserialize)]
struct Wire {
    code: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
}

/// The marked object of an error.
pub fn encode(error: &Error) -> String {
    let wire = Wire {
        code: error.sqlstate().to_owned(),
        message: error.message.clone(),
        detail: error.detail.clone(),
        hint: error.hint.clone(),
        position: error.position,
    };
    serde_json::to_string(&wire).map_or_else(|_| error.message.clone(), |json| format!("{MARK}{json}"))
}

/// The innermost marked error in a text.
pub fn decode(text: &str) -> Option<Error> {
    let (_, json) = text.rsplit_once(MARK)?;
    let wire = serde_json::Deserializer::from_str(json).into_iter::<Wire>().next()?.ok()?;
    let error = Error::new(Kind::from_sqlstate(&wire.code).unwrap_or(Kind::Internal), wire.message);
    Some(Error { detail: wire.detail, hint: wire.hint, position: wire.position, ..error })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_error_is_found_again_in_a_chain_of_texts() {
        let error = Error::new(Kind::BadMedia, "not a \"JPEG\"").detail("Source: /a.jpg.").hint("Look at it.");
        let text = format!("External error: Arrow error: {} in task 3", encode(&error));
        let back = decode(&text).unwrap();
        assert_eq!((back.sqlstate(), back.message, back.detail, back.hint), ("22P03", error.message, error.detail, error.hint));
        assert!(decode("squilla-error:{}").is_none());
    }
}
