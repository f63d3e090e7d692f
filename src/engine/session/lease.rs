//! DataFusion states that statements borrow instead of building one each.
//!
//! In: a session's state. Out: one that a statement may change: its catalogs, configuration and properties. Invariants:
//! what a statement leaves behind never reaches the next one: catalogs, configuration and properties are put back; a state
//! that was given functions of its own is not handed on. Bounded: few
//! states wait.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use parking_lot::Mutex;
use squilla_core::error::{Error, Result};
use squilla_core::settings::Settings;

use crate::error::from_datafusion;

/// States that wait at most: a statement and the parts of it that run within.
const IDLE_MAX: usize = 3;

/// The states of one session.
#[derive(Default)]
pub struct States(Mutex<Option<Ready>>);

/// States for one value of TimeZone and of squilla.batch_rows. Functions like now() are made for a time zone, and a
/// configuration is a copy of hundreds of options: another value means other states.
struct Ready {
    zone: String,
    batch_rows: i64,
    /// What all others are copies of.
    model: Arc<SessionState>,
    idle: Vec<Arc<SessionState>>,
}

impl States {
    /// A state with the configuration of these settings; `make` makes the first one.
    pub fn lease(self: &Arc<Self>, settings: &Settings, make: impl FnOnce() -> Result<SessionState>) -> Result<Lease> {
        let (zone, batch_rows) = (settings.get("timezone"), settings.int("squilla.batch_rows"));
        let mut ready = self.0.lock();
        let fits = ready.as_ref().is_some_and(|r| r.zone == zone && r.batch_rows == batch_rows);
        if !fits {
            let like = ready.as_ref().map(|r| SessionState::clone(&r.model));
            let made = like.map_or_else(make, Ok)?;
            let mut config = made.config().clone();
            config.options_mut().execution.time_zone = Some(zone.to_owned());
            config.options_mut().execution.batch_size = ConfigNonZeroUsize::try_new(batch_rows.max(1) as usize).map_err(from_datafusion)?;
            let model = Arc::new(SessionStateBuilder::new_from_existing(made).with_config(config).build());
            *ready = Some(Ready { zone: zone.to_owned(), batch_rows, model, idle: Vec::new() });
        }
        let Some(ready) = ready.as_mut() else { return Err(Error::internal("a session has no state")) };
        let state = ready.idle.pop().unwrap_or_else(|| Arc::new(SessionState::clone(&ready.model)));
        Ok(Lease { state, model: Arc::clone(&ready.model), states: Some(Arc::clone(self)) })
    }
}

/// A borrowed state; it goes back when this is dropped.
pub struct Lease {
    /// Nobody else has it while it is lent.
    state: Arc<SessionState>,
    model: Arc<SessionState>,
    states: Option<Arc<States>>,
}

impl Lease {
    /// The state gets something that no other statement may see.
    pub fn keep(&mut self) {
        self.states = None;
    }

    /// Plans of one partition from now on.
    pub fn one_partition(&mut self) {
        let config = self.state.config().clone().with_target_partitions(1);
        *self.config_mut() = config;
    }

    /// What operators run in; `functions` copies the registry of functions, too, which only plans that leave the process
    /// are made of.
    pub fn task(&self, functions: bool) -> Arc<TaskContext> {
        if functions {
            return self.state.task_ctx();
        }
        let (id, config) = (self.state.session_id().to_owned(), self.state.config().clone());
        let runtime = Arc::clone(self.state.runtime_env());
        Arc::new(TaskContext::new(None, id, config, Default::default(), Default::default(), Default::default(), Default::default(), runtime))
    }
}

impl Deref for Lease {
    type Target = SessionState;

    fn deref(&self) -> &SessionState {
        &self.state
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut SessionState {
        Arc::make_mut(&mut self.state)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(states) = self.states.take() else { return };
        // What the catalogs and the configuration hold of the statement goes now.
        let state = Arc::make_mut(&mut self.state);
        state.register_catalog_list(Arc::clone(self.model.catalog_list()));
        *state.config_mut() = self.model.config().clone();
        *state.execution_props_mut() = self.model.execution_props().clone();
        let mut ready = states.0.lock();
        let current = ready.as_mut().filter(|r| Arc::ptr_eq(&r.model, &self.model) && r.idle.len() < IDLE_MAX);
        if let Some(ready) = current {
            ready.idle.push(Arc::clone(&self.state));
        }
    }
}
