//! CREATE MODEL, DROP MODEL: the registry and its place in the catalog.
//!
//! Invariant: a model is in the catalog exactly when it is in the registry; it is looked at (and refused) before either.

use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result, did_you_mean};
use squilla_infer::registry::{RegisteredModel, Task};

use crate::command::done;
use crate::session::{Execution, Notice, Session};
use crate::statement::CreateModel;

fn superuser(session: &Session) -> Result<()> {
    if session.superuser() { Ok(()) } else { Err(Error::new(Kind::InsufficientPrivilege, "must be superuser to change models")) }
}

/// CREATE MODEL
pub async fn create(session: &Arc<Session>, create: &CreateModel) -> Result<Execution> {
    superuser(session)?;
    let registry = session.database.models.registry();
    let exists = registry.get(&create.name).is_some();
    if exists && create.if_not_exists {
        session.notify(Notice::plain(format!("model \"{}\" already exists, skipping", create.name)));
        return done("CREATE MODEL");
    }
    if exists && !create.or_replace {
        return Err(Error::new(Kind::DuplicateObject, format!("model \"{}\" already exists", create.name)));
    }
    let task = Task::parse(&create.task)?;
    let model = from_options(create, task)?;
    model.check()?;
    let before = registry.get(&create.name);
    registry.add(model.clone(), true)?;
    // The model is read once, so that a wrong path or layout is told now and not in the first query.
    let models = session.database.models.clone();
    let name = create.name.clone();
    let looked = tokio::task::spawn_blocking(move || models.resolve(task, &name).map(|_| ())).await;
    let looked = looked.unwrap_or_else(|e| Err(Error::internal(format!("reading the model failed: {e}"))));
    let stored = looked.and_then(|()| {
        let json = serde_json::to_value(&model).map_err(|e| Error::internal(e.to_string()))?;
        session.database.catalog.update(|data| {
            data.models.retain(|m| m.get("name").and_then(|n| n.as_str()) != Some(create.name.as_str()));
            data.models.push(json);
            Ok(())
        })
    });
    if let Err(error) = stored {
        let _ = registry.remove(&create.name);
        if let Some(before) = before {
            registry.add(before, true)?;
        }
        return Err(error);
    }
    done("CREATE MODEL")
}

const OPTIONS: [&str; 10] = ["source", "format", "file", "sha256", "device", "max_batch", "instances", "tokenizer", "labels", "comment"];

fn from_options(create: &CreateModel, task: Task) -> Result<RegisteredModel> {
    let mut model = RegisteredModel { name: create.name.clone(), task: Some(task), ..RegisteredModel::default() };
    for (name, value) in &create.options {
        let number =
            || value.parse::<usize>().map(Some).map_err(|_| Error::invalid_argument(format!("{name} must be a whole number, not \"{value}\"")));
        let text = || Some(value.clone());
        match name.as_str() {
            "source" => model.source = value.clone(),
            "format" => model.format = text(),
            "file" => model.file = text(),
            "sha256" => model.sha256 = text(),
            "device" => model.device = text(),
            "max_batch" => model.max_batch = number()?,
            "instances" => model.instances = number()?,
            "tokenizer" => model.tokenizer = text(),
            "labels" => model.labels = text(),
            "comment" => model.comment = text(),
            other => {
                let near = did_you_mean(other, OPTIONS).map(|n| format!(" Perhaps you meant \"{n}\".")).unwrap_or_default();
                return Err(
                    Error::invalid_argument(format!("a model has no option \"{other}\"")).hint(format!("Options are {}.{near}", OPTIONS.join(", ")))
                );
            }
        }
    }
    Ok(model)
}

/// DROP MODEL
pub fn drop(session: &Session, if_exists: bool, names: &[String]) -> Result<Execution> {
    superuser(session)?;
    let registry = session.database.models.registry();
    let known = |name: &str| session.database.catalog.snapshot().models.iter().any(|m| m.get("name").and_then(|n| n.as_str()) == Some(name));
    if let Some(missing) = names.iter().find(|n| !known(n))
        && !if_exists
    {
        return Err(Error::new(Kind::UndefinedObject, format!("model \"{missing}\" does not exist")));
    }
    for name in names {
        if !known(name) {
            session.notify(Notice::plain(format!("model \"{name}\" does not exist, skipping")));
            continue;
        }
        session.database.catalog.update(|data| {
            data.models.retain(|m| m.get("name").and_then(|n| n.as_str()) != Some(name.as_str()));
            Ok(())
        })?;
        registry.remove(name)?;
    }
    done("DROP MODEL")
}
