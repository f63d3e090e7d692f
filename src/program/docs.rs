//! `squilla docs`: the reference pages, made from the declarations and the list of settings.
//!
//! Out: `docs/functions.md` and `docs/settings.md`. Invariant: the same program writes the same bytes.

use std::fmt::Write;

use squilla_core::declaration::{Default as ArgumentDefault, Returns, Signature};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::{Context, SETTINGS};

use crate::arguments::Docs;

/// Writes the pages, or checks them.
pub fn run(arguments: &Docs) -> Result<()> {
    let mut stale = Vec::new();
    for (name, text) in [("functions.md", functions()?), ("settings.md", settings())] {
        let path = arguments.directory.join(name);
        let have = std::fs::read_to_string(&path).unwrap_or_default();
        if have == text {
            continue;
        }
        if arguments.check {
            stale.push(name);
        } else {
            std::fs::write(&path, text).map_err(|e| Error::io(format!("could not write {}", path.display()), e))?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::NotInPrerequisiteState, format!("reference pages are not up to date: {}", stale.join(", "))).hint("Run squilla docs."))
}

fn functions() -> Result<String> {
    let mut out = String::from(
        "# Functions\n\nMade by `squilla docs` from `sql-functions/`. Arguments with a default may be left out or given by name:\n`f(x, option => value)`. A row that fails gives NULL and an entry in `squilla.row_errors`, unless `on_error` says otherwise.\n",
    );
    for (family, functions) in squilla_functions::FAMILIES {
        let _ = write!(out, "\n## {family}\n");
        let mut declarations = functions.iter().map(|f| f.declaration()).collect::<Result<Vec<_>>>()?;
        declarations.sort_by(|a, b| a.name.cmp(&b.name));
        for declaration in declarations {
            let _ = write!(out, "\n### {}\n\n```sql\n", declaration.name);
            for signature in &declaration.signatures {
                let _ = writeln!(out, "{}", shape(&declaration.name, signature));
            }
            let _ = write!(out, "```\n\n{}\n", declaration.comment.trim());
            for example in &declaration.examples {
                let _ = write!(out, "\n```\n{}\n```\n", example.trim_end());
            }
        }
    }
    Ok(out)
}

fn shape(name: &str, signature: &Signature) -> String {
    let arguments: Vec<String> = signature
        .arguments
        .iter()
        .map(|a| {
            let default = match &a.default {
                None => String::new(),
                Some(ArgumentDefault::Null) => " DEFAULT NULL".into(),
                Some(ArgumentDefault::Bool(b)) => format!(" DEFAULT {b}"),
                Some(ArgumentDefault::Number(n)) => format!(" DEFAULT {n}"),
                Some(ArgumentDefault::Text(s)) => format!(" DEFAULT '{s}'"),
            };
            format!("{}{} {}{default}", if a.variadic { "VARIADIC " } else { "" }, a.name, a.ty.name())
        })
        .collect();
    let returns = match &signature.returns {
        Returns::Value(ty) => ty.name(),
        Returns::Table(columns) => format!("TABLE({})", columns.iter().map(|(n, t)| format!("{n} {}", t.name())).collect::<Vec<_>>().join(", ")),
    };
    format!("{name}({}) -> {returns}", arguments.join(", "))
}

fn settings() -> String {
    let mut out = String::from(
        "# Settings\n\nMade by `squilla docs`. Order: default < squilla.toml < `SQUILLA_<NAME>` < `--set name=value` < startup options < SET < SET LOCAL.\n",
    );
    let mut category = "";
    for setting in SETTINGS {
        if setting.category != category {
            category = setting.category;
            let _ = write!(out, "\n## {category}\n\n| name | default | who | what |\n|---|---|---|---|\n");
        }
        let who = match setting.context {
            Context::Internal => "fixed",
            Context::Postmaster => "at start",
            Context::Superuser => "superuser",
            Context::User => "anybody",
        };
        let default = setting.show(setting.default);
        let shown = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let _ = writeln!(out, "| `{}` | {shown} | {who} | {} |", setting.name, setting.description);
    }
    out
}
