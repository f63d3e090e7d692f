//! `squilla models list | pull | show`.

use squilla_core::error::Result;
use squilla_infer::manifest::Manifest;
use squilla_infer::registry::{RegisteredModel, Task};

use crate::arguments::{Models, ModelsCommand};
use crate::wiring;

/// Runs a command about models.
pub fn run(arguments: &Models) -> Result<()> {
    let settings = wiring::settings(&arguments.common)?;
    let models = wiring::models(&settings);
    match &arguments.command {
        ModelsCommand::List => {
            for model in models.registry().list() {
                println!("{:<20} {:<16} {}", model.name, model.task.map(|t| t.to_string()).unwrap_or_default(), model.source);
            }
        }
        ModelsCommand::Pull { name } => println!("{}", models.pull(name)?.display()),
        ModelsCommand::Show { name } => {
            let task = models.registry().get(name).and_then(|m| m.task).unwrap_or(Task::EmbedText);
            let (model, manifest) = models.describe(name, task)?;
            print!("{}", described(name, &model, &manifest));
        }
    }
    Ok(())
}

/// A line a fact, in the order in which a user asks.
fn described(name: &str, model: &RegisteredModel, manifest: &Manifest) -> String {
    let tasks: Vec<&str> = manifest.layout.tasks().iter().map(|t| t.name()).collect();
    let mut lines = vec![
        ("name", name.to_owned()),
        ("source", model.source.to_string()),
        ("layout", manifest.layout.text().to_owned()),
        ("functions", tasks.join(", ")),
        ("folder", manifest.folder.display().to_string()),
        ("graphs", manifest.graphs.join(", ")),
        ("bytes", manifest.bytes.to_string()),
        ("digest", manifest.digest.clone()),
    ];
    if let Some(task) = model.task {
        lines.insert(2, ("task", task.to_string()));
    }
    if let Some(dims) = manifest.dims {
        lines.push(("dims", dims.to_string()));
    }
    if !manifest.labels.is_empty() {
        let first = manifest.labels.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if manifest.labels.len() > 5 { ", ..." } else { "" };
        lines.push(("labels", format!("{} ({first}{more})", manifest.labels.len())));
    }
    lines.iter().map(|(key, value)| format!("{key:<10} {value}\n")).collect()
}
