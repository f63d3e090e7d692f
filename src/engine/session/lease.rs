//! DataFusion states that statements borrow instead of building one each.
//!
//! In: a session's state. Out: one that a statement may change: its catalogs, configuration and properties. Invariants:
//! what a statement leaves behind never reaches the next one: catalogs are put back with the state, configuration and
//! properties are set anew by the borrower; a state that was given functions of its own is not handed on. Bounded: few
//! states wait.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use squilla_core::error::Result;
use squilla_core::settings::Settings;

use crate::error::from_datafusion;

/// States that wait at most: a statement and the parts of it that run within.
const IDLE_MAX: usize = 3;

/// The states of one session.
#[derive(Default)]
pub struct States {
    /// What all others are copies of.
    model: OnceLock<SessionState>,
    idle: Mutex<Vec<Arc<SessionState>>>,
    /// The configuration for these values of TimeZone and squilla.batch_rows: making one copies hundreds of options.
    config: Mutex<Option<(String, i64, SessionConfig)>>,
}

impl States {
    /// A state with the configuration of these settings; `make` makes the first one.
    pub fn lease(self: &Arc<Self>, settings: &Settings, make: impl FnOnce() -> Result<SessionState>) -> Result<Lease> {
        let model = match self.model.get() {
            Some(model) => model,
            None => {
                let made = make()?;
                self.model.get_or_init(|| made)
            }
        };
        let idle = self.idle.lock().pop();
        let state = idle.unwrap_or_else(|| Arc::new(model.clone()));
        let mut lease = Lease { state, states: Some(Arc::clone(self)) };
        *lease.config_mut() = self.configured(model, settings)?;
        *lease.execution_props_mut() = model.execution_props().clone();
        Ok(lease)
    }

    fn configured(&self, model: &SessionState, settings: &Settings) -> Result<SessionConfig> {
        let (zone, rows) = (settings.get("timezone"), settings.int("squilla.batch_rows"));
        let mut known = self.config.lock();
        if let Some((known_zone, known_rows, config)) = &*known
            && known_zone == zone
            && *known_rows == rows
        {
            return Ok(config.clone());
        }
        let mut config = model.config().clone();
        config.options_mut().execution.time_zone = Some(zone.to_owned());
        config.options_mut().execution.batch_size = ConfigNonZeroUsize::try_new(rows.max(1) as usize).map_err(from_datafusion)?;
        *known = Some((zone.to_owned(), rows, config.clone()));
        Ok(config)
    }
}

/// A borrowed state; it goes back when this is dropped.
pub struct Lease {
    /// Nobody else has it while it is lent.
    state: Arc<SessionState>,
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
        let Some(model) = states.model.get() else { return };
        // What the catalogs and the configuration hold of the statement goes now.
        let state = Arc::make_mut(&mut self.state);
        state.register_catalog_list(Arc::clone(model.catalog_list()));
        *state.config_mut() = model.config().clone();
        let mut idle = states.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(Arc::clone(&self.state));
        }
    }
}
