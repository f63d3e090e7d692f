//! `squilla models list | pull | show`.

use squilla_core::error::Result;
use squilla_infer::registry::Task;

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
            println!("name      {name}");
            println!("source    {}", model.source);
            println!("task      {}", model.task.map(|t| t.to_string()).unwrap_or_else(|| "any that its files fit".into()));
            println!("manifest  {manifest:#?}");
        }
    }
    Ok(())
}
