//! LISTEN and NOTIFY between the sessions of one process.
//!
//! In: channels that sessions listen on, and notifications of transactions that committed. Out: notifications in the hands
//! of those who listen. Invariant: nothing leaves before its transaction commits, each notification of a transaction once.
//! Deliberately absent: other processes; a queue on disk.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use squilla_core::error::{Error, Result};

use crate::session::Session;
use crate::session::shared::{Notification, SessionShared};

/// The longest payload, and the longest name of a channel, in bytes.
const PAYLOAD_MAX: usize = 8000;
const CHANNEL_MAX: usize = 64;

/// A change of who listens.
#[derive(Clone, Debug)]
enum Listen {
    On(String),
    Off(String),
    AllOff,
}

/// What waits for a commit.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    listens: Vec<Listen>,
    /// Channel and payload.
    notifications: Vec<(String, String)>,
}

/// A session and its channels.
type Listener = (Weak<SessionShared>, BTreeSet<String>);

/// Who listens on what.
#[derive(Default)]
pub struct Channels {
    listeners: Mutex<HashMap<i32, Listener>>,
}

impl Channels {
    /// The effects of a transaction of this session.
    pub fn commit(&self, session: &Arc<SessionShared>, pending: Pending) {
        if pending.listens.is_empty() && pending.notifications.is_empty() {
            return;
        }
        let mut listeners = self.listeners.lock();
        for listen in pending.listens {
            let (_, channels) = listeners.entry(session.pid).or_insert_with(|| (Arc::downgrade(session), BTreeSet::new()));
            match listen {
                Listen::On(channel) => drop(channels.insert(channel)),
                Listen::Off(channel) => drop(channels.remove(&channel)),
                Listen::AllOff => channels.clear(),
            }
        }
        listeners.retain(|_, (session, channels)| session.strong_count() > 0 && !channels.is_empty());
        for (channel, payload) in pending.notifications {
            for (listener, _) in listeners.values().filter(|(_, channels)| channels.contains(&channel)) {
                if let Some(listener) = listener.upgrade() {
                    listener.deliver(Notification { pid: session.pid, channel: channel.clone(), payload: payload.clone() });
                }
            }
        }
    }

    /// The session has ended.
    pub fn leave(&self, pid: i32) {
        self.listeners.lock().remove(&pid);
    }

    /// The channels that a session listens on.
    pub fn of(&self, pid: i32) -> Vec<String> {
        self.listeners.lock().get(&pid).map(|(_, channels)| channels.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Session {
    /// NOTIFY, pg_notify(): at the commit.
    pub fn send_notification(&self, channel: &str, payload: &str) -> Result<()> {
        if channel.is_empty() {
            return Err(Error::invalid_argument("channel name cannot be empty"));
        }
        if channel.len() >= CHANNEL_MAX {
            return Err(Error::invalid_argument("channel name too long"));
        }
        if payload.len() >= PAYLOAD_MAX {
            return Err(Error::invalid_argument("payload string too long"));
        }
        let notification = (channel.to_owned(), payload.to_owned());
        self.pend(|pending| {
            if !pending.notifications.contains(&notification) {
                pending.notifications.push(notification);
            }
        });
        Ok(())
    }

    /// LISTEN
    pub fn listen(&self, channel: String) {
        self.pend(|pending| pending.listens.push(Listen::On(channel)));
    }

    /// UNLISTEN; None is all.
    pub fn unlisten(&self, channel: Option<String>) {
        self.pend(|pending| pending.listens.push(channel.map_or(Listen::AllOff, Listen::Off)));
    }

    fn pend(&self, change: impl FnOnce(&mut Pending)) {
        let mut inner = self.inner.lock();
        inner.keep();
        if let Some(transaction) = &mut inner.block {
            change(&mut transaction.pending);
        }
    }
}
