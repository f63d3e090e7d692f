//! Statements of another process: what travels with their tasks, and what the tasks run in here.
//!
//! In: a session's settings, role and models, or what came of them over the wire. Out: [`Facts`], and the environment and
//! state of a task. Invariant: a task sees the settings of the statement's session, but the paths, devices and memory of
//! its own process. Deliberately absent: the wire (the `cluster` crate's).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{CancelFlag, Env};
use squilla_core::settings::{Context, Settings, Source};
use squilla_infer::registry::RegisteredModel;

use crate::catalog::data::ServerEntry;
use crate::command::servers::connections_of;
use crate::database::Database;
use crate::error::from_datafusion;
use crate::exec::env::StatementEnv;
use crate::exec::row_errors::{OnError, StatementErrors};
use crate::session::Session;
use crate::source::confined::{Allowed, Confined};

/// What a task must know of its statement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Statement.
    pub query_id: i64,
    /// Role of the statement.
    pub role: String,
    /// The role may read any file.
    #[serde(default)]
    pub superuser: bool,
    /// Its rows become visible at its end, or not at all: parts of it may be made again.
    #[serde(default)]
    pub writes: bool,
    /// Settings that are not at their default, as name and value.
    pub settings: Vec<(String, String)>,
    /// Models that were registered with CREATE MODEL.
    pub models: Vec<serde_json::Value>,
    /// Object stores that were created with CREATE SERVER, with their secrets.
    #[serde(default)]
    pub servers: BTreeMap<String, ServerEntry>,
    /// Functions that mean the same in every process; stays here.
    #[serde(skip)]
    pub portable: Arc<HashSet<String>>,
    /// All settings of the session; stays here.
    #[serde(skip)]
    pub session: Arc<Settings>,
}

impl Facts {
    /// Of a statement of this session.
    pub fn of(session: &Session, settings: &Settings, query_id: i64, writes: bool) -> Self {
        let travels = |s: &&(&squilla_core::settings::Setting, &str)| matches!(s.0.context, Context::User | Context::Superuser);
        let catalog = session.database.catalog.snapshot();
        Self {
            query_id,
            role: session.role(),
            superuser: session.superuser(),
            writes,
            settings: settings.given().filter(|s| travels(&s)).map(|(s, value)| (s.name.to_owned(), value.to_owned())).collect(),
            models: catalog.models.clone(),
            servers: catalog.servers.clone(),
            portable: Arc::clone(&session.database.portable),
            session: Arc::new(settings.clone()),
        }
    }

    /// The settings of the statement, over those of this process.
    pub fn over(&self, of_process: &Settings) -> Result<Settings> {
        let mut settings = of_process.clone();
        for (name, value) in &self.settings {
            settings.set(name, value, Source::Session, true)?;
        }
        Ok(settings)
    }
}

/// The environment of a statement with these settings; `allowed` are the paths that it may read, None for all.
pub fn environment(
    database: &Arc<Database>,
    settings: &Settings,
    cancel: CancelFlag,
    errors: Arc<StatementErrors>,
    allowed: Option<Allowed>,
) -> Result<StatementEnv> {
    let shared = database.env();
    let defaults = settings.clone();
    let env = Env {
        limits: settings.limits(),
        files: match allowed {
            None => Arc::clone(&shared.files),
            Some(allowed) => Arc::new(Confined { files: Arc::clone(&shared.files), allowed }),
        },
        memory: Arc::clone(&shared.memory),
        cancel,
        cores: Arc::clone(&shared.cores),
        counters: Arc::default(),
        models: Arc::clone(&shared.models),
        default_models: Arc::new(move |task| Some(defaults.get(&format!("squilla.default_model.{task}")).to_owned()).filter(|m| !m.is_empty())),
    };
    Ok(StatementEnv {
        env: Arc::new(env),
        errors,
        on_error: OnError::parse(settings.get("squilla.on_error"))?,
        packs_in_flight: match settings.int("squilla.packs_in_flight") {
            0 => database.threads * 2,
            n => n as usize,
        },
        pack_bytes: settings.int("squilla.pack_bytes").max(1) as usize,
    })
}

/// A statement of another process that tasks of this process work for.
pub struct RemoteStatement {
    /// What is known of it.
    pub facts: Facts,
    /// Failed rows of its tasks here.
    pub errors: Arc<StatementErrors>,
    /// Stops its kernels here.
    pub cancel: CancelFlag,
    settings: Settings,
    env: Arc<StatementEnv>,
}

impl RemoteStatement {
    /// Makes its models known here and its environment ready.
    pub fn open(database: &Arc<Database>, facts: Facts) -> Result<Self> {
        for model in &facts.models {
            let model: RegisteredModel =
                serde_json::from_value(model.clone()).map_err(|e| Error::internal(format!("a model that cannot be read came with a plan: {e}")))?;
            if database.models.registry().get(&model.name).as_ref() != Some(&model) {
                database.models.registry().add(model, true)?;
            }
        }
        if !facts.servers.is_empty() {
            database.files.set_connections(connections_of(&facts.servers)?);
        }
        let settings = facts.over(&database.settings())?;
        let cancel = CancelFlag::default();
        let errors = Arc::new(StatementErrors::new(facts.query_id, Arc::clone(&database.row_errors), &settings).reported());
        let allowed = (!facts.superuser).then(|| Allowed::parse(settings.get("squilla.allowed_paths")));
        let env = Arc::new(environment(database, &settings, cancel.clone(), Arc::clone(&errors), allowed)?);
        Ok(Self { facts, errors, cancel, settings, env })
    }

    /// The state of one of its tasks: `builder` with the functions of this process and the settings of the statement.
    pub fn state(&self, database: &Arc<Database>, mut builder: SessionStateBuilder) -> Result<SessionState> {
        let base = database.base();
        // Pushed, not set: DataFusion's own functions are there already, and ours of the same name come later.
        builder.scalar_functions().get_or_insert_default().extend(base.scalar_functions().values().cloned());
        builder.aggregate_functions().get_or_insert_default().extend(base.aggregate_functions().values().cloned());
        builder.window_functions().get_or_insert_default().extend(base.window_functions().values().cloned());
        let config = builder.config().get_or_insert_with(SessionConfig::new);
        let mut made = config.clone().with_extension(Arc::clone(&self.env));
        let options = made.options_mut();
        let extensions = std::mem::take(&mut options.extensions);
        *options = base.config().options().as_ref().clone();
        options.extensions = extensions;
        options.execution.time_zone = Some(self.settings.get("timezone").to_owned());
        let rows = self.settings.int("squilla.batch_rows").max(1) as usize;
        options.execution.batch_size = datafusion::common::config::ConfigNonZeroUsize::try_new(rows).map_err(from_datafusion)?;
        *config = made;
        Ok(builder.build())
    }
}
