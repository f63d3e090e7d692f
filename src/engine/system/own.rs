//! The rows of the views in schema `squilla`.
//!
//! In: functions, models, failed rows and settings of the view. Out: rows. Invariant: what a view shows is what the server
//! uses. Deliberately absent: anything that PostgreSQL's own catalogs tell already.

use squilla_core::error::Result;
use squilla_core::settings::SETTINGS;

use crate::system::cluster::context;
use crate::system::procs::non_empty;
use crate::system::relation::Rows;
use crate::system::view::SystemView;

/// Fills `squilla.functions`.
pub fn functions(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for p in view.procs.iter().filter(|p| !p.family.is_empty()) {
        let volatility = match p.volatility {
            "i" => "immutable",
            "s" => "stable",
            _ => "volatile",
        };
        let kind = match (p.kind, p.set) {
            ("a", _) => "aggregate",
            ("w", _) => "window",
            (_, true) => "table",
            _ => "scalar",
        };
        rows.push([
            ("name", (&p.name).into()),
            ("family", (&p.family).into()),
            ("kind", kind.into()),
            ("arguments", p.arguments_text(true).into()),
            ("result", p.result_text().into()),
            ("volatility", volatility.into()),
            ("strict", p.strict.into()),
            ("comment", non_empty(&p.comment)),
        ]);
    }
    Ok(())
}

/// Fills `squilla.models`.
pub fn models(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for m in view.live.models() {
        rows.push([
            ("name", (&m.name).into()),
            ("task", (&m.task).into()),
            ("source", (&m.source).into()),
            ("digest", m.digest.clone().into()),
            ("device", m.device.clone().into()),
            ("builtin", m.builtin.into()),
            ("loaded", m.loaded.into()),
            ("options", m.options.clone().into()),
            ("comment", m.comment.clone().into()),
        ]);
    }
    Ok(())
}

/// Fills `squilla.row_errors`.
pub fn row_errors(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for e in view.live.row_errors() {
        rows.push([
            ("query_id", e.query_id.into()),
            ("function", (&e.function).into()),
            ("uri", e.uri.clone().into()),
            ("sqlstate", (&e.sqlstate).into()),
            ("message", (&e.message).into()),
            ("at", e.at.into()),
        ]);
    }
    Ok(())
}

/// Fills `squilla.settings`.
pub fn settings(view: &SystemView, rows: &mut Rows) -> Result<()> {
    for s in SETTINGS {
        rows.push([
            ("name", s.name.into()),
            ("value", s.show(view.settings.get(s.name)).into()),
            ("default", s.show(s.default).into()),
            ("source", view.settings.source(s.name).name().into()),
            ("changed_by", context(s.context).into()),
            ("category", s.category.into()),
            ("description", s.description.into()),
        ]);
    }
    Ok(())
}
