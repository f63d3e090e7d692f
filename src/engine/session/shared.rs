//! What of a session other sessions and the server may touch: its activity, the way to stop it, its notifications.
//!
//! Invariant: nothing here waits for the session's own lock. Deliberately absent: settings, transactions, statements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;
use squilla_core::kernel::CancelFlag;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::session::progress::Progress;
use crate::session::{SessionOptions, TransactionStatus};

/// What pg_stat_activity shows, and the way to stop a statement.
pub struct SessionShared {
    /// pg_backend_pid()
    pub pid: i32,
    /// Secret of the cancel key.
    pub secret: i32,
    /// Role.
    pub user: String,
    /// Address of the client.
    pub client_addr: Option<std::net::SocketAddr>,
    /// When the session started, microseconds since 1970.
    pub started_us: i64,
    activity: Mutex<Activity>,
    terminated: AtomicBool,
    notifications: Mutex<Vec<Notification>>,
    wake: Notify,
}

/// A NOTIFY that this session hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Session that sent it.
    pub pid: i32,
    /// Channel.
    pub channel: String,
    /// Payload, perhaps empty.
    pub payload: String,
}

/// The state of a session, as others see it.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// application_name
    pub application_name: String,
    /// Text of the current or last statement.
    pub query: String,
    /// Its query id.
    pub query_id: i64,
    /// active | idle | idle in transaction | idle in transaction (aborted)
    pub state: &'static str,
    /// When the statement started, microseconds since 1970.
    pub query_start_us: i64,
    running: Option<Running>,
    plan: Option<Arc<dyn ExecutionPlan>>,
}

#[derive(Clone, Debug)]
struct Running {
    flag: CancelFlag,
    token: CancellationToken,
}

impl SessionShared {
    /// The shared part of a session.
    pub fn new(pid: i32, secret: i32, options: &SessionOptions) -> Self {
        let activity = Activity { application_name: options.application_name.clone(), state: "idle", ..Activity::default() };
        Self {
            pid,
            secret,
            user: options.user.clone(),
            client_addr: options.client_addr,
            started_us: chrono::Utc::now().timestamp_micros(),
            activity: Mutex::new(activity),
            terminated: AtomicBool::new(false),
            notifications: Mutex::new(Vec::new()),
            wake: Notify::new(),
        }
    }

    /// Hands over a notification, for the session to tell its client when it is idle.
    pub fn deliver(&self, notification: Notification) {
        self.notifications.lock().push(notification);
        self.wake.notify_one();
    }

    /// What came since the last call.
    pub fn take_notifications(&self) -> Vec<Notification> {
        std::mem::take(&mut self.notifications.lock())
    }

    /// Completes when the session is to end or, where `listening`, when there are notifications.
    pub async fn woken(&self, listening: bool) {
        while !self.is_terminated() && (!listening || self.notifications.lock().is_empty()) {
            self.wake.notified().await;
        }
    }

    /// application_name, for others to see.
    pub(super) fn rename(&self, application_name: &str) {
        application_name.clone_into(&mut self.activity.lock().application_name);
    }

    /// Whether the running statement is asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.activity.lock().running.as_ref().is_some_and(|r| r.token.is_cancelled() || r.flag.is_cancelled())
    }

    /// Stops the running statement.
    pub fn cancel(&self) {
        if let Some(running) = &self.activity.lock().running {
            running.flag.cancel();
            running.token.cancel();
        }
    }

    /// Stops the running statement and asks the server to close the connection.
    pub fn terminate(&self) {
        self.terminated.store(true, Ordering::Relaxed);
        self.wake.notify_one();
        self.cancel();
    }

    /// Whether `terminate` was called.
    pub fn is_terminated(&self) -> bool {
        self.terminated.load(Ordering::Relaxed)
    }

    /// What others see.
    pub fn activity(&self) -> Activity {
        self.activity.lock().clone()
    }

    /// The operators of the running statement, whose metrics tell how far it is.
    pub(super) fn runs(&self, plan: &Arc<dyn ExecutionPlan>) {
        self.activity.lock().plan = Some(Arc::clone(plan));
    }

    /// How far the running statement is; None when none runs.
    pub fn progress(&self) -> Option<Progress> {
        let (plan, started) = {
            let activity = self.activity.lock();
            (activity.plan.clone()?, activity.query_start_us)
        };
        let elapsed = chrono::Utc::now().timestamp_micros().saturating_sub(started);
        Some(Progress::of(&plan, std::time::Duration::from_micros(u64::try_from(elapsed).unwrap_or(0))))
    }

    pub(super) fn start(&self, text: &str, query_id: i64) -> (CancelFlag, CancellationToken) {
        let running = Running { flag: CancelFlag::default(), token: CancellationToken::new() };
        let mut activity = self.activity.lock();
        activity.query = text.chars().take(1024).collect();
        activity.query_id = query_id;
        activity.state = "active";
        activity.query_start_us = chrono::Utc::now().timestamp_micros();
        activity.running = Some(running.clone());
        activity.plan = None;
        (running.flag, running.token)
    }

    /// The flag and token of the statement that runs.
    pub(super) fn running(&self) -> Option<(i64, CancelFlag, CancellationToken)> {
        let activity = self.activity.lock();
        activity.running.as_ref().map(|r| (activity.query_id, r.flag.clone(), r.token.clone()))
    }

    pub(super) fn finish(&self, status: TransactionStatus) {
        let mut activity = self.activity.lock();
        activity.running = None;
        activity.plan = None;
        activity.state = match status {
            TransactionStatus::Idle => "idle",
            TransactionStatus::InTransaction => "idle in transaction",
            TransactionStatus::Failed => "idle in transaction (aborted)",
        };
    }
}
